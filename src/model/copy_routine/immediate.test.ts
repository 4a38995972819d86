/** Rules 13 to 29 of docs/copy-routine.md: the immediate form, and the asynchronous one. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  blockOf,
  type CopyMachine,
  callBody,
  cpu,
  cpuBody,
  createCopyMachine,
  gpu,
  gpuBody,
  HOST,
  lastRecord,
  next,
  nextResult,
  nextView,
  onGpu,
  pageBytes,
  plainWord,
  runAll,
  runOnly,
  setFrom,
  status,
} from '../../../test/support/copy_machine.ts';
import { BASE, runMachine } from '../../../test/support/fault_machine.ts';
import { driverStateHash } from '../driver_state.ts';
import { contentsWrite } from '../gpu/contents.ts';
import { METHOD_COPY_OUT, METHOD_WORDS } from '../gpu/methods.ts';
import type { Kernel } from '../kernel/clock.ts';
import {
  LOCK_ORDER_GLOBAL_PM,
  LOCK_ORDER_MMAP_LOCK,
  LOCK_ORDER_VA_BLOCK,
  LOCK_ORDER_VA_SPACE,
} from '../kernel/lock.ts';
import { threadCreate } from '../kernel/thread.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_GPU_TO_CPU, channelGet, channelUpdateProgressAll } from '../uvm/channel.ts';
import { uvmMigrate } from '../uvm/migrate.ts';
import { policySetReadDuplication } from '../uvm/policy.ts';
import { PURPOSE_COPY, PURPOSE_COPY_OUT, PURPOSE_TEST, pushBegin, pushCopy, pushEnd } from '../uvm/push.ts';
import { rangeGroupCreate, rangeGroupSet, rangeGroupsSetMigrationPolicy } from '../uvm/range_group.ts';
import {
  NV_ERR_ECC_ERROR,
  NV_ERR_INVALID_ADDRESS,
  NV_ERR_INVALID_ARGUMENT,
  NV_ERR_INVALID_STATE,
  NV_OK,
} from '../uvm/status.ts';
import { EVENT_CPU_FAULT } from '../uvm/tools.ts';
import { trackerAddPush } from '../uvm/tracker.ts';
import { pageIsResident } from '../uvm/va_block.ts';
import { ACCESS_READ } from '../uvm/va_block_types.ts';
import { vaSpaceMunmap } from '../uvm/va_range.ts';
import { vaBlockFind, vaSpaceMmap } from '../uvm/va_space.ts';
import { NEXT_COPY_ASYNC, NONE_U32, STATUS_WAIT } from './ioctl.ts';
import { COPY_DONE, COPY_ENDED, COPY_RUNNING } from './types.ts';

/** Locks held by the running thread, by order. */
function held(k: Kernel): number[] {
  const state = k.lockContexts[k.currentThread + 1]?.state ?? new Uint8Array();
  return [...state.keys()].filter((order) => state[order] !== 0);
}

const probes = vi.hoisted(() => ({ pins: [] as number[][] }));
vi.mock('../kernel/mm.ts', async (original) => {
  const real = await original<typeof import('../kernel/mm.ts')>();
  return {
    ...real,
    mmPin: (k: Kernel, mm: number, page: number, pages: number) => {
      probes.pins.push(held(k));
      return real.mmPin(k, mm, page, pages);
    },
  };
});

let b: CopyMachine;
beforeEach(() => {
  b = createCopyMachine({ gpus: 2 });
  probes.pins = [];
});
afterEach(() => {
  b.m.res.seams.pushEnded = null;
});

/** What was pushed by the copy routine: GPU, channel, and the bytes of each method. */
function watchCopies(m: Model): { gpu: number; channel: number; start: number; bytes: number[]; locks: number[] }[] {
  const seen: { gpu: number; channel: number; start: number; bytes: number[]; locks: number[] }[] = [];
  m.res.seams.pushEnded = (_m, push) => {
    if (push.purpose !== PURPOSE_COPY_OUT) return;
    const bytes: number[] = [];
    for (let i = 0; i < push.length; i += METHOD_WORDS[push.words[i]]) {
      if (push.words[i] === METHOD_COPY_OUT) bytes.push(push.words[i + 6]);
    }
    seen.push({ gpu: push.gpu, channel: push.channel, start: push.start, bytes, locks: held(m.k) });
  };
  return seen;
}

