/**
 * What happened to single pages: which processors faulted on them and had them, how often they changed sides. Blocks of
 * 2 MiB get their state when they are first seen; there is a limit to how many do, so that no trace takes all memory.
 */
import { PAGES_PER_BLOCK } from '../../base/units.ts';

/** Blocks in one piece of memory. */
const SLAB_BLOCKS = 16;
/** 128 GiB of allocations. */
export const FOLLOWED_BLOCKS = 65_536;
/** Processors with a bit of their own; all further ones share the last bit. */
export const PROCESSOR_BITS = 16;

export const PAGE_WROTE = 1;
/** The first thing that was seen of the page was a fault, and no data has moved to that processor since. */
export const PAGE_FIRST_TOUCH = 2;
/** The prefetch that brought the page was asked for by the program. */
export const PAGE_BY_CALL = 4;

export interface Slab {
  /** Bits of processors: faulted; had the page at some time; had it and lost it since. */
  faulted: Uint16Array;
  held: Uint16Array;
  left: Uint16Array;
  /** Changes of sides, up to 65,535. */
  moves: Uint16Array;
  flags: Uint8Array;
  /** Code + 1 of the processor that touched first, while PAGE_FIRST_TOUCH is set; and that a prefetch brought it to. */
  toucher: Uint16Array;
  prefetchTo: Uint16Array;
  /** Step of that prefetch. */
  prefetchStep: Int32Array;
}

export interface PageHistories {
  slabs: Slab[];
  /** For each followed block: its allocation, and number in it. */
  blockAllocation: number[];
  blockNumber: number[];
  blockFaults: number[];
  /** By allocation: followed blocks by their number in the allocation. */
  ids: Map<number, Map<number, number>>;
  limit: number;
  notFollowed: number;
  withPrefetch: boolean;
  /** The place that was asked for last. */
  lastAllocation: number;
  lastBlock: number;
  lastId: number;
}

export function createPageHistories(withPrefetch: boolean, limit = FOLLOWED_BLOCKS): PageHistories {
  return {
    slabs: [],
    blockAllocation: [],
    blockNumber: [],
    blockFaults: [],
    ids: new Map(),
    limit,
    notFollowed: 0,
    withPrefetch,
    lastAllocation: -1,
    lastBlock: -1,
    lastId: -1,
  };
}

function createSlab(withPrefetch: boolean): Slab {
  const pages = SLAB_BLOCKS * PAGES_PER_BLOCK;
  return {
    faulted: new Uint16Array(pages),
    held: new Uint16Array(pages),
    left: new Uint16Array(pages),
    moves: new Uint16Array(pages),
    flags: new Uint8Array(pages),
    toucher: new Uint16Array(pages),
    prefetchTo: new Uint16Array(withPrefetch ? pages : 0),
    prefetchStep: new Int32Array(withPrefetch ? pages : 0),
  };
}

/** The id of a block, which is followed from now on; -1 where there are too many, or an event has no place. */
export function followBlock(h: PageHistories, allocation: number, block: number): number {
  if (block < 0) return -1;
  if (allocation === h.lastAllocation && block === h.lastBlock) return h.lastId;
  let blocks = h.ids.get(allocation);
  if (blocks === undefined) {
    blocks = new Map();
    h.ids.set(allocation, blocks);
  }
  let id = blocks.get(block);
  if (id === undefined) {
    id = h.blockNumber.length < h.limit ? h.blockNumber.length : -1;
    if (id >= 0) {
      blocks.set(block, id);
      h.blockAllocation.push(allocation);
      h.blockNumber.push(block);
      h.blockFaults.push(0);
      if (id % SLAB_BLOCKS === 0) h.slabs.push(createSlab(h.withPrefetch));
    } else h.notFollowed++;
  }
  h.lastAllocation = allocation;
  h.lastBlock = block;
  h.lastId = id;
  return id;
}

export function slabOf(h: PageHistories, id: number): Slab {
  return h.slabs[Math.floor(id / SLAB_BLOCKS)];
}

/** Index in the arrays of its slab of the block's first page. */
export function slabIndex(id: number): number {
  return (id % SLAB_BLOCKS) * PAGES_PER_BLOCK;
}
