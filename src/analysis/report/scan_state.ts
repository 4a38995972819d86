/** What one pass over a trace adds up: totals, those of each allocation, batches, page histories. */
import type { Trace } from '../../trace/store/trace_events.ts';
import type { ColumnKey } from '../../trace/store/trace_schema.ts';
import { type BatchTable, createBatchTable } from './batch_table.ts';
import { createPageHistories, FOLLOWED_BLOCKS, type PageHistories, PROCESSOR_BITS } from './page_histories.ts';
import type { Touches } from './scenario_touches.ts';

/** The columns that a report needs. */
export const REPORT_COLUMNS: readonly ColumnKey[] = [
  ...(['kind', 'time', 'timeEnd', 'gpuTime', 'gpuTimeEnd', 'step', 'buffer', 'offset', 'bytes'] as const),
  ...(['src', 'dst', 'processors', 'access', 'cause', 'batch'] as const),
];

export interface FlowTotals {
  cause: number;
  src: number;
  dst: number;
  count: number;
  bytes: number;
  /** Nanoseconds. */
  copy: number;
}

/** Steps that are kept of each use. */
export const STEPS_KEPT = 64;

export interface UseTotals {
  faults: number;
  batches: number;
  lastBatch: number;
  /** By word of the access. */
  byAccess: number[];
  firstByte: number;
  endByte: number;
  firstRow: number;
  firstTime: number;
  steps: number[];
  /** Those in which faults moved data to it. */
  movedSteps: number[];
  movedBytes: number;
  refaults: number;
  /** Pages on which its fault was the first thing seen, and to which no data was moved then. */
  firstTouchPages: number;
}

export interface AllocationTotals {
  /** Number in the scan's list, in the order of the first event. */
  index: number;
  name: string;
  /** Bytes, as far as the trace tells; else Infinity. */
  size: number;
  events: number;
  /** By processor code. */
  uses: (UseTotals | undefined)[];
  duplicates: number;
  batches: number;
  lastBatch: number;
  migrations: Map<number, FlowTotals>;
  remoteMaps: Map<number, FlowTotals>;
  thrashing: number;
  throttlings: number;
  pins: number;
  evictions: number;
  evictedBytes: number;
  /** Used and unused pages, of prefetch around faults and by calls. */
  prefetch: { used: number; unused: number }[];
  /** Nanoseconds of CPU faults as far as seen. */
  cpuTime: number;
}

/** CPU faults with what is seen of their service, as columns. */
export interface CpuFaults {
  count: number;
  row: number[];
  time: number[];
  end: number[];
  allocation: number[];
  /** The last fault of a block. */
  open: Map<number, number>;
}

export const TIMELINE_PARTS = 160;

export interface Scan {
  trace: Trace;
  /** Words of processors by code: `cpu` has code 0. */
  processors: string[];
  /** Code by number of the word, in either column. */
  srcCode: Uint16Array;
  dstCode: Uint16Array;
  /** Bits of processors by number of the word in `processors`. */
  setBits: Uint16Array;
  /** By number of the word: whether it is a write or an atomic. */
  writes: Uint8Array;
  /** By number of the cause: 0 a fault's own, 1 prefetch around faults, 2 a call, 3 others. */
  causeClass: Uint8Array;
  pinCause: number;
  begin: number;
  end: number;
  /** Rows in the order of their times. */
  order: Uint32Array;
  allocations: AllocationTotals[];
  /** By number of the word of the buffer. */
  ofWord: (AllocationTotals | undefined)[];
  pages: PageHistories;
  batches: BatchTable;
  cpuFaults: CpuFaults;
  /** Of the model's scenario, where it is known. */
  touches: Touches | null;
  /** The step of rows that tell none, where only one was recorded; else -1. */
  onlyStep: number;
  timeline: { gpuFaults: Float64Array; cpuFaults: Float64Array; toGpu: Float64Array; toCpu: Float64Array };
}

export const CAUSE_FAULT = 0;
export const CAUSE_PREFETCH = 1;
export const CAUSE_CALL = 2;
export const CAUSE_OTHER = 3;

const CAUSE_CLASSES: Readonly<Record<string, number>> = {
  coherence: CAUSE_FAULT,
  prefetch: CAUSE_PREFETCH,
  user: CAUSE_CALL,
};

/** The bit of a processor in page histories. */
export function processorBit(code: number): number {
  return Math.min(code, PROCESSOR_BITS - 1);
}

function onlyStepOf({ info }: Trace): number {
  const steps = info.scenario?.['steps'];
  return !info.hasSteps && Array.isArray(steps) && steps.length === info.fromStep + 1 ? info.fromStep : -1;
}

