/** How the blocks of an allocation are laid out, and painted: as many as there are, in a shape that fits a panel. */
import type { Space } from '../src/explorer/api.ts';
import { colourOf, inkOn, letterOf, type Theme } from './colours.ts';
import { countText } from './scale.ts';

/** What the colours of a map say. */
export const SPACE_OVERLAYS = ['residency', 'faults', 'moved', 'thrashing'] as const;
export type SpaceOverlay = (typeof SPACE_OVERLAYS)[number];

export interface Layout {
  /** Edge of a block in pixels. */
  cell: number;
  perRow: number;
  columns: number;
  rows: number;
}

/** Blocks up to which an allocation has blocks of this size. */
const SIZES = [
  { upTo: 128, cell: 26, perRow: 16 },
  { upTo: 1024, cell: 13, perRow: 64 },
  { upTo: 8192, cell: 6, perRow: 128 },
  { upTo: Number.POSITIVE_INFINITY, cell: 3, perRow: 256 },
] as const;

/** Blocks from this size on show how their pages are divided, and letters. */
const DIVIDED = 13;
const LETTERED = 20;

export function layoutOf(blocks: number): Layout {
  const { cell, perRow } = SIZES.find(({ upTo }) => blocks <= upTo) ?? SIZES[SIZES.length - 1];
  return { cell, perRow, columns: Math.min(perRow, blocks), rows: Math.ceil(blocks / perRow) };
}

/** Where in its cell a block is painted, and how large: small ones share the line between them. */
function insetOf(cell: number): { gap: number; edge: number } {
  if (cell >= DIVIDED) return { gap: 1, edge: cell - 2 };
  return { gap: 0, edge: cell >= 6 ? cell - 1 : cell };
}

/** The block at a point, or -1. */
export function blockAtPoint({ cell, perRow }: Layout, blocks: number, x: number, y: number): number {
  const column = Math.floor(x / cell);
  const block = Math.floor(y / cell) * perRow + column;
  return column >= 0 && column < perRow && block >= 0 && block < blocks ? block : -1;
}

/** Where an arrow key leads from a block; null for other keys. */
export function blockByKey({ perRow }: Layout, blocks: number, from: number, key: string): number | null {
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -perRow, ArrowDown: perRow }[key];
  if (by !== undefined) return Math.min(blocks - 1, Math.max(0, from + by));
  if (key === 'Home') return 0;
  return key === 'End' ? blocks - 1 : null;
}

/** Pages of a block by residency and what happened to it, in words. */
export function blockText(space: Space, block: number): string {
  const width = space.residents.length;
  const parts = space.residents.flatMap((word, r) => {
    const pages = space.pages[block * width + r];
    return pages === 0 ? [] : [word === 'none' ? `${pages} nowhere` : `${pages} on ${word}`];
  });
  const faults = space.faults[block];
  const moved = space.moved[block] / 1024;
  const events = [
    ...(faults > 0 ? [countText(faults, 'fault')] : []),
    ...(moved > 0 ? [`${moved.toLocaleString('en')} KiB moved`] : []),
    ...(space.thrashing[block] > 0 ? [`${space.thrashing[block].toLocaleString('en')} thrashing`] : []),
  ];
  return `pages: ${parts.join(', ')}${events.length > 0 ? `; ${events.join(', ')}` : ''}`;
}

interface Painting {
  canvas: HTMLCanvasElement;
  space: Space;
  /** First of its blocks in the list of all. */
  first: number;
  blocks: number;
  theme: Theme;
  overlay: SpaceOverlay;
}

function paintResidency(c: CanvasRenderingContext2D, p: Painting, layout: Layout): void {
  const { space, first, blocks, theme } = p;
  const { cell, perRow } = layout;
  const width = space.residents.length;
  const colours = space.residents.map((word) => colourOf(word, theme));
  const { gap, edge } = insetOf(cell);
  // Where nothing is known of pages, they come last.
  const order = [...space.residents.keys()].sort((x, y) => Number(x === 0) - Number(y === 0));
  c.textAlign = 'center';
  c.textBaseline = 'middle';
  c.font = 'bold 11px system-ui, sans-serif';
  for (let b = 0; b < blocks; b++) {
    const at = (first + b) * width;
    let pages = 0;
    let most = 0;
    for (let r = 0; r < width; r++) {
      pages += space.pages[at + r];
      if (space.pages[at + r] > space.pages[at + most]) most = r;
    }
    if (pages === 0) continue;
    const x = (b % perRow) * cell + gap;
    const y = Math.floor(b / perRow) * cell + gap;
    if (cell < DIVIDED) {
      c.fillStyle = colours[most];
      c.fillRect(x, y, edge, edge);
      continue;
    }
    let left = x;
    for (const r of order) {
      const share = (space.pages[at + r] / pages) * edge;
      if (share === 0) continue;
      c.fillStyle = colours[r];
      c.fillRect(left, y, share, edge);
      left += share;
    }
    if (cell < LETTERED || space.pages[at + most] * 2 <= pages) continue;
    c.fillStyle = inkOn(colours[most]);
    c.fillText(letterOf(space.residents[most]), x + edge / 2, y + edge / 2);
  }
}

function paintHeat(c: CanvasRenderingContext2D, p: Painting, layout: Layout, counts: ArrayLike<number>): void {
  const { cell, perRow } = layout;
  const { gap, edge } = insetOf(cell);
  let most = 1;
  for (let b = 0; b < counts.length; b++) if (counts[b] > most) most = counts[b];
  c.fillStyle = colourOf(
    { residency: 'none', faults: 'write', moved: 'read', thrashing: 'atomic' }[p.overlay],
    p.theme,
  );
  for (let b = 0; b < p.blocks; b++) {
    const count = counts[p.first + b];
    c.globalAlpha = count === 0 ? 0.07 : 0.25 + 0.75 * (Math.log1p(count) / Math.log1p(most));
    c.fillRect((b % perRow) * cell + gap, Math.floor(b / perRow) * cell + gap, edge, edge);
  }
  c.globalAlpha = 1;
}

/** The bar along the bottom of a block: how many faults it has around this time. */
function paintFaultBars(c: CanvasRenderingContext2D, p: Painting, { cell, perRow }: Layout): void {
  const { faults } = p.space;
  let most = 1;
  for (let b = 0; b < faults.length; b++) if (faults[b] > most) most = faults[b];
  c.fillStyle = getComputedStyle(p.canvas).getPropertyValue('--text').trim();
  const high = cell >= 20 ? 3 : 2;
  for (let b = 0; b < p.blocks; b++) {
    const count = faults[p.first + b];
    if (count === 0) continue;
    const wide = Math.max(2, (Math.log1p(count) / Math.log1p(most)) * (cell - 2));
    c.fillRect((b % perRow) * cell + 1, (Math.floor(b / perRow) + 1) * cell - high - 2, wide, high);
  }
}

export function paintBlocks(p: Painting): void {
  const c = p.canvas.getContext('2d');
  if (c === null) return;
  const layout = layoutOf(p.blocks);
  const ratio = globalThis.devicePixelRatio || 1;
  p.canvas.width = layout.columns * layout.cell * ratio;
  p.canvas.height = layout.rows * layout.cell * ratio;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (p.overlay === 'residency') {
    paintResidency(c, p, layout);
    if (layout.cell >= DIVIDED) paintFaultBars(c, p, layout);
  } else paintHeat(c, p, layout, p.space[p.overlay]);
}
