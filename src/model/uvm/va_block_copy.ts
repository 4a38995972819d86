/**
 * Models how uvm_va_block.c (driver 580.105.08) makes pages resident: block_populate_pages (CPU and GPU),
 * block_zero_new_gpu_chunk, block_copy_resident_pages(_between, _mask), uvm_va_block_make_resident_copy, _finish,
 * _read_duplicate and uvm_va_block_make_resident.
 *
 * Order within a move: unmap, populate (and zero), copy, update residency; mapping is the caller's. Residency changes
 * as soon as the push is built: the block's tracker makes later work wait for it.
 *
 * Left out: NUMA nodes, eviction (its part of the state update is here), allocation retry, CPU to CPU copies.
 */
import { assert } from '../../base/assert.ts';
import {
  maskAnd,
  maskAndNot,
  maskClearRegion,
  maskContainsRegion,
  maskCopy,
  maskDifference,
  maskIntersection,
  maskIntersects,
  maskIsEmpty,
  maskNextClear,
  maskNextSet,
  maskOr,
  maskRegionWeight,
  maskSetRegion,
  maskTest,
  maskWeight,
  maskZero,
} from '../../base/page_mask.ts';
import { PAGE_SIZE, PAGES_PER_BIG_PAGE, PAGES_PER_BLOCK, pageInBlockExtent } from '../../base/units.ts';
import { contentsForget, contentsZero } from '../gpu/contents.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_CPU_TO_GPU, CHANNEL_TYPE_GPU_INTERNAL, CHANNEL_TYPE_GPU_TO_CPU } from './channel.ts';
import { perfEventNotifyMigration } from './perf_events.ts';
import { CPU_ID, INVALID_ID, processorFindClosest, processorFirst, processorNext } from './processors.ts';
import {
  PURPOSE_COPY,
  PURPOSE_MEMSET,
  type Push,
  pushBeginAcquire,
  pushBeginGpuToGpuAcquire,
  pushCopy,
  pushEnd,
  pushMemset,
  pushTimestamp,
} from './push.ts';
import { rangeGroupMarkMigratedPages } from './range_group.ts';
import { NV_ERR_NO_MEMORY, NV_OK } from './status.ts';
import {
  toolsMigrationAttach,
  toolsMigrationBegin,
  toolsMigrationRun,
  toolsMigrationTimes,
  toolsRecordReadDuplicate,
  toolsRecordReadDuplicateInvalidate,
} from './tools.ts';
import { type Tracker, trackerAddEntry, trackerAddTracker, trackerClear } from './tracker.ts';
import {
  pageResidentProcessors,
  residentOffset,
  residentWords,
  updateResidentProcessor,
  vaBlockGpuStateGetAlloc,
} from './va_block.ts';
import { secureCopyBegin, secureCopyFinish, secureCopyPages } from './va_block_conf_computing.ts';
import { vaBlockRevokeProt, vaBlockUnmap, vaBlockUnmapMask } from './va_block_map.ts';
import { isBlockPhysContig } from './va_block_pte.ts';
import {
  B_CPU_ALLOCATED,
  B_CPU_RESIDENT,
  B_DISCARDED,
  B_MAYBE_MAPPED,
  B_READ_DUPLICATED,
  type BlockGpuState,
  C_CHANGED_RESIDENCY,
  C_COPY,
  C_EXTRA,
  C_FIRST_TOUCH,
  C_MIGRATED,
  C_POPULATE,
  C_SOURCE,
  C_STAGED,
  C_TMP,
  C_UNMAP,
  CAUSE_ACCESS_COUNTER,
  CAUSE_API_MIGRATE,
  CAUSE_API_SET_RANGE_GROUP,
  CAUSE_API_TOOLS,
  CAUSE_EVICTION,
  CAUSE_PREFETCH,
  G_ALLOCATED,
  G_EVICTED,
  G_RESIDENT,
  PROT_READ_WRITE,
  type VaBlock,
  type VaBlockContext,
} from './va_block_types.ts';

/** Chunk sizes of the module parameter uvm_cpu_chunk_allocation_sizes, as bits of bytes. */
const CHUNK_2M = 2097152;
const CHUNK_64K = 65536;

/** Pages resident on any processor, into `w[o]`. */
function residentAnywhere(block: VaBlock, w: Uint32Array, o: number): void {
  maskZero(w, o);
  for (let id = processorFirst(block.resident); id !== INVALID_ID; id = processorNext(block.resident, id)) {
    maskOr(w, o, residentWords(block, id) as Uint32Array, residentOffset(id));
  }
}

