/** Runs many seeds and tells the first failure in a form that can be run again. */
import type { Coverage } from './coverage.ts';
import { generateHistory } from './generate.ts';
import type { History, HistoryStep } from './history.ts';
import { runHistory } from './run.ts';
import { shrink } from './shrink.ts';

/** A failure and the smallest history that shows one, as text. */
export function failureText(history: History, failure: string, step: number): string {
  const least = shrink(history, (candidate) => runHistory(candidate, new Map()).failure !== null);
  const again = runHistory(least, new Map());
  return [
    `seed ${history.seed}, step ${step}: ${failure}`,
    `smallest history found: step ${again.step}: ${again.failure}`,
    JSON.stringify(least),
  ].join('\n');
}

/** Faults of two GPUs that take a page from each other are this far apart at most, in histories of this size (us). */
const TURN_MAX = 500;

/**
 * Whether the driver sees it when two processors take a page from each other again and again: its detection of thrashing
 * is on, looks back far enough, and is not told to look away by read duplication.
 */
function seesThrashing({ parameters, steps }: History): boolean {
  if (parameters['uvm_perf_thrashing_enable'] === 0) return false;
  if ((parameters['uvm_perf_thrashing_lapse_usec'] ?? TURN_MAX) < TURN_MAX) return false;
  return !steps.some((step) => step.do === 'advise' && step.advice === 'setReadMostly');
}

/**
 * The same history on a machine with Confidential Computing, as far as it ends there. Its GPUs cannot map memory of the
 * CPU, so they fault for ever on what a parameter of the driver's tests would keep there. And as the CPU moves the pages,
 * the bottom half of one GPU already waits for the block's lock while another's works: it takes the pages away before
 * the other's replay, and so on in turns. Throttling ends that, so bursts of several GPUs are left out where the driver
 * does not see that they thrash.
 */
export function withConfidentialComputing(history: History): History {
  const { uvm_fault_force_sysmem: _forced, ...parameters } = history.parameters;
  const several = (step: HistoryStep): boolean =>
    step.do === 'burst' && new Set(step.programs.map(({ on }) => on).filter((on) => on !== 0)).size > 1;
  const steps = seesThrashing(history) ? history.steps : history.steps.filter((step) => !several(step));
  return { ...history, parameters, steps, nvlinkPeers: false, confidentialComputing: true };
}

/**
 * Runs the seeds from `first` on; returns null, or what the first failing one shows. `change` makes of each history the
 * one that is run.
 */
export function checkSeeds(
  first: number,
  count: number,
  coverage: Coverage,
  change: (history: History) => History = (history) => history,
): string | null {
  for (let seed = first; seed < first + count; seed++) {
    const history = change(generateHistory(seed));
    const { failure, step } = runHistory(history, coverage);
    if (failure !== null) return failureText(history, failure, step);
  }
  return null;
}
