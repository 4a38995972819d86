/**
 * Models the service of a batch in uvm_gpu_replayable_faults.c (driver 580.105.08): service_fault_batch,
 * service_fault_batch_dispatch, service_fault_batch_block, service_fault_batch_block_locked,
 * service_fault_batch_fatal_notify.
 *
 * Left out: ATS and HMM, so a fault outside of managed memory is fatal and nothing drops the VA space lock half-way;
 * the cancel mode of GPUs before Volta.
 */
import { maskSet, maskZero } from '../../base/page_mask.ts';
import {
  LOCK_ORDER_MMAP_LOCK,
  LOCK_ORDER_VA_BLOCK,
  LOCK_ORDER_VA_SPACE,
  lockAcquire,
  lockRelease,
} from '../kernel/lock.ts';
import type { Model } from '../state.ts';
import type { Gpu } from './gpu.ts';
import {
  ACCESS_NONE,
  checkFaultAccessPermissions,
  checkFaultEntryDuplicate,
  faultEntryDuplicateFlags,
  markFaultFatal,
  markFaultInvalidPrefetch,
  markFaultThrottled,
  updateBatchAndNotifyFault,
} from './gpu_replayable_faults_mark.ts';
import { pushReplayOnGpu } from './gpu_replayable_faults_push.ts';
import {
  CANCEL_VA_MODE_ALL,
  FAULT_INVALID_PREFETCH,
  FAULT_IS_FATAL,
  FAULT_THROTTLED,
  REPLAY_POLICY_BLOCK,
  REPLAY_TYPE_START,
  statusToFatalFaultReason,
} from './gpu_replayable_faults_types.ts';
import { perfThrashingGetHint } from './perf_thrashing.ts';
import { THRASHING_HINT_PIN, THRASHING_HINT_THROTTLE } from './perf_thrashing_types.ts';
import { NV_ERR_INVALID_ADDRESS, NV_ERR_MORE_PROCESSING_REQUIRED, NV_OK } from './status.ts';
import { trackerAddTracker } from './tracker.ts';
import { accessTypeToProt, vaBlockPageIsGpuAuthorized } from './va_block.ts';
import { newResidencyOffset, vaBlockServiceLocked } from './va_block_service.ts';
import {
  ACCESS_PREFETCH,
  OPERATION_REPLAYABLE_FAULTS,
  S_READ_DUPLICATE,
  S_THRASHING_PIN,
  type ServiceBlockContext,
  type VaBlock,
} from './va_block_types.ts';
import type { VaSpace } from './va_range_types.ts';
import { vaBlockFindCreate } from './va_space.ts';

/** Takes a VA space's mmap_lock and lock for read; a writer that holds it makes the thread wait. */
export function vaSpaceLockRead(m: Model, space: VaSpace): void {
  lockAcquire(m, LOCK_ORDER_MMAP_LOCK, space.id, true);
  lockAcquire(m, LOCK_ORDER_VA_SPACE, space.id, true);
  if (space.writeFreeAt > m.k.now) m.k.now = space.writeFreeAt;
  m.k.now = Math.round(m.k.now + m.cost.serviceVaSpace);
}

export function vaSpaceUnlockRead(m: Model, space: VaSpace): void {
  if (m.k.now > space.readFreeAt) space.readFreeAt = m.k.now;
  lockRelease(m, LOCK_ORDER_VA_SPACE, space.id, true);
  lockRelease(m, LOCK_ORDER_MMAP_LOCK, space.id, true);
}

/** uvm_gpu_va_space_get: the GPU is registered with the VA space. */
export function gpuVaSpaceExists(space: VaSpace, gpu: Gpu): boolean {
  return (space.registeredGpus & (1 << gpu.id)) !== 0;
}

/** Chooses where one page goes and adds it to the service; false when the page is throttled. */
function addPage(
  m: Model,
  gpu: Gpu,
  block: VaBlock,
  context: ServiceBlockContext,
  fault: number,
  page: number,
  access: number,
): boolean {
  const batch = gpu.replayable.batch;
  const c = batch.faultCache;
  const w = context.w;
  const hint = perfThrashingGetHint(m, block, page, gpu.id);
  if (hint.type === THRASHING_HINT_THROTTLE) {
    // Nobody sleeps for a GPU: the page is left out, and the replay makes it fault again.
    if (context.numRetries === 0) markFaultThrottled(batch, fault);
    return false;
  }
  if (hint.type === THRASHING_HINT_PIN) {
    if (context.thrashingPinCount++ === 0) maskZero(w, S_THRASHING_PIN);
    maskSet(w, S_THRASHING_PIN, page);
  }
  // When only part of the merged accesses may be serviced, the others do not count.
  const accessMask = access === c.accessType[fault] ? c.accessMask[fault] : 1 << access;
  const residency = m.res.seams.selectResidency(
    m,
    block,
    context,
    page,
    gpu.id,
    accessMask,
    hint,
    OPERATION_REPLAYABLE_FAULTS,
  );
  const offset = newResidencyOffset(residency);
  if ((context.residentProcessors & (1 << residency)) === 0) {
    context.residentProcessors |= 1 << residency;
    maskZero(w, offset);
  }
  maskSet(w, offset, page);
  if (context.readDuplicate) {
    if (context.readDuplicateCount++ === 0) maskZero(w, S_READ_DUPLICATE);
    maskSet(w, S_READ_DUPLICATE, page);
  }
  context.accessType[page] = access;
  return true;
}

