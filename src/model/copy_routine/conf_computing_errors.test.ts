/** Rule 49 of docs/copy-routine.md: copies that fail with Confidential Computing. */
import { beforeEach, describe, expect, it } from 'vitest';
import {
  blockOf,
  type CopyMachine,
  cpu,
  gpu,
  HOST,
  lastRecord,
  next,
  onGpu,
  pageBytes,
  plainWord,
  setFrom,
} from '../../../test/support/copy_machine.ts';
import { BASE, countEvents } from '../../../test/support/fault_machine.ts';
import {
  breakChannels,
  buffersOf,
  createSecureCopyMachine,
  takenBuffers,
  tamper,
} from '../../../test/support/secure_copy_machine.ts';
import { contentsWrite } from '../gpu/contents.ts';
import { CHANNEL_TYPE_GPU_TO_CPU } from '../uvm/channel.ts';
import { confComputingResources } from '../uvm/conf_computing.ts';
import { CPU_ID } from '../uvm/processors.ts';
import { PURPOSE_TEST, pushBegin, pushEnd } from '../uvm/push.ts';
import { NV_ERR_INVALID_DATA, NV_ERR_RC_ERROR, NV_OK } from '../uvm/status.ts';
import { trackerAddPush } from '../uvm/tracker.ts';
import { ACCESS_READ, ACCESS_WRITE } from '../uvm/va_block_types.ts';
import { COPY_BOUNCES_MAX } from './conf_computing.ts';
import { NEXT_COPY_ARM, NONE_U32 } from './ioctl.ts';
import { COPY_ENDED, type CopyRecord } from './types.ts';

let b: CopyMachine;
beforeEach(() => {
  b = createSecureCopyMachine();
});

/** Arms a copy of `page` (null: of whichever faults) to HOST. */
function arm(page: number | null): CopyRecord {
  setFrom(b, page);
  expect(next(b, HOST, NEXT_COPY_ARM).status).toBe(NV_OK);
  return lastRecord(b);
}

/** Bytes of plain memory from byte `offset` of `page` on. */
function plain(page: number, offset: number, length: number): Uint8Array {
  const all = new Uint8Array(Math.ceil((offset + length) / 4096) * 4096);
  for (let i = 0; i < all.length / 4096; i++) all.set(pageBytes(b, CPU_ID, page + i), i * 4096);
  return all.subarray(offset, offset + length);
}

