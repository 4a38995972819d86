/**
 * Models the GPU page-table part of uvm_va_block.c (driver 580.105.08): block_gpu_compute_new_pte_state,
 * block_alloc_ptes_new_state and the block_gpu_map_* / block_gpu_unmap_* / block_gpu_write_* family.
 *
 * A block on a GPU is either one 2 MiB entry, or a mix of 64 KiB ("big") and 4 KiB entries behind a directory entry. A
 * change of size always goes through an invalid state with an invalidate in between. PTE writes go into a push.
 *
 * Left out: allocation retry (page tables never run out here), sparse entries, peer and DMA invalidates.
 */
import { maskContainsRegion, maskNextClear, maskNextSet, maskTest } from '../../base/page_mask.ts';
import { BIG_PAGES_PER_BLOCK, PAGES_PER_BIG_PAGE, pageInBigPage, pageInBlockExtent } from '../../base/units.ts';
import {
  makePte,
  PTE_BIG_UNMAPPED,
  PTE_INVALID,
  PTE_LEVEL_2M,
  PTE_LEVEL_4K,
  PTE_LEVEL_BIG,
  PTE_LEVEL_PDE,
} from '../gpu/mmu.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_MEMOPS } from './channel.ts';
import { pageTreeGetPtes } from './mmu.ts';
import { CPU_ID, INVALID_ID, processorFindClosest } from './processors.ts';
import { PURPOSE_PAGE_TREE, type Push, pushBeginAcquire, pushEnd, pushPte, pushTlbInvalidate } from './push.ts';
import { NV_OK } from './status.ts';
import { trackerAddEntry } from './tracker.ts';
import { bigPageCount, bigPageFirst, pageResidentProcessors, supports2m, vaBlockGpuStateGetAlloc } from './va_block.ts';
import {
  type BlockGpuState,
  G_ATOMIC,
  G_READ,
  G_WRITE,
  PROT_READ_ONLY,
  PROT_READ_WRITE,
  PROT_READ_WRITE_ATOMIC,
  type VaBlock,
} from './va_block_types.ts';

/** Answer of computeNewPteState (uvm_va_block_new_pte_state_t), reused. */
interface NewPteState {
  pteIs2m: boolean;
  needs4k: boolean;
  /** Pieces that shall be big afterwards, and pieces that hold a changing page; one bit for each. */
  bigPtes: number;
  bigPtesCovered: number;
}
const newState: NewPteState = { pteIs2m: false, needs4k: false, bigPtes: 0, bigPtesCovered: 0 };

/** Size in pages of the CPU chunk behind a page: 512, 16 or 1. */
export function cpuChunkPages(block: VaBlock, page: number): number {
  if (block.cpuChunk2m) return 512;
  const piece = Math.floor((pageInBlockExtent(block.startPage) + page) / PAGES_PER_BIG_PAGE);
  return (block.cpuChunk64k & (1 << piece)) !== 0 ? PAGES_PER_BIG_PAGE : 1;
}

/**
 * is_block_phys_contig: one chunk backs the whole block on that processor. On a GPU the natural chunk at page 0 spans
 * the block; on the CPU the first chunk found does.
 */
export function isBlockPhysContig(block: VaBlock, id: number): boolean {
  if (id !== CPU_ID) {
    if (block.n === 512 || block.n === 1) return true;
    return block.n === PAGES_PER_BIG_PAGE && pageInBigPage(block.startPage) === 0;
  }
  if (block.n === 512) return block.cpuChunk2m;
  if (block.n === 1) return true;
  return block.n === PAGES_PER_BIG_PAGE && cpuChunkPages(block, 0) === PAGES_PER_BIG_PAGE;
}

/**
 * Which entry sizes the block has after an operation on the pages `changing`, given all pages `after` that will have
 * exactly the same attributes (block_gpu_compute_new_pte_state). `resident` is the memory mapped, INVALID_ID to unmap.
 */
