/** Events and pushes as rows of a trace, and back: what goes in comes out the same. */
import type {
  AccessWord,
  EventKind,
  FatalReasonWord,
  FaultTypeWord,
  MapRemoteCauseWord,
  MigrationCauseWord,
  UvmEvent,
} from '../event.ts';
import type { PushEntry } from '../push_log.ts';
import { addRow, setWord, type TraceColumns, type WordKey, wordAt } from './trace_columns.ts';
import type { TraceInfo } from './trace_info.ts';
import { type ColumnKey, TRACE_COLUMNS } from './trace_schema.ts';

export interface Trace {
  info: TraceInfo;
  columns: TraceColumns;
}

/** The kind of the rows that are pushes. */
export const PUSH_KIND = 'push';

const COUNT_END = 2 ** 31;

/** Refuses a number that the column has no room for. */
function checkFits(key: ColumnKey, value: number): void {
  const isCount = TRACE_COLUMNS[key].type === 'count';
  if (isCount ? value < COUNT_END : Number.isSafeInteger(value)) return;
  const most = isCount ? 'below 2^31' : 'up to 2^53';
  throw new RangeError(`${TRACE_COLUMNS[key].name}: ${value}; a trace holds whole numbers ${most} there`);
}

/**
 * Adds an event; its row. Throws RangeError, and adds nothing, for a step, batch, GPC or client from 2^31, and for
 * places and sizes above 2^53.
 */
export function appendEvent(columns: TraceColumns, event: UvmEvent): number {
  if (event.step !== undefined) checkFits('step', event.step);
  if ('batch' in event) checkFits('batch', event.batch);
  if ('bytes' in event) checkFits('bytes', event.bytes);
  if ('offset' in event) checkFits('offset', event.offset);
  if (event.event === 'gpuFault') {
    checkFits('gpc', event.gpc ?? 0);
    checkFits('client', event.client ?? 0);
  }
  const row = addRow(columns);
  const a = columns.arrays;
  const word = (key: WordKey, text: string): void => setWord(columns, key, row, text);
  word('kind', event.event);
  if (event.step !== undefined) a.step[row] = event.step;
  if (event.event !== 'replay') {
    if (event.buffer !== undefined) word('buffer', event.buffer);
    a.offset[row] = event.offset;
  }
  if ('time' in event) a.time[row] = event.time;
  if ('gpuTime' in event) a.gpuTime[row] = event.gpuTime;
  if ('bytes' in event) a.bytes[row] = event.bytes;
  if ('batch' in event) a.batch[row] = event.batch;
  if ('access' in event) word('access', event.access);
  if ('type' in event) word('type', event.type);
  if ('cause' in event) word('cause', event.cause);
  if ('src' in event) word('src', event.src);
  if ('dst' in event) word('dst', event.dst);
  if ('processors' in event) word('processors', event.processors.join());
  switch (event.event) {
    case 'cpuFault':
      word('src', 'cpu');
      break;
    case 'gpuFault':
      word('src', event.gpu);
      if (event.gpc !== undefined) a.gpc[row] = event.gpc;
      if (event.client !== undefined) a.client[row] = event.client;
      break;
    case 'replay':
      word('src', event.gpu);
      break;
    case 'migration':
      a.time[row] = event.begin;
      a.timeEnd[row] = event.end;
      a.gpuTime[row] = event.gpuBegin;
      a.gpuTimeEnd[row] = event.gpuEnd;
      break;
    case 'readDuplicateInvalidate':
      word('src', event.resident);
      break;
    case 'throttlingStart':
    case 'throttlingEnd':
      word('src', event.processor);
      break;
    case 'fatalFault':
      word('src', event.processor);
      word('cause', event.reason);
      break;
    case 'eviction':
      a.causedBy[row] = event.causedBy;
      break;
  }
  return row;
}

/** Adds a push to a trace that has pushes; its row. */
export function appendPush(columns: TraceColumns, entry: PushEntry): number {
  const row = addRow(columns);
  const a = columns.arrays;
  setWord(columns, 'kind', row, PUSH_KIND);
  setWord(columns, 'src', row, entry.gpu);
  setWord(columns, 'type', row, entry.type ?? '');
  setWord(columns, 'cause', row, entry.purpose);
  setWord(columns, 'acquires', row, entry.acquires.map((q) => `${q.gpu}/${q.channel}=${q.value}`).join(' '));
  a.time[row] = entry.begin;
  a.timeEnd[row] = entry.end;
  a.gpuTime[row] = entry.started;
  a.gpuTimeEnd[row] = entry.finished;
  a.step[row] = entry.step;
  a.bytes[row] = entry.bytes;
  a.push[row] = entry.push;
  a.channel[row] = entry.channel;
  a.pool[row] = entry.pool;
  a.engine[row] = entry.engine;
  a.gpfifo[row] = entry.gpfifo;
  a.value[row] = entry.trackingSemaphoreValue;
  a.methods[row] = entry.methods;
  a.completed[row] = entry.completed;
  if (entry.noticed !== null) a.noticed[row] = entry.noticed;
  return row;
}

