import { describe, expect, it } from 'vitest';
import {
  BASE,
  createFaultMachine,
  replayBatches,
  runMachine,
  startProgram,
  watchPushes,
} from '../../../test/support/fault_machine.ts';
import { faultBufferInject, faultBufferPut } from '../gpu/fault_buffer.ts';
import type { Model } from '../state.ts';
import { fetchFaultBufferEntries } from './gpu_replayable_faults_fetch.ts';
import { faultEntryToVaSpace, preprocessFaultBatch } from './gpu_replayable_faults_preprocess.ts';
import {
  FETCH_MODE_BATCH_READY,
  INSTANCE_CHANNEL_GONE,
  INSTANCE_SUBCONTEXT_GONE,
} from './gpu_replayable_faults_types.ts';
import { PURPOSE_REPLAY } from './push.ts';
import {
  NV_ERR_INVALID_CHANNEL,
  NV_ERR_PAGE_TABLE_NOT_AVAIL,
  NV_OK,
  NV_WARN_MORE_PROCESSING_REQUIRED,
} from './status.ts';
import { ACCESS_ATOMIC_STRONG, ACCESS_PREFETCH, ACCESS_READ, ACCESS_WRITE } from './va_block_types.ts';
import { UVM_APERTURE_SYS, UVM_APERTURE_VID } from './volta_fault_buffer.ts';

const READ = ACCESS_READ;

function preprocess(m: Model): number {
  fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
  m.gpus[0].replayable.batch.batchId++;
  return preprocessFaultBatch(m, m.gpus[0]);
}

/** The sorted batch, as what `row` says of each. */
function ordered<T>(m: Model, row: (fault: number) => T): T[] {
  const batch = m.gpus[0].replayable.batch;
  return Array.from(batch.orderedFaultCache.subarray(0, batch.numCoalescedFaults), (fault) => row(fault));
}

