import { beforeEach, describe, expect, it } from 'vitest';
import { createFaultMachine, runMachine, startProgram } from '../../../test/support/fault_machine.ts';
import type { Model } from '../../model/state.ts';
import { vaSpaceCpuFault } from '../../model/uvm/va_block_cpu_fault.ts';
import { ACCESS_READ, ACCESS_WRITE } from '../../model/uvm/va_block_types.ts';
import { vaBlockFind, vaRangeFind } from '../../model/uvm/va_space.ts';
import { appendEvents, createEventColumns } from '../abi/event_columns.ts';
import { EVENT_TYPE, RECORDED_EVENTS } from '../abi/events.ts';
import { CPU_UUID, IOCTL, type Ioctl, UVM_DEINITIALIZE } from '../abi/ioctls.ts';
import { encode, type InputOf, pageOfAddress } from '../abi/layout.ts';
import { ERRNO, statusText } from '../abi/status.ts';
import { TEST_IOCTL } from '../abi/test_ioctls.ts';
import { type Device, DeviceError, type DeviceFile, ioctl, ioctlResult } from '../device.ts';
import {
  closeEventSource,
  disableEvents,
  drainEvents,
  enableEvents,
  flushEvents,
  openEventSource,
} from '../event_source.ts';
import {
  createModelDevice,
  createModelDriver,
  deliverEvents,
  type ModelDriver,
  NotModelledError,
  runThread,
} from './model_device.ts';

const MIB = 2 ** 20;
const PAGE = 4096;

let m: Model;
let driver: ModelDriver;
let device: Device;
let uvm: DeviceFile;
let gpus: Uint8Array[];

/** The status of an ioctl by name, as text. */
async function status<L extends Ioctl['params']>(
  file: DeviceFile,
  call: Ioctl<L>,
  input: InputOf<L>,
  who = device,
): Promise<string> {
  const result = await ioctlResult(who, file, call, input);
  expect(result.errno).toBe(0);
  return statusText(result.status).replace(/ .*/, '');
}

async function errno(promise: Promise<unknown>): Promise<number> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof DeviceError) return error.errno;
    throw error;
  }
  return 0;
}

/** The handshake up to registered GPUs. */
async function setUp(): Promise<DeviceFile> {
  await ioctl(device, uvm, IOCTL.INITIALIZE, { flags: 0 });
  const mm = await device.open('uvm');
  await ioctl(device, mm, IOCTL.MM_INITIALIZE, { uvmFd: uvm.fd });
  for (const gpuUuid of gpus) {
    await ioctl(device, uvm, IOCTL.REGISTER_GPU, { gpuUuid });
    await ioctl(device, uvm, IOCTL.REGISTER_GPU_VASPACE, { gpuUuid });
  }
  return mm;
}

function cpuTouch(page: number, write: boolean): void {
  function* body(): Generator<number, void, void> {
    yield m.k.now;
    expect(vaSpaceCpuFault(m, m.vaSpaces[0], page, write, 0)).toBe(-1);
  }
  runThread(m, body());
}

beforeEach(async () => {
  m = createFaultMachine({ gpus: 2 });
  driver = createModelDriver(m);
  device = createModelDevice(driver);
  uvm = await device.open('uvm');
  gpus = [driver.uuids[1], driver.uuids[2]];
});

