/**
 * Models the copies of uvm_va_block.c between CPU and GPU with Confidential Computing (driver 580.105.08): through
 * staging buffers in memory that is not protected, page by page.
 *
 * Functions: the part of block_copy_begin_push and block_copy_end_push for it,
 * conf_computing_block_copy_push_cpu_to_gpu, _gpu_to_cpu, conf_computing_copy_pages_finish, and of uvm_conf_computing.c
 * uvm_conf_computing_util_memcopy_cpu_to_gpu and _gpu_to_cpu.
 *
 * To the GPU the CPU encrypts before the push is submitted, so what the pages wait for is waited for on the CPU. From
 * the GPU the CPU waits for the push and decrypts. A tag that does not fit is a fatal error of the whole driver.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { contentsWords } from '../gpu/contents.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_CPU_TO_GPU, CHANNEL_TYPE_GPU_TO_CPU, channelGet } from './channel.ts';
import {
  confComputingOf,
  cpuDecrypt,
  cpuEncrypt,
  type Decrypted,
  dmaBufferAlloc,
  dmaBufferFree,
  logGpuEncryption,
} from './conf_computing.ts';
import { channelKeyVersion } from './conf_computing_key_rotation.ts';
import { globalSetFatalError } from './gpu_semaphore.ts';
import { CPU_ID } from './processors.ts';
import {
  failedPush,
  PURPOSE_TOOLS,
  type Push,
  pushBeginAcquire,
  pushEndAndWait,
  pushSecureCopy,
  pushWait,
} from './push.ts';
import { NV_OK } from './status.ts';
import { createTracker, type Tracker, trackerInitFrom, trackerOverwriteWithPush, trackerWait } from './tracker.ts';

/** A copy under way: its push, and the staging buffer that it goes through. */
export interface SecureBlockCopy {
  push: Push;
  toGpu: boolean;
  /** Processor id of the GPU. */
  gpuId: number;
  buffer: number;
  /** Pages that the GPU encrypts, counted from the block's start. */
  encrypted: number[];
}

/**
 * Begins the push of a copy between the CPU and a GPU; it starts after the tracker, the block's. Where the push has a
 * status other than NV_OK, nothing was begun.
 */
export function secureCopyBegin(
  m: Model,
  tracker: Tracker,
  destination: number,
  source: number,
  purpose: number,
): SecureBlockCopy {
  const toGpu = source === CPU_ID;
  const gpuId = toGpu ? destination : source;
  const local = trackerInitFrom(tracker);
  const buffer = dmaBufferAlloc(m, gpuId - 1, local);
  const waited = toGpu ? trackerWait(m, local) : NV_OK;
  const type = toGpu ? CHANNEL_TYPE_CPU_TO_GPU : CHANNEL_TYPE_GPU_TO_CPU;
  const push =
    waited === NV_OK ? pushBeginAcquire(m, gpuId - 1, type, purpose, local) : failedPush(m, gpuId - 1, waited);
  if (push.status !== NV_OK) dmaBufferFree(m, gpuId - 1, buffer, null);
  return { push, toGpu, gpuId, buffer, encrypted: [] };
}

/** Copies pages `[first, outer)` of the block that begins at `startPage`. */
export function secureCopyPages(
  m: Model,
  copy: SecureBlockCopy,
  startPage: number,
  first: number,
  outer: number,
): void {
  const { push, toGpu, gpuId, buffer } = copy;
  const channel = channelGet(m, push.channel);
  const { counts, dma } = confComputingOf(m.gpus[gpuId - 1].channelManager);
  for (let page = first; page < outer; page++) {
    if (toGpu) {
      const words = m.contents === null ? null : contentsWords(m.contents, CPU_ID, startPage + page);
      cpuEncrypt(m, channel, buffer, page, words === null ? null : new Uint8Array(words.buffer), PAGE_SIZE);
      counts.pagesToGpu++;
    } else {
      dma.buffers[buffer].decryptIv[page] = logGpuEncryption(m, channel, PAGE_SIZE);
      dma.buffers[buffer].keyVersion[page] = channelKeyVersion(m, channel);
      copy.encrypted.push(page);
      counts.pagesToCpu++;
    }
    pushSecureCopy(m, push, toGpu, gpuId, startPage + page, 0, PAGE_SIZE, buffer, page);
  }
}