/** What becomes of one fault of a block; only what is serviced concerns the block service. */
type FaultOutcome = 'serviced' | 'duplicate' | 'authorised' | 'throttled' | 'fatal' | 'invalidPrefetch';

/** Reports a fault on page `page` of a block, and decides what becomes of it. `previous` is the one before, or -1. */
function considerFault(
  m: Model,
  gpu: Gpu,
  block: VaBlock,
  context: ServiceBlockContext,
  fault: number,
  previous: number,
  page: number,
): FaultOutcome {
  const batch = gpu.replayable.batch;
  const c = batch.faultCache;
  const firstTry = context.numRetries === 0;
  c.flags[fault] &= ~(FAULT_THROTTLED | FAULT_INVALID_PREFETCH);
  m.k.now = Math.round(m.k.now + m.cost.serviceEntry);
  const isDuplicate = checkFaultEntryDuplicate(c, fault, previous);
  if (firstTry) updateBatchAndNotifyFault(m, gpu, batch, fault, isDuplicate);
  if (isDuplicate) {
    faultEntryDuplicateFlags(batch, fault, previous);
    if ((c.flags[previous] & FAULT_IS_FATAL) === 0) return 'duplicate';
  }
  const access = checkFaultAccessPermissions(m, gpu, batch, block, fault, page, firstTry);
  if (access === ACCESS_NONE) return (c.flags[fault] & FAULT_IS_FATAL) !== 0 ? 'fatal' : 'invalidPrefetch';
  if (vaBlockPageIsGpuAuthorized(block, page, gpu.id, accessTypeToProt(access))) {
    if (m.res.seams.staleFaultSkipped !== null) m.res.seams.staleFaultSkipped(m, gpu, block, context, page);
    return 'authorised';
  }
  return addPage(m, gpu, block, context, fault, page, access) ? 'serviced' : 'throttled';
}

/**
 * Walks the sorted faults of one block from `first` on, reports them, and services the most intrusive of each page
 * (service_fault_batch_block_locked). Returns how many it walked, or a driver status with the sign turned. A retry does
 * all of it again, but for the reports and the counts.
 */
function serviceFaultBatchBlockLocked(m: Model, gpu: Gpu, block: VaBlock, first: number): number {
  const rf = gpu.replayable;
  const batch = rf.batch;
  const c = batch.faultCache;
  const ordered = batch.orderedFaultCache;
  const context = rf.blockServiceContext;
  const space = block.range.space.id;
  const outerPage = block.startPage + block.n;
  const count = batch.numCoalescedFaults;
  let firstPage = block.n;
  let lastPage = -1;
  let pages = 0;
  context.residentProcessors = 0;
  context.thrashingPinCount = 0;
  context.readDuplicateCount = 0;

  let i = first;
  for (; i < count; i++) {
    const fault = ordered[i];
    if (c.page[fault] >= outerPage || c.vaSpace[fault] !== space) break;
    const page = c.page[fault] - block.startPage;
    const outcome = considerFault(m, gpu, block, context, fault, i > first ? ordered[i - 1] : -1, page);
    if (m.res.why !== null) m.res.why.outcome?.(block, page, gpu.id, outcome, fault);
    if (outcome !== 'serviced') continue;
    pages++;
    if (page < firstPage) firstPage = page;
    if (page > lastPage) lastPage = page;
    m.k.now = Math.round(m.k.now + m.cost.servicePage);
  }

  let status = NV_OK;
  if (pages > 0) {
    context.firstPage = firstPage;
    context.outerPage = lastPage + 1;
    status = vaBlockServiceLocked(m, gpu.id, block, context);
  }
  context.numRetries++;
  return status === NV_OK ? i - first : -status;
}

/**
 * Services the faults of one block (service_fault_batch_block) and adds what it began to the batch's tracker, which the
 * replay waits for. Returns how many faults it took, or a driver status with the sign turned.
 */
function serviceFaultBatchBlock(m: Model, gpu: Gpu, block: VaBlock, first: number): number {
  const rf = gpu.replayable;
  const context = rf.blockServiceContext;
  context.operation = OPERATION_REPLAYABLE_FAULTS;
  context.numRetries = 0;
  if (m.res.why !== null) m.res.why.enter('service_fault_batch_block', m.k.now, { block: block.id });
  lockAcquire(m, LOCK_ORDER_VA_BLOCK, block.id, false);
  if (block.lockFreeAt > m.k.now) m.k.now = block.lockFreeAt;
  if (m.res.why !== null) {
    m.res.why.enter('service_fault_batch_block_locked', m.k.now, { block: block.id, gpu: gpu.index });
  }
  m.k.now = Math.round(m.k.now + m.cost.serviceBlock);
  let result: number;
  do {
    result = serviceFaultBatchBlockLocked(m, gpu, block, first);
  } while (result === -NV_ERR_MORE_PROCESSING_REQUIRED);
  trackerAddTracker(rf.batch.tracker, block.tracker);
  block.lockFreeAt = m.k.now;
  lockRelease(m, LOCK_ORDER_VA_BLOCK, block.id, false);
  return result;
}

