/**
 * Models the delayed work of uvm_perf_thrashing.c (driver 580.105.08): thrashing_unpin_pages. A file of its own
 * because it calls the block's code, which calls perf_thrashing.ts.
 *
 * Left out: HMM, and the rounding of delays to the kernel's ticks.
 */
import { LOCK_ORDER_VA_BLOCK, LOCK_ORDER_VA_SPACE, lockAcquire, lockRelease } from '../kernel/lock.ts';
import type { Model } from '../state.ts';
import { thrashingResetPage, thrashingScheduleUnpin } from './perf_thrashing_page.ts';
import { vaBlockUnmapForUnpin } from './va_block_map.ts';

/** Pages whose deadline is this near are unpinned at once (TIMER_GRANULARITY_NS). */
const TIMER_GRANULARITY_NS = 20000;

/**
 * Unpins the pages whose time is up, so that the next remote access faults and may move them. Handler of a timed event:
 * `spaceId` is the index of the VA space, `generation` the number the timer was set with.
 */
export function thrashingUnpinPages(m: Model, spaceId: number, generation: number): void {
  const space = m.vaSpaces[spaceId];
  const list = space.thrashing;
  if (generation !== list.unpinGeneration) return;
  m.k.now = Math.max(m.k.now, space.writeFreeAt);
  if (m.res.why !== null) m.res.why.enter('thrashing_unpin_pages', m.k.now);
  lockAcquire(m, LOCK_ORDER_VA_SPACE, space.id, true);
  for (;;) {
    const entry = list.pinned[0];
    if (entry === undefined) break;
    if (entry.deadline > m.k.now + TIMER_GRANULARITY_NS) {
      thrashingScheduleUnpin(m, space, entry.deadline - m.k.now);
      break;
    }
    list.pinned.shift();
    const block = entry.block;
    m.k.now = Math.max(m.k.now, block.lockFreeAt);
    lockAcquire(m, LOCK_ORDER_VA_BLOCK, block.id, false);
    vaBlockUnmapForUnpin(m, block, entry.page);
    thrashingResetPage(m, block, entry.page);
    lockRelease(m, LOCK_ORDER_VA_BLOCK, block.id, false);
    block.lockFreeAt = m.k.now;
  }
  lockRelease(m, LOCK_ORDER_VA_SPACE, space.id, true);
  space.readFreeAt = Math.max(space.readFreeAt, m.k.now);
}
