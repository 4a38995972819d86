/**
 * Models mapping in uvm_va_block.c (driver 580.105.08): uvm_va_block_map, uvm_va_block_unmap, uvm_va_block_revoke_prot
 * and their masks, block_map_cpu_to, block_map_gpu_to, block_unmap_cpu, block_unmap_gpu,
 * uvm_va_block_add_mappings(_after_migration), uvm_va_block_page_compute_highest_permission,
 * uvm_va_block_migrate_map_mapped_pages.
 *
 * Masks are given as (words, offset) and never reach beyond the block. Left out: HMM, GPUs that cannot fault, foreign
 * mm.
 */
import {
  maskAnd,
  maskAndNot,
  maskClearRegion,
  maskContains,
  maskCopy,
  maskDifference,
  maskIntersection,
  maskIntersects,
  maskIntersectsRegion,
  maskIsEmpty,
  maskNextClear,
  maskNextSet,
  maskOr,
  maskRegionWeight,
  maskSet,
  maskTest,
  maskWeight,
  maskZero,
} from '../../base/page_mask.ts';
import { mmInsertPages, mmUnmapRange } from '../kernel/mm.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_MEMOPS } from './channel.ts';
import { perfEventNotifyRevocation } from './perf_events.ts';
import { CPU_ID, INVALID_ID, processorFindClosest, processorFirst, processorNext } from './processors.ts';
import { PURPOSE_MAP, PURPOSE_REVOKE, PURPOSE_UNMAP, pushBeginAcquire, pushEnd, pushTimestamp } from './push.ts';
import { rangeGroupAllMigratable, rangeGroupMarkMigratedPages, rangeGroupMigratable } from './range_group.ts';
import { NV_OK } from './status.ts';
import {
  MAP_REMOTE_INVALID,
  MAP_REMOTE_POLICY,
  MAP_REMOTE_THRASHING,
  toolsMapRemoteAttach,
  toolsMapRemoteBegin,
  toolsMapRemoteRun,
  toolsMapRemoteTimes,
  toolsRecordMapRemoteCpu,
} from './tools.ts';
import { trackerAddEntry, trackerWait } from './tracker.ts';
import {
  mappedOffset,
  pageAuthorizedProcessors,
  pageResidentProcessors,
  policyIsReadDuplicate,
  residentOffset,
  residentWords,
  vaBlockGpuStateGetAlloc,
} from './va_block.ts';
import { vaBlockAssert } from './va_block_check.ts';
import { blockPreparePtes, blockWritePtes } from './va_block_pte.ts';
import {
  B_CPU_READ,
  B_CPU_WRITE,
  B_DISCARDED,
  B_MAYBE_MAPPED,
  B_READ_DUPLICATED,
  type BlockGpuState,
  C_ADD,
  C_AFTER,
  C_EXTRA,
  C_MAP_OTHERS,
  C_MAP_RUNNING,
  C_PTE,
  C_REVOKE,
  C_TMP,
  G_ATOMIC,
  G_READ,
  G_WRITE,
  PROT_NONE,
  PROT_READ_ONLY,
  PROT_READ_WRITE,
  PROT_READ_WRITE_ATOMIC,
  type VaBlock,
  type VaBlockContext,
} from './va_block_types.ts';
import { READ_DUPLICATION_UNSET } from './va_range_types.ts';

function why(m: Model, block: VaBlock, id: number, w: Uint32Array, o: number, protection: number): void {
  const observer = m.res.why;
  if (observer === null) return;
  let first = maskNextSet(w, o, 0, block.n);
  while (first < block.n) {
    const outer = maskNextClear(w, o, first, block.n);
    observer.map(block, id, first, outer - first, protection);
    first = maskNextSet(w, o, outer, block.n);
  }
}

