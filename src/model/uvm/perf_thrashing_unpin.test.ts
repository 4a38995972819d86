import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createSlab } from '../../base/slab.ts';
import { createKernel, registerHandler, runNextEvent } from '../kernel/clock.ts';
import type { Model } from '../state.ts';
import { parseModuleParameters } from './params.ts';
import { perfThrashingGetHint, perfThrashingMigrationEvent } from './perf_thrashing.ts';
import { createThrashingSpace, perfThrashingStop, thrashingResetPage } from './perf_thrashing_page.ts';
import { THRASHING_HINT_PIN } from './perf_thrashing_types.ts';
import { thrashingUnpinPages } from './perf_thrashing_unpin.ts';
import { CPU_ID, INVALID_ID } from './processors.ts';
import { createTools } from './tools.ts';
import { vaBlockCreate } from './va_block.ts';
import { vaBlockUnmapForUnpin } from './va_block_map.ts';
import { CAUSE_REPLAYABLE_FAULT, type VaBlock } from './va_block_types.ts';
import type { VaRange, VaSpace } from './va_range_types.ts';

vi.mock('./va_block_map.ts', () => ({ vaBlockUnmapForUnpin: vi.fn() }));

const T0 = 64 * 1e6;
const PIN = 150_000_000;
const GRANULARITY = 20_000;

const unmap = vi.mocked(vaBlockUnmapForUnpin);

interface Bench {
  m: Model;
  space: VaSpace;
  block: VaBlock;
}

function bench(): Bench {
  const parsed = parseModuleParameters({});
  if (!parsed.ok) throw new Error(parsed.error);
  const processors = {
    canAccess: [0b01, 0b11],
    accessibleFrom: [0b11, 0b10],
    canCopyFrom: [0b11, 0b11],
    hasNativeAtomics: [0b01, 0b10],
    hasFastLink: [0, 0],
  };
  const m = {
    params: parsed.params,
    cost: { toolsEvent: 0 },
    res: { why: null, handlers: [], verify: true },
    k: createKernel(),
    tools: createTools(false),
    thrashingHint: { type: 0, residency: INVALID_ID, processors: 0, endTime: 0 },
  } as unknown as Model;
  const thrashing = createThrashingSpace(registerHandler(m, thrashingUnpinPages));
  const space = {
    id: 0,
    processors,
    thrashingDisabled: false,
    thrashing,
    slab: createSlab(),
    readFreeAt: 0,
    writeFreeAt: 0,
  };
  m.vaSpaces = [space as unknown as VaSpace];
  const policy = { preferredLocation: INVALID_ID, accessedBy: 0, readDuplication: 0 };
  const range = { policy, space: m.vaSpaces[0] } as unknown as VaRange;
  const b = { m, space: m.vaSpaces[0], block: vaBlockCreate(4, range, 0, 512, 1) };
  for (let i = 0; i < 5; i++) {
    m.k.now = T0 + i * 1000;
    perfThrashingMigrationEvent(m, b.block, i % 2, 0, 8, CAUSE_REPLAYABLE_FAULT, false, false);
  }
  return b;
}

/** Pins a page on the CPU at a time within the lapse. */
function pin(b: Bench, time: number, page: number): void {
  b.m.k.now = time;
  const pages = b.block.thrashing?.pages;
  if (pages === null || pages === undefined) throw new Error('no data of pages');
  pages.throttlingCount[page] = 10;
  pages.lastTime[page] = time - (time % 64);
  pages.doNotThrottle[page] = INVALID_ID;
  expect(perfThrashingGetHint(b.m, b.block, page, CPU_ID).type).toBe(THRASHING_HINT_PIN);
}

function pinnedPages(b: Bench): number[] {
  return b.space.thrashing.pinned.map((entry) => entry.page);
}

beforeEach(() => {
  unmap.mockReset();
});

