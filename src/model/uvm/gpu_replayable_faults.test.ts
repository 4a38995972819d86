/** The worked examples of the replayable fault path, under all replay policies, and the limits of a bottom half. */
import { describe, expect, it } from 'vitest';
import {
  type Access,
  BASE,
  countEvents,
  createFaultMachine,
  type FaultMachineOptions,
  faultEvents,
  replayBatches,
  runMachine,
  startProgram,
  watchPushes,
} from '../../../test/support/fault_machine.ts';
import { maskWeight } from '../../base/page_mask.ts';
import { createPrng, prngBelow } from '../../base/prng.ts';
import { faultBufferInject } from '../gpu/fault_buffer.ts';
import { runNextEvent } from '../kernel/clock.ts';
import type { Model } from '../state.ts';
import type { Why } from '../why.ts';
import { channelManagerWait } from './channel.ts';
import {
  createReplayableFaults,
  enableDisablePrefetchFaults,
  parentGpuReplayableFaultsPending,
} from './gpu_replayable_faults.ts';
import { testSetPrefetchFaultsReenableLapse } from './gpu_replayable_faults_flush.ts';
import { PURPOSE_REPLAY } from './push.ts';
import { EVENT_MIGRATION, TOOLS_MIGRATION_COHERENCE, TOOLS_MIGRATION_PREFETCH } from './tools.ts';
import { vaSpaceCpuFault } from './va_block_cpu_fault.ts';
import {
  ACCESS_ATOMIC_STRONG,
  ACCESS_PREFETCH,
  ACCESS_READ,
  ACCESS_WRITE,
  G_READ,
  G_RESIDENT,
} from './va_block_types.ts';

const READ = ACCESS_READ;
const WRITE = ACCESS_WRITE;
const BLOCK = 0;
const BATCH = 1;
const BATCH_FLUSH = 2;
const ONCE = 3;
const POLICIES = [BLOCK, BATCH, BATCH_FLUSH, ONCE];
/** A page that belongs to nothing. */
const NOWHERE = BASE + 1_000_000;

function machine(policy: number, parameters: Record<string, unknown> = {}, options: FaultMachineOptions = {}): Model {
  return createFaultMachine({ ...options, parameters: { uvm_perf_fault_replay_policy: policy, ...parameters } });
}

const NO_PREFETCH = { uvm_perf_prefetch_enable: 0 };

/** A recorded fault: nobody waits for it, so a replay does not bring it back. */
function inject(m: Model, page: number, access = READ, client = 0, time = 0): void {
  faultBufferInject(m, 0, page, access, 0, 0, client, 0, time, time);
}

/** Weight of a mask of the first block on GPU 0. */
function weight(m: Model, offset: number): number {
  const state = m.vaSpaces[0].ranges[0].blocks[0]?.gpus[0];
  return state ? maskWeight(state.w, offset) : 0;
}

/** Runs until the top half has run once: its bottom half is queued. */
function runTopHalf(m: Model): void {
  while (m.gpus[0].isr.interruptCount === 0) expect(runNextEvent(m)).toBe(true);
}

/** Runs to the end; tells how many batches each bottom half took. */
function batchesByBottomHalf(m: Model): number[] {
  const gpu = m.gpus[0];
  const firstIds: number[] = [];
  for (;;) {
    const id = gpu.replayable.batch.batchId;
    const ran = runNextEvent(m);
    if (gpu.isr.replayable.bottomHalfCount > firstIds.length) firstIds.push(id);
    if (!ran) break;
  }
  firstIds.push(gpu.replayable.batch.batchId);
  channelManagerWait(m, 0);
  return firstIds.slice(1).map((id, i) => id - firstIds[i]);
}

