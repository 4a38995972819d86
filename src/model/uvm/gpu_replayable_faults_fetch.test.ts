import { describe, expect, it } from 'vitest';
import { BASE, createFaultMachine } from '../../../test/support/fault_machine.ts';
import { faultBufferInject, faultBufferPut, faultBufferReadPut } from '../gpu/fault_buffer.ts';
import type { Model } from '../state.ts';
import { fetchFaultBufferEntries } from './gpu_replayable_faults_fetch.ts';
import {
  FAULT_FILTERED,
  FAULT_IS_FATAL,
  FETCH_MODE_ALL,
  FETCH_MODE_BATCH_READY,
} from './gpu_replayable_faults_types.ts';
import { NV_ERR_RC_ERROR, NV_OK } from './status.ts';
import { ACCESS_ATOMIC_STRONG, ACCESS_READ, ACCESS_WRITE } from './va_block_types.ts';

const READ = ACCESS_READ;
const WRITE = ACCESS_WRITE;
const ATOMIC = ACCESS_ATOMIC_STRONG;
const HW_READ = 0;
const HW_PHYS_READ = 8;

/** Page, driver access type and MMU client of a fault; all arrive at time 0. */
type Fault = readonly [page: number, access: number, client: number];

function machine(faults: readonly Fault[], entries = 64, parameters: Record<string, unknown> = {}): Model {
  const m = createFaultMachine({ entries, parameters });
  for (const [page, access, client] of faults) faultBufferInject(m, 0, BASE + page, access, 0, 0, client, 0, 0, 0);
  return m;
}

/** Each representative as [row, instances, access mask, rows merged into it from the newest on]. */
function representatives(m: Model): [number, number, number, number[]][] {
  const batch = m.gpus[0].replayable.batch;
  const c = batch.faultCache;
  const list: [number, number, number, number[]][] = [];
  for (let i = 0; i < batch.numCachedFaults; i++) {
    if ((c.flags[i] & FAULT_FILTERED) !== 0) continue;
    const merged: number[] = [];
    for (let row = c.next[i]; row !== i; row = c.next[row]) merged.push(row);
    list.push([i, c.numInstances[i], c.accessMask[i], merged]);
  }
  expect(list).toHaveLength(batch.numCoalescedFaults);
  return list;
}

function fetched(
  faults: readonly Fault[],
  parameters: Record<string, unknown> = {},
): [number, number, number, number[]][] {
  const m = machine(faults, 64, parameters);
  expect(fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY)).toBe(NV_OK);
  return representatives(m);
}

const R = 1 << READ;
const W = 1 << WRITE;
const A = 1 << ATOMIC;