/**
 * After the push has ended: waits for it and decrypts what it brought to the CPU, and gives the buffer back. Returns a
 * driver status.
 */
export function secureCopyFinish(m: Model, copy: SecureBlockCopy, startPage: number): number {
  const { push, gpuId, buffer } = copy;
  const tracker = createTracker();
  trackerOverwriteWithPush(tracker, push);
  let status = copy.toGpu ? NV_OK : pushWait(m, push);
  if (status === NV_OK && !copy.toGpu) status = decryptPages(m, copy, startPage);
  dmaBufferFree(m, gpuId - 1, buffer, tracker);
  return status;
}

/**
 * Decrypts a page of a staging buffer that a push of the channel, which is done, has put there. A tag that does not fit
 * is a fatal error of the driver.
 */
export function secureCopyDecrypt(m: Model, channelId: number, buffer: number, page: number): Decrypted {
  const channel = channelGet(m, channelId);
  const { decryptIv, keyVersion } = confComputingOf(m.gpus[channel.gpu].channelManager).dma.buffers[buffer];
  const decrypted = cpuDecrypt(m, channel, buffer, page, decryptIv[page], keyVersion[page], PAGE_SIZE);
  if (decrypted.status !== NV_OK) globalSetFatalError(m, decrypted.status);
  return decrypted;
}

function decryptPages(m: Model, copy: SecureBlockCopy, startPage: number): number {
  const { push, buffer } = copy;
  for (const page of copy.encrypted) {
    const { status, plain } = secureCopyDecrypt(m, push.channel, buffer, page);
    if (status !== NV_OK) return status;
    if (m.contents !== null && plain !== null) {
      m.contents.pages[CPU_ID].set(startPage + page, new Uint32Array(plain.slice().buffer));
    }
  }
  return NV_OK;
}

/**
 * Reads `part.length` bytes of one page of a GPU's memory, from byte `offset` on, once the tracker is done; without
 * contents zeros. Returns a driver status (uvm_conf_computing_util_memcopy_gpu_to_cpu).
 */
export function secureReadToCpu(
  m: Model,
  gpuId: number,
  page: number,
  offset: number,
  part: Uint8Array,
  tracker: Tracker,
): number {
  const buffer = dmaBufferAlloc(m, gpuId - 1, null);
  const push = pushBeginAcquire(m, gpuId - 1, CHANNEL_TYPE_GPU_TO_CPU, PURPOSE_TOOLS, tracker);
  if (push.status !== NV_OK) {
    dmaBufferFree(m, gpuId - 1, buffer, null);
    return push.status;
  }
  const channel = channelGet(m, push.channel);
  const iv = logGpuEncryption(m, channel, part.length);
  const keyVersion = channelKeyVersion(m, channel);
  pushSecureCopy(m, push, false, gpuId, page, offset, part.length, buffer, 0);
  let status = pushEndAndWait(m, push);
  if (status === NV_OK) {
    const decrypted = cpuDecrypt(m, channel, buffer, 0, iv, keyVersion, part.length);
    status = decrypted.status;
    if (decrypted.plain !== null) part.set(decrypted.plain);
  }
  dmaBufferFree(m, gpuId - 1, buffer, null);
  return status;
}

/**
 * Writes bytes into one page of a GPU's memory, from byte `offset` on, once the tracker is done. Returns a driver
 * status (uvm_conf_computing_util_memcopy_cpu_to_gpu).
 */
export function secureWriteFromCpu(
  m: Model,
  gpuId: number,
  page: number,
  offset: number,
  part: Uint8Array,
  tracker: Tracker,
): number {
  const buffer = dmaBufferAlloc(m, gpuId - 1, null);
  const push = pushBeginAcquire(m, gpuId - 1, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TOOLS, tracker);
  if (push.status !== NV_OK) {
    dmaBufferFree(m, gpuId - 1, buffer, null);
    return push.status;
  }
  cpuEncrypt(m, channelGet(m, push.channel), buffer, 0, m.contents === null ? null : part, part.length);
  pushSecureCopy(m, push, true, gpuId, page, offset, part.length, buffer, 0);
  const status = pushEndAndWait(m, push);
  dmaBufferFree(m, gpuId - 1, buffer, null);
  return status;
}