describe('example A: one read of a page that nobody has touched', () => {
  it.each(POLICIES)('is one fault and one replay under policy %i', (policy) => {
    const m = machine(policy);
    const outcomes = startProgram(m, [[BASE + 5, READ]]);
    runMachine(m);
    expect(outcomes).toEqual(['replayed']);
    expect(countEvents(m)).toEqual({ gpuFault: 1, replay: 1 });
    expect(faultEvents(m)).toEqual([[5, READ, 1]]);
    expect(replayBatches(m)).toEqual([1]);
    expect([weight(m, G_RESIDENT), weight(m, G_READ)]).toEqual([16, 16]);
    expect(m.gpus[0].replayable.batch.numDuplicateFaults).toBe(0);
    expect(m.gpus[0].isr.replayable.bottomHalfCount).toBe(1);
  });

  it('splits the migrations by cause when the CPU holds the pages', () => {
    const m = machine(BATCH_FLUSH);
    for (let page = 0; page < 16; page++) vaSpaceCpuFault(m, m.vaSpaces[0], BASE + page, true, 0);
    startProgram(m, [[BASE + 5, READ]]);
    runMachine(m);
    const log = m.tools.log;
    const migrations: [number, number, number][] = [];
    for (let i = 0; i < log.count; i++) {
      if (log.kind[i] === EVENT_MIGRATION) migrations.push([log.page[i] - BASE, log.pages[i], log.a[i]]);
    }
    expect(migrations).toEqual([
      [0, 5, TOOLS_MIGRATION_PREFETCH],
      [5, 1, TOOLS_MIGRATION_COHERENCE],
      [6, 10, TOOLS_MIGRATION_PREFETCH],
    ]);
  });
});

describe('example B: the duplicates ratio', () => {
  /** 256 entries on 256 - duplicates pages, and one that arrives after PUT was read and before the flush. */
  function run(duplicates: number): Model {
    const m = machine(BATCH_FLUSH, NO_PREFETCH, { costs: { serviceBlock: 5000 } });
    for (let i = 0; i < 256 - duplicates; i++) inject(m, BASE + i);
    for (let i = 0; i < duplicates; i++) inject(m, BASE + 255 - duplicates);
    inject(m, BASE + 300, READ, 0, 3000);
    runMachine(m);
    return m;
  }

  it('keeps the copy of PUT at exactly one half: what came late is serviced', () => {
    const m = run(128);
    expect(countEvents(m)).toEqual({ gpuFault: 257, replay: 2 });
    expect(faultEvents(m)[256]).toEqual([300, READ, 2]);
  });

  it('looks at PUT again above it: what came late is dropped', () => {
    const m = run(129);
    expect(countEvents(m)).toEqual({ gpuFault: 256, replay: 1 });
    expect(m.gpus[0].replayable.batch.batchId).toBe(1);
  });

  it('takes its ratio from the module parameter, in percent of the fetched entries', () => {
    for (const [ratio, dropped] of [
      [24, true],
      [25, false],
    ] as const) {
      const parameters = { ...NO_PREFETCH, uvm_perf_fault_replay_update_put_ratio: ratio };
      const m = machine(BATCH_FLUSH, parameters, { costs: { serviceBlock: 5000 } });
      for (const page of [0, 1, 2, 2]) inject(m, BASE + page);
      inject(m, BASE + 300, READ, 0, 3000);
      runMachine(m);
      expect(faultEvents(m)).toHaveLength(dropped ? 4 : 5);
    }
  });
});

describe('example C: one page, two uTLBs', () => {
  /** Access masks that the residency decision was asked with. */
  function run(accesses: readonly (readonly [access: number, client: number])[]): [Model, number[]] {
    const m = machine(BATCH_FLUSH);
    const masks: number[] = [];
    const select = m.res.seams.selectResidency;
    m.res.seams.selectResidency = (...args) => {
      masks.push(args[5]);
      return select(...args);
    };
    for (const [access, client] of accesses) inject(m, BASE, access, client);
    runMachine(m);
    return [m, masks];
  }

  it('read then write: two representatives, serviced once as the write', () => {
    const [m, masks] = run([
      [READ, 0],
      [WRITE, 1],
    ]);
    expect(faultEvents(m)).toEqual([
      [0, WRITE, 1],
      [0, READ, 1],
    ]);
    expect(masks).toEqual([1 << WRITE]);
    expect(replayBatches(m)).toEqual([1]);
  });

  it('write then read: one representative with both in its mask', () => {
    const [m, masks] = run([
      [WRITE, 0],
      [READ, 1],
    ]);
    expect(faultEvents(m)).toEqual([
      [0, WRITE, 1],
      [0, READ, 1],
    ]);
    expect(masks).toEqual([(1 << WRITE) | (1 << READ)]);
  });

  it.each([
    ['two representatives', [READ, WRITE]],
    ['one representative', [WRITE, READ]],
  ])('counts one duplicate of two: half, so PUT is not read again (%s)', (_name, accesses) => {
    const m = machine(BATCH_FLUSH, NO_PREFETCH, { costs: { serviceBlock: 5000 } });
    accesses.forEach((access, client) => {
      inject(m, BASE, access, client);
    });
    inject(m, BASE + 300, READ, 0, 3000);
    runMachine(m);
    // Had a second duplicate been counted, the late fault would have been dropped.
    expect(faultEvents(m)).toHaveLength(3);
  });

  it('has all records of one representative carry one time', () => {
    const [m] = run([
      [WRITE, 0],
      [READ, 0],
      [READ, 0],
    ]);
    expect(new Set(Array.from(m.tools.log.time.subarray(0, 3))).size).toBe(1);
  });
});

