/** Faults, batches and replays, and everything that happens at one time, as tracks of Perfetto. */
import { PAGE_SIZE } from '../../base/units.ts';
import type { EventKind } from '../event.ts';
import type { ColumnKey } from '../store/trace_schema.ts';
import {
  annotators,
  endOf,
  type GroupName,
  instantOf,
  namesBy,
  type PerfettoExport,
  rowsOf,
} from './perfetto_export.ts';
import { UNIT_COUNT } from './perfetto_writer.ts';
import { rowsWhere, sortRows } from './row_order.ts';

interface InstantTrack {
  kinds: readonly EventKind[];
  /** In the process of the row's `src`, or of all. */
  of: 'src' | 'all';
  group: GroupName;
  track: string;
  rank: number;
  name: 'kind' | 'access' | 'cause';
  columns: readonly ColumnKey[];
}

const PLACE = ['buffer', 'offset', 'step'] as const;

/** What has one time, in the order of tracks in a group. */
const INSTANTS: readonly InstantTrack[] = [
  {
    kinds: ['cpuFault'],
    of: 'src',
    group: 'faults',
    track: 'CPU faults',
    rank: 0,
    name: 'access',
    columns: ['access', ...PLACE],
  },
  {
    kinds: ['gpuFault'],
    of: 'src',
    group: 'faults',
    track: 'GPU faults',
    rank: 2,
    name: 'access',
    columns: ['type', 'access', ...PLACE, 'batch', 'gpc', 'client', 'gpuTime'],
  },
  {
    kinds: ['replay'],
    of: 'src',
    group: 'faults',
    track: 'replays',
    rank: 3,
    name: 'kind',
    columns: ['batch', 'step', 'gpuTime'],
  },
  {
    kinds: ['fatalFault'],
    of: 'src',
    group: 'faults',
    track: 'fatal faults',
    rank: 4,
    name: 'cause',
    columns: ['cause', 'type', 'access', ...PLACE],
  },
  {
    kinds: ['mapRemote'],
    of: 'src',
    group: 'memory',
    track: 'remote mappings',
    rank: 20,
    name: 'cause',
    columns: ['cause', 'src', 'dst', ...PLACE, 'bytes', 'gpuTime'],
  },
  {
    kinds: ['eviction'],
    of: 'src',
    group: 'memory',
    track: 'evictions',
    rank: 21,
    name: 'kind',
    columns: ['src', 'dst', ...PLACE, 'bytes', 'causedBy'],
  },
  {
    kinds: ['readDuplicate', 'readDuplicateInvalidate'],
    of: 'all',
    group: 'shared pages',
    track: 'read duplication',
    rank: 0,
    name: 'kind',
    columns: ['src', 'processors', ...PLACE, 'bytes'],
  },
  {
    kinds: ['thrashing'],
    of: 'all',
    group: 'shared pages',
    track: 'thrashing',
    rank: 1,
    name: 'kind',
    columns: ['processors', ...PLACE, 'bytes'],
  },
];

/** Events that have one time. */
export function exportInstants(x: PerfettoExport): void {
  const { kind, src } = x.columns.arrays;
  for (const { kinds, of, group, track, rank, name, columns } of INSTANTS) {
    const rows = rowsOf(x, kinds);
    if (rows.length === 0) continue;
    const nameArray = x.columns.arrays[name];
    const names = namesBy(x, name, kinds[0]);
    const categories = x.writer.wordIds(x.columns.words.kind.list, x.writer.categoryId);
    const annotate = annotators(x, columns);
    const tracks = new Map<number, number>();
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i];
      const processor = of === 'src' ? Math.max(0, x.srcProcessor[src[row]]) : 0;
      let uuid = tracks.get(processor);
      if (uuid === undefined) {
        uuid = x.trackIn(x.group(processor, group), track, rank);
        tracks.set(processor, uuid);
      }
      instantOf(x, row, uuid, names(nameArray[row]), categories(kind[row]), annotate);
    }
  }
}

/** Batches of GPU faults, by GPU and number: as the table `batches` of SQL has them. */
interface Batches {
  count: number;
  src: Uint16Array;
  batch: Int32Array;
  step: Int32Array;
  faults: Uint32Array;
  /** Different pages among the faults. */
  pages: Uint32Array;
  first: Float64Array;
  last: Float64Array;
  /** The row of the first replay that covers it, or -1. */
  replay: Int32Array;
}