describe('merging', () => {
  it('merges into the last fault of the uTLB, and into the last fault of the batch', () => {
    // The run of the driver notes: A(1, uTLB 0), B(2, uTLB 1), C(1, uTLB 0) merges into A, D(1, uTLB 2) does not.
    expect(
      fetched([
        [1, READ, 0],
        [2, READ, 1],
        [1, READ, 0],
        [1, READ, 2],
      ]),
    ).toEqual([
      [0, 2, R, [2]],
      [1, 1, R, []],
      [3, 1, R, []],
    ]);
  });

  it('merges across uTLBs when nothing came between and the access is not more intrusive', () => {
    expect(
      fetched([
        [1, WRITE, 0],
        [1, READ, 1],
        [1, WRITE, 2],
      ]),
    ).toEqual([[0, 3, R | W, [2, 1]]]);
  });

  it('does not merge a more intrusive access of another uTLB', () => {
    expect(
      fetched([
        [1, READ, 0],
        [1, WRITE, 1],
      ]),
    ).toEqual([
      [0, 1, R, []],
      [1, 1, W, []],
    ]);
  });

  it('makes a more intrusive access of the same uTLB the representative, with the rest behind it', () => {
    expect(
      fetched([
        [1, READ, 0],
        [1, READ, 0],
        [1, WRITE, 0],
        [1, READ, 0],
        [1, ATOMIC, 0],
      ]),
    ).toEqual([[4, 5, R | W | A, [2, 3, 0, 1]]]);
  });

  it('keeps the uTLB before the batch: any access type merges there', () => {
    expect(
      fetched([
        [1, READ, 0],
        [2, READ, 1],
        [1, ATOMIC, 0],
      ]),
    ).toEqual([
      [1, 1, R, []],
      [2, 2, R | A, [0]],
    ]);
  });

  it('counts what merges into a fault that was itself merged away there, and reports it all the same', () => {
    // Row 1 takes row 0's place, but the batch's last fault is still row 0, which row 2 merges into.
    const m = machine([
      [1, READ, 0],
      [1, WRITE, 0],
      [1, READ, 1],
    ]);
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect(representatives(m)).toEqual([[1, 2, R | W, [0, 2]]]);
    expect(m.gpus[0].replayable.batch.faultCache.numInstances[0]).toBe(3);
  });

  it('of a write into the merged-away fault follows the rank of that fault', () => {
    // Row 2 is more intrusive than row 0, so it does not merge although row 1 is a write too.
    expect(
      fetched([
        [1, READ, 0],
        [1, WRITE, 0],
        [1, WRITE, 1],
      ]),
    ).toEqual([
      [1, 2, R | W, [0]],
      [2, 1, W, []],
    ]);
  });

  it('does not touch the uTLB of an entry that merged into the last fault of the batch', () => {
    // Row 1 came through uTLB 1 and merged into row 0. Row 3 finds nothing pending there.
    expect(
      fetched([
        [1, READ, 0],
        [1, READ, 1],
        [2, READ, 0],
        [1, READ, 1],
      ]),
    ).toEqual([
      [0, 2, R, [1]],
      [2, 1, R, []],
      [3, 1, R, []],
    ]);
  });

  it('compares pages with the last fault of the uTLB alone', () => {
    expect(
      fetched([
        [1, READ, 0],
        [2, READ, 0],
        [1, READ, 0],
      ]),
    ).toHaveLength(3);
  });

  it('is off when the module parameter says so', () => {
    const faults: Fault[] = [
      [1, READ, 0],
      [1, READ, 0],
    ];
    expect(fetched(faults)).toHaveLength(1);
    expect(fetched(faults, { uvm_perf_fault_coalesce: 0 })).toHaveLength(2);
  });

  it('never merges an entry of a fatal type, but merges others into it', () => {
    const m = createFaultMachine({ entries: 64 });
    const fatal = 3;
    for (const faultType of [0, fatal, 0]) faultBufferInject(m, 0, BASE, READ, faultType, 0, 0, 0, 0, 0);
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect(representatives(m)).toEqual([
      [0, 1, R, []],
      [1, 2, R, [2]],
    ]);
    const flags = m.gpus[0].replayable.batch.faultCache.flags;
    expect([0, 1, 2].map((row) => flags[row] & FAULT_IS_FATAL)).toEqual([0, FAULT_IS_FATAL, 0]);
  });

  it('keeps contexts apart, and notices that there are several', () => {
    const m = createFaultMachine({ entries: 64 });
    m.gpus[0].instancePointers.push({ address: 0x9000, aperture: 0, vaSpace: 0 });
    for (const instance of [0, 0, 1]) faultBufferInject(m, 0, BASE, READ, 0, 0, 0, instance, 0, 0);
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect(representatives(m)).toEqual([
      [0, 2, R, [1]],
      [2, 1, R, []],
    ]);
    expect(m.gpus[0].replayable.batch.isSingleInstancePtr).toBe(false);
    faultBufferInject(m, 0, BASE, READ, 0, 0, 0, 1, 0, 0);
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect(m.gpus[0].replayable.batch.isSingleInstancePtr).toBe(true);
  });

  it('keeps apertures of one address apart', () => {
    const m = createFaultMachine({ entries: 64 });
    for (const aperture of [0, 2]) faultBufferPut(m, 0, 0x5, aperture, BASE, HW_READ, 0, 0, 0, 0, 0);
    faultBufferPut(m, 0, 0x5, 3, BASE, HW_PHYS_READ, 0, 0, 0, 0, 0);
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    // Both kinds of system memory are one to the driver.
    expect(representatives(m)).toEqual([
      [0, 1, R, []],
      [1, 2, R, [2]],
    ]);
  });

  it('forgets the uTLBs of the batch before', () => {
    const m = machine([
      [1, READ, 0],
      [2, READ, 1],
    ]);
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    for (const [page, client] of [
      [9, 2],
      [1, 0],
      [2, 1],
    ]) {
      faultBufferInject(m, 0, BASE + page, READ, 0, 0, client, 0, 0, 0);
    }
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect(representatives(m)).toHaveLength(3);
  });

  it('forgets them too after a batch with more entries than uTLBs', () => {
    const m = machine(Array.from({ length: 30 }, (_, i) => [i, READ, 0] as const));
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect(m.gpus[0].replayable.batch.numCachedFaults).toBe(30);
    faultBufferInject(m, 0, BASE + 5, READ, 0, 0, 1, 0, 0, 0);
    faultBufferInject(m, 0, BASE + 29, READ, 0, 0, 0, 0, 0, 0);
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect(representatives(m)).toHaveLength(2);
  });
});