/** block_unmap_cpu: run by run, at once, without waiting for the block's tracker. */
function blockUnmapCpu(m: Model, block: VaBlock, pw: Uint32Array, po: number): void {
  const w = block.w;
  if ((block.mapped & 1) === 0 || !maskIntersects(pw, po, w, B_CPU_READ)) return;
  const onlyCpu = block.mapped === 1;
  if (block.cpuFirstFaultStamp !== 0 && maskTest(pw, po, block.cpuFaultPage)) block.cpuFirstFaultStamp = 0;
  let first = maskNextSet(pw, po, 0, block.n);
  while (first < block.n) {
    const outer = maskNextClear(pw, po, first, block.n);
    if (maskIntersectsRegion(w, B_CPU_READ, first, outer)) {
      const pages = maskRegionWeight(w, B_CPU_READ, first, outer);
      m.k.now += m.cost.cpuUnmapRun + pages * m.cost.cpuUnmapPage;
      mmUnmapRange(w, first, outer);
      maskClearRegion(w, B_CPU_READ, first, outer);
      maskClearRegion(w, B_CPU_WRITE, first, outer);
      if (onlyCpu) maskClearRegion(w, B_MAYBE_MAPPED, first, outer);
      if (m.res.why !== null) m.res.why.map(block, CPU_ID, first, outer - first, PROT_NONE);
    }
    first = maskNextSet(pw, po, outer, block.n);
  }
  if (maskIsEmpty(w, B_CPU_READ)) block.mapped &= ~1;
}

/** block_unmap_gpu: one MEMOPS push for the pages of the mask that are mapped. */
function blockUnmapGpu(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  gpuId: number,
  pw: Uint32Array,
  po: number,
): void {
  const state = block.gpus[gpuId - 1];
  if (state === null || (block.mapped & (1 << gpuId)) === 0) return;
  const w = context.w;
  if (!maskIntersection(w, C_PTE, pw, po, state.w, G_READ)) return;
  for (let i = 0; i < 16; i++) w[C_AFTER + i] = ~state.w[G_READ + i] | w[C_PTE + i];
  blockPreparePtes(m, block, gpuId, INVALID_ID, w, C_PTE, C_AFTER);
  const push = pushBeginAcquire(m, gpuId - 1, CHANNEL_TYPE_MEMOPS, PURPOSE_UNMAP, block.tracker);
  if (push.status !== NV_OK) {
    context.status = push.status;
    return;
  }
  blockWritePtes(m, push, block, gpuId, INVALID_ID, PROT_NONE, w, C_PTE);
  pushEnd(m, push);
  if (block.mapped === 1 << gpuId) maskAndNot(block.w, B_MAYBE_MAPPED, w, C_PTE);
  maskAndNot(state.w, G_READ, w, C_PTE);
  maskAndNot(state.w, G_WRITE, w, C_PTE);
  maskAndNot(state.w, G_ATOMIC, w, C_PTE);
  if (maskIsEmpty(state.w, G_READ)) block.mapped &= ~(1 << gpuId);
  trackerAddEntry(block.tracker, push.channel, push.trackingValue);
  why(m, block, gpuId, w, C_PTE, PROT_NONE);
}

/** uvm_va_block_unmap */
export function vaBlockUnmap(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  id: number,
  pw: Uint32Array,
  po: number,
): void {
  if (id === CPU_ID) blockUnmapCpu(m, block, pw, po);
  else blockUnmapGpu(m, block, context, id, pw, po);
  if (m.res.verify) vaBlockAssert(m, block);
}

/** uvm_va_block_unmap_mask: processors in ascending order. */
export function vaBlockUnmapMask(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  processors: number,
  pw: Uint32Array,
  po: number,
): void {
  for (let id = processorFirst(processors); id !== INVALID_ID; id = processorNext(processors, id)) {
    vaBlockUnmap(m, block, context, id, pw, po);
  }
}

/** block_map_cpu_to: page by page, each after the block's tracker; only 4 KiB entries. */
function blockMapCpuTo(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  resident: number,
  protection: number,
  cause: number,
): void {
  const w = context.w;
  if (
    !maskIntersection(
      w,
      C_PTE,
      w,
      C_MAP_RUNNING,
      residentWords(block, resident) as Uint32Array,
      residentOffset(resident),
    )
  )
    return;
  const status = trackerWait(m, block.tracker);
  if (status !== NV_OK) {
    // What the pages are to show has not come.
    context.status = status;
    return;
  }
  const writable = protection > PROT_READ_ONLY;
  mmInsertPages(block.w, w, C_PTE, writable);
  m.k.now += maskWeight(w, C_PTE) * m.cost.cpuMapPage;
  block.mapped |= 1;
  if (resident === CPU_ID && block.range.policy.preferredLocation === CPU_ID) {
    rangeGroupMarkMigratedPages(block.range.space, block.startPage, block.n, w, C_PTE);
  }
  if (resident !== CPU_ID && cause !== MAP_REMOTE_INVALID) {
    let first = maskNextSet(w, C_PTE, 0, block.n);
    while (first < block.n) {
      const outer = maskNextClear(w, C_PTE, first, block.n);
      toolsRecordMapRemoteCpu(m, block.startPage + first, outer - first, resident, cause);
      first = maskNextSet(w, C_PTE, outer, block.n);
    }
  }
  maskOr(block.w, B_CPU_READ, w, C_PTE);
  if (writable) maskOr(block.w, B_CPU_WRITE, w, C_PTE);
  maskOr(block.w, B_MAYBE_MAPPED, w, C_PTE);
  why(m, block, CPU_ID, w, C_PTE, protection);
  maskAndNot(w, C_MAP_RUNNING, w, C_PTE);
}