function computeNewPteState(
  block: VaBlock,
  state: BlockGpuState,
  resident: number,
  w: Uint32Array,
  changing: number,
  after: number,
): void {
  newState.pteIs2m = false;
  newState.needs4k = true;
  newState.bigPtes = 0;
  newState.bigPtesCovered = 0;
  const can2m = supports2m(block);
  if (
    can2m &&
    maskContainsRegion(w, after, 0, 512) &&
    (resident === INVALID_ID || isBlockPhysContig(block, resident))
  ) {
    newState.pteIs2m = true;
    newState.needs4k = false;
    return;
  }
  const count = bigPageCount(block);
  if (count === 0) return;
  newState.needs4k = false;
  const canMakeBig = resident !== INVALID_ID || state.hasBigTable || state.pteIs2m;
  const bigFirst = bigPageFirst(block);
  const bigOuter = bigFirst + count * PAGES_PER_BIG_PAGE;
  let covered = 0;
  let big = 0;
  let page = maskNextSet(w, changing, bigFirst, bigOuter);
  while (page < bigOuter) {
    const piece = ((page - bigFirst) / PAGES_PER_BIG_PAGE) | 0;
    const first = bigFirst + piece * PAGES_PER_BIG_PAGE;
    covered |= 1 << piece;
    const backed = resident !== CPU_ID || cpuChunkPages(block, page) >= PAGES_PER_BIG_PAGE;
    if (canMakeBig && backed && maskContainsRegion(w, after, first, first + PAGES_PER_BIG_PAGE)) big |= 1 << piece;
    else newState.needs4k = true;
    page = maskNextSet(w, changing, first + PAGES_PER_BIG_PAGE, bigOuter);
  }
  if (!newState.needs4k) {
    newState.needs4k =
      maskNextSet(w, changing, 0, bigFirst) < bigFirst || maskNextSet(w, changing, bigOuter, block.n) < block.n;
  }
  let uncovered: number;
  if (state.pteIs2m || (can2m && !state.has2mEntry)) uncovered = ~covered;
  else if (!state.has4kTable && !newState.needs4k) {
    uncovered = count === BIG_PAGES_PER_BLOCK ? -1 : (1 << count) - 1;
  } else uncovered = state.bigPtes & ~covered;
  newState.bigPtes = big | uncovered;
  newState.bigPtesCovered = covered;
}

/** block_alloc_ptes_new_state: tables appear on demand and stay until the block goes away. */
function allocPtes(m: Model, block: VaBlock, gpuId: number, state: BlockGpuState): void {
  if (supports2m(block)) {
    if (!state.has2mEntry) {
      state.has2mEntry = true;
      state.pteIs2m = true;
    }
    if (newState.pteIs2m) return;
    if (newState.bigPtes !== 0 && !state.hasBigTable) {
      state.hasBigTable = true;
      m.k.now += m.cost.pageTableAlloc;
    }
    if (newState.needs4k && !state.has4kTable) {
      state.has4kTable = true;
      m.k.now += m.cost.pageTableAlloc;
    }
    return;
  }
  if (newState.bigPtes !== 0 && !state.hasBigTable) {
    state.hasBigTable = true;
    pageTreeGetPtes(m, block, gpuId);
  }
  if (newState.needs4k && !state.has4kTable) {
    state.has4kTable = true;
    pageTreeGetPtes(m, block, gpuId);
  }
}

/** The 4 KiB entry that expresses how the driver maps a page now. */
function currentPte(block: VaBlock, state: BlockGpuState, gpuId: number, page: number): number {
  const w = state.w;
  if (!maskTest(w, G_READ, page)) return PTE_INVALID;
  const protection = maskTest(w, G_ATOMIC, page)
    ? PROT_READ_WRITE_ATOMIC
    : maskTest(w, G_WRITE, page)
      ? PROT_READ_WRITE
      : PROT_READ_ONLY;
  return makePte(
    protection,
    processorFindClosest(block.range.space.processors, pageResidentProcessors(block, page), gpuId),
  );
}

