/**
 * Models what uvm_gpu_replayable_faults.c pushes, and the flush of the buffer (driver 580.105.08): push_replay_on_gpu,
 * push_replay_on_parent_gpu, push_cancel_on_gpu (global), cancel_fault_precise_va, fault_buffer_skip_replayable_entry,
 * fault_buffer_flush_locked.
 *
 * Left out: MIG and with it targeted software cancels (the parent's first valid GPU is the GPU), Confidential
 * Computing's second buffer, the counters of debug procfs. A software cancel acts when its push is done, without a
 * method of its own.
 */
import { CANCEL_ALL, CANCEL_WRITE_AND_ATOMIC, clientsCancelInstance } from '../gpu/sm.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_MEMOPS } from './channel.ts';
import type { Gpu } from './gpu.ts';
import { waitForValidEntry, writeGet } from './gpu_replayable_faults_fetch.ts';
import {
  CANCEL_VA_MODE_ALL,
  type FaultBatchContext,
  FLUSH_MODE_CACHED_PUT,
  FLUSH_MODE_WAIT_UPDATE_PUT,
  REPLAY_TYPE_START_ACK_ALL,
} from './gpu_replayable_faults_types.ts';
import {
  PURPOSE_CANCEL,
  PURPOSE_REPLAY,
  pushBegin,
  pushBeginAcquire,
  pushCancel,
  pushEnd,
  pushEndAndWait,
  pushReplay,
} from './push.ts';
import { NV_OK } from './status.ts';
import { toolsRecordFatalFault, toolsRecordReplay, toolsReplayTimes } from './tools.ts';
import { trackerAddPush, trackerAddTracker, trackerClear, trackerWait } from './tracker.ts';
import {
  faultBufferHalEntryClearValid,
  faultBufferHalEntryIsValid,
  faultBufferHalReadPut,
} from './volta_fault_buffer.ts';

/**
 * Pushes a replay (push_replay_on_gpu). With a batch it runs after all work of the bottom half so far, is counted and
 * recorded under the batch's id; with null it is a bare replay. Nobody waits for it here: it is in the replay tracker.
 */
export function pushReplayOnGpu(m: Model, gpu: Gpu, type: number, batch: FaultBatchContext | null): number {
  if (m.res.why !== null) m.res.why.enter('push_replay_on_gpu', m.k.now, { gpu: gpu.index });
  const push =
    batch === null
      ? pushBegin(m, gpu.index, CHANNEL_TYPE_MEMOPS, PURPOSE_REPLAY)
      : pushBeginAcquire(m, gpu.index, CHANNEL_TYPE_MEMOPS, PURPOSE_REPLAY, batch.tracker);
  if (push.status !== NV_OK) return push.status;
  pushReplay(m, push, type);
  const counted = batch !== null && type !== REPLAY_TYPE_START_ACK_ALL;
  if (counted) {
    toolsRecordReplay(m, gpu.index, push, batch.batchId);
    batch.numReplays++;
  }
  pushEnd(m, push);
  if (counted) toolsReplayTimes(m, push);
  trackerAddPush(gpu.replayable.replayTracker, push);
  return NV_OK;
}

/**
 * Cancels all faults of a context by software (push_cancel_on_gpu): for a fault whose VA space is gone. It waits for
 * the batch's work and the replays, and for the cancel itself.
 */
export function pushCancelOnGpuGlobal(m: Model, gpu: Gpu, instance: number, batch: FaultBatchContext): number {
  const replayTracker = gpu.replayable.replayTracker;
  trackerAddTracker(batch.tracker, replayTracker);
  const push = pushBeginAcquire(m, gpu.index, CHANNEL_TYPE_MEMOPS, PURPOSE_CANCEL, batch.tracker);
  if (push.status !== NV_OK) return push.status;
  const status = pushEndAndWait(m, push);
  if (status === NV_OK) clientsCancelInstance(m, gpu.index, instance, push.finish);
  trackerClear(batch.tracker);
  trackerClear(replayTracker);
  return status;
}

/**
 * Ends the accesses behind one fault (cancel_fault_precise_va): records the fatal fault, for the representative alone,
 * pushes the cancel behind the replays so far and waits for it.
 */
export function cancelFaultPreciseVa(m: Model, gpu: Gpu, fault: number, cancelVaMode: number): number {
  const c = gpu.replayable.batch.faultCache;
  const replayTracker = gpu.replayable.replayTracker;
  if (m.res.why !== null) m.res.why.enter('cancel_fault_precise_va', m.k.now, { gpu: gpu.index });
  toolsRecordFatalFault(m, gpu.id, c.faultType[fault], c.accessType[fault], c.fatalReason[fault], c.page[fault]);
  if (m.res.seams.faultCancelled !== null) m.res.seams.faultCancelled(m, gpu, fault);
  const push = pushBeginAcquire(m, gpu.index, CHANNEL_TYPE_MEMOPS, PURPOSE_CANCEL, replayTracker);
  if (push.status !== NV_OK) return push.status;
  const filter = cancelVaMode === CANCEL_VA_MODE_ALL ? CANCEL_ALL : CANCEL_WRITE_AND_ATOMIC;
  pushCancel(m, push, c.page[fault], c.vaSpace[fault], filter);
  const status = pushEndAndWait(m, push);
  trackerClear(replayTracker);
  return status;
}

/**
 * Drops what is in the buffer and pushes a replay (fault_buffer_flush_locked); the ISR's service lock is held.
 *
 * What is dropped ends at the driver's copy of PUT, which the mode refreshes or not (FLUSH_MODE_*). Dropped faults
 * leave no event and no count: their accesses fault again because of the replay, which is pushed even if nothing was
 * dropped.
 */
export function faultBufferFlushLocked(
  m: Model,
  gpu: Gpu,
  mode: number,
  replayType: number,
  batch: FaultBatchContext | null,
): number {
  const rf = gpu.replayable;
  m.k.now = Math.round(m.k.now + m.cost.flushBuffer);
  if (mode === FLUSH_MODE_WAIT_UPDATE_PUT) {
    const status = trackerWait(m, rf.replayTracker);
    if (status !== NV_OK) return status;
  }
  if (mode !== FLUSH_MODE_CACHED_PUT) rf.cachedPut = faultBufferHalReadPut(m, gpu);

  let get = rf.cachedGet;
  const put = rf.cachedPut;
  let charged = m.k.now;
  if (m.res.why !== null) {
    const discarded = put >= get ? put - get : put + rf.maxFaults - get;
    m.res.why.enter('fault_buffer_flush_locked', m.k.now, { gpu: gpu.index, mode, discarded });
  }
  while (get !== put) {
    if (!faultBufferHalEntryIsValid(m, gpu, get)) {
      const status = waitForValidEntry(m, gpu, get);
      if (status !== NV_OK) {
        writeGet(m, gpu, get);
        return status;
      }
      charged = m.k.now;
    }
    faultBufferHalEntryClearValid(gpu, get);
    get++;
    if (get === rf.maxFaults) get = 0;
    charged += m.cost.flushEntry;
    m.k.now = Math.round(charged);
  }
  writeGet(m, gpu, get);
  const status = pushReplayOnGpu(m, gpu, replayType, batch);
  if (m.res.why !== null) m.res.why.leave?.('fault_buffer_flush_locked', m.k.now);
  return status;
}
