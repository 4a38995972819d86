import { describe, expect, it } from 'vitest';
import { ALLOCATIONS, randomTimeline, type TimelineOptions, timesOf } from '../../test/support/random_timeline.ts';
import { loadMachines } from '../analysis/machines.ts';
import { createPrng, prngBelow } from '../base/prng.ts';
import { createTraceColumns } from '../trace/store/trace_columns.ts';
import { appendEvent, type Trace } from '../trace/store/trace_events.ts';
import { emptyTraceInfo } from '../trace/store/trace_info.ts';
import { createEngine } from './engine.ts';
import { HistoryBuilder, OUTSIDE, pagesAt, totalsAt } from './page_history.ts';
import { BLOCKS_MAX } from './places.ts';
import { blockAt, HISTORY_MAX, lastFaultBefore, spaceAt } from './space.ts';
import { TraceIndex } from './trace_index.ts';

const machines = loadMachines();
const BLOCK = 2 ** 21;

interface SlowRow {
  row: number;
  kind: string;
  src: string;
  dst: string;
  /** Bytes of its allocation, from the first to before the last; blocks that it touches, of all. */
  from: number;
  to: number;
  allocation: number;
  blocks: number[];
  begin: number;
  end: number;
}

const FIRST_BLOCKS = [0, 3, 5];
const BLOCK_COUNTS = [3, 2, 1];

/** The rows that have a place, by begin and then by row. */
function slowRows(trace: Trace): SlowRow[] {
  const { columns } = trace;
  const { arrays: a, words } = columns;
  const rows: SlowRow[] = [];
  for (let row = 0; row < columns.count; row++) {
    const name = words.buffer.list[a.buffer[row]];
    const allocation = ALLOCATIONS.findIndex((one) => one.name === name);
    if (allocation < 0 || a.offset[row] < 0) continue;
    const from = a.offset[row];
    const to = from + Math.max(1, a.bytes[row]);
    const blocks: number[] = [];
    for (let b = 0; b < BLOCK_COUNTS[allocation]; b++) {
      if (from < (b + 1) * BLOCK && to > b * BLOCK) blocks.push(FIRST_BLOCKS[allocation] + b);
    }
    const kind = words.kind.list[a.kind[row]];
    const [src, dst] = [words.src.list[a.src[row]], words.dst.list[a.dst[row]]];
    rows.push({ row, kind, src, dst, from, to, allocation, blocks, ...timesOf(trace, row) });
  }
  return rows.sort((x, y) => x.begin - y.begin || x.row - y.row);
}

const isFault = ({ kind }: SlowRow): boolean => kind === 'cpuFault' || kind === 'gpuFault';

/** Where each page of each block is at a time: the rules of inferred_pages.ts, page by page. */
function slowPages(trace: Trace, rows: readonly SlowRow[], residents: readonly string[], time: number): number[][] {
  const pages = FIRST_BLOCKS.flatMap((_, i) =>
    Array.from({ length: BLOCK_COUNTS[i] }, (__, b) =>
      Array.from({ length: 512 }, (___, p): number => ((b * 512 + p) * 4096 < ALLOCATIONS[i].bytes ? 0 : OUTSIDE)),
    ),
  );
  const changes = rows.map((one) => ({
    ...one,
    at: one.kind === 'migration' ? trace.columns.arrays.time[one.row] : one.begin,
  }));
  changes.sort((x, y) => x.at - y.at || x.row - y.row);
  for (const one of changes) {
    if (one.at > time) continue;
    const word = one.kind === 'migration' ? one.dst : one.kind === 'readDuplicate' ? 'several' : one.src;
    if (!isFault(one) && !/^(migration|readDuplicate|readDuplicateInvalidate)$/.test(one.kind)) continue;
    const first = Math.floor(one.from / 4096);
    const count = isFault(one) ? 1 : Math.max(1, Math.ceil((one.to - one.from) / 4096));
    for (let page = first; page < first + count; page++) {
      const its = pages[FIRST_BLOCKS[one.allocation] + Math.floor(page / 512)];
      if (Math.floor(page / 512) >= BLOCK_COUNTS[one.allocation] || its[page % 512] === OUTSIDE) continue;
      if (isFault(one) && its[page % 512] !== 0) continue;
      its[page % 512] = residents.indexOf(word);
    }
  }
  return pages;
}

function indexed(seed: number, rows: number, options: TimelineOptions = {}): TraceIndex {
  return new TraceIndex(randomTimeline(seed, rows, { virtual: seed % 2 === 0, ...options }).trace, machines);
}

