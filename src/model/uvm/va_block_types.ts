/**
 * Models uvm_va_block_types.h and the structures of uvm_va_block.h (driver 580.105.08).
 *
 * A block's masks live in one `Uint32Array` each for the block and for each GPU that touched it, at the offsets below
 * (see base/page_mask.ts). All of it is plain data.
 */
import { MASK_WORDS } from '../../base/page_mask.ts';
import type { BlockThrashing } from './perf_thrashing_types.ts';
import type { Tracker } from './tracker.ts';
import type { VaRange } from './va_range_types.ts';

/** Protections, ascending (uvm_prot_t). */
export const PROT_NONE = 0;
export const PROT_READ_ONLY = 1;
export const PROT_READ_WRITE = 2;
export const PROT_READ_WRITE_ATOMIC = 3;

/** Fault access types by rising intrusiveness (uvm_fault_access_type_t). A mask of them has bit `1 << type`. */
export const ACCESS_PREFETCH = 0;
export const ACCESS_READ = 1;
export const ACCESS_WRITE = 2;
export const ACCESS_ATOMIC_WEAK = 3;
export const ACCESS_ATOMIC_STRONG = 4;

/** Who asked for a service (uvm_service_operation_t). CPU faults use the first one too. */
export const OPERATION_REPLAYABLE_FAULTS = 0;
export const OPERATION_NON_REPLAYABLE_FAULTS = 1;
export const OPERATION_ACCESS_COUNTERS = 2;

/** Why pages are made resident (uvm_make_resident_cause_t), internal numbering. */
export const CAUSE_REPLAYABLE_FAULT = 0;
export const CAUSE_NON_REPLAYABLE_FAULT = 1;
export const CAUSE_ACCESS_COUNTER = 2;
export const CAUSE_PREFETCH = 3;
export const CAUSE_EVICTION = 4;
export const CAUSE_API_TOOLS = 5;
export const CAUSE_API_MIGRATE = 6;
export const CAUSE_API_SET_RANGE_GROUP = 7;
export const CAUSE_API_HINT = 8;

/** Masks in `VaBlock.w`. */
export const B_CPU_RESIDENT = 0;
/** Pages that have a CPU chunk, resident or cached. */
export const B_CPU_ALLOCATED = MASK_WORDS;
/** CPU mappings as the driver believes them. */
export const B_CPU_READ = 2 * MASK_WORDS;
export const B_CPU_WRITE = 3 * MASK_WORDS;
/** CPU page table entries as the kernel holds them (kernel/mm.ts owns these two). */
export const B_MM_PRESENT = 4 * MASK_WORDS;
export const B_MM_WRITE = 5 * MASK_WORDS;
export const B_READ_DUPLICATED = 6 * MASK_WORDS;
export const B_MAYBE_MAPPED = 7 * MASK_WORDS;
export const B_DISCARDED = 8 * MASK_WORDS;
export const B_WORDS = 9 * MASK_WORDS;

/** Masks in `BlockGpuState.w`. */
export const G_RESIDENT = 0;
export const G_EVICTED = MASK_WORDS;
export const G_READ = 2 * MASK_WORDS;
export const G_WRITE = 3 * MASK_WORDS;
export const G_ATOMIC = 4 * MASK_WORDS;
/** Pages backed by a physical chunk. */
export const G_ALLOCATED = 5 * MASK_WORDS;
export const G_WORDS = 6 * MASK_WORDS;

/** State of a block on one GPU (uvm_va_block_gpu_state_t). */
export interface BlockGpuState {
  w: Uint32Array;
  /** Page-table layout: what has been allocated, and what the PDE0 entry points at now. */
  pteIs2m: boolean;
  has2mEntry: boolean;
  hasBigTable: boolean;
  has4kTable: boolean;
  activatedBig: boolean;
  activated4k: boolean;
  /** 64 KiB pieces mapped, or held unmapped, by big PTEs; one bit each. */
  bigPtes: number;
  /** Big PTEs that have been written at least once since the table exists. */
  initializedBig: number;
}

