import { describe, expect, it } from 'vitest';
import {
  bench,
  events,
  GPU,
  hint,
  isThrashing,
  LAPSE,
  migrate,
  PEER,
  pagesOf,
  stampOf,
  T0,
  thrash,
  thrashingOf,
  US,
} from '../../../test/support/thrashing_bench.ts';
import { MASK_WORDS } from '../../base/page_mask.ts';
import type { Why } from '../why.ts';
import {
  perfThrashingGetThrashingPages,
  perfThrashingGetThrashingProcessors,
  perfThrashingRevocationEvent,
} from './perf_thrashing.ts';
import { thrashingResetPage } from './perf_thrashing_page.ts';
import { THRASHING_HINT_NONE, THRASHING_HINT_THROTTLE } from './perf_thrashing_types.ts';
import { CPU_ID, INVALID_ID } from './processors.ts';
import {
  CAUSE_ACCESS_COUNTER,
  CAUSE_API_HINT,
  CAUSE_API_MIGRATE,
  CAUSE_API_SET_RANGE_GROUP,
  CAUSE_API_TOOLS,
  CAUSE_EVICTION,
  CAUSE_NON_REPLAYABLE_FAULT,
  CAUSE_PREFETCH,
  CAUSE_REPLAYABLE_FAULT,
  type VaBlock,
} from './va_block_types.ts';
import { READ_DUPLICATION_ENABLED } from './va_range_types.ts';