describe('the address space at a time', () => {
  it('counts the pages of each block by where they are', () => {
    const p = createPrng(11);
    for (const seed of [1, 2, 3, 4]) {
      const index = indexed(seed, 300);
      const rows = slowRows(index.trace);
      for (const time of [-1, 0, prngBelow(p, 2000), prngBelow(p, 2000), 1e9]) {
        const space = spaceAt(index, time, 10);
        expect(space.known).toBe('inferred');
        expect(space.residents).toEqual(['none', 'cpu', 'gpu0', 'gpu1', 'several']);
        const slow = slowPages(index.trace, rows, space.residents, time);
        for (const [b, pages] of slow.entries()) {
          const width = space.residents.length;
          const counts = space.residents.map((_, r) => pages.filter((code) => code === r).length);
          expect(Array.from(space.pages.subarray(b * width, (b + 1) * width))).toEqual(counts);
        }
      }
    }
  });

  it('counts faults, thrashing and bytes of what begins in the window, edges included', () => {
    const p = createPrng(12);
    for (const seed of [1, 2, 3, 4]) {
      const index = indexed(seed, 700);
      const rows = slowRows(index.trace);
      for (let i = 0; i < 25; i++) {
        const time = prngBelow(p, 2000);
        const span = [0, 2, 100, 900, 1e9][i % 5];
        // Looked at one by one, or by sums.
        const space = spaceAt(index, time, span, i % 2 === 0 ? 1e9 : -1);
        for (let b = 0; b < 6; b++) {
          const inside = rows.filter(
            (one) => one.blocks.includes(b) && one.begin >= time - span / 2 && one.begin <= time + span / 2,
          );
          expect(space.faults[b]).toBe(inside.filter(isFault).length);
          expect(space.thrashing[b]).toBe(inside.filter(({ kind }) => kind === 'thrashing').length);
          const base = (b - FIRST_BLOCKS[[0, 0, 0, 1, 1, 2][b]]) * BLOCK;
          const moved = inside
            .filter(({ kind }) => kind === 'migration')
            .reduce((sum, { from, to }) => sum + Math.min(to, base + BLOCK) - Math.max(from, base), 0);
          expect(space.moved[b]).toBe(moved);
        }
      }
    }
  });

  it('refuses times and windows that are none', () => {
    const index = indexed(1, 10);
    expect(() => spaceAt(index, Number.NaN, 1)).toThrow('time NaN, window 1; expected a time');
    expect(() => spaceAt(index, 0, -1)).toThrow('window -1');
    expect(spaceAt(index, 0, 0).time).toBe(0);
  });

  it('has blocks for as much as can be shown, and says so beyond', () => {
    const sized = (blocks: number): (() => TraceIndex) => {
      const { trace } = randomTimeline(1, 5, { info: { allocations: [] } });
      trace.info.allocations = [{ name: 'a', bytes: blocks * BLOCK, kind: 'managed', address: null }];
      return () => new TraceIndex(trace, machines);
    };
    expect(sized(BLOCKS_MAX)().places.blocks).toBe(BLOCKS_MAX);
    expect(sized(BLOCKS_MAX + 1)).toThrow(
      'the allocations have 4194305 blocks of 2 MiB; the explorer shows up to 4194304',
    );
  });

  it('says so where rows reach over more blocks than there is room for', () => {
    const { trace } = randomTimeline(1, 0, { info: { allocations: [] } });
    trace.info.allocations = [{ name: 'a', bytes: BLOCKS_MAX * BLOCK, kind: 'managed', address: null }];
    const bytes = BLOCKS_MAX * BLOCK;
    const columns = createTraceColumns();
    for (let i = 0; i < 2; i++) {
      appendEvent(columns, { event: 'thrashing', processors: ['cpu'], buffer: 'a', offset: 0, bytes, time: i });
    }
    // Neither for pages, nor for what happens in a window, nor for the rows of a block.
    columns.count = 1;
    expect(spaceAt(new TraceIndex({ info: trace.info, columns }, machines), 0, 1).thrashing[BLOCKS_MAX - 1]).toBe(1);
    columns.count = 2;
    const index = new TraceIndex({ info: trace.info, columns }, machines);
    const refused = 'rows reach over so many blocks that there is no room for a map of them';
    expect(() => spaceAt(index, 0, 2)).toThrow(refused);
    expect(() => blockAt(index, 0, 0, 0)).toThrow(refused);
  });
});

