/**
 * Models the parts of uvm_va_space.c and uvm_va_range.c (driver 580.105.08) that managed memory needs: the VA space
 * with its processor masks, the ranges and the search for the block behind an address. Splitting and destroying ranges
 * is in va_range.ts.
 *
 * Left out: HMM, external and other ranges, channels of the user, the deferred free list.
 */
import { assert } from '../../base/assert.ts';
import { createSlab } from '../../base/slab.ts';
import { PAGES_PER_BLOCK } from '../../base/units.ts';
import { mmCreate } from '../kernel/mm.ts';
import type { Model } from '../state.ts';
import type { ThrashingSpace } from './perf_thrashing_page.ts';
import { CPU_ID, INVALID_ID, MAX_PROCESSORS, type ProcessorMasks } from './processors.ts';
import { NV_ERR_UVM_ADDRESS_IN_USE, NV_OK } from './status.ts';
import { createServiceBlockContext, vaBlockCreate } from './va_block.ts';
import type { VaBlock } from './va_block_types.ts';
import { READ_DUPLICATION_UNSET, type VaRange, type VaSpace } from './va_range_types.ts';

/**
 * Who can do what once all GPUs of the machine are registered: a CPU and PCIe GPUs, which are peers of each other over
 * NVLink or not at all.
 */
export function createProcessorMasks(spec: Model['spec']): ProcessorMasks {
  const gpus = ((1 << spec.gpus) - 1) << 1;
  const masks: ProcessorMasks = {
    canAccess: [1],
    // With Confidential Computing the CPU's memory is out of the GPUs' reach, but for what a copy engine decrypts.
    accessibleFrom: [spec.confidentialComputing ? 1 : gpus | 1],
    canCopyFrom: [gpus | 1],
    hasNativeAtomics: [1],
    hasFastLink: [0],
  };
  assert(spec.gpus + 1 <= MAX_PROCESSORS, 'too many GPUs for a processor mask');
  for (let id = 1; id <= spec.gpus; id++) {
    const self = 1 << id;
    const peers = spec.nvlinkPeers ? gpus & ~self : 0;
    masks.canAccess.push(self | peers | (spec.confidentialComputing ? 0 : 1));
    masks.accessibleFrom.push(self | peers);
    masks.canCopyFrom.push(self | peers | 1);
    masks.hasNativeAtomics.push(self | peers);
    masks.hasFastLink.push(peers);
  }
  return masks;
}

/** uvm_va_space_create with every GPU of the machine registered. */
export function vaSpaceCreate(m: Model, thrashing: ThrashingSpace): VaSpace {
  const space: VaSpace = {
    id: m.vaSpaces.length,
    ranges: [],
    rangeGroups: [],
    rangeGroupRanges: [],
    nextRangeGroupId: 1,
    registeredGpus: ((1 << m.spec.gpus) - 1) << 1,
    processors: createProcessorMasks(m.spec),
    blockCount: 0,
    slab: createSlab(),
    readFreeAt: 0,
    writeFreeAt: 0,
    serviceContext: createServiceBlockContext(m),
    prefetchDisabled: false,
    thrashing,
    thrashingDisabled: false,
    pid: 1000 + m.vaSpaces.length,
    lastRange: 0,
    mm: mmCreate(m.k),
    copy: { fromPage: 0, fromPages: 0, nextPage: -1, nextOffset: 0, armed: 0, records: [] },
  };
  m.vaSpaces.push(space);
  return space;
}

/** Index of the first range that ends after `page`. */
export function vaRangeIndex(space: VaSpace, page: number): number {
  const ranges = space.ranges;
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle].outerPage <= page) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** uvm_va_range_find: the managed range that holds the page, or null. */
export function vaRangeFind(space: VaSpace, page: number): VaRange | null {
  const ranges = space.ranges;
  const guess = ranges[space.lastRange];
  if (guess !== undefined && page >= guess.startPage && page < guess.outerPage) return guess;
  const index = vaRangeIndex(space, page);
  const range = ranges[index];
  if (range === undefined || page < range.startPage) return null;
  space.lastRange = index;
  return range;
}

/** First 2 MiB boundary at or below the range: its block slots are counted from here. */
export function vaRangeBase(range: VaRange): number {
  return Math.floor(range.startPage / PAGES_PER_BLOCK) * PAGES_PER_BLOCK;
}

/** uvm_va_range_num_blocks */
export function vaRangeNumBlocks(startPage: number, outerPage: number): number {
  return Math.ceil(outerPage / PAGES_PER_BLOCK) - Math.floor(startPage / PAGES_PER_BLOCK);
}

/** uvm_mmap: a managed range over `[startPage, startPage + pages)`. No memory is taken. */
export function vaSpaceMmap(space: VaSpace, startPage: number, pages: number, allocation: number): number {
  const index = vaRangeIndex(space, startPage);
  const next = space.ranges[index];
  if (next !== undefined && next.startPage < startPage + pages) return NV_ERR_UVM_ADDRESS_IN_USE;
  const range: VaRange = {
    startPage,
    outerPage: startPage + pages,
    policy: { preferredLocation: INVALID_ID, accessedBy: 0, readDuplication: READ_DUPLICATION_UNSET },
    blocks: new Array<VaBlock | null>(vaRangeNumBlocks(startPage, startPage + pages)).fill(null),
    space,
    allocation,
  };
  space.ranges.splice(index, 0, range);
  space.lastRange = index;
  return NV_OK;
}

/** The block in slot `slot` of a range, made when it is missing (uvm_va_range_block_create). */
export function vaRangeBlockCreate(m: Model, range: VaRange, slot: number): VaBlock {
  const have = range.blocks[slot];
  if (have !== null) return have;
  const boundary = vaRangeBase(range) + slot * PAGES_PER_BLOCK;
  const start = Math.max(range.startPage, boundary);
  const outer = Math.min(range.outerPage, boundary + PAGES_PER_BLOCK);
  const block = vaBlockCreate(range.space.blockCount++, range, start, outer - start, m.spec.gpus);
  range.blocks[slot] = block;
  return block;
}

/** uvm_va_block_find_create_managed: the block of a page, or null where no managed range lies. */
export function vaBlockFindCreate(m: Model, space: VaSpace, page: number): VaBlock | null {
  const range = vaRangeFind(space, page);
  if (range === null) return null;
  return vaRangeBlockCreate(m, range, Math.floor((page - vaRangeBase(range)) / PAGES_PER_BLOCK));
}

/** uvm_va_block_find: the block of a page if there is one already. */
export function vaBlockFind(space: VaSpace, page: number): VaBlock | null {
  const range = vaRangeFind(space, page);
  if (range === null) return null;
  return range.blocks[Math.floor((page - vaRangeBase(range)) / PAGES_PER_BLOCK)];
}

/** Name of a processor as the formats write it. */
export function processorName(id: number): string {
  return id === CPU_ID ? 'cpu' : `gpu${id - 1}`;
}
