/**
 * Models UVM_TOOLS_READ_PROCESS_MEMORY (ioctl 62) and UVM_TOOLS_WRITE_PROCESS_MEMORY (63): tools_access_process_memory
 * and tools_access_va_block (uvm_tools.c), uvm_va_block_read_to_cpu, uvm_va_block_write_from_cpu,
 * va_block_read_gpu_to_cpu and va_block_write_cpu_to_gpu (uvm_va_block.c), driver 580.105.08. One page at a time,
 * through a page of the kernel's own, waiting under the block's lock.
 *
 * Left out: HMM, ECC, running out of memory for the kernel's page, and the place of a GPU's
 * 2 MiB chunk in the order of eviction, which a write renews.
 */
import { MASK_WORDS, maskSet } from '../../base/page_mask.ts';
import { PAGE_SIZE } from '../../base/units.ts';
import { contentsCopyBytes, contentsForget, contentsPutBytes, contentsWords } from '../gpu/contents.ts';
import {
  LOCK_ORDER_MMAP_LOCK,
  LOCK_ORDER_VA_BLOCK,
  LOCK_ORDER_VA_SPACE,
  lockAcquire,
  lockRelease,
} from '../kernel/lock.ts';
import { mmAllocKernelPages, mmUnpin } from '../kernel/mm.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_CPU_TO_GPU, CHANNEL_TYPE_GPU_TO_CPU } from './channel.ts';
import { gpuCheckEccError } from './gpu.ts';
import { CPU_ID, INVALID_ID } from './processors.ts';
import { PURPOSE_TOOLS, pushBeginAcquire, pushCopyIn, pushCopyOut, pushEndAndWait } from './push.ts';
import { NV_ERR_INVALID_ADDRESS, NV_ERR_INVALID_ARGUMENT, NV_OK } from './status.ts';
import { trackerWait } from './tracker.ts';
import { createVaBlockContext, pageClosestResident } from './va_block.ts';
import { secureReadToCpu, secureWriteFromCpu } from './va_block_conf_computing.ts';
import { vaBlockMakeResident } from './va_block_copy.ts';
import { CAUSE_API_TOOLS, type VaBlock } from './va_block_types.ts';
import type { VaSpace } from './va_range_types.ts';
import { vaBlockFindCreate } from './va_space.ts';

/** What an access came to. */
export interface ProcessMemoryAccess {
  status: number;
  /** Bytes before the page that failed. */
  bytes: number;
}

/**
 * The caller's end: moves `part` to byte `at` of the caller's buffer (a read), or fills it from there (a write), with
 * no lock held. False when the buffer is no memory. May sleep.
 */
export type UserCopy = (at: number, part: Uint8Array) => Generator<number, boolean, void>;

/** The part of one page that an access moves, and the kernel's page that it goes through. */
interface Step {
  write: boolean;
  /** Page in the block, first byte in it. */
  page: number;
  offset: number;
  part: Uint8Array;
  /** Slot of Kernel.pins. */
  stage: number;
}

/** uvm_va_block_read_to_cpu; the block is locked. Without contents `part` gets zeros. */
function blockReadToCpu(m: Model, block: VaBlock, step: Step): number {
  const { page, offset, part, stage } = step;
  part.fill(0);
  const source = pageClosestResident(block, page, CPU_ID);
  if (source === INVALID_ID) return NV_OK;
  let holder = block.startPage + page;
  let first = offset;
  let status: number;
  if (source === CPU_ID) {
    status = trackerWait(m, block.tracker);
  } else if (m.res.confComputing !== null) {
    return secureReadToCpu(m, source, holder, offset, part, block.tracker);
  } else {
    const push = pushBeginAcquire(m, source - 1, CHANNEL_TYPE_GPU_TO_CPU, PURPOSE_TOOLS, block.tracker);
    if (push.status !== NV_OK) return push.status;
    pushCopyOut(m, push, source, holder, offset, stage, 0, part.length);
    status = pushEndAndWait(m, push);
    holder = m.k.pins[stage].frames[0];
    first = 0;
  }
  if (status !== NV_OK || m.contents === null) return status;
  const words = contentsWords(m.contents, CPU_ID, holder);
  part.set(new Uint8Array(words.buffer, first, part.length));
  return NV_OK;
}

/**
 * uvm_va_block_write_from_cpu; the block is locked. Ends read duplication of the page; a page that lives nowhere comes
 * to life in the CPU's memory, mapped by nobody.
 */
