/**
 * Models uvm_perf_thrashing.c (driver 580.105.08): detection (thrashing_event_cb, thrashing_detected), the hint
 * (uvm_perf_thrashing_get_hint, thrashing_throttle_update, get_hint_for_migration_thrashing) and the life of a block's
 * data. What happens to one page is in perf_thrashing_page.ts, the worker that unpins in perf_thrashing_unpin.ts.
 *
 * Left out: statistics in procfs, HMM, processors without memory (a pin there goes to the CPU), siblings on one GPU,
 * failures to allocate, parameters set through test ioctls, and the adaptive lapse of later branches.
 *
 * Time is virtual and begins at 0, while the driver's clock never reads 0. An event in the first 64 ns of a run leaves
 * a stamp that reads as none.
 */
import { assert } from '../../base/assert.ts';
import { maskContainsRegion, maskNextSet, maskSet, maskTest, maskZero } from '../../base/page_mask.ts';
import type { Model } from '../state.ts';
import {
  pageStamp,
  saturatingAdd,
  T_PINNED_PAGES,
  T_THRASHING_PAGES,
  T_WORDS,
  thrashingPinPage,
  thrashingResetPage,
  thrashingThrottleEndProcessor,
  thrashingThrottleProcessor,
  thrashingThrottlingResetPage,
} from './perf_thrashing_page.ts';
import {
  type BlockThrashing,
  type PageThrashing,
  THRASHING_HINT_NONE,
  THRASHING_HINT_PIN,
  THRASHING_HINT_THROTTLE,
  type ThrashingHint,
} from './perf_thrashing_types.ts';
import {
  CPU_ID,
  INVALID_ID,
  type ProcessorMasks,
  processorFindClosest,
  processorFirst,
  processorNext,
} from './processors.ts';
import { toolsRecordThrashing } from './tools.ts';
import { pageClosestResident } from './va_block.ts';
import {
  CAUSE_ACCESS_COUNTER,
  CAUSE_EVICTION,
  CAUSE_PREFETCH,
  CAUSE_REPLAYABLE_FAULT,
  type VaBlock,
} from './va_block_types.ts';
import { READ_DUPLICATION_ENABLED } from './va_range_types.ts';

/** Bits of `PageThrashing.eventKinds`. */
const KIND_MIGRATION = 1;
const KIND_REVOCATION = 2;

/** The driver counts events in 3 bits. */
const NUM_EVENTS_MAX = 7;

function isEnabled(m: Model, block: VaBlock): boolean {
  return m.params.uvm_perf_thrashing_enable !== 0 && !block.range.space.thrashingDisabled;
}

/** Masks of a block whose pages are not looked at yet: shared, and nothing is ever set in them. */
const NO_MASKS = new Uint32Array(T_WORDS);

function createBlockThrashing(): BlockThrashing {
  return {
    pages: null,
    numThrashingPages: 0,
    w: NO_MASKS,
    pinnedCount: 0,
    lastProcessor: INVALID_ID,
    lastTime: 0,
    lastThrashingTime: 0,
    resetCount: 0,
  };
}

function createPages(n: number): PageThrashing {
  return {
    lastTime: new Float64Array(n),
    throttlingEnd: new Float64Array(n),
    numEvents: new Uint8Array(n),
    eventKinds: new Uint8Array(n),
    pinned: new Uint8Array(n),
    throttlingCount: new Uint8Array(n),
    processors: new Uint32Array(n),
    throttledProcessors: new Uint32Array(n),
    pinnedResidency: new Int8Array(n).fill(INVALID_ID),
    doNotThrottle: new Int8Array(n).fill(INVALID_ID),
  };
}

/**
 * Takes notice of one run of pages about to become resident on `processor` (thrashing_event_cb, migration). Call it
 * before the residency bits change.
 *
 * @param isReadDuplicateCopy the run is copied, not moved
 * @param isFirstHop first half of a staged copy: `processor` is not where the pages end up
 */
