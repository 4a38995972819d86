/**
 * The entries of a recording as the event objects of the file format: words for processors and codes, places in
 * ranges. What the format has no words for is counted and left out.
 */
import {
  appendEvents,
  clearEventColumns,
  createEventColumns,
  type EventColumns,
  eventProcessors,
} from '../device/abi/event_columns.ts';
import { CLIENT_TYPE_WORDS, NODE_MIGRATION_CAUSE_WORDS } from '../device/abi/event_words.ts';
import { EVENT_ENTRY_BYTES_V2, EVENT_TYPE } from '../device/abi/events.ts';
import {
  ACCESS_WORDS,
  FATAL_REASON_WORDS,
  FAULT_TYPE_WORDS,
  MAP_REMOTE_CAUSE_WORDS,
  MIGRATION_CAUSE_WORDS,
  type UvmEvent,
} from './event.ts';

/** Where an event happened: the name of its buffer, where there are several, and the bytes from its start. */
export interface RecordedPlace {
  buffer?: string;
  offset: number;
}

export interface EventDecoder {
  /**
   * Turns whole entries of version 2 into events, in order. CPU times are those of the entries; GPU times are relative
   * (event_columns.ts). An event's place is asked for after it is known that the event is kept.
   */
  decode(entries: Uint8Array, take: (event: UvmEvent) => void): void;
  /** Entries left out since the format has no words for them, by what is strange about them. */
  readonly leftOut: ReadonlyMap<string, number>;
  /** Faults of the GPU's hub: copy engines and others that are no SM. */
  hubFaults(): number;
}

const HUB = CLIENT_TYPE_WORDS.indexOf('hub');
const CPU = 'cpu';
const STRANGE_PROCESSOR = 'a processor that the header does not have';

interface Context {
  words: ReadonlyMap<number, string>;
  placeOf: (page: number, offset: number) => RecordedPlace;
  leftOut: Map<string, number>;
  hub: number;
}

function leave(d: Context, why: string): null {
  d.leftOut.set(why, (d.leftOut.get(why) ?? 0) + 1);
  return null;
}

function place(d: Context, c: EventColumns, i: number): RecordedPlace {
  return d.placeOf(c.page[i], c.offset[i]);
}

function faultEvent(d: Context, c: EventColumns, i: number): UvmEvent | null {
  const time = c.time[i];
  const access = ACCESS_WORDS[c.access[i]];
  if (access === undefined || access === 'invalid') return leave(d, `a fault with access type ${c.access[i]}`);
  if (c.type[i] === EVENT_TYPE.cpuFault) return { event: 'cpuFault', access, ...place(d, c, i), time };
  const processor = d.words.get(c.src[i]);
  const type = FAULT_TYPE_WORDS[c.faultType[i]];
  if (processor === undefined) return leave(d, STRANGE_PROCESSOR);
  if (type === undefined) return leave(d, `a fault of type ${c.faultType[i]}`);
  if (c.type[i] === EVENT_TYPE.fatalFault) {
    const reason = FATAL_REASON_WORDS[c.cause[i]];
    if (reason === undefined) return leave(d, `a fatal fault for reason ${c.cause[i]}`);
    return { event: 'fatalFault', processor, type, access, reason, ...place(d, c, i), time };
  }
  if (processor === CPU) return leave(d, 'a GPU fault of the CPU');
  const gpu = processor;
  const { buffer, offset } = place(d, c, i);
  const batch = c.batch[i];
  const gpuTime = c.gpuTime[i];
  // Literals, not spreads: there are millions of these, and objects that grow key by key take twice the memory.
  if (c.clientType[i] !== HUB) {
    const [gpc, client] = [c.gpc[i], c.client[i]];
    return { event: 'gpuFault', gpu, type, access, buffer, offset, batch, gpc, client, time, gpuTime };
  }
  // A hub fault has the channel's id where others have the GPC.
  d.hub++;
  return { event: 'gpuFault', gpu, type, access, buffer, offset, batch, time, gpuTime };
}

