/**
 * The columns of a trace: names, types, units and meanings, the one place where they are said. The file's schema, the
 * views of SQL and docs/trace-schema.md are made from this table.
 *
 * A trace has a row for each event of the driver, in the order of delivery, and, where pushes were recorded, a row of
 * kind `push` for each of them behind the events that were there when it was submitted.
 */

/** Raised when a reader of an older version could misread a file; new columns alone do not raise it. */
export const TRACE_FORMAT = 1;

/**
 * - `time`: nanoseconds, which may have a fraction; DOUBLE in the file, NaN where there is none
 * - `whole`: a whole number up to 2^53; INT64 in the file, -1 where there is none
 * - `count`: a whole number below 2^31; INT32 in the file, -1 where there is none
 * - `word`: one of few texts (at most 65,535 different ones in a trace); UTF8 with a dictionary in the file, '' where
 *   there is none
 * - `text`: any text; UTF8 in the file, '' where there is none
 */
export type ColumnType = 'time' | 'whole' | 'count' | 'word' | 'text';

export interface ColumnSpec {
  /** In the file and in SQL. */
  readonly name: string;
  readonly type: ColumnType;
  /** `ns`, `bytes`, or '' for what has no unit. */
  readonly unit: '' | 'ns' | 'bytes';
  readonly meaning: string;
  /** Only traces with pushes have it. */
  readonly pushes?: true;
  /** The version of the format that brought it. */
  readonly since: number;
}

/** By the name that the column has in the program (store/trace_columns.ts), in the order of the file. */
export const TRACE_COLUMNS = {
  kind: { name: 'kind', type: 'word', unit: '', meaning: 'the kind of event, or `push`', since: 1 },
  time: {
    name: 'time',
    type: 'time',
    unit: 'ns',
    meaning: "when it happened by the CPU's clock; the begin of a migration or of a push",
    since: 1,
  },
  timeEnd: {
    name: 'time_end',
    type: 'time',
    unit: 'ns',
    meaning: 'of a migration: when the driver noticed its end; of a push: when the CPU had submitted it',
    since: 1,
  },
  gpuTime: {
    name: 'gpu_time',
    type: 'time',
    unit: 'ns',
    meaning: "the same by the GPU's clock; of a push: when the engine began",
    since: 1,
  },
  gpuTimeEnd: {
    name: 'gpu_time_end',
    type: 'time',
    unit: 'ns',
    meaning: 'of a migration or a push: when the engine was done',
    since: 1,
  },
  step: { name: 'step', type: 'count', unit: '', meaning: 'step of the scenario, from 0', since: 1 },
  buffer: { name: 'buffer', type: 'word', unit: '', meaning: 'the allocation', since: 1 },
  offset: {
    name: 'offset',
    type: 'whole',
    unit: 'bytes',
    meaning: 'of the place from the start of the allocation',
    since: 1,
  },
  bytes: { name: 'bytes', type: 'whole', unit: 'bytes', meaning: 'size of what moved, or of the push', since: 1 },
  src: {
    name: 'src',
    type: 'word',
    unit: '',
    meaning:
      'the processor: that faulted, was replayed, throttled or keeps its copy; from which pages moved; that maps; ' +
      'whose channel it is',
    since: 1,
  },
  dst: { name: 'dst', type: 'word', unit: '', meaning: 'to which pages moved; where mapped pages live', since: 1 },
  processors: {
    name: 'processors',
    type: 'word',
    unit: '',
    meaning: 'of thrashing and read duplication: all of them, ascending, with commas',
    since: 1,
  },
  type: {
    name: 'type',
    type: 'word',
    unit: '',
    meaning: 'of a fault: its type; of a push: the channel type',
    since: 1,
  },
  access: { name: 'access', type: 'word', unit: '', meaning: 'of a fault', since: 1 },
  cause: {
    name: 'cause',
    type: 'word',
    unit: '',
    meaning: 'of a migration or a remote mapping; the reason of a fatal fault; the purpose of a push',
    since: 1,
  },
  batch: {
    name: 'batch',
    type: 'count',
    unit: '',
    meaning: 'of a GPU fault, or the last one a replay covers',
    since: 1,
  },
  gpc: { name: 'gpc', type: 'count', unit: '', meaning: "of the fault's client", since: 1 },
  client: { name: 'client', type: 'count', unit: '', meaning: 'of the fault, in its GPC', since: 1 },
  causedBy: {
    name: 'caused_by',
    type: 'whole',
    unit: 'bytes',
    meaning: 'of an eviction: the offset of what needed the memory',
    since: 1,
  },
  push: { name: 'push', type: 'count', unit: '', meaning: 'number of the push in the run', pushes: true, since: 1 },
  channel: { name: 'channel', type: 'count', unit: '', meaning: 'channel of that GPU', pushes: true, since: 1 },
  pool: { name: 'pool', type: 'count', unit: '', meaning: 'of the channel', pushes: true, since: 1 },
  engine: { name: 'engine', type: 'count', unit: '', meaning: 'of the pool', pushes: true, since: 1 },
  gpfifo: { name: 'gpfifo', type: 'count', unit: '', meaning: "entry of the channel's ring", pushes: true, since: 1 },
  value: {
    name: 'value',
    type: 'whole',
    unit: '',
    meaning: 'tracking semaphore value of the push',
    pushes: true,
    since: 1,
  },
  methods: { name: 'methods', type: 'count', unit: '', meaning: 'of the push', pushes: true, since: 1 },
  completed: {
    name: 'completed',
    type: 'time',
    unit: 'ns',
    meaning: 'when the semaphore had the value',
    pushes: true,
    since: 1,
  },
  noticed: { name: 'noticed', type: 'time', unit: 'ns', meaning: 'when the callback ran', pushes: true, since: 1 },
  acquires: {
    name: 'acquires',
    type: 'text',
    unit: '',
    meaning: 'what the push waited for on the GPU: `gpu0/8=3 ...`, GPU, channel and value',
    pushes: true,
    since: 1,
  },
} as const satisfies Record<string, ColumnSpec>;

export type ColumnKey = keyof typeof TRACE_COLUMNS;
export const COLUMN_KEYS = Object.keys(TRACE_COLUMNS) as ColumnKey[];
/** Keys of the columns that a trace has, in the order of the file. */
export function columnKeys(pushes: boolean): ColumnKey[] {
  return COLUMN_KEYS.filter((key) => pushes || !('pushes' in TRACE_COLUMNS[key]));
}

export const TRACE_SUFFIX = '.parquet';
/** The key of the file's metadata under which TraceInfo lies as JSON. */
export const TRACE_INFO_KEY = 'uvmlab.trace';
