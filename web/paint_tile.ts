/** Tiles as pictures: each is painted once onto a canvas of its own, and then only put in its place frame by frame. */
import type { Lane, Tile } from '../src/explorer/api.ts';
import { colourOf, FORM_PLACES, formOf, type Theme } from './colours.ts';
import type { Window } from './scale.ts';

export const LANE_HEIGHT = 22;
const PAD = 3;
const INNER = LANE_HEIGHT - 2 * PAD;
/** Narrowest mark, in pixels. */
const MARK = 1.5;
/** Lowest line of a lane whose marks still differ in height. */
const FORM_LINE = 6;

export interface Painted {
  theme: Theme;
  ratio: number;
  canvas: HTMLCanvasElement;
}

function deepestOf({ depth }: Tile): number {
  let deepest = 0;
  for (let i = 0; i < depth.length; i++) if (depth[i] > deepest) deepest = depth[i];
  return deepest;
}

function paintRows(
  c: CanvasRenderingContext2D,
  tile: Tile,
  colours: readonly string[],
  scale: number,
  worded: boolean,
): void {
  const { first, last, kind, depth } = tile;
  const deepest = deepestOf(tile);
  const line = INNER / (deepest + 1);
  const gap = deepest > 0 ? 0.5 : 0;
  // One colour at a time: changing the colour costs more than a bar.
  for (let k = 0; k < colours.length; k++) {
    c.fillStyle = colours[k];
    const [top, share] = FORM_PLACES[worded || line < FORM_LINE ? 'full' : formOf(tile.kinds[k])];
    const height = Math.max(1.5, line * share - gap);
    for (let i = 0; i < first.length; i++) {
      if (kind[i] !== k) continue;
      const x = (first[i] - tile.begin) * scale;
      const width = Math.max(MARK, (last[i] - first[i]) * scale);
      c.fillRect(x, PAD + (depth[i] + top) * line, width, height);
    }
  }
}

function paintDensity(c: CanvasRenderingContext2D, tile: Tile, colours: readonly string[], spans: boolean): void {
  const { count, covered, kind } = tile;
  let most = 1;
  for (let p = 0; p < count.length; p++) if (count[p] > most) most = count[p];
  const log = Math.log1p(most);
  let colour = -1;
  for (let p = 0; p < count.length; p++) {
    if (count[p] === 0 && covered[p] === 0) continue;
    const share = spans ? covered[p] / 255 : Math.log1p(count[p]) / log;
    const height = Math.max(2, share * INNER);
    if (kind[p] !== colour) {
      colour = kind[p];
      c.fillStyle = colours[colour] ?? colours[0];
    }
    c.fillRect(p, PAD + INNER - height, 1, height);
  }
}

/** Whether the spans of a lane are wide enough to be told apart by words in them, and not by their height. */
export function isWorded({ group, shape }: Lane): boolean {
  return shape === 'spans' && (group === 'steps' || group === 'copies' || group === 'thrashing');
}

/** Paints a tile of a lane that is `pixels` wide on the page; `ratio` is how many of the screen's each of them has. */
export function paintTile(tile: Tile, lane: Lane, pixels: number, theme: Theme, ratio: number): Painted {
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(pixels * ratio));
  canvas.height = Math.round(LANE_HEIGHT * ratio);
  const c = canvas.getContext('2d');
  const colours = tile.kinds.map((word) => colourOf(word, theme));
  if (c !== null && colours.length > 0) {
    c.scale(canvas.width / Math.max(1, pixels), canvas.height / LANE_HEIGHT);
    if (tile.detail === 'rows') paintRows(c, tile, colours, pixels / (tile.end - tile.begin), isWorded(lane));
    else paintDensity(c, tile, colours, lane.shape === 'spans');
  }
  return { theme, ratio, canvas };
}

/** What lies at a time of a lane: a row, or how many there are at that pixel. */
export type Hit = { row: number; first: number; last: number; kind: string } | { count: number; kind: string } | null;

/** The row under a pixel, or within `slack` nanoseconds of it; `line` is the height in the lane, 0 to 1. */
export function hitTile(tile: Tile, time: number, slack: number, line: number): Hit {
  if (tile.detail === 'density') {
    const p = Math.floor(((time - tile.begin) / (tile.end - tile.begin)) * tile.count.length);
    const count = tile.count[p] ?? 0;
    return count === 0 ? null : { count, kind: tile.kinds[tile.kind[p]] ?? '' };
  }
  const deepest = deepestOf(tile);
  const wanted = Math.min(deepest, Math.floor(line * (deepest + 1)));
  let best = -1;
  let distance = slack;
  for (let i = 0; i < tile.first.length; i++) {
    if (tile.depth[i] !== wanted) continue;
    const away = Math.max(0, tile.first[i] - time, time - tile.last[i]);
    if (away > distance || (away === distance && best >= 0)) continue;
    best = i;
    distance = away;
  }
  if (best < 0) return null;
  const { row, first, last, kind, kinds } = tile;
  return { row: row[best], first: first[best], last: last[best], kind: kinds[kind[best]] ?? '' };
}

/**
 * How many rows of a tile lie in a window; of a tile that only has counts, those that begin there, to a pixel. Null
 * where the tile does not cover the window.
 */
export function countInView(tile: Tile, window: Window): number | null {
  if (tile.begin > window.begin || tile.end < window.end) return null;
  let n = 0;
  if (tile.detail === 'rows') {
    for (let i = 0; i < tile.first.length; i++) {
      if (tile.first[i] <= window.end && tile.last[i] >= window.begin) n++;
    }
    return n;
  }
  const parts = tile.count.length;
  const part = (tile.end - tile.begin) / parts;
  const from = Math.max(0, Math.floor((window.begin - tile.begin) / part));
  const to = Math.min(parts, Math.ceil((window.end - tile.begin) / part));
  for (let p = from; p < to; p++) n += tile.count[p];
  return n;
}
