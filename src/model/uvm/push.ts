/**
 * Models uvm_push.c (driver 580.105.08) and the begin and end of a push in uvm_channel.c.
 *
 * Functions: uvm_push_begin, _begin_acquire, _begin_gpu_to_gpu, _begin_acquire_gpu_to_gpu, _begin_on_channel,
 * uvm_push_acquire_tracker, uvm_push_timestamp, uvm_push_end, _end_and_wait, uvm_push_wait, uvm_channel_begin_push,
 * uvm_channel_end_push; and one function for each method that a fault path puts into a push (CE, Host and MMU HALs).
 *
 * A thread pays `pushBase` at begin and, at the end, `pushMethod` for each method; acquires are part of the base. The
 * engine times are known at the end: see hostSubmit. A begin waits while the channel or the pushbuffer is full, and
 * fails (Push.status) when the driver finds an error of a channel meanwhile. Sizes in bytes are those of Hopper's HALs
 * (push_bytes.ts). Left out: push descriptions beyond a purpose, inline data of callers, membar and pipelining flags
 * (copies of one push follow one another), fake pushes.
 */

import { assert } from '../../base/assert.ts';
import { grown } from '../../base/grown.ts';
import { PAGE_SIZE, PAGES_PER_BIG_PAGE, PAGES_PER_BLOCK } from '../../base/units.ts';
import { hostSubmit } from '../gpu/host.ts';
import {
  METHOD_CANCEL,
  METHOD_COPY,
  METHOD_COPY_IN,
  METHOD_COPY_OUT,
  METHOD_COPY_SCATTERED,
  METHOD_MEMSET,
  METHOD_PTE,
  METHOD_REPLAY,
  METHOD_SECURE_DECRYPT,
  METHOD_SECURE_DECRYPT_AT,
  METHOD_SECURE_ENCRYPT,
  METHOD_SECURE_ENCRYPT_AT,
  METHOD_TIMESTAMP,
  METHOD_TLB_INVALIDATE,
  methodMemoryGrow,
  TLB_ALL,
  TLB_MEMBAR,
} from '../gpu/methods.ts';
import { PTE_LEVEL_4K, PTE_LEVEL_BIG, PTE_LEVEL_PDE } from '../gpu/mmu.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_NONE,
  CHANNEL_TYPE_ANY,
  CHANNEL_TYPE_GPU_TO_GPU,
  type Channel,
  channelAcquiresFor,
  channelFinishTime,
  channelGet,
  channelGpu,
  channelManagerWaitForSpace,
  channelRelease,
  channelReserve,
  channelReserveGpuToGpu,
  channelReserveType,
  channelUnlockForPush,
  GPFIFO_ACQUIRE_COUNT,
  GPFIFO_ACQUIRE_FIRST,
  GPFIFO_BEGIN,
  GPFIFO_END,
  GPFIFO_ENTRY_NORMAL,
  GPFIFO_KIND,
  GPFIFO_METHODS,
  GPFIFO_ON_COMPLETE,
  GPFIFO_ON_COMPLETE_DATA,
  GPFIFO_PURPOSE,
  GPFIFO_SPAN,
  GPFIFO_TRACKING_VALUE,
  GPFIFO_WORDS,
  type PushCallback,
} from './channel.ts';
import { launchChannelStatus } from './conf_computing_types.ts';
import { CPU_ID } from './processors.ts';
import {
  COPY_BYTES,
  clearPtesBytes,
  HOST_ACQUIRE_BYTES,
  MEM_OP_BYTES,
  MEMSET_PAGES_BYTES,
  PDE_FILL_BYTES,
  PUSH_END_BYTES,
  PUSH_SIZE_MAX,
  pteIsCleared,
  SECURE_DECRYPT_BYTES,
  SECURE_DECRYPT_VIRTUAL_BYTES,
  SECURE_ENCRYPT_BYTES,
  SECURE_ENCRYPT_VIRTUAL_BYTES,
  timestampBytes,
  WFI_MEMBAR_BYTES,
  writePtesBytes,
} from './push_bytes.ts';
import {
  PUSH_ACQUIRE_INFO_MAX_ENTRIES,
  PUSH_SLOT_STATIC,
  type Push,
  pushbufferBeginPush,
  pushbufferEndPush,
  pushbufferHasSpace,
  SPAN_NONE,
} from './pushbuffer.ts';
import { NV_OK } from './status.ts';
import { type Tracker, trackerRemoveCompleted, trackerWaitForEntry, trackerWaitForOtherGpus } from './tracker.ts';

