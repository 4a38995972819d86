/** The address space at one time: where the pages of each block are, and what happens to them around it. */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../base/units.ts';
import type { BlockDetail, Space } from './api.ts';
import { window } from './lane_index.ts';
import { pagesAt, totalsAt } from './page_history.ts';
import { blockOf } from './places.ts';
import { rowText } from './row_detail.ts';
import { rowBegin, timeAxis } from './row_times.ts';
import type { TraceIndex } from './trace_index.ts';

/** Lines of a block's history that are handed over. */
export const HISTORY_MAX = 400;

export function spaceAt(index: TraceIndex, time: number, span: number): Space {
  if (!Number.isFinite(time) || !(span >= 0)) {
    throw new RangeError(`time ${time}, window ${span}; expected a time, and a window that is not negative`);
  }
  const { trace, places } = index;
  const history = index.residency();
  const faults = new Uint32Array(places.blocks);
  const moved = new Float64Array(places.blocks);
  const thrashing = new Uint32Array(places.blocks);
  for (const lane of index.lanes) {
    const { group, id } = lane.lane;
    const into = group === 'cpu' || group === 'gpu' ? faults : id === 'thrashing' ? thrashing : null;
    const moves = lane.lane.kinds.includes('migration');
    if (into === null && !moves) continue;
    const { low, high } = window(lane, time - span / 2, time + span / 2);
    for (let i = low; i < high; i++) {
      const block = blockOf(places, trace, lane.row[i]);
      if (block < 0) continue;
      if (moves) moved[block] += trace.columns.arrays.bytes[lane.row[i]];
      else if (into !== null) into[block]++;
    }
  }
  return { time, pages: totalsAt(history, time), residents: [...history.residents], faults, moved, thrashing };
}

interface Counts {
  faults: Uint32Array;
  migrations: Uint32Array;
}

/** Faults and migrations of each page of a block up to a time. */
function countsUpTo(index: TraceIndex, block: number, firstPage: number, time: number): Counts {
  const { trace } = index;
  const { arrays: a, words } = trace.columns;
  const counts = { faults: new Uint32Array(PAGES_PER_BLOCK), migrations: new Uint32Array(PAGES_PER_BLOCK) };
  const migration = words.kind.numbers.get('migration') ?? -1;
  const axis = timeAxis(trace);
  const { start, rows } = index.blockRows();
  for (let at = start[block]; at < start[block + 1]; at++) {
    const row = rows[at];
    if (rowBegin(trace, row, axis) > time) continue;
    const page = Math.floor(a.offset[row] / PAGE_SIZE) - firstPage;
    if (a.kind[row] === migration) {
      const outer = Math.min(PAGES_PER_BLOCK, page + Math.ceil(a.bytes[row] / PAGE_SIZE));
      for (let p = page; p < outer; p++) counts.migrations[p]++;
    } else if (index.faultOf(row) !== null) counts.faults[page]++;
  }
  return counts;
}

/** Rows of the block by time, around `time` where they are many. */
function historyOf(index: TraceIndex, block: number, time: number): Pick<BlockDetail, 'history' | 'historyCount'> {
  const { trace } = index;
  const axis = timeAxis(trace);
  const { start, rows } = index.blockRows();
  const its = Array.from(rows.subarray(start[block], start[block + 1]), (row) => ({
    row,
    time: rowBegin(trace, row, axis),
  })).sort((x, y) => x.time - y.time || x.row - y.row);
  const here = its.findIndex((entry) => entry.time > time);
  const middle = here < 0 ? its.length : here;
  const from = Math.max(0, Math.min(middle - HISTORY_MAX / 2, its.length - HISTORY_MAX));
  const history = its.slice(from, from + HISTORY_MAX).map((entry) => ({ ...entry, text: rowText(index, entry.row) }));
  return { history, historyCount: its.length };
}

/** Bits of processors that map each page; null where only events are known. */
function mappedAt(index: TraceIndex, block: number, time: number): Uint16Array | null {
  const exact = index.exact();
  if (exact === null) return null;
  const mapped = new Uint16Array(PAGES_PER_BLOCK);
  for (const [processor, history] of exact.mappings.entries()) {
    const pages = pagesAt(history, block, time);
    for (let p = 0; p < PAGES_PER_BLOCK; p++) if (pages[p] === 1) mapped[p] |= 1 << processor;
  }
  return mapped;
}

/** The last fault of the block that began by `time`, as a number; null where there is none. */
export function lastFaultBefore(index: TraceIndex, block: number, time: number): number | null {
  const { trace } = index;
  const axis = timeAxis(trace);
  const { start, rows } = index.blockRows();
  let best: number | null = null;
  let latest = Number.NEGATIVE_INFINITY;
  for (let at = start[block]; at < start[block + 1]; at++) {
    const begin = rowBegin(trace, rows[at], axis);
    if (begin > time || begin < latest) continue;
    const fault = index.faultOf(rows[at]);
    if (fault === null) continue;
    best = fault;
    latest = begin;
  }
  return best;
}

/** A block at one time, without its prefetch tree. `block` counts within the allocation. */
export function blockAt(index: TraceIndex, allocation: number, block: number, time: number): BlockDetail {
  const place = index.places.list[allocation];
  if (place === undefined) {
    throw new RangeError(`allocation ${allocation}; the trace has 0 to ${index.places.list.length - 1}`);
  }
  if (!Number.isSafeInteger(block) || block < 0 || block >= place.blocks) {
    throw new RangeError(`block ${block}; the allocation has 0 to ${place.blocks - 1}`);
  }
  const global = place.firstBlock + block;
  const history = index.residency();
  const firstPage = block * PAGES_PER_BLOCK;
  return {
    allocation,
    block,
    time,
    firstPage,
    pageCount: index.places.blockPages[global],
    residency: pagesAt(history, global, time),
    residents: [...history.residents],
    mapped: mappedAt(index, global, time),
    ...countsUpTo(index, global, firstPage, time),
    ...historyOf(index, global, time),
    tree: null,
  };
}
