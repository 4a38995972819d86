/** The copy routine as a program meets it: numbers, layouts, and bytes that arrive in memory of its own. */
import { beforeEach, describe, expect, it } from 'vitest';
import { createFaultMachine, runMachine, startProgram } from '../../../test/support/fault_machine.ts';
import {
  NEXT_COPY_ARM,
  NEXT_COPY_ASYNC,
  NONE_U32,
  STATUS_DISARM,
  STATUS_WAIT,
} from '../../model/copy_routine/ioctl.ts';
import { COPY_ARMED, COPY_DONE, COPY_ENDED, COPY_RUNNING } from '../../model/copy_routine/types.ts';
import { contentsWrite, createContents } from '../../model/gpu/contents.ts';
import type { Model } from '../../model/state.ts';
import { vaSpaceCpuFault } from '../../model/uvm/va_block_cpu_fault.ts';
import { ACCESS_READ, ACCESS_WRITE } from '../../model/uvm/va_block_types.ts';
import { type CopyIoctls, copyIoctls, defineIoctl, IOCTL } from '../abi/ioctls.ts';
import { field, layout, pageOfAddress } from '../abi/layout.ts';
import { ERRNO, statusText } from '../abi/status.ts';
import { type CallerMemory, type Device, type DeviceFile, ioctl, ioctlResult } from '../device.ts';
import { createModelDevice, createModelDriver, deliverEvents, type ModelDriver, runThread } from './model_device.ts';

const PAGE = 4096;

let m: Model;
let driver: ModelDriver;
let device: Device;
let uvm: DeviceFile;
let base: bigint;
let first: number;
let own: CallerMemory;
let calls: CopyIoctls;

async function start(chosen: CopyIoctls | null | undefined): Promise<void> {
  m = createFaultMachine({ costs: { copyBaseToCpu: 5000, copyPageToCpu: 100 } });
  m.contents = createContents(2);
  driver = createModelDriver(m, chosen === undefined ? {} : { copyIoctls: chosen });
  calls = chosen ?? copyIoctls();
  device = createModelDevice(driver);
  uvm = await device.open('uvm');
  await ioctl(device, uvm, IOCTL.INITIALIZE, {});
  base = await device.mapManaged(uvm, { length: 4 * 2 ** 20 });
  first = pageOfAddress(base);
  own = await device.allocate(4 * PAGE);
}

beforeEach(() => start(undefined));

function cpu(page: number, value: number): void {
  function* body(): Generator<number, void, void> {
    yield m.k.now;
    expect(vaSpaceCpuFault(m, m.vaSpaces[0], first + page, true, 0)).toBe(-1);
  }
  runThread(m, body());
  if (m.contents !== null) contentsWrite(m.contents, 0, first + page, 0, value);
}

function gpu(page: number, access = ACCESS_WRITE): void {
  startProgram(m, [[first + page, access]]);
  runMachine(m);
}

const from = (page: number, length = 0, who = device, file = uvm) =>
  ioctl(who, file, calls.SET_COPY_FROM_ADDRESS, { address: base + BigInt(page * PAGE), length });
const next = (address: bigint, flags = 0, who = device, file = uvm) =>
  ioctl(who, file, calls.SET_NEXT_COPY_ADDRESS, { address, flags });
const statusOf = (token: bigint, flags = 0) => ioctl(device, uvm, calls.COPY_STATUS, { token, flags });
const word = (at = 0, memory = own) => new DataView(memory.bytes().buffer).getUint32(at, true);

