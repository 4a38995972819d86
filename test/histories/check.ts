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

/** Runs the seeds from `first` on; returns null, or what the first failing one shows. */
export function checkSeeds(first: number, count: number, coverage: Coverage): string | null {
  for (let seed = first; seed < first + count; seed++) {
    const history = generateHistory(seed);
    const { failure, step } = runHistory(history, coverage);
    if (failure !== null) return failureText(history, failure, step);
  }
  return null;
}
