/** Random traces that fill a few blocks of small allocations: times that repeat, spans that overlap, rows of all kinds. */
import { createPrng, type Prng, prngBelow, prngChance } from '../../src/base/prng.ts';
import type { UvmEvent } from '../../src/trace/event.ts';
import { createTraceColumns } from '../../src/trace/store/trace_columns.ts';
import { appendEvent, appendPush, type Trace } from '../../src/trace/store/trace_events.ts';
import { emptyTraceInfo, type TraceInfo } from '../../src/trace/store/trace_info.ts';

const MIB = 2 ** 20;
/** Whole blocks, a block and a part of one, less than a block. */
export const ALLOCATIONS = [
  { name: 'a', bytes: 6 * MIB },
  { name: 'b', bytes: 3 * MIB + 4096 },
  { name: 'c', bytes: 40_960 },
] as const;

export interface TimelineOptions {
  pushes?: boolean;
  /** One virtual clock, or a GPU's own. */
  virtual?: boolean;
  steps?: number;
  /** Times lie below this. */
  until?: number;
  allocations?: readonly { name: string; bytes: number }[];
  info?: Partial<TraceInfo>;
}

function pick<T>(p: Prng, list: readonly T[]): T {
  return list[prngBelow(p, list.length)];
}

function randomEvent(p: Prng, step: number, batch: number, options: Required<TimelineOptions>): UvmEvent {
  const its = pick(p, options.allocations);
  // Now and then behind the end of the allocation, where a row has no block.
  const page = prngBelow(p, Math.ceil(its.bytes / 4096) + (prngChance(p, 1, 20) ? 600 : 0));
  const place = {
    ...(options.steps > 0 ? { step } : {}),
    ...(options.allocations.length > 1 ? { buffer: its.name } : {}),
    offset: page * 4096 + (prngChance(p, 1, 4) ? prngBelow(p, 4096) : 0),
  };
  const time = prngBelow(p, options.until);
  const gpuTime = options.virtual ? time : time * 2 + 7;
  const bytes = prngChance(p, 1, 8) ? prngBelow(p, 5 * MIB) : 4096 * (1 + prngBelow(p, 64));
  const gpu = pick(p, ['gpu0', 'gpu1']);
  const pair = pick(p, [
    { src: 'cpu', dst: gpu },
    { src: gpu, dst: 'cpu' },
    { src: 'gpu0', dst: 'gpu1' },
  ]);
  const long = prngChance(p, 1, 30) ? options.until : 20;
  switch (prngBelow(p, 18)) {
    case 0:
    case 1:
      return { event: 'cpuFault', access: pick(p, ['read', 'write'] as const), ...place, time };
    case 2:
      return { event: 'replay', ...(options.steps > 0 ? { step } : {}), gpu, batch, time, gpuTime };
    case 3:
    case 4:
    case 5: {
      const length = prngBelow(p, long);
      const times = { begin: time, end: time + length + 3, gpuBegin: gpuTime, gpuEnd: gpuTime + length };
      return {
        event: 'migration',
        cause: pick(p, ['coherence', 'prefetch'] as const),
        ...pair,
        ...place,
        bytes,
        ...times,
      };
    }
    case 6:
      return { event: 'readDuplicate', ...place, bytes, processors: ['cpu', gpu], time };
    case 7:
      return { event: 'readDuplicateInvalidate', resident: gpu, ...place, bytes, time };
    case 8:
      return { event: 'thrashing', ...place, bytes, processors: ['cpu', 'gpu0'], time };
    case 9:
      return { event: prngChance(p, 1, 2) ? 'throttlingStart' : 'throttlingEnd', processor: gpu, ...place, time };
    case 10:
      return { event: 'eviction', src: gpu, dst: 'cpu', ...place, causedBy: 0, bytes, time };
    case 11:
      return { event: 'mapRemote', cause: 'coherence', src: gpu, dst: 'cpu', ...place, bytes, time, gpuTime };
    case 12: {
      const what = { type: 'invalidPte', access: 'read', reason: 'invalidAddress' } as const;
      return { event: 'fatalFault', processor: gpu, ...what, ...place, time };
    }
    default: {
      const access = pick(p, ['read', 'write', 'prefetch'] as const);
      return { event: 'gpuFault', gpu, type: 'invalidPte', access, ...place, batch, time, gpuTime };
    }
  }
}

