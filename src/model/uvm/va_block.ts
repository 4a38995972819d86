/**
 * Models uvm_va_block.c (driver 580.105.08): the block itself, what it knows of residency and mappings, permissions.
 * The rest of that file is split along its own lines: va_block_residency.ts (residency selection), va_block_copy.ts
 * (population, copies, make_resident), va_block_map.ts (map, unmap, revoke), va_block_pte.ts (GPU page tables),
 * va_block_service.ts (service of faults), va_block_cpu_fault.ts, va_range.ts (split), va_block_check.ts (invariants).
 *
 * Left out: HMM, several NUMA nodes, eviction, discard ioctl (its masks are honoured), GPUs that cannot fault.
 */
import { MASK_WORDS, maskIsEmpty, maskTest } from '../../base/page_mask.ts';
import { slabTake } from '../../base/slab.ts';
import { PAGES_PER_BIG_PAGE, PAGES_PER_BLOCK, pageInBigPage } from '../../base/units.ts';
import type { Model } from '../state.ts';
import { CPU_ID, INVALID_ID, processorFindClosest } from './processors.ts';
import { rangeGroupMigratable } from './range_group.ts';
import { NV_ERR_INVALID_ACCESS_TYPE, NV_ERR_INVALID_OPERATION, NV_OK } from './status.ts';
import { createTracker } from './tracker.ts';
import {
  ACCESS_ATOMIC_STRONG,
  ACCESS_READ,
  B_CPU_READ,
  B_CPU_RESIDENT,
  B_CPU_WRITE,
  B_READ_DUPLICATED,
  B_WORDS,
  type BlockGpuState,
  C_WORDS,
  G_ATOMIC,
  G_READ,
  G_RESIDENT,
  G_WORDS,
  G_WRITE,
  PROT_READ_ONLY,
  PROT_READ_WRITE,
  PROT_READ_WRITE_ATOMIC,
  type ServiceBlockContext,
  serviceContextWords,
  type VaBlock,
  type VaBlockContext,
} from './va_block_types.ts';
import { READ_DUPLICATION_DISABLED, READ_DUPLICATION_ENABLED, type VaRange } from './va_range_types.ts';

/** uvm_va_block_create: a block takes no memory and no page tables. */
export function vaBlockCreate(id: number, range: VaRange, startPage: number, n: number, gpus: number): VaBlock {
  return {
    id,
    startPage,
    n,
    range,
    w: slabTake(range.space.slab, B_WORDS),
    resident: 0,
    mapped: 0,
    evictedGpus: 0,
    everFullyResident: 0,
    tracker: createTracker(),
    lockFreeAt: 0,
    lastMigrationProc: INVALID_ID,
    faultMigrationsToLastProc: 0,
    cpuFirstFaultStamp: 0,
    cpuFirstPid: 0,
    cpuFaultPage: 0,
    cpuChunk2m: false,
    cpuChunk64k: 0,
    gpus: gpus === 1 ? [null] : new Array<BlockGpuState | null>(gpus).fill(null),
    thrashing: null,
    dead: false,
  };
}

export function createVaBlockContext(): VaBlockContext {
  return { w: new Uint32Array(C_WORDS), allInvolvedProcessors: 0, cause: 0, status: NV_OK };
}

/** uvm_service_block_context_alloc */
export function createServiceBlockContext(m: Model): ServiceBlockContext {
  return {
    w: new Uint32Array(serviceContextWords(m.spec.gpus + 1)),
    operation: 0,
    numRetries: 0,
    residentProcessors: 0,
    thrashingPinCount: 0,
    readDuplicateCount: 0,
    accessType: new Uint8Array(PAGES_PER_BLOCK),
    firstPage: 0,
    outerPage: 0,
    prefetchResidency: INVALID_ID,
    didMigrate: false,
    wakeupTime: 0,
    readDuplicate: false,
    blockContext: createVaBlockContext(),
  };
}

/** uvm_va_block_gpu_state_get_alloc */
export function vaBlockGpuStateGetAlloc(block: VaBlock, gpuId: number): BlockGpuState {
  const have = block.gpus[gpuId - 1];
  if (have !== null) return have;
  const state: BlockGpuState = {
    w: slabTake(block.range.space.slab, G_WORDS),
    pteIs2m: false,
    has2mEntry: false,
    hasBigTable: false,
    has4kTable: false,
    activatedBig: false,
    activated4k: false,
    bigPtes: 0,
    initializedBig: 0,
  };
  block.gpus[gpuId - 1] = state;
  return state;
}

/** Words that hold the resident mask of a processor, or null when it has no state; offset by residentOffset. */
export function residentWords(block: VaBlock, id: number): Uint32Array | null {
  if (id === CPU_ID) return block.w;
  const gpu = block.gpus[id - 1];
  return gpu === null ? null : gpu.w;
}

export function residentOffset(id: number): number {
  return id === CPU_ID ? B_CPU_RESIDENT : G_RESIDENT;
}

