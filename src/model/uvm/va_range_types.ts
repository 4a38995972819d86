/**
 * Structures of uvm_va_range.h, uvm_va_policy.h, uvm_range_group.h and uvm_va_space.h (driver 580.105.08), for managed
 * ranges. External, channel, semaphore-pool and device-P2P ranges are left out, and so is HMM.
 */
import type { Slab } from '../../base/slab.ts';
import type { CopySpace } from '../state.ts';
import type { ThrashingSpace } from './perf_thrashing_page.ts';
import type { ProcessorMasks } from './processors.ts';
import type { ServiceBlockContext, VaBlock } from './va_block_types.ts';

/** uvm_read_duplication_policy_t */
export const READ_DUPLICATION_UNSET = 0;
export const READ_DUPLICATION_ENABLED = 1;
export const READ_DUPLICATION_DISABLED = 2;

/** uvm_va_policy_t */
export interface VaPolicy {
  /** Processor id or INVALID_ID. */
  preferredLocation: number;
  /** Mask of processors. */
  accessedBy: number;
  readDuplication: number;
}

/** A managed range: `[startPage, outerPage)` (uvm_va_range_managed_t). */
export interface VaRange {
  startPage: number;
  outerPage: number;
  policy: VaPolicy;
  /** By 2 MiB slot counted from the 2 MiB boundary at or below `startPage`; null until the block is first needed. */
  blocks: (VaBlock | null)[];
  space: VaSpace;
  /** Index of the scenario's allocation, for reports. */
  allocation: number;
}

/** One interval of a range group. */
export interface RangeGroupRange {
  startPage: number;
  outerPage: number;
  group: RangeGroup;
  /** On the group's list of intervals whose data may have left their place. */
  migrated: boolean;
}

/** uvm_range_group_t */
export interface RangeGroup {
  id: number;
  allowMigration: boolean;
}

/** uvm_va_space_t */
export interface VaSpace {
  /** Index in `Model.vaSpaces`; stands for the kernel pointer in the fault sort. */
  id: number;
  /** Ranges by ascending address. */
  ranges: VaRange[];
  rangeGroups: RangeGroup[];
  rangeGroupRanges: RangeGroupRange[];
  nextRangeGroupId: number;
  /** Mask of GPUs registered with a GPU VA space. */
  registeredGpus: number;
  processors: ProcessorMasks;
  blockCount: number;
  /** Where the masks of blocks are cut from. */
  slab: Slab;
  /** Lock release times (uvm_va_space lock, readers and writers). */
  readFreeAt: number;
  writeFreeAt: number;
  /** Service context of CPU faults and of ioctls on this VA space. */
  serviceContext: ServiceBlockContext;
  /** Test switch: page prefetch off for this VA space. */
  prefetchDisabled: boolean;
  /** Pages to unpin, and their timer. */
  thrashing: ThrashingSpace;
  /** Test switch of the thrashing module. */
  thrashingDisabled: boolean;
  /** Index of the range found last. */
  lastRange: number;
  /** Process id used by the spurious fault filter. */
  pid: number;
  /** The process's address space (kernel/mm.ts). */
  mm: number;
  /** What the copy routine keeps for this VA space. */
  copy: CopySpace;
}
