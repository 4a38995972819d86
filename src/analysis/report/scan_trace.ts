/**
 * One pass over the rows of a trace in the order of their times, which adds up what a report needs (scan_state.ts).
 * Nothing is made for a row: numbers in typed arrays, a few objects for each allocation, batch and block.
 */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../../base/units.ts';
import { addBatchFault, addReplay, type BatchFault, endBatches, openBatchRow } from './batch_table.ts';
import {
  followBlock,
  PAGE_BY_CALL,
  PAGE_FIRST_TOUCH,
  PAGE_WROTE,
  type Slab,
  slabIndex,
  slabOf,
} from './page_histories.ts';
import {
  type AllocationTotals,
  allocationOf,
  CAUSE_CALL,
  CAUSE_FAULT,
  CAUSE_PREFETCH,
  type FlowTotals,
  partOf,
  processorBit,
  type Scan,
  STEPS_KEPT,
  type UseTotals,
  useOf,
} from './scan_state.ts';
import { isTouched } from './scenario_touches.ts';
import { timeOrder } from './time_order.ts';

const BLOCK_BYTES = PAGE_SIZE * PAGES_PER_BLOCK;
/** Nanoseconds after a CPU fault in which the copies that it asked for begin; throttling and retries lie within. */
const CPU_SERVICE_MAX = 10e6;
/** A migration is of one block; one that says to be longer has this many of its blocks followed. */
const BLOCKS_OF_EVENT = 32;

function endOfBlock(offset: number): number {
  return (Math.floor(offset / BLOCK_BYTES) + 1) * BLOCK_BYTES;
}

/** Calls `act` for each piece of the bytes in one followed block: its slab, and the indices of its pages in there. */
function eachPiece(
  s: Scan,
  a: AllocationTotals,
  offset: number,
  bytes: number,
  act: (slab: Slab, from: number, to: number, id: number, firstPage: number) => void,
): void {
  if (offset < 0) return;
  const end = Math.min(offset + Math.max(bytes, 1), a.size, offset + BLOCKS_OF_EVENT * BLOCK_BYTES);
  for (let at = offset; at < end; ) {
    const until = Math.min(end, endOfBlock(at));
    const id = followBlock(s.pages, a.index, Math.floor(at / BLOCK_BYTES));
    if (id >= 0) {
      const page = Math.floor(at / PAGE_SIZE);
      const first = slabIndex(id) + (page % PAGES_PER_BLOCK);
      const pages = Math.ceil(until / PAGE_SIZE) - page;
      act(slabOf(s.pages, id), first, first + pages, id, page);
    }
    at = until;
  }
}

function stepOf(s: Scan, row: number): number {
  const step = s.trace.columns.arrays.step[row];
  return step < 0 ? s.onlyStep : step;
}

/** Where what prefetch brought goes: the page was left, or the trace ended. */
function endPrefetch(s: Scan, a: AllocationTotals, slab: Slab, i: number, page: number, lastStep: number): void {
  const to = slab.prefetchTo[i];
  if (to === 0 || s.touches === null) return;
  const used = isTouched(s.touches, s.processors[to - 1], a.name, page, slab.prefetchStep[i], lastStep);
  const tally = a.prefetch[(slab.flags[i] & PAGE_BY_CALL) === 0 ? 0 : 1];
  if (used) tally.used++;
  else tally.unused++;
  slab.prefetchTo[i] = 0;
}

function addUse(s: Scan, use: UseTotals, row: number): void {
  const { arrays } = s.trace.columns;
  const offset = arrays.offset[row];
  const page = offset - (offset % PAGE_SIZE);
  use.faults++;
  const access = arrays.access[row];
  use.byAccess[access] = (use.byAccess[access] ?? 0) + 1;
  if (page < use.firstByte) use.firstByte = page;
  if (page + PAGE_SIZE > use.endByte) use.endByte = page + PAGE_SIZE;
  if (use.firstRow < 0) {
    use.firstRow = row;
    use.firstTime = arrays.time[row];
  }
  keepStep(use.steps, stepOf(s, row));
}

function keepStep(steps: number[], step: number): void {
  if (step < 0 || steps.length >= STEPS_KEPT || steps[steps.length - 1] === step) return;
  if (!steps.includes(step)) steps.push(step);
}