describe('fetching', () => {
  it('takes at most a batch and moves GET at once', () => {
    const m = machine(
      Array.from({ length: 10 }, (_, i) => [i, READ, 0] as const),
      64,
      { uvm_perf_fault_batch_count: 4 },
    );
    const rf = m.gpus[0].replayable;
    for (const [cached, get] of [
      [4, 4],
      [4, 8],
      [2, 10],
      [0, 10],
    ]) {
      fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
      expect([rf.batch.numCachedFaults, rf.cachedGet, m.gpus[0].faultBuffer.get]).toEqual([cached, get, get]);
    }
  });

  it('takes everything up to PUT in mode all', () => {
    const m = machine(
      Array.from({ length: 10 }, (_, i) => [i, READ, 0] as const),
      64,
      { uvm_perf_fault_batch_count: 4 },
    );
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_ALL);
    expect(m.gpus[0].replayable.batch.numCachedFaults).toBe(10);
  });

  it('reads PUT only when GET has reached the copy of it', () => {
    const m = machine(
      [
        [1, READ, 0],
        [2, READ, 0],
        [3, READ, 0],
      ],
      64,
      { uvm_perf_fault_batch_count: 2 },
    );
    const rf = m.gpus[0].replayable;
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect(rf.cachedPut).toBe(3);
    faultBufferInject(m, 0, BASE + 4, READ, 0, 0, 0, 0, m.k.now, m.k.now);
    expect(faultBufferReadPut(m, m.gpus[0].faultBuffer)).toBe(4);
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect([rf.batch.numCachedFaults, rf.cachedPut]).toEqual([1, 3]);
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect([rf.batch.numCachedFaults, rf.cachedPut]).toEqual([1, 4]);
  });

  it('wraps around', () => {
    const m = machine(
      Array.from({ length: 6 }, (_, i) => [i, READ, 0] as const),
      8,
    );
    const rf = m.gpus[0].replayable;
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    for (let i = 0; i < 5; i++) faultBufferInject(m, 0, BASE + 100 + i, READ, 0, 0, 0, 0, m.k.now, m.k.now);
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect(rf.batch.numCachedFaults).toBe(5);
    expect(Array.from(rf.batch.faultCache.page.subarray(0, 5))).toEqual([100, 101, 102, 103, 104].map((p) => BASE + p));
    expect([rf.cachedGet, rf.cachedPut]).toEqual([3, 3]);
  });

  it('waits for a late first entry', () => {
    const m = createFaultMachine({ entries: 64 });
    faultBufferInject(m, 0, BASE, READ, 0, 0, 0, 0, 0, 5000);
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect(m.gpus[0].replayable.batch.numCachedFaults).toBe(1);
    // 5000 when it became valid, and the cost of taking it.
    expect(m.k.now).toBe(5001);
  });

  it('leaves a later entry that is not valid yet for the next batch, with all behind it', () => {
    const m = createFaultMachine({ entries: 64 });
    const late = 9000;
    for (const [page, validAt] of [
      [0, 0],
      [1, 0],
      [2, late],
      [3, 0],
    ]) {
      faultBufferInject(m, 0, BASE + page, READ, 0, 0, 0, 0, 0, validAt);
    }
    const batch = m.gpus[0].replayable.batch;
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect(batch.numCachedFaults).toBe(2);
    expect(m.k.now).toBeLessThan(late);
    // Now it is the first, and waited for.
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    expect(batch.numCachedFaults).toBe(2);
    expect(m.k.now).toBe(late + 2);
  });

  it('waits for each entry in mode all', () => {
    const m = createFaultMachine({ entries: 64 });
    for (const [page, validAt] of [
      [0, 0],
      [1, 7000],
      [2, 3000],
    ]) {
      faultBufferInject(m, 0, BASE + page, READ, 0, 0, 0, 0, 0, validAt);
    }
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_ALL);
    expect(m.gpus[0].replayable.batch.numCachedFaults).toBe(3);
    expect(m.k.now).toBe(7002);
  });

  it('ends with the global error while it would wait, keeping what it has', () => {
    const m = createFaultMachine({ entries: 64 });
    for (const [page, validAt] of [
      [0, 0],
      [1, 7000],
    ]) {
      faultBufferInject(m, 0, BASE + page, READ, 0, 0, 0, 0, 0, validAt);
    }
    m.globalStatus = NV_ERR_RC_ERROR;
    expect(fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_ALL)).toBe(NV_ERR_RC_ERROR);
    expect(m.gpus[0].replayable.batch.numCachedFaults).toBe(1);
    expect(m.gpus[0].faultBuffer.get).toBe(1);
  });
});
