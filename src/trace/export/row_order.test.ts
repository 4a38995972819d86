import { describe, expect, it } from 'vitest';
import { createPrng, prngBelow } from '../../base/prng.ts';
import { createLanes, rowsWhere, sortRows } from './row_order.ts';

describe('sortRows', () => {
  const sorted = (values: number[]): number[] => {
    const rows = rowsWhere(values.length, () => true);
    return [...sortRows(rows, (row) => values[row])];
  };

  it('takes numbers of every sign and size, and keeps equal ones in order', () => {
    const values = [3, -1, 2 ** 60, 0, -0, 0.5, -(2 ** 40), 3, Number.MIN_VALUE, -0.25, 3, 1e300, -1e300];
    const wanted = values.map((_, i) => i).sort((a, b) => values[a] - values[b] || a - b);
    expect(sorted(values)).toEqual(wanted);
    expect(sorted([])).toEqual([]);
    expect(sorted([1, 1, 2])).toEqual([0, 1, 2]);
  });

  it('agrees with a sort by comparison', () => {
    for (let seed = 1; seed < 60; seed++) {
      const p = createPrng(seed);
      const range = 2 ** (1 + prngBelow(p, 31));
      const scale = 2 ** prngBelow(p, 20);
      const values = Array.from({ length: 500 }, () => (prngBelow(p, range) - range / 3) * scale);
      expect(sorted(values)).toEqual(values.map((_, i) => i).sort((a, b) => values[a] - values[b] || a - b));
    }
  });

  it('sorts some of the rows', () => {
    const values = [9, 4, 7, 1, 5];
    const odd = rowsWhere(5, (row) => values[row] % 2 === 1);
    expect([...odd]).toEqual([0, 2, 3, 4]);
    expect([...sortRows(odd, (row) => values[row])]).toEqual([3, 4, 2, 0]);
  });
});

describe('createLanes', () => {
  it('uses a lane again from the end of its slice on', () => {
    const { place } = createLanes();
    expect([place(0, 10), place(5, 6), place(6, 20), place(9, 11), place(10, 10), place(10, 12)]).toEqual([
      0, 1, 1, 2, 0, 0,
    ]);
  });

  it('never has two on a lane, and no more lanes than overlap', () => {
    for (let seed = 1; seed < 40; seed++) {
      const p = createPrng(seed);
      const begins = Array.from({ length: 300 }, () => prngBelow(p, 1000)).sort((a, b) => a - b);
      const { place } = createLanes();
      const placed: { begin: number; end: number; lane: number }[] = [];
      let most = 0;
      for (const begin of begins) {
        const end = begin + prngBelow(p, 60);
        const others = placed.filter((one) => one.end > begin);
        const lane = place(begin, end);
        expect(others.map((one) => one.lane)).not.toContain(lane);
        placed.push({ begin, end, lane });
        most = Math.max(most, others.length + 1);
        expect(lane).toBeLessThan(most);
      }
    }
  });
});
