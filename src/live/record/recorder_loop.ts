/**
 * The recorder's loop, apart from threads and devices: what waits in the queue goes into the file, with the managed
 * ranges of the target and the events that were lost. Each turn does a little and returns, so that the caller can wait
 * as it likes.
 */
import { drainEventQueue, type EventQueueReader, takeDropped } from '../../device/abi/event_queue.ts';
import type { ProcessorEntry } from '../../device/attach.ts';
import type { ManagedMapping } from '../../device/linux/proc.ts';
import type { EndReason, RecordingWriter } from '../../trace/recording_file.ts';

/** 2 MiB blocks of addresses, by 4 KiB page. */
const PAGES_PER_BLOCK = 512;

export interface RecorderLoop {
  readonly reader: EventQueueReader;
  readonly writer: RecordingWriter;
  /** Managed mappings of the target now; throws when it is gone. */
  readonly mappings: () => ManagedMapping[];
  /** Processors of the VA space now; null when the driver does not say. */
  readonly processors: () => ProcessorEntry[] | null;
  /** Nanoseconds of CLOCK_MONOTONIC_RAW. */
  readonly clock: () => number;
  /** Has the driver queue what has finished. */
  readonly flush: () => void;
  /** Told of each span of entries, for totals. */
  readonly observe: (entries: Uint8Array) => void;
  /** The last mappings written, as text, and the blocks that they cover. */
  lastMaps: string;
  /** The last processors written, as text. */
  lastProcessors: string;
  covered: Set<number>;
  /** When the mappings were last read. */
  mapsAt: number;
  /** A block of an event lies in no mapping that was seen. */
  strange: boolean;
}

/** How often mappings are read, and how soon again when an event is of memory that is not known, nanoseconds. */
const MAPS_PERIOD = 200e6;
const MAPS_SOONEST = 10e6;

export function createRecorderLoop(
  parts: Pick<RecorderLoop, 'reader' | 'writer' | 'mappings' | 'processors' | 'clock' | 'flush' | 'observe'>,
): RecorderLoop {
  return {
    ...parts,
    lastMaps: '',
    lastProcessors: '',
    covered: new Set(),
    mapsAt: Number.NEGATIVE_INFINITY,
    strange: false,
  };
}

/** Reads the VA space's processors, and writes them when there are others: a program registers its GPUs by and by. */
function recordProcessors(loop: RecorderLoop): void {
  const processors = loop.processors();
  if (processors === null) return;
  const text = JSON.stringify(processors);
  if (text === loop.lastProcessors) return;
  loop.lastProcessors = text;
  loop.writer.appendProcessors(processors);
}

/** Reads the target's mappings, and writes them when they have changed. False when the target is gone. */
export function recordMaps(loop: RecorderLoop): boolean {
  let mappings: ManagedMapping[];
  const time = loop.clock();
  loop.mapsAt = time;
  loop.strange = false;
  recordProcessors(loop);
  try {
    mappings = loop.mappings();
  } catch {
    return false;
  }
  const ranges = mappings.map(({ start, end }) => ({ start: start.toString(16), end: end.toString(16) }));
  const text = JSON.stringify(ranges);
  if (text === loop.lastMaps) return true;
  loop.lastMaps = text;
  loop.writer.appendMaps({ time, ranges });
  loop.covered.clear();
  for (const { start, end } of mappings) {
    const last = Number((end - 1n) >> 21n);
    for (let block = Number(start >> 21n); block <= last; block++) loop.covered.add(block);
  }
  return true;
}

/** Word of an entry of version 2 at which its address begins, by event type; 0 where there is none. */
const ADDRESS_WORD = new Uint8Array(64);
for (const type of [1, 3, 6, 7, 8, 10, 11, 12]) ADDRESS_WORD[type] = 2;
for (const type of [2, 13]) ADDRESS_WORD[type] = type === 2 ? 4 : 2;
const ENTRY_WORDS = 18;

/** Whether an entry is of memory in no known mapping: then they are read again, before the memory is gone. */
function hasStranger(loop: RecorderLoop, entries: Uint8Array): boolean {
  const words = new Uint32Array(entries.buffer, entries.byteOffset, entries.length / 4);
  let before = -1;
  for (let at = 0; at < words.length; at += ENTRY_WORDS) {
    const word = ADDRESS_WORD[words[at] & 63];
    if (word === 0) continue;
    const page = words[at + word + 1] * 1048576 + (words[at + word] >>> 12);
    const block = Math.floor(page / PAGES_PER_BLOCK);
    if (block === before) continue;
    before = block;
    if (!loop.covered.has(block)) return true;
  }
  return false;
}

/** Writes what waits, and what was lost. Returns the number of entries. */
export function recordEvents(loop: RecorderLoop): number {
  const count = drainEventQueue(loop.reader, (entries) => {
    loop.writer.appendEvents(entries);
    loop.observe(entries);
    loop.strange ||= hasStranger(loop, entries);
  });
  const dropped = takeDropped(loop.reader);
  if (dropped.length > 0) loop.writer.appendDrops(dropped);
  return count;
}

/** One turn: events, and the mappings when it is time. False when the target is gone. */
export function recordTurn(loop: RecorderLoop): boolean {
  // Mappings of before stand in front of the events that need them.
  if (loop.mapsAt === Number.NEGATIVE_INFINITY && !recordMaps(loop)) return false;
  recordEvents(loop);
  const since = loop.clock() - loop.mapsAt;
  if (since < (loop.strange ? MAPS_SOONEST : MAPS_PERIOD)) return true;
  return recordMaps(loop);
}

/** The last events, and the frame that ends the file. */
export function endRecording(loop: RecorderLoop, reason: EndReason): void {
  try {
    loop.flush();
  } catch {
    // A target that is gone has nothing left to flush.
  }
  recordEvents(loop);
  loop.writer.end(reason);
  loop.writer.close();
}
