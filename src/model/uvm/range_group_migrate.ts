/**
 * Models the part of uvm_range_group.c (driver 580.105.08) that moves data: uvm_range_group_va_range_migrate with
 * uvm_range_group_va_range_migrate_block_locked, uvm_range_group_prevent_migration, and the calls that end in them:
 * uvm_api_set_range_group, uvm_api_prevent_migration_range_groups, uvm_api_allow_migration_range_groups.
 *
 * Left out: GPUs that cannot fault (they alone may be the preferred location of memory that may not migrate), NUMA
 * nodes, allocation retry.
 */
import { maskSetRegion, maskZero } from '../../base/page_mask.ts';
import { PAGES_PER_BLOCK } from '../../base/units.ts';
import { LOCK_ORDER_VA_BLOCK, LOCK_ORDER_VA_SPACE, lockAcquire, lockRelease } from '../kernel/lock.ts';
import type { Model } from '../state.ts';
import { CPU_ID, INVALID_ID, processorFirst, processorNext } from './processors.ts';
import {
  rangeGroupFind,
  rangeGroupMigratedList,
  rangeGroupMigratedPutBack,
  rangeGroupRangeClearMigrated,
  rangeGroupSet,
  rangeGroupsSetMigrationPolicy,
} from './range_group.ts';
import { NV_ERR_INVALID_ARGUMENT, NV_ERR_INVALID_DEVICE, NV_OK } from './status.ts';
import { type Tracker, trackerAddTracker, trackerWait } from './tracker.ts';
import { policyIsReadDuplicate } from './va_block.ts';
import { vaBlockMakeResident, vaBlockMakeResidentReadDuplicate } from './va_block_copy.ts';
import { vaBlockAddMappings, vaBlockUnmap } from './va_block_map.ts';
import { CAUSE_API_SET_RANGE_GROUP, S_THRASHING_PIN, type VaBlock } from './va_block_types.ts';
import type { RangeGroup, VaRange, VaSpace } from './va_range_types.ts';
import { vaRangeBase, vaRangeBlockCreate, vaRangeIndex } from './va_space.ts';

/** Pages `[first, outer)` of a block go to their preferred location; the CPU loses its mappings of them. */
function migrateBlockLocked(m: Model, block: VaBlock, first: number, outer: number): number {
  const { policy, space } = block.range;
  const context = space.serviceContext;
  const bc = context.blockContext;
  const w = context.w;
  // The pin mask is free outside fault service.
  maskZero(w, S_THRASHING_PIN);
  maskSetRegion(w, S_THRASHING_PIN, first, outer);
  vaBlockUnmap(m, block, bc, CPU_ID, w, S_THRASHING_PIN);
  const to = policy.preferredLocation;
  const status = policyIsReadDuplicate(block)
    ? vaBlockMakeResidentReadDuplicate(m, block, bc, to, w, S_THRASHING_PIN, null, 0, CAUSE_API_SET_RANGE_GROUP)
    : vaBlockMakeResident(m, block, bc, to, w, S_THRASHING_PIN, CAUSE_API_SET_RANGE_GROUP);
  if (status !== NV_OK) return status;
  // The driver asks whom the home can reach, not who reaches it: over PCIe a home on the CPU gives no GPU a mapping.
  const mappers = policy.accessedBy & space.processors.canAccess[to] & ~1;
  for (let id = processorFirst(mappers); id !== INVALID_ID; id = processorNext(mappers, id)) {
    vaBlockAddMappings(m, block, bc, id, first, outer);
  }
  return NV_OK;
}

/**
 * uvm_range_group_va_range_migrate: moves the pages `[startPage, outerPage)` of one range to its preferred location,
 * making blocks that are missing. What it began is in `tracker`. Returns a status.
 */
export function rangeGroupVaRangeMigrate(
  m: Model,
  range: VaRange,
  startPage: number,
  outerPage: number,
  tracker: Tracker,
): number {
  const base = vaRangeBase(range);
  const last = Math.floor((outerPage - 1 - base) / PAGES_PER_BLOCK);
  for (let slot = Math.floor((startPage - base) / PAGES_PER_BLOCK); slot <= last; slot++) {
    const block = vaRangeBlockCreate(m, range, slot);
    const first = Math.max(startPage - block.startPage, 0);
    const outer = Math.min(outerPage - block.startPage, block.n);
    lockAcquire(m, LOCK_ORDER_VA_BLOCK, block.id, false);
    if (m.k.now < block.lockFreeAt) m.k.now = block.lockFreeAt;
    m.k.now += m.cost.migrateBlock;
    const status = migrateBlockLocked(m, block, first, outer);
    trackerAddTracker(tracker, block.tracker);
    block.lockFreeAt = m.k.now;
    lockRelease(m, LOCK_ORDER_VA_BLOCK, block.id, false);
    if (status !== NV_OK) return status;
  }
  return NV_OK;
}

