/**
 * Models the service of faults in uvm_va_block.c (driver 580.105.08): uvm_va_block_service_locked, _service_copy,
 * _service_finish with its parts, and compute_new_permission. CPU faults, replayable and non-replayable GPU faults all
 * come through here, under the block lock.
 *
 * Seams: `Seams.serviceFinishHook` runs right after the residency update, when the copy pushes are in the block's
 * tracker and nobody maps the moved pages yet.
 */
import {
  maskAnd,
  maskAndNot,
  maskCopy,
  maskDifference,
  maskIntersection,
  maskIntersects,
  maskIsEmpty,
  maskNextClear,
  maskNextSet,
  maskOr,
  maskSet,
  maskTest,
  maskWeight,
  maskZero,
} from '../../base/page_mask.ts';
import type { Model } from '../state.ts';
import { gpuCheckEccError } from './gpu.ts';
import { perfPrefetchGetHint } from './perf_prefetch.ts';
import { perfThrashingGetThrashingProcessors } from './perf_thrashing.ts';
import { CPU_ID, INVALID_ID, processorFirst, processorNext } from './processors.ts';
import { NV_OK } from './status.ts';
import { MAP_REMOTE_POLICY, MAP_REMOTE_THRASHING } from './tools.ts';
import { trackerWait } from './tracker.ts';
import {
  accessTypeToProt,
  mappedOffset,
  pageAuthorizedProcessors,
  pageMightReadDuplicate,
  policyIsReadDuplicate,
} from './va_block.ts';
import {
  vaBlockMakeResidentCopy,
  vaBlockMakeResidentFinish,
  vaBlockMakeResidentReadDuplicate,
} from './va_block_copy.ts';
import { vaBlockAddMappingsAfterMigration, vaBlockMap, vaBlockRevokeProtMask, vaBlockUnmap } from './va_block_map.ts';
import {
  ACCESS_PREFETCH,
  ACCESS_READ,
  B_DISCARDED,
  B_READ_DUPLICATED,
  type BlockGpuState,
  C_CHANGED_RESIDENCY,
  CAUSE_ACCESS_COUNTER,
  CAUSE_NON_REPLAYABLE_FAULT,
  CAUSE_REPLAYABLE_FAULT,
  OPERATION_ACCESS_COUNTERS,
  OPERATION_REPLAYABLE_FAULTS,
  PROT_READ_ONLY,
  PROT_READ_WRITE,
  PROT_READ_WRITE_ATOMIC,
  S_CALLER,
  S_DID_NOT_MIGRATE,
  S_MAPPINGS,
  S_NEW_RESIDENCY,
  S_PREFETCH,
  S_READ_DUPLICATE,
  S_THRASHING_PIN,
  type ServiceBlockContext,
  type VaBlock,
} from './va_block_types.ts';
import { READ_DUPLICATION_DISABLED, READ_DUPLICATION_ENABLED } from './va_range_types.ts';

const OPERATION_CAUSE = Uint8Array.of(CAUSE_REPLAYABLE_FAULT, CAUSE_NON_REPLAYABLE_FAULT, CAUSE_ACCESS_COUNTER);

/** Offset in ServiceBlockContext.w of the pages whose new residency is processor `id`. */
export function newResidencyOffset(id: number): number {
  return S_NEW_RESIDENCY + id * 16;
}

function mappingsOffset(protection: number): number {
  return S_MAPPINGS + protection * 16;
}

/** uvm_va_block_get_prefetch_hint: adds the pages that the prefetcher wants to the service. */
function getPrefetchHint(m: Model, block: VaBlock, context: ServiceBlockContext): void {
  perfPrefetchGetHint(m, block, context);
  const residency = context.prefetchResidency;
  if (residency === INVALID_ID) return;
  const w = context.w;
  const everything = policyIsReadDuplicate(block);
  const mayDuplicate = block.range.policy.readDuplication !== READ_DUPLICATION_DISABLED;
  if (everything || (mayDuplicate && maskIntersects(w, S_PREFETCH, block.w, B_READ_DUPLICATED))) {
    if (context.readDuplicateCount === 0) maskZero(w, S_READ_DUPLICATE);
    const duplicate = mappingsOffset(0);
    maskCopy(w, duplicate, w, S_PREFETCH);
    if (!everything) maskAnd(w, duplicate, block.w, B_READ_DUPLICATED);
    maskOr(w, S_READ_DUPLICATE, w, duplicate);
    context.readDuplicateCount += maskWeight(w, duplicate);
  }
  const first = maskNextSet(w, S_PREFETCH, 0, block.n);
  let outer = first;
  for (let p = first; p < block.n; p = maskNextSet(w, S_PREFETCH, outer, block.n)) {
    outer = maskNextClear(w, S_PREFETCH, p, block.n);
    context.accessType.fill(ACCESS_PREFETCH, p, outer);
  }
  maskOr(w, newResidencyOffset(residency), w, S_PREFETCH);
  if (first < context.firstPage) context.firstPage = first;
  if (outer > context.outerPage) context.outerPage = outer;
}

