/** Pushes as tracks of Perfetto: their submission by the CPU, their execution on channels, and what waited for what. */
import { PUSH_KIND } from '../store/trace_events.ts';
import {
  annotators,
  endOf,
  isUsable,
  namesBy,
  type PerfettoExport,
  rowsOf,
  type SliceTrack,
} from './perfetto_export.ts';
import { sortRows } from './row_order.ts';

const COLUMNS = [
  'push',
  'step',
  'type',
  'channel',
  'pool',
  'engine',
  'gpfifo',
  'value',
  'acquires',
  'methods',
  'bytes',
  'time',
  'timeEnd',
  'gpuTime',
  'gpuTimeEnd',
  'completed',
  'noticed',
] as const;

/** Which pushes waited for which: edges, those of a push beside each other on both sides. */
interface Edges {
  count: number;
  /** By the place of the waiting push among the rows. */
  firstIn: Uint32Array;
  /** By the place of the push that it waited for: the edges themselves. */
  firstOut: Uint32Array;
  out: Uint32Array;
}

/** Calls `take` for each acquire of a text such as `gpu0/8=3 gpu1/2=7`. */
function eachAcquire(text: string, take: (gpu: string, channel: number, value: number) => void): void {
  if (text === '') return;
  for (const one of text.split(' ')) {
    const slash = one.indexOf('/');
    const equals = one.indexOf('=', slash);
    if (slash > 0 && equals > slash) {
      take(one.slice(0, slash), Number(one.slice(slash + 1, equals)), Number(one.slice(equals + 1)));
    }
  }
}

/** Finds the push whose completion gave a channel a value, among those before a row. */
function createFinder(
  x: PerfettoExport,
  rows: Uint32Array,
): (gpu: number, channel: number, value: number, row: number) => number {
  const { src, channel, value } = x.columns.arrays;
  let places: Uint32Array = rows.map((_, i) => i);
  for (const key of [
    (i: number) => rows[i],
    (i: number) => value[rows[i]],
    (i: number) => channel[rows[i]],
    (i: number) => src[rows[i]],
  ]) {
    places = sortRows(places, key);
  }
  return (gpu, number, wanted, before) => {
    /** Whether the push at a place comes before what is looked for. */
    const isLess = (place: number): boolean => {
      const row = rows[place];
      if (src[row] !== gpu) return src[row] < gpu;
      if (channel[row] !== number) return channel[row] < number;
      if (value[row] !== wanted) return value[row] < wanted;
      return row < before;
    };
    let low = 0;
    let high = places.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isLess(places[middle])) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return -1;
    const row = rows[places[low - 1]];
    return src[row] === gpu && channel[row] === number && value[row] === wanted ? places[low - 1] : -1;
  };
}

function findEdges(x: PerfettoExport, rows: Uint32Array): Edges {
  const { acquires } = x.columns.arrays;
  const { list } = x.columns.words.acquires;
  const { numbers } = x.columns.words.src;
  const find = createFinder(x, rows);
  const firstIn = new Uint32Array(rows.length + 1);
  const firstOut = new Uint32Array(rows.length + 1);
  let from: number[] = [];
  for (let i = 0; i < rows.length; i++) {
    firstIn[i] = from.length;
    eachAcquire(list[acquires[rows[i]]], (gpu, channel, value) => {
      const place = find(numbers.get(gpu) ?? -1, channel, value, rows[i]);
      if (place >= 0) from.push(place);
    });
  }
  firstIn[rows.length] = from.length;
  for (const place of from) firstOut[place + 1]++;
  for (let i = 0; i < rows.length; i++) firstOut[i + 1] += firstOut[i];
  const next = firstOut.slice();
  const out = new Uint32Array(from.length);
  for (const [edge, place] of from.entries()) out[next[place]++] = edge;
  const count = from.length;
  from = [];
  return { count, firstIn, firstOut, out };
}

/** Slices on the CPU: from the begin of a push to its submission. A flow leads from each to its execution. */
function exportSubmissions(x: PerfettoExport): void {
  const { time, timeEnd, gpuTime, src, cause } = x.columns.arrays;
  const rows = rowsOf(x, [PUSH_KIND]);
  if (rows.length === 0) return;
  const names = namesBy(x, 'cause', PUSH_KIND);
  const category = x.writer.categoryId('submission');
  const annotate = annotators(x, COLUMNS);
  const cpu = x.processors.indexOf('cpu');
  const tracks = new Map<number, SliceTrack>();
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i];
    let track = tracks.get(src[row]);
    if (track === undefined) {
      const gpu = x.columns.words.src.list[src[row]];
      track = x.slicesIn(x.group(cpu, 'channels'), `pushes to ${gpu}`, x.srcProcessor[src[row]]);
      tracks.set(src[row], track);
    }
    track.begin(Math.round(time[row]), endOf(x, time[row], timeEnd[row]), names(cause[row]), category);
    annotate(row);
    if (x.oneClock && isUsable(gpuTime[row])) x.writer.flow(row + 1);
    track.end();
  }
}

/**
 * Slices on the channels, by the engine's time. Flows come from the submission, and lead to the pushes that acquired
 * what this one released: each flow has two ends, so that nobody seems to wait for another who waits.
 */
function exportExecutions(x: PerfettoExport): void {
  const { time, gpuTime, gpuTimeEnd, src, channel, engine, cause } = x.columns.arrays;
  const rows = rowsOf(x, [PUSH_KIND], 'gpuTime').filter((row) => isUsable(time[row]));
  if (rows.length === 0) return;
  const edges = findEdges(x, rows);
  const names = namesBy(x, 'cause', PUSH_KIND);
  const category = x.writer.categoryId('push');
  const annotate = annotators(x, COLUMNS);
  const tracks = new Map<string, SliceTrack>();
  // Above those of submissions.
  const flowOf = (edge: number): number => x.columns.count + 1 + edge;
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i];
    const name = `channel ${channel[row]}, engine ${engine[row]}`;
    const key = `${src[row]} ${name}`;
    let track = tracks.get(key);
    if (track === undefined) {
      const group = x.group(Math.max(0, x.srcProcessor[src[row]]), 'channels');
      track = x.slicesIn(group, name, channel[row], "Pushes of this channel, by the engine's time.");
      tracks.set(key, track);
    }
    track.begin(Math.round(gpuTime[row]), endOf(x, gpuTime[row], gpuTimeEnd[row]), names(cause[row]), category);
    annotate(row);
    x.writer.flow(row + 1);
    x.counts.flows++;
    for (let edge = edges.firstIn[i]; edge < edges.firstIn[i + 1]; edge++) x.writer.flow(flowOf(edge));
    for (let at = edges.firstOut[i]; at < edges.firstOut[i + 1]; at++) x.writer.flow(flowOf(edges.out[at]));
    track.end();
  }
  x.counts.flows += edges.count;
}

/** Where the GPU's clock is its own, executions are not shown: their times are annotations of the submissions. */
export function exportPushes(x: PerfettoExport): void {
  if (!x.columns.pushes) return;
  exportSubmissions(x);
  if (x.oneClock) exportExecutions(x);
}
