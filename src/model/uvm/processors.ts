/**
 * Models uvm_processors.h (driver 580.105.08): processor ids and masks.
 *
 * Id 0 is the CPU, GPU n has id n + 1. A mask of processors is a number with bit `id` set, so at most 31 GPUs fit
 * (the driver's own limit of 32 physical GPUs is out of a model machine's reach). MIG instances are left out.
 */
export const CPU_ID = 0;
export const INVALID_ID = -1;
export const MAX_PROCESSORS = 9;

/** Lowest id in the mask, or INVALID_ID when it is empty. */
export function processorFirst(mask: number): number {
  return mask === 0 ? INVALID_ID : 31 - Math.clz32(mask & -mask);
}

/** Lowest id above `id` in the mask, or INVALID_ID. */
export function processorNext(mask: number, id: number): number {
  return processorFirst(mask & (-2 << id));
}

/**
 * What processors can do to each other, fixed when the GPUs are registered (uvm_va_space.c, uvm_va_space_register_gpu).
 * Each array is indexed by processor id and holds a mask of ids.
 */
export interface ProcessorMasks {
  /** canAccess[X]: whose memory X can map. */
  canAccess: number[];
  /** accessibleFrom[X]: who can map memory of X. */
  accessibleFrom: number[];
  /** canCopyFrom[X]: whose memory a copy engine used for X can read directly. */
  canCopyFrom: number[];
  /** hasNativeAtomics[X]: who does atomics on memory of X without a mapping downgrade elsewhere. */
  hasNativeAtomics: number[];
  /** hasFastLink[X]: who reaches X over NVLink or a coherent link. */
  hasFastLink: number[];
}

/** Closest processor to `src` among `candidates` (uvm_processor_mask_find_closest_id), or INVALID_ID when none. */
export function processorFindClosest(masks: ProcessorMasks, candidates: number, src: number): number {
  if (candidates === 0) return INVALID_ID;
  if ((candidates & (1 << src)) !== 0) return src;
  const fast = candidates & masks.hasFastLink[src];
  if (fast !== 0) return (fast & ~1) !== 0 ? processorFirst(fast & ~1) : CPU_ID;
  const reachable = candidates & masks.canAccess[src];
  if (reachable !== 0) return (reachable & ~1) !== 0 ? processorFirst(reachable & ~1) : CPU_ID;
  return processorFirst(candidates);
}
