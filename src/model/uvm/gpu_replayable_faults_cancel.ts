/**
 * Models the cancels of uvm_gpu_replayable_faults.c on Volta and later (driver 580.105.08):
 * service_fault_batch_for_cancel (cancel_faults_precise) and cancel_faults_all (cancel_fault_batch).
 *
 * The waits of a precise cancel are made under the VA space lock, so they move the thread's time without letting others
 * in between.
 *
 * Left out: the uTLB lockdown algorithm of Pascal, ATS and HMM, Confidential Computing's move of the hardware buffer.
 */
import { assert } from '../../base/assert.ts';
import type { Model } from '../state.ts';
import type { Gpu } from './gpu.ts';
import { fetchFaultBufferEntries } from './gpu_replayable_faults_fetch.ts';
import { preprocessFaultBatch } from './gpu_replayable_faults_preprocess.ts';
import { cancelFaultPreciseVa, faultBufferFlushLocked } from './gpu_replayable_faults_push.ts';
import {
  gpuVaSpaceExists,
  serviceFaultBatchDispatch,
  vaSpaceLockRead,
  vaSpaceUnlockRead,
} from './gpu_replayable_faults_service.ts';
import {
  CANCEL_VA_MODE_ALL,
  FAULT_IS_FATAL,
  type FaultBatchContext,
  FETCH_MODE_ALL,
  FLUSH_MODE_UPDATE_PUT,
  FLUSH_MODE_WAIT_UPDATE_PUT,
  REPLAY_TYPE_START,
} from './gpu_replayable_faults_types.ts';
import { NV_OK, NV_WARN_MORE_PROCESSING_REQUIRED } from './status.ts';
import { trackerWait } from './tracker.ts';
import type { VaSpace } from './va_range_types.ts';

/** What every batch, and every look for faults to cancel, starts from. */
export function resetBatchCounters(batch: FaultBatchContext): void {
  batch.numInvalidPrefetchFaults = 0;
  batch.numDuplicateFaults = 0;
  batch.numReplays = 0;
  batch.fatalVaSpace = -1;
  batch.hasThrottledFaults = false;
}

/** Services the faults of one VA space and cancels those that cannot be serviced; the others are left alone. */
function serviceAndCancel(m: Model, gpu: Gpu, space: VaSpace): number {
  const batch = gpu.replayable.batch;
  const c = batch.faultCache;
  const ordered = batch.orderedFaultCache;
  let i = 0;
  while (i < batch.numCoalescedFaults && c.vaSpace[ordered[i]] !== space.id) i++;
  while (i < batch.numCoalescedFaults && c.vaSpace[ordered[i]] === space.id) {
    if ((c.flags[ordered[i]] & FAULT_IS_FATAL) !== 0) {
      const status = cancelFaultPreciseVa(m, gpu, ordered[i], CANCEL_VA_MODE_ALL);
      if (status !== NV_OK) return status;
      i++;
      continue;
    }
    const walked = serviceFaultBatchDispatch(m, gpu, space, i);
    if (walked < 0) return -walked;
    for (const outer = i + walked; i < outer; i++) {
      const fault = ordered[i];
      if ((c.flags[fault] & FAULT_IS_FATAL) === 0) continue;
      const status = cancelFaultPreciseVa(m, gpu, fault, c.cancelVaMode[fault]);
      if (status !== NV_OK) return status;
    }
  }
  return NV_OK;
}

/** From the flush to the last cancel, with the VA space locked, so that no fault that is seen can be stale. */
function refetchAndCancel(m: Model, gpu: Gpu, space: VaSpace): number {
  const rf = gpu.replayable;
  const batch = rf.batch;
  let status = faultBufferFlushLocked(m, gpu, FLUSH_MODE_WAIT_UPDATE_PUT, REPLAY_TYPE_START, batch);
  if (status !== NV_OK) return status;
  // The faults that are still wanted come back with this replay.
  status = trackerWait(m, rf.replayTracker);
  if (status !== NV_OK) return status;
  if (!gpuVaSpaceExists(space, gpu)) return NV_OK;

  resetBatchCounters(batch);
  status = fetchFaultBufferEntries(m, gpu, FETCH_MODE_ALL);
  if (status !== NV_OK) return status;
  if (batch.numCachedFaults === 0) return NV_OK;
  batch.batchId++;
  status = preprocessFaultBatch(m, gpu);
  if (status !== NV_OK) return status === NV_WARN_MORE_PROCESSING_REQUIRED ? NV_OK : status;
  return serviceAndCancel(m, gpu, space);
}

/**
 * Cancels the fatal faults of the VA space that the batch names (service_fault_batch_for_cancel): drops what is in the
 * buffer, replays, and services what comes back, this time knowing that none of it is stale. Ends with a replay for the
 * rest. Returns a driver status.
 */
export function serviceFaultBatchForCancel(m: Model, gpu: Gpu): number {
  const batch = gpu.replayable.batch;
  assert(batch.fatalVaSpace >= 0, 'a precise cancel needs a fatal fault');
  const space = m.vaSpaces[batch.fatalVaSpace];
  if (m.res.why !== null) m.res.why.enter('service_fault_batch_for_cancel', m.k.now, { vaSpace: space.id });
  vaSpaceLockRead(m, space);
  const status = refetchAndCancel(m, gpu, space);
  vaSpaceUnlockRead(m, space);
  if (status !== NV_OK) return status;
  return faultBufferFlushLocked(m, gpu, FLUSH_MODE_UPDATE_PUT, REPLAY_TYPE_START, batch);
}

/** Cancels the representatives of one VA space from `index` on; returns the first index beyond what was handled. */
function cancelVaSpaceFaults(m: Model, gpu: Gpu, space: VaSpace, index: number, reason: number): number {
  const batch = gpu.replayable.batch;
  const c = batch.faultCache;
  const ordered = batch.orderedFaultCache;
  const registered = gpuVaSpaceExists(space, gpu);
  let i = index;
  for (; i < batch.numCoalescedFaults && c.vaSpace[ordered[i]] === space.id; i++) {
    if (!registered) continue;
    const fault = ordered[i];
    let mode = CANCEL_VA_MODE_ALL;
    if ((c.flags[fault] & FAULT_IS_FATAL) !== 0) mode = c.cancelVaMode[fault];
    else c.fatalReason[fault] = reason;
    const status = cancelFaultPreciseVa(m, gpu, fault, mode);
    if (status !== NV_OK) return -status;
  }
  return i;
}

/**
 * Cancels every fault of the batch, also those that could be serviced (cancel_faults_all): the answer to an error that
 * concerns everybody, such as no memory. Returns a driver status, which the caller ignores.
 */
export function cancelFaultsAll(m: Model, gpu: Gpu, reason: number): number {
  const batch = gpu.replayable.batch;
  if (m.res.why !== null) m.res.why.enter('cancel_faults_all', m.k.now, { reason });
  let status = NV_OK;
  let i = 0;
  while (i < batch.numCoalescedFaults && status === NV_OK) {
    const space = m.vaSpaces[batch.faultCache.vaSpace[batch.orderedFaultCache[i]]];
    vaSpaceLockRead(m, space);
    i = cancelVaSpaceFaults(m, gpu, space, i, reason);
    vaSpaceUnlockRead(m, space);
    if (i < 0) status = -i;
  }
  // Each cancel replays the other faults too: drop the copies that came back.
  const flushed = faultBufferFlushLocked(m, gpu, FLUSH_MODE_UPDATE_PUT, REPLAY_TYPE_START, batch);
  return status === NV_OK ? flushed : status;
}