/** A new CPU chunk over `[first, outer)`: zeroed whole unless every page of it is resident somewhere. */
function cpuChunkAlloc(m: Model, block: VaBlock, first: number, outer: number, anywhere: Uint32Array, o: number): void {
  const zero = !maskContainsRegion(anywhere, o, first, outer);
  m.k.now += m.cost.cpuChunkAlloc;
  if (zero) m.k.now += m.cost.cpuZeroPage * (outer - first);
  if (m.res.why !== null) m.res.why.populate?.(block, CPU_ID, first, outer - first, zero ? outer - first : 0);
  if (m.contents !== null) {
    if (zero) contentsZero(m.contents, CPU_ID, block.startPage + first, outer - first);
    else contentsForget(m.contents, CPU_ID, block.startPage + first, outer - first);
  }
  maskSetRegion(block.w, B_CPU_ALLOCATED, first, outer);
}

/**
 * block_populate_pages_cpu: for each page without a chunk the largest allowed size whose aligned extent lies inside the
 * block and touches no allocated page. Chunks stay when the data moves away and are used again.
 */
function blockPopulatePagesCpu(m: Model, block: VaBlock, context: VaBlockContext, pw: Uint32Array, po: number): void {
  const w = context.w;
  if (!maskDifference(w, C_POPULATE, pw, po, block.w, B_CPU_ALLOCATED)) return;
  residentAnywhere(block, w, C_TMP);
  const sizes = m.params.uvm_cpu_chunk_allocation_sizes;
  const into2m = pageInBlockExtent(block.startPage);
  for (let page = maskNextSet(w, C_POPULATE, 0, block.n); page < block.n; ) {
    let first = page;
    let outer = page + 1;
    if ((sizes & CHUNK_2M) !== 0 && block.n === PAGES_PER_BLOCK && maskIsEmpty(block.w, B_CPU_ALLOCATED)) {
      first = 0;
      outer = PAGES_PER_BLOCK;
      block.cpuChunk2m = true;
    } else if ((sizes & CHUNK_64K) !== 0) {
      const piece = Math.floor((into2m + page) / PAGES_PER_BIG_PAGE);
      const start = piece * PAGES_PER_BIG_PAGE - into2m;
      const end = start + PAGES_PER_BIG_PAGE;
      if (start >= 0 && end <= block.n && maskNextSet(block.w, B_CPU_ALLOCATED, start, end) === end) {
        first = start;
        outer = end;
        block.cpuChunk64k |= 1 << piece;
      }
    }
    cpuChunkAlloc(m, block, first, outer, w, C_TMP);
    page = maskNextSet(w, C_POPULATE, outer, block.n);
  }
}

/** block_zero_new_gpu_chunk: pages `[first, outer)` of a new chunk that no other copy will overwrite. */
function zeroNewGpuChunk(
  m: Model,
  block: VaBlock,
  gpuId: number,
  first: number,
  outer: number,
  anywhere: Uint32Array,
  o: number,
  push: Push | null,
): Push | null {
  let page = maskNextClear(anywhere, o, first, outer);
  let open = push;
  while (page < outer) {
    const end = maskNextSet(anywhere, o, page, outer);
    open ??= pushBeginAcquire(m, gpuId - 1, CHANNEL_TYPE_GPU_INTERNAL, PURPOSE_MEMSET, block.tracker);
    if (open.status !== NV_OK) return open;
    pushMemset(m, open, gpuId, block.startPage + page, end - page);
    page = maskNextClear(anywhere, o, end, outer);
  }
  return open;
}

/**
 * block_gpu_chunk_index: pages in the chunk behind page `page` of a block of `n` pages that begins `into2m` pages
 * behind a 2 MiB boundary: the largest of 512, 16 and 1 that is aligned there and lies inside the block.
 */
export function gpuChunkPages(into2m: number, n: number, page: number): number {
  if (n === PAGES_PER_BLOCK) return PAGES_PER_BLOCK;
  const start = Math.floor((into2m + page) / PAGES_PER_BIG_PAGE) * PAGES_PER_BIG_PAGE - into2m;
  return start >= 0 && start + PAGES_PER_BIG_PAGE <= n ? PAGES_PER_BIG_PAGE : 1;
}

