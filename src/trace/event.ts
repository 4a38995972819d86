/**
 * What happened: the events of a run or a recording, with the words of the driver's tools events (uvm_types.h and
 * uvm_tools.c, driver 580.105.08). The words are those of src/device/abi/event_words.ts.
 */
import {
  ACCESS_WORDS,
  type AccessWord,
  FATAL_REASON_WORDS,
  FAULT_TYPE_WORDS,
  type FatalReasonWord,
  type FaultTypeWord,
  MAP_REMOTE_CAUSE_WORDS,
  type MapRemoteCauseWord,
  MIGRATION_CAUSE_WORDS,
  type MigrationCauseWord,
} from '../device/abi/event_words.ts';

export type { AccessWord, FatalReasonWord, FaultTypeWord, MapRemoteCauseWord, MigrationCauseWord };
export { ACCESS_WORDS, FATAL_REASON_WORDS, FAULT_TYPE_WORDS, MAP_REMOTE_CAUSE_WORDS, MIGRATION_CAUSE_WORDS };

/** `cpu`, `gpu0`, `gpu1`, ... */
export type ProcessorWord = string;

/** What most events have: the step, unless the recording has none, and the place in a buffer. */
interface Place {
  step?: number;
  /** Where there is more than one buffer. */
  buffer?: string;
  /** Bytes from the buffer's start. */
  offset: number;
}

/** All times are nanoseconds; those of a GPU's clock begin with `gpu` and compare only with each other. */
export interface CpuFaultEvent extends Place {
  event: 'cpuFault';
  access: AccessWord;
  time: number;
}
export interface GpuFaultEvent extends Place {
  event: 'gpuFault';
  gpu: ProcessorWord;
  type: FaultTypeWord;
  access: AccessWord;
  batch: number;
  /** The MMU client, where an SM is modelled. */
  gpc?: number;
  client?: number;
  time: number;
  gpuTime: number;
}
export interface ReplayEvent {
  event: 'replay';
  step?: number;
  gpu: ProcessorWord;
  /** The last batch that it covers. */
  batch: number;
  time: number;
  gpuTime: number;
}
export interface MigrationEvent extends Place {
  event: 'migration';
  cause: MigrationCauseWord;
  src: ProcessorWord;
  dst: ProcessorWord;
  bytes: number;
  begin: number;
  end: number;
  gpuBegin: number;
  gpuEnd: number;
}
export interface MapRemoteEvent extends Place {
  event: 'mapRemote';
  cause: MapRemoteCauseWord;
  /** The processor that maps, and where the page lives. */
  src: ProcessorWord;
  dst: ProcessorWord;
  bytes: number;
  time: number;
  gpuTime: number;
}
export interface ReadDuplicateEvent extends Place {
  event: 'readDuplicate';
  bytes: number;
  /** Ascending: all that hold a copy now. */
  processors: ProcessorWord[];
  time: number;
}
export interface ReadDuplicateInvalidateEvent extends Place {
  event: 'readDuplicateInvalidate';
  /** The processor that keeps its copy. */
  resident: ProcessorWord;
  bytes: number;
  time: number;
}
export interface ThrashingEvent extends Place {
  event: 'thrashing';
  bytes: number;
  processors: ProcessorWord[];
  time: number;
}
export interface ThrottlingEvent extends Place {
  event: 'throttlingStart' | 'throttlingEnd';
  processor: ProcessorWord;
  time: number;
}
export interface FatalFaultEvent extends Place {
  event: 'fatalFault';
  processor: ProcessorWord;
  type: FaultTypeWord;
  access: AccessWord;
  reason: FatalReasonWord;
  time: number;
}
/** A record of the model's own: the driver defines the event and never emits it. */
export interface EvictionEvent extends Place {
  event: 'eviction';
  src: ProcessorWord;
  dst: ProcessorWord;
  /** Offset of what needed the memory. */
  causedBy: number;
  bytes: number;
  time: number;
}

