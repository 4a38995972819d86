/**
 * Pushes to SEC2 (uvm_channel.c, uvm_conf_computing.c, driver 580.105.08). They lie in unprotected memory as they are:
 * everybody can read them, and their signatures tell whether they were changed. What they carry is encrypted.
 *
 * Functions: push_reserve_auth_tag, set_gpfifo_via_sec2, update_gpput_via_sec2; begin and end of a push on SEC2.
 *
 * The model has no GPFIFO entries of before to write again: the other half of 16 bytes is an empty entry.
 */
import { assert } from '../../base/assert.ts';
import { bytesEqual, bytesOfWords, wordAt } from '../gpu/byte_memory.ts';
import { secureMemoryRead, secureMemoryWrite } from '../gpu/secure_memory.ts';
import { methodStreamTag, sec2Run } from '../gpu/work_launch.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_SEC2, type Channel, channelGet, channelManagerGet, channelReserveType } from './channel.ts';
import { cpuEncryptAt } from './channel_conf_computing_bytes.ts';
import { acquireEncryptionIv, confComputingOf, cpuEncryptNote } from './conf_computing.ts';
import { MEMBAR_SYS } from './hopper_ce.ts';
import { sec2Decrypt, sec2ReserveSignBuf, sec2SemaphoreRelease } from './hopper_sec2.ts';
import { failedPush, type Push, pushBeginOnReservedChannel, pushEndAndWait } from './push.ts';
import { PUSH_END_BYTES } from './push_bytes.ts';
import { codeBytes, codeInlineRoom, codeSize, createPushCode, low32, type PushCode } from './push_code.ts';
import {
  AUTH_TAG_BYTES,
  gpfifoGpuVa,
  gpGetGpuVa,
  gpPutGpuVa,
  pushbufferUnprotectedGpuVa,
  SIGN_AUTH_TAG_BYTES,
  semaphoreSec2GpuVa,
} from './secure_memory.ts';
import { NV_ERR_INVALID_STATE, NV_OK } from './status.ts';

/** UVM_CONF_COMPUTING_SEC2_BUF_ALIGNMENT: SEC2 writes no less. */
export const SEC2_WRITE_BYTES = 16;

/** A push to SEC2 under way; `push.status` tells whether there is one. */
export interface Sec2Push {
  push: Push;
  code: PushCode;
  /** Room for tags and cipher text in the push, which the CPU fills before the push itself is there. */
  rooms: { address: number; bytes: number }[];
  /** What it decrypts, and where to: kept so that the outcome can be compared. */
  expected: { address: number; plain: Uint8Array }[];
}

/** Begins a push on a reserved SEC2 channel. */
export function sec2Begin(m: Model, sec2: Channel, purpose: number): Sec2Push {
  const push = pushBeginOnReservedChannel(m, sec2, CHANNEL_TYPE_SEC2, purpose);
  const code = createPushCode(pushbufferUnprotectedGpuVa(push.offset));
  if (push.status === NV_OK) sec2ReserveSignBuf(code);
  return { push, code, rooms: [], expected: [] };
}

/** Begins a push on SEC2's channel, once it has room; there is none without Confidential Computing. */
export function sec2BeginPush(m: Model, gpu: number, purpose: number): Sec2Push {
  const hasSec2 = m.gpus[gpu].channelManager.confComputing !== null;
  const sec2 = hasSec2 ? channelReserveType(m, gpu, CHANNEL_TYPE_SEC2) : null;
  if (sec2 !== null) return sec2Begin(m, sec2, purpose);
  const status = hasSec2 ? m.globalStatus : NV_ERR_INVALID_STATE;
  return { push: failedPush(m, gpu, status), code: createPushCode(0), rooms: [], expected: [] };
}

/** Room in the push for a tag, or for cipher text: addresses in unprotected memory. */
export function sec2Reserve(s: Sec2Push, bytes = AUTH_TAG_BYTES): number {
  const address = codeInlineRoom(s.code, bytes, AUTH_TAG_BYTES);
  s.rooms.push({ address, bytes });
  return address;
}

function signer(m: Model, push: Push): (methods: readonly number[]) => number[] {
  const conf = confComputingOf(m.gpus[push.gpu].channelManager);
  return (methods) => {
    conf.signed++;
    if (conf.memory === null) return [];
    const tag = methodStreamTag(m, push.gpu, conf.signed, methods);
    return Array.from({ length: SIGN_AUTH_TAG_BYTES / 4 }, (_, i) => wordAt(tag, 4 * i));
  };
}

/**
 * The CPU encrypts `bytes` bytes to `src` with the tag at `tag`, and SEC2 decrypts them to `dst`. `plain` is null
 * without contents.
 */
