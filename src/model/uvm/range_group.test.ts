import { beforeEach, describe, expect, it } from 'vitest';
import { maskTest } from '../../base/page_mask.ts';
import { createPrng, prngBelow } from '../../base/prng.ts';
import { CPU_ID, INVALID_ID } from './processors.ts';
import {
  ADDRESS_SPACE_PAGES,
  createRangeGroupIter,
  RANGE_GROUP_ID_NONE,
  RANGE_GROUPS_PER_CALL_MAX,
  rangeGroupAllMigratable,
  rangeGroupAnyMigratable,
  rangeGroupAssignRange,
  rangeGroupCreate,
  rangeGroupDestroy,
  rangeGroupFind,
  rangeGroupIterAllFirst,
  rangeGroupIterAllNext,
  rangeGroupMarkMigrated,
  rangeGroupMigratabilityFirst,
  rangeGroupMigratabilityNext,
  rangeGroupMigratabilityNextSafe,
  rangeGroupMigratable,
  rangeGroupMigratablePageMask,
  rangeGroupMigratedList,
  rangeGroupMigratedPutBack,
  rangeGroupRangeClearMigrated,
  rangeGroupRangeCount,
  rangeGroupRangeFind,
  rangeGroupRangeFirst,
  rangeGroupSet,
  rangeGroupsSetMigrationPolicy,
} from './range_group.ts';
import { NV_ERR_INVALID_ADDRESS, NV_ERR_INVALID_ARGUMENT, NV_ERR_OBJECT_NOT_FOUND, NV_OK } from './status.ts';
import type { RangeGroup, VaRange, VaSpace } from './va_range_types.ts';

const END = ADDRESS_SPACE_PAGES;
const GROUPS = 4;

let space: VaSpace;
let g: RangeGroup[];

/** A VA space with managed ranges at the given pages and nothing else. */
function createSpace(ranges: { startPage: number; outerPage: number; preferredLocation: number }[]): VaSpace {
  return {
    ranges: ranges.map(
      ({ startPage, outerPage, preferredLocation }) =>
        ({ startPage, outerPage, policy: { preferredLocation } }) as unknown as VaRange,
    ),
    rangeGroups: [],
    rangeGroupRanges: [],
    nextRangeGroupId: 1,
  } as unknown as VaSpace;
}

beforeEach(() => {
  space = createSpace([]);
  g = [];
  for (let i = 0; i < GROUPS; i++) g.push(rangeGroupFind(space, rangeGroupCreate(space)) as RangeGroup);
});

/** The intervals as [start, outer, group id]. */
const intervals = () => space.rangeGroupRanges.map((r) => [r.startPage, r.outerPage, r.group.id]);
const migrated = (group: RangeGroup) => rangeGroupMigratedList(space, group).map((r) => [r.startPage, r.outerPage]);
const counts = () => g.map((group) => rangeGroupRangeCount(space, group));

/** Plain windows as [start, outer, group id in the window or of the next interval, whether it is in the window]. */
function plain(start: number, outer: number): unknown[] {
  const it = createRangeGroupIter();
  const windows: unknown[] = [];
  for (rangeGroupIterAllFirst(space, start, outer, it); it.valid; it.valid && rangeGroupIterAllNext(space, it, outer)) {
    const id = it.node < 0 ? null : space.rangeGroupRanges[it.node].group.id;
    windows.push([it.startPage, it.outerPage, id, it.isCurrent]);
  }
  return windows;
}

/** Migratability windows as [start, outer, migratable]. */
function windows(start: number, outer: number, next = rangeGroupMigratabilityNext, visit = () => {}): unknown[] {
  const it = createRangeGroupIter();
  const found: unknown[] = [];
  for (rangeGroupMigratabilityFirst(space, start, outer, it); it.valid; next(space, it, outer)) {
    found.push([it.startPage, it.outerPage, it.migratable]);
    visit();
  }
  return found;
}

describe('uvm_range_group_tree_test.c: an empty tree', () => {
  it('is one migratable window', () => {
    expect(plain(0, END)).toEqual([[0, END, null, false]]);
    expect(windows(0, END)).toEqual([[0, END, true]]);
    expect(counts()).toEqual([0, 0, 0, 0]);
  });
});

