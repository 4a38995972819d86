/**
 * Models the methods of uvm_hal.h's Host and copy-engine HALs (uvm_volta_host.c, uvm_hopper_ce.c, driver 580.105.08) as
 * far as a fault path emits them: copies, memsets, page-table writes, TLB invalidates, replays, cancels, timestamps.
 *
 * A push is a run of words in a buffer of doubles (page numbers and entries exceed 32 bits): an op code, then its
 * operands; the op code alone tells their count. Sizes in bytes are in uvm/push_bytes.ts, the words that a copy engine
 * reads in uvm/push_encode.ts. Left out: semaphore acquires and releases (the host keeps them as numbers of the GPFIFO
 * entry), inline data, membars and pipelining flags.
 */
import { grown } from '../../base/grown.ts';

/** dst, src (processor ids), first page, pages: one method for the run. */
export const METHOD_COPY = 1;
/** As METHOD_COPY, emitted as one method for each page. */
export const METHOD_COPY_SCATTERED = 2;
/** processor, first page, pages: zeros. */
export const METHOD_MEMSET = 3;
/** level, first page, pages, entry. */
export const METHOD_PTE = 4;
/** first page, pages, flags (TLB_*). */
export const METHOD_TLB_INVALIDATE = 5;
/** replay type. */
export const METHOD_REPLAY = 6;
/** page, VA space, access filter. */
export const METHOD_CANCEL = 7;
/** slot in the push's timestamps. */
export const METHOD_TIMESTAMP = 8;

/**
 * src (processor id), page, byte in it, pin (kernel/mm.ts), byte in the pinned memory, bytes: from consecutive pages of
 * a processor's memory to pinned CPU memory, which has addresses of its own.
 */
export const METHOD_COPY_OUT = 9;

/**
 * dst (processor id), page, byte in it, pin, byte in the pinned memory, bytes: from pinned CPU memory to a processor's
 * memory; neither side leaves its page.
 */
export const METHOD_COPY_IN = 10;

/**
 * gpu (processor id), page, byte in it, bytes, staging buffer, page of the buffer: cipher text of a staging buffer to a
 * page of the GPU's memory, decrypted (gpu/secure_copy.ts).
 */
export const METHOD_SECURE_DECRYPT = 11;
/** The same operands: a page of the GPU's memory to a staging buffer, encrypted. */
export const METHOD_SECURE_ENCRYPT = 12;
/** Destination, source (addresses on the GPU, gpu/secure_memory.ts), bytes, address of the tag: an encryption. */
export const METHOD_SECURE_ENCRYPT_AT = 13;
/** The same operands: a decryption. */
export const METHOD_SECURE_DECRYPT_AT = 14;

/** Flags of METHOD_TLB_INVALIDATE. */
export const TLB_ALL = 1;
export const TLB_MEMBAR = 2;

/** Names by op code, for reports. */
export const METHOD_NAMES: readonly string[] = [
  'none',
  'copy',
  'copyScattered',
  'memset',
  'pte',
  'tlbInvalidate',
  'replay',
  'cancel',
  'timestamp',
  'copyOut',
  'copyIn',
  'secureDecrypt',
  'secureEncrypt',
  'secureEncryptAt',
  'secureDecryptAt',
];

/** Words of a method, the op code included, by op code. */
export const METHOD_WORDS: readonly number[] = [1, 5, 5, 4, 5, 4, 2, 4, 2, 7, 7, 7, 7, 5, 5];

const FIRST_BUFFER_WORDS = 64;

/**
 * Memory that the CPU fills with methods and the host reads: one buffer for each push that is being built or has not
 * run. Buffers are taken last freed first, so a quiet machine works in one or two of them.
 */
export interface MethodMemory {
  buffers: Float64Array[];
  /** Numbers of the free buffers, a stack. */
  free: number[];
}

export function createMethodMemory(): MethodMemory {
  return { buffers: [], free: [] };
}

/** Takes a buffer and returns its number, the index of `memory.buffers`. */
export function methodMemoryClaim(memory: MethodMemory): number {
  if (memory.free.length > 0) return memory.free.pop() as number;
  memory.buffers.push(new Float64Array(FIRST_BUFFER_WORDS));
  return memory.buffers.length - 1;
}

/** Gives a buffer back once its methods ran. */
export function methodMemoryRelease(memory: MethodMemory, buffer: number): void {
  memory.free.push(buffer);
}

/** Doubles a buffer, keeps its words and returns the new array. */
export function methodMemoryGrow(memory: MethodMemory, buffer: number): Float64Array {
  const words = memory.buffers[buffer];
  memory.buffers[buffer] = grown(words, 2 * words.length);
  return memory.buffers[buffer];
}