/** block_populate_pages for a GPU: natural chunks (2 MiB, 64 KiB, 4 KiB) that overlap a page of the mask. */
function blockPopulatePagesGpu(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  gpuId: number,
  pw: Uint32Array,
  po: number,
): number {
  const state = vaBlockGpuStateGetAlloc(block, gpuId);
  const gpu = m.gpus[gpuId - 1];
  const w = context.w;
  // Mostly all pages have chunks: then it does not matter which of them are resident.
  if (!maskDifference(w, C_POPULATE, pw, po, state.w, G_ALLOCATED)) return NV_OK;
  maskAndNot(w, C_POPULATE, state.w, G_RESIDENT);
  if (maskIsEmpty(w, C_POPULATE)) return NV_OK;
  residentAnywhere(block, w, C_TMP);
  maskAndNot(w, C_TMP, block.w, B_DISCARDED);
  const into2m = pageInBlockExtent(block.startPage);
  let push: Push | null = null;
  let status = NV_OK;
  for (let page = maskNextSet(w, C_POPULATE, 0, block.n); page < block.n; ) {
    const pages = gpuChunkPages(into2m, block.n, page);
    const first = Math.floor((into2m + page) / pages) * pages - into2m;
    const outer = first + pages;
    const bytes = pages * PAGE_SIZE;
    if (gpu.vidmemUsed + bytes > m.spec.vidmemBytes) {
      status = NV_ERR_NO_MEMORY;
      break;
    }
    gpu.vidmemUsed += bytes;
    m.k.now += m.cost.gpuChunkAlloc;
    if (m.contents !== null) contentsForget(m.contents, gpuId, block.startPage + first, outer - first);
    maskSetRegion(state.w, G_ALLOCATED, first, outer);
    if (m.res.why !== null) {
      const zeroed = outer - first - maskRegionWeight(w, C_TMP, first, outer);
      m.res.why.populate?.(block, gpuId, first, outer - first, zeroed);
    }
    push = zeroNewGpuChunk(m, block, gpuId, first, outer, w, C_TMP, push);
    if (push !== null && push.status !== NV_OK) {
      // block_populate_gpu_chunk gives the chunk back.
      gpu.vidmemUsed -= bytes;
      maskClearRegion(state.w, G_ALLOCATED, first, outer);
      return push.status;
    }
    page = maskNextSet(w, C_POPULATE, outer, block.n);
  }
  if (push !== null) {
    pushEnd(m, push);
    trackerAddEntry(block.tracker, push.channel, push.trackingValue);
  }
  return status;
}

/** Pages of the mask that must be staged in system memory: no resident copy the destination can read directly. */
function computeStaged(
  block: VaBlock,
  context: VaBlockContext,
  destination: number,
  pw: Uint32Array,
  po: number,
): boolean {
  const w = context.w;
  maskZero(w, C_STAGED);
  const direct = block.range.space.processors.canCopyFrom[destination];
  if ((block.resident & ~direct) === 0) return false;
  maskCopy(w, C_STAGED, pw, po);
  residentAnywhere(block, w, C_TMP);
  maskAnd(w, C_STAGED, w, C_TMP);
  for (let id = processorFirst(block.resident); id !== INVALID_ID; id = processorNext(block.resident, id)) {
    if ((direct & (1 << id)) !== 0 || id === destination) {
      maskAndNot(w, C_STAGED, residentWords(block, id) as Uint32Array, residentOffset(id));
    }
  }
  maskAndNot(w, C_STAGED, block.w, B_DISCARDED);
  return !maskIsEmpty(w, C_STAGED);
}

function blockPopulatePages(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  destination: number,
  pw: Uint32Array,
  po: number,
): number {
  if (destination === CPU_ID) {
    maskZero(context.w, C_STAGED);
    blockPopulatePagesCpu(m, block, context, pw, po);
    return NV_OK;
  }
  const status = blockPopulatePagesGpu(m, block, context, destination, pw, po);
  if (status === NV_OK && computeStaged(block, context, destination, pw, po)) {
    maskCopy(context.w, C_EXTRA, context.w, C_STAGED);
    blockPopulatePagesCpu(m, block, context, context.w, C_EXTRA);
  }
  return status;
}

