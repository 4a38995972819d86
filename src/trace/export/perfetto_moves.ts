/** Migrations with their counters, and throttling, as tracks of Perfetto. */
import { PAGE_SIZE } from '../../base/units.ts';
import {
  annotators,
  type CounterTrack,
  endOf,
  instantOf,
  isUsable,
  namesBy,
  type PerfettoExport,
  rowsOf,
  type SliceTrack,
} from './perfetto_export.ts';
import { UNIT_BYTES } from './perfetto_writer.ts';
import { rowsWhere, sortRows } from './row_order.ts';

const COLUMNS = [
  'cause',
  'src',
  'dst',
  'buffer',
  'offset',
  'bytes',
  'step',
  'time',
  'timeEnd',
  'gpuTime',
  'gpuTimeEnd',
] as const;

/** What is kept for each direction in which pages moved. */
interface Direction {
  /** The processor in whose process it is shown: the GPU that copies. */
  owner: number;
  name: string;
}

function directionsOf(x: PerfettoExport): (row: number) => { key: number; direction: Direction } {
  const { src, dst } = x.columns.arrays;
  const found = new Map<number, { key: number; direction: Direction }>();
  const many = x.processors.length;
  const cpu = x.processors.indexOf('cpu');
  return (row) => {
    const from = Math.max(0, x.srcProcessor[src[row]]);
    const to = Math.max(0, x.dstProcessor[dst[row]]);
    const key = from * many + to;
    let known = found.get(key);
    if (known === undefined) {
      // Who pushes the copy: the source, unless that is the CPU.
      const owner = from === cpu ? to : from;
      known = { key, direction: { owner, name: `${x.processors[from]} to ${x.processors[to]}` } };
      found.set(key, known);
    }
    return known;
  };
}

type Directions = ReturnType<typeof directionsOf>;

/** Slices on a track for each direction. */
function exportSlices(
  x: PerfettoExport,
  directionOf: Directions,
  clock: 'cpu' | 'gpu',
  makeTrack: (direction: Direction) => SliceTrack,
): void {
  const { arrays } = x.columns;
  const begins = clock === 'cpu' ? arrays.time : arrays.gpuTime;
  const ends = clock === 'cpu' ? arrays.timeEnd : arrays.gpuTimeEnd;
  const rows = rowsOf(x, ['migration'], clock === 'cpu' ? 'time' : 'gpuTime');
  if (rows.length === 0) return;
  const names = namesBy(x, 'cause', 'migration');
  const category = x.writer.categoryId(clock === 'cpu' ? 'migration' : 'copy');
  const annotate = annotators(x, COLUMNS);
  const tracks = new Map<number, SliceTrack>();
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i];
    const { key, direction } = directionOf(row);
    let track = tracks.get(key);
    if (track === undefined) {
      track = makeTrack(direction);
      tracks.set(key, track);
    }
    const begin = begins[row];
    track.begin(Math.round(begin), endOf(x, begin, ends[row]), names(arrays.cause[row]), category);
    annotate(row);
    track.end();
  }
}

const RESIDENT =
  'Bytes that migrations brought here less those that they took away, from 0 and never below it. First touches, ' +
  'frees and copies that read duplication keeps or drops are no migrations and not counted.';

interface Level {
  value: number;
  counter: CounterTrack;
}

/** Bytes that arrived less bytes that left, for each processor, and for each allocation on each processor. */
function createResidence(x: PerfettoExport): { change(row: number, time: number): void; flush(): void } {
  const { src, dst, bytes, buffer } = x.columns.arrays;
  const { list } = x.columns.words.buffer;
  const levels = new Map<number, Level>();
  const many = x.processors.length;
  const make = (processor: number, word: number): Level => {
    if (word < 0) {
      const parent = x.group(processor, 'memory');
      return { value: 0, counter: x.counterIn(parent, 'resident by migrations', 10, UNIT_BYTES, RESIDENT) };
    }
    const parent = x.trackIn(x.group(0, 'allocations'), list[word], word);
    const name = `on ${x.processors[processor]}`;
    return { value: 0, counter: x.counterIn(parent, name, processor, UNIT_BYTES, RESIDENT) };
  };
  const move = (processor: number, word: number, by: number, time: number): void => {
    const key = (word + 1) * many + processor;
    let level = levels.get(key);
    if (level === undefined) {
      level = make(processor, word);
      levels.set(key, level);
    }
    level.value = Math.max(0, level.value + by);
    level.counter.set(time, level.value);
  };
  return {
    change: (row, time) => {
      const from = Math.max(0, x.srcProcessor[src[row]]);
      const to = Math.max(0, x.dstProcessor[dst[row]]);
      const size = Math.max(0, bytes[row]);
      move(from, -1, -size, time);
      move(to, -1, size, time);
      if (buffer[row] === 0) return;
      move(from, buffer[row], -size, time);
      move(to, buffer[row], size, time);
    },
    flush: () => {
      for (const { counter } of levels.values()) counter.flush();
    },
  };
}