export function perfThrashingMigrationEvent(
  m: Model,
  block: VaBlock,
  processor: number,
  first: number,
  count: number,
  cause: number,
  isReadDuplicateCopy: boolean,
  isFirstHop: boolean,
): void {
  if (cause === CAUSE_EVICTION || isFirstHop || !isEnabled(m, block)) return;
  const byFault = cause === CAUSE_REPLAYABLE_FAULT || cause === CAUSE_ACCESS_COUNTER;
  const duplicates = isReadDuplicateCopy || block.range.policy.readDuplication === READ_DUPLICATION_ENABLED;
  if (duplicates || !(byFault || cause === CAUSE_PREFETCH)) {
    // The user's own words about these pages count for more than the heuristic: forget what it knew.
    resetRegion(m, block, first, first + count);
    return;
  }
  const thrashing = block.thrashing;
  if (byFault && thrashing !== null && thrashing.pages !== null) {
    // Pages on their way to where they are pinned do not thrash by that.
    if (maskContainsRegion(thrashing.w, T_PINNED_PAGES, first, first + count)) return;
  }
  recordEvent(m, block, processor, first, count, KIND_MIGRATION);
}

/** Takes notice of one run of pages on which `processor` loses a permission (thrashing_event_cb, revocation). */
export function perfThrashingRevocationEvent(
  m: Model,
  block: VaBlock,
  processor: number,
  first: number,
  count: number,
): void {
  if (isEnabled(m, block)) recordEvent(m, block, processor, first, count, KIND_REVOCATION);
}

function recordEvent(m: Model, block: VaBlock, processor: number, first: number, count: number, kind: number): void {
  // One time for the whole run: recording an event on the way takes some.
  const now = m.k.now;
  if (block.thrashing === null) block.thrashing = createBlockThrashing();
  const thrashing = block.thrashing;
  if (thrashing.pages === null) {
    // Two processors at the block within a lapse: worth looking at pages.
    const suspicious =
      thrashing.lastTime !== 0 &&
      thrashing.lastProcessor !== processor &&
      now - thrashing.lastTime <= m.params.thrashingLapseNs;
    if (suspicious) {
      thrashing.pages = createPages(block.n);
      thrashing.w = new Uint32Array(T_WORDS);
    }
  }
  if (thrashing.pages !== null) {
    for (let page = first; page < first + count; page++) {
      recordPage(m, block, thrashing, thrashing.pages, page, processor, kind, now);
    }
  }
  thrashing.lastTime = now;
  thrashing.lastProcessor = processor;
}

function recordPage(
  m: Model,
  block: VaBlock,
  thrashing: BlockThrashing,
  pages: PageThrashing,
  page: number,
  processor: number,
  kind: number,
  now: number,
): void {
  const threshold = m.params.uvm_perf_thrashing_threshold;
  const last = pages.lastTime[page];
  pages.processors[page] |= 1 << processor;
  pages.lastTime[page] = pageStamp(now);
  if (last === 0) return;
  if (now - last <= m.params.thrashingLapseNs) {
    const events = saturatingAdd(pages.numEvents[page], 1, NUM_EVENTS_MAX);
    pages.numEvents[page] = events;
    if (events === threshold) detected(m, block, thrashing, pages, page);
    if (events >= threshold) thrashing.lastThrashingTime = now;
    pages.eventKinds[page] |= kind;
  } else if (pages.numEvents[page] >= threshold && pages.pinned[page] === 0) {
    thrashingResetPage(m, block, page);
  }
}

/** thrashing_detected */
function detected(m: Model, block: VaBlock, thrashing: BlockThrashing, pages: PageThrashing, page: number): void {
  toolsRecordThrashing(m, block.startPage + page, pages.processors[page]);
  if (maskTest(thrashing.w, T_THRASHING_PAGES, page)) return;
  maskSet(thrashing.w, T_THRASHING_PAGES, page);
  thrashing.numThrashingPages++;
}

function resetRegion(m: Model, block: VaBlock, first: number, outer: number): void {
  const thrashing = block.thrashing;
  if (thrashing === null || thrashing.pages === null) return;
  for (let page = first; ; page++) {
    page = maskNextSet(thrashing.w, T_THRASHING_PAGES, page, outer);
    if (page >= outer) return;
    thrashingResetPage(m, block, page);
  }
}

/** Drops a block's data: it is split, it ends, or its VA space stops detecting (uvm_perf_thrashing_info_destroy). */
export function perfThrashingInfoDestroy(m: Model, block: VaBlock): void {
  resetRegion(m, block, 0, block.n);
  block.thrashing = null;
}

/** Mask (at offset 0) of the pages that thrash, or null if none does (uvm_perf_thrashing_get_thrashing_pages). */
export function perfThrashingGetThrashingPages(block: VaBlock): Uint32Array | null {
  const thrashing = block.thrashing;
  return thrashing === null || thrashing.numThrashingPages === 0 ? null : thrashing.w;
}

