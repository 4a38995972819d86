/** The report of a trace: what a pass over its rows found (scan_trace.ts), as data. */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../../base/units.ts';
import type { Trace } from '../../trace/store/trace_events.ts';
import { hasAllFaults } from '../../trace/store/trace_info.ts';
import { type BatchTable, isReplayed, serviceOf } from './batch_table.ts';
import { FOLLOWED_BLOCKS, PAGE_WROTE, PROCESSOR_BITS, slabIndex, slabOf } from './page_histories.ts';
import type {
  AllocationReport,
  AllocationUse,
  BatchNumbers,
  CostedFlow,
  FaultCount,
  StandStill,
  TraceReport,
} from './report_types.ts';
import {
  type AllocationTotals,
  CAUSE_CALL,
  createScan,
  type FlowTotals,
  processorBit,
  type Scan,
  TIMELINE_PARTS,
  type UseTotals,
} from './scan_state.ts';
import { scanTrace } from './scan_trace.ts';
import { type Touches, unknownTouches } from './scenario_touches.ts';
import { slowestBatches, slowestCpuFaults } from './slowest.ts';
import { timeOrder } from './time_order.ts';

export interface ReportOptions {
  /** What the steps of the scenario touch; or why that is not known. */
  touches: { ok: true; touches: Touches } | { ok: false; why: string };
  /** Blocks whose pages are followed. */
  blocks?: number;
}

const HOTTEST = 8;

function flowsOf(s: Scan, totals: Iterable<FlowTotals>): CostedFlow[] {
  const { words } = s.trace.columns;
  return [...totals].map(({ cause, src, dst, count, bytes, copy }) => ({
    cause: words.cause.list[cause],
    src: words.src.list[src],
    dst: words.dst.list[dst],
    count,
    bytes,
    copyMicroseconds: copy / 1000,
  }));
}

/** The flows of all allocations, in the order of the first allocation that has each. */
function sumFlows(lists: Iterable<readonly CostedFlow[]>): CostedFlow[] {
  const sums = new Map<string, CostedFlow>();
  for (const list of lists) {
    for (const flow of list) {
      const key = `${flow.cause} ${flow.src} ${flow.dst}`;
      const sum = sums.get(key);
      if (sum === undefined) sums.set(key, { ...flow });
      else {
        sum.count += flow.count;
        sum.bytes += flow.bytes;
        sum.copyMicroseconds += flow.copyMicroseconds;
      }
    }
  }
  return [...sums.values()];
}

function faultsOf(s: Scan, uses: readonly (UseTotals | undefined)[]): FaultCount[] {
  const { list } = s.trace.columns.words.access;
  return uses.flatMap((use, code) =>
    (use?.byAccess ?? []).flatMap((count, access) =>
      count > 0 ? [{ processor: s.processors[code], access: list[access], count }] : [],
    ),
  );
}

function sumFaults(lists: Iterable<readonly FaultCount[]>): FaultCount[] {
  const sums = new Map<string, FaultCount>();
  for (const list of lists) {
    for (const fault of list) {
      const key = `${fault.processor} ${fault.access}`;
      const sum = sums.get(key);
      if (sum === undefined) sums.set(key, { ...fault });
      else sum.count += fault.count;
    }
  }
  return [...sums.values()];
}

/** The smallest size that at least this share of the batches does not pass. */
function quantile(sizes: readonly (readonly [size: number, count: number])[], total: number, share: number): number {
  let seen = 0;
  for (const [size, count] of sizes) {
    seen += count;
    if (seen >= total * share) return size;
  }
  return 0;
}

/** Sizes in steps of powers of two: 1, 2, 3 to 4, 5 to 8, ... */
function histogramOf(sizes: readonly (readonly [size: number, count: number])[]): BatchNumbers['histogram'] {
  const parts: BatchNumbers['histogram'] = [];
  for (const [size, count] of sizes) {
    while (parts.length === 0 || parts[parts.length - 1].to < size) {
      const to = parts.length === 0 ? 1 : parts[parts.length - 1].to * 2;
      parts.push({ from: parts.length === 0 ? 1 : to / 2 + 1, to, count: 0 });
    }
    parts[parts.length - 1].count += count;
  }
  return parts;
}

