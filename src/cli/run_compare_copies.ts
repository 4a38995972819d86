/** What the command `compare-copies` does. */
import {
  type CopyChoice,
  type CopyComparison,
  type Cost,
  compareCopies,
  type ScenarioJson,
  type Verdict,
  verdictOf,
  type WayRefused,
  type WayResult,
} from '../analysis/compare_copies.ts';
import { wrap } from '../analysis/explain_layout.ts';
import { loadMachines, type Machines } from '../analysis/machines.ts';
import { EXIT_FAILED, EXIT_OK, UsageError, wholeNumber } from './command.ts';
import type { CompareFlags } from './compare_copies.ts';
import { findCase } from './inputs.ts';
import { deviceOf, managedChoice } from './live_options.ts';
import { bytes, type Colors, colorsFor, count, counted, duration, percent, table } from './text.ts';

/** What is compared when no file is given: pages that the CPU wrote and the GPU then read, 2 MiB in all. */
const OWN_BYTES = 2 ** 21;
const OWN_COUNTS = [1, 16, 512];
const OWN_SCENARIO = {
  name: 'pages-on-the-gpu',
  machine: 'h200-pcie5',
  allocations: [{ name: 'a', bytes: OWN_BYTES }],
  steps: [
    { on: 'cpu', do: 'write', buffer: 'a', offset: 0, length: OWN_BYTES, stride: 4096 },
    { on: 'gpu0', do: 'read', buffer: 'a', offset: 0, length: OWN_BYTES, stride: 4096 },
  ],
};

function placesText(resident: Record<string, number>): string {
  return Object.entries(resident)
    .map(([place, n]) => `${place} ${count(n)}`)
    .join(', ');
}

function faultsText({ cpuFaults, gpuFaults }: Cost): string {
  const parts = [];
  if (cpuFaults > 0) parts.push(`${count(cpuFaults)} cpu`);
  if (gpuFaults > 0) parts.push(`${count(gpuFaults)} gpu`);
  return parts.join(', ') || '-';
}

function rowOf(way: WayResult | WayRefused): string[] {
  if ('refused' in way) return [way.way, 'not possible here', '', '', '', ''];
  const { again } = way;
  const faults = again.gpuFaults === 0 ? 'no fault' : counted(again.gpuFaults, 'fault');
  return [
    way.way,
    duration(way.microseconds),
    way.linkBytes === 0 ? '-' : bytes(way.linkBytes),
    faultsText(way),
    placesText(way.resident),
    `${duration(again.microseconds)}, ${faults}`,
  ];
}

function comparisonText(comparison: CopyComparison, colors: Colors): string {
  const { buffer, page, count: n, resident, gpu, ways } = comparison;
  const which = n === 1 ? `page ${page}` : `pages ${page} to ${page + n - 1}`;
  let text = `${colors.bold(`${which} of ${buffer}`)}: ${bytes(n * 4096)}, before: on ${placesText(resident)}\n`;
  const header = ['way', 'time', 'over the link', 'faults', 'pages afterwards on', `${gpu} reads them again`];
  text += table([header.map((cell) => colors.dim(cell)), ...ways.map(rowOf)], 'lrrlll', '  ');
  for (const way of ways) if ('refused' in way) text += `  ${way.way}: ${way.refused}\n`;
  return `${text}\n`;
}

/** The one sentence that the figures of the last table give. */
function verdictText(verdict: Verdict): string {
  const { ofExplicit, bothStay, movers, routineAgainMicroseconds } = verdict;
  const explicit =
    ofExplicit === null
      ? 'the explicit copy is not possible in this state'
      : ofExplicit >= 0.95 && ofExplicit <= 1.05
        ? 'the routine and an explicit copy into page-locked memory take the same time'
        : ofExplicit < 1
          ? `the routine takes ${percent(ofExplicit)} of the time of an explicit copy into page-locked memory`
          : `the routine takes ${ofExplicit.toFixed(1)} times as long as an explicit copy into page-locked memory`;
  const stay = bothStay ? ', neither moves a page or causes a fault' : '';
  const worst = movers.reduce<Verdict['movers'][number] | null>(
    (most, one) => (most === null || one.againMicroseconds > most.againMicroseconds ? one : most),
    null,
  );
  const moved =
    worst === null
      ? ''
      : `, while a ${worst.way === 'plain read' ? 'plain read' : 'prefetch'} moves ${counted(worst.moved, 'page')} ` +
        `and makes the GPU's next reading take ${duration(worst.againMicroseconds)} instead of ` +
        `${duration(routineAgainMicroseconds)}`;
  return (
    `So on these pages ${explicit}${stay}${moved}: ` +
    'inside of the program, with its CUDA context, an explicit copy does what the routine does, ' +
    'and the routine is worth having where another process copies, where there is no CUDA ' +
    'context, or at the moment of a fault (armed), before the warp goes on.\n'
  );
}

