/**
 * Models the part of uvm_mmu.c (driver 580.105.08) that managed blocks shorter than 2 MiB need: uvm_page_tree_get_ptes
 * and uvm_page_tree_put_ptes as reference counts on the directory entry of a 2 MiB stretch of GPU address space, so
 * that tables made for one short block serve its neighbours too.
 *
 * Left out: the levels above, table memory, splitting of page sizes, external allocations.
 */
import { PAGES_PER_BLOCK } from '../../base/units.ts';
import { PTE_INVALID, PTE_LEVEL_2M, PTE_LEVEL_PDE } from '../gpu/mmu.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_GPU_INTERNAL } from './channel.ts';
import { PURPOSE_PAGE_TREE, pushBeginAcquire, pushEnd, pushPte, pushTlbInvalidate } from './push.ts';
import { NV_OK } from './status.ts';
import { trackerAddEntry } from './tracker.ts';
import type { VaBlock } from './va_block_types.ts';

/** References by 2 MiB index. */
export type PageTree = Map<number, number>;

/** A block takes a range of entries below the directory entry of its 2 MiB; the first taker fills the entry in. */
export function pageTreeGetPtes(m: Model, block: VaBlock, gpuId: number): void {
  m.k.now += m.cost.pageTableAlloc;
  const tree = m.gpus[gpuId - 1].pageTree;
  const index = Math.floor(block.startPage / PAGES_PER_BLOCK);
  const references = tree.get(index) ?? 0;
  tree.set(index, references + 1);
  if (references > 0) return;
  const push = pushBeginAcquire(m, gpuId - 1, CHANNEL_TYPE_GPU_INTERNAL, PURPOSE_PAGE_TREE, block.tracker);
  if (push.status !== NV_OK) return;
  pushPte(m, push, PTE_LEVEL_PDE, index * PAGES_PER_BLOCK, 1, PTE_INVALID);
  pushTlbInvalidate(m, push, index * PAGES_PER_BLOCK, PAGES_PER_BLOCK, true, false);
  pushEnd(m, push);
  trackerAddEntry(block.tracker, push.channel, push.trackingValue);
}

/** Gives back `count` ranges; the last one clears the directory entry. */
export function pageTreePutPtes(m: Model, block: VaBlock, gpuId: number, count: number): void {
  if (count === 0) return;
  const tree = m.gpus[gpuId - 1].pageTree;
  const index = Math.floor(block.startPage / PAGES_PER_BLOCK);
  const references = (tree.get(index) ?? 0) - count;
  if (references > 0) {
    tree.set(index, references);
    return;
  }
  tree.delete(index);
  const push = pushBeginAcquire(m, gpuId - 1, CHANNEL_TYPE_GPU_INTERNAL, PURPOSE_PAGE_TREE, block.tracker);
  if (push.status !== NV_OK) return;
  pushPte(m, push, PTE_LEVEL_2M, index * PAGES_PER_BLOCK, 1, PTE_INVALID);
  pushTlbInvalidate(m, push, index * PAGES_PER_BLOCK, PAGES_PER_BLOCK, true, true);
  pushEnd(m, push);
  trackerAddEntry(block.tracker, push.channel, push.trackingValue);
}

/** Block splits: the tables stay, only the number of ranges that refer to them changes. */
export function pageTreeAdopt(m: Model, block: VaBlock, gpuId: number, change: number): void {
  const tree = m.gpus[gpuId - 1].pageTree;
  const index = Math.floor(block.startPage / PAGES_PER_BLOCK);
  tree.set(index, (tree.get(index) ?? 0) + change);
}
