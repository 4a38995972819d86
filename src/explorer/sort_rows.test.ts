import { expect, it } from 'vitest';
import { createPrng, prngBelow } from '../base/prng.ts';
import { lowerBound, sortedOrder, upperBound } from './sort_rows.ts';

/** By key and then by position, the slow way. */
function slowOrder(keys: Float64Array): number[] {
  return [...keys.keys()].sort((x, y) => keys[x] - keys[y] || x - y);
}

const SHAPES: Record<string, (i: number, below: (n: number) => number) => number> = {
  'any order': (_, below) => below(1000),
  'few values': (_, below) => below(3),
  backwards: (i) => -i,
  'nearly in order': (i, below) => i * 10 + below(200),
  'two that are in order': (i) => (i % 2 === 0 ? i : i + 10_000),
  'one at the wrong end': (i) => (i === 0 ? 1e9 : i),
};

for (const [name, make] of Object.entries(SHAPES)) {
  it(`finds the order of keys: ${name}`, () => {
    const p = createPrng(7);
    for (const n of [2, 31, 32, 33, 64, 65, 100, 257, 3000]) {
      const keys = Float64Array.from({ length: n }, (_, i) => make(i, (bound) => prngBelow(p, bound)));
      expect(Array.from(sortedOrder(keys) ?? keys.keys())).toEqual(slowOrder(keys));
    }
  });
}

it('has no order for keys that are in it', () => {
  for (const n of [0, 1, 2, 100]) expect(sortedOrder(Float64Array.from({ length: n }, (_, i) => i >> 1))).toBeNull();
});

it('finds bounds, at equal values those around all of them', () => {
  const values = Float64Array.from([1, 3, 3, 3, 8]);
  for (const value of [0, 1, 2, 3, 5, 8, 9]) {
    expect(lowerBound(values, value)).toBe([...values].filter((one) => one < value).length);
    expect(upperBound(values, value)).toBe([...values].filter((one) => one <= value).length);
  }
});