export type UvmEvent =
  | CpuFaultEvent
  | GpuFaultEvent
  | ReplayEvent
  | MigrationEvent
  | MapRemoteEvent
  | ReadDuplicateEvent
  | ReadDuplicateInvalidateEvent
  | ThrashingEvent
  | ThrottlingEvent
  | FatalFaultEvent
  | EvictionEvent;
export type FaultEvent = CpuFaultEvent | GpuFaultEvent;
export type EventKind = UvmEvent['event'];

/** The fields that say what an event is about; with `buffer`, where there are several, all that comparison looks at. */
export const IDENTITY_FIELDS: Readonly<Record<EventKind, readonly string[]>> = {
  cpuFault: ['access', 'offset'],
  gpuFault: ['gpu', 'type', 'access', 'offset'],
  replay: ['gpu'],
  migration: ['cause', 'src', 'dst', 'offset', 'bytes'],
  mapRemote: ['cause', 'src', 'dst', 'offset', 'bytes'],
  readDuplicate: ['offset', 'bytes', 'processors'],
  readDuplicateInvalidate: ['resident', 'offset', 'bytes'],
  thrashing: ['offset', 'bytes', 'processors'],
  throttlingStart: ['processor', 'offset'],
  throttlingEnd: ['processor', 'offset'],
  fatalFault: ['processor', 'type', 'access', 'reason', 'offset'],
  eviction: ['src', 'dst', 'offset', 'causedBy', 'bytes'],
};
export const EVENT_KINDS = Object.keys(IDENTITY_FIELDS) as EventKind[];

/** The further fields that an event of each kind has; `gpc` and `client` are optional. */
const FURTHER_FIELDS: Readonly<Record<EventKind, readonly string[]>> = {
  cpuFault: ['time'],
  gpuFault: ['batch', 'time', 'gpuTime'],
  replay: ['batch', 'time', 'gpuTime'],
  migration: ['begin', 'end', 'gpuBegin', 'gpuEnd'],
  mapRemote: ['time', 'gpuTime'],
  readDuplicate: ['time'],
  readDuplicateInvalidate: ['time'],
  thrashing: ['time'],
  throttlingStart: ['time'],
  throttlingEnd: ['time'],
  fatalFault: ['time'],
  eviction: ['time'],
};

type Fields = Record<string, unknown>;

/** True when two events of one kind have the same identity; `withBuffer` compares their buffers too. */
export function sameIdentity(a: UvmEvent, b: UvmEvent, withBuffer: boolean): boolean {
  if (a.event !== b.event) return false;
  const x = a as unknown as Fields;
  const y = b as unknown as Fields;
  if (withBuffer && x['buffer'] !== y['buffer']) return false;
  for (const field of IDENTITY_FIELDS[a.event]) {
    if (x[field] === y[field]) continue;
    // Lists of processors are short: their text decides.
    if (!Array.isArray(x[field]) || !Array.isArray(y[field]) || String(x[field]) !== String(y[field])) return false;
  }
  return true;
}

/** The identity as a stable text: the kind, then each field in the order of IDENTITY_FIELDS, the buffer last. */
export function identity(event: UvmEvent): string {
  const fields = event as unknown as Fields;
  let out: string = event.event;
  for (const field of IDENTITY_FIELDS[event.event]) out += ` ${field}=${String(fields[field])}`;
  return fields['buffer'] === undefined ? out : `${out} buffer=${String(fields['buffer'])}`;
}

const WORDS_OF_FIELD: Readonly<Record<string, readonly string[]>> = {
  access: ACCESS_WORDS.slice(1),
  type: FAULT_TYPE_WORDS,
  reason: FATAL_REASON_WORDS,
};
const PROCESSOR_FIELDS = ['gpu', 'src', 'dst', 'resident', 'processor'];

function isProcessor(value: unknown): boolean {
  return typeof value === 'string' && /^(cpu|gpu(0|[1-9]\d{0,3}))$/.test(value);
}

