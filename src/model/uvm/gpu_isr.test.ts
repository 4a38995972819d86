import { describe, expect, it } from 'vitest';
import {
  BASE,
  createFaultMachine,
  faultEvents,
  replayBatches,
  runMachine,
  runThread,
  startProgram,
} from '../../../test/support/fault_machine.ts';
import { faultBufferInject } from '../gpu/fault_buffer.ts';
import { runNextEvent } from '../kernel/clock.ts';
import { nvKthreadQScheduleQItem } from '../kernel/nv_kthread_q.ts';
import { threadCreate, threadsAllBlocked } from '../kernel/thread.ts';
import { modelHash, restoreSnapshot, takeSnapshot } from '../model.ts';
import type { Model } from '../state.ts';
import {
  isrTopHalf,
  parentGpuDeinitIsr,
  parentGpuDisableIsr,
  parentGpuFlushBottomHalves,
  parentGpuInitIsr,
  parentGpuReplayableFaultsIsrLock,
  parentGpuReplayableFaultsIsrUnlock,
  parentGpuResumeIsr,
  parentGpuSuspendIsr,
} from './gpu_isr.ts';
import { gpuFaultBufferFlush } from './gpu_replayable_faults_flush.ts';
import { NV_ERR_NO_INTR_PENDING, NV_OK, NV_WARN_MORE_PROCESSING_REQUIRED } from './status.ts';
import { EVENT_GPU_FAULT } from './tools.ts';
import { ACCESS_READ } from './va_block_types.ts';

const READ = ACCESS_READ;
const NO_PREFETCH = { uvm_perf_prefetch_enable: 0 };

function inject(m: Model, page: number, time = m.k.now): void {
  faultBufferInject(m, 0, BASE + page, READ, 0, 0, 0, 0, time, time);
}

/** Runs event by event until the condition holds. */
function runUntil(m: Model, condition: () => boolean): void {
  while (!condition()) expect(runNextEvent(m)).toBe(true);
}

describe('the set-up', () => {
  it('creates one queue for bottom halves and one for kills, and starts handling', () => {
    const m = createFaultMachine({ gpus: 2 });
    expect(m.k.queues.slice(0, 4).map((q) => q.name)).toEqual([
      'UVM GPU1 BH',
      'UVM GPU1 KC',
      'UVM GPU2 BH',
      'UVM GPU2 KC',
    ]);
    for (const gpu of m.gpus) {
      expect([gpu.isr.replayable.handling, gpu.isr.nonReplayable.handling]).toEqual([true, true]);
      expect(gpu.isr.replayable.disableIntrRefCount).toBe(0);
    }
    expect(() => parentGpuInitIsr(m, m.gpus[0])).toThrow('once');
  });
});

