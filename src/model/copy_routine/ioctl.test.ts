/** Rules 1 to 12 of docs/copy-routine.md: the ioctls, what they store and what they refuse. */
import { beforeEach, describe, expect, it } from 'vitest';
import {
  type CopyMachine,
  callBody,
  createCopyMachine,
  gpu,
  HOST,
  lastRecord,
  next,
  onGpu,
  pageBytes,
  plainWord,
  runAll,
  setFrom,
  status,
} from '../../../test/support/copy_machine.ts';
import { BASE } from '../../../test/support/fault_machine.ts';
import { driverStateHash } from '../driver_state.ts';
import { LOCK_ORDER_VA_BLOCK, lockAcquire, lockRelease } from '../kernel/lock.ts';
import { mmCreate, mmMapPlain } from '../kernel/mm.ts';
import { hashState, modelHash } from '../model.ts';
import {
  NV_ERR_ILLEGAL_ACTION,
  NV_ERR_INVALID_ADDRESS,
  NV_ERR_INVALID_ARGUMENT,
  NV_ERR_INVALID_STATE,
  NV_ERR_OBJECT_NOT_FOUND,
  NV_ERR_STATE_IN_USE,
  NV_OK,
} from '../uvm/status.ts';
import { ACCESS_READ } from '../uvm/va_block_types.ts';
import { vaBlockFind, vaSpaceCreate, vaSpaceMmap } from '../uvm/va_space.ts';
import {
  COPY_IOCTL_NUMBERS,
  COPY_STATUS_BYTES,
  NEXT_COPY_ARM,
  NEXT_COPY_ASYNC,
  NONE_U32,
  SET_COPY_FROM_BYTES,
  SET_NEXT_COPY_BYTES,
  STATUS_DISARM,
  STATUS_WAIT,
  uvmCopyIoctl,
  uvmFileInitialize,
  uvmFileInitializeMm,
  uvmFileOpen,
} from './ioctl.ts';
import { copyClaim, copyLock, copyUnlock } from './record.ts';
import { COPY_ARMED, COPY_DONE } from './types.ts';

let b: CopyMachine;
beforeEach(() => {
  b = createCopyMachine();
});

