/**
 * Streams of tools events as columns: typed arrays with a row for each event, which grow by doubling. Entries are
 * decoded straight from the ring's memory, without an object, a string or a BigInt for any of them.
 *
 * All numbers are plain: an address is a 4 KiB page number and a byte in the page; times, in nanoseconds, and sizes are
 * exact below 2^53. The clock of a GPU may count from 1970, which is above that: such times are exact as relative ones.
 * Words for the codes are in event_words.ts.
 */
import { grown } from '../../base/grown.ts';
import { EVENT_ENTRY_BYTES_V1, EVENT_ENTRY_BYTES_V2, EVENT_TYPE } from './events.ts';

/** Processors of a mask: the words of a row of `masks`. */
export const MASK_WORDS = 10;
/** In `mask`: the event has none. */
export const NO_MASK = -1;

/** What a type does not have is 0, and NO_MASK in `mask`. */
export interface EventColumns {
  /** Rows. */
  count: number;
  /** EVENT_TYPE; an unknown number has nothing but it. */
  type: Uint8Array;
  /** ACCESS_WORDS: cpuFault, gpuFault, fatalFault. */
  access: Uint8Array;
  /** FAULT_TYPE_WORDS: gpuFault, fatalFault. */
  faultType: Uint8Array;
  /** MIGRATION_CAUSE_WORDS, MAP_REMOTE_CAUSE_WORDS or, of a fatalFault, FATAL_REASON_WORDS. */
  cause: Uint8Array;
  /** CLIENT_TYPE_WORDS: gpuFault, replay. */
  clientType: Uint8Array;
  /** Processor numbers of the entry's version: the one concerned, or source and destination (mapper and owner). */
  src: Uint16Array;
  dst: Uint16Array;
  /** Of a gpuFault. A hub fault has the channel's id in `gpc`. */
  gpc: Uint16Array;
  client: Uint16Array;
  /** NUMA nodes of a migration; version 2 alone. */
  srcNid: Int32Array;
  dstNid: Int32Array;
  /** Batch of a gpuFault or replay. */
  batch: Uint32Array;
  /** Of a cpuFault. */
  cpu: Uint32Array;
  pid: Uint32Array;
  thread: Uint32Array;
  /** Where it happened. */
  page: Float64Array;
  offset: Uint16Array;
  /** A second address: the instruction of a cpuFault, what comes in by an eviction. */
  otherPage: Float64Array;
  otherOffset: Uint16Array;
  bytes: Float64Array;
  /** CPU time, or the first one of a migration, and its last one. */
  time: Float64Array;
  end: Float64Array;
  /** High word of the GPU time that GPU times count from; NaN: that of the first one to come. */
  gpuTimeHigh: number;
  /** Time of the GPU's own clock; first and last one of a migration. */
  gpuTime: Float64Array;
  gpuEnd: Float64Array;
  rangeGroup: Float64Array;
  /** Processors of a readDuplicate or thrashing event: row of `masks`, or NO_MASK. */
  mask: Int32Array;
  maskCount: number;
  /** MASK_WORDS words a row, lowest first; bit = processor number. */
  masks: Uint32Array;
}

type Column = Uint8Array | Uint16Array | Uint32Array | Int32Array | Float64Array;

/**
 * Empty columns with room for `capacity` events before they grow. Relative GPU times count from the first one without
 * its lower 32 bits; those of an event that has none are 0 either way. The origin outlasts clearEventColumns.
 */
export function createEventColumns(capacity = 1024, gpuTimes: 'absolute' | 'relative' = 'absolute'): EventColumns {
  if (!Number.isSafeInteger(capacity) || capacity < 1) {
    throw new RangeError(`capacity of event columns: ${capacity}; expected a whole number of at least 1`);
  }
  return {
    count: 0,
    type: new Uint8Array(capacity),
    access: new Uint8Array(capacity),
    faultType: new Uint8Array(capacity),
    cause: new Uint8Array(capacity),
    clientType: new Uint8Array(capacity),
    src: new Uint16Array(capacity),
    dst: new Uint16Array(capacity),
    gpc: new Uint16Array(capacity),
    client: new Uint16Array(capacity),
    srcNid: new Int32Array(capacity),
    dstNid: new Int32Array(capacity),
    batch: new Uint32Array(capacity),
    cpu: new Uint32Array(capacity),
    pid: new Uint32Array(capacity),
    thread: new Uint32Array(capacity),
    page: new Float64Array(capacity),
    offset: new Uint16Array(capacity),
    otherPage: new Float64Array(capacity),
    otherOffset: new Uint16Array(capacity),
    bytes: new Float64Array(capacity),
    time: new Float64Array(capacity),
    end: new Float64Array(capacity),
    gpuTimeHigh: gpuTimes === 'absolute' ? 0 : Number.NaN,
    gpuTime: new Float64Array(capacity),
    gpuEnd: new Float64Array(capacity),
    rangeGroup: new Float64Array(capacity),
    mask: new Int32Array(capacity),
    maskCount: 0,
    masks: new Uint32Array(MASK_WORDS),
  };
}

