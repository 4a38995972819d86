/**
 * The tables in which people see a trace: one for each family of kinds, with the columns that its rows have, under the
 * names that they have there, and null for what is not there. SQL's views, the exported Parquet files and
 * docs/trace-schema.md are made from this.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { PUSH_KIND } from './trace_events.ts';
import { COLUMN_KEYS, type ColumnKey, type ColumnSpec, TRACE_COLUMNS } from './trace_schema.ts';

/** A column of a view: one of the trace's, perhaps under another name, or made of some. */
export interface ViewColumn {
  name: string;
  unit: ColumnSpec['unit'];
  meaning: string;
  /** `time` is DOUBLE in SQL, `whole` BIGINT, `count` INTEGER, `text` VARCHAR. */
  type: 'time' | 'whole' | 'count' | 'text';
  /** The column of the trace that it is; or what it is made of, in SQL over the names of `rows` and as a function. */
  of: ColumnKey | { sql: string; value: (row: RowValues) => number | null };
}

/** Numbers of a row by column; null where the row has none. */
export type RowValues = (key: ColumnKey) => number | null;

export interface TraceView {
  name: string;
  meaning: string;
  /** Kinds of its rows; null for all. */
  kinds: readonly string[] | null;
  columns: readonly ViewColumn[];
}

const TYPES = { time: 'time', whole: 'whole', count: 'count', word: 'text', text: 'text' } as const;

/** A column as the trace has it, or under another name with another meaning. */
function column(key: ColumnKey, name?: string, meaning?: string): ViewColumn {
  const spec = TRACE_COLUMNS[key];
  return {
    name: name ?? spec.name,
    unit: spec.unit,
    meaning: meaning ?? spec.meaning,
    type: TYPES[spec.type],
    of: key,
  };
}

function difference(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a - b;
}

const PAGE: ViewColumn = {
  name: 'page',
  unit: '',
  meaning: 'the 4 KiB page of the allocation, from 0',
  type: 'whole',
  of: {
    sql: `"offset" // ${PAGE_SIZE}`,
    value: (row) => {
      const offset = row('offset');
      return offset === null ? null : Math.floor(offset / PAGE_SIZE);
    },
  },
};
const DURATION: ViewColumn = {
  name: 'duration',
  unit: 'ns',
  meaning: 'time_end - time',
  type: 'time',
  of: { sql: 'time_end - time', value: (row) => difference(row('timeEnd'), row('time')) },
};
const GPU_DURATION: ViewColumn = {
  name: 'gpu_duration',
  unit: 'ns',
  meaning: 'how long the engine worked: gpu_time_end - gpu_time',
  type: 'time',
  of: { sql: 'gpu_time_end - gpu_time', value: (row) => difference(row('gpuTimeEnd'), row('gpuTime')) },
};
const PLACE = [column('step'), column('buffer'), column('offset'), PAGE];
const WHEN = column('time', 'time', "when it happened by the CPU's clock");
const GPU_WHEN = column('gpuTime', 'gpu_time', "the same by the GPU's clock");
const processor = (meaning: string, name = 'processor') => column('src', name, meaning);
const all = (keys: readonly ColumnKey[]): ViewColumn[] => keys.map((key) => column(key));