/** block_map_gpu_to: the pages of the running mask that live on `resident`, in one MEMOPS push. */
function blockMapGpuTo(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  gpuId: number,
  resident: number,
  protection: number,
  cause: number,
): void {
  const state = block.gpus[gpuId - 1] as BlockGpuState;
  const w = context.w;
  const rw = residentWords(block, resident) as Uint32Array;
  const ro = residentOffset(resident);
  if (!maskIntersection(w, C_PTE, w, C_MAP_RUNNING, rw, ro)) return;
  // Pages that will have exactly this protection and this target once the push is through.
  const bit = mappedOffset(gpuId, protection);
  maskCopy(w, C_AFTER, state.w, bit);
  maskOr(w, C_AFTER, w, C_PTE);
  if (protection < PROT_READ_WRITE_ATOMIC) maskAndNot(w, C_AFTER, state.w, mappedOffset(gpuId, protection + 1));
  maskAnd(w, C_AFTER, rw, ro);
  blockPreparePtes(m, block, gpuId, resident, w, C_PTE, C_AFTER);
  const push = pushBeginAcquire(m, gpuId - 1, CHANNEL_TYPE_MEMOPS, PURPOSE_MAP, block.tracker);
  if (push.status !== NV_OK) {
    context.status = push.status;
    return;
  }
  blockWritePtes(m, push, block, gpuId, resident, protection, w, C_PTE);
  const remote = resident !== gpuId;
  if (remote) {
    toolsMapRemoteBegin(m);
    let first = maskNextSet(w, C_PTE, 0, block.n);
    while (first < block.n) {
      const outer = maskNextClear(w, C_PTE, first, block.n);
      toolsMapRemoteRun(m, gpuId, resident, block.startPage + first, outer - first, cause);
      first = maskNextSet(w, C_PTE, outer, block.n);
    }
    toolsMapRemoteAttach(m, push);
    pushTimestamp(m, push);
  }
  pushEnd(m, push);
  if (remote) toolsMapRemoteTimes(m, push);
  maskOr(state.w, G_READ, w, C_PTE);
  if (protection >= PROT_READ_WRITE) maskOr(state.w, G_WRITE, w, C_PTE);
  if (protection === PROT_READ_WRITE_ATOMIC) maskOr(state.w, G_ATOMIC, w, C_PTE);
  block.mapped |= 1 << gpuId;
  maskOr(block.w, B_MAYBE_MAPPED, w, C_PTE);
  maskAndNot(w, C_MAP_RUNNING, w, C_PTE);
  trackerAddEntry(block.tracker, push.channel, push.trackingValue);
  why(m, block, gpuId, w, C_PTE, protection);
}

/**
 * uvm_va_block_map: maps the pages of the mask on one processor with `protection`, wherever they live that it may
 * reach. Pages that have at least this protection are skipped. `cause` labels remote maps.
 */
export function vaBlockMap(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  id: number,
  pw: Uint32Array,
  po: number,
  protection: number,
  cause: number,
): void {
  const w = context.w;
  const space = block.range.space;
  const have = id === CPU_ID ? block.w : vaBlockGpuStateGetAlloc(block, id).w;
  if (!maskDifference(w, C_MAP_RUNNING, pw, po, have, mappedOffset(id, protection))) return;
  // map_get_allowed_destinations: under read duplication, or for the preferred location, only local memory.
  const local = policyIsReadDuplicate(block) || block.range.policy.preferredLocation === id;
  let allowed = (local ? 1 << id : -1) & block.resident & space.processors.canAccess[id];
  while (allowed !== 0) {
    const resident = processorFindClosest(space.processors, allowed, id);
    allowed &= ~(1 << resident);
    if (id === CPU_ID) blockMapCpuTo(m, block, context, resident, protection, cause);
    else blockMapGpuTo(m, block, context, id, resident, protection, cause);
    if (maskIsEmpty(w, C_MAP_RUNNING)) break;
  }
  if (m.res.verify) vaBlockAssert(m, block);
}