describe('uvm_range_group_tree_test.c: one interval at the beginning', () => {
  beforeEach(() => rangeGroupAssignRange(space, g[0], 0, 3));

  it('is a window, and the gap behind it another; all of it migratable', () => {
    expect(plain(0, END)).toEqual([
      [0, 3, 1, true],
      [3, END, null, false],
    ]);
    expect(windows(0, END)).toEqual([[0, END, true]]);
  });

  it('is not migratable once its group is not', () => {
    g[0].allowMigration = false;
    expect(windows(0, END)).toEqual([
      [0, 3, false],
      [3, END, true],
    ]);
  });

  it('is clipped to a query that overshoots it, and to one inside it', () => {
    expect(plain(1, 4)).toEqual([
      [1, 3, 1, true],
      [3, 4, null, false],
    ]);
    expect(plain(1, 2)).toEqual([[1, 2, 1, true]]);
  });

  it('is gone when everything is assigned to no group', () => {
    rangeGroupAssignRange(space, null, 0, END);
    expect(intervals()).toEqual([]);
    expect(counts()).toEqual([0, 0, 0, 0]);
  });
});

describe('uvm_range_group_tree_test.c: two adjacent intervals', () => {
  beforeEach(() => {
    rangeGroupAssignRange(space, g[0], 2, 3);
    rangeGroupAssignRange(space, g[1], 3, 4);
  });

  it('are four plain windows; a gap names the interval that follows', () => {
    expect(plain(0, END)).toEqual([
      [0, 2, 1, false],
      [2, 3, 1, true],
      [3, 4, 2, true],
      [4, END, null, false],
    ]);
  });

  it.each([
    { allow: [true, true], expected: [[0, END, true]] },
    {
      allow: [false, true],
      expected: [
        [0, 2, true],
        [2, 3, false],
        [3, END, true],
      ],
    },
    {
      allow: [false, false],
      expected: [
        [0, 2, true],
        [2, 4, false],
        [4, END, true],
      ],
    },
    {
      allow: [true, false],
      expected: [
        [0, 3, true],
        [3, 4, false],
        [4, END, true],
      ],
    },
  ])('coalesce into windows of one state: $allow', ({ allow, expected }) => {
    g[0].allowMigration = allow[0];
    g[1].allowMigration = allow[1];
    expect(windows(0, END)).toEqual(expected);
    expect(windows(0, END, rangeGroupMigratabilityNextSafe)).toEqual(expected);
  });

  it('are clipped, and survive removal of each window while the safe iteration runs', () => {
    g[1].allowMigration = false;
    const expected = [
      [1, 3, true],
      [3, 4, false],
      [4, 5, true],
    ];
    expect(windows(1, 5, rangeGroupMigratabilityNextSafe)).toEqual(expected);
    const it = createRangeGroupIter();
    const found: unknown[] = [];
    for (rangeGroupMigratabilityFirst(space, 1, 5, it); it.valid; rangeGroupMigratabilityNextSafe(space, it, 5)) {
      found.push([it.startPage, it.outerPage, it.migratable]);
      rangeGroupAssignRange(space, null, it.startPage, it.outerPage);
    }
    expect(found).toEqual(expected);
    expect(windows(0, END, rangeGroupMigratabilityNextSafe)).toEqual([[0, END, true]]);
  });
});

