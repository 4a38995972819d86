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
/** Rows of a group, and groups of a larger one, whose latest end is kept. */
const GROUP = 64;

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
  /** The same array as `first` in a lane of points. */
  last: Float64Array;
  row: Uint32Array;
  kind: Uint8Array;
  /** Empty in a lane of points: all lie on line 0. */
  depth: Uint8Array;
  /** The end of the last one to end. */
  until: number;
  /** Largest `last` of each GROUP rows, and of each GROUP of those; empty in a lane of points. */
  ends: Float64Array;
  endsOfEnds: Float64Array;
  coarse: Coarse | null;
}

/** Rows of a lane that is being made; `last` is empty in a lane of points. */
export interface LaneRows {
  count: number;
  first: Float64Array;
  last: Float64Array;
  row: Uint32Array;
  kind: Uint8Array;
}

export function createLaneRows(capacity: number, shape: Lane['shape']): LaneRows {
  return {
    count: 0,
    first: new Float64Array(capacity),
    last: new Float64Array(shape === 'spans' ? capacity : 0),
    row: new Uint32Array(capacity),
    kind: new Uint8Array(capacity),
  };
}

export function addLaneRow(rows: LaneRows, first: number, last: number, row: number, kind: number): void {
  const at = rows.count++;
  rows.first[at] = first;
  if (at < rows.last.length) rows.last[at] = last < first ? first : last;
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
  const { first, last, kind, kinds } = index;
  const n = first.length;
  const begin = first[0];
  const end = Math.max(index.until, begin + 1);
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

function largestOfGroups(values: Float64Array): Float64Array {
  const out = new Float64Array(Math.ceil(values.length / GROUP)).fill(Number.NEGATIVE_INFINITY);
  for (let i = 0; i < values.length; i++) {
    const group = Math.floor(i / GROUP);
    if (values[i] > out[group]) out[group] = values[i];
  }
  return out;
}

const NONE = new Float64Array(0);

/** The index of a lane from its rows in any order. The rows' arrays may have room to spare. */
export function laneIndex(lane: Omit<Lane, 'rows'>, kinds: string[], rows: LaneRows): LaneIndex {
  const n = rows.count;
  const spans = lane.shape === 'spans';
  let first = rows.first.subarray(0, n);
  let last = spans ? rows.last.subarray(0, n) : first;
  let row = rows.row.subarray(0, n);
  let kind = rows.kind.subarray(0, n);
  const order = sortedOrder(first);
  if (order !== null) {
    first = gather(first, order, new Float64Array(n));
    last = spans ? gather(last, order, new Float64Array(n)) : first;
    row = gather(row, order, new Uint32Array(n));
    kind = gather(kind, order, new Uint8Array(n));
  }
  const ends = spans ? largestOfGroups(last) : NONE;
  const endsOfEnds = spans ? largestOfGroups(ends) : NONE;
  const until = spans
    ? endsOfEnds.reduce((most, end) => Math.max(most, end), Number.NEGATIVE_INFINITY)
    : (first[n - 1] ?? Number.NEGATIVE_INFINITY);
  const depth = spans ? depthsOf(first, last) : new Uint8Array(0);
  const index = { kinds, first, last, row, kind, depth, until, ends, endsOfEnds };
  return { lane: { ...lane, rows: n }, ...index, coarse: n >= COARSE_FROM ? coarseOf(index) : null };
}

/** What lies in a window of time, its edges included. */
export interface Window {
  /** Positions of spans that begin before it and reach into it. */
  before: number[];
  /** Those that begin in it: from `low` to before `high`. */
  low: number;
  high: number;
}

export function windowOf(index: LaneIndex, begin: number, end: number): Window {
  const low = lowerBound(index.first, begin);
  const before: number[] = [];
  const { ends, endsOfEnds, last } = index;
  for (let large = 0; large < endsOfEnds.length && large * GROUP * GROUP < low; large++) {
    if (endsOfEnds[large] < begin) continue;
    const outer = Math.min(ends.length, (large + 1) * GROUP);
    for (let group = large * GROUP; group < outer && group * GROUP < low; group++) {
      if (ends[group] < begin) continue;
      const stop = Math.min(low, (group + 1) * GROUP);
      for (let i = group * GROUP; i < stop; i++) if (last[i] >= begin) before.push(i);
    }
  }
  return { before, low, high: upperBound(index.first, end) };
}