export type { Push } from './pushbuffer.ts';

/** What a push is for. */
export const PURPOSE_TEST = 0;
export const PURPOSE_COPY = 1;
export const PURPOSE_MEMSET = 2;
export const PURPOSE_MAP = 3;
export const PURPOSE_UNMAP = 4;
export const PURPOSE_REVOKE = 5;
export const PURPOSE_REPLAY = 6;
export const PURPOSE_CANCEL = 7;
export const PURPOSE_MIGRATE_MAPPING = 8;
export const PURPOSE_PAGE_TREE = 9;
export const PURPOSE_CLEAR_FAULTED = 10;
export const PURPOSE_SEMAPHORE = 11;
export const PURPOSE_TOOLS = 12;
export const PURPOSE_COPY_OUT = 13;
/** Of Confidential Computing alone. */
export const PURPOSE_LAUNCH = 14;
export const PURPOSE_LAUNCH_CONFIRM = 15;
export const PURPOSE_CHANNEL_INIT = 16;
export const PURPOSE_CHANNEL_SCHEDULE = 17;
/** An entry without a push, and the empty push behind it. */
export const PURPOSE_CONTROL = 18;

/** Names by purpose, for reports. */
export const PURPOSE_NAMES: readonly string[] = [
  'test',
  'copy',
  'memset',
  'map',
  'unmap',
  'revoke',
  'replay',
  'cancel',
  'map after migration',
  'page tree',
  'clear faulted channel',
  'semaphore release',
  'tools',
  'copy to pinned memory',
  'launch',
  'launch confirmation',
  'channel set-up',
  'schedule of launches',
  'control entry',
];

/** Kinds of work in a push whose first method brings a base cost. */
const KIND_TO_GPU = 1;
const KIND_TO_CPU = 2;
const KIND_PEER = 4;
const KIND_MEMSET = 8;
const KIND_MEMOPS = 16;

/** Adds a function that pushes can name as `onComplete`. In one fixed order at createModel: snapshots hold kinds. */
export function pushCallbackRegister(m: Model, callback: PushCallback): number {
  m.res.pushCallbacks.push(callback);
  return m.res.pushCallbacks.length - 1;
}

/**
 * Begins a push on the channels of a type; waits while all are full (uvm_push_begin). `gpu` is an index. This and the
 * begins below fail when an error of a channel is found meanwhile: what they return then has a status (Push.status) and
 * takes no methods.
 */
export function pushBegin(m: Model, gpu: number, type: number, purpose: number): Push {
  const channel = channelReserveType(m, gpu, type);
  if (channel === null) return failedPush(m, gpu, m.globalStatus);
  return pushBeginOnReservedChannel(m, channel, type, purpose);
}

/** As pushBegin; the push starts after what is in the tracker, which loses its completed entries. */
export function pushBeginAcquire(m: Model, gpu: number, type: number, purpose: number, tracker: Tracker): Push {
  // GPUs with Confidential Computing cannot wait for each other (uvm_push_allow_dependencies_across_gpus).
  if (m.gpus[gpu].channelManager.confComputing !== null) {
    const status = trackerWaitForOtherGpus(m, tracker, gpu);
    if (status !== NV_OK) return failedPush(m, gpu, status);
  }
  const push = pushBegin(m, gpu, type, purpose);
  if (push.status === NV_OK) pushAcquireTracker(m, push, tracker);
  return push;
}