describe('example D: more entries than a batch', () => {
  it.each([
    // Under BLOCK the id rises after each dispatch too.
    [BLOCK, 1000, [1, 3, 5, 7], [1, 3, 5, 7]],
    [BATCH, 1000, [1, 2, 3, 4], [1, 2, 3, 4]],
    [BATCH_FLUSH, 256, [1], [1]],
    [ONCE, 1000, [1, 2, 3, 4], [4]],
  ])('policy %i records %i of 1000 entries', (policy, faults, batches, replays) => {
    const m = machine(policy, NO_PREFETCH);
    for (let i = 0; i < 1000; i++) inject(m, BASE + i);
    runMachine(m);
    expect(faultEvents(m)).toHaveLength(faults);
    expect([...new Set(faultEvents(m).map((event) => event[2]))]).toEqual(batches);
    expect(replayBatches(m)).toEqual(replays);
    expect([m.gpus[0].faultBuffer.get, m.gpus[0].faultBuffer.put]).toEqual([1000, 1000]);
  });

  it('keeps what is written after PUT was read for the next batch', () => {
    const m = machine(BATCH_FLUSH, NO_PREFETCH, { costs: { serviceBlock: 5000 } });
    for (let i = 0; i < 400; i++) inject(m, BASE + i);
    for (let i = 0; i < 3; i++) inject(m, BASE + 500 + i, READ, 0, 3000);
    runMachine(m);
    expect(faultEvents(m).slice(256)).toEqual([
      [500, READ, 2],
      [501, READ, 2],
      [502, READ, 2],
    ]);
    expect(replayBatches(m)).toEqual([1, 2]);
  });

  it.each(POLICIES)('loses no access under policy %i: what was dropped faults again', (policy) => {
    const m = machine(policy, NO_PREFETCH);
    const outcomes = Array.from({ length: 300 }, (_, i) => startProgram(m, [[BASE + i, READ]], i % 8, i % 8));
    runMachine(m);
    expect(outcomes.filter((outcome) => outcome[0] === 'replayed')).toHaveLength(300);
    // Each access is recorded once where no replay overtakes the service: what a flush drops is not recorded.
    if (policy === BATCH_FLUSH || policy === ONCE) expect(faultEvents(m)).toHaveLength(300);
    expect(new Set(faultEvents(m).map((event) => event[0])).size).toBe(300);
    expect(weight(m, G_RESIDENT)).toBe(300);
  });
});

describe('example E: a read of an address that belongs to nothing', () => {
  it.each(POLICIES)('is two faults, one fatal fault and three replays under policy %i', (policy) => {
    const m = machine(policy);
    const outcomes = startProgram(m, [
      [NOWHERE, READ],
      [BASE, READ],
    ]);
    runMachine(m);
    expect(outcomes).toEqual(['cancelled']);
    expect(countEvents(m)).toEqual({ gpuFault: 2, fatalFault: 1, replay: 3 });
    expect(faultEvents(m)).toEqual([
      [NOWHERE - BASE, READ, 1],
      [NOWHERE - BASE, READ, 2],
    ]);
    expect(replayBatches(m)).toEqual([1, 2, 2]);
    expect(m.gpus[0].isr.replayable.bottomHalfCount).toBe(1);
  });
});