describe('preprocessFaultBatch', () => {
  it('sorts by page, and on a page the most intrusive access first', () => {
    const m = createFaultMachine({ entries: 64 });
    // Different uTLBs, the less intrusive access first: nothing merges.
    const faults = [
      [5, READ],
      [3, ACCESS_PREFETCH],
      [3, READ],
      [3, ACCESS_WRITE],
      [3, ACCESS_ATOMIC_STRONG],
      [1, ACCESS_WRITE],
      [5, ACCESS_ATOMIC_STRONG],
    ];
    faults.forEach(([page, access], i) => {
      faultBufferInject(m, 0, BASE + page, access, 0, 0, i, 0, 0, 0);
    });
    expect(preprocess(m)).toBe(NV_OK);
    const c = m.gpus[0].replayable.batch.faultCache;
    expect(ordered(m, (fault) => [c.page[fault] - BASE, c.accessType[fault]])).toEqual([
      [1, ACCESS_WRITE],
      [3, ACCESS_ATOMIC_STRONG],
      [3, ACCESS_WRITE],
      [3, READ],
      [3, ACCESS_PREFETCH],
      [5, ACCESS_ATOMIC_STRONG],
      [5, READ],
    ]);
  });

  it('sorts by VA space before all else, and translates each context', () => {
    const m = createFaultMachine({ entries: 64 });
    m.gpus[0].instancePointers.push(
      { address: 0x20, aperture: 0, vaSpace: 2 },
      { address: 0x20, aperture: 2, vaSpace: 1 },
    );
    for (const [page, instance] of [
      [9, 1],
      [1, 1],
      [5, 0],
      [3, 2],
      [2, 0],
    ]) {
      faultBufferInject(m, 0, BASE + page, READ, 0, 0, page % 8, instance, 0, 0);
    }
    expect(preprocess(m)).toBe(NV_OK);
    const c = m.gpus[0].replayable.batch.faultCache;
    expect(ordered(m, (fault) => [c.vaSpace[fault], c.page[fault] - BASE])).toEqual([
      [0, 2],
      [0, 5],
      [1, 3],
      [2, 1],
      [2, 9],
    ]);
  });

  it('leaves merged entries out', () => {
    const m = createFaultMachine({ entries: 64 });
    for (const page of [4, 4, 2, 2, 2]) faultBufferInject(m, 0, BASE + page, READ, 0, 0, 0, 0, 0, 0);
    preprocess(m);
    expect(ordered(m, (fault) => fault)).toEqual([2, 0]);
  });

  it('drops the batch and the buffer when a channel is gone, replays, and counts that', () => {
    const m = createFaultMachine({ entries: 64, parameters: { uvm_perf_fault_batch_count: 2 } });
    m.gpus[0].instancePointers.push({ address: 0x20, aperture: 0, vaSpace: INSTANCE_CHANNEL_GONE });
    for (const [page, instance] of [
      [0, 0],
      [1, 1],
      [2, 0],
      [3, 0],
    ]) {
      faultBufferInject(m, 0, BASE + page, READ, 0, 0, 0, instance, 0, 0);
    }
    expect(preprocess(m)).toBe(NV_WARN_MORE_PROCESSING_REQUIRED);
    const rf = m.gpus[0].replayable;
    expect([rf.cachedGet, rf.cachedPut, rf.batch.numReplays]).toEqual([4, 4, 1]);
    runMachine(m);
    expect(replayBatches(m)[0]).toBe(1);
  });

  it('looks contexts up in their own order: the first that is gone decides', () => {
    const m = createFaultMachine({ entries: 64 });
    m.gpus[0].instancePointers.push(
      { address: 0x30, aperture: 0, vaSpace: INSTANCE_SUBCONTEXT_GONE },
      { address: 0x20, aperture: 0, vaSpace: INSTANCE_CHANNEL_GONE },
    );
    const purposes: number[] = [];
    watchPushes(m, (purpose) => purposes.push(purpose));
    for (const instance of [1, 2]) faultBufferInject(m, 0, BASE, READ, 0, 0, 0, instance, 0, 0);
    expect(preprocess(m)).toBe(NV_WARN_MORE_PROCESSING_REQUIRED);
    // In the order of arrival the other one would have been first, and its accesses cancelled.
    expect(purposes).toEqual([PURPOSE_REPLAY]);
  });

  it('also drops what arrived after the batch was fetched', () => {
    const m = createFaultMachine({ entries: 64 });
    faultBufferPut(m, 0, 0xdead, 0, BASE, 0, 0, 0, 0, 0, 0);
    fetchFaultBufferEntries(m, m.gpus[0], FETCH_MODE_BATCH_READY);
    faultBufferInject(m, 0, BASE + 1, READ, 0, 0, 0, 0, m.k.now, m.k.now);
    expect(preprocessFaultBatch(m, m.gpus[0])).toBe(NV_WARN_MORE_PROCESSING_REQUIRED);
    expect(m.gpus[0].faultBuffer.get).toBe(2);
  });

  it('cancels by software when only the subcontext is gone, and spares other contexts', () => {
    const m = createFaultMachine({ entries: 64 });
    m.gpus[0].instancePointers.push({ address: 0x20, aperture: 0, vaSpace: INSTANCE_SUBCONTEXT_GONE });
    const outcomes = [0, 1].map((instance) => {
      const outcome = startProgram(m, [[BASE + instance, READ]], 0, instance);
      m.gpus[0].clients.instance[instance] = instance;
      return outcome;
    });
    runMachine(m);
    expect(outcomes).toEqual([['replayed'], ['cancelled']]);
  });

  it('puts a recorded batch of an H200 in the order in which the driver serviced it', () => {
    const m = createFaultMachine({ entries: 2048 });
    const arrivals = RECORDED.map((fault, i) => ({ fault, i })).sort((x, y) => x.fault[3] - y.fault[3] || x.i - y.i);
    for (const { fault } of arrivals) {
      const [page, gpc, client] = fault;
      faultBufferInject(m, 0, page, ACCESS_WRITE, 0, gpc, client, 0, 0, 0);
    }
    expect(preprocess(m)).toBe(NV_OK);
    const batch = m.gpus[0].replayable.batch;
    expect([batch.numCachedFaults, batch.numCoalescedFaults]).toEqual([81, 44]);
    const c = batch.faultCache;
    const serviced = ordered(m, (fault) => {
      const rows = [fault];
      for (let row = c.next[fault]; row !== fault; row = c.next[row]) rows.push(row);
      return rows;
    }).flat();
    expect(serviced.map((row) => arrivals[row].i)).toEqual(Array.from(RECORDED.keys()));
  });
});

