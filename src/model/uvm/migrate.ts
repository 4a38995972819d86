/**
 * Models uvm_migrate.c (driver 580.105.08): UVM_MIGRATE as cudaMemPrefetchAsync uses it, with its two passes, and
 * uvm_va_block_migrate_locked.
 *
 * Left out: pageable and HMM memory, asynchronous completion by a user's semaphore, CPU pre-unmap (it needs a fast link
 * between CPU and GPU), NUMA nodes.
 */
import { maskAndNot, maskCopy, maskIsEmpty, maskSetRegion, maskZero } from '../../base/page_mask.ts';
import { PAGES_PER_BLOCK } from '../../base/units.ts';
import {
  LOCK_ORDER_MMAP_LOCK,
  LOCK_ORDER_VA_BLOCK,
  LOCK_ORDER_VA_SPACE,
  lockAcquire,
  lockRelease,
} from '../kernel/lock.ts';
import type { Model } from '../state.ts';
import { INVALID_ID } from './processors.ts';
import { rangeGroupAllMigratable, rangeGroupMigratable } from './range_group.ts';
import { NV_ERR_INVALID_ADDRESS, NV_OK, NV_WARN_MORE_PROCESSING_REQUIRED } from './status.ts';
import { MAP_REMOTE_INVALID, toolsFlush } from './tools.ts';
import { type Tracker, trackerAddTracker, trackerWait } from './tracker.ts';
import { policyIsReadDuplicate } from './va_block.ts';
import { vaBlockMakeResident, vaBlockMakeResidentReadDuplicate } from './va_block_copy.ts';
import { vaBlockAddMappingsAfterMigration, vaBlockMap, vaBlockMigrateMapMappedPages } from './va_block_map.ts';
import {
  B_DISCARDED,
  B_MAYBE_MAPPED,
  CAUSE_API_MIGRATE,
  PROT_READ_WRITE_ATOMIC,
  S_CALLER,
  S_DID_NOT_MIGRATE,
  S_THRASHING_PIN,
  type VaBlock,
} from './va_block_types.ts';
import type { VaRange, VaSpace } from './va_range_types.ts';
import { vaRangeBase, vaRangeBlockCreate, vaRangeIndex } from './va_space.ts';

/** block_migrate_add_mappings: pages mapped nowhere get everything, the others what is safe. */
function blockMigrateAddMappings(m: Model, block: VaBlock, first: number, outer: number, destination: number): void {
  const context = block.range.space.serviceContext;
  const bc = context.blockContext;
  const w = context.w;
  maskZero(w, S_CALLER);
  maskSetRegion(w, S_CALLER, first, outer);
  maskAndNot(w, S_CALLER, block.w, B_MAYBE_MAPPED);
  vaBlockMap(m, block, bc, destination, w, S_CALLER, PROT_READ_WRITE_ATOMIC, MAP_REMOTE_INVALID);
  vaBlockAddMappingsAfterMigration(m, block, bc, destination, destination, w, S_CALLER, PROT_READ_WRITE_ATOMIC, 0);
  maskZero(w, S_DID_NOT_MIGRATE);
  maskSetRegion(w, S_DID_NOT_MIGRATE, first, outer);
  vaBlockMigrateMapMappedPages(m, block, bc, w, S_DID_NOT_MIGRATE, destination);
}

/** uvm_va_block_migrate_locked on the pages `[first, outer)` of a block. */
function vaBlockMigrateLocked(
  m: Model,
  block: VaBlock,
  first: number,
  outer: number,
  destination: number,
  map: boolean,
): number {
  const context = block.range.space.serviceContext;
  const bc = context.blockContext;
  const w = context.w;
  let status = NV_OK;
  // The pin mask is free outside fault service: it holds the pages to move.
  maskZero(w, S_THRASHING_PIN);
  maskSetRegion(w, S_THRASHING_PIN, first, outer);
  if (policyIsReadDuplicate(block)) {
    maskCopy(w, S_CALLER, w, S_THRASHING_PIN);
    maskAndNot(w, S_CALLER, block.w, B_DISCARDED);
    if (!maskIsEmpty(w, S_CALLER)) {
      status = vaBlockMakeResidentReadDuplicate(m, block, bc, destination, w, S_CALLER, null, 0, CAUSE_API_MIGRATE);
    }
    maskAndNot(w, S_THRASHING_PIN, w, S_CALLER);
    if (status === NV_OK && !maskIsEmpty(w, S_THRASHING_PIN)) {
      const preferred = block.range.policy.preferredLocation;
      const to = preferred === INVALID_ID ? destination : preferred;
      status = vaBlockMakeResident(m, block, bc, to, w, S_THRASHING_PIN, CAUSE_API_MIGRATE);
    }
  } else {
    status = vaBlockMakeResident(m, block, bc, destination, w, S_THRASHING_PIN, CAUSE_API_MIGRATE);
  }
  if (status === NV_OK && map) blockMigrateAddMappings(m, block, first, outer, destination);
  return status;
}

