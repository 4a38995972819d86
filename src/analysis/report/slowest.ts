/** The slowest batches and CPU faults of a scan, and what happened while they were served: a second look at rows. */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../../base/units.ts';
import { isReplayed, serviceOf } from './batch_table.ts';
import type { SlowBatch, SlowCpuFault } from './report_types.ts';
import { CAUSE_PREFETCH, type Scan } from './scan_state.ts';
import { unionLength } from './time_order.ts';

const SHOWN = 8;
/** Copies that are kept of one of them. */
const COPIES_KEPT = 65_536;

/** The indices of the largest values above 0, largest first, equal ones in their order. */
export function largest(count: number, sizeOf: (i: number) => number, shown = SHOWN): number[] {
  const list: { i: number; value: number }[] = [];
  for (let i = 0; i < count; i++) {
    const value = sizeOf(i);
    if (!(value > 0) || (list.length === shown && value <= list[shown - 1].value)) continue;
    let at = list.length;
    while (at > 0 && list[at - 1].value < value) at--;
    list.splice(at, 0, { i, value });
    if (list.length > shown) list.pop();
  }
  return list.map(({ i }) => i);
}

interface Window {
  begins: number[];
  ends: number[];
  bytes: number;
  copies: number;
  moved: Set<string>;
  pages: Set<string>;
  thrashing: number;
  throttlings: number;
  pins: number;
  evictions: number;
}

function createWindow(): Window {
  return {
    ...{ begins: [], ends: [], bytes: 0, copies: 0, moved: new Set(), pages: new Set() },
    ...{ thrashing: 0, throttlings: 0, pins: 0, evictions: 0 },
  };
}

/** Time in the window that copies ran, ns; overlapping ones count once. */
function copyTime({ begins, ends }: Window): number {
  return unionLength(Float64Array.from(begins), Float64Array.from(ends), begins.length);
}

function addCopy(w: Window, begin: number, end: number, low: number, high: number): void {
  w.copies++;
  if (w.begins.length >= COPIES_KEPT) return;
  w.begins.push(Math.max(begin, low));
  w.ends.push(Math.min(end, high));
}

/** For each GPU the least time from an entry to when the driver came to it; their clocks have different zeros. */
function leastDelays(s: Scan): Map<number, number> {
  const t = s.batches;
  const least = new Map<number, number>();
  for (let b = 0; b < t.count; b++) {
    const delay = t.firstTime[b] - t.firstGpu[b];
    if (delay < (least.get(t.gpu[b]) ?? Number.POSITIVE_INFINITY)) least.set(t.gpu[b], delay);
  }
  return least;
}

const name = (s: Scan, index: number): string | null => s.allocations[index].name || null;
const stepAt = (s: Scan, row: number): number | null => {
  const step = s.trace.columns.arrays.step[row];
  return step < 0 ? null : step;
};

/** The allocation with most faults of a batch. */
function mainAllocation(s: Scan, b: number): string | null {
  const t = s.batches;
  let best = t.share[b];
  for (let i = t.share[b]; i < t.share[b + 1]; i++) if (t.shareFaults[i] > t.shareFaults[best]) best = i;
  return name(s, t.shareAllocation[best]);
}

/** Events without a GPU time that say something about a time of the CPU. */
function addNote(w: Window, kind: string, pins: boolean): void {
  if (kind === 'thrashing') w.thrashing++;
  else if (kind === 'throttlingStart') w.throttlings++;
  else if (kind === 'eviction') w.evictions++;
  else if (kind === 'mapRemote' && pins) w.pins++;
}

function pageKeys(s: Scan, row: number, bytes: number): string[] {
  const { arrays } = s.trace.columns;
  const first = Math.floor(arrays.offset[row] / PAGE_SIZE);
  const pages = Math.min(PAGES_PER_BLOCK, Math.max(1, Math.ceil(bytes / PAGE_SIZE)));
  return Array.from({ length: pages }, (_, i) => `${arrays.buffer[row]}/${first + i}`);
}

/** Rows whose time lies from `from` to `to`. */
function* rowsBetween(s: Scan, from: number, to: number): Generator<number, void, void> {
  const { time } = s.trace.columns.arrays;
  let low = 0;
  let high = s.order.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    // NaN stands at the end.
    if (time[s.order[middle]] < from) low = middle + 1;
    else high = middle;
  }
  for (let i = low; i < s.order.length && time[s.order[i]] <= to; i++) yield s.order[i];
}