/** Mask of the processors that thrash on a page with a PIN hint (uvm_perf_thrashing_get_thrashing_processors). */
export function perfThrashingGetThrashingProcessors(block: VaBlock, page: number): number {
  const thrashing = block.thrashing;
  assert(thrashing !== null && thrashing.pages !== null, 'thrashing processors of a block without thrashing data');
  return thrashing.pages.processors[page];
}

/**
 * What to do about a fault of `processor` on a page (uvm_perf_thrashing_get_hint): service it, throttle the processor,
 * or pin the page. Throttles and pins at once. The answer is `m.thrashingHint`, overwritten by the next call. The
 * caller accounts for the time this takes.
 */
export function perfThrashingGetHint(m: Model, block: VaBlock, page: number, processor: number): ThrashingHint {
  const hint = m.thrashingHint;
  hint.type = THRASHING_HINT_NONE;
  const thrashing = block.thrashing;
  if (thrashing === null || thrashing.pages === null || !isEnabled(m, block)) return hint;
  const now = m.k.now;
  const step = isEpochOver(m, thrashing, now)
    ? epochReset(m, block, thrashing, thrashing.pages)
    : decide(m, block, thrashing.pages, page, processor, now, hint);
  const why = m.res.why;
  if (why !== null) why.thrashing(block, page, processor, step, hint.type);
  if (hint.type === THRASHING_HINT_PIN) {
    thrashingPinPage(m, block, thrashing, thrashing.pages, page, hint.residency, now);
    hint.processors = thrashing.pages.processors[page];
  } else if (hint.type === THRASHING_HINT_THROTTLE) {
    thrashingThrottleProcessor(m, block, thrashing.pages, page, processor);
    hint.endTime = thrashing.pages.throttlingEnd[page];
  }
  return hint;
}

function isEpochOver(m: Model, thrashing: BlockThrashing, now: number): boolean {
  return (
    thrashing.lastThrashingTime !== 0 &&
    now - thrashing.lastThrashingTime > m.params.thrashingEpochNs &&
    thrashing.pinnedCount === 0 &&
    thrashing.resetCount < m.params.uvm_perf_thrashing_max_resets
  );
}

/** A block that has been quiet for an epoch starts afresh, a limited number of times. */
function epochReset(m: Model, block: VaBlock, thrashing: BlockThrashing, pages: PageThrashing): string {
  thrashing.resetCount++;
  for (let page = 0; ; page++) {
    page = maskNextSet(thrashing.w, T_THRASHING_PAGES, page, block.n);
    if (page >= block.n) break;
    thrashingThrottlingResetPage(m, block, pages, page);
  }
  thrashing.pages = null;
  thrashing.numThrashingPages = 0;
  thrashing.lastProcessor = INVALID_ID;
  thrashing.lastTime = 0;
  thrashing.lastThrashingTime = 0;
  maskZero(thrashing.w, T_THRASHING_PAGES);
  return 'epoch reset';
}

/** Sets type and residency of the hint; returns the name of the step that decided. */
function decide(
  m: Model,
  block: VaBlock,
  pages: PageThrashing,
  page: number,
  processor: number,
  now: number,
  hint: ThrashingHint,
): string {
  if (pages.numEvents[page] < m.params.uvm_perf_thrashing_threshold) return 'below threshold';
  if ((pages.throttledProcessors[page] & (1 << processor)) !== 0) {
    if (now < pages.throttlingEnd[page] && processor !== pages.doNotThrottle[page]) {
      hint.type = THRASHING_HINT_THROTTLE;
      return 'still throttled';
    }
    thrashingThrottleEndProcessor(m, block, pages, page, processor);
  }
  const pinned = pages.pinned[page] !== 0;
  // The migration that follows finds the same and resets the page.
  if (!pinned && now - pages.lastTime[page] > m.params.thrashingLapseNs) return 'lapse over';
  pages.processors[page] |= 1 << processor;
  throttleUpdate(m, pages, page, processor, now);
  if (pinned && (pages.eventKinds[page] & KIND_REVOCATION) !== 0 && processor !== pages.doNotThrottle[page]) {
    // A pinned page that goes on thrashing does so by revocation alone: nothing helps but to slow the processors down.
    hint.type = THRASHING_HINT_THROTTLE;
    return 'revocation';
  }
  return decideForMigration(m, block, pages, page, processor, hint);
}

