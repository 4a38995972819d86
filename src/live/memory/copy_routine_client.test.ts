import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { createProfileModel } from '../../../test/support/profile_model.ts';
import { copyIoctls, IOCTL } from '../../device/abi/ioctls.ts';
import { type Device, ioctl } from '../../device/device.ts';
import { createModelDevice, createModelDriver, type ModelDriver } from '../../device/model/model_device.ts';
import { createModelProgram } from '../../device/model/model_program.ts';
import type { Program } from '../../device/program.ts';
import { CopyRoutineError, copyByRoutine, readCopyAbi } from './copy_routine_client.ts';

const MIB = 2 ** 20;
const NUMBERS = { setCopyFromAddress: 4001, setNextCopyAddress: 4002, copyStatus: 4003 };

let driver: ModelDriver;
let program: Program;

async function start(calls: ReturnType<typeof copyIoctls> | null): Promise<void> {
  driver = createModelDriver(createProfileModel(), { copyIoctls: calls });
  program = await createModelProgram(driver);
}

beforeEach(() => start(copyIoctls(NUMBERS)));

/** A tool that has taken over the program's file. */
async function attached(): Promise<{ tool: Device; uvm: Awaited<ReturnType<Device['adopt']>> }> {
  const tool = createModelDevice(driver);
  return { tool, uvm: await tool.adopt(program.device.pid, program.uvm.fd) };
}

describe('copyByRoutine', () => {
  it('copies pages of another process from the GPU, and ioctl 62 reads the same', async () => {
    const base = await program.allocateManaged(4 * MIB);
    await program.access({ on: 'gpu0', do: 'write', address: base, pages: [0, 511, 512, 700], value: 0x01020304 });
    const { tool, uvm } = await attached();
    const pieces: Uint8Array[] = [];
    const length = BigInt(3 * MIB);
    const take = (bytes: Uint8Array) => void pieces.push(bytes.slice());
    const result = await copyByRoutine(tool, uvm, copyIoctls(NUMBERS), base, length, take);
    expect(result.differs).toBeNull();
    expect(pieces.map((piece) => piece.length)).toEqual([2 * MIB, MIB]);
    const bytes = Buffer.concat(pieces);
    const written = [0, 511, 512, 700].map((page) => bytes.readUInt32LE(page * 4096));
    expect(written).toEqual(new Array(4).fill(0x01020304));
    expect(bytes.readUInt32LE(4096)).toBe(0);
  });

  it('clears the address it has set, and gives its memory back', async () => {
    const base = await program.allocateManaged(MIB);
    const { tool, uvm } = await attached();
    await copyByRoutine(tool, uvm, copyIoctls(NUMBERS), base, 4096n, () => {});
    expect(driver.processes[1].areas).toEqual([]);
    const calls = copyIoctls(NUMBERS);
    await expect(ioctl(tool, uvm, calls.SET_NEXT_COPY_ADDRESS, { address: 4096n })).rejects.toThrow('INVALID_STATE');
  });

  it('says so when the driver has no copy routine', async () => {
    await start(null);
    const base = await program.allocateManaged(MIB);
    const { tool, uvm } = await attached();
    await expect(copyByRoutine(tool, uvm, copyIoctls(NUMBERS), base, 4096n, () => {})).rejects.toThrow(
      /the driver has no ioctl 4001 .*stock driver/,
    );
  });

  it('refuses parts of pages, and hands on what the routine answers', async () => {
    const base = await program.allocateManaged(MIB);
    const { tool, uvm } = await attached();
    const calls = copyIoctls(NUMBERS);
    await expect(copyByRoutine(tool, uvm, calls, base + 8n, 4096n, () => {})).rejects.toThrow('whole pages');
    await expect(copyByRoutine(tool, uvm, calls, base + BigInt(MIB), 4096n, () => {})).rejects.toThrow(
      'SET_COPY_FROM_ADDRESS: NV_ERR_INVALID_ADDRESS',
    );
  });
});

describe('readCopyAbi', () => {
  it('reads the example, and names a file that is not there', () => {
    expect(readCopyAbi('examples/copy-abi.json').COPY_STATUS.number).toBe(3003);
    expect(() => readCopyAbi('no-such-file.json')).toThrow(CopyRoutineError);
    const wrong = join(tmpdir(), `uvmlab-copy-abi-${process.pid}.json`);
    writeFileSync(wrong, `{ "COPY_STATUS": { "number": ${IOCTL.MIGRATE.number} } }`);
    expect(() => readCopyAbi(wrong)).toThrow('stock driver');
  });
});
