/**
 * Properties that the driver's own tests assert (uvm_*_test.c, driver 580.105.08) and that no test beside the code has:
 * ranges, chunks of a block, performance events and modules, performance trees. docs/driver-tests.md lists all of them.
 */
import { describe, expect, it } from 'vitest';
import profileJson from '../profiles/h200-pcie5.json' with { type: 'json' };
import { maskNextClear, maskNextSet, maskSet, maskTest, maskWeight, maskZero } from '../src/base/page_mask.ts';
import { createPrng, type Prng, prngBelow, prngChance } from '../src/base/prng.ts';
import { runUntilIdle } from '../src/model/kernel/clock.ts';
import { createModel } from '../src/model/model.ts';
import type { Costs, MachineSpec } from '../src/model/spec.ts';
import type { Model } from '../src/model/state.ts';
import { uvmMigrate } from '../src/model/uvm/migrate.ts';
import { parseModuleParameters } from '../src/model/uvm/params.ts';
import { perfEventNotifyRevocation } from '../src/model/uvm/perf_events.ts';
import { perfPrefetchGetHint } from '../src/model/uvm/perf_prefetch.ts';
import { policySetAccessedBy } from '../src/model/uvm/policy.ts';
import { NV_ERR_INVALID_ADDRESS, NV_ERR_UVM_ADDRESS_IN_USE, NV_OK } from '../src/model/uvm/status.ts';
import { EVENT_MIGRATION } from '../src/model/uvm/tools.ts';
import { createServiceBlockContext } from '../src/model/uvm/va_block.ts';
import { vaBlockCheck, vaSpaceCheck } from '../src/model/uvm/va_block_check.ts';
import { gpuChunkPages } from '../src/model/uvm/va_block_copy.ts';
import { CPU_FAULT_DONE, vaSpaceCpuFault } from '../src/model/uvm/va_block_cpu_fault.ts';
import { newResidencyOffset } from '../src/model/uvm/va_block_service.ts';
import { B_CPU_ALLOCATED, G_ALLOCATED, type VaBlock } from '../src/model/uvm/va_block_types.ts';
import { vaRangeSplit, vaSpaceMunmap } from '../src/model/uvm/va_range.ts';
import type { VaRange, VaSpace } from '../src/model/uvm/va_range_types.ts';
import { vaBlockFind, vaRangeFind, vaRangeIndex, vaSpaceMmap } from '../src/model/uvm/va_space.ts';
import type { Why } from '../src/model/why.ts';

const GPU0 = 1;
/** Above 2^32 bytes, at a 2 MiB boundary. */
const BASE = 512 * 4096;

function createMachine(parameters: Record<string, number> = {}, why: Why | null = null): Model {
  const spec: MachineSpec = {
    ...profileJson.machine,
    name: 'test',
    driver: '580',
    architecture: 'hopper',
    faultBufferEntries: 16,
  };
  const costs = Object.fromEntries(Object.keys(profileJson.costs).map((name) => [name, 1])) as unknown as Costs;
  const parsed = parseModuleParameters(parameters, 16);
  if (!parsed.ok) throw new Error(parsed.error);
  return createModel(spec, parsed.params, costs, { verify: true, why });
}

function createSpace(): { m: Model; space: VaSpace } {
  const m = createMachine();
  return { m, space: m.vaSpaces[0] };
}

