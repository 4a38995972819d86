/**
 * The armed form: the copy is made inside the service of a GPU fault, where the page has its new place and nobody maps
 * it yet. Its functions are the seams serviceFinishHook, staleFaultSkipped, faultCancelled and pushEnded; each costs
 * one comparison while nothing is armed.
 *
 * The fault goes on as if nobody had copied: a push of copies is only one more entry of the block's tracker, which the
 * page-table push acquires, and which joins the batch's tracker for the replay. With Confidential Computing the bottom
 * half waits for that push and decrypts before it goes on.
 */
import { assert } from '../../base/assert.ts';
import { maskDifference, maskNextSet, maskTest } from '../../base/page_mask.ts';
import { PAGE_SIZE, PAGES_PER_BIG_PAGE, PAGES_PER_BLOCK } from '../../base/units.ts';
import { METHOD_PTE, METHOD_WORDS } from '../gpu/methods.ts';
import { PTE_LEVEL_2M, PTE_LEVEL_BIG, PTE_LEVEL_PDE } from '../gpu/mmu.ts';
import type { Model } from '../state.ts';
import type { Gpu } from '../uvm/gpu.ts';
import {
  FATAL_REASON_INVALID_ADDRESS,
  FATAL_REASON_INVALID_PERMISSIONS,
  FATAL_REASON_OUT_OF_MEMORY,
} from '../uvm/gpu_replayable_faults_types.ts';
import { CPU_ID, INVALID_ID, processorFirst, processorNext } from '../uvm/processors.ts';
import { PURPOSE_REPLAY, type Push } from '../uvm/push.ts';
import {
  NV_ERR_INVALID_ACCESS_TYPE,
  NV_ERR_INVALID_ADDRESS,
  NV_ERR_INVALID_OPERATION,
  NV_ERR_NO_MEMORY,
  NV_OK,
} from '../uvm/status.ts';
import { pageClosestResident } from '../uvm/va_block.ts';
import { newResidencyOffset } from '../uvm/va_block_service.ts';
import {
  C_CHANGED_RESIDENCY,
  C_EXTRA,
  OPERATION_REPLAYABLE_FAULTS,
  S_PREFETCH,
  type ServiceBlockContext,
  type VaBlock,
} from '../uvm/va_block_types.ts';
import type { VaSpace } from '../uvm/va_range_types.ts';
import { vaRangeFind } from '../uvm/va_space.ts';
import { copyBlockLocked } from './block_copy.ts';
import { copyBouncesWaitLocked } from './conf_computing.ts';
import { copyClaim, copyPushOf, copyScheduleCleanup, copyStage } from './record.ts';
import { COPY_ENDED, COPY_RUNNING, type CopyRecord, HOW_MAPPED, HOW_MIGRATED, HOW_STALE } from './types.ts';

/** Installs the seams; each time that a model is created or restored. */
export function copyArmedInit(m: Model): void {
  m.res.seams.serviceFinishHook = copyServiceFinish;
  m.res.seams.staleFaultSkipped = copyStaleFault;
  m.res.seams.faultCancelled = copyFaultCancelled;
  if (m.copyRoutine.watched.length > 0) m.res.seams.pushEnded = copyPushEnded;
}

/** Makes the copy of a claimed record; its pushes let go of it later, or the queue when none of them will. */
function copyClaimed(
  m: Model,
  record: CopyRecord,
  block: VaBlock,
  page: number,
  gpu: number,
  how: number,
  source: number,
): void {
  record.state = COPY_RUNNING;
  record.faultStep = m.tools.step;
  record.fromPage = block.startPage + page;
  record.how = how;
  record.gpu = gpu;
  copyStage(m, record, 'claimed', { page: record.fromPage, gpu });
  const begin = m.k.now;
  record.status = copyBlockLocked(m, record, block, page, page + 1, 0, source);
  if (record.status === NV_OK) record.status = copyBouncesWaitLocked(m, record);
  record.bottomHalfTime = m.k.now - begin;
  record.residentOn = source;
  if (record.status === NV_OK) {
    record.bytes = PAGE_SIZE;
    record.snapshot = how !== HOW_STALE && record.writableOn === 0 && (source !== CPU_ID || how === HOW_MIGRATED);
  }
  m.copyRoutine.watched.push(block.range.space.id, record.token);
  m.res.seams.pushEnded = copyPushEnded;
  if (record.pendingPushes === 0) copyScheduleCleanup(m, block.range.space, record);
}

/** Pages that faults brought into the service with residency `id`, without the prefetch tree's: into C_EXTRA. */
function faultedPages(context: ServiceBlockContext, id: number): Uint32Array {
  const { w, blockContext } = context;
  if (context.prefetchResidency === INVALID_ID) {
    blockContext.w.set(w.subarray(newResidencyOffset(id), newResidencyOffset(id) + 16), C_EXTRA);
  } else {
    maskDifference(blockContext.w, C_EXTRA, w, newResidencyOffset(id), w, S_PREFETCH);
  }
  return blockContext.w;
}