/** uvm_va_block_service_copy: moves or duplicates the pages whose new residency is `residency`. */
function vaBlockServiceCopy(
  m: Model,
  processor: number,
  residency: number,
  block: VaBlock,
  context: ServiceBlockContext,
): number {
  const w = context.w;
  const bc = context.blockContext;
  const pages = newResidencyOffset(residency);
  const cause = OPERATION_CAUSE[context.operation];
  if (m.res.why !== null) {
    m.res.why.enter('uvm_va_block_service_copy', m.k.now, { block: block.id, residency });
  }
  maskZero(bc.w, C_CHANGED_RESIDENCY);
  bc.allInvolvedProcessors = 0;
  bc.status = NV_OK;
  maskCopy(w, S_CALLER, w, pages);
  if (context.readDuplicateCount !== 0) {
    maskAnd(w, S_CALLER, w, S_READ_DUPLICATE);
    if (!maskIsEmpty(w, S_CALLER)) {
      const status = vaBlockMakeResidentReadDuplicate(m, block, bc, residency, w, S_CALLER, w, S_PREFETCH, cause);
      if (status !== NV_OK) return status;
    }
    maskDifference(w, S_CALLER, w, pages, w, S_READ_DUPLICATE);
  }
  if (context.readDuplicateCount === 0 || !maskIsEmpty(w, S_CALLER)) {
    const status = vaBlockMakeResidentCopy(m, block, bc, residency, w, S_CALLER, w, S_PREFETCH, cause);
    if (status !== NV_OK) return status;
  }
  if (bc.allInvolvedProcessors === 0) return NV_OK;
  if (processor === CPU_ID) context.didMigrate = true;
  // Data that the CPU is about to see must have arrived, and no error may be pending.
  if (context.operation !== OPERATION_REPLAYABLE_FAULTS || residency !== CPU_ID) return NV_OK;
  if (m.res.why !== null) m.res.why.enter('uvm_tracker_wait', m.k.now, { for: 'the block' });
  let status = trackerWait(m, block.tracker);
  if (m.res.why !== null) m.res.why.leave?.('uvm_tracker_wait', m.k.now);
  for (let id = 1; id <= m.spec.gpus && status === NV_OK; id++) {
    if ((bc.allInvolvedProcessors & (1 << id)) !== 0) status = gpuCheckEccError(m, m.gpus[id - 1]);
  }
  return status;
}

/** compute_new_permission: the most the faulting processor gets without causing further revocations. */
function computeNewPermission(
  block: VaBlock,
  page: number,
  processor: number,
  residency: number,
  access: number,
): number {
  const native = block.range.space.processors.hasNativeAtomics[residency];
  let protection = accessTypeToProt(access);
  if (protection === PROT_READ_ONLY && !pageMightReadDuplicate(block, page)) {
    const atomics = pageAuthorizedProcessors(block, page, PROT_READ_WRITE_ATOMIC) & ~native;
    if (atomics === 0) protection = PROT_READ_WRITE;
  }
  if (protection === PROT_READ_WRITE && (native & (1 << processor)) !== 0) protection = PROT_READ_WRITE_ATOMIC;
  if (access <= ACCESS_READ && protection > PROT_READ_ONLY && maskTest(block.w, B_DISCARDED, page)) {
    protection = PROT_READ_ONLY;
  }
  return protection;
}

/**
 * Sorts the pages of a service by the protection they get (the loop over compute_new_permission). A processor that is
 * native to the residency gets everything on any page that is not duplicated, discarded, or mapped for atomics by one
 * that is not native: those pages are told apart by masks, and only the rest is looked at page by page.
 *
 * Returns the protections that occur, a bit each; the masks of the others are left alone and mean nothing.
 */
