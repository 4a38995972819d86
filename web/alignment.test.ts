import { describe, expect, it } from 'vitest';
import { boundsOf, firstWindow, originsOf } from './alignment.ts';

const LEFT = { begin: 1000, end: 9000 };
const RIGHT = { begin: 50, end: 550 };
const STEPS = [
  { step: 0, left: { begin: 1000, end: 2000 }, right: { begin: 50, end: 150 } },
  { step: 2, left: { begin: 3000, end: 8000 }, right: null },
];
const FIRST = { step: 2, kind: 'cpuFault', what: 'events', index: 3, left: null, right: null } as const;
const COMPARISON = { steps: STEPS, first: FIRST };

describe('two traces', () => {
  it('stand at their begins, also where something else cannot be had', () => {
    const begins = { left: 1000, right: 50 };
    expect(originsOf('begin', COMPARISON, null, LEFT, RIGHT)).toEqual(begins);
    expect(originsOf('step0', null, null, LEFT, RIGHT)).toEqual(begins);
    expect(originsOf('step7', COMPARISON, null, LEFT, RIGHT)).toEqual(begins);
    expect(originsOf('difference', { steps: STEPS, first: null }, { left: 1, right: 2 }, LEFT, RIGHT)).toEqual(begins);
  });

  it('stand at a step; where one lacks it, behind the step before', () => {
    expect(originsOf('step0', COMPARISON, null, LEFT, RIGHT)).toEqual({ left: 1000, right: 50 });
    expect(originsOf('step2', COMPARISON, null, LEFT, RIGHT)).toEqual({ left: 3000, right: 150 });
  });

  it('stand at the first difference; where one has nothing more, at the end of the step or of the trace', () => {
    expect(originsOf('difference', COMPARISON, { left: 4000, right: 300 }, LEFT, RIGHT)).toEqual({
      left: 4000,
      right: 300,
    });
    expect(originsOf('difference', COMPARISON, { left: null, right: 300 }, LEFT, RIGHT).left).toBe(8000);
    expect(originsOf('difference', COMPARISON, { left: 4000, right: null }, LEFT, RIGHT).right).toBe(550);
  });

  it('go as far as the longer one on either side of zero', () => {
    expect(boundsOf({ left: 3000, right: 50 }, LEFT, RIGHT)).toEqual({ begin: -2000, end: 6000 });
  });

  it('show a step with some air, and what surrounds a difference', () => {
    const bounds = { begin: -2000, end: 6000 };
    expect(firstWindow('step2', STEPS, bounds)).toEqual({ begin: -500, end: 5500 });
    expect(firstWindow('step9', STEPS, bounds)).toBeNull();
    expect(firstWindow('difference', STEPS, { begin: 0, end: 100_000 })).toEqual({ begin: -2000, end: 2000 });
    expect(firstWindow('begin', STEPS, bounds)).toBeNull();
  });
});