/** block_revoke_cpu_write: CPU entries cannot be downgraded in place, so they are unmapped and mapped again. */
function blockRevokeCpuWrite(m: Model, block: VaBlock, context: VaBlockContext): void {
  const w = context.w;
  blockUnmapCpu(m, block, w, C_REVOKE);
  let first = maskNextSet(w, C_REVOKE, 0, block.n);
  while (first < block.n) {
    const outer = maskNextClear(w, C_REVOKE, first, block.n);
    perfEventNotifyRevocation(m, block, CPU_ID, first, outer - first);
    first = maskNextSet(w, C_REVOKE, outer, block.n);
  }
  vaBlockMap(m, block, context, CPU_ID, w, C_REVOKE, PROT_READ_ONLY, MAP_REMOTE_INVALID);
}

function revokeNotify(m: Model, block: VaBlock, context: VaBlockContext, gpuId: number, revoked: number): void {
  const state = block.gpus[gpuId - 1] as BlockGpuState;
  const w = context.w;
  for (let protection = PROT_READ_WRITE_ATOMIC; protection >= revoked; protection--) {
    maskIntersection(w, C_TMP, state.w, mappedOffset(gpuId, protection), w, C_PTE);
    let first = maskNextSet(w, C_TMP, 0, block.n);
    while (first < block.n) {
      const outer = maskNextClear(w, C_TMP, first, block.n);
      perfEventNotifyRevocation(m, block, gpuId, first, outer - first);
      first = maskNextSet(w, C_TMP, outer, block.n);
    }
  }
}

/** block_revoke_prot_gpu_to: pages of C_REVOKE that live on `resident` fall to the protection below `revoked`. */
function blockRevokeProtGpuTo(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  gpuId: number,
  resident: number,
  revoked: number,
): void {
  const state = block.gpus[gpuId - 1] as BlockGpuState;
  const w = context.w;
  const rw = residentWords(block, resident) as Uint32Array;
  const ro = residentOffset(resident);
  if (!maskIntersection(w, C_PTE, w, C_REVOKE, rw, ro)) return;
  maskDifference(w, C_TMP, state.w, mappedOffset(gpuId, revoked), w, C_PTE);
  maskDifference(w, C_AFTER, state.w, mappedOffset(gpuId, revoked - 1), w, C_TMP);
  maskAnd(w, C_AFTER, rw, ro);
  blockPreparePtes(m, block, gpuId, resident, w, C_PTE, C_AFTER);
  const push = pushBeginAcquire(m, gpuId - 1, CHANNEL_TYPE_MEMOPS, PURPOSE_REVOKE, block.tracker);
  if (push.status !== NV_OK) {
    context.status = push.status;
    return;
  }
  blockWritePtes(m, push, block, gpuId, resident, revoked - 1, w, C_PTE);
  pushEnd(m, push);
  revokeNotify(m, block, context, gpuId, revoked);
  for (let protection = PROT_READ_WRITE_ATOMIC; protection >= revoked; protection--) {
    maskAndNot(state.w, mappedOffset(gpuId, protection), w, C_PTE);
  }
  maskAndNot(w, C_REVOKE, w, C_PTE);
  trackerAddEntry(block.tracker, push.channel, push.trackingValue);
  why(m, block, gpuId, w, C_PTE, revoked - 1);
}

/** uvm_va_block_revoke_prot: takes `revoked` and everything above it from one processor's mappings. */
export function vaBlockRevokeProt(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  id: number,
  pw: Uint32Array,
  po: number,
  revoked: number,
): void {
  const w = context.w;
  if (id === CPU_ID) {
    // A CPU's write right includes atomics, so there is nothing between them to take.
    if (revoked === PROT_READ_WRITE_ATOMIC) return;
    if (maskIntersection(w, C_REVOKE, pw, po, block.w, B_CPU_WRITE)) blockRevokeCpuWrite(m, block, context);
    return;
  }
  if ((block.mapped & (1 << id)) === 0) return;
  if (!maskIntersection(w, C_REVOKE, pw, po, (block.gpus[id - 1] as BlockGpuState).w, mappedOffset(id, revoked)))
    return;
  let residents = block.resident;
  while (residents !== 0 && !maskIsEmpty(w, C_REVOKE)) {
    const resident = processorFindClosest(block.range.space.processors, residents, id);
    residents &= ~(1 << resident);
    blockRevokeProtGpuTo(m, block, context, id, resident, revoked);
  }
  if (m.res.verify) vaBlockAssert(m, block);
}

