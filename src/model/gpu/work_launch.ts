/**
 * What the engines that launch work do with Confidential Computing, from their side: WLC, a channel of a copy engine
 * that decrypts its own push and runs it, and SEC2, which checks the signature of its methods (uvm_channel.c,
 * uvm_hopper_ce.c, uvm_hopper_sec2.c, driver 580.105.08).
 *
 * They read their methods word by word, as hardware does: addresses and sizes are what the push says. A push of these
 * channels is waited for by the thread that submits it, so what it does to memory is done when it is submitted; its
 * tracking semaphore is released at its finish, by the host.
 */
import type { Model } from '../state.ts';
import { bytesEqual, bytesOfWords, wordAt } from './byte_memory.ts';
import {
  CE_LAUNCH_DMA,
  CE_LINE_LENGTH_IN,
  CE_OFFSET_IN_LOWER,
  CE_OFFSET_IN_UPPER,
  CE_OFFSET_OUT_LOWER,
  CE_OFFSET_OUT_UPPER,
  CE_SET_DECRYPT_AUTH_TAG_COMPARE_ADDR_LOWER,
  CE_SET_DECRYPT_AUTH_TAG_COMPARE_ADDR_UPPER,
  CE_SET_REMAP_CONST_A,
  CE_SET_REMAP_CONST_B,
  CE_SET_SECURE_COPY_MODE,
  CE_SET_SEMAPHORE_A,
  CE_SET_SEMAPHORE_B,
  CE_SET_SEMAPHORE_PAYLOAD,
  HOST_NOP,
  LAUNCH_DMA_COPY_TYPE_MASK,
  LAUNCH_DMA_COPY_TYPE_SECURE,
  LAUNCH_DMA_REDUCTION_INC,
  LAUNCH_DMA_REMAP_ENABLE,
  LAUNCH_DMA_TRANSFER_MASK,
  methodHeader,
  SEC2_DECRYPT_COPY_AUTH_TAG_ADDR_HI,
  SEC2_DECRYPT_COPY_AUTH_TAG_ADDR_LO,
  SEC2_DECRYPT_COPY_DST_ADDR_HI,
  SEC2_DECRYPT_COPY_DST_ADDR_LO,
  SEC2_DECRYPT_COPY_SIZE,
  SEC2_DECRYPT_COPY_SRC_ADDR_HI,
  SEC2_DECRYPT_COPY_SRC_ADDR_LO,
  SEC2_EXECUTE,
  SEC2_METHOD_STREAM_AUTH_TAG_ADDR_HI,
  SEC2_METHOD_STREAM_AUTH_TAG_ADDR_LO,
  SEC2_SEMAPHORE_A,
  SEC2_SEMAPHORE_B,
  SEC2_SEMAPHORE_D,
  SEC2_SET_SEMAPHORE_PAYLOAD_LOWER,
  SUBCHANNEL_CE,
  SUBCHANNEL_HOST,
  SUBCHANNEL_SEC2,
} from './hopper_classes.ts';
import { type SecureChannel, secureDecryptAt, secureIv, secureKey } from './secure_copy.ts';
import { secureMemoryRead, secureMemoryWrite } from './secure_memory.ts';

const TWO_32 = 2 ** 32;
const METHOD_WORDS_OF_CLASS = 0x400;
/** Signatures have a key of their own: no pool has this number. */
const SIGN_POOL = 63;
const SIGN_BYTES = 32;

/** Calls `each` for every method but NOPs, in order, until it returns false; false too where a header is none. */
export function methodsWalk(
  code: Uint8Array,
  each: (subchannel: number, method: number, data: number) => boolean,
): boolean {
  for (let at = 0; at < code.length; ) {
    const header = methodHeader(wordAt(code, at));
    if (header === null || at + 4 * (header.count + 1) > code.length) return false;
    const isNop = header.subchannel === SUBCHANNEL_HOST && header.address === HOST_NOP;
    for (let i = 0; i < header.count && !isNop; i++) {
      const method = header.address + (header.incrementing ? 4 * i : 0);
      if (!each(header.subchannel, method, wordAt(code, at + 4 * (i + 1)))) return false;
    }
    at += 4 * (header.count + 1);
  }
  return true;
}

/** An address in the registers of two consecutive methods. */
function addressIn(registers: Uint32Array, high: number, low: number): number {
  return registers[high >>> 2] * TWO_32 + registers[low >>> 2];
}

/**
 * A copy engine runs methods that launch work: decryptions, entries of 8 bytes, releases of semaphores. Returns false
 * where a tag does not fit: the channel has failed. What it encrypts for the CPU comes with the tracking semaphore.
 */
export function ceRunLaunch(m: Model, gpu: number, secure: SecureChannel, code: Uint8Array): boolean {
  const registers = new Uint32Array(METHOD_WORDS_OF_CLASS);
  return methodsWalk(code, (subchannel, method, data) => {
    if (subchannel !== SUBCHANNEL_CE) return true;
    registers[method >>> 2] = data;
    return method === CE_LAUNCH_DMA ? ceLaunch(m, gpu, secure, registers, data) : true;
  });
}

