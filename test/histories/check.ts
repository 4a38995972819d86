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

/** Two GPUs that take a block from each other are done with a turn after this time at most, in any history (us). */
const TURN_MAX = 5000;

/** A step whose programs run on several GPUs at once. */
function isContest(step: HistoryStep): boolean {
  return step.do === 'burst' && new Set(step.programs.map(({ on }) => on).filter((on) => on !== 0)).size > 1;
}

/**
 * The same history on a machine with Confidential Computing, as far as it ends there. Its GPUs cannot map memory of the
 * CPU, so they fault for ever on what a parameter of the driver's tests would keep there. And as the CPU moves the pages,
 * the bottom half of one GPU already waits for the block's lock while another's works: it takes the pages away before
 * the other's replay, and so on in turns. Throttling ends that where the driver sees that they thrash. So its detection
 * looks back further than a turn takes where several GPUs are at work, and there is no such step where it is off, or
 * told to look away by read duplication.
 */
export function withConfidentialComputing(history: History): History {
  const { uvm_fault_force_sysmem: _forced, ...parameters } = history.parameters;
  const machine = { nvlinkPeers: false, confidentialComputing: true };
  if (!history.steps.some(isContest)) return { ...history, parameters, ...machine };
  const looksAway = history.steps.some((step) => step.do === 'advise' && step.advice === 'setReadMostly');
  if (parameters['uvm_perf_thrashing_enable'] === 0 || looksAway) {
    const steps = history.steps.filter((step) => !isContest(step));
    return { ...history, parameters, steps, ...machine };
  }
  parameters['uvm_perf_thrashing_lapse_usec'] = TURN_MAX;
  return { ...history, parameters, ...machine };
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