describe('dispatch', () => {
  it('refuses numbers that the device does not take', async () => {
    const tools = await device.open('tools');
    const bytes = new Uint8Array(16);
    expect(await device.ioctlBytes(uvm, 8, bytes)).toBe(ERRNO.ENOSYS);
    expect(await device.ioctlBytes(uvm, IOCTL.TOOLS_EVENT_QUEUE_ENABLE_EVENTS.number, bytes)).toBe(ERRNO.ENOSYS);
    expect(await device.ioctlBytes(uvm, TEST_IOCTL.VA_RANGE_INFO.number, new Uint8Array(4200))).toBe(ERRNO.ENOSYS);
    expect(await device.ioctlBytes(tools, IOCTL.TOOLS_READ_PROCESS_MEMORY.number, new Uint8Array(40))).toBe(
      ERRNO.EINVAL,
    );
    expect(await device.ioctlBytes(uvm, UVM_DEINITIALIZE, new Uint8Array(0))).toBe(0);
    m = createFaultMachine({ parameters: { uvm_enable_builtin_tests: 1 } });
    device = createModelDevice(createModelDriver(m));
    uvm = await device.open('uvm');
    expect(await device.ioctlBytes(uvm, 8, bytes)).toBe(ERRNO.EINVAL);
    expect(await device.ioctlBytes(uvm, TEST_IOCTL.VA_RANGE_INFO.number, new Uint8Array(4200))).toBe(0);
  });

  it('checks memory, then the global status, then the kind of file', async () => {
    const { number } = IOCTL.VALIDATE_VA_RANGE;
    expect(await device.ioctlBytes(uvm, number, new Uint8Array(23))).toBe(ERRNO.EFAULT);
    expect(await status(uvm, IOCTL.VALIDATE_VA_RANGE, {})).toBe('NV_ERR_ILLEGAL_ACTION');
    expect(await status(uvm, IOCTL.TOOLS_READ_PROCESS_MEMORY, {})).toBe('NV_ERR_ILLEGAL_ACTION');
    m.globalStatus = 0xb;
    expect(await status(uvm, IOCTL.VALIDATE_VA_RANGE, {})).toBe('NV_ERR_ECC_ERROR');
    expect(await status(uvm, IOCTL.INITIALIZE, {})).toBe('NV_ERR_ECC_ERROR');
    expect(await device.ioctlBytes(uvm, number, new Uint8Array(23))).toBe(ERRNO.EFAULT);
    expect(await errno(device.open('tools'))).toBe(ERRNO.EIO);
  });

  it('leaves bytes between the fields and behind the parameters alone', async () => {
    await setUp();
    const bytes = new Uint8Array(50).fill(0x77);
    bytes.set(encode(IOCTL.REGISTER_GPU.params, { gpuUuid: gpus[0] }));
    bytes[18] = 0x66;
    expect(await device.ioctlBytes(uvm, IOCTL.REGISTER_GPU.number, bytes)).toBe(0);
    expect([bytes[18], ...bytes.subarray(36, 42)]).toEqual([0x66, 0x26, 0, 0, 0, 0x77, 0x77]);
  });

  it('says what the model does not answer, and goes on', async () => {
    await setUp();
    await expect(ioctlResult(device, uvm, IOCTL.DISCARD, {})).rejects.toThrow(NotModelledError);
    await expect(ioctlResult(device, uvm, IOCTL.DISCARD, {})).rejects.toThrow('UVM_DISCARD (ioctl 80) is not modelled');
    expect(await status(uvm, IOCTL.TOOLS_FLUSH_EVENTS, {})).toBe('NV_OK');
  });

  it('knows closed files', async () => {
    await device.close(uvm);
    expect(await device.ioctlBytes(uvm, 75, new Uint8Array(8))).toBe(ERRNO.EBADF);
    expect(await errno(device.close(uvm))).toBe(ERRNO.EBADF);
  });
});