describe('uvm_range_tree_test.c: the ranges of a VA space', () => {
  it('empty: nothing is found, and everything is a hole', () => {
    const { m, space } = createSpace();
    for (const page of [0, 1, BASE, 2 ** 51]) {
      expect(vaRangeFind(space, page)).toBeNull();
      expect(vaRangeIndex(space, page)).toBe(0);
    }
    expect(policySetAccessedBy(m, space, 0, 1, GPU0, true)).toBe(NV_ERR_INVALID_ADDRESS);
  });

  it('a range is found at its start, its middle and its end, and not just outside', () => {
    const { space } = createSpace();
    expect(vaSpaceMmap(space, BASE + 10, 21, 7)).toBe(NV_OK);
    const [range] = space.ranges;
    expect(range.outerPage - range.startPage).toBe(21);
    for (const page of [10, 20, 30]) expect(vaRangeFind(space, BASE + page)).toBe(range);
    for (const page of [9, 31]) expect(vaRangeFind(space, BASE + page)).toBeNull();
  });

  it.each([
    ['the same', 10, 20],
    ['inside', 12, 4],
    ['around', 5, 40],
    ['over the first page', 5, 6],
    ['over the last page', 29, 6],
  ])('a range that overlaps another is refused, and nothing changes: %s', (_name, first, pages) => {
    const { space } = createSpace();
    expect(vaSpaceMmap(space, BASE + 10, 20, 0)).toBe(NV_OK);
    const before = { ...space.ranges[0] };
    expect(vaSpaceMmap(space, BASE + first, pages, 1)).toBe(NV_ERR_UVM_ADDRESS_IN_USE);
    expect(space.ranges).toHaveLength(1);
    expect({ ...space.ranges[0] }).toEqual(before);
  });

  it('adjacent ranges are fine, on both sides, and iteration is in order of address', () => {
    const { space } = createSpace();
    expect(vaSpaceMmap(space, BASE + 10, 20, 0)).toBe(NV_OK);
    expect(vaSpaceMmap(space, BASE + 30, 1, 1)).toBe(NV_OK);
    expect(vaSpaceMmap(space, BASE + 9, 1, 2)).toBe(NV_OK);
    expect(space.ranges.map((r) => [r.startPage - BASE, r.outerPage - BASE])).toEqual([
      [9, 10],
      [10, 30],
      [30, 31],
    ]);
  });

  it('an address between two ranges lies in none, and the search names the one behind the hole', () => {
    const { space } = createSpace();
    expect(vaSpaceMmap(space, BASE, 4, 0)).toBe(NV_OK);
    expect(vaSpaceMmap(space, BASE + 10, 4, 1)).toBe(NV_OK);
    for (const page of [4, 7, 9]) {
      expect(vaRangeFind(space, BASE + page)).toBeNull();
      expect(vaRangeIndex(space, BASE + page)).toBe(1);
    }
    expect(vaRangeIndex(space, BASE + 14)).toBe(2);
  });

  it('a split makes two adjacent ranges in order, with the policy of the one and all of its blocks', () => {
    const { m, space } = createSpace();
    expect(vaSpaceMmap(space, BASE, 1200, 3)).toBe(NV_OK);
    expect(policySetAccessedBy(m, space, BASE, BASE + 1200, GPU0, true)).toBe(NV_OK);
    expect(uvmMigrate(m, space, BASE, BASE + 1200, GPU0)).toBe(NV_OK);
    const range = space.ranges[0];
    const behind = vaRangeSplit(m, range, BASE + 700);
    expect(space.ranges).toEqual([range, behind]);
    expect([range.startPage, range.outerPage, behind.startPage, behind.outerPage].map((p) => p - BASE)).toEqual([
      0, 700, 700, 1200,
    ]);
    expect(behind.policy).toEqual(range.policy);
    expect(behind.policy).not.toBe(range.policy);
    expect(behind.allocation).toBe(3);
    expect(range.blocks.map((b) => [b?.startPage, b?.n])).toEqual([
      [BASE, 512],
      [BASE + 512, 188],
    ]);
    expect(behind.blocks.map((b) => [b?.startPage, b?.n])).toEqual([
      [BASE + 700, 324],
      [BASE + 1024, 176],
    ]);
    expect(vaSpaceCheck(m, space)).toBeNull();
    for (const at of [BASE, BASE + 700]) expect(() => vaRangeSplit(m, range, at)).toThrow('inside');
  });

  it('agrees with a plain array of pages under random adds, removals and splits', () => {
    const { m, space } = createSpace();
    const p = createPrng(20);
    const pages = new Int32Array(400).fill(-1);
    let wrong = 0;
    for (let i = 0; i < 1500; i++) {
      const first = prngBelow(p, 400);
      const outer = Math.min(400, first + 1 + prngBelow(p, 30));
      const free = pages.subarray(first, outer).every((id) => id < 0);
      const range = vaRangeFind(space, BASE + first);
      if (range !== null && prngChance(p, 1, 2)) {
        removeAllocation(m, space, range, pages);
      } else if (range !== null && BASE + first > range.startPage) {
        vaRangeSplit(m, range, BASE + first);
      } else {
        expect(vaSpaceMmap(space, BASE + first, outer - first, i)).toBe(free ? NV_OK : NV_ERR_UVM_ADDRESS_IN_USE);
        if (free) pages.fill(i, first, outer);
      }
      for (let page = 0; page < 400; page++) {
        if ((vaRangeFind(space, BASE + page)?.allocation ?? -1) !== pages[page]) wrong++;
      }
    }
    expect(wrong).toBe(0);
    expect(vaSpaceCheck(m, space)).toBeNull();
  });

  function removeAllocation(m: Model, space: VaSpace, range: VaRange, pages: Int32Array): void {
    const id = range.allocation;
    const first = pages.indexOf(id);
    const outer = pages.lastIndexOf(id) + 1;
    vaSpaceMunmap(m, space, BASE + first, BASE + outer);
    pages.fill(-1, first, outer);
  }
});