describe('example F: a stale entry', () => {
  it.each([
    [BLOCK, [1, 3], [1, 3]],
    [BATCH, [1, 2], [1, 2]],
    [BATCH_FLUSH, [1, 2], [1, 2]],
    [ONCE, [1, 2], [2]],
  ])('is recorded and not serviced under policy %i', (policy, batches, replays) => {
    const m = machine(policy, {}, { costs: { serviceBlock: 5000 } });
    let serviced = 0;
    const select = m.res.seams.selectResidency;
    m.res.seams.selectResidency = (...args) => {
      serviced++;
      return select(...args);
    };
    startProgram(m, [[BASE, READ]], 0, 0);
    // A second SM fails on the page while the first one's fault is being serviced.
    startProgram(m, [[BASE, READ]], 0, 1, 3000);
    runMachine(m);
    expect(faultEvents(m)).toEqual(batches.map((batch) => [0, READ, batch]));
    expect(serviced).toBe(1);
    expect(replayBatches(m)).toEqual(replays);
    expect(m.gpus[0].isr.replayable.bottomHalfCount).toBe(1);
  });
});

describe('a bottom half', () => {
  it('replays once when there is nothing in the buffer, under every policy', () => {
    for (const policy of POLICIES) {
      const m = machine(policy);
      inject(m, BASE);
      // The top half sees the fault, and somebody takes it away before the bottom half runs.
      runTopHalf(m);
      m.gpus[0].replayable.cachedPut = 1;
      m.gpus[0].replayable.cachedGet = 1;
      runMachine(m);
      expect(faultEvents(m)).toEqual([]);
      expect(replayBatches(m)).toEqual([0]);
    }
  });

  it.each([
    [BATCH, 25],
    [ONCE, 2],
  ])('takes at most 20 batches under policy %i and leaves the rest to the next one', (policy, replays) => {
    const m = machine(policy, { ...NO_PREFETCH, uvm_perf_fault_batch_count: 1 });
    for (let i = 0; i < 25; i++) inject(m, BASE + i);
    expect(batchesByBottomHalf(m)).toEqual([20, 5]);
    expect(replayBatches(m)).toHaveLength(replays);
    expect(m.gpus[0].isr.interruptCount).toBe(2);
  });

  it('fetches nothing, and replays, when the parameter allows no batch', () => {
    const m = machine(BATCH, { uvm_perf_fault_max_batches_per_service: 0 });
    inject(m, BASE);
    for (let i = 0; i < 200; i++) expect(runNextEvent(m)).toBe(true);
    expect(faultEvents(m)).toEqual([]);
    expect(m.gpus[0].replayable.cachedGet).toBe(0);
    expect(m.gpus[0].isr.replayable.bottomHalfCount).toBeGreaterThan(5);
  });

  it('does not count a batch that was dropped because of a stale channel', () => {
    const m = machine(BATCH, { uvm_perf_fault_max_batches_per_service: 1 }, { costs: { pushBase: 5000 } });
    m.gpus[0].instancePointers.push({ address: 0x20, aperture: 0, vaSpace: -1 });
    faultBufferInject(m, 0, BASE, READ, 0, 0, 0, 1, 0, 0);
    // Arrives while the replay of the dropped batch is being pushed.
    inject(m, BASE + 1, READ, 0, 4000);
    runMachine(m);
    expect(faultEvents(m)).toEqual([[1, READ, 2]]);
    expect(replayBatches(m)).toEqual([1, 2]);
    expect(m.gpus[0].isr.replayable.bottomHalfCount).toBe(1);
  });

  it('goes on in a buffer that wraps', () => {
    const m = machine(BATCH_FLUSH, NO_PREFETCH, { entries: 4 });
    const outcomes = startProgram(
      m,
      Array.from({ length: 11 }, (_, i) => [BASE + i, READ] as const),
    );
    runMachine(m);
    expect(outcomes).toEqual(new Array(11).fill('replayed'));
    expect(faultEvents(m).map((event) => event[0])).toEqual(Array.from({ length: 11 }, (_, i) => i));
    expect(m.gpus[0].faultBuffer.get).toBe(11 % 4);
  });

  it.each(POLICIES)('recovers from an overflow under policy %i: accesses without an entry come back', (policy) => {
    const m = machine(policy, NO_PREFETCH, { entries: 16 });
    const outcomes = Array.from({ length: 40 }, (_, i) => startProgram(m, [[BASE + i, READ]], 0, i % 8));
    runTopHalf(m);
    expect([m.gpus[0].faultBuffer.written, m.gpus[0].faultBuffer.dropped]).toEqual([15, 25]);
    runMachine(m);
    expect(outcomes.flat()).toEqual(new Array(40).fill('replayed'));
    expect(m.gpus[0].faultBuffer.overflow).toBe(false);
    expect(weight(m, G_RESIDENT)).toBe(40);
  });

  it('services a late entry in a batch of its own when others come before it', () => {
    const m = machine(BATCH, NO_PREFETCH);
    for (const [page, validAt] of [
      [0, 0],
      [1, 0],
      [2, 50_000],
      [3, 0],
    ]) {
      faultBufferInject(m, 0, BASE + page, READ, 0, 0, 0, 0, 0, validAt);
    }
    runMachine(m);
    expect(faultEvents(m)).toEqual([
      [0, READ, 1],
      [1, READ, 1],
      [2, READ, 2],
      [3, READ, 2],
    ]);
    expect(m.tools.log.time[2]).toBeGreaterThanOrEqual(50_000);
  });
});

