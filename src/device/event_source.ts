/**
 * A queue of tools events over any device: its memory, its tools file and the reader's end of the ring. What a recorder
 * and a program that watches itself have in common.
 */
import {
  CONTROL_BUFFER_BYTES,
  createEventQueueReader,
  drainEventQueue,
  type EventQueueReader,
  takeDropped,
} from './abi/event_queue.ts';
import { EVENT_ENTRY_BYTES_V1, EVENT_ENTRY_BYTES_V2, type EventTypeName, eventTypeFlags } from './abi/events.ts';
import { IOCTL } from './abi/ioctls.ts';
import { type CallerMemory, type Device, type DeviceFile, ioctl } from './device.ts';

const PAGE = 4096;

export interface EventSource {
  readonly device: Device;
  /** The VA space's file, which flushes go to. */
  readonly uvm: DeviceFile;
  readonly tools: DeviceFile;
  readonly reader: EventQueueReader;
  readonly entryBytes: number;
  /** Ring and control buffer. */
  readonly memory: readonly [CallerMemory, CallerMemory];
}

export interface EventSourceOptions {
  /** Entries of the ring, a power of two of at least 2; it holds one less. */
  entries: number;
  /** Entries of version 1 (64 bytes, physical GPUs) or 2 (72 bytes, GPU instances; the default). */
  version?: 1 | 2;
  /** Entries that make poll return; half of the ring when left out. */
  threshold?: number;
}

/**
 * Attaches a queue to the VA space of `uvm`; no event is enabled yet. IoctlError or RangeError when the driver or the
 * protocol does not take it; nothing is left behind then.
 */
export async function openEventSource(
  device: Device,
  uvm: DeviceFile,
  options: EventSourceOptions,
): Promise<EventSource> {
  const { entries, version = 2, threshold } = options;
  const entryBytes = version === 1 ? EVENT_ENTRY_BYTES_V1 : EVENT_ENTRY_BYTES_V2;
  if (!Number.isSafeInteger(entries) || entries < 1) {
    throw new RangeError(`entries of an event queue: ${entries}; expected a power of two of at least 2`);
  }
  const ring = await device.allocate(Math.ceil((entries * entryBytes) / PAGE) * PAGE);
  let control: CallerMemory | null = null;
  let tools: DeviceFile | null = null;
  try {
    control = await device.allocate(PAGE);
    tools = await device.open('tools');
    const call = version === 1 ? IOCTL.TOOLS_INIT_EVENT_TRACKER : IOCTL.TOOLS_INIT_EVENT_TRACKER_V2;
    await ioctl(device, tools, call, {
      queueBuffer: ring.address,
      queueBufferSize: entries,
      controlBuffer: control.address,
      uvmFd: uvm.fd,
    });
    if (threshold !== undefined) {
      await ioctl(device, tools, IOCTL.TOOLS_SET_NOTIFICATION_THRESHOLD, { notificationThreshold: threshold });
    }
    const reader = createEventQueueReader(
      control.bytes().subarray(0, CONTROL_BUFFER_BYTES),
      ring.bytes().subarray(0, entries * entryBytes),
      entryBytes,
    );
    return { device, uvm, tools, reader, entryBytes, memory: [ring, control] };
  } catch (error) {
    if (tools !== null) await device.close(tools);
    if (control !== null) await control.close();
    await ring.close();
    throw error;
  }
}

export async function enableEvents(source: EventSource, types: readonly EventTypeName[]): Promise<void> {
  await ioctl(source.device, source.tools, IOCTL.TOOLS_EVENT_QUEUE_ENABLE_EVENTS, {
    eventTypeFlags: eventTypeFlags(types),
  });
}

export async function disableEvents(source: EventSource, types: readonly EventTypeName[]): Promise<void> {
  await ioctl(source.device, source.tools, IOCTL.TOOLS_EVENT_QUEUE_DISABLE_EVENTS, {
    eventTypeFlags: eventTypeFlags(types),
  });
}

/** What a drain found. */
export interface Drained {
  entries: number;
  /** Events lost since the last drain, as pairs of type and number. */
  dropped: [type: number, count: number][];
}

/** Hands everything that waits to `take` (drainEventQueue), and tells what was lost. */
export function drainEvents(source: EventSource, take: (entries: Uint8Array) => void): Drained {
  const entries = drainEventQueue(source.reader, take);
  return { entries, dropped: takeDropped(source.reader) };
}

/**
 * Has the driver queue the events of all GPU work that has finished. It waits for no work: synchronise the GPU first.
 */
export async function flushEvents(source: EventSource): Promise<void> {
  await ioctl(source.device, source.uvm, IOCTL.TOOLS_FLUSH_EVENTS, {});
}

/** Detaches the queue and gives its memory back; the VA space's file stays open. */
export async function closeEventSource(source: EventSource): Promise<void> {
  await source.device.close(source.tools);
  for (const memory of source.memory) await memory.close();
}