describe('the handshake', () => {
  it('takes known flags, again only the same, and no other file', async () => {
    expect(await status(uvm, IOCTL.INITIALIZE, { flags: 4 })).toBe('NV_ERR_INVALID_ARGUMENT');
    expect(await status(uvm, IOCTL.INITIALIZE, { flags: 1 })).toBe('NV_OK');
    expect(await status(uvm, IOCTL.INITIALIZE, { flags: 1 })).toBe('NV_OK');
    expect(await status(uvm, IOCTL.INITIALIZE, { flags: 0 })).toBe('NV_ERR_INVALID_ARGUMENT');
    const other = await device.open('uvm');
    await expect(ioctlResult(device, other, IOCTL.INITIALIZE, {})).rejects.toThrow('a second VA space');
  });

  it('initialises an MM file once', async () => {
    const mm = await device.open('uvm');
    const third = await device.open('uvm');
    const tools = await device.open('tools');
    for (const uvmFd of [99, -1, uvm.fd, tools.fd]) {
      expect(await status(mm, IOCTL.MM_INITIALIZE, { uvmFd })).toBe('NV_ERR_INVALID_ARGUMENT');
    }
    await ioctl(device, uvm, IOCTL.INITIALIZE, {});
    expect(await status(uvm, IOCTL.MM_INITIALIZE, { uvmFd: uvm.fd })).toBe('NV_ERR_IN_USE');
    expect(await status(mm, IOCTL.MM_INITIALIZE, { uvmFd: uvm.fd })).toBe('NV_OK');
    expect(await status(mm, IOCTL.MM_INITIALIZE, { uvmFd: uvm.fd })).toBe('NV_ERR_IN_USE');
    expect(await status(third, IOCTL.MM_INITIALIZE, { uvmFd: uvm.fd })).toBe('NV_ERR_INVALID_STATE');
    expect(await status(third, IOCTL.MM_INITIALIZE, { uvmFd: mm.fd })).toBe('NV_ERR_INVALID_ARGUMENT');
    expect(await status(mm, IOCTL.INITIALIZE, {})).toBe('NV_ERR_INVALID_ARGUMENT');
    expect(await status(mm, IOCTL.TOOLS_FLUSH_EVENTS, {})).toBe('NV_ERR_ILLEGAL_ACTION');
    await device.close(mm);
    expect(await status(third, IOCTL.MM_INITIALIZE, { uvmFd: uvm.fd })).toBe('NV_ERR_PAGE_TABLE_NOT_AVAIL');
    expect(await status(uvm, IOCTL.REGISTER_GPU, { gpuUuid: gpus[0] })).toBe('NV_ERR_PAGE_TABLE_NOT_AVAIL');
  });

  it('needs no MM file in sharing mode', async () => {
    await ioctl(device, uvm, IOCTL.INITIALIZE, { flags: 2 });
    const mm = await device.open('uvm');
    expect(await status(mm, IOCTL.MM_INITIALIZE, { uvmFd: uvm.fd })).toBe('NV_WARN_NOTHING_TO_DO');
    await ioctl(device, uvm, IOCTL.REGISTER_GPU, { gpuUuid: gpus[0] });
    expect(await status(uvm, IOCTL.REGISTER_GPU_VASPACE, { gpuUuid: gpus[0] })).toBe('NV_OK');
  });

  it('registers GPUs, their VA spaces and channels in this order', async () => {
    await ioctl(device, uvm, IOCTL.INITIALIZE, {});
    const gpuUuid = gpus[0];
    const channel = { gpuUuid, hClient: 7, hChannel: 8 };
    expect(await status(uvm, IOCTL.REGISTER_GPU_VASPACE, { gpuUuid })).toBe('NV_ERR_INVALID_DEVICE');
    expect(await status(uvm, IOCTL.REGISTER_GPU, { gpuUuid: new Uint8Array(16) })).toBe('NV_ERR_GPU_UUID_NOT_FOUND');
    expect(await status(uvm, IOCTL.REGISTER_GPU, { gpuUuid: CPU_UUID })).toBe('NV_ERR_GPU_UUID_NOT_FOUND');
    const registered = await ioctl(device, uvm, IOCTL.REGISTER_GPU, { gpuUuid });
    expect(registered).toMatchObject({ gpuUuid, numaEnabled: false, numaNodeId: -1 });
    expect(await status(uvm, IOCTL.REGISTER_GPU, { gpuUuid })).toBe('NV_ERR_INVALID_DEVICE');
    expect(await status(uvm, IOCTL.REGISTER_GPU_VASPACE, { gpuUuid })).toBe('NV_ERR_PAGE_TABLE_NOT_AVAIL');
    const mm = await device.open('uvm');
    await ioctl(device, mm, IOCTL.MM_INITIALIZE, { uvmFd: uvm.fd });
    expect(await status(uvm, IOCTL.REGISTER_CHANNEL, channel)).toBe('NV_ERR_INVALID_DEVICE');
    expect(await status(uvm, IOCTL.REGISTER_GPU_VASPACE, { gpuUuid })).toBe('NV_OK');
    expect(await status(uvm, IOCTL.REGISTER_GPU_VASPACE, { gpuUuid })).toBe('NV_ERR_INVALID_DEVICE');
    expect(await status(uvm, IOCTL.REGISTER_CHANNEL, channel)).toBe('NV_OK');
    expect(await status(uvm, IOCTL.UNREGISTER_CHANNEL, { hClient: 7, hChannel: 9 })).toBe('NV_ERR_INVALID_CHANNEL');
    expect(await status(uvm, IOCTL.UNREGISTER_CHANNEL, channel)).toBe('NV_OK');
    expect(await status(uvm, IOCTL.UNREGISTER_CHANNEL, channel)).toBe('NV_ERR_INVALID_CHANNEL');
    expect(await status(uvm, IOCTL.PAGEABLE_MEM_ACCESS_ON_GPU, { gpuUuid: gpus[1] })).toBe('NV_ERR_INVALID_DEVICE');
    expect(await status(uvm, IOCTL.ENABLE_SYSTEM_WIDE_ATOMICS, { gpuUuid })).toBe('NV_ERR_NOT_SUPPORTED');
  });
});