/** The columns that have a row for each event. */
const ROWS = (Object.entries(createEventColumns(1)) as [keyof EventColumns, unknown][])
  .filter(([key, value]) => typeof value === 'object' && key !== 'masks')
  .map(([key]) => key) as Exclude<keyof EventColumns, 'count' | 'maskCount' | 'masks' | 'gpuTimeHigh'>[];

/** Makes room for `more` events. */
function reserve(c: EventColumns, more: number): void {
  let capacity = c.type.length;
  if (c.count + more <= capacity) return;
  while (capacity < c.count + more) capacity *= 2;
  const columns = c as unknown as Record<string, Column>;
  for (const key of ROWS) columns[key] = grown(columns[key], capacity);
}

/** Empties the columns; their room stays. */
export function clearEventColumns(c: EventColumns): void {
  for (const key of ROWS) c[key].fill(0, 0, c.count);
  c.masks.fill(0, 0, c.maskCount * MASK_WORDS);
  c.count = 0;
  c.maskCount = 0;
}

const HIGH = 4294967296;

/** The 64-bit number in words `at` and `at + 1`. */
function u64(w: Uint32Array, at: number): number {
  return w[at] + w[at + 1] * HIGH;
}

/** The GPU time in words `at` and `at + 1`. */
function gpuTime(c: EventColumns, w: Uint32Array, at: number): number {
  const high = w[at + 1];
  if (high === 0 && w[at] === 0) return 0;
  if (Number.isNaN(c.gpuTimeHigh)) c.gpuTimeHigh = high;
  return w[at] + (high - c.gpuTimeHigh) * HIGH;
}

/** The address in words `at` and `at + 1`. */
function setPlace(c: EventColumns, i: number, w: Uint32Array, at: number): void {
  c.page[i] = w[at + 1] * 1048576 + (w[at] >>> 12);
  c.offset[i] = w[at] & 4095;
}

function setOtherPlace(c: EventColumns, i: number, w: Uint32Array, at: number): void {
  c.otherPage[i] = w[at + 1] * 1048576 + (w[at] >>> 12);
  c.otherOffset[i] = w[at] & 4095;
}

/** Processors in `words` words from `at` on. */
function setMask(c: EventColumns, i: number, w: Uint32Array, at: number, words: number): void {
  const row = c.maskCount++;
  if ((row + 1) * MASK_WORDS > c.masks.length) c.masks = grown(c.masks, c.masks.length * 2);
  const base = row * MASK_WORDS;
  for (let k = 0; k < words; k++) c.masks[base + k] = w[at + k];
  c.mask[i] = row;
}

function cpuFault(c: EventColumns, i: number, w: Uint32Array, o: number): void {
  c.access[i] = w[o] >>> 8;
  c.cpu[i] = w[o + 1];
  setPlace(c, i, w, o + 2);
  c.time[i] = u64(w, o + 4);
  c.pid[i] = w[o + 6];
  c.thread[i] = w[o + 7];
  setOtherPlace(c, i, w, o + 8);
}

/** From the address on: both versions have it alike, version 2 two words later. */
function migration(c: EventColumns, i: number, w: Uint32Array, o: number): void {
  setPlace(c, i, w, o);
  c.bytes[i] = u64(w, o + 2);
  c.time[i] = u64(w, o + 4);
  c.end[i] = u64(w, o + 6);
  c.rangeGroup[i] = u64(w, o + 8);
  c.gpuTime[i] = gpuTime(c, w, o + 10);
  c.gpuEnd[i] = gpuTime(c, w, o + 12);
}