describe('many faults', () => {
  /** Number of representatives by the merge rules, the slow way; the batch's faults as [page, access, uTLB]. */
  function coalesced(faults: readonly (readonly number[])[]): number {
    const byUtlb = new Map<number, number>();
    let last = -1;
    let count = 0;
    // Accesses of one type alone: then no representative is ever replaced, which other tests are about.
    for (const [page, , utlb] of faults) {
      if (byUtlb.get(utlb) === page || last === page) continue;
      last = page;
      byUtlb.set(utlb, page);
      count++;
    }
    return count;
  }

  it('over many blocks are serviced once a page, and counted by the rules', () => {
    const prng = createPrng(42);
    for (let round = 0; round < 20; round++) {
      const m = machine(BATCH_FLUSH, NO_PREFETCH);
      const faults = Array.from({ length: 256 }, () => [
        BASE + 512 * prngBelow(prng, 6) + prngBelow(prng, 8),
        WRITE,
        prngBelow(prng, 8),
      ]);
      for (const [page, access, client] of faults) inject(m, page, access, client);
      const batch = m.gpus[0].replayable.batch;
      const counts: number[][] = [];
      const pages: number[] = [];
      const select = m.res.seams.selectResidency;
      m.res.seams.selectResidency = (...args) => {
        pages.push(args[1].startPage + args[3]);
        return select(...args);
      };
      watchPushes(m, (purpose) => {
        if (purpose === PURPOSE_REPLAY) counts.push([batch.numCoalescedFaults, batch.numDuplicateFaults]);
      });
      runMachine(m);

      const distinct = [...new Set(faults.map((fault) => fault[0]))].sort((x, y) => x - y);
      expect(pages).toEqual(distinct);
      expect(faultEvents(m).map((event) => event[0])).toEqual(faults.map((f) => f[0] - BASE).sort((x, y) => x - y));
      // Every entry is a duplicate but the first of its page, merged or not.
      expect(counts).toEqual([[coalesced(faults), 256 - distinct.length]]);
    }
  });

  it.each(POLICIES)('of many programs all end, with their pages in place, under policy %i', (policy) => {
    const prng = createPrng(policy + 1);
    const m = machine(policy, { uvm_perf_fault_batch_count: 16 }, { entries: 32 });
    const accesses = [READ, WRITE, ACCESS_ATOMIC_STRONG];
    const programs: Access[][] = Array.from({ length: 50 }, () =>
      Array.from({ length: 20 }, () => [BASE + prngBelow(prng, 4096), accesses[prngBelow(prng, 3)]] as const),
    );
    const outcomes = programs.map((program, i) => startProgram(m, program, i % 8, i % 8, prngBelow(prng, 5000)));
    runMachine(m);
    for (const outcome of outcomes) {
      expect(outcome).toHaveLength(20);
      expect(outcome).not.toContain('cancelled');
    }
    expect(m.gpus[0].faultBuffer.dropped).toBeGreaterThan(0);
    expect(m.gpus[0].clients.parkedCount).toBe(0);
    expect(parentGpuReplayableFaultsPending(m, m.gpus[0])).toBe(false);
    expect(m.gpus[0].replayable.batch.tracker).toEqual([]);
  });
});

