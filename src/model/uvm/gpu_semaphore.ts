/**
 * Models uvm_gpu_semaphore.c (driver 580.105.08): pools of 4-byte semaphores and tracking semaphores.
 *
 * Functions: uvm_gpu_semaphore_alloc, _free, _get_payload, _set_payload, uvm_gpu_tracking_semaphore_alloc,
 * _update_completed_value, _is_value_completed, _is_completed. Payloads live in memory that the GPU writes
 * (gpu/host.ts); those of Confidential Computing are read in gpu_semaphore_secure.ts. Left out: the canaries of debug
 * builds, destroying a pool.
 */
import { assert } from '../../base/assert.ts';
import type { Host } from '../gpu/host.ts';
import type { Model } from '../state.ts';
import { NV_ERR_INVALID_STATE, NV_OK } from './status.ts';

/** A page of 4 KiB holds this many semaphores. */
export const SEMAPHORE_COUNT_PER_PAGE = 1024;

/** Largest believable step of a tracking semaphore: twice the most entries a GPFIFO can have. */
export const GPU_SEMAPHORE_MAX_JUMP = 2 * 1024 * 1024;

const TWO_32 = 2 ** 32;
const WORDS = SEMAPHORE_COUNT_PER_PAGE / 32;

export interface GpuSemaphorePool {
  /** Page numbers (in Host.semaphorePages), newest first: the order of the driver's list. */
  pages: number[];
  /** By page number: a set bit is a free semaphore. */
  free: Uint32Array[];
  freeCount: number;
}

export interface GpuSemaphore {
  /** Page number, -1 once freed. */
  page: number;
  index: number;
}

/** The driver's side of a semaphore whose payload is encrypted (conf_computing of uvm_gpu_semaphore_t). */
export interface SecureSemaphore {
  /** Id of the channel, whose key and IVs it uses. */
  channel: number;
  /** Even numbers: of the last release that was pushed, and of the last that was decrypted. */
  lastPushedNotifier: number;
  lastObservedNotifier: number;
  /** The payload that was decrypted last. */
  cachedPayload: number;
  /** By half of the notifier, modulo the entries of the channel: the IV that the engine uses. */
  ivs: Float64Array;
  /** What lies there now does not fit its tag. */
  unreadable: boolean;
}

export interface GpuTrackingSemaphore extends GpuSemaphore {
  /** 64-bit value of the last push submitted. */
  queuedValue: number;
  /** 64-bit value last seen in the payload. */
  completedValue: number;
  /** Null where the payload can be read: without Confidential Computing, for SEC2, and without contents. */
  secure: SecureSemaphore | null;
}

export function createGpuSemaphorePool(): GpuSemaphorePool {
  return { pages: [], free: [], freeCount: 0 };
}

/** Takes a semaphore with payload 0: the lowest free one of the first page with room (uvm_gpu_semaphore_alloc). */
export function gpuSemaphoreAlloc(pool: GpuSemaphorePool, host: Host): GpuSemaphore {
  if (pool.freeCount === 0) poolAllocPage(pool, host);
  for (const page of pool.pages) {
    const free = pool.free[page];
    for (let word = 0; word < WORDS; word++) {
      if (free[word] === 0) continue;
      const bit = 31 - Math.clz32(free[word] & -free[word]);
      free[word] &= ~(1 << bit);
      pool.freeCount--;
      const semaphore = { page, index: word * 32 + bit };
      gpuSemaphoreSetPayload(host, semaphore, 0);
      return semaphore;
    }
  }
  assert(false, 'a pool with free semaphores has a page with one');
}

function poolAllocPage(pool: GpuSemaphorePool, host: Host): void {
  pool.pages.unshift(host.semaphorePages.length);
  pool.free.push(new Uint32Array(WORDS).fill(0xffffffff));
  host.semaphorePages.push(new Uint32Array(SEMAPHORE_COUNT_PER_PAGE));
  pool.freeCount += SEMAPHORE_COUNT_PER_PAGE;
}