describe('faultEntryToVaSpace', () => {
  it('finds the VA space by address and aperture, or tells why there is none', () => {
    const m = createFaultMachine({ entries: 64 });
    const gpu = m.gpus[0];
    gpu.instancePointers = [
      { address: 5, aperture: 0, vaSpace: 3 },
      { address: 5, aperture: 2, vaSpace: 4 },
      { address: 6, aperture: 0, vaSpace: INSTANCE_CHANNEL_GONE },
      { address: 7, aperture: 0, vaSpace: INSTANCE_SUBCONTEXT_GONE },
    ];
    expect(faultEntryToVaSpace(gpu, 5, UVM_APERTURE_VID)).toBe(3);
    expect(faultEntryToVaSpace(gpu, 5, UVM_APERTURE_SYS)).toBe(4);
    expect(faultEntryToVaSpace(gpu, 6, UVM_APERTURE_VID)).toBe(-NV_ERR_INVALID_CHANNEL);
    expect(faultEntryToVaSpace(gpu, 6, UVM_APERTURE_SYS)).toBe(-NV_ERR_INVALID_CHANNEL);
    expect(faultEntryToVaSpace(gpu, 7, UVM_APERTURE_VID)).toBe(-NV_ERR_PAGE_TABLE_NOT_AVAIL);
  });
});

/**
 * 81 writes of 44 representatives on 35 pages, as the driver serviced them: page, GPC, client, and GPU time in steps of
 * 32 ns. From a memset of 32 MiB that nobody had touched; arrival is by GPU time, then by the order of this list.
 */
const RECORDED: readonly (readonly [page: number, gpc: number, client: number, time: number])[] = [
  [4232, 1, 0, 48],
  [4232, 1, 1, 38],
  [4234, 1, 37, 53],
  [4234, 1, 38, 17],
  [4234, 1, 38, 42],
  [4235, 1, 3, 7],
  [4235, 1, 3, 12],
  [4235, 1, 2, 22],
  [4235, 1, 2, 27],
  [4242, 2, 37, 12],
  [4243, 2, 2, 38],
  [4243, 2, 2, 43],
  [4245, 2, 39, 22],
  [4245, 2, 39, 48],
  [4245, 2, 39, 27],
  [4246, 2, 5, 7],
  [4246, 2, 5, 53],
  [4246, 2, 5, 18],
  [4248, 3, 1, 49],
  [4250, 3, 37, 8],
  [4251, 3, 2, 18],
  [4253, 3, 39, 39],
  [4253, 3, 39, 54],
  [4254, 3, 5, 13],
  [4254, 3, 5, 44],
  [4254, 3, 5, 28],
  [4254, 3, 5, 23],
  [4257, 4, 7, 14],
  [4257, 4, 7, 55],
  [4257, 4, 7, 49],
  [4257, 4, 7, 39],
  [4257, 4, 7, 24],
  [4257, 4, 7, 19],
  [4261, 4, 39, 44],
  [4263, 4, 36, 9],
  [4263, 4, 36, 29],
  [4265, 5, 6, 10],
  [4265, 5, 6, 15],
  [4266, 5, 37, 30],
  [4267, 5, 2, 20],
  [4267, 5, 2, 51],
  [4269, 5, 39, 46],
  [4271, 5, 35, 25],
  [4271, 5, 35, 56],
  [4271, 5, 35, 41],
  [4274, 6, 37, 5],
  [4277, 6, 39, 15],
  [4277, 6, 39, 41],
  [4277, 6, 39, 26],
  [4277, 6, 40, 20],
  [4277, 6, 40, 51],
  [4277, 6, 40, 31],
  [4278, 6, 4, 46],
  [4278, 6, 5, 10],
  [4280, 0, 0, 31],
  [4280, 0, 0, 52],
  [4281, 0, 7, 6],
  [4281, 0, 7, 16],
  [4281, 0, 7, 11],
  [4284, 0, 34, 26],
  [4287, 0, 35, 42],
  [4288, 0, 53, 21],
  [4288, 0, 53, 47],
  [6272, 7, 6, 55],
  [6272, 7, 7, 3],
  [6272, 7, 7, 14],
  [6272, 7, 7, 4],
  [6273, 7, 38, 0],
  [6273, 7, 37, 29],
  [6274, 7, 3, 1],
  [6274, 7, 3, 2],
  [6275, 7, 34, 50],
  [6275, 7, 33, 19],
  [6275, 7, 33, 45],
  [6275, 7, 33, 24],
  [6276, 7, 40, 1],
  [6277, 7, 4, 40],
  [6277, 7, 5, 1],
  [6279, 7, 54, 2],
  [6279, 7, 54, 9],
  [6279, 7, 54, 4],
];