describe('prefetch faults', () => {
  /** Invalid prefetches: of pages that belong to nothing. */
  function run(count: number, page: (i: number) => number, parameters: Record<string, unknown> = {}): Model {
    const m = machine(BATCH_FLUSH, parameters);
    for (let i = 0; i < count; i++) inject(m, page(i), ACCESS_PREFETCH);
    runMachine(m);
    return m;
  }

  it.each([
    ['on different pages', (i: number) => NOWHERE + i],
    ['merged on one page', () => NOWHERE],
  ])('are disabled by 171 invalid ones of a batch of 256, not by 170 (%s)', (_name, page) => {
    expect(run(170, page).gpus[0].replayable.prefetchFaultsEnabled).toBe(true);
    const m = run(171, page);
    expect(m.gpus[0].replayable.prefetchFaultsEnabled).toBe(false);
    expect(faultBufferInject(m, 0, BASE, ACCESS_PREFETCH, 0, 0, 0, 0, m.k.now, m.k.now)).toBe(false);
  });

  it('are measured against the batch size that is configured, not against what was fetched', () => {
    const page = (i: number) => NOWHERE + i;
    expect(run(10, page, { uvm_perf_fault_batch_count: 15 }).gpus[0].replayable.prefetchFaultsEnabled).toBe(true);
    expect(run(10, page, { uvm_perf_fault_batch_count: 14 }).gpus[0].replayable.prefetchFaultsEnabled).toBe(false);
  });

  it('that are duplicates outside of managed memory count twice, as in the driver', () => {
    const m = machine(BATCH_FLUSH);
    // Two representatives of one page, since another page and uTLB came between them.
    for (const [page, client] of [
      [0, 0],
      [1, 1],
      [0, 2],
    ]) {
      inject(m, NOWHERE + page, ACCESS_PREFETCH, client);
    }
    const counts: number[] = [];
    watchPushes(m, () => counts.push(m.gpus[0].replayable.batch.numInvalidPrefetchFaults));
    runMachine(m);
    // The duplicate inherits the mark of the fault before it, which counts, and is then marked itself.
    expect(counts).toEqual([4]);
  });

  it('that are invalid are recorded, and neither serviced nor cancelled', () => {
    const m = run(3, (i) => NOWHERE + i);
    expect(countEvents(m)).toEqual({ gpuFault: 3, replay: 1 });
  });

  it('that are valid are serviced like reads, and nobody waits for them', () => {
    const m = machine(BATCH_FLUSH);
    expect(startProgram(m, [[BASE, ACCESS_PREFETCH]])).toEqual([]);
    runMachine(m);
    expect(countEvents(m)).toEqual({ gpuFault: 1, replay: 1 });
    expect(weight(m, G_READ)).toBe(16);
  });

  it('are never disabled when the lapse is 0', () => {
    const m = run(200, (i) => NOWHERE + i, { uvm_perf_reenable_prefetch_faults_lapse_msec: 0 });
    expect(m.gpus[0].replayable.prefetchFaultsEnabled).toBe(true);
  });

  it('are enabled by the first batch that is later than the lapse', () => {
    const m = run(171, () => NOWHERE);
    const gpu = m.gpus[0];
    const disabledAt = gpu.replayable.disablePrefetchFaultsTimestamp;
    gpu.replayable.batch.numInvalidPrefetchFaults = 0;
    m.k.now = disabledAt + 1_000_000_000;
    enableDisablePrefetchFaults(m, gpu);
    expect(gpu.replayable.prefetchFaultsEnabled).toBe(false);
    m.k.now++;
    enableDisablePrefetchFaults(m, gpu);
    expect(gpu.replayable.prefetchFaultsEnabled).toBe(true);
    expect(faultBufferInject(m, 0, BASE, ACCESS_PREFETCH, 0, 0, 0, 0, m.k.now, m.k.now)).toBe(true);
  });

  it('stay disabled until a batch comes, and a test may shorten the lapse', () => {
    const m = run(171, () => NOWHERE);
    const gpu = m.gpus[0];
    testSetPrefetchFaultsReenableLapse(gpu, 1);
    const later = gpu.replayable.disablePrefetchFaultsTimestamp + 2_000_000;
    inject(m, BASE, READ, 0, later);
    while (m.gpus[0].isr.interruptCount < 2) expect(runNextEvent(m)).toBe(true);
    expect(gpu.replayable.prefetchFaultsEnabled).toBe(false);
    runMachine(m);
    expect(gpu.replayable.prefetchFaultsEnabled).toBe(true);
  });
});

