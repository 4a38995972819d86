/**
 * Models uvm_conf_computing.c (driver 580.105.08): IVs of channels, encryption on the CPU, staging buffers.
 *
 * Functions: uvm_conf_computing_dma_buffer_alloc, _dma_buffer_free, dma_buffer_pool_expand_locked,
 * uvm_conf_computing_acquire_encryption_iv, _log_gpu_encryption, _cpu_encrypt, _cpu_decrypt,
 * _rotate_channel_ivs_below_limit, _maybe_rotate_channel_ivs, _retry_busy, and as much of the resource manager's CSL
 * as they call: counting IVs and giving new ones. Keys are in conf_computing_key_rotation.ts.
 *
 * The CPU pays the cost of a copied page for each 4 KiB that it encrypts or decrypts. Left out: encrypted fault
 * buffers, running out of memory for staging buffers.
 */
import { assert } from '../../base/assert.ts';
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../../base/units.ts';
import { secureIv } from '../gpu/secure_copy.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_POOL_TYPE_SEC2,
  type Channel,
  type ChannelManager,
  channelManagerGet,
  channelWait,
} from './channel.ts';
import { channelKey, keyRotationCount, rmTryLock } from './conf_computing_key_rotation.ts';
import type {
  ConfComputing,
  ConfComputingResources,
  CslContext,
  DmaBuffer,
  DmaBufferPool,
} from './conf_computing_types.ts';
import { NV_ERR_INSUFFICIENT_RESOURCES, NV_ERR_INVALID_DATA, NV_ERR_STATE_IN_USE, NV_OK } from './status.ts';
import {
  createTracker,
  type Tracker,
  trackerAddTracker,
  trackerRemoveCompleted,
  trackerWait,
  trackerWaitForOtherGpus,
} from './tracker.ts';

/** Staging buffers that a GPU begins with; as many again are added whenever none is free. */
export const DMA_BUFFERS = 32;

const TWO_32 = 2 ** 32;
/** Messages that one IV and one key are good for: the counter has 32 bits. */
const MESSAGES_MAX = TWO_32 - 1;
/** The most that one push can use (UVM_CONF_COMPUTING_IV_REMAINING_LIMIT_MIN). */
const MESSAGES_OF_A_PUSH = 2342;

function createDmaBuffer(): DmaBuffer {
  return {
    tracker: createTracker(),
    decryptIv: new Float64Array(PAGES_PER_BLOCK),
    keyVersion: new Uint32Array(PAGES_PER_BLOCK),
    cipher: new Map(),
    tag: new Map(),
  };
}

export function createDmaBufferPool(): DmaBufferPool {
  return {
    buffers: Array.from({ length: DMA_BUFFERS }, createDmaBuffer),
    free: Array.from({ length: DMA_BUFFERS }, (_, i) => i),
  };
}

/** The state of a GPU whose machine has Confidential Computing. */
export function confComputingOf(manager: ChannelManager): ConfComputing {
  assert(manager.confComputing !== null, 'the machine has no Confidential Computing');
  return manager.confComputing;
}

/** What a model of a machine with Confidential Computing was given for it. */
export function confComputingResources(m: Model): ConfComputingResources {
  assert(m.res.confComputing !== null, 'the machine has no Confidential Computing');
  return m.res.confComputing;
}

/**
 * Takes the staging buffer that was given back longest ago and returns its number. What still uses it is added to
 * `tracker`, or waited for when that is null.
 */
export function dmaBufferAlloc(m: Model, gpu: number, tracker: Tracker | null): number {
  const { dma } = confComputingOf(m.gpus[gpu].channelManager);
  if (dma.free.length === 0) {
    for (let i = dma.buffers.length; i > 0; i--) dma.free.push(dma.buffers.push(createDmaBuffer()) - 1);
  }
  const buffer = dma.free.shift() as number;
  const users = dma.buffers[buffer].tracker;
  trackerWaitForOtherGpus(m, users, gpu);
  if (tracker === null) trackerWait(m, users);
  else trackerAddTracker(tracker, users);
  return buffer;
}

