/**
 * The report of a trace as data: what `uvmlab report --json` prints. Times are microseconds, sizes bytes; lists are in
 * the order of the first event, unless they say otherwise. What is estimated is said to be, here and in docs/report.md.
 */
import type { TraceInfo } from '../../trace/store/trace_info.ts';

/** Migrations or remote mappings of one cause in one direction. */
export interface CostedFlow {
  cause: string;
  src: string;
  dst: string;
  count: number;
  bytes: number;
  /** Time of the copies by the GPU's clock: the sum, however many ran at a time; 0 for remote mappings. */
  copyMicroseconds: number;
}

export interface FaultCount {
  processor: string;
  access: string;
  count: number;
}

/** Sizes are numbers of faults as they were delivered, with those that were merged. */
export interface BatchNumbers {
  count: number;
  median: number;
  p90: number;
  max: number;
  /** Faults on a page that has one in the same batch already. */
  duplicates: number;
  /** Batches with a replay, and the sum of their times from the first fault's entry to the replay (GPU's clock). */
  replayed: number;
  serviceMicroseconds: number;
  /** Estimate: of each batch's service the share that its duplicates have in its faults. */
  duplicateMicroseconds: number;
  /** How many batches have a size from `from` to `to`; the steps are powers of two. */
  histogram: { from: number; to: number; count: number }[];
}

/** What is known of a batch beside its size; by it people see why it took long. */
export interface SlowBatch {
  gpu: string;
  batch: number;
  /** Row of its first fault in the trace, and the time of that fault. */
  row: number;
  timeMicroseconds: number;
  step: number | null;
  microseconds: number;
  faults: number;
  duplicates: number;
  blocks: number;
  allocation: string | null;
  /** How much of the time a copy from or to the GPU ran (overlapping ones count once), and what they moved. */
  copyMicroseconds: number;
  copiedBytes: number;
  /**
   * From the first fault's entry to when the driver came to it, above that of the batch with the shortest; null where
   * clocks do not tell it.
   */
  waitMicroseconds: number | null;
  /** Distinct pages of which no data moved: they were new, or only the mapping was missing. */
  pagesWithoutData: number;
  thrashing: number;
  throttlings: number;
  pins: number;
  evictions: number;
}

/** A CPU fault and what is seen of its service. The time is an estimate: up to the end of the last copy to the CPU. */
export interface SlowCpuFault {
  row: number;
  timeMicroseconds: number;
  step: number | null;
  microseconds: number;
  allocation: string | null;
  offset: number;
  copyMicroseconds: number;
  copiedBytes: number;
  copies: number;
  thrashing: number;
}

/** Pages that prefetch brought, by what became of them. */
export interface PrefetchUse {
  /** By the driver's own prefetching around faults, and by calls of the program. */
  byFaults: { used: number; unused: number };
  byCalls: { used: number; unused: number };
}

export interface AllocationReport {
  /** Null: places without a known allocation. */
  name: string | null;
  /** Hexadecimal, where it is known. */
  address: string | null;
  bytes: number;
  faults: FaultCount[];
  cpuFaults: number;
  gpuFaults: number;
  /** GPU faults on a page that has one in its batch already. */
  duplicates: number;
  /** Batches with a fault here. */
  batches: number;
  migrations: CostedFlow[];
  remoteMaps: CostedFlow[];
  toGpu: number;
  toCpu: number;
  betweenGpus: number;
  /** Of these, what faults moved, and not calls of the program or evictions. */
  faultsToGpu: number;
  faultsToCpu: number;
  /** Faults on a page that the processor had before, and that had left it; by processor. */
  refaults: { processor: string; count: number }[];
  /** Pages that changed sides more than once, and how often they did, all together. */
  pingPongPages: number;
  pingPongMoves: number;
  /** Of the pages that changed sides more than once: those on which no write faulted after the first change. */
  pingPongReadOnlyPages: number;
  /** Pages, and 2 MiB blocks, on which more than one processor faulted; blocks of these without such a page. */
  sharedPages: number;
  sharedBlocks: number;
  falselySharedBlocks: number;
  thrashing: number;
  throttlings: number;
  pins: number;
  evictions: number;
  evictedBytes: number;
  prefetch: PrefetchUse | null;
  /** Why `prefetch` is null. */
  prefetchUnknown: string | null;
  /** Estimates of what it cost: see `costMicroseconds` of the report. */
  gpuMicroseconds: number;
  cpuMicroseconds: number;
  callMicroseconds: number;
  costMicroseconds: number;
  /** By processor: where and when it faulted, for advice. */
  uses: AllocationUse[];
}