function computeNewPermissions(
  block: VaBlock,
  processor: number,
  residency: number,
  context: ServiceBlockContext,
): number {
  const w = context.w;
  const pages = newResidencyOffset(residency);
  const single = mappingsOffset(0);
  let protections = 0;
  const native = block.range.space.processors.hasNativeAtomics[residency];
  const policy = block.range.policy.readDuplication;
  if ((native & (1 << processor)) !== 0 && policy !== READ_DUPLICATION_ENABLED) {
    maskCopy(w, single, block.w, B_DISCARDED);
    const others = block.mapped & ~native;
    for (let id = processorFirst(others); id !== INVALID_ID; id = processorNext(others, id)) {
      const words = id === CPU_ID ? block.w : (block.gpus[id - 1] as BlockGpuState).w;
      maskOr(w, single, words, mappedOffset(id, PROT_READ_WRITE_ATOMIC));
    }
    if (policy !== READ_DUPLICATION_DISABLED) maskOr(w, single, block.w, B_READ_DUPLICATED);
    maskAnd(w, single, w, pages);
    const everything = mappingsOffset(PROT_READ_WRITE_ATOMIC);
    if (maskDifference(w, everything, w, pages, w, single)) protections |= 1 << PROT_READ_WRITE_ATOMIC;
  } else {
    maskCopy(w, single, w, pages);
  }
  for (let p = maskNextSet(w, single, 0, block.n); p < block.n; p = maskNextSet(w, single, p + 1, block.n)) {
    const protection = computeNewPermission(block, p, processor, residency, context.accessType[p]);
    if ((protections & (1 << protection)) === 0) maskZero(w, mappingsOffset(protection));
    protections |= 1 << protection;
    maskSet(w, mappingsOffset(protection), p);
  }
  return protections;
}

/** block_service_finish_revoke_prot: pages that stay lose rights of others that the new mapping rules out. */
function finishRevokeProt(
  m: Model,
  processor: number,
  residency: number,
  block: VaBlock,
  context: ServiceBlockContext,
  protections: number,
): void {
  if ((block.mapped & ~(1 << processor)) === 0) return;
  const w = context.w;
  const native = block.range.space.processors.hasNativeAtomics[residency];
  for (let protection = PROT_READ_WRITE; protection <= PROT_READ_WRITE_ATOMIC; protection++) {
    if ((protections & (1 << protection)) === 0) continue;
    const offset = mappingsOffset(protection);
    // mappingsOffset(0) is free: it holds the pages to revoke.
    const revoke = mappingsOffset(0);
    if (!maskIntersection(w, revoke, w, S_DID_NOT_MIGRATE, w, offset)) continue;
    let processors = block.mapped & ~(1 << processor);
    if (protection === PROT_READ_WRITE || (native & (1 << processor)) !== 0) processors &= ~native;
    const revoked =
      processor !== CPU_ID && protection === PROT_READ_WRITE_ATOMIC ? PROT_READ_WRITE : PROT_READ_WRITE_ATOMIC;
    if (processors !== 0 && m.res.why !== null) {
      m.res.why.enter('block_service_finish_revoke_prot', m.k.now, { block: block.id, processors, revoked });
    }
    if (processors !== 0) vaBlockRevokeProtMask(m, block, context.blockContext, processors, w, revoke, revoked);
  }
}

/**
 * block_service_finish_map: the faulting processor, by ascending protection; pinned pages first, under their own cause.
 */
function finishMap(
  m: Model,
  processor: number,
  block: VaBlock,
  context: ServiceBlockContext,
  protections: number,
): void {
  const w = context.w;
  const bc = context.blockContext;
  if (m.res.why !== null) m.res.why.enter('block_service_finish_map', m.k.now, { block: block.id, processor });
  for (let protection = PROT_READ_ONLY; protection <= PROT_READ_WRITE_ATOMIC; protection++) {
    if ((protections & (1 << protection)) === 0) continue;
    const offset = mappingsOffset(protection);
    if (context.operation !== OPERATION_ACCESS_COUNTERS && processor === CPU_ID) {
      vaBlockUnmap(m, block, bc, CPU_ID, w, offset);
    }
    if (context.thrashingPinCount > 0) {
      if (maskIntersection(w, S_CALLER, w, offset, w, S_THRASHING_PIN)) {
        vaBlockMap(m, block, bc, processor, w, S_CALLER, protection, MAP_REMOTE_THRASHING);
        if (maskDifference(w, S_CALLER, w, offset, w, S_THRASHING_PIN)) {
          vaBlockMap(m, block, bc, processor, w, S_CALLER, protection, MAP_REMOTE_POLICY);
        }
        continue;
      }
    }
    vaBlockMap(m, block, bc, processor, w, offset, protection, MAP_REMOTE_POLICY);
  }
}

