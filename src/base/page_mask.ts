/**
 * Masks of the 512 pages of a VA block: 16 words of 32 bits inside a larger `Uint32Array`, named by their word offset.
 *
 * Keeping many masks in one array is what keeps a block small (one typed array instead of a dozen), and lets scratch
 * masks live beside each other without allocation. Every operation takes (array, offset) pairs; two-operand forms
 * change the first operand. Regions are half-open page-index ranges `[first, outer)`.
 *
 * A fault takes about a hundred operations on whole masks, so those that it uses most are written out word by word:
 * two thirds of a loop's time.
 */

/** Words in one mask. */
export const MASK_WORDS = 16;
/** Pages in one mask. */
export const MASK_PAGES = 512;

function popcount(v: number): number {
  let x = v - ((v >>> 1) & 0x55555555);
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Bits of word `i` that lie inside `[first, outer)`. */
function regionBits(i: number, first: number, outer: number): number {
  const lo = first - (i << 5);
  const hi = outer - (i << 5);
  if (lo >= 32 || hi <= 0) return 0;
  const high = hi >= 32 ? -1 : (1 << hi) - 1;
  const low = lo <= 0 ? -1 : -1 << lo;
  return high & low;
}

export function maskZero(d: Uint32Array, o: number): void {
  d[o] = 0;
  d[o + 1] = 0;
  d[o + 2] = 0;
  d[o + 3] = 0;
  d[o + 4] = 0;
  d[o + 5] = 0;
  d[o + 6] = 0;
  d[o + 7] = 0;
  d[o + 8] = 0;
  d[o + 9] = 0;
  d[o + 10] = 0;
  d[o + 11] = 0;
  d[o + 12] = 0;
  d[o + 13] = 0;
  d[o + 14] = 0;
  d[o + 15] = 0;
}

export function maskCopy(d: Uint32Array, o: number, a: Uint32Array, p: number): void {
  d[o] = a[p];
  d[o + 1] = a[p + 1];
  d[o + 2] = a[p + 2];
  d[o + 3] = a[p + 3];
  d[o + 4] = a[p + 4];
  d[o + 5] = a[p + 5];
  d[o + 6] = a[p + 6];
  d[o + 7] = a[p + 7];
  d[o + 8] = a[p + 8];
  d[o + 9] = a[p + 9];
  d[o + 10] = a[p + 10];
  d[o + 11] = a[p + 11];
  d[o + 12] = a[p + 12];
  d[o + 13] = a[p + 13];
  d[o + 14] = a[p + 14];
  d[o + 15] = a[p + 15];
}

/** d = a & b; true when a page is left. */
export function maskIntersection(
  d: Uint32Array,
  o: number,
  a: Uint32Array,
  p: number,
  b: Uint32Array,
  q: number,
): boolean {
  let any = 0;
  any |= d[o] = a[p] & b[q];
  any |= d[o + 1] = a[p + 1] & b[q + 1];
  any |= d[o + 2] = a[p + 2] & b[q + 2];
  any |= d[o + 3] = a[p + 3] & b[q + 3];
  any |= d[o + 4] = a[p + 4] & b[q + 4];
  any |= d[o + 5] = a[p + 5] & b[q + 5];
  any |= d[o + 6] = a[p + 6] & b[q + 6];
  any |= d[o + 7] = a[p + 7] & b[q + 7];
  any |= d[o + 8] = a[p + 8] & b[q + 8];
  any |= d[o + 9] = a[p + 9] & b[q + 9];
  any |= d[o + 10] = a[p + 10] & b[q + 10];
  any |= d[o + 11] = a[p + 11] & b[q + 11];
  any |= d[o + 12] = a[p + 12] & b[q + 12];
  any |= d[o + 13] = a[p + 13] & b[q + 13];
  any |= d[o + 14] = a[p + 14] & b[q + 14];
  any |= d[o + 15] = a[p + 15] & b[q + 15];
  return any !== 0;
}

/** d = a & ~b; true when a page is left. */
export function maskDifference(
  d: Uint32Array,
  o: number,
  a: Uint32Array,
  p: number,
  b: Uint32Array,
  q: number,
): boolean {
  let any = 0;
  any |= d[o] = a[p] & ~b[q];
  any |= d[o + 1] = a[p + 1] & ~b[q + 1];
  any |= d[o + 2] = a[p + 2] & ~b[q + 2];
  any |= d[o + 3] = a[p + 3] & ~b[q + 3];
  any |= d[o + 4] = a[p + 4] & ~b[q + 4];
  any |= d[o + 5] = a[p + 5] & ~b[q + 5];
  any |= d[o + 6] = a[p + 6] & ~b[q + 6];
  any |= d[o + 7] = a[p + 7] & ~b[q + 7];
  any |= d[o + 8] = a[p + 8] & ~b[q + 8];
  any |= d[o + 9] = a[p + 9] & ~b[q + 9];
  any |= d[o + 10] = a[p + 10] & ~b[q + 10];
  any |= d[o + 11] = a[p + 11] & ~b[q + 11];
  any |= d[o + 12] = a[p + 12] & ~b[q + 12];
  any |= d[o + 13] = a[p + 13] & ~b[q + 13];
  any |= d[o + 14] = a[p + 14] & ~b[q + 14];
  any |= d[o + 15] = a[p + 15] & ~b[q + 15];
  return any !== 0;
}

/** d |= a */
export function maskOr(d: Uint32Array, o: number, a: Uint32Array, p: number): void {
  d[o] |= a[p];
  d[o + 1] |= a[p + 1];
  d[o + 2] |= a[p + 2];
  d[o + 3] |= a[p + 3];
  d[o + 4] |= a[p + 4];
  d[o + 5] |= a[p + 5];
  d[o + 6] |= a[p + 6];
  d[o + 7] |= a[p + 7];
  d[o + 8] |= a[p + 8];
  d[o + 9] |= a[p + 9];
  d[o + 10] |= a[p + 10];
  d[o + 11] |= a[p + 11];
  d[o + 12] |= a[p + 12];
  d[o + 13] |= a[p + 13];
  d[o + 14] |= a[p + 14];
  d[o + 15] |= a[p + 15];
}

/** d &= a */
export function maskAnd(d: Uint32Array, o: number, a: Uint32Array, p: number): void {
  d[o] &= a[p];
  d[o + 1] &= a[p + 1];
  d[o + 2] &= a[p + 2];
  d[o + 3] &= a[p + 3];
  d[o + 4] &= a[p + 4];
  d[o + 5] &= a[p + 5];
  d[o + 6] &= a[p + 6];
  d[o + 7] &= a[p + 7];
  d[o + 8] &= a[p + 8];
  d[o + 9] &= a[p + 9];
  d[o + 10] &= a[p + 10];
  d[o + 11] &= a[p + 11];
  d[o + 12] &= a[p + 12];
  d[o + 13] &= a[p + 13];
  d[o + 14] &= a[p + 14];
  d[o + 15] &= a[p + 15];
}

/** d &= ~a */
export function maskAndNot(d: Uint32Array, o: number, a: Uint32Array, p: number): void {
  d[o] &= ~a[p];
  d[o + 1] &= ~a[p + 1];
  d[o + 2] &= ~a[p + 2];
  d[o + 3] &= ~a[p + 3];
  d[o + 4] &= ~a[p + 4];
  d[o + 5] &= ~a[p + 5];
  d[o + 6] &= ~a[p + 6];
  d[o + 7] &= ~a[p + 7];
  d[o + 8] &= ~a[p + 8];
  d[o + 9] &= ~a[p + 9];
  d[o + 10] &= ~a[p + 10];
  d[o + 11] &= ~a[p + 11];
  d[o + 12] &= ~a[p + 12];
  d[o + 13] &= ~a[p + 13];
  d[o + 14] &= ~a[p + 14];
  d[o + 15] &= ~a[p + 15];
}

export function maskTest(d: Uint32Array, o: number, page: number): boolean {
  return (d[o + (page >>> 5)] & (1 << (page & 31))) !== 0;
}

export function maskSet(d: Uint32Array, o: number, page: number): void {
  d[o + (page >>> 5)] |= 1 << (page & 31);
}

export function maskClear(d: Uint32Array, o: number, page: number): void {
  d[o + (page >>> 5)] &= ~(1 << (page & 31));
}

export function maskSetRegion(d: Uint32Array, o: number, first: number, outer: number): void {
  for (let i = first >>> 5; i << 5 < outer; i++) d[o + i] |= regionBits(i, first, outer);
}

export function maskClearRegion(d: Uint32Array, o: number, first: number, outer: number): void {
  for (let i = first >>> 5; i << 5 < outer; i++) d[o + i] &= ~regionBits(i, first, outer);
}

/** Keeps only the pages inside the region. */
export function maskAndRegion(d: Uint32Array, o: number, first: number, outer: number): void {
  for (let i = 0; i < MASK_WORDS; i++) d[o + i] &= regionBits(i, first, outer);
}

export function maskIsEmpty(d: Uint32Array, o: number): boolean {
  for (let i = 0; i < MASK_WORDS; i++) if (d[o + i] !== 0) return false;
  return true;
}

export function maskEquals(d: Uint32Array, o: number, a: Uint32Array, p: number): boolean {
  for (let i = 0; i < MASK_WORDS; i++) if (d[o + i] !== a[p + i]) return false;
  return true;
}

/** True when every page of a is in d. */
export function maskContains(d: Uint32Array, o: number, a: Uint32Array, p: number): boolean {
  for (let i = 0; i < MASK_WORDS; i++) if ((a[p + i] & ~d[o + i]) !== 0) return false;
  return true;
}

export function maskIntersects(d: Uint32Array, o: number, a: Uint32Array, p: number): boolean {
  for (let i = 0; i < MASK_WORDS; i++) if ((d[o + i] & a[p + i]) !== 0) return true;
  return false;
}

export function maskIntersectsRegion(d: Uint32Array, o: number, first: number, outer: number): boolean {
  for (let i = first >>> 5; i << 5 < outer; i++) if ((d[o + i] & regionBits(i, first, outer)) !== 0) return true;
  return false;
}

export function maskContainsRegion(d: Uint32Array, o: number, first: number, outer: number): boolean {
  for (let i = first >>> 5; i << 5 < outer; i++) {
    const bits = regionBits(i, first, outer);
    if ((d[o + i] & bits) !== bits) return false;
  }
  return true;
}

/** Number of set pages. */
export function maskWeight(d: Uint32Array, o: number): number {
  let n = 0;
  for (let i = 0; i < MASK_WORDS; i++) {
    const v = d[o + i];
    if (v !== 0) n += popcount(v);
  }
  return n;
}

/** Number of set pages inside the region. */
export function maskRegionWeight(d: Uint32Array, o: number, first: number, outer: number): number {
  let n = 0;
  for (let i = first >>> 5; i << 5 < outer; i++) {
    const v = d[o + i] & regionBits(i, first, outer);
    if (v !== 0) n += popcount(v);
  }
  return n;
}

/** First set page at or after `from`, or `outer` when there is none below it. */
export function maskNextSet(d: Uint32Array, o: number, from: number, outer: number): number {
  if (from >= outer) return outer;
  let i = from >>> 5;
  let v = d[o + i] & (-1 << (from & 31));
  while (v === 0) {
    i++;
    if (i << 5 >= outer) return outer;
    v = d[o + i];
  }
  const page = (i << 5) + 31 - Math.clz32(v & -v);
  return page < outer ? page : outer;
}

/** First clear page at or after `from`, or `outer` when there is none below it. */
export function maskNextClear(d: Uint32Array, o: number, from: number, outer: number): number {
  if (from >= outer) return outer;
  let i = from >>> 5;
  let v = ~d[o + i] & (-1 << (from & 31));
  while (v === 0) {
    i++;
    if (i << 5 >= outer) return outer;
    v = ~d[o + i];
  }
  const page = (i << 5) + 31 - Math.clz32(v & -v);
  return page < outer ? page : outer;
}

/** Last set page, or -1 when the mask is empty. */
export function maskLastSet(d: Uint32Array, o: number): number {
  for (let i = MASK_WORDS - 1; i >= 0; i--) {
    const v = d[o + i];
    if (v !== 0) return (i << 5) + 31 - Math.clz32(v);
  }
  return -1;
}

/** The 16 bits of the aligned 64 KiB piece `big` (pages `16 big` to `16 big + 15`). */
export function maskBigPage(d: Uint32Array, o: number, big: number): number {
  return (d[o + (big >>> 1)] >>> ((big & 1) << 4)) & 0xffff;
}
