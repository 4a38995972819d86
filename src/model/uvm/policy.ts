/**
 * Models uvm_policy.c with the range-level parts of uvm_va_range.c (driver 580.105.08): SET/UNSET_PREFERRED_LOCATION,
 * SET/UNSET_ACCESSED_BY, ENABLE/DISABLE_READ_DUPLICATION and the range-group calls. Each validates full coverage,
 * splits ranges at both ends where the policy differs, and acts on what is left inside. Splits are never merged back.
 *
 * Left out: HMM and ATS memory, NUMA nodes, GPUs that cannot fault, discard.
 */
import { maskAnd, maskAndNot, maskCopy, maskIsEmpty } from '../../base/page_mask.ts';
import {
  LOCK_ORDER_MMAP_LOCK,
  LOCK_ORDER_VA_BLOCK,
  LOCK_ORDER_VA_SPACE,
  lockAcquire,
  lockRelease,
} from '../kernel/lock.ts';
import type { Model } from '../state.ts';
import { CPU_ID, INVALID_ID, processorFirst, processorNext } from './processors.ts';
import {
  createRangeGroupIter,
  rangeGroupAllMigratable,
  rangeGroupAssignRange,
  rangeGroupMarkMigrated,
  rangeGroupMigratabilityFirst,
  rangeGroupMigratabilityNextSafe,
} from './range_group.ts';
import { rangeGroupVaRangeMigrate } from './range_group_migrate.ts';
import { NV_ERR_INVALID_ADDRESS, NV_ERR_INVALID_DEVICE, NV_OK } from './status.ts';
import { type Tracker, trackerWait } from './tracker.ts';
import { mappedOffset, policyIsReadDuplicate, residentOffset, residentWords } from './va_block.ts';
import { vaBlockMakeResident, vaBlockMakeResidentReadDuplicate } from './va_block_copy.ts';
import { vaBlockAddMappings, vaBlockUnmap } from './va_block_map.ts';
import { B_READ_DUPLICATED, CAUSE_API_HINT, PROT_READ_ONLY, S_CALLER, type VaBlock } from './va_block_types.ts';
import { vaRangeSplit } from './va_range.ts';
import {
  READ_DUPLICATION_DISABLED,
  READ_DUPLICATION_ENABLED,
  type VaPolicy,
  type VaRange,
  type VaSpace,
} from './va_range_types.ts';
import { vaRangeFind, vaRangeIndex } from './va_space.ts';

/** Managed ranges cover every page of `[startPage, outerPage)` (uvm_api_range_type_check). */
function isCovered(space: VaSpace, startPage: number, outerPage: number): boolean {
  let page = startPage;
  for (let i = vaRangeIndex(space, startPage); page < outerPage; i++) {
    const range = space.ranges[i];
    if (range === undefined || range.startPage > page) return false;
    page = range.outerPage;
  }
  return true;
}

/** split_as_needed */
function splitAsNeeded(m: Model, space: VaSpace, page: number, differs: (policy: VaPolicy) => boolean): void {
  const range = vaRangeFind(space, page);
  if (range === null || range.startPage === page) return;
  if (differs(range.policy)) vaRangeSplit(m, range, page);
}

/**
 * Common frame of the advice calls: lock for writing, check coverage, split at both ends where `differs` says so, then
 * visit each range inside.
 */
function forEachRange(
  m: Model,
  space: VaSpace,
  startPage: number,
  outerPage: number,
  differs: (policy: VaPolicy) => boolean,
  visit: (range: VaRange) => number,
): number {
  lockAcquire(m, LOCK_ORDER_MMAP_LOCK, space.id, false);
  lockAcquire(m, LOCK_ORDER_VA_SPACE, space.id, false);
  m.k.now += m.cost.adviseCall;
  let status = NV_ERR_INVALID_ADDRESS;
  if (outerPage > startPage && isCovered(space, startPage, outerPage)) {
    status = NV_OK;
    splitAsNeeded(m, space, startPage, differs);
    splitAsNeeded(m, space, outerPage, differs);
    for (let i = vaRangeIndex(space, startPage); i < space.ranges.length && status === NV_OK; i++) {
      const range = space.ranges[i];
      if (range.startPage >= outerPage) break;
      status = visit(range);
    }
  }
  lockRelease(m, LOCK_ORDER_VA_SPACE, space.id, false);
  lockRelease(m, LOCK_ORDER_MMAP_LOCK, space.id, false);
  return status;
}

/** Runs `act` on each block of a range that exists, under its lock. */
function forEachBlock(m: Model, range: VaRange, act: (block: VaBlock) => number): number {
  for (const block of range.blocks) {
    if (block === null) continue;
    lockAcquire(m, LOCK_ORDER_VA_BLOCK, block.id, false);
    if (m.k.now < block.lockFreeAt) m.k.now = block.lockFreeAt;
    m.k.now += m.cost.adviseBlock;
    const status = act(block);
    block.lockFreeAt = m.k.now;
    lockRelease(m, LOCK_ORDER_VA_BLOCK, block.id, false);
    if (status !== NV_OK) return status;
  }
  return NV_OK;
}