/**
 * block_service_finish_map_accessed_by: accessed-by processors, and for pinned pages the processors that thrash on
 * them. A habit of the driver is kept: a protection that only pinned pages have ends the loop, so higher ones get
 * nothing.
 */
function finishMapAccessedBy(
  m: Model,
  processor: number,
  residency: number,
  block: VaBlock,
  context: ServiceBlockContext,
  protections: number,
): void {
  if (block.range.policy.accessedBy === 0 && context.thrashingPinCount === 0) return;
  if (m.res.why !== null) {
    m.res.why.enter('block_service_finish_map_accessed_by', m.k.now, { block: block.id, residency });
  }
  const w = context.w;
  const bc = context.blockContext;
  for (let protection = PROT_READ_ONLY; protection <= PROT_READ_WRITE_ATOMIC; protection++) {
    if ((protections & (1 << protection)) === 0) continue;
    if (!maskIntersection(w, S_CALLER, w, mappingsOffset(protection), w, newResidencyOffset(residency))) continue;
    if (context.thrashingPinCount > 0) {
      const single = mappingsOffset(0);
      for (
        let p = maskNextSet(w, S_THRASHING_PIN, context.firstPage, context.outerPage);
        p < context.outerPage;
        p = maskNextSet(w, S_THRASHING_PIN, p + 1, context.outerPage)
      ) {
        if (!maskTest(w, S_CALLER, p)) continue;
        const thrashing = perfThrashingGetThrashingProcessors(block, p);
        maskZero(w, single);
        maskSet(w, single, p);
        vaBlockAddMappingsAfterMigration(m, block, bc, residency, processor, w, single, protection, thrashing);
      }
      maskAndNot(w, S_CALLER, w, S_THRASHING_PIN);
      if (maskIsEmpty(w, S_CALLER)) return;
    }
    vaBlockAddMappingsAfterMigration(m, block, bc, residency, processor, w, S_CALLER, protection, 0);
  }
}

/** uvm_va_block_service_finish: residency, permissions, revocations and mappings after vaBlockServiceCopy. */
function vaBlockServiceFinish(
  m: Model,
  processor: number,
  residency: number,
  block: VaBlock,
  context: ServiceBlockContext,
): number {
  const w = context.w;
  const bc = context.blockContext;
  const pages = newResidencyOffset(residency);
  if (m.res.why !== null) {
    m.res.why.enter('uvm_va_block_service_finish', m.k.now, { block: block.id, residency });
  }
  if (context.readDuplicateCount === 0 || !maskIsEmpty(w, S_CALLER)) {
    vaBlockMakeResidentFinish(block, bc, residency, w, S_CALLER);
  }
  if (m.res.seams.serviceFinishHook !== null) m.res.seams.serviceFinishHook(m, block, context, processor, residency);
  maskDifference(w, S_DID_NOT_MIGRATE, w, pages, bc.w, C_CHANGED_RESIDENCY);
  const protections = computeNewPermissions(block, processor, residency, context);
  if (m.res.why !== null) m.res.why.permissions?.(block, context, processor, residency, protections);
  finishRevokeProt(m, processor, residency, block, context, protections);
  finishMap(m, processor, block, context, protections);
  finishMapAccessedBy(m, processor, residency, block, context, protections);
  for (let protection = PROT_READ_WRITE; protection <= PROT_READ_WRITE_ATOMIC; protection++) {
    if ((protections & (1 << protection)) !== 0) maskAndNot(block.w, B_DISCARDED, w, mappingsOffset(protection));
  }
  return bc.status;
}

/**
 * uvm_va_block_service_locked: services the pages that the context's new-residency masks name, for the processor that
 * faulted. The caller holds the block lock and has filled the masks, access types and region. Returns a status.
 */
export function vaBlockServiceLocked(
  m: Model,
  processor: number,
  block: VaBlock,
  context: ServiceBlockContext,
): number {
  if (m.res.why !== null) {
    m.res.why.enter('uvm_va_block_service_locked', m.k.now, { block: block.id, processor });
  }
  getPrefetchHint(m, block, context);
  const residents = context.residentProcessors;
  for (let id = processorFirst(residents); id !== INVALID_ID; id = processorNext(residents, id)) {
    let status = vaBlockServiceCopy(m, processor, id, block, context);
    if (status === NV_OK) status = vaBlockServiceFinish(m, processor, id, block, context);
    if (status !== NV_OK) return status;
  }
  return NV_OK;
}
