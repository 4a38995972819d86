/** A program over the driver of this machine: CUDA's own VA space in this process, and kernels that touch pages. */
import { type Attachment, processorTable } from '../../device/attach.ts';
import type { Cuda } from '../../device/linux/cuda.ts';
import { startCuda } from '../../device/linux/cuda.ts';
import { TOUCH_ATOMIC, TOUCH_READ, TOUCH_WRITE } from '../../device/linux/kernels.ts';
import { createLinuxDevice, type LinuxDevice } from '../../device/linux/linux_device.ts';
import type { ManagedChoice } from '../../device/linux/managed_limit.ts';
import { readManagedMappings } from '../../device/linux/proc.ts';
import { AccessError, type AccessRequest, checkAccess, gpuIndex, type Program } from '../../device/program.ts';
import { managedMappingOf } from '../memory/managed_range.ts';
import { attachToProcess } from '../target.ts';
import { namedProcessors } from './live_session.ts';

const PAGE = 4096;
const MODE = { read: TOUCH_READ, write: TOUCH_WRITE, atomic: TOUCH_ATOMIC } as const;

/** One word, touched by this thread. The view lives for this touch alone, so that nothing is left of freed memory. */
function cpuTouch(device: LinuxDevice, address: bigint, { do: kind, value = 0 }: AccessRequest): number {
  const words = new Uint32Array(device.libc.view(address, PAGE), 0, 1);
  if (kind === 'read') return words[0];
  if (kind === 'write') {
    words[0] = value;
    return value;
  }
  // Adding by a load and a compare-and-exchange, as V8 does, would fault as a read first.
  const old = Atomics.exchange(words, 0, 0);
  words[0] = old + 1;
  return old;
}

/** Memory of one access on the GPU: the list of pages and the sum. */
function gpuTouches(device: LinuxDevice, cuda: Cuda, gpu: number, request: AccessRequest): number {
  const { pages, address, value = 0 } = request;
  const bytes = Math.max(PAGE, Math.ceil((pages.length * 4) / PAGE) * PAGE);
  cuda.use(gpu);
  const host = cuda.hostAlloc(bytes);
  const list = cuda.alloc(bytes);
  const out = cuda.alloc(PAGE);
  try {
    const words = new Uint32Array(device.libc.view(host, bytes));
    words.set(pages);
    cuda.memcpy(list, host, bytes);
    const counts = [{ u32: pages.length }, { u32: MODE[request.do] }];
    cuda.launch('touch', 1, 1, [{ u64: list }, ...counts, { u64: address }, { u32: value }, { u32: 0 }, { u64: out }]);
    cuda.synchronize();
    cuda.memcpy(host, out, 4);
    return words[0];
  } finally {
    cuda.free(out);
    cuda.free(list);
    cuda.hostFree(host);
  }
}

/** Starts CUDA in this process. Throws UnavailableError where there is no GPU. */
export async function createLinuxProgram(choice: ManagedChoice = {}): Promise<Program> {
  const device = await createLinuxDevice();
  const cuda = await startCuda(choice);
  // Registers all GPUs with the VA space.
  for (const { ordinal } of [...cuda.devices].reverse()) cuda.use(ordinal);
  const attachment: Attachment = await attachToProcess(device, device.pid);
  const { processors } = await processorTable(device, attachment.uvm);
  const gpus = namedProcessors(processors, cuda).filter(({ word }) => word !== 'cpu');
  return {
    device,
    uvm: attachment.uvm,
    gpus,
    allocateManaged: async (bytes) => cuda.allocManaged(Math.ceil(bytes / PAGE) * PAGE),
    freeManaged: async (address) => cuda.freeManaged(address),
    access: async (request) => {
      checkAccess(request);
      const gpu = gpuIndex(request.on, gpus);
      const most = request.pages.reduce((highest, page) => Math.max(highest, page), 0);
      try {
        // Here a wrong address would end the process, or the context, rather than the access.
        const span = BigInt((most + 1) * PAGE);
        managedMappingOf(readManagedMappings(device.pid), request.address, span, device.pid);
      } catch (error) {
        throw new AccessError((error as Error).message);
      }
      if (gpu >= 0) return gpuTouches(device, cuda, Number(gpus[gpu].word.slice(3)), request);
      let sum = 0;
      for (const page of request.pages) sum += cpuTouch(device, request.address + BigInt(page * PAGE), request);
      return sum >>> 0;
    },
    close: async () => {
      await device.close(attachment.uvm);
      cuda.close();
    },
  };
}
