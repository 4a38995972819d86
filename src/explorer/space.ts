/** The address space at one time: where the pages of each block are, and what happens to them around it. */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../base/units.ts';
import type { BlockDetail, Space } from './api.ts';
import { pagesAt, totalsAt } from './page_history.ts';
import { COUNTED, FAULT, MIGRATION } from './places.ts';
import { rowText } from './row_detail.ts';
import { type BlockCounts, checkSpread } from './row_places.ts';
import { lowerBound, upperBound } from './sort_rows.ts';
import type { TraceIndex } from './trace_index.ts';

/** Lines of a block's history that are handed over. */
export const HISTORY_MAX = 400;

/** Rows of lanes in a window that are looked at one by one, at most. */
const SCANNED_MAX = 100_000;

interface LanePart {
  row: Uint32Array;
  low: number;
  high: number;
}

/** The parts of lanes that begin in the window and count on a map. */
function partsWithin(index: TraceIndex, begin: number, end: number): { parts: LanePart[]; sum: number } {
  const parts: LanePart[] = [];
  let sum = 0;
  for (const { lane, first, row } of index.lanes) {
    if (!lane.kinds.some((kind) => COUNTED.has(kind))) continue;
    const part = { row, low: lowerBound(first, begin), high: upperBound(first, end) };
    sum += part.high - part.low;
    parts.push(part);
  }
  return { parts, sum };
}

/** Whether spaceAt goes by blockRows(), which may be worked out before. */
export function needsBlockRows(index: TraceIndex, time: number, span: number): boolean {
  return partsWithin(index, time - span / 2, time + span / 2).sum > SCANNED_MAX;
}

/** Adds what rows that begin in the window did, lane by lane; false, with nothing added, where they are too many. */
function countByLanes(index: TraceIndex, begin: number, end: number, most: number, into: BlockCounts): boolean {
  const { parts, sum } = partsWithin(index, begin, end);
  if (sum > most) return false;
  const rowPlaces = index.rowPlaces();
  let taken = 0;
  for (const { row, low, high } of parts) {
    for (let i = low; i < high; i++) {
      const from = rowPlaces.firstBlock(row[i]);
      if (from < 0) continue;
      const to = rowPlaces.lastBlock(row[i], from);
      taken += to - from + 1;
      checkSpread(taken, sum);
      for (let block = from; block <= to; block++) rowPlaces.count(row[i], block, into);
    }
  }
  return true;
}

/** Rows count that begin within half of `span` around `time`; up to `most` of them are looked at one by one. */
export function spaceAt(index: TraceIndex, time: number, span: number, most = SCANNED_MAX): Space {
  if (!Number.isFinite(time) || !(span >= 0)) {
    throw new RangeError(`time ${time}, window ${span}; expected a time, and a window that is not negative`);
  }
  const { places } = index;
  const { history, known } = index.residency();
  const counts = {
    faults: new Uint32Array(places.blocks),
    moved: new Float64Array(places.blocks),
    thrashing: new Uint32Array(places.blocks),
  };
  const begin = time - span / 2;
  const end = time + span / 2;
  if (!countByLanes(index, begin, end, most, counts)) {
    const rows = index.blockRows();
    for (let b = 0; b < places.blocks; b++) rows.addWithin(b, begin, end, counts);
  }
  return { time, known, pages: totalsAt(history, time), residents: [...history.residents], ...counts };
}

interface Counts {
  faults: Uint32Array;
  migrations: Uint32Array;
}

/** Faults and migrations of each page of a block that began by `time`. `firstPage` is the block's in its allocation. */
function countsUpTo(index: TraceIndex, block: number, firstPage: number, time: number): Counts {
  const { arrays: a } = index.trace.columns;
  const rows = index.blockRows();
  const rowPlaces = index.rowPlaces();
  const faults = new Uint32Array(PAGES_PER_BLOCK);
  // Steps up and down at the pages where migrations begin and end: their sums are the counts.
  const steps = new Int32Array(PAGES_PER_BLOCK + 1);
  const end = rows.find(block, time, true);
  for (let at = rows.start[block]; at < end; at++) {
    const row = rows.rows[at];
    const form = rowPlaces.form(row);
    if (form !== FAULT && form !== MIGRATION) continue;
    const page = Math.floor(a.offset[row] / PAGE_SIZE) - firstPage;
    if (form === FAULT) {
      faults[page]++;
      continue;
    }
    steps[Math.max(0, page)]++;
    steps[Math.min(PAGES_PER_BLOCK, page + Math.max(1, Math.ceil(a.bytes[row] / PAGE_SIZE)))]--;
  }
  const migrations = new Uint32Array(PAGES_PER_BLOCK);
  let sum = 0;
  for (let page = 0; page < PAGES_PER_BLOCK; page++) {
    sum += steps[page];
    migrations[page] = sum;
  }
  return { faults, migrations };
}

/** Rows of the block by time, around `time` where they are many. */
function historyOf(index: TraceIndex, block: number, time: number): Pick<BlockDetail, 'history' | 'historyCount'> {
  const rows = index.blockRows();
  const begin = rows.start[block];
  const end = rows.start[block + 1];
  const middle = rows.find(block, time, true);
  const from = Math.max(begin, Math.min(middle - HISTORY_MAX / 2, end - HISTORY_MAX));
  const history: BlockDetail['history'] = [];
  for (let at = from; at < Math.min(end, from + HISTORY_MAX); at++) {
    history.push({ row: rows.rows[at], time: rows.timeAt(at), text: rowText(index, rows.rows[at]) });
  }
  return { history, historyCount: end - begin };
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
  const rows = index.blockRows();
  for (let at = rows.find(block, time, true) - 1; at >= rows.start[block]; at--) {
    if (index.rowPlaces().form(rows.rows[at]) === FAULT) return index.faultOf(rows.rows[at]);
  }
  return null;
}

/** A block at one time, without its prefetch tree. `block` counts within the allocation. */
export function blockAt(index: TraceIndex, allocation: number, block: number, time: number): BlockDetail {
  const place = index.places.list[allocation];
  if (place === undefined) {
    const valid = index.places.list.length === 0 ? 'none' : `0 to ${index.places.list.length - 1}`;
    throw new RangeError(`allocation ${allocation}; the trace has ${valid}`);
  }
  if (!Number.isSafeInteger(block) || block < 0 || block >= place.blocks) {
    throw new RangeError(`block ${block}; the allocation has 0 to ${place.blocks - 1}`);
  }
  if (!Number.isFinite(time)) throw new RangeError(`time ${time}; expected a number of nanoseconds`);
  const global = place.firstBlock + block;
  const { history, known } = index.residency();
  const firstPage = block * PAGES_PER_BLOCK;
  return {
    allocation,
    block,
    time,
    known,
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
