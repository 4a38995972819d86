/**
 * Tiles of the lanes that are shown: each lane keeps the last tile that came, which is drawn moved and scaled until a
 * better one is there, and the widest one, which lies under it where it does not reach. At most one request for each
 * lane is under way; the newest wish waits behind it.
 */
import type { Tile } from '../src/explorer/api.ts';
import type { Window } from './scale.ts';

/** A tile reaches so far beyond the window on either side, in widths of the window. */
const MARGIN = 0.75;
/** Scales between which a tile is near enough. */
const SCALE_LOW = 0.7;
const SCALE_HIGH = 1.5;

export type AskTile = (lane: string, begin: number, end: number, width: number) => Promise<Tile>;

interface LaneTiles {
  tile: Tile | null;
  /** Pixels of the tile for each nanosecond. */
  scale: number;
  widest: Tile | null;
  widestScale: number;
  asked: Window | null;
  wish: { window: Window; width: number } | null;
  error: string | null;
}

export interface TileCache {
  /** The tile to draw, or null; asks for a better one where it does not fit. */
  get(lane: string, window: Window, width: number): Tile | null;
  /** What to draw under a tile that does not reach over the window, or null. */
  under(lane: string): Tile | null;
  /** What went wrong with a lane, or null. */
  error(lane: string): string | null;
  /** Requests under way. */
  waiting(): number;
  clear(): void;
}

/** The window of a tile for a window that is shown, and its width in pixels. */
export function tileWindow(window: Window, width: number): { window: Window; width: number } {
  const margin = (window.end - window.begin) * MARGIN;
  return {
    window: { begin: window.begin - margin, end: window.end + margin },
    width: Math.max(1, Math.round(width * (1 + 2 * MARGIN))),
  };
}

/** Whether a tile covers the window, at nearly its scale. */
export function tileFits(tile: Window, scale: number, window: Window, width: number): boolean {
  const wanted = width / (window.end - window.begin);
  if (scale < wanted * SCALE_LOW || scale > wanted * SCALE_HIGH) return false;
  return tile.begin <= window.begin && tile.end >= window.end;
}

/** `changed` is called with the lane when a tile came, or did not. */
export function createTileCache(ask: AskTile, changed: (lane: string) => void): TileCache {
  let lanes = new Map<string, LaneTiles>();
  let open = 0;

  const request = (id: string, its: LaneTiles): void => {
    const { wish } = its;
    if (wish === null || its.asked !== null) return;
    its.wish = null;
    its.asked = wish.window;
    const mine = lanes;
    open++;
    ask(id, wish.window.begin, wish.window.end, wish.width)
      .then(
        (tile) => {
          its.tile = tile;
          its.scale = wish.width / (tile.end - tile.begin);
          its.error = null;
          if (its.widest === null || tile.end - tile.begin >= its.widest.end - its.widest.begin) {
            its.widest = tile;
            its.widestScale = its.scale;
          }
        },
        (error: unknown) => {
          its.error = error instanceof Error ? error.message : String(error);
        },
      )
      .finally(() => {
        open--;
        its.asked = null;
        if (mine !== lanes) return;
        changed(id);
        request(id, its);
      });
  };

  return {
    get: (id, window, width) => {
      let its = lanes.get(id);
      if (its === undefined) {
        its = { tile: null, scale: 0, widest: null, widestScale: 0, asked: null, wish: null, error: null };
        lanes.set(id, its);
      }
      if (its.widest !== null && its.widest !== its.tile && tileFits(its.widest, its.widestScale, window, width)) {
        its.tile = its.widest;
        its.scale = its.widestScale;
      }
      const fits = its.tile !== null && tileFits(its.tile, its.scale, window, width);
      // What was wished for on the way here is not wanted any more.
      if (fits) its.wish = null;
      // A lane that failed asks again only for another window.
      const failed = its.error !== null && its.tile === null;
      if (!fits && !failed) {
        its.wish = tileWindow(window, width);
        request(id, its);
      }
      return its.tile;
    },
    under: (id) => {
      const its = lanes.get(id);
      return its === undefined || its.widest === its.tile ? null : its.widest;
    },
    error: (id) => lanes.get(id)?.error ?? null,
    waiting: () => open,
    clear: () => {
      lanes = new Map();
    },
  };
}
