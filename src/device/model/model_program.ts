/** A program over the model: the handshake of libcuda by ioctls, and accesses as threads of the model. */
import { userFaultIn } from '../../model/copy_routine/user_memory.ts';
import { contentsRead, contentsWrite } from '../../model/gpu/contents.ts';
import { hostRunUntil } from '../../model/gpu/host.ts';
import {
  CLIENT_CANCELLED,
  CLIENT_PARKED,
  clientsAddSlot,
  clientsIssue,
  clientsOutcome,
  clientsSetThread,
} from '../../model/gpu/sm.ts';
import { BLOCKED } from '../../model/kernel/thread.ts';
import type { Model } from '../../model/state.ts';
import { CPU_ID, INVALID_ID } from '../../model/uvm/processors.ts';
import { ACCESS_ATOMIC_WEAK, ACCESS_READ, ACCESS_WRITE } from '../../model/uvm/va_block_types.ts';
import { IOCTL } from '../abi/ioctls.ts';
import { pageOfAddress } from '../abi/layout.ts';
import { processorTable } from '../attach.ts';
import { ioctl } from '../device.ts';
import { AccessError, type AccessRequest, checkAccess, gpuIndex, type Program } from '../program.ts';
import { createModelDevice, deliverEvents, type ModelDriver, runThread } from './model_device.ts';

const PAGE = 4096;

function fatal(on: string, page: number): never {
  throw new AccessError(
    `the access of ${on} to page 0x${page.toString(16)} is a fatal fault: no managed memory is there`,
  );
}

/** What an access does to the word at the start of a page, and what it saw; 0 in a model without contents. */
function touchWord(m: Model, processor: number, page: number, { do: kind, value = 0 }: AccessRequest): number {
  if (m.contents === null) return kind === 'write' ? value : 0;
  const found = contentsRead(m.contents, processor, page, 0);
  if (kind === 'read') return found;
  const stored = kind === 'write' ? value : found + 1;
  contentsWrite(m.contents, processor, page, 0, stored >>> 0);
  return kind === 'write' ? value : found;
}

function* cpuThread(m: Model, request: AccessRequest): Generator<number, number, void> {
  const base = pageOfAddress(request.address);
  let sum = 0;
  for (const at of request.pages) {
    const page = base + at;
    const processor = yield* userFaultIn(m, m.vaSpaces[0], page, request.do !== 'read');
    if (processor === INVALID_ID) fatal('cpu', page);
    m.k.now += m.cost.cpuAccess;
    sum = (sum + touchWord(m, processor, page, request)) >>> 0;
    yield m.k.now;
  }
  return sum;
}

const ACCESS = { read: ACCESS_READ, write: ACCESS_WRITE, atomic: ACCESS_ATOMIC_WEAK } as const;

function* gpuThread(m: Model, gpu: number, slot: number, request: AccessRequest): Generator<number, number, void> {
  const base = pageOfAddress(request.address);
  const { mmu } = m.gpus[gpu];
  const extra = { read: 0, write: m.cost.gpuWriteExtra, atomic: m.cost.gpuAtomicExtra }[request.do];
  let sum = 0;
  m.k.now += m.cost.kernelLaunch;
  clientsSetThread(m, gpu, slot, m.k.currentThread);
  for (const at of request.pages) {
    const page = base + at;
    yield m.k.now;
    hostRunUntil(m, gpu, m.k.now);
    if (!clientsIssue(m, gpu, slot, page, ACCESS[request.do])) {
      let outcome = clientsOutcome(m, gpu, slot);
      while (outcome === CLIENT_PARKED) {
        yield BLOCKED;
        outcome = clientsOutcome(m, gpu, slot);
      }
      if (outcome === CLIENT_CANCELLED) fatal(request.on, page);
    }
    m.k.now += (mmu.target === CPU_ID ? m.cost.gpuAccessRemote : m.cost.gpuAccessHit) + extra;
    sum = (sum + touchWord(m, mmu.target, page, request)) >>> 0;
  }
  return sum;
}

/**
 * Makes the driver's first process the program that owns the model's VA space, with all GPUs registered. Words read are
 * 0 over a model without contents.
 */
export async function createModelProgram(driver: ModelDriver): Promise<Program> {
  const { m } = driver;
  const device = createModelDevice(driver);
  const uvm = await device.open('uvm');
  await ioctl(device, uvm, IOCTL.INITIALIZE, { flags: 0 });
  const mm = await device.open('uvm');
  await ioctl(device, mm, IOCTL.MM_INITIALIZE, { uvmFd: uvm.fd });
  for (const gpuUuid of driver.uuids.slice(1)) {
    await ioctl(device, uvm, IOCTL.REGISTER_GPU, { gpuUuid });
    await ioctl(device, uvm, IOCTL.REGISTER_GPU_VASPACE, { gpuUuid });
  }
  const { processors } = await processorTable(device, uvm);
  const gpus = processors.filter(({ word }) => word !== 'cpu');
  const slots = m.gpus.map((gpu) => clientsAddSlot(m, gpu.index, 0, 0, 0, INVALID_ID));
  const allocations = new Map<bigint, number>();
  return {
    device,
    uvm,
    gpus,
    allocateManaged: async (bytes) => {
      const length = Math.ceil(bytes / PAGE) * PAGE;
      const address = await device.mapManaged(uvm, { length });
      allocations.set(address, length);
      return address;
    },
    freeManaged: async (address) => {
      const length = allocations.get(address);
      if (length === undefined) throw new RangeError(`no managed memory of this program at 0x${address.toString(16)}`);
      allocations.delete(address);
      await device.unmapManaged(address, length);
    },
    access: async (request) => {
      checkAccess(request);
      const gpu = gpuIndex(request.on, gpus);
      const sum = runThread(m, gpu < 0 ? cpuThread(m, request) : gpuThread(m, gpu, slots[gpu], request));
      deliverEvents(driver);
      return sum;
    },
    close: async () => {
      for (const [address, length] of allocations) await device.unmapManaged(address, length);
      allocations.clear();
      await device.close(mm);
      await device.close(uvm);
    },
  };
}
