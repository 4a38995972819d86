/**
 * Models uvm_gpu_non_replayable_faults.c (driver 580.105.08): faults of copy engines and of the host, which the
 * hardware cannot replay. RM owns the hardware buffer and copies the packets that concern UVM into a shadow buffer; UVM
 * asks whether there are any, takes all, and services one by one in the order of arrival.
 *
 * Functions: uvm_parent_gpu_fault_buffer_init_non_replayable_faults, uvm_parent_gpu_non_replayable_faults_pending,
 * fetch_non_replayable_fault_buffer_entries, clear_faulted_method_on_gpu, service_managed_fault_in_block(_locked),
 * service_non_managed_fault, service_fault_once, service_fault, schedule_kill_channel, kill_channel_delayed,
 * uvm_parent_gpu_service_non_replayable_fault_buffer.
 *
 * The faulted channel is cleared by a push, the way of Volta, Turing and of guests; on bare metal Ampere and later
 * write a register after the same wait. A user channel is an entry of the table of instance pointers. Left out: ATS,
 * HMM, what a channel does once it is cleared or killed.
 */
import { assert } from '../../base/assert.ts';
import { maskSet, maskZero } from '../../base/page_mask.ts';
import { FAULT_ENTRY_WORDS, type FaultEntry, faultEntryEncode } from '../gpu/fault_buffer.ts';
import { LOCK_ORDER_VA_BLOCK, lockAcquire, lockRelease } from '../kernel/lock.ts';
import { nvKthreadQItemFree, nvKthreadQItemInit, nvKthreadQScheduleQItem } from '../kernel/nv_kthread_q.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_MEMOPS } from './channel.ts';
import type { Gpu } from './gpu.ts';
import { notifyGpuFault } from './gpu_replayable_faults_mark.ts';
import { gpuVaSpaceExists, vaSpaceLockRead, vaSpaceUnlockRead } from './gpu_replayable_faults_service.ts';
import {
  createFaultCache,
  FAULT_IS_FATAL,
  type FaultCache,
  statusToFatalFaultReason,
} from './gpu_replayable_faults_types.ts';
import { globalSetFatalError } from './gpu_semaphore.ts';
import { THRASHING_HINT_NONE } from './perf_thrashing_types.ts';
import { PURPOSE_CLEAR_FAULTED, pushBeginAcquire, pushEnd } from './push.ts';
import { CLEAR_FAULTED_BYTES } from './push_bytes.ts';
import { NV_ERR_INVALID_ADDRESS, NV_ERR_MORE_PROCESSING_REQUIRED, NV_OK } from './status.ts';
import { toolsRecordFatalFault, toolsRecordReplay, toolsReplayTimes } from './tools.ts';
import { type Tracker, trackerAddPush, trackerAddTracker, trackerClear } from './tracker.ts';
import { accessTypeToProt, createServiceBlockContext, vaBlockCheckLogicalPermissions } from './va_block.ts';
import { newResidencyOffset, vaBlockServiceLocked } from './va_block_service.ts';
import {
  OPERATION_NON_REPLAYABLE_FAULTS,
  S_READ_DUPLICATE,
  type ServiceBlockContext,
  type VaBlock,
} from './va_block_types.ts';
import { vaBlockFindCreate } from './va_space.ts';
import { parseFaultEntry, UVM_APERTURE_VID } from './volta_fault_buffer.ts';

/** Entries of RM's buffer. The real size is RM's choice and is not known to the driver before it asks. */
const SHADOW_BUFFER_ENTRIES = 64;
/** Argument of a kill item: the GPU's index times this, plus the index of the instance pointer. */
const KILL_ARGUMENT_GPU = 65536;

/** uvm_non_replayable_fault_buffer_t, and RM's side of it. */
export interface NonReplayableFaults {
  maxFaults: number;
  /** RM's shadow buffer: packets that UVM has not taken yet, oldest first. */
  shadowBuffer: Uint32Array;
  shadowCount: number;
  /** What the next pop answers instead of packets; NV_OK: nothing is wrong. */
  shadowStatus: number;
  /** Packets that were taken, and their parsed form. */
  shadowBufferCopy: Uint32Array;
  faultCache: FaultCache;
  /** One id for each fault. */
  batchId: number;
  clearFaultedTracker: Tracker;
  faultServiceTracker: Tracker;
  blockServiceContext: ServiceBlockContext;
  /** Index of the instance pointer behind each kill that was scheduled, and its packet's 8 words. */
  killScheduled: number[];
  killPackets: number[];
  /** Kills that were reported to RM. */
  killsReported: number[];
  /** Channels whose faulted state was cleared, by index of the instance pointer, in order. */
  cleared: number[];
}