/** Migrations and remote mappings: from one processor to another. */
function pairEvent(d: Context, c: EventColumns, i: number): UvmEvent | null {
  const src = d.words.get(c.src[i]);
  const dst = d.words.get(c.dst[i]);
  if (src === undefined || dst === undefined) return leave(d, STRANGE_PROCESSOR);
  const bytes = c.bytes[i];
  const time = c.time[i];
  const gpuTime = c.gpuTime[i];
  if (c.type[i] === EVENT_TYPE.mapRemote) {
    const cause = MAP_REMOTE_CAUSE_WORDS[c.cause[i]];
    if (cause === undefined) return leave(d, `a remote mapping by cause ${c.cause[i]}`);
    return { event: 'mapRemote', cause, src, dst, ...place(d, c, i), bytes, time, gpuTime };
  }
  const table = src === CPU && dst === CPU ? NODE_MIGRATION_CAUSE_WORDS : MIGRATION_CAUSE_WORDS;
  const cause = table[c.cause[i]];
  if (cause === undefined) return leave(d, `a migration by cause ${c.cause[i]}`);
  const { buffer, offset } = place(d, c, i);
  const [end, gpuEnd] = [c.end[i], c.gpuEnd[i]];
  return { event: 'migration', cause, src, dst, buffer, offset, bytes, begin: time, end, gpuBegin: gpuTime, gpuEnd };
}

/** Events about a page that many processors want. */
function sharingEvent(d: Context, c: EventColumns, i: number): UvmEvent | null {
  const type = c.type[i];
  const bytes = c.bytes[i];
  const time = c.time[i];
  if (type === EVENT_TYPE.readDuplicate || type === EVENT_TYPE.thrashing) {
    const processors = eventProcessors(c, i).map((number) => d.words.get(number));
    if (!processors.every((word) => word !== undefined)) return leave(d, STRANGE_PROCESSOR);
    const event = type === EVENT_TYPE.thrashing ? 'thrashing' : 'readDuplicate';
    return { event, ...place(d, c, i), bytes, processors, time };
  }
  const word = d.words.get(c.src[i]);
  if (word === undefined) return leave(d, STRANGE_PROCESSOR);
  if (type === EVENT_TYPE.readDuplicateInvalidate) {
    return { event: 'readDuplicateInvalidate', resident: word, ...place(d, c, i), bytes, time };
  }
  const event = type === EVENT_TYPE.throttlingStart ? 'throttlingStart' : 'throttlingEnd';
  return { event, processor: word, ...place(d, c, i), time };
}

function eventOf(d: Context, c: EventColumns, i: number): UvmEvent | null {
  switch (c.type[i]) {
    case EVENT_TYPE.cpuFault:
    case EVENT_TYPE.gpuFault:
    case EVENT_TYPE.fatalFault:
      return faultEvent(d, c, i);
    case EVENT_TYPE.migration:
    case EVENT_TYPE.mapRemote:
      return pairEvent(d, c, i);
    case EVENT_TYPE.readDuplicate:
    case EVENT_TYPE.thrashing:
    case EVENT_TYPE.readDuplicateInvalidate:
    case EVENT_TYPE.throttlingStart:
    case EVENT_TYPE.throttlingEnd:
      return sharingEvent(d, c, i);
    case EVENT_TYPE.replay: {
      const gpu = d.words.get(c.src[i]);
      if (gpu === undefined || gpu === CPU) return leave(d, STRANGE_PROCESSOR);
      return { event: 'replay', gpu, batch: c.batch[i], time: c.time[i], gpuTime: c.gpuTime[i] };
    }
    default:
      return leave(d, `an event of type ${c.type[i]}`);
  }
}

/** `placeOf` gives the place of an address: a 4 KiB page number and a byte in the page. */
export function createEventDecoder(
  header: { readonly processors: readonly { number: number; word: string }[] },
  placeOf: (page: number, offset: number) => RecordedPlace,
): EventDecoder {
  const words = new Map(header.processors.map(({ number, word }) => [number, word]));
  const d: Context = { words, placeOf, leftOut: new Map(), hub: 0 };
  const columns = createEventColumns(undefined, 'relative');
  return {
    decode: (entries, take) => {
      clearEventColumns(columns);
      appendEvents(columns, entries, EVENT_ENTRY_BYTES_V2);
      for (let i = 0; i < columns.count; i++) {
        const event = eventOf(d, columns, i);
        if (event !== null) take(event);
      }
    },
    leftOut: d.leftOut,
    hubFaults: () => d.hub,
  };
}
