/**
 * A trace as JSON lines: first `{"trace": INFO, "pushes": BOOLEAN}`, then each row, an event as the file format has it
 * (docs/formats.md) or `{"event": "push", ...}` with the fields of a line of --pushes. Written and read back, a trace
 * is the same. Bare event lines, without the first one, are read too: then nothing is known but what they say.
 */
import { z } from 'zod';
import { shapeError } from '../scenario/shapes.ts';
import { eventError, type UvmEvent } from './event.ts';
import type { LineWriter } from './jsonl.ts';
import type { PushEntry } from './push_log.ts';
import { createTraceColumns, type TraceColumns } from './store/trace_columns.ts';
import { appendEvent, appendPush, eventAt, PUSH_KIND, pushAt, type Trace } from './store/trace_events.ts';
import { canBeWritten, emptyTraceInfo, TRACE_INFO_SHAPE, type TraceInfo } from './store/trace_info.ts';
import { TRACE_FORMAT } from './store/trace_schema.ts';

const BLOCK_BYTES = 2 ** 21;

/** Writes all rows; the writer is left open. */
export function writeTraceLines(out: LineWriter, { info, columns }: Trace): void {
  out.write({ trace: info, pushes: columns.pushes });
  for (let row = 0; row < columns.count; row++) {
    out.write(eventAt(columns, row) ?? { event: PUSH_KIND, ...pushAt(columns, row) });
  }
}

const whole = z.int({ error: 'a whole number from 0' }).min(0, { error: 'a whole number from 0' });
const count = whole.max(2 ** 31 - 1, { error: 'a whole number below 2^31' });
const time = z.number({ error: 'a number' });
const gpu = z
  .string({ error: 'a GPU (gpu0, gpu1, ...)' })
  .regex(/^gpu(0|[1-9]\d{0,3})$/, { error: 'a GPU (gpu0, gpu1, ...)' });

const PUSH_SHAPE = z.looseObject({
  step: count,
  push: count,
  gpu,
  channel: count,
  type: z.string({ error: 'a channel type, or null' }).min(1, { error: 'a channel type, or null' }).nullable(),
  pool: count,
  engine: count,
  gpfifo: count,
  trackingSemaphoreValue: whole,
  acquires: z.array(z.looseObject({ gpu, channel: count, value: whole }), { error: 'a list of acquires' }),
  methods: count,
  bytes: whole,
  begin: time,
  end: time,
  started: time,
  finished: time,
  completed: time,
  noticed: time.nullable(),
  purpose: z.string({ error: 'a text' }),
});

export type Fields = Record<string, unknown>;

export function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether a file whose first line is this is the lines of one trace. */
export function beginsTraceLines(value: unknown): boolean {
  return isObject(value) && (isObject(value['trace']) || typeof value['event'] === 'string');
}

/** Adds an event as it comes from a file; what is wrong with it, or null. */
export function addEvent(columns: TraceColumns, value: unknown): string | null {
  const error = eventError(value);
  if (error !== null) return error;
  const event = value as UvmEvent;
  if ('buffer' in event && event.buffer === '') return 'buffer: ""; expected a name';
  try {
    appendEvent(columns, event);
    return null;
  } catch (thrown) {
    return (thrown as Error).message;
  }
}

/** The lines of one trace, one after another. */
export interface TraceLines {
  /** Takes the value of a line; what is wrong with it, or null. */
  add(value: unknown): string | null;
  /** How the trace is called, as far as it is known. */
  name(): string;
  trace(): Trace;
}

function headOf(value: Fields): { ok: true; info: TraceInfo; pushes: boolean } | { ok: false; error: string } {
  const { trace, pushes } = value;
  const format = isObject(trace) ? trace['format'] : undefined;
  if (typeof format === 'number' && format > TRACE_FORMAT) {
    return { ok: false, error: `trace.format: ${format}; this version of uvmlab reads ${TRACE_FORMAT}` };
  }
  const checked = TRACE_INFO_SHAPE.safeParse(trace);
  if (!checked.success) return { ok: false, error: shapeError(TRACE_INFO_SHAPE, checked.error, trace, ['trace']) };
  if (!canBeWritten(trace)) return { ok: false, error: 'trace: nested too deep' };
  if (typeof pushes !== 'boolean') return { ok: false, error: 'pushes: expected true or false' };
  return { ok: true, info: checked.data, pushes };
}

