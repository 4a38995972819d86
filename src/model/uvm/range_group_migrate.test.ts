import { describe, expect, it } from 'vitest';
import profileJson from '../../../profiles/2xh200-nvlink.json' with { type: 'json' };
import { runUntilIdle } from '../kernel/clock.ts';
import { createModel } from '../model.ts';
import type { Costs, MachineSpec } from '../spec.ts';
import type { Model } from '../state.ts';
import { uvmMigrate } from './migrate.ts';
import { parseModuleParameters } from './params.ts';
import { policySetAccessedBy, policySetPreferredLocation, policySetReadDuplication } from './policy.ts';
import { rangeGroupCreate, rangeGroupMigratable, rangeGroupRangeFind } from './range_group.ts';
import { rangeGroupSetAndMigrate, rangeGroupsAllowMigration } from './range_group_migrate.ts';
import {
  NV_ERR_INVALID_ADDRESS,
  NV_ERR_INVALID_ARGUMENT,
  NV_ERR_INVALID_DEVICE,
  NV_ERR_OBJECT_NOT_FOUND,
  NV_OK,
  NV_WARN_MORE_PROCESSING_REQUIRED,
} from './status.ts';
import { EVENT_MIGRATION, TOOLS_MIGRATION_COHERENCE } from './tools.ts';
import { pageIsResident, pageResidentProcessors, vaBlockPageIsGpuAuthorized } from './va_block.ts';
import { vaSpaceCheck } from './va_block_check.ts';
import { CPU_FAULT_DONE, CPU_FAULT_FATAL, vaSpaceCpuFault } from './va_block_cpu_fault.ts';
import { vaSpaceMunmap } from './va_range.ts';
import type { VaSpace } from './va_range_types.ts';
import { vaBlockFind, vaSpaceMmap } from './va_space.ts';

const SPEC: MachineSpec = {
  ...profileJson.machine,
  name: 'test',
  driver: '580',
  architecture: 'hopper',
  faultBufferEntries: 64,
};
const COSTS = Object.fromEntries(Object.keys(profileJson.costs).map((name) => [name, 1])) as unknown as Costs;

/** 700 pages: a full block and a short one. */
const BASE = 512 * 4096;
const PAGES = 700;
const CPU = 0;
const GPU0 = 1;
const GPU1 = 2;

interface Bench {
  m: Model;
  space: VaSpace;
  group: number;
}

/** The buffer's home is `home`; pages [first, outer) belong to a group. */
function createBench(home: number, first = 0, outer = PAGES): Bench {
  const parsed = parseModuleParameters({ uvm_perf_prefetch_enable: 0 });
  if (!parsed.ok) throw new Error(parsed.error);
  const m = createModel(SPEC, parsed.params, COSTS, { verify: true });
  const space = m.vaSpaces[0];
  expect(vaSpaceMmap(space, BASE, PAGES, 0)).toBe(NV_OK);
  expect(policySetPreferredLocation(m, space, BASE, BASE + PAGES, home)).toBe(NV_OK);
  const group = rangeGroupCreate(space);
  expect(rangeGroupSetAndMigrate(m, space, group, BASE + first, BASE + outer)).toBe(NV_OK);
  return { m, space, group };
}

function holders(space: VaSpace, page: number): number {
  const block = vaBlockFind(space, BASE + page);
  return block === null ? 0 : pageResidentProcessors(block, BASE + page - block.startPage);
}

function mapped(space: VaSpace, gpu: number, page: number, protection = 1): boolean {
  const block = vaBlockFind(space, BASE + page);
  return block !== null && vaBlockPageIsGpuAuthorized(block, BASE + page - block.startPage, gpu, protection);
}

function listed(space: VaSpace, page: number): boolean | undefined {
  return rangeGroupRangeFind(space, BASE + page)?.migrated;
}

function settle({ m, space }: Bench): void {
  runUntilIdle(m);
  expect(vaSpaceCheck(m, space)).toBeNull();
}

