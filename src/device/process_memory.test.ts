import { beforeEach, describe, expect, it } from 'vitest';
import { createFaultMachine, runMachine, startProgram } from '../../test/support/fault_machine.ts';
import { contentsWrite, createContents } from '../model/gpu/contents.ts';
import type { Model } from '../model/state.ts';
import { EVENT_READ_DUPLICATE_INVALIDATE } from '../model/uvm/tools.ts';
import { pageResidentProcessors } from '../model/uvm/va_block.ts';
import { vaBlockAssert } from '../model/uvm/va_block_check.ts';
import { vaSpaceCpuFault } from '../model/uvm/va_block_cpu_fault.ts';
import { ACCESS_READ, ACCESS_WRITE, type VaBlock } from '../model/uvm/va_block_types.ts';
import { vaBlockFind } from '../model/uvm/va_space.ts';
import { IOCTL } from './abi/ioctls.ts';
import { pageOfAddress } from './abi/layout.ts';
import { ERRNO, statusText } from './abi/status.ts';
import { type CallerMemory, type Device, type DeviceFile, ioctl, ioctlResult } from './device.ts';
import {
  createModelDevice,
  createModelDriver,
  type ModelDriver,
  NotModelledError,
  runThread,
} from './model/model_device.ts';
import { readProcessMemory, writeProcessMemory } from './process_memory.ts';

const MIB = 2 ** 20;
const PAGE = 4096;

let m: Model;
let driver: ModelDriver;
let device: Device;
let uvm: DeviceFile;
let base: bigint;
let first: number;
let own: CallerMemory;

beforeEach(async () => {
  m = createFaultMachine({ gpus: 2 });
  m.contents = createContents(3);
  driver = createModelDriver(m);
  device = createModelDevice(driver);
  uvm = await device.open('uvm');
  await ioctl(device, uvm, IOCTL.INITIALIZE, {});
  const mm = await device.open('uvm');
  await ioctl(device, mm, IOCTL.MM_INITIALIZE, { uvmFd: uvm.fd });
  for (const gpuUuid of [driver.uuids[1], driver.uuids[2]]) {
    await ioctl(device, uvm, IOCTL.REGISTER_GPU, { gpuUuid });
    await ioctl(device, uvm, IOCTL.REGISTER_GPU_VASPACE, { gpuUuid });
  }
  base = await device.mapManaged(uvm, { length: 4 * MIB });
  first = pageOfAddress(base);
  own = await device.allocate(4 * PAGE);
});

function at(page: number, byte = 0): bigint {
  return base + BigInt(page * PAGE + byte);
}

/** The CPU writes a word of a page, or reads the page. */
function cpu(page: number, word: number, value: number | null): void {
  function* body(): Generator<number, void, void> {
    yield m.k.now;
    expect(vaSpaceCpuFault(m, m.vaSpaces[0], first + page, value !== null, 0)).toBe(-1);
  }
  runThread(m, body());
  if (value !== null && m.contents !== null) contentsWrite(m.contents, 0, first + page, word, value);
}

function gpu(page: number, access: number): void {
  startProgram(m, [[first + page, access]]);
  runMachine(m);
}

function block(page = 0): VaBlock {
  const found = vaBlockFind(m.vaSpaces[0], first + page);
  if (found === null) throw new Error('no block');
  return found;
}

const residents = (page: number): number => pageResidentProcessors(block(page), page % 512);

/** What came of a call: bytes, status by name, errno. */
function said(result: { bytes: number; status: number; errno: number }): [number, string, number] {
  return [result.bytes, statusText(result.status).replace(/ .*/, ''), result.errno];
}

const read = async (address: bigint, offset: number, length: number, who = device, file = uvm, into = own) =>
  said(await readProcessMemory(who, file, address, into, offset, length));
const write = async (address: bigint, offset: number, length: number, who = device, file = uvm, from = own) =>
  said(await writeProcessMemory(who, file, address, from, offset, length));
const bytes = (text: string): number[] => [...text].map((letter) => letter.charCodeAt(0));