/** `rows` rows in an order that is nearly that of time. */
export function randomTimeline(
  seed: number,
  rows: number,
  options: TimelineOptions = {},
): { trace: Trace; events: UvmEvent[] } {
  const all = {
    pushes: false,
    virtual: true,
    steps: 0,
    until: 2000,
    allocations: ALLOCATIONS,
    info: {},
    ...options,
  };
  const p = createPrng(seed);
  const columns = createTraceColumns({ pushes: all.pushes });
  const events: UvmEvent[] = [];
  let batch = 0;
  for (let row = 0; row < rows; row++) {
    if (prngChance(p, 1, 6)) batch++;
    const step = all.steps === 0 ? 0 : Math.floor((row * all.steps) / rows);
    if (all.pushes && prngChance(p, 1, 3)) {
      const begin = prngBelow(p, all.until);
      const value = prngBelow(p, 50);
      appendPush(columns, {
        step,
        push: row,
        gpu: 'gpu0',
        channel: prngBelow(p, 12),
        type: 'MEMOPS',
        pool: 0,
        engine: 0,
        gpfifo: 0,
        trackingSemaphoreValue: value,
        acquires: prngChance(p, 1, 2) ? [{ gpu: 'gpu0', channel: prngBelow(p, 12), value: prngBelow(p, 50) }] : [],
        methods: 3,
        bytes: 12,
        begin,
        end: begin + 1,
        started: begin + 2,
        finished: begin + 2 + prngBelow(p, prngChance(p, 1, 30) ? all.until : 40),
        completed: begin + 90,
        noticed: null,
        purpose: pick(p, ['copy', 'replay']),
      });
      continue;
    }
    const event = randomEvent(p, step, batch, all);
    events.push(event);
    appendEvent(columns, event);
  }
  const info = {
    ...emptyTraceInfo(`timeline ${seed}`, 'lines', '0'),
    allocations: all.allocations.map((one) => ({ ...one, kind: 'managed' as const, address: null })),
    hasSteps: all.steps > 0,
    hasBuffers: all.allocations.length > 1,
    clock: all.virtual ? 'virtual' : 'CLOCK_MONOTONIC_RAW',
    ...all.info,
  };
  return { trace: { info, columns }, events };
}

/**
 * What the GPU times of a row are increased by where they are of a clock of their own: the least distance of that GPU's
 * events to the CPU's clock. Random timelines last less than a tenth of a second. NaN where nothing tells.
 */
function slowDistance({ columns: { arrays: a, words, count } }: Trace, row: number): number {
  const gpuOf = (i: number): string => {
    const src = words.src.list[a.src[i]];
    return src === 'cpu' ? words.dst.list[a.dst[i]] : src;
  };
  let least = Number.NaN;
  for (let i = 0; i < count; i++) {
    if (!Number.isNaN(a.gpuTimeEnd[i]) || Number.isNaN(a.time[i] - a.gpuTime[i]) || gpuOf(i) !== gpuOf(row)) continue;
    least = Math.min(Number.isNaN(least) ? Number.POSITIVE_INFINITY : least, a.time[i] - a.gpuTime[i]);
  }
  return least;
}

/** Begin and end of a row, as the explorer draws it. */
export function timesOf(trace: Trace, row: number): { begin: number; end: number } {
  const { arrays: a } = trace.columns;
  const placed = a.gpuTime[row] + (trace.info.clock === 'virtual' ? 0 : slowDistance(trace, row));
  const begin = Number.isNaN(placed) ? a.time[row] : placed;
  if (!Number.isNaN(a.gpuTimeEnd[row] - a.gpuTime[row])) {
    return { begin, end: Math.max(begin, begin + a.gpuTimeEnd[row] - a.gpuTime[row]) };
  }
  return { begin, end: Number.isNaN(a.timeEnd[row]) ? begin : Math.max(begin, a.timeEnd[row]) };
}
