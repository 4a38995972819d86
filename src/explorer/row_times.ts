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

/** Parts of the CPU's time. */
interface Parts {
  begin: number;
  width: number;
  count: number;
}

/** What GPU times have to be increased by in each part, by number of the GPU's word in `src`; NaN: nothing tells. */
type Distances = (Float64Array | undefined)[];

function partsOf({ columns: { arrays, count } }: Trace): Parts {
  const { time } = arrays;
  let begin = Number.POSITIVE_INFINITY;
  let end = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < count; i++) {
    if (time[i] < begin) begin = time[i];
    if (time[i] > end) end = time[i];
  }
  if (!(end >= begin)) return { begin: 0, width: PART_NS, count: 1 };
  const width = Math.max(PART_NS, (end - begin) / PARTS_MAX);
  return { begin, width, count: Math.floor((end - begin) / width) + 1 };
}

/** Gives a row's GPU: who pushes a copy is its source, unless that is the CPU. Numbers of words in `src`. */
function gpuFinder({ columns: { arrays, words } }: Trace): (row: number) => number {
  const { src, dst } = arrays;
  const cpu = words.src.numbers.get('cpu') ?? -1;
  const srcOfDst = Int32Array.from(words.dst.list, (word) => words.src.numbers.get(word) ?? words.src.list.length);
  return (row) => (src[row] === cpu ? srcOfDst[dst[row]] : src[row]);
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
  const end = before.length - 1;
  for (let p = 0; p <= end; p++) {
    distance[p] = Math.min(before[Math.max(0, p - 1)], before[p], before[Math.min(end, p + 1)]);
  }
}

function distancesOf(trace: Trace, parts: Parts, gpuOf: (row: number) => number): Distances {
  const { arrays, count } = trace.columns;
  const { time, gpuTime, gpuTimeEnd } = arrays;
  const distances: Distances = [];
  for (let i = 0; i < count; i++) {
    // A copy begins on the GPU after the CPU has begun its push: it bounds the distance from the other side.
    if (Number.isNaN(time[i]) || Number.isNaN(gpuTime[i]) || !Number.isNaN(gpuTimeEnd[i])) continue;
    const gpu = gpuOf(i);
    distances[gpu] ??= new Float64Array(parts.count).fill(Number.NaN);
    const distance = distances[gpu];
    const part = Math.floor((time[i] - parts.begin) / parts.width);
    const away = time[i] - gpuTime[i];
    if (!(distance[part] <= away)) distance[part] = away;
  }
  for (const distance of distances) if (distance !== undefined) settle(distance);
  return distances;
}

/** Begin of each row; NaN for one without a time. */
export function rowBegins(trace: Trace): Float64Array {
  const { time, gpuTime } = trace.columns.arrays;
  const begins = gpuTime.slice();
  const virtual = trace.info.clock === 'virtual';
  const parts = virtual ? { begin: 0, width: 1, count: 0 } : partsOf(trace);
  const gpuOf = gpuFinder(trace);
  const distances = virtual ? [] : distancesOf(trace, parts, gpuOf);
  for (let i = 0; i < begins.length; i++) {
    if (!virtual && !Number.isNaN(begins[i])) {
      const distance = distances[gpuOf(i)];
      begins[i] += distance === undefined ? Number.NaN : distance[Math.floor((time[i] - parts.begin) / parts.width)];
    }
    if (Number.isNaN(begins[i])) begins[i] = time[i];
  }
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