describe('uvm_range_group.c: assigning intervals', () => {
  it('trims at both ends, splits in the middle, removes what is covered', () => {
    rangeGroupAssignRange(space, g[0], 10, 20);
    rangeGroupAssignRange(space, g[1], 15, 25);
    expect(intervals()).toEqual([
      [10, 15, 1],
      [15, 25, 2],
    ]);
    rangeGroupAssignRange(space, g[2], 5, 11);
    rangeGroupAssignRange(space, g[2], 18, 20);
    expect(intervals()).toEqual([
      [5, 11, 3],
      [11, 15, 1],
      [15, 18, 2],
      [18, 20, 3],
      [20, 25, 2],
    ]);
    expect(counts()).toEqual([1, 2, 2, 0]);
    rangeGroupAssignRange(space, g[3], 11, 21);
    expect(intervals()).toEqual([
      [5, 11, 3],
      [11, 21, 4],
      [21, 25, 2],
    ]);
    expect(counts()).toEqual([0, 1, 1, 1]);
  });

  it('merges neighbours of the same group that touch, and only those', () => {
    rangeGroupAssignRange(space, g[0], 10, 20);
    rangeGroupAssignRange(space, g[0], 21, 30);
    rangeGroupAssignRange(space, g[1], 30, 40);
    expect(counts()).toEqual([2, 1, 0, 0]);
    rangeGroupAssignRange(space, g[0], 20, 21);
    expect(intervals()).toEqual([
      [10, 30, 1],
      [30, 40, 2],
    ]);
    rangeGroupAssignRange(space, g[0], 25, 35);
    expect(intervals()).toEqual([
      [10, 35, 1],
      [35, 40, 2],
    ]);
  });

  it('with no group cuts a hole', () => {
    rangeGroupAssignRange(space, g[0], 10, 20);
    rangeGroupAssignRange(space, null, 14, 15);
    expect(intervals()).toEqual([
      [10, 14, 1],
      [15, 20, 1],
    ]);
    rangeGroupAssignRange(space, null, 13, 16);
    rangeGroupAssignRange(space, null, 16, 17);
    expect(intervals()).toEqual([
      [10, 13, 1],
      [17, 20, 1],
    ]);
  });

  it('agrees with a page array under random assignments, with every query', () => {
    const pages = 64;
    const p = createPrng(11);
    const owner: (RangeGroup | null)[] = new Array(pages).fill(null);
    const free = (page: number) => owner[page] === null || (owner[page] as RangeGroup).allowMigration;
    for (let step = 0; step < 600; step++) {
      const start = prngBelow(p, pages);
      const outer = start + 1 + prngBelow(p, Math.min(20, pages - start));
      const group = prngBelow(p, 4) === 0 ? null : g[prngBelow(p, GROUPS)];
      if (prngBelow(p, 5) === 0) g[prngBelow(p, GROUPS)].allowMigration = prngBelow(p, 2) === 0;
      rangeGroupAssignRange(space, group, start, outer);
      owner.fill(group, start, outer);

      const first = prngBelow(p, pages);
      const last = first + 1 + prngBelow(p, pages - first);
      const asked = owner.slice(first, last).map((_, i) => free(first + i));
      expect(rangeGroupAllMigratable(space, first, last)).toBe(asked.every((f) => f));
      expect(rangeGroupAnyMigratable(space, first, last)).toBe(asked.some((f) => f));
      expect(owner.map((_, page) => rangeGroupRangeFind(space, page)?.group ?? null)).toEqual(owner);
      expect(owner.every((_, page) => rangeGroupMigratable(space, page) === free(page))).toBe(true);
      checkOrder();
      checkWindows(first, last, free);
      const mask = new Uint32Array(32).fill(-1);
      rangeGroupMigratablePageMask(space, 0, first, last, mask, 16);
      let wrong = 0;
      for (let page = 0; page < 512; page++) {
        if (maskTest(mask, 16, page) !== (page >= first && page < last && free(page))) wrong++;
      }
      expect(wrong).toBe(0);
      expect(mask[15]).toBe(0xffffffff);
    }
  });

  /** Sorted, apart, and no two neighbours that should be one. */
  function checkOrder(): void {
    let last = -1;
    let group: RangeGroup | null = null;
    for (const range of space.rangeGroupRanges) {
      expect(range.startPage >= last && range.startPage < range.outerPage).toBe(true);
      expect(range.startPage === last && range.group === group).toBe(false);
      last = range.outerPage;
      group = range.group;
    }
  }

  /** The windows cover the query, alternate, and have the state of their pages. */
  function checkWindows(first: number, last: number, free: (page: number) => boolean): void {
    const found = windows(first, last) as [number, number, boolean][];
    expect(windows(first, last, rangeGroupMigratabilityNextSafe)).toEqual(found);
    let page = first;
    for (let i = 0; i < found.length; i++) {
      expect(found[i][0]).toBe(page);
      if (i > 0) expect(found[i][2]).toBe(!found[i - 1][2]);
      for (; page < found[i][1]; page++) if (free(page) !== found[i][2]) expect(page).toBe('in another window');
    }
    expect(page).toBe(last);
  }
});

describe('uvm_range_group.c: lookup', () => {
  it('finds the first and the last page of an interval and neither neighbour, beyond 32 bits too', () => {
    const base = 2 ** 36;
    rangeGroupAssignRange(space, g[0], base, base + 8);
    expect(rangeGroupRangeFind(space, base - 1)).toBeNull();
    expect(rangeGroupRangeFind(space, base)).toBe(space.rangeGroupRanges[0]);
    expect(rangeGroupRangeFind(space, base + 7)).toBe(space.rangeGroupRanges[0]);
    expect(rangeGroupRangeFind(space, base + 8)).toBeNull();
    expect([base - 1, base, base + 7, base + 8].map((page) => rangeGroupRangeFirst(space, page))).toEqual([0, 0, 0, 1]);
  });

  it('of migratability sees a window that only touches a pinned interval as free', () => {
    rangeGroupAssignRange(space, g[0], 10, 20);
    g[0].allowMigration = false;
    expect(rangeGroupAllMigratable(space, 5, 10)).toBe(true);
    expect(rangeGroupAllMigratable(space, 5, 11)).toBe(false);
    expect(rangeGroupAllMigratable(space, 20, 30)).toBe(true);
    expect(rangeGroupAllMigratable(space, 19, 30)).toBe(false);
    expect(rangeGroupAnyMigratable(space, 10, 20)).toBe(false);
    expect(rangeGroupAnyMigratable(space, 9, 20)).toBe(true);
    expect(rangeGroupAnyMigratable(space, 10, 21)).toBe(true);
  });

  it('of the pages of a block counts from the block', () => {
    const block = 2 ** 33;
    rangeGroupAssignRange(space, g[0], block + 3, block + 5);
    g[0].allowMigration = false;
    const mask = new Uint32Array(16);
    rangeGroupMigratablePageMask(space, block, 2, 7, mask, 0);
    expect(mask[0]).toBe(0b1100100);
  });
});

