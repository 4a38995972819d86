/**
 * Models uvm_range_group.c (driver 580.105.08): sets of VA intervals that share one migration policy.
 *
 * Modelled: uvm_api_create_range_group, uvm_api_destroy_range_group, uvm_api_set_range_group up to the migration,
 * uvm_range_group_assign_range, uvm_range_groups_set_migration_policy up to the migration, lookups, the plain, the
 * migratability and the safe iterator, uvm_range_group_migratable_page_mask, the lists of migrated intervals.
 * Left out: moving the data of a group that becomes non-migratable (uvm_range_group_va_range_migrate), which the caller
 * does with `rangeGroupMigratedList`; the lists' spinlocks.
 *
 * A VA space's intervals are an array of half-open page ranges, sorted by address, without overlap. The driver's tree
 * nodes are positions in it here: a plain or migratability iterator must not be used across a change of the array.
 * Nothing below allocates, and most answers take one test, while a VA space has no interval at all.
 */
import { assert } from '../../base/assert.ts';
import { maskIntersectsRegion, maskSetRegion, maskZero } from '../../base/page_mask.ts';
import { INVALID_ID } from './processors.ts';
import { NV_ERR_INVALID_ADDRESS, NV_ERR_INVALID_ARGUMENT, NV_ERR_OBJECT_NOT_FOUND, NV_OK } from './status.ts';
import type { RangeGroup, RangeGroupRange, VaSpace } from './va_range_types.ts';

/** The group id that stands for no group (UVM_RANGE_GROUP_ID_NONE). */
export const RANGE_GROUP_ID_NONE = 0;
/** UVM_MAX_RANGE_GROUPS_PER_IOCTL_CALL */
export const RANGE_GROUPS_PER_CALL_MAX = 32;
/** Pages in the 64-bit address space: the end of a window without end. */
export const ADDRESS_SPACE_PAGES = 2 ** 52;

/** Every interval is made here, with its place on its group's migrated list: ascending, 0 when not on it. */
interface ListedRange extends RangeGroupRange {
  migratedOrder: number;
}

