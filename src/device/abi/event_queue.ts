/**
 * The protocol of the tools event queue (uvm_tools.c, driver 580.105.08), both ends of it, over plain memory: a ring of
 * entries and a control buffer with four positions and a count of dropped events for each type. The memory may be the
 * driver's by mmap, a SharedArrayBuffer, or ordinary.
 *
 * Positions are indices in [0, size). The driver moves put (both of its fields at once, under its lock), the reader
 * moves get: `get_ahead` says what it has claimed, `get_behind` what may be overwritten. The ring is full with one slot
 * free, so it holds size - 1 entries; what finds it full is counted by type and lost. An entry is in memory before the
 * position that covers it.
 */
import { EVENT_TYPES_ALL } from './events.ts';

/** Bytes of the control buffer; it begins a page. */
export const CONTROL_BUFFER_BYTES = 528;
/** Its 32-bit words. */
const GET_AHEAD = 0;
const GET_BEHIND = 1;
const PUT_AHEAD = 2;
const PUT_BEHIND = 3;
/** Two words for each type, low one first. */
const DROPPED = 4;

interface EventQueueMemory {
  readonly control: Int32Array;
  readonly ring: Uint8Array;
  readonly entryBytes: number;
  /** Entries; a power of two. */
  readonly size: number;
}

/** A queue as its reader sees it; the views are of the memory that the driver writes to. */
export interface EventQueueReader extends EventQueueMemory {
  /** Dropped events that have been told already, by type. */
  readonly droppedBefore: Float64Array;
}

/** A queue as its writer, the driver, sees it. */
export interface EventQueueWriter extends EventQueueMemory {
  /** Entries that make it readable: 0 always, `size` or more never. */
  threshold: number;
  /** Whether a wake-up has been sent since the last poll, and the reader's position at that time. */
  woken: boolean;
  wokenAt: number;
}

function eventQueueMemory(control: Uint8Array, ring: Uint8Array, entryBytes: number): EventQueueMemory {
  const size = ring.length / entryBytes;
  if (!Number.isInteger(size) || size < 2 || (size & (size - 1)) !== 0) {
    throw new RangeError(
      `an event queue of ${ring.length} bytes for entries of ${entryBytes} has ${size} entries; ` +
        'expected a power of two of at least 2',
    );
  }
  if (control.length < CONTROL_BUFFER_BYTES) {
    throw new RangeError(`a control buffer of ${control.length} bytes; expected ${CONTROL_BUFFER_BYTES}`);
  }
  if (control.byteOffset % 4 !== 0) {
    throw new RangeError(`a control buffer at byte ${control.byteOffset} of its memory; expected a multiple of 4`);
  }
  return {
    control: new Int32Array(control.buffer, control.byteOffset, CONTROL_BUFFER_BYTES / 4),
    ring,
    entryBytes,
    size,
  };
}

/**
 * The reader's end. `control` has CONTROL_BUFFER_BYTES, `ring` a power of two of entries of EVENT_ENTRY_BYTES_V1 or
 * _V2 bytes. Throws RangeError for other sizes.
 */
export function createEventQueueReader(control: Uint8Array, ring: Uint8Array, entryBytes: number): EventQueueReader {
  return { ...eventQueueMemory(control, ring, entryBytes), droppedBefore: new Float64Array(EVENT_TYPES_ALL) };
}

/** Entries that wait to be read. */
export function eventQueuePending(queue: EventQueueReader): number {
  const mask = queue.size - 1;
  return (Atomics.load(queue.control, PUT_BEHIND) - queue.control[GET_BEHIND]) & mask;
}

/**
 * Hands all entries that wait to `take`, in order, in at most two spans of the ring itself, and releases each span when
 * `take` returns: what it wants to keep it copies. Returns the number of entries. If `take` throws, its span and those
 * after it stay in the queue.
 */