/** The page of this service that the armed copy is for, counted from the block's start, or -1. */
function triggerPage(block: VaBlock, context: ServiceBlockContext): number {
  const { fromPage, fromPages } = block.range.space.copy;
  const wanted = fromPage - block.startPage;
  if (fromPages > 0 && (wanted < 0 || wanted >= block.n)) return -1;
  let first = block.n;
  const residents = context.residentProcessors;
  for (let id = processorFirst(residents); id !== INVALID_ID; id = processorNext(residents, id)) {
    const words = faultedPages(context, id);
    if (fromPages > 0) {
      if (maskTest(words, C_EXTRA, wanted)) return wanted;
    } else {
      first = Math.min(first, maskNextSet(words, C_EXTRA, 0, block.n));
    }
  }
  return fromPages === 0 && first < block.n ? first : -1;
}

/** Seam serviceFinishHook. Pages of one service may go to several processors: one call for each. */
function copyServiceFinish(
  m: Model,
  block: VaBlock,
  context: ServiceBlockContext,
  processor: number,
  residency: number,
): void {
  if (block.range.space.copy.armed === 0) return;
  if (processor === CPU_ID || context.operation !== OPERATION_REPLAYABLE_FAULTS) return;
  const page = triggerPage(block, context);
  if (page < 0 || !maskTest(context.w, newResidencyOffset(residency), page)) return;
  const record = copyClaim(m, block.range.space);
  if (record === null) return;
  const how = maskTest(context.blockContext.w, C_CHANGED_RESIDENCY, page) ? HOW_MIGRATED : HOW_MAPPED;
  copyClaimed(m, record, block, page, processor - 1, how, residency);
}

/** Seam staleFaultSkipped: the page is where the GPU wants it, and may be written already. */
function copyStaleFault(m: Model, gpu: Gpu, block: VaBlock, context: ServiceBlockContext, page: number): void {
  const { copy } = block.range.space;
  if (copy.armed === 0) return;
  if (copy.fromPages > 0 ? copy.fromPage !== block.startPage + page : context.residentProcessors !== 0) return;
  const record = copyClaim(m, block.range.space);
  if (record === null) return;
  copyClaimed(m, record, block, page, gpu.index, HOW_STALE, pageClosestResident(block, page, CPU_ID));
}

function statusOfReason(reason: number): number {
  switch (reason) {
    case FATAL_REASON_INVALID_ADDRESS:
      return NV_ERR_INVALID_ADDRESS;
    case FATAL_REASON_INVALID_PERMISSIONS:
      return NV_ERR_INVALID_ACCESS_TYPE;
    case FATAL_REASON_OUT_OF_MEMORY:
      return NV_ERR_NO_MEMORY;
    default:
      return NV_ERR_INVALID_OPERATION;
  }
}

/** Seam faultCancelled: whatever made the service fail, its fault ends here, and the armed copy with it. */
function copyFaultCancelled(m: Model, gpu: Gpu, fault: number): void {
  const c = gpu.replayable.batch.faultCache;
  const space: VaSpace | undefined = m.vaSpaces[c.vaSpace[fault]];
  if (space === undefined || space.copy.armed === 0) return;
  const page = c.page[fault];
  const { fromPage, fromPages } = space.copy;
  if (fromPages > 0 ? page !== fromPage : vaRangeFind(space, page) === null) return;
  const record = copyClaim(m, space);
  if (record === null) return;
  record.state = COPY_ENDED;
  record.status = statusOfReason(c.fatalReason[fault]);
  record.fromPage = page;
  record.gpu = gpu.index;
  record.faultStep = m.tools.step;
  copyScheduleCleanup(m, space, record);
}

/** Does a push write an entry that maps the page? */
function mapsPage(push: Push, page: number): boolean {
  const { words } = push;
  for (let i = 0; i < push.length; i += METHOD_WORDS[words[i]]) {
    if (words[i] !== METHOD_PTE || words[i + 1] === PTE_LEVEL_PDE || (words[i + 4] & 1) === 0) continue;
    const level = words[i + 1];
    const each = level === PTE_LEVEL_2M ? PAGES_PER_BLOCK : level === PTE_LEVEL_BIG ? PAGES_PER_BIG_PAGE : 1;
    const first = Math.floor(words[i + 2] / each) * each;
    if (page >= first && page < first + words[i + 3] * each) return true;
  }
  return false;
}

/** Seam pushEnded, while a record waits for it: the push that maps the page, and the replay. */
function copyPushEnded(m: Model, push: Push): void {
  const { watched } = m.copyRoutine;
  for (let i = watched.length - 2; i >= 0; i -= 2) {
    const record = m.vaSpaces[watched[i]].copy.records[watched[i + 1] - 1];
    assert(record !== undefined, 'a watched copy has a record');
    if (push.gpu !== record.gpu) continue;
    if (push.purpose === PURPOSE_REPLAY) {
      record.replay = copyPushOf(push);
      watched.splice(i, 2);
    } else if (record.pageTablePush === null && mapsPage(push, record.fromPage)) {
      record.pageTablePush = copyPushOf(push);
    }
  }
  if (watched.length === 0) m.res.seams.pushEnded = null;
}