/** What happened in the time of a batch. */
function batchWindow(s: Scan, b: number): Window {
  const t = s.batches;
  const { arrays, words } = s.trace.columns;
  const { kind, src, dst, time, gpuTime, gpuTimeEnd, batch } = arrays;
  const w = createWindow();
  const gpu = t.gpu[b];
  const end = Math.max(t.lastTime[b], t.replayTime[b]);
  // Copies that began before may run on into it: those of as much time before as it took are looked at, too.
  for (const row of rowsBetween(s, t.firstTime[b] - serviceOf(t, b), end)) {
    const word = words.kind.list[kind[row]];
    if (word === 'gpuFault') {
      const its = batch[row] === t.batch[b] && s.srcCode[src[row]] === gpu;
      if (its && time[row] >= t.firstTime[b] && time[row] <= t.lastTime[b]) w.pages.add(pageKeys(s, row, 1)[0]);
    } else if (word === 'migration') {
      const from = s.srcCode[src[row]];
      const to = s.dstCode[dst[row]];
      // The GPU whose clock the times are of is the one that copies: the source, unless that is the CPU.
      if ((from === 0 ? to : from) !== gpu) continue;
      if (gpuTimeEnd[row] <= t.firstGpu[b] || gpuTime[row] >= t.replayGpu[b]) continue;
      addCopy(w, gpuTime[row], gpuTimeEnd[row], t.firstGpu[b], t.replayGpu[b]);
      w.bytes += arrays.bytes[row];
      if (to === gpu) for (const key of pageKeys(s, row, arrays.bytes[row])) w.moved.add(key);
    } else if (time[row] >= t.firstTime[b]) addNote(w, word, arrays.cause[row] === s.pinCause);
  }
  return w;
}

export function slowestBatches(s: Scan): SlowBatch[] {
  const t = s.batches;
  const chosen = largest(t.count, (b) => (isReplayed(t, b) ? serviceOf(t, b) : 0));
  const delays = leastDelays(s);
  return chosen.map((b) => {
    const w = batchWindow(s, b);
    const service = serviceOf(t, b);
    const delay = t.firstTime[b] - t.firstGpu[b] - (delays.get(t.gpu[b]) ?? 0);
    let without = 0;
    for (const page of w.pages) if (!w.moved.has(page)) without++;
    return {
      gpu: s.processors[t.gpu[b]],
      batch: t.batch[b],
      row: t.firstRow[b],
      timeMicroseconds: (t.firstTime[b] - s.begin) / 1000,
      step: stepAt(s, t.firstRow[b]),
      microseconds: service / 1000,
      faults: t.faults[b],
      duplicates: t.duplicates[b],
      blocks: t.blocks[b],
      allocation: mainAllocation(s, b),
      copyMicroseconds: copyTime(w) / 1000,
      copiedBytes: w.bytes,
      waitMicroseconds: delay <= service ? delay / 1000 : null,
      pagesWithoutData: without,
      thrashing: w.thrashing,
      throttlings: w.throttlings,
      pins: w.pins,
      evictions: w.evictions,
    };
  });
}

export function slowestCpuFaults(s: Scan): SlowCpuFault[] {
  const f = s.cpuFaults;
  const { arrays, words } = s.trace.columns;
  const chosen = largest(f.count, (i) => f.end[i] - f.time[i]);
  const blockOf = (row: number): number => Math.floor(arrays.offset[row] / (PAGE_SIZE * PAGES_PER_BLOCK));
  const windowOf = (i: number): Window => {
    const w = createWindow();
    for (const row of rowsBetween(s, f.time[i], f.end[i])) {
      if (arrays.buffer[row] !== arrays.buffer[f.row[i]] || blockOf(row) !== blockOf(f.row[i])) continue;
      const word = words.kind.list[arrays.kind[row]];
      if (word === 'thrashing') w.thrashing++;
      if (word !== 'migration' || s.dstCode[arrays.dst[row]] !== 0) continue;
      if (s.causeClass[arrays.cause[row]] > CAUSE_PREFETCH) continue;
      w.bytes += arrays.bytes[row];
      // By the GPU's clock, whose length alone counts here.
      const [begin, end] = [arrays.gpuTime[row], arrays.gpuTimeEnd[row]];
      addCopy(w, begin, end, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY);
    }
    return w;
  };
  return chosen.map((i) => {
    const w = windowOf(i);
    return {
      row: f.row[i],
      timeMicroseconds: (f.time[i] - s.begin) / 1000,
      step: stepAt(s, f.row[i]),
      microseconds: (f.end[i] - f.time[i]) / 1000,
      allocation: name(s, f.allocation[i]),
      offset: arrays.offset[f.row[i]],
      copyMicroseconds: copyTime(w) / 1000,
      copiedBytes: w.bytes,
      copies: w.copies,
      thrashing: w.thrashing,
    };
  });
}