describe('uvm_range_group.c: groups', () => {
  it('get ids from 1 on that are not used again, and go with their intervals', () => {
    expect(g.map((group) => group.id)).toEqual([1, 2, 3, 4]);
    rangeGroupAssignRange(space, g[1], 10, 20);
    rangeGroupAssignRange(space, g[2], 20, 30);
    expect(rangeGroupDestroy(space, 2)).toBe(NV_OK);
    expect(intervals()).toEqual([[20, 30, 3]]);
    expect(rangeGroupFind(space, 2)).toBeNull();
    expect(rangeGroupDestroy(space, 2)).toBe(NV_ERR_OBJECT_NOT_FOUND);
    expect(rangeGroupCreate(space)).toBe(5);
  });

  it('change their policy up to the first id that is unknown', () => {
    const set = (ids: number[], allow: boolean) => rangeGroupsSetMigrationPolicy(space, ids, allow);
    expect(set([1, 3], false)).toBe(NV_OK);
    expect(g.map((group) => group.allowMigration)).toEqual([false, true, false, true]);
    expect(set([3, 9, 1], true)).toBe(NV_ERR_OBJECT_NOT_FOUND);
    expect(g.map((group) => group.allowMigration)).toEqual([false, true, true, true]);
  });

  it('change from 1 to 32 at a time', () => {
    const ids = (n: number) => new Array(n).fill(1);
    expect(rangeGroupsSetMigrationPolicy(space, [], false)).toBe(NV_ERR_INVALID_ARGUMENT);
    expect(rangeGroupsSetMigrationPolicy(space, ids(RANGE_GROUPS_PER_CALL_MAX + 1), false)).toBe(
      NV_ERR_INVALID_ARGUMENT,
    );
    expect(g[0].allowMigration).toBe(true);
    expect(rangeGroupsSetMigrationPolicy(space, ids(RANGE_GROUPS_PER_CALL_MAX), false)).toBe(NV_OK);
    expect(g[0].allowMigration).toBe(false);
  });
});

describe('uvm_range_group.c: uvm_api_set_range_group', () => {
  let id: number;
  beforeEach(() => {
    space = createSpace([
      { startPage: 0, outerPage: 8, preferredLocation: INVALID_ID },
      { startPage: 16, outerPage: 24, preferredLocation: CPU_ID },
      { startPage: 24, outerPage: 32, preferredLocation: INVALID_ID },
    ]);
    id = rangeGroupCreate(space);
  });

  it('takes pages of several managed ranges, and takes them back', () => {
    expect(rangeGroupSet(space, id, 17, 31)).toBe(NV_OK);
    expect(intervals()).toEqual([[17, 31, id]]);
    expect(rangeGroupSet(space, RANGE_GROUP_ID_NONE, 17, 20)).toBe(NV_OK);
    expect(intervals()).toEqual([[20, 31, id]]);
  });

  it('refuses no pages, page 0 and pages that are not managed', () => {
    const refused: [number, number][] = [
      [20, 20],
      [21, 20],
      [0, 4],
      [15, 20],
      [7, 17],
      [20, 33],
      [8, 16],
      [40, 50],
    ];
    for (const [start, outer] of refused) expect(rangeGroupSet(space, id, start, outer)).toBe(NV_ERR_INVALID_ADDRESS);
    expect(intervals()).toEqual([]);
    expect(rangeGroupSet(space, id, 1, 8)).toBe(NV_OK);
    expect(rangeGroupSet(space, id, 16, 32)).toBe(NV_OK);
  });

  it('refuses an unknown group, but only after the pages', () => {
    expect(rangeGroupSet(space, id + 1, 16, 20)).toBe(NV_ERR_OBJECT_NOT_FOUND);
    expect(rangeGroupSet(space, id + 1, 20, 20)).toBe(NV_ERR_INVALID_ADDRESS);
  });

  it('wants a preferred location for every page of a group that does not allow migration', () => {
    rangeGroupsSetMigrationPolicy(space, [id], false);
    expect(rangeGroupSet(space, id, 16, 25)).toBe(NV_ERR_INVALID_ADDRESS);
    expect(rangeGroupSet(space, id, 16, 24)).toBe(NV_OK);
    expect(rangeGroupSet(space, RANGE_GROUP_ID_NONE, 16, 25)).toBe(NV_OK);
  });
});