/** Writes the 4 KiB entries of one stretch: changing pages get `pte`, the others what they have. */
function writeStretch4k(
  m: Model,
  push: Push,
  block: VaBlock,
  state: BlockGpuState,
  gpuId: number,
  first: number,
  outer: number,
  w: Uint32Array,
  changing: number,
  pte: number,
  inherit: boolean,
): void {
  let page = first;
  while (page < outer) {
    if (maskTest(w, changing, page)) {
      const end = maskNextClear(w, changing, page, outer);
      pushPte(m, push, PTE_LEVEL_4K, block.startPage + page, end - page, pte);
      page = end;
    } else {
      const end = maskNextSet(w, changing, page, outer);
      if (inherit) {
        for (let p = page; p < end; p++) {
          pushPte(m, push, PTE_LEVEL_4K, block.startPage + p, 1, currentPte(block, state, gpuId, p));
        }
      }
      page = end;
    }
  }
}

/** Writes big entries for the pieces in `bits`, run by run. */
function writeBig(m: Model, push: Push, startPage: number, bits: number, pte: number): void {
  let rest = bits;
  while (rest !== 0) {
    const first = 31 - Math.clz32(rest & -rest);
    let outer = first + 1;
    while (outer < BIG_PAGES_PER_BLOCK && (rest & (1 << outer)) !== 0) outer++;
    pushPte(m, push, PTE_LEVEL_BIG, startPage + first * PAGES_PER_BIG_PAGE, outer - first, pte);
    rest = outer === BIG_PAGES_PER_BLOCK ? 0 : rest & (-1 << outer);
  }
}

/** From one 2 MiB entry (valid or not) to a directory: block_gpu_map_split_2m, block_gpu_unmap_split_2m. */
function split2m(
  m: Model,
  push: Push,
  block: VaBlock,
  state: BlockGpuState,
  gpuId: number,
  w: Uint32Array,
  changing: number,
  pte: number,
): void {
  // A valid 2 MiB entry maps every page alike, so page 0 tells what the others inherit.
  const old = currentPte(block, state, gpuId, 0);
  const covered = newState.bigPtesCovered & newState.bigPtes;
  const oldBig = old === PTE_INVALID ? PTE_BIG_UNMAPPED : old;
  writeBig(m, push, block.startPage, newState.bigPtes & ~covered, oldBig);
  writeBig(m, push, block.startPage, covered, pte === PTE_INVALID ? PTE_BIG_UNMAPPED : pte);
  let small = ~newState.bigPtes;
  if (state.hasBigTable) writeBig(m, push, block.startPage, small, PTE_INVALID);
  while (small !== 0) {
    const piece = 31 - Math.clz32(small & -small);
    small &= small - 1;
    const first = piece * PAGES_PER_BIG_PAGE;
    writeStretch4k(m, push, block, state, gpuId, first, first + PAGES_PER_BIG_PAGE, w, changing, pte, true);
  }
  if (old !== PTE_INVALID) {
    pushPte(m, push, PTE_LEVEL_2M, block.startPage, 1, PTE_INVALID);
    pushTlbInvalidate(m, push, block.startPage, 512, false, false);
  }
  pushPte(m, push, PTE_LEVEL_PDE, block.startPage, 1, PTE_INVALID);
  pushTlbInvalidate(m, push, block.startPage, 512, false, true);
}