/** A push that keeps the GPU busy and that the block's tracker knows of; returns when it finishes. */
function pendingPush(page: number): number {
  const { m } = b;
  const push = pushBegin(m, 0, CHANNEL_TYPE_GPU_TO_CPU, PURPOSE_TEST);
  pushCopy(m, push, 0, 1, BASE + 16000, 300, false);
  pushEnd(m, push);
  trackerAddPush(blockOf(b, page).tracker, push);
  return push.finish;
}

describe('the immediate form', () => {
  it('rule 13: asks the global status, and pins B under the plain mmap lock before any lock of the driver', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    next(b, HOST);
    expect(probes.pins).toEqual([[LOCK_ORDER_GLOBAL_PM, LOCK_ORDER_MMAP_LOCK]]);
    b.m.globalStatus = NV_ERR_INVALID_STATE;
    expect(next(b, HOST + 1).status).toBe(NV_ERR_INVALID_STATE);
    expect(probes.pins.length).toBe(1);
  });

  it("rule 14: a managed B is staged, and its own faults are B's and reported", () => {
    onGpu(b, BASE, 5);
    onGpu(b, BASE + 600, 8);
    setFrom(b, BASE);
    const before = b.m.tools.log.count;
    expect(next(b, BASE + 600).status).toBe(NV_OK);
    expect(probes.pins).toEqual([]);
    const { log } = b.m.tools;
    const faults = [];
    for (let i = before; i < log.count; i++) if (log.kind[i] === EVENT_CPU_FAULT) faults.push(log.page[i]);
    expect(faults).toEqual([BASE + 600]);
    expect(pageIsResident(blockOf(b, BASE + 600), 0, 88)).toBe(true);
    expect(pageBytes(b, 0, BASE + 600)).toEqual(pageBytes(b, 1, BASE));
    expect(pageIsResident(blockOf(b, BASE), 1, 0)).toBe(true);
    expect(lastRecord(b)).toMatchObject({ staged: true, bytes: 4096 });
  });

  it('rule 15: holds mmap and VA-space lock, keeps the GPUs and maps B on them', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    const seen = watchCopies(b.m);
    next(b, HOST, NEXT_COPY_ASYNC, { only: true });
    const locks = [LOCK_ORDER_GLOBAL_PM, LOCK_ORDER_MMAP_LOCK, LOCK_ORDER_VA_SPACE, LOCK_ORDER_VA_BLOCK];
    expect(seen[0].locks).toEqual(locks);
    expect(lastRecord(b)).toMatchObject({ retainedGpus: 6, mappedGpus: 6 });
  });

  it('rule 16: a block that is not there gives zeros and is not made', () => {
    contentsWrite(b.m.contents as never, 0, HOST, 1023, 77);
    setFrom(b, BASE + 600);
    expect(next(b, HOST)).toMatchObject({ status: NV_OK, bytes: 4096, residentOn: NONE_U32, channel: NONE_U32 });
    expect(pageBytes(b, 0, HOST).every((byte) => byte === 0)).toBe(true);
    expect(vaBlockFind(b.space, BASE + 600)).toBeNull();
  });

  it('rule 17: the source is the resident processor closest to the CPU, whoever maps the page', () => {
    policySetReadDuplication(b.m, b.space, BASE, BASE + 512, true);
    cpu(b, BASE, 3);
    gpu(b, 1, [BASE, ACCESS_READ]);
    gpu(b, 0, [BASE, ACCESS_READ]);
    expect(blockOf(b, BASE).resident).toBe(7);
    setFrom(b, BASE);
    expect(next(b, HOST).residentOn).toBe(0);
    onGpu(b, BASE + 600, 9, 1);
    setFrom(b, BASE + 600);
    expect(next(b, HOST).residentOn).toBe(2);
    // The CPU has the page and only a GPU maps it.
    const select = b.m.res.seams.selectResidency;
    b.m.res.seams.selectResidency = () => 0;
    gpu(b, 0, [BASE + 1200, ACCESS_READ]);
    b.m.res.seams.selectResidency = select;
    expect(blockOf(b, BASE + 1200).mapped).toBe(2);
    setFrom(b, BASE + 1200);
    expect(next(b, HOST).residentOn).toBe(0);
  });

  it('rule 18: a page of nobody gives zeros and is not populated; one of the CPU waits for the tracker', () => {
    onGpu(b, BASE, 5);
    contentsWrite(b.m.contents as never, 0, HOST, 0, 77);
    setFrom(b, BASE + 400);
    const before = driverStateHash(b.m);
    expect(next(b, HOST)).toMatchObject({ status: NV_OK, residentOn: NONE_U32 });
    expect(plainWord(b, HOST)).toBe(0);
    expect(driverStateHash(b.m)).toBe(before);
    cpu(b, BASE, 6);
    setFrom(b, BASE);
    const finish = pendingPush(BASE);
    expect(next(b, HOST)).toMatchObject({ residentOn: 0, channel: NONE_U32 });
    expect(lastRecord(b).begin).toBeGreaterThanOrEqual(finish);
    expect(plainWord(b, HOST)).toBe(6);
  });

  it('rule 19: one push on the GPU, of one method for each contiguous run of at most 2 MiB', () => {
    cpu(b, BASE, 1);
    runAll(
      b.m,
      (function* () {
        yield b.m.k.now;
        uvmMigrate(b.m, b.space, BASE, BASE + 1024, 1);
      })(),
    );
    setFrom(b, BASE, { length: 1024 * 4096 });
    const seen = watchCopies(b.m);
    const finish = pendingPush(BASE);
    next(b, HOST);
    const MIB2 = 2097152;
    expect(seen.map((push) => push.bytes)).toEqual([[MIB2], [MIB2]]);
    const { poolForType, pools } = b.m.gpus[0].channelManager;
    const pool = pools[poolForType[CHANNEL_TYPE_GPU_TO_CPU]];
    for (const push of seen) expect(pool.channels.map((channel) => channel.id)).toContain(push.channel);
    expect(seen[0].start).toBeGreaterThanOrEqual(finish);
    seen.length = 0;
    next(b, HOST + 3, 0, { offset: 100 });
    const first = MIB2 - 3 * 4096 - 100;
    expect(seen.map((push) => push.bytes)).toEqual([
      [first, MIB2 - first],
      [first, MIB2 - first],
    ]);
    seen.length = 0;
    setFrom(b, BASE + 8, { length: 8192 });
    next(b, HOST);
    expect(seen.map((push) => push.bytes)).toEqual([[8192]]);
  });

  it("rule 20: the push is in the block's tracker, so what comes later waits for it", () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    next(b, HOST, NEXT_COPY_ASYNC, { only: true });
    const [push] = lastRecord(b).pushes;
    const { tracker } = blockOf(b, BASE);
    const at = tracker.indexOf(push.channel);
    expect([at % 2, tracker[at + 1]]).toEqual([0, push.value]);
    expect(b.m.k.now).toBeLessThan(push.end);
    let moved = 0;
    b.m.res.seams.pushEnded = (_m, other) => {
      if (other.purpose === PURPOSE_COPY) moved = other.start;
    };
    runOnly(b.m, cpuBody(b, BASE, 6));
    expect(moved).toBeGreaterThanOrEqual(push.end);
    expect(plainWord(b, HOST)).toBe(5);
  });

  it('rule 21: waits with no lock held but the power lock', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    const { m } = b;
    const view = nextView(HOST);
    const waits: number[][] = [];
    function* watched(): Generator<number, void, void> {
      for (const until of callBody(b, 3002, view)) {
        if (until > m.k.now) waits.push(held(m.k));
        yield until;
      }
    }
    runOnly(m, watched());
    expect(waits).toEqual([[LOCK_ORDER_GLOBAL_PM]]);
    expect(m.k.now).toBeGreaterThanOrEqual(lastRecord(b).end);
  });

  it('rule 22: afterwards it checks for errors, and unmaps, unpins and releases', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    next(b, HOST);
    expect(lastRecord(b)).toMatchObject({ state: COPY_DONE, pin: -1, mappedGpus: 0, retainedGpus: 0 });
    expect(b.m.k.pins.every((pin) => !pin.live)).toBe(true);
    const { m } = b;
    const view = nextView(HOST + 1);
    function* failing(): Generator<number, void, void> {
      for (const until of callBody(b, 3002, view)) {
        if (until > m.k.now) m.globalStatus = NV_ERR_ECC_ERROR;
        yield until;
      }
    }
    runOnly(m, failing());
    expect(nextResult(view)).toMatchObject({ status: NV_ERR_ECC_ERROR, bytes: 4096 });
    expect(lastRecord(b)).toMatchObject({ state: COPY_ENDED, pin: -1, retainedGpus: 0 });
  });

  it('rule 23: locks one block at a time, in the order of addresses', () => {
    for (const page of [BASE + 1024, BASE, BASE + 512]) onGpu(b, page, 5);
    setFrom(b, BASE, { length: 1536 * 4096 });
    const seen = watchCopies(b.m);
    // With checks on, a second block lock would be an error.
    expect(next(b, HOST)).toMatchObject({ status: NV_OK, bytes: 1536 * 4096 });
    expect(seen.every((push) => push.locks.filter((order) => order === LOCK_ORDER_VA_BLOCK).length === 1)).toBe(true);
    const released = [0, 512, 1024].map((page) => blockOf(b, BASE + page).lockFreeAt);
    expect([...released].sort((x, y) => x - y)).toEqual(released);
    expect(new Set(released).size).toBe(3);
    for (const page of [0, 512, 1024]) expect(plainWord(b, HOST + page)).toBe(5);
  });

  it('rule 24: a failure part-way leaves the completed prefix and the first error', () => {
    const { m, space } = b;
    vaSpaceMmap(space, BASE + 16384, 4, 1);
    onGpu(b, BASE + 16380, 5);
    onGpu(b, BASE + 16384, 6);
    setFrom(b, BASE + 16380, { length: 8 * 4096 });
    vaSpaceMunmap(m, space, BASE + 16384, BASE + 16388);
    expect(next(b, HOST)).toMatchObject({ status: NV_ERR_INVALID_ADDRESS, bytes: 4 * 4096 });
    expect(plainWord(b, HOST)).toBe(5);
    expect(plainWord(b, HOST + 4)).toBe(0);
    expect(lastRecord(b)).toMatchObject({ state: COPY_ENDED, bytes: 4 * 4096 });
    // B that cannot be written from its second page on: its group may not migrate.
    const group = rangeGroupCreate(space);
    rangeGroupSet(space, group, BASE + 1001, BASE + 1002);
    rangeGroupsSetMigrationPolicy(space, [group], false);
    setFrom(b, BASE + 16380, { length: 2 * 4096 });
    expect(next(b, BASE + 1000)).toMatchObject({ status: NV_ERR_INVALID_ARGUMENT, bytes: 4096 });
    expect(pageBytes(b, 0, BASE + 1000)).toEqual(pageBytes(b, 1, BASE + 16380));
  });

  it('rule 25: ASYNC returns before the copy is done; COPY_STATUS with wait polls', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    const result = next(b, HOST, NEXT_COPY_ASYNC, { only: true });
    const [push] = lastRecord(b).pushes;
    expect(b.m.k.now).toBeLessThan(push.end);
    expect(result).toMatchObject({ status: NV_OK, bytes: 0, residentOn: 1, channel: push.channel, value: push.value });
    expect(status(b, result.token, 0, { only: true })).toMatchObject({ state: COPY_RUNNING, bytes: 0 });
    const done = status(b, result.token, STATUS_WAIT, { only: true });
    expect(done).toEqual({ status: NV_OK, state: COPY_DONE, copyStatus: NV_OK, bytes: 4096, value: push.value });
    expect(b.m.k.now).toBeGreaterThanOrEqual(push.end);
    expect(plainWord(b, HOST)).toBe(5);
    expect(next(b, BASE + 600, NEXT_COPY_ASYNC).status).toBe(NV_ERR_INVALID_ADDRESS);
  });

  it('rule 26: lets go only after completion, by an item that the late callback queues', () => {
    const { m } = b;
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    next(b, HOST, NEXT_COPY_ASYNC, { only: true });
    const record = lastRecord(b);
    const [push] = record.pushes;
    const holds = { pin: record.pin, mappedGpus: 6, retainedGpus: 6 };
    channelUpdateProgressAll(m, push.channel);
    expect(record).toMatchObject({ ...holds, item: -1 });
    // Done, and nobody has collected it.
    m.k.now = push.end;
    expect(m.k.pins[holds.pin].live).toBe(true);
    channelUpdateProgressAll(m, push.channel);
    expect(record).toMatchObject(holds);
    expect(m.k.qItems[record.item].pending).toBe(true);
    runMachine(m);
    expect(record).toMatchObject({ pin: -1, mappedGpus: 0, retainedGpus: 0, item: -1, state: COPY_DONE });
    expect(m.k.pins[holds.pin].live).toBe(false);
  });

  it("rule 27: takes the CPU's copy of a duplicated page, and a peer's page by a push on its owner", () => {
    policySetReadDuplication(b.m, b.space, BASE, BASE + 512, true);
    cpu(b, BASE, 3);
    gpu(b, 0, [BASE, ACCESS_READ]);
    setFrom(b, BASE);
    const seen = watchCopies(b.m);
    expect(next(b, HOST).residentOn).toBe(0);
    expect([plainWord(b, HOST), seen.length]).toEqual([3, 0]);
    onGpu(b, BASE + 600, 9, 1);
    setFrom(b, BASE + 600);
    expect(next(b, HOST)).toMatchObject({ residentOn: 2, status: NV_OK });
    expect(channelGet(b.m, seen[0].channel).gpu).toBe(1);
    expect(plainWord(b, HOST)).toBe(9);
  });

  it('rule 28: comes after a migration that is under way, from the new place', () => {
    const { m } = b;
    cpu(b, BASE, 4);
    setFrom(b, BASE);
    let migrated = 0;
    m.res.seams.pushEnded = (_m, push) => {
      if (push.purpose === PURPOSE_COPY) migrated = push.finish;
    };
    const view = nextView(HOST);
    threadCreate(
      m,
      'gpu',
      (function* (): Generator<number, void, void> {
        yield* gpuBody(b, 0, [[BASE, ACCESS_READ]]);
      })(),
    );
    runAll(
      m,
      (function* (): Generator<number, void, void> {
        while (migrated === 0) yield m.k.now + 1;
        yield* callBody(b, 3002, view);
      })(),
    );
    const record = lastRecord(b);
    expect(record.requested).toBeLessThan(migrated);
    expect(record.begin).toBeGreaterThanOrEqual(migrated);
    expect(nextResult(view)).toMatchObject({ status: NV_OK, residentOn: 1 });
    expect(plainWord(b, HOST)).toBe(4);
  });

  it('rule 29: the record says where the page was mapped writable', () => {
    onGpu(b, BASE, 5);
    cpu(b, BASE + 600, 5);
    const seen = [BASE, BASE + 600, BASE + 700].map((page) => {
      setFrom(b, page);
      next(b, HOST);
      return lastRecord(b).writableOn;
    });
    expect(seen).toEqual([2, 1, 0]);
  });
});