describe('uvm_va_block_test.c: the chunks of a block', () => {
  it('are gapless, aligned, inside, and the largest that are allowed, for a block of any start and size', () => {
    let chunks = 0;
    let wrong = 0;
    for (let first = 0; first < 512; first++) {
      for (let outer = first + 1; outer <= 512; outer++) {
        for (let page = first; page < outer; chunks++) {
          const size = gpuChunkPages(first, outer - first, page - first);
          const largest = [512, 16, 1].find((s) => page % s === 0 && page + s <= outer);
          if (size !== largest || page % size !== 0 || page + size > outer) wrong++;
          for (let inside = page + 1; inside < page + size; inside++) {
            if (gpuChunkPages(first, outer - first, inside - first) !== size) wrong++;
          }
          page += size;
        }
      }
    }
    expect(wrong).toBe(0);
    expect(chunks).toBeGreaterThan(1_000_000);
  });

  function run(words: Uint32Array, o: number, page: number, n: number): [first: number, outer: number] {
    let first = page;
    while (first > 0 && maskTest(words, o, first - 1)) first--;
    return [first, maskNextClear(words, o, page, n)];
  }

  it('of a GPU appear whole with the first page that needs one', () => {
    const p = createPrng(42);
    for (let i = 0; i < 150; i++) {
      const into2m = prngChance(p, 1, 4) ? 0 : prngBelow(p, 512);
      const n = into2m === 0 && prngChance(p, 1, 2) ? 512 : 1 + prngBelow(p, 512 - into2m);
      const page = prngBelow(p, n);
      const m = createMachine({ uvm_perf_prefetch_enable: 0 });
      const space = m.vaSpaces[0];
      expect(vaSpaceMmap(space, BASE + into2m, n, 0)).toBe(NV_OK);
      expect(uvmMigrate(m, space, BASE + into2m + page, BASE + into2m + page + 1, GPU0)).toBe(NV_OK);
      const block = vaBlockFind(space, BASE + into2m) as VaBlock;
      const size = gpuChunkPages(into2m, n, page);
      const first = Math.floor((into2m + page) / size) * size - into2m;
      const { w } = block.gpus[0] ?? { w: new Uint32Array() };
      expect(run(w, G_ALLOCATED, page, n)).toEqual([first, first + size]);
      expect(maskWeight(w, G_ALLOCATED)).toBe(size);
      expect(m.gpus[0].vidmemUsed).toBe(size * 4096);
    }
  });

  it.each([
    [0x1000, 1, 1],
    [0x11000, 16, 16],
    [0x201000, 512, 1],
    [0x211000, 512, 16],
  ])('of the CPU are the largest of the sizes 0x%x that touch no other chunk', (sizes, inEmptyBlock, else64k) => {
    const p = createPrng(sizes);
    for (let i = 0; i < 40; i++) touchRandomly(p, sizes, inEmptyBlock, else64k);
  });

  function touchRandomly(p: Prng, sizes: number, inEmptyBlock: number, else64k: number): void {
    const m = createMachine({ uvm_cpu_chunk_allocation_sizes: sizes, uvm_perf_prefetch_enable: 0 });
    const space = m.vaSpaces[0];
    const into2m = prngChance(p, 1, 3) ? 0 : prngBelow(p, 512);
    const n = into2m === 0 && prngChance(p, 1, 2) ? 512 : 1 + prngBelow(p, 512 - into2m);
    expect(vaSpaceMmap(space, BASE + into2m, n, 0)).toBe(NV_OK);
    const want = new Uint32Array(16);
    for (let k = 0; k < 6; k++) {
      const page = prngBelow(p, n);
      expect(vaSpaceCpuFault(m, space, BASE + into2m + page, true, 0)).toBe(CPU_FAULT_DONE);
      if (!maskTest(want, 0, page)) addChunk(want, into2m, n, page, inEmptyBlock, else64k);
      const block = vaBlockFind(space, BASE + into2m) as VaBlock;
      expect([...block.w.subarray(B_CPU_ALLOCATED, B_CPU_ALLOCATED + 16)]).toEqual([...want]);
      runUntilIdle(m);
      expect(vaBlockCheck(m, block)).toBeNull();
    }
  }

  /** The rule, said in another way: try the sizes, the largest first. */
  function addChunk(have: Uint32Array, into2m: number, n: number, page: number, most: number, next: number): void {
    for (const size of [most, next, 1]) {
      const first = Math.floor((into2m + page) / size) * size - into2m;
      if (first < 0 || first + size > n || maskNextSet(have, 0, first, first + size) < first + size) continue;
      for (let k = first; k < first + size; k++) maskSet(have, 0, k);
      return;
    }
  }
});

