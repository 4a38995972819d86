import { describe, expect, it } from 'vitest';
import { randomTimeline, timesOf } from '../../test/support/random_timeline.ts';
import { randomTrace } from '../../test/support/random_trace.ts';
import { loadMachines } from '../analysis/machines.ts';
import { createPrng, prngBelow } from '../base/prng.ts';
import { createTraceColumns } from '../trace/store/trace_columns.ts';
import { appendEvent, type Trace } from '../trace/store/trace_events.ts';
import { emptyTraceInfo } from '../trace/store/trace_info.ts';
import type { Tile } from './api.ts';
import { addLaneRow, COARSE_FROM, createLaneRows, type LaneIndex, laneIndex, NO_ROW } from './lane_index.ts';
import { TILE_WIDTH_MAX, tileOf } from './tiles.ts';
import { TraceIndex } from './trace_index.ts';

const machines = loadMachines();
const seeds = [1, 2, 3, 4, 5, 6];

function indexed(seed: number, rows = 400): TraceIndex {
  const options = { pushes: seed % 2 === 0, virtual: seed % 3 !== 0 };
  return new TraceIndex(randomTimeline(seed, rows, options).trace, machines);
}

const kindOf = ({ columns }: Trace, row: number): string => columns.words.kind.list[columns.arrays.kind[row]];

describe('lanes', () => {
  it('have each row with a time once, with its times, and tell which it is', () => {
    for (const seed of seeds) {
      const index = indexed(seed);
      const { trace } = index;
      const seen = new Map<number, string>();
      for (const { lane, row, first, last, kinds, kind } of index.lanes) {
        expect(lane.rows).toBe(row.length);
        if (lane.group === 'batches' && lane.kinds.length === 0) continue;
        for (const [i, one] of row.entries()) {
          expect(seen.has(one)).toBe(false);
          seen.set(one, lane.id);
          expect(lane.kinds).toContain(kindOf(trace, one));
          const times = timesOf(trace, one);
          expect(first[i]).toBe(times.begin);
          if (lane.group !== 'thrashing') expect(last[i]).toBe(lane.shape === 'points' ? times.begin : times.end);
          expect(kinds[kind[i]]).toBeDefined();
        }
      }
      for (let row = 0; row < trace.columns.count; row++) {
        const kind = kindOf(trace, row);
        if (kind === 'throttlingEnd') continue;
        expect(seen.get(row)).toBe(index.laneOf(row));
        expect(seen.has(row)).toBe(true);
      }
    }
  });

  it('are in order of time, and spans on one line do not overlap but for the last line', () => {
    for (const seed of seeds) {
      for (const { lane, first, last, depth } of indexed(seed).lanes) {
        const ends = new Map<number, number>();
        for (let i = 0; i < first.length; i++) {
          if (i > 0) expect(first[i]).toBeGreaterThanOrEqual(first[i - 1]);
          if (lane.shape === 'points') continue;
          if (depth[i] < 5) expect(ends.get(depth[i]) ?? Number.NEGATIVE_INFINITY).toBeLessThanOrEqual(first[i]);
          ends.set(depth[i], Math.max(last[i], ends.get(depth[i]) ?? Number.NEGATIVE_INFINITY));
        }
      }
    }
  });

  it('pair the begin and the end of throttlings by processor and place', () => {
    const columns = createTraceColumns();
    const at = (event: 'throttlingStart' | 'throttlingEnd', processor: string, offset: number, time: number): void => {
      appendEvent(columns, { event, processor, offset, time });
    };
    at('throttlingStart', 'gpu0', 0, 10);
    at('throttlingStart', 'gpu0', 4096, 11);
    at('throttlingStart', 'cpu', 0, 12);
    at('throttlingEnd', 'gpu0', 4096, 20);
    at('throttlingEnd', 'gpu0', 0, 30);
    const index = new TraceIndex({ info: emptyTraceInfo('t', 'lines', '0'), columns }, machines);
    const gpu = index.lane('throttled gpu0');
    expect([...gpu.first]).toEqual([10, 11]);
    expect([...gpu.last]).toEqual([30, 20]);
    expect([...index.lane('throttled cpu').last]).toEqual([12]);
    expect(index.laneOf(4)).toBe('throttled gpu0');
  });

  it('keep channels with large numbers apart', () => {
    const { trace } = randomTimeline(2, 60, { pushes: true });
    const { kind, channel } = trace.columns.arrays;
    const push = trace.columns.words.kind.numbers.get('push');
    const rows = [...kind.keys()].filter((row) => row < trace.columns.count && kind[row] === push);
    for (const [i, row] of rows.entries()) channel[row] = 254 + i;
    const lanes = new TraceIndex(trace, machines).lanes.filter(({ lane }) => lane.group === 'channels');
    expect(lanes.map(({ lane }) => lane.id)).toEqual(rows.map((_, i) => `gpu0/${254 + i}`));
    expect(lanes.every(({ lane }) => lane.rows === 1)).toBe(true);
  });

  it('make something of any numbers, and of none', () => {
    for (const seed of seeds) {
      const { trace } = randomTrace(seed, 150, { pushes: seed % 2 === 0 });
      const index = new TraceIndex(trace, machines);
      expect(index.end).toBeGreaterThanOrEqual(index.begin);
    }
    const none = new TraceIndex(randomTimeline(1, 0).trace, machines);
    expect([none.lanes.length, none.begin, none.end]).toEqual([0, 0, 0]);
  });

  it('name the lanes that there are', () => {
    const index = indexed(1);
    expect(() => index.lane('x')).toThrow(/^lane x: there is none of that name; valid: .*faults gpu0/);
  });
});