describe('the top half', () => {
  it('takes the service lock, disables the interrupt and queues the bottom half', () => {
    const m = createFaultMachine();
    runMachine(m);
    inject(m, 0);
    expect(isrTopHalf(m, 0)).toBe(NV_OK);
    const { isr, faultBuffer } = m.gpus[0];
    expect(isr.replayable.serviceLock.locked).toBe(true);
    expect(isr.replayable.disableIntrRefCount).toBe(1);
    expect([faultBuffer.interruptEnabled, faultBuffer.interruptPending]).toEqual([false, false]);
    expect(m.k.qItems[isr.replayable.bottomHalfQItem].pending).toBe(true);
    expect(isr.interruptCount).toBe(1);
    runMachine(m);
    expect(isr.replayable.serviceLock.locked).toBe(false);
    expect(isr.replayable.disableIntrRefCount).toBe(0);
    expect(faultBuffer.interruptEnabled).toBe(true);
    // The interrupt of the entry itself was on its way, and was disabled when it came.
    expect(isr.interruptCount).toBe(1);
  });

  it('tells RM when there is nothing', () => {
    const m = createFaultMachine();
    expect(isrTopHalf(m, 0)).toBe(NV_WARN_MORE_PROCESSING_REQUIRED);
    expect(m.gpus[0].isr.replayable.serviceLock.locked).toBe(false);
    expect(m.gpus[0].isr.interruptCount).toBe(1);
  });

  it('schedules nothing while the service lock is held, and what arrives then is not lost', () => {
    const m = createFaultMachine({ parameters: NO_PREFETCH, costs: { serviceBlock: 20_000 } });
    const first = startProgram(m, [[BASE, READ]]);
    // In the middle of the service, which takes until 20000, and later than the batch's look at PUT.
    const second = startProgram(m, [[BASE + 900, READ]], 0, 1, 4000);
    const { isr } = m.gpus[0];
    let answer = -1;
    function* interrupt(): Generator<number, void, void> {
      yield 5000;
      expect(isr.replayable.serviceLock.locked).toBe(true);
      answer = isrTopHalf(m, 0);
      expect(m.k.qItems[isr.replayable.bottomHalfQItem].pending).toBe(false);
    }
    threadCreate(m, 'interrupt', interrupt());
    runMachine(m);
    expect(answer).toBe(NV_WARN_MORE_PROCESSING_REQUIRED);
    expect([first, second]).toEqual([['replayed'], ['replayed']]);
    // The first batch's replay retried the second access too, whose first entry was still in the buffer.
    expect(faultEvents(m).map((event) => event[0])).toEqual([0, 900, 900]);
  });

  it('gets a new interrupt for what the bottom half left in the buffer', () => {
    const m = createFaultMachine({
      parameters: { ...NO_PREFETCH, uvm_perf_fault_replay_policy: 1, uvm_perf_fault_max_batches_per_service: 1 },
      costs: { pushBase: 3000 },
    });
    inject(m, 0);
    // Arrives while the replay of the first batch is pushed: after the last look at PUT.
    inject(m, 1, 4000);
    runMachine(m);
    expect(faultEvents(m).map((event) => event[0])).toEqual([0, 1]);
    expect(m.gpus[0].isr.replayable.bottomHalfCount).toBe(2);
    expect(m.gpus[0].isr.interruptCount).toBe(2);
  });
});

describe('a fault that happens while the bottom half is on its way out', () => {
  it('interrupts when the interrupt is on again, although the thread was ahead of it in time', () => {
    const exit = 50_000;
    const m = createFaultMachine({ parameters: NO_PREFETCH, costs: { bottomHalfExit: exit } });
    startProgram(m, [[BASE, READ]]);
    const late = startProgram(m, [[BASE + 900, READ]], 0, 1, 3000);
    runMachine(m);
    expect(late).toEqual(['replayed']);
    expect(m.gpus[0].isr.replayable.bottomHalfCount).toBe(2);
    // Not before the first bottom half let go of the lock, and its unlock looked at the buffer again.
    const log = m.tools.log;
    const second = log.page.indexOf(BASE + 900);
    expect([log.kind[second], log.time[second] > exit + m.cost.interruptLatency]).toEqual([EVENT_GPU_FAULT, true]);
  });
});

describe('the interrupt counts', () => {
  it('keep the interrupt off until the last of several that disabled it is through', () => {
    const m = createFaultMachine();
    const gpu = m.gpus[0];
    const states: [number, boolean][] = [];
    function* holder(hold: number): Generator<number, void, void> {
      yield* parentGpuReplayableFaultsIsrLock(m, gpu);
      states.push([gpu.isr.replayable.disableIntrRefCount, gpu.faultBuffer.interruptEnabled]);
      yield m.k.now + hold;
      parentGpuReplayableFaultsIsrUnlock(m, gpu);
      states.push([gpu.isr.replayable.disableIntrRefCount, gpu.faultBuffer.interruptEnabled]);
    }
    for (const hold of [100, 200, 50]) threadCreate(m, `holder ${hold}`, holder(hold));
    runMachine(m);
    // All three disable at once; each leaves, and the next one is handed the lock.
    expect(states).toEqual([
      [1, false],
      [2, false],
      [2, false],
      [1, false],
      [1, false],
      [0, true],
    ]);
  });

  it('make a thread wait for the bottom half, and the bottom half of later faults for the thread', () => {
    const m = createFaultMachine({ parameters: NO_PREFETCH, costs: { serviceBlock: 20_000 } });
    const gpu = m.gpus[0];
    startProgram(m, [[BASE, READ]]);
    const log: string[] = [];
    function* thread(): Generator<number, void, void> {
      yield 2000;
      yield* parentGpuReplayableFaultsIsrLock(m, gpu);
      log.push(`locked after ${faultEvents(m).length}`);
      inject(m, 700);
      yield m.k.now + 50_000;
      log.push(`unlocks after ${faultEvents(m).length}`);
      parentGpuReplayableFaultsIsrUnlock(m, gpu);
    }
    threadCreate(m, 'thread', thread());
    runMachine(m);
    expect(log).toEqual(['locked after 1', 'unlocks after 1']);
    expect(faultEvents(m)).toHaveLength(2);
    expect(m.gpus[0].isr.replayable.bottomHalfCount).toBe(2);
  });
});