function blockWriteFromCpu(m: Model, block: VaBlock, step: Step): number {
  const { page, offset, part, stage } = step;
  const closest = pageClosestResident(block, page, CPU_ID);
  const target = closest === INVALID_ID ? CPU_ID : closest;
  const only = new Uint32Array(MASK_WORDS);
  maskSet(only, 0, page);
  const moved = vaBlockMakeResident(m, block, createVaBlockContext(), target, only, 0, CAUSE_API_TOOLS);
  if (moved !== NV_OK) return moved;
  const absolute = block.startPage + page;
  if (target !== CPU_ID && m.res.confComputing !== null) {
    return secureWriteFromCpu(m, target, absolute, offset, part, block.tracker);
  }
  const [frame] = m.k.pins[stage].frames;
  if (m.contents !== null) contentsPutBytes(m.contents, CPU_ID, frame, 0, part);
  if (target !== CPU_ID) {
    const push = pushBeginAcquire(m, target - 1, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TOOLS, block.tracker);
    if (push.status !== NV_OK) return push.status;
    pushCopyIn(m, push, target, absolute, offset, stage, 0, part.length);
    return pushEndAndWait(m, push);
  }
  const status = trackerWait(m, block.tracker);
  if (status === NV_OK && m.contents !== null) {
    contentsCopyBytes(m.contents, CPU_ID, absolute, offset, CPU_ID, frame, 0, part.length);
  }
  return status;
}

/** tools_access_va_block, with the locks and the block of an absolute page. */
function accessPage(m: Model, space: VaSpace, absolute: number, step: Step): number {
  let status = NV_ERR_INVALID_ADDRESS;
  lockAcquire(m, LOCK_ORDER_MMAP_LOCK, space.id, true);
  lockAcquire(m, LOCK_ORDER_VA_SPACE, space.id, true);
  const block = vaBlockFindCreate(m, space, absolute);
  if (block !== null) {
    step.page = absolute - block.startPage;
    lockAcquire(m, LOCK_ORDER_VA_BLOCK, block.id, false);
    if (m.k.now < block.lockFreeAt) m.k.now = block.lockFreeAt;
    status = step.write ? blockWriteFromCpu(m, block, step) : blockReadToCpu(m, block, step);
    block.lockFreeAt = m.k.now;
    lockRelease(m, LOCK_ORDER_VA_BLOCK, block.id, false);
  }
  lockRelease(m, LOCK_ORDER_VA_SPACE, space.id, true);
  lockRelease(m, LOCK_ORDER_MMAP_LOCK, space.id, true);
  return status;
}

/**
 * tools_access_process_memory: `size` bytes of a VA space, from byte `offset` of `page` on, page by page. A read finds
 * or creates blocks and changes nothing else but the channels.
 */
export function* toolsAccessProcessMemory(
  m: Model,
  space: VaSpace,
  page: number,
  offset: number,
  size: number,
  write: boolean,
  user: UserCopy,
): Generator<number, ProcessMemoryAccess, void> {
  const stage = mmAllocKernelPages(m.k, 1);
  const kernelPage = new Uint8Array(PAGE_SIZE);
  let status = NV_OK;
  let bytes = 0;
  while (bytes < size) {
    const at = offset + bytes;
    const inPage = at % PAGE_SIZE;
    const part = kernelPage.subarray(0, Math.min(size - bytes, PAGE_SIZE - inPage));
    if (write && !(yield* user(bytes, part))) status = NV_ERR_INVALID_ARGUMENT;
    if (status === NV_OK) {
      const absolute = page + Math.floor(at / PAGE_SIZE);
      status = accessPage(m, space, absolute, { write, page: 0, offset: inPage, part, stage });
      for (let i = 0; i < m.gpus.length && status === NV_OK; i++) status = gpuCheckEccError(m, m.gpus[i]);
    }
    if (status === NV_OK && !write && !(yield* user(bytes, part))) status = NV_ERR_INVALID_ARGUMENT;
    if (status !== NV_OK) break;
    bytes += part.length;
  }
  mmUnpin(m.k, stage, (frame) => {
    if (m.contents !== null) contentsForget(m.contents, CPU_ID, frame, 1);
  });
  return { status, bytes };
}

/** Reads `out.length` bytes into memory of the kernel's. */
export function toolsReadProcessMemory(
  m: Model,
  space: VaSpace,
  page: number,
  offset: number,
  out: Uint8Array,
): Generator<number, ProcessMemoryAccess, void> {
  // biome-ignore lint/correctness/useYield: a buffer that never sleeps
  return toolsAccessProcessMemory(m, space, page, offset, out.length, false, function* (at, part) {
    out.set(part, at);
    return true;
  });
}