/** uvm_va_range_migrate on `[startPage, outerPage)` of one range, all of it migratable. */
function rangeMigrate(
  m: Model,
  range: VaRange,
  startPage: number,
  outerPage: number,
  destination: number,
  map: boolean,
  tracker: Tracker,
): number {
  const base = vaRangeBase(range);
  const last = Math.floor((outerPage - 1 - base) / PAGES_PER_BLOCK);
  for (let slot = Math.floor((startPage - base) / PAGES_PER_BLOCK); slot <= last; slot++) {
    const block = vaRangeBlockCreate(m, range, slot);
    lockAcquire(m, LOCK_ORDER_VA_BLOCK, block.id, false);
    if (m.k.now < block.lockFreeAt) m.k.now = block.lockFreeAt;
    m.k.now += m.cost.migrateBlock;
    const first = Math.max(startPage - block.startPage, 0);
    const outer = Math.min(outerPage - block.startPage, block.n);
    const status = vaBlockMigrateLocked(m, block, first, outer, destination, map);
    trackerAddTracker(tracker, block.tracker);
    block.lockFreeAt = m.k.now;
    lockRelease(m, LOCK_ORDER_VA_BLOCK, block.id, false);
    if (status !== NV_OK) return status;
  }
  return NV_OK;
}

/** uvm_migrate_ranges: one pass over the ranges; intervals that may not migrate are skipped. */
function migrateRanges(
  m: Model,
  space: VaSpace,
  startPage: number,
  outerPage: number,
  destination: number,
  map: boolean,
  tracker: Tracker,
): number {
  let page = startPage;
  let skipped = false;
  for (let i = vaRangeIndex(space, startPage); page < outerPage; i++) {
    const range = space.ranges[i];
    if (range === undefined || range.startPage > page) return NV_ERR_INVALID_ADDRESS;
    const end = Math.min(range.outerPage, outerPage);
    if (rangeGroupAllMigratable(space, page, end)) {
      const status = rangeMigrate(m, range, page, end, destination, map, tracker);
      if (status !== NV_OK) return status;
    } else {
      skipped = skipped || range.policy.preferredLocation !== destination;
      let first = page;
      while (first < end) {
        const migratable = rangeGroupMigratable(space, first);
        let outer = first + 1;
        while (outer < end && rangeGroupMigratable(space, outer) === migratable) outer++;
        if (migratable) {
          const status = rangeMigrate(m, range, first, outer, destination, map, tracker);
          if (status !== NV_OK) return status;
        }
        first = outer;
      }
    }
    page = end;
  }
  return skipped ? NV_WARN_MORE_PROCESSING_REQUIRED : NV_OK;
}

/**
 * uvm_migrate, synchronous: makes `[startPage, outerPage)` resident at `destination` and maps it there. Several blocks
 * take two passes, moving first and mapping second. Returns a status.
 */
export function uvmMigrate(
  m: Model,
  space: VaSpace,
  startPage: number,
  outerPage: number,
  destination: number,
): number {
  lockAcquire(m, LOCK_ORDER_MMAP_LOCK, space.id, true);
  lockAcquire(m, LOCK_ORDER_VA_SPACE, space.id, true);
  if (m.res.why !== null) {
    m.res.why.enter('uvm_api_migrate', m.k.now, { startPage, outerPage, processor: destination });
  }
  m.k.now += m.cost.migrateCall;
  const first = space.ranges[vaRangeIndex(space, startPage)];
  let status = NV_ERR_INVALID_ADDRESS;
  const tracker: Tracker = [];
  if (first !== undefined && first.startPage <= startPage) {
    const base = vaRangeBase(first);
    const single =
      outerPage <= first.outerPage &&
      Math.floor((startPage - base) / PAGES_PER_BLOCK) === Math.floor((outerPage - 1 - base) / PAGES_PER_BLOCK);
    status = migrateRanges(m, space, startPage, outerPage, destination, single, tracker);
    if (!single && (status === NV_OK || status === NV_WARN_MORE_PROCESSING_REQUIRED)) {
      status = migrateRanges(m, space, startPage, outerPage, destination, true, tracker);
    }
  }
  lockRelease(m, LOCK_ORDER_VA_SPACE, space.id, true);
  lockRelease(m, LOCK_ORDER_MMAP_LOCK, space.id, true);
  const waited = trackerWait(m, tracker);
  toolsFlush(m);
  return status === NV_OK ? waited : status;
}
