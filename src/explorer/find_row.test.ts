import { describe, expect, it } from 'vitest';
import { randomTimeline, timesOf } from '../../test/support/random_timeline.ts';
import { loadMachines } from '../analysis/machines.ts';
import { createPrng, prngBelow } from '../base/prng.ts';
import type { FindQuery } from './api.ts';
import { findRow } from './find_row.ts';
import { TraceIndex } from './trace_index.ts';

const machines = loadMachines();

/** All rows of the query by time and then by row; the one behind `from`. */
function slowFind({ trace }: TraceIndex, query: FindQuery): number | null {
  const { arrays: a, words, count } = trace.columns;
  const passing: number[] = [];
  for (let row = 0; row < count; row++) {
    if (!query.kinds.includes(words.kind.list[a.kind[row]])) continue;
    if (query.allocation !== undefined) {
      const { name } = trace.info.allocations[query.allocation];
      if (a.offset[row] < 0 || words.buffer.list[a.buffer[row]] !== name) continue;
      const [begin, end] = [a.offset[row], a.offset[row] + Math.max(1, a.bytes[row])];
      const block = query.block ?? -1;
      if (block >= 0 && !(begin < (block + 1) * 2 ** 21 && end > block * 2 ** 21)) continue;
    }
    passing.push(row);
  }
  const time = (row: number): number => timesOf(trace, row).begin;
  const order = (x: number, y: number): number => time(x) - time(y) || x - y;
  const sorted = passing.sort((x, y) => query.direction * order(x, y));
  return sorted.find((row) => query.from < 0 || query.direction * order(row, query.from) > 0) ?? null;
}

describe('finding rows', () => {
  it('goes to the next one by time, of some kinds, in some places', () => {
    const p = createPrng(21);
    let found = 0;
    for (const seed of [1, 2, 3, 4]) {
      const index = new TraceIndex(randomTimeline(seed, 300, { pushes: seed % 2 === 0 }).trace, machines);
      const kinds = [...index.trace.columns.words.kind.list.slice(1), 'nothing'];
      for (let i = 0; i < 300; i++) {
        const query: FindQuery = {
          kinds: [kinds[prngBelow(p, kinds.length)], kinds[prngBelow(p, kinds.length)]],
          from: prngBelow(p, 301) - 1,
          direction: prngBelow(p, 2) === 0 ? 1 : -1,
        };
        const form = prngBelow(p, 3);
        if (form > 0) query.allocation = prngBelow(p, 3);
        if (form > 1) query.block = prngBelow(p, index.places.list[query.allocation ?? 0].blocks);
        const row = findRow(index, query);
        expect(row).toBe(slowFind(index, query));
        if (row !== null) found++;
      }
    }
    expect(found).toBeGreaterThan(500);
  });

  it('goes through all rows of a kind, and back', () => {
    const index = new TraceIndex(randomTimeline(5, 200).trace, machines);
    const walk = (direction: 1 | -1): number[] => {
      const rows: number[] = [];
      for (let from: number | null = -1; ; ) {
        from = findRow(index, { kinds: ['gpuFault'], from, direction });
        if (from === null) return rows;
        rows.push(from);
      }
    };
    const forwards = walk(1);
    const { kind } = index.trace.columns.arrays;
    const number = index.trace.columns.words.kind.numbers.get('gpuFault');
    expect([...forwards].sort((x, y) => x - y)).toEqual(
      [...kind.keys()].filter((row) => row < 200 && kind[row] === number),
    );
    expect(walk(-1)).toEqual(forwards.reverse());
  });

  it('goes along a lane, from where it is told', () => {
    const index = new TraceIndex(randomTimeline(6, 300, { pushes: true }).trace, machines);
    let looked = 0;
    for (const { lane, row, first } of index.lanes) {
      const its = [...row.keys()].filter((i) => row[i] !== 0xffffffff);
      if (its.length < 3) continue;
      looked++;
      const ask = (more: Partial<FindQuery>) =>
        findRow(index, { kinds: [], lane: lane.id, from: -1, direction: 1, ...more });
      const order = [...its].sort((x, y) => first[x] - first[y] || row[x] - row[y]);
      const walk: number[] = [];
      for (let at = ask({}); at !== null; at = ask({ from: at })) walk.push(at);
      expect(walk).toEqual(order.map((i) => row[i]));
      const { begin, middle } = { begin: first[order[0]], middle: first[order[1]] };
      expect(ask({ time: begin })).toBe(row[order[0]]);
      expect(ask({ time: middle - 0.5 })).toBe(row[order.find((i) => first[i] > middle - 0.5) as number]);
      expect(ask({ time: begin, direction: -1 })).toBe(row[order.findLast((i) => first[i] <= begin) as number]);
      expect(ask({ time: begin - 1, direction: -1 })).toBeNull();
    }
    expect(looked).toBeGreaterThan(5);
  });

  it('refuses what makes no sense', () => {
    const index = new TraceIndex(randomTimeline(1, 10).trace, machines);
    const ask = (more: Record<string, unknown>) => () =>
      findRow(index, { kinds: ['gpuFault'], from: -1, direction: 1, ...more } as FindQuery);
    expect(ask({ from: 10 })).toThrow('from 10; expected a row from 0 to 9, or -1');
    expect(ask({ from: -2 })).toThrow('from -2');
    expect(ask({ from: 9 })).not.toThrow();
    expect(ask({ direction: 2 })).toThrow('direction 2; expected 1 or -1');
    expect(ask({ lane: 'x' })).toThrow('lane x; the trace has no such lane');
    expect(ask({ time: Number.NaN })).toThrow('time NaN; expected a number of nanoseconds');
    expect(ask({ kinds: 'gpuFault' })).toThrow('kinds: expected a list');
    expect(ask({ allocation: 3 })).toThrow('allocation 3; the trace has 0 to 2');
    expect(ask({ allocation: 1, block: 2 })).toThrow('block 2; the allocation has 0 to 1');
    expect(ask({ block: 1 })).toThrow('block 1: of which allocation is not said');
  });
});