/** What a fault says about its page; the id of its block, or -1. */
function faultPage(s: Scan, a: AllocationTotals, use: UseTotals, code: number, row: number): number {
  const { arrays } = s.trace.columns;
  const offset = arrays.offset[row];
  const id = followBlock(s.pages, a.index, Math.floor(offset / BLOCK_BYTES));
  if (id < 0) return id;
  s.pages.blockFaults[id]++;
  const slab = slabOf(s.pages, id);
  const i = slabIndex(id) + (Math.floor(offset / PAGE_SIZE) % PAGES_PER_BLOCK);
  const bit = 1 << processorBit(code);
  if ((slab.left[i] & bit) !== 0) {
    use.refaults++;
    slab.left[i] &= ~bit;
  }
  if (slab.held[i] === 0) {
    slab.flags[i] |= PAGE_FIRST_TOUCH;
    slab.toucher[i] = code + 1;
    use.firstTouchPages++;
  }
  slab.faulted[i] |= bit;
  slab.held[i] |= bit;
  if (s.writes[arrays.access[row]] === 1 && slab.moves[i] > 0) slab.flags[i] |= PAGE_WROTE;
  return id;
}

const batchFault: BatchFault = { gpu: 0, batch: 0, row: 0, time: 0, gpuTime: 0, allocation: 0, block: 0, page: 0 };

function addGpuFault(s: Scan, row: number): void {
  const { arrays } = s.trace.columns;
  const a = allocationOf(s, row);
  const code = s.srcCode[arrays.src[row]];
  const use = useOf(a, code);
  a.events++;
  addUse(s, use, row);
  const id = faultPage(s, a, use, code, row);
  const offset = arrays.offset[row];
  const page = Math.floor(offset / PAGE_SIZE);
  const f = batchFault;
  f.gpu = code;
  f.batch = arrays.batch[row];
  f.row = row;
  f.time = arrays.time[row];
  f.gpuTime = arrays.gpuTime[row];
  f.allocation = a.index;
  f.block = id >= 0 ? id : `${a.index}/${Math.floor(page / PAGES_PER_BLOCK)}`;
  f.page = id >= 0 ? id * PAGES_PER_BLOCK + (page % PAGES_PER_BLOCK) : `${a.index}/${page}`;
  if (addBatchFault(s.batches, f)) a.duplicates++;
  const batch = openBatchRow(s.batches, code);
  if (a.lastBatch !== batch) {
    a.lastBatch = batch;
    a.batches++;
  }
  if (use.lastBatch !== batch) {
    use.lastBatch = batch;
    use.batches++;
  }
  s.timeline.gpuFaults[partOf(s, f.time)]++;
}

function addCpuFault(s: Scan, row: number): void {
  const { arrays } = s.trace.columns;
  const a = allocationOf(s, row);
  const use = useOf(a, 0);
  a.events++;
  addUse(s, use, row);
  const id = faultPage(s, a, use, 0, row);
  const { cpuFaults } = s;
  const time = arrays.time[row];
  if (id >= 0) cpuFaults.open.set(id, cpuFaults.count);
  cpuFaults.row.push(row);
  cpuFaults.time.push(time);
  cpuFaults.end.push(time);
  cpuFaults.allocation.push(a.index);
  cpuFaults.count++;
  s.timeline.cpuFaults[partOf(s, time)]++;
}

function addFlow(s: Scan, flows: Map<number, FlowTotals>, row: number, copy: number): void {
  const { arrays } = s.trace.columns;
  const [cause, src, dst] = [arrays.cause[row], arrays.src[row], arrays.dst[row]];
  const key = (cause * 65536 + src) * 65536 + dst;
  let flow = flows.get(key);
  if (flow === undefined) {
    flow = { cause, src, dst, count: 0, bytes: 0, copy: 0 };
    flows.set(key, flow);
  }
  flow.count++;
  flow.bytes += Math.max(0, arrays.bytes[row]);
  flow.copy += copy;
}