/** uvm_parent_gpu_fault_buffer_init_non_replayable_faults */
export function createNonReplayableFaults(m: Model): NonReplayableFaults {
  return {
    maxFaults: SHADOW_BUFFER_ENTRIES,
    shadowBuffer: new Uint32Array(SHADOW_BUFFER_ENTRIES * FAULT_ENTRY_WORDS),
    shadowCount: 0,
    shadowStatus: NV_OK,
    shadowBufferCopy: new Uint32Array(SHADOW_BUFFER_ENTRIES * FAULT_ENTRY_WORDS),
    faultCache: createFaultCache(SHADOW_BUFFER_ENTRIES),
    batchId: 0,
    clearFaultedTracker: [],
    faultServiceTracker: [],
    blockServiceContext: createServiceBlockContext(m),
    killScheduled: [],
    killPackets: [],
    killsReported: [],
    cleared: [],
  };
}

/** RM copies a packet into the shadow buffer. The interrupt that goes with it is the caller's (isrTopHalf). */
export function nonReplayableFaultInject(gpu: Gpu, entry: FaultEntry): void {
  const nr = gpu.nonReplayable;
  assert(!entry.replayable, 'a replayable fault does not go into the shadow buffer');
  assert(nr.shadowCount < nr.maxFaults, 'the shadow buffer is full');
  faultEntryEncode(nr.shadowBuffer, nr.shadowCount * FAULT_ENTRY_WORDS, entry);
  nr.shadowCount++;
}

/** uvm_parent_gpu_non_replayable_faults_pending */
export function parentGpuNonReplayableFaultsPending(gpu: Gpu): boolean {
  return gpu.nonReplayable.shadowCount > 0;
}

/** Takes and parses all that RM has (fetch_non_replayable_fault_buffer_entries); the count, or -1 on a fatal error. */
function fetchEntries(m: Model, gpu: Gpu): number {
  const nr = gpu.nonReplayable;
  const c = nr.faultCache;
  if (nr.shadowStatus !== NV_OK) {
    globalSetFatalError(m, nr.shadowStatus);
    return -1;
  }
  const count = nr.shadowCount;
  nr.shadowBufferCopy.set(nr.shadowBuffer);
  nr.shadowCount = 0;
  for (let i = 0; i < count; i++) {
    parseFaultEntry(gpu, nr.shadowBufferCopy, i * FAULT_ENTRY_WORDS, m.spec.utlbsPerGpc, c, i);
    c.numInstances[i] = 1;
    c.accessMask[i] = 1 << c.accessType[i];
    c.next[i] = i;
    c.prev[i] = i;
  }
  return count;
}

/** Lets the channel run again once the page is in place (clear_faulted_method_on_gpu). */
function clearFaultedOnGpu(m: Model, gpu: Gpu, channel: number): number {
  const nr = gpu.nonReplayable;
  const push = pushBeginAcquire(m, gpu.index, CHANNEL_TYPE_MEMOPS, PURPOSE_CLEAR_FAULTED, nr.faultServiceTracker);
  if (push.status !== NV_OK) return push.status;
  push.bytes += CLEAR_FAULTED_BYTES;
  toolsRecordReplay(m, gpu.index, push, nr.batchId);
  pushEnd(m, push);
  toolsReplayTimes(m, push);
  trackerAddPush(nr.clearFaultedTracker, push);
  nr.cleared.push(channel);
  return NV_OK;
}

/** One page under the block lock (service_managed_fault_in_block_locked). A forbidden access is fatal, and no error. */
function serviceManagedFaultLocked(m: Model, gpu: Gpu, block: VaBlock, fault: number): number {
  const nr = gpu.nonReplayable;
  const c = nr.faultCache;
  const context = nr.blockServiceContext;
  const page = c.page[fault] - block.startPage;
  if (context.numRetries === 0) notifyGpuFault(m, gpu, c, fault, ++nr.batchId);
  const permission = vaBlockCheckLogicalPermissions(m, block, gpu.id, page, accessTypeToProt(c.accessType[fault]));
  if (permission !== NV_OK) {
    c.flags[fault] |= FAULT_IS_FATAL;
    c.fatalReason[fault] = statusToFatalFaultReason(permission);
    return NV_OK;
  }
  // No thrashing hint is asked for here.
  const hint = m.thrashingHint;
  hint.type = THRASHING_HINT_NONE;
  context.readDuplicateCount = 0;
  context.thrashingPinCount = 0;
  const residency = m.res.seams.selectResidency(
    m,
    block,
    context,
    page,
    gpu.id,
    c.accessMask[fault],
    hint,
    OPERATION_NON_REPLAYABLE_FAULTS,
  );
  const offset = newResidencyOffset(residency);
  context.residentProcessors = 1 << residency;
  maskZero(context.w, offset);
  maskSet(context.w, offset, page);
  if (context.readDuplicate) {
    maskZero(context.w, S_READ_DUPLICATE);
    maskSet(context.w, S_READ_DUPLICATE, page);
    context.readDuplicateCount = 1;
  }
  context.accessType[page] = c.accessType[fault];
  context.firstPage = page;
  context.outerPage = page + 1;
  const status = vaBlockServiceLocked(m, gpu.id, block, context);
  context.numRetries++;
  return status;
}