describe('detection', () => {
  it('takes five migrations to and fro', () => {
    const b = bench();
    migrate(b, T0, GPU);
    expect(thrashingOf(b).pages).toBeNull();
    migrate(b, T0 + 100 * US, CPU_ID);
    expect(pagesOf(b).lastTime[0]).toBe(stampOf(T0 + 100 * US));
    expect(pagesOf(b).numEvents[0]).toBe(0);
    migrate(b, T0 + 200 * US, GPU);
    expect(pagesOf(b).numEvents[0]).toBe(1);
    migrate(b, T0 + 300 * US, CPU_ID);
    expect(pagesOf(b).numEvents[0]).toBe(2);
    expect(perfThrashingGetThrashingPages(b.block)).toBeNull();
    migrate(b, T0 + 400 * US, GPU);
    expect(events(b)).toEqual(['thrashing 0 3']);
    expect(isThrashing(b)).toBe(true);
    expect(thrashingOf(b).numThrashingPages).toBe(1);
    expect(thrashingOf(b).lastThrashingTime).toBe(T0 + 400 * US);
    expect(perfThrashingGetThrashingProcessors(b.block, 0)).toBe(0b11);
    migrate(b, T0 + 500 * US, CPU_ID);
    expect(events(b)).toHaveLength(1);
    expect(thrashingOf(b).lastThrashingTime).toBe(T0 + 500 * US);
  });

  it('takes no beginning of time for an event', () => {
    const b = bench();
    migrate(b, 100 * US, GPU);
    expect(thrashingOf(b).pages).toBeNull();
    migrate(b, 200 * US, CPU_ID);
    expect(pagesOf(b).numEvents[0]).toBe(0);
  });

  it('looks at pages only after two processors within a lapse of the block, to the nanosecond', () => {
    const late = bench();
    migrate(late, T0 + 13, GPU);
    migrate(late, T0 + 13 + LAPSE + 1, CPU_ID);
    expect(thrashingOf(late).pages).toBeNull();
    migrate(late, T0 + 13 + LAPSE + 1 + LAPSE, GPU);
    expect(thrashingOf(late).pages).not.toBeNull();
    const same = bench();
    migrate(same, T0, GPU);
    migrate(same, T0 + 1, GPU, CAUSE_PREFETCH, 5, 3);
    expect(thrashingOf(same).pages).toBeNull();
    migrate(same, T0 + 2, CPU_ID, CAUSE_PREFETCH, 9, 1);
    expect(pagesOf(same).processors.subarray(8, 11)).toEqual(Uint32Array.of(0, 1, 0));
  });

  it('counts events a lapse apart, measured from a stamp without its low 6 bits', () => {
    const b = bench();
    migrate(b, T0, GPU);
    migrate(b, T0 + 63, CPU_ID);
    expect(pagesOf(b).lastTime[0]).toBe(T0);
    const copy = structuredClone(b.block);
    migrate(b, T0 + LAPSE, GPU);
    expect(pagesOf(b).numEvents[0]).toBe(1);
    expect(pagesOf(b).eventKinds[0]).toBe(1);
    migrate({ ...b, block: copy }, T0 + LAPSE + 1, GPU);
    expect(copy.thrashing?.pages?.numEvents[0]).toBe(0);
    expect(copy.thrashing?.pages?.eventKinds[0]).toBe(0);
    expect(copy.thrashing?.pages?.lastTime[0]).toBe(stampOf(T0 + LAPSE + 1));
  });

  it('keeps a count below the threshold over a pause, and resets a thrashing page', () => {
    const b = bench();
    for (let i = 0; i < 4; i++) migrate(b, T0 + i * 10 * US, i % 2 === 0 ? GPU : CPU_ID);
    expect(pagesOf(b).numEvents[0]).toBe(2);
    migrate(b, T0 + 10 * LAPSE, GPU);
    expect(pagesOf(b).numEvents[0]).toBe(2);
    migrate(b, T0 + 10 * LAPSE + US, CPU_ID);
    expect(events(b)).toEqual(['thrashing 0 3']);
    migrate(b, T0 + 12 * LAPSE, GPU);
    expect(isThrashing(b)).toBe(false);
    expect(pagesOf(b).numEvents[0]).toBe(0);
    expect(pagesOf(b).lastTime[0]).toBe(0);
    expect(pagesOf(b).processors[0]).toBe(0);
  });

  it('detects at a threshold of 1 with the third migration, and at 7 with every one from the ninth on', () => {
    const one = bench({ uvm_perf_thrashing_threshold: 1 });
    const seven = bench({ uvm_perf_thrashing_threshold: 7 });
    for (let i = 0; i < 12; i++) {
      migrate(one, T0 + i * 10 * US, i % 2);
      migrate(seven, T0 + i * 10 * US, i % 2);
      expect(events(one)).toHaveLength(i < 2 ? 0 : 1);
      // The counter of 3 bits stays at 7, so that each event finds it at the threshold again.
      expect(events(seven)).toHaveLength(Math.max(0, i - 7));
    }
    expect(pagesOf(seven).numEvents[0]).toBe(7);
    expect(thrashingOf(seven).numThrashingPages).toBe(1);
  });

  it('gives all pages of a run one time, though recording takes some', () => {
    const b = bench();
    for (let i = 0; i < 5; i++) migrate(b, T0 + i * 10 * US, i % 2, CAUSE_PREFETCH, 16, 16);
    expect(events(b)).toHaveLength(16);
    expect(events(b)[15]).toBe('thrashing 31 3');
    expect(new Set(pagesOf(b).lastTime.subarray(16, 32))).toEqual(new Set([stampOf(T0 + 40 * US)]));
    expect(b.m.k.now).toBe(T0 + 40 * US + 16 * 700);
    expect(thrashingOf(b).lastTime).toBe(T0 + 40 * US);
  });

  it('takes notice of revocations', () => {
    const b = bench();
    for (let i = 0; i < 5; i++) {
      b.m.k.now = T0 + i * US;
      perfThrashingRevocationEvent(b.m, b.block, i % 2, 3, 2);
    }
    expect(events(b)).toEqual(['thrashing 3 3', 'thrashing 4 3']);
    expect(pagesOf(b).eventKinds[3]).toBe(2);
    migrate(b, T0 + 9 * US, CPU_ID, CAUSE_REPLAYABLE_FAULT, 3);
    expect(pagesOf(b).eventKinds[3]).toBe(3);
  });
});

