/** What `validate --device linux` does: scenarios run on this machine's GPU and on the model, and compared. */
import { executeRun } from '../analysis/execute.ts';
import { loadMachines, type Machines } from '../analysis/machines.ts';
import { driverVersion } from '../device/linux/proc.ts';
import { liveCase } from '../live/experiment/live_cases.ts';
import { closeLiveSession, type LiveSession, openLiveSession } from '../live/experiment/live_session.ts';
import { randomScenario } from '../scenario/random_scenario.ts';
import type { CaseEntry } from '../trace/case_file.ts';
import type { UvmEvent } from '../trace/event.ts';
import { createLineWriter, type LineWriter } from '../trace/jsonl.ts';
import { logEvents } from '../trace/log_events.ts';
import { UsageError, wholeNumber } from './command.ts';
import { checkFiles, checkOutput, readInputs } from './inputs.ts';
import { type DeviceFlags, managedChoice } from './live_options.ts';
import { type CaseSet, showValidation, validateSets } from './validate_files.ts';

export interface ValidateLiveOptions extends DeviceFlags {
  json: boolean;
  random?: string;
  seed?: string;
  /** The profile of the machine; random histories use all of its GPUs. */
  machine?: string;
  /** A file of recorded cases to write. */
  record?: string;
}

/** The profile that live runs are compared with when the user names none. */
const MACHINE_DEFAULT = 'h200-pcie5';
const RANDOM_MOST = 100_000;
const SEED_MOST = 2 ** 32 - 1;

const OF_TIME = ['thrashing', 'throttlingStart', 'throttlingEnd'];

const dependsOnTime = (events: readonly { event: string }[]): boolean =>
  events.some(({ event }) => OF_TIME.includes(event));

/** Whether a history depends on time, here or in the model: then it says nothing exact about the model. */
function isOfTime(json: unknown, entry: CaseEntry, machines: Machines): boolean {
  const recorded = entry.kind === 'case' ? (entry.observed as { events: UvmEvent[] }).events : [];
  if (dependsOnTime(recorded)) return true;
  const executed = executeRun(json, machines, { traced: true });
  return executed.ok && dependsOnTime(logEvents(executed.run.m, executed.run.scenario.allocations));
}

interface Sources {
  session: LiveSession;
  machines: Machines;
  record: LineWriter | null;
  machine: string;
}

async function runOne({ session, machines, record }: Sources, json: unknown, line: number): Promise<CaseEntry> {
  const live = await liveCase(session, json, line, machines);
  if (!live.ok) return { kind: 'error', line, error: live.error };
  const { scenario, recordedFromStep, observed } = live.entry;
  record?.write({ scenario, recordedFromStep, observed });
  return live.entry;
}

/** `count` histories from the seed on; those that depend on time come on top, and are shown apart. */
async function* randomEntries(sources: Sources, seed: number, count: number): AsyncGenerator<{ entry: CaseEntry }> {
  const { machine } = sources;
  for (let next = seed, done = 0; done < count && next <= SEED_MOST; next++) {
    const json = randomScenario(next, { machine, gpus: sources.machines.known[machine].gpus });
    const entry = await runOne(sources, json, next);
    if (!isOfTime(json, entry, sources.machines)) done++;
    yield { entry };
  }
}

async function* fileEntries(sources: Sources, file: string): AsyncGenerator<{ entry: CaseEntry }> {
  for await (const { entry } of readInputs([file])) {
    if (entry.kind === 'error') yield { entry };
    else yield { entry: await runOne(sources, entry.scenario, entry.line) };
  }
}

/** Runs scenarios on this machine and on the model, prints how they compare, and returns the exit code. */
export async function validateLive(files: readonly string[], options: ValidateLiveOptions): Promise<number> {
  const { random, seed } = options;
  if (files.length === 0 && random === undefined) {
    throw new UsageError('give files with scenarios, or --random N for random histories');
  }
  if (seed !== undefined && random === undefined) throw new UsageError(`--seed ${seed} goes with --random`);
  const count = wholeNumber('random', random, 1, RANDOM_MOST) ?? 0;
  const from = wholeNumber('seed', seed, 0, SEED_MOST) ?? 1;
  await checkFiles(files);
  if (options.record !== undefined) checkOutput(options.record, files, 'record');
  const machines = loadMachines();
  const machine = options.machine ?? MACHINE_DEFAULT;
  if (!Object.hasOwn(machines.known, machine)) {
    throw new UsageError(`--machine ${machine}: valid: ${Object.keys(machines.known).join(', ')}`);
  }
  const session = await openLiveSession({ managed: managedChoice(options) });
  const record = options.record === undefined ? null : createLineWriter(options.record);
  const sources: Sources = { session, machines, record, machine };
  try {
    if (!options.json) {
      const { name } = session.cuda.devices[0];
      process.stdout.write(`${name}, driver ${driverVersion() ?? 'unknown'}, against the model of ${machine}\n\n`);
    }
    const sets: CaseSet[] = files.map((name) => ({ name, entries: fileEntries(sources, name) }));
    if (count > 0) sets.push({ name: `random from ${from}`, entries: randomEntries(sources, from, count) });
    return showValidation(await validateSets(sets, machines), options.json);
  } finally {
    record?.commit();
    await closeLiveSession(session);
  }
}
