/** Runs many seeds and tells the first failure in a form that can be run again. */
import type { Coverage } from './coverage.ts';
import { generateHistory } from './generate.ts';
import type { History } from './history.ts';
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

/**
 * The same history on a machine with Confidential Computing, as far as it ends there. Its GPUs have no peers and cannot
 * map memory of the CPU. So they fault for ever on what a parameter of the driver's tests would keep there, and two of
 * them that contend for a page may take it from each other for ever, as it can be pinned nowhere.
 */
export function withConfidentialComputing(history: History): History {
  const { uvm_fault_force_sysmem: _forced, ...parameters } = history.parameters;
  const steps = history.steps.filter(
    (step) => step.do !== 'burst' || new Set(step.programs.map(({ on }) => on).filter((on) => on !== 0)).size <= 1,
  );
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
