/** Rules 50 to 55 of docs/copy-routine.md: lifetime, and what the copies do to the driver. */
import { beforeEach, describe, expect, it } from 'vitest';
import { FILE_UNINITIALIZED, NEXT_COPY_ARM, NEXT_COPY_ASYNC, uvmFileClose } from '../src/model/copy_routine/ioctl.ts';
import { copyRoutineStop } from '../src/model/copy_routine/record.ts';
import { COPY_ARMED, COPY_DONE, COPY_ENDED } from '../src/model/copy_routine/types.ts';
import { userMunmap } from '../src/model/copy_routine/user_memory.ts';
import { driverStateHash } from '../src/model/driver_state.ts';
import { contentsRead, contentsWrite } from '../src/model/gpu/contents.ts';
import { threadCreate } from '../src/model/kernel/thread.ts';
import { restoreSnapshot, takeSnapshot } from '../src/model/model.ts';
import { policySetReadDuplication } from '../src/model/uvm/policy.ts';
import { NV_ERR_INVALID_ADDRESS, NV_OK, NV_WARN_NOTHING_TO_DO } from '../src/model/uvm/status.ts';
import { toolsReadProcessMemory } from '../src/model/uvm/tools_access.ts';
import { ACCESS_ATOMIC_WEAK, ACCESS_READ, ACCESS_WRITE } from '../src/model/uvm/va_block_types.ts';
import { vaSpaceMunmap } from '../src/model/uvm/va_range.ts';
import { copyEntries } from '../src/trace/copies.ts';
import { identity } from '../src/trace/event.ts';
import { logEvents } from '../src/trace/log_events.ts';
import {
  blockOf,
  type CopyMachine,
  callBody,
  cpu,
  createCopyMachine,
  gpu,
  HOST,
  lastRecord,
  next,
  nextView,
  onGpu,
  pageBytes,
  plainWord,
  runAll,
  runOnly,
  setFrom,
  settle,
  status,
} from './support/copy_machine.ts';
import { BASE } from './support/fault_machine.ts';

let b: CopyMachine;
beforeEach(() => {
  b = createCopyMachine({ gpus: 2 });
});

/** Queued values of all channels. */
function values(machine: CopyMachine): number[] {
  return machine.m.gpus.flatMap((g) => g.channelManager.channels.map((channel) => channel.trackingSem.queuedValue));
}

/** A history with moves in both directions, duplicated, remote and untouched pages. */
function mixed(machine: CopyMachine): void {
  policySetReadDuplication(machine.m, machine.space, BASE + 1024, BASE + 1536, true);
  for (const page of [0, 1, 2, 3, 40, 600, 1024, 1025]) cpu(machine, BASE + page, 1000 + page);
  gpu(machine, 0, [BASE + 1, ACCESS_WRITE, 5], [BASE + 600, ACCESS_READ], [BASE + 1024, ACCESS_READ]);
  if (machine.m.gpus.length > 1) gpu(machine, 1, [BASE + 2, ACCESS_ATOMIC_WEAK, 8], [BASE + 700, ACCESS_WRITE, 9]);
  cpu(machine, BASE + 3, 77);
  if (machine.m.contents !== null) contentsWrite(machine.m.contents, 0, BASE + 3, 1023, 0xfeedf00d);
}

