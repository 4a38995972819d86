import { expect, it } from 'vitest';
import { createPrng, prngBelow } from '../../base/prng.ts';
import { timeOrder, unionLength } from './time_order.ts';

it('orders times as a stable sort does, with NaN last', () => {
  const p = createPrng(7);
  for (let round = 0; round < 200; round++) {
    const count = prngBelow(p, 40);
    const times = Float64Array.from({ length: count + 3 }, () => {
      const form = prngBelow(p, 8);
      if (form === 0) return Number.NaN;
      if (form === 1) return -prngBelow(p, 5) - 0.5;
      if (form === 2) return prngBelow(p, 2) === 0 ? -0 : 0;
      if (form === 3) return prngBelow(p, 2 ** 31) * 2 ** 20 + 0.25;
      return prngBelow(p, 12);
    });
    const rank = (i: number): number => (Number.isNaN(times[i]) ? Number.POSITIVE_INFINITY : times[i]);
    const slow = Array.from({ length: count }, (_, i) => i).sort((a, b) => {
      if (rank(a) === rank(b)) return a - b;
      return rank(a) < rank(b) ? -1 : 1;
    });
    expect([...timeOrder(times, count)]).toEqual(slow);
  }
});

it('keeps the order of times that never fall', () => {
  expect([...timeOrder(Float64Array.of(1, 1, 2, 9), 4)]).toEqual([0, 1, 2, 3]);
  expect([...timeOrder(Float64Array.of(1, 2, 2 ** 53, 2 ** 53 - 1), 4)]).toEqual([0, 1, 3, 2]);
});

it('measures the union of intervals', () => {
  const of = (...list: [number, number][]): number =>
    unionLength(
      Float64Array.from(list, ([a]) => a),
      Float64Array.from(list, ([, b]) => b),
      list.length,
    );
  expect(of()).toBe(0);
  expect(of([5, 9], [0, 2])).toBe(6);
  expect(of([0, 5], [5, 9])).toBe(9);
  expect(of([0, 10], [2, 3], [4, 12])).toBe(12);
  // One that ends before it begins is none.
  expect(of([7, 3], [1, 2])).toBe(1);
});
