/**
 * A copy engine's secure copies between protected memory of the GPU and staging buffers that anybody can read:
 * uvm_hal_hopper_ce_encrypt and _decrypt of uvm_hopper_ce.c (driver 580.105.08), from the engine's side.
 *
 * Each channel counts the IVs that it uses, in each direction; the driver counts along (uvm/conf_computing.ts), and
 * both agree because the pushes of a channel run in the order in which they were built. An IV is kept as one number,
 * rotations * 2^32 + messages since the last rotation. The key of a channel is that of its engine's pool; when it is
 * rotated the messages are counted from 0 again.
 */
import { createPrng, prngNext } from '../../base/prng.ts';
import { PAGE_SIZE } from '../../base/units.ts';
import type { Model } from '../state.ts';
import { bytesOfWords, wordAt } from './byte_memory.ts';
import { contentsPutBytes, contentsWords } from './contents.ts';
import { METHOD_SECURE_DECRYPT_AT } from './methods.ts';
import { secureMemoryRead, secureMemoryWrite } from './secure_memory.ts';

const TWO_32 = 2 ** 32;
const TAG_BYTES = 16;
/** uvm_gpu_encrypted_semaphore_payload_t: the payload is at 0. */
const NOTIFIER_OFFSET = 4;
const TAG_OFFSET = 16;

/** Key and IVs as the engine has them. */
export interface SecureChannel {
  /** The channel's id, which is part of its IVs: channels of a pool share a key. */
  channel: number;
  key: Uint8Array;
  /** Last IV used to decrypt what the CPU sends, and to encrypt for it. */
  toGpuIv: number;
  toCpuIv: number;
  /** SEC2 alone: method streams whose signature was checked. */
  signed: number;
  /** Where the payload of its tracking semaphore goes in unprotected memory: in the clear from SEC2, else encrypted. */
  semaphore: number;
  encryptsSemaphore: boolean;
  /** Even notifier of the last release; where LCIC's next ones lie, which the CPU has prepared (-1: in the push). */
  notifier: number;
  preparedNotifiers: number;
}

/**
 * The key that channels of a pool get from the resource manager, 32 bytes: the same in each run, and another one after
 * each rotation of the pool's key, `version` of them.
 */
export function secureKey(gpu: number, pool: number, version = 0): Uint8Array {
  const prng = createPrng(0x5ec2 + gpu * 64 + pool);
  const words = Uint32Array.from({ length: 8 }, () => prngNext(prng));
  if (version > 0) {
    const rotated = createPrng(version);
    for (let i = 0; i < words.length; i++) words[i] ^= prngNext(rotated);
  }
  return new Uint8Array(words.buffer);
}

/** The 12 bytes of an IV: channel and direction, rotations, messages. */
export function secureIv(channel: number, toGpu: boolean, iv: number): Uint8Array {
  const words = Uint32Array.of(2 * channel + (toGpu ? 1 : 0), Math.floor(iv / TWO_32), iv % TWO_32);
  return new Uint8Array(words.buffer);
}

/** Operands of the two copies, behind the op code: see METHOD_SECURE_DECRYPT. */
const PROCESSOR = 1;
const PAGE = 2;
const OFFSET = 3;
const BYTES = 4;
const BUFFER = 5;
const SLOT = 6;

/**
 * Runs the method at word `i`: one page, or a part of it, from a staging buffer into the GPU's memory. Returns false
 * where its tag does not fit.
 */
export function secureDecrypt(
  m: Model,
  gpu: number,
  secure: SecureChannel | null,
  w: Float64Array,
  i: number,
): boolean {
  const { confComputing } = m.gpus[gpu].channelManager;
  const res = m.res.confComputing;
  if (secure === null || confComputing === null || res === null) return true;
  const iv = secureIv(secure.channel, true, ++secure.toGpuIv);
  if (m.contents === null || res.aead === null) return true;
  const buffer = confComputing.dma.buffers[w[i + BUFFER]];
  const cipher = buffer.cipher.get(w[i + SLOT]);
  const tag = buffer.tag.get(w[i + SLOT]);
  const plain = cipher === undefined || tag === undefined ? null : res.aead.open(secure.key, iv, cipher, tag);
  if (plain === null) return false;
  const processor = w[i + PROCESSOR];
  const page = w[i + PAGE];
  if (plain.length === PAGE_SIZE) m.contents.pages[processor].set(page, new Uint32Array(plain.slice().buffer));
  else contentsPutBytes(m.contents, processor, page, w[i + OFFSET], plain);
  return true;
}