describe('batches', () => {
  /** Numbers of faults, and the row of the replay that ended each, by the rule in words. */
  function slowBatches(
    { columns: { arrays: a, count } }: Trace,
    isFault: (row: number) => boolean,
    isReplay: (row: number) => boolean,
    src: number,
  ) {
    const list: { batch: number; rows: number[]; replay: number | null; length: number }[] = [];
    for (let row = 0; row < count; row++) {
      if (!isFault(row) || a.src[row] !== src) continue;
      const last = list.at(-1);
      if (last?.batch === a.batch[row]) last.rows.push(row);
      else list.push({ batch: a.batch[row], rows: [row], replay: null, length: 0 });
    }
    for (let row = 0; row < count; row++) {
      if (!isReplay(row) || a.src[row] !== src) continue;
      const named = list.findLastIndex(({ batch }) => batch === a.batch[row]);
      for (let i = named; i >= 0 && (i === named || list[i].replay === null); i--) {
        const first = Math.min(...list[i].rows.map((one) => a.gpuTime[one]));
        const length = a.gpuTime[row] - first;
        if (length < list[i].length) break;
        list[i].length = length;
        list[i].replay = row;
      }
    }
    return list;
  }

  it('reach from the first fault to the last replay that covers them', () => {
    let replayed = 0;
    for (const seed of seeds) {
      const { batches, trace } = indexed(seed);
      for (const [src, its] of batches) {
        const isKind = (kind: string) => (row: number) => kindOf(trace, row) === kind;
        const slow = slowBatches(trace, isKind('gpuFault'), isKind('replay'), src);
        expect(Array.from(its.batch.subarray(0, its.count))).toEqual(slow.map(({ batch }) => batch));
        expect(Array.from(its.faults.subarray(0, its.count))).toEqual(slow.map(({ rows }) => rows.length));
        expect(Array.from(its.length.subarray(0, its.count))).toEqual(slow.map(({ length }) => length));
        for (const [i, { replay }] of slow.entries()) {
          expect(its.replayed[i]).toBe(replay === null ? 0 : 1);
          if (replay !== null) expect(its.replayRow[i]).toBe(replay);
          if (replay !== null) replayed++;
        }
      }
    }
    expect(replayed).toBeGreaterThan(20);
  });
});

/** Positions of a lane whose span touches the window. */
function touching({ first, last }: LaneIndex, begin: number, end: number): number[] {
  return [...first.keys()].filter((i) => first[i] <= end && last[i] >= begin);
}