describe('reading', () => {
  it('finds a page on the CPU, on a GPU and nowhere, at any byte, and moves nothing', async () => {
    cpu(511, 1023, 0x04030201);
    cpu(512, 0, 0x08070605);
    gpu(512, ACCESS_WRITE);
    own.bytes().fill(0xee);
    const events = m.tools.log.count;
    expect(await read(at(511, 4093), 5, 7)).toEqual([7, 'NV_OK', 0]);
    expect([...own.bytes().subarray(3, 14)]).toEqual([0xee, 0xee, 2, 3, 4, 5, 6, 7, 8, 0xee, 0xee]);
    expect([residents(511), residents(512)]).toEqual([1, 2]);
    expect(await read(at(600, 1), 1, PAGE)).toEqual([PAGE, 'NV_OK', 0]);
    expect([...new Set(own.bytes().subarray(1, PAGE + 1))]).toEqual([0]);
    expect([own.bytes()[0], own.bytes()[PAGE + 1]]).toEqual([0xee, 0xee]);
    expect([residents(600), m.tools.log.count]).toEqual([0, events]);
  });

  it('has the words that a page was given and zeros between them', async () => {
    cpu(3, 2, 0x0a0b0c0d);
    expect(await read(at(3), 0, PAGE)).toEqual([PAGE, 'NV_OK', 0]);
    const words = new Uint32Array(own.bytes().slice(0, PAGE).buffer);
    expect([words[2], words.reduce((sum, word) => sum + word)]).toEqual([0x0a0b0c0d, 0x0a0b0c0d]);
  });

  it('stops at the first page that is not managed and tells what came before', async () => {
    cpu(1023, 1023, 0x01020304);
    expect(await read(at(1023, 4092), 0, 5)).toEqual([4, 'NV_ERR_INVALID_ADDRESS', 0]);
    expect([...own.bytes().subarray(0, 5)]).toEqual([4, 3, 2, 1, 0]);
    expect(await read(at(1024), 0, 1)).toEqual([0, 'NV_ERR_INVALID_ADDRESS', 0]);
    expect(await read(2n ** 64n - 1n, 0, 2)).toEqual([0, 'NV_ERR_INVALID_ADDRESS', 0]);
    expect(await read(at(1024), 0, 0)).toEqual([0, 'NV_OK', 0]);
  });

  it('stops at the first page of the buffer that is no memory, after the page was looked for', async () => {
    const call = IOCTL.TOOLS_READ_PROCESS_MEMORY;
    const raw = async (buffer: bigint, size: bigint, targetVa: bigint) => {
      const { params, status, errno } = await ioctlResult(device, uvm, call, { buffer, size, targetVa });
      return said({ bytes: Number(params.bytesRead), status, errno });
    };
    const end = own.address + BigInt(own.length);
    expect(await raw(end - 4096n, 8192n, base)).toEqual([4096, 'NV_ERR_INVALID_ARGUMENT', 0]);
    expect(await raw(end - 10n, 20n, base)).toEqual([0, 'NV_ERR_INVALID_ARGUMENT', 0]);
    expect(await raw(0n, 1n, base)).toEqual([0, 'NV_ERR_INVALID_ARGUMENT', 0]);
    expect(await raw(0n, 1n, at(1024))).toEqual([0, 'NV_ERR_INVALID_ADDRESS', 0]);
    expect(await raw(2n ** 64n - 1n, 2n ** 64n - 1n, base)).toEqual([0, 'NV_ERR_INVALID_ARGUMENT', 0]);
    expect(await raw(0n, 0n, 0n)).toEqual([0, 'NV_OK', 0]);
    await own.close();
    expect(await raw(own.address, 1n, base)).toEqual([0, 'NV_ERR_INVALID_ARGUMENT', 0]);
  });

  it('takes a managed buffer, which faults like any other CPU access', async () => {
    cpu(0, 0, 0x44434241);
    gpu(700, ACCESS_WRITE);
    expect(residents(700)).toBe(2);
    const buffer = at(700, 2);
    await ioctl(device, uvm, IOCTL.TOOLS_READ_PROCESS_MEMORY, { buffer, size: 4, targetVa: base });
    expect(residents(700)).toBe(1);
    expect(await read(at(700), 0, 7)).toEqual([7, 'NV_OK', 0]);
    expect([...own.bytes().subarray(0, 7)]).toEqual([0, 0, 0x41, 0x42, 0x43, 0x44, 0]);
    // The CPU may read its copy of a duplicated page; it must fault to write it.
    await ioctl(device, uvm, IOCTL.ENABLE_READ_DUPLICATION, { requestedBase: at(512), length: 2 * MIB });
    gpu(700, ACCESS_READ);
    expect(residents(700)).toBe(3);
    const write = { buffer, size: 4, targetVa: at(9, 100) };
    await ioctl(device, uvm, IOCTL.TOOLS_WRITE_PROCESS_MEMORY, write);
    expect(residents(700)).toBe(3);
    await ioctl(device, uvm, IOCTL.TOOLS_READ_PROCESS_MEMORY, { buffer, size: 4, targetVa: base });
    expect(residents(700)).toBe(1);
    expect(await read(at(9, 99), 0, 6)).toEqual([6, 'NV_OK', 0]);
    expect([...own.bytes().subarray(0, 6)]).toEqual([0, 0x41, 0x42, 0x43, 0x44, 0]);
  });
});

