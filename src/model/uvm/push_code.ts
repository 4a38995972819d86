/**
 * Models uvm_push_macros.h and the inline data of uvm_push.c (driver 580.105.08): the words that a push is made of.
 *
 * Functions: NV_PUSH_*U, uvm_push_get_single_inline_buffer, uvm_push_inline_data_end. Only where such bytes are really
 * encrypted does the model write them (push_encode.ts); their sizes alone are in push_bytes.ts.
 */
import { assert } from '../../base/assert.ts';
import { bytesOfWords } from '../gpu/byte_memory.ts';
import { HOST_NOP, METHOD_COUNT_MAX, methodInc, methodNonInc, SUBCHANNEL_HOST } from '../gpu/hopper_classes.ts';

const TWO_32 = 2 ** 32;
const WORD = 4;

/** A push under way. */
export interface PushCode {
  /** Where its first byte lies for the GPU. */
  address: number;
  words: number[];
}

export function createPushCode(address: number): PushCode {
  return { address, words: [] };
}

/** Bytes so far. */
export function codeSize(code: PushCode): number {
  return WORD * code.words.length;
}

export function codeBytes(code: PushCode): Uint8Array {
  return bytesOfWords(code.words);
}

/** Upper and lower half of an address or of an entry of 64 bits. */
export function high32(value: number): number {
  return Math.floor(value / TWO_32);
}
export function low32(value: number): number {
  return value % TWO_32;
}

/** One header, and a word for each of the consecutive methods from `method` on. */
export function codeMethods(code: PushCode, subchannel: number, method: number, ...data: number[]): void {
  code.words.push(methodInc(subchannel, method, data.length));
  for (const word of data) code.words.push(word >>> 0);
}

/** `bytes` bytes that the host passes over, the header's among them (noop). */
export function codeNoop(code: PushCode, bytes: number): void {
  let rest = bytes / WORD;
  while (rest > 0) {
    const count = Math.min(METHOD_COUNT_MAX, rest - 1);
    code.words.push(methodNonInc(SUBCHANNEL_HOST, HOST_NOP, count));
    for (let i = 0; i < count; i++) code.words.push(0);
    rest -= count + 1;
  }
}

/** Room for `bytes` bytes of data at a multiple of `alignment`, behind a NOP's header. Returns its address. */
export function codeInlineRoom(code: PushCode, bytes: number, alignment: number): number {
  const behind = code.address + codeSize(code) + WORD;
  const address = Math.ceil(behind / alignment) * alignment;
  codeNoop(code, WORD + address - behind + Math.ceil(bytes / WORD) * WORD);
  return address;
}

/** Puts words into the room that codeInlineRoom gave. */
export function codeFill(code: PushCode, address: number, words: readonly number[]): void {
  const at = (address - code.address) / WORD;
  assert(at >= 0 && at + words.length <= code.words.length, 'inline data stays in its push');
  for (let i = 0; i < words.length; i++) code.words[at + i] = words[i] >>> 0;
}
