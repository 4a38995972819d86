/** Rules 30 to 48 of docs/copy-routine.md: the armed form. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import {
  blockOf,
  type CopyMachine,
  cpu,
  createCopyMachine,
  type GpuAccess,
  gpu,
  gpuBody,
  HOST,
  lastRecord,
  next,
  plainWord,
  runAll,
  setFrom,
  settle,
  status,
} from '../../../test/support/copy_machine.ts';
import { BASE, countEvents, faultEvents } from '../../../test/support/fault_machine.ts';
import { contentsWrite } from '../gpu/contents.ts';
import { faultBufferInject } from '../gpu/fault_buffer.ts';
import { FAULT_INVALID_PTE } from '../gpu/mmu.ts';
import { clientsAddSlot } from '../gpu/sm.ts';
import { threadCreate } from '../kernel/thread.ts';
import type { Model, Seams } from '../state.ts';
import { CHANNEL_TYPE_GPU_TO_CPU, channelUpdateCompletedValue } from '../uvm/channel.ts';
import { THRASHING_HINT_THROTTLE } from '../uvm/perf_thrashing_types.ts';
import {
  PURPOSE_COPY,
  PURPOSE_COPY_OUT,
  PURPOSE_MEMSET,
  PURPOSE_TEST,
  pushBegin,
  pushCopy,
  pushEnd,
} from '../uvm/push.ts';
import { rangeGroupCreate, rangeGroupSet, rangeGroupsSetMigrationPolicy } from '../uvm/range_group.ts';
import {
  NV_ERR_INVALID_ACCESS_TYPE,
  NV_ERR_INVALID_ADDRESS,
  NV_ERR_INVALID_ARGUMENT,
  NV_ERR_NO_MEMORY,
  NV_ERR_RC_ERROR,
  NV_ERR_STATE_IN_USE,
  NV_OK,
  NV_WARN_NOTHING_TO_DO,
} from '../uvm/status.ts';
import { trackerAddPush } from '../uvm/tracker.ts';
import { pageIsResident } from '../uvm/va_block.ts';
import {
  ACCESS_PREFETCH,
  ACCESS_READ,
  ACCESS_WRITE,
  OPERATION_ACCESS_COUNTERS,
  OPERATION_NON_REPLAYABLE_FAULTS,
} from '../uvm/va_block_types.ts';
import { NEXT_COPY_ARM, STATUS_DISARM, STATUS_WAIT } from './ioctl.ts';
import { copyClaim, copyState } from './record.ts';
import {
  COPY_ARMED,
  COPY_DONE,
  COPY_ENDED,
  COPY_RUNNING,
  type CopyRecord,
  HOW_MAPPED,
  HOW_MIGRATED,
  HOW_STALE,
} from './types.ts';

/** Pages of the block for which the thrashing module says that the GPU must wait. */
const throttled = vi.hoisted(() => new Set<number>());
vi.mock('../uvm/perf_thrashing.ts', async (original) => {
  const real = await original<typeof import('../uvm/perf_thrashing.ts')>();
  return {
    ...real,
    perfThrashingGetHint: (m: Model, block: never, page: number, processor: number) => {
      const hint = real.perfThrashingGetHint(m, block, page, processor);
      if (throttled.delete(page)) hint.type = THRASHING_HINT_THROTTLE;
      return hint;
    },
  };
});

let b: CopyMachine;
beforeEach(() => {
  b = createCopyMachine({ gpus: 2 });
  throttled.clear();
});

/** Arms a copy of `page` (null: of whichever faults) to HOST. */
function arm(page: number | null): CopyRecord {
  setFrom(b, page);
  expect(next(b, HOST, NEXT_COPY_ARM).status).toBe(NV_OK);
  return lastRecord(b);
}

/** Runs `act` around the copy routine's hook in service finish. */
function aroundHook(
  act: (call: () => void, ...args: Parameters<NonNullable<Seams['serviceFinishHook']>>) => void,
): void {
  const hook = b.m.res.seams.serviceFinishHook;
  b.m.res.seams.serviceFinishHook = (...args) => act(() => hook?.(...args), ...args);
}