/** Runs the method at word `i`: one page, or a part of it, from the GPU's memory into a staging buffer. */
export function secureEncrypt(m: Model, gpu: number, secure: SecureChannel | null, w: Float64Array, i: number): void {
  const { confComputing } = m.gpus[gpu].channelManager;
  const res = m.res.confComputing;
  if (secure === null || confComputing === null || res === null) return;
  const iv = secureIv(secure.channel, false, ++secure.toCpuIv);
  if (m.contents === null || res.aead === null) return;
  const words = contentsWords(m.contents, w[i + PROCESSOR], w[i + PAGE]);
  const { cipher, tag } = res.aead.seal(secure.key, iv, new Uint8Array(words.buffer, w[i + OFFSET], w[i + BYTES]));
  const buffer = confComputing.dma.buffers[w[i + BUFFER]];
  buffer.cipher.set(w[i + SLOT], cipher);
  buffer.tag.set(w[i + SLOT], tag);
  res.bounceWritten?.(m, gpu, w[i + BUFFER], w[i + SLOT], false);
}

/** Decrypts `bytes` bytes at `src` to `dst`, addresses both. Returns false where the tag at `tag` does not fit. */
export function secureDecryptAt(
  m: Model,
  gpu: number,
  secure: SecureChannel,
  dst: number,
  src: number,
  bytes: number,
  tag: number,
): boolean {
  const iv = secureIv(secure.channel, true, ++secure.toGpuIv);
  const memory = m.gpus[gpu].channelManager.confComputing?.memory;
  const aead = m.res.confComputing?.aead;
  if (memory == null || aead == null) return true;
  const cipher = secureMemoryRead(memory, src, bytes);
  const plain = aead.open(secure.key, iv, cipher, secureMemoryRead(memory, tag, TAG_BYTES));
  if (plain === null) return false;
  secureMemoryWrite(m, gpu, dst, plain);
  return true;
}

/** Encrypts `bytes` bytes at `src` to `dst`, and puts the tag to `tag`. */
export function secureEncryptAt(
  m: Model,
  gpu: number,
  secure: SecureChannel,
  dst: number,
  src: number,
  bytes: number,
  tag: number,
): void {
  const iv = secureIv(secure.channel, false, ++secure.toCpuIv);
  const memory = m.gpus[gpu].channelManager.confComputing?.memory;
  const aead = m.res.confComputing?.aead;
  if (memory == null || aead == null) return;
  const sealed = aead.seal(secure.key, iv, secureMemoryRead(memory, src, bytes));
  secureMemoryWrite(m, gpu, dst, sealed.cipher);
  secureMemoryWrite(m, gpu, tag, sealed.tag);
}

/** Runs the method at word `i`, between addresses on the GPU. Returns false where a tag does not fit. */
export function secureRunAt(m: Model, gpu: number, secure: SecureChannel | null, w: Float64Array, i: number): boolean {
  if (secure === null) return true;
  if (w[i] === METHOD_SECURE_DECRYPT_AT) {
    return secureDecryptAt(m, gpu, secure, w[i + 1], w[i + 2], w[i + 3], w[i + 4]);
  }
  secureEncryptAt(m, gpu, secure, w[i + 1], w[i + 2], w[i + 3], w[i + 4]);
  return true;
}

/**
 * The release of a tracking semaphore with Confidential Computing, right after the payload itself was written. A copy
 * engine sets the notifier to an odd number, encrypts the payload, and sets it to the next even number; all of it is
 * there at once in the model. SEC2 cannot encrypt, and writes the payload.
 */
export function secureRelease(m: Model, gpu: number, secure: SecureChannel, payload: number): void {
  const at = secure.semaphore;
  if (!secure.encryptsSemaphore) {
    secureMemoryWrite(m, gpu, at, bytesOfWords([payload]));
    return;
  }
  const iv = secureIv(secure.channel, false, ++secure.toCpuIv);
  const memory = m.gpus[gpu].channelManager.confComputing?.memory;
  const aead = m.res.confComputing?.aead;
  if (memory == null || aead == null) return;
  secure.notifier += 2;
  const prepared = secure.preparedNotifiers;
  const notifier = prepared === -1 ? secure.notifier : wordAt(secureMemoryRead(memory, prepared + 4, 4), 0);
  const { cipher, tag } = aead.seal(secure.key, iv, bytesOfWords([payload]));
  const written = new Uint8Array(TAG_OFFSET + TAG_BYTES);
  written.set(cipher);
  written.set(bytesOfWords([notifier]), NOTIFIER_OFFSET);
  written.set(tag, TAG_OFFSET);
  secureMemoryWrite(m, gpu, at, written);
}
