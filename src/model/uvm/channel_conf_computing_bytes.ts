/**
 * The bytes of launches with Confidential Computing: what uvm_channel.c and uvm_pushbuffer.c encrypt, decrypt and write
 * to unprotected memory for a push (driver 580.105.08). All of it is counted in any case; it is really done where
 * contents are kept.
 *
 * Functions: the encryptions of internal_channel_submit_work_indirect_wlc and internal_channel_submit_work_wlc, the
 * push that they build, decrypt_push of uvm_pushbuffer.c; uvm_conf_computing_cpu_encrypt and _cpu_decrypt between
 * addresses.
 */
import { assert } from '../../base/assert.ts';
import { byteMemoryRead, bytesEqual, bytesOfWords } from '../gpu/byte_memory.ts';
import { secureIv } from '../gpu/secure_copy.ts';
import { secureMemoryRead, secureMemoryWrite } from '../gpu/secure_memory.ts';
import { ceRunLaunch } from '../gpu/work_launch.ts';
import type { Model } from '../state.ts';
import { type Channel, channelGet, channelManagerGet } from './channel.ts';
import { confComputingOf, confComputingResources, type Decrypted } from './conf_computing.ts';
import { channelKey } from './conf_computing_key_rotation.ts';
import {
  CE_NO_MEMBAR,
  ceDecrypt,
  ceEncrypt,
  ceMemcopy,
  ceMemset8,
  ceSemaphoreReductionInc,
  ceSemaphoreRelease,
  MEMBAR_GPU,
  MEMBAR_NONE,
  unprotected,
  virtual,
} from './hopper_ce.ts';
import { gpfifoEntry, gpfifoSegmentBase, hostWfiMembar } from './hopper_host.ts';
import { codeBytes, codeNoop, codeSize, createPushCode, type PushCode } from './push_code.ts';
import { encodeRelease, pushEncode } from './push_encode.ts';
import type { Push } from './pushbuffer.ts';
import {
  doorbellGpuVa,
  ENCRYPTED_NOTIFIER_OFFSET,
  ENCRYPTED_TAG_OFFSET,
  gpfifoGpuVa,
  gpPutGpuVa,
  launchTagGpuVa,
  lcicNotifierGpuVa,
  pushbufferGpuVa,
  pushbufferUnprotectedGpuVa,
  semaphoreEncryptedGpuVa,
  semaphoreGpuVa,
  UNPROTECTED_IV,
  WLC_PUSH_BYTES,
  wlcDecryptGpuVa,
  wlcRunGpuVa,
  wlcTagGpuVa,
  wlcUnprotectedGpuVa,
} from './secure_memory.ts';
import { NV_ERR_INVALID_DATA, NV_OK } from './status.ts';

const AUTH_TAG_BYTES = 16;
const PAYLOAD_BYTES = 4;
const NOTIFIER_BYTES = 4;
const TIMESTAMP_PAYLOAD = 0xdeadbeef;
const TIME_OFFSET = 8;
const TWO_32 = 2 ** 32;
const ENTRIES_MAX = 2 ** 24;

/** Key of a push in ConfComputing.bundles. */
export function bundleKey(channel: Channel, entry: number): number {
  return channel.index * ENTRIES_MAX + entry;
}

/** A channel's number in its pool: that of its pair, for WLC and LCIC. */
export function indexInPool(m: Model, channel: Channel): number {
  return channelManagerGet(m, channel).pools[channel.pool].channels.indexOf(channel);
}

/** Encrypts bytes to an address, with an IV acquired before (uvm_conf_computing_cpu_encrypt). */
export function cpuEncryptAt(
  m: Model,
  channel: Channel,
  iv: number,
  plain: Uint8Array,
  dst: number,
  tag: number,
): void {
  const { aead } = confComputingResources(m);
  if (aead === null) return;
  const sealed = aead.seal(channelKey(m, channel), secureIv(channel.id, true, iv), plain);
  secureMemoryWrite(m, channel.gpu, dst, sealed.cipher);
  secureMemoryWrite(m, channel.gpu, tag, sealed.tag);
}

/** Decrypts bytes that the channel's engine encrypted with `iv` (uvm_conf_computing_cpu_decrypt). */
export function cpuDecryptAt(
  m: Model,
  channel: Channel,
  iv: number,
  src: number,
  bytes: number,
  tag: number,
): Decrypted {
  const { memory } = confComputingOf(channelManagerGet(m, channel));
  const { aead } = confComputingResources(m);
  if (memory === null || aead === null) return { status: NV_OK, plain: null };
  const cipher = byteMemoryRead(memory.unprotected, src, bytes);
  const written = byteMemoryRead(memory.unprotected, tag, AUTH_TAG_BYTES);
  const plain = aead.open(channelKey(m, channel), secureIv(channel.id, false, iv), cipher, written);
  return { status: plain === null ? NV_ERR_INVALID_DATA : NV_OK, plain };
}