/** A mix of big and 4 KiB entries becomes another: block_gpu_map_big_and_4k, block_gpu_unmap_big_and_4k. */
function writeBigAnd4k(
  m: Model,
  push: Push,
  block: VaBlock,
  state: BlockGpuState,
  gpuId: number,
  w: Uint32Array,
  changing: number,
  pte: number,
): void {
  const bigFirst = bigPageFirst(block);
  const bigOuter = bigFirst + bigPageCount(block) * PAGES_PER_BIG_PAGE;
  const bigStart = block.startPage + bigFirst;
  const bigPte = pte === PTE_INVALID ? PTE_BIG_UNMAPPED : pte;
  const toBig = newState.bigPtes & newState.bigPtesCovered;
  // Newly big pieces stop the walk first, so that nobody finds 4 KiB entries below a valid one. Those that no changing
  // page is in stay so: a block without a 4 KiB table holds all of its pieces by big entries.
  const merged = newState.bigPtes & ~state.bigPtes;
  if (merged !== 0) {
    writeBig(m, push, bigStart, merged, PTE_BIG_UNMAPPED);
    pushTlbInvalidate(m, push, bigStart, bigOuter - bigFirst, false, false);
  }
  writeBig(m, push, bigStart, pte === PTE_INVALID ? toBig & ~merged : toBig, bigPte);
  let small = newState.bigPtesCovered & ~newState.bigPtes;
  while (small !== 0) {
    const piece = 31 - Math.clz32(small & -small);
    small &= small - 1;
    const first = bigFirst + piece * PAGES_PER_BIG_PAGE;
    const wasBig = (state.bigPtes & (1 << piece)) !== 0;
    writeStretch4k(m, push, block, state, gpuId, first, first + PAGES_PER_BIG_PAGE, w, changing, pte, wasBig);
    if (wasBig) {
      pushTlbInvalidate(m, push, block.startPage + first, PAGES_PER_BIG_PAGE, false, false);
      pushPte(m, push, PTE_LEVEL_BIG, block.startPage + first, 1, PTE_INVALID);
    }
  }
  if (bigFirst > 0) {
    const outer = Math.min(bigFirst, block.n);
    writeStretch4k(m, push, block, state, gpuId, 0, outer, w, changing, pte, false);
  }
  if (bigOuter < block.n && bigFirst < block.n) {
    writeStretch4k(m, push, block, state, gpuId, bigOuter, block.n, w, changing, pte, false);
  }
  pushTlbInvalidate(m, push, block.startPage, block.n, false, true);
}

/**
 * Decides the new layout and makes sure its tables exist. Call before the push is begun: allocating tables pushes too.
 */
export function blockPreparePtes(
  m: Model,
  block: VaBlock,
  gpuId: number,
  resident: number,
  w: Uint32Array,
  changing: number,
  after: number,
): void {
  const state = vaBlockGpuStateGetAlloc(block, gpuId);
  computeNewPteState(block, state, resident, w, changing, after);
  allocPtes(m, block, gpuId, state);
}

/**
 * Writes the entries of the pages `changing` into the push, in the layout that blockPreparePtes decided just before,
 * and updates the layout. `protection` 0 unmaps. The caller updates the mapping masks afterwards.
 */
export function blockWritePtes(
  m: Model,
  push: Push,
  block: VaBlock,
  gpuId: number,
  resident: number,
  protection: number,
  w: Uint32Array,
  changing: number,
): void {
  const state = block.gpus[gpuId - 1] as BlockGpuState;
  const pte = protection === 0 ? PTE_INVALID : makePte(protection, resident);
  if (newState.pteIs2m) {
    if (!state.pteIs2m) {
      pushPte(m, push, PTE_LEVEL_2M, block.startPage, 1, PTE_INVALID);
      pushTlbInvalidate(m, push, block.startPage, 512, false, protection === 0);
    }
    if (protection !== 0 || state.pteIs2m) {
      pushPte(m, push, PTE_LEVEL_2M, block.startPage, 1, pte);
      pushTlbInvalidate(m, push, block.startPage, 512, false, protection === 0);
    }
    state.pteIs2m = true;
    state.bigPtes = 0;
    state.activatedBig = false;
    state.activated4k = false;
    return;
  }
  if (state.pteIs2m) split2m(m, push, block, state, gpuId, w, changing, pte);
  else writeBigAnd4k(m, push, block, state, gpuId, w, changing, pte);
  state.pteIs2m = false;
  state.bigPtes = newState.bigPtes;
  state.initializedBig |= newState.bigPtes;
  state.activatedBig = state.hasBigTable;
  state.activated4k = state.has4kTable;
}