/** Views over the rows of a trace. All but `rows` begin with the number of the row. */
export const TRACE_VIEWS: readonly TraceView[] = [
  {
    name: 'rows',
    meaning: 'every row of the trace with every column, pushes among them',
    kinds: null,
    columns: all(COLUMN_KEYS),
  },
  {
    name: 'events',
    meaning: 'every event of the driver, with the columns that events have',
    kinds: [
      'cpuFault',
      'gpuFault',
      'replay',
      'migration',
      'mapRemote',
      'readDuplicate',
      'readDuplicateInvalidate',
      'thrashing',
      'throttlingStart',
      'throttlingEnd',
      'fatalFault',
      'eviction',
    ],
    columns: all(COLUMN_KEYS.filter((key) => !('pushes' in TRACE_COLUMNS[key]))),
  },
  {
    name: 'faults',
    meaning: 'faults of CPUs and GPUs',
    kinds: ['cpuFault', 'gpuFault'],
    columns: [
      column('kind', 'kind', '`cpuFault` or `gpuFault`'),
      WHEN,
      GPU_WHEN,
      ...PLACE,
      processor('who faulted'),
      column('access', 'access', 'what was tried'),
      column('type', 'type', 'of a GPU fault: its type'),
      column('batch', 'batch', 'of a GPU fault: the batch in which it was serviced'),
      column('gpc'),
      column('client'),
    ],
  },
  {
    name: 'migrations',
    meaning: 'pages that moved',
    kinds: ['migration'],
    columns: [
      column('time', 'time', 'begin'),
      column('timeEnd', 'time_end', 'when the driver noticed the end'),
      DURATION,
      column('gpuTime', 'gpu_time', 'when the engine began'),
      column('gpuTimeEnd', 'gpu_time_end', 'when the engine was done'),
      GPU_DURATION,
      ...PLACE,
      column('bytes', 'bytes', 'size of what moved'),
      column('src', 'src', 'from'),
      column('dst', 'dst', 'to'),
      column('cause', 'cause', 'why'),
    ],
  },
  {
    name: 'remote_maps',
    meaning: "pages that were mapped where they are, in another processor's memory",
    kinds: ['mapRemote'],
    columns: [
      WHEN,
      GPU_WHEN,
      ...PLACE,
      column('bytes', 'bytes', 'size of what was mapped'),
      column('src', 'src', 'who maps'),
      column('dst', 'dst', 'where the pages live'),
      column('cause', 'cause', 'why'),
    ],
  },
  {
    name: 'replays',
    meaning: 'the GPU was told to try again',
    kinds: ['replay'],
    columns: [
      WHEN,
      GPU_WHEN,
      column('step'),
      processor('which GPU', 'gpu'),
      column('batch', 'batch', 'the last batch that it covers'),
    ],
  },
  {
    name: 'thrashing',
    meaning: 'pages that several processors fight for, and processors that were made to wait',
    kinds: ['thrashing', 'throttlingStart', 'throttlingEnd'],
    columns: [
      column('kind', 'kind', '`thrashing`, `throttlingStart` or `throttlingEnd`'),
      WHEN,
      ...PLACE,
      column('bytes'),
      column('processors', 'processors', 'of thrashing: who fights, ascending, with commas'),
      processor('of throttling: who waits'),
    ],
  },
  {
    name: 'duplicates',
    meaning: 'pages of which several processors have a copy, or have no longer',
    kinds: ['readDuplicate', 'readDuplicateInvalidate'],
    columns: [
      column('kind', 'kind', '`readDuplicate` or `readDuplicateInvalidate`'),
      WHEN,
      ...PLACE,
      column('bytes'),
      column('processors', 'processors', 'who has a copy now, ascending, with commas'),
      processor('of an invalidation: who keeps its copy', 'resident'),
    ],
  },
  {
    name: 'fatal_faults',
    meaning: 'faults that ended a program',
    kinds: ['fatalFault'],
    columns: [
      WHEN,
      ...PLACE,
      processor('who faulted'),
      column('access', 'access', 'what was tried'),
      column('type', 'type', 'of the fault'),
      column('cause', 'reason', 'why it was fatal'),
    ],
  },
  {
    name: 'evictions',
    meaning: 'memory that others needed; the driver defines the event and never emits it',
    kinds: ['eviction'],
    columns: [
      WHEN,
      ...PLACE,
      column('bytes'),
      column('src', 'src', 'from'),
      column('dst', 'dst', 'to'),
      column('causedBy'),
    ],
  },
  {
    name: 'pushes',
    meaning: 'work that was sent to a GPU; runs of the model alone tell it',
    kinds: [PUSH_KIND],
    columns: [
      column('push'),
      column('step'),
      processor('of the channel', 'gpu'),
      column('channel'),
      column('type', 'channel_type', 'what the channel was asked for as; null for one that was named itself'),
      column('pool'),
      column('engine'),
      column('gpfifo'),
      column('value'),
      column('acquires'),
      column('methods'),
      column('bytes', 'bytes', 'of the methods'),
      column('time', 'begin_time', 'when the CPU began it'),
      column('timeEnd', 'end_time', 'when the CPU had submitted it'),
      column('gpuTime', 'started', 'when the engine began'),
      column('gpuTimeEnd', 'finished', 'when the engine was done'),
      column('completed'),
      column('noticed'),
      column('cause', 'purpose', 'what it was for'),
    ],
  },
];

/** A table that is made of several rows, or of what the trace says about itself. */
export interface TraceTable {
  name: string;
  meaning: string;
  columns: readonly (Omit<ViewColumn, 'of'> & { type: ViewColumn['type'] })[];
}

