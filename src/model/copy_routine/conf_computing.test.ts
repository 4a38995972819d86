/** Rule 49 of docs/copy-routine.md: the immediate and the asynchronous form with Confidential Computing. */
import { beforeEach, describe, expect, it } from 'vitest';
import {
  blockOf,
  type CopyMachine,
  callBody,
  cpu,
  cpuBody,
  gpu,
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
import { BASE } from '../../../test/support/fault_machine.ts';
import {
  atStages,
  buffersOf,
  createSecureCopyMachine,
  DECRYPT,
  mixedPages,
  PUSH,
  takenBuffers,
  tamper,
} from '../../../test/support/secure_copy_machine.ts';
import { driverStateHash } from '../driver_state.ts';
import { contentsWrite } from '../gpu/contents.ts';
import { METHOD_SECURE_ENCRYPT, METHOD_WORDS } from '../gpu/methods.ts';
import { LOCK_ORDER_GLOBAL_PM } from '../kernel/lock.ts';
import type { Model } from '../state.ts';
import { confComputingOf, DMA_BUFFERS } from '../uvm/conf_computing.ts';
import { policySetReadDuplication } from '../uvm/policy.ts';
import { CPU_ID } from '../uvm/processors.ts';
import { PURPOSE_COPY, PURPOSE_COPY_OUT } from '../uvm/push.ts';
import { NV_ERR_INVALID_ADDRESS, NV_ERR_INVALID_DATA, NV_OK } from '../uvm/status.ts';
import { toolsReadProcessMemory } from '../uvm/tools_access.ts';
import { ACCESS_READ } from '../uvm/va_block_types.ts';
import { vaSpaceMunmap } from '../uvm/va_range.ts';
import { COPY_BOUNCES_MAX } from './conf_computing.ts';
import { NEXT_COPY_ASYNC, NONE_U32, STATUS_WAIT } from './ioctl.ts';
import { copyState } from './record.ts';
import { COPY_DONE, COPY_ENDED, COPY_RUNNING } from './types.ts';

let b: CopyMachine;
beforeEach(() => {
  b = createSecureCopyMachine();
});

/** Locks that the running thread holds, by order. */
function held(m: Model): number[] {
  const state = m.k.lockContexts[m.k.currentThread + 1]?.state ?? new Uint8Array();
  return [...state.keys()].filter((order) => state[order] !== 0);
}

/** What ioctl 62 reads. */
function read62(page: number, pages: number): Uint8Array {
  const bytes = new Uint8Array(pages * 4096);
  const read = runAll(
    b.m,
    (function* () {
      yield b.m.k.now;
      return yield* toolsReadProcessMemory(b.m, b.space, page, 0, bytes);
    })(),
  );
  expect(read).toEqual({ status: NV_OK, bytes: bytes.length });
  return bytes;
}

/** Bytes of plain memory from byte `offset` of `page` on. */
function plain(page: number, offset: number, length: number): Uint8Array {
  const all = new Uint8Array(Math.ceil((offset + length) / 4096) * 4096);
  for (let i = 0; i < all.length / 4096; i++) all.set(pageBytes(b, CPU_ID, page + i), i * 4096);
  return all.subarray(offset, offset + length);
}

describe('the immediate form', () => {
  it('one page: encrypted by a push of the GPU, decrypted by the CPU after it', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    const methods: number[] = [];
    b.m.res.seams.pushEnded = (_m, push) => {
      if (push.purpose !== PURPOSE_COPY_OUT) return;
      for (let i = 0; i < push.length; i += METHOD_WORDS[push.words[i]]) {
        if (push.words[i] === METHOD_SECURE_ENCRYPT) methods.push(push.words[i + 2]);
      }
    };
    const result = next(b, HOST);
    const record = lastRecord(b);
    const [push] = record.pushes;
    expect(methods).toEqual([BASE]);
    expect(result).toEqual({
      status: NV_OK,
      bytes: 4096,
      token: 0,
      residentOn: 1,
      channel: push.channel,
      value: push.value,
    });
    expect(push.end - push.begin).toBe(PUSH);
    expect(record).toMatchObject({ begin: push.begin, end: push.end + DECRYPT, state: COPY_DONE, bounces: [] });
    expect(plain(HOST, 0, 4096)).toEqual(pageBytes(b, 1, BASE));
    expect(plainWord(b, HOST)).toBe(5);
    expect(takenBuffers(b.m)).toBe(0);
  });

  it('keeps the GPUs, and maps B on none of them, as none can reach it', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    const seen: unknown[] = [];
    atStages(b, (stage, record) => {
      if (stage === 'wait') seen.push([record?.retainedGpus, record?.mappedGpus, takenBuffers(b.m)]);
    });
    next(b, HOST);
    expect(seen).toEqual([[6, 0, 1]]);
    expect(lastRecord(b)).toMatchObject({ retainedGpus: 0, mappedGpus: 0, pin: -1 });
  });

  it('rule 20: the push is in the tracker of the block, so what moves the page waits for it', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    let moved = 0;
    b.m.res.seams.pushEnded = (_m, push) => {
      if (push.purpose === PURPOSE_COPY) moved = push.start;
    };
    atStages(b, (stage, record) => {
      if (stage !== 'wait') return;
      const [push] = record?.pushes ?? [];
      const { tracker } = blockOf(b, BASE);
      expect(tracker[tracker.indexOf(push.channel) + 1]).toBe(push.value);
    });
    const view = nextView(HOST);
    runOnly(
      b.m,
      (function* (): Generator<number, void, void> {
        let first = true;
        for (const until of callBody(b, 3002, view)) {
          if (until > b.m.k.now && first) {
            first = false;
            // While the call waits, somebody else takes the page away.
            b.m.res.why = null;
            yield* cpuBody(b, BASE, 6);
          }
          yield Math.max(until, b.m.k.now);
        }
      })(),
    );
    expect(moved).toBeGreaterThanOrEqual(lastRecord(b).pushes[0].end);
    expect(nextResult(view)).toMatchObject({ status: NV_OK, bytes: 4096 });
    expect(plainWord(b, HOST)).toBe(5);
  });

  it('rule 21: waits with no lock but the power lock, and not under that of the block, as ioctl 62 does', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    const waits: number[][] = [];
    const view = nextView(HOST);
    runOnly(
      b.m,
      (function* (): Generator<number, void, void> {
        for (const until of callBody(b, 3002, view)) {
          if (until > b.m.k.now) waits.push(held(b.m));
          yield until;
        }
      })(),
    );
    expect(waits).toEqual([[LOCK_ORDER_GLOBAL_PM]]);
  });

  it('rules 51 and 53: many pages of several blocks are those of ioctl 62, aligned or not, and nothing changes', () => {
    mixedPages(b);
    const pages = 1500;
    const want = read62(BASE, pages);
    const words = new Uint32Array(want.buffer);
    expect([0, 1, 2, 3, 600, 700, 1024].map((p) => words[p * 1024])).toEqual([1000, 5, 8, 77, 1600, 9, 2024]);
    const counts = confComputingOf(b.m.gpus[0].channelManager).counts.pagesToCpu;
    for (const offset of [0, 1, 4095]) {
      const [hash, events] = [driverStateHash(b.m), b.m.tools.log.count];
      setFrom(b, BASE, { length: pages * 4096 });
      expect(next(b, HOST, 0, { offset })).toMatchObject({ status: NV_OK, bytes: pages * 4096, residentOn: 0 });
      expect(driverStateHash(b.m)).toBe(hash);
      expect(b.m.tools.log.count).toBe(events);
      const have = plain(HOST, offset, pages * 4096);
      expect(have.findIndex((byte, i) => byte !== want[i])).toBe(-1);
      expect(new Set(lastRecord(b).pushes.map((push) => push.gpu))).toEqual(new Set([0, 1]));
      expect(takenBuffers(b.m)).toBe(0);
    }
    expect(confComputingOf(b.m.gpus[0].channelManager).counts.pagesToCpu).toBeGreaterThan(counts);
  });

  it('a page of the CPU, one of both, and one of nobody need no push', () => {
    policySetReadDuplication(b.m, b.space, BASE, BASE + 512, true);
    cpu(b, BASE, 3);
    gpu(b, 0, [BASE, ACCESS_READ]);
    expect(blockOf(b, BASE).resident).toBe(3);
    cpu(b, BASE + 600, 4);
    contentsWrite(b.m.contents as never, 0, HOST + 2, 0, 99);
    const seen = [0, 600, 1200].map((page, i) => {
      setFrom(b, BASE + page);
      const { status: result, residentOn, channel } = next(b, HOST + i);
      return [result, residentOn, channel, plainWord(b, HOST + i)];
    });
    expect(seen).toEqual([
      [NV_OK, 0, NONE_U32, 3],
      [NV_OK, 0, NONE_U32, 4],
      [NV_OK, NONE_U32, NONE_U32, 0],
    ]);
  });

  it('rule 14: a managed B gets its bytes through the stage', () => {
    onGpu(b, BASE, 5);
    onGpu(b, BASE + 600, 8);
    setFrom(b, BASE);
    expect(next(b, BASE + 600, 0, { offset: 8 })).toMatchObject({ status: NV_OK, bytes: 4096 });
    const to = pageBytes(b, CPU_ID, BASE + 600);
    expect(to.subarray(8)).toEqual(pageBytes(b, 1, BASE).subarray(0, 4088));
    expect(lastRecord(b)).toMatchObject({ staged: true, bounces: [] });
    expect(takenBuffers(b.m)).toBe(0);
  });

  it.each([
    [COPY_BOUNCES_MAX, [COPY_BOUNCES_MAX]],
    [COPY_BOUNCES_MAX + 1, [COPY_BOUNCES_MAX, 1]],
  ])('%i blocks: waits whenever it holds as many staging buffers as it may', (blocks, waits) => {
    for (let i = 0; i < blocks; i++) onGpu(b, BASE + 512 * i, 10 + i);
    setFrom(b, BASE, { length: blocks * 2 ** 21 });
    const seen: number[] = [];
    atStages(b, (stage) => {
      if (stage === 'wait') seen.push(takenBuffers(b.m));
    });
    expect(next(b, HOST)).toMatchObject({ status: NV_OK, bytes: blocks * 2 ** 21 });
    expect(seen).toEqual(waits);
    expect(buffersOf(b.m)).toHaveLength(DMA_BUFFERS);
    expect(Array.from({ length: blocks }, (_, i) => plainWord(b, HOST + 512 * i))).toEqual(
      Array.from({ length: blocks }, (_, i) => 10 + i),
    );
  });

  it('rule 24: what was freed between two waits ends the copy there', () => {
    const blocks = COPY_BOUNCES_MAX + 1;
    for (let i = 0; i < blocks; i++) onGpu(b, BASE + 512 * i, 10 + i);
    setFrom(b, BASE, { length: blocks * 2 ** 21 });
    atStages(b, (stage) => {
      if (stage === 'decrypted') vaSpaceMunmap(b.m, b.space, BASE, BASE + 16384);
    });
    const done = COPY_BOUNCES_MAX * 2 ** 21;
    expect(next(b, HOST)).toMatchObject({ status: NV_ERR_INVALID_ADDRESS, bytes: done });
    expect(plainWord(b, HOST + 512 * (COPY_BOUNCES_MAX - 1))).toBe(9 + COPY_BOUNCES_MAX);
    expect(lastRecord(b)).toMatchObject({ state: COPY_ENDED, bounces: [], pin: -1 });
    expect(takenBuffers(b.m)).toBe(0);
  });

  it('runs as long as its pushes are not decrypted', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    const states: unknown[] = [];
    atStages(b, (stage, record) => {
      if (record !== undefined && stage === 'waited') states.push(copyState(b.m, record));
    });
    next(b, HOST);
    expect(states).toEqual([COPY_RUNNING]);
    expect(copyState(b.m, lastRecord(b))).toBe(COPY_DONE);
  });
});