/** A VA block: at most 2 MiB of one managed range (uvm_va_block_struct). Page indices are relative to `startPage`. */
export interface VaBlock {
  /** Index in the VA space's block table; never reused. */
  id: number;
  startPage: number;
  /** True page count, 1 to 512. */
  n: number;
  range: VaRange;
  w: Uint32Array;
  /** Processors with at least one resident page. */
  resident: number;
  /** Processors with at least one valid PTE. */
  mapped: number;
  evictedGpus: number;
  everFullyResident: number;
  /** Pushes that touch the block and may be outstanding. */
  tracker: Tracker;
  /** Virtual time at which the block lock was last released. */
  lockFreeAt: number;
  /** Prefetch bookkeeping (prefetch_info). */
  lastMigrationProc: number;
  faultMigrationsToLastProc: number;
  /** Spurious CPU fault filter (cpu.fault_authorized); stamp 0 = nothing latched. */
  cpuFirstFaultStamp: number;
  cpuFirstPid: number;
  cpuFaultPage: number;
  /**
   * CPU chunks: one 2 MiB chunk, or a bit for each 64 KiB chunk (pieces counted from the 2 MiB boundary), else 4 KiB.
   */
  cpuChunk2m: boolean;
  cpuChunk64k: number;
  /** State by GPU index (processor id - 1); null until the GPU first needs some. */
  gpus: (BlockGpuState | null)[];
  thrashing: BlockThrashing | null;
  dead: boolean;
}

/** Scratch masks in `VaBlockContext.w`; each names its only users. */
export const C_TMP = 0;
/** make_resident: pages that changed residency in this call. */
export const C_CHANGED_RESIDENCY = MASK_WORDS;
export const C_COPY = 2 * MASK_WORDS;
export const C_MIGRATED = 3 * MASK_WORDS;
export const C_POPULATE = 4 * MASK_WORDS;
export const C_UNMAP = 5 * MASK_WORDS;
export const C_MAP = 6 * MASK_WORDS;
export const C_MAP_RUNNING = 7 * MASK_WORDS;
export const C_FIRST_TOUCH = 8 * MASK_WORDS;
export const C_PTE = 9 * MASK_WORDS;
export const C_AFTER = 10 * MASK_WORDS;
export const C_REVOKE = 11 * MASK_WORDS;
export const C_MAP_OTHERS = 12 * MASK_WORDS;
export const C_STAGED = 13 * MASK_WORDS;
export const C_ADD = 14 * MASK_WORDS;
export const C_SOURCE = 15 * MASK_WORDS;
export const C_EXTRA = 16 * MASK_WORDS;
export const C_MIGRATE = 17 * MASK_WORDS;
export const C_PTE2 = 18 * MASK_WORDS;
export const C_WORDS = 19 * MASK_WORDS;

/** Per-thread scratch of the block code (uvm_va_block_context_t). */
export interface VaBlockContext {
  w: Uint32Array;
  /** Processors that took part in copies of the current make_resident call. */
  allInvolvedProcessors: number;
  cause: number;
  /** First error of a push that could not begin, or of a wait, in the current operation; NV_OK. */
  status: number;
}

/** Masks in `ServiceBlockContext.w`. */
export const S_THRASHING_PIN = 0;
export const S_READ_DUPLICATE = MASK_WORDS;
export const S_PREFETCH = 2 * MASK_WORDS;
export const S_DID_NOT_MIGRATE = 3 * MASK_WORDS;
export const S_CALLER = 4 * MASK_WORDS;
/** By protection (1 to 3): pages to map with it. */
export const S_MAPPINGS = 5 * MASK_WORDS;
/** By processor id: pages whose new residency it is. */
export const S_NEW_RESIDENCY = 9 * MASK_WORDS;
/** Words for `processors` processors. */
export function serviceContextWords(processors: number): number {
  return S_NEW_RESIDENCY + processors * MASK_WORDS;
}

/** What one service call works on (uvm_service_block_context_t). */
export interface ServiceBlockContext {
  w: Uint32Array;
  operation: number;
  numRetries: number;
  /** Processors that are the new residency of some page. */
  residentProcessors: number;
  /** Pages in the pin mask and in the read-duplicate mask; a mask is meaningful only when its count is not zero. */
  thrashingPinCount: number;
  readDuplicateCount: number;
  /** Access type by page index; valid for pages in the masks. */
  accessType: Uint8Array;
  /** Region to service, half open. */
  firstPage: number;
  outerPage: number;
  /** Destination of the prefetch hint, or INVALID_ID; its pages are S_PREFETCH. */
  prefetchResidency: number;
  /** CPU faults: whether data was copied (a major fault), and when a throttled fault may go on. */
  didMigrate: boolean;
  wakeupTime: number;
  /** Out-field of vaBlockSelectResidency. */
  readDuplicate: boolean;
  blockContext: VaBlockContext;
}
