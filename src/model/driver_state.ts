/**
 * A hash of the driver's state, for what must leave it as it was. Compared with modelHash it leaves out what any call
 * changes: the clock, threads and queues; when locks were last held; channels with their GPFIFOs, pushbuffers, values
 * and engines, and so entries of trackers that are done; caches of searches; scratch memory of services; the contents
 * of memory; and everything of the copy routine itself. Work that has finished by now is carried out first.
 */
import { hostFinishTime, hostRunUntil } from './gpu/host.ts';
import { hashState } from './model.ts';
import type { Model } from './state.ts';
import type { Tracker } from './uvm/tracker.ts';
import type { VaBlock } from './uvm/va_block_types.ts';

/** Channel ids are GPU index * 64 + index on the GPU. */
const CHANNELS = 64;

/** The entries that are not done yet, in an order of their own: where an entry stands in a tracker means nothing. */
function openEntries(m: Model, tracker: Tracker): [number, number][] {
  const open: [number, number][] = [];
  for (let i = 0; i < tracker.length; i += 2) {
    const { host } = m.gpus[Math.floor(tracker[i] / CHANNELS)].channelManager;
    if (hostFinishTime(host, tracker[i] % CHANNELS, tracker[i + 1]) > m.k.now) open.push([tracker[i], tracker[i + 1]]);
  }
  return open.sort((a, b) => a[0] - b[0]);
}

function blockState(m: Model, block: VaBlock | null, times: boolean): unknown {
  if (block === null) return null;
  const { range, tracker, lockFreeAt, thrashing, cpuFirstFaultStamp, ...rest } = block;
  const state = { ...rest, stamp: times ? cpuFirstFaultStamp : 0, open: openEntries(m, tracker) };
  if (thrashing === null || times) return { ...state, thrashing };
  const { lastTime, lastThrashingTime, pages, ...counts } = thrashing;
  if (pages === null) return { ...state, counts };
  const { lastTime: _last, throttlingEnd: _end, ...marks } = pages;
  return { ...state, counts, marks };
}

/**
 * Residency, mappings and every other mask of each block; page-table layouts and the tables in the GPUs' memory;
 * policies and range groups; thrashing and prefetch data; counts of memory in use; fault buffers, service state of the
 * bottom halves; the log of events and what of it is not delivered; the driver's global status.
 *
 * With `times` false, times inside of it (of events, of thrashing) are left out too: for two runs of which one took
 * longer.
 */
export function driverStateHash(m: Model, times = true): string {
  for (const gpu of m.gpus) hostRunUntil(m, gpu.index, m.k.now);
  const spaces = m.vaSpaces.map((space) => {
    const { copy, ranges, slab, serviceContext, readFreeAt, writeFreeAt, lastRange, thrashing, ...rest } = space;
    const blocks = ranges.map(({ space: _space, blocks: list, ...range }) => ({
      ...range,
      blocks: list.map((block) => blockState(m, block, times)),
    }));
    // By number: the block itself has what is left out here.
    const pinned = thrashing.pinned.map(({ block, ...entry }) => ({ ...entry, block: block.id }));
    return { ...rest, ranges: blocks, thrashing: times ? { ...thrashing, pinned } : null };
  });
  const gpus = m.gpus.map((gpu) => ({
    tables: [...gpu.mmu.regions],
    faultBuffer: times ? gpu.faultBuffer : [gpu.faultBuffer.put, gpu.faultBuffer.get],
    batch: gpu.replayable.batch.batchId,
    prefetchFaults: gpu.replayable.prefetchFaultsEnabled,
    pageTree: gpu.pageTree,
    vidmemUsed: gpu.vidmemUsed,
    instances: gpu.instancePointers,
  }));
  const { log, groupsPending } = m.tools;
  const { time, end, gpuTime, gpuEnd, ...columns } = log;
  const used = Object.values(times ? { ...columns, time, end, gpuTime, gpuEnd } : columns).map((column) =>
    typeof column === 'number' ? column : Array.from(column.subarray(0, log.count)),
  );
  return hashState({ spaces, gpus, used, groupsPending, globalStatus: m.globalStatus });
}
