/** Tiles as pictures: each is painted once onto a canvas of its own, and then only put in its place frame by frame. */
import type { Tile } from '../src/explorer/api.ts';
import { colourOf, type Theme } from './colours.ts';

export const LANE_HEIGHT = 22;
const PAD = 3;
const INNER = LANE_HEIGHT - 2 * PAD;
/** Narrowest mark, in pixels. */
const MARK = 1.5;

export interface Painted {
  tile: Tile;
  theme: Theme;
  canvas: HTMLCanvasElement;
}

function paintRows(c: CanvasRenderingContext2D, tile: Tile, colours: readonly string[], scale: number): void {
  const { first, last, kind, depth } = tile;
  let deepest = 0;
  for (let i = 0; i < depth.length; i++) if (depth[i] > deepest) deepest = depth[i];
  const line = INNER / (deepest + 1);
  // One colour at a time: changing the colour costs more than a bar.
  for (let k = 0; k < colours.length; k++) {
    c.fillStyle = colours[k];
    for (let i = 0; i < first.length; i++) {
      if (kind[i] !== k) continue;
      const x = (first[i] - tile.begin) * scale;
      const width = Math.max(MARK, (last[i] - first[i]) * scale);
      c.fillRect(x, PAD + depth[i] * line, width, Math.max(1.5, line - (deepest > 0 ? 0.5 : 0)));
    }
  }
}

function paintDensity(c: CanvasRenderingContext2D, tile: Tile, colours: readonly string[], spans: boolean): void {
  const { count, covered, kind } = tile;
  let most = 1;
  for (let p = 0; p < count.length; p++) if (count[p] > most) most = count[p];
  const log = Math.log1p(most);
  for (let p = 0; p < count.length; p++) {
    if (count[p] === 0 && covered[p] === 0) continue;
    const share = spans ? covered[p] / 255 : Math.log1p(count[p]) / log;
    const height = Math.max(2, share * INNER);
    c.fillStyle = colours[kind[p]] ?? colours[0];
    c.fillRect(p, PAD + INNER - height, 1, height);
  }
}

/** Paints a tile of a lane; `pixels` is its width. */
export function paintTile(tile: Tile, pixels: number, spans: boolean, theme: Theme): Painted {
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, pixels);
  canvas.height = LANE_HEIGHT;
  const c = canvas.getContext('2d');
  const colours = tile.kinds.map((word) => colourOf(word, theme));
  if (c !== null && colours.length > 0) {
    if (tile.detail === 'rows') paintRows(c, tile, colours, pixels / (tile.end - tile.begin));
    else paintDensity(c, tile, colours, spans);
  }
  return { tile, theme, canvas };
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
  let deepest = 0;
  for (let i = 0; i < tile.depth.length; i++) if (tile.depth[i] > deepest) deepest = tile.depth[i];
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
