/** Memory by byte address, of which only what was written takes room; the rest reads as zeros. */
import { PAGE_SIZE } from '../../base/units.ts';

export interface ByteMemory {
  /** Pages of 4 KiB by number. */
  pages: Map<number, Uint8Array>;
}

export function createByteMemory(): ByteMemory {
  return { pages: new Map() };
}

/** Copies bytes to `address`. */
export function byteMemoryWrite(memory: ByteMemory, address: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    const number = Math.floor((address + done) / PAGE_SIZE);
    const at = (address + done) % PAGE_SIZE;
    const part = bytes.subarray(done, done + PAGE_SIZE - at);
    let page = memory.pages.get(number);
    if (page === undefined) {
      page = new Uint8Array(PAGE_SIZE);
      memory.pages.set(number, page);
    }
    page.set(part, at);
    done += part.length;
  }
}

/** A copy of `length` bytes from `address` on. */
export function byteMemoryRead(memory: ByteMemory, address: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const at = (address + done) % PAGE_SIZE;
    const part = Math.min(length - done, PAGE_SIZE - at);
    const page = memory.pages.get(Math.floor((address + done) / PAGE_SIZE));
    if (page !== undefined) bytes.set(page.subarray(at, at + part), done);
    done += part;
  }
  return bytes;
}

/** Writes words of 32 bits, lowest byte first. */
export function byteMemoryWriteWords(memory: ByteMemory, address: number, words: readonly number[]): void {
  byteMemoryWrite(memory, address, bytesOfWords(words));
}

/** The word of 32 bits at `address`, lowest byte first. */
export function byteMemoryReadWord(memory: ByteMemory, address: number): number {
  return wordAt(byteMemoryRead(memory, address, 4), 0);
}

export function bytesOfWords(words: readonly number[]): Uint8Array {
  const all = new Uint32Array(words.length);
  for (let i = 0; i < words.length; i++) all[i] = words[i];
  return new Uint8Array(all.buffer);
}

/** The word of 32 bits at byte `at`. */
export function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}

export function bytesEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