const text = (name: string, meaning: string) => ({ name, meaning, type: 'text', unit: '' }) as const;
const count = (name: string, meaning: string) => ({ name, meaning, type: 'count', unit: '' }) as const;
const bytes = (name: string, meaning: string) => ({ name, meaning, type: 'whole', unit: 'bytes' }) as const;
const time = (name: string, meaning: string) => ({ name, meaning, type: 'time', unit: 'ns' }) as const;

/** Made of the faults and replays by SQL (analysis/trace_query.ts). */
export const BATCHES_TABLE: TraceTable = {
  name: 'batches',
  meaning: 'batches of GPU faults',
  columns: [
    text('gpu', 'whose faults they are'),
    count('batch', 'its number'),
    count('step', 'step of its first fault'),
    { ...count('faults', 'entries of the batch'), type: 'whole' },
    { ...count('pages', 'different pages among them'), type: 'whole' },
    { ...count('duplicates', 'faults - pages'), type: 'whole' },
    { ...count('blocks', 'different blocks of 2 MiB among them'), type: 'whole' },
    time('first_time', 'of its first fault'),
    time('last_time', 'of its last fault'),
    time('replay_time', 'of the first replay that covers it; null where there is none'),
    time('duration', 'replay_time - first_time'),
  ],
};

/** Made of what the trace says about itself. */
export const INFO_TABLES: readonly TraceTable[] = [
  {
    name: 'allocations',
    meaning: 'managed ranges and host memory',
    columns: [
      text('name', 'as `buffer` has it'),
      bytes('bytes', 'its size'),
      text('kind', '`managed` or `host`'),
      text('address', 'of its first byte, hexadecimal; null where it is not known'),
    ],
  },
  {
    name: 'steps',
    meaning: 'steps of the scenario, as far as their times are known',
    columns: [
      count('step', 'from 0'),
      time('begin_time', 'by the clock of `time`; null where it is not known'),
      time('end_time', 'the same'),
      { ...time('wall_microseconds', 'its wall time, microseconds'), unit: '' },
      text('does', 'the step as the scenario has it, JSON'),
    ],
  },
  {
    name: 'parameters',
    meaning: 'module parameters of the driver',
    columns: [text('name', "the driver's name"), text('value', 'as text')],
  },
  {
    name: 'processors',
    meaning: 'processors that take part',
    columns: [
      text('word', '`cpu`, `gpu0`, ...'),
      text('name', 'of the product; null where it is not known'),
      text('uuid', 'the same'),
    ],
  },
  {
    name: 'losses',
    meaning: 'events that are not in the trace',
    columns: [
      text('what', 'the kind, or the reason'),
      { ...count('events', 'how many'), type: 'whole' },
      text('how', '`lost` while recording, or `left out` since there are no words for them'),
    ],
  },
  {
    name: 'gpu_fault_kernels',
    meaning: 'kernels during which batches of GPU faults began, as far as the trace tells it',
    columns: [
      text('allocation', 'of the first fault of a batch, as `buffer` has it'),
      text('gpu', 'whose faults they are'),
      text('kernel', 'null where none ran: copies fault, too'),
      { ...count('launches', 'with such batches'), type: 'whole' },
      { ...count('batches', 'how many'), type: 'whole' },
      { ...time('microseconds', 'from their first faults to their replays, summed up, microseconds'), unit: '' },
    ],
  },
  {
    name: 'cpu_fault_sites',
    meaning: 'code whose accesses of the CPU faulted, by allocation, as far as the trace tells it',
    columns: [
      text('allocation', 'as `buffer` has it'),
      text('function', 'null where it is not known'),
      text('module', 'the same'),
      text('file', 'the source file; null where it is not known'),
      count('line', 'of the file; null where it is not known'),
      { ...count('faults', 'how many'), type: 'whole' },
    ],
  },
  {
    name: 'notes',
    meaning: 'what a reader should know',
    columns: [text('note', 'a sentence')],
  },
  {
    name: 'info',
    meaning: 'what the trace is of: one row',
    columns: [
      text('name', 'of the scenario or the recording'),
      text('source', '`run`, `replay`, `case`, `recording`, `lines` or `nsys`'),
      text('uvmlab', 'the version that made it'),
      text('driver', "the driver's version; null where it is not known"),
      text('machine', 'a machine profile; null where it is not known'),
      count('from_step', 'steps before it left no events'),
      text('clock', 'what the clock of `time` is'),
      text('traced', '`true` where the driver was traced, or its costs were those of a traced one'),
      text('command', 'the command line, JSON; null where there is none'),
      text('ended', 'why a recording ended; null where it is not known'),
      text('document', 'all of it, and more, as JSON'),
    ],
  },
];
