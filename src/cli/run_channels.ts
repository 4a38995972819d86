/** What the command `channels` does. */
import { executeRun } from '../analysis/execute.ts';
import { loadMachines, type Machines } from '../analysis/machines.ts';
import { type ChannelRow, channelRows } from '../analysis/tour_channels.ts';
import { createModel } from '../model/model.ts';
import type { Model } from '../model/state.ts';
import { parseModuleParameters } from '../model/uvm/params.ts';
import { type ChannelUse, channelUses, createPushLog, type PushEntry } from '../trace/push_log.ts';
import type { ChannelsFlags } from './channels.ts';
import { EXIT_FAILED, EXIT_OK, UsageError } from './command.ts';
import { findCase } from './inputs.ts';
import { type Colors, colorsFor, count, counted, duration, table } from './text.ts';

const MACHINE_DEFAULT = 'h200-pcie5';

/** A channel with its use, which is null where there was no run. */
interface Row extends ChannelRow {
  gpu: string;
  use: ChannelUse | null;
}

function rowsOf(m: Model, entries: readonly PushEntry[] | null): Row[] {
  const uses = entries === null ? [] : channelUses(entries);
  return m.gpus.flatMap((gpu) =>
    channelRows(m, gpu.index).map((row) => {
      const name = `gpu${gpu.index}`;
      const use = uses.find((one) => one.gpu === name && one.channel === row.channel) ?? null;
      return { ...row, gpu: name, use };
    }),
  );
}

/** A machine on which nothing has run. */
function idle(machines: Machines, flags: ChannelsFlags): { name: string; m: Model } {
  const name = flags.machine ?? MACHINE_DEFAULT;
  if (!Object.hasOwn(machines.known, name)) {
    throw new UsageError(`--machine ${name}: valid: ${Object.keys(machines.known).join(', ')}`);
  }
  const profile = machines.profile(name);
  const { faultBufferEntries, confidentialComputing } = profile.spec;
  const parsed = parseModuleParameters(flags.param ?? {}, faultBufferEntries, confidentialComputing);
  if (!parsed.ok) throw new UsageError(`--param: ${parsed.error}`);
  return { name, m: createModel(profile.spec, parsed.params, profile.untraced) };
}

function purposesText(use: ChannelUse): string {
  return Object.entries(use.purposes)
    .map(([purpose, n]) => `${purpose} ${count(n)}`)
    .join(', ');
}

function channelsText(title: string, rows: readonly Row[], ran: boolean, colors: Colors): string {
  const header = ['gpu', 'channel', 'pool', 'engine', 'types of the pool', 'GPFIFO'];
  const use = ['pushes', 'at once', 'busy', 'completed', 'for'];
  const cells = rows.map((row) => {
    const types = row.types.join(', ') || '-';
    const own = [row.gpu, String(row.channel), String(row.pool), String(row.engine), types, count(row.gpfifoEntries)];
    if (!ran) return own;
    if (row.use === null) return [...own, '-', '-', '-', '-', ''];
    const { pushes, most, busy } = row.use;
    return [
      ...own,
      count(pushes),
      String(most),
      duration(busy / 1000),
      count(row.completedValue),
      purposesText(row.use),
    ];
  });
  const head = (ran ? [...header, ...use] : header).map((cell) => colors.dim(cell));
  return `${colors.bold(title)}\n${table([head, ...cells], ran ? 'lrrrlrrrrrl' : 'lrrrlr', '  ')}`;
}

/** Prints the channels and returns the exit code. */
export async function runChannels(file: string | undefined, flags: ChannelsFlags): Promise<number> {
  const machines = loadMachines();
  const colors = colorsFor(process.stdout);
  if (file === undefined) {
    if (flags.scenario !== undefined) throw new UsageError('--scenario goes with a FILE');
    const { name, m } = idle(machines, flags);
    const rows = rowsOf(m, null);
    const title = `${counted(rows.length, 'channel')} of ${name}`;
    process.stdout.write(flags.json ? `${JSON.stringify(rows, null, 2)}\n` : channelsText(title, rows, false, colors));
    return EXIT_OK;
  }
  if (flags.machine !== undefined)
    throw new UsageError('--machine is of the channels without FILE: a scenario names its own');
  const log = createPushLog();
  const { scenario } = await findCase(file, flags.scenario);
  const executed = executeRun(scenario, machines, {
    traced: flags.traced ?? false,
    parameters: flags.param ?? {},
    onRun: (run) => {
      run.m.res.pushWatch = log.watch;
    },
  });
  if (!executed.ok) {
    process.stderr.write(`${colorsFor(process.stderr).red('error:')} ${executed.error}\n`);
    return EXIT_FAILED;
  }
  const { m, scenario: ran } = executed.run;
  const rows = rowsOf(m, log.entries);
  const title = `${ran.name} on ${ran.machine}: ${counted(log.entries.length, 'push', 'pushes')}`;
  process.stdout.write(flags.json ? `${JSON.stringify(rows, null, 2)}\n` : channelsText(title, rows, true, colors));
  return EXIT_OK;
}