function batchNumbers(t: BatchTable): BatchNumbers {
  const counts = new Map<number, number>();
  const numbers = { duplicates: 0, replayed: 0, serviceMicroseconds: 0, duplicateMicroseconds: 0 };
  for (let b = 0; b < t.count; b++) {
    counts.set(t.faults[b], (counts.get(t.faults[b]) ?? 0) + 1);
    numbers.duplicates += t.duplicates[b];
    if (!isReplayed(t, b)) continue;
    numbers.replayed++;
    numbers.serviceMicroseconds += serviceOf(t, b) / 1000;
    numbers.duplicateMicroseconds += ((serviceOf(t, b) / 1000) * t.duplicates[b]) / t.faults[b];
  }
  const sizes = [...counts].sort((a, b) => a[0] - b[0]);
  return {
    count: t.count,
    median: quantile(sizes, t.count, 0.5),
    p90: quantile(sizes, t.count, 0.9),
    max: sizes.length === 0 ? 0 : sizes[sizes.length - 1][0],
    ...numbers,
    histogram: histogramOf(sizes),
  };
}

/**
 * Nanoseconds that each batch's faults waited; of times that overlap the part behind the batches before it alone, so
 * that the sum over the batches of a GPU is the union of their times.
 */
function waitedTimes({ batches: t }: Scan): Float64Array {
  const waited = new Float64Array(t.count);
  const reach = new Map<number, number>();
  for (const b of timeOrder(t.firstGpu, t.count)) {
    if (!isReplayed(t, b)) continue;
    const before = reach.get(t.gpu[b]) ?? Number.NEGATIVE_INFINITY;
    waited[b] = Math.max(0, t.replayGpu[b] - Math.max(t.firstGpu[b], before));
    reach.set(t.gpu[b], Math.max(before, t.replayGpu[b]));
  }
  return waited;
}

function standStill({ batches: t, processors }: Scan, waited: Float64Array): StandStill[] {
  const sums = new Map<number, number>();
  for (let b = 0; b < t.count; b++) {
    if (isReplayed(t, b)) sums.set(t.gpu[b], (sums.get(t.gpu[b]) ?? 0) + waited[b]);
  }
  return [...sums].map(([gpu, time]) => ({ gpu: processors[gpu], microseconds: time / 1000 }));
}

/** What the pages of each allocation tell. */
interface PageNumbers {
  pingPongPages: number;
  pingPongMoves: number;
  pingPongReadOnlyPages: number;
  sharedPages: number;
  sharedBlocks: number;
  falselySharedBlocks: number;
  /** Blocks by bit of the processors that had pages of them. */
  blocks: number[];
}

const NO_PAGES: Omit<PageNumbers, 'blocks'> = {
  ...{ pingPongPages: 0, pingPongMoves: 0, pingPongReadOnlyPages: 0 },
  ...{ sharedPages: 0, sharedBlocks: 0, falselySharedBlocks: 0 },
};

const severalBits = (bits: number): boolean => (bits & (bits - 1)) !== 0;

function pageNumbers(s: Scan): PageNumbers[] {
  const numbers = s.allocations.map((): PageNumbers => ({ ...NO_PAGES, blocks: new Array(PROCESSOR_BITS).fill(0) }));
  const { pages } = s;
  for (let id = 0; id < pages.blockNumber.length; id++) {
    const { faulted, held, moves, flags } = slabOf(pages, id);
    const its = numbers[pages.blockAllocation[id]];
    const first = slabIndex(id);
    let all = 0;
    let shared = 0;
    let having = 0;
    for (let i = first; i < first + PAGES_PER_BLOCK; i++) {
      all |= faulted[i];
      having |= held[i];
      if (severalBits(faulted[i])) shared++;
      if (moves[i] < 2) continue;
      its.pingPongPages++;
      its.pingPongMoves += moves[i];
      if ((flags[i] & PAGE_WROTE) === 0) its.pingPongReadOnlyPages++;
    }
    its.sharedPages += shared;
    for (let bit = 0; bit < PROCESSOR_BITS; bit++) its.blocks[bit] += (having >>> bit) & 1;
    if (!severalBits(all)) continue;
    its.sharedBlocks++;
    if (shared === 0) its.falselySharedBlocks++;
  }
  return numbers;
}

