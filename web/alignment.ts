/** Which times of two traces stand at the same place of a comparison. */
import type { Comparison, TraceSummary } from '../src/explorer/api.ts';
import type { Window } from './scale.ts';

/** The time on either side that both axes call zero. */
export interface Origins {
  left: number;
  right: number;
}

type Extent = Pick<TraceSummary, 'begin' | 'end'>;

/** When the events of the first difference were; null on a side that has none. */
export interface DifferenceTimes {
  left: number | null;
  right: number | null;
}

function stepOf(align: string): number | null {
  const step = /^step(\d+)$/.exec(align);
  return step === null ? null : Number(step[1]);
}

/**
 * Where a side stands whose trace lacks what the other has: behind the last step before it that is there, else at the
 * begin.
 */
function behind(steps: Comparison['steps'], step: number, side: 'left' | 'right', extent: Extent): number {
  const before = steps.filter((one) => one.step < step && one[side] !== null).at(-1);
  return before?.[side]?.end ?? extent.begin;
}

/** An alignment that cannot be had is the one at the begin. */
export function originsOf(
  align: string,
  comparison: Pick<Comparison, 'steps' | 'first'> | null,
  difference: DifferenceTimes | null,
  left: Extent,
  right: Extent,
): Origins {
  const atBegin = { left: left.begin, right: right.begin };
  if (comparison === null) return atBegin;
  const step = stepOf(align);
  if (step !== null) {
    const its = comparison.steps.find((one) => one.step === step);
    if (its === undefined) return atBegin;
    return {
      left: its.left?.begin ?? behind(comparison.steps, step, 'left', left),
      right: its.right?.begin ?? behind(comparison.steps, step, 'right', right),
    };
  }
  if (align !== 'difference' || difference === null || comparison.first === null) return atBegin;
  // Where one side has nothing more of the kind: the end of that step, or of the trace.
  const its = comparison.steps.find((one) => one.step === comparison.first?.step);
  return {
    left: difference.left ?? its?.left?.end ?? left.end,
    right: difference.right ?? its?.right?.end ?? right.end,
  };
}

/** How far both traces go, as times from the origins. */
export function boundsOf({ left, right }: Origins, a: Extent, b: Extent): Window {
  const begin = Math.min(a.begin - left, b.begin - right);
  return { begin, end: Math.max(a.end - left, b.end - right, begin + 1) };
}

/** What to show of an alignment at first: a step with some air, or the surroundings of the difference; null: all. */
export function firstWindow(align: string, steps: Comparison['steps'], bounds: Window): Window | null {
  const step = stepOf(align);
  if (step !== null) {
    const its = steps.find((one) => one.step === step);
    const length = (span: Window | null): number => (span === null ? 0 : span.end - span.begin);
    const longest = its === undefined ? 0 : Math.max(length(its.left), length(its.right), 1000);
    return longest === 0 ? null : { begin: -longest * 0.1, end: longest * 1.1 };
  }
  if (align !== 'difference') return null;
  const half = Math.max(1000, (bounds.end - bounds.begin) / 50);
  return { begin: -half, end: half };
}