/** service_fault_batch_fatal_notify: a fault that belongs to no block. */
function serviceFaultBatchFatalNotify(m: Model, gpu: Gpu, index: number, status: number): void {
  const batch = gpu.replayable.batch;
  const c = batch.faultCache;
  const fault = batch.orderedFaultCache[index];
  const previous = index > 0 ? batch.orderedFaultCache[index - 1] : -1;
  const isDuplicate = checkFaultEntryDuplicate(c, fault, previous);
  m.k.now = Math.round(m.k.now + m.cost.serviceEntry);
  if (isDuplicate) faultEntryDuplicateFlags(batch, fault, previous);
  if (c.accessType[fault] === ACCESS_PREFETCH) markFaultInvalidPrefetch(batch, fault);
  else markFaultFatal(batch, fault, statusToFatalFaultReason(status), CANCEL_VA_MODE_ALL);
  updateBatchAndNotifyFault(m, gpu, batch, fault, isDuplicate);
  if (m.res.why !== null) {
    const fatal = (c.flags[fault] & FAULT_IS_FATAL) !== 0;
    m.res.why.outcome?.(null, c.page[fault], gpu.id, fatal ? 'fatal' : 'invalidPrefetch', fault);
  }
}

/**
 * Services the fault at `index` of the sorted batch and those after it in its block (service_fault_batch_dispatch).
 * Returns how many, at least 1, or a driver status with the sign turned. The VA space is locked for read.
 */
export function serviceFaultBatchDispatch(m: Model, gpu: Gpu, space: VaSpace, index: number): number {
  const batch = gpu.replayable.batch;
  const page = batch.faultCache.page[batch.orderedFaultCache[index]];
  if (m.res.why !== null) {
    m.res.why.enter('service_fault_batch_dispatch', m.k.now, { gpu: gpu.index, page, index });
  }
  const block = vaBlockFindCreate(m, space, page);
  if (block !== null) return serviceFaultBatchBlock(m, gpu, block, index);
  serviceFaultBatchFatalNotify(m, gpu, index, NV_ERR_INVALID_ADDRESS);
  return 1;
}

/** Faults of one VA space, from `index` on; returns the first index beyond them, or a driver status, sign turned. */
function serviceVaSpaceFaults(m: Model, gpu: Gpu, space: VaSpace, index: number): number {
  const rf = gpu.replayable;
  const batch = rf.batch;
  const c = batch.faultCache;
  const ordered = batch.orderedFaultCache;
  const registered = gpuVaSpaceExists(space, gpu);
  let i = index;
  while (i < batch.numCoalescedFaults && c.vaSpace[ordered[i]] === space.id) {
    const fault = ordered[i];
    if ((c.flags[fault] & FAULT_IS_FATAL) !== 0) {
      // Hardware says that nobody can service it: no fault event, only the cancel later.
      if (batch.fatalVaSpace < 0) batch.fatalVaSpace = space.id;
      batch.utlbs.hasFatalFaults[c.utlb[fault]] = 1;
      i++;
    } else if (!registered) {
      i++;
    } else {
      const walked = serviceFaultBatchDispatch(m, gpu, space, i);
      if (walked < 0) return walked;
      i += walked;
      if (rf.replayPolicy === REPLAY_POLICY_BLOCK && batch.fatalVaSpace < 0) {
        const status = pushReplayOnGpu(m, gpu, REPLAY_TYPE_START, batch);
        if (status !== NV_OK) return -status;
        batch.batchId++;
      }
    }
  }
  return i;
}

/**
 * Services the sorted batch, VA space by VA space and block by block (service_fault_batch). Fatal faults are marked for
 * the caller and do not stop it. Returns a driver status.
 */
export function serviceFaultBatch(m: Model, gpu: Gpu): number {
  const batch = gpu.replayable.batch;
  if (m.res.why !== null) m.res.why.enter('service_fault_batch', m.k.now, { gpu: gpu.index });
  let i = 0;
  while (i < batch.numCoalescedFaults) {
    const space = m.vaSpaces[batch.faultCache.vaSpace[batch.orderedFaultCache[i]]];
    vaSpaceLockRead(m, space);
    i = serviceVaSpaceFaults(m, gpu, space, i);
    vaSpaceUnlockRead(m, space);
    if (i < 0) return -i;
  }
  if (m.res.why !== null) m.res.why.leave?.('service_fault_batch', m.k.now);
  return NV_OK;
}