/** service_managed_fault_in_block */
function serviceManagedFault(m: Model, gpu: Gpu, block: VaBlock, fault: number): number {
  const nr = gpu.nonReplayable;
  nr.blockServiceContext.operation = OPERATION_NON_REPLAYABLE_FAULTS;
  nr.blockServiceContext.numRetries = 0;
  lockAcquire(m, LOCK_ORDER_VA_BLOCK, block.id, false);
  if (block.lockFreeAt > m.k.now) m.k.now = block.lockFreeAt;
  m.k.now = Math.round(m.k.now + m.cost.serviceBlock);
  let status: number;
  do {
    status = serviceManagedFaultLocked(m, gpu, block, fault);
  } while (status === NV_ERR_MORE_PROCESSING_REQUIRED);
  trackerAddTracker(nr.faultServiceTracker, block.tracker);
  block.lockFreeAt = m.k.now;
  lockRelease(m, LOCK_ORDER_VA_BLOCK, block.id, false);
  return status;
}

/** service_non_managed_fault: reported, and fatal since there is no ATS. */
function serviceNonManagedFault(m: Model, gpu: Gpu, fault: number): number {
  const nr = gpu.nonReplayable;
  notifyGpuFault(m, gpu, nr.faultCache, fault, ++nr.batchId);
  nr.faultCache.flags[fault] |= FAULT_IS_FATAL;
  nr.faultCache.fatalReason[fault] = statusToFatalFaultReason(NV_ERR_INVALID_ADDRESS);
  return NV_OK;
}

/** Has the channel killed by RM, once, from a thread that may call RM (schedule_kill_channel). */
function scheduleKillChannel(m: Model, gpu: Gpu, channel: number, fault: number): void {
  const nr = gpu.nonReplayable;
  if (nr.killScheduled.includes(channel)) return;
  nr.killScheduled.push(channel);
  for (let i = 0; i < FAULT_ENTRY_WORDS; i++) nr.killPackets.push(nr.shadowBufferCopy[fault * FAULT_ENTRY_WORDS + i]);
  const argument = gpu.index * KILL_ARGUMENT_GPU + channel;
  const item = nvKthreadQItemInit(m, gpu.isr.killChannelFunction, argument);
  gpu.isr.killItems.push(item);
  nvKthreadQScheduleQItem(m, gpu.isr.killChannelQ, item);
}

/** kill_channel_delayed, on the kill queue: RM gets the packet if the channel is still attached. */
export function killChannelDelayed(m: Model, argument: number): undefined {
  const gpu = m.gpus[Math.floor(argument / KILL_ARGUMENT_GPU)];
  const channel = argument % KILL_ARGUMENT_GPU;
  if (gpu.instancePointers[channel].vaSpace >= 0) gpu.nonReplayable.killsReported.push(channel);
  const item = gpu.isr.killItems.shift();
  assert(item !== undefined, 'a kill has an item');
  nvKthreadQItemFree(m, item);
}

/** Index of the instance pointer behind a fault, or -1 when its channel is gone. */
function findChannel(gpu: Gpu, c: FaultCache, fault: number): number {
  return gpu.instancePointers.findIndex(
    (p) =>
      p.address === c.instance[fault] &&
      (p.aperture === 0) === (c.aperture[fault] === UVM_APERTURE_VID) &&
      p.vaSpace >= 0,
  );
}

/** One fault (service_fault_once): a driver status; faults of channels that are gone are forgotten. */
function serviceFault(m: Model, gpu: Gpu, fault: number): number {
  const nr = gpu.nonReplayable;
  const c = nr.faultCache;
  const channel = findChannel(gpu, c, fault);
  if (channel < 0) return NV_OK;
  const space = m.vaSpaces[gpu.instancePointers[channel].vaSpace];
  vaSpaceLockRead(m, space);
  let status = NV_OK;
  if (gpuVaSpaceExists(space, gpu)) {
    c.vaSpace[fault] = space.id;
    if ((c.flags[fault] & FAULT_IS_FATAL) === 0) {
      const block = vaBlockFindCreate(m, space, c.page[fault]);
      status = block === null ? serviceNonManagedFault(m, gpu, fault) : serviceManagedFault(m, gpu, block, fault);
      if (status === NV_OK && (c.flags[fault] & FAULT_IS_FATAL) === 0) {
        status = clearFaultedOnGpu(m, gpu, channel);
        trackerClear(nr.faultServiceTracker);
      }
    }
    const fatal = (c.flags[fault] & FAULT_IS_FATAL) !== 0;
    if (fatal) {
      toolsRecordFatalFault(m, gpu.id, c.faultType[fault], c.accessType[fault], c.fatalReason[fault], c.page[fault]);
    }
    if (fatal || status !== NV_OK) scheduleKillChannel(m, gpu, channel, fault);
  }
  vaSpaceUnlockRead(m, space);
  return status;
}

/**
 * The bottom half's work (uvm_parent_gpu_service_non_replayable_fault_buffer): takes what there is until there is
 * nothing. The first error ends it, and the rest of what was taken is lost.
 */
export function parentGpuServiceNonReplayableFaultBuffer(m: Model, gpu: Gpu): void {
  for (;;) {
    const count = fetchEntries(m, gpu);
    for (let i = 0; i < count; i++) {
      if (serviceFault(m, gpu, i) !== NV_OK) return;
    }
    if (count <= 0) return;
  }
}