/**
 * The last part of uvm_va_block_remove_gpu_va_space: a short block that goes away makes its big entries invalid, and
 * what is below them, because others may use the same tables for these addresses. Nothing is mapped any more.
 */
export function blockResetPtes(m: Model, block: VaBlock, gpuId: number): void {
  const state = block.gpus[gpuId - 1];
  if (state === null || supports2m(block) || state.bigPtes === 0) return;
  const bigStart = block.startPage + bigPageFirst(block);
  const push = pushBeginAcquire(m, gpuId - 1, CHANNEL_TYPE_MEMOPS, PURPOSE_PAGE_TREE, block.tracker);
  if (push.status !== NV_OK) return;
  for (let rest = state.has4kTable ? state.bigPtes : 0; rest !== 0; rest &= rest - 1) {
    const piece = 31 - Math.clz32(rest & -rest);
    pushPte(m, push, PTE_LEVEL_4K, bigStart + piece * PAGES_PER_BIG_PAGE, PAGES_PER_BIG_PAGE, PTE_INVALID);
  }
  writeBig(m, push, bigStart, state.bigPtes, PTE_INVALID);
  pushTlbInvalidate(m, push, bigStart, bigPageCount(block) * PAGES_PER_BIG_PAGE, false, false);
  pushEnd(m, push);
  trackerAddEntry(block.tracker, push.channel, push.trackingValue);
}

/** An empty mask: nothing changes in a split, everything is inherited. */
const nothing = new Uint32Array(16);

/**
 * block_split_presplit_ptes_gpu: before a block is split at page `at`, no entry may straddle that page. A 2 MiB entry
 * becomes big entries, and the piece that `at` cuts becomes 4 KiB entries.
 */
export function blockSplitPtes(m: Model, block: VaBlock, gpuId: number, at: number): void {
  const state = block.gpus[gpuId - 1];
  if (state === null) return;
  const bigFirst = bigPageFirst(block);
  const count = bigPageCount(block);
  const piece = at < bigFirst ? -1 : Math.floor((at - bigFirst) / PAGES_PER_BIG_PAGE);
  const cuts = (at - bigFirst) % PAGES_PER_BIG_PAGE !== 0 && piece >= 0 && piece < count;
  if (state.pteIs2m) {
    // An invalid 2 MiB entry with nothing below it needs no tables.
    if (!maskTest(state.w, G_READ, 0) && !state.hasBigTable && !state.has4kTable) return;
    newState.pteIs2m = false;
    newState.bigPtes = cuts ? ~(1 << piece) : -1;
    newState.bigPtesCovered = 0;
    newState.needs4k = cuts;
  } else {
    if (!cuts || (state.bigPtes & (1 << piece)) === 0) return;
    newState.pteIs2m = false;
    newState.bigPtes = state.bigPtes & ~(1 << piece);
    newState.bigPtesCovered = 1 << piece;
    newState.needs4k = true;
  }
  allocPtes(m, block, gpuId, state);
  const push = pushBeginAcquire(m, gpuId - 1, CHANNEL_TYPE_MEMOPS, PURPOSE_PAGE_TREE, block.tracker);
  if (push.status !== NV_OK) return;
  if (state.pteIs2m) split2m(m, push, block, state, gpuId, nothing, 0, PTE_INVALID);
  else writeBigAnd4k(m, push, block, state, gpuId, nothing, 0, PTE_INVALID);
  pushEnd(m, push);
  trackerAddEntry(block.tracker, push.channel, push.trackingValue);
  state.pteIs2m = false;
  state.bigPtes = newState.bigPtes;
  state.initializedBig |= newState.bigPtes;
  state.activatedBig = state.hasBigTable;
  state.activated4k = state.has4kTable;
}
