/**
 * Models the page's side of uvm_perf_thrashing.c (driver 580.105.08): thrashing_throttle_processor,
 * thrashing_throttle_end_processor, thrashing_throttling_reset_page, thrashing_pin_page, thrashing_unpin_page,
 * thrashing_reset_page and the VA space's list of pages to unpin; and the saturating counters of uvm_perf_utils.h.
 *
 * Left out: statistics in procfs, failures to allocate, the rounding of timers to the kernel's ticks.
 */
import { assert } from '../../base/assert.ts';
import { MASK_WORDS, maskClear, maskSet, maskTest } from '../../base/page_mask.ts';
import { schedule } from '../kernel/clock.ts';
import type { Model } from '../state.ts';
import type { BlockThrashing, PageThrashing } from './perf_thrashing_types.ts';
import { CPU_ID, INVALID_ID, processorFirst } from './processors.ts';
import { toolsRecordThrottling } from './tools.ts';
import { pageResidentProcessors } from './va_block.ts';
import type { VaBlock } from './va_block_types.ts';
import type { VaSpace } from './va_range_types.ts';

/** Masks in `BlockThrashing.w`, and its words. */
export const T_THRASHING_PAGES = 0;
export const T_PINNED_PAGES = MASK_WORDS;
export const T_WORDS = 2 * MASK_WORDS;

/** Widths of the driver's counters. */
const THROTTLING_COUNT_MAX = 255;
const PINNED_COUNT_MAX = 0xffffffff;

/** Page stamps drop their low 6 bits. */
const STAMP_UNIT = 64;

/** One entry of the list of pages to unpin (pinned_page_t). */
export interface PinnedPage {
  block: VaBlock;
  page: number;
  /** Time after which the page is unpinned, ns. */
  deadline: number;
}

/** What changes of a VA space's thrashing data: the pages to unpin, about by deadline (va_space_thrashing_info_t). */
export interface ThrashingSpace {
  pinned: PinnedPage[];
  /** Event kind of the worker's timer (kernel/clock.ts). */
  unpinKind: number;
  /** Timers carry the number they were set with; any other number is cancelled. */
  unpinGeneration: number;
  inTeardown: boolean;
}

/** Part of a new VA space; `unpinKind` is the event kind registered for thrashingUnpinPages. */
export function createThrashingSpace(unpinKind: number): ThrashingSpace {
  return { pinned: [], unpinKind, unpinGeneration: 0, inTeardown: false };
}

/** No more unpinning from now on: the first step of a VA space's end (uvm_perf_thrashing_stop). */
export function perfThrashingStop(space: VaSpace): void {
  space.thrashing.inTeardown = true;
  space.thrashing.unpinGeneration++;
}

/** Adds to a counter of limited width, which stays at its maximum (UVM_PERF_SATURATING_ADD). */
export function saturatingAdd(counter: number, value: number, max: number): number {
  return Math.min(counter + value, max);
}

/** A time as the data of a page keep it. */
export function pageStamp(time: number): number {
  return Math.floor(time / STAMP_UNIT) * STAMP_UNIT;
}

/** thrashing_throttle_processor. The CPU path records its own events, around its sleep. */
export function thrashingThrottleProcessor(
  m: Model,
  block: VaBlock,
  pages: PageThrashing,
  page: number,
  processor: number,
): void {
  if ((pages.throttledProcessors[page] & (1 << processor)) !== 0) return;
  pages.throttledProcessors[page] |= 1 << processor;
  if (processor !== CPU_ID) toolsRecordThrottling(m, true, processor, block.startPage + page);
  if (pages.pinned[page] === 0) {
    pages.throttlingCount[page] = saturatingAdd(pages.throttlingCount[page], 1, THROTTLING_COUNT_MAX);
  }
}

/** thrashing_throttle_end_processor. The last one to go ends the period. */
export function thrashingThrottleEndProcessor(
  m: Model,
  block: VaBlock,
  pages: PageThrashing,
  page: number,
  processor: number,
): void {
  pages.throttledProcessors[page] &= ~(1 << processor);
  if (pages.throttledProcessors[page] === 0) pages.throttlingEnd[page] = 0;
  if (processor !== CPU_ID) toolsRecordThrottling(m, false, processor, block.startPage + page);
}