function processorsAt(columns: TraceColumns, row: number): string[] {
  const text = wordAt(columns, 'processors', row);
  return text === '' ? [] : text.split(',');
}

/** The event of a row without its step and its buffer. */
function bareEventAt(columns: TraceColumns, row: number, kind: EventKind): UvmEvent {
  const a = columns.arrays;
  const text = (key: ColumnKey): string => wordAt(columns, key, row);
  const offset = a.offset[row];
  const time = a.time[row];
  // Plain literals: an object that is put together from others takes many times as long.
  switch (kind) {
    case 'cpuFault':
      return { event: kind, access: text('access') as AccessWord, offset, time };
    case 'gpuFault': {
      const event: UvmEvent = {
        event: kind,
        gpu: text('src'),
        type: text('type') as FaultTypeWord,
        access: text('access') as AccessWord,
        offset,
        batch: a.batch[row],
        time,
        gpuTime: a.gpuTime[row],
      };
      if (a.gpc[row] >= 0) event.gpc = a.gpc[row];
      if (a.client[row] >= 0) event.client = a.client[row];
      return event;
    }
    case 'replay':
      return { event: kind, gpu: text('src'), batch: a.batch[row], time, gpuTime: a.gpuTime[row] };
    case 'migration':
      return {
        event: kind,
        cause: text('cause') as MigrationCauseWord,
        src: text('src'),
        dst: text('dst'),
        offset,
        bytes: a.bytes[row],
        begin: time,
        end: a.timeEnd[row],
        gpuBegin: a.gpuTime[row],
        gpuEnd: a.gpuTimeEnd[row],
      };
    case 'mapRemote':
      return {
        event: kind,
        cause: text('cause') as MapRemoteCauseWord,
        src: text('src'),
        dst: text('dst'),
        offset,
        bytes: a.bytes[row],
        time,
        gpuTime: a.gpuTime[row],
      };
    case 'readDuplicate':
    case 'thrashing':
      return { event: kind, offset, bytes: a.bytes[row], processors: processorsAt(columns, row), time };
    case 'readDuplicateInvalidate':
      return { event: kind, resident: text('src'), offset, bytes: a.bytes[row], time };
    case 'throttlingStart':
    case 'throttlingEnd':
      return { event: kind, processor: text('src'), offset, time };
    case 'fatalFault':
      return {
        event: kind,
        processor: text('src'),
        type: text('type') as FaultTypeWord,
        access: text('access') as AccessWord,
        reason: text('cause') as FatalReasonWord,
        offset,
        time,
      };
    case 'eviction':
      return {
        event: kind,
        src: text('src'),
        dst: text('dst'),
        offset,
        causedBy: a.causedBy[row],
        bytes: a.bytes[row],
        time,
      };
  }
}

/** The event of a row; null for a push. All columns must be loaded. */
export function eventAt(columns: TraceColumns, row: number): UvmEvent | null {
  const kind = wordAt(columns, 'kind', row) as EventKind | typeof PUSH_KIND;
  if (kind === PUSH_KIND) return null;
  const event = bareEventAt(columns, row, kind);
  const step = columns.arrays.step[row];
  if (step >= 0) event.step = step;
  const buffer = columns.arrays.buffer[row];
  if (buffer !== 0 && event.event !== 'replay') event.buffer = columns.words.buffer.list[buffer];
  return event;
}

/** The push of a row; null for an event. All columns must be loaded. */
export function pushAt(columns: TraceColumns, row: number): PushEntry | null {
  const a = columns.arrays;
  const text = (key: ColumnKey): string => wordAt(columns, key, row);
  if (text('kind') !== PUSH_KIND) return null;
  const acquires = text('acquires')
    .split(' ')
    .filter((one) => one !== '');
  return {
    step: a.step[row],
    push: a.push[row],
    gpu: text('src'),
    channel: a.channel[row],
    type: text('type') === '' ? null : text('type'),
    pool: a.pool[row],
    engine: a.engine[row],
    gpfifo: a.gpfifo[row],
    trackingSemaphoreValue: a.value[row],
    acquires: acquires.map((one) => {
      const [gpu, channel, value] = one.split(/[/=]/);
      return { gpu, channel: Number(channel), value: Number(value) };
    }),
    methods: a.methods[row],
    bytes: a.bytes[row],
    begin: a.time[row],
    end: a.timeEnd[row],
    started: a.gpuTime[row],
    finished: a.gpuTimeEnd[row],
    completed: a.completed[row],
    noticed: Number.isNaN(a.noticed[row]) ? null : a.noticed[row],
    purpose: text('cause'),
  };
}