describe('preventing migration', () => {
  it('moves the data of the group home, makes what is missing, and leaves the rest alone', () => {
    const bench = createBench(CPU, 100, 600);
    const { m, space, group } = bench;
    expect(uvmMigrate(m, space, BASE, BASE + 300, GPU0)).toBe(NV_OK);
    expect(rangeGroupsAllowMigration(m, space, [group], false)).toBe(NV_OK);
    for (const page of [100, 299, 300, 599]) expect(holders(space, page)).toBe(1 << CPU);
    expect(holders(space, 99)).toBe(1 << GPU0);
    expect(holders(space, 600)).toBe(0);
    expect(listed(space, 100)).toBe(false);
    settle(bench);
  });

  it('is a migration with cause coherence, block by block', () => {
    const { m, space, group } = createBench(CPU);
    expect(uvmMigrate(m, space, BASE, BASE + PAGES, GPU0)).toBe(NV_OK);
    const before = m.tools.log.count;
    expect(rangeGroupsAllowMigration(m, space, [group], false)).toBe(NV_OK);
    expect(uvmMigrate(m, space, BASE, BASE, CPU)).toBe(NV_OK);
    const log = m.tools.log;
    const runs: number[][] = [];
    for (let i = before; i < log.count; i++) {
      if (log.kind[i] === EVENT_MIGRATION)
        runs.push([log.a[i], log.src[i], log.dst[i], log.page[i] - BASE, log.pages[i]]);
    }
    expect(runs).toEqual([
      [TOOLS_MIGRATION_COHERENCE, GPU0, CPU, 0, 512],
      [TOOLS_MIGRATION_COHERENCE, GPU0, CPU, 512, 188],
    ]);
  });

  it('takes the mappings of the CPU, and leaves those of accessed-by GPUs as they are', () => {
    const bench = createBench(CPU);
    const { m, space, group } = bench;
    expect(policySetAccessedBy(m, space, BASE, BASE + PAGES, GPU1, true)).toBe(NV_OK);
    expect(vaSpaceCpuFault(m, space, BASE + 7, true, 0)).toBe(CPU_FAULT_DONE);
    expect(rangeGroupsAllowMigration(m, space, [group], false)).toBe(NV_OK);
    expect(vaBlockFind(space, BASE)?.mapped).toBe(1 << GPU1);
    expect([1, 2, 3].map((protection) => mapped(space, GPU1, 7, protection))).toEqual([true, true, false]);
    expect([mapped(space, GPU0, 7), mapped(space, GPU1, 8)]).toEqual([false, false]);
    settle(bench);
  });

  it('maps an accessed-by GPU that the home reaches', () => {
    const bench = createBench(CPU, 0, 16);
    const { m, space, group } = bench;
    // As on a machine where the CPU maps vidmem.
    space.processors.canAccess[CPU] |= 1 << GPU1;
    expect(policySetAccessedBy(m, space, BASE, BASE + PAGES, GPU1, true)).toBe(NV_OK);
    expect(rangeGroupsAllowMigration(m, space, [group], false)).toBe(NV_OK);
    expect([mapped(space, GPU1, 8, 3), mapped(space, GPU1, 15, 3), mapped(space, GPU1, 16)]).toEqual([
      true,
      true,
      false,
    ]);
    settle(bench);
  });

  it('needs a home, and one that does not fault: the intervals stay on the list', () => {
    const bench = createBench(GPU0);
    const { m, space, group } = bench;
    expect(rangeGroupsAllowMigration(m, space, [group], false)).toBe(NV_ERR_INVALID_DEVICE);
    expect(listed(space, 0)).toBe(true);
    expect(rangeGroupMigratable(space, BASE)).toBe(false);
    expect(rangeGroupsAllowMigration(m, space, [group], true)).toBe(NV_OK);
    expect(policySetPreferredLocation(m, space, BASE, BASE + PAGES, -1)).toBe(NV_OK);
    expect(rangeGroupsAllowMigration(m, space, [group], false)).toBe(NV_ERR_INVALID_ARGUMENT);
    expect(rangeGroupsAllowMigration(m, space, [group + 1], false)).toBe(NV_ERR_OBJECT_NOT_FOUND);
    settle(bench);
  });

  it('keeps copies elsewhere where reads are duplicated', () => {
    const bench = createBench(CPU, 0, 16);
    const { m, space, group } = bench;
    expect(policySetReadDuplication(m, space, BASE, BASE + PAGES, true)).toBe(NV_OK);
    expect(uvmMigrate(m, space, BASE, BASE + 16, GPU0)).toBe(NV_OK);
    expect(rangeGroupsAllowMigration(m, space, [group], false)).toBe(NV_OK);
    expect(holders(space, 3)).toBe((1 << CPU) | (1 << GPU0));
    settle(bench);
  });
});