function addPush(columns: TraceColumns, value: Fields): string | null {
  if (!columns.pushes) return 'event: "push", in a trace whose first line does not say "pushes": true';
  const checked = PUSH_SHAPE.safeParse(value);
  if (!checked.success) return shapeError(PUSH_SHAPE, checked.error, value, []);
  appendPush(columns, checked.data as PushEntry);
  return null;
}

/** Rows with a step, with a buffer, and the rows of events. */
function tallies({ arrays, count: rows }: TraceColumns): { steps: number; buffers: number } {
  let steps = 0;
  let buffers = 0;
  for (let row = 0; row < rows; row++) {
    if (arrays.step[row] >= 0) steps++;
    if (arrays.buffer[row] !== 0) buffers++;
  }
  return { steps, buffers };
}

/** What is known of events that came without a description; steps must be there all or not at all. */
export function infoOfEvents(columns: TraceColumns, name: string, uvmlab: string): TraceInfo {
  const { steps, buffers } = tallies(columns);
  const notes =
    columns.count === 0 ? [] : ['The allocations are not known: their sizes are the least that hold the events.'];
  return {
    ...emptyTraceInfo(name, 'lines', uvmlab),
    clock: 'unknown',
    allocations: leastAllocations(columns),
    processors: processorsOf(columns),
    hasSteps: steps === columns.count,
    hasBuffers: buffers > 0,
    notes,
  };
}

/** The name of an allocation that events do not name. */
const NO_NAME = 'memory';

function leastAllocations({ arrays, words, count: rows }: TraceColumns): TraceInfo['allocations'] {
  const ends = new Float64Array(words.buffer.list.length);
  for (let row = 0; row < rows; row++) {
    const offset = arrays.offset[row];
    if (offset < 0) continue;
    const end = offset + Math.max(arrays.bytes[row], 1);
    const buffer = arrays.buffer[row];
    if (end > ends[buffer]) ends[buffer] = end;
  }
  return words.buffer.list.flatMap((name, i) => {
    const bytes = Math.min(Math.ceil(ends[i] / BLOCK_BYTES) * BLOCK_BYTES, Number.MAX_SAFE_INTEGER);
    return bytes === 0 ? [] : [{ name: name === '' ? NO_NAME : name, bytes, kind: 'managed' as const, address: null }];
  });
}

function processorsOf({ words }: TraceColumns): TraceInfo['processors'] {
  const all = new Set(['cpu']);
  for (const list of [words.src.list, words.dst.list, words.processors.list]) {
    for (const text of list) for (const word of text.split(',')) if (word !== '') all.add(word);
  }
  const number = (word: string): number => (word === 'cpu' ? -1 : Number(word.slice(3)));
  return [...all].sort((a, b) => number(a) - number(b)).map((word) => ({ word }));
}

/** Reads lines that begin as beginsTraceLines says; `name` is that of lines without a description. */
export function createTraceLines(name: string, uvmlab: string): TraceLines {
  let info: TraceInfo | null = null;
  let columns = createTraceColumns();
  let stepped: boolean | null = null;
  return {
    add: (value) => {
      if (!isObject(value)) return 'expected an object: an event';
      if (isObject(value['trace'])) {
        if (info !== null || columns.count > 0) return 'a second trace in the file';
        const head = headOf(value);
        if (!head.ok) return head.error;
        info = head.info;
        columns = createTraceColumns({ pushes: head.pushes });
        return null;
      }
      if (value['event'] === PUSH_KIND) return addPush(columns, value);
      const error = addEvent(columns, value);
      if (error !== null || info !== null) return error;
      const has = value['step'] !== undefined;
      if (stepped !== null && has !== stepped) {
        return `step: ${has ? 'there, though other events have none' : 'missing, though other events have one'}`;
      }
      stepped = has;
      return null;
    },
    name: () => info?.name ?? name,
    trace: () => ({ info: info ?? infoOfEvents(columns, name, uvmlab), columns }),
  };
}
