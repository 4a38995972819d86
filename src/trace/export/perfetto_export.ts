/** What the parts of the export to Perfetto share: the trace, its times, and tracks that are made when needed. */
import type { TraceColumns } from '../store/trace_columns.ts';
import type { Trace } from '../store/trace_events.ts';
import { type ColumnKey, TRACE_COLUMNS } from '../store/trace_schema.ts';
import { createPerfettoWriter, INSTANT, type PerfettoWriter, SLICE_BEGIN, type WordIds } from './perfetto_writer.ts';
import { createLanes, rowsWhere, sortRows } from './row_order.ts';

/** The process for what belongs to no processor alone. */
export const WHOLE = 'uvmlab';

/** Groups of tracks in each process, in their order. */
const GROUPS = ['about', 'steps', 'faults', 'memory', 'shared pages', 'channels', 'allocations'] as const;
export type GroupName = (typeof GROUPS)[number];

/** Which tracks a slice of a name goes to: the first that is free. */
export interface SliceTrack {
  /** Opens a slice; annotations follow, then `end`. Slices come by their begin. */
  begin(begin: number, end: number, name: number, category: number): void;
  /** Closes the slice that was opened. */
  end(): void;
}

/** A counter that keeps one value for each time: the last. */
export interface CounterTrack {
  set(time: number, value: number): void;
  flush(): void;
}

export interface PerfettoExport {
  readonly trace: Trace;
  readonly columns: TraceColumns;
  readonly writer: PerfettoWriter;
  /** Whether GPU times are of the clock of `time`. */
  readonly oneClock: boolean;
  /** Added to all times, so that none is negative. */
  readonly shift: number;
  /** The least time, not shifted, or 0. */
  readonly first: number;
  readonly counts: { leftOut: number; shortened: number; flows: number };
  /** Numbers of processors, by the numbers of their words in the columns. */
  readonly srcProcessor: Int32Array;
  readonly dstProcessor: Int32Array;
  /** Their words: WHOLE, then `cpu` and the GPUs. */
  readonly processors: readonly string[];
  group(processor: number, name: GroupName): number;
  /** The track of that name in a group; made when it is first asked for. */
  trackIn(parent: number, name: string, rank: number, description?: string): number;
  slicesIn(parent: number, name: string, rank: number, description?: string): SliceTrack;
  counterIn(parent: number, name: string, rank: number, unit: number, description?: string): CounterTrack;
}

/** Whether Perfetto has room for a time: a number of ns, not beyond 2^62 on either side. */
export function isUsable(time: number): boolean {
  return time >= -(2 ** 62) && time <= 2 ** 62;
}

/** The least usable number of the arrays, or infinity. */
function least(arrays: readonly Float64Array[], count: number): number {
  let found = Number.POSITIVE_INFINITY;
  for (const array of arrays) {
    for (let i = 0; i < Math.min(count, array.length); i++) {
      if (array[i] < found && isUsable(array[i])) found = array[i];
    }
  }
  return found;
}

function compareProcessors(a: string, b: string): number {
  const rank = (word: string): number =>
    word === WHOLE ? -2 : word === 'cpu' ? -1 : Number(/^gpu(\d+)$/.exec(word)?.[1] ?? Number.MAX_SAFE_INTEGER);
  return rank(a) - rank(b) || (a < b ? -1 : 1);
}

function processorList({ info, columns }: Trace): string[] {
  const words = new Set([WHOLE, 'cpu', ...info.processors.map(({ word }) => word)]);
  for (const key of ['src', 'dst'] as const)
    for (const word of columns.words[key].list) if (word !== '') words.add(word);
  return [...words].sort(compareProcessors);
}

/** The label of a process: its word, and the product where it is known. */
function processName(trace: Trace, word: string): string {
  if (word === WHOLE) return `${WHOLE}: ${trace.info.name}`;
  const name = trace.info.processors.find((one) => one.word === word)?.name;
  const shown = word === 'cpu' ? 'CPU' : word;
  return name === undefined ? shown : `${shown} (${name})`;
}