/** uvm_va_block_set_accessed_by: maps what the processor may reach, and waits. Read duplication takes precedence. */
function blockSetAccessedBy(m: Model, block: VaBlock, processor: number): number {
  if (policyIsReadDuplicate(block)) return NV_OK;
  vaBlockAddMappings(m, block, block.range.space.serviceContext.blockContext, processor);
  return trackerWait(m, block.tracker);
}

/** preferred_location_unmap_remote_pages: the preferred processor loses its mappings of pages that live elsewhere. */
function unmapRemotePages(m: Model, block: VaBlock, preferred: number): void {
  if (preferred === INVALID_ID || (block.mapped & (1 << preferred)) === 0 || policyIsReadDuplicate(block)) return;
  const context = block.range.space.serviceContext;
  const words = residentWords(block, preferred) as Uint32Array;
  maskCopy(context.w, S_CALLER, words, mappedOffset(preferred, PROT_READ_ONLY));
  maskAndNot(context.w, S_CALLER, words, residentOffset(preferred));
  if (!maskIsEmpty(context.w, S_CALLER)) {
    vaBlockUnmap(m, block, context.blockContext, preferred, context.w, S_CALLER);
  }
}

/** Iterator of the two functions below, reused. */
const windows = createRangeGroupIter();

/** Memory that may not migrate goes to its new preferred location at once. */
function migrateNonMigratable(m: Model, space: VaSpace, startPage: number, outerPage: number): number {
  const tracker: Tracker = [];
  let status = NV_OK;
  for (let i = vaRangeIndex(space, startPage); i < space.ranges.length && status === NV_OK; i++) {
    const range = space.ranges[i];
    if (range.startPage >= outerPage) break;
    const end = Math.min(range.outerPage, outerPage);
    rangeGroupMigratabilityFirst(space, Math.max(range.startPage, startPage), end, windows);
    for (; windows.valid && status === NV_OK; rangeGroupMigratabilityNextSafe(space, windows, end)) {
      if (windows.migratable) continue;
      status = rangeGroupVaRangeMigrate(m, range, windows.startPage, windows.outerPage, tracker);
    }
  }
  const waited = trackerWait(m, tracker);
  return status === NV_OK ? waited : status;
}

/** uvm_va_range_set_preferred_location */
function rangeSetPreferredLocation(m: Model, range: VaRange, preferred: number): number {
  const policy = range.policy;
  if (policy.preferredLocation === preferred) return NV_OK;
  const space = range.space;
  rangeGroupMarkMigrated(space, range.startPage, range.outerPage);
  if (preferred === INVALID_ID && space.rangeGroupRanges.length > 0) {
    // Intervals that may not migrate lose their group with their preferred location.
    const end = range.outerPage;
    rangeGroupMigratabilityFirst(space, range.startPage, end, windows);
    for (; windows.valid; rangeGroupMigratabilityNextSafe(space, windows, end)) {
      if (!windows.migratable) rangeGroupAssignRange(space, null, windows.startPage, windows.outerPage);
    }
  }
  const old = policy.preferredLocation;
  const again = old !== INVALID_ID && (policy.accessedBy & (1 << old)) !== 0;
  policy.preferredLocation = preferred;
  return forEachBlock(m, range, (block) => {
    const status = again ? blockSetAccessedBy(m, block, old) : NV_OK;
    if (status !== NV_OK) return status;
    unmapRemotePages(m, block, preferred);
    return trackerWait(m, block.tracker);
  });
}

/**
 * uvm_set_preferred_location and uvm_unset_preferred_location (`preferred` = INVALID_ID): moves nothing but what range
 * groups keep from migrating, and refuses a GPU that can fault as the home of that. Pages are absolute and half open,
 * as in all calls below. Returns a status.
 */
export function policySetPreferredLocation(
  m: Model,
  space: VaSpace,
  startPage: number,
  outerPage: number,
  preferred: number,
): number {
  if (m.res.why !== null) {
    const name = preferred === INVALID_ID ? 'uvm_api_unset_preferred_location' : 'uvm_api_set_preferred_location';
    m.res.why.enter(name, m.k.now, { startPage, outerPage, processor: preferred });
  }
  let pinned = false;
  const status = forEachRange(
    m,
    space,
    startPage,
    outerPage,
    (policy) => policy.preferredLocation !== preferred,
    (range) => {
      if (preferred !== INVALID_ID && space.rangeGroupRanges.length > 0) {
        const first = Math.max(range.startPage, startPage);
        if (!rangeGroupAllMigratable(space, first, Math.min(range.outerPage, outerPage))) {
          if (preferred !== CPU_ID) return NV_ERR_INVALID_DEVICE;
          pinned = true;
        }
      }
      return rangeSetPreferredLocation(m, range, preferred);
    },
  );
  return pinned && status === NV_OK ? migrateNonMigratable(m, space, startPage, outerPage) : status;
}

