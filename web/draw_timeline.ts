/** One frame of a timeline: grid, lanes from their tiles, what is selected, the cursor. */
import type { Lane, Tile } from '../src/explorer/api.ts';
import { colourOf, inkOn, type Theme } from './colours.ts';
import { isWorded, LANE_HEIGHT, type Painted, paintTile } from './paint_tile.ts';
import { pixelOf, ticksOf, timeLabel, type Window } from './scale.ts';
import type { TileCache } from './tile_cache.ts';

export const AXIS_HEIGHT = 24;
/** Screens with more pixels than this for one of the page get no sharper tiles. */
const RATIO_MAX = 2;
/** Spans with less room than this hold no word, px. */
const WORD_ROOM = 16;

/** What is selected: when it is, and its lane. */
export type Selected = Window & { lane: string | null };

export interface Frame {
  canvas: HTMLCanvasElement;
  window: Window;
  width: number;
  lanes: readonly Lane[];
  cache: TileCache;
  painted: WeakMap<Tile, Painted>;
  theme: Theme;
  /** The time that the axis calls zero. */
  origin: number;
  cursor: number | null;
  selected: Selected | null;
  lane: string | null;
}

export function laneTop(index: number): number {
  return AXIS_HEIGHT + index * LANE_HEIGHT;
}

function themed(canvas: HTMLCanvasElement) {
  const style = getComputedStyle(canvas);
  const read = (name: string): string => style.getPropertyValue(name).trim();
  return {
    line: read('--line'),
    text: read('--muted'),
    accent: read('--accent'),
    soft: read('--soft'),
    panel: read('--panel'),
  };
}
type Colours = ReturnType<typeof themed>;

function drawGrid(c: CanvasRenderingContext2D, f: Frame, colours: Colours, height: number): void {
  c.strokeStyle = colours.line;
  c.fillStyle = colours.text;
  const shifted = { begin: f.window.begin - f.origin, end: f.window.end - f.origin };
  for (const { time, label } of ticksOf(shifted, f.width)) {
    const x = Math.round(pixelOf(shifted, f.width, time)) + 0.5;
    c.beginPath();
    c.moveTo(x, AXIS_HEIGHT - 4);
    c.lineTo(x, height);
    c.stroke();
    if (x + 3 + c.measureText(label).width <= f.width) c.fillText(label, x + 3, AXIS_HEIGHT / 2);
  }
  for (let i = 1; i < f.lanes.length; i++) {
    if (f.lanes[i].group === f.lanes[i - 1].group) continue;
    c.beginPath();
    c.moveTo(0, laneTop(i) - 0.5);
    c.lineTo(f.width, laneTop(i) - 0.5);
    c.stroke();
  }
}

/** The tile where it belongs, painted now if it was not. */
function putTile(c: CanvasRenderingContext2D, f: Frame, index: number, tile: Tile, ratio: number): void {
  let its = f.painted.get(tile);
  if (its === undefined || its.theme !== f.theme || its.ratio !== ratio) {
    const pixels = tile.detail === 'density' ? tile.count.length : Math.round(f.width * 2.5);
    its = paintTile(tile, f.lanes[index], pixels, f.theme, ratio);
    f.painted.set(tile, its);
  }
  const x = pixelOf(f.window, f.width, tile.begin);
  const wide = pixelOf(f.window, f.width, tile.end) - x;
  c.drawImage(its.canvas, x, laneTop(index), wide, LANE_HEIGHT);
}

/** The kinds of spans that are wide enough, in them. */
function drawWords(c: CanvasRenderingContext2D, f: Frame, index: number, tile: Tile): void {
  const y = laneTop(index) + LANE_HEIGHT / 2 + 0.5;
  for (let i = 0; i < tile.first.length; i++) {
    const x = Math.max(0, pixelOf(f.window, f.width, tile.first[i]));
    const room = Math.min(f.width, pixelOf(f.window, f.width, tile.last[i])) - x - 8;
    if (room < WORD_ROOM) continue;
    const word = tile.kinds[tile.kind[i]] ?? '';
    if (c.measureText(word).width > room) continue;
    c.fillStyle = inkOn(colourOf(word, f.theme));
    c.fillText(word, x + 4, y);
  }
}

function drawLane(c: CanvasRenderingContext2D, f: Frame, index: number, ratio: number): void {
  const { id } = f.lanes[index];
  const tile = f.cache.get(id, f.window, f.width);
  if (tile === null) return;
  const under = f.cache.under(id);
  if (under !== null && (tile.begin > f.window.begin || tile.end < f.window.end)) {
    // Where the tile does not reach, what is known more coarsely stands until a better one comes.
    const from = pixelOf(f.window, f.width, tile.begin);
    const to = pixelOf(f.window, f.width, tile.end);
    c.save();
    c.beginPath();
    if (from > 0) c.rect(0, laneTop(index), from, LANE_HEIGHT);
    if (to < f.width) c.rect(to, laneTop(index), f.width - to, LANE_HEIGHT);
    c.clip();
    putTile(c, f, index, under, ratio);
    c.restore();
  }
  putTile(c, f, index, tile, ratio);
  if (tile.detail === 'rows' && isWorded(f.lanes[index])) drawWords(c, f, index, tile);
}

function drawSelected(c: CanvasRenderingContext2D, f: Frame, selected: Selected): void {
  const index = f.lanes.findIndex(({ id }) => id === (selected.lane ?? f.lane));
  if (index < 0) return;
  const x = pixelOf(f.window, f.width, selected.begin);
  const wide = Math.max(4, pixelOf(f.window, f.width, selected.end) - x);
  c.lineWidth = 2;
  c.strokeRect(x - 2, laneTop(index) + 1, wide + 4, LANE_HEIGHT - 2);
  c.lineWidth = 1;
}

function drawCursor(c: CanvasRenderingContext2D, f: Frame, time: number, colours: Colours, height: number): void {
  const x = Math.round(pixelOf(f.window, f.width, time)) + 0.5;
  if (x < 0 || x > f.width) return;
  c.setLineDash([4, 3]);
  c.beginPath();
  c.moveTo(x, 0);
  c.lineTo(x, height);
  c.stroke();
  c.setLineDash([]);
  const label = timeLabel(time - f.origin, (f.window.end - f.window.begin) / 1000);
  const wide = c.measureText(label).width + 8;
  const left = x + wide > f.width ? x - wide : x;
  c.fillStyle = colours.accent;
  c.fillRect(left, 4, wide, AXIS_HEIGHT - 8);
  c.fillStyle = colours.panel;
  c.fillText(label, left + 4, AXIS_HEIGHT / 2);
}

export function drawFrame(f: Frame): void {
  const { canvas, width, lanes } = f;
  const c = canvas.getContext('2d');
  if (c === null) return;
  const ratio = globalThis.devicePixelRatio || 1;
  const height = laneTop(lanes.length);
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const colours = themed(canvas);
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  c.font = '11px system-ui, sans-serif';
  c.textBaseline = 'middle';
  c.imageSmoothingEnabled = false;
  const chosen = lanes.findIndex(({ id }) => id === f.lane);
  if (chosen >= 0) {
    c.fillStyle = colours.soft;
    c.fillRect(0, laneTop(chosen), width, LANE_HEIGHT);
  }
  drawGrid(c, f, colours, height);
  for (let i = 0; i < lanes.length; i++) drawLane(c, f, i, Math.min(ratio, RATIO_MAX));
  c.strokeStyle = colours.accent;
  if (f.selected !== null) drawSelected(c, f, f.selected);
  if (f.cursor !== null) drawCursor(c, f, f.cursor, colours, height);
}
