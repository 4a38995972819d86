import { describe, expect, it } from 'vitest';
import { createKernelModel } from '../../../test/support/kernel_model.ts';
import { AssertionError } from '../../base/assert.ts';
import { createPrng, prngBelow } from '../../base/prng.ts';
import type { Model } from '../state.ts';
import { nextEventTime, registerHandler, runNextEvent, runUntilIdle, schedule } from './clock.ts';

/** A model whose events write down (time, a, b). */
function recorder(): { m: Model; kind: number; seen: number[][] } {
  const m = createKernelModel();
  const seen: number[][] = [];
  const kind = registerHandler(m, (model, a, b) => {
    seen.push([model.k.now, a, b]);
  });
  return { m, kind, seen };
}

describe('event heap: order by (time, seq)', () => {
  it('runs events by time, and those of one time in the order in which they were scheduled', () => {
    const { m, kind, seen } = recorder();
    schedule(m, 20, kind, 1, 0);
    schedule(m, 10, kind, 2, 0);
    schedule(m, 20, kind, 3, 0);
    schedule(m, 10, kind, 4, 0);
    schedule(m, 0, kind, 5, 0);
    runUntilIdle(m);
    expect(seen.map(([time, a]) => [time, a])).toEqual([
      [0, 5],
      [10, 2],
      [10, 4],
      [20, 1],
      [20, 3],
    ]);
  });

  it('agrees with a stable sort through growth, with pushes and pops mixed', () => {
    const { m, kind, seen } = recorder();
    const p = createPrng(7);
    const expected: number[][] = [];
    const pending: number[][] = [];
    const pop = () => {
      let best = 0;
      for (let i = 1; i < pending.length; i++) if (pending[i][0] < pending[best][0]) best = i;
      if (pending.length > 0) expected.push(...pending.splice(best, 1));
      expect(runNextEvent(m)).toBe(true);
    };
    for (let i = 0; i < 2000; i++) {
      const time = m.k.eventTime + prngBelow(p, 40);
      schedule(m, time, kind, i, -i);
      pending.push([time, i, -i]);
      if (prngBelow(p, 3) === 0) pop();
    }
    expect(m.k.heapTime.length).toBeGreaterThan(1000);
    while (pending.length > 0) pop();
    expect(runNextEvent(m)).toBe(false);
    expect(seen).toEqual(expected);
  });

  it('hands kind, a and b through unchanged, beyond 32 bits too', () => {
    const { m, seen } = recorder();
    const other: number[] = [];
    const kind = registerHandler(m, (_, a, b) => {
      other.push(a, b);
    });
    schedule(m, 1, kind, 2 ** 52 + 1, -3);
    runUntilIdle(m);
    expect(other).toEqual([2 ** 52 + 1, -3]);
    expect(seen).toEqual([]);
  });

  it('says when the next event is, and Infinity when there is none', () => {
    const { m, kind } = recorder();
    expect(nextEventTime(m)).toBe(Number.POSITIVE_INFINITY);
    schedule(m, 30, kind, 0, 0);
    schedule(m, 12, kind, 0, 0);
    expect(nextEventTime(m)).toBe(12);
    runNextEvent(m);
    expect(nextEventTime(m)).toBe(30);
    runNextEvent(m);
    expect(nextEventTime(m)).toBe(Number.POSITIVE_INFINITY);
  });

  it('runs events that events schedule', () => {
    const { m, kind, seen } = recorder();
    const chain = registerHandler(m, (model, a) => {
      if (a > 0) schedule(model, model.k.now + 5, chain, a - 1, 0);
      else schedule(model, model.k.now, kind, 99, 0);
    });
    schedule(m, 0, chain, 3, 0);
    runUntilIdle(m);
    expect(seen).toEqual([[15, 99, 0]]);
  });
});

describe('event heap: the door', () => {
  it('takes the largest safe integer and refuses the next', () => {
    const { m, kind } = recorder();
    schedule(m, Number.MAX_SAFE_INTEGER, kind, 0, 0);
    expect(() => schedule(m, Number.MAX_SAFE_INTEGER + 1, kind, 0, 0)).toThrow(AssertionError);
    expect(() => schedule(m, 0.5, kind, 0, 0)).toThrow(AssertionError);
    expect(() => schedule(m, Number.NaN, kind, 0, 0)).toThrow(AssertionError);
    expect(() => schedule(m, Number.POSITIVE_INFINITY, kind, 0, 0)).toThrow(AssertionError);
    expect(m.k.heapSize).toBe(1);
  });

  it('lets an actor that is ahead schedule down to the time at which it was started, not before', () => {
    const { m, kind, seen } = recorder();
    const actor = registerHandler(m, (model) => {
      model.k.now += 500;
      schedule(model, 100, kind, 1, 0);
      expect(() => schedule(model, 99, kind, 2, 0)).toThrow(AssertionError);
    });
    schedule(m, 100, actor, 0, 0);
    runUntilIdle(m);
    expect(seen).toEqual([[100, 1, 0]]);
  });

  it('refuses a kind that nobody registered', () => {
    const { m, kind } = recorder();
    expect(() => schedule(m, 0, kind + 1, 0, 0)).toThrow(AssertionError);
    expect(() => schedule(m, 0, -1, 0, 0)).toThrow(AssertionError);
  });
});

describe('kernel state', () => {
  it('is plain: a clone runs on as the original does', () => {
    const { m, kind, seen } = recorder();
    for (let i = 0; i < 100; i++) schedule(m, (i * 37) % 50, kind, i, 0);
    for (let i = 0; i < 30; i++) runNextEvent(m);
    const snapshot = structuredClone(m.k);
    runUntilIdle(m);
    const original = seen.splice(0);
    m.k = snapshot;
    runUntilIdle(m);
    expect(seen).toEqual(original.slice(30));
    expect(m.k.heapSize).toBe(0);
  });
});