describe('tiles', () => {
  it('have each row that touches the window, where they are few', () => {
    const p = createPrng(3);
    for (const seed of seeds) {
      const index = indexed(seed);
      for (const lane of index.lanes) {
        for (let i = 0; i < 6; i++) {
          const begin = prngBelow(p, 2000) - 100;
          const end = begin + 1 + prngBelow(p, 500);
          const tile = tileOf(lane, begin, end, 4000);
          const wanted = touching(lane, begin, end);
          expect(tile.detail).toBe('rows');
          expect([...tile.first]).toEqual(wanted.map((at) => lane.first[at]));
          expect([...tile.last]).toEqual(wanted.map((at) => lane.last[at]));
          expect([...tile.row]).toEqual(wanted.map((at) => lane.row[at]));
          expect([...tile.kind]).toEqual(wanted.map((at) => lane.kind[at]));
          expect([...tile.depth]).toEqual(wanted.map((at) => lane.depth[at] ?? 0));
        }
      }
    }
  });

  it('show rows that are few although a long span begins far before them', () => {
    const rows = createLaneRows(20_000, 'spans');
    addLaneRow(rows, 0, 1e9, 0, 0);
    for (let i = 1; i < 20_000; i++) addLaneRow(rows, i * 10, i * 10 + 5, i, 0);
    const lane = laneIndex({ id: 'x', label: 'x', group: 'channels', kinds: ['push'], shape: 'spans' }, ['copy'], rows);
    const tile = tileOf(lane, 150_000, 150_100, 100);
    expect(tile.detail).toBe('rows');
    expect([...tile.row]).toEqual([0, ...Array.from({ length: 11 }, (_, i) => 15_000 + i)]);
  });

  it('count what begins in each pixel, and what share of it spans cover, where rows are many', () => {
    const p = createPrng(4);
    for (const seed of seeds) {
      for (const lane of indexed(seed, 600).lanes) {
        const begin = prngBelow(p, 300);
        const end = begin + 1000;
        const width = 8;
        const wanted = touching(lane, begin, end);
        if (wanted.length <= 2 * width) continue;
        const tile = tileOf(lane, begin, end, width);
        expect(tile.detail).toBe('density');
        for (let pixel = 0; pixel < width; pixel++) {
          const [from, to] = [begin + pixel * 125, begin + (pixel + 1) * 125];
          const inside = wanted.filter((at) => lane.first[at] >= from && lane.first[at] < to);
          expect(tile.count[pixel]).toBe(inside.length);
          const most = inside.filter((at) => lane.kind[at] === tile.kind[pixel]).length;
          for (let k = 0; k < lane.kinds.length; k++) {
            expect(most).toBeGreaterThanOrEqual(inside.filter((at) => lane.kind[at] === k).length);
          }
          const covered = wanted.reduce(
            (sum, at) => sum + Math.max(0, Math.min(to, lane.last[at]) - Math.max(from, lane.first[at])),
            0,
          );
          const share = Math.min(1, covered / 125) * 255;
          expect(Math.abs(tile.covered[pixel] - share)).toBeLessThanOrEqual(1);
          expect(tile.covered[pixel] > 0).toBe(share > 0);
        }
      }
    }
  });

  it('of very many rows count all of them, each at most a part of a pixel from its place', () => {
    const n = COARSE_FROM + 1000;
    const rows = createLaneRows(n, 'points');
    const p = createPrng(5);
    for (let i = 0; i < n; i++) addLaneRow(rows, i * 10 + prngBelow(p, 10), 0, i, i % 3 === 0 ? 1 : 0);
    const lane = laneIndex(
      { id: 'x', label: 'x', group: 'gpu', kinds: ['gpuFault'], shape: 'points' },
      ['a', 'b'],
      rows,
    );
    expect(lane.coarse).not.toBeNull();
    const begin = lane.first[0];
    const end = lane.last[n - 1] + 1;
    const sum = (tile: Tile): number => tile.count.reduce((all, one) => all + one, 0);
    const whole = tileOf(lane, begin, end, 1000);
    expect(sum(whole)).toBe(n);
    expect([...new Set(whole.kind)]).toEqual([0]);
    const coarsePart = (lane.until - begin) / 65_536;
    let before = 0;
    let counted = 0;
    for (let pixel = 0; pixel < 1000; pixel++) {
      const to = begin + ((pixel + 1) * (end - begin)) / 1000;
      while (before < n && lane.first[before] < to - coarsePart) before++;
      counted += whole.count[pixel];
      expect(counted).toBeGreaterThanOrEqual(before);
    }
    const part = tileOf(lane, 1000, 21_000, 100);
    expect(sum(part)).toBe(touching(lane, 1000, 20_999.999).length);
  });

  it('of lanes without rows of the trace have no row', () => {
    const { trace } = randomTimeline(1, 20, { info: { steps: [{ step: 0, begin: 5, end: 50 }] } });
    const lane = new TraceIndex(trace, machines).lane('steps');
    expect([...tileOf(lane, 0, 10, 100).row]).toEqual([NO_ROW]);
  });

  it('refuse windows and widths that make no sense', () => {
    const lane = indexed(1).lanes[0];
    for (const [begin, end, width] of [
      [5, 5, 10],
      [6, 5, 10],
      [Number.NaN, 5, 10],
      [0, Number.POSITIVE_INFINITY, 10],
    ]) {
      expect(() => tileOf(lane, begin, end, width)).toThrow(/^a window from .*; expected an end behind the begin/);
    }
    for (const width of [0, 1.5, TILE_WIDTH_MAX + 1, Number.NaN]) {
      expect(() => tileOf(lane, 0, 1, width)).toThrow(`width ${width}; expected 1 to 16384 pixels`);
    }
    expect(tileOf(lane, 0, 1, TILE_WIDTH_MAX).lane).toBe(lane.lane.id);
  });
});