/** The bytes of a push that has its tracking value; a push with a callback keeps where its timestamps are. */
export function pushPlain(m: Model, push: Push): Uint8Array {
  const { code, timestamps } = pushEncode(m, push);
  assert(codeSize(code) === push.bytes, 'a push has as many bytes as were counted');
  const channel = channelGet(m, push.channel);
  const bundle = confComputingOf(channelManagerGet(m, channel)).bundles.get(bundleKey(channel, channel.cpuPut));
  if (bundle !== undefined) bundle.timestamps = timestamps;
  return codeBytes(code);
}

/** WLC's push for another one: decrypts it, and writes its GPFIFO entry, PUT and doorbell. */
export function wlcLaunchCode(m: Model, wlc: Channel, push: Push): PushCode {
  const pair = indexInPool(m, wlc);
  const channel = channelGet(m, push.channel);
  const code = createPushCode(wlcRunGpuVa(pair));
  const methods = pushbufferGpuVa(push.offset);
  const encrypted = unprotected(pushbufferUnprotectedGpuVa(push.offset));
  ceDecrypt(code, virtual(methods), encrypted, push.bytes, launchTagGpuVa(pair), CE_NO_MEMBAR);
  addEntry(code, channel, gpfifoEntry(methods, push.bytes, false));
  return code;
}

/** WLC's push for the GPFIFO entry of a channel that holds no push. */
export function wlcControlCode(m: Model, wlc: Channel, channel: Channel): PushCode {
  const code = createPushCode(wlcRunGpuVa(indexInPool(m, wlc)));
  addEntry(code, channel, gpfifoSegmentBase(pushbufferGpuVa(0)));
  return code;
}

function addEntry(code: PushCode, channel: Channel, entry: [number, number]): void {
  const put = channel.cpuPut;
  ceMemset8(code, virtual(gpfifoGpuVa(channel, put)), entry[0], entry[1], 1);
  ceSemaphoreRelease(code, gpPutGpuVa(channel), (put + 1) & (channel.numGpfifoEntries - 1), MEMBAR_GPU);
  ceSemaphoreRelease(code, doorbellGpuVa, channel.id, MEMBAR_GPU);
}

/** The end of WLC's push: its own release, LCIC's PUT and doorbell, and so many NOPs that all pushes are as long. */
export function wlcEndCode(code: PushCode, wlc: Channel, lcic: Channel, value: number): void {
  encodeRelease(code, wlc, value);
  ceSemaphoreReductionInc(code, gpPutGpuVa(lcic), lcic.numGpfifoEntries - 1);
  ceSemaphoreRelease(code, doorbellGpuVa, lcic.id, MEMBAR_GPU);
  codeNoop(code, WLC_PUSH_BYTES - codeSize(code));
}

/** WLC's first push, which decrypts the second one; the same for each launch (setup_wlc_schedule). */
export function wlcDecryptCode(pair: number): PushCode {
  const code = createPushCode(wlcDecryptGpuVa(pair));
  const src = unprotected(wlcUnprotectedGpuVa(pair));
  const flags = { membar: MEMBAR_GPU, pipelined: false };
  ceDecrypt(code, virtual(wlcRunGpuVa(pair)), src, WLC_PUSH_BYTES, wlcTagGpuVa(pair), flags);
  hostWfiMembar(code, MEMBAR_NONE);
  return code;
}

/** LCIC's push, the same for each launch (setup_lcic_schedule). */
export function lcicCode(address: number, pair: number, wlc: Channel, lcic: Channel): PushCode {
  const code = createPushCode(address);
  const { trackingSem } = lcic;
  const at = semaphoreEncryptedGpuVa(trackingSem);
  const notifier = unprotected(at + ENCRYPTED_NOTIFIER_OFFSET);
  const prepared = lcicNotifierGpuVa(pair);
  const payload = semaphoreGpuVa(trackingSem);
  hostWfiMembar(code, MEMBAR_NONE);
  ceSemaphoreReductionInc(code, gpPutGpuVa(wlc), wlc.numGpfifoEntries - 1);
  ceSemaphoreReductionInc(code, gpPutGpuVa(wlc), wlc.numGpfifoEntries - 1);
  ceSemaphoreReductionInc(code, payload, TWO_32 - 1);
  ceMemcopy(code, notifier, unprotected(prepared), NOTIFIER_BYTES);
  ceEncrypt(code, unprotected(at), virtual(payload), PAYLOAD_BYTES, at + ENCRYPTED_TAG_OFFSET, UNPROTECTED_IV);
  ceMemcopy(code, notifier, unprotected(prepared + NOTIFIER_BYTES), NOTIFIER_BYTES);
  return code;
}

