import { describe, expect, it } from 'vitest';
import { createHost } from '../gpu/host.ts';
import type { Model } from '../state.ts';
import {
  createGpuSemaphorePool,
  GPU_SEMAPHORE_MAX_JUMP,
  type GpuSemaphore,
  type GpuTrackingSemaphore,
  gpuSemaphoreAlloc,
  gpuSemaphoreFree,
  gpuSemaphoreGetPayload,
  gpuSemaphoreSetPayload,
  gpuTrackingSemaphoreAlloc,
  gpuTrackingSemaphoreIsCompleted,
  gpuTrackingSemaphoreIsValueCompleted,
  gpuTrackingSemaphoreUpdateCompletedValue,
  SEMAPHORE_COUNT_PER_PAGE,
} from './gpu_semaphore.ts';
import { NV_ERR_INVALID_STATE, NV_OK } from './status.ts';

const TWO_32 = 2 ** 32;
const UINT_MAX = TWO_32 - 1;

function setup(firstValue = 0) {
  const m = { globalStatus: NV_OK } as Model;
  const host = createHost(0, 1);
  const pool = createGpuSemaphorePool();
  const semaphore = gpuTrackingSemaphoreAlloc(pool, host, firstValue);
  const isDone = (value: number) => gpuTrackingSemaphoreIsValueCompleted(m, host, semaphore, value);
  const update = () => gpuTrackingSemaphoreUpdateCompletedValue(m, host, semaphore);
  return { m, host, pool, semaphore, isDone, update };
}

/** Puts the semaphore at a value without a jump. */
function place(host: ReturnType<typeof createHost>, semaphore: GpuTrackingSemaphore, value: number): void {
  gpuSemaphoreSetPayload(host, semaphore, value);
  semaphore.completedValue = value;
  semaphore.queuedValue = value;
}

describe('pool', () => {
  it('gives 4096 semaphores of payload 0 from 4 pages, and each keeps its own payload', () => {
    const host = createHost(0, 1);
    const pool = createGpuSemaphorePool();
    const semaphores: GpuSemaphore[] = [];
    for (let i = 0; i < 4096; i++) {
      const semaphore = gpuSemaphoreAlloc(pool, host);
      expect(gpuSemaphoreGetPayload(host, semaphore)).toBe(0);
      gpuSemaphoreSetPayload(host, semaphore, i + 1);
      semaphores.push(semaphore);
    }
    expect(host.semaphorePages.length).toBe(4);
    expect(semaphores.map((s) => gpuSemaphoreGetPayload(host, s))).toEqual(semaphores.map((_, i) => i + 1));
    expect(pool.freeCount).toBe(0);
  });

  it('gives the lowest free index of the newest page with room', () => {
    const host = createHost(0, 1);
    const pool = createGpuSemaphorePool();
    const all = Array.from({ length: SEMAPHORE_COUNT_PER_PAGE + 40 }, () => gpuSemaphoreAlloc(pool, host));
    expect(all[SEMAPHORE_COUNT_PER_PAGE]).toEqual({ page: 1, index: 0 });
    for (const i of [700, 3, SEMAPHORE_COUNT_PER_PAGE + 33]) {
      gpuSemaphoreSetPayload(host, all[i], 9);
      gpuSemaphoreFree(pool, all[i]);
    }
    const again = gpuSemaphoreAlloc(pool, host);
    expect(again).toEqual({ page: 1, index: 33 });
    expect(gpuSemaphoreGetPayload(host, again)).toBe(0);
    while (pool.freeCount > 2) expect(gpuSemaphoreAlloc(pool, host).page).toBe(1);
    expect(gpuSemaphoreAlloc(pool, host)).toEqual({ page: 0, index: 3 });
    expect(gpuSemaphoreAlloc(pool, host)).toEqual({ page: 0, index: 700 });
    expect(gpuSemaphoreAlloc(pool, host)).toEqual({ page: 2, index: 0 });
  });

  it('frees a semaphore once', () => {
    const host = createHost(0, 1);
    const pool = createGpuSemaphorePool();
    const semaphore = gpuSemaphoreAlloc(pool, host);
    gpuSemaphoreFree(pool, semaphore);
    gpuSemaphoreFree(pool, semaphore);
    expect(pool.freeCount).toBe(SEMAPHORE_COUNT_PER_PAGE);
  });
});

describe('tracking semaphore', () => {
  it('follows steps up to the largest one', () => {
    const { m, host, semaphore, isDone, update } = setup();
    for (let i = -1; i < 100; i++) {
      const completed = update();
      const value = completed + (i < 0 ? 1 : GPU_SEMAPHORE_MAX_JUMP - i);
      semaphore.queuedValue = value;
      expect(isDone(0)).toBe(true);
      expect(isDone(completed)).toBe(true);
      expect(isDone(completed + 1)).toBe(false);
      expect(isDone(value)).toBe(false);
      expect(gpuTrackingSemaphoreIsCompleted(m, host, semaphore)).toBe(false);
      gpuSemaphoreSetPayload(host, semaphore, value);
      expect(isDone(value)).toBe(true);
      expect(isDone(value + 1)).toBe(false);
      expect(gpuTrackingSemaphoreIsCompleted(m, host, semaphore)).toBe(true);
    }
    expect(m.globalStatus).toBe(NV_OK);
  });

  it('follows 100 wraps of the payload', () => {
    const { m, host, semaphore, isDone, update } = setup();
    for (let i = 0; i < 100; i++) {
      place(host, semaphore, TWO_32 * (i + 1) - i - 1);
      const value = TWO_32 * (i + 1) + i;
      gpuSemaphoreSetPayload(host, semaphore, value);
      expect(isDone(value + 1)).toBe(false);
      expect(update()).toBe(value);
    }
    expect(m.globalStatus).toBe(NV_OK);
  });

  it('takes a jump above the largest one, and a step back, for a fatal error', () => {
    const { m, host, semaphore, update } = setup();
    const half = Math.floor(UINT_MAX / 2);
    for (let i = 0; i < 10; i++) {
      const base = TWO_32 * i;
      const jumps: [number, number][] = [
        [base, GPU_SEMAPHORE_MAX_JUMP + 1],
        [base, UINT_MAX],
        [base + i + 1, i],
        [base + half, half + GPU_SEMAPHORE_MAX_JUMP + 1],
        [base + half, half - i - 1],
      ];
      for (const [from, payload] of jumps) {
        place(host, semaphore, from);
        gpuSemaphoreSetPayload(host, semaphore, payload);
        m.globalStatus = NV_OK;
        expect(update()).toBeGreaterThan(from);
        expect(m.globalStatus).toBe(NV_ERR_INVALID_STATE);
      }
    }
  });

  it('can start near a wrap', () => {
    const { m, host, isDone, semaphore } = setup(UINT_MAX);
    expect(gpuSemaphoreGetPayload(host, semaphore)).toBe(UINT_MAX);
    expect(isDone(TWO_32)).toBe(false);
    gpuSemaphoreSetPayload(host, semaphore, TWO_32);
    expect(gpuSemaphoreGetPayload(host, semaphore)).toBe(0);
    expect(isDone(TWO_32)).toBe(true);
    expect(m.globalStatus).toBe(NV_OK);
  });

  it('keeps the first fatal error', () => {
    const { m, host, semaphore, update } = setup();
    m.globalStatus = 0x60;
    gpuSemaphoreSetPayload(host, semaphore, UINT_MAX);
    update();
    expect(m.globalStatus).toBe(0x60);
  });
});
