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
import { addRow, type TraceColumns, wordAt, wordNumber } from './trace_columns.ts';
import type { TraceInfo } from './trace_info.ts';
import type { ColumnKey } from './trace_schema.ts';

export interface Trace {
  info: TraceInfo;
  columns: TraceColumns;
}

/** The kind of the rows that are pushes. */
export const PUSH_KIND = 'push';

type WordKey = 'kind' | 'buffer' | 'src' | 'dst' | 'processors' | 'type' | 'access' | 'cause' | 'acquires';

function setWord(columns: TraceColumns, key: WordKey, row: number, text: string): void {
  columns.arrays[key][row] = wordNumber(columns.words[key], text);
}

/** Adds an event; its row. */
export function appendEvent(columns: TraceColumns, event: UvmEvent): number {
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

type Place = { step?: number; buffer?: string; offset: number };

/** The event of a row; null for a push. All columns must be loaded. */
export function eventAt(columns: TraceColumns, row: number): UvmEvent | null {
  const a = columns.arrays;
  const text = (key: ColumnKey): string => wordAt(columns, key, row);
  const kind = text('kind') as EventKind | typeof PUSH_KIND;
  if (kind === PUSH_KIND) return null;
  const step = a.step[row];
  const head = step < 0 ? { event: kind } : { event: kind, step };
  const buffer = text('buffer');
  const place: Place = buffer === '' ? { offset: a.offset[row] } : { buffer, offset: a.offset[row] };
  const time = a.time[row];
  const bytes = a.bytes[row];
  const gpuTime = a.gpuTime[row];
  const access = text('access') as AccessWord;
  const type = text('type') as FaultTypeWord;
  const src = text('src');
  const dst = text('dst');
  const processors = (): string[] =>
    text('processors')
      .split(',')
      .filter((word) => word !== '');
  switch (kind) {
    case 'cpuFault':
      return { ...head, ...place, event: kind, access, time };
    case 'gpuFault': {
      const event: UvmEvent = {
        ...head,
        event: kind,
        gpu: src,
        type,
        access,
        ...place,
        batch: a.batch[row],
        time,
        gpuTime,
      };
      if (a.gpc[row] >= 0) event.gpc = a.gpc[row];
      if (a.client[row] >= 0) event.client = a.client[row];
      return event;
    }
    case 'replay':
      return { ...head, event: kind, gpu: src, batch: a.batch[row], time, gpuTime };
    case 'migration': {
      const cause = text('cause') as MigrationCauseWord;
      const times = { begin: time, end: a.timeEnd[row], gpuBegin: gpuTime, gpuEnd: a.gpuTimeEnd[row] };
      return { ...head, event: kind, cause, src, dst, ...place, bytes, ...times };
    }
    case 'mapRemote':
      return {
        ...head,
        event: kind,
        cause: text('cause') as MapRemoteCauseWord,
        src,
        dst,
        ...place,
        bytes,
        time,
        gpuTime,
      };
    case 'readDuplicate':
    case 'thrashing':
      return { ...head, event: kind, ...place, bytes, processors: processors(), time };
    case 'readDuplicateInvalidate':
      return { ...head, event: kind, resident: src, ...place, bytes, time };
    case 'throttlingStart':
    case 'throttlingEnd':
      return { ...head, event: kind, processor: src, ...place, time };
    case 'fatalFault': {
      const reason = text('cause') as FatalReasonWord;
      return { ...head, event: kind, processor: src, type, access, reason, ...place, time };
    }
    case 'eviction':
      return { ...head, event: kind, src, dst, ...place, causedBy: a.causedBy[row], bytes, time };
  }
}