/** Programs of one thread each, on clients of their own, that start at one time. */
function together(...programs: [index: number, accesses: GpuAccess[]][]): string[][] {
  const { m } = b;
  const outcomes: string[][] = [];
  for (const [i, [index, accesses]] of programs.entries()) {
    const slot = clientsAddSlot(m, index, 1 + (i % 4), i, 0, -1);
    function* run(): Generator<number, void, void> {
      outcomes[i] = yield* gpuBody(b, index, accesses, slot);
    }
    threadCreate(m, `program ${i}`, run());
  }
  settle(m);
  return outcomes;
}

/** Finishes of the pushes by purpose, in order. */
function watchFinishes(m: Model): Map<number, number[]> {
  const finishes = new Map<number, number[]>();
  m.res.why = {
    enter: () => {},
    residency: () => {},
    prefetchLevel: () => {},
    prefetch: () => {},
    thrashing: () => {},
    push: (purpose, _gpu, _channel, _value, _begin, _start, finish) => {
      finishes.set(purpose, [...(finishes.get(purpose) ?? []), finish]);
    },
    copy: () => {},
    map: () => {},
  };
  return finishes;
}

/** A range group around pages that may not migrate, so that a GPU's access there is fatal. */
function forbid(first: number, outer: number): void {
  const group = rangeGroupCreate(b.space);
  rangeGroupSet(b.space, group, first, outer);
  rangeGroupsSetMigrationPolicy(b.space, [group], false);
}

