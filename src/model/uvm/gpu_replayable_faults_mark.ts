/**
 * Models the bookkeeping of single faults in uvm_gpu_replayable_faults.c (driver 580.105.08):
 * check_fault_entry_duplicate, update_batch_and_notify_fault, mark_fault_invalid_prefetch, mark_fault_throttled,
 * mark_fault_fatal, fault_entry_duplicate_flags, check_fault_access_permissions; with the fault record of uvm_tools.c.
 *
 * Only the tools listen to fault events here: the statistics of debug procfs are left out, and the thrashing module
 * does not listen to faults.
 */
import type { Model } from '../state.ts';
import type { Gpu } from './gpu.ts';
import {
  CANCEL_VA_MODE_ALL,
  CANCEL_VA_MODE_WRITE_AND_ATOMIC,
  FAULT_INVALID_PREFETCH,
  FAULT_IS_FATAL,
  FAULT_THROTTLED,
  type FaultBatchContext,
  type FaultCache,
  statusToFatalFaultReason,
} from './gpu_replayable_faults_types.ts';
import { NV_OK } from './status.ts';
import { toolsRecordGpuFault } from './tools.ts';
import { accessTypeToProt, vaBlockCheckLogicalPermissions } from './va_block.ts';
import { ACCESS_ATOMIC_STRONG, ACCESS_PREFETCH, ACCESS_READ, type VaBlock } from './va_block_types.ts';

/** UVM_FAULT_ACCESS_TYPE_COUNT: no access type can be serviced. */
export const ACCESS_NONE = ACCESS_ATOMIC_STRONG + 1;

/** check_fault_entry_duplicate: same page as the entry before it in service order; `previous` may be -1. */
export function checkFaultEntryDuplicate(c: FaultCache, current: number, previous: number): boolean {
  return previous >= 0 && c.vaSpace[current] === c.vaSpace[previous] && c.page[current] === c.page[previous];
}

/** Records a cached fault and then those merged into it, the newest first, all at one time (uvm_tools_record_fault). */
export function notifyGpuFault(m: Model, gpu: Gpu, c: FaultCache, fault: number, batchId: number): void {
  const time = m.k.now;
  let cost = 0;
  let row = fault;
  do {
    m.k.now = time;
    toolsRecordGpuFault(
      m,
      gpu.index,
      c.faultType[row],
      c.accessType[row],
      c.page[row],
      batchId,
      c.gpc[row],
      c.client[row],
      c.timestamp[row],
    );
    cost += m.k.now - time;
    row = c.next[row];
  } while (row !== fault);
  m.k.now = time + cost;
}

/** update_batch_and_notify_fault */
export function updateBatchAndNotifyFault(
  m: Model,
  gpu: Gpu,
  batch: FaultBatchContext,
  fault: number,
  isDuplicate: boolean,
): void {
  const instances = batch.faultCache.numInstances[fault];
  batch.numDuplicateFaults += isDuplicate ? instances : instances - 1;
  notifyGpuFault(m, gpu, batch.faultCache, fault, batch.batchId);
}

export function markFaultInvalidPrefetch(batch: FaultBatchContext, fault: number): void {
  batch.faultCache.flags[fault] |= FAULT_INVALID_PREFETCH;
  batch.numInvalidPrefetchFaults += batch.faultCache.numInstances[fault];
}

export function markFaultThrottled(batch: FaultBatchContext, fault: number): void {
  batch.faultCache.flags[fault] |= FAULT_THROTTLED;
  batch.hasThrottledFaults = true;
}

/** The first fatal fault of a batch decides which VA space is cancelled. */
export function markFaultFatal(batch: FaultBatchContext, fault: number, reason: number, cancelVaMode: number): void {
  const c = batch.faultCache;
  c.flags[fault] |= FAULT_IS_FATAL;
  c.fatalReason[fault] = reason;
  c.cancelVaMode[fault] = cancelVaMode;
  batch.utlbs.hasFatalFaults[c.utlb[fault]] = 1;
  if (batch.fatalVaSpace < 0) batch.fatalVaSpace = c.vaSpace[fault];
}

/** fault_entry_duplicate_flags: what was found for a page holds for its other faults. */
export function faultEntryDuplicateFlags(batch: FaultBatchContext, current: number, previous: number): void {
  const flags = batch.faultCache.flags[previous];
  if ((flags & FAULT_INVALID_PREFETCH) !== 0) markFaultInvalidPrefetch(batch, current);
  if ((flags & FAULT_THROTTLED) !== 0) markFaultThrottled(batch, current);
}

/**
 * The most intrusive access that may be serviced on the fault's page, or ACCESS_NONE (check_fault_access_permissions).
 * Marks what cannot: a prefetch as invalid, anything else as fatal. Reads merged with a forbidden write are serviced
 * before the write is cancelled.
 *
 * `page` is the index in the block; `firstTry`: the block is not being retried.
 */
export function checkFaultAccessPermissions(
  m: Model,
  gpu: Gpu,
  batch: FaultBatchContext,
  block: VaBlock,
  fault: number,
  page: number,
  firstTry: boolean,
): number {
  const c = batch.faultCache;
  const access = c.accessType[fault];
  let status = vaBlockCheckLogicalPermissions(m, block, gpu.id, page, accessTypeToProt(access));
  if (status === NV_OK) return access;
  if (access === ACCESS_PREFETCH) {
    if (firstTry) markFaultInvalidPrefetch(batch, fault);
    return ACCESS_NONE;
  }
  let reason = statusToFatalFaultReason(status);
  let cancelVaMode = CANCEL_VA_MODE_ALL;
  let serviced = ACCESS_NONE;
  if (access > ACCESS_READ) {
    cancelVaMode = CANCEL_VA_MODE_WRITE_AND_ATOMIC;
    if ((c.accessMask[fault] & (1 << ACCESS_READ)) !== 0) {
      status = vaBlockCheckLogicalPermissions(m, block, gpu.id, page, accessTypeToProt(ACCESS_READ));
      if (status === NV_OK) {
        serviced = ACCESS_READ;
      } else {
        cancelVaMode = CANCEL_VA_MODE_ALL;
        reason = statusToFatalFaultReason(status);
      }
    }
  }
  markFaultFatal(batch, fault, reason, cancelVaMode);
  return serviced;
}
