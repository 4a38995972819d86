/**
 * Models uvm_perf_prefetch.c and the tree arithmetic of uvm_perf_utils.h (driver 580.105.08):
 * uvm_perf_prefetch_get_hint_va_block, uvm_perf_prefetch_prenotify_fault_migrations, update_bitmap_tree_from_va_block,
 * grow_fault_granularity, compute_prefetch_mask, compute_prefetch_region; and the test for a single destination of
 * uvm_va_block_get_prefetch_hint (uvm_va_block.c).
 *
 * Left out: ATS, HMM's smaller regions, big pages other than 64 KiB, and the rule of later branches that does not
 * prefetch out of the preferred location.
 *
 * The tree is a bitmap of leaves; a node of height h covers 2^h leaves, aligned. Leaf i is page i - offset; the offset
 * makes every 16th leaf begin a 64 KiB piece of address space. Nothing is stored for inner nodes: their counts are
 * population counts of the bitmap.
 */
import {
  MASK_WORDS,
  maskClearRegion,
  maskIntersectsRegion,
  maskIsEmpty,
  maskNextSet,
  maskRegionWeight,
  maskSetRegion,
  maskTest,
  maskZero,
} from '../../base/page_mask.ts';
import { PAGES_PER_BIG_PAGE, pageInBigPage } from '../../base/units.ts';
import type { Model } from '../state.ts';
import { perfThrashingGetThrashingPages } from './perf_thrashing.ts';
import { CPU_ID, INVALID_ID, processorFirst } from './processors.ts';
import { residentOffset, residentWords } from './va_block.ts';
import {
  B_CPU_READ,
  B_CPU_RESIDENT,
  S_NEW_RESIDENCY,
  S_PREFETCH,
  type ServiceBlockContext,
  type VaBlock,
} from './va_block_types.ts';

/** Scratch of one call: the leaves, and set leaves before each of its 32-leaf words. */
const TREE = new Uint32Array(MASK_WORDS);
const BEFORE = new Uint16Array(MASK_WORDS + 1);
const WORD_HEIGHT = 5;

/**
 * Decides which pages follow the ones that a service call is about to move (uvm_va_block_get_prefetch_hint up to the
 * hint). Inputs are the destination masks of `context` and its region. Sets `context.prefetchResidency` (INVALID_ID:
 * no hint) and the mask S_PREFETCH; the caller adds the pages to the destination's mask.
 *
 * With pages going to several processors nothing is decided and the mask of the call before stays, as in the driver.
 * Callers use the mask to tell causes apart even then. The caller also accounts for the time this takes.
 */
export function perfPrefetchGetHint(m: Model, block: VaBlock, context: ServiceBlockContext): void {
  const why = m.res.why;
  const destinations = context.residentProcessors;
  context.prefetchResidency = INVALID_ID;
  if (destinations === 0 || (destinations & (destinations - 1)) !== 0) {
    if (why !== null) why.prefetch(block, context, 'several residencies');
    return;
  }
  const w = context.w;
  maskZero(w, S_PREFETCH);
  if (m.params.uvm_perf_prefetch_enable === 0 || block.range.space.prefetchDisabled) {
    if (why !== null) why.prefetch(block, context, 'disabled');
    return;
  }
  const destination = processorFirst(destinations);
  // Data that exists nowhere yet, going where its policy wants it: all of the block at once.
  const wholeBlock = block.resident === 0 && destination === block.range.policy.preferredLocation;
  const pending = prenotifyFaultMigrations(m, block, context, destination, wholeBlock);
  if (
    pending &&
    block.faultMigrationsToLastProc >= m.params.uvm_perf_prefetch_min_faults &&
    clearOtherRangeGroups(block, context, destination)
  ) {
    context.prefetchResidency = destination;
  }
  if (why !== null) why.prefetch(block, context, wholeBlock ? 'whole block' : 'tree');
}

