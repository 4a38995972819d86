/**
 * Models uvm_gpu_replayable_faults.c (driver 580.105.08): set-up of the replayable fault buffer, and the main loop of
 * its bottom half. The file is split along its own lines:
 *   gpu_replayable_faults_types.ts       structures, fault types, reasons
 *   gpu_replayable_faults_fetch.ts       fetch and merge
 *   gpu_replayable_faults_preprocess.ts  instance pointers to VA spaces, the sorts
 *   gpu_replayable_faults_mark.ts        fault events, duplicates, permissions, fatal faults
 *   gpu_replayable_faults_service.ts     batch, dispatch, block
 *   gpu_replayable_faults_push.ts        replays, cancels, the flush of the buffer
 *   gpu_replayable_faults_cancel.ts      precise and global cancel
 *   gpu_replayable_faults_flush.ts       flush and drain for threads
 *
 * Here: uvm_parent_gpu_fault_buffer_init, _deinit, _resume, fault_buffer_init_replayable_faults, _reinit_, _deinit_,
 * uvm_parent_gpu_replayable_faults_pending, enable_disable_prefetch_faults, uvm_parent_gpu_enable_prefetch_faults,
 * _disable_prefetch_faults, uvm_parent_gpu_service_replayable_faults.
 *
 * Left out of all of these: ATS, HMM, MIG, the cancel of GPUs before Volta, Confidential Computing, debug procfs, RM's
 * part of the set-up and failures in it.
 */
import { assert } from '../../base/assert.ts';
import { nextEventTime } from '../kernel/clock.ts';
import type { Model } from '../state.ts';
import type { Gpu } from './gpu.ts';
import { cancelFaultsAll, resetBatchCounters, serviceFaultBatchForCancel } from './gpu_replayable_faults_cancel.ts';
import { fetchFaultBufferEntries } from './gpu_replayable_faults_fetch.ts';
import { preprocessFaultBatch } from './gpu_replayable_faults_preprocess.ts';
import { faultBufferFlushLocked, pushReplayOnGpu } from './gpu_replayable_faults_push.ts';
import { serviceFaultBatch } from './gpu_replayable_faults_service.ts';
import {
  createFaultCache,
  FETCH_MODE_BATCH_READY,
  FLUSH_MODE_CACHED_PUT,
  FLUSH_MODE_UPDATE_PUT,
  REPLAY_POLICY_BATCH,
  REPLAY_POLICY_BATCH_FLUSH,
  REPLAY_POLICY_MAX,
  REPLAY_POLICY_ONCE,
  REPLAY_TYPE_START,
  type ReplayableFaults,
  statusToFatalFaultReason,
} from './gpu_replayable_faults_types.ts';
import { NV_OK, NV_WARN_MORE_PROCESSING_REQUIRED } from './status.ts';
import { trackerClear, trackerWait, trackerWaitEnd } from './tracker.ts';
import { createServiceBlockContext } from './va_block.ts';
import {
  faultBufferHalEntryIsValid,
  faultBufferHalReadGet,
  faultBufferHalReadPut,
  halDisablePrefetchFaults,
  halEnablePrefetchFaults,
} from './volta_fault_buffer.ts';

export type { ReplayableFaults } from './gpu_replayable_faults_types.ts';

const NS_PER_MS = 1_000_000;

/**
 * What fault_buffer_init_replayable_faults allocates and computes: the three zeroed arrays of the batch context, the
 * limits, the policy. All that needs the hardware follows in faultBufferReinitReplayableFaults.
 */
export function createReplayableFaults(m: Model): ReplayableFaults {
  const maxFaults = m.spec.faultBufferEntries;
  const utlbCount = m.spec.gpcs * m.spec.utlbsPerGpc;
  const batchCount = Math.max(m.params.uvm_perf_fault_batch_count, 1);
  const policy = m.params.uvm_perf_fault_replay_policy;
  assert(utlbCount > 0, 'a GPU has uTLBs');
  return {
    maxFaults,
    maxBatchSize: Math.min(batchCount, maxFaults),
    cachedGet: 0,
    cachedPut: 0,
    utlbCount,
    replayTracker: [],
    replayPolicy: policy < REPLAY_POLICY_MAX ? policy : REPLAY_POLICY_BATCH_FLUSH,
    replayUpdatePutRatio: Math.min(m.params.uvm_perf_fault_replay_update_put_ratio, 100),
    prefetchFaultsEnabled: true,
    disablePrefetchFaultsTimestamp: 0,
    reenablePrefetchFaultsLapseMsec: m.params.uvm_perf_reenable_prefetch_faults_lapse_msec,
    batch: {
      faultCache: createFaultCache(maxFaults),
      orderedFaultCache: new Int32Array(maxFaults),
      utlbs: {
        numPendingFaults: new Int32Array(utlbCount),
        lastFault: new Int32Array(utlbCount),
        hasFatalFaults: new Uint8Array(utlbCount),
      },
      maxUtlbId: 0,
      numCachedFaults: 0,
      numCoalescedFaults: 0,
      numInvalidPrefetchFaults: 0,
      numDuplicateFaults: 0,
      numReplays: 0,
      batchId: 0,
      lastFault: -1,
      isSingleInstancePtr: true,
      hasThrottledFaults: false,
      fatalVaSpace: -1,
      tracker: [],
    },
    blockServiceContext: createServiceBlockContext(m),
  };
}