describe('events that do not count', () => {
  it('evictions, first hops, and all while switched off', () => {
    const b = bench();
    migrate(b, T0, GPU, CAUSE_EVICTION);
    migrate(b, T0, GPU, CAUSE_REPLAYABLE_FAULT, 0, 1, false, true);
    b.space.thrashingDisabled = true;
    migrate(b, T0, GPU);
    perfThrashingRevocationEvent(b.m, b.block, GPU, 0, 1);
    const off = bench({ uvm_perf_thrashing_enable: 0 });
    migrate(off, T0, GPU);
    perfThrashingRevocationEvent(off.m, off.block, GPU, 0, 1);
    expect([b.block.thrashing, off.block.thrashing]).toEqual([null, null]);
    b.space.thrashingDisabled = false;
    thrash(b);
    migrate(b, T0 + 50 * US, CPU_ID, CAUSE_EVICTION);
    expect(isThrashing(b)).toBe(true);
  });

  it.each([
    ['a non-replayable fault', CAUSE_NON_REPLAYABLE_FAULT],
    ['a migration asked for', CAUSE_API_MIGRATE],
    ['a range group', CAUSE_API_SET_RANGE_GROUP],
    ['advice', CAUSE_API_HINT],
    ['a debugger', CAUSE_API_TOOLS],
  ])('%s resets the thrashing pages it moves, and no others', (_, cause) => {
    const b = bench();
    for (let i = 0; i < 5; i++) migrate(b, T0 + i * US, i % 2, CAUSE_REPLAYABLE_FAULT, 0, 4);
    migrate(b, T0 + 10 * US, CPU_ID, cause, 1, 2);
    expect([0, 1, 2, 3].map((page) => isThrashing(b, page))).toEqual([true, false, false, true]);
    expect(pagesOf(b).numEvents.subarray(0, 4)).toEqual(Uint8Array.of(3, 0, 0, 3));
    expect(thrashingOf(b).numThrashingPages).toBe(2);
    expect(thrashingOf(b).lastTime).toBe(T0 + 4 * US);
  });

  it('read duplication does so too, by copies and by policy', () => {
    const b = bench();
    thrash(b);
    migrate(b, T0 + 50 * US, CPU_ID, CAUSE_REPLAYABLE_FAULT, 0, 1, true);
    expect(isThrashing(b)).toBe(false);
    const c = bench();
    thrash(c);
    c.block.range.policy.readDuplication = READ_DUPLICATION_ENABLED;
    migrate(c, T0 + 50 * US, CPU_ID);
    expect(isThrashing(c)).toBe(false);
  });

  it('access counters and prefetch count like faults', () => {
    for (const cause of [CAUSE_ACCESS_COUNTER, CAUSE_PREFETCH]) {
      const b = bench();
      for (let i = 0; i < 5; i++) migrate(b, T0 + i * US, i % 2, cause);
      expect(isThrashing(b)).toBe(true);
    }
  });

  it('faults that move pinned pages alone are no events, a mixed run is one', () => {
    const b = bench({ uvm_perf_thrashing_threshold: 7 });
    for (let i = 0; i < 9; i++) migrate(b, T0 + i * US, i % 2, CAUSE_REPLAYABLE_FAULT, 0, 2);
    pagesOf(b).throttlingCount[0] = 10;
    expect(hint(b, T0 + 20 * US, GPU)).toBe('pin 1');
    const stamp = pagesOf(b).lastTime[0];
    migrate(b, T0 + 30 * US, GPU);
    expect(pagesOf(b).lastTime[0]).toBe(stamp);
    expect(thrashingOf(b).lastTime).toBe(T0 + 8 * US);
    migrate(b, T0 + 31 * US, GPU, CAUSE_REPLAYABLE_FAULT, 0, 2);
    expect(pagesOf(b).lastTime[0]).toBe(stampOf(T0 + 31 * US));
    // Older than the lapse, but pinned: no reset.
    migrate(b, T0 + 40 * LAPSE, GPU, CAUSE_PREFETCH);
    expect(pagesOf(b).numEvents[0]).toBe(7);
    expect(pagesOf(b).lastTime[0]).toBe(stampOf(T0 + 40 * LAPSE));
  });
});

