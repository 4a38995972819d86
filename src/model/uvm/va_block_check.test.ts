import { describe, expect, it } from 'vitest';
import profileJson from '../../../profiles/2xh200-nvlink.json' with { type: 'json' };
import { maskClear, maskSet, maskSetRegion } from '../../base/page_mask.ts';
import { hostRunUntil } from '../gpu/host.ts';
import { makePte, mmuWritePte, PTE_LEVEL_2M, PTE_LEVEL_4K, PTE_LEVEL_BIG } from '../gpu/mmu.ts';
import { runUntilIdle } from '../kernel/clock.ts';
import { createModel } from '../model.ts';
import type { Costs, MachineSpec } from '../spec.ts';
import type { Model } from '../state.ts';
import { uvmMigrate } from './migrate.ts';
import { parseModuleParameters } from './params.ts';
import { policySetAccessedBy, policySetPreferredLocation, policySetReadDuplication } from './policy.ts';
import { NV_OK } from './status.ts';
import { vaBlockAssert, vaBlockCheck, vaSpaceCheck } from './va_block_check.ts';
import { CPU_FAULT_DONE, vaSpaceCpuFault } from './va_block_cpu_fault.ts';
import { vaBlockUnmap } from './va_block_map.ts';
import {
  B_CPU_ALLOCATED,
  B_CPU_READ,
  B_CPU_RESIDENT,
  B_CPU_WRITE,
  B_MAYBE_MAPPED,
  B_MM_PRESENT,
  B_MM_WRITE,
  B_READ_DUPLICATED,
  type BlockGpuState,
  G_ALLOCATED,
  G_ATOMIC,
  G_EVICTED,
  G_READ,
  G_RESIDENT,
  G_WRITE,
  type VaBlock,
} from './va_block_types.ts';
import { vaSpaceMunmap } from './va_range.ts';
import { vaBlockFind, vaSpaceMmap } from './va_space.ts';

const SPEC: MachineSpec = {
  ...profileJson.machine,
  name: 'test',
  driver: '580',
  architecture: 'hopper',
  faultBufferEntries: 64,
};
const COSTS = Object.fromEntries(Object.keys(profileJson.costs).map((name) => [name, 1])) as unknown as Costs;
/** A full block, and behind it one of 100 pages. */
const BASE = 512 * 4096;
const PAGES = 612;
const GPU0 = 1;
const GPU1 = 2;

interface Bench {
  m: Model;
  full: VaBlock;
  short: VaBlock;
}

function settle(m: Model): void {
  runUntilIdle(m);
  for (const gpu of m.gpus) hostRunUntil(m, gpu.index, Number.MAX_SAFE_INTEGER);
}

/** Both blocks on gpu0 and mapped there, then four pages of each brought to the CPU by a write. */
function createBench(verify = false): Bench {
  const parsed = parseModuleParameters({ uvm_perf_prefetch_enable: 0 });
  if (!parsed.ok) throw new Error(parsed.error);
  const m = createModel(SPEC, parsed.params, COSTS, { verify });
  const space = m.vaSpaces[0];
  expect(vaSpaceMmap(space, BASE, PAGES, 0)).toBe(NV_OK);
  expect(uvmMigrate(m, space, BASE, BASE + PAGES, GPU0)).toBe(NV_OK);
  for (const page of [3, 4, 5, 6, 515, 516, 517, 518]) {
    expect(vaSpaceCpuFault(m, space, BASE + page, true, 0)).toBe(CPU_FAULT_DONE);
  }
  settle(m);
  return { m, full: vaBlockFind(space, BASE) as VaBlock, short: vaBlockFind(space, BASE + 512) as VaBlock };
}

function gpuState(block: VaBlock, id: number): BlockGpuState {
  return block.gpus[id - 1] as BlockGpuState;
}

