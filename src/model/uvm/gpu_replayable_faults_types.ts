/**
 * Structures and small rules of the replayable fault path: uvm_gpu.h (uvm_replayable_fault_buffer_t,
 * uvm_fault_service_batch_context_t, uvm_fault_buffer_entry_t, uvm_fault_utlb_info_t), uvm_hal_types.h (fault types),
 * uvm_tools.c (uvm_tools_status_to_fatal_fault_reason); driver 580.105.08.
 *
 * The caches of a batch are parallel typed arrays, one row for each entry; a "fault" below is the number of its row.
 * There is no MIG here, so every fault of a buffer belongs to the one GPU, and rows do not name it.
 */

import {
  NV_ERR_INVALID_ACCESS_TYPE,
  NV_ERR_INVALID_ADDRESS,
  NV_ERR_INVALID_OPERATION,
  NV_ERR_NO_MEMORY,
} from './status.ts';
import type { Tracker } from './tracker.ts';
import type { ServiceBlockContext } from './va_block_types.ts';

/** When replays are issued (uvm_perf_fault_replay_policy_t). */
export const REPLAY_POLICY_BLOCK = 0;
export const REPLAY_POLICY_BATCH = 1;
export const REPLAY_POLICY_BATCH_FLUSH = 2;
export const REPLAY_POLICY_ONCE = 3;
export const REPLAY_POLICY_MAX = 4;

/** uvm_fault_replay_type_t */
export const REPLAY_TYPE_START = 0;
export const REPLAY_TYPE_START_ACK_ALL = 1;

/** uvm_gpu_buffer_flush_mode_t */
export const FLUSH_MODE_CACHED_PUT = 0;
export const FLUSH_MODE_UPDATE_PUT = 1;
export const FLUSH_MODE_WAIT_UPDATE_PUT = 2;

/** Fetch up to a batch, stopping at an entry that is not valid yet; or all that is in the buffer. */
export const FETCH_MODE_BATCH_READY = 0;
export const FETCH_MODE_ALL = 1;

/** Which accesses a precise cancel ends (uvm_fault_cancel_va_mode_t). */
export const CANCEL_VA_MODE_ALL = 0;
export const CANCEL_VA_MODE_WRITE_AND_ATOMIC = 1;

/** Why a fault is fatal (UvmEventFatalReason). */
export const FATAL_REASON_INVALID = 0;
export const FATAL_REASON_INVALID_ADDRESS = 1;
export const FATAL_REASON_INVALID_PERMISSIONS = 2;
export const FATAL_REASON_INVALID_FAULT_TYPE = 3;
export const FATAL_REASON_OUT_OF_MEMORY = 4;
export const FATAL_REASON_INTERNAL_ERROR = 5;
export const FATAL_REASON_INVALID_OPERATION = 6;

/** Flags of a cached fault. */
export const FAULT_IS_FATAL = 1;
/** Merged into another entry: reported with it, not serviced. */
export const FAULT_FILTERED = 2;
export const FAULT_THROTTLED = 4;
export const FAULT_INVALID_PREFETCH = 8;

/** InstancePointer.vaSpace of a channel that is gone, and of one whose subcontext is gone while its TSG still runs. */
export const INSTANCE_CHANNEL_GONE = -1;
export const INSTANCE_SUBCONTEXT_GONE = -2;

/** Hardware fault types that the driver services: PDE, PTE, RO violation, WO violation, atomic violation. */
const SERVICEABLE = (1 << 0) | (1 << 2) | (1 << 6) | (1 << 7) | (1 << 15);

/** True for the fault types that nobody can service (>= UVM_FAULT_TYPE_FATAL); `faultType` is the hardware's. */
export function faultTypeIsFatal(faultType: number): boolean {
  return (SERVICEABLE & (1 << faultType)) === 0 || faultType > 15;
}

/** uvm_tools_status_to_fatal_fault_reason */
export function statusToFatalFaultReason(status: number): number {
  switch (status) {
    case NV_ERR_INVALID_ADDRESS:
      return FATAL_REASON_INVALID_ADDRESS;
    case NV_ERR_INVALID_ACCESS_TYPE:
      return FATAL_REASON_INVALID_PERMISSIONS;
    case NV_ERR_NO_MEMORY:
      return FATAL_REASON_OUT_OF_MEMORY;
    case NV_ERR_INVALID_OPERATION:
      return FATAL_REASON_INVALID_OPERATION;
    default:
      return FATAL_REASON_INTERNAL_ERROR;
  }
}