/** Begins a throttling period when none runs, and names the processor that it spares (thrashing_throttle_update). */
function throttleUpdate(m: Model, pages: PageThrashing, page: number, processor: number, now: number): void {
  const spared = pages.doNotThrottle[page];
  if (now > pages.throttlingEnd[page]) {
    pages.throttlingEnd[page] = pageStamp(now + m.params.thrashingNapNs);
    // Nobody is spared twice running.
    pages.doNotThrottle[page] = spared === processor ? INVALID_ID : processor;
  } else if (spared === INVALID_ID) {
    pages.doNotThrottle[page] = processor;
  }
}

function pinAt(hint: ThrashingHint, residency: number, step: string): string {
  hint.type = THRASHING_HINT_PIN;
  hint.residency = residency;
  return step;
}

function throttle(hint: ThrashingHint, step: string): string {
  hint.type = THRASHING_HINT_THROTTLE;
  return step;
}

/** get_hint_for_migration_thrashing; the first matching step decides. */
function decideForMigration(
  m: Model,
  block: VaBlock,
  pages: PageThrashing,
  page: number,
  requester: number,
  hint: ThrashingHint,
): string {
  const masks = block.range.space.processors;
  const preferred = block.range.policy.preferredLocation;
  const processors = pages.processors[page];
  const isSpared = requester === pages.doNotThrottle[page];
  const overPinThreshold = pages.throttlingCount[page] >= m.params.uvm_perf_thrashing_pin_threshold;
  if (allCanAccess(masks, processors, preferred)) return pinAt(hint, preferred, 'preferred location reachable');
  const closest = pageClosestResident(block, page, requester);
  const preferredThrashes = preferred !== INVALID_ID && (processors & (1 << preferred)) !== 0;
  if (!preferredThrashes && allHaveFastAccess(masks, processors, closest)) {
    if (closest !== CPU_ID || !allCanAccess(masks, processors, requester)) return pinAt(hint, closest, 'fast access');
    // The CPU maps video memory on such machines, and can cache it: better than the GPU mapping the CPU's.
    return requester === CPU_ID ? 'fast access' : pinAt(hint, requester, 'fast access');
  }
  if (requester === preferred) {
    if (pages.pinned[page] !== 0) {
      const stays = preferred === pages.pinnedResidency[page] || isSpared;
      return stays ? pinAt(hint, preferred, 'preferred and pinned') : throttle(hint, 'preferred and pinned');
    }
    if (!isSpared) return throttle(hint, 'preferred');
    return overPinThreshold ? pinAt(hint, preferred, 'preferred') : 'preferred';
  }
  if (pages.pinned[page] !== 0) return decidePinned(masks, pages, page, requester, isSpared, hint);
  if (!isSpared) return throttle(hint, 'not spared');
  return overPinThreshold ? pinAt(hint, requester, 'pin threshold') : 'spared';
}

/** The page is pinned already, and the requester is not the preferred location. */
function decidePinned(
  masks: ProcessorMasks,
  pages: PageThrashing,
  page: number,
  requester: number,
  isSpared: boolean,
  hint: ThrashingHint,
): string {
  const processors = pages.processors[page];
  const residency = pages.pinnedResidency[page];
  if (!isSpared) {
    const reachable = (masks.accessibleFrom[residency] & (1 << requester)) !== 0;
    return reachable ? pinAt(hint, residency, 'pinned within reach') : throttle(hint, 'pinned out of reach');
  }
  if (allCanAccess(masks, processors, requester)) return pinAt(hint, requester, 'pinned, spared');
  const common = commonLocations(masks, processors);
  const target = common === 0 ? requester : processorFindClosest(masks, common, requester);
  return pinAt(hint, target, 'pinned, spared');
}

/** All processors of the mask can map memory of `to` (thrashing_processors_can_access). */
function allCanAccess(masks: ProcessorMasks, processors: number, to: number): boolean {
  return to !== INVALID_ID && (processors & ~masks.accessibleFrom[to]) === 0;
}

/** All of them reach `to` over a fast link and with native atomics (thrashing_processors_have_fast_access_to). */
function allHaveFastAccess(masks: ProcessorMasks, processors: number, to: number): boolean {
  if (to === INVALID_ID) return false;
  const fast = (masks.hasFastLink[to] & masks.hasNativeAtomics[to]) | (1 << to);
  return (processors & ~fast) === 0;
}

/** Processors whose memory every one of the mask can map (thrashing_processors_common_locations). */
function commonLocations(masks: ProcessorMasks, processors: number): number {
  let common = processors === 0 ? 0 : -1;
  for (let id = processorFirst(processors); id !== INVALID_ID; id = processorNext(processors, id)) {
    common &= masks.canAccess[id];
  }
  return common;
}