describe('the asynchronous form', () => {
  it('waits, and its token is done when the call returns', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    const result = next(b, HOST, NEXT_COPY_ASYNC, { only: true });
    const record = lastRecord(b);
    const [push] = record.pushes;
    expect(b.m.k.now).toBeGreaterThanOrEqual(push.end + DECRYPT);
    expect(result).toMatchObject({ status: NV_OK, bytes: 4096, token: record.token, value: push.value });
    expect(record).toMatchObject({ state: COPY_DONE, pin: -1, item: -1, pendingPushes: 0, retainedGpus: 0 });
    const before = b.m.k.now;
    for (const flags of [0, STATUS_WAIT]) {
      expect(status(b, result.token, flags, { only: true })).toEqual({
        status: NV_OK,
        state: COPY_DONE,
        copyStatus: NV_OK,
        bytes: 4096,
        value: push.value,
      });
    }
    expect(b.m.k.now - before).toBeLessThan(10);
    expect(plainWord(b, HOST)).toBe(5);
    expect([takenBuffers(b.m), b.m.k.pins.some((pin) => pin.live)]).toEqual([0, false]);
    expect(next(b, BASE + 600, NEXT_COPY_ASYNC).status).toBe(NV_ERR_INVALID_ADDRESS);
  });

  it('returns the status of a copy that failed', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    tamper(b.m, 1);
    expect(next(b, HOST, NEXT_COPY_ASYNC)).toMatchObject({ status: NV_ERR_INVALID_DATA, bytes: 0, token: 1 });
    expect(lastRecord(b)).toMatchObject({ state: COPY_ENDED, status: NV_ERR_INVALID_DATA, bounces: [] });
  });
});