export interface AllocationUse {
  processor: string;
  faults: number;
  batches: number;
  /** Blocks of 2 MiB in which it faulted, or had pages. */
  blocks: number;
  /** First and last byte of all pages that it faulted on, or that faults moved to it. */
  firstByte: number;
  endByte: number;
  firstRow: number;
  firstMicroseconds: number;
  /** Steps with faults, ascending, at most STEPS_KEPT of them. */
  steps: number[];
  /** Those in which faults moved data to it. */
  movedSteps: number[];
  /** Bytes that faults moved to it. */
  movedBytes: number;
  /** Pages on which its fault was the first thing seen, and to which no data was moved then. */
  firstTouchPages: number;
  writes: number;
}

export interface StandStill {
  gpu: string;
  /** Union of the times from the first fault of a batch to its replay. */
  microseconds: number;
}

export interface Timeline {
  /** Of the events, and the width of each of the equal parts. */
  beginMicroseconds: number;
  partMicroseconds: number;
  gpuFaults: number[];
  cpuFaults: number[];
  toGpu: number[];
  toCpu: number[];
}

export interface Prediction {
  /** `scenario`: the changed scenario was run; `bytes`: replayed faults against a prefetch of the same bytes. */
  basis: 'scenario' | 'bytes';
  machine: string;
  /** What the change takes away, and what it adds. */
  removedMicroseconds: number;
  addedMicroseconds: number;
  gainMicroseconds: number;
  /** Interval of the gain: MODEL_ERROR on both, one up and the other down. */
  lowMicroseconds: number;
  highMicroseconds: number;
  /** True where the interval holds zero: there may be no gain. */
  uncertain: boolean;
  assumption: string;
}

export const ADVICE_RULES = [
  'prefetch',
  'prefetchBack',
  'readMostly',
  'preferredLocation',
  'layout',
  'smallBatches',
  'oversubscription',
  'prefetchOff',
] as const;
export type AdviceRule = (typeof ADVICE_RULES)[number];

export interface Advice {
  rule: AdviceRule;
  allocation: string | null;
  /** The processor that the advice is about, or null. */
  processor: string | null;
  /** Bytes of the allocation that it is about. */
  offset: number;
  length: number;
  /** Estimated cost of what the advice is about. */
  costMicroseconds: number;
  /** Figures of the report that speak for it, by name. */
  evidence: Record<string, number>;
  /** First row that shows it, and its time. */
  row: number;
  timeMicroseconds: number;
  /** Of `preferredLocation`: the processor whose memory the model found best; null where it was not run. */
  home: string | null;
  prediction: Prediction | null;
  /** Why there is no prediction; null where there is one. */
  notPredicted: string | null;
}

/** What tracing itself cost, as far as the model can say. */
export interface TracingCost {
  machine: string;
  /** Predicted times of the whole, traced and untraced; of a recording the first is the recorded one. */
  tracedMicroseconds: number;
  untracedMicroseconds: number;
  /** False where the replay does not move what was recorded (analysis/untraced_time.ts). */
  reliable: boolean;
  /** `runs`: the scenario was run with both tables of costs; `replays`: the recorded faults were replayed with both. */
  basis: 'runs' | 'replays';
}

export interface TraceReport {
  name: string;
  source: TraceInfo['source'];
  /**
   * False for an export of Nsight Systems: it has the first fault of each batch alone, and numbers of GPU faults, of
   * duplicates and of pages without data, and the sizes of batches, are of those.
   */
  hasAllFaults: boolean;
  rows: number;
  /** Rows by kind. */
  kinds: Record<string, number>;
  /** From the first time of an event to the last one; 0 without events. */
  durationMicroseconds: number;
  faults: FaultCount[];
  migrations: CostedFlow[];
  remoteMaps: CostedFlow[];
  batches: BatchNumbers;
  standStill: StandStill[];
  /** CPU faults whose service is seen by its copies, and the sum of the estimated times. */
  cpuFaults: { count: number; seen: number; microseconds: number };
  /**
   * Estimate of what managed memory cost the program: the time that faults of GPUs waited (overlapping batches of a GPU
   * once), CPU faults as far as seen, and copies of calls; the sum of what the allocations have.
   */
  costMicroseconds: number;
  /** Most costly first. */
  allocations: AllocationReport[];
  quietAllocations: number;
  slowestBatches: SlowBatch[];
  slowestCpuFaults: SlowCpuFault[];
  /** The 2 MiB with most faults, most first. */
  hottest: { allocation: string | null; offset: number; address: string | null; faults: number }[];
  timeline: Timeline;
  /** Events on pages that were not followed, since there are too many blocks. */
  eventsNotFollowed: number;
}