/** Begins a push of copies from `gpu` to `peer`, GPU indices (uvm_push_begin_acquire_gpu_to_gpu). */
export function pushBeginGpuToGpuAcquire(m: Model, gpu: number, peer: number, purpose: number, tracker: Tracker): Push {
  assert(peer !== gpu, 'a peer is another GPU');
  const channel = channelReserveGpuToGpu(m, gpu, peer);
  if (channel === null) return failedPush(m, gpu, m.globalStatus);
  const push = pushBeginOnReservedChannel(m, channel, CHANNEL_TYPE_GPU_TO_GPU, purpose);
  if (push.status === NV_OK) pushAcquireTracker(m, push, tracker);
  return push;
}

/** Begins a push on one channel, by id; waits while it is full (uvm_push_begin_on_channel). */
export function pushBeginOnChannel(m: Model, channel: number, purpose: number): Push {
  const reserved = channelGet(m, channel);
  const status = channelReserve(m, reserved, 1);
  if (status !== NV_OK) return failedPush(m, reserved.gpu, status);
  return pushBeginOnReservedChannel(m, reserved, CHANNEL_TYPE_ANY, purpose);
}

/** What a begin that failed returns. */
export function failedPush(m: Model, gpu: number, status: number): Push {
  const { failedPush: push } = m.gpus[gpu].channelManager.pushbuffer;
  push.status = status;
  return push;
}

/** Begins a push on a channel of which an entry was reserved for it (uvm_push_begin_on_reserved_channel). */
export function pushBeginOnReservedChannel(m: Model, channel: Channel, type: number, purpose: number): Push {
  const manager = m.gpus[channel.gpu].channelManager;
  const confComputing = manager.confComputing === null ? null : m.res.confComputing;
  const launchChannel = confComputing === null ? CHANNEL_NONE : confComputing.beginPush(m, channel);
  let status = launchChannelStatus(launchChannel);
  if (status === NV_OK && !pushbufferHasSpace(manager.pushbuffer)) status = channelManagerWaitForSpace(m, channel.gpu);
  if (status !== NV_OK) {
    channelRelease(channel, 1);
    if (launchChannel >= 0) channelRelease(channelGet(m, launchChannel), 1);
    return failedPush(m, channel.gpu, status);
  }
  const push = pushbufferBeginPush(manager.pushbuffer, manager.host.memory);
  push.launchChannel = launchChannel;
  push.gpu = channel.gpu;
  push.channel = channel.id;
  push.type = type;
  push.purpose = purpose;
  push.begin = m.k.now;
  m.k.now = Math.round(m.k.now + m.cost.pushBase);
  return push;
}

/**
 * Makes the push start after the pushes in the tracker (uvm_push_acquire_tracker). Completed entries leave the tracker;
 * those of the push's own channel are in order anyway.
 */
export function pushAcquireTracker(m: Model, push: Push, tracker: Tracker): void {
  if (tracker.length === 0) return;
  trackerRemoveCompleted(m, tracker);
  for (let i = 0; i < tracker.length; i += 2) {
    if (tracker[i] !== push.channel) acquireEntry(m, push, tracker[i], tracker[i + 1]);
  }
}

function acquireEntry(m: Model, push: Push, channel: number, value: number): void {
  const time = channelFinishTime(m, channel, value) + m.cost.pushAcquire;
  if (time > push.acquireTime) push.acquireTime = time;
  push.bytes += HOST_ACQUIRE_BYTES;
  if (channelGpu(channel) !== push.gpu) push.otherGpus |= 1 << channelGpu(channel);
  const count = push.acquireCount++;
  if (count >= PUSH_ACQUIRE_INFO_MAX_ENTRIES) return;
  push.acquires[2 * count] = channel;
  push.acquires[2 * count + 1] = value;
}

/** Makes room for one method of `words` words and returns where they go. */
function emit(m: Model, push: Push, words: number): number {
  assert(push.open, 'method outside of a push');
  const at = push.length;
  push.length = at + words;
  push.methods++;
  if (push.length > push.words.length) {
    push.words = methodMemoryGrow(m.gpus[push.gpu].channelManager.host.memory, push.buffer);
  }
  return at;
}

