/**
 * Where the pages of each block of 2 MiB were at any time: changes in order of time, block by block, with the number of
 * pages at each processor behind every change, so that a map of all blocks asks for one search a block.
 */
import { PAGES_PER_BLOCK } from '../base/units.ts';
import { lowerBound, sortedOrder, upperBound } from './sort_rows.ts';

/** Resident nowhere, as far as is known; the index of every list of residents. */
export const NOWHERE = 0;
/** A page outside of its allocation. */
export const OUTSIDE = 255;

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
  ifNowhere: Uint8Array;
  /** Pages by residency behind each change: `residents.length` numbers for each. */
  totals: Uint16Array;
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

function grow(c: PageChanges): void {
  const capacity = Math.max(1024, c.time.length * 2);
  const wider = createPageChanges(capacity);
  for (const key of ['time', 'block', 'first', 'pages', 'code', 'ifNowhere'] as const) {
    wider[key].set(c[key]);
    (c as unknown as Record<string, unknown>)[key] = wider[key];
  }
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
    if (c.count === c.time.length) grow(c);
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

/** Puts one change into the pages of its block; `totals` counts pages by code. */
function apply(h: PageHistory, change: number, state: Uint8Array, totals: Uint16Array): void {
  const code = h.code[change];
  const outer = h.first[change] + h.pages[change];
  for (let page = h.first[change]; page < outer; page++) {
    const old = state[page];
    if (old === OUTSIDE || old === code || (h.ifNowhere[change] === 1 && old !== NOWHERE)) continue;
    totals[old]--;
    totals[code]++;
    state[page] = code;
  }
}

function freshState(h: PageHistory, block: number, state: Uint8Array): void {
  state.fill(OUTSIDE);
  state.fill(NOWHERE, 0, h.blockPages[block]);
}

/** Sorts changes by block and time, and counts. At equal times their own order stays. */
export function pageHistory(changes: PageChanges, residents: readonly string[], blockPages: Uint16Array): PageHistory {
  const n = changes.count;
  const blocks = blockPages.length;
  const order = sortedOrder(changes.time.subarray(0, n));
  const start = new Uint32Array(blocks + 1);
  for (let i = 0; i < n; i++) start[changes.block[i] + 1]++;
  for (let b = 0; b < blocks; b++) start[b + 1] += start[b];
  const next = start.slice(0, blocks);
  const h: PageHistory = {
    residents,
    blocks,
    blockPages,
    start,
    time: new Float64Array(n),
    first: new Uint16Array(n),
    pages: new Uint16Array(n),
    code: new Uint8Array(n),
    ifNowhere: new Uint8Array(n),
    totals: new Uint16Array(n * residents.length),
  };
  for (let k = 0; k < n; k++) {
    const i = order === null ? k : order[k];
    const at = next[changes.block[i]]++;
    h.time[at] = changes.time[i];
    h.first[at] = changes.first[i];
    h.pages[at] = changes.pages[i];
    h.code[at] = changes.code[i];
    h.ifNowhere[at] = changes.ifNowhere[i];
  }
  const state = new Uint8Array(PAGES_PER_BLOCK);
  const totals = new Uint16Array(residents.length);
  for (let b = 0; b < blocks; b++) {
    freshState(h, b, state);
    totals.fill(0);
    totals[NOWHERE] = blockPages[b];
    for (let at = start[b]; at < start[b + 1]; at++) {
      apply(h, at, state, totals);
      h.totals.set(totals, at * residents.length);
    }
  }
  return h;
}

/** Pages of every block by residency at a time: `residents.length` numbers for each block. */
export function totalsAt(h: PageHistory, time: number): Uint16Array {
  const width = h.residents.length;
  const out = new Uint16Array(h.blocks * width);
  for (let b = 0; b < h.blocks; b++) {
    const at = lastChange(h, b, time);
    if (at < h.start[b]) out[b * width + NOWHERE] = h.blockPages[b];
    else out.set(h.totals.subarray(at * width, (at + 1) * width), b * width);
  }
  return out;
}

/** Position of the last change of a block that has happened by `time`; below its first one where there is none. */
function lastChange(h: PageHistory, block: number, time: number): number {
  const from = h.start[block];
  return from + upperBound(h.time.subarray(from, h.start[block + 1]), time) - 1;
}

/** Residency of the 512 pages of a block at a time; OUTSIDE beyond its allocation. */
export function pagesAt(h: PageHistory, block: number, time: number): Uint8Array {
  const state = new Uint8Array(PAGES_PER_BLOCK);
  const totals = new Uint16Array(h.residents.length);
  freshState(h, block, state);
  const last = lastChange(h, block, time);
  for (let at = h.start[block]; at <= last; at++) apply(h, at, state, totals);
  return state;
}

/** Times at which a block changed, within a window. */
export function changesWithin(h: PageHistory, block: number, begin: number, end: number): number {
  const times = h.time.subarray(h.start[block], h.start[block + 1]);
  return upperBound(times, end) - lowerBound(times, begin);
}