/** Begins the push of a copy: CPU to GPU by the destination, GPU to CPU and GPU to GPU by the source. */
function copyBeginPush(m: Model, block: VaBlock, destination: number, source: number): Push {
  if (source === CPU_ID) {
    return pushBeginAcquire(m, destination - 1, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_COPY, block.tracker);
  }
  if (destination === CPU_ID) {
    return pushBeginAcquire(m, source - 1, CHANNEL_TYPE_GPU_TO_CPU, PURPOSE_COPY, block.tracker);
  }
  return pushBeginGpuToGpuAcquire(m, source - 1, destination - 1, PURPOSE_COPY, block.tracker);
}

/**
 * block_copy_resident_pages_between: copies the pages of C_SOURCE from one processor's memory to another's, in one push
 * with one migration record for each run of consecutive pages with one cause.
 *
 * `prefetch` names the pages whose cause is prefetch; `migrated` is extended. Returns the number of pages copied.
 */
function copyBetween(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  destination: number,
  source: number,
  prefetch: Uint32Array | null,
  prefetchOffset: number,
  copyMode: boolean,
  stagedHop: boolean,
  tracker: Tracker,
): number {
  const w = context.w;
  const count = maskWeight(w, C_SOURCE);
  if (count === 0) return 0;
  if (source === block.range.policy.preferredLocation && context.cause !== CAUSE_EVICTION) {
    rangeGroupMarkMigratedPages(block.range.space, block.startPage, block.n, w, C_SOURCE);
  }
  const contiguous = isBlockPhysContig(block, source) && isBlockPhysContig(block, destination);
  context.allInvolvedProcessors |= (1 << destination) | (1 << source);
  const secure =
    m.res.confComputing === null ? null : secureCopyBegin(m, block.tracker, destination, source, PURPOSE_COPY);
  const push = secure === null ? copyBeginPush(m, block, destination, source) : secure.push;
  if (push.status !== NV_OK) {
    context.status = push.status;
    return 0;
  }
  toolsMigrationBegin(m);
  pushTimestamp(m, push);
  let first = maskNextSet(w, C_SOURCE, 0, block.n);
  while (first < block.n) {
    let outer = maskNextClear(w, C_SOURCE, first, block.n);
    let cause = context.cause;
    if (prefetch !== null && cause <= CAUSE_ACCESS_COUNTER) {
      if (maskTest(prefetch, prefetchOffset, first)) {
        cause = CAUSE_PREFETCH;
        outer = maskNextClear(prefetch, prefetchOffset, first, outer);
      } else {
        outer = maskNextSet(prefetch, prefetchOffset, first, outer);
      }
    }
    if (secure !== null) secureCopyPages(m, secure, block.startPage, first, outer);
    else pushCopy(m, push, destination, source, block.startPage + first, outer - first, !contiguous);
    toolsMigrationRun(m, source, destination, block.startPage + first, outer - first, cause);
    pushTimestamp(m, push);
    perfEventNotifyMigration(m, block, destination, first, outer - first, cause, copyMode, stagedHop);
    if (m.res.why !== null) m.res.why.copy(block, first, outer - first, source, destination, cause);
    first = maskNextSet(w, C_SOURCE, outer, block.n);
  }
  toolsMigrationAttach(m, push);
  pushEnd(m, push);
  toolsMigrationTimes(m, push);
  trackerAddEntry(tracker, push.channel, push.trackingValue);
  if (secure !== null) {
    const status = secureCopyFinish(m, secure, block.startPage);
    if (status !== NV_OK) context.status = status;
  }
  return count;
}

/** Pushes of one copy call, before they join the block's tracker; reused. */
const localTracker: Tracker = [];

/**
 * block_copy_resident_pages_mask: copies the pages of C_COPY to `destination` from the processors `sources`, the
 * closest first; pages in `migrated` (an offset in the context's words, or -1) are skipped and it is extended.
 */