describe('maps of many blocks', () => {
  const BLOCKS = 70_000;

  it("know the first of a page's faults, also where there are more blocks than lists of them", () => {
    const columns = createTraceColumns();
    const fault = (page: number, time: number): void => {
      appendEvent(columns, { event: 'cpuFault', access: 'read', offset: page * 4096, time });
    };
    const gpu = { event: 'gpuFault', gpu: 'gpu0', type: 'invalidPte', access: 'read', batch: 1 } as const;
    for (let b = 0; b < BLOCKS; b++) {
      appendEvent(columns, { ...gpu, offset: b * BLOCK, time: 2, gpuTime: 2 });
      fault(b * 512, b % 2 === 0 ? 1 : 3);
    }
    const info = emptyTraceInfo('t', 'lines', '0');
    info.allocations = [{ name: 'a', bytes: BLOCKS * BLOCK, kind: 'managed', address: null }];
    const index = new TraceIndex({ info, columns }, machines);
    const { pages, residents, faults } = spaceAt(index, 5, 100);
    expect(residents).toEqual(['none', 'cpu', 'gpu0', 'several']);
    for (const b of [0, 1, 2, 3, 65_535, 65_536, BLOCKS - 2, BLOCKS - 1]) {
      const wanted = b % 2 === 0 ? [511, 1, 0, 0] : [511, 0, 1, 0];
      expect([b, ...pages.subarray(b * 4, b * 4 + 4)]).toEqual([b, ...wanted]);
      expect(faults[b]).toBe(2);
    }
  });
});

describe('work in slices', () => {
  it('lets others have their turn, is done once, and comes to the same', async () => {
    const { trace } = randomTimeline(3, 300);
    const plain = createEngine({ machines });
    plain.add('t', 't', trace);
    const turns: (() => void)[] = [];
    const sliced = createEngine({ machines, pause: () => new Promise((resolve) => turns.push(resolve)) });
    sliced.add('t', 't', trace);
    const questions = [sliced.space('t', 900, 50), sliced.space('t', 900, 50), sliced.block('t', 0, 0, 900)];
    let slices = 0;
    let answered = false;
    const all = Promise.all(questions).then((answers) => {
      answered = true;
      return answers;
    });
    while (!answered) {
      await new Promise((resolve) => setImmediate(resolve));
      // A question that needs none of it is answered at once.
      expect((await sliced.tile('t', 'cpu', 0, 2000, 9)).lane).toBe('cpu');
      const turn = turns.shift();
      if (turn !== undefined) slices++;
      turn?.();
    }
    const [space, again, block] = await all;
    expect(space).toEqual(await plain.space('t', 900, 50));
    expect(again).toEqual(space);
    expect(block).toEqual(await plain.block('t', 0, 0, 900));
    // Two passes over the rows for the pages, and two for the rows by block.
    expect(slices).toBe(4);
  });
});