function addMemops(m: Model, push: Push, duration: number): void {
  if ((push.kinds & KIND_MEMOPS) === 0) {
    push.kinds |= KIND_MEMOPS;
    push.duration += m.cost.memopsBase;
  }
  push.duration += duration;
}

/**
 * Copies `count` pages from processor `src` to processor `dst` (ids): one method, or one for each page if `scattered`.
 * Costs on the engine: the base of its direction once a push, `copyRun` for each call after the first, and each page.
 */
export function pushCopy(
  m: Model,
  push: Push,
  dst: number,
  src: number,
  page: number,
  count: number,
  scattered: boolean,
): void {
  assert(dst !== src && count > 0, 'a copy has two sides and at least one page');
  const at = emit(m, push, 5);
  push.bytes += scattered ? count * COPY_BYTES : COPY_BYTES;
  if (scattered) push.methods += count - 1;
  const words = push.words;
  words[at] = scattered ? METHOD_COPY_SCATTERED : METHOD_COPY;
  words[at + 1] = dst;
  words[at + 2] = src;
  words[at + 3] = page;
  words[at + 4] = count;
  const cost = m.cost;
  let kind = KIND_PEER;
  let base = cost.copyBasePeer;
  let perPage = cost.copyPagePeer;
  if (src === CPU_ID) {
    kind = KIND_TO_GPU;
    base = cost.copyBaseToGpu;
    perPage = scattered ? cost.copyPageToGpuScattered : cost.copyPageToGpu;
  } else if (dst === CPU_ID) {
    kind = KIND_TO_CPU;
    base = cost.copyBaseToCpu;
    perPage = scattered ? cost.copyPageToCpuScattered : cost.copyPageToCpu;
  }
  let duration = perPage * count;
  if ((push.kinds & kind) === 0) {
    push.kinds |= kind;
    duration += base;
  }
  if (push.copies++ > 0) duration += cost.copyRun;
  push.duration += duration;
  push.usesEngine = true;
}

/** One method between a processor's memory and pinned memory; takes `time`, and `base` once a push. */
function emitPinnedCopy(
  m: Model,
  push: Push,
  operands: readonly number[],
  kind: number,
  base: number,
  time: number,
  bytes = COPY_BYTES,
): void {
  const first = emit(m, push, operands.length);
  push.bytes += bytes;
  for (let i = 0; i < operands.length; i++) push.words[first + i] = operands[i];
  let duration = time;
  if ((push.kinds & kind) === 0) {
    push.kinds |= kind;
    duration += base;
  }
  if (push.copies++ > 0) duration += m.cost.copyRun;
  push.duration += duration;
  push.usesEngine = true;
}

/**
 * Copies `bytes` bytes of processor `src`'s memory, from byte `offset` of `page` on, to byte `at` of pinned memory of
 * the CPU (kernel/mm.ts). One method; costs what a copy to the CPU of as many pages costs.
 */
export function pushCopyOut(
  m: Model,
  push: Push,
  src: number,
  page: number,
  offset: number,
  pin: number,
  at: number,
  bytes: number,
): void {
  assert(src !== CPU_ID && bytes > 0, 'a copy engine copies out of a GPU, at least one byte');
  const time = m.cost.copyPageToCpu * Math.ceil(bytes / PAGE_SIZE);
  const operands = [METHOD_COPY_OUT, src, page, offset, pin, at, bytes];
  emitPinnedCopy(m, push, operands, KIND_TO_CPU, m.cost.copyBaseToCpu, time);
}

/**
 * Copies `bytes` bytes of pinned memory of the CPU, from byte `at` on, to byte `offset` of a page of processor `dst`'s
 * memory; neither side leaves its page. One method; costs what a copy of a page to a GPU costs.
 */