/** A piece of a migration in the page histories. */
function movePages(s: Scan, a: AllocationTotals, row: number, from: number, to: number, causeClass: number): void {
  const { arrays } = s.trace.columns;
  const step = stepOf(s, row);
  const fromBit = 1 << processorBit(from);
  const toBit = 1 << processorBit(to);
  const prefetched = causeClass === CAUSE_PREFETCH || causeClass === CAUSE_CALL;
  eachPiece(s, a, arrays.offset[row], arrays.bytes[row], (slab, first, end, _id, firstPage) => {
    const { held, left, moves, flags, toucher } = slab;
    for (let i = first; i < end; i++) {
      if ((flags[i] & PAGE_FIRST_TOUCH) !== 0) {
        // Its data came from somewhere, so nobody was the first.
        if (toucher[i] === to + 1) useOf(a, to).firstTouchPages--;
        flags[i] &= ~PAGE_FIRST_TOUCH;
      }
      if (from === to) continue;
      held[i] |= fromBit | toBit;
      left[i] = (left[i] | fromBit) & ~toBit;
      if (moves[i] < 65535) moves[i]++;
      if (s.touches === null) continue;
      endPrefetch(s, a, slab, i, firstPage + i - first, step);
      if (!prefetched) continue;
      slab.prefetchTo[i] = to + 1;
      slab.prefetchStep[i] = step;
      if (causeClass === CAUSE_CALL) flags[i] |= PAGE_BY_CALL;
      else flags[i] &= ~PAGE_BY_CALL;
    }
  });
}

/** A copy may belong to the last CPU fault of its block; one to another processor says that the fault is over. */
function followCpuFault(s: Scan, a: AllocationTotals, row: number, toCpu: boolean, byFault: boolean): void {
  const { cpuFaults } = s;
  if (cpuFaults.open.size === 0) return;
  const { time, timeEnd, offset } = s.trace.columns.arrays;
  const id = followBlock(s.pages, a.index, Math.floor(offset[row] / BLOCK_BYTES));
  const fault = cpuFaults.open.get(id);
  if (fault === undefined) return;
  if (!toCpu || time[row] - cpuFaults.time[fault] > CPU_SERVICE_MAX) cpuFaults.open.delete(id);
  else if (byFault && timeEnd[row] > cpuFaults.end[fault]) cpuFaults.end[fault] = timeEnd[row];
}

function addMigration(s: Scan, row: number): void {
  const { arrays } = s.trace.columns;
  const a = allocationOf(s, row);
  a.events++;
  const copy = arrays.gpuTimeEnd[row] - arrays.gpuTime[row];
  addFlow(s, a.migrations, row, copy > 0 ? copy : 0);
  const from = s.srcCode[arrays.src[row]];
  const to = s.dstCode[arrays.dst[row]];
  const bytes = Math.max(0, arrays.bytes[row]);
  const causeClass = s.causeClass[arrays.cause[row]];
  const byFault = causeClass === CAUSE_FAULT || causeClass === CAUSE_PREFETCH;
  if (byFault && from !== to) {
    const use = useOf(a, to);
    const offset = arrays.offset[row];
    use.movedBytes += bytes;
    keepStep(use.movedSteps, stepOf(s, row));
    use.firstByte = Math.min(use.firstByte, offset - (offset % PAGE_SIZE));
    use.endByte = Math.max(use.endByte, Math.min(Math.ceil((offset + bytes) / PAGE_SIZE) * PAGE_SIZE, a.size));
  }
  movePages(s, a, row, from, to, causeClass);
  if (from === to) return;
  followCpuFault(s, a, row, to === 0, byFault);
  const part = partOf(s, arrays.time[row]);
  if (to === 0) s.timeline.toCpu[part] += bytes;
  else s.timeline.toGpu[part] += bytes;
}

/** Copies that several processors hold: none of them has lost the page, and no data changed sides. */
function addReadDuplicate(s: Scan, row: number): void {
  const { arrays } = s.trace.columns;
  const a = allocationOf(s, row);
  a.events++;
  const bits = s.setBits[arrays.processors[row]];
  eachPiece(s, a, arrays.offset[row], arrays.bytes[row], ({ held, left, moves }, first, end) => {
    for (let i = first; i < end; i++) {
      if ((left[i] & bits) !== 0 && moves[i] > 0) moves[i]--;
      held[i] |= bits;
      left[i] &= ~bits;
    }
  });
}