describe('arming', () => {
  it('rule 30: pins and maps B at once for every GPU; B is plain and aligned, and one page', () => {
    expect(next(b, BASE, NEXT_COPY_ARM).status).toBe(NV_ERR_INVALID_ADDRESS);
    expect(next(b, HOST, NEXT_COPY_ARM, { offset: 4 }).status).toBe(NV_ERR_INVALID_ADDRESS);
    setFrom(b, BASE, { length: 8192 });
    expect(next(b, HOST, NEXT_COPY_ARM).status).toBe(NV_ERR_INVALID_ARGUMENT);
    const record = arm(BASE);
    expect(record).toMatchObject({ state: COPY_ARMED, mappedGpus: 6, retainedGpus: 6, pages: 1 });
    expect(b.m.k.pins[record.pin]).toMatchObject({ live: true, frames: [HOST] });
  });

  it('rule 31: there is one armed copy; disarm ends it; arming returns at once', () => {
    setFrom(b, BASE);
    const { token, status: armed } = next(b, HOST, NEXT_COPY_ARM);
    expect([armed, token]).toEqual([NV_OK, 1]);
    expect(next(b, HOST + 1, NEXT_COPY_ARM).status).toBe(NV_ERR_STATE_IN_USE);
    expect(b.m.k.pins.filter((pin) => pin.live).length).toBe(1);
    // Nothing to wait for before a fault has claimed it.
    expect(status(b, token, STATUS_WAIT).state).toBe(COPY_ARMED);
    const ended = { state: COPY_ENDED, copyStatus: NV_WARN_NOTHING_TO_DO, bytes: 0 };
    expect(status(b, token, STATUS_DISARM)).toMatchObject({ status: NV_OK, ...ended });
    expect(b.m.k.pins.some((pin) => pin.live)).toBe(false);
    gpu(b, 0, [BASE, ACCESS_READ]);
    expect(lastRecord(b).pushes).toEqual([]);
    expect(next(b, HOST + 1, NEXT_COPY_ARM).status).toBe(NV_OK);
  });

  it("rule 32: the first fault on A's page triggers, on any GPU; without A on any managed page", () => {
    cpu(b, BASE + 3, 30);
    const record = arm(BASE + 3);
    gpu(b, 0, [BASE + 600, ACCESS_READ]);
    expect(record.state).toBe(COPY_ARMED);
    gpu(b, 1, [BASE + 3, ACCESS_READ]);
    expect(record).toMatchObject({ state: COPY_DONE, gpu: 1, residentOn: 2, fromPage: BASE + 3 });
    expect(plainWord(b, HOST)).toBe(30);
    cpu(b, BASE + 1200, 44);
    const any = arm(null);
    expect(any.fromPage).toBe(-1);
    gpu(b, 0, [BASE + 1200, ACCESS_READ]);
    expect(any).toMatchObject({ state: COPY_DONE, fromPage: BASE + 1200 });
    expect(plainWord(b, HOST)).toBe(44);
  });

  it('rule 33: first means in the order of service, not of arrival', () => {
    for (const page of [5, 3, 600]) cpu(b, BASE + page, page);
    const record = arm(null);
    together([0, [[BASE + 600, ACCESS_READ]]], [0, [[BASE + 5, ACCESS_READ]]], [0, [[BASE + 3, ACCESS_READ]]]);
    expect(faultEvents(b.m).map(([page, , batch]) => [page, batch])).toEqual([
      [3, 1],
      [5, 1],
      [600, 1],
    ]);
    expect(record.fromPage).toBe(BASE + 3);
    expect(plainWord(b, HOST)).toBe(3);
  });

  it('rule 33: a page that goes elsewhere does not come before one with a lower address', () => {
    for (const page of [5, 3]) cpu(b, BASE + page, page);
    // Page 5 stays on the CPU, whose pages are serviced before those of the GPU.
    const select = b.m.res.seams.selectResidency;
    b.m.res.seams.selectResidency = (...args) => (args[3] === 5 ? 0 : select(...args));
    const record = arm(null);
    together([0, [[BASE + 5, ACCESS_READ]]], [0, [[BASE + 3, ACCESS_READ]]]);
    expect(record).toMatchObject({ fromPage: BASE + 3, residentOn: 1 });
  });

  it('rule 34: CPU faults, other services, prefetched pages and duplicates trigger nothing', () => {
    const record = arm(BASE + 2);
    cpu(b, BASE + 2, 9);
    expect(record.state).toBe(COPY_ARMED);
    gpu(b, 0, [BASE + 4, ACCESS_READ]);
    expect(pageIsResident(blockOf(b, BASE), 1, 2)).toBe(true);
    expect(record.state).toBe(COPY_ARMED);
    aroundHook((call, _m, _block, context) => {
      for (const operation of [OPERATION_NON_REPLAYABLE_FAULTS, OPERATION_ACCESS_COUNTERS]) {
        context.operation = operation;
        call();
        expect(record.state).toBe(COPY_ARMED);
      }
      context.operation = 0;
      call();
    });
    cpu(b, BASE + 2, 10);
    together([0, [[BASE + 2, ACCESS_READ]]], [0, [[BASE + 2, ACCESS_WRITE]]]);
    expect(record.state).toBe(COPY_DONE);
    expect(record.pushes.length).toBe(1);
    expect(plainWord(b, HOST)).toBe(10);
  });

  it('rule 35: throttled faults and invalid prefetches leave it armed; a fatal one ends it', () => {
    cpu(b, BASE + 3, 3);
    const record = arm(BASE + 3);
    throttled.add(3);
    let seen = -1;
    aroundHook((call) => {
      seen = record.state;
      call();
    });
    gpu(b, 0, [BASE + 3, ACCESS_READ]);
    // The first service left the page out; the replay's fault brought it in.
    expect(countEvents(b.m).gpuFault).toBe(2);
    expect([seen, record.state]).toEqual([COPY_ARMED, COPY_DONE]);

    forbid(BASE + 1000, BASE + 1010);
    const fatal = arm(BASE + 1001);
    const { m } = b;
    faultBufferInject(m, 0, BASE + 1001, ACCESS_PREFETCH, FAULT_INVALID_PTE, 0, 0, 0, Math.ceil(m.k.now), m.k.now);
    settle(m);
    expect(fatal.state).toBe(COPY_ARMED);
    expect(gpu(b, 0, [BASE + 1001, ACCESS_WRITE])).toEqual(['cancelled']);
    expect(fatal).toMatchObject({ state: COPY_ENDED, status: NV_ERR_INVALID_ACCESS_TYPE, bytes: 0, pushes: [] });
    expect(fatal.pin).toBe(-1);
  });

  it('rule 35: a service that fails ends it with the status', () => {
    const record = arm(BASE + 3);
    b.m.gpus[0].vidmemUsed = b.m.spec.vidmemBytes;
    expect(gpu(b, 0, [BASE + 3, ACCESS_READ])).toEqual(['cancelled']);
    expect(record).toMatchObject({ state: COPY_ENDED, status: NV_ERR_NO_MEMORY, bytes: 0, pushes: [] });
    expect(status(b, record.token)).toMatchObject({ state: COPY_ENDED, copyStatus: NV_ERR_NO_MEMORY });
  });

  it('rule 36: of the bottom halves of several GPUs one claims it', () => {
    cpu(b, BASE, 6);
    const record = arm(BASE);
    const outcomes = together([0, [[BASE, ACCESS_READ]]], [1, [[BASE, ACCESS_READ]]]);
    expect(outcomes).toEqual([['replayed'], ['replayed']]);
    expect(record).toMatchObject({ state: COPY_DONE, bytes: 4096 });
    expect(record.pushes.length).toBe(1);
    arm(BASE + 1);
    expect(copyClaim(b.m, b.space)?.fromPage).toBe(BASE + 1);
    expect(copyClaim(b.m, b.space)).toBeNull();
  });
});