describe('the set-up', () => {
  it('has room for the whole buffer, and clamps the batch to it', () => {
    const m = createFaultMachine({ entries: 100 });
    const rf = m.gpus[0].replayable;
    expect([rf.maxFaults, rf.maxBatchSize]).toEqual([100, 100]);
    expect(rf.batch.faultCache.page).toHaveLength(100);
    expect(rf.batch.orderedFaultCache).toHaveLength(100);
    expect(rf.batch.utlbs.numPendingFaults).toHaveLength(8 * 19);
    expect([rf.replayPolicy, rf.replayUpdatePutRatio, rf.prefetchFaultsEnabled]).toEqual([BATCH_FLUSH, 50, true]);
  });

  it('mends parameters as the driver does', () => {
    const m = createFaultMachine({ entries: 100 });
    const params = {
      ...m.params,
      uvm_perf_fault_batch_count: 0,
      uvm_perf_fault_replay_policy: 4,
      uvm_perf_fault_replay_update_put_ratio: 101,
    };
    const rf = createReplayableFaults({ ...m, params });
    expect([rf.maxBatchSize, rf.replayPolicy, rf.replayUpdatePutRatio]).toEqual([1, BATCH_FLUSH, 100]);
  });

  it('passes through the driver functions in the order in which they call each other', () => {
    const names: string[] = [];
    const why = { enter: (name: string) => names.push(name) } as unknown as Why;
    createFaultMachine({ entries: 100, why });
    // Bottom halves and channels to kill; the third queue is the copy routine's.
    expect(names).toEqual([
      'uvm_parent_gpu_init_isr',
      'uvm_parent_gpu_fault_buffer_init',
      'fault_buffer_init_replayable_faults',
      'fault_buffer_reinit_replayable_faults',
      'nv_kthread_q_init_on_node',
      'nv_kthread_q_init_on_node',
      'nv_kthread_q_init_on_node',
    ]);
  });
});

describe('the pending test', () => {
  it('reads PUT only when neither its copy nor the valid bit tells', () => {
    const m = createFaultMachine({ entries: 16 });
    const gpu = m.gpus[0];
    const rf = gpu.replayable;
    expect(parentGpuReplayableFaultsPending(m, gpu)).toBe(false);
    inject(m, BASE);
    expect(parentGpuReplayableFaultsPending(m, gpu)).toBe(true);
    expect(rf.cachedPut).toBe(0);
    // An earlier bottom half left something: the hardware is not asked, which would say that nothing is there.
    const left = createFaultMachine({ entries: 16 });
    left.gpus[0].replayable.cachedPut = 1;
    expect(parentGpuReplayableFaultsPending(left, left.gpus[0])).toBe(true);
    // Late: the valid bit does not tell, so PUT is read.
    const late = createFaultMachine({ entries: 16 });
    faultBufferInject(late, 0, BASE, READ, 0, 0, 0, 0, 0, 1000);
    expect(parentGpuReplayableFaultsPending(late, late.gpus[0])).toBe(true);
    expect(late.gpus[0].replayable.cachedPut).toBe(1);
  });
});