/** Moves what lies in `[startPage, outerPage)`, range by range, after `check` has agreed to each. */
function migrateRanges(
  m: Model,
  space: VaSpace,
  startPage: number,
  outerPage: number,
  tracker: Tracker,
  check: (range: VaRange) => number,
): number {
  for (let i = vaRangeIndex(space, startPage); i < space.ranges.length; i++) {
    const range = space.ranges[i];
    if (range.startPage >= outerPage) break;
    let status = check(range);
    if (status === NV_OK) {
      const first = Math.max(range.startPage, startPage);
      status = rangeGroupVaRangeMigrate(m, range, first, Math.min(range.outerPage, outerPage), tracker);
    }
    if (status !== NV_OK) return status;
  }
  return NV_OK;
}

/** Memory that may not migrate needs a preferred location, and none that could fault it away again. */
function checkPreferred(range: VaRange): number {
  const preferred = range.policy.preferredLocation;
  if (preferred === INVALID_ID) return NV_ERR_INVALID_ARGUMENT;
  return preferred === CPU_ID ? NV_OK : NV_ERR_INVALID_DEVICE;
}

/**
 * uvm_range_group_prevent_migration: the intervals whose data may have left go home; after an error they stay listed.
 */
function preventMigration(m: Model, space: VaSpace, group: RangeGroup, tracker: Tracker): number {
  const list = rangeGroupMigratedList(space, group);
  for (let i = 0; i < list.length; i++) {
    rangeGroupRangeClearMigrated(list[i]);
    const status = migrateRanges(m, space, list[i].startPage, list[i].outerPage, tracker, checkPreferred);
    if (status === NV_OK) continue;
    rangeGroupMigratedPutBack(space, list, i);
    return status;
  }
  return NV_OK;
}

/**
 * UVM_PREVENT_MIGRATION_RANGE_GROUPS and UVM_ALLOW_MIGRATION_RANGE_GROUPS: sets the policy of the groups with these
 * ids, and moves their data home when it forbids migration. Returns a status; a failure leaves the policy set.
 */
export function rangeGroupsAllowMigration(m: Model, space: VaSpace, ids: readonly number[], allow: boolean): number {
  lockAcquire(m, LOCK_ORDER_VA_SPACE, space.id, allow);
  m.k.now += m.cost.adviseCall;
  let status = rangeGroupsSetMigrationPolicy(space, ids, allow);
  const tracker: Tracker = [];
  for (let i = 0; i < ids.length && status === NV_OK && !allow; i++) {
    const group = rangeGroupFind(space, ids[i]);
    if (group !== null) status = preventMigration(m, space, group, tracker);
  }
  lockRelease(m, LOCK_ORDER_VA_SPACE, space.id, allow);
  const waited = trackerWait(m, tracker);
  return status === NV_OK ? waited : status;
}

/**
 * UVM_SET_RANGE_GROUP: puts `[startPage, outerPage)` into the group of that id (0: none), and moves the data to the
 * preferred locations when the group may not migrate. Returns a status.
 */
export function rangeGroupSetAndMigrate(
  m: Model,
  space: VaSpace,
  id: number,
  startPage: number,
  outerPage: number,
): number {
  lockAcquire(m, LOCK_ORDER_VA_SPACE, space.id, false);
  m.k.now += m.cost.adviseCall;
  let status = rangeGroupSet(space, id, startPage, outerPage);
  const group = status === NV_OK ? rangeGroupFind(space, id) : null;
  const tracker: Tracker = [];
  if (group !== null && !group.allowMigration) {
    status = migrateRanges(m, space, startPage, outerPage, tracker, () => NV_OK);
  }
  lockRelease(m, LOCK_ORDER_VA_SPACE, space.id, false);
  const waited = trackerWait(m, tracker);
  return status === NV_OK ? waited : status;
}
