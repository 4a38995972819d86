/**
 * Models splitting and destroying managed ranges and their blocks: uvm_va_range_split, uvm_va_range_destroy
 * (uvm_va_range.c) and uvm_va_block_split with block_split_presplit_ptes (uvm_va_block.c), driver 580.105.08.
 *
 * Left out: unregistering GPUs, zombie ranges.
 */
import { assert } from '../../base/assert.ts';
import { MASK_WORDS, maskIsEmpty, maskNextSet, maskSet, maskTest, maskWeight, maskZero } from '../../base/page_mask.ts';
import { BIG_PAGES_PER_BLOCK, PAGE_SIZE, PAGES_PER_BIG_PAGE, PAGES_PER_BLOCK } from '../../base/units.ts';
import { contentsForget } from '../gpu/contents.ts';
import { mmuForgetTables } from '../gpu/mmu.ts';
import type { Model } from '../state.ts';
import { pageTreeAdopt, pageTreePutPtes } from './mmu.ts';
import { perfThrashingInfoDestroy } from './perf_thrashing.ts';
import { CPU_ID } from './processors.ts';
import { rangeGroupAssignRange } from './range_group.ts';
import { trackerWait } from './tracker.ts';
import {
  bigPageCount,
  bigPageFirst,
  supports2m,
  updateResidentProcessor,
  vaBlockCreate,
  vaBlockGpuStateGetAlloc,
} from './va_block.ts';
import { vaBlockAssert } from './va_block_check.ts';
import { vaBlockUnmapMask } from './va_block_map.ts';
import { blockResetPtes, blockSplitPtes } from './va_block_pte.ts';
import {
  B_CPU_ALLOCATED,
  B_CPU_READ,
  B_WORDS,
  type BlockGpuState,
  C_EXTRA,
  G_ALLOCATED,
  G_READ,
  G_WORDS,
  type VaBlock,
} from './va_block_types.ts';
import type { VaRange, VaSpace } from './va_range_types.ts';
import { vaRangeBase, vaRangeNumBlocks } from './va_space.ts';

/**
 * Moves the pages from `at` on of every mask in `from` to the start of the same mask in `to` (block_split_page_mask).
 */
function splitMasks(from: Uint32Array, to: Uint32Array, words: number, at: number, n: number): void {
  for (let o = 0; o < words; o += MASK_WORDS) {
    maskZero(to, o);
    for (let p = maskNextSet(from, o, at, n); p < n; p = maskNextSet(from, o, p + 1, n)) maskSet(to, o, p - at);
    for (let p = at; p < n; p++) from[o + (p >>> 5)] &= ~(1 << (p & 31));
  }
}

/** block_set_processor_masks */
function setProcessorMasks(m: Model, block: VaBlock): void {
  block.mapped = maskIsEmpty(block.w, B_CPU_READ) ? 0 : 1;
  updateResidentProcessor(block, CPU_ID);
  for (let id = 1; id <= m.spec.gpus; id++) {
    updateResidentProcessor(block, id);
    const state = block.gpus[id - 1];
    if (state !== null && !maskIsEmpty(state.w, G_READ)) block.mapped |= 1 << id;
  }
}