describe('managed memory', () => {
  it('is mapped, found exactly, and freed by unmapping', async () => {
    await setUp();
    const address = await device.mapManaged(uvm, { length: 4 * MIB });
    expect(Number(address) % (2 * MIB)).toBe(0);
    const range = { base: address, length: 4 * MIB };
    expect(await status(uvm, IOCTL.VALIDATE_VA_RANGE, range)).toBe('NV_OK');
    expect(await status(uvm, IOCTL.VALIDATE_VA_RANGE, { ...range, length: 2 * MIB })).toBe('NV_ERR_INVALID_ADDRESS');
    expect(await status(uvm, IOCTL.FREE, range)).toBe('NV_ERR_INVALID_ADDRESS');
    expect(await errno(device.mapManaged(uvm, { address, length: PAGE }))).toBe(ERRNO.EEXIST);
    await device.unmapManaged(address, 4 * MIB);
    expect(await status(uvm, IOCTL.VALIDATE_VA_RANGE, range)).toBe('NV_ERR_INVALID_ADDRESS');
    expect(await device.mapManaged(uvm, { address, length: PAGE })).toBe(address);
  });

  it('loses the middle of a mapping that is unmapped', async () => {
    await setUp();
    const base = await device.mapManaged(uvm, { length: 4 * MIB });
    const first = pageOfAddress(base);
    cpuTouch(first + 99, true);
    cpuTouch(first + 300, true);
    await device.unmapManaged(base + BigInt(100 * PAGE), 200 * PAGE);
    expect(await status(uvm, IOCTL.VALIDATE_VA_RANGE, { base, length: 100 * PAGE })).toBe('NV_OK');
    expect(vaRangeFind(m.vaSpaces[0], first + 100)).toBeNull();
    expect(vaRangeFind(m.vaSpaces[0], first + 299)).toBeNull();
    expect(vaRangeFind(m.vaSpaces[0], first + 300)?.outerPage).toBe(first + 1024);
    expect(vaBlockFind(m.vaSpaces[0], first + 99)).not.toBeNull();
  });

  it('is refused by the wrong file, process, offset or protection', async () => {
    const length = 2 * MIB;
    const tools = await device.open('tools');
    expect(await errno(device.mapManaged(uvm, { length }))).toBe(ERRNO.EBADFD);
    expect(await errno(device.mapManaged(tools, { length }))).toBe(ERRNO.ENODEV);
    const mm = await setUp();
    const cases: [Promise<unknown>, number][] = [
      [device.mapManaged(mm, { length }), ERRNO.EBADFD],
      [device.mapManaged(uvm, { length, offset: 0n }), ERRNO.EINVAL],
      [device.mapManaged(uvm, { length, shared: false }), ERRNO.EINVAL],
      [device.mapManaged(uvm, { length, writable: false }), ERRNO.EINVAL],
      [device.mapManaged(uvm, { length: 100 }), ERRNO.EINVAL],
      [device.mapManaged(uvm, { length, address: 4097n }), ERRNO.EINVAL],
    ];
    for (const [call, expected] of cases) expect(await errno(call)).toBe(expected);
    const tool = createModelDevice(driver);
    const theirs = await tool.adopt(device.pid, uvm.fd);
    expect(await errno(tool.mapManaged(theirs, { length }))).toBe(ERRNO.EOPNOTSUPP);
    m.globalStatus = 0x60;
    expect(await errno(device.mapManaged(uvm, { length }))).toBe(ERRNO.EIO);
  });

  it('keeps its VA space until the last mapping, file and queue are gone', async () => {
    const mm = await setUp();
    const address = await device.mapManaged(uvm, { length: MIB });
    await device.close(uvm);
    expect(driver.space?.mmState).toBe(1);
    const again = device.adopt(device.pid, uvm.fd);
    expect(await errno(again)).toBe(ERRNO.EBADF);
    await device.close(mm);
    cpuTouch(pageOfAddress(address), true);
    await device.unmapManaged(address, MIB);
    expect(vaRangeFind(m.vaSpaces[0], pageOfAddress(address))).toBeNull();
  });
});

