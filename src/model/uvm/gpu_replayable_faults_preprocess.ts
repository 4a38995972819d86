/**
 * Models the preprocessing of uvm_gpu_replayable_faults.c (driver 580.105.08): preprocess_fault_batch,
 * translate_instance_ptrs and the two sort orders; with uvm_parent_gpu_fault_entry_to_va_space of uvm_gpu.c.
 *
 * Left out: MIG. A table entry stands for a channel with at most one subcontext, so the VEID does not choose among VA
 * spaces; INSTANCE_SUBCONTEXT_GONE in its place stands for a subcontext that was torn down too early.
 */

import { sortRows } from '../kernel/sort.ts';
import type { Model } from '../state.ts';
import type { Gpu } from './gpu.ts';
import { sameInstancePtr } from './gpu_replayable_faults_fetch.ts';
import { faultBufferFlushLocked, pushCancelOnGpuGlobal } from './gpu_replayable_faults_push.ts';
import {
  FAULT_FILTERED,
  FLUSH_MODE_UPDATE_PUT,
  INSTANCE_SUBCONTEXT_GONE,
  REPLAY_TYPE_START,
} from './gpu_replayable_faults_types.ts';
import {
  NV_ERR_INVALID_CHANNEL,
  NV_ERR_PAGE_TABLE_NOT_AVAIL,
  NV_OK,
  NV_WARN_MORE_PROCESSING_REQUIRED,
} from './status.ts';
import { UVM_APERTURE_SYS, UVM_APERTURE_VID } from './volta_fault_buffer.ts';

/**
 * The VA space behind an instance pointer (uvm_parent_gpu_fault_entry_to_va_space): its index in Model.vaSpaces, or, if
 * negative, a driver status with the sign turned. `aperture` is the driver's (UVM_APERTURE_*).
 */
export function faultEntryToVaSpace(gpu: Gpu, address: number, aperture: number): number {
  const pointers = gpu.instancePointers;
  for (let i = 0; i < pointers.length; i++) {
    const pointer = pointers[i];
    if (pointer.address !== address) continue;
    if ((pointer.aperture === 0 ? UVM_APERTURE_VID : UVM_APERTURE_SYS) !== aperture) continue;
    if (pointer.vaSpace >= 0) return pointer.vaSpace;
    return pointer.vaSpace === INSTANCE_SUBCONTEXT_GONE ? -NV_ERR_PAGE_TABLE_NOT_AVAIL : -NV_ERR_INVALID_CHANNEL;
  }
  return -NV_ERR_INVALID_CHANNEL;
}

/**
 * A channel in the batch is gone, so the batch holds stale faults: all of it is dropped, along with what is in the
 * buffer, and a replay brings back what is still wanted.
 */
function dropBatch(m: Model, gpu: Gpu, fault: number, error: number): number {
  const batch = gpu.replayable.batch;
  if (error === NV_ERR_PAGE_TABLE_NOT_AVAIL) {
    const status = pushCancelOnGpuGlobal(m, gpu, batch.faultCache.instance[fault], batch);
    if (status !== NV_OK) return status;
  }
  const status = faultBufferFlushLocked(m, gpu, FLUSH_MODE_UPDATE_PUT, REPLAY_TYPE_START, batch);
  return status === NV_OK ? NV_WARN_MORE_PROCESSING_REQUIRED : status;
}

/** translate_instance_ptrs: equal neighbours share one lookup. */
function translateInstancePtrs(m: Model, gpu: Gpu): number {
  const batch = gpu.replayable.batch;
  const c = batch.faultCache;
  const ordered = batch.orderedFaultCache;
  let previous = -1;
  for (let i = 0; i < batch.numCoalescedFaults; i++) {
    const fault = ordered[i];
    if (previous >= 0 && sameInstancePtr(c, fault, previous)) {
      c.vaSpace[fault] = c.vaSpace[previous];
    } else {
      const space = faultEntryToVaSpace(gpu, c.instance[fault], c.aperture[fault]);
      if (space < 0) return dropBatch(m, gpu, fault, -space);
      c.vaSpace[fault] = space;
    }
    previous = fault;
  }
  return NV_OK;
}

/**
 * Brings the representatives of the batch into service order (preprocess_fault_batch): VA space, address ascending,
 * access type descending. Returns NV_OK, NV_WARN_MORE_PROCESSING_REQUIRED when the batch was dropped because of a stale
 * channel, or an error.
 */
export function preprocessFaultBatch(m: Model, gpu: Gpu): number {
  const batch = gpu.replayable.batch;
  const c = batch.faultCache;
  const ordered = batch.orderedFaultCache;
  let count = 0;
  for (let i = 0; i < batch.numCachedFaults; i++) {
    if ((c.flags[i] & FAULT_FILTERED) === 0) ordered[count++] = i;
  }
  if (m.res.why !== null) {
    m.res.why.enter('preprocess_fault_batch', m.k.now, {
      gpu: gpu.index,
      batch: batch.batchId,
      entries: batch.numCachedFaults,
      representatives: count,
    });
  }
  m.k.now = Math.round(m.k.now + m.cost.preprocessEntry * count);
  if (!batch.isSingleInstancePtr) sortRows(ordered, count, c.aperture, c.instance, c.veId);
  const status = translateInstancePtrs(m, gpu);
  if (status !== NV_OK) return status;
  sortRows(ordered, count, c.vaSpace, c.page, c.accessOrder);
  return NV_OK;
}
