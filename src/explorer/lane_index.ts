/**
 * One lane of the timeline as sorted arrays: what a picture of any part of it is made from.
 *
 * A lane with very many rows has counts for equal parts of its time besides, so that a picture of all of it does not
 * look at each row.
 */
import type { Lane } from './api.ts';
import { lowerBound, sortedOrder, upperBound } from './sort_rows.ts';

/** A row number that stands for no row of the trace: steps and copies have none. */
export const NO_ROW = 0xffffffff;
/** Lines on which overlapping spans of a lane are spread. */
const DEPTHS = 6;
/** From this many rows on a lane has counts for parts of its time. */
export const COARSE_FROM = 200_000;
export const COARSE_BINS = 1 << 16;

/** Counts for COARSE_BINS equal parts of the time between `begin` and `end`. */
export interface Coarse {
  begin: number;
  end: number;
  count: Uint32Array;
  /** Nanoseconds that spans cover; they may overlap. */
  covered: Float64Array;
  /** The most frequent kind. */
  kind: Uint8Array;
}

export interface LaneIndex {
  lane: Lane;
  /** Words that `kind` counts. */
  kinds: string[];
  /** Ascending. */
  first: Float64Array;
  last: Float64Array;
  row: Uint32Array;
  kind: Uint8Array;
  depth: Uint8Array;
  /** Largest `last` up to a position: what begins before a window and reaches into it is found by it. */
  reach: Float64Array;
  coarse: Coarse | null;
}

/** Rows of a lane that is being made. */
export interface LaneRows {
  count: number;
  first: Float64Array;
  last: Float64Array;
  row: Uint32Array;
  kind: Uint8Array;
}

export function createLaneRows(capacity: number): LaneRows {
  return {
    count: 0,
    first: new Float64Array(capacity),
    last: new Float64Array(capacity),
    row: new Uint32Array(capacity),
    kind: new Uint8Array(capacity),
  };
}

export function addLaneRow(rows: LaneRows, first: number, last: number, row: number, kind: number): void {
  const at = rows.count++;
  rows.first[at] = first;
  rows.last[at] = last < first ? first : last;
  rows.row[at] = row;
  rows.kind[at] = kind;
}

function gather<A extends Float64Array | Uint32Array | Uint8Array>(values: A, order: Uint32Array, into: A): A {
  for (let i = 0; i < order.length; i++) into[i] = values[order[i]];
  return into;
}

/** Puts spans that overlap on lines of their own, the lowest that is free; those beyond DEPTHS share the last one. */
function depthsOf(first: Float64Array, last: Float64Array): Uint8Array {
  const depth = new Uint8Array(first.length);
  const free = new Float64Array(DEPTHS).fill(Number.NEGATIVE_INFINITY);
  for (let i = 0; i < first.length; i++) {
    let line = 0;
    while (line < DEPTHS - 1 && free[line] > first[i]) line++;
    depth[i] = line;
    if (last[i] > free[line]) free[line] = last[i];
  }
  return depth;
}

function coarseOf(index: Omit<LaneIndex, 'coarse' | 'lane'>): Coarse {
  const { first, last, kind, kinds, reach } = index;
  const n = first.length;
  const begin = first[0];
  const end = Math.max(reach[n - 1], begin + 1);
  const scale = COARSE_BINS / (end - begin);
  const count = new Uint32Array(COARSE_BINS);
  const covered = new Float64Array(COARSE_BINS);
  const byKind = new Uint32Array(COARSE_BINS * kinds.length);
  for (let i = 0; i < n; i++) {
    const bin = Math.min(COARSE_BINS - 1, Math.floor((first[i] - begin) * scale));
    count[bin]++;
    byKind[bin * kinds.length + kind[i]]++;
    addCover(covered, begin, scale, first[i], last[i]);
  }
  const most = new Uint8Array(COARSE_BINS);
  for (let bin = 0; bin < COARSE_BINS; bin++) {
    let best = 0;
    for (let k = 1; k < kinds.length; k++) {
      if (byKind[bin * kinds.length + k] > byKind[bin * kinds.length + best]) best = k;
    }
    most[bin] = best;
  }
  return { begin, end, count, covered, kind: most };
}

/** Adds the nanoseconds of a span to each of the equal parts that it touches; `scale` is parts for each nanosecond. */
export function addCover(covered: Float64Array, begin: number, scale: number, first: number, last: number): void {
  if (last <= first) return;
  const from = Math.max(0, Math.floor((first - begin) * scale));
  const to = Math.min(covered.length - 1, Math.floor((last - begin) * scale));
  for (let bin = from; bin <= to; bin++) {
    const left = Math.max(first, begin + bin / scale);
    const right = Math.min(last, begin + (bin + 1) / scale);
    if (right > left) covered[bin] += right - left;
  }
}

/** The index of a lane from its rows in any order. The rows' arrays may have room to spare. */
export function laneIndex(lane: Omit<Lane, 'rows'>, kinds: string[], rows: LaneRows): LaneIndex {
  const n = rows.count;
  let first = rows.first.subarray(0, n);
  let last = rows.last.subarray(0, n);
  let row = rows.row.subarray(0, n);
  let kind = rows.kind.subarray(0, n);
  const order = sortedOrder(first);
  if (order !== null) {
    first = gather(first, order, new Float64Array(n));
    last = gather(last, order, new Float64Array(n));
    row = gather(row, order, new Uint32Array(n));
    kind = gather(kind, order, new Uint8Array(n));
  }
  const reach = new Float64Array(n);
  let furthest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < n; i++) {
    if (last[i] > furthest) furthest = last[i];
    reach[i] = furthest;
  }
  const depth = lane.shape === 'spans' ? depthsOf(first, last) : new Uint8Array(n);
  const index = { kinds, first, last, row, kind, depth, reach };
  return { lane: { ...lane, rows: n }, ...index, coarse: n >= COARSE_FROM ? coarseOf(index) : null };
}

/** Positions whose spans may touch the window: those from `low` to before `high`. */
export function window(index: LaneIndex, begin: number, end: number): { low: number; high: number } {
  return { low: lowerBound(index.reach, begin), high: upperBound(index.first, end) };
}