describe('a block at a time', () => {
  const PLACES = FIRST_BLOCKS.flatMap((_, allocation) =>
    Array.from({ length: BLOCK_COUNTS[allocation] }, (__, block) => ({ allocation, block })),
  );

  it('has its pages, their faults and migrations so far, and its last fault', () => {
    const p = createPrng(13);
    for (const seed of [1, 2, 3]) {
      const index = indexed(seed, 400);
      const rows = slowRows(index.trace);
      for (const [global, { allocation, block }] of PLACES.entries()) {
        const time = prngBelow(p, 2200);
        const detail = blockAt(index, allocation, block, time);
        expect([...detail.residency]).toEqual(slowPages(index.trace, rows, detail.residents, time)[global]);
        expect(detail.firstPage).toBe(block * 512);
        expect(detail.pageCount).toBe(detail.residency.filter((code) => code !== OUTSIDE).length);
        expect(detail.mapped).toBeNull();
        const past = rows.filter((one) => one.blocks.includes(global) && one.begin <= time);
        const on = (page: number, one: SlowRow): boolean => {
          const its = (block * 512 + page) * 4096;
          return (
            one.from < its + 4096 && one.from + Math.ceil((one.to - one.from) / 4096) * 4096 > its + (one.from % 4096)
          );
        };
        for (let page = 0; page < 512; page += 7) {
          const its = past.filter((one) => on(page, one));
          expect(detail.faults[page]).toBe(its.filter(isFault).length);
          expect(detail.migrations[page]).toBe(its.filter(({ kind }) => kind === 'migration').length);
        }
        const last = past.filter(isFault).at(-1);
        const number = last === undefined ? null : index.faultOf(last.row);
        expect(lastFaultBefore(index, global, time)).toBe(number);
      }
    }
  });

  it('has its rows in order of time, those around the time where they are many', () => {
    const index = indexed(2, 3 * HISTORY_MAX, { allocations: [{ name: 'a', bytes: BLOCK }], steps: 0 });
    const { begins } = index;
    const rows = Array.from(index.blockRows().rows).sort((x, y) => begins[x] - begins[y] || x - y);
    expect(rows.length).toBeGreaterThan(2 * HISTORY_MAX);
    for (const time of [-1, 700, 1e9]) {
      const { history, historyCount } = blockAt(index, 0, 0, time);
      expect(historyCount).toBe(rows.length);
      expect(history.length).toBe(HISTORY_MAX);
      const at = rows.indexOf(history[0].row);
      expect(history.map(({ row }) => row)).toEqual(rows.slice(at, at + HISTORY_MAX));
      expect(history.map((one) => one.time)).toEqual(history.map(({ row }) => begins[row]));
      const before = rows.filter((row) => begins[row] <= time).length;
      expect(at).toBe(Math.max(0, Math.min(before - HISTORY_MAX / 2, rows.length - HISTORY_MAX)));
    }
  });

  it('refuses places that the trace does not have', () => {
    const index = indexed(1, 10);
    expect(() => blockAt(index, 3, 0, 0)).toThrow('allocation 3; the trace has 0 to 2');
    expect(() => blockAt(index, -1, 0, 0)).toThrow('allocation -1; the trace has 0 to 2');
    for (const block of [-1, 2, 0.5]) {
      expect(() => blockAt(index, 1, block, 0)).toThrow(`block ${block}; the allocation has 0 to 1`);
    }
    expect(() => blockAt(index, 0, 0, Number.NaN)).toThrow('time NaN');
    const none = new TraceIndex({ info: emptyTraceInfo('t', 'lines', '0'), columns: createTraceColumns() }, machines);
    expect(() => blockAt(none, 0, 0, 0)).toThrow('allocation 0; the trace has none');
  });
});

describe('a history of pages', () => {
  it('gives the same pages at any time of a long one, by pictures kept on the way', () => {
    const p = createPrng(14);
    const builder = new HistoryBuilder(['none', 'x', 'y'], Uint16Array.from([100, 512, 512]));
    const slow = new Uint8Array(512);
    const kept: { time: number; pages: number[] }[] = [];
    builder.begin(1);
    for (let time = 0; time < 3000; time++) {
      const first = prngBelow(p, 512);
      const pages = 1 + prngBelow(p, 512 - first);
      const code = prngBelow(p, 3);
      const ifNowhere = prngBelow(p, 3) === 0;
      builder.change(time, first, pages, code, ifNowhere);
      for (let page = first; page < first + pages; page++) if (!ifNowhere || slow[page] === 0) slow[page] = code;
      if (time % 100 === 50) kept.push({ time, pages: [...slow] });
    }
    builder.begin(2);
    builder.change(5, 0, 4, 1, false);
    const history = builder.finish();
    expect(history.keyframes.length).toBeGreaterThan(3);
    for (const { time, pages } of kept) {
      expect([...pagesAt(history, 1, time)]).toEqual(pages);
      const totals = totalsAt(history, time);
      expect([...totals.subarray(3, 6)]).toEqual([0, 1, 2].map((code) => pages.filter((one) => one === code).length));
      expect([...totals.subarray(0, 3)]).toEqual([100, 0, 0]);
    }
    expect([...totalsAt(history, 4).subarray(6)]).toEqual([512, 0, 0]);
    expect([...totalsAt(history, 5).subarray(6)]).toEqual([508, 4, 0]);
  });

  it('keeps what changes something alone', () => {
    const builder = new HistoryBuilder(['none', 'x'], Uint16Array.from([4]));
    builder.begin(0);
    builder.change(1, 0, 2, 1, false);
    builder.change(2, 0, 2, 1, false);
    builder.change(3, 1, 2, 1, true);
    builder.change(4, 3, 100, 1, false);
    const { start, time, first, pages } = builder.finish();
    expect([...start]).toEqual([0, 3]);
    expect([...time.subarray(0, 3)]).toEqual([1, 3, 4]);
    expect([...first.subarray(0, 3)]).toEqual([0, 2, 3]);
    expect(pages[1]).toBe(1);
  });
});