describe('advice', () => {
  let base: bigint;
  beforeEach(async () => {
    await setUp();
    base = await device.mapManaged(uvm, { length: 4 * MIB });
  });

  it('becomes the policy of the range', async () => {
    const range = { requestedBase: base, length: 4 * MIB };
    const policy = () => vaRangeFind(m.vaSpaces[0], pageOfAddress(base))?.policy;
    await ioctl(device, uvm, IOCTL.SET_PREFERRED_LOCATION, { ...range, preferredLocation: gpus[1] });
    await ioctl(device, uvm, IOCTL.SET_ACCESSED_BY, { ...range, uuid: gpus[0] });
    await ioctl(device, uvm, IOCTL.SET_ACCESSED_BY, { ...range, uuid: CPU_UUID });
    await ioctl(device, uvm, IOCTL.ENABLE_READ_DUPLICATION, range);
    expect(policy()).toEqual({ preferredLocation: 2, accessedBy: 3, readDuplication: 1 });
    await ioctl(device, uvm, IOCTL.UNSET_PREFERRED_LOCATION, range);
    await ioctl(device, uvm, IOCTL.UNSET_ACCESSED_BY, { ...range, uuid: CPU_UUID });
    await ioctl(device, uvm, IOCTL.DISABLE_READ_DUPLICATION, range);
    expect(policy()).toEqual({ preferredLocation: -1, accessedBy: 2, readDuplication: 2 });
  });

  it('is checked: the range first, then the processor', async () => {
    const bad = [
      [base, 0n],
      [base + 1n, 4096n],
      [base, 4095n],
      [0n, 4096n],
      [base, BigInt(4 * MIB) + 4096n],
      [base - 4096n, 8192n],
      [2n ** 64n - 4096n, 4096n],
      [base, 2n ** 64n - 4096n],
    ];
    const unknown = new Uint8Array(16);
    for (const [requestedBase, length] of bad) {
      const range = { requestedBase, length };
      expect(await status(uvm, IOCTL.SET_ACCESSED_BY, { ...range, uuid: unknown })).toBe('NV_ERR_INVALID_ADDRESS');
      expect(await status(uvm, IOCTL.ENABLE_READ_DUPLICATION, range)).toBe('NV_ERR_INVALID_ADDRESS');
      expect(await status(uvm, IOCTL.UNSET_PREFERRED_LOCATION, range)).toBe('NV_ERR_INVALID_ADDRESS');
      const home = { ...range, preferredLocation: unknown };
      expect(await status(uvm, IOCTL.SET_PREFERRED_LOCATION, home)).toBe('NV_ERR_INVALID_ADDRESS');
    }
    const range = { requestedBase: base, length: PAGE };
    expect(await status(uvm, IOCTL.SET_ACCESSED_BY, { ...range, uuid: unknown })).toBe('NV_ERR_INVALID_DEVICE');
    const home = { ...range, preferredLocation: unknown };
    expect(await status(uvm, IOCTL.SET_PREFERRED_LOCATION, home)).toBe('NV_ERR_INVALID_DEVICE');
    const cpu = { ...range, preferredLocation: CPU_UUID };
    for (const [node, expected] of [
      [-1, 'NV_OK'],
      [0, 'NV_OK'],
      [1, 'NV_ERR_INVALID_ARGUMENT'],
    ] as const) {
      expect(await status(uvm, IOCTL.SET_PREFERRED_LOCATION, { ...cpu, preferredCpuNumaNode: node })).toBe(expected);
    }
  });

  it('moves memory by UVM_MIGRATE', async () => {
    const page = pageOfAddress(base);
    cpuTouch(page, true);
    const to = { base, length: 2 * MIB, destinationUuid: gpus[0], cpuNumaNode: -1 };
    expect(await status(uvm, IOCTL.MIGRATE, to)).toBe('NV_OK');
    expect((vaBlockFind(m.vaSpaces[0], page)?.resident ?? 0) & 2).toBe(2);
    const cases: [Record<string, unknown>, string][] = [
      [{ length: 0 }, 'NV_ERR_INVALID_ADDRESS'],
      [{ flags: 8, base: 1n }, 'NV_ERR_INVALID_ADDRESS'],
      [{ flags: 8 }, 'NV_ERR_INVALID_ARGUMENT'],
      [{ flags: 2 }, 'NV_ERR_INVALID_ARGUMENT'],
      [{ semaphoreAddress: 8n }, 'NV_ERR_INVALID_ARGUMENT'],
      [{ destinationUuid: new Uint8Array(16), length: 64 * MIB }, 'NV_ERR_INVALID_DEVICE'],
      [{ destinationUuid: CPU_UUID, cpuNumaNode: 3 }, 'NV_ERR_INVALID_ARGUMENT'],
      [{ length: 64 * MIB }, 'NV_ERR_INVALID_ADDRESS'],
    ];
    for (const [change, expected] of cases) {
      expect(await status(uvm, IOCTL.MIGRATE, { ...to, ...change })).toBe(expected);
    }
    await expect(ioctlResult(device, uvm, IOCTL.MIGRATE, { ...to, flags: 1 })).rejects.toThrow(NotModelledError);
  });

  it('forms range groups', async () => {
    const ids: bigint[] = [];
    for (let i = 0; i < 2; i++) ids.push((await ioctl(device, uvm, IOCTL.CREATE_RANGE_GROUP, {})).rangeGroupId);
    expect(ids).toEqual([1n, 2n]);
    const set = { rangeGroupId: 1n, requestedBase: base, length: 2 * MIB };
    expect(await status(uvm, IOCTL.SET_RANGE_GROUP, { ...set, rangeGroupId: 9n })).toBe('NV_ERR_OBJECT_NOT_FOUND');
    expect(await status(uvm, IOCTL.SET_RANGE_GROUP, { ...set, length: 100 })).toBe('NV_ERR_INVALID_ADDRESS');
    expect(await status(uvm, IOCTL.SET_RANGE_GROUP, set)).toBe('NV_OK');
    const one = { rangeGroupIds: [1n], numGroupIds: 1 };
    const prevent = IOCTL.PREVENT_MIGRATION_RANGE_GROUPS;
    expect(await status(uvm, prevent, { ...one, numGroupIds: 0 })).toBe('NV_ERR_INVALID_ARGUMENT');
    expect(await status(uvm, prevent, { ...one, numGroupIds: 33 })).toBe('NV_ERR_INVALID_ARGUMENT');
    expect(await status(uvm, prevent, { rangeGroupIds: [7n], numGroupIds: 1 })).toBe('NV_ERR_OBJECT_NOT_FOUND');
    expect(await status(uvm, prevent, one)).toBe('NV_ERR_INVALID_ARGUMENT');
    expect(m.vaSpaces[0].rangeGroups[0].allowMigration).toBe(false);
    expect(await status(uvm, IOCTL.ALLOW_MIGRATION_RANGE_GROUPS, one)).toBe('NV_OK');
    expect(m.vaSpaces[0].rangeGroups[0].allowMigration).toBe(true);
    await ioctl(device, uvm, IOCTL.SET_PREFERRED_LOCATION, {
      requestedBase: base,
      length: 2 * MIB,
      preferredLocation: CPU_UUID,
    });
    expect(await status(uvm, prevent, one)).toBe('NV_OK');
    expect(await status(uvm, IOCTL.DESTROY_RANGE_GROUP, { rangeGroupId: 1n })).toBe('NV_OK');
    expect(await status(uvm, IOCTL.DESTROY_RANGE_GROUP, { rangeGroupId: 1n })).toBe('NV_ERR_OBJECT_NOT_FOUND');
  });
});

