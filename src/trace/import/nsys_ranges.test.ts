import { describe, expect, it } from 'vitest';
import { createPrng, prngBelow } from '../../base/prng.ts';
import { createRangeSearch, MEMORY_USAGE, type NsysRange, RANGES_MAX, readRanges } from './nsys_ranges.ts';
import type { SqliteReader, SqliteValue } from './sqlite_reader.ts';

type Row = [start: number, page: number, pages: number, isEnd: number];

function readerOf(rows: readonly Row[]): SqliteReader {
  const list = rows.map(
    ([start, page, pages, isEnd]): Record<string, SqliteValue> => ({
      ...{ start: BigInt(start), address: BigInt(page) * 4096n, bytes: pages * 4096, memKind: 4 },
      memoryOperationType: isEnd,
    }),
  );
  const columns = ['start', 'address', 'bytes', 'memKind', 'memoryOperationType'];
  return { tables: new Map([[MEMORY_USAGE, columns]]), rows: () => list, close: () => {} };
}

const told = (ranges: readonly NsysRange[]): unknown[] =>
  ranges.map(({ firstPage, endPage, begin, end }) => [firstPage, endPage, begin, end]);

describe('managed allocations of an export', () => {
  it('live from their allocation to their end, or to the next one in their place', () => {
    const rows: Row[] = [
      [10, 100, 8, 0],
      [20, 108, 4, 0],
      [30, 100, 8, 1],
      // No end of it was recorded, and half of its place is used again.
      [40, 110, 16, 0],
      // The end of something that is not known, and one in the middle of another.
      [50, 500, 1, 1],
      [60, 112, 1, 1],
    ];
    expect(told(readRanges(readerOf(rows), 0n) as NsysRange[])).toEqual([
      [100, 108, 10, 30],
      [108, 112, 20, 40],
      [110, 126, 40, Number.POSITIVE_INFINITY],
    ]);
  });

  it('are not known where the export has no table, none of these columns, or too many of them', () => {
    expect(readRanges({ ...readerOf([]), tables: new Map() }, 0n)).toBeNull();
    expect(readRanges({ ...readerOf([]), tables: new Map([[MEMORY_USAGE, ['start']]]) }, 0n)).toBeNull();
    expect(readRanges(readerOf([]), 0n)).toEqual([]);
    const many = (count: number): Row[] => Array.from({ length: count }, (_, i): Row => [i, i, 1, 0]);
    expect(readRanges(readerOf(many(RANGES_MAX)), 0n)?.length).toBe(RANGES_MAX);
    expect(readRanges(readerOf(many(RANGES_MAX + 1)), 0n)).toBeNull();
  });

  it.each([[1], [2], [3], [4]])('are found for pages and times as by looking at all of them, seed %i', (seed) => {
    const prng = createPrng(seed);
    const rows: Row[] = [];
    for (let time = 0; rows.length < 300; time += prngBelow(prng, 3)) {
      rows.push([time, prngBelow(prng, 60), 1 + prngBelow(prng, 12), prngBelow(prng, 2)]);
    }
    const ranges = readRanges(readerOf(rows), 0n) as NsysRange[];
    const find = createRangeSearch(ranges);
    let found = 0;
    for (let time = 0; time < rows[rows.length - 1][0] + 5; time++) {
      for (let page = 0; page < 75; page++) {
        // Of two in one place at one moment, the one that begins then.
        const all = ranges.filter(
          (range) =>
            range.firstPage <= page &&
            page < range.endPage &&
            range.begin <= time &&
            range.end > range.begin &&
            time <= range.end,
        );
        const range = find(page, time);
        if (all.length === 0) expect(range).toBeUndefined();
        // At the moment of an end the range may be gone already, if another one began then.
        else if (range === undefined) expect(all.every(({ end }) => end === time)).toBe(true);
        else expect(all).toContain(range);
        if (range !== undefined) found++;
      }
    }
    expect(found).toBeGreaterThan(1000);
  });
});