/** What is spoiled, and a piece of what the check says. */
const BLOCK_FAULTS: readonly [name: string, spoil: (b: Bench) => void, says: string][] = [
  [
    'a resident bit without pages',
    ({ full }) => {
      full.resident |= 1 << GPU1;
    },
    'gpu1 has bits but no state',
  ],
  [
    'a missing resident bit',
    ({ full }) => {
      full.resident &= ~1;
    },
    'the resident bit of cpu',
  ],
  [
    'a missing mapped bit',
    ({ full }) => {
      full.mapped &= ~(1 << GPU0);
    },
    'the mapped bit of gpu0',
  ],
  [
    'an evicted bit without pages',
    ({ full }) => {
      full.evictedGpus = 1 << GPU0;
    },
    'the evicted bit of gpu0',
  ],
  [
    'a processor that is not there',
    ({ full }) => {
      full.mapped |= 1 << 5;
    },
    'names nobody',
  ],
  ['a mask beyond the last page', ({ short }) => maskSet(short.w, B_MAYBE_MAPPED, 100), 'beyond its last page'],
  ["a GPU's mask beyond the last page", ({ short }) => maskSet(gpuState(short, GPU0).w, G_ALLOCATED, 100), 'beyond'],
  [
    'a copy without memory',
    ({ short }) => maskSet(short.w, B_CPU_RESIDENT, 40),
    'resident page has no memory; page 40',
  ],
  [
    'two copies with memory',
    ({ full }) => {
      maskSetRegion(full.w, B_CPU_ALLOCATED, 0, 512);
      maskSet(full.w, B_CPU_RESIDENT, 9);
    },
    'not read-duplicated has several copies; page 9: resident on cpu+gpu0',
  ],
  ['no copy', ({ full }) => maskClear(full.w, B_CPU_RESIDENT, 3), 'a page without a copy is mapped; page 3'],
  [
    'a stale duplicate',
    ({ full }) => {
      maskClear(full.w, B_CPU_RESIDENT, 3);
      maskClear(full.w, B_CPU_READ, 3);
      maskClear(full.w, B_CPU_WRITE, 3);
      maskSet(full.w, B_READ_DUPLICATED, 3);
    },
    'a read-duplicated page has no copy; page 3',
  ],
  [
    'a write to one of two copies',
    ({ full }) => {
      maskSet(gpuState(full, GPU0).w, G_RESIDENT, 3);
      maskSet(full.w, B_READ_DUPLICATED, 3);
    },
    'a page with several copies is writable; page 3',
  ],
  [
    'a remote mapping of one of two copies',
    ({ m, full }) => {
      const state = gpuState(full, GPU0);
      expect(uvmMigrate(m, full.range.space, BASE + 3, BASE + 4, GPU1)).toBe(NV_OK);
      settle(m);
      const other = gpuState(full, GPU1);
      for (const o of [G_WRITE, G_ATOMIC]) maskClear(other.w, o, 3);
      maskSet(full.w, B_CPU_RESIDENT, 3);
      maskSet(full.w, B_READ_DUPLICATED, 3);
      maskSet(state.w, G_READ, 3);
    },
    'mapped without a local one; page 3',
  ],
  ['a page taken for unmapped', ({ full }) => maskClear(full.w, B_MAYBE_MAPPED, 100), 'certainly unmapped; page 100'],
  ['write without read', ({ full }) => maskClear(full.w, B_CPU_READ, 4), 'a writable page is not readable; page 4'],
  ['atomics without write', ({ full }) => maskClear(gpuState(full, GPU0).w, G_WRITE, 9), 'is not writable; page 9'],
  ['a CPU that maps vidmem', ({ full }) => maskSet(full.w, B_CPU_READ, 9), 'out of its reach; page 9'],
  [
    'atomics over PCIe beside a writer',
    ({ full }) => {
      for (const o of [G_READ, G_WRITE, G_ATOMIC]) maskSet(gpuState(full, GPU0).w, o, 4);
    },
    'atomics by native and by other processors; page 4',
  ],
  [
    'atomics over PCIe beside a writer without atomics',
    ({ m, full }) => {
      for (const o of [B_CPU_READ, B_CPU_WRITE, B_MM_PRESENT, B_MM_WRITE]) maskClear(full.w, o, 4);
      for (const o of [G_READ, G_WRITE, G_ATOMIC]) maskSet(gpuState(full, GPU0).w, o, 4);
      expect(uvmMigrate(m, full.range.space, BASE + 200, BASE + 201, GPU1)).toBe(NV_OK);
      for (const o of [G_READ, G_WRITE]) maskSet(gpuState(full, GPU1).w, o, 4);
      settle(m);
    },
    'several writers although one has atomics that are not native; page 4',
  ],
  [
    'an evicted page that is resident',
    ({ full }) => {
      full.evictedGpus = 1 << GPU0;
      maskSet(gpuState(full, GPU0).w, G_EVICTED, 9);
    },
    'a resident page is evicted; page 9',
  ],
  ['a hole in a 2 MiB chunk of the CPU', ({ full }) => maskClear(full.w, B_CPU_ALLOCATED, 77), '2 MiB CPU chunk'],
  [
    'a hole in a 64 KiB chunk of the CPU',
    ({ short }) => maskClear(short.w, B_CPU_ALLOCATED, 9),
    '64 KiB CPU chunk has',
  ],
  [
    'a 64 KiB chunk outside of the block',
    ({ short }) => {
      short.cpuChunk64k |= 1 << 6;
    },
    '64 KiB CPU chunk lies',
  ],
  [
    'a hole in a chunk of a GPU',
    ({ short }) => {
      for (const o of [G_ALLOCATED, G_RESIDENT, G_READ, G_WRITE, G_ATOMIC]) maskClear(gpuState(short, GPU0).w, o, 20);
    },
    'part of a GPU chunk is missing',
  ],
  ['a CPU entry that is missing', ({ full }) => maskClear(full.w, B_MM_WRITE, 4), 'entry of page 4 cannot be written'],
  [
    'a CPU entry that is not there at all',
    ({ full }) => {
      maskClear(full.w, B_MM_WRITE, 4);
      maskClear(full.w, B_MM_PRESENT, 4);
    },
    'CPU entry of page 4 is missing',
  ],
  ['a CPU entry nobody knows of', ({ full }) => maskSet(full.w, B_MM_PRESENT, 60), 'maps page 60 behind'],
  [
    'a CPU right nobody knows of',
    ({ full }) => maskClear(full.w, B_CPU_WRITE, 5),
    "CPU may write page 5 behind the driver's back",
  ],
  ['a writable entry that is not present', ({ full }) => maskClear(full.w, B_MM_PRESENT, 5), 'but not present'],
  [
    'half a tracker entry',
    ({ full }) => {
      full.tracker = [1];
    },
    'half an entry',
  ],
  [
    'an unknown channel',
    ({ full }) => {
      full.tracker = [63, 1];
    },
    'channel 63, which does not exist',
  ],
  [
    'an unknown GPU',
    ({ full }) => {
      full.tracker = [64 * 7, 1];
    },
    'which does not exist',
  ],
  [
    'a push that was never submitted',
    ({ full }) => {
      full.tracker = [0, 999_999];
    },
    'never submitted',
  ],
  [
    'a channel named twice',
    ({ full }) => {
      full.tracker = [0, 1, 0, 2];
    },
    'names channel 0 twice',
  ],
  [
    'big entries without a table',
    ({ full }) => {
      gpuState(full, GPU0).hasBigTable = false;
    },
    'big table',
  ],
  [
    'a 4 KiB table in use, but absent',
    ({ full }) => {
      gpuState(full, GPU0).has4kTable = false;
    },
    '4 KiB table',
  ],
  [
    'tables without a directory',
    ({ full }) => {
      gpuState(full, GPU0).has2mEntry = false;
    },
    'does not exist',
  ],
  [
    'a 2 MiB entry of a short block',
    ({ short }) => {
      gpuState(short, GPU0).has2mEntry = true;
    },
    'a short block',
  ],
  [
    'big entries beyond the block',
    ({ short }) => {
      gpuState(short, GPU0).bigPtes |= 1 << 20;
    },
    'beyond the block',
  ],
  [
    'a big entry over unlike pages',
    ({ full }) => {
      gpuState(full, GPU0).bigPtes |= 1;
      gpuState(full, GPU0).initializedBig |= 1;
    },
    'mapped unlike',
  ],
  [
    'a big entry that was never written',
    ({ full }) => {
      gpuState(full, GPU0).initializedBig &= ~2;
    },
    'never written',
  ],
  [
    'a 2 MiB entry over unlike pages',
    ({ full }) => {
      const state = gpuState(full, GPU0);
      state.pteIs2m = true;
      state.bigPtes = 0;
    },
    'mapped unlike',
  ],
  [
    'an entry that should be gone',
    ({ m }) => mmuWritePte(m.gpus[0].mmu, PTE_LEVEL_4K, BASE + 3, 1, makePte(3, GPU0)),
    'gpu0: entry of page 3 is 0xf, not 0x0',
  ],
  [
    'an entry with the wrong rights',
    ({ m }) => mmuWritePte(m.gpus[0].mmu, PTE_LEVEL_BIG, BASE + 64, 1, makePte(1, GPU0)),
    'gpu0: entry of page 64 is 0xb, not 0xf',
  ],
  [
    'an entry that points elsewhere',
    ({ m }) => mmuWritePte(m.gpus[0].mmu, PTE_LEVEL_BIG, BASE + 64, 1, makePte(3, GPU1)),
    'gpu0: entry of page 64 is 0x17, not 0xf',
  ],
  [
    'a piece that is small in hardware alone',
    ({ m }) => mmuWritePte(m.gpus[0].mmu, PTE_LEVEL_BIG, BASE + 64, 1, 0),
    '64 KiB piece 4 is small in hardware',
  ],
  [
    'a directory that is gone',
    ({ m }) => mmuWritePte(m.gpus[0].mmu, PTE_LEVEL_2M, BASE, 1, 0),
    'the hardware lacks the directory',
  ],
  [
    'an entry of a GPU that never saw the block',
    ({ m }) => mmuWritePte(m.gpus[1].mmu, PTE_LEVEL_2M, BASE, 1, makePte(1, GPU0)),
    'gpu1: entry of page 0 is 0xb, not 0x0',
  ],
];

