/**
 * How far the model's predicted times are from recorded ones: the figures of docs/decisions/0005-costs.md, in the one
 * place of the program where they are. An interval of a predicted gain is made of them.
 */

export interface SuiteError {
  suite: string;
  /** Median and 90th percentile of |predicted - recorded| / recorded, of the untraced program. */
  median: number;
  p90: number;
}

/** Suites of recordings with untraced times, on the host that the costs were fitted to. */
export const UNTRACED_ERRORS: readonly SuiteError[] = [
  { suite: 'serial', median: 0.09, p90: 0.22 },
  { suite: 'cpu', median: 0.1, p90: 0.19 },
  { suite: 'scripts1', median: 0.09, p90: 0.3 },
  { suite: 'scripts2', median: 0.08, p90: 0.28 },
];

/** What nine of ten predictions of a step keep to, in the suite where they are worst. */
export const MODEL_ERROR = Math.max(...UNTRACED_ERRORS.map(({ p90 }) => p90));
export const MODEL_ERROR_SOURCE =
  'nine of ten predicted times of untraced steps are within this share of the recorded ones, in the suite where they ' +
  'are worst (docs/decisions/0005-costs.md)';

/**
 * The interval of a gain: what a change takes away may be off by MODEL_ERROR, and what it adds by as much the other
 * way.
 * Time that is there before and after is in neither.
 */
export function gainInterval(removed: number, added: number, error = MODEL_ERROR): { low: number; high: number } {
  return { low: removed * (1 - error) - added * (1 + error), high: removed * (1 + error) - added * (1 - error) };
}
