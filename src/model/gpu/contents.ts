/**
 * Real contents of memory, page by page, so that a run can be checked to lose no byte. Off by default (`Model.contents`
 * is null): the rules never look at contents.
 *
 * A page is known by the processor whose memory holds it and by its virtual page number, because a processor holds at
 * most one frame for a virtual page. A page object is never changed once it is shared: copying shares it, writing
 * replaces it. A page that was never written or zeroed holds garbage, and reads as POISON.
 */

/** What uninitialised memory reads as. */
export const POISON = 0xdeadbeef;
const WORDS_PER_PAGE = 1024;

export interface Contents {
  /** By processor id: page number to its words; null stands for a page of zeros. */
  pages: Map<number, Uint32Array | null>[];
  /** Work space of contentsCopy. */
  reads: number;
}

export function createContents(processors: number): Contents {
  return { pages: Array.from({ length: processors }, () => new Map()), reads: 0 };
}

/** Copies whole pages from one processor's memory to another's. */
export function contentsCopy(c: Contents, to: number, from: number, page: number, count: number): void {
  const source = c.pages[from];
  const target = c.pages[to];
  for (let p = page; p < page + count; p++) {
    const words = source.get(p);
    if (words === undefined) target.delete(p);
    else target.set(p, words);
  }
}

/** Makes pages zero. */
export function contentsZero(c: Contents, processor: number, page: number, count: number): void {
  const target = c.pages[processor];
  for (let p = page; p < page + count; p++) target.set(p, null);
}

/** Makes pages garbage: a frame that was given back, or a new one that nobody zeroed. */
export function contentsForget(c: Contents, processor: number, page: number, count: number): void {
  const target = c.pages[processor];
  for (let p = page; p < page + count; p++) target.delete(p);
}

/** Reads the 32-bit word at index `word` (0 to 1023) of a page. */
export function contentsRead(c: Contents, processor: number, page: number, word: number): number {
  const words = c.pages[processor].get(page);
  if (words === undefined) return POISON;
  return words === null ? 0 : words[word];
}

/** Writes the 32-bit word at index `word` of a page. */
export function contentsWrite(c: Contents, processor: number, page: number, word: number, value: number): void {
  const target = c.pages[processor];
  const words = target.get(page);
  let copy: Uint32Array;
  if (words) {
    copy = words.slice();
  } else {
    copy = new Uint32Array(WORDS_PER_PAGE);
    if (words === undefined) copy.fill(POISON);
  }
  copy[word] = value;
  target.set(page, copy);
}