describe('vaBlockCheck', () => {
  it('finds nothing wrong with blocks that the driver made', () => {
    const { m, full, short } = createBench();
    expect(vaBlockCheck(m, full)).toBeNull();
    expect(vaBlockCheck(m, short)).toBeNull();
    expect(vaSpaceCheck(m, m.vaSpaces[0])).toBeNull();
    expect(full.mapped).toBe(3);
    expect(gpuState(full, GPU0).bigPtes).toBe(~1);
  });

  for (const [name, spoil, says] of BLOCK_FAULTS) {
    it(`sees ${name}`, () => {
      const bench = createBench();
      spoil(bench);
      const found = vaBlockCheck(bench.m, bench.full) ?? vaBlockCheck(bench.m, bench.short);
      expect(found).toContain(says);
    });
  }

  it('lets Linux drop CPU entries when told so, but not invent any', () => {
    const { m, full } = createBench();
    maskClear(full.w, B_MM_PRESENT, 4);
    maskClear(full.w, B_MM_WRITE, 4);
    expect(vaBlockCheck(m, full, true)).toBeNull();
    expect(vaBlockCheck(m, full)).toContain('CPU entry of page 4 is missing');
    maskSet(full.w, B_MM_PRESENT, 60);
    expect(vaBlockCheck(m, full, true)).toContain('page 60 behind');
  });

  it('compares page tables only when nothing is on its way to them', () => {
    const { m, full } = createBench();
    const space = m.vaSpaces[0];
    expect(vaSpaceCpuFault(m, space, BASE + 300, true, 0)).toBe(CPU_FAULT_DONE);
    settle(m);
    expect(uvmMigrate(m, space, BASE + 300, BASE + 301, GPU0)).toBe(NV_OK);
    settle(m);
    const { w } = m.vaSpaces[0].serviceContext;
    w.fill(0, 0, 16);
    maskSet(w, 0, 300);
    vaBlockUnmap(m, full, space.serviceContext.blockContext, GPU0, w, 0);
    expect(m.gpus[0].channelManager.host.pendingTail).toBeGreaterThan(0);
    expect(vaBlockCheck(m, full)).toBeNull();
    // A stray entry shows once the push has run.
    mmuWritePte(m.gpus[0].mmu, PTE_LEVEL_4K, BASE + 7, 1, makePte(1, GPU0));
    expect(vaBlockCheck(m, full)).toBeNull();
    settle(m);
    expect(vaBlockCheck(m, full)).toContain('entry of page 7 is 0xb, not 0xf');
  });

  it('knows that the preferred location maps its own memory alone', () => {
    const { m, full } = createBench();
    const space = m.vaSpaces[0];
    expect(policySetAccessedBy(m, space, BASE, BASE + PAGES, GPU1, true)).toBe(NV_OK);
    settle(m);
    expect(vaBlockCheck(m, full)).toBeNull();
    full.range.policy.preferredLocation = GPU1;
    expect(vaBlockCheck(m, full)).toContain('the preferred location, gpu1, maps memory of others');
    full.range.policy.preferredLocation = -1;
    expect(policySetPreferredLocation(m, space, BASE, BASE + PAGES, GPU1)).toBe(NV_OK);
    settle(m);
    expect(vaBlockCheck(m, full)).toBeNull();
  });

  it('catches a habit of the driver: a migrate call gives all rights to a page it has just duplicated', () => {
    const { m, full } = createBench();
    const space = m.vaSpaces[0];
    expect(policySetReadDuplication(m, space, BASE, BASE + PAGES, true)).toBe(NV_OK);
    const context = space.serviceContext.blockContext;
    const page = new Uint32Array(16);
    maskSet(page, 0, 3);
    // The CPU alone maps the page, so that it is known to be unmapped after this.
    vaBlockUnmap(m, full, context, GPU0, gpuState(full, GPU0).w, G_READ);
    vaBlockUnmap(m, full, context, 0, page, 0);
    settle(m);
    expect(vaBlockCheck(m, full)).toBeNull();
    expect(uvmMigrate(m, space, BASE + 3, BASE + 4, GPU0)).toBe(NV_OK);
    settle(m);
    expect(vaBlockCheck(m, full)).toContain('a page with several copies is writable; page 3');
  });

  it('compares the data of the thrashing module', () => {
    const { m, full } = createBench();
    const words = new Uint32Array(32);
    full.thrashing = {
      pages: null,
      numThrashingPages: 1,
      w: words,
      pinnedCount: 0,
      lastProcessor: 0,
      lastTime: 0,
      lastThrashingTime: 0,
      resetCount: 0,
    };
    expect(vaBlockCheck(m, full)).toContain('thrashing pages are miscounted');
    full.thrashing.numThrashingPages = 0;
    expect(vaBlockCheck(m, full)).toBeNull();
    maskSet(words, 16, 8);
    expect(vaBlockCheck(m, full)).toContain('pinned pages without data');
    full.thrashing.pages = {
      lastTime: new Float64Array(512),
      throttlingEnd: new Float64Array(512),
      numEvents: new Uint8Array(512),
      eventKinds: new Uint8Array(512),
      pinned: new Uint8Array(512),
      throttlingCount: new Uint8Array(512),
      processors: new Uint32Array(512),
      throttledProcessors: new Uint32Array(512),
      pinnedResidency: new Int8Array(512).fill(-1),
      doNotThrottle: new Int8Array(512).fill(-1),
    };
    expect(vaBlockCheck(m, full)).toContain('page 8 is and is not pinned');
    full.thrashing.pages.pinned[8] = 1;
    expect(vaBlockCheck(m, full)).toContain('page 8 is pinned but does not thrash');
    maskSet(words, 0, 8);
    full.thrashing.numThrashingPages = 1;
    expect(vaBlockCheck(m, full)).toContain('page 8 is pinned nowhere');
    full.thrashing.pages.pinnedResidency[8] = 0;
    expect(vaBlockCheck(m, full)).toContain('stands 0 times on the list to unpin');
    m.vaSpaces[0].thrashing.pinned.push({ block: full, page: 8, deadline: 1 });
    expect(vaSpaceCheck(m, m.vaSpaces[0])).toBeNull();
    m.vaSpaces[0].thrashing.pinned.push({ block: full, page: 9, deadline: 1 });
    expect(vaSpaceCheck(m, m.vaSpaces[0])).toContain('page 9 is on the list to unpin, but not pinned');
  });
});

