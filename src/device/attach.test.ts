import { beforeEach, describe, expect, it } from 'vitest';
import { createFaultMachine } from '../../test/support/fault_machine.ts';
import { IOCTL, UUID_TABLE_V2_ENTRIES } from './abi/ioctls.ts';
import { ERRNO, NV_ERR_ILLEGAL_ACTION, NV_OK } from './abi/status.ts';
import { AttachError, attachVaSpace, CPU_UUID_HEX, processorEntries, processorTable, processorWord } from './attach.ts';
import { type Device, DeviceError, type DeviceFile, ioctl } from './device.ts';
import { createModelDevice, createModelDriver, type ModelDriver } from './model/model_device.ts';

let driver: ModelDriver;
let target: Device;
let tool: Device;
let space: DeviceFile;
let mm: DeviceFile;

/** Descriptors that a process of the model has open. */
function open(of: Device): number {
  const process = driver.processes.find(({ pid }) => pid === of.pid);
  return process?.files.filter((file) => file !== null).length ?? 0;
}

beforeEach(async () => {
  driver = createModelDriver(createFaultMachine({ gpus: 2 }));
  target = createModelDevice(driver);
  tool = createModelDevice(driver);
  space = await target.open('uvm');
  mm = await target.open('uvm');
});

async function initialize(): Promise<void> {
  await ioctl(target, space, IOCTL.INITIALIZE, { flags: 0 });
  await ioctl(target, mm, IOCTL.MM_INITIALIZE, { uvmFd: space.fd });
  for (const gpuUuid of driver.uuids.slice(1)) await ioctl(target, space, IOCTL.REGISTER_GPU, { gpuUuid });
}

describe('attachVaSpace', () => {
  it('takes the file of the VA space and closes the other one at once, in either order', async () => {
    await initialize();
    for (const fds of [
      [space.fd, mm.fd],
      [mm.fd, space.fd],
    ]) {
      const before = open(tool);
      const attachment = await attachVaSpace(tool, target.pid, fds);
      expect(attachment?.theirFd).toBe(space.fd);
      expect(open(tool)).toBe(before + 1);
      if (attachment !== null) await tool.close(attachment.uvm);
    }
  });

  it('tells the processors with the numbers of version 2', async () => {
    await initialize();
    const attachment = await attachVaSpace(tool, target.pid, [space.fd]);
    expect(attachment?.processors.map(({ number, word }) => [number, word])).toEqual([
      [0, 'cpu'],
      [1, 'gpu0'],
      [9, 'gpu1'],
    ]);
    expect(attachment?.processors[0].uuid).toBe(CPU_UUID_HEX);
  });

  it('finds none before the program has initialised its file, and leaves nothing open', async () => {
    expect(await attachVaSpace(tool, target.pid, [space.fd, mm.fd])).toBeNull();
    expect(open(tool)).toBe(0);
    const { status } = await processorTable(target, space);
    expect(status).toBe(NV_ERR_ILLEGAL_ACTION);
  });

  it('passes over a descriptor that was closed meanwhile', async () => {
    await initialize();
    const attachment = await attachVaSpace(tool, target.pid, [77, space.fd]);
    expect(attachment?.theirFd).toBe(space.fd);
  });

  it('hands on that the process is gone', async () => {
    await expect(attachVaSpace(tool, 424242, [3])).rejects.toMatchObject({ errno: ERRNO.ESRCH });
  });

  it('does not take a driver for what it is not', async () => {
    await initialize();
    const unknown: Device = { ...tool, ioctlBytes: async () => ERRNO.ENOSYS };
    await expect(attachVaSpace(unknown, target.pid, [space.fd])).rejects.toThrow(AttachError);
    expect(open(tool)).toBe(0);
    // A table that begins with something else than the CPU.
    const other: Device = { ...tool, ioctlBytes: async () => 0 };
    await expect(attachVaSpace(other, target.pid, [space.fd])).rejects.toThrow('does not begin with the CPU');
    expect(open(tool)).toBe(0);
  });

  it('leaves nothing behind after a thousand times', async () => {
    await initialize();
    const references = driver.processes[0].files[space.fd]?.references;
    for (let i = 0; i < 1000; i++) {
      const attachment = await attachVaSpace(tool, target.pid, [mm.fd, space.fd]);
      if (attachment === null) throw new Error('no VA space');
      await tool.close(attachment.uvm);
    }
    expect(open(tool)).toBe(0);
    expect(driver.processes[1].areas).toEqual([]);
    expect(driver.processes[0].files[space.fd]?.references).toBe(references);
  });

  it('holds the VA space while it is attached, so that ending the program does not end the tool', async () => {
    await initialize();
    const attachment = await attachVaSpace(tool, target.pid, [space.fd]);
    if (attachment === null) throw new Error('no VA space');
    await target.close(mm);
    await target.close(space);
    expect((await processorTable(tool, attachment.uvm)).status).toBe(NV_OK);
    await tool.close(attachment.uvm);
    await expect(tool.close(attachment.uvm)).rejects.toThrow(DeviceError);
  });
});

describe('processorEntries', () => {
  it('passes over empty entries, and names eight numbers for each GPU', () => {
    const table = new Uint8Array(UUID_TABLE_V2_ENTRIES * 16);
    table[16 * 8 + 3] = 0xab;
    table[16 * 256] = 1;
    expect(processorEntries(table)).toEqual([
      { number: 8, word: 'gpu0', uuid: '000000ab000000000000000000000000' },
      { number: 256, word: 'gpu31', uuid: `01${'0'.repeat(30)}` },
    ]);
    expect([0, 1, 8, 9, 16, 17].map(processorWord)).toEqual(['cpu', 'gpu0', 'gpu0', 'gpu1', 'gpu1', 'gpu2']);
  });
});