export function sec2Upload(
  m: Model,
  s: Sec2Push,
  plain: Uint8Array | null,
  bytes: number,
  src: number,
  tag: number,
  dst: number,
): void {
  assert(bytes > 0 && (plain === null || plain.length === bytes), 'SEC2 decrypts as many bytes as were encrypted');
  const channel = channelGet(m, s.push.channel);
  const iv = acquireEncryptionIv(m, channel);
  cpuEncryptNote(m, channel, bytes);
  s.push.methods++;
  sec2Decrypt(s.code, dst, src, bytes, tag, signer(m, s.push));
  if (plain === null) return;
  // What lies in the push itself is put there with the push.
  cpuEncryptAt(m, channel, iv, plain, src, tag);
  s.expected.push({ address: dst, plain });
}

/** A release by SEC2 of a semaphore in unprotected memory, or of a doorbell. */
export function sec2Release(m: Model, s: Sec2Push, address: number, payload: number, membar = MEMBAR_SYS): void {
  s.push.methods++;
  sec2SemaphoreRelease(s.code, address, payload, membar, signer(m, s.push));
}

/** set_gpfifo_via_sec2: a GPFIFO entry, two words, and the other one of 16 bytes. */
export function sec2SetGpfifo(m: Model, s: Sec2Push, channel: Channel, entry: readonly [number, number]): void {
  const at = gpfifoGpuVa(channel, channel.cpuPut);
  const words = at % SEC2_WRITE_BYTES === 0 ? [...entry, 0, 0] : [0, 0, ...entry];
  upload16(m, s, words, at - (at % SEC2_WRITE_BYTES));
}

/** update_gpput_via_sec2: PUT, and GET besides, which nobody reads. */
export function sec2UpdateGpPut(m: Model, s: Sec2Push, channel: Channel, put: number): void {
  const at = gpPutGpuVa(channel);
  const words = [0, 0, 0, 0];
  words[(at % SEC2_WRITE_BYTES) / 4] = put;
  words[(gpGetGpuVa(channel) % SEC2_WRITE_BYTES) / 4] = put;
  upload16(m, s, words, at - (at % SEC2_WRITE_BYTES));
}

function upload16(m: Model, s: Sec2Push, words: readonly number[], dst: number): void {
  const plain = hasBytes(m, s) ? bytesOfWords(words) : null;
  const src = sec2Reserve(s, SEC2_WRITE_BYTES);
  const tag = sec2Reserve(s);
  sec2Upload(m, s, plain, SEC2_WRITE_BYTES, src, tag, dst);
}

function hasBytes(m: Model, s: Sec2Push): boolean {
  return confComputingOf(m.gpus[s.push.gpu].channelManager).memory !== null;
}

/**
 * Ends the push and waits for it; returns a driver status. SEC2 runs it as it lies in unprotected memory: what it
 * cannot decrypt, or what was not signed so, is an error of its channel.
 */
export function sec2EndAndWait(m: Model, s: Sec2Push): number {
  const { push, code } = s;
  const channel = channelGet(m, push.channel);
  const { host } = channelManagerGet(m, channel);
  const value = channel.trackingSem.queuedValue + 1;
  sec2SemaphoreRelease(code, semaphoreSec2GpuVa(channel.trackingSem), low32(value), MEMBAR_SYS, signer(m, push));
  // pushEnd adds what a release takes on a copy engine.
  push.bytes = codeSize(code) - PUSH_END_BYTES;
  const hostChannel = host.channels[channel.index];
  if (hasBytes(m, s) && hostChannel.secure !== null) {
    writePush(m, s);
    if (!sec2Run(m, push.gpu, hostChannel.secure, code.address, codeSize(code))) hostChannel.failsAt = value;
    else checkExpected(m, s);
  }
  return pushEndAndWait(m, push);
}

/** The push goes to unprotected memory, and leaves there what was encrypted into it before. */
function writePush(m: Model, s: Sec2Push): void {
  const { memory } = confComputingOf(m.gpus[s.push.gpu].channelManager);
  if (memory === null) return;
  const bytes = codeBytes(s.code);
  for (const { address, bytes: length } of s.rooms) {
    bytes.set(secureMemoryRead(memory, address, length), address - s.code.address);
  }
  secureMemoryWrite(m, s.push.gpu, s.code.address, bytes);
}

/** What SEC2 decrypted is what the CPU had. */
function checkExpected(m: Model, s: Sec2Push): void {
  const { memory } = confComputingOf(m.gpus[s.push.gpu].channelManager);
  if (memory === null) return;
  for (const { address, plain } of s.expected) {
    assert(bytesEqual(secureMemoryRead(memory, address, plain.length), plain), 'SEC2 decrypts what the CPU encrypted');
  }
}