describe('throttling', () => {
  it('no hint without data of the block, of pages, or enough events', () => {
    const b = bench();
    expect(hint(b, T0, GPU)).toBe('none');
    migrate(b, T0, GPU);
    expect(hint(b, T0 + 1, CPU_ID)).toBe('none');
    for (let i = 1; i < 4; i++) migrate(b, T0 + i * US, i % 2);
    expect(hint(b, T0 + 4 * US, GPU)).toBe('none');
    expect(pagesOf(b).doNotThrottle[0]).toBe(INVALID_ID);
    thrash(b, T0 + 10 * US);
    b.space.thrashingDisabled = true;
    expect(hint(b, T0 + 60 * US, CPU_ID)).toBe('none');
    expect(pagesOf(b).throttlingEnd[0]).toBe(0);
  });

  it('a page whose last event is more than a lapse ago is served, without a new period', () => {
    for (const [late, end] of [
      [0, stampOf(T0 + 40 * US + 2 * LAPSE)],
      [1, 0],
    ]) {
      const b = bench();
      const time = thrash(b);
      const stamp = pagesOf(b).lastTime[0];
      expect(stamp).toBe(stampOf(time));
      expect(hint(b, stamp + LAPSE + late, CPU_ID)).toBe('none');
      expect(pagesOf(b).throttlingEnd[0]).toBe(end === 0 ? 0 : stampOf(stamp + 2 * LAPSE));
    }
  });

  it('spares the first requester of a period and throttles the other one until its end', () => {
    const b = bench();
    const t = thrash(b) + 10 * US;
    const end = stampOf(t + LAPSE);
    expect(hint(b, t, CPU_ID)).toBe('none');
    expect(pagesOf(b).doNotThrottle[0]).toBe(CPU_ID);
    migrate(b, t, CPU_ID);
    expect(hint(b, t + 10 * US, GPU)).toBe('throttle');
    expect(b.m.thrashingHint.endTime).toBe(end);
    // Asking again is no new throttling.
    expect(hint(b, end - 1, GPU)).toBe('throttle');
    expect(pagesOf(b).throttlingCount[0]).toBe(1);
    expect(pagesOf(b).throttledProcessors[0]).toBe(1 << GPU);
    expect(events(b)).toEqual(['start 0 1']);
    // With its end nobody is throttled, so that the GPU opens a period of its own.
    expect(hint(b, end, GPU)).toBe('none');
    expect(events(b)).toEqual(['start 0 1', 'end 0 1']);
    expect(pagesOf(b).doNotThrottle[0]).toBe(GPU);
    expect(pagesOf(b).throttlingEnd[0]).toBe(stampOf(end + LAPSE));
    migrate(b, end, GPU);
    // The CPU's throttling is told by its own fault path.
    expect(hint(b, end + US, CPU_ID)).toBe('throttle');
    expect(events(b)).toHaveLength(2);
    expect(pagesOf(b).throttlingCount[0]).toBe(2);
  });

  it('after the end of its own period the spared one is throttled in the next', () => {
    const b = bench();
    const t = thrash(b) + 10 * US;
    expect(hint(b, t, CPU_ID)).toBe('none');
    const end = pagesOf(b).throttlingEnd[0];
    migrate(b, t + 300 * US, CPU_ID);
    expect(hint(b, end, CPU_ID)).toBe('none');
    expect(pagesOf(b).throttlingEnd[0]).toBe(end);
    expect(hint(b, end + 1, CPU_ID)).toBe('throttle');
    expect(pagesOf(b).doNotThrottle[0]).toBe(INVALID_ID);
    expect(pagesOf(b).throttlingEnd[0]).toBe(stampOf(end + 1 + LAPSE));
    // Nobody is spared yet: the next to ask is.
    expect(hint(b, end + 2, GPU)).toBe('none');
    expect(pagesOf(b).doNotThrottle[0]).toBe(GPU);
  });

  it('a throttled one that becomes the spared one goes on at once, if others stay throttled in the period', () => {
    const b = bench();
    const t = thrash(b);
    hint(b, t, CPU_ID);
    hint(b, t + 1, GPU);
    hint(b, t + 2, PEER);
    expect(perfThrashingGetThrashingProcessors(b.block, 0)).toBe(0b111);
    pagesOf(b).doNotThrottle[0] = GPU;
    expect(hint(b, t + 3, GPU)).toBe('none');
    expect(events(b)).toEqual(['start 0 1', 'start 0 2', 'end 0 1']);
    // As the last one it ends the period, and is not spared in the next that begins with that.
    pagesOf(b).doNotThrottle[0] = PEER;
    expect(hint(b, t + 4, PEER)).toBe('throttle');
    expect(events(b).slice(3)).toEqual(['end 0 2', 'start 0 2']);
    expect(pagesOf(b).doNotThrottle[0]).toBe(INVALID_ID);
    expect(pagesOf(b).throttlingCount[0]).toBe(3);
  });

  it('a nap of several lapses makes the period longer; its count stays at 255', () => {
    const b = bench({ uvm_perf_thrashing_nap: 3, uvm_perf_thrashing_pin_threshold: 255 });
    const t = thrash(b);
    hint(b, t, CPU_ID);
    pagesOf(b).throttlingCount[0] = 255;
    expect(hint(b, t + 1, GPU)).toBe('throttle');
    expect(b.m.thrashingHint.endTime).toBe(stampOf(t + 3 * LAPSE));
    expect(pagesOf(b).throttlingCount[0]).toBe(255);
  });

  it('who was spared outlives a reset: the GPU, spared before, is throttled when it thrashes again', () => {
    const b = bench();
    const t = thrash(b);
    expect(hint(b, t + US, GPU)).toBe('none');
    expect(pagesOf(b).doNotThrottle[0]).toBe(GPU);
    migrate(b, t + 3 * LAPSE, CPU_ID);
    expect(isThrashing(b)).toBe(false);
    const again = thrash(b, t + 4 * LAPSE);
    expect(isThrashing(b)).toBe(true);
    expect(hint(b, again + US, GPU)).toBe('throttle');
    expect(pagesOf(b).doNotThrottle[0]).toBe(INVALID_ID);
    expect(hint(b, again + 2 * US, CPU_ID)).toBe('none');
  });
});