function ceLaunch(m: Model, gpu: number, secure: SecureChannel, registers: Uint32Array, launch: number): boolean {
  if ((launch & LAUNCH_DMA_TRANSFER_MASK) === 0) {
    const address = addressIn(registers, CE_SET_SEMAPHORE_A, CE_SET_SEMAPHORE_B);
    const payload = registers[CE_SET_SEMAPHORE_PAYLOAD >>> 2];
    const counts = (launch & LAUNCH_DMA_REDUCTION_INC) === LAUNCH_DMA_REDUCTION_INC;
    ceRelease(m, gpu, address, payload, counts);
    return true;
  }
  const dst = addressIn(registers, CE_OFFSET_OUT_UPPER, CE_OFFSET_OUT_LOWER);
  const count = registers[CE_LINE_LENGTH_IN >>> 2];
  const copyType = launch & LAUNCH_DMA_COPY_TYPE_MASK;
  if (copyType === LAUNCH_DMA_COPY_TYPE_SECURE) {
    if (registers[CE_SET_SECURE_COPY_MODE >>> 2] === 0) return true;
    const src = addressIn(registers, CE_OFFSET_IN_UPPER, CE_OFFSET_IN_LOWER);
    const tag = addressIn(
      registers,
      CE_SET_DECRYPT_AUTH_TAG_COMPARE_ADDR_UPPER,
      CE_SET_DECRYPT_AUTH_TAG_COMPARE_ADDR_LOWER,
    );
    return secureDecryptAt(m, gpu, secure, dst, src, count, tag);
  }
  if (copyType === 0 && (launch & LAUNCH_DMA_REMAP_ENABLE) !== 0) {
    const pair = [registers[CE_SET_REMAP_CONST_A >>> 2], registers[CE_SET_REMAP_CONST_B >>> 2]];
    for (let i = 0; i < count; i++) secureMemoryWrite(m, gpu, dst + 8 * i, bytesOfWords(pair));
  }
  return true;
}

function ceRelease(m: Model, gpu: number, address: number, payload: number, counts: boolean): void {
  const memory = m.gpus[gpu].channelManager.confComputing?.memory;
  if (memory == null) return;
  const before = counts ? wordAt(secureMemoryRead(memory, address, 4), 0) : 0;
  const value = counts ? (before >= payload ? 0 : before + 1) : payload;
  secureMemoryWrite(m, gpu, address, bytesOfWords([value]));
}

/**
 * The signature of SEC2's methods, [address, data] each, of which `count` were signed before. The driver has an HMAC of
 * 32 bytes from the resource manager; here it is the tag of the model's cipher, twice.
 */
export function methodStreamTag(m: Model, gpu: number, count: number, methods: readonly number[]): Uint8Array {
  const tag = new Uint8Array(SIGN_BYTES);
  const aead = m.res.confComputing?.aead;
  if (aead == null) return tag;
  const sealed = aead.seal(secureKey(gpu, SIGN_POOL), secureIv(0, true, count), bytesOfWords(methods));
  tag.set(sealed.tag);
  tag.set(sealed.tag, sealed.tag.length);
  return tag;
}

/** SEC2 runs a push of `bytes` bytes in unprotected memory. Returns false where a tag or a signature does not fit. */
export function sec2Run(m: Model, gpu: number, secure: SecureChannel, address: number, bytes: number): boolean {
  const memory = m.gpus[gpu].channelManager.confComputing?.memory;
  if (memory == null) return true;
  const registers = new Uint32Array(METHOD_WORDS_OF_CLASS);
  let stream: number[] = [];
  return methodsWalk(secureMemoryRead(memory, address, bytes), (subchannel, method, data) => {
    if (subchannel !== SUBCHANNEL_SEC2) return true;
    registers[method >>> 2] = data;
    stream.push(method, data);
    if (method !== SEC2_EXECUTE && method !== SEC2_SEMAPHORE_D) return true;
    const at = addressIn(registers, SEC2_METHOD_STREAM_AUTH_TAG_ADDR_HI, SEC2_METHOD_STREAM_AUTH_TAG_ADDR_LO);
    const signature = methodStreamTag(m, gpu, ++secure.signed, stream);
    stream = [];
    if (!bytesEqual(secureMemoryRead(memory, at, SIGN_BYTES), signature)) return false;
    return sec2Execute(m, gpu, secure, registers, method);
  });
}

function sec2Execute(m: Model, gpu: number, secure: SecureChannel, registers: Uint32Array, method: number): boolean {
  if (method === SEC2_SEMAPHORE_D) {
    const address = addressIn(registers, SEC2_SEMAPHORE_A, SEC2_SEMAPHORE_B);
    const payload = registers[SEC2_SET_SEMAPHORE_PAYLOAD_LOWER >>> 2];
    // The tracking semaphore is released by the host, at the finish of the push.
    if (address !== secure.semaphore) secureMemoryWrite(m, gpu, address, bytesOfWords([payload]));
    return true;
  }
  const src = addressIn(registers, SEC2_DECRYPT_COPY_SRC_ADDR_HI, SEC2_DECRYPT_COPY_SRC_ADDR_LO);
  const dst = addressIn(registers, SEC2_DECRYPT_COPY_DST_ADDR_HI, SEC2_DECRYPT_COPY_DST_ADDR_LO);
  const tag = addressIn(registers, SEC2_DECRYPT_COPY_AUTH_TAG_ADDR_HI, SEC2_DECRYPT_COPY_AUTH_TAG_ADDR_LO);
  return secureDecryptAt(m, gpu, secure, dst, src, registers[SEC2_DECRYPT_COPY_SIZE >>> 2], tag);
}