function useReport(s: Scan, use: UseTotals, code: number, blocks: readonly number[]): AllocationUse {
  const writes = use.byAccess.reduce((sum, count, access) => sum + (s.writes[access] === 1 ? (count ?? 0) : 0), 0);
  return {
    processor: s.processors[code],
    faults: use.faults,
    batches: use.batches,
    blocks: blocks[processorBit(code)],
    firstByte: use.firstByte,
    endByte: use.endByte,
    firstRow: use.firstRow,
    firstMicroseconds: (use.firstTime - s.begin) / 1000,
    steps: [...use.steps].sort((a, b) => a - b),
    movedSteps: [...use.movedSteps].sort((a, b) => a - b),
    movedBytes: use.movedBytes,
    firstTouchPages: use.firstTouchPages,
    writes,
  };
}

/** Nanoseconds that faults waited by allocation: those of each batch, divided by its faults. */
function gpuTimes({ batches: t, allocations }: Scan, waited: Float64Array): Float64Array {
  const times = new Float64Array(allocations.length);
  for (let b = 0; b < t.count; b++) {
    if (waited[b] === 0) continue;
    for (let i = t.share[b]; i < t.share[b + 1]; i++) {
      times[t.shareAllocation[i]] += (waited[b] * t.shareFaults[i]) / t.faults[b];
    }
  }
  return times;
}

function prefetchOf(a: AllocationTotals, s: Scan, known: ReportOptions['touches']) {
  const no = (why: string) => ({ prefetch: null, prefetchUnknown: why });
  if (!known.ok) return no(known.why);
  for (const processor of s.processors) {
    const why = unknownTouches(known.touches, processor, a.name);
    if (why !== null) return no(why);
  }
  return { prefetch: { byFaults: a.prefetch[0], byCalls: a.prefetch[1] }, prefetchUnknown: null };
}

function allocationReport(
  s: Scan,
  a: AllocationTotals,
  pages: PageNumbers,
  gpuTime: number,
  known: ReportOptions['touches'],
): AllocationReport {
  const migrations = flowsOf(s, a.migrations.values());
  const classOf = (cause: string): number => s.causeClass[s.trace.columns.words.cause.numbers.get(cause) ?? 0];
  const bytes = (take: (flow: CostedFlow) => boolean): number =>
    migrations.filter(take).reduce((sum, flow) => sum + flow.bytes, 0);
  const byFault = ({ cause }: CostedFlow): boolean => classOf(cause) < CAUSE_CALL;
  const isIn = ({ src, dst }: CostedFlow): boolean => src === 'cpu' && dst !== 'cpu';
  const isOut = ({ src, dst }: CostedFlow): boolean => src !== 'cpu' && dst === 'cpu';
  const calls = migrations.filter(({ cause }) => classOf(cause) === CAUSE_CALL);
  const callMicroseconds = calls.reduce((sum, flow) => sum + flow.copyMicroseconds, 0);
  const known0 = s.trace.info.allocations.find(({ name }) => name === a.name);
  const faults = faultsOf(s, a.uses);
  const cpuFaults = a.uses[0]?.faults ?? 0;
  const copying = (take: (flow: CostedFlow) => boolean): number =>
    migrations.filter((flow) => byFault(flow) && take(flow)).reduce((sum, flow) => sum + flow.copyMicroseconds, 0);
  // Where the trace does not have what tells how long faults waited, their copies are the least that it was.
  const { hasReplays } = s.batches;
  const gpuMicroseconds = hasReplays ? gpuTime / 1000 : copying(({ dst }) => dst !== 'cpu');
  const cpuMicroseconds = s.cpuFaults.count > 0 ? a.cpuTime / 1000 : copying(isOut);
  const { blocks, ...numbers } = pages;
  return {
    name: a.name || null,
    address: known0?.address ?? null,
    bytes: known0?.bytes ?? 0,
    faults,
    cpuFaults,
    gpuFaults: faults.reduce((sum, { count }) => sum + count, 0) - cpuFaults,
    duplicates: a.duplicates,
    batches: a.batches,
    migrations,
    remoteMaps: flowsOf(s, a.remoteMaps.values()),
    toGpu: bytes(isIn),
    toCpu: bytes(isOut),
    betweenGpus: bytes(({ src, dst }) => src !== 'cpu' && dst !== 'cpu'),
    faultsToGpu: bytes((flow) => flow.dst !== 'cpu' && byFault(flow)),
    faultsToCpu: bytes((flow) => isOut(flow) && byFault(flow)),
    refaults: a.uses.flatMap((use, code) =>
      use !== undefined && use.refaults > 0 ? [{ processor: s.processors[code], count: use.refaults }] : [],
    ),
    ...numbers,
    thrashing: a.thrashing,
    throttlings: a.throttlings,
    pins: a.pins,
    evictions: a.evictions,
    evictedBytes: a.evictedBytes,
    ...prefetchOf(a, s, known),
    gpuMicroseconds,
    cpuMicroseconds,
    callMicroseconds,
    costMicroseconds: gpuMicroseconds + cpuMicroseconds + callMicroseconds,
    uses: a.uses.flatMap((use, code) => (use === undefined ? [] : [useReport(s, use, code, blocks)])),
  };
}