describe('a staging buffer that somebody has changed', () => {
  /** Four pages on the GPU, and something at B. */
  function four(): void {
    for (let page = 0; page < 4; page++) {
      cpu(b, BASE + page, 50 + page);
      contentsWrite(b.m.contents as never, 0, HOST + page, 0, 70 + page);
      contentsWrite(b.m.contents as never, 0, HOST + page, 1023, 90 + page);
    }
    for (let page = 0; page < 4; page++) gpu(b, 0, [BASE + page, ACCESS_READ]);
    expect(blockOf(b, BASE).resident).toBe(2);
    setFrom(b, BASE, { length: 4 * 4096 });
  }

  it.each([
    [1, 'cipher'],
    [2, 'tag'],
    [3, 'cipher'],
    [4, 'tag'],
  ] as const)('page %i, its %s: what came before has arrived, and nothing else', (nth, what) => {
    four();
    tamper(b.m, nth, what);
    const done = nth - 1;
    expect(next(b, HOST)).toMatchObject({ status: NV_ERR_INVALID_DATA, bytes: done * 4096 });
    const record = lastRecord(b);
    expect(record).toMatchObject({ state: COPY_ENDED, status: NV_ERR_INVALID_DATA, bytes: done * 4096, bounces: [] });
    expect(record).toMatchObject({ pin: -1, retainedGpus: 0 });
    expect([0, 1, 2, 3].map((page) => plainWord(b, HOST + page))).toEqual(
      [0, 1, 2, 3].map((page) => (page < done ? 50 : 70) + page),
    );
    expect([b.m.globalStatus, takenBuffers(b.m)]).toEqual([NV_ERR_INVALID_DATA, 0]);
    // As after every fatal error, no call gets further than that.
    expect([setFrom(b, BASE), next(b, HOST).status]).toEqual([NV_ERR_INVALID_DATA, NV_ERR_INVALID_DATA]);
  });

  it('counts the prefix where B is not aligned, and writes to neither side of it', () => {
    four();
    tamper(b.m, 3);
    expect(next(b, HOST, 0, { offset: 100 })).toMatchObject({ status: NV_ERR_INVALID_DATA, bytes: 8192 });
    expect(plainWord(b, HOST)).toBe(70);
    expect(plain(HOST, 100, 8192)).toEqual(Uint8Array.from([...pageBytes(b, 1, BASE), ...pageBytes(b, 1, BASE + 1)]));
    expect(new Uint32Array(pageBytes(b, CPU_ID, HOST + 2).buffer)[1023]).toBe(92);
    expect(plainWord(b, HOST + 3)).toBe(73);
  });

  it('ends the prefix at the lowest page that is missing, also when a later one of another GPU arrived', () => {
    for (const [page, index] of [
      [0, 0],
      [96, 1],
      [200, 0],
      [600, 0],
    ]) {
      onGpu(b, BASE + page, 50 + page, index);
    }
    setFrom(b, BASE, { length: 1024 * 4096 });
    confComputingResources(b.m).bounceWritten = (m, index, buffer, page, toGpu) => {
      if (!toGpu && index === 1) (buffersOf(m, index)[buffer].cipher.get(page) as Uint8Array)[0] ^= 1;
    };
    expect(next(b, HOST)).toMatchObject({ status: NV_ERR_INVALID_DATA, bytes: 96 * 4096 });
    // Of a block the first GPU's pages are decrypted before the second's; and nothing behind the error.
    expect([0, 96, 200, 600].map((page) => plainWord(b, HOST + page))).toEqual([50, 0, 250, 0]);
    expect(takenBuffers(b.m)).toBe(0);
  });

  it('ends a long copy at its first wait', () => {
    const blocks = COPY_BOUNCES_MAX + 1;
    for (let i = 0; i < blocks; i++) onGpu(b, BASE + 512 * i, 10 + i);
    setFrom(b, BASE, { length: blocks * 2 ** 21 });
    tamper(b.m, 1);
    expect(next(b, HOST)).toMatchObject({ status: NV_ERR_INVALID_DATA, bytes: 0 });
    expect(lastRecord(b).pushes).toHaveLength(COPY_BOUNCES_MAX);
    expect([plainWord(b, HOST), plainWord(b, HOST + 512 * COPY_BOUNCES_MAX), takenBuffers(b.m)]).toEqual([0, 0, 0]);
  });

  it('ends an armed copy and the driver, and never the fault (rule 44)', () => {
    cpu(b, BASE, 6);
    contentsWrite(b.m.contents as never, 0, HOST, 0, 77);
    const record = arm(BASE);
    tamper(b.m, 1);
    expect(gpu(b, 0, [BASE, ACCESS_WRITE, 7])).toEqual(['replayed']);
    expect(record).toMatchObject({ state: COPY_ENDED, status: NV_ERR_INVALID_DATA, bytes: 0, snapshot: false });
    expect(record).toMatchObject({ pin: -1, bounces: [], residentOn: 1 });
    expect([plainWord(b, HOST), b.m.globalStatus, takenBuffers(b.m)]).toEqual([77, NV_ERR_INVALID_DATA, 0]);
    expect(countEvents(b.m)['fatalFault']).toBeUndefined();
  });
});

describe('a channel that fails', () => {
  it('leaves what came before it, and gives the staging buffers back', () => {
    onGpu(b, BASE, 5);
    onGpu(b, BASE + 600, 6, 1);
    setFrom(b, BASE, { length: 1024 * 4096 });
    breakChannels(b.m, 1);
    expect(next(b, HOST)).toMatchObject({ status: NV_ERR_RC_ERROR, bytes: 512 * 4096 });
    expect([plainWord(b, HOST), plainWord(b, HOST + 600)]).toEqual([5, 0]);
    expect(takenBuffers(b.m)).toBe(0);
    const [first, second] = lastRecord(b).pushes;
    // The push that never completes is still in the way of whoever takes its buffer.
    const users = b.m.gpus.flatMap((_gpu, index) => buffersOf(b.m, index).map(({ tracker }) => tracker.join()));
    expect(users).toContain(`${second.channel},${second.value}`);
    expect(users).not.toContain(`${first.channel},${first.value}`);
  });

  it('that could not even begin leaves nothing', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    // What the block waits for on the other GPU is waited for by the CPU, before the push begins.
    breakChannels(b.m, 1);
    const push = pushBegin(b.m, 1, CHANNEL_TYPE_GPU_TO_CPU, PURPOSE_TEST);
    pushEnd(b.m, push);
    trackerAddPush(blockOf(b, BASE).tracker, push);
    expect(next(b, HOST)).toMatchObject({ status: NV_ERR_RC_ERROR, bytes: 0, channel: NONE_U32 });
    expect([takenBuffers(b.m), lastRecord(b).pin]).toEqual([0, -1]);
  });

  it('ends an armed copy', () => {
    cpu(b, BASE, 6);
    const record = arm(BASE);
    const hook = b.m.res.seams.serviceFinishHook;
    b.m.res.seams.serviceFinishHook = (m, ...rest) => {
      breakChannels(m, 0);
      hook?.(m, ...rest);
    };
    gpu(b, 0, [BASE, ACCESS_WRITE, 7]);
    expect(record).toMatchObject({ state: COPY_ENDED, status: NV_ERR_RC_ERROR, bytes: 0, snapshot: false, pin: -1 });
    expect([takenBuffers(b.m), plainWord(b, HOST)]).toEqual([0, 0]);
  });
});
