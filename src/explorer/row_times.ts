/**
 * When a row began and ended, on the one axis that a picture has: the clock of `time`.
 *
 * In a run of the model both clocks are the virtual one. A recorded GPU's clock counts from a moment of its own, so its
 * times are put onto the CPU's axis by what must hold: nobody on the CPU notices a thing before it has happened. In
 * each tenth of a second the two clocks are as far apart as the event says that was noticed soonest. What a GPU did
 * then stands too early by that least delay, a few microseconds, and clocks that drift are followed.
 */
import type { Trace } from '../trace/store/trace_events.ts';

/** Width of the parts of time in which the distance of two clocks is taken to be one. */
const PART_NS = 1e8;
/** Parts at most, for a trace of any length. */
const PARTS_MAX = 1 << 20;

interface GpuClock {
  /** What a GPU time has to be increased by, for each part of the CPU's time; NaN where nothing tells. */
  distance: Float64Array;
}

interface TimeAxis {
  /** The clocks are one. */
  readonly one: boolean;
  readonly begin: number;
  readonly part: number;
  /** By number of the word in `src`. */
  readonly clocks: readonly (GpuClock | undefined)[];
  /** Number of the word `cpu` in `src`, and words of `dst` as words of `src`. */
  readonly cpu: number;
  readonly srcOfDst: Int32Array;
}

const axes = new WeakMap<Trace, TimeAxis>();

/** The GPU whose clock the row's GPU times are of: who pushes a copy is its source, unless that is the CPU. */
function clockOf(trace: Trace, axis: Pick<TimeAxis, 'cpu' | 'srcOfDst'>, row: number): number {
  const { src, dst } = trace.columns.arrays;
  return src[row] === axis.cpu ? axis.srcOfDst[dst[row]] : src[row];
}

/** Fills parts that have no event, and takes the least of neighbours: a part may have late events alone. */
function settle(distance: Float64Array): void {
  let last = Number.NaN;
  for (let p = 0; p < distance.length; p++) {
    if (Number.isNaN(distance[p])) distance[p] = last;
    last = distance[p];
  }
  for (let p = distance.length - 2; p >= 0; p--) if (Number.isNaN(distance[p])) distance[p] = distance[p + 1];
  const before = distance.slice();
  for (let p = 0; p < distance.length; p++) {
    distance[p] = Math.min(before[Math.max(0, p - 1)], before[p], before[Math.min(before.length - 1, p + 1)]);
  }
}

function makeAxis(trace: Trace): TimeAxis {
  const { columns, info } = trace;
  const { arrays: a, words, count } = columns;
  const names = {
    cpu: words.src.numbers.get('cpu') ?? -1,
    srcOfDst: Int32Array.from(words.dst.list, (word) => words.src.numbers.get(word) ?? -1),
  };
  const clocks: (GpuClock | undefined)[] = [];
  let begin = Number.POSITIVE_INFINITY;
  let end = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < count; i++) {
    if (a.time[i] < begin) begin = a.time[i];
    if (a.time[i] > end) end = a.time[i];
  }
  const part = Math.max(PART_NS, (end - begin) / PARTS_MAX);
  const axis = { one: info.clock === 'virtual', begin, part, clocks, ...names };
  if (axis.one) return axis;
  const parts = end >= begin ? Math.floor((end - begin) / part) + 1 : 1;
  for (let i = 0; i < count; i++) {
    const away = a.time[i] - a.gpuTime[i];
    if (Number.isNaN(away)) continue;
    const clock = clockOf(trace, axis, i);
    if (clock < 0) continue;
    clocks[clock] ??= { distance: new Float64Array(parts).fill(Number.NaN) };
    const { distance } = clocks[clock];
    const p = Math.floor((a.time[i] - begin) / part);
    // A copy begins on the GPU after the CPU has begun its push, so a migration tells nothing here.
    if (!Number.isNaN(a.gpuTimeEnd[i])) continue;
    if (!(distance[p] <= away)) distance[p] = away;
  }
  for (const clock of clocks) if (clock !== undefined) settle(clock.distance);
  return axis;
}

/** How times of the trace's rows are put on one axis; worked out once. */
function timeAxis(trace: Trace): TimeAxis {
  let axis = axes.get(trace);
  if (axis === undefined) {
    axis = makeAxis(trace);
    axes.set(trace, axis);
  }
  return axis;
}

/** Begin of a row; NaN where it has no time. */
function rowBegin(trace: Trace, row: number, axis: TimeAxis): number {
  const { time, gpuTime } = trace.columns.arrays;
  const gpu = gpuTime[row];
  if (Number.isNaN(gpu)) return time[row];
  if (axis.one) return gpu;
  const clock = axis.clocks[clockOf(trace, axis, row)];
  if (clock === undefined) return time[row];
  const placed = gpu + clock.distance[Math.floor((time[row] - axis.begin) / axis.part)];
  return Number.isNaN(placed) ? time[row] : placed;
}

/** Begin of each row; NaN for one without a time. The array may be one of the trace's own. */
export function rowBegins(trace: Trace): Float64Array {
  const axis = timeAxis(trace);
  const { time } = trace.columns.arrays;
  if (!axis.one && axis.clocks.length === 0) return time;
  const begins = new Float64Array(trace.columns.count);
  for (let i = 0; i < begins.length; i++) begins[i] = rowBegin(trace, i, axis);
  return begins;
}

/** End of a row, not before its begin. */
export function rowEnd({ columns }: Trace, row: number, begin: number): number {
  const { gpuTime, gpuTimeEnd, timeEnd } = columns.arrays;
  const gpu = gpuTimeEnd[row] - gpuTime[row];
  if (!Number.isNaN(gpu)) return begin + Math.max(0, gpu);
  const cpu = timeEnd[row];
  return Number.isNaN(cpu) ? begin : Math.max(begin, cpu);
}