/** What was compared, and how in words. */
interface Compared {
  comparisons: CopyComparison[];
  how: string;
}

function compareOnModel(
  scenario: ScenarioJson,
  choices: readonly CopyChoice[],
  machines: Machines,
  options: Parameters<typeof compareCopies>[3],
): Compared | string {
  const comparisons: CopyComparison[] = [];
  for (const choice of choices) {
    const result = compareCopies(scenario, choice, machines, options);
    if (!result.ok) return result.error;
    comparisons.push(result.comparison);
  }
  return { comparisons, how: 'as the model predicts them' };
}

const RUNS_DEFAULT = 9;

async function compareLive(
  scenario: ScenarioJson,
  choices: readonly CopyChoice[],
  machines: Machines,
  flags: CompareFlags,
): Promise<Compared | string> {
  const runs = wholeNumber('runs', flags.runs, 1) ?? RUNS_DEFAULT;
  const [{ openLiveSession, closeLiveSession }, { compareCopiesLive }] = await Promise.all([
    import('../live/experiment/live_session.ts'),
    import('../live/experiment/compare_copies_live.ts'),
  ]);
  const session = await openLiveSession({ managed: managedChoice(flags) });
  const { name } = session.cuda.devices[0];
  try {
    const comparisons: CopyComparison[] = [];
    for (const choice of choices) {
      const result = await compareCopiesLive(session, scenario, choice, machines, runs);
      if (!result.ok) return result.error;
      comparisons.push(result.comparison);
    }
    return { comparisons, how: `measured on ${name} (median of ${runs}); the routine is emulated by ioctl 62` };
  } finally {
    await closeLiveSession(session);
  }
}

/** Prints the comparison and returns the exit code. */
export async function runCompareCopies(file: string | undefined, flags: CompareFlags): Promise<number> {
  const page = wholeNumber('page', flags.page, 0);
  const wanted = wholeNumber('count', flags.count, 1);
  const device = deviceOf(flags);
  if (device === 'linux' && (flags.traced || Object.keys(flags.param ?? {}).length > 0)) {
    throw new UsageError(`${flags.traced ? '--traced' : '--param'} is of the model: leave it out with --device linux`);
  }
  if (device === 'model' && flags.runs !== undefined) throw new UsageError('--runs goes with --device linux');
  const colors = colorsFor(process.stdout);
  const machines = loadMachines();
  const options = { traced: flags.traced ?? false, parameters: flags.param ?? {} };
  let scenario: unknown = OWN_SCENARIO;
  let choices: CopyChoice[] = OWN_COUNTS.map((n) => ({ buffer: 'a', page: page ?? 0, count: n }));
  if (file === undefined && flags.scenario !== undefined) throw new UsageError('--scenario goes with a FILE');
  if (file !== undefined) scenario = (await findCase(file, flags.scenario)).scenario;
  if (file !== undefined || wanted !== undefined) {
    choices = [
      {
        ...(flags.buffer === undefined ? {} : { buffer: flags.buffer }),
        ...(page === undefined ? {} : { page }),
        ...(wanted === undefined ? {} : { count: wanted }),
      },
    ];
  }
  const compared =
    device === 'linux'
      ? await compareLive(scenario as ScenarioJson, choices, machines, flags)
      : compareOnModel(scenario as ScenarioJson, choices, machines, options);
  if (typeof compared === 'string') {
    process.stderr.write(`${colorsFor(process.stderr).red('error:')} ${compared}\n`);
    return EXIT_FAILED;
  }
  const { comparisons, how } = compared;
  if (flags.json) {
    const verdicts = comparisons.map((comparison) => ({ ...comparison, verdict: verdictOf(comparison) }));
    process.stdout.write(`${JSON.stringify(verdicts, null, 2)}\n`);
    return EXIT_OK;
  }
  const last = comparisons[comparisons.length - 1];
  const verdict = verdictOf(last);
  process.stdout.write(`Copies of pages in ${last.scenario}, ${how}\n\n`);
  for (const comparison of comparisons) process.stdout.write(comparisonText(comparison, colors));
  if (verdict !== null) process.stdout.write(`${wrap(verdictText(verdict).trim(), 110).join('\n')}\n`);
  return EXIT_OK;
}