/** Page-table layout of the two halves of a split block on one GPU (block_split_gpu). */
function splitGpuLayout(
  m: Model,
  existing: VaBlock,
  fresh: VaBlock,
  old: BlockGpuState,
  was2m: boolean,
  gpuId: number,
  oldFirst: number,
): void {
  const state = vaBlockGpuStateGetAlloc(fresh, gpuId);
  const hadBig = old.hasBigTable;
  const had4k = old.has4kTable;
  const bits = old.bigPtes;
  const initialized = old.initializedBig;
  const at = existing.n;
  // A 2 MiB entry that stayed whole was invalid and had no tables below it: both halves start without page tables.
  if (old.pteIs2m) {
    old.pteIs2m = false;
    old.has2mEntry = false;
    return;
  }
  old.has2mEntry = false;
  const oldCount = bigPageCount(existing);
  const keep = oldCount === BIG_PAGES_PER_BLOCK ? -1 : (1 << oldCount) - 1;
  // Pieces are counted from the first 64 KiB boundary inside a block: those of the new one lie `skip` further on.
  const skip = (at + bigPageFirst(fresh) - oldFirst) / PAGES_PER_BIG_PAGE;
  const freshCount = bigPageCount(fresh);
  const mask = freshCount === 0 ? 0 : freshCount === BIG_PAGES_PER_BLOCK ? -1 : (1 << freshCount) - 1;
  state.hasBigTable = hadBig && freshCount > 0;
  state.has4kTable = had4k;
  state.bigPtes = freshCount === 0 ? 0 : (bits >>> skip) & mask;
  state.initializedBig = freshCount === 0 ? 0 : (initialized >>> skip) & mask;
  state.activatedBig = state.hasBigTable;
  state.activated4k = state.has4kTable;
  old.hasBigTable = hadBig && oldCount > 0;
  old.bigPtes = bits & keep;
  old.initializedBig = initialized & keep;
  old.activatedBig = old.hasBigTable;
  const oldReferences = (old.hasBigTable ? 1 : 0) + (old.has4kTable ? 1 : 0);
  const freshReferences = (state.hasBigTable ? 1 : 0) + (state.has4kTable ? 1 : 0);
  const before = was2m ? 0 : (hadBig ? 1 : 0) + (had4k ? 1 : 0);
  pageTreeAdopt(m, existing, gpuId, oldReferences + freshReferences - before);
}

/**
 * uvm_va_block_split: pages from `at` on go to a new block. The thrashing data of the old block is lost, and the new
 * one starts without prefetch history, as in the driver.
 */
function vaBlockSplit(m: Model, block: VaBlock, at: number, range: VaRange): VaBlock {
  const was2m = supports2m(block);
  const oldFirst = bigPageFirst(block);
  for (let id = 1; id <= m.spec.gpus; id++) blockSplitPtes(m, block, id, at);
  trackerWait(m, block.tracker);
  perfThrashingInfoDestroy(m, block);
  const space = range.space;
  const fresh = vaBlockCreate(space.blockCount++, range, block.startPage + at, block.n - at, m.spec.gpus);
  const n = block.n;
  splitMasks(block.w, fresh.w, B_WORDS, at, n);
  splitCpuChunks(block, fresh, at);
  block.n = at;
  for (let id = 1; id <= m.spec.gpus; id++) {
    const old = block.gpus[id - 1];
    if (old === null) continue;
    splitMasks(old.w, vaBlockGpuStateGetAlloc(fresh, id).w, G_WORDS, at, n);
    splitGpuLayout(m, block, fresh, old, was2m, id, oldFirst);
  }
  fresh.everFullyResident = block.everFullyResident;
  setProcessorMasks(m, block);
  setProcessorMasks(m, fresh);
  if (m.res.verify) {
    vaBlockAssert(m, block);
    vaBlockAssert(m, fresh);
  }
  return fresh;
}

/** CPU chunks never straddle a block: a split 2 MiB chunk becomes 64 KiB pieces, a split piece 4 KiB pages. */
function splitCpuChunks(block: VaBlock, fresh: VaBlock, at: number): void {
  if (block.cpuChunk2m) {
    block.cpuChunk2m = false;
    block.cpuChunk64k = -1;
  }
  const cut = (block.startPage % PAGES_PER_BLOCK) + at;
  const piece = Math.floor(cut / PAGES_PER_BIG_PAGE);
  if (cut % PAGES_PER_BIG_PAGE !== 0) block.cpuChunk64k &= ~(1 << piece);
  const below = (1 << piece) - 1;
  fresh.cpuChunk64k = block.cpuChunk64k & ~below;
  block.cpuChunk64k &= below;
}

/**
 * uvm_va_range_split: `[range.startPage, at)` stays, `[at, range.outerPage)` becomes a new range with the same policy.
 */