/** Counters change where a migration ends by the CPU's clock. */
function exportCounters(x: PerfettoExport, directionOf: Directions): void {
  const { time, timeEnd, bytes } = x.columns.arrays;
  const endTime = (row: number): number => {
    const end = timeEnd[row];
    return isUsable(end) && end >= time[row] ? end : time[row];
  };
  const rows = sortRows(rowsOf(x, ['migration']), endTime);
  const residence = createResidence(x);
  const moved = new Map<number, Level>();
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i];
    const at = Math.round(endTime(row));
    const { key, direction } = directionOf(row);
    let level = moved.get(key);
    if (level === undefined) {
      const parent = x.group(direction.owner, 'memory');
      level = { value: 0, counter: x.counterIn(parent, `moved ${direction.name}`, 11, UNIT_BYTES) };
      moved.set(key, level);
    }
    level.value += Math.max(0, bytes[row]);
    level.counter.set(at, level.value);
    residence.change(row, at);
  }
  for (const { counter } of moved.values()) counter.flush();
  residence.flush();
}

export function exportMigrations(x: PerfettoExport): void {
  const directionOf = directionsOf(x);
  exportSlices(x, directionOf, 'cpu', ({ owner, name }) =>
    x.slicesIn(
      x.group(owner, 'memory'),
      `migrations ${name}`,
      0,
      "By the CPU's clock: from the submission of the copy to the driver's notice of its end.",
    ),
  );
  const { leftOut, shortened } = x.counts;
  if (x.oneClock) {
    exportSlices(x, directionOf, 'gpu', ({ owner, name }) =>
      x.slicesIn(x.group(owner, 'memory'), `copies ${name}`, 1, 'The migrations as the engine executed them.'),
    );
  }
  exportCounters(x, directionOf);
  // Counted once, where the migrations are shown.
  Object.assign(x.counts, { leftOut, shortened });
}

/** A processor that is throttled at a page, from the start to the next end; what has no other half is an instant. */
export function exportThrottling(x: PerfettoExport): void {
  const { kind, src, buffer, offset, time } = x.columns.arrays;
  const start = x.columns.words.kind.numbers.get('throttlingStart') ?? -1;
  let rows = rowsOf(x, ['throttlingStart', 'throttlingEnd']);
  if (rows.length === 0) return;
  const page = (row: number): number => Math.floor(offset[row] / PAGE_SIZE);
  for (const key of [page, (row: number) => buffer[row], (row: number) => src[row]]) rows = sortRows(rows, key);
  /** Whether rows[i] and the next are the two halves of one. */
  const pairs = (i: number): boolean => {
    if (i < 0 || i + 1 >= rows.length) return false;
    const [one, next] = [rows[i], rows[i + 1]];
    const together = src[one] === src[next] && buffer[one] === buffer[next] && page(one) === page(next);
    return together && kind[one] === start && kind[next] !== start;
  };
  const { writer } = x;
  const annotate = annotators(x, ['buffer', 'offset', 'step']);
  const category = writer.categoryId('throttling');
  const throttled = writer.nameId('throttled');
  const names = namesBy(x, 'kind', '');
  const kinds = writer.wordIds(x.columns.words.kind.list, writer.categoryId);
  const tracks = new Map<number, SliceTrack>();
  const groupOf = (row: number): number => x.group(Math.max(0, x.srcProcessor[src[row]]), 'shared pages');
  const slices = rowsWhere(rows.length, pairs);
  for (const i of sortRows(slices, (at) => time[rows[at]])) {
    const row = rows[i];
    let track = tracks.get(src[row]);
    if (track === undefined) {
      track = x.slicesIn(groupOf(row), 'throttled', 0);
      tracks.set(src[row], track);
    }
    track.begin(Math.round(time[row]), Math.round(time[rows[i + 1]]), throttled, category);
    annotate(row);
    track.end();
  }
  const single = rowsWhere(rows.length, (i) => !pairs(i) && !pairs(i - 1));
  for (const i of sortRows(single, (at) => time[rows[at]])) {
    const row = rows[i];
    const track = x.trackIn(groupOf(row), 'throttling without its other half', 1);
    instantOf(x, row, track, names(kind[row]), kinds(kind[row]), annotate);
  }
}