describe('vaBlockAssert', () => {
  it('stops an operation of a model with checks that leaves a block in disorder', () => {
    const { m, full } = createBench(true);
    const context = m.vaSpaces[0].serviceContext.blockContext;
    expect(() => vaBlockAssert(m, full)).not.toThrow();
    maskClear(full.w, B_MAYBE_MAPPED, 100);
    expect(() => vaBlockAssert(m, full)).toThrow('certainly unmapped; page 100');
    expect(() => vaBlockUnmap(m, full, context, 0, full.w, B_CPU_READ)).toThrow('certainly unmapped; page 100');
  });

  it('is silent in a model without checks', () => {
    const { m, full } = createBench(false);
    const context = m.vaSpaces[0].serviceContext.blockContext;
    maskClear(full.w, B_MAYBE_MAPPED, 100);
    expect(() => vaBlockUnmap(m, full, context, 0, full.w, B_CPU_READ)).not.toThrow();
  });
});

/** What is spoiled in the VA space or the machine, and a piece of what the check says. */
const SPACE_FAULTS: readonly [name: string, spoil: (b: Bench) => void, says: string][] = [
  [
    'vidmem that is counted twice',
    ({ m }) => {
      m.gpus[0].vidmemUsed += 4096;
    },
    'bytes of vidmem in use',
  ],
  [
    'a reference to a directory too many',
    ({ m }) => {
      m.gpus[0].pageTree.set((BASE + 512) / 512, 9);
    },
    'are off',
  ],
  [
    'a directory without reference',
    ({ m }) => {
      m.gpus[0].pageTree.clear();
    },
    'used without a reference',
  ],
  [
    'a reference to a directory that nobody uses',
    ({ m }) => {
      m.gpus[0].pageTree.set(1, 1);
    },
    'are off',
  ],
  [
    'an empty range',
    ({ full }) => {
      full.range.outerPage = full.range.startPage;
    },
    'is empty',
  ],
  [
    'ranges that overlap',
    ({ m, full }) => {
      m.vaSpaces[0].ranges.push({ ...full.range, startPage: BASE + 600, blocks: [null] });
    },
    'overlaps the one before it',
  ],
  [
    'a range with too few slots',
    ({ full }) => {
      full.range.blocks.pop();
    },
    'has 1 block slots, not 2',
  ],
  [
    'a block of another range',
    ({ full, short }) => {
      short.range = { ...full.range };
    },
    'belongs to another range',
  ],
  [
    'a dead block',
    ({ short }) => {
      short.dead = true;
    },
    'is dead, but in use',
  ],
  [
    'a block that is too short',
    ({ short }) => {
      short.n = 99;
    },
    'does not fill slot 1',
  ],
  ['a broken block', ({ full }) => maskClear(full.w, B_CPU_RESIDENT, 3), 'a page without a copy is mapped; page 3'],
  [
    'range-group intervals that overlap',
    ({ m }) => {
      const group = { id: 1, allowMigration: true };
      m.vaSpaces[0].rangeGroups.push(group);
      const interval = { startPage: BASE, outerPage: BASE + 2, group, migrated: false };
      m.vaSpaces[0].rangeGroupRanges.push(interval, { ...interval, startPage: BASE + 1 });
    },
    'intervals overlap',
  ],
  [
    'an interval of a group that is gone',
    ({ m }) => {
      const group = { id: 1, allowMigration: true };
      m.vaSpaces[0].rangeGroupRanges.push({ startPage: BASE, outerPage: BASE + 2, group, migrated: false });
    },
    'a range group that is gone',
  ],
];

describe('vaSpaceCheck', () => {
  for (const [name, spoil, says] of SPACE_FAULTS) {
    it(`sees ${name}`, () => {
      const bench = createBench();
      spoil(bench);
      expect(vaSpaceCheck(bench.m, bench.m.vaSpaces[0])).toContain(says);
    });
  }

  it('finds nothing wrong after all memory was freed and taken again', () => {
    const { m } = createBench();
    const space = m.vaSpaces[0];
    vaSpaceMunmap(m, space, BASE, BASE + PAGES);
    settle(m);
    expect(vaSpaceCheck(m, space)).toBeNull();
    expect(m.gpus[0].vidmemUsed).toBe(0);
    expect(m.gpus[0].pageTree.size).toBe(0);
    expect(vaSpaceMmap(space, BASE, PAGES, 0)).toBe(NV_OK);
    expect(uvmMigrate(m, space, BASE + 100, BASE + 600, GPU1)).toBe(NV_OK);
    settle(m);
    expect(vaSpaceCheck(m, space)).toBeNull();
  });
});