function gpuFault(c: EventColumns, i: number, w: Uint32Array, o: number): void {
  c.faultType[i] = w[o] >>> 8;
  c.gpc[i] = w[o + 1];
  c.client[i] = w[o + 1] >>> 16;
  setPlace(c, i, w, o + 2);
  c.time[i] = u64(w, o + 4);
  c.gpuTime[i] = gpuTime(c, w, o + 6);
  c.batch[i] = w[o + 8];
  c.clientType[i] = w[o + 9];
}

function replay(c: EventColumns, i: number, w: Uint32Array, o: number): void {
  c.batch[i] = w[o + 1];
  c.time[i] = u64(w, o + 2);
  c.gpuTime[i] = gpuTime(c, w, o + 4);
}

/** Types whose address, size and time follow one another from word 2 on: all fields that the versions have alike. */
function sized(c: EventColumns, i: number, w: Uint32Array, o: number): void {
  setPlace(c, i, w, o);
  c.bytes[i] = u64(w, o + 2);
  c.time[i] = u64(w, o + 4);
}

function placeAndTime(c: EventColumns, i: number, w: Uint32Array, o: number): void {
  setPlace(c, i, w, o + 2);
  c.time[i] = u64(w, o + 4);
}

function eviction(c: EventColumns, i: number, w: Uint32Array, o: number): void {
  setPlace(c, i, w, o + 2);
  setOtherPlace(c, i, w, o + 4);
  c.bytes[i] = u64(w, o + 6);
  c.time[i] = u64(w, o + 8);
}

/** One entry of version 2: 18 words from `o` on. */
function appendV2(c: EventColumns, i: number, w: Uint32Array, o: number, type: number): void {
  const first = w[o];
  const second = w[o + 1];
  switch (type) {
    case EVENT_TYPE.cpuFault:
      cpuFault(c, i, w, o);
      break;
    case EVENT_TYPE.migration:
      c.cause[i] = first >>> 8;
      c.src[i] = second;
      c.dst[i] = second >>> 16;
      c.srcNid[i] = w[o + 2];
      c.dstNid[i] = w[o + 3];
      migration(c, i, w, o + 4);
      break;
    case EVENT_TYPE.gpuFault:
      c.src[i] = first >>> 16;
      c.access[i] = w[o + 9] >>> 8;
      gpuFault(c, i, w, o);
      break;
    case EVENT_TYPE.replay:
      c.clientType[i] = first >>> 8;
      c.src[i] = first >>> 16;
      replay(c, i, w, o);
      break;
    case EVENT_TYPE.fatalFault:
      c.faultType[i] = first >>> 8;
      c.access[i] = first >>> 16;
      c.cause[i] = first >>> 24;
      c.src[i] = second;
      placeAndTime(c, i, w, o);
      break;
    case EVENT_TYPE.readDuplicate:
    case EVENT_TYPE.thrashing:
      setMask(c, i, w, o + 8, MASK_WORDS);
      sized(c, i, w, o + 2);
      break;
    case EVENT_TYPE.readDuplicateInvalidate:
      c.src[i] = first >>> 16;
      sized(c, i, w, o + 2);
      break;
    case EVENT_TYPE.pageSizeChange:
      c.bytes[i] = second;
      c.src[i] = first >>> 16;
      placeAndTime(c, i, w, o);
      break;
    case EVENT_TYPE.throttlingStart:
    case EVENT_TYPE.throttlingEnd:
      c.src[i] = first >>> 16;
      placeAndTime(c, i, w, o);
      break;
    case EVENT_TYPE.mapRemote:
      c.cause[i] = first >>> 8;
      c.src[i] = second;
      c.dst[i] = second >>> 16;
      c.gpuTime[i] = gpuTime(c, w, o + 8);
      sized(c, i, w, o + 2);
      break;
    case EVENT_TYPE.eviction:
      c.src[i] = second;
      c.dst[i] = second >>> 16;
      eviction(c, i, w, o);
      break;
    case EVENT_TYPE.testAccessCounter:
      c.src[i] = second >>> 16;
      setPlace(c, i, w, o + 8);
      break;
  }
}