describe('the table of processors', () => {
  it('has registered GPUs at their numbers', async () => {
    await ioctl(device, uvm, IOCTL.INITIALIZE, {});
    await ioctl(device, uvm, IOCTL.REGISTER_GPU, { gpuUuid: gpus[1] });
    const memory = await device.allocate(2 * PAGE);
    const filled = (bytes: Uint8Array) =>
      Array.from({ length: bytes.length / 16 }, (_, i) => i).filter((i) =>
        bytes.subarray(i * 16, i * 16 + 16).some((byte) => byte !== 0),
      );
    memory.bytes().fill(0xff);
    await ioctl(device, uvm, IOCTL.TOOLS_GET_PROCESSOR_UUID_TABLE_V2, { tablePtr: memory.address });
    const v2 = memory.bytes().slice(0, 257 * 16);
    expect(filled(v2)).toEqual([0, 9]);
    expect(v2.slice(0, 16)).toEqual(CPU_UUID);
    expect(v2.slice(144, 160)).toEqual(gpus[1]);
    expect(memory.bytes()[257 * 16]).toBe(0xff);
    await ioctl(device, uvm, IOCTL.REGISTER_GPU, { gpuUuid: gpus[0] });
    memory.bytes().fill(0xff);
    await ioctl(device, uvm, IOCTL.TOOLS_GET_PROCESSOR_UUID_TABLE, { tablePtr: memory.address + 1n });
    const v1 = memory.bytes().slice(1, 1 + 33 * 16);
    expect(filled(v1)).toEqual([0, 1, 2]);
    expect([memory.bytes()[0], memory.bytes()[1 + 33 * 16]]).toEqual([0xff, 0xff]);
    for (const tablePtr of [0n, memory.address + BigInt(2 * PAGE), memory.address + BigInt(PAGE) + 4000n]) {
      const call = IOCTL.TOOLS_GET_PROCESSOR_UUID_TABLE_V2;
      expect(await status(uvm, call, { tablePtr })).toBe('NV_ERR_INVALID_ADDRESS');
    }
    await memory.close();
    expect(() => memory.bytes()).toThrow('given back');
  });
});