/** uvm_va_block_revoke_prot_mask */
export function vaBlockRevokeProtMask(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  processors: number,
  pw: Uint32Array,
  po: number,
  revoked: number,
): void {
  for (let id = processorFirst(processors); id !== INVALID_ID; id = processorNext(processors, id)) {
    vaBlockRevokeProt(m, block, context, id, pw, po, revoked);
  }
}

/** do_block_add_mappings_after_migration */
function addMappings(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  residency: number,
  processor: number,
  mapProcessors: number,
  pw: Uint32Array,
  po: number,
  maxProtection: number,
  thrashing: number,
): void {
  let rest = mapProcessors;
  let protection = maxProtection;
  if (maxProtection === PROT_READ_WRITE_ATOMIC) {
    const native = block.range.space.processors.hasNativeAtomics[residency];
    if ((native & (1 << processor)) !== 0) {
      const natives = rest & native;
      for (let id = processorFirst(natives); id !== INVALID_ID; id = processorNext(natives, id)) {
        const cause = (thrashing & (1 << id)) !== 0 ? MAP_REMOTE_THRASHING : MAP_REMOTE_POLICY;
        vaBlockMap(m, block, context, id, pw, po, PROT_READ_WRITE_ATOMIC, cause);
      }
      rest &= ~native;
      protection = PROT_READ_WRITE;
    } else {
      protection = processor === CPU_ID ? PROT_READ_WRITE : PROT_READ_ONLY;
    }
  }
  for (let id = processorFirst(rest); id !== INVALID_ID; id = processorNext(rest, id)) {
    const cause = (thrashing & (1 << id)) !== 0 ? MAP_REMOTE_THRASHING : MAP_REMOTE_POLICY;
    vaBlockMap(m, block, context, id, pw, po, protection, cause);
  }
}

/**
 * uvm_va_block_add_mappings_after_migration: maps accessed-by processors, and the processors that thrash on a pinned
 * page, after pages moved to `residency` and were mapped on `processor` with `maxProtection`.
 */
export function vaBlockAddMappingsAfterMigration(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  residency: number,
  processor: number,
  pw: Uint32Array,
  po: number,
  maxProtection: number,
  thrashing: number,
): void {
  if (policyIsReadDuplicate(block)) return;
  const policy = block.range.policy;
  const space = block.range.space;
  const preferred = policy.preferredLocation;
  let processors = (policy.accessedBy | thrashing) & space.processors.accessibleFrom[residency] & ~(1 << processor);
  if (preferred !== INVALID_ID && preferred !== residency) processors &= ~(1 << preferred);
  if (processors === 0) return;
  const w = context.w;
  maskCopy(w, C_MAP_OTHERS, pw, po);
  if (policy.readDuplication === READ_DUPLICATION_UNSET) maskAndNot(w, C_MAP_OTHERS, block.w, B_READ_DUPLICATED);
  if ((processors & 1) !== 0 && !rangeGroupAllMigratable(space, block.startPage, block.startPage + block.n)) {
    maskZero(w, C_EXTRA);
    for (
      let p = maskNextSet(w, C_MAP_OTHERS, 0, block.n);
      p < block.n;
      p = maskNextSet(w, C_MAP_OTHERS, p + 1, block.n)
    ) {
      if (rangeGroupMigratable(space, block.startPage + p)) maskSet(w, C_EXTRA, p);
    }
    if (!maskIsEmpty(w, C_EXTRA)) {
      addMappings(m, block, context, residency, processor, 1, w, C_EXTRA, maxProtection, thrashing);
    }
    processors &= ~1;
  }
  addMappings(m, block, context, residency, processor, processors, w, C_MAP_OTHERS, maxProtection, thrashing);
}