export function pushCopyIn(
  m: Model,
  push: Push,
  dst: number,
  page: number,
  offset: number,
  pin: number,
  at: number,
  bytes: number,
): void {
  assert(dst !== CPU_ID && bytes > 0, 'a copy engine copies into a GPU, at least one byte');
  assert(offset + bytes <= PAGE_SIZE && (at % PAGE_SIZE) + bytes <= PAGE_SIZE, 'a copy in stays in its pages');
  const operands = [METHOD_COPY_IN, dst, page, offset, pin, at, bytes];
  emitPinnedCopy(m, push, operands, KIND_TO_GPU, m.cost.copyBaseToGpu, m.cost.copyPageToGpu);
}

/** Sets `count` pages of a processor's memory to zero. */
export function pushMemset(m: Model, push: Push, processor: number, page: number, count: number): void {
  const at = emit(m, push, 4);
  const words = push.words;
  push.bytes += MEMSET_PAGES_BYTES;
  words[at] = METHOD_MEMSET;
  words[at + 1] = processor;
  words[at + 2] = page;
  words[at + 3] = count;
  if ((push.kinds & KIND_MEMSET) === 0) {
    push.kinds |= KIND_MEMSET;
    push.duration += m.cost.memsetBase;
  }
  push.duration += m.cost.memsetPage * count;
  push.usesEngine = true;
}

/**
 * Adds the bytes of entries. Those that follow one another in a table are one batch (uvm_pte_batch_write_pte); what is
 * cleared is a memset of its own; a directory entry is written apart from the batch, which ends before it.
 */
function addPteBytes(push: Push, level: number, page: number, count: number, pte: number): void {
  if (level === PTE_LEVEL_PDE) {
    endPteBatch(push);
    push.bytes += PDE_FILL_BYTES;
    return;
  }
  push.pteBatch = true;
  if (pteIsCleared(pte)) {
    push.bytes += clearPtesBytes(level, count);
    push.pteCount = 0;
    return;
  }
  if (push.pteCount > 0 && push.pteLevel === level && push.pteNext === page) {
    push.bytes -= writePtesBytes(level, push.pteCount);
  } else {
    push.pteCount = 0;
    push.pteLevel = level;
  }
  push.pteCount += count;
  push.bytes += writePtesBytes(level, push.pteCount);
  const pages = level === PTE_LEVEL_4K ? 1 : level === PTE_LEVEL_BIG ? PAGES_PER_BIG_PAGE : PAGES_PER_BLOCK;
  push.pteNext = page + count * pages;
}

/** uvm_pte_batch_end: a membar after the entries. */
function endPteBatch(push: Push): void {
  if (push.pteBatch) push.bytes += WFI_MEMBAR_BYTES;
  push.pteBatch = false;
  push.pteCount = 0;
}

/** Writes `count` equal page-table entries of a level (PTE_LEVEL_* of gpu/mmu.ts) from `page` on: one method. */
export function pushPte(m: Model, push: Push, level: number, page: number, count: number, pte: number): void {
  const at = emit(m, push, 5);
  addPteBytes(push, level, page, count, pte);
  const words = push.words;
  words[at] = METHOD_PTE;
  words[at + 1] = level;
  words[at + 2] = page;
  words[at + 3] = count;
  words[at + 4] = pte;
  addMemops(m, push, m.cost.pteWrite);
}

/** Invalidates the translations of a range, or all of them. */
export function pushTlbInvalidate(
  m: Model,
  push: Push,
  page: number,
  count: number,
  all: boolean,
  membar: boolean,
): void {
  const at = emit(m, push, 4);
  endPteBatch(push);
  push.bytes += MEM_OP_BYTES;
  const words = push.words;
  words[at] = METHOD_TLB_INVALIDATE;
  words[at + 1] = page;
  words[at + 2] = count;
  words[at + 3] = (all ? TLB_ALL : 0) + (membar ? TLB_MEMBAR : 0);
  addMemops(m, push, m.cost.tlbInvalidate);
}