function copyFromMask(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  destination: number,
  sources: number,
  wanted: number,
  migrated: number,
  prefetch: Uint32Array | null,
  prefetchOffset: number,
  copyMode: boolean,
  stagedHop: boolean,
  missing: number,
): number {
  const w = context.w;
  let left = sources;
  let copied = 0;
  while (left !== 0 && copied < missing) {
    const source = processorFindClosest(block.range.space.processors, left, destination);
    left &= ~(1 << source);
    const sw = residentWords(block, source);
    if (sw === null) continue;
    maskIntersection(w, C_SOURCE, w, wanted, sw, residentOffset(source));
    const dw = residentWords(block, destination);
    // C_COPY has none of the destination's pages, and before the first copy nothing has migrated.
    if (dw !== null && wanted !== C_COPY) maskAndNot(w, C_SOURCE, dw, residentOffset(destination));
    if (migrated >= 0 && copied > 0) maskAndNot(w, C_SOURCE, w, migrated);
    copied += copyBetween(
      m,
      block,
      context,
      destination,
      source,
      prefetch,
      prefetchOffset,
      copyMode,
      stagedHop,
      localTracker,
    );
    if (context.status !== NV_OK) break;
    if (migrated >= 0) maskOr(w, migrated, w, C_SOURCE);
  }
  return copied;
}

/** block_copy_resident_pages: fills C_MIGRATED with the pages that now have a copy at the destination. */
function blockCopyResidentPages(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  destination: number,
  pw: Uint32Array,
  po: number,
  prefetch: Uint32Array | null,
  prefetchOffset: number,
  copyMode: boolean,
): void {
  const w = context.w;
  maskZero(w, C_MIGRATED);
  const dw = residentWords(block, destination);
  if (dw === null) maskCopy(w, C_COPY, pw, po);
  else maskDifference(w, C_COPY, pw, po, dw, residentOffset(destination));
  // Discarded pages hold nothing worth copying: they count as migrated.
  const discarded = maskIntersection(w, C_EXTRA, w, C_COPY, block.w, B_DISCARDED);
  if (discarded) maskAndNot(w, C_COPY, w, C_EXTRA);
  const missing = maskWeight(w, C_COPY);
  trackerClear(localTracker);
  if (missing !== 0) {
    const staged = !maskIsEmpty(w, C_STAGED);
    if (destination === CPU_ID) {
      const sources = block.resident & ~1;
      copyFromMask(
        m,
        block,
        context,
        CPU_ID,
        sources,
        C_COPY,
        C_MIGRATED,
        prefetch,
        prefetchOffset,
        copyMode,
        false,
        missing,
      );
    } else {
      const direct = block.range.space.processors.canCopyFrom[destination] & block.resident & ~(1 << destination);
      copyFromMask(
        m,
        block,
        context,
        destination,
        direct,
        C_COPY,
        C_MIGRATED,
        prefetch,
        prefetchOffset,
        copyMode,
        false,
        missing,
      );
      if (staged && context.status === NV_OK) {
        copyStaged(m, block, context, destination, direct, prefetch, prefetchOffset, copyMode);
      }
    }
  }
  if (discarded) maskOr(w, C_MIGRATED, w, C_EXTRA);
  trackerAddTracker(block.tracker, localTracker);
}

/** A copy that no engine can do in one go: source to system memory, then system memory to the destination. */
function copyStaged(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  destination: number,
  direct: number,
  prefetch: Uint32Array | null,
  prefetchOffset: number,
  copyMode: boolean,
): void {
  const w = context.w;
  const sources = block.resident & ~direct & ~(1 << destination) & ~1;
  const pages = maskWeight(w, C_STAGED);
  copyFromMask(m, block, context, CPU_ID, sources, C_STAGED, -1, prefetch, prefetchOffset, copyMode, true, pages);
  trackerAddTracker(block.tracker, localTracker);
  trackerClear(localTracker);
  if (context.status !== NV_OK) return;
  maskDifference(w, C_SOURCE, w, C_STAGED, w, C_MIGRATED);
  copyBetween(m, block, context, destination, CPU_ID, prefetch, prefetchOffset, copyMode, false, localTracker);
  if (context.status === NV_OK) maskOr(w, C_MIGRATED, w, C_SOURCE);
}

/**
 * uvm_va_block_make_resident_copy: moves the pages of the mask to `destination`; residency is updated by
 * vaBlockMakeResidentFinish. `prefetch` names the pages that moved by the prefetcher's wish. Returns a status.
 */