/** Position of the first interval that ends after `page`. */
function lowerBound(list: RangeGroupRange[], page: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (list[middle].outerPage > page) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The group of that id, or null. */
export function rangeGroupFind(space: VaSpace, id: number): RangeGroup | null {
  for (const group of space.rangeGroups) if (group.id === id) return group;
  return null;
}

/** Makes an empty group that allows migration and returns its id, never RANGE_GROUP_ID_NONE. */
export function rangeGroupCreate(space: VaSpace): number {
  const id = space.nextRangeGroupId++;
  assert(id > RANGE_GROUP_ID_NONE, 'range group ids begin at 1');
  space.rangeGroups.push({ id, allowMigration: true });
  return id;
}

/** Removes a group and all its intervals; NV_ERR_OBJECT_NOT_FOUND when there is no such group. */
export function rangeGroupDestroy(space: VaSpace, id: number): number {
  const group = rangeGroupFind(space, id);
  if (group === null) return NV_ERR_OBJECT_NOT_FOUND;
  space.rangeGroups.splice(space.rangeGroups.indexOf(group), 1);
  space.rangeGroupRanges = space.rangeGroupRanges.filter((range) => range.group !== group);
  return NV_OK;
}

/** Number of intervals of a group (uvm_test_range_group_range_count). */
export function rangeGroupRangeCount(space: VaSpace, group: RangeGroup): number {
  let count = 0;
  for (const range of space.rangeGroupRanges) if (range.group === group) count++;
  return count;
}

/**
 * Puts `[startPage, outerPage)` into a group, or out of every group when it is null (uvm_range_group_assign_range).
 * Intervals in the way are trimmed, split or removed; the new one joins its group's migrated list and is merged with
 * neighbours of the same group. Nothing changes when one interval of that group holds it with room on both sides.
 */
export function rangeGroupAssignRange(
  space: VaSpace,
  group: RangeGroup | null,
  startPage: number,
  outerPage: number,
): void {
  assert(startPage < outerPage, 'an interval of a range group has at least one page');
  const list = space.rangeGroupRanges;
  const first = lowerBound(list, startPage);
  let at = first;
  if (at < list.length && list[at].startPage < startPage) {
    const before = list[at];
    if (before.outerPage > outerPage) {
      if (before.group === group) return;
      splitAround(space, at, startPage, outerPage);
    } else {
      before.outerPage = startPage;
    }
    at++;
  }
  let outer = at;
  while (outer < list.length && list[outer].outerPage <= outerPage) outer++;
  if (outer < list.length && list[outer].startPage < outerPage) list[outer].startPage = outerPage;
  list.splice(at, outer - at);
  if (group !== null) insertMerged(space, group, at, startPage, outerPage);
}

/** Splits the interval at position `at` into what lies before and after a hole; both keep its place on the list. */
function splitAround(space: VaSpace, at: number, startPage: number, outerPage: number): void {
  const before = space.rangeGroupRanges[at];
  const after: ListedRange = {
    startPage: outerPage,
    outerPage: before.outerPage,
    group: before.group,
    migrated: false,
    migratedOrder: 0,
  };
  before.outerPage = startPage;
  space.rangeGroupRanges.splice(at + 1, 0, after);
  if (before.migrated) rangeGroupRangeMarkMigrated(space, after);
}

/** Inserts an interval into the hole at position `at`, with the neighbours it touches if they are of its group. */
function insertMerged(space: VaSpace, group: RangeGroup, at: number, startPage: number, outerPage: number): void {
  const list = space.rangeGroupRanges;
  const range: ListedRange = { startPage, outerPage, group, migrated: false, migratedOrder: 0 };
  list.splice(at, 0, range);
  rangeGroupRangeMarkMigrated(space, range);
  if (at > 0 && list[at - 1].outerPage === startPage && list[at - 1].group === group) {
    range.startPage = list[at - 1].startPage;
    list.splice(at - 1, 1);
    at--;
  }
  if (at + 1 < list.length && list[at + 1].startPage === outerPage && list[at + 1].group === group) {
    range.outerPage = list[at + 1].outerPage;
    list.splice(at + 1, 1);
  }
}

/** True when managed ranges cover `[startPage, outerPage)` without a gap, each with a preferred location if asked. */
function rangesCover(space: VaSpace, startPage: number, outerPage: number, withPreferred: boolean): boolean {
  let page = startPage;
  for (const range of space.ranges) {
    if (range.outerPage <= page) continue;
    if (range.startPage > page) return false;
    if (withPreferred && range.policy.preferredLocation === INVALID_ID) return false;
    page = range.outerPage;
    if (page >= outerPage) return true;
  }
  return false;
}

/**
 * UvmSetRangeGroup without its migration: puts `[startPage, outerPage)` into the group of that id, or into none for
 * RANGE_GROUP_ID_NONE. If the group does not allow migration the caller then moves the data of the pages.
 *
 * NV_ERR_INVALID_ADDRESS when the pages are none, begin at address 0 or are not all managed, or when the group does
 * not allow migration and some page has no preferred location; NV_ERR_OBJECT_NOT_FOUND when there is no such group.
 */
export function rangeGroupSet(space: VaSpace, id: number, startPage: number, outerPage: number): number {
  if (startPage <= 0 || outerPage <= startPage) return NV_ERR_INVALID_ADDRESS;
  const group = rangeGroupFind(space, id);
  if (group === null && id !== RANGE_GROUP_ID_NONE) return NV_ERR_OBJECT_NOT_FOUND;
  const pinned = group !== null && !group.allowMigration;
  if (!rangesCover(space, startPage, outerPage, pinned)) return NV_ERR_INVALID_ADDRESS;
  rangeGroupAssignRange(space, group, startPage, outerPage);
  return NV_OK;
}

/**
 * Sets whether groups allow migration (uvm_range_groups_set_migration_policy). After forbidding it the caller goes
 * through `rangeGroupMigratedList` of each group and moves the data to the preferred locations.
 *
 * NV_ERR_INVALID_ARGUMENT for no id or more than RANGE_GROUPS_PER_CALL_MAX; NV_ERR_OBJECT_NOT_FOUND at the first id
 * that names no group, with the groups before it changed already.
 */
export function rangeGroupsSetMigrationPolicy(space: VaSpace, ids: readonly number[], allow: boolean): number {
  if (ids.length === 0 || ids.length > RANGE_GROUPS_PER_CALL_MAX) return NV_ERR_INVALID_ARGUMENT;
  for (const id of ids) {
    const group = rangeGroupFind(space, id);
    if (group === null) return NV_ERR_OBJECT_NOT_FOUND;
    group.allowMigration = allow;
  }
  return NV_OK;
}

/** The interval that holds a page, or null (uvm_range_group_range_find). */
export function rangeGroupRangeFind(space: VaSpace, page: number): RangeGroupRange | null {
  const list = space.rangeGroupRanges;
  if (list.length === 0) return null;
  const at = lowerBound(list, page);
  return at < list.length && list[at].startPage <= page ? list[at] : null;
}

/**
 * Position in `space.rangeGroupRanges` of the first interval that overlaps `[startPage, ...)`; the intervals of a
 * window are this one and those after it that start before the window's end (uvm_range_group_range_iter_first).
 */
export function rangeGroupRangeFirst(space: VaSpace, startPage: number): number {
  return lowerBound(space.rangeGroupRanges, startPage);
}

/** False when the page belongs to a group that does not allow migration (uvm_range_group_address_migratable). */
export function rangeGroupMigratable(space: VaSpace, page: number): boolean {
  const range = rangeGroupRangeFind(space, page);
  return range === null || range.group.allowMigration;
}

/** False when some page of the window belongs to a group that does not allow migration. */
export function rangeGroupAllMigratable(space: VaSpace, startPage: number, outerPage: number): boolean {
  const list = space.rangeGroupRanges;
  for (let i = lowerBound(list, startPage); i < list.length && list[i].startPage < outerPage; i++) {
    if (!list[i].group.allowMigration) return false;
  }
  return true;
}

/** False when every page of the window belongs to a group that does not allow migration. */
export function rangeGroupAnyMigratable(space: VaSpace, startPage: number, outerPage: number): boolean {
  const list = space.rangeGroupRanges;
  let page = startPage;
  for (let i = lowerBound(list, startPage); i < list.length && page < outerPage; i++) {
    if (list[i].startPage > page || list[i].group.allowMigration) return true;
    page = list[i].outerPage;
  }
  return page < outerPage;
}

/**
 * Fills the mask at (d, o) with the migratable pages of the block's pages `[first, outer)` and clears all others
 * (uvm_range_group_migratable_page_mask). Page indices count from the block's `startPage`.
 */
export function rangeGroupMigratablePageMask(
  space: VaSpace,
  startPage: number,
  first: number,
  outer: number,
  d: Uint32Array,
  o: number,
): void {
  maskZero(d, o);
  const list = space.rangeGroupRanges;
  let page = startPage + first;
  const end = startPage + outer;
  for (let i = lowerBound(list, page); i < list.length && list[i].startPage < end; i++) {
    if (list[i].group.allowMigration) continue;
    if (list[i].startPage > page) maskSetRegion(d, o, page - startPage, list[i].startPage - startPage);
    page = list[i].outerPage;
  }
  if (page < end) maskSetRegion(d, o, page - startPage, outer);
}

/** A window `[startPage, outerPage)` of an iteration (uvm_range_group_range_iter_t); reuse it, it is plain data. */
export interface RangeGroupIter {
  startPage: number;
  outerPage: number;
  migratable: boolean;
  /** False past the last window. */
  valid: boolean;
  /** The window lies in the interval at position `node`, not in the gap before it. */
  isCurrent: boolean;
  /** Position of the interval in `space.rangeGroupRanges`, or -1 when none is left. */
  node: number;
}

export function createRangeGroupIter(): RangeGroupIter {
  return { startPage: 0, outerPage: 0, migratable: true, valid: false, isCurrent: false, node: -1 };
}

/** Sets end, kind and migratability of the window that begins at `it.startPage` and has `it.node` ahead or below. */
function settle(space: VaSpace, it: RangeGroupIter, outerPage: number): void {
  if (it.node < 0) {
    it.isCurrent = false;
    it.outerPage = outerPage;
    it.migratable = true;
    return;
  }
  const range = space.rangeGroupRanges[it.node];
  it.isCurrent = it.startPage >= range.startPage;
  const end = it.isCurrent ? range.outerPage : range.startPage;
  it.outerPage = end < outerPage ? end : outerPage;
  it.migratable = !it.isCurrent || range.group.allowMigration;
}

/**
 * First window of the plain iteration over `[startPage, outerPage)`: each interval and each gap between intervals is a
 * window of its own, clipped to the query (uvm_range_group_range_iter_all_first). The query has at least one page.
 */
export function rangeGroupIterAllFirst(space: VaSpace, startPage: number, outerPage: number, it: RangeGroupIter): void {
  const list = space.rangeGroupRanges;
  const node = lowerBound(list, startPage);
  it.valid = true;
  it.startPage = startPage;
  it.node = node < list.length && list[node].startPage < outerPage ? node : -1;
  settle(space, it, outerPage);
}

/** Next window of the plain iteration; returns `it.valid` (uvm_range_group_range_iter_all_next). */
export function rangeGroupIterAllNext(space: VaSpace, it: RangeGroupIter, outerPage: number): boolean {
  it.valid = it.outerPage < outerPage;
  if (!it.valid) return false;
  it.startPage = it.outerPage;
  if (it.isCurrent) {
    const list = space.rangeGroupRanges;
    const node = it.node + 1;
    it.node = node < list.length && list[node].startPage < outerPage ? node : -1;
  }
  settle(space, it, outerPage);
  return true;
}

/** Extends the window over all that follow it and have its migratability. */
function coalesce(space: VaSpace, it: RangeGroupIter, outerPage: number): void {
  const list = space.rangeGroupRanges;
  while (it.outerPage < outerPage) {
    const node = it.isCurrent ? it.node + 1 : it.node;
    if (node < 0 || node >= list.length || list[node].startPage >= outerPage) {
      // The rest is a gap.
      if (!it.migratable) return;
      it.node = -1;
      it.isCurrent = false;
      it.outerPage = outerPage;
      return;
    }
    const isCurrent = list[node].startPage <= it.outerPage;
    if ((!isCurrent || list[node].group.allowMigration) !== it.migratable) return;
    const end = isCurrent ? list[node].outerPage : list[node].startPage;
    it.node = node;
    it.isCurrent = isCurrent;
    it.outerPage = end < outerPage ? end : outerPage;
  }
}

/**
 * First window of the migratability iteration over `[startPage, outerPage)`: the largest windows that are all
 * migratable or all not, clipped to the query (uvm_range_group_range_migratability_iter_first).
 */
export function rangeGroupMigratabilityFirst(
  space: VaSpace,
  startPage: number,
  outerPage: number,
  it: RangeGroupIter,
): void {
  rangeGroupIterAllFirst(space, startPage, outerPage, it);
  coalesce(space, it, outerPage);
}

/** Next window of the migratability iteration, or `it.valid` false (uvm_range_group_range_migratability_iter_next). */
export function rangeGroupMigratabilityNext(space: VaSpace, it: RangeGroupIter, outerPage: number): void {
  if (rangeGroupIterAllNext(space, it, outerPage)) coalesce(space, it, outerPage);
}

/** As `rangeGroupMigratabilityNext`, for a caller that changes intervals between the windows. */
export function rangeGroupMigratabilityNextSafe(space: VaSpace, it: RangeGroupIter, outerPage: number): void {
  it.valid = it.outerPage < outerPage;
  if (it.valid) rangeGroupMigratabilityFirst(space, it.outerPage, outerPage, it);
}

function lastMigratedOrder(space: VaSpace, group: RangeGroup): number {
  let last = 0;
  for (const range of space.rangeGroupRanges as ListedRange[]) {
    if (range.group === group && range.migratedOrder > last) last = range.migratedOrder;
  }
  return last;
}

/** Puts an interval at the end of its group's migrated list unless it is on it. */
export function rangeGroupRangeMarkMigrated(space: VaSpace, range: RangeGroupRange): void {
  if (range.migrated) return;
  (range as ListedRange).migratedOrder = lastMigratedOrder(space, range.group) + 1;
  range.migrated = true;
}

/** Puts the intervals that overlap `[startPage, outerPage)` on the migrated lists of their groups. */
export function rangeGroupMarkMigrated(space: VaSpace, startPage: number, outerPage: number): void {
  const list = space.rangeGroupRanges;
  for (let i = lowerBound(list, startPage); i < list.length && list[i].startPage < outerPage; i++) {
    rangeGroupRangeMarkMigrated(space, list[i]);
  }
}

/**
 * Puts the intervals that hold a page of the mask `words[offset]` of a block on the migrated lists of their groups:
 * data leaves its preferred location, or the CPU maps it there.
 */
export function rangeGroupMarkMigratedPages(
  space: VaSpace,
  startPage: number,
  n: number,
  words: Uint32Array,
  offset: number,
): void {
  const list = space.rangeGroupRanges;
  for (let i = lowerBound(list, startPage); i < list.length && list[i].startPage < startPage + n; i++) {
    const first = Math.max(list[i].startPage - startPage, 0);
    const outer = Math.min(list[i].outerPage - startPage, n);
    if (maskIntersectsRegion(words, offset, first, outer)) rangeGroupRangeMarkMigrated(space, list[i]);
  }
}

/**
 * The group's migrated list, in the order in which intervals joined it: what preventing migration has to go through.
 * The caller takes each interval off (`rangeGroupRangeClearMigrated`) before it moves the data, and after an error puts
 * that one and those it has not come to back (`rangeGroupMigratedPutBack`).
 */
export function rangeGroupMigratedList(space: VaSpace, group: RangeGroup): RangeGroupRange[] {
  const list = (space.rangeGroupRanges as ListedRange[]).filter((range) => range.group === group && range.migrated);
  return list.sort((a, b) => a.migratedOrder - b.migratedOrder);
}

/** Takes an interval off its group's migrated list. */
export function rangeGroupRangeClearMigrated(range: RangeGroupRange): void {
  range.migrated = false;
  (range as ListedRange).migratedOrder = 0;
}

/** Puts the intervals from position `from` of a list of `rangeGroupMigratedList` at the end of the list, in order. */
export function rangeGroupMigratedPutBack(space: VaSpace, list: readonly RangeGroupRange[], from: number): void {
  for (let i = from; i < list.length; i++) rangeGroupRangeClearMigrated(list[i]);
  for (let i = from; i < list.length; i++) rangeGroupRangeMarkMigrated(space, list[i]);
}