/** uvm_va_block_page_compute_highest_permission: the most a processor may get without taking from others. */
export function vaBlockPageComputeHighestPermission(block: VaBlock, processor: number, page: number): number {
  const residents = pageResidentProcessors(block, page);
  if (residents === 0) return PROT_NONE;
  if ((residents & (residents - 1)) !== 0) return (residents & (1 << processor)) !== 0 ? PROT_READ_ONLY : PROT_NONE;
  const residency = processorFirst(residents);
  const masks = block.range.space.processors;
  const self = 1 << processor;
  if ((masks.accessibleFrom[residency] & self) === 0) return PROT_NONE;
  if (!maskTest(block.w, B_MAYBE_MAPPED, page)) return PROT_READ_WRITE_ATOMIC;
  const native = masks.hasNativeAtomics[residency];
  const atomic = processorFirst(pageAuthorizedProcessors(block, page, PROT_READ_WRITE_ATOMIC) & ~self);
  if (atomic !== INVALID_ID && (native & (1 << atomic)) === 0) return PROT_READ_ONLY;
  if ((native & self) !== 0) return PROT_READ_WRITE_ATOMIC;
  const writers = pageAuthorizedProcessors(block, page, PROT_READ_WRITE) & ~self;
  return writers === 0 ? PROT_READ_WRITE_ATOMIC : PROT_READ_WRITE;
}

/** Masks of pages by the protection to give them, reused by the two functions below: (protection - 1) * 16. */
const byProtection = new Uint32Array(3 * 16);

function mapByProtection(m: Model, block: VaBlock, context: VaBlockContext, processor: number, cause: number): void {
  for (let protection = PROT_READ_ONLY; protection <= PROT_READ_WRITE_ATOMIC; protection++) {
    const offset = (protection - 1) * 16;
    if (maskIsEmpty(byProtection, offset)) continue;
    vaBlockMap(m, block, context, processor, byProtection, offset, protection, cause);
  }
}

/** uvm_va_block_add_mappings: the highest safe right on the pages `[first, outer)` not duplicated or discarded. */
export function vaBlockAddMappings(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  processor: number,
  first = 0,
  outer = block.n,
): void {
  const space = block.range.space;
  byProtection.fill(0);
  for (let page = first; page < outer; page++) {
    if (maskTest(block.w, B_READ_DUPLICATED, page) || maskTest(block.w, B_DISCARDED, page)) continue;
    const protection = vaBlockPageComputeHighestPermission(block, processor, page);
    if (protection === PROT_NONE) continue;
    if (processor === CPU_ID && !rangeGroupMigratable(space, block.startPage + page)) continue;
    maskSet(byProtection, (protection - 1) * 16, page);
  }
  mapByProtection(m, block, context, processor, MAP_REMOTE_POLICY);
}

/** uvm_va_block_migrate_map_mapped_pages: pages of the mask that the destination of a migrate call does not map yet. */
export function vaBlockMigrateMapMappedPages(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  pw: Uint32Array,
  po: number,
  destination: number,
): void {
  const w = context.w;
  maskCopy(w, C_ADD, pw, po);
  const mapped = destination === CPU_ID ? block.w : vaBlockGpuStateGetAlloc(block, destination).w;
  const offset = mappedOffset(destination, PROT_READ_ONLY);
  if (maskContains(mapped, offset, w, C_ADD)) return;
  maskAndNot(w, C_ADD, mapped, offset);
  byProtection.fill(0);
  for (let page = maskNextSet(w, C_ADD, 0, block.n); page < block.n; page = maskNextSet(w, C_ADD, page + 1, block.n)) {
    const protection = vaBlockPageComputeHighestPermission(block, destination, page);
    if (protection !== PROT_NONE) maskSet(byProtection, (protection - 1) * 16, page);
  }
  mapByProtection(m, block, context, destination, MAP_REMOTE_INVALID);
}

/** thrashing_unpin_page: unmaps a page from processors that are not accessed-by and hold no copy of it. */
export function vaBlockUnmapForUnpin(m: Model, block: VaBlock, page: number): number {
  const context = block.range.space.serviceContext.blockContext;
  const keep = block.range.policy.accessedBy | pageResidentProcessors(block, page);
  const processors = pageAuthorizedProcessors(block, page, PROT_READ_ONLY) & ~keep;
  const w = context.w;
  maskZero(w, C_EXTRA);
  maskSet(w, C_EXTRA, page);
  vaBlockUnmapMask(m, block, context, processors, w, C_EXTRA);
  return NV_OK;
}