describe('lifetime', () => {
  it('rule 50: closing the file or losing a GPU disarms, waits for the pushes and unpins', () => {
    const { m } = b;
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    next(b, HOST, NEXT_COPY_ARM);
    const armed = lastRecord(b);
    next(b, HOST + 1, NEXT_COPY_ASYNC, { only: true });
    const running = lastRecord(b);
    expect(m.k.now).toBeLessThan(running.pushes[0].end);
    runOnly(m, uvmFileClose(m, b.file));
    expect(m.k.now).toBeGreaterThanOrEqual(running.pushes[0].end);
    expect(armed).toMatchObject({ state: COPY_ENDED, status: NV_WARN_NOTHING_TO_DO, pin: -1, mappedGpus: 0 });
    expect(running).toMatchObject({ state: COPY_DONE, pin: -1, mappedGpus: 0, retainedGpus: 0 });
    expect(m.k.pins.some((pin) => pin.live)).toBe(false);
    expect(b.file).toEqual({ type: FILE_UNINITIALIZED, vaSpace: -1 });
    b = createCopyMachine();
    setFrom(b, BASE);
    next(b, HOST, NEXT_COPY_ARM);
    runOnly(b.m, copyRoutineStop(b.m, b.space));
    expect([lastRecord(b).state, b.space.copy.armed, b.m.k.pins[0].live]).toEqual([COPY_ENDED, 0, false]);
  });

  it('rule 50: A freed while armed makes the next fault there fatal, which ends the copy', () => {
    cpu(b, BASE, 5);
    setFrom(b, BASE);
    next(b, HOST, NEXT_COPY_ARM);
    vaSpaceMunmap(b.m, b.space, BASE, BASE + 16384);
    expect(lastRecord(b).state).toBe(COPY_ARMED);
    expect(gpu(b, 0, [BASE, ACCESS_READ])).toEqual(['cancelled']);
    expect(lastRecord(b)).toMatchObject({ state: COPY_ENDED, status: NV_ERR_INVALID_ADDRESS, bytes: 0, pin: -1 });
  });

  it('rule 50: B unmapped while pinned takes the copy where nobody sees it', () => {
    const { m } = b;
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    const { token } = next(b, HOST, NEXT_COPY_ASYNC, { only: true });
    const [orphan] = [lastRecord(b).pin];
    userMunmap(m, b.space.mm, HOST, 16384);
    const [frame] = m.k.pins[orphan].frames;
    expect(frame).toBeLessThan(0);
    const { end } = lastRecord(b);
    expect(status(b, token, 1, { only: true })).toMatchObject({ state: COPY_DONE, copyStatus: NV_OK, bytes: 4096 });
    expect(m.k.now).toBeGreaterThanOrEqual(end);
    expect(m.contents?.pages[0].has(HOST)).toBe(false);
    settle(m);
    expect(m.contents?.pages[0].has(frame)).toBe(false);
    expect(next(b, HOST).status).toBe(NV_ERR_INVALID_ADDRESS);
  });

  it('survives a snapshot while armed', () => {
    const { m } = b;
    cpu(b, BASE, 5);
    setFrom(b, BASE);
    next(b, HOST, NEXT_COPY_ARM);
    const again = restoreSnapshot(takeSnapshot(m), m.spec, m.params, m.cost, { verify: true });
    const copy: CopyMachine = { ...b, m: again, space: again.vaSpaces[0] };
    gpu(copy, 0, [BASE, ACCESS_WRITE, 6]);
    expect(lastRecord(copy)).toMatchObject({ state: COPY_DONE, snapshot: true, bytes: 4096 });
    expect(plainWord(copy, HOST)).toBe(5);
    expect(lastRecord(b).state).toBe(COPY_ARMED);
  });
});