/** fault_buffer_reinit_replayable_faults: also on resume, when the hardware may have moved on. */
export function faultBufferReinitReplayableFaults(m: Model, gpu: Gpu): void {
  const rf = gpu.replayable;
  if (m.res.why !== null) m.res.why.enter('fault_buffer_reinit_replayable_faults', m.k.now, { gpu: gpu.index });
  rf.cachedGet = faultBufferHalReadGet(gpu);
  rf.cachedPut = faultBufferHalReadPut(m, gpu);
  if (rf.prefetchFaultsEnabled) halEnablePrefetchFaults(gpu);
  else halDisablePrefetchFaults(gpu);
}

/** fault_buffer_init_replayable_faults; its allocations and limits are createReplayableFaults. */
export function faultBufferInitReplayableFaults(m: Model, gpu: Gpu): void {
  assert(gpu.faultBuffer.entries === m.spec.faultBufferEntries, 'the fault buffer has the size that the machine names');
  assert(gpu.replayable.batch.batchId === 0, 'the replayable fault buffer is set up once');
  if (m.res.why !== null) m.res.why.enter('fault_buffer_init_replayable_faults', m.k.now, { gpu: gpu.index });
  faultBufferReinitReplayableFaults(m, gpu);
}

/** uvm_parent_gpu_fault_buffer_init: `gpu.replayable` and `gpu.nonReplayable` were created with the GPU. */
export function parentGpuFaultBufferInit(m: Model, gpu: Gpu): void {
  if (m.res.why !== null) m.res.why.enter('uvm_parent_gpu_fault_buffer_init', m.k.now, { gpu: gpu.index });
  faultBufferInitReplayableFaults(m, gpu);
}

/** uvm_parent_gpu_fault_buffer_resume */
export function parentGpuFaultBufferResume(m: Model, gpu: Gpu): void {
  faultBufferReinitReplayableFaults(m, gpu);
}

/** uvm_parent_gpu_fault_buffer_deinit: the waits for the trackers have been made. */
export function parentGpuFaultBufferDeinit(gpu: Gpu): void {
  const rf = gpu.replayable;
  assert(rf.replayTracker.length === 0, 'the fault buffer is taken down while a replay may be running');
  if (!rf.prefetchFaultsEnabled) halEnablePrefetchFaults(gpu);
}

/**
 * Is there anything in the buffer (uvm_parent_gpu_replayable_faults_pending)? The PUT register is read only when
 * neither the driver's copies of GET and PUT nor the valid bit at GET tell.
 */
export function parentGpuReplayableFaultsPending(m: Model, gpu: Gpu): boolean {
  const rf = gpu.replayable;
  if (rf.cachedGet !== rf.cachedPut) return true;
  if (faultBufferHalEntryIsValid(m, gpu, rf.cachedGet)) return true;
  rf.cachedPut = faultBufferHalReadPut(m, gpu);
  return rf.cachedGet !== rf.cachedPut;
}

/** uvm_parent_gpu_enable_prefetch_faults */
export function parentGpuEnablePrefetchFaults(gpu: Gpu): void {
  if (gpu.replayable.prefetchFaultsEnabled) return;
  halEnablePrefetchFaults(gpu);
  gpu.replayable.prefetchFaultsEnabled = true;
}

/** uvm_parent_gpu_disable_prefetch_faults */
export function parentGpuDisablePrefetchFaults(m: Model, gpu: Gpu): void {
  const rf = gpu.replayable;
  if (!rf.prefetchFaultsEnabled) return;
  halDisablePrefetchFaults(gpu);
  rf.prefetchFaultsEnabled = false;
  rf.disablePrefetchFaultsTimestamp = m.k.now;
}

/**
 * Prefetch faults are switched off for a while when more than two thirds of a full batch were prefetches of what cannot
 * be mapped (enable_disable_prefetch_faults). There is no timer: a later batch switches them on again.
 */
export function enableDisablePrefetchFaults(m: Model, gpu: Gpu): void {
  const rf = gpu.replayable;
  const lapse = rf.reenablePrefetchFaultsLapseMsec;
  if (rf.prefetchFaultsEnabled && lapse > 0 && rf.batch.numInvalidPrefetchFaults * 3 > rf.maxBatchSize * 2) {
    parentGpuDisablePrefetchFaults(m, gpu);
  } else if (!rf.prefetchFaultsEnabled && m.k.now - rf.disablePrefetchFaultsTimestamp > lapse * NS_PER_MS) {
    parentGpuEnablePrefetchFaults(gpu);
  }
}