export function vaBlockMakeResidentCopy(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  destination: number,
  pw: Uint32Array,
  po: number,
  prefetch: Uint32Array | null,
  prefetchOffset: number,
  cause: number,
): number {
  const w = context.w;
  context.cause = cause;
  context.status = NV_OK;
  if (m.res.why !== null) m.res.why.makeResident?.(block, destination, pw, po, cause, false);
  if (destination !== CPU_ID) vaBlockGpuStateGetAlloc(block, destination);
  const dw = residentWords(block, destination) as Uint32Array;
  const mapped = block.mapped;
  const moving = maskDifference(w, C_UNMAP, pw, po, dw, residentOffset(destination));
  if (mapped !== 0 && moving) vaBlockUnmapMask(m, block, context, mapped, w, C_UNMAP);
  // Duplicated pages lose their other mappings even where the destination holds a copy.
  if (maskIntersects(pw, po, block.w, B_READ_DUPLICATED)) {
    maskIntersection(w, C_UNMAP, pw, po, block.w, B_READ_DUPLICATED);
    vaBlockUnmapMask(m, block, context, mapped & ~(1 << destination), w, C_UNMAP);
    for (let p = maskNextSet(w, C_UNMAP, 0, block.n); p < block.n; p = maskNextSet(w, C_UNMAP, p + 1, block.n)) {
      toolsRecordReadDuplicateInvalidate(m, block.startPage + p, destination);
    }
  }
  if (context.status !== NV_OK) return context.status;
  const status = blockPopulatePages(m, block, context, destination, pw, po);
  if (status !== NV_OK) return status;
  blockCopyResidentPages(m, block, context, destination, pw, po, prefetch, prefetchOffset, false);
  return context.status;
}

/** block_copy_set_first_touch_residency: pages of the mask that live nowhere now live at the destination. */
function setFirstTouchResidency(
  block: VaBlock,
  context: VaBlockContext,
  destination: number,
  pw: Uint32Array,
  po: number,
): void {
  const w = context.w;
  const dw = residentWords(block, destination) as Uint32Array;
  const offset = residentOffset(destination);
  if (maskDifference(w, C_FIRST_TOUCH, pw, po, dw, offset)) {
    maskOr(dw, offset, w, C_FIRST_TOUCH);
    maskOr(w, C_CHANGED_RESIDENCY, w, C_FIRST_TOUCH);
  }
  if (!maskIsEmpty(dw, offset)) block.resident |= 1 << destination;
}

function updateEvicted(block: VaBlock, context: VaBlockContext, destination: number): void {
  const w = context.w;
  if (context.cause === CAUSE_EVICTION) {
    const gpus = context.allInvolvedProcessors & ~1;
    for (let id = processorFirst(gpus); id !== INVALID_ID; id = processorNext(gpus, id)) {
      maskOr((block.gpus[id - 1] as BlockGpuState).w, G_EVICTED, w, C_MIGRATED);
      block.evictedGpus |= 1 << id;
    }
  } else if (destination !== CPU_ID && (block.evictedGpus & (1 << destination)) !== 0) {
    const state = block.gpus[destination - 1] as BlockGpuState;
    maskAndNot(state.w, G_EVICTED, w, C_MIGRATED);
    if (maskIsEmpty(state.w, G_EVICTED)) block.evictedGpus &= ~(1 << destination);
  }
}

function updateEverFullyResident(block: VaBlock, destination: number): void {
  if (destination === CPU_ID) return;
  const dw = residentWords(block, destination) as Uint32Array;
  if (maskContainsRegion(dw, G_RESIDENT, 0, PAGES_PER_BLOCK)) block.everFullyResident |= 1 << destination;
}

/** uvm_va_block_make_resident_finish: residency after vaBlockMakeResidentCopy with the same mask. */
export function vaBlockMakeResidentFinish(
  block: VaBlock,
  context: VaBlockContext,
  destination: number,
  pw: Uint32Array,
  po: number,
): void {
  const w = context.w;
  const cause = context.cause;
  const migrated = maskIntersection(w, C_MIGRATED, w, C_MIGRATED, pw, po);
  if (cause === CAUSE_API_MIGRATE || cause === CAUSE_API_SET_RANGE_GROUP || cause === CAUSE_API_TOOLS) {
    maskAndNot(block.w, B_DISCARDED, pw, po);
  }
  const dw = residentWords(block, destination) as Uint32Array;
  if (migrated) {
    maskOr(dw, residentOffset(destination), w, C_MIGRATED);
    block.resident |= 1 << destination;
    maskOr(w, C_CHANGED_RESIDENCY, w, C_MIGRATED);
    maskAndNot(block.w, B_MAYBE_MAPPED, w, C_MIGRATED);
    updateEvicted(block, context, destination);
  }
  setFirstTouchResidency(block, context, destination, pw, po);
  // break_read_duplication_in_region: every other copy of a requested page goes, moved or not.
  maskAndNot(block.w, B_READ_DUPLICATED, pw, po);
  const others = block.resident & ~(1 << destination);
  for (let id = processorFirst(others); id !== INVALID_ID; id = processorNext(others, id)) {
    maskAndNot(residentWords(block, id) as Uint32Array, residentOffset(id), pw, po);
    updateResidentProcessor(block, id);
  }
  updateEverFullyResident(block, destination);
}