/** The CPU writes the two notifiers that LCIC's next push will copy. */
export function lcicPrepareNotifiers(m: Model, lcic: Channel): void {
  const { secure } = lcic.trackingSem;
  if (secure === null) return;
  const { lastPushedNotifier: last } = secure;
  secureMemoryWrite(m, lcic.gpu, lcicNotifierGpuVa(indexInPool(m, lcic)), bytesOfWords([last - 1, last]));
}

/**
 * WLC's schedule, for the push that lies encrypted in unprotected memory: its first push decrypts that one, and that
 * one runs. Returns false where a tag does not fit, and the channel has failed. What the engine decrypted is what the
 * CPU had built, `own` and, unless it is null, `carried` for the push that is launched.
 */
export function wlcRun(
  m: Model,
  wlc: Channel,
  own: Uint8Array,
  push: Push | null,
  carried: Uint8Array | null,
): boolean {
  const manager = channelManagerGet(m, wlc);
  const { memory } = confComputingOf(manager);
  const { secure } = manager.host.channels[wlc.index];
  if (memory === null || secure === null) return true;
  const pair = indexInPool(m, wlc);
  const first = codeSize(wlcDecryptCode(pair));
  if (!ceRunLaunch(m, wlc.gpu, secure, secureMemoryRead(memory, wlcDecryptGpuVa(pair), first))) return false;
  const run = secureMemoryRead(memory, wlcRunGpuVa(pair), WLC_PUSH_BYTES);
  assert(bytesEqual(run, own), 'what WLC decrypts is the push that the CPU has built');
  if (!ceRunLaunch(m, wlc.gpu, secure, run)) return false;
  if (push === null || carried === null) return true;
  const decrypted = secureMemoryRead(memory, pushbufferGpuVa(push.offset), push.bytes);
  assert(bytesEqual(decrypted, carried), 'what is launched is the push that the CPU has built');
  const channel = channelGet(m, push.channel);
  const entry = secureMemoryRead(memory, gpfifoGpuVa(channel, channel.cpuPut), 8);
  const wanted = bytesOfWords(gpfifoEntry(pushbufferGpuVa(push.offset), push.bytes, false));
  assert(bytesEqual(entry, wanted), 'the GPFIFO entry names the push');
  return true;
}

/** The engine writes the timestamps of a push with a callback, which is then encrypted for the CPU. */
export function writeTimestamps(m: Model, push: Push): void {
  const channel = channelGet(m, push.channel);
  const conf = confComputingOf(channelManagerGet(m, channel));
  const entry = (channel.cpuPut - 1) & (channel.numGpfifoEntries - 1);
  const bundle = conf.bundles.get(bundleKey(channel, entry));
  if (conf.memory === null || bundle === undefined || push.finish === Infinity) return;
  for (const [i, offset] of bundle.timestamps.entries()) {
    const at = pushbufferGpuVa(push.offset + offset);
    const time = push.timestamps[i];
    secureMemoryWrite(m, push.gpu, at, bytesOfWords([TIMESTAMP_PAYLOAD]));
    secureMemoryWrite(m, push.gpu, at + TIME_OFFSET, bytesOfWords([time % TWO_32, Math.floor(time / TWO_32)]));
  }
}

/**
 * decrypt_push: the CPU decrypts the push in a GPFIFO entry, so that its callback can read timestamps. A tag that does
 * not fit is no fatal error: the callback runs, and the driver prints an assertion.
 */
export function decryptPush(m: Model, channel: Channel, entry: number, value: number): void {
  const conf = confComputingOf(channelManagerGet(m, channel));
  const bundle = conf.bundles.get(bundleKey(channel, entry));
  if (bundle === undefined) return;
  conf.bundles.delete(bundleKey(channel, entry));
  const src = pushbufferUnprotectedGpuVa(bundle.offset);
  const { status, plain } = cpuDecryptAt(m, channel, bundle.iv, src, bundle.bytes, bundle.tag);
  if (status !== NV_OK) conf.counts.pushDecryptFailures++;
  if (plain !== null && conf.memory !== null) {
    const written = secureMemoryRead(conf.memory, pushbufferGpuVa(bundle.offset), bundle.bytes);
    assert(bytesEqual(plain, written), 'what the CPU reads of a push is what the engine left there');
  }
  if (plain !== null) confComputingResources(m).pushDecrypted?.(m, channel.id, value, plain);
}