describe('an event queue', () => {
  it('is checked: file, size, ring, control buffer, once', async () => {
    const tools = await device.open('tools');
    const memory = await device.allocate(4 * PAGE);
    const good = {
      queueBuffer: memory.address,
      queueBufferSize: 32,
      controlBuffer: memory.address + BigInt(3 * PAGE),
      uvmFd: uvm.fd,
    };
    const call = IOCTL.TOOLS_INIT_EVENT_TRACKER_V2;
    expect(await status(tools, call, { ...good, uvmFd: 77 })).toBe('NV_ERR_INSUFFICIENT_PERMISSIONS');
    expect(await status(tools, call, { ...good, uvmFd: tools.fd })).toBe('NV_ERR_INSUFFICIENT_PERMISSIONS');
    expect(await status(tools, call, good)).toBe('NV_ERR_ILLEGAL_ACTION');
    expect(await status(tools, IOCTL.TOOLS_EVENT_QUEUE_ENABLE_EVENTS, { eventTypeFlags: 2 })).toBe(
      'NV_ERR_INVALID_ARGUMENT',
    );
    await setUp();
    const managed = await device.mapManaged(uvm, { length: MIB });
    const cases: [Record<string, unknown>, string][] = [
      [{ queueBufferSize: 2n ** 32n }, 'NV_ERR_INVALID_ARGUMENT'],
      [{ queueBufferSize: 1 }, 'NV_ERR_INVALID_ARGUMENT'],
      [{ queueBufferSize: 12 }, 'NV_ERR_INVALID_ARGUMENT'],
      [{ queueBuffer: memory.address + 8n }, 'NV_ERR_INVALID_ADDRESS'],
      [{ queueBuffer: 0n }, 'NV_ERR_INVALID_ADDRESS'],
      [{ queueBuffer: 4096n }, 'NV_ERR_INVALID_ARGUMENT'],
      [{ queueBuffer: managed }, 'NV_ERR_INVALID_ARGUMENT'],
      [{ queueBufferSize: 256 }, 'NV_ERR_INVALID_ARGUMENT'],
      [{ controlBuffer: memory.address + 16n }, 'NV_ERR_INVALID_ADDRESS'],
      [{ controlBuffer: memory.address + BigInt(4 * PAGE) }, 'NV_ERR_INVALID_ARGUMENT'],
    ];
    for (const [change, expected] of cases) {
      expect(await status(tools, call, { ...good, ...change })).toBe(expected);
    }
    await expect(ioctlResult(device, tools, call, { ...good, queueBufferSize: 0 })).rejects.toThrow('counters');
    expect(await status(tools, call, good)).toBe('NV_OK');
    expect(await status(tools, call, good)).toBe('NV_ERR_INVALID_ARGUMENT');
    for (const [flags, expected] of [
      [0x7ffen, 'NV_OK'],
      [1n, 'NV_ERR_INVALID_ARGUMENT'],
      [1n << 15n, 'NV_ERR_INVALID_ARGUMENT'],
      [1n << 63n, 'NV_ERR_INVALID_ARGUMENT'],
    ] as const) {
      expect(await status(tools, IOCTL.TOOLS_EVENT_QUEUE_ENABLE_EVENTS, { eventTypeFlags: flags })).toBe(expected);
    }
  });

  it('gets the events of enabled types, from the moment on in which they were enabled', async () => {
    await setUp();
    const base = await device.mapManaged(uvm, { length: 2 * MIB });
    const page = pageOfAddress(base);
    const source = await openEventSource(device, uvm, { entries: 64 });
    cpuTouch(page, true);
    await enableEvents(source, ['cpuFault']);
    cpuTouch(page + 100, true);
    await enableEvents(source, ['gpuFault', 'replay', 'migration']);
    startProgram(m, [[page + 100, ACCESS_READ]]);
    runMachine(m);
    await flushEvents(source);
    cpuTouch(page + 400, true);
    await disableEvents(source, ['cpuFault']);
    cpuTouch(page + 200, true);
    deliverEvents(driver);
    const columns = createEventColumns();
    const { entries, dropped } = drainEvents(source, (span) => appendEvents(columns, span, source.entryBytes));
    const types = [...columns.type.subarray(0, columns.count)];
    expect(entries).toBe(types.length);
    expect(dropped).toEqual([]);
    expect(types.filter((type) => type === EVENT_TYPE.cpuFault)).toHaveLength(2);
    expect(types.slice(0, 2)).toEqual([EVENT_TYPE.cpuFault, EVENT_TYPE.gpuFault]);
    expect(new Set(types)).toEqual(
      new Set([EVENT_TYPE.cpuFault, EVENT_TYPE.gpuFault, EVENT_TYPE.replay, EVENT_TYPE.migration]),
    );
    expect([columns.page[0], columns.page[1]]).toEqual([page + 100, page + 100]);
    expect(columns.src[1]).toBe(1);
    await closeEventSource(source);
    expect(driver.trackers).toEqual([]);
  });

  it('drops and counts what finds it full', async () => {
    await setUp();
    const base = await device.mapManaged(uvm, { length: 2 * MIB });
    const page = pageOfAddress(base);
    const source = await openEventSource(device, uvm, { entries: 2 });
    await enableEvents(source, ['cpuFault']);
    // 16 pages apart, so that no fault brings another one's page.
    for (let i = 0; i < 5; i++) cpuTouch(page + i * 100, true);
    deliverEvents(driver);
    const pages: number[] = [];
    const columns = createEventColumns();
    const drained = drainEvents(source, (span) => appendEvents(columns, span, source.entryBytes));
    for (let i = 0; i < columns.count; i++) pages.push(columns.page[i]);
    expect(drained).toEqual({ entries: 1, dropped: [[EVENT_TYPE.cpuFault, 4]] });
    expect(pages).toEqual([page]);
  });

  it('wakes its poller at the threshold, or when the time is over', async () => {
    await setUp();
    const base = await device.mapManaged(uvm, { length: 4 * MIB });
    const page = pageOfAddress(base);
    cpuTouch(page, true);
    const source = await openEventSource(device, uvm, { entries: 16, threshold: 1 });
    await enableEvents(source, ['gpuFault']);
    const before = m.k.now;
    expect(await device.poll(source.tools, 2)).toEqual({ readable: false, error: false });
    expect(m.k.now).toBe(before + 2_000_000);
    startProgram(m, [[page, ACCESS_WRITE]]);
    expect(await device.poll(source.tools, 2)).toEqual({ readable: true, error: false });
    expect(m.k.now).toBeLessThan(before + 4_000_000);
    expect(drainEvents(source, () => undefined).entries).toBe(1);
    expect(await device.poll(source.tools, 0)).toEqual({ readable: false, error: false });
    const other = await device.open('tools');
    expect(await device.poll(other, 1)).toEqual({ readable: false, error: true });
  });

  it('may belong to another process that adopts the file, and both versions listen side by side', async () => {
    await setUp();
    const tool = createModelDevice(driver);
    const theirs = await tool.adopt(device.pid, uvm.fd);
    expect(await errno(tool.adopt(99, 3))).toBe(ERRNO.ESRCH);
    expect(await errno(tool.adopt(device.pid, 99))).toBe(ERRNO.EBADF);
    const v1 = await openEventSource(tool, theirs, { entries: 256, version: 1 });
    const v2 = await openEventSource(tool, theirs, { entries: 256 });
    for (const source of [v1, v2]) await enableEvents(source, RECORDED_EVENTS);
    const base = await device.mapManaged(uvm, { length: 2 * MIB });
    const page = pageOfAddress(base);
    cpuTouch(page, true);
    startProgram(m, [
      [page, ACCESS_READ],
      [page + 300, ACCESS_WRITE],
    ]);
    runMachine(m);
    await flushEvents(v2);
    const [c1, c2] = [createEventColumns(), createEventColumns()];
    drainEvents(v1, (span) => appendEvents(c1, span, v1.entryBytes));
    drainEvents(v2, (span) => appendEvents(c2, span, v2.entryBytes));
    expect(c1.count).toBeGreaterThan(4);
    expect(c2.count).toBe(c1.count);
    for (const key of [
      'type',
      'access',
      'cause',
      'faultType',
      'page',
      'bytes',
      'time',
      'end',
      'gpuTime',
      'batch',
    ] as const) {
      expect([...c2[key]]).toEqual([...c1[key]]);
    }
    expect([...c2.src].map((id) => (id === 0 ? 0 : (id - 1) / 8 + 1))).toEqual([...c1.src]);
    await device.close(uvm);
    expect(await status(theirs, IOCTL.TOOLS_FLUSH_EVENTS, {}, tool)).toBe('NV_OK');
  });

  it('leaves nothing behind when it cannot be opened', async () => {
    await expect(openEventSource(device, uvm, { entries: 64 })).rejects.toThrow('NV_ERR_ILLEGAL_ACTION (0x16)');
    await setUp();
    await expect(openEventSource(device, uvm, { entries: 3 })).rejects.toThrow('NV_ERR_INVALID_ARGUMENT');
    await expect(openEventSource(device, uvm, { entries: 0 })).rejects.toThrow('entries of an event queue: 0');
    expect(driver.processes[0].areas).toEqual([]);
    expect(driver.trackers).toEqual([]);
  });

  it('takes injected entries where the tests are built in', async () => {
    m = createFaultMachine({ parameters: { uvm_enable_builtin_tests: 1 } });
    driver = createModelDriver(m);
    device = createModelDevice(driver);
    uvm = await device.open('uvm');
    gpus = [driver.uuids[1]];
    await setUp();
    const v1 = await openEventSource(device, uvm, { entries: 8, version: 1 });
    const v2 = await openEventSource(device, uvm, { entries: 8 });
    for (const source of [v1, v2]) await enableEvents(source, ['testAccessCounter']);
    const entry = [63, ...new Array<number>(71).fill(5)];
    expect(await status(uvm, TEST_IOCTL.INJECT_TOOLS_EVENT_V2, { entry, count: 3 })).toBe('NV_OK');
    expect(await status(uvm, TEST_IOCTL.INJECT_TOOLS_EVENT_V2, { entry: [64], count: 3 })).toBe(
      'NV_ERR_INVALID_ARGUMENT',
    );
    expect(await status(uvm, TEST_IOCTL.INJECT_TOOLS_EVENT_V2, { entry: [62], count: 1 })).toBe('NV_OK');
    const got: number[][] = [];
    expect(drainEvents(v2, (span) => got.push([...span])).entries).toBe(3);
    expect(got.flat()).toEqual([...entry, ...entry, ...entry]);
    expect(drainEvents(v1, () => undefined).entries).toBe(0);
  });
});