/** Rows of fetched entries (fault_cache). */
export interface FaultCache {
  page: Float64Array;
  /** Instance pointer, 4 KiB units, and its aperture as the driver orders them (sysmem before vidmem). */
  instance: Float64Array;
  aperture: Int32Array;
  veId: Uint8Array;
  timestamp: Float64Array;
  /** Hardware fault type. */
  faultType: Uint8Array;
  /** Driver access type, and the mask of those merged into this row. */
  accessType: Uint8Array;
  accessMask: Uint8Array;
  /** Sort key: the more intrusive the access, the lower. */
  accessOrder: Uint8Array;
  clientType: Uint8Array;
  client: Uint8Array;
  gpc: Uint8Array;
  utlb: Uint16Array;
  engineId: Uint16Array;
  flags: Uint8Array;
  fatalReason: Uint8Array;
  cancelVaMode: Uint8Array;
  /** 1 and the entries merged into this row. */
  numInstances: Int32Array;
  /** Ring of the merged entries, through the representative, which is not one of them (merged_instances_list). */
  next: Int32Array;
  prev: Int32Array;
  /** Index in Model.vaSpaces, or -1 before translation. */
  vaSpace: Int32Array;
}

/** Zeroed rows. One buffer holds all columns: it is large, and mostly never touched. */
export function createFaultCache(entries: number): FaultCache {
  const buffer = new ArrayBuffer(entries * 61);
  let at = 0;
  const next = (bytes: number): number => {
    at += entries * bytes;
    return at - entries * bytes;
  };
  const doubles = (): Float64Array => new Float64Array(buffer, next(8), entries);
  const ints = (): Int32Array => new Int32Array(buffer, next(4), entries);
  const shorts = (): Uint16Array => new Uint16Array(buffer, next(2), entries);
  const bytes = (): Uint8Array => new Uint8Array(buffer, next(1), entries);
  // By falling size, so that every column is aligned.
  return {
    page: doubles(),
    instance: doubles(),
    timestamp: doubles(),
    aperture: ints(),
    numInstances: ints(),
    next: ints(),
    prev: ints(),
    vaSpace: ints(),
    utlb: shorts(),
    engineId: shorts(),
    veId: bytes(),
    faultType: bytes(),
    accessType: bytes(),
    accessMask: bytes(),
    accessOrder: bytes(),
    clientType: bytes(),
    client: bytes(),
    gpc: bytes(),
    flags: bytes(),
    fatalReason: bytes(),
    cancelVaMode: bytes(),
  };
}

/** What is remembered of each uTLB during a batch (utlbs). */
export interface FaultUtlbs {
  numPendingFaults: Int32Array;
  lastFault: Int32Array;
  hasFatalFaults: Uint8Array;
}

/** uvm_fault_service_batch_context_t */
export interface FaultBatchContext {
  faultCache: FaultCache;
  /** Representatives, first in fetch order, then in service order. */
  orderedFaultCache: Int32Array;
  utlbs: FaultUtlbs;
  maxUtlbId: number;
  numCachedFaults: number;
  numCoalescedFaults: number;
  numInvalidPrefetchFaults: number;
  numDuplicateFaults: number;
  numReplays: number;
  /** Of the batches begun so far; 1 for the first one. */
  batchId: number;
  /** Last representative in fetch order (it may have been merged since), or -1. */
  lastFault: number;
  isSingleInstancePtr: boolean;
  hasThrottledFaults: boolean;
  /** VA space of the first fatal fault, or -1. */
  fatalVaSpace: number;
  /** Work that the batches of this bottom half have begun. */
  tracker: Tracker;
}

/** uvm_replayable_fault_buffer_t, and what concerns replayable faults in uvm_fault_buffer_t. */
export interface ReplayableFaults {
  maxFaults: number;
  maxBatchSize: number;
  /** The driver's copies of the hardware's registers. */
  cachedGet: number;
  cachedPut: number;
  utlbCount: number;
  replayTracker: Tracker;
  replayPolicy: number;
  replayUpdatePutRatio: number;
  prefetchFaultsEnabled: boolean;
  /** When prefetch faults were disabled last, ns. */
  disablePrefetchFaultsTimestamp: number;
  /** Time after which they are enabled again, ms; 0: they are never disabled. A test may change it. */
  reenablePrefetchFaultsLapseMsec: number;
  batch: FaultBatchContext;
  blockServiceContext: ServiceBlockContext;
}