describe('writing', () => {
  it('reaches a page where it lives, and reads back', async () => {
    cpu(511, 0, 0);
    cpu(512, 0, 0);
    gpu(512, ACCESS_WRITE);
    own.bytes().set(bytes('across pages'));
    const events = m.tools.log.count;
    expect(await write(at(511, 4090), 0, 12)).toEqual([12, 'NV_OK', 0]);
    expect([residents(511), residents(512), m.tools.log.count]).toEqual([1, 2, events]);
    own.bytes().fill(0);
    expect(await read(at(511, 4089), 100, 14)).toEqual([14, 'NV_OK', 0]);
    expect([...own.bytes().subarray(100, 114)]).toEqual([0, ...bytes('across pages'), 0]);
    own.bytes().set(bytes('middle'));
    expect(await write(at(512, 2000), 0, 6)).toEqual([6, 'NV_OK', 0]);
    // A GPU's page keeps what was written when it moves.
    cpu(512, 1023, 7);
    expect(residents(512)).toBe(1);
    expect(await read(at(512), 0, 6)).toEqual([6, 'NV_OK', 0]);
    expect([...own.bytes().subarray(0, 6)]).toEqual(bytes(' pages'));
    await read(at(512, 1999), 0, 8);
    expect([...own.bytes().subarray(0, 8)]).toEqual([0, ...bytes('middle'), 0]);
  });

  it('brings a page that lives nowhere to life on the CPU, mapped by nobody', async () => {
    own.bytes().set([1, 2, 3]);
    expect(await write(at(5, 7), 0, 3)).toEqual([3, 'NV_OK', 0]);
    expect([residents(5), residents(6), block().mapped]).toEqual([1, 0, 0]);
    vaBlockAssert(m, block());
    expect(await read(at(5, 6), 8, 5)).toEqual([5, 'NV_OK', 0]);
    expect([...own.bytes().subarray(8, 13)]).toEqual([0, 1, 2, 3, 0]);
  });

  it('ends read duplication of its page', async () => {
    await ioctl(device, uvm, IOCTL.ENABLE_READ_DUPLICATION, { requestedBase: base, length: 2 * MIB });
    for (const page of [0, 1]) cpu(page, 0, 1);
    for (const page of [0, 1]) gpu(page, ACCESS_READ);
    expect([residents(0), residents(1)]).toEqual([3, 3]);
    own.bytes()[0] = 9;
    expect(await write(base, 0, 1)).toEqual([1, 'NV_OK', 0]);
    expect([residents(0), residents(1)]).toEqual([1, 3]);
    vaBlockAssert(m, block());
    const { kind, page, count } = m.tools.log;
    const invalidated = [...kind.subarray(0, count)].flatMap((k, i) =>
      k === EVENT_READ_DUPLICATE_INVALIDATE ? [page[i]] : [],
    );
    expect(invalidated).toEqual([first]);
    gpu(0, ACCESS_READ);
    expect(residents(0)).toBe(3);
    expect(m.contents?.pages[1].get(first)?.[0]).toBe(9);
  });

  it('looks at the buffer first and writes nothing that it could not read', async () => {
    cpu(0, 0, 0x01010101);
    const input = { buffer: own.address + BigInt(own.length - 2), size: 4, targetVa: base };
    const { params, status } = await ioctlResult(device, uvm, IOCTL.TOOLS_WRITE_PROCESS_MEMORY, input);
    expect([params.bytesWritten, statusText(status)]).toEqual([0n, 'NV_ERR_INVALID_ARGUMENT (0x1f)']);
    const outside = { ...input, targetVa: at(1024) };
    expect((await ioctlResult(device, uvm, IOCTL.TOOLS_WRITE_PROCESS_MEMORY, outside)).status).toBe(status);
    expect(m.contents?.pages[0].get(first)?.[0]).toBe(0x01010101);
    expect(await write(at(1023, 4095), 0, 2)).toEqual([1, 'NV_ERR_INVALID_ADDRESS', 0]);
    expect(await write(at(1024), 0, 0)).toEqual([0, 'NV_OK', 0]);
  });
});