function gatherBatches(x: PerfettoExport): Batches {
  const { src, batch, step, buffer, offset, time } = x.columns.arrays;
  const page = (row: number): number => Math.floor(offset[row] / PAGE_SIZE);
  let rows = rowsOf(x, ['gpuFault']);
  rows = rows.filter((row) => batch[row] >= 0);
  for (const key of [page, (row: number) => buffer[row], (row: number) => batch[row], (row: number) => src[row]]) {
    rows = sortRows(rows, key);
  }
  const starts = (i: number): boolean =>
    i === 0 || src[rows[i]] !== src[rows[i - 1]] || batch[rows[i]] !== batch[rows[i - 1]];
  let count = 0;
  for (let i = 0; i < rows.length; i++) if (starts(i)) count++;
  const b: Batches = {
    count,
    src: new Uint16Array(count),
    batch: new Int32Array(count),
    step: new Int32Array(count),
    faults: new Uint32Array(count),
    pages: new Uint32Array(count),
    first: new Float64Array(count).fill(Number.POSITIVE_INFINITY),
    last: new Float64Array(count).fill(Number.NEGATIVE_INFINITY),
    replay: new Int32Array(count).fill(-1),
  };
  let n = -1;
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i];
    const begins = starts(i);
    if (begins) {
      n++;
      b.src[n] = src[row];
      b.batch[n] = batch[row];
      b.step[n] = step[row];
    }
    b.faults[n]++;
    b.step[n] = Math.min(b.step[n], step[row]);
    if (begins || buffer[row] !== buffer[rows[i - 1]] || page(row) !== page(rows[i - 1])) b.pages[n]++;
    b.first[n] = Math.min(b.first[n], time[row]);
    b.last[n] = Math.max(b.last[n], time[row]);
  }
  return b;
}

/** A replay names the last batch that it covers; of several with one number the first counts. */
function findReplays(x: PerfettoExport, b: Batches): void {
  const { src, batch } = x.columns.arrays;
  let replays = rowsOf(x, ['replay']);
  replays = sortRows(replays, (row) => batch[row]);
  replays = sortRows(replays, (row) => src[row]);
  let at = 0;
  for (let n = 0; n < b.count; n++) {
    while (
      at < replays.length &&
      (src[replays[at]] < b.src[n] || (src[replays[at]] === b.src[n] && batch[replays[at]] < b.batch[n]))
    ) {
      at++;
    }
    if (at < replays.length && src[replays[at]] === b.src[n]) b.replay[n] = replays[at];
  }
}

const all = (count: number): Uint32Array => rowsWhere(count, () => true);

/** How many faults wait for a replay: those of a batch from its first one on. */
function exportWaiting(x: PerfettoExport, b: Batches): void {
  const { time } = x.columns.arrays;
  // Begins are even, replays odd.
  const timeOf = (change: number): number => {
    const n = change >> 1;
    return change % 2 === 0 ? b.first[n] : Math.max(b.first[n], time[b.replay[n]]);
  };
  const changes = rowsWhere(2 * b.count, (change) => change % 2 === 0 || b.replay[change >> 1] >= 0);
  const counters = new Map<number, { waiting: number; set(time: number, value: number): void; flush(): void }>();
  for (const change of sortRows(changes, timeOf)) {
    const n = change >> 1;
    const processor = Math.max(0, x.srcProcessor[b.src[n]]);
    let counter = counters.get(processor);
    if (counter === undefined) {
      const track = x.counterIn(
        x.group(processor, 'faults'),
        'faults outstanding',
        5,
        UNIT_COUNT,
        'Faults of batches that are not replayed yet; all faults of a batch count from its first one on.',
      );
      counter = { waiting: 0, ...track };
      counters.set(processor, counter);
    }
    counter.waiting += change % 2 === 0 ? b.faults[n] : -b.faults[n];
    counter.set(Math.round(timeOf(change)), counter.waiting);
  }
  for (const counter of counters.values()) counter.flush();
}

/** Batches as slices from their first fault to the replay that covers them, or else to their last fault. */
export function exportBatches(x: PerfettoExport): void {
  const { leftOut } = x.counts;
  const b = gatherBatches(x);
  findReplays(x, b);
  // The rows were counted where they are shown themselves.
  x.counts.leftOut = leftOut;
  if (b.count === 0) return;
  const { time } = x.columns.arrays;
  const { writer } = x;
  const name = writer.nameId('batch');
  const category = writer.categoryId('batch');
  const keys = ['batch', 'step', 'faults', 'pages', 'duplicates', 'first_time', 'last_time', 'replay_time'] as const;
  const ids = keys.map((key) => writer.keyId(key));
  const tracks = new Map<number, ReturnType<PerfettoExport['slicesIn']>>();
  for (const n of sortRows(all(b.count), (i) => b.first[i])) {
    const processor = Math.max(0, x.srcProcessor[b.src[n]]);
    let track = tracks.get(processor);
    if (track === undefined) {
      track = x.slicesIn(
        x.group(processor, 'faults'),
        'batches',
        1,
        'From the first fault of a batch to the first replay that covers it; to its last fault where there is none.',
      );
      tracks.set(processor, track);
    }
    const replayTime = b.replay[n] < 0 ? Number.NaN : time[b.replay[n]];
    const end = endOf(x, b.first[n], b.replay[n] < 0 ? b.last[n] : replayTime);
    track.begin(Math.round(b.first[n]), end, name, category);
    const step = b.step[n] < 0 ? Number.NaN : b.step[n];
    const duplicates = b.faults[n] - b.pages[n];
    const values = [b.batch[n], step, b.faults[n], b.pages[n], duplicates, b.first[n], b.last[n], replayTime];
    for (let i = 0; i < ids.length; i++) if (!Number.isNaN(values[i])) writer.annotateNumber(ids[i], values[i]);
    track.end();
  }
  exportWaiting(x, b);
}