/** One entry of version 1: 16 words from `o` on. */
function appendV1(c: EventColumns, i: number, w: Uint32Array, o: number, type: number): void {
  const first = w[o];
  switch (type) {
    case EVENT_TYPE.cpuFault:
      cpuFault(c, i, w, o);
      break;
    case EVENT_TYPE.migration:
      c.cause[i] = first >>> 8;
      c.src[i] = (first >>> 16) & 255;
      c.dst[i] = first >>> 24;
      migration(c, i, w, o + 2);
      break;
    case EVENT_TYPE.gpuFault:
      c.access[i] = first >>> 16;
      c.src[i] = first >>> 24;
      gpuFault(c, i, w, o);
      break;
    case EVENT_TYPE.replay:
      c.src[i] = (first >>> 8) & 255;
      c.clientType[i] = first >>> 16;
      replay(c, i, w, o);
      break;
    case EVENT_TYPE.fatalFault:
      c.faultType[i] = first >>> 8;
      c.access[i] = first >>> 16;
      c.src[i] = first >>> 24;
      c.cause[i] = w[o + 1];
      placeAndTime(c, i, w, o);
      break;
    case EVENT_TYPE.readDuplicate:
    case EVENT_TYPE.thrashing:
      setMask(c, i, w, o + 2, 2);
      sized(c, i, w, o + 4);
      break;
    case EVENT_TYPE.readDuplicateInvalidate:
      c.src[i] = (first >>> 8) & 255;
      sized(c, i, w, o + 2);
      break;
    case EVENT_TYPE.pageSizeChange:
      c.bytes[i] = w[o + 1];
      c.src[i] = (first >>> 8) & 255;
      placeAndTime(c, i, w, o);
      break;
    case EVENT_TYPE.throttlingStart:
    case EVENT_TYPE.throttlingEnd:
      c.src[i] = (first >>> 8) & 255;
      placeAndTime(c, i, w, o);
      break;
    case EVENT_TYPE.mapRemote:
      c.src[i] = (first >>> 8) & 255;
      c.dst[i] = (first >>> 16) & 255;
      c.cause[i] = first >>> 24;
      c.gpuTime[i] = gpuTime(c, w, o + 8);
      sized(c, i, w, o + 2);
      break;
    case EVENT_TYPE.eviction:
      c.src[i] = (first >>> 8) & 255;
      c.dst[i] = (first >>> 16) & 255;
      eviction(c, i, w, o);
      break;
    case EVENT_TYPE.testAccessCounter:
      c.src[i] = (first >>> 8) & 255;
      setPlace(c, i, w, o + 6);
      break;
  }
}

/**
 * Adds the entries of a span to the columns, in order: what drainEventQueue hands to its `take`. `entryBytes` is
 * EVENT_ENTRY_BYTES_V1 or EVENT_ENTRY_BYTES_V2. Throws RangeError for another size or a span that ends in mid-entry.
 */
export function appendEvents(c: EventColumns, span: Uint8Array, entryBytes: number): void {
  if (entryBytes !== EVENT_ENTRY_BYTES_V1 && entryBytes !== EVENT_ENTRY_BYTES_V2) {
    throw new RangeError(
      `event entries of ${entryBytes} bytes; expected ${EVENT_ENTRY_BYTES_V1} or ${EVENT_ENTRY_BYTES_V2}`,
    );
  }
  const count = span.length / entryBytes;
  if (!Number.isInteger(count))
    throw new RangeError(`${span.length} bytes are no whole entries of ${entryBytes} bytes`);
  const bytes = span.byteOffset % 4 === 0 ? span : span.slice();
  const w = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const append = entryBytes === EVENT_ENTRY_BYTES_V2 ? appendV2 : appendV1;
  reserve(c, count);
  let i = c.count;
  for (let o = 0; o < w.length; o += entryBytes / 4) {
    const type = w[o] & 255;
    c.type[i] = type;
    c.mask[i] = NO_MASK;
    append(c, i, w, o, type);
    i++;
  }
  c.count = i;
}

/** Numbers of the processors of row `i`, ascending; empty where the event has none. */
export function eventProcessors(c: EventColumns, i: number): number[] {
  const numbers: number[] = [];
  if (c.mask[i] === NO_MASK) return numbers;
  const base = c.mask[i] * MASK_WORDS;
  for (let bit = 0; bit < MASK_WORDS * 32; bit++) {
    if ((c.masks[base + (bit >>> 5)] & (1 << (bit & 31))) !== 0) numbers.push(bit);
  }
  return numbers;
}
