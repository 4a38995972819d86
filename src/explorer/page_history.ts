/**
 * Where the pages of each block of 2 MiB were at any time: changes in order of time, block by block, with the number of
 * pages at each processor behind every change, so that a map of all blocks asks for one search a block. Now and then a
 * block's pages are kept as they are, so that no question goes through a long history.
 */
import { PAGES_PER_BLOCK } from '../base/units.ts';
import { sortedOrder } from './sort_rows.ts';

/** Resident nowhere, as far as is known; the index of every list of residents. */
export const NOWHERE = 0;
/** A page outside of its allocation. */
export const OUTSIDE = 255;
/** Pages that changes may name between two pictures of a block that are kept. */
const KEYFRAME_PAGES = 65_536;

export interface PageHistory {
  /** Words of codes: `none`, processors, `several`. */
  residents: readonly string[];
  blocks: number;
  /** Pages that each block has of its allocation. */
  blockPages: Uint16Array;
  /** Changes of block b: positions start[b] to before start[b + 1], ascending by time. */
  start: Uint32Array;
  time: Float64Array;
  first: Uint16Array;
  pages: Uint16Array;
  code: Uint8Array;
  /** Pages by residency behind each change: `residents.length` numbers for each. */
  totals: Uint16Array;
  /** Ascending positions of changes before which the block's pages are kept, PAGES_PER_BLOCK bytes for each. */
  keyframes: Uint32Array;
  keyframeStates: Uint8Array;
}

type Growing = Float64Array | Uint32Array | Uint16Array | Uint8Array;

function grown<A extends Growing>(array: A, length: number): A {
  if (length <= array.length) return array;
  const wider = new (array.constructor as new (n: number) => A)(Math.max(length, Math.ceil(array.length * 1.5)));
  wider.set(array);
  return wider;
}

/** Takes the changes of one block after another, each in order of time, and keeps those that change something. */
export class HistoryBuilder {
  readonly #residents: readonly string[];
  readonly #blockPages: Uint16Array;
  readonly #start: Uint32Array;
  readonly #state = new Uint8Array(PAGES_PER_BLOCK);
  readonly #totals: Uint16Array;
  #block = -1;
  #count = 0;
  #since = 0;
  #time = new Float64Array(1024);
  #first = new Uint16Array(1024);
  #pages = new Uint16Array(1024);
  #code = new Uint8Array(1024);
  #allTotals: Uint16Array;
  #keyframes = new Uint32Array(16);
  #keyframeStates = new Uint8Array(16 * PAGES_PER_BLOCK);
  #keyframeCount = 0;

  constructor(residents: readonly string[], blockPages: Uint16Array) {
    this.#residents = residents;
    this.#blockPages = blockPages;
    this.#start = new Uint32Array(blockPages.length + 1);
    this.#totals = new Uint16Array(residents.length);
    this.#allTotals = new Uint16Array(1024 * residents.length);
  }