describe('memory that may not migrate', () => {
  it('is out of reach for the CPU, stays for a migrate call, and is free again afterwards', () => {
    const bench = createBench(CPU, 100, 600);
    const { m, space, group } = bench;
    expect(rangeGroupsAllowMigration(m, space, [group], false)).toBe(NV_OK);
    expect(vaSpaceCpuFault(m, space, BASE + 100, false, 0)).toBe(CPU_FAULT_FATAL);
    expect(vaSpaceCpuFault(m, space, BASE + 99, false, 0)).toBe(CPU_FAULT_DONE);
    expect(uvmMigrate(m, space, BASE, BASE + PAGES, GPU0)).toBe(NV_WARN_MORE_PROCESSING_REQUIRED);
    expect([99, 100, 599, 600].map((page) => holders(space, page))).toEqual([2, 1, 1, 2]);
    expect(rangeGroupsAllowMigration(m, space, [group], true)).toBe(NV_OK);
    expect(vaSpaceCpuFault(m, space, BASE + 100, false, 0)).toBe(CPU_FAULT_DONE);
    settle(bench);
  });

  it('takes what is assigned to it home at once', () => {
    const bench = createBench(CPU, 0, 16);
    const { m, space, group } = bench;
    expect(uvmMigrate(m, space, BASE, BASE + PAGES, GPU0)).toBe(NV_OK);
    expect(rangeGroupsAllowMigration(m, space, [group], false)).toBe(NV_OK);
    expect(rangeGroupSetAndMigrate(m, space, group, BASE + 500, BASE + 520)).toBe(NV_OK);
    expect([499, 500, 511, 512, 519, 520].map((page) => holders(space, page))).toEqual([2, 1, 1, 1, 1, 2]);
    expect(rangeGroupSetAndMigrate(m, space, group, BASE + 690, BASE + 701)).toBe(NV_ERR_INVALID_ADDRESS);
    settle(bench);
  });

  it('follows its preferred location to the CPU, never to a GPU, and is let go without one', () => {
    const bench = createBench(GPU0);
    const { m, space, group } = bench;
    expect(rangeGroupSetAndMigrate(m, space, 0, BASE + 16, BASE + PAGES)).toBe(NV_OK);
    // The driver forbids migration before it finds that the home is a GPU that can fault.
    expect(rangeGroupsAllowMigration(m, space, [group], false)).toBe(NV_ERR_INVALID_DEVICE);
    expect(uvmMigrate(m, space, BASE + 16, BASE + 32, GPU0)).toBe(NV_OK);
    expect(policySetPreferredLocation(m, space, BASE, BASE + 32, GPU1)).toBe(NV_ERR_INVALID_DEVICE);
    expect(policySetPreferredLocation(m, space, BASE + 16, BASE + 32, GPU1)).toBe(NV_OK);
    expect(policySetPreferredLocation(m, space, BASE, BASE + 32, CPU)).toBe(NV_OK);
    expect(holders(space, 0)).toBe(1 << CPU);
    expect(holders(space, 16)).toBe(1 << GPU0);
    expect(policySetPreferredLocation(m, space, BASE, BASE + 8, -1)).toBe(NV_OK);
    expect([rangeGroupMigratable(space, BASE + 7), rangeGroupMigratable(space, BASE + 8)]).toEqual([true, false]);
    settle(bench);
  });
});

describe('the list of intervals whose data may have left', () => {
  /** After this the list is empty, although migration is allowed. */
  function emptyList({ m, space, group }: Bench): void {
    expect(rangeGroupsAllowMigration(m, space, [group], false)).toBe(NV_OK);
    expect(rangeGroupsAllowMigration(m, space, [group], true)).toBe(NV_OK);
    expect(listed(space, 20)).toBe(false);
  }

  it('gets those that a page leaves its home from, and no others', () => {
    const bench = createBench(CPU, 0, 32);
    const { m, space } = bench;
    const other = rangeGroupCreate(space);
    emptyList(bench);
    expect(rangeGroupSetAndMigrate(m, space, other, BASE + 64, BASE + 96)).toBe(NV_OK);
    expect(rangeGroupsAllowMigration(m, space, [other], false)).toBe(NV_OK);
    expect(rangeGroupsAllowMigration(m, space, [other], true)).toBe(NV_OK);
    expect(uvmMigrate(m, space, BASE + 31, BASE + 33, GPU0)).toBe(NV_OK);
    expect([listed(space, 20), listed(space, 64)]).toEqual([true, false]);
    // From a place that is not its home to another.
    emptyList(bench);
    expect(pageIsResident(vaBlockFind(space, BASE) as never, CPU, 31)).toBe(true);
  });

  it('gets those whose pages the CPU maps at home', () => {
    const bench = createBench(CPU, 0, 32);
    const { m, space } = bench;
    emptyList(bench);
    expect(vaSpaceCpuFault(m, space, BASE + 33, false, 0)).toBe(CPU_FAULT_DONE);
    expect(listed(space, 20)).toBe(false);
    expect(vaSpaceCpuFault(m, space, BASE + 31, false, 0)).toBe(CPU_FAULT_DONE);
    expect(listed(space, 20)).toBe(true);
  });
});

describe('an allocation that is freed', () => {
  it('takes its intervals with it', () => {
    const bench = createBench(CPU, 100, 600);
    const { m, space } = bench;
    expect(vaSpaceMmap(space, BASE + 2048, 10, 1)).toBe(NV_OK);
    expect(rangeGroupSetAndMigrate(m, space, bench.group, BASE + 2048, BASE + 2058)).toBe(NV_OK);
    vaSpaceMunmap(m, space, BASE, BASE + PAGES);
    expect(space.rangeGroupRanges.map((r) => [r.startPage - BASE, r.outerPage - BASE])).toEqual([[2048, 2058]]);
    settle(bench);
  });
});
