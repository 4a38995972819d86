/**
 * Models the fetch of uvm_gpu_replayable_faults.c (driver 580.105.08): write_get, cmp_fault_instance_ptr,
 * fetch_fault_buffer_merge_entry, fetch_fault_buffer_try_merge_entry, fetch_fault_buffer_entries.
 *
 * Entries leave the buffer before they are serviced: GET moves here. Entries of one page are merged where that is cheap
 * to see: against the last fault of the same uTLB, and against the last fault of the batch.
 *
 * Left out: Confidential Computing, and the exception for GPUs before Volta, which do not merge while they cancel.
 */
import { assert } from '../../base/assert.ts';
import { faultBufferValidTime } from '../gpu/fault_buffer.ts';
import type { Model } from '../state.ts';
import type { Gpu } from './gpu.ts';
import {
  FAULT_FILTERED,
  FAULT_IS_FATAL,
  type FaultBatchContext,
  type FaultCache,
  FETCH_MODE_ALL,
  FETCH_MODE_BATCH_READY,
} from './gpu_replayable_faults_types.ts';
import { NV_OK } from './status.ts';
import {
  faultBufferHalEntryIsValid,
  faultBufferHalReadPut,
  faultBufferHalWriteGet,
  parseReplayableEntry,
} from './volta_fault_buffer.ts';

const NONE = -1;

/** write_get: the register is written only when it changes. */
export function writeGet(m: Model, gpu: Gpu, get: number): void {
  if (gpu.replayable.cachedGet === get) return;
  gpu.replayable.cachedGet = get;
  faultBufferHalWriteGet(m, gpu, get);
}

/** cmp_fault_instance_ptr, for equality. */
export function sameInstancePtr(c: FaultCache, a: number, b: number): boolean {
  return c.instance[a] === c.instance[b] && c.aperture[a] === c.aperture[b] && c.veId[a] === c.veId[b];
}

/**
 * Merges `current` into `last`, or, when it is the more intrusive, takes its place as the representative
 * (fetch_fault_buffer_merge_entry). The newest merged entry comes first in the list.
 */
function mergeEntry(c: FaultCache, current: number, last: number): void {
  c.numInstances[last]++;
  c.accessMask[last] |= 1 << c.accessType[current];
  if (c.accessType[current] > c.accessType[last]) {
    c.accessMask[current] = c.accessMask[last];
    c.numInstances[current] = c.numInstances[last];
    c.flags[last] |= FAULT_FILTERED;
    // `current` takes the head's place in the ring and `last` comes right behind it.
    const before = c.prev[last];
    c.prev[current] = before;
    c.next[before] = current;
    c.next[current] = last;
    c.prev[last] = current;
  } else {
    c.flags[current] |= FAULT_FILTERED;
    const after = c.next[last];
    c.next[current] = after;
    c.prev[after] = current;
    c.prev[current] = last;
    c.next[last] = current;
  }
}

/**
 * fetch_fault_buffer_try_merge_entry. Across uTLBs an entry is merged only if it is not more intrusive, so that no
 * uTLB's count of pending faults changes but its own. The batch's last fault keeps pointing at an entry that was merged
 * away by its own uTLB; what merges into it later is counted there, and only reported with the representative.
 */
function tryMergeEntry(c: FaultCache, batch: FaultBatchContext, current: number, sameInstance: boolean): boolean {
  const utlbs = batch.utlbs;
  const utlb = c.utlb[current];
  if (utlbs.numPendingFaults[utlb] > 0) {
    const last = utlbs.lastFault[utlb];
    if (c.page[current] === c.page[last] && sameInstancePtr(c, current, last)) {
      mergeEntry(c, current, last);
      if (c.accessType[current] > c.accessType[last]) utlbs.lastFault[utlb] = current;
      return true;
    }
  }
  const last = batch.lastFault;
  if (sameInstance && c.page[current] === c.page[last] && c.accessType[current] <= c.accessType[last]) {
    mergeEntry(c, current, last);
    return true;
  }
  return false;
}

/** The entry starts a representative of its own. */
function addRepresentative(c: FaultCache, batch: FaultBatchContext, current: number): void {
  c.numInstances[current] = 1;
  c.accessMask[current] = 1 << c.accessType[current];
  c.next[current] = current;
  c.prev[current] = current;
  const utlb = c.utlb[current];
  batch.utlbs.numPendingFaults[utlb]++;
  batch.utlbs.lastFault[utlb] = current;
  batch.lastFault = current;
  batch.numCoalescedFaults++;
}