/**
 * What a batch ends with under the policies that replay by batch; returns a driver status. Under BATCH_FLUSH the ratio
 * decides whether the flush looks at PUT again, and the caller waits for the replay.
 */
function replayBatch(m: Model, gpu: Gpu): number {
  const rf = gpu.replayable;
  if (rf.replayPolicy === REPLAY_POLICY_BATCH) return pushReplayOnGpu(m, gpu, REPLAY_TYPE_START, rf.batch);
  if (rf.replayPolicy !== REPLAY_POLICY_BATCH_FLUSH) return NV_OK;
  const mode = hasManyDuplicates(rf) ? FLUSH_MODE_UPDATE_PUT : FLUSH_MODE_CACHED_PUT;
  return faultBufferFlushLocked(m, gpu, mode, REPLAY_TYPE_START, rf.batch);
}

/** More than the ratio (percent) of the batch's entries were duplicates. */
function hasManyDuplicates(rf: ReplayableFaults): boolean {
  return rf.batch.numDuplicateFaults * 100 > rf.batch.numCachedFaults * rf.replayUpdatePutRatio;
}

/**
 * The bottom half's work (uvm_parent_gpu_service_replayable_faults): batch after batch until the buffer is empty or a
 * limit is reached, with at least one replay. The ISR's service lock is held. The thread gives way where it looks at
 * the PUT register and where it waits for the GPU, and holds no other lock then.
 */
export function* parentGpuServiceReplayableFaults(m: Model, gpu: Gpu): Generator<number, void, void> {
  const rf = gpu.replayable;
  const batch = rf.batch;
  let numReplays = 0;
  let numBatches = 0;
  let numThrottled = 0;
  let status = NV_OK;
  trackerClear(batch.tracker);
  if (m.res.why !== null) m.res.why.enter('uvm_parent_gpu_service_replayable_faults', m.k.now, { gpu: gpu.index });

  while (
    numThrottled < m.params.uvm_perf_fault_max_throttle_per_service &&
    numBatches < m.params.uvm_perf_fault_max_batches_per_service
  ) {
    resetBatchCounters(batch);
    // Faults of actors that are behind in time come first.
    if (nextEventTime(m) < m.k.now) yield m.k.now;
    status = fetchFaultBufferEntries(m, gpu, FETCH_MODE_BATCH_READY);
    if (status !== NV_OK || batch.numCachedFaults === 0) break;
    batch.batchId++;

    status = preprocessFaultBatch(m, gpu);
    numReplays += batch.numReplays;
    if (status === NV_WARN_MORE_PROCESSING_REQUIRED) continue;
    if (status !== NV_OK) break;

    status = serviceFaultBatch(m, gpu);
    numReplays += batch.numReplays;
    enableDisablePrefetchFaults(m, gpu);
    if (status !== NV_OK) {
      cancelFaultsAll(m, gpu, statusToFatalFaultReason(status));
      break;
    }

    if (batch.fatalVaSpace >= 0) {
      const end = trackerWaitEnd(m, batch.tracker);
      if (end > m.k.now && end < Infinity) yield end;
      status = trackerWait(m, batch.tracker);
      if (status === NV_OK) status = serviceFaultBatchForCancel(m, gpu);
      if (status !== NV_OK) break;
      numBatches++;
      continue;
    }

    const replaysBefore = batch.numReplays;
    if (hasManyDuplicates(rf) && nextEventTime(m) < m.k.now) yield m.k.now;
    status = replayBatch(m, gpu);
    numReplays += batch.numReplays - replaysBefore;
    if (status !== NV_OK) break;
    if (rf.replayPolicy === REPLAY_POLICY_BATCH_FLUSH) {
      const end = trackerWaitEnd(m, rf.replayTracker);
      if (m.res.why !== null) m.res.why.enter('uvm_tracker_wait', m.k.now, { for: 'the replay' });
      if (end > m.k.now && end < Infinity) yield end;
      status = trackerWait(m, rf.replayTracker);
      if (m.res.why !== null) m.res.why.leave?.('uvm_tracker_wait', m.k.now);
      if (status !== NV_OK) break;
    }
    if (batch.hasThrottledFaults) numThrottled++;
    numBatches++;
  }

  if (status === NV_WARN_MORE_PROCESSING_REQUIRED) status = NV_OK;
  if ((status === NV_OK && rf.replayPolicy === REPLAY_POLICY_ONCE) || numReplays === 0) {
    pushReplayOnGpu(m, gpu, REPLAY_TYPE_START, batch);
  }
  trackerClear(batch.tracker);
}