/** Gives a staging buffer back; the pushes in `tracker` still use it, none when it is null. */
export function dmaBufferFree(m: Model, gpu: number, buffer: number, tracker: Tracker | null): void {
  const { dma } = confComputingOf(m.gpus[gpu].channelManager);
  const users = dma.buffers[buffer].tracker;
  trackerRemoveCompleted(m, users);
  if (tracker !== null) {
    trackerRemoveCompleted(m, tracker);
    trackerAddTracker(users, tracker);
  }
  dma.free.push(buffer);
}

function cslOf(m: Model, channel: Channel): CslContext {
  return confComputingOf(channelManagerGet(m, channel)).csl[channel.index];
}

/** Encryptions that the CPU may still do with a channel's IVs (uvm_conf_computing_query_message_pools). */
export function channelRemainingEncryptions(m: Model, channel: Channel): number {
  return MESSAGES_MAX - cslOf(m, channel).encryptUsed;
}

/** Encryptions that a channel's engine may still do for the CPU to decrypt. */
export function channelRemainingDecryptions(m: Model, channel: Channel): number {
  return MESSAGES_MAX - cslOf(m, channel).decryptUsed;
}

/**
 * Gives a channel new IVs where no more than the limit are left, once all of its pushes are done. Returns a driver
 * status. The channel has no open push but the caller's. A resource manager that is busy is no error, unless what is
 * left may be too little for a push (uvm_conf_computing_maybe_rotate_channel_ivs).
 */
export function maybeRotateChannelIvs(m: Model, channel: Channel): number {
  const status = rotateChannelIvsBelowLimit(m, channel, m.params.uvm_conf_computing_channel_iv_rotation_limit);
  return status === NV_ERR_STATE_IN_USE ? NV_OK : status;
}

/** The same, again and again while the resource manager is busy (maybe_rotate_channel_ivs_retry_busy). */
export function maybeRotateChannelIvsRetryBusy(m: Model, channel: Channel): number {
  for (;;) {
    const status = rotateChannelIvsBelowLimit(m, channel, m.params.uvm_conf_computing_channel_iv_rotation_limit);
    if (status !== NV_ERR_STATE_IN_USE) return status;
  }
}

/** One try with a limit of its own (uvm_conf_computing_rotate_channel_ivs_below_limit_internal). */
export function rotateChannelIvsBelowLimit(m: Model, channel: Channel, limit: number): number {
  const manager = channelManagerGet(m, channel);
  const context = confComputingOf(manager).csl[channel.index];
  const encryptions = MESSAGES_MAX - context.encryptUsed <= limit;
  // SEC2 never encrypts for the CPU.
  const onCopyEngine = manager.pools[channel.pool].poolType !== CHANNEL_POOL_TYPE_SEC2;
  const decryptions = onCopyEngine && MESSAGES_MAX - context.decryptUsed <= limit;
  if (!encryptions && !decryptions) return NV_OK;
  const left = Math.min(channelRemainingEncryptions(m, channel), channelRemainingDecryptions(m, channel));
  let status = channelWait(m, channel.id);
  if (status !== NV_OK) return status;
  if (encryptions) status = rotateIv(manager, channel, true);
  if (decryptions && status === NV_OK) status = rotateIv(manager, channel, false);
  if (status === NV_OK) confComputingOf(manager).counts.ivRotations++;
  // What passes is an error once IVs may run out meanwhile.
  return status !== NV_OK && left < MESSAGES_OF_A_PUSH ? NV_ERR_INSUFFICIENT_RESOURCES : status;
}

/** The resource manager's part, for one direction: the CPU's IVs and the engine's (nvUvmInterfaceCslRotateIv). */
function rotateIv(manager: ChannelManager, channel: Channel, encrypt: boolean): number {
  const conf = confComputingOf(manager);
  const status = rmTryLock(conf);
  if (status !== NV_OK) return status;
  const context = conf.csl[channel.index];
  const { secure } = manager.host.channels[channel.index];
  if (encrypt) {
    context.encryptUsed = 0;
    context.encryptRotations++;
    if (secure !== null) secure.toGpuIv = context.encryptRotations * TWO_32;
  } else {
    context.decryptUsed = 0;
    context.decryptRotations++;
    if (secure !== null) secure.toCpuIv = context.decryptRotations * TWO_32;
  }
  return NV_OK;
}