describe('the unpin worker', () => {
  it('unmaps and resets a page when its time is up', () => {
    const b = bench();
    pin(b, T0 + 10_000, 3);
    unmap.mockImplementation((m, block, page) => {
      // Still pinned: what to unmap hangs on it.
      expect(block.thrashing?.pages?.pinned[page]).toBe(1);
      m.k.now += 5000;
      return 0;
    });
    expect(runNextEvent(b.m)).toBe(true);
    expect(unmap.mock.calls).toEqual([[b.m, b.block, 3]]);
    expect(b.m.k.now).toBe(T0 + 10_000 + PIN + 5000);
    expect(b.block.lockFreeAt).toBe(b.m.k.now);
    expect(b.space.readFreeAt).toBe(b.m.k.now);
    expect(pinnedPages(b)).toEqual([]);
    const pages = b.block.thrashing?.pages;
    expect([pages?.pinned[3], pages?.pinnedResidency[3], pages?.numEvents[3]]).toEqual([0, INVALID_ID, 0]);
    // The seven others thrash on.
    expect(b.block.thrashing?.numThrashingPages).toBe(7);
    expect(runNextEvent(b.m)).toBe(false);
  });

  it('takes pages within 20 us of their time along, and sets itself again for the next one', () => {
    const b = bench();
    const t = T0 + 10_000;
    pin(b, t, 0);
    pin(b, t + GRANULARITY, 1);
    pin(b, t + GRANULARITY + 1, 2);
    pin(b, t + 90_500, 3);
    runNextEvent(b.m);
    expect(unmap.mock.calls.map((call) => call[2])).toEqual([0, 1]);
    expect(pinnedPages(b)).toEqual([2, 3]);
    // 20.001 us are left, of which the timer sees 20.
    runNextEvent(b.m);
    expect(b.m.k.now).toBe(t + PIN + GRANULARITY);
    expect(pinnedPages(b)).toEqual([3]);
    runNextEvent(b.m);
    expect(b.m.k.now).toBe(t + PIN + 90_000);
    expect(pinnedPages(b)).toEqual([]);
    expect(runNextEvent(b.m)).toBe(false);
  });

  it.each([
    ['a writer of the VA space', 50_000, 0],
    ['the block', 0, 60_000],
  ])('waits for %s', (_, writer, block) => {
    const b = bench();
    pin(b, T0 + 10_000, 0);
    b.space.writeFreeAt = writer === 0 ? 0 : T0 + PIN + writer;
    b.block.lockFreeAt = block === 0 ? 0 : T0 + PIN + block;
    unmap.mockImplementation((m) => {
      expect(m.k.now).toBe(T0 + PIN + writer + block);
      return 0;
    });
    runNextEvent(b.m);
    expect(unmap).toHaveBeenCalledTimes(1);
  });

  it('is cancelled with the last page of the list; a later pin sets it anew', () => {
    const b = bench();
    const t = T0 + 10_000;
    pin(b, t, 0);
    pin(b, t + 1000, 1);
    thrashingResetPage(b.m, b.block, 0);
    expect(pinnedPages(b)).toEqual([1]);
    thrashingResetPage(b.m, b.block, 1);
    expect(pinnedPages(b)).toEqual([]);
    // So near that the old timer would take it for due.
    pin(b, t + 15_000, 2);
    runNextEvent(b.m);
    expect(b.m.k.now).toBe(t + PIN);
    expect(pinnedPages(b)).toEqual([2]);
    runNextEvent(b.m);
    expect(b.m.k.now).toBe(t + 15_000 + PIN);
    expect(unmap.mock.calls.map((call) => call[2])).toEqual([2]);
  });

  it('finds the head gone and waits for the page behind it', () => {
    const b = bench();
    const t = T0 + 10_000;
    pin(b, t, 0);
    pin(b, t + 400_000, 1);
    thrashingResetPage(b.m, b.block, 0);
    runNextEvent(b.m);
    expect(unmap).not.toHaveBeenCalled();
    expect(runNextEvent(b.m)).toBe(true);
    expect(b.m.k.now).toBe(t + 400_000 + PIN);
    expect(pinnedPages(b)).toEqual([]);
  });

  it('does nothing in a VA space that ends, and is not set there', () => {
    const b = bench();
    pin(b, T0 + 10_000, 0);
    perfThrashingStop(b.space);
    runNextEvent(b.m);
    expect(unmap).not.toHaveBeenCalled();
    expect(pinnedPages(b)).toEqual([0]);
    thrashingResetPage(b.m, b.block, 0);
    pin(b, T0 + 2 * PIN, 1);
    expect(b.m.k.heapSize).toBe(0);
  });
});
