/**
 * Models the read half of UVM_TOOLS_READ_PROCESS_MEMORY (ioctl 62): tools_access_process_memory and
 * tools_access_va_block (uvm_tools.c), uvm_va_block_read_to_cpu and va_block_read_gpu_to_cpu (uvm_va_block.c), driver
 * 580.105.08. One page at a time, through a page of the kernel's own, waiting under the block's lock.
 *
 * Left out: the write half (63), HMM, Confidential Computing, ECC, running out of memory. The caller's buffer is the
 * byte array handed in: the copy to user is not modelled.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { contentsForget, contentsWords } from '../gpu/contents.ts';
import {
  LOCK_ORDER_MMAP_LOCK,
  LOCK_ORDER_VA_BLOCK,
  LOCK_ORDER_VA_SPACE,
  lockAcquire,
  lockRelease,
} from '../kernel/lock.ts';
import { mmAllocKernelPages, mmUnpin } from '../kernel/mm.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_GPU_TO_CPU } from './channel.ts';
import { CPU_ID, INVALID_ID } from './processors.ts';
import { PURPOSE_TOOLS, pushBeginAcquire, pushCopyOut, pushEndAndWait } from './push.ts';
import { NV_ERR_INVALID_ADDRESS, NV_OK } from './status.ts';
import { trackerWait } from './tracker.ts';
import { pageClosestResident } from './va_block.ts';
import type { VaBlock } from './va_block_types.ts';
import type { VaSpace } from './va_range_types.ts';
import { vaBlockFindCreate } from './va_space.ts';

/** What a read came to. */
export interface ProcessMemoryRead {
  status: number;
  /** Bytes before the page that failed. */
  bytesRead: number;
}

/** uvm_va_block_read_to_cpu: `bytes` bytes of one page, from byte `offset` on; the block is locked. */
function blockReadToCpu(
  m: Model,
  block: VaBlock,
  page: number,
  offset: number,
  out: Uint8Array,
  at: number,
  bytes: number,
  stage: number,
): number {
  const source = pageClosestResident(block, page, CPU_ID);
  if (source === INVALID_ID) {
    out.fill(0, at, at + bytes);
    return NV_OK;
  }
  let holder = block.startPage + page;
  let first = offset;
  let status: number;
  if (source === CPU_ID) {
    status = trackerWait(m, block.tracker);
  } else {
    const push = pushBeginAcquire(m, source - 1, CHANNEL_TYPE_GPU_TO_CPU, PURPOSE_TOOLS, block.tracker);
    pushCopyOut(m, push, source, holder, offset, stage, 0, bytes);
    status = pushEndAndWait(m, push);
    holder = m.k.pins[stage].frames[0];
    first = 0;
  }
  if (status !== NV_OK || m.contents === null) return status;
  const words = contentsWords(m.contents, CPU_ID, holder);
  out.set(new Uint8Array(words.buffer, first, bytes), at);
  return NV_OK;
}

/**
 * Reads `out.length` bytes of a VA space, from byte `offset` of `page` on, into `out`. Finds or creates blocks, and
 * changes nothing else but the channels. Without contents `out` stays as it is where memory is resident.
 */
export function toolsReadProcessMemory(
  m: Model,
  space: VaSpace,
  page: number,
  offset: number,
  out: Uint8Array,
): ProcessMemoryRead {
  const stage = mmAllocKernelPages(m.k, 1);
  let status = NV_OK;
  let bytesRead = 0;
  while (bytesRead < out.length && status === NV_OK) {
    const at = offset + bytesRead;
    const here = page + Math.floor(at / PAGE_SIZE);
    const bytes = Math.min(out.length - bytesRead, PAGE_SIZE - (at % PAGE_SIZE));
    lockAcquire(m, LOCK_ORDER_MMAP_LOCK, space.id, true);
    lockAcquire(m, LOCK_ORDER_VA_SPACE, space.id, true);
    const block = vaBlockFindCreate(m, space, here);
    if (block === null) {
      status = NV_ERR_INVALID_ADDRESS;
    } else {
      lockAcquire(m, LOCK_ORDER_VA_BLOCK, block.id, false);
      if (m.k.now < block.lockFreeAt) m.k.now = block.lockFreeAt;
      status = blockReadToCpu(m, block, here - block.startPage, at % PAGE_SIZE, out, bytesRead, bytes, stage);
      block.lockFreeAt = m.k.now;
      lockRelease(m, LOCK_ORDER_VA_BLOCK, block.id, false);
    }
    lockRelease(m, LOCK_ORDER_VA_SPACE, space.id, true);
    lockRelease(m, LOCK_ORDER_MMAP_LOCK, space.id, true);
    if (status === NV_OK) bytesRead += bytes;
  }
  mmUnpin(m.k, stage, (frame) => {
    if (m.contents !== null) contentsForget(m.contents, CPU_ID, frame, 1);
  });
  return { status, bytesRead };
}
