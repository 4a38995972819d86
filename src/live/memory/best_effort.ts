/**
 * The armed copy as far as a stock driver allows it (rule 56 of docs/copy-routine.md): the event of a fault is queued
 * before the fault is serviced, so an ioctl 62 made on seeing it waits for the block's lock and reads the page right
 * after the service, just before or after the replay lets the warp go on. It is no snapshot: the warp, or another one
 * to which the page is mapped already, may have written by then. The result says which it was likely to be.
 */
import { drainEventQueue, eventQueuePending, takeDropped } from '../../device/abi/event_queue.ts';
import { EVENT_ENTRY_BYTES_V2, EVENT_TYPE } from '../../device/abi/events.ts';
import { IOCTL } from '../../device/abi/ioctls.ts';
import { decode, encode } from '../../device/abi/layout.ts';
import { NV_OK, statusText } from '../../device/abi/status.ts';
import type { DeviceFile } from '../../device/device.ts';
import { closeEventSource, type EventSource, enableEvents, openEventSource } from '../../device/event_source.ts';
import type { LinuxDevice } from '../../device/linux/linux_device.ts';

const PAGE = 4096;
const READ = IOCTL.TOOLS_READ_PROCESS_MEMORY;
const FLUSH = IOCTL.TOOLS_FLUSH_EVENTS;
const RING_ENTRIES = 2 ** 14;

/** What an armed copy of best effort came to. Times are nanoseconds of CLOCK_MONOTONIC_RAW. */
export interface BestEffortCopy {
  /** Address of the page that faulted, and of the copied page. */
  page: bigint;
  batch: number;
  faultTime: number;
  copyBegin: number;
  copyEnd: number;
  /** When the replay that let the access go on was pushed; null when its event did not come in time. */
  replayTime: number | null;
  likely: 'before the replay' | 'after the replay' | 'unknown';
  status: number;
  /** The page; valid until the next wait. */
  bytes: Uint8Array;
}

export interface BestEffort {
  /**
   * Waits, busily, for the next GPU fault on the page of an address (any page of managed memory without one), and
   * copies it. Null when none came in time.
   */
  wait(address: bigint | null, milliseconds: number): BestEffortCopy | null;
  /** Passes over what is in the queue now. */
  discard(): void;
  close(): Promise<void>;
}

/** The first fault on a page among entries, and the replays. */
interface Seen {
  fault: { page: bigint; batch: number; time: number } | null;
  replays: { batch: number; time: number }[];
}

const HIGH = 2 ** 32;

function look(entries: Uint8Array, page: bigint | null, seen: Seen): void {
  const words = new Uint32Array(entries.buffer, entries.byteOffset, entries.length / 4);
  for (let at = 0; at < words.length; at += EVENT_ENTRY_BYTES_V2 / 4) {
    const type = words[at] & 255;
    if (type === EVENT_TYPE.replay) {
      seen.replays.push({ batch: words[at + 1], time: words[at + 2] + words[at + 3] * HIGH });
    } else if (type === EVENT_TYPE.gpuFault && seen.fault === null) {
      const at64 = (BigInt(words[at + 3]) << 32n) | BigInt(words[at + 2] & ~(PAGE - 1));
      const faulted = BigInt.asUintN(64, at64);
      if (page !== null && faulted !== page) continue;
      seen.fault = { page: faulted, batch: words[at + 8], time: words[at + 4] + words[at + 5] * HIGH };
    }
  }
}

/** How long the event of a replay is waited for. */
const REPLAY_NS = 20e6;

/** Attaches a queue for faults and replays. Throws IoctlError. */
export async function createBestEffort(device: LinuxDevice, uvm: DeviceFile): Promise<BestEffort> {
  const { libc } = device;
  const source: EventSource = await openEventSource(device, uvm, { entries: RING_ENTRIES });
  const memory = await device.allocate(PAGE);
  await enableEvents(source, ['gpuFault', 'replay']);
  const flushBytes = encode(FLUSH.params, {});
  const readBytes = new Uint8Array(READ.params.size);
  const drain = (page: bigint | null, seen: Seen): void => {
    drainEventQueue(source.reader, (entries) => look(entries, page, seen));
  };
  const replayOf = (batch: number, seen: Seen): number | null => {
    const found = seen.replays.find((replay) => (replay.batch - batch) >>> 0 < 2 ** 31);
    return found?.time ?? null;
  };
  const awaitReplay = (batch: number, seen: Seen): number | null => {
    const until = libc.clockRaw() + REPLAY_NS;
    for (;;) {
      libc.ioctl(uvm.fd, FLUSH.number, flushBytes);
      drain(-1n, seen);
      const time = replayOf(batch, seen);
      if (time !== null || libc.clockRaw() > until) return time;
    }
  };
  return {
    discard: () => {
      drain(-1n, { fault: null, replays: [] });
      takeDropped(source.reader);
    },
    wait: (address, milliseconds) => {
      const page = address === null ? null : address - (address % BigInt(PAGE));
      const seen: Seen = { fault: null, replays: [] };
      const until = libc.clockRaw() + milliseconds * 1e6;
      while (seen.fault === null) {
        if (eventQueuePending(source.reader) > 0) drain(page, seen);
        else if (libc.clockRaw() > until) return null;
      }
      const { fault } = seen;
      const copyBegin = libc.clockRaw();
      readBytes.set(encode(READ.params, { buffer: memory.address, size: PAGE, targetVa: fault.page }));
      const errno = libc.ioctl(uvm.fd, READ.number, readBytes);
      const copyEnd = libc.clockRaw();
      const { rmStatus } = decode(READ.params, readBytes);
      const replayTime = awaitReplay(fault.batch, seen);
      const likely = replayTime === null ? 'unknown' : copyEnd <= replayTime ? 'before the replay' : 'after the replay';
      return {
        page: fault.page,
        batch: fault.batch,
        faultTime: fault.time,
        copyBegin,
        copyEnd,
        replayTime,
        likely,
        status: errno === 0 ? rmStatus : -errno,
        bytes: memory.bytes(),
      };
    },
    close: async () => {
      await closeEventSource(source);
      await memory.close();
    },
  };
}

/** What a user is told about such a copy. */
export function bestEffortText(copy: BestEffortCopy): string {
  const delay = ((copy.copyEnd - copy.faultTime) / 1000).toFixed(1);
  const status =
    copy.status === NV_OK ? '' : `, ${copy.status < 0 ? `errno ${-copy.status}` : statusText(copy.status)}`;
  return (
    `page 0x${copy.page.toString(16)}, ${delay} µs after its fault, likely ${copy.likely}${status}; best effort, no ` +
    'snapshot: the page may have been written since its fault'
  );
}