/** Spins until the entry in slot `index` is valid; the driver's global error ends the wait. */
export function waitForValidEntry(m: Model, gpu: Gpu, index: number): number {
  if (m.globalStatus !== NV_OK) return m.globalStatus;
  const validAt = faultBufferValidTime(m, gpu.faultBuffer, index);
  assert(validAt < Number.POSITIVE_INFINITY, 'an entry below PUT never becomes valid');
  if (validAt > m.k.now) m.k.now = validAt;
  assert(faultBufferHalEntryIsValid(m, gpu, index), 'the entry is valid when its time has come');
  return NV_OK;
}

/** Forgets the counts of the uTLBs that the entries fetched last came through. */
function clearUtlbs(batch: FaultBatchContext): void {
  const { numPendingFaults, hasFatalFaults } = batch.utlbs;
  if (batch.numCachedFaults > batch.maxUtlbId) {
    numPendingFaults.fill(0, 0, batch.maxUtlbId + 1);
    hasFatalFaults.fill(0, 0, batch.maxUtlbId + 1);
  } else {
    const utlb = batch.faultCache.utlb;
    for (let i = 0; i < batch.numCachedFaults; i++) {
      numPendingFaults[utlb[i]] = 0;
      hasFatalFaults[utlb[i]] = 0;
    }
  }
  batch.maxUtlbId = 0;
}

/** PUT is read only when nothing of an earlier look at it is left; the batch starts from nothing. */
function beginFetch(m: Model, gpu: Gpu, batch: FaultBatchContext): void {
  const rf = gpu.replayable;
  if (m.res.why !== null) m.res.why.enter('fetch_fault_buffer_entries', m.k.now, { gpu: gpu.index });
  m.k.now = Math.round(m.k.now + m.cost.fetchBatch);
  if (rf.cachedGet === rf.cachedPut) rf.cachedPut = faultBufferHalReadPut(m, gpu);
  batch.isSingleInstancePtr = true;
  batch.lastFault = NONE;
  batch.numCoalescedFaults = 0;
  clearUtlbs(batch);
}

/**
 * Takes entries out of the fault buffer into the batch's cache (fetch_fault_buffer_entries) and moves GET past them.
 *
 * FETCH_MODE_BATCH_READY takes at most a batch and stops at an entry that is not valid yet, unless it is the first;
 * FETCH_MODE_ALL waits for everything up to PUT. Sets the batch's counts; returns a driver status.
 */
export function fetchFaultBufferEntries(m: Model, gpu: Gpu, mode: number): number {
  const rf = gpu.replayable;
  const batch = rf.batch;
  const c = batch.faultCache;
  const mayFilter = m.params.uvm_perf_fault_coalesce !== 0;
  const utlbsPerGpc = m.spec.utlbsPerGpc;
  beginFetch(m, gpu, batch);

  let status = NV_OK;
  let get = rf.cachedGet;
  const put = rf.cachedPut;
  const limit = mode === FETCH_MODE_ALL ? rf.maxFaults : rf.maxBatchSize;
  let current = 0;
  let charged = m.k.now;
  while (get !== put && current < limit) {
    if (!faultBufferHalEntryIsValid(m, gpu, get)) {
      if (mode === FETCH_MODE_BATCH_READY && current > 0) break;
      status = waitForValidEntry(m, gpu, get);
      if (status !== NV_OK) break;
      charged = m.k.now;
    }
    parseReplayableEntry(gpu, get, utlbsPerGpc, c, current);
    const utlb = c.utlb[current];
    if (utlb > batch.maxUtlbId) batch.maxUtlbId = utlb;
    let sameInstance = true;
    let merged = false;
    if (current > 0) {
      sameInstance = sameInstancePtr(c, current, batch.lastFault);
      if (mayFilter && (c.flags[current] & FAULT_IS_FATAL) === 0)
        merged = tryMergeEntry(c, batch, current, sameInstance);
    }
    if (!merged) {
      if (!sameInstance) batch.isSingleInstancePtr = false;
      addRepresentative(c, batch, current);
    }
    current++;
    get++;
    if (get === rf.maxFaults) get = 0;
    charged += m.cost.fetchEntry;
    m.k.now = Math.round(charged);
  }
  writeGet(m, gpu, get);
  batch.numCachedFaults = current;
  return status;
}