describe('uvm_range_group.c: the list of migrated intervals', () => {
  it('has every interval that was assigned, in the order of the calls, not of the addresses', () => {
    rangeGroupAssignRange(space, g[0], 40, 50);
    rangeGroupAssignRange(space, g[0], 10, 20);
    rangeGroupAssignRange(space, g[1], 60, 70);
    rangeGroupAssignRange(space, g[0], 30, 35);
    expect(migrated(g[0])).toEqual([
      [40, 50],
      [10, 20],
      [30, 35],
    ]);
    expect(migrated(g[1])).toEqual([[60, 70]]);
  });

  it('has a merged interval where the last assignment put it', () => {
    rangeGroupAssignRange(space, g[0], 40, 50);
    rangeGroupAssignRange(space, g[0], 10, 20);
    rangeGroupAssignRange(space, g[0], 50, 60);
    expect(migrated(g[0])).toEqual([
      [10, 20],
      [40, 60],
    ]);
  });

  it('is left alone by an assignment that changes nothing', () => {
    rangeGroupAssignRange(space, g[0], 10, 20);
    rangeGroupRangeClearMigrated(space.rangeGroupRanges[0]);
    rangeGroupAssignRange(space, g[0], 11, 19);
    expect([intervals(), migrated(g[0])]).toEqual([[[10, 20, 1]], []]);
    // With a boundary in common it is a new interval.
    rangeGroupAssignRange(space, g[0], 10, 19);
    expect([intervals(), migrated(g[0])]).toEqual([[[10, 20, 1]], [[10, 20]]]);
  });

  it('gets both halves of a split interval if it had the whole, and neither if not', () => {
    rangeGroupAssignRange(space, g[0], 10, 20);
    rangeGroupAssignRange(space, g[0], 30, 40);
    rangeGroupAssignRange(space, g[1], 14, 16);
    expect(migrated(g[0])).toEqual([
      [10, 14],
      [30, 40],
      [16, 20],
    ]);
    for (const range of space.rangeGroupRanges) rangeGroupRangeClearMigrated(range);
    rangeGroupAssignRange(space, g[1], 33, 34);
    expect(migrated(g[0])).toEqual([]);
    expect(migrated(g[1])).toEqual([[33, 34]]);
  });

  it('gets the intervals of a window once, at its end', () => {
    rangeGroupAssignRange(space, g[0], 10, 20);
    rangeGroupAssignRange(space, g[0], 30, 40);
    rangeGroupAssignRange(space, g[0], 50, 60);
    rangeGroupRangeClearMigrated(space.rangeGroupRanges[0]);
    rangeGroupMarkMigrated(space, 20, 50);
    expect(migrated(g[0])).toEqual([
      [30, 40],
      [50, 60],
    ]);
    rangeGroupMarkMigrated(space, 19, 31);
    expect(migrated(g[0])).toEqual([
      [30, 40],
      [50, 60],
      [10, 20],
    ]);
  });

  it('takes back what preventing migration did not come to, behind what joined meanwhile', () => {
    for (const start of [10, 20, 30, 40]) rangeGroupAssignRange(space, g[0], start, start + 5);
    const list = rangeGroupMigratedList(space, g[0]);
    rangeGroupRangeClearMigrated(list[0]);
    rangeGroupRangeClearMigrated(list[1]);
    // While the second one's data moves, the first one's leaves again; then the second fails.
    rangeGroupMarkMigrated(space, 10, 15);
    rangeGroupMigratedPutBack(space, list, 1);
    expect(migrated(g[0])).toEqual([
      [10, 15],
      [20, 25],
      [30, 35],
      [40, 45],
    ]);
  });

  it('survives a snapshot', () => {
    rangeGroupAssignRange(space, g[0], 40, 50);
    rangeGroupAssignRange(space, g[0], 10, 20);
    space = structuredClone(space);
    const group = rangeGroupFind(space, 1) as RangeGroup;
    expect(migrated(group)).toEqual([
      [40, 50],
      [10, 20],
    ]);
    expect(space.rangeGroupRanges[0].group).toBe(group);
  });
});