describe('a copy', () => {
  it('arrives in the memory that the program sees, and nowhere beside it', async () => {
    cpu(0, 0x11223344);
    gpu(0);
    own.bytes().fill(0xee);
    await from(0);
    const params = await next(own.address + 12n);
    expect(params).toMatchObject({ bytesCopied: 4096n, token: 0n, residentOn: 1 });
    expect([word(12), word(16)]).toEqual([0x11223344, 0]);
    expect([word(8), word(12 + PAGE)]).toEqual([0xeeeeeeee, 0xeeeeeeee]);
    // The program's own writes stay until the next copy.
    own.bytes().fill(0xdd);
    await ioctl(device, uvm, IOCTL.TOOLS_FLUSH_EVENTS, {});
    expect(word(12)).toBe(0xdddddddd);
    expect(await next(own.address + 12n)).toMatchObject({ rmStatus: 0 });
    expect(word(12)).toBe(0x11223344);
  });

  it('without waiting arrives when it is done', async () => {
    cpu(0, 77);
    gpu(0);
    await from(0);
    const { token, bytesCopied, channel } = await next(own.address, NEXT_COPY_ASYNC);
    expect([token, bytesCopied]).toEqual([1n, 0n]);
    expect(channel).not.toBe(NONE_U32);
    expect([(await statusOf(token)).state, word()]).toEqual([COPY_RUNNING, 0]);
    expect(await statusOf(token, STATUS_WAIT)).toMatchObject({ state: COPY_DONE, bytesCopied: 4096n });
    expect(word()).toBe(77);
  });

  it('that is armed holds the value of the fault, and arrives when the events are delivered', async () => {
    cpu(0, 5);
    await from(0);
    const { token } = await next(own.address, NEXT_COPY_ARM);
    expect([(await statusOf(token)).state, word()]).toEqual([COPY_ARMED, 0]);
    gpu(0);
    if (m.contents !== null) contentsWrite(m.contents, 1, first, 0, 6);
    expect(word()).toBe(0);
    deliverEvents(driver);
    expect(word()).toBe(5);
    expect(await statusOf(token)).toMatchObject({ state: COPY_DONE, bytesCopied: 4096n });
    const again = await next(own.address, NEXT_COPY_ARM);
    await statusOf(again.token, STATUS_DISARM);
    own.bytes().fill(0);
    expect([(await statusOf(again.token)).state, word()]).toEqual([COPY_ENDED, 0]);
  });

  it('arrives nowhere when its memory was given back meanwhile, and not in memory that took its place', async () => {
    cpu(0, 9);
    gpu(0);
    await from(0);
    const { token } = await next(own.address, NEXT_COPY_ASYNC);
    await own.close();
    const other = await device.allocate(4 * PAGE);
    expect(other.address).toBe(own.address);
    expect((await statusOf(token, STATUS_WAIT)).state).toBe(COPY_DONE);
    expect(word(0, other)).toBe(0);
    await next(other.address);
    expect(word(0, other)).toBe(9);
  });

  it('arrives before its source is freed and the file closed for the last time', async () => {
    cpu(0, 9);
    gpu(0);
    await from(0);
    await next(own.address, NEXT_COPY_ASYNC);
    await device.close(uvm);
    expect(word()).toBe(0);
    await device.unmapManaged(base, 4 * 2 ** 20);
    expect(word()).toBe(9);
  });

  it('goes to the process that asks', async () => {
    cpu(0, 3);
    gpu(0);
    const tool = createModelDevice(driver);
    const theirs = await tool.adopt(device.pid, uvm.fd);
    const into = await tool.allocate(PAGE);
    await from(0, 0, tool, theirs);
    await next(into.address, 0, tool, theirs);
    expect([word(0, into), word()]).toEqual([3, 0]);
    const elsewhere = await ioctlResult(tool, theirs, calls.SET_NEXT_COPY_ADDRESS, { address: own.address });
    expect(statusText(elsewhere.status)).toContain('NV_ERR_INVALID_ADDRESS');
    const open = await device.open('uvm');
    const bad = await ioctlResult(device, open, calls.COPY_STATUS, {});
    expect([bad.errno, statusText(bad.status)]).toEqual([0, 'NV_ERR_ILLEGAL_ACTION (0x16)']);
  });

  it('of several pages may go to managed memory', async () => {
    cpu(0, 1);
    cpu(1, 2);
    await from(0, 2 * PAGE);
    expect((await next(base + BigInt(600 * PAGE + 8))).bytesCopied).toBe(8192n);
    const call = IOCTL.TOOLS_READ_PROCESS_MEMORY;
    await ioctl(device, uvm, call, { buffer: own.address, size: 16, targetVa: base + BigInt(601 * PAGE) });
    expect([word(4), word(8)]).toEqual([0, 2]);
    gpu(600, ACCESS_READ);
  });
});

describe('the numbers', () => {
  const errno = (number: number, file = uvm, bytes = 48) => device.ioctlBytes(file, number, new Uint8Array(bytes));

  it('are 3001 to 3003, of the one device', async () => {
    expect(await Promise.all([3000, 3001, 3002, 3003, 3004].map((n) => errno(n)))).toEqual([
      ERRNO.ENOSYS,
      0,
      0,
      0,
      ERRNO.ENOSYS,
    ]);
    expect(await errno(3001, uvm, 23)).toBe(ERRNO.EFAULT);
    expect(await errno(3001, await device.open('tools'))).toBe(ERRNO.EINVAL);
  });

  it('can be others, with other layouts', async () => {
    const standard = copyIoctls({ setCopyFromAddress: 4001, setNextCopyAddress: 4002, copyStatus: 4003 });
    const params = layout('UVM_SET_COPY_FROM_ADDRESS_PARAMS', 32, {
      rmStatus: field('u32', 0),
      flags: field('u32', 4),
      length: field('u64', 16),
      address: field('u64', 24),
    });
    await start({ ...standard, SET_COPY_FROM_ADDRESS: defineIoctl(4001, params) });
    expect([await errno(3001), await errno(4001, uvm, 31)]).toEqual([ERRNO.ENOSYS, ERRNO.EFAULT]);
    cpu(1, 8);
    await from(1);
    await next(own.address);
    expect(word()).toBe(8);
    const bytes = new Uint8Array(32).fill(0x77);
    new DataView(bytes.buffer).setUint32(4, 0, true);
    expect(await device.ioctlBytes(uvm, 4001, bytes)).toBe(0);
    expect([...bytes.subarray(0, 9)]).toEqual([0x1f, 0, 0, 0, 0, 0, 0, 0, 0x77]);
  });

  it('are none in a stock driver', async () => {
    await start(null);
    expect(await errno(3001)).toBe(ERRNO.ENOSYS);
  });
});

it('needs contents for bytes alone', async () => {
  m.contents = null;
  await from(0);
  await expect(next(own.address)).rejects.toThrow('UVM_SET_NEXT_COPY_ADDRESS over a model without contents');
});