describe('who may', () => {
  it('another process that has adopted the file, with a buffer of its own', async () => {
    cpu(2, 0, 0x34333231);
    const tool = createModelDevice(driver);
    const theirs = await tool.adopt(device.pid, uvm.fd);
    const into = await tool.allocate(PAGE);
    expect(into.address).not.toBe(own.address);
    expect(await read(at(2), 0, 4, tool, theirs, into)).toEqual([4, 'NV_OK', 0]);
    expect(into.bytes().subarray(0, 4)).toEqual(Uint8Array.from(bytes('1234')));
    into.bytes().set([5]);
    expect(await write(at(2, 1), 0, 1, tool, theirs, into)).toEqual([1, 'NV_OK', 0]);
    expect(await read(at(2), 0, 4)).toEqual([4, 'NV_OK', 0]);
    expect([...own.bytes().subarray(0, 4)]).toEqual([0x31, 5, 0x33, 0x34]);
    await expect(device.mapManaged(uvm, { address: into.address, length: PAGE })).rejects.toThrow(NotModelledError);
    // The address is the caller's: the other's memory is none here.
    expect(await read(at(2), 0, 4, tool, theirs, own)).toEqual([0, 'NV_ERR_INVALID_ARGUMENT', 0]);
  });

  it('a file of a VA space alone', async () => {
    const other = await device.open('uvm');
    expect(await read(base, 0, 1, device, other)).toEqual([0, 'NV_ERR_ILLEGAL_ACTION', 0]);
    const mm = { device: 'uvm', fd: 4 } as const;
    expect(await write(base, 0, 1, device, mm)).toEqual([0, 'NV_ERR_ILLEGAL_ACTION', 0]);
    const tools = await device.open('tools');
    expect(await read(base, 0, 1, device, tools)).toEqual([0, 'NV_OK', ERRNO.EINVAL]);
    await device.close(other);
    expect(await read(base, 0, 1, device, other)).toEqual([0, 'NV_OK', ERRNO.EBADF]);
    m.globalStatus = 0x60;
    expect(await read(base, 0, 1)).toEqual([0, 'NV_ERR_RC_ERROR', 0]);
  });

  it('with a part of the memory that is there, and a model that has contents', async () => {
    await expect(read(base, own.length, 1)).rejects.toThrow(
      `length 1 at offset ${own.length}: expected a whole number`,
    );
    await expect(write(base, -1, 1)).rejects.toThrow('offset -1 in memory of the caller');
    expect(await read(base, own.length, 0)).toEqual([0, 'NV_OK', 0]);
    m.contents = null;
    await expect(read(base, 0, 1)).rejects.toThrow(NotModelledError);
    await expect(write(base, 0, 1)).rejects.toThrow('WRITE_PROCESS_MEMORY over a model without contents');
  });
});