describe('effects', () => {
  it('rule 51: the immediate form changes nothing but channel values, and leaves no event', () => {
    mixed(b);
    for (const page of [0, 1, 2, 3, 40, 600, 700, 800, 1024, 1300, 5000]) {
      const [hash, events, queued] = [driverStateHash(b.m), b.m.tools.log.count, values(b)];
      setFrom(b, BASE + page);
      expect(next(b, HOST).status).toBe(NV_OK);
      expect([page, driverStateHash(b.m)]).toEqual([page, hash]);
      expect(b.m.tools.log.count).toBe(events);
      const { pushes } = lastRecord(b);
      const more = values(b).map((value, i) => value - queued[i]);
      expect(more.reduce((sum, n) => sum + n, 0)).toBe(pushes.length);
      for (const push of pushes) expect(more[push.gpu * (more.length / 2) + (push.channel % 64)]).toBe(1);
    }
  });

  it('rule 51: the hash that says so sees what it must', () => {
    mixed(b);
    const before = driverStateHash(b.m);
    blockOf(b, BASE).faultMigrationsToLastProc++;
    expect(driverStateHash(b.m)).not.toBe(before);
    blockOf(b, BASE).faultMigrationsToLastProc--;
    expect(driverStateHash(b.m)).toBe(before);
    blockOf(b, BASE).w[3] ^= 1;
    expect(driverStateHash(b.m)).not.toBe(before);
    blockOf(b, BASE).w[3] ^= 1;
    gpu(b, 0, [BASE + 4000, ACCESS_READ]);
    expect(driverStateHash(b.m)).not.toBe(before);
  });

  it('rule 52: the armed form has the events and the state of the same run unarmed', () => {
    const run = (armed: boolean, page: number | null) => {
      const machine = createCopyMachine({ gpus: 2 });
      setFrom(machine, page === null ? null : BASE + page);
      if (armed) expect(next(machine, HOST, NEXT_COPY_ARM).status).toBe(NV_OK);
      mixed(machine);
      if (armed) expect(lastRecord(machine)).toMatchObject({ state: COPY_DONE, bytes: 4096 });
      const allocation = { name: 'a', bytes: 2 ** 26, pages: 16384, firstPage: BASE, kind: 'managed' as const };
      const events = logEvents(machine.m, [allocation]).map((event) => JSON.stringify(identity(event)));
      return { events: events.sort(), hash: driverStateHash(machine.m, false), last: values(machine) };
    };
    for (const page of [1, 600, 1024, 2, 700, null]) {
      const [armed, unarmed] = [run(true, page), run(false, page)];
      expect(armed.events).toEqual(unarmed.events);
      expect([page, armed.hash]).toEqual([page, unarmed.hash]);
      expect(armed.last).not.toEqual(unarmed.last);
    }
  });

  it('rule 53: the bytes are those that ioctl 62 reads, in any state', () => {
    mixed(b);
    const pages = 1500;
    setFrom(b, BASE, { length: pages * 4096 });
    const before = driverStateHash(b.m);
    expect(next(b, HOST)).toMatchObject({ status: NV_OK, bytes: pages * 4096 });
    expect(driverStateHash(b.m)).toBe(before);
    const bytes = new Uint8Array(pages * 4096);
    let read = { status: -1, bytes: 0 };
    runAll(
      b.m,
      (function* (): Generator<number, void, void> {
        yield b.m.k.now;
        read = yield* toolsReadProcessMemory(b.m, b.space, BASE, 0, bytes);
      })(),
    );
    expect(read).toEqual({ status: NV_OK, bytes: bytes.length });
    const different = [];
    for (let p = 0; p < pages; p++) {
      const page = pageBytes(b, 0, HOST + p);
      if (page.some((byte, i) => byte !== bytes[p * 4096 + i])) different.push(p);
    }
    expect(different).toEqual([]);
    const words = new Uint32Array(bytes.buffer);
    expect([0, 1, 2, 3, 600, 700, 1024].map((p) => words[p * 1024])).toEqual([1000, 5, 8, 77, 1600, 9, 2024]);
    expect(words[3 * 1024 + 1023]).toBe(0xfeedf00d);
    // The whole block 0, at an odd place, into managed memory.
    setFrom(b, BASE, { length: 16 * 4096 });
    expect(next(b, BASE + 3000, 0, { offset: 12 }).status).toBe(NV_OK);
    const staged = pageBytes(b, 0, BASE + 3001);
    expect(staged.subarray(0, 12)).toEqual(bytes.subarray(4084, 4096));
    expect(staged.subarray(12)).toEqual(bytes.subarray(4096, 8180));
  });

  it('rule 54: each copy leaves a record with everything that is known of it', () => {
    const { m } = b;
    cpu(b, BASE + 2, 5);
    setFrom(b, BASE + 2);
    next(b, HOST, NEXT_COPY_ARM);
    m.tools.step = 3;
    gpu(b, 0, [BASE + 2, ACCESS_WRITE, 6]);
    next(b, HOST + 1);
    const allocations = [
      { name: 'a', bytes: 2 ** 26, pages: 16384, firstPage: BASE, kind: 'managed' as const },
      { name: 'b', bytes: 2 ** 26, pages: 16384, firstPage: HOST, kind: 'host' as const },
    ];
    const [armed, immediate] = copyEntries(m, allocations);
    const [first, second] = b.space.copy.records.map((record) => record.pushes[0]);
    const push = (p: typeof first) => ({ gpu: 'gpu0', channel: p.channel, value: p.value, begin: p.begin, end: p.end });
    expect(armed).toEqual({
      step: 0,
      form: 'armed',
      state: 'done',
      status: 'NV_OK',
      from: { buffer: 'a', page: 2 },
      to: { buffer: 'b', page: 0 },
      bytes: 4096,
      residentOn: 'gpu0',
      snapshot: true,
      writableOn: [],
      begin: first.begin,
      end: first.end,
      pushes: [push(first)],
      fault: { step: 3, gpu: 'gpu0', page: 'migrated' },
      bottomHalfTime: 2,
      pageTablePush: expect.objectContaining({ gpu: 'gpu0' }),
      replay: expect.objectContaining({ gpu: 'gpu0' }),
    });
    expect(immediate).toEqual({
      step: 3,
      form: 'immediate',
      state: 'done',
      status: 'NV_OK',
      from: { buffer: 'a', page: 2 },
      to: { buffer: 'b', page: 1 },
      bytes: 4096,
      residentOn: 'gpu0',
      snapshot: false,
      writableOn: ['gpu0'],
      begin: second.begin,
      end: second.end,
      pushes: [push(second)],
    });
    expect(first.end - first.begin).toBe(5100);
  });

  it('rule 55: a snapshot ends before the page-table push begins, and that before the replay', () => {
    for (const policy of [0, 1, 2, 3]) {
      const machine = createCopyMachine({ parameters: { uvm_perf_fault_replay_policy: policy } });
      for (const [i, page] of [0, 600, 1100, 1700, 2300, 2900, 3500].entries()) {
        if (i % 2 === 0) cpu(machine, BASE + page, page);
        setFrom(machine, i % 3 === 0 ? null : BASE + page);
        next(machine, HOST + i, NEXT_COPY_ARM);
        gpu(machine, 0, [BASE + page, ACCESS_WRITE, 5]);
        const { snapshot, end, pageTablePush, replay } = lastRecord(machine);
        expect([policy, page, snapshot]).toEqual([policy, page, true]);
        expect(end).toBeGreaterThan(0);
        expect(pageTablePush?.begin).toBeGreaterThanOrEqual(end);
        expect(replay?.begin).toBeGreaterThanOrEqual(pageTablePush?.end ?? Number.NaN);
      }
    }
  });

  it('tells the story: a page of the CPU, brought to the GPU by its access, copied to B', () => {
    cpu(b, BASE, 1234);
    gpu(b, 0, [BASE, ACCESS_READ]);
    const [events, queued, hash] = [b.m.tools.log.count, values(b), driverStateHash(b.m)];
    expect(setFrom(b, BASE)).toBe(NV_OK);
    expect(next(b, HOST)).toMatchObject({ status: NV_OK, bytes: 4096, residentOn: 1 });
    expect(pageBytes(b, 0, HOST)).toEqual(pageBytes(b, 1, BASE));
    expect(plainWord(b, HOST)).toBe(1234);
    expect(blockOf(b, BASE).resident).toBe(2);
    expect(driverStateHash(b.m)).toBe(hash);
    expect(b.m.tools.log.count).toBe(events);
    expect(values(b).reduce((sum, n, i) => sum + n - queued[i], 0)).toBe(1);
    // And at a fault: B is what the page held before the GPU's write.
    cpu(b, BASE, 1235);
    next(b, HOST + 1, NEXT_COPY_ARM);
    expect(gpu(b, 0, [BASE, ACCESS_WRITE, 1236])).toEqual(['replayed']);
    expect(plainWord(b, HOST + 1)).toBe(1235);
    expect(contentsRead(b.m.contents as never, 1, BASE, 0)).toBe(1236);
  });

  it('works without contents', () => {
    b.m.contents = null;
    cpu(b, BASE, 1);
    setFrom(b, BASE);
    next(b, HOST + 5, NEXT_COPY_ARM);
    threadCreate(b.m, 'nothing', (function* (): Generator<number, void, void> {})());
    gpu(b, 0, [BASE, ACCESS_WRITE, 2]);
    expect(next(b, HOST).bytes).toBe(4096);
    expect(next(b, BASE + 600).bytes).toBe(4096);
    const view = nextView(HOST, NEXT_COPY_ASYNC);
    runAll(b.m, callBody(b, 3002, view));
    userMunmap(b.m, b.space.mm, HOST, 16384);
    expect(b.space.copy.records.map((record) => record.state)).toEqual([COPY_DONE, COPY_DONE, COPY_DONE, COPY_DONE]);
  });
});