  /** The changes that follow are of this block; blocks ascend. */
  begin(block: number): void {
    while (this.#block < block) this.#start[++this.#block] = this.#count;
    freshState(this.#blockPages[block], this.#state);
    this.#totals.fill(0);
    this.#totals[NOWHERE] = this.#blockPages[block];
    this.#since = 0;
  }

  /** Pages of the block take the code; with `ifNowhere` only those that are resident nowhere. */
  change(time: number, first: number, pages: number, code: number, ifNowhere: boolean): void {
    const state = this.#state;
    const outer = Math.min(first + pages, PAGES_PER_BLOCK);
    if (!ifNowhere) {
      for (let page = first; page < outer; page++) {
        if (state[page] === code || state[page] === OUTSIDE) continue;
        this.#keep(time, first, outer - first, code);
        return;
      }
      return;
    }
    for (let page = first; page < outer; page++) {
      if (state[page] !== NOWHERE || code === NOWHERE) continue;
      let end = page + 1;
      while (end < outer && state[end] === NOWHERE) end++;
      this.#keep(time, page, end - page, code);
      page = end;
    }
  }

  #keep(time: number, first: number, pages: number, code: number): void {
    const at = this.#count++;
    if (at === this.#time.length) this.#grow(at + 1);
    if (this.#since > KEYFRAME_PAGES) this.#keyframe(at);
    this.#since += pages;
    this.#time[at] = time;
    this.#first[at] = first;
    this.#pages[at] = pages;
    this.#code[at] = code;
    for (let page = first; page < first + pages; page++) {
      const old = this.#state[page];
      if (old === OUTSIDE) continue;
      this.#totals[old]--;
      this.#totals[code]++;
      this.#state[page] = code;
    }
    this.#allTotals.set(this.#totals, at * this.#residents.length);
  }

  #keyframe(at: number): void {
    const i = this.#keyframeCount++;
    this.#keyframes = grown(this.#keyframes, i + 1);
    this.#keyframeStates = grown(this.#keyframeStates, (i + 1) * PAGES_PER_BLOCK);
    this.#keyframes[i] = at;
    this.#keyframeStates.set(this.#state, i * PAGES_PER_BLOCK);
    this.#since = 0;
  }

  #grow(length: number): void {
    this.#time = grown(this.#time, length);
    const room = this.#time.length;
    this.#first = grown(this.#first, room);
    this.#pages = grown(this.#pages, room);
    this.#code = grown(this.#code, room);
    this.#allTotals = grown(this.#allTotals, room * this.#residents.length);
  }

  finish(): PageHistory {
    const blocks = this.#blockPages.length;
    while (this.#block < blocks) this.#start[++this.#block] = this.#count;
    return {
      residents: this.#residents,
      blocks,
      blockPages: this.#blockPages,
      start: this.#start,
      time: this.#time,
      first: this.#first,
      pages: this.#pages,
      code: this.#code,
      totals: this.#allTotals,
      keyframes: this.#keyframes.slice(0, this.#keyframeCount),
      keyframeStates: this.#keyframeStates,
    };
  }
}

/** Changes that are being gathered, in any order. */
export interface PageChanges {
  count: number;
  time: Float64Array;
  /** Of all allocations, one after another. */
  block: Uint32Array;
  first: Uint16Array;
  /** 1 to 512. */
  pages: Uint16Array;
  code: Uint8Array;
  /** 1: only pages that are resident nowhere take the code. */
  ifNowhere: Uint8Array;
}

export function createPageChanges(capacity: number): PageChanges {
  return {
    count: 0,
    time: new Float64Array(capacity),
    block: new Uint32Array(capacity),
    first: new Uint16Array(capacity),
    pages: new Uint16Array(capacity),
    code: new Uint8Array(capacity),
    ifNowhere: new Uint8Array(capacity),
  };
}

function makeRoom(c: PageChanges): void {
  if (c.count < c.time.length) return;
  const room = Math.max(1024, c.time.length * 2);
  c.time = grown(c.time, room);
  c.block = grown(c.block, room);
  c.first = grown(c.first, room);
  c.pages = grown(c.pages, room);
  c.code = grown(c.code, room);
  c.ifNowhere = grown(c.ifNowhere, room);
}

/** Pages of one allocation, from `page` on, change at `time`; `firstBlock` is the allocation's, `room` its pages. */
export function addPageChange(
  c: PageChanges,
  place: { firstBlock: number; room: number },
  page: number,
  count: number,
  time: number,
  code: number,
  ifNowhere: boolean,
): void {
  const outer = Math.min(page + count, place.room);
  for (let at = page; at < outer; ) {
    const inBlock = at % PAGES_PER_BLOCK;
    const pages = Math.min(outer - at, PAGES_PER_BLOCK - inBlock);
    makeRoom(c);
    const i = c.count++;
    c.time[i] = time;
    c.block[i] = place.firstBlock + Math.floor(at / PAGES_PER_BLOCK);
    c.first[i] = inBlock;
    c.pages[i] = pages;
    c.code[i] = code;
    c.ifNowhere[i] = ifNowhere ? 1 : 0;
    at += pages;
  }
}

/** The history that changes in any order make; at equal times their own order stays. */
export function pageHistory(changes: PageChanges, residents: readonly string[], blockPages: Uint16Array): PageHistory {
  const n = changes.count;
  const blocks = blockPages.length;
  const order = sortedOrder(changes.time.subarray(0, n));
  const start = new Uint32Array(blocks + 1);
  for (let i = 0; i < n; i++) start[changes.block[i] + 1]++;
  for (let b = 0; b < blocks; b++) start[b + 1] += start[b];
  const next = start.slice(0, blocks);
  const sorted = new Uint32Array(n);
  for (let k = 0; k < n; k++) {
    const i = order === null ? k : order[k];
    sorted[next[changes.block[i]]++] = i;
  }
  const builder = new HistoryBuilder(residents, blockPages);
  for (let b = 0; b < blocks; b++) {
    builder.begin(b);
    for (let at = start[b]; at < start[b + 1]; at++) {
      const i = sorted[at];
      const { time, first, pages, code, ifNowhere } = changes;
      builder.change(time[i], first[i], pages[i], code[i], ifNowhere[i] === 1);
    }
  }
  return builder.finish();
}

function freshState(blockPages: number, state: Uint8Array): void {
  state.fill(OUTSIDE);
  state.fill(NOWHERE, 0, blockPages);
}

/** Pages of every block by residency at a time: `residents.length` numbers for each block. */
export function totalsAt(h: PageHistory, time: number): Uint16Array {
  const width = h.residents.length;
  const out = new Uint16Array(h.blocks * width);
  for (let b = 0; b < h.blocks; b++) {
    const at = lastChange(h, b, time);
    if (at < h.start[b]) out[b * width + NOWHERE] = h.blockPages[b];
    else for (let r = 0; r < width; r++) out[b * width + r] = h.totals[at * width + r];
  }
  return out;
}

/** Position of the last change of a block that has happened by `time`; below its first one where there is none. */
function lastChange(h: PageHistory, block: number, time: number): number {
  let low = h.start[block];
  let high = h.start[block + 1];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (h.time[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Residency of the 512 pages of a block at a time; OUTSIDE beyond its allocation. */
export function pagesAt(h: PageHistory, block: number, time: number): Uint8Array {
  const state = new Uint8Array(PAGES_PER_BLOCK);
  freshState(h.blockPages[block], state);
  const last = lastChange(h, block, time);
  let at = h.start[block];
  const frame = lastKeyframe(h.keyframes, last);
  if (frame >= 0 && h.keyframes[frame] >= at) {
    at = h.keyframes[frame];
    state.set(h.keyframeStates.subarray(frame * PAGES_PER_BLOCK, (frame + 1) * PAGES_PER_BLOCK));
  }
  for (; at <= last; at++) {
    const outer = h.first[at] + h.pages[at];
    for (let page = h.first[at]; page < outer; page++) if (state[page] !== OUTSIDE) state[page] = h.code[at];
  }
  return state;
}

/** The last keyframe that stands before a change up to `position`; -1 for none. */
function lastKeyframe(keyframes: Uint32Array, position: number): number {
  let low = 0;
  let high = keyframes.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keyframes[middle] <= position) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
