import { describe, expect, it } from 'vitest';
import {
  type Bench,
  bench,
  events,
  GPU,
  hint,
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
import { MASK_WORDS, maskClearRegion, maskTest } from '../../base/page_mask.ts';
import {
  perfThrashingGetThrashingPages,
  perfThrashingInfoDestroy,
  perfThrashingRevocationEvent,
} from './perf_thrashing.ts';
import { saturatingAdd, thrashingResetPage } from './perf_thrashing_page.ts';
import { CPU_ID, INVALID_ID } from './processors.ts';
import { createTools } from './tools.ts';
import { B_CPU_RESIDENT, CAUSE_API_MIGRATE, CAUSE_EVICTION, CAUSE_REPLAYABLE_FAULT } from './va_block_types.ts';

describe('counters', () => {
  it.each([
    [0, 1, 7, 1],
    [6, 1, 7, 7],
    [7, 1, 7, 7],
    [254, 1, 255, 255],
    [255, 1, 255, 255],
    [2, 5, 255, 7],
    [7, 255, 255, 255],
    [65534, 1, 65535, 65535],
    [65535, 65535, 65535, 65535],
    [0, 18, 15, 15],
  ])('%i + %i, at most %i, is %i', (counter, value, max, sum) => {
    expect(saturatingAdd(counter, value, max)).toBe(sum);
  });
});

describe('pinning', () => {
  it('at 10 throttles, not at 9, of the spared requester', () => {
    const b = bench();
    const t = thrash(b);
    pagesOf(b).throttlingCount[0] = 9;
    expect(hint(b, t, CPU_ID)).toBe('none');
    expect(hint(b, t + 1, GPU)).toBe('throttle');
    expect(pagesOf(b).throttlingCount[0]).toBe(10);
    expect(hint(b, t + 2, CPU_ID)).toBe('pin 0');
    expect(b.m.thrashingHint.processors).toBe(0b11);
  });

  it('ends throttling, notes the deadline and sets the timer, for the first page only', () => {
    const b = bench();
    for (let i = 0; i < 5; i++) migrate(b, T0 + i * US, i % 2, CAUSE_REPLAYABLE_FAULT, 0, 2);
    b.m.tools.log.count = 0;
    pagesOf(b).throttlingCount.fill(9);
    const t = T0 + 10 * US;
    hint(b, t, CPU_ID);
    hint(b, t + 1, GPU);
    expect(hint(b, t + 2, CPU_ID)).toBe('pin 0');
    expect(events(b)).toEqual(['start 0 1', 'end 0 1']);
    const pages = pagesOf(b);
    expect([pages.throttlingCount[0], pages.pinned[0], pages.pinnedResidency[0]]).toEqual([0, 1, CPU_ID]);
    expect(pages.throttlingEnd[0]).toBe(0);
    expect(maskTest(thrashingOf(b).w, MASK_WORDS, 0)).toBe(true);
    expect(thrashingOf(b).pinnedCount).toBe(1);
    expect(b.space.thrashing.pinned).toEqual([{ block: b.block, page: 0, deadline: t + 2 + 150_000 * US }]);
    expect(b.m.k.heapSize).toBe(1);
    // From the end of the work on, in whole microseconds.
    expect(b.m.k.heapTime[0]).toBe(b.m.k.now + 150_000 * US);
    pages.throttlingCount[1] = 10;
    expect(hint(b, t + 3, CPU_ID, 1)).toBe('pin 0');
    expect(b.space.thrashing.pinned.map((entry) => entry.page)).toEqual([0, 1]);
    expect(b.m.k.heapSize).toBe(1);
  });

  it('for ever when the parameter is 0: no list, no timer', () => {
    const b = bench({ uvm_perf_thrashing_pin: 0 });
    const t = thrash(b);
    pagesOf(b).throttlingCount[0] = 10;
    expect(hint(b, t, CPU_ID)).toBe('pin 0');
    expect(b.space.thrashing.pinned).toEqual([]);
    expect(b.m.k.heapSize).toBe(0);
    thrashingResetPage(b.m, b.block, 0);
    expect(pagesOf(b).pinned[0]).toBe(0);
  });

  it('on the GPU first: the CPU waits for its period, then takes the page to itself, and the GPU follows there', () => {
    const b = bench();
    const t = thrash(b);
    pagesOf(b).throttlingCount[0] = 10;
    expect(hint(b, t, GPU)).toBe('pin 1');
    // No lapse ends this, and no throttle of a pinned page is counted.
    expect(hint(b, t + US, CPU_ID)).toBe('throttle');
    expect(pagesOf(b).throttlingCount[0]).toBe(0);
    const end = pagesOf(b).throttlingEnd[0];
    expect(hint(b, end - 1, CPU_ID)).toBe('throttle');
    expect(hint(b, end, CPU_ID)).toBe('pin 0');
    expect(pagesOf(b).pinnedResidency[0]).toBe(CPU_ID);
    migrate(b, end, CPU_ID);
    for (const later of [1, LAPSE, 10 * LAPSE, 20 * LAPSE]) expect(hint(b, end + later, GPU)).toBe('pin 0');
    expect(b.space.thrashing.pinned).toHaveLength(1);
    expect(thrashingOf(b).pinnedCount).toBe(1);
    expect(events(b)).toEqual([]);
  });

  it('ends throttling if the page must move for it, and not if it is there already', () => {
    const b = bench();
    const t = thrash(b);
    pagesOf(b).throttlingCount[0] = 10;
    expect(hint(b, t, CPU_ID)).toBe('pin 0');
    migrate(b, t, CPU_ID);
    pagesOf(b).throttledProcessors[0] = 1 << PEER;
    expect(hint(b, t + 1, GPU)).toBe('pin 0');
    expect(pagesOf(b).throttledProcessors[0]).toBe(1 << PEER);
    migrate(b, t + 2, GPU, CAUSE_API_MIGRATE, 1);
    maskClearRegion(b.block.w, B_CPU_RESIDENT, 0, 1);
    expect(hint(b, t + 3, GPU)).toBe('pin 0');
    expect(pagesOf(b).throttledProcessors[0]).toBe(0);
    expect(events(b)).toEqual(['end 0 2']);
  });

  it('of a page that thrashes on by revocation throttles all but the spared one', () => {
    const b = bench();
    const t = thrash(b);
    pagesOf(b).throttlingCount[0] = 10;
    expect(hint(b, t, CPU_ID)).toBe('pin 0');
    migrate(b, t, CPU_ID);
    expect(hint(b, t + 1, GPU)).toBe('pin 0');
    b.m.k.now = t + 2;
    perfThrashingRevocationEvent(b.m, b.block, CPU_ID, 0, 1);
    expect(hint(b, t + 3, GPU)).toBe('throttle');
    expect(hint(b, t + 4, CPU_ID)).toBe('pin 0');
    expect(pagesOf(b).throttlingCount[0]).toBe(0);
  });

  /** Each asks for what the other holds, again and again, until one is told to pin. */
  function fight(poll: number): { throttles: number; detections: number; last: string } {
    const b = bench();
    let now = thrash(b);
    let throttles = 0;
    let last = '';
    for (let holder = GPU, i = 0; !last.startsWith('pin') && i < 4000; i++) {
      now += poll;
      const requester = holder === GPU ? CPU_ID : GPU;
      const before = pagesOf(b).throttlingCount[0];
      last = hint(b, now, requester);
      if (pagesOf(b).throttlingCount[0] > before) throttles++;
      if (last !== 'none') continue;
      migrate(b, now, requester);
      holder = requester;
    }
    return { throttles, detections: events(b).filter((event) => event.startsWith('thrashing')).length, last };
  }

  it('comes of itself after 10 throttles', () => {
    // Asking at the very end of a period (499968 ns), which is within the lapse: the page thrashes on throughout. The
    // GPU is throttled first, third and so on; the tenth is the CPU's, and it pins when that one ends.
    expect(fight(4032)).toEqual({ throttles: 10, detections: 0, last: 'pin 0' });
  });

  it('comes of itself even if each wait outlasts the lapse: the page is reset each time, the count is not', () => {
    expect(fight(8000)).toEqual({ throttles: 10, detections: 10, last: expect.stringMatching(/^pin [01]$/) });
  });
});

describe('where to pin', () => {
  it('at the preferred location at once if all reach it', () => {
    const b = bench();
    const t = thrash(b);
    b.block.range.policy.preferredLocation = CPU_ID;
    expect(hint(b, t, GPU)).toBe('pin 0');
    const c = bench({}, 'nvlink');
    for (let i = 0; i < 5; i++) migrate(c, T0 + i * US, i % 2 === 0 ? GPU : PEER);
    c.block.range.policy.preferredLocation = PEER;
    expect(hint(c, T0 + 5 * US, GPU)).toBe('pin 2');
  });

  it('at the preferred location that the CPU does not reach only when it is spared after enough throttles', () => {
    const b = bench();
    const t = thrash(b);
    const pages = pagesOf(b);
    b.block.range.policy.preferredLocation = GPU;
    const ask = (spared: number, throttles: number): string => {
      pages.throttledProcessors[0] = 0;
      pages.throttlingEnd[0] = t + LAPSE;
      pages.doNotThrottle[0] = spared;
      pages.throttlingCount[0] = throttles;
      return hint(b, t + 1, GPU);
    };
    expect(ask(CPU_ID, 20)).toBe('throttle');
    expect(ask(GPU, 9)).toBe('none');
    expect(ask(GPU, 10)).toBe('pin 1');
    // Pinned there, it is told the same in anybody's period; pinned elsewhere, it waits for its own.
    expect(ask(CPU_ID, 0)).toBe('pin 1');
    pages.pinnedResidency[0] = CPU_ID;
    expect(ask(CPU_ID, 0)).toBe('throttle');
    expect(ask(GPU, 0)).toBe('pin 1');
  });

  it('where it is, when all have fast access to it', () => {
    const b = bench({}, 'nvlink');
    for (let i = 0; i < 5; i++) migrate(b, T0 + i * US, i % 2 === 0 ? GPU : PEER);
    expect(hint(b, T0 + 5 * US, PEER)).toBe('pin 1');
    const slow = bench({}, 'pcie');
    for (let i = 0; i < 5; i++) migrate(slow, T0 + i * US, i % 2 === 0 ? GPU : PEER);
    expect(hint(slow, T0 + 5 * US, PEER)).toBe('none');
    // The link alone is not enough, nor are native atomics alone.
    for (const [hasFastLink, hasNativeAtomics] of [
      [
        [0, 0b100, 0b010],
        [0b001, 0b010, 0b100],
      ],
      [
        [0, 0, 0],
        [0b001, 0b110, 0b110],
      ],
    ]) {
      const half = bench({}, 'nvlink');
      Object.assign(half.space.processors, { hasFastLink, hasNativeAtomics });
      for (let i = 0; i < 5; i++) migrate(half, T0 + i * US, i % 2 === 0 ? GPU : PEER);
      expect(hint(half, T0 + 5 * US, PEER)).toBe('none');
    }
  });

  it('not there when the preferred location thrashes and cannot be reached by all', () => {
    const answers = [INVALID_ID, GPU].map((preferred) => {
      const b = bench();
      // Both GPUs have a fast link to the CPU, but none to each other.
      Object.assign(b.space.processors, {
        hasFastLink: [0b110, 0b001, 0b001],
        hasNativeAtomics: [0b111, 0b111, 0b111],
      });
      for (let i = 0; i < 6; i++) migrate(b, T0 + i * US, i % 2 === 0 ? GPU : PEER);
      migrate(b, T0 + 6 * US, CPU_ID, CAUSE_EVICTION);
      b.block.range.policy.preferredLocation = preferred;
      return hint(b, T0 + 7 * US, PEER);
    });
    expect(answers).toEqual(['pin 0', 'none']);
  });

  it('on a coherent machine at the GPU, when the CPU holds the page and the GPU asks', () => {
    const b = bench({}, 'coherent');
    const t = thrash(b);
    expect(hint(b, t, CPU_ID)).toBe('pin 1');
    const c = bench({}, 'coherent');
    const u = thrash(c);
    migrate(c, u + US, CPU_ID);
    expect(hint(c, u + 2 * US, CPU_ID)).toBe('none');
    expect(hint(c, u + 2 * US, GPU)).toBe('pin 1');
  });

  it('at the requester when there is no place that all reach', () => {
    const b = bench();
    b.space.processors.canAccess = [0b001, 0b010, 0b100];
    const t = thrash(b);
    pagesOf(b).throttlingCount[0] = 10;
    expect(hint(b, t, GPU)).toBe('pin 1');
    pagesOf(b).doNotThrottle[0] = CPU_ID;
    expect(hint(b, t + 1, CPU_ID)).toBe('pin 0');
    pagesOf(b).doNotThrottle[0] = GPU;
    expect(hint(b, t + 2, GPU)).toBe('pin 1');
  });
});

describe('the end of a block, or its split', () => {
  it('ends throttling, unpins and drops the data; the timer is cancelled', () => {
    const b = bench();
    for (let i = 0; i < 5; i++) migrate(b, T0 + i * US, i % 2, CAUSE_REPLAYABLE_FAULT, 0, 2);
    b.m.tools.log.count = 0;
    pagesOf(b).throttlingCount[0] = 10;
    const t = T0 + 10 * US;
    expect(hint(b, t, CPU_ID)).toBe('pin 0');
    hint(b, t, CPU_ID, 1);
    expect(hint(b, t + 1, GPU, 1)).toBe('throttle');
    const generation = b.space.thrashing.unpinGeneration;
    perfThrashingInfoDestroy(b.m, b.block);
    expect(b.block.thrashing).toBeNull();
    expect(events(b)).toEqual(['start 1 1', 'end 1 1']);
    expect(b.space.thrashing.pinned).toEqual([]);
    expect(b.space.thrashing.unpinGeneration).toBe(generation + 1);
    perfThrashingInfoDestroy(b.m, b.block);
    expect(b.block.thrashing).toBeNull();
  });

  it('data of a block is plain: a snapshot goes on like the original', () => {
    const b = bench();
    const t = thrash(b);
    pagesOf(b).throttlingCount[0] = 10;
    hint(b, t, GPU);
    const copy = structuredClone({ block: b.block, space: b.space });
    const other: Bench = { m: { ...b.m, vaSpaces: [copy.space], tools: createTools(true) }, ...copy };
    expect(copy.block.range.space).toBe(copy.space);
    expect(hint(other, t + US, CPU_ID)).toBe('throttle');
    expect(pagesOf(b).throttledProcessors[0]).toBe(0);
  });
});

describe('reset of a page', () => {
  it('ends throttling and forgets events, but not how often it throttled nor whom it spared', () => {
    const b = bench();
    const t = thrash(b);
    hint(b, t, CPU_ID);
    hint(b, t + 1, GPU);
    thrashingResetPage(b.m, b.block, 0);
    const pages = pagesOf(b);
    expect(events(b)).toEqual(['start 0 1', 'end 0 1']);
    const { lastTime, numEvents, eventKinds, processors, throttledProcessors, throttlingEnd } = pages;
    const cleared = [lastTime, numEvents, eventKinds, processors, throttledProcessors, throttlingEnd];
    expect(cleared.map((column) => column[0])).toEqual([0, 0, 0, 0, 0, 0]);
    expect(pages.throttlingCount[0]).toBe(1);
    expect(pages.doNotThrottle[0]).toBe(CPU_ID);
    expect(perfThrashingGetThrashingPages(b.block)).toBeNull();
    expect(() => thrashingResetPage(b.m, b.block, 0)).toThrow('does not thrash');
  });

  it('leaves the period alone when nobody was throttled in it', () => {
    const b = bench();
    const t = thrash(b);
    hint(b, t, CPU_ID);
    thrashingResetPage(b.m, b.block, 0);
    expect(pagesOf(b).throttlingEnd[0]).toBe(stampOf(t + LAPSE));
  });
});