/** All but one lose their copies. */
function addInvalidate(s: Scan, row: number): void {
  const { arrays } = s.trace.columns;
  const a = allocationOf(s, row);
  a.events++;
  const keeper = s.srcCode[arrays.src[row]];
  const bit = 1 << processorBit(keeper);
  eachPiece(s, a, arrays.offset[row], arrays.bytes[row], (slab, first, end, _id, firstPage) => {
    for (let i = first; i < end; i++) {
      slab.left[i] = (slab.left[i] | slab.held[i]) & ~bit;
      slab.held[i] |= bit;
      if (s.touches !== null && slab.prefetchTo[i] !== keeper + 1) {
        endPrefetch(s, a, slab, i, firstPage + i - first, stepOf(s, row));
      }
    }
  });
}

type Act = (s: Scan, row: number) => void;

const ACTS: Readonly<Record<string, Act>> = {
  cpuFault: addCpuFault,
  gpuFault: addGpuFault,
  migration: addMigration,
  readDuplicate: addReadDuplicate,
  readDuplicateInvalidate: addInvalidate,
  replay: (s, row) => {
    const { arrays } = s.trace.columns;
    const gpu = s.srcCode[arrays.src[row]];
    addReplay(s.batches, gpu, arrays.batch[row], arrays.time[row], arrays.gpuTime[row]);
  },
  mapRemote: (s, row) => {
    const a = allocationOf(s, row);
    a.events++;
    addFlow(s, a.remoteMaps, row, 0);
    if (s.trace.columns.arrays.cause[row] === s.pinCause) a.pins++;
  },
  thrashing: (s, row) => {
    const a = allocationOf(s, row);
    a.events++;
    a.thrashing++;
  },
  throttlingStart: (s, row) => {
    const a = allocationOf(s, row);
    a.events++;
    a.throttlings++;
  },
  throttlingEnd: (s, row) => {
    allocationOf(s, row).events++;
  },
  fatalFault: (s, row) => {
    allocationOf(s, row).events++;
  },
  eviction: (s, row) => {
    const a = allocationOf(s, row);
    a.events++;
    a.evictions++;
    a.evictedBytes += Math.max(0, s.trace.columns.arrays.bytes[row]);
  },
};

/** Begin and end of all events; pushes are none. */
function findTimes(s: Scan): void {
  const { columns } = s.trace;
  const { time, timeEnd, kind } = columns.arrays;
  const push = columns.words.kind.numbers.get('push') ?? -1;
  for (let row = 0; row < columns.count; row++) {
    if (kind[row] === push) continue;
    if (time[row] < s.begin) s.begin = time[row];
    if (time[row] > s.end) s.end = time[row];
    if (timeEnd[row] > s.end) s.end = timeEnd[row];
  }
}

/** What is still where prefetch brought it when the trace ends. */
function endPrefetches(s: Scan): void {
  if (s.touches === null) return;
  const { pages } = s;
  for (let id = 0; id < pages.blockNumber.length; id++) {
    const slab = slabOf(pages, id);
    const first = slabIndex(id);
    const a = s.allocations[pages.blockAllocation[id]];
    for (let i = 0; i < PAGES_PER_BLOCK; i++) {
      const page = pages.blockNumber[id] * PAGES_PER_BLOCK + i;
      endPrefetch(s, a, slab, first + i, page, Number.POSITIVE_INFINITY);
    }
  }
}

/** Reads all rows into the scan. */
export function scanTrace(s: Scan): void {
  const { columns } = s.trace;
  findTimes(s);
  const acts = columns.words.kind.list.map((word) => (Object.hasOwn(ACTS, word) ? ACTS[word] : null));
  const { kind, time } = columns.arrays;
  const order = timeOrder(time, columns.count);
  s.order = order;
  for (let n = 0; n < columns.count; n++) acts[kind[order[n]]]?.(s, order[n]);
  endBatches(s.batches);
  endPrefetches(s);
  const { cpuFaults } = s;
  for (let i = 0; i < cpuFaults.count; i++) {
    s.allocations[cpuFaults.allocation[i]].cpuTime += cpuFaults.end[i] - cpuFaults.time[i];
  }
}