/** Gives a semaphore back; one that is free already is left alone (uvm_gpu_semaphore_free). */
export function gpuSemaphoreFree(pool: GpuSemaphorePool, semaphore: GpuSemaphore): void {
  if (semaphore.page === -1) return;
  pool.free[semaphore.page][semaphore.index >>> 5] |= 1 << (semaphore.index & 31);
  pool.freeCount++;
  semaphore.page = -1;
}

/** The 32-bit payload. */
export function gpuSemaphoreGetPayload(host: Host, semaphore: GpuSemaphore): number {
  return host.semaphorePages[semaphore.page][semaphore.index];
}

/** Writes the low 32 bits of `payload`. */
export function gpuSemaphoreSetPayload(host: Host, semaphore: GpuSemaphore, payload: number): void {
  host.semaphorePages[semaphore.page][semaphore.index] = payload;
}

/**
 * A semaphore that counts pushes. The driver always starts at 0; another `firstValue` lets a test begin near a wrap of
 * the payload.
 */
export function gpuTrackingSemaphoreAlloc(
  pool: GpuSemaphorePool,
  host: Host,
  firstValue: number,
): GpuTrackingSemaphore {
  const { page, index } = gpuSemaphoreAlloc(pool, host);
  // Not a spread: engines give each of its results a shape of its own, and every push would pay for that.
  const semaphore = { page, index, queuedValue: firstValue, completedValue: firstValue, secure: null };
  gpuSemaphoreSetPayload(host, semaphore, firstValue);
  return semaphore;
}

/**
 * Reads the payload and extends it to 64 bits (update_completed_value_locked). A payload below the low half of the last
 * value seen means a wrap; a step above GPU_SEMAPHORE_MAX_JUMP, which a step back always is, is a fatal error of the
 * driver, NV_ERR_INVALID_STATE, but the value is taken over. Returns the completed value.
 */
export function gpuTrackingSemaphoreUpdateCompletedValue(
  m: Model,
  host: Host,
  semaphore: GpuTrackingSemaphore,
): number {
  const old = semaphore.completedValue;
  const oldPayload = old >>> 0;
  const payload =
    semaphore.secure === null
      ? host.semaphorePages[semaphore.page][semaphore.index]
      : securePayload(m, semaphore, semaphore.secure);
  if (payload === oldPayload) return old;
  let value = old - oldPayload + payload;
  if (payload < oldPayload) value += TWO_32;
  if (value - old > GPU_SEMAPHORE_MAX_JUMP) globalSetFatalError(m, NV_ERR_INVALID_STATE);
  semaphore.completedValue = value;
  return value;
}

/** The last payload that could be decrypted. */
function securePayload(m: Model, semaphore: GpuSemaphore, secure: SecureSemaphore): number {
  const resources = m.res.confComputing;
  assert(resources !== null, 'encrypted payloads come with Confidential Computing');
  resources.updatePayload(m, semaphore, secure);
  return secure.cachedPayload;
}

/** Has the 64-bit value been reached? Reads the payload only if the last value seen does not tell. */
export function gpuTrackingSemaphoreIsValueCompleted(
  m: Model,
  host: Host,
  semaphore: GpuTrackingSemaphore,
  value: number,
): boolean {
  if (semaphore.completedValue >= value) return true;
  return gpuTrackingSemaphoreUpdateCompletedValue(m, host, semaphore) >= value;
}

/** Has everything queued been reached? */
export function gpuTrackingSemaphoreIsCompleted(m: Model, host: Host, semaphore: GpuTrackingSemaphore): boolean {
  return gpuTrackingSemaphoreIsValueCompleted(m, host, semaphore, semaphore.queuedValue);
}

/** Records a fatal error of the whole driver; the first one stays (uvm_global_set_fatal_error). */
export function globalSetFatalError(m: Model, status: number): void {
  if (m.globalStatus === NV_OK) m.globalStatus = status;
}
