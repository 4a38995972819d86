/** A part of a lane for so many pixels: each row where they are few, else counts for each pixel. */
import type { Tile } from './api.ts';
import { addCover, COARSE_BINS, type Coarse, type LaneIndex, type Window, windowOf } from './lane_index.ts';

/** Rows that a tile hands over one by one, at most, for each pixel of its width. */
const ROWS_FOR_A_PIXEL = 2;
/** Widest tile. */
export const TILE_WIDTH_MAX = 16_384;

const NONE = { f: new Float64Array(0), u32: new Uint32Array(0), u8: new Uint8Array(0) };

function emptyTile(index: LaneIndex, begin: number, end: number): Tile {
  return {
    lane: index.lane.id,
    begin,
    end,
    detail: 'rows',
    first: NONE.f,
    last: NONE.f,
    row: NONE.u32,
    kind: NONE.u8,
    depth: NONE.u8,
    count: NONE.u32,
    covered: NONE.u8,
    kinds: index.kinds,
  };
}

/** Numbers for each pixel, before they become shares. */
interface Density {
  count: Uint32Array;
  covered: Float64Array;
  /** Rows by pixel and kind. */
  byKind: Uint32Array;
}

function countRow(d: Density, index: LaneIndex, i: number, begin: number, scale: number): void {
  const { first, last, kind, kinds } = index;
  const bin = Math.floor((first[i] - begin) * scale);
  if (bin >= 0 && bin < d.count.length) {
    d.count[bin]++;
    d.byKind[bin * kinds.length + kind[i]]++;
  }
  addCover(d.covered, begin, scale, first[i], last[i]);
}

function countCoarse(d: Density, coarse: Coarse, kinds: number, begin: number, end: number, scale: number): void {
  const part = (coarse.end - coarse.begin) / COARSE_BINS;
  const width = d.count.length;
  const from = Math.max(0, Math.floor((begin - coarse.begin) / part));
  const to = Math.min(COARSE_BINS - 1, Math.floor((end - coarse.begin) / part));
  for (let bin = from; bin <= to; bin++) {
    if (coarse.count[bin] === 0 && coarse.covered[bin] === 0) continue;
    const pixel = Math.floor((coarse.begin + (bin + 0.5) * part - begin) * scale);
    if (pixel < 0 || pixel >= width) continue;
    d.count[pixel] += coarse.count[bin];
    d.covered[pixel] += coarse.covered[bin];
    d.byKind[pixel * kinds + coarse.kind[bin]] += coarse.count[bin];
  }
}

function density(index: LaneIndex, window: Window, begin: number, end: number, width: number): Tile {
  const kinds = Math.max(1, index.kinds.length);
  const scale = width / (end - begin);
  const d: Density = {
    count: new Uint32Array(width),
    covered: new Float64Array(width),
    byKind: new Uint32Array(width * kinds),
  };
  const { coarse } = index;
  // Four parts for each pixel are near enough; below that the rows themselves are few.
  const fine = coarse === null || ((end - begin) / (coarse.end - coarse.begin)) * COARSE_BINS < 4 * width;
  if (fine) {
    for (const i of window.before) countRow(d, index, i, begin, scale);
    for (let i = window.low; i < window.high; i++) countRow(d, index, i, begin, scale);
  } else countCoarse(d, coarse, kinds, begin, end, scale);
  const covered = new Uint8Array(width);
  const kind = new Uint8Array(width);
  for (let p = 0; p < width; p++) {
    const share = Math.min(1, d.covered[p] * scale);
    covered[p] = share > 0 ? Math.max(1, Math.round(share * 255)) : 0;
    let best = 0;
    for (let k = 1; k < kinds; k++) if (d.byKind[p * kinds + k] > d.byKind[p * kinds + best]) best = k;
    kind[p] = best;
  }
  return { ...emptyTile(index, begin, end), detail: 'density', kind, count: d.count, covered };
}

/**
 * The part of a lane from `begin` to `end` for `width` pixels. Rows that only touch the window are there with their own
 * begin and end. Throws RangeError for a window or a width that make no sense.
 */
export function tileOf(index: LaneIndex, begin: number, end: number, width: number): Tile {
  if (!(Number.isFinite(begin) && Number.isFinite(end) && end > begin)) {
    throw new RangeError(`a window from ${begin} to ${end}; expected an end behind the begin`);
  }
  if (!Number.isSafeInteger(width) || width < 1 || width > TILE_WIDTH_MAX) {
    throw new RangeError(`width ${width}; expected 1 to ${TILE_WIDTH_MAX} pixels`);
  }
  const window = windowOf(index, begin, end);
  const { before, low, high } = window;
  const n = before.length + high - low;
  if (n > width * ROWS_FOR_A_PIXEL) return density(index, window, begin, end, width);
  const tile: Tile = {
    ...emptyTile(index, begin, end),
    first: new Float64Array(n),
    last: new Float64Array(n),
    row: new Uint32Array(n),
    kind: new Uint8Array(n),
    depth: new Uint8Array(n),
  };
  for (let at = 0; at < n; at++) {
    const i = at < before.length ? before[at] : low + at - before.length;
    tile.first[at] = index.first[i];
    tile.last[at] = index.last[i];
    tile.row[at] = index.row[i];
    tile.kind[at] = index.kind[i];
    tile.depth[at] = index.depth[i] ?? 0;
  }
  return tile;
}