/** uvm_va_block_make_resident */
export function vaBlockMakeResident(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  destination: number,
  pw: Uint32Array,
  po: number,
  cause: number,
): number {
  const status = vaBlockMakeResidentCopy(m, block, context, destination, pw, po, null, 0, cause);
  if (status === NV_OK) vaBlockMakeResidentFinish(block, context, destination, pw, po);
  return status;
}

/** block_prep_read_duplicate_mapping for the pages of C_UNMAP, whose only copy is on `source`. */
function prepReadDuplicateMapping(m: Model, block: VaBlock, context: VaBlockContext, source: number): void {
  const others = block.mapped & ~(1 << source);
  for (let id = processorFirst(others); id !== INVALID_ID; id = processorNext(others, id)) {
    vaBlockUnmap(m, block, context, id, context.w, C_UNMAP);
  }
  vaBlockRevokeProt(m, block, context, source, context.w, C_UNMAP, PROT_READ_WRITE);
}

function recordReadDuplicate(m: Model, block: VaBlock, w: Uint32Array, o: number): void {
  for (let p = maskNextSet(w, o, 0, block.n); p < block.n; p = maskNextSet(w, o, p + 1, block.n)) {
    toolsRecordReadDuplicate(m, block.startPage + p, pageResidentProcessors(block, p));
  }
}

/**
 * uvm_va_block_make_resident_read_duplicate: gives `destination` a copy of each page of the mask; other copies stay,
 * all of them readable only. Pages that live nowhere become resident without being duplicated.
 */
export function vaBlockMakeResidentReadDuplicate(
  m: Model,
  block: VaBlock,
  context: VaBlockContext,
  destination: number,
  pw: Uint32Array,
  po: number,
  prefetch: Uint32Array | null,
  prefetchOffset: number,
  cause: number,
): number {
  const w = context.w;
  context.cause = cause;
  context.status = NV_OK;
  assert(cause !== CAUSE_EVICTION, 'eviction never duplicates');
  if (m.res.why !== null) m.res.why.makeResident?.(block, destination, pw, po, cause, true);
  if (destination !== CPU_ID) vaBlockGpuStateGetAlloc(block, destination);
  const residents = block.resident;
  for (let id = processorFirst(residents); id !== INVALID_ID; id = processorNext(residents, id)) {
    maskDifference(w, C_UNMAP, pw, po, block.w, B_READ_DUPLICATED);
    maskAnd(w, C_UNMAP, residentWords(block, id) as Uint32Array, residentOffset(id));
    if (!maskIsEmpty(w, C_UNMAP)) prepReadDuplicateMapping(m, block, context, id);
  }
  if (context.status !== NV_OK) return context.status;
  const status = blockPopulatePages(m, block, context, destination, pw, po);
  if (status !== NV_OK) return status;
  blockCopyResidentPages(m, block, context, destination, pw, po, prefetch, prefetchOffset, true);
  if (context.status !== NV_OK) return context.status;

  if (maskDifference(w, C_EXTRA, pw, po, w, C_MIGRATED))
    setFirstTouchResidency(block, context, destination, w, C_EXTRA);
  if (destination !== CPU_ID && !maskIsEmpty(w, C_STAGED)) {
    maskOr(block.w, B_CPU_RESIDENT, w, C_STAGED);
    block.resident |= 1;
    maskOr(block.w, B_READ_DUPLICATED, w, C_STAGED);
    recordReadDuplicate(m, block, w, C_STAGED);
  }
  if (!maskIsEmpty(w, C_MIGRATED)) {
    maskOr(residentWords(block, destination) as Uint32Array, residentOffset(destination), w, C_MIGRATED);
    block.resident |= 1 << destination;
    maskOr(block.w, B_READ_DUPLICATED, w, C_MIGRATED);
    recordReadDuplicate(m, block, w, C_MIGRATED);
    updateEvicted(block, context, destination);
  }
  updateEverFullyResident(block, destination);
  return NV_OK;
}
