import { describe, expect, it } from 'vitest';
import { type CopyComparison, compareCopies, verdictOf, WAYS, type Way, type WayResult } from './compare_copies.ts';
import { loadMachines } from './machines.ts';

const machines = loadMachines();
const WRITE = { on: 'cpu', do: 'write', buffer: 'a', offset: 0, length: 2 ** 21, stride: 4096 };
const GPU_READ = { ...WRITE, on: 'gpu0', do: 'read' };

function scenario(steps: object[]) {
  return { name: 's', machine: 'h200-pcie5', allocations: [{ name: 'a', bytes: 2 ** 21 }], steps };
}

function compared(steps: object[], choice: object = {}): CopyComparison {
  const result = compareCopies(scenario(steps), choice, machines);
  if (!result.ok) throw new Error(result.error);
  return result.comparison;
}

function of(comparison: CopyComparison, way: Way): WayResult {
  const found = comparison.ways.find((one) => one.way === way);
  if (found === undefined || 'refused' in found) throw new Error(`${way} was refused`);
  return found;
}

describe('pages on the GPU', () => {
  const comparison = compared([WRITE, GPU_READ], { page: 16, count: 16 });

  it('stay there for the routine and for explicit copies, without a fault, now and at the next reading', () => {
    for (const way of WAYS.slice(0, 3)) {
      const result = of(comparison, way);
      expect(result).toMatchObject({ linkBytes: 65536, cpuFaults: 0, gpuFaults: 0, resident: { gpu0: 16 } });
      expect(result.again).toMatchObject({ gpuFaults: 0, linkBytes: 0 });
    }
  });

  it('move for a prefetch and a plain read, and come back by faults', () => {
    for (const way of WAYS.slice(3)) {
      const result = of(comparison, way);
      expect(result.resident).toEqual({ cpu: 16 });
      expect(result.linkBytes).toBe(65536);
      expect(result.again.gpuFaults).toBeGreaterThan(0);
      expect(result.again.linkBytes).toBe(65536);
    }
    expect(of(comparison, 'prefetch, then read').cpuFaults).toBe(0);
    expect(of(comparison, 'plain read').cpuFaults).toBe(1);
  });

  it('give a verdict that follows from the figures', () => {
    const verdict = verdictOf(comparison);
    const routine = of(comparison, 'copy routine').microseconds;
    expect(verdict?.ofExplicit).toBe(routine / of(comparison, 'explicit copy, pinned').microseconds);
    expect(verdict?.bothStay).toBe(true);
    expect(verdict?.movers.map(({ way, moved }) => [way, moved])).toEqual([
      ['prefetch, then read', 16],
      ['plain read', 16],
    ]);
  });
});

it('counts what crosses the link, not what is copied in place', () => {
  // Half of the pages never left the CPU.
  const half = { ...GPU_READ, length: 2 ** 20 };
  const comparison = compared(
    [WRITE, half, { do: 'prefetch', to: 'cpu', buffer: 'a', offset: 2 ** 20, length: 2 ** 20 }],
    {
      page: 248,
      count: 16,
    },
  );
  expect(comparison.resident).toEqual({ gpu0: 8, cpu: 8 });
  expect(of(comparison, 'copy routine')).toMatchObject({ linkBytes: 8 * 4096, resident: { gpu0: 8, cpu: 8 } });
  const refused = comparison.ways.find(({ way }) => way === 'explicit copy');
  expect(refused).toMatchObject({ refused: expect.stringContaining('not resident and mapped on gpu0') });
  expect(verdictOf(comparison)?.ofExplicit).toBeNull();
});

it('has no explicit copy with Confidential Computing, whose cost is not known', () => {
  const json = { ...scenario([WRITE, GPU_READ]), machine: 'h100-cc' };
  const result = compareCopies(json, { page: 16, count: 16 }, machines);
  if (!result.ok) throw new Error(result.error);
  const { comparison } = result;
  const refused = comparison.ways.flatMap((one) => ('refused' in one ? [[one.way, one.refused]] : []));
  expect(refused).toEqual(
    ['explicit copy, pinned', 'explicit copy'].map((way) => [way, expect.stringContaining('Confidential Computing')]),
  );
  expect(of(comparison, 'copy routine')).toMatchObject({ linkBytes: 65536, gpuFaults: 0, resident: { gpu0: 16 } });
  expect(verdictOf(comparison)).toMatchObject({ ofExplicit: null, bothStay: true });
});

describe('the choice of pages', () => {
  it('is the first that live on a GPU, as many as follow', () => {
    const some = { on: 'gpu0', do: 'read', buffer: 'a', pages: [32] };
    expect(compared([WRITE, some])).toMatchObject({ buffer: 'a', page: 32, count: 16, resident: { gpu0: 16 } });
  });

  it.each([
    [{ buffer: 'x' }, 'buffer: "x"; expected a managed buffer: a'],
    [{ page: 512 }, 'page: 512; buffer "a" has 512 pages'],
    [{ page: 500, count: 13 }, 'count: 13; buffer "a" has 12 pages from page 500 on'],
  ])('%j is refused', (choice, error) => {
    expect(compareCopies(scenario([WRITE, GPU_READ]), choice, machines)).toEqual({ ok: false, error });
  });

  it('needs pages on a GPU, or their names', () => {
    const result = compareCopies(scenario([WRITE]), {}, machines);
    expect(result).toMatchObject({ ok: false, error: expect.stringContaining('no page of any managed buffer') });
    expect(of(compared([WRITE], { page: 0 }), 'copy routine').linkBytes).toBe(0);
  });
});