/** Two pages of a block on the CPU, and a way to move them there and back by faults of the CPU and migrate calls. */
function createBlock(): { m: Model; space: VaSpace; block: VaBlock } {
  const m = createMachine({ uvm_perf_prefetch_enable: 0 });
  const space = m.vaSpaces[0];
  expect(vaSpaceMmap(space, BASE, 512, 0)).toBe(NV_OK);
  // Page stamps of 0 mean none, and the first 64 ns are such a stamp.
  m.k.now = 1000;
  expect(vaSpaceCpuFault(m, space, BASE, true, 0)).toBe(CPU_FAULT_DONE);
  expect(vaSpaceCpuFault(m, space, BASE + 1, true, 0)).toBe(CPU_FAULT_DONE);
  return { m, space, block: vaBlockFind(space, BASE) as VaBlock };
}

/** Takes a page to the GPU by a call, and back by a fault of the CPU: one migration that the heuristics hear of. */
function bounce(m: Model, space: VaSpace, page: number): void {
  expect(uvmMigrate(m, space, BASE + page, BASE + page + 1, GPU0)).toBe(NV_OK);
  expect(vaSpaceCpuFault(m, space, BASE + page, true, 0)).toBe(CPU_FAULT_DONE);
  runUntilIdle(m);
}

function migrations(m: Model): number {
  let count = 0;
  for (let i = 0; i < m.tools.log.count; i++) if (m.tools.log.kind[i] === EVENT_MIGRATION) count++;
  return count;
}

describe('uvm_perf_events_test.c: who listens to an event', () => {
  it('both listeners hear of a migration once: the tools record one run, the thrashing module stamps the block once', () => {
    const { m, space, block } = createBlock();
    expect(migrations(m)).toBe(0);
    bounce(m, space, 0);
    expect(migrations(m)).toBe(2);
    expect(block.thrashing?.lastProcessor).toBe(0);
    const stamp = block.thrashing?.lastTime ?? 0;
    expect(stamp).toBeGreaterThan(0);
    bounce(m, space, 1);
    expect(migrations(m)).toBe(4);
    expect(block.thrashing?.lastTime).toBeGreaterThan(stamp);
  });

  it('a page that is heard of n times has n - 1 counted events: none is delivered twice', () => {
    const { m, block } = createBlock();
    perfEventNotifyRevocation(m, block, 0, 0, 1);
    m.k.now += 100;
    // The second processor makes the module look at pages; from then on each event but the first of a page counts.
    perfEventNotifyRevocation(m, block, GPU0, 0, 1);
    expect(block.thrashing?.pages?.numEvents[0]).toBe(0);
    for (let n = 1; n <= 5; n++) {
      m.k.now += 100;
      perfEventNotifyRevocation(m, block, n % 2, 0, 1);
      expect(block.thrashing?.pages?.numEvents[0]).toBe(n);
    }
    expect(block.thrashing?.pages?.numEvents[1]).toBe(0);
  });
});