/** Replays faults: the clients that wait try again when the push is done. */
export function pushReplay(m: Model, push: Push, type: number): void {
  const at = emit(m, push, 2);
  push.bytes += MEM_OP_BYTES;
  push.words[at] = METHOD_REPLAY;
  push.words[at + 1] = type;
  addMemops(m, push, m.cost.replay);
  push.mustRun = true;
}

/** Cancels the accesses to a page that wait and match the filter; takes the engine as long as a replay. */
export function pushCancel(m: Model, push: Push, page: number, vaSpace: number, accessFilter: number): void {
  const at = emit(m, push, 4);
  push.bytes += MEM_OP_BYTES;
  const words = push.words;
  words[at] = METHOD_CANCEL;
  words[at + 1] = page;
  words[at + 2] = vaSpace;
  words[at + 3] = accessFilter;
  addMemops(m, push, m.cost.replay);
  push.mustRun = true;
}

/**
 * A copy engine's secure copy of `bytes` bytes of a page of processor `gpu`'s memory, from byte `offset` on: from page
 * `slot` of a staging buffer and decrypted, or to it and encrypted. Costs what a copy of a page on its own costs.
 */
export function pushSecureCopy(
  m: Model,
  push: Push,
  toGpu: boolean,
  gpu: number,
  page: number,
  offset: number,
  bytes: number,
  buffer: number,
  slot: number,
): void {
  assert(bytes > 0 && offset + bytes <= PAGE_SIZE, 'a secure copy stays in its page');
  const { cost } = m;
  const operands = [toGpu ? METHOD_SECURE_DECRYPT : METHOD_SECURE_ENCRYPT, gpu, page, offset, bytes, buffer, slot];
  if (toGpu) {
    const time = cost.copyPageToGpuScattered;
    emitPinnedCopy(m, push, operands, KIND_TO_GPU, cost.copyBaseToGpu, time, SECURE_DECRYPT_BYTES);
  } else {
    const time = cost.copyPageToCpuScattered;
    emitPinnedCopy(m, push, operands, KIND_TO_CPU, cost.copyBaseToCpu, time, SECURE_ENCRYPT_BYTES);
  }
}

/**
 * A copy engine's secure copy of `bytes` bytes between addresses on the GPU (gpu/secure_memory.ts): decrypts what lies
 * at `src`, or encrypts it. `size` is what that takes in the push.
 */
export function pushSecureCopyAt(
  m: Model,
  push: Push,
  decrypt: boolean,
  dst: number,
  src: number,
  bytes: number,
  tag: number,
  size = decrypt ? SECURE_DECRYPT_VIRTUAL_BYTES : SECURE_ENCRYPT_VIRTUAL_BYTES,
): void {
  const at = emit(m, push, 5);
  endPteBatch(push);
  push.bytes += size;
  const words = push.words;
  words[at] = decrypt ? METHOD_SECURE_DECRYPT_AT : METHOD_SECURE_ENCRYPT_AT;
  words[at + 1] = dst;
  words[at + 2] = src;
  words[at + 3] = bytes;
  words[at + 4] = tag;
}

/** Takes the GPU's time at this point of the push; returns the slot of push.timestamps that holds it after pushEnd. */
export function pushTimestamp(m: Model, push: Push): number {
  const at = emit(m, push, 2);
  const slot = push.timestampCount++;
  push.bytes += timestampBytes(push.offset, push.bytes);
  push.words[at] = METHOD_TIMESTAMP;
  push.words[at + 1] = slot;
  if (slot === push.timestamps.length) push.timestamps = grown(push.timestamps, 2 * slot);
  push.timestamps[slot] = push.duration;
  return slot;
}

/**
 * Submits the push: gives it the channel's next tracking value, writes its GPFIFO entry and hands it to the host, which
 * sets its start and finish (uvm_channel_end_push). Order in a channel is the order of ends. Never waits, but for the
 * launch that a push needs with Confidential Computing.
 */