/** thrashing_throttling_reset_page */
export function thrashingThrottlingResetPage(m: Model, block: VaBlock, pages: PageThrashing, page: number): void {
  for (;;) {
    const processor = processorFirst(pages.throttledProcessors[page]);
    if (processor === INVALID_ID) return;
    thrashingThrottleEndProcessor(m, block, pages, page, processor);
  }
}

/**
 * Notes that a page stays at `residency` for a time (thrashing_pin_page). Moving and mapping it is the caller's. `now`
 * is the time of the hint.
 */
export function thrashingPinPage(
  m: Model,
  block: VaBlock,
  thrashing: BlockThrashing,
  pages: PageThrashing,
  page: number,
  residency: number,
  now: number,
): void {
  const wasPinned = pages.pinned[page] !== 0;
  if (!wasPinned || (pageResidentProcessors(block, page) & (1 << residency)) === 0) {
    thrashingThrottlingResetPage(m, block, pages, page);
  }
  if (!wasPinned) {
    if (m.params.thrashingPinNs > 0) addPinnedPage(m, block, page, now + m.params.thrashingPinNs);
    pages.throttlingCount[page] = 0;
    pages.pinned[page] = 1;
    thrashing.pinnedCount = saturatingAdd(thrashing.pinnedCount, 1, PINNED_COUNT_MAX);
    maskSet(thrashing.w, T_PINNED_PAGES, page);
  }
  pages.pinnedResidency[page] = residency;
}

/** Puts a page on the list to unpin. The timer is set by the first one; later ones wait for it. */
function addPinnedPage(m: Model, block: VaBlock, page: number, deadline: number): void {
  const space = block.range.space;
  space.thrashing.pinned.push({ block, page, deadline });
  if (space.thrashing.pinned.length === 1 && !space.thrashing.inTeardown) {
    thrashingScheduleUnpin(m, space, m.params.thrashingPinNs);
  }
}

/** Sets the worker's timer, which counts whole microseconds. The kernel would round further up, to its ticks. */
export function thrashingScheduleUnpin(m: Model, space: VaSpace, delay: number): void {
  const generation = ++space.thrashing.unpinGeneration;
  schedule(m, m.k.now + Math.floor(delay / 1000) * 1000, space.thrashing.unpinKind, space.id, generation);
}

/** Forgets that a page is pinned (thrashing_unpin_page); remote mappings stay. */
function unpinPage(m: Model, block: VaBlock, thrashing: BlockThrashing, pages: PageThrashing, page: number): void {
  if (m.params.thrashingPinNs > 0) {
    // Off the list already when the worker itself asks.
    const list = block.range.space.thrashing;
    const at = list.pinned.findIndex((entry) => entry.page === page && entry.block === block);
    if (at >= 0) {
      list.pinned.splice(at, 1);
      if (list.pinned.length === 0) list.unpinGeneration++;
    }
  }
  pages.pinnedResidency[page] = INVALID_ID;
  pages.pinned[page] = 0;
  maskClear(thrashing.w, T_PINNED_PAGES, page);
}

/**
 * Ends throttling and pinning of a thrashing page and forgets its events (thrashing_reset_page). What it does not
 * forget, as in the driver: how often the page was throttled, and who was spared last. Mappings stay.
 */
export function thrashingResetPage(m: Model, block: VaBlock, page: number): void {
  const thrashing = block.thrashing;
  assert(thrashing !== null && thrashing.pages !== null, 'a page is reset in a block without thrashing data');
  const pages = thrashing.pages;
  assert(maskTest(thrashing.w, T_THRASHING_PAGES, page), 'a page is reset that does not thrash');
  if (m.res.why !== null) m.res.why.thrashingReset?.(block, page);
  thrashingThrottlingResetPage(m, block, pages, page);
  if (pages.pinned[page] !== 0) unpinPage(m, block, thrashing, pages, page);
  pages.lastTime[page] = 0;
  pages.eventKinds[page] = 0;
  pages.numEvents[page] = 0;
  pages.processors[page] = 0;
  maskClear(thrashing.w, T_THRASHING_PAGES, page);
  thrashing.numThrashingPages--;
}