/** Offset of the mask of pages that a processor maps with at least `protection`. */
export function mappedOffset(id: number, protection: number): number {
  if (id === CPU_ID) return protection === PROT_READ_ONLY ? B_CPU_READ : B_CPU_WRITE;
  return G_READ + (protection - 1) * MASK_WORDS;
}

export function pageIsResident(block: VaBlock, id: number, page: number): boolean {
  const w = residentWords(block, id);
  return w !== null && maskTest(w, residentOffset(id), page);
}

/** uvm_va_block_page_resident_processors */
export function pageResidentProcessors(block: VaBlock, page: number): number {
  let mask = 0;
  let rest = block.resident;
  while (rest !== 0) {
    const bit = rest & -rest;
    rest ^= bit;
    if (pageIsResident(block, 31 - Math.clz32(bit), page)) mask |= bit;
  }
  return mask;
}

/** block_page_authorized_processors: processors that map the page with at least `protection`. */
export function pageAuthorizedProcessors(block: VaBlock, page: number, protection: number): number {
  let mask = 0;
  let rest = block.mapped;
  while (rest !== 0) {
    const bit = rest & -rest;
    rest ^= bit;
    const id = 31 - Math.clz32(bit);
    const w = id === CPU_ID ? block.w : (block.gpus[id - 1] as BlockGpuState).w;
    if (maskTest(w, mappedOffset(id, protection), page)) mask |= bit;
  }
  return mask;
}

/** uvm_va_block_page_get_closest_resident: INVALID_ID when the page is resident nowhere. */
export function pageClosestResident(block: VaBlock, page: number, id: number): number {
  return processorFindClosest(block.range.space.processors, pageResidentProcessors(block, page), id);
}

/** uvm_va_policy_is_read_duplicate (no GPU here that cannot fault). */
export function policyIsReadDuplicate(block: VaBlock): boolean {
  return block.range.policy.readDuplication === READ_DUPLICATION_ENABLED;
}

/** block_region_might_read_duplicate for one page. */
export function pageMightReadDuplicate(block: VaBlock, page: number): boolean {
  const policy = block.range.policy.readDuplication;
  if (policy === READ_DUPLICATION_ENABLED) return true;
  return policy !== READ_DUPLICATION_DISABLED && maskTest(block.w, B_READ_DUPLICATED, page);
}

/** uvm_fault_access_type_to_prot */
export function accessTypeToProt(access: number): number {
  if (access === ACCESS_ATOMIC_STRONG) return PROT_READ_WRITE_ATOMIC;
  return access > ACCESS_READ ? PROT_READ_WRITE : PROT_READ_ONLY;
}

/** uvm_va_block_page_is_gpu_authorized: the driver's own PTE state says the GPU has the right already. */
export function vaBlockPageIsGpuAuthorized(block: VaBlock, page: number, gpuId: number, protection: number): boolean {
  const state = block.gpus[gpuId - 1];
  if (state === null) return false;
  const offset = protection === PROT_READ_ONLY ? G_READ : protection === PROT_READ_WRITE ? G_WRITE : G_ATOMIC;
  return maskTest(state.w, offset, page);
}

/**
 * uvm_va_block_check_logical_permissions. Managed allocations are readable and writable here, so only range groups that
 * may not migrate can refuse.
 */
export function vaBlockCheckLogicalPermissions(
  _m: Model,
  block: VaBlock,
  processor: number,
  page: number,
  _protection: number,
): number {
  const space = block.range.space;
  if (space.rangeGroupRanges.length === 0) return NV_OK;
  if (rangeGroupMigratable(space, block.startPage + page)) return NV_OK;
  if (processor === CPU_ID) return NV_ERR_INVALID_OPERATION;
  const preferred = block.range.policy.preferredLocation;
  if (preferred !== INVALID_ID && (space.processors.accessibleFrom[preferred] & (1 << processor)) !== 0) return NV_OK;
  return NV_ERR_INVALID_ACCESS_TYPE;
}

/** block_set_resident_processor and block_clear_resident_processor, from the state of the mask. */
export function updateResidentProcessor(block: VaBlock, id: number): void {
  const w = residentWords(block, id);
  if (w !== null && !maskIsEmpty(w, residentOffset(id))) block.resident |= 1 << id;
  else block.resident &= ~(1 << id);
}

/** Page index of the first page of the block that starts a 64 KiB piece; may lie beyond the block. */
export function bigPageFirst(block: VaBlock): number {
  const rest = pageInBigPage(block.startPage);
  return rest === 0 ? 0 : PAGES_PER_BIG_PAGE - rest;
}

/** uvm_va_block_num_big_pages: whole 64 KiB pieces inside the block. */
export function bigPageCount(block: VaBlock): number {
  const inside = block.n - bigPageFirst(block);
  return inside < PAGES_PER_BIG_PAGE ? 0 : Math.floor(inside / PAGES_PER_BIG_PAGE);
}

/** The block can be mapped by one 2 MiB entry. */
export function supports2m(block: VaBlock): boolean {
  return block.n === PAGES_PER_BLOCK;
}