describe('a flush of the fault buffer', () => {
  it('may come any number of times, at any time: no access is lost', () => {
    const m = createFaultMachine({ parameters: NO_PREFETCH });
    const programs = [0, 1, 2].map((i) =>
      startProgram(
        m,
        Array.from({ length: 30 }, (_, k) => [BASE + i * 512 + k, READ] as const),
        0,
        i,
      ),
    );
    let flushes = 0;
    function* flusher(): Generator<number, void, void> {
      for (let i = 0; i < 200; i++) {
        expect(yield* gpuFaultBufferFlush(m, m.gpus[0])).toBe(NV_OK);
        flushes++;
        yield m.k.now + 137 * (i % 11);
      }
    }
    threadCreate(m, 'flusher', flusher());
    runMachine(m);
    expect(flushes).toBe(200);
    for (const outcome of programs) expect(outcome).toEqual(new Array(30).fill('replayed'));
    // Some faults were dropped before anybody saw them; their replays brought them back.
    expect(m.gpus[0].clients.faults).toBeGreaterThan(faultEvents(m).length);
    expect(faultEvents(m).length).toBeGreaterThanOrEqual(90);
  });

  it('drops what is there without a record, and its replay is not recorded', () => {
    const m = createFaultMachine();
    for (let page = 0; page < 5; page++) inject(m, page);
    runThread(m, gpuFaultBufferFlush(m, m.gpus[0]));
    expect(faultEvents(m)).toEqual([]);
    expect(replayBatches(m)).toEqual([]);
    const { faultBuffer, isr, replayable } = m.gpus[0];
    expect([faultBuffer.get, faultBuffer.put, faultBuffer.interruptEnabled]).toEqual([5, 5, true]);
    expect(replayable.batch.numReplays).toBe(0);
    expect(isr.replayable.bottomHalfCount).toBe(0);
  });

  it('waits for an entry that is late', () => {
    const m = createFaultMachine();
    faultBufferInject(m, 0, BASE, READ, 0, 0, 0, 0, 0, 8000);
    runThread(m, gpuFaultBufferFlush(m, m.gpus[0]));
    expect(m.gpus[0].faultBuffer.get).toBe(1);
    expect(m.k.now).toBeGreaterThanOrEqual(8000);
  });
});

describe('suspend', () => {
  it('lets queued bottom halves finish, and no new ones start until resume', () => {
    const m = createFaultMachine({ parameters: NO_PREFETCH });
    inject(m, 0);
    runUntil(m, () => m.gpus[0].isr.interruptCount === 1);
    runThread(m, parentGpuSuspendIsr(m, m.gpus[0]));
    expect(faultEvents(m)).toHaveLength(1);
    inject(m, 700);
    runMachine(m);
    expect(isrTopHalf(m, 0)).toBe(NV_ERR_NO_INTR_PENDING);
    expect(faultEvents(m)).toHaveLength(1);
    parentGpuResumeIsr(m, m.gpus[0]);
    runMachine(m);
    expect(faultEvents(m)).toHaveLength(2);
  });
});