/** Fills S_PREFETCH and counts the faults (uvm_perf_prefetch_prenotify_fault_migrations). True when there are pages. */
function prenotifyFaultMigrations(
  m: Model,
  block: VaBlock,
  context: ServiceBlockContext,
  destination: number,
  wholeBlock: boolean,
): boolean {
  const w = context.w;
  const faulted = S_NEW_RESIDENCY + destination * MASK_WORDS;
  const thrashing = perfThrashingGetThrashingPages(block);
  if (block.lastMigrationProc !== destination) {
    block.lastMigrationProc = destination;
    block.faultMigrationsToLastProc = 0;
  }
  if (wholeBlock) maskSetRegion(w, S_PREFETCH, 0, block.n);
  else computePrefetchMask(m, block, context, destination, thrashing);
  const b = block.w;
  let any = 0;
  for (let i = 0; i < MASK_WORDS; i++) {
    let word = w[S_PREFETCH + i] & ~w[faulted + i];
    // Pages the CPU holds and maps already would only be mapped again.
    if (destination === CPU_ID) word &= ~(b[B_CPU_RESIDENT + i] & b[B_CPU_READ + i]);
    if (thrashing !== null) word &= ~thrashing[i];
    w[S_PREFETCH + i] = word;
    any |= word;
  }
  const faults = maskRegionWeight(w, faulted, context.firstPage, context.outerPage);
  // The driver's counter is 16 bits wide and wraps.
  block.faultMigrationsToLastProc = (block.faultMigrationsToLastProc + faults) & 0xffff;
  return any !== 0;
}

/** Keeps prefetch out of range-group intervals without a fault of their own. True when pages are left. */
function clearOtherRangeGroups(block: VaBlock, context: ServiceBlockContext, destination: number): boolean {
  const intervals = block.range.space.rangeGroupRanges;
  if (intervals.length === 0) return true;
  const faulted = S_NEW_RESIDENCY + destination * MASK_WORDS;
  for (const interval of intervals) {
    const first = Math.max(interval.startPage - block.startPage, 0);
    const outer = Math.min(interval.outerPage - block.startPage, block.n);
    if (first < outer && !maskIntersectsRegion(context.w, faulted, first, outer)) {
      maskClearRegion(context.w, S_PREFETCH, first, outer);
    }
  }
  return !maskIsEmpty(context.w, S_PREFETCH);
}