export function createPerfettoExport(trace: Trace, sink: (chunk: Uint8Array) => void): PerfettoExport {
  const { columns, info } = trace;
  const a = columns.arrays;
  const oneClock = info.clock === 'virtual';
  const timed = oneClock ? [a.time, a.timeEnd, a.gpuTime, a.gpuTimeEnd] : [a.time, a.timeEnd];
  const steps = Float64Array.from((info.steps ?? []).flatMap(({ begin, end }) => [begin, end]));
  const earliest = Math.min(least(timed, columns.count), least([steps], steps.length));
  const first = Number.isFinite(earliest) ? Math.round(earliest) : 0;
  const shift = first < 0 ? -first : 0;
  const writer = createPerfettoWriter(sink, shift);
  const processors = processorList(trace);
  const numberOf = (word: string): number => processors.indexOf(word);
  const processes = new Map<number, number>();
  const tracks = new Map<string, number>();

  const processTrack = (processor: number): number => {
    let uuid = processes.get(processor);
    if (uuid === undefined) {
      const name = processName(trace, processors[processor]);
      uuid = writer.track({ name, parent: 0, rank: processor, process: { pid: processor + 1, name } });
      processes.set(processor, uuid);
    }
    return uuid;
  };
  const trackIn = (parent: number, name: string, rank: number, description?: string): number => {
    const key = `${parent} ${name}`;
    let uuid = tracks.get(key);
    if (uuid === undefined) {
      uuid = writer.track({ name, parent, rank, ...(description === undefined ? {} : { description }) });
      tracks.set(key, uuid);
    }
    return uuid;
  };
  const counts = { leftOut: 0, shortened: 0, flows: 0 };
  return {
    trace,
    columns,
    writer,
    oneClock,
    shift,
    first,
    counts,
    processors,
    srcProcessor: Int32Array.from(columns.words.src.list, numberOf),
    dstProcessor: Int32Array.from(columns.words.dst.list, numberOf),
    group: (processor, name) => trackIn(processTrack(processor), name, GROUPS.indexOf(name)),
    trackIn,
    slicesIn: (parent, name, rank, description) => {
      const lanes = createLanes();
      const uuids: number[] = [];
      let open = 0;
      let openBegin = 0;
      let openEnd = 0;
      return {
        begin: (begin, end, nameId, category) => {
          const lane = lanes.place(begin, end);
          if (lane === uuids.length) {
            uuids.push(
              writer.track({ name, parent, rank, lane: true, ...(description === undefined ? {} : { description }) }),
            );
          }
          open = uuids[lane];
          openEnd = end;
          openBegin = begin;
          writer.open(SLICE_BEGIN, open, nameId, category);
        },
        end: () => {
          writer.close(openBegin);
          writer.endSlice(open, openEnd);
        },
      };
    },
    counterIn: (parent, name, rank, unit, description) => {
      const track = writer.track({
        name,
        parent,
        rank,
        counter: unit,
        ...(description === undefined ? {} : { description }),
      });
      let held = 0;
      let at = Number.NaN;
      const flush = (): void => {
        // A sum of nonsense may pass what an int64 holds.
        if (!Number.isNaN(at)) writer.counter(track, at, Math.max(-(2 ** 62), Math.min(2 ** 62, held)));
        at = Number.NaN;
      };
      return {
        set: (time, value) => {
          if (time !== at) flush();
          at = time;
          held = value;
        },
        flush,
      };
    },
  };
}

/** Rows of the kinds whose `key` is a time that can be shown, by that time, equal ones in order; others are counted. */
export function rowsOf(x: PerfettoExport, kinds: readonly string[], key: 'time' | 'gpuTime' = 'time'): Uint32Array {
  const { arrays, words, count } = x.columns;
  const wanted = new Uint8Array(words.kind.list.length);
  for (const kind of kinds) {
    const number = words.kind.numbers.get(kind);
    if (number !== undefined) wanted[number] = 1;
  }
  const times = arrays[key];
  let leftOut = 0;
  const rows = rowsWhere(count, (row) => {
    if (wanted[arrays.kind[row]] === 0) return false;
    const usable = isUsable(times[row]);
    if (!usable) leftOut++;
    return usable;
  });
  if (key === 'time') x.counts.leftOut += leftOut;
  return sortRows(rows, (row) => times[row]);
}

/** Writes a field of a row as an annotation, unless the row has none. */
export type Annotator = (row: number) => void;

/** Annotators for columns, named as SQL names them; the last is the row's own number. */
export function annotators(x: PerfettoExport, keys: readonly ColumnKey[]): Annotator {
  const { writer, columns } = x;
  const made = keys.map((key): Annotator => {
    const id = writer.keyId(TRACE_COLUMNS[key].name);
    const { type } = TRACE_COLUMNS[key];
    const values = columns.arrays[key];
    if (type === 'word' || type === 'text') {
      const { list } = columns.words[key];
      if (type === 'text') {
        return (row) => {
          if (values[row] > 0) writer.annotateText(id, list[values[row]]);
        };
      }
      const ids = writer.wordIds(list, writer.textId);
      return (row) => {
        if (values[row] > 0) writer.annotateId(id, ids(values[row]));
      };
    }
    if (type === 'time') {
      return (row) => {
        if (Number.isFinite(values[row])) writer.annotateNumber(id, values[row]);
      };
    }
    return (row) => {
      if (values[row] >= 0) writer.annotateNumber(id, values[row]);
    };
  });
  const rowId = writer.keyId('row');
  return (row) => {
    for (const annotate of made) annotate(row);
    writer.annotateNumber(rowId, row);
  };
}

/** Names of events by the words of a column; `other` where a row has none. */
export function namesBy(x: PerfettoExport, key: 'kind' | 'access' | 'cause', other: string): WordIds {
  const { writer, columns } = x;
  return writer.wordIds(columns.words[key].list, (text) => writer.nameId(text === '' ? other : text));
}

/** The end of a slice that begins at `begin`: `end`, or `begin` where that is no time after it. */
export function endOf(x: PerfettoExport, begin: number, end: number): number {
  if (isUsable(end) && end >= begin) return Math.round(end);
  x.counts.shortened++;
  return Math.round(begin);
}

/** An instant with the annotations of a row. */
export function instantOf(
  x: PerfettoExport,
  row: number,
  track: number,
  name: number,
  category: number,
  annotate: Annotator,
): void {
  x.writer.open(INSTANT, track, name, category);
  annotate(row);
  x.writer.close(Math.round(x.columns.arrays.time[row]));
}