export function drainEventQueue(queue: EventQueueReader, take: (entries: Uint8Array) => void): number {
  const { control, ring, size, entryBytes } = queue;
  const put = Atomics.load(control, PUT_BEHIND) & (size - 1);
  let get = control[GET_BEHIND] & (size - 1);
  let count = 0;
  while (get !== put) {
    const outer = put > get ? put : size;
    take(ring.subarray(get * entryBytes, outer * entryBytes));
    count += outer - get;
    get = outer & (size - 1);
    Atomics.store(control, GET_AHEAD, get);
    Atomics.store(control, GET_BEHIND, get);
  }
  return count;
}

/** A 64-bit counter of the control buffer; exact below 2^53. */
function droppedOf(control: Int32Array, type: number): number {
  // The driver carries from the low word into the high one between these two loads at most once in 2^32 drops.
  let high = Atomics.load(control, DROPPED + 2 * type + 1) >>> 0;
  for (;;) {
    const low = Atomics.load(control, DROPPED + 2 * type) >>> 0;
    const again = Atomics.load(control, DROPPED + 2 * type + 1) >>> 0;
    if (again === high) return high * 2 ** 32 + low;
    high = again;
  }
}

/**
 * Events that were lost since the last call, as pairs of type and number; empty when there is no gap. They were lost
 * after the entries that the last drain returned and before the ones that come now: nothing tells where in between.
 */
export function takeDropped(queue: EventQueueReader): [type: number, count: number][] {
  const dropped: [number, number][] = [];
  for (let type = 0; type < EVENT_TYPES_ALL; type++) {
    const total = droppedOf(queue.control, type);
    if (total === queue.droppedBefore[type]) continue;
    dropped.push([type, total - queue.droppedBefore[type]]);
    queue.droppedBefore[type] = total;
  }
  return dropped;
}

/** The driver's end; the threshold is half of the entries until it is set. The memory's owner has zeroed it. */
export function createEventQueueWriter(control: Uint8Array, ring: Uint8Array, entryBytes: number): EventQueueWriter {
  const memory = eventQueueMemory(control, ring, entryBytes);
  return { ...memory, threshold: memory.size / 2, woken: false, wokenAt: 0 };
}

/** queue_needs_wakeup: whether poll would find the queue readable. */
export function eventQueueReadable(queue: EventQueueWriter): boolean {
  const { control, size } = queue;
  const waiting = (size + Atomics.load(control, PUT_BEHIND) - Atomics.load(control, GET_AHEAD)) & (size - 1);
  return waiting >= queue.threshold;
}

/** uvm_tools_poll: whether it is readable; from now on a wake-up may be sent for the reader's position again. */
export function eventQueuePoll(queue: EventQueueWriter): boolean {
  queue.woken = false;
  return eventQueueReadable(queue);
}

/** Counts an event as lost (64 bits). */
function countDropped(control: Int32Array, type: number): void {
  const at = DROPPED + 2 * type;
  if (Atomics.add(control, at, 1) === -1) Atomics.add(control, at + 1, 1);
}

/**
 * enqueue_event: puts one entry into the queue, or counts it as dropped when the ring is full. Returns whether pollers
 * are to be woken: once for each position of the reader.
 */
export function enqueueEvent(queue: EventQueueWriter, entry: Uint8Array): boolean {
  const { control, ring, size, entryBytes } = queue;
  const mask = size - 1;
  const get = Atomics.load(control, GET_BEHIND) & mask;
  const put = control[PUT_BEHIND] & mask;
  if (((size + get - put) & mask) === 1) {
    countDropped(control, entry[0]);
    return false;
  }
  ring.set(entry, put * entryBytes);
  const next = (put + 1) & mask;
  Atomics.store(control, PUT_AHEAD, next);
  Atomics.store(control, PUT_BEHIND, next);
  const ahead = Atomics.load(control, GET_AHEAD);
  if (!eventQueueReadable(queue) || (queue.woken && queue.wokenAt === ahead)) return false;
  queue.woken = true;
  queue.wokenAt = ahead;
  return true;
}
