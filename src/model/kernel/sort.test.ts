import { describe, expect, it } from 'vitest';
import { createPrng, prngBelow } from '../../base/prng.ts';
import { sortRows } from './sort.ts';

/** Sorts rows 0 to n - 1 by one small key each. */
function sorted(keys: number[]): number[] {
  const order = Int32Array.from(keys.keys());
  const none = new Int32Array(keys.length);
  sortRows(order, keys.length, none, Float64Array.from(keys), new Uint8Array(keys.length));
  return Array.from(order);
}

describe('sortRows', () => {
  // What lib/sort.c of Linux 6.10 and later makes of these, traced by an independent transcription.
  it.each([
    [2, [1, 0]],
    [3, [2, 1, 0]],
    [4, [1, 3, 2, 0]],
    [5, [3, 1, 4, 2, 0]],
    [8, [1, 3, 4, 5, 6, 7, 2, 0]],
    [13, [3, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 2, 0]],
  ])('leaves %i equal elements in the order of its steps', (n, order) => {
    expect(sorted(new Array<number>(n).fill(7))).toEqual(order);
  });

  it('leaves ties among other elements in the order of its steps', () => {
    const keys = [4, 2, 5, 2, 5, 5, 5, 4, 0, 3, 1, 5, 0, 1, 0, 2, 3, 1, 3, 4, 0, 4, 1, 0];
    expect(sorted(keys)).toEqual([
      14, 12, 8, 20, 23, 10, 17, 22, 13, 3, 15, 1, 16, 18, 9, 7, 19, 21, 0, 4, 11, 5, 6, 2,
    ]);
  });

  it('leaves a strictly ascending order alone', () => {
    expect(sorted([1, 2, 5, 9])).toEqual([0, 1, 2, 3]);
    expect(sorted([3])).toEqual([0]);
    expect(sorted([])).toEqual([]);
  });

  it('sorts by the first key, then the second, then the third', () => {
    const prng = createPrng(11);
    for (let round = 0; round < 200; round++) {
      const n = prngBelow(prng, 70);
      const primary = Int32Array.from({ length: n }, () => prngBelow(prng, 3) - 1);
      const secondary = Float64Array.from({ length: n }, () => prngBelow(prng, 4) * 2 ** 40);
      // Different in every row, so that there is one answer.
      const tertiary = Uint8Array.from({ length: n }, (_, i) => (i * 37) % 256);
      const order = Int32Array.from({ length: n }, (_, i) => i);
      sortRows(order, n, primary, secondary, tertiary);
      const expected = Array.from({ length: n }, (_, i) => i).sort(
        (x, y) => primary[x] - primary[y] || secondary[x] - secondary[y] || tertiary[x] - tertiary[y],
      );
      expect(Array.from(order)).toEqual(expected);
    }
  });

  it('sorts the first rows alone', () => {
    const order = Int32Array.of(2, 1, 0, 9, 8);
    sortRows(order, 3, new Int32Array(10), Float64Array.of(0, 1, 2, 0, 0, 0, 0, 0, 0, 0), new Uint8Array(10));
    expect(Array.from(order)).toEqual([0, 1, 2, 9, 8]);
  });
});