/** Set bits of a word. */
function popcount(v: number): number {
  let x = v - ((v >>> 1) & 0x55555555);
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/**
 * Both 64 KiB pieces of a word of leaves, full where there is a fault and no thrashing page (grow_fault_granularity).
 * What was resident before does not make a piece grow.
 */
function grown(faulted: number, thrashing: number): number {
  let full = 0;
  if ((faulted & 0xffff) !== 0 && (thrashing & 0xffff) === 0) full = 0xffff;
  if (faulted >>> 16 !== 0 && thrashing >>> 16 === 0) full |= 0xffff0000;
  return full;
}

/**
 * Leaves = resident or faulted pages, shifted up by `offset`, and pieces grown. Without `pieces` the block, shorter
 * than a word then, is one piece. Leaves outside the block end up clear.
 */
function buildTree(
  block: VaBlock,
  destination: number,
  w: Uint32Array,
  faulted: number,
  offset: number,
  pieces: boolean,
  thrashing: Uint32Array | null,
): void {
  const resident = residentWords(block, destination);
  const at = residentOffset(destination);
  const leafCount = block.n + offset;
  const last = (leafCount - 1) >>> WORD_HEIGHT;
  // What the shift carries from one word into the next.
  let carry = 0;
  let carryFaulted = 0;
  let carryThrashing = 0;
  let set = 0;
  for (let i = 0; i <= last; i++) {
    const f = w[faulted + i];
    const held = resident === null ? f : f | resident[at + i];
    let word = (held << offset) | carry;
    const leaves = (f << offset) | carryFaulted;
    if (leaves !== 0 && !pieces) {
      if (thrashing === null) word = -1;
    } else if (leaves !== 0) {
      word |= grown(leaves, thrashing === null ? 0 : (thrashing[i] << offset) | carryThrashing);
    }
    if (i === 0) word &= -1 << offset;
    if (i === last) word &= -1 >>> (-leafCount & 31);
    TREE[i] = word;
    BEFORE[i] = set;
    if (word !== 0) set += word === -1 ? 32 : popcount(word);
    if (offset !== 0) {
      carry = held >>> (32 - offset);
      carryFaulted = f >>> (32 - offset);
      if (thrashing !== null) carryThrashing = thrashing[i] >>> (32 - offset);
    }
  }
  for (let i = last + 1; i <= MASK_WORDS; i++) BEFORE[i] = set;
}

/** Height of a tree with so many leaves: levels less one. */
function treeHeight(leafCount: number): number {
  return 32 - Math.clz32(leafCount - 1);
}

/** Set leaves below the node of height `height` that begins at leaf `first`. Leaves past the last one are clear. */
function nodeCount(first: number, height: number): number {
  const word = first >>> WORD_HEIGHT;
  if (height < WORD_HEIGHT) return popcount((TREE[word] >>> (first & 31)) & ((1 << (1 << height)) - 1));
  return BEFORE[word + (1 << (height - WORD_HEIGHT))] - BEFORE[word];
}

/**
 * Height of the largest node above `leaf` that is fuller than the threshold, or -1 (compute_prefetch_region). The
 * driver climbs from the leaf and keeps the last node that passes; coming down from the root finds the same one first.
 * Nodes at the right edge are cut off at the last leaf and are measured by what is left of them.
 */
function highestPassing(leaf: number, leafCount: number, threshold: number): number {
  for (let height = treeHeight(leafCount); height >= 0; height--) {
    const first = (leaf >>> height) << height;
    const size = Math.min(1 << height, leafCount - first);
    if (nodeCount(first, height) * 100 > size * threshold) return height;
  }
  return -1;
}

/** Tells the observer every level above one page, leaf first, by the driver's numbers (0 is the root). */
function reportLevels(m: Model, block: VaBlock, page: number, offset: number, threshold: number): void {
  const why = m.res.why;
  if (why === null) return;
  const leafCount = block.n + offset;
  const top = treeHeight(leafCount);
  for (let height = 0; height <= top; height++) {
    const first = ((page + offset) >>> height) << height;
    const size = Math.min(1 << height, leafCount - first);
    const counter = nodeCount(first, height);
    const passes = counter * 100 > size * threshold;
    why.prefetchLevel(block, page, top - height, first - offset, first - offset + size, counter, size, passes);
  }
}

/** Builds the tree and asks it for every faulted page that does not thrash (init_bitmap_tree_from_region and on). */
function computePrefetchMask(
  m: Model,
  block: VaBlock,
  context: ServiceBlockContext,
  destination: number,
  thrashing: Uint32Array | null,
): void {
  const w = context.w;
  const n = block.n;
  const faulted = S_NEW_RESIDENCY + destination * MASK_WORDS;
  const misaligned = pageInBigPage(block.startPage);
  const head = misaligned === 0 ? 0 : PAGES_PER_BIG_PAGE - misaligned;
  // Without one aligned 64 KiB piece the leaves begin at the block's start and count as a single piece.
  const pieces = n - head >= PAGES_PER_BIG_PAGE;
  const offset = pieces ? misaligned : 0;
  buildTree(block, destination, w, faulted, offset, pieces, thrashing);
  fillPrefetchMask(m, block, context, faulted, offset, thrashing);
}

/** For each faulted page, ascending: the region of its largest full-enough node (compute_prefetch_mask). */
function fillPrefetchMask(
  m: Model,
  block: VaBlock,
  context: ServiceBlockContext,
  faulted: number,
  offset: number,
  thrashing: Uint32Array | null,
): void {
  const w = context.w;
  const n = block.n;
  const end = context.outerPage;
  const threshold = m.params.uvm_perf_prefetch_threshold;
  const why = m.res.why;
  let next = context.firstPage;
  for (;;) {
    const page = maskNextSet(w, faulted, next, end);
    if (page >= end) return;
    next = page + 1;
    if (thrashing !== null && maskTest(thrashing, 0, page)) continue;
    if (why !== null) reportLevels(m, block, page, offset, threshold);
    const height = highestPassing(page + offset, n + offset, threshold);
    if (height < 0) {
      if (why !== null) why.prefetchRegion?.(block, page, 0, 0);
      continue;
    }
    const first = ((page + offset) >>> height) << height;
    const outer = Math.min(first + (1 << height) - offset, n);
    // A node that begins before the block does not reach down to page 0: the driver takes the offset for a page index.
    const from = first < offset ? offset : first - offset;
    if (from < outer) maskSetRegion(w, S_PREFETCH, from, outer);
    if (why !== null) why.prefetchRegion?.(block, page, from, Math.max(from, outer));
    if (outer === n) return;
    // The node's other pages have the same larger nodes above them, none of which passed: their answer is this one.
    if (why === null) next = outer;
  }
}