describe('the end of an epoch', () => {
  const EPOCH = 1_000_000_000;

  it('is after 1 s, not at it; the block starts afresh and throttling ends', () => {
    const b = bench();
    const t = thrash(b);
    hint(b, t, CPU_ID);
    hint(b, t + 1, GPU);
    expect(hint(b, t + EPOCH, CPU_ID)).toBe('none');
    expect(thrashingOf(b).pages).not.toBeNull();
    expect(events(b)).toEqual(['start 0 1']);
    expect(hint(b, t + EPOCH + 1, CPU_ID, 77)).toBe('none');
    expect(events(b)).toEqual(['start 0 1', 'end 0 1']);
    const { w, ...rest } = thrashingOf(b);
    expect(rest).toEqual({
      pages: null,
      numThrashingPages: 0,
      pinnedCount: 0,
      lastProcessor: INVALID_ID,
      lastTime: 0,
      lastThrashingTime: 0,
      resetCount: 1,
    });
    expect(w).toEqual(new Uint32Array(2 * MASK_WORDS));
  });

  it('comes at most four times for a block', () => {
    const b = bench();
    let t = T0;
    for (let i = 1; i <= 5; i++) {
      t = thrash(b, t + US) + EPOCH + 1;
      hint(b, t, CPU_ID);
      expect(thrashingOf(b).resetCount).toBe(Math.min(i, 4));
      expect(thrashingOf(b).pages === null).toBe(i <= 4);
    }
  });

  it('never comes with max_resets 0, nor after a pin, though it is over', () => {
    const none = bench({ uvm_perf_thrashing_max_resets: 0 });
    hint(none, thrash(none) + 2 * EPOCH, CPU_ID);
    expect(thrashingOf(none).pages).not.toBeNull();
    const b = bench();
    const t = thrash(b);
    pagesOf(b).throttlingCount[0] = 10;
    expect(hint(b, t, CPU_ID)).toBe('pin 0');
    thrashingResetPage(b.m, b.block, 0);
    expect(pagesOf(b).pinned[0]).toBe(0);
    expect(thrashingOf(b).pinnedCount).toBe(1);
    hint(b, t + 2 * EPOCH, CPU_ID);
    expect(thrashingOf(b).resetCount).toBe(0);
    expect(thrashingOf(b).pages).not.toBeNull();
  });
});

it('tells the observer which step decided', () => {
  const b = bench();
  const t = thrash(b);
  const heard: unknown[] = [];
  b.m.res.why = { thrashing: (_: VaBlock, ...rest: unknown[]) => heard.push(rest) } as unknown as Why;
  hint(b, t, CPU_ID);
  hint(b, t + 1, GPU);
  hint(b, t + 2, GPU);
  hint(b, t + 3, CPU_ID, 5);
  hint(b, t + 3 * LAPSE, CPU_ID);
  expect(heard).toEqual([
    [0, CPU_ID, 'spared', THRASHING_HINT_NONE],
    [0, GPU, 'not spared', THRASHING_HINT_THROTTLE],
    [0, GPU, 'still throttled', THRASHING_HINT_THROTTLE],
    [5, CPU_ID, 'below threshold', THRASHING_HINT_NONE],
    [0, CPU_ID, 'lapse over', THRASHING_HINT_NONE],
  ]);
});