export function pushEnd(m: Model, push: Push): void {
  assert(push.open, 'a push ends once');
  endPteBatch(push);
  const { confComputing } = m.gpus[push.gpu].channelManager;
  const resources = confComputing === null ? null : m.res.confComputing;
  const channel = channelGet(m, push.channel);
  if (resources !== null) resources.encryptPush(m, push);
  push.bytes += PUSH_END_BYTES;
  assert(push.bytes <= PUSH_SIZE_MAX, 'a push has at most 128 KiB');
  m.k.now = Math.round(m.k.now + m.cost.pushMethod * push.methods);
  push.end = m.k.now;
  push.trackingValue = ++channel.trackingSem.queuedValue;
  if (resources !== null) resources.launch(m, push);
  pushSubmit(m, push);
  if (resources !== null) resources.submitted(m, push);
  channelUnlockForPush(channel);
}

/** The part of pushEnd behind the launch: `end` and the tracking value are set. */
export function pushSubmit(m: Model, push: Push): void {
  const manager = m.gpus[push.gpu].channelManager;
  const channel = channelGet(m, push.channel);
  hostSubmit(m, manager.host, channel.index, push);
  for (let i = 0; i < push.timestampCount; i++) push.timestamps[i] = Math.round(push.start + push.timestamps[i]);
  const isStatic = push.slot === PUSH_SLOT_STATIC;
  if (isStatic) push.open = false;
  fillEntry(channel, push, isStatic ? SPAN_NONE : pushbufferEndPush(manager.pushbuffer, push));
  channel.currentGpfifoCount--;
  const gpfifo = channel.cpuPut;
  channel.cpuPut = (channel.cpuPut + 1) & (channel.numGpfifoEntries - 1);
  if (m.res.pushWatch !== null) m.res.pushWatch.ended(m, push, gpfifo);
  if (m.res.seams.pushEnded !== null) m.res.seams.pushEnded(m, push);
  if (m.res.why !== null) {
    m.res.why.push(
      push.purpose,
      push.gpu,
      push.channel,
      push.trackingValue,
      push.begin,
      push.start,
      push.finish,
      push.methods,
    );
  }
}

function fillEntry(channel: Channel, push: Push, span: number): void {
  const entries = channel.gpfifoEntries;
  const at = channel.cpuPut * GPFIFO_WORDS;
  const kept = Math.min(push.acquireCount, PUSH_ACQUIRE_INFO_MAX_ENTRIES);
  entries[at + GPFIFO_TRACKING_VALUE] = push.trackingValue;
  entries[at + GPFIFO_KIND] = GPFIFO_ENTRY_NORMAL;
  entries[at + GPFIFO_ON_COMPLETE] = push.onComplete;
  entries[at + GPFIFO_ON_COMPLETE_DATA] = push.onCompleteData;
  entries[at + GPFIFO_PURPOSE] = push.purpose;
  entries[at + GPFIFO_BEGIN] = push.begin;
  entries[at + GPFIFO_END] = push.end;
  entries[at + GPFIFO_METHODS] = push.methods;
  entries[at + GPFIFO_SPAN] = span;
  entries[at + GPFIFO_ACQUIRE_FIRST] = channel.acquireTotal;
  entries[at + GPFIFO_ACQUIRE_COUNT] = kept;
  const ring = channelAcquiresFor(channel, kept);
  for (let i = 0; i < kept; i++) {
    const pair = (2 * channel.acquireTotal++) & (ring.length - 1);
    ring[pair] = push.acquires[2 * i];
    ring[pair + 1] = push.acquires[2 * i + 1];
  }
}

/** Waits for an ended push; returns a driver status (uvm_push_wait). Callbacks do not run. */
export function pushWait(m: Model, push: Push): number {
  return trackerWaitForEntry(m, push.channel, push.trackingValue);
}

/** Submits the push and waits for it; returns a driver status. Callbacks do not run. */
export function pushEndAndWait(m: Model, push: Push): number {
  pushEnd(m, push);
  return pushWait(m, push);
}