/** The next IV for what the CPU encrypts, as one number (uvm_conf_computing_acquire_encryption_iv). */
export function acquireEncryptionIv(m: Model, channel: Channel): number {
  const context = cslOf(m, channel);
  assert(context.encryptUsed < MESSAGES_MAX, 'a channel ran out of IVs');
  return context.encryptRotations * TWO_32 + ++context.encryptUsed;
}

/** The IV that the channel's engine will encrypt `bytes` bytes with next (uvm_conf_computing_log_gpu_encryption). */
export function logGpuEncryption(m: Model, channel: Channel, bytes: number): number {
  const manager = channelManagerGet(m, channel);
  const { counts } = confComputingOf(manager);
  const context = cslOf(m, channel);
  assert(context.decryptUsed < MESSAGES_MAX, 'a channel ran out of IVs');
  counts.gpuEncryptions++;
  counts.gpuEncryptedBytes += bytes;
  keyRotationCount(manager, channel, bytes, false);
  return context.decryptRotations * TWO_32 + ++context.decryptUsed;
}

function payForCrypto(m: Model, bytes: number): void {
  m.k.now = Math.round(m.k.now + (m.cost.copyCpuPage * bytes) / PAGE_SIZE);
}

/** The CPU encrypts `bytes` bytes that are not modelled, such as a push, with an IV acquired before. */
export function cpuEncryptNote(m: Model, channel: Channel, bytes: number): void {
  const manager = channelManagerGet(m, channel);
  const { counts } = confComputingOf(manager);
  counts.cpuEncryptions++;
  counts.cpuEncryptedBytes += bytes;
  keyRotationCount(manager, channel, bytes, true);
  payForCrypto(m, bytes);
}

/**
 * Encrypts bytes into page `slot` of a staging buffer, with the channel's next IV (uvm_conf_computing_cpu_encrypt).
 * `plain` is null without contents.
 */
export function cpuEncrypt(
  m: Model,
  channel: Channel,
  buffer: number,
  slot: number,
  plain: Uint8Array | null,
  bytes: number,
): void {
  const iv = acquireEncryptionIv(m, channel);
  cpuEncryptNote(m, channel, bytes);
  const { aead, bounceWritten } = confComputingResources(m);
  if (plain === null || aead === null) return;
  const { cipher, tag } = aead.seal(channelKey(m, channel), secureIv(channel.id, true, iv), plain);
  const target = confComputingOf(channelManagerGet(m, channel)).dma.buffers[buffer];
  target.cipher.set(slot, cipher);
  target.tag.set(slot, tag);
  bounceWritten?.(m, channel.gpu, buffer, slot, true);
}

/** Decryption's answer: a driver status, and the plain bytes, null without contents and after a failure. */
export interface Decrypted {
  status: number;
  plain: Uint8Array | null;
}

/**
 * Decrypts page `slot` of a staging buffer, `bytes` bytes, which the channel's engine encrypted with `iv` and a version
 * of its key (uvm_conf_computing_cpu_decrypt). NV_ERR_INVALID_DATA when the tag does not fit.
 */
export function cpuDecrypt(
  m: Model,
  channel: Channel,
  buffer: number,
  slot: number,
  iv: number,
  keyVersion: number,
  bytes: number,
): Decrypted {
  payForCrypto(m, bytes);
  const { aead } = confComputingResources(m);
  if (m.contents === null || aead === null) return { status: NV_OK, plain: null };
  const source = confComputingOf(channelManagerGet(m, channel)).dma.buffers[buffer];
  const cipher = source.cipher.get(slot);
  const tag = source.tag.get(slot);
  assert(cipher !== undefined && tag !== undefined, 'the page of the staging buffer was never written');
  const plain = aead.open(channelKey(m, channel, keyVersion), secureIv(channel.id, false, iv), cipher, tag);
  return plain === null ? { status: NV_ERR_INVALID_DATA, plain } : { status: NV_OK, plain };
}