describe('removal of the GPU', () => {
  it('finishes what is queued, handles nothing after it, and gives the buffer back with prefetch faults on', () => {
    const m = createFaultMachine({ parameters: NO_PREFETCH });
    const gpu = m.gpus[0];
    inject(m, 0);
    runUntil(m, () => gpu.isr.interruptCount === 1);
    runThread(m, parentGpuDisableIsr(m, gpu));
    expect(faultEvents(m)).toHaveLength(1);
    // The bottom half found that nobody handles interrupts any more, so its own disable stays.
    expect(gpu.isr.replayable.disableIntrRefCount).toBe(2);
    expect(gpu.faultBuffer.interruptEnabled).toBe(false);
    inject(m, 700);
    runMachine(m);
    expect(isrTopHalf(m, 0)).toBe(NV_WARN_MORE_PROCESSING_REQUIRED);
    expect(faultEvents(m)).toHaveLength(1);
    expect([m.k.queues[0].thread, m.k.queues[1].thread]).toEqual([-1, -1]);
    gpu.replayable.prefetchFaultsEnabled = false;
    gpu.faultBuffer.prefetchFilter = 3;
    gpu.replayable.replayTracker = [];
    parentGpuDeinitIsr(gpu);
    expect(gpu.faultBuffer.prefetchFilter).toBe(0);
  });
});

describe('flushing the bottom halves', () => {
  it('waits for one that is queued and for what it queues', () => {
    const m = createFaultMachine({ parameters: NO_PREFETCH });
    inject(m, 0);
    runUntil(m, () => m.gpus[0].isr.interruptCount === 1);
    let seen = -1;
    function* flush(): Generator<number, void, void> {
      yield* parentGpuFlushBottomHalves(m, m.gpus[0]);
      seen = faultEvents(m).length;
    }
    threadCreate(m, 'flush', flush());
    runMachine(m);
    expect(seen).toBe(1);
  });

  it('finds the queue item free again while it runs: a bottom half may be queued once more', () => {
    const m = createFaultMachine({ costs: { serviceBlock: 20_000 } });
    inject(m, 0);
    runUntil(m, () => m.gpus[0].isr.nonReplayable.bottomHalfCount + m.gpus[0].isr.replayable.bottomHalfCount === 1);
    const { isr } = m.gpus[0];
    expect(nvKthreadQScheduleQItem(m, isr.bottomHalfQ, isr.nonReplayable.bottomHalfQItem)).toBe(true);
    runMachine(m);
    expect(isr.nonReplayable.bottomHalfCount).toBe(1);
  });
});

describe('two GPUs', () => {
  it('have bottom halves of their own', () => {
    const m = createFaultMachine({ gpus: 2, parameters: NO_PREFETCH });
    faultBufferInject(m, 0, BASE, READ, 0, 0, 0, 0, 0, 0);
    faultBufferInject(m, 1, BASE + 512, READ, 0, 0, 0, 0, 0, 0);
    runMachine(m);
    expect(m.gpus.map((gpu) => gpu.isr.replayable.bottomHalfCount)).toEqual([1, 1]);
    expect(m.gpus.map((gpu) => gpu.replayable.batch.batchId)).toEqual([1, 1]);
  });
});

describe('a snapshot', () => {
  it('between two programs goes on as the model itself does', () => {
    const programs = [0, 1].map((i) => Array.from({ length: 9 }, (_, k) => [BASE + i * 300 + 40 * k, READ] as const));
    const m = createFaultMachine();
    startProgram(m, programs[0]);
    runMachine(m);
    expect(threadsAllBlocked(m)).toBe(true);
    const restored = restoreSnapshot(takeSnapshot(m), m.spec, m.params, m.cost, { verify: true });
    expect(modelHash(restored)).toBe(modelHash(m));
    for (const model of [m, restored]) {
      startProgram(model, programs[1]);
      runMachine(model);
    }
    expect(faultEvents(restored)).toEqual(faultEvents(m));
    expect(faultEvents(m).length).toBeGreaterThan(3);
    expect(modelHash(restored)).toBe(modelHash(m));
  });
});