export function vaRangeSplit(m: Model, range: VaRange, at: number): VaRange {
  assert(at > range.startPage && at < range.outerPage, 'a range is split inside');
  const space = range.space;
  const fresh: VaRange = {
    startPage: at,
    outerPage: range.outerPage,
    policy: { ...range.policy },
    blocks: new Array<VaBlock | null>(vaRangeNumBlocks(at, range.outerPage)).fill(null),
    space,
    allocation: range.allocation,
  };
  const base = vaRangeBase(range);
  const firstSlot = Math.floor((at - base) / PAGES_PER_BLOCK);
  for (let slot = firstSlot; slot < range.blocks.length; slot++) {
    const block = range.blocks[slot];
    if (block === null) continue;
    if (block.startPage >= at) {
      block.range = fresh;
      fresh.blocks[slot - firstSlot] = block;
    } else {
      fresh.blocks[0] = vaBlockSplit(m, block, at - block.startPage, fresh);
    }
  }
  range.outerPage = at;
  range.blocks.length = vaRangeNumBlocks(range.startPage, at);
  space.ranges.splice(space.ranges.indexOf(range) + 1, 0, fresh);
  return fresh;
}

/** uvm_va_block_kill: unmaps everything, waits, and gives the memory back. */
function vaBlockKill(m: Model, block: VaBlock): void {
  const context = block.range.space.serviceContext.blockContext;
  const w = context.w;
  perfThrashingInfoDestroy(m, block);
  w.fill(-1, C_EXTRA, C_EXTRA + MASK_WORDS);
  for (let p = block.n; p < PAGES_PER_BLOCK; p++) w[C_EXTRA + (p >>> 5)] &= ~(1 << (p & 31));
  vaBlockUnmapMask(m, block, context, block.mapped, w, C_EXTRA);
  for (let id = 1; id <= m.spec.gpus; id++) {
    const state = block.gpus[id - 1];
    if (state === null) continue;
    if (!supports2m(block)) {
      blockResetPtes(m, block, id);
      pageTreePutPtes(m, block, id, (state.hasBigTable ? 1 : 0) + (state.has4kTable ? 1 : 0));
    }
    m.gpus[id - 1].vidmemUsed -= maskWeight(state.w, G_ALLOCATED) * PAGE_SIZE;
  }
  trackerWait(m, block.tracker);
  for (const gpu of m.gpus) {
    if (!gpu.pageTree.has(Math.floor(block.startPage / PAGES_PER_BLOCK))) mmuForgetTables(gpu.mmu, block.startPage);
  }
  if (m.contents !== null) {
    for (let p = 0; p < block.n; p++) {
      if (maskTest(block.w, B_CPU_ALLOCATED, p)) contentsForget(m.contents, CPU_ID, block.startPage + p, 1);
      for (let id = 1; id <= m.spec.gpus; id++) {
        const state = block.gpus[id - 1];
        if (state !== null && maskTest(state.w, G_ALLOCATED, p)) contentsForget(m.contents, id, block.startPage + p, 1);
      }
    }
  }
  block.dead = true;
}

/** munmap of a whole managed allocation: every range inside `[startPage, outerPage)` is destroyed. */
export function vaSpaceMunmap(m: Model, space: VaSpace, startPage: number, outerPage: number): void {
  if (m.res.why !== null) m.res.why.enter('uvm_vm_close_managed', m.k.now, { startPage, outerPage });
  m.k.now += m.cost.freeCall;
  for (const range of space.ranges) {
    if (range.startPage < startPage || range.outerPage > outerPage) continue;
    for (const block of range.blocks) {
      if (block === null) continue;
      m.k.now += m.cost.freeBlock;
      vaBlockKill(m, block);
    }
    if (space.rangeGroupRanges.length > 0) rangeGroupAssignRange(space, null, range.startPage, range.outerPage);
  }
  space.ranges = space.ranges.filter((range) => range.startPage < startPage || range.outerPage > outerPage);
  space.lastRange = 0;
}