describe("uvm_perf_module_test.c: a module's data of a block", () => {
  it('is created by the first event that needs it, not with the block and not by a call', () => {
    const { m, space, block } = createBlock();
    expect(block.thrashing).toBeNull();
    expect(uvmMigrate(m, space, BASE, BASE + 2, GPU0)).toBe(NV_OK);
    expect(block.thrashing).toBeNull();
    expect(vaSpaceCpuFault(m, space, BASE, true, 0)).toBe(CPU_FAULT_DONE);
    expect(block.thrashing).not.toBeNull();
  });

  it('belongs to its block alone, and goes when the block is split or ends', () => {
    const { m, space, block } = createBlock();
    bounce(m, space, 0);
    expect(block.thrashing).not.toBeNull();
    const behind = vaRangeSplit(m, space.ranges[0], BASE + 100);
    expect(block.thrashing).toBeNull();
    expect(behind.blocks[0]?.thrashing).toBeNull();
    bounce(m, space, 1);
    expect(block.thrashing).not.toBeNull();
    expect(behind.blocks[0]?.thrashing).toBeNull();
    vaSpaceMunmap(m, space, BASE, BASE + 512);
    expect(block.thrashing).toBeNull();
    expect(space.thrashing.pinned).toEqual([]);
  });
});

describe('uvm_perf_utils_test.c: the tree over the pages of a block', () => {
  /** Every node that the observer is told of for a block of `n` pages with a fault on each: level and first leaf. */
  function nodes(n: number): { all: Set<string>; perPage: Map<number, number[]>; counters: number[] } {
    const all = new Set<string>();
    const perPage = new Map<number, number[]>();
    const counters: number[] = [];
    const why: Why = {
      enter: () => {},
      residency: () => {},
      prefetchLevel: (_block, page, level, first, outer, counter, size) => {
        all.add(`${level}:${first}`);
        perPage.set(page, [...(perPage.get(page) ?? []), level]);
        if (level === 0) counters.push(counter, size, outer - first);
      },
      prefetch: () => {},
      thrashing: () => {},
      push: () => {},
      copy: () => {},
      map: () => {},
    };
    // Nothing is fuller than 100 percent, so every page asks for all of its levels.
    const m = createMachine({ uvm_perf_prefetch_threshold: 100 }, why);
    const space = m.vaSpaces[0];
    expect(vaSpaceMmap(space, BASE, n, 0)).toBe(NV_OK);
    expect(vaSpaceCpuFault(m, space, BASE, false, 0)).toBe(CPU_FAULT_DONE);
    const block = vaBlockFind(space, BASE) as VaBlock;
    const context = createServiceBlockContext(m);
    context.residentProcessors = 1 << GPU0;
    context.outerPage = n;
    maskZero(context.w, newResidencyOffset(GPU0));
    for (let page = 0; page < n; page++) maskSet(context.w, newResidencyOffset(GPU0), page);
    all.clear();
    perPage.clear();
    counters.length = 0;
    perfPrefetchGetHint(m, block, context);
    return { all, perPage, counters };
  }

  it.each([
    [1, 1, 1],
    [2, 3, 2],
    [7, 14, 4],
    [8, 15, 4],
    [9, 20, 5],
    [13, 27, 5],
    [15, 30, 5],
    [512, 1023, 10],
  ])(
    'of %i leaves has %i nodes on %i levels; each leaf passes one node of every level up to the root',
    (n, count, levels) => {
      const { all, perPage, counters } = nodes(n);
      expect(all.size).toBe(count);
      expect(perPage.size).toBe(n);
      const upwards = Array.from({ length: levels }, (_, i) => levels - 1 - i);
      for (const passed of perPage.values()) expect(passed).toEqual(upwards);
      // The root counts all leaves and is as wide as the block, whatever the next power of two is.
      expect(counters).toEqual(Array.from({ length: n }, () => [n, n, n]).flat());
    },
  );
});