describe('the copy in the service', () => {
  it('rule 37: is made when residency names the new place and nobody maps the page', () => {
    cpu(b, BASE, 6);
    const record = arm(BASE);
    const seen: unknown[] = [];
    aroundHook((call, _m, block) => {
      const before = [pageIsResident(block, 0, 0), pageIsResident(block, 1, 0), block.mapped, record.pushes.length];
      call();
      seen.push([...before, record.pushes.length]);
    });
    gpu(b, 0, [BASE, ACCESS_READ]);
    expect(seen).toEqual([[false, true, 0, 0, 1]]);
  });

  it('rule 38: comes after the migration, and the page-table push after it', () => {
    cpu(b, BASE, 6);
    const record = arm(BASE);
    const finishes = watchFinishes(b.m);
    gpu(b, 0, [BASE, ACCESS_READ]);
    const [migration] = finishes.get(PURPOSE_COPY) ?? [];
    const [push] = record.pushes;
    expect(finishes.get(PURPOSE_COPY_OUT)).toEqual([push.end]);
    expect(push.begin).toBeGreaterThanOrEqual(migration);
    expect(record.pageTablePush?.begin).toBeGreaterThanOrEqual(push.end);
  });

  it('rule 39: of a page that migrated is a snapshot of the value before the GPU writes', () => {
    cpu(b, BASE, 6);
    const record = arm(BASE);
    gpu(b, 0, [BASE, ACCESS_WRITE, 7]);
    expect(record).toMatchObject({ how: HOW_MIGRATED, snapshot: true, writableOn: 0, bytes: 4096, residentOn: 1 });
    expect(plainWord(b, HOST)).toBe(6);
    setFrom(b, BASE);
    next(b, HOST + 1);
    expect(plainWord(b, HOST + 1)).toBe(7);
  });

  it('rule 40: of a page that is authorised already is made at the skip, and is no snapshot', () => {
    const { m } = b;
    cpu(b, BASE, 6);
    gpu(b, 0, [BASE, ACCESS_WRITE, 8]);
    const record = arm(BASE);
    faultBufferInject(m, 0, BASE, ACCESS_WRITE, FAULT_INVALID_PTE, 0, 0, 0, Math.ceil(m.k.now), m.k.now);
    settle(m);
    expect(record).toMatchObject({ how: HOW_STALE, snapshot: false, residentOn: 1, writableOn: 2, state: COPY_DONE });
    expect(record.pageTablePush).toBeNull();
    expect(record.replay?.begin).toBeGreaterThanOrEqual(record.pushes[0].end);
    expect(plainWord(b, HOST)).toBe(8);
  });

  it('rule 40: a stale fault behind a page that is serviced is not the first', () => {
    const { m } = b;
    cpu(b, BASE, 6);
    cpu(b, BASE + 600, 6);
    gpu(b, 0, [BASE + 40, ACCESS_READ]);
    const record = arm(null);
    const at = Math.ceil(m.k.now);
    faultBufferInject(m, 0, BASE + 40, ACCESS_READ, FAULT_INVALID_PTE, 0, 0, 0, at, at);
    faultBufferInject(m, 0, BASE, ACCESS_READ, FAULT_INVALID_PTE, 0, 0, 0, at, at);
    settle(m);
    expect(record).toMatchObject({ fromPage: BASE, how: HOW_MIGRATED });
  });

  it('rule 41: of a page that stays on the CPU waits for the tracker, is made by the CPU, and is no snapshot', () => {
    const { m } = b;
    cpu(b, BASE, 6);
    const record = arm(BASE);
    m.res.seams.selectResidency = () => 0;
    let finish = 0;
    aroundHook((call, _m, block) => {
      const push = pushBegin(m, 0, CHANNEL_TYPE_GPU_TO_CPU, PURPOSE_TEST);
      pushCopy(m, push, 0, 1, BASE + 16000, 300, false);
      pushEnd(m, push);
      trackerAddPush(block.tracker, push);
      finish = push.finish;
      call();
    });
    expect(gpu(b, 0, [BASE, ACCESS_READ])).toEqual(['replayed']);
    expect(record).toMatchObject({ how: HOW_MAPPED, residentOn: 0, snapshot: false, pushes: [], state: COPY_DONE });
    expect(record.begin).toBeGreaterThanOrEqual(finish);
    expect(record.writableOn).toBe(1);
    expect(plainWord(b, HOST)).toBe(6);
  });

  it('rule 42: of a page that is touched for the first time gets its zeros, after the zeroing', () => {
    contentsWrite(b.m.contents as never, 0, HOST, 0, 77);
    const record = arm(BASE);
    const finishes = watchFinishes(b.m);
    gpu(b, 0, [BASE, ACCESS_WRITE, 9]);
    const [zeroed] = finishes.get(PURPOSE_MEMSET) ?? [];
    expect(record).toMatchObject({ how: HOW_MIGRATED, snapshot: true, residentOn: 1 });
    expect(record.pushes[0].begin).toBeGreaterThanOrEqual(zeroed);
    expect(plainWord(b, HOST)).toBe(0);
  });

  it('rule 43: is made once, however often the hook is passed', () => {
    cpu(b, BASE, 6);
    const record = arm(BASE);
    aroundHook((call) => {
      call();
      call();
    });
    gpu(b, 0, [BASE, ACCESS_READ]);
    expect(record.pushes.length).toBe(1);
    expect(b.space.copy.records.length).toBe(1);
  });

  it('rule 44: that fails ends the armed copy and never the fault', () => {
    const { m } = b;
    cpu(b, BASE, 6);
    const record = arm(BASE);
    m.res.seams.selectResidency = () => 0;
    aroundHook((call, _m, block) => {
      const push = pushBegin(m, 0, CHANNEL_TYPE_GPU_TO_CPU, PURPOSE_TEST);
      pushCopy(m, push, 0, 1, BASE + 16000, 300, false);
      pushEnd(m, push);
      trackerAddPush(block.tracker, push);
      m.globalStatus = NV_ERR_RC_ERROR;
      call();
      m.globalStatus = NV_OK;
    });
    expect(gpu(b, 0, [BASE, ACCESS_READ])).toEqual(['replayed']);
    expect(record).toMatchObject({ state: COPY_ENDED, status: NV_ERR_RC_ERROR, bytes: 0, snapshot: false, pin: -1 });
    expect(countEvents(b.m).fatalFault).toBeUndefined();
  });

  it('rule 45: adds no wait for a page on a GPU, but the replay comes after it', () => {
    cpu(b, BASE, 6);
    const record = arm(BASE);
    let took = 0;
    aroundHook((call, m) => {
      const before = m.k.now;
      call();
      took = m.k.now - before;
    });
    gpu(b, 0, [BASE, ACCESS_READ]);
    const [push] = record.pushes;
    expect(push.end - push.begin).toBe(5100);
    expect(took).toBeLessThan(100);
    expect(record.replay?.begin).toBeGreaterThanOrEqual(push.end);
  });

  it.each([
    ['BLOCK', 0],
    ['BATCH', 1],
    ['BATCH_FLUSH', 2],
    ['ONCE', 3],
  ])('rule 46: the replay of policy %s comes after the copy', (name, policy) => {
    b = createCopyMachine({ parameters: { uvm_perf_fault_replay_policy: policy } });
    for (const page of [0, 600, 1200]) cpu(b, BASE + page, page + 1);
    const record = arm(BASE + 600);
    const replays: number[] = [];
    const outcomes = together(
      [0, [[BASE, ACCESS_READ]]],
      [0, [[BASE + 600, ACCESS_WRITE, 9]]],
      [0, [[BASE + 1200, ACCESS_READ]]],
    );
    expect(outcomes.flat()).toEqual(['replayed', 'replayed', 'replayed']);
    const { log } = b.m.tools;
    for (let i = 0; i < log.count; i++) if (log.kind[i] === 4) replays.push(log.gpuTime[i]);
    expect(record.replay?.begin).toBeGreaterThanOrEqual(record.pushes[0].end);
    // Which of the batch's replays it is: of the second block, of the batch, or the last one of all.
    const at = replays.sort((x, y) => x - y).indexOf(record.replay?.end ?? -1);
    expect([name, at]).toEqual([name, policy === 0 ? 1 : policy === 3 ? replays.length - 1 : 0]);
    expect(plainWord(b, HOST)).toBe(601);
  });

  it('rule 47: the stalled access goes on after the replay, and others that fault again do not trigger twice', () => {
    for (const page of [0, 600]) cpu(b, BASE + page, page + 1);
    const record = arm(null);
    throttled.add(88);
    const outcomes = together([0, [[BASE, ACCESS_WRITE, 5]]], [0, [[BASE + 600, ACCESS_WRITE, 5]]]);
    expect(outcomes.flat()).toEqual(['replayed', 'replayed']);
    expect(faultEvents(b.m).map(([page]) => page)).toEqual([0, 600, 600]);
    expect(record).toMatchObject({ fromPage: BASE, bytes: 4096 });
    expect(record.pushes.length).toBe(1);
    expect(plainWord(b, HOST)).toBe(1);
  });

  it("rule 48: is done when the channel's completed value has reached its own", () => {
    const { m } = b;
    cpu(b, BASE, 6);
    const record = arm(BASE);
    let during = -1;
    aroundHook((call) => {
      call();
      during = copyState(m, record);
    });
    gpu(b, 0, [BASE, ACCESS_READ]);
    const [push] = record.pushes;
    expect(during).toBe(COPY_RUNNING);
    expect(channelUpdateCompletedValue(m, push.channel)).toBeGreaterThanOrEqual(push.value);
    const done = { state: COPY_DONE, copyStatus: NV_OK, bytes: 4096, value: push.value };
    expect(status(b, record.token, STATUS_WAIT)).toMatchObject(done);
    expect(record).toMatchObject({ pin: -1, mappedGpus: 0, retainedGpus: 0 });
    runAll(m, gpuBody(b, 0, []));
  });
});