/** The replay policy in force; 2 is the driver's default, one replay for each batch. */
function policyOf({ info }: Trace): number {
  const policy = Number(info.parameters['uvm_perf_fault_replay_policy'] ?? 2);
  return Number.isInteger(policy) ? policy : 2;
}

export function createScan(trace: Trace, touches: Touches | null, blocks = FOLLOWED_BLOCKS): Scan {
  const { words } = trace.columns;
  const processors = ['cpu'];
  const codes = new Map([['cpu', 0]]);
  const codeOf = (word: string): number => {
    let code = codes.get(word);
    if (code === undefined) {
      code = processors.length;
      codes.set(word, code);
      processors.push(word);
    }
    return code;
  };
  const srcCode = Uint16Array.from(words.src.list, (word) => (word === '' ? 0 : codeOf(word)));
  const dstCode = Uint16Array.from(words.dst.list, (word) => (word === '' ? 0 : codeOf(word)));
  const setBits = Uint16Array.from(words.processors.list, (list) =>
    list === '' ? 0 : list.split(',').reduce((bits, word) => bits | (1 << processorBit(codeOf(word))), 0),
  );
  return {
    trace,
    processors,
    srcCode,
    dstCode,
    setBits,
    writes: Uint8Array.from(words.access.list, (word) => (word === 'write' || word.startsWith('atomic') ? 1 : 0)),
    causeClass: Uint8Array.from(words.cause.list, (word) => CAUSE_CLASSES[word] ?? CAUSE_OTHER),
    pinCause: words.cause.numbers.get('thrashing') ?? -1,
    begin: Number.POSITIVE_INFINITY,
    end: Number.NEGATIVE_INFINITY,
    order: new Uint32Array(0),
    allocations: [],
    ofWord: [],
    pages: createPageHistories(touches !== null, blocks),
    batches: createBatchTable(words.kind.numbers.has('replay'), policyOf(trace)),
    cpuFaults: { count: 0, row: [], time: [], end: [], allocation: [], open: new Map() },
    touches,
    onlyStep: onlyStepOf(trace),
    timeline: {
      gpuFaults: new Float64Array(TIMELINE_PARTS),
      cpuFaults: new Float64Array(TIMELINE_PARTS),
      toGpu: new Float64Array(TIMELINE_PARTS),
      toCpu: new Float64Array(TIMELINE_PARTS),
    },
  };
}

function createAllocation(s: Scan, word: number): AllocationTotals {
  const { allocations } = s.trace.info;
  const written = s.trace.columns.words.buffer.list[word];
  // Events of a trace with one allocation need not name it.
  const known = written === '' ? allocations[0] : allocations.find(({ name }) => name === written);
  const nothing = written === '' && allocations.length !== 1;
  return {
    index: s.allocations.length,
    name: written === '' ? (nothing ? '' : allocations[0].name) : written,
    size: known === undefined || nothing ? Number.POSITIVE_INFINITY : known.bytes,
    events: 0,
    uses: [],
    duplicates: 0,
    batches: 0,
    lastBatch: -1,
    migrations: new Map(),
    remoteMaps: new Map(),
    thrashing: 0,
    throttlings: 0,
    pins: 0,
    evictions: 0,
    evictedBytes: 0,
    prefetch: [
      { used: 0, unused: 0 },
      { used: 0, unused: 0 },
    ],
    cpuTime: 0,
  };
}

/** The allocation of a row. */
export function allocationOf(s: Scan, row: number): AllocationTotals {
  const word = s.trace.columns.arrays.buffer[row];
  let allocation = s.ofWord[word];
  if (allocation === undefined) {
    allocation = createAllocation(s, word);
    // The only allocation may be named by some rows and not by others.
    const same = s.allocations.find(({ name }) => name === allocation?.name);
    if (same === undefined) s.allocations.push(allocation);
    else allocation = same;
    s.ofWord[word] = allocation;
  }
  return allocation;
}

export function useOf(a: AllocationTotals, code: number): UseTotals {
  let use = a.uses[code];
  if (use === undefined) {
    use = {
      faults: 0,
      batches: 0,
      lastBatch: -1,
      byAccess: [],
      firstByte: Number.POSITIVE_INFINITY,
      endByte: 0,
      firstRow: -1,
      firstTime: Number.NaN,
      steps: [],
      movedSteps: [],
      movedBytes: 0,
      refaults: 0,
      firstTouchPages: 0,
    };
    a.uses[code] = use;
  }
  return use;
}

/** The part of the timeline of a time. */
export function partOf(s: Scan, time: number): number {
  const part = Math.floor(((time - s.begin) / (s.end - s.begin)) * TIMELINE_PARTS);
  return Number.isNaN(part) ? 0 : Math.min(TIMELINE_PARTS - 1, Math.max(0, part));
}
