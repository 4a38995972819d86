/**
 * Real contents of memory, page by page, so that a run can be checked to lose no byte. Off by default (`Model.contents`
 * is null): the rules never look at contents.
 *
 * A page is known by the processor whose memory holds it and by its virtual page number, because a processor holds at
 * most one frame for a virtual page. A page object is never changed once it is shared: copying shares it, writing
 * replaces it. A page that was never written or zeroed holds garbage, and reads as POISON.
 *
 * Plain memory of a program lies in the CPU's store too, under virtual pages of its own, and frames that no address
 * space maps under negative numbers (kernel/mm.ts). Offsets in bytes count as on a little-endian machine.
 */

/** What uninitialised memory reads as. */
export const POISON = 0xdeadbeef;
const WORDS_PER_PAGE = 1024;
const BYTES_PER_PAGE = 4096;

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
  const copy = ownWords(target.get(page));
  copy[word] = value;
  target.set(page, copy);
}

/** Words of a page that nobody shares. */
function ownWords(words: Uint32Array | null | undefined): Uint32Array {
  if (words) return words.slice();
  const fresh = new Uint32Array(WORDS_PER_PAGE);
  return words === undefined ? fresh.fill(POISON) : fresh;
}

/** All 1024 words of a page, a copy. */
export function contentsWords(c: Contents, processor: number, page: number): Uint32Array {
  return ownWords(c.pages[processor].get(page));
}

/** Makes a page zero unless it holds something already: memory that the kernel gives a program on first use. */
export function contentsPopulate(c: Contents, processor: number, page: number): void {
  if (!c.pages[processor].has(page)) c.pages[processor].set(page, null);
}

/** Makes `bytes` bytes of one page zero. */
export function contentsZeroBytes(c: Contents, processor: number, page: number, offset: number, bytes: number): void {
  const target = c.pages[processor];
  if (bytes === BYTES_PER_PAGE) {
    target.set(page, null);
    return;
  }
  const words = ownWords(target.get(page));
  new Uint8Array(words.buffer).fill(0, offset, offset + bytes);
  target.set(page, words);
}

/** Puts bytes over a part of one page, from byte `offset` on. */
export function contentsPutBytes(
  c: Contents,
  processor: number,
  page: number,
  offset: number,
  bytes: Uint8Array,
): void {
  const words = ownWords(c.pages[processor].get(page));
  new Uint8Array(words.buffer).set(bytes, offset);
  c.pages[processor].set(page, words);
}

/** Copies `bytes` bytes between two pages; neither range leaves its page. Garbage is copied as what it reads as. */
export function contentsCopyBytes(
  c: Contents,
  to: number,
  toPage: number,
  toOffset: number,
  from: number,
  fromPage: number,
  fromOffset: number,
  bytes: number,
): void {
  const source = c.pages[from].get(fromPage);
  const target = c.pages[to];
  if (bytes === BYTES_PER_PAGE) {
    target.set(toPage, source === undefined ? ownWords(source) : source);
    return;
  }
  const words = ownWords(target.get(toPage));
  const wanted = new Uint8Array((source ?? ownWords(source)).buffer, fromOffset, bytes);
  new Uint8Array(words.buffer).set(wanted, toOffset);
  target.set(toPage, words);
}

/**
 * Copies `bytes` bytes from byte `offset` of `page` on, in one processor's memory, to byte `at` of a list of frames of
 * the CPU's memory. The source's pages are consecutive.
 */
export function contentsCopyOut(
  c: Contents,
  from: number,
  page: number,
  offset: number,
  frames: readonly number[],
  at: number,
  bytes: number,
): void {
  for (let done = 0; done < bytes; ) {
    const source = offset + done;
    const target = at + done;
    const sourceOffset = source % BYTES_PER_PAGE;
    const targetOffset = target % BYTES_PER_PAGE;
    const n = Math.min(bytes - done, BYTES_PER_PAGE - sourceOffset, BYTES_PER_PAGE - targetOffset);
    const frame = frames[Math.floor(target / BYTES_PER_PAGE)];
    contentsCopyBytes(c, 0, frame, targetOffset, from, page + Math.floor(source / BYTES_PER_PAGE), sourceOffset, n);
    done += n;
  }
}

/** Copies `bytes` bytes from byte `at` of a list of frames of the CPU's memory to byte `offset` of one page. */
export function contentsCopyIn(
  c: Contents,
  to: number,
  page: number,
  offset: number,
  frames: readonly number[],
  at: number,
  bytes: number,
): void {
  const frame = frames[Math.floor(at / BYTES_PER_PAGE)];
  contentsCopyBytes(c, to, page, offset, 0, frame, at % BYTES_PER_PAGE, bytes);
}