/** What a field should be, or null where the value is right. */
function expected(kind: EventKind, field: string, value: unknown): string | null {
  let words = WORDS_OF_FIELD[field];
  if (field === 'cause') words = kind === 'migration' ? MIGRATION_CAUSE_WORDS : MAP_REMOTE_CAUSE_WORDS;
  if (words !== undefined) {
    return typeof value === 'string' && words.includes(value) ? null : `one of ${words.join(', ')}`;
  }
  if (field === 'processors') {
    return Array.isArray(value) && value.every(isProcessor) ? null : 'a list of processors (cpu, gpu0, gpu1, ...)';
  }
  if (PROCESSOR_FIELDS.includes(field)) {
    if (!isProcessor(value)) return 'a processor (cpu, gpu0, gpu1, ...)';
    return field === 'gpu' && value === 'cpu' ? 'a GPU (gpu0, gpu1, ...)' : null;
  }
  if (field === 'buffer') return typeof value === 'string' ? null : 'the name of a buffer';
  // Times may have a fraction or lie before the first event; places, sizes and numbers do not.
  if (/^(time|begin|end|gpu(Time|Begin|End))$/.test(field)) return Number.isFinite(value) ? null : 'a number';
  return Number.isSafeInteger(value) && (value as number) >= 0 ? null : 'a whole number from 0';
}

function shown(value: unknown): string {
  const text = value === undefined ? 'missing' : JSON.stringify(value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}

/** What is wrong with one event as read from a file, as "field: value; expected ...", or null. */
export function eventError(json: unknown): string | null {
  if (typeof json !== 'object' || json === null) return `${shown(json)}; expected an event`;
  const event = json as Fields;
  const kind = event['event'];
  if (typeof kind !== 'string' || !Object.hasOwn(IDENTITY_FIELDS, kind)) {
    return `event: ${shown(kind)}; expected one of ${EVENT_KINDS.join(', ')}`;
  }
  const known = kind as EventKind;
  const required = [...IDENTITY_FIELDS[known], ...FURTHER_FIELDS[known]];
  for (const field of required) {
    const want = expected(known, field, event[field]);
    if (want !== null) return `${field}: ${shown(event[field])}; expected ${want}`;
  }
  for (const field of ['step', 'buffer', 'gpc', 'client']) {
    const want = event[field] === undefined ? null : expected(known, field, event[field]);
    if (want !== null) return `${field}: ${shown(event[field])}; expected ${want}`;
  }
  return null;
}

function isFault(json: unknown): boolean {
  const kind = typeof json === 'object' && json !== null ? (json as Fields)['event'] : null;
  return kind === 'cpuFault' || kind === 'gpuFault';
}

export type EventsResult<E> = { ok: true; events: E[] } | { ok: false; error: string };

/**
 * Checks a list of events as read from a file. With `faultsOnly` every other entry is left out unread, whatever it
 * is. The error names the entry, the field, its value and what is valid; `path` is the list's own place.
 */
export function checkEvents(json: unknown, path: string, faultsOnly: true): EventsResult<FaultEvent>;
export function checkEvents(json: unknown, path: string, faultsOnly: boolean): EventsResult<UvmEvent>;
export function checkEvents(json: unknown, path: string, faultsOnly: boolean): EventsResult<UvmEvent> {
  if (!Array.isArray(json)) return { ok: false, error: `${path}: ${shown(json)}; expected a list of events` };
  const events: UvmEvent[] = [];
  for (let i = 0; i < json.length; i++) {
    if (faultsOnly && !isFault(json[i])) continue;
    const error = eventError(json[i]);
    if (error !== null) return { ok: false, error: `${path}[${i}]${/^\w+: /.test(error) ? '.' : ': '}${error}` };
    events.push(json[i] as UvmEvent);
  }
  const stepped = events.filter((e) => e.step !== undefined).length;
  if (stepped !== 0 && stepped !== events.length) {
    const i = json.indexOf(events.find((e) => e.step === undefined));
    return { ok: false, error: `${path}[${i}].step: missing, though other events have one; expected all or none` };
  }
  return { ok: true, events };
}