describe('the ioctls', () => {
  it('rule 1: have numbers that the stock driver does not use, and can have others', () => {
    expect(COPY_IOCTL_NUMBERS).toEqual({ setCopyFromAddress: 3001, setNextCopyAddress: 3002, copyStatus: 3003 });
    const numbers = { setCopyFromAddress: 4001, setNextCopyAddress: 4002, copyStatus: 4003 };
    const buffer = new Uint8Array(SET_COPY_FROM_BYTES);
    const call = (command: number, with_ = numbers) =>
      runAll(b.m, uvmCopyIoctl(b.m, b.file, b.space.mm, command, buffer, with_));
    expect(call(4001)).toBe(0);
    expect(call(3001)).toBe(-38);
    expect(call(62, COPY_IOCTL_NUMBERS)).toBe(-38);
    expect(call(3002, COPY_IOCTL_NUMBERS)).toBe(-14);
  });

  it('rule 2: SET_COPY_FROM_ADDRESS is 24 bytes', () => {
    expect(SET_COPY_FROM_BYTES).toBe(24);
    const bytes = new Uint8Array(24);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(BASE + 3) << 12n, true);
    view.setBigUint64(8, 8192n, true);
    view.setUint32(20, 0xffff, true);
    expect(runAll(b.m, callBody(b, 3001, view))).toBe(0);
    expect(view.getUint32(20, true)).toBe(NV_OK);
    expect([b.space.copy.fromPage, b.space.copy.fromPages]).toEqual([BASE + 3, 2]);
    view.setUint32(16, 1, true);
    runAll(b.m, callBody(b, 3001, view));
    expect(view.getUint32(20, true)).toBe(NV_ERR_INVALID_ARGUMENT);
  });

  it('rule 3: SET_NEXT_COPY_ADDRESS is 48 bytes', () => {
    expect(SET_NEXT_COPY_BYTES).toBe(48);
    onGpu(b, BASE, 7);
    setFrom(b, BASE);
    const bytes = new Uint8Array(48).fill(0xee);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(HOST) << 12n, true);
    view.setUint32(8, 0, true);
    runAll(b.m, callBody(b, 3002, view));
    const [push] = lastRecord(b).pushes;
    expect([view.getUint32(12, true), view.getBigUint64(16, true), view.getBigUint64(24, true)]).toEqual([
      NV_OK,
      4096n,
      0n,
    ]);
    expect(view.getUint32(32, true)).toBe(1);
    expect(view.getUint32(36, true)).toBe(push.channel);
    expect(view.getBigUint64(40, true)).toBe(BigInt(push.value));
    expect(push.value).toBeGreaterThan(0);
  });

  it('rule 4: COPY_STATUS is 40 bytes', () => {
    expect(COPY_STATUS_BYTES).toBe(40);
    onGpu(b, BASE, 7);
    setFrom(b, BASE);
    const { token } = next(b, HOST, NEXT_COPY_ASYNC);
    const bytes = new Uint8Array(40).fill(0xee);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(token), true);
    view.setUint32(8, STATUS_WAIT, true);
    runAll(b.m, callBody(b, 3003, view));
    expect([12, 16, 20].map((at) => view.getUint32(at, true))).toEqual([NV_OK, COPY_DONE, NV_OK]);
    expect(view.getBigUint64(24, true)).toBe(4096n);
    expect(view.getBigUint64(32, true)).toBe(BigInt(lastRecord(b).pushes[0].value));
    view.setUint32(8, 4, true);
    runAll(b.m, callBody(b, 3003, view));
    expect(view.getUint32(12, true)).toBe(NV_ERR_INVALID_ARGUMENT);
    expect(status(b, token + 1).status).toBe(NV_ERR_OBJECT_NOT_FOUND);
    expect(status(b, 0).status).toBe(NV_ERR_OBJECT_NOT_FOUND);
  });

  it('rule 5: keep state by VA space, one armed copy in each, under a leaf lock', () => {
    const { m } = b;
    const other = vaSpaceCreate(m, m.vaSpaces[0].thrashing);
    vaSpaceMmap(other, BASE, 512, 0);
    mmMapPlain(m.k, other.mm, HOST, 16);
    const file = uvmFileOpen();
    uvmFileInitialize(file, other);
    expect(next(b, HOST, NEXT_COPY_ARM).status).toBe(NV_OK);
    expect(setFrom(b, BASE + 9, { file, mm: other.mm })).toBe(NV_OK);
    expect(b.space.copy.fromPages).toBe(0);
    const second = next(b, HOST, NEXT_COPY_ARM, { file, mm: other.mm });
    expect([second.status, second.token]).toEqual([NV_OK, 1]);
    expect([b.space.copy.armed, other.copy.armed]).toEqual([1, 1]);
    // Order of locks: the bottom half holds the block when it takes it; nobody takes a block with it held.
    lockAcquire(m, LOCK_ORDER_VA_BLOCK, 0, false);
    expect(copyClaim(m, other)?.token).toBe(1);
    lockRelease(m, LOCK_ORDER_VA_BLOCK, 0, false);
    copyLock(m, b.space);
    expect(() => lockAcquire(m, LOCK_ORDER_VA_BLOCK, 0, false)).toThrow('deeper lock is held');
    copyUnlock(m, b.space);
    lockRelease(m, LOCK_ORDER_VA_BLOCK, 0, false);
  });

  it("rule 6: take A from the file's VA space and B from the caller's address space", () => {
    const { m } = b;
    onGpu(b, BASE, 55);
    setFrom(b, BASE);
    const debuggerMm = mmCreate(m.k);
    expect(next(b, HOST + 1, 0, { mm: debuggerMm }).status).toBe(NV_ERR_INVALID_ADDRESS);
    mmMapPlain(m.k, debuggerMm, HOST + 20_000, 4);
    expect(next(b, HOST + 20_000, 0, { mm: debuggerMm }).status).toBe(NV_OK);
    expect(plainWord(b, HOST + 20_000)).toBe(55);
    expect(next(b, HOST + 20_000).status).toBe(NV_ERR_INVALID_ADDRESS);
  });

  it('rule 7: SET_COPY_FROM_ADDRESS stores and does nothing else', () => {
    const before = [driverStateHash(b.m), hashState(b.m.gpus)];
    expect(setFrom(b, BASE + 600)).toBe(NV_OK);
    expect([driverStateHash(b.m), hashState(b.m.gpus)]).toEqual(before);
    expect(b.m.k.pins).toEqual([]);
    expect(vaBlockFind(b.space, BASE + 600)).toBeNull();
    next(b, HOST);
    expect(b.space.copy.fromPages).toBe(1);
    setFrom(b, BASE + 2);
    expect(b.space.copy.fromPage).toBe(BASE + 2);
    expect(setFrom(b, null)).toBe(NV_OK);
    expect(b.space.copy.fromPages).toBe(0);
  });

  it('rule 8: A is aligned, managed for its whole length, and a multiple of 4 KiB long', () => {
    expect(setFrom(b, BASE, { offset: 8 })).toBe(NV_ERR_INVALID_ADDRESS);
    expect(setFrom(b, HOST)).toBe(NV_ERR_INVALID_ADDRESS);
    expect(setFrom(b, BASE + 16383, { length: 8192 })).toBe(NV_ERR_INVALID_ADDRESS);
    expect(setFrom(b, BASE + 16383, { length: 4096 })).toBe(NV_OK);
    expect(setFrom(b, BASE, { length: 4097 })).toBe(NV_ERR_INVALID_ARGUMENT);
    expect(setFrom(b, BASE, { length: 0 })).toBe(NV_OK);
    expect(b.space.copy.fromPages).toBe(1);
    expect(setFrom(b, BASE, { length: 16384 * 4096 })).toBe(NV_OK);
    // Two ranges that touch are as good as one.
    vaSpaceMmap(b.space, BASE + 16384, 8, 1);
    expect(setFrom(b, BASE + 16380, { length: 12 * 4096 })).toBe(NV_OK);
  });

  it('rule 9: A stays while a copy is armed; other files and unknown flags are refused', () => {
    setFrom(b, BASE);
    const { token } = next(b, HOST, NEXT_COPY_ARM);
    expect(setFrom(b, BASE + 1)).toBe(NV_ERR_STATE_IN_USE);
    expect(setFrom(b, null)).toBe(NV_ERR_STATE_IN_USE);
    expect(b.space.copy.fromPage).toBe(BASE);
    status(b, token, STATUS_DISARM);
    expect(setFrom(b, BASE + 1)).toBe(NV_OK);
    const mm = uvmFileOpen();
    uvmFileInitializeMm(mm);
    for (const file of [uvmFileOpen(), mm]) {
      expect(setFrom(b, BASE, { file })).toBe(NV_ERR_ILLEGAL_ACTION);
      expect(next(b, HOST, 0, { file }).status).toBe(NV_ERR_ILLEGAL_ACTION);
      expect(status(b, token, 0, { file }).status).toBe(NV_ERR_ILLEGAL_ACTION);
    }
    expect(setFrom(b, BASE, { flags: 1 })).toBe(NV_ERR_INVALID_ARGUMENT);
    expect(next(b, HOST, 4).status).toBe(NV_ERR_INVALID_ARGUMENT);
    expect(status(b, token, 8).status).toBe(NV_ERR_INVALID_ARGUMENT);
  });

  it('rule 10: a successful start consumes B, and A stays', () => {
    onGpu(b, BASE, 5);
    setFrom(b, BASE);
    expect(next(b, HOST + 16383, 0, { offset: 1 }).status).toBe(NV_ERR_INVALID_ADDRESS);
    expect([b.space.copy.nextPage, b.space.copy.nextOffset]).toEqual([HOST + 16383, 1]);
    for (const page of [HOST, HOST + 1]) {
      expect(next(b, page)).toMatchObject({ status: NV_OK, bytes: 4096, token: 0 });
      expect([b.space.copy.nextPage, b.space.copy.nextOffset]).toEqual([-1, 0]);
      expect(plainWord(b, page)).toBe(5);
    }
    expect(b.space.copy.fromPage).toBe(BASE);
  });

  it('rule 11: without A and without ARM there is nothing to copy', () => {
    expect(next(b, HOST).status).toBe(NV_ERR_INVALID_STATE);
    expect(next(b, HOST, NEXT_COPY_ASYNC).status).toBe(NV_ERR_INVALID_STATE);
    expect(next(b, HOST, NEXT_COPY_ARM).status).toBe(NV_OK);
  });

  it('rule 12: only the immediate form takes an unaligned B, and B does not overlap A', () => {
    onGpu(b, BASE, 0x04030201);
    setFrom(b, BASE);
    expect(next(b, HOST, 0, { offset: 4093 }).status).toBe(NV_OK);
    expect([...pageBytes(b, 0, HOST).subarray(4090)]).toEqual([0, 0, 0, 1, 2, 3]);
    expect(plainWord(b, HOST + 1) & 255).toBe(4);
    expect(next(b, HOST, NEXT_COPY_ASYNC, { offset: 1 }).status).toBe(NV_ERR_INVALID_ADDRESS);
    expect(next(b, HOST, NEXT_COPY_ARM, { offset: 1 }).status).toBe(NV_ERR_INVALID_ADDRESS);
    setFrom(b, BASE + 4, { length: 8192 });
    for (const [page, offset] of [
      [BASE + 4, 0],
      [BASE + 5, 0],
      [BASE + 5, 4095],
      [BASE + 3, 0],
      [BASE + 2, 1],
    ]) {
      expect(next(b, page, 0, { offset }).status).toBe(NV_ERR_INVALID_ARGUMENT);
    }
    expect(next(b, BASE + 6).status).toBe(NV_OK);
    expect(next(b, BASE + 2).status).toBe(NV_OK);
    // The same numbers in another address space are other memory.
    const mm = mmCreate(b.m.k);
    mmMapPlain(b.m.k, mm, BASE + 4, 2);
    expect(next(b, BASE + 4, 0, { mm }).status).toBe(NV_OK);
  });

  it('tell of nothing that is not there', () => {
    setFrom(b, BASE);
    expect(next(b, HOST)).toEqual({
      status: 0,
      bytes: 4096,
      token: 0,
      residentOn: NONE_U32,
      channel: NONE_U32,
      value: 0,
    });
    const { token } = next(b, HOST, NEXT_COPY_ARM);
    expect(status(b, token, STATUS_WAIT)).toEqual({ status: 0, state: COPY_ARMED, copyStatus: 0, bytes: 0, value: 0 });
    gpu(b, 0, [BASE, ACCESS_READ]);
    expect(modelHash(b.m)).toHaveLength(16);
  });
});