function hottest(s: Scan): TraceReport['hottest'] {
  const { blockFaults, blockNumber, blockAllocation } = s.pages;
  const order = blockFaults
    .map((faults, id) => ({ faults, id }))
    .filter(({ faults }) => faults > 0)
    .sort((a, b) => b.faults - a.faults || a.id - b.id)
    .slice(0, HOTTEST);
  return order.map(({ faults, id }) => {
    const a = s.allocations[blockAllocation[id]];
    const offset = blockNumber[id] * PAGES_PER_BLOCK * PAGE_SIZE;
    const address = s.trace.info.allocations.find(({ name }) => name === a.name)?.address ?? null;
    return {
      allocation: a.name || null,
      offset,
      address: address === null ? null : (BigInt(`0x${address}`) + BigInt(offset)).toString(16),
      faults,
    };
  });
}

function kindsOf({ columns }: Trace): Record<string, number> {
  const counts = new Float64Array(columns.words.kind.list.length);
  for (let row = 0; row < columns.count; row++) counts[columns.arrays.kind[row]]++;
  const kinds: Record<string, number> = {};
  for (const [i, word] of columns.words.kind.list.entries()) if (counts[i] > 0) kinds[word || 'nothing'] = counts[i];
  return kinds;
}

/** The report of a trace whose REPORT_COLUMNS are loaded. Takes a few seconds for ten million rows. */
export function reportTrace(trace: Trace, options: ReportOptions): TraceReport {
  const { touches, blocks = FOLLOWED_BLOCKS } = options;
  const s = createScan(trace, touches.ok ? touches.touches : null, blocks);
  scanTrace(s);
  const waited = waitedTimes(s);
  const times = gpuTimes(s, waited);
  const pages = pageNumbers(s);
  const allocations = s.allocations
    .map((a, i) => allocationReport(s, a, pages[i], times[i], touches))
    .sort((a, b) => b.costMicroseconds - a.costMicroseconds || b.gpuFaults + b.cpuFaults - a.gpuFaults - a.cpuFaults);
  const { cpuFaults, timeline } = s;
  let seen = 0;
  for (let i = 0; i < cpuFaults.count; i++) if (cpuFaults.end[i] > cpuFaults.time[i]) seen++;
  const duration = s.end >= s.begin ? s.end - s.begin : 0;
  const known = new Set(allocations.map(({ name }) => name));
  return {
    name: trace.info.name,
    source: trace.info.source,
    hasAllFaults: hasAllFaults(trace.info.source),
    rows: trace.columns.count,
    kinds: kindsOf(trace),
    durationMicroseconds: duration / 1000,
    faults: sumFaults(s.allocations.map((a) => faultsOf(s, a.uses))),
    migrations: sumFlows(s.allocations.map((a) => flowsOf(s, a.migrations.values()))),
    remoteMaps: sumFlows(s.allocations.map((a) => flowsOf(s, a.remoteMaps.values()))),
    batches: batchNumbers(s.batches),
    standStill: standStill(s, waited),
    cpuFaults: {
      count: cpuFaults.count,
      seen,
      microseconds: allocations.reduce((sum, a) => sum + a.cpuMicroseconds, 0),
    },
    costMicroseconds: allocations.reduce((sum, a) => sum + a.costMicroseconds, 0),
    allocations,
    quietAllocations: trace.info.allocations.filter(({ name }) => !known.has(name)).length,
    slowestBatches: slowestBatches(s),
    slowestCpuFaults: slowestCpuFaults(s),
    hottest: hottest(s),
    timeline: {
      beginMicroseconds: 0,
      partMicroseconds: duration / 1000 / TIMELINE_PARTS,
      gpuFaults: [...timeline.gpuFaults],
      cpuFaults: [...timeline.cpuFaults],
      toGpu: [...timeline.toGpu],
      toCpu: [...timeline.toCpu],
    },
    eventsNotFollowed: s.pages.notFollowed,
  };
}