/** uvm_set_accessed_by, uvm_unset_accessed_by: unsetting leaves the mappings that exist. */
export function policySetAccessedBy(
  m: Model,
  space: VaSpace,
  startPage: number,
  outerPage: number,
  processor: number,
  set: boolean,
): number {
  const bit = 1 << processor;
  if (m.res.why !== null) {
    const name = set ? 'uvm_api_set_accessed_by' : 'uvm_api_unset_accessed_by';
    m.res.why.enter(name, m.k.now, { startPage, outerPage, processor });
  }
  return forEachRange(
    m,
    space,
    startPage,
    outerPage,
    (policy) => ((policy.accessedBy & bit) !== 0) !== set,
    (range) => {
      if (!set) {
        rangeGroupMarkMigrated(space, range.startPage, range.outerPage);
        range.policy.accessedBy &= ~bit;
        return NV_OK;
      }
      range.policy.accessedBy |= bit;
      return forEachBlock(m, range, (block) => blockSetAccessedBy(m, block, processor));
    },
  );
}

/** va_block_set_read_duplication_locked: every resident processor keeps its pages, readable only. */
function blockSetReadDuplication(m: Model, block: VaBlock): number {
  const context = block.range.space.serviceContext;
  const residents = block.resident;
  for (let id = processorFirst(residents); id !== INVALID_ID; id = processorNext(residents, id)) {
    maskCopy(context.w, S_CALLER, residentWords(block, id) as Uint32Array, residentOffset(id));
    const status = vaBlockMakeResidentReadDuplicate(
      m,
      block,
      context.blockContext,
      id,
      context.w,
      S_CALLER,
      null,
      0,
      CAUSE_API_HINT,
    );
    if (status !== NV_OK) return status;
  }
  return NV_OK;
}

/** Drops the other copies of pages duplicated with a copy on `id`. */
function collapseTo(m: Model, block: VaBlock, id: number): number {
  const context = block.range.space.serviceContext;
  maskCopy(context.w, S_CALLER, residentWords(block, id) as Uint32Array, residentOffset(id));
  maskAnd(context.w, S_CALLER, block.w, B_READ_DUPLICATED);
  if (maskIsEmpty(context.w, S_CALLER)) return NV_OK;
  return vaBlockMakeResident(m, block, context.blockContext, id, context.w, S_CALLER, CAUSE_API_HINT);
}

/** va_block_unset_read_duplication_locked: the preferred location's copy stays, else the lowest processor's. */
function blockUnsetReadDuplication(m: Model, block: VaBlock): number {
  const policy = block.range.policy;
  const preferred = policy.preferredLocation;
  const context = block.range.space.serviceContext.blockContext;
  if (preferred !== INVALID_ID && (block.resident & (1 << preferred)) !== 0) {
    const status = collapseTo(m, block, preferred);
    if (status !== NV_OK) return status;
  }
  for (let id = processorFirst(block.resident); id !== INVALID_ID; id = processorNext(block.resident, id)) {
    if (id === preferred) continue;
    const status = collapseTo(m, block, id);
    if (status !== NV_OK) return status;
  }
  const processors = policy.accessedBy;
  for (let id = processorFirst(processors); id !== INVALID_ID; id = processorNext(processors, id)) {
    vaBlockAddMappings(m, block, context, id);
  }
  return trackerWait(m, block.tracker);
}

/** uvm_enable_read_duplication, uvm_disable_read_duplication. The policy changes after the blocks. */
export function policySetReadDuplication(
  m: Model,
  space: VaSpace,
  startPage: number,
  outerPage: number,
  enable: boolean,
): number {
  if (m.res.why !== null) {
    const name = enable ? 'uvm_api_enable_read_duplication' : 'uvm_api_disable_read_duplication';
    m.res.why.enter(name, m.k.now, { startPage, outerPage });
  }
  const wanted = enable ? READ_DUPLICATION_ENABLED : READ_DUPLICATION_DISABLED;
  return forEachRange(
    m,
    space,
    startPage,
    outerPage,
    (policy) => (policy.readDuplication === READ_DUPLICATION_ENABLED) !== enable,
    (range) => {
      if ((range.policy.readDuplication === READ_DUPLICATION_ENABLED) === enable) return NV_OK;
      const act = enable ? blockSetReadDuplication : blockUnsetReadDuplication;
      const status = forEachBlock(m, range, (block) => act(m, block));
      range.policy.readDuplication = wanted;
      return status;
    },
  );
}
