/**
 * The thread that drains the queue. It has the ring by its address, reads the driver's indices atomically, and blocks
 * in poll; the main thread starts it, tells it to stop, and shows what it has counted.
 */
import { parentPort } from 'node:worker_threads';
import { createLiveTally, type LiveTally, tallyDrops, tallyEntries } from '../../analysis/live_tally.ts';
import { CONTROL_BUFFER_BYTES, createEventQueueReader } from '../../device/abi/event_queue.ts';
import { EVENT_ENTRY_BYTES_V2 } from '../../device/abi/events.ts';
import { IOCTL } from '../../device/abi/ioctls.ts';
import { decode, encode } from '../../device/abi/layout.ts';
import { NV_OK } from '../../device/abi/status.ts';
import { PROCESSOR_TABLE_BYTES, type ProcessorEntry, processorEntries } from '../../device/attach.ts';
import { type Libc, loadLibc } from '../../device/linux/libc.ts';
import { processAlive, readManagedMappings } from '../../device/linux/proc.ts';
import { createRecordingWriter, type EndReason } from '../../trace/recording_file.ts';
import { namedGpus } from './processor_names.ts';
import { createRecorderLoop, endRecording, type RecorderLoop, recordTurn } from './recorder_loop.ts';
import { type RecorderMessage, type RecorderWorkerData, STOP_REASONS } from './recorder_protocol.ts';

const POLL_MILLISECONDS = 20;
const TALLY_MILLISECONDS = 500;
const ALIVE_MILLISECONDS = 100;

function flusher(libc: Libc, data: RecorderWorkerData): () => void {
  const params = new Uint8Array(IOCTL.TOOLS_FLUSH_EVENTS.params.size);
  return () => void libc.ioctl(data.uvmFd, IOCTL.TOOLS_FLUSH_EVENTS.number, params);
}

/** Asks the driver for the VA space's processors, by memory at `address`; named as /proc names the GPUs. */
function processorReader(libc: Libc, uvmFd: number, address: bigint): () => ProcessorEntry[] | null {
  const call = IOCTL.TOOLS_GET_PROCESSOR_UUID_TABLE_V2;
  const table = new Uint8Array(libc.view(address, PROCESSOR_TABLE_BYTES));
  return () => {
    table.fill(0);
    const params = encode(call.params, { tablePtr: address });
    if (libc.ioctl(uvmFd, call.number, params) !== 0 || decode(call.params, params).rmStatus !== NV_OK) return null;
    return namedGpus(processorEntries(table));
  };
}

/** Drains until it is told to stop or the target is gone. */
function drainUntilEnd(
  libc: Libc,
  data: RecorderWorkerData,
  loop: RecorderLoop,
  tally: LiveTally,
  say: (message: RecorderMessage) => void,
): EndReason {
  const stop = new Int32Array(data.stop);
  const { totals } = loop.writer;
  const start = libc.clockRaw();
  let [flushed, told, seen] = [start, start, start];
  for (;;) {
    libc.poll(data.toolsFd, POLL_MILLISECONDS);
    const now = libc.clockRaw();
    if (now - flushed > data.flushMilliseconds * 1e6) {
      loop.flush();
      flushed = now;
    }
    const before = totals.dropped;
    recordTurn(loop);
    if (totals.dropped > before) tallyDrops(tally, totals.dropped - before);
    if (now - told > TALLY_MILLISECONDS * 1e6) {
      told = now;
      say({ kind: 'tally', tally, seconds: (now - start) / 1e9 });
    }
    const asked = Atomics.load(stop, 0);
    if (asked > 0) return STOP_REASONS[asked - 1];
    if (now - seen > ALIVE_MILLISECONDS * 1e6) {
      seen = now;
      if (!processAlive(data.pid)) return 'target exited';
    }
  }
}

async function record(data: RecorderWorkerData, say: (message: RecorderMessage) => void): Promise<void> {
  const libc = await loadLibc();
  const { ring, control, pid } = data;
  const reader = createEventQueueReader(
    new Uint8Array(libc.view(control, CONTROL_BUFFER_BYTES)),
    new Uint8Array(libc.view(ring.address, ring.entries * EVENT_ENTRY_BYTES_V2)),
    EVENT_ENTRY_BYTES_V2,
  );
  const tally = createLiveTally();
  const writer = createRecordingWriter(data.path, data.header, { overwrite: data.overwrite });
  try {
    for (const note of data.notes) writer.appendNote(note);
    const loop = createRecorderLoop({
      reader,
      writer,
      mappings: () => readManagedMappings(pid),
      processors: processorReader(libc, data.uvmFd, data.table),
      clock: () => libc.clockRaw(),
      flush: flusher(libc, data),
      observe: (entries) => tallyEntries(tally, entries),
    });
    say({ kind: 'ready' });
    const reason = drainUntilEnd(libc, data, loop, tally, say);
    endRecording(loop, reason);
    const { events, dropped, bytes } = writer.totals;
    say({ kind: 'end', reason, events, dropped, bytes, tally });
  } finally {
    writer.close();
  }
}

const port = parentPort;
if (port !== null) {
  port.on('message', (data: RecorderWorkerData) => {
    record(data, (message) => port.postMessage(message)).catch((error: Error) => {
      port.postMessage({ kind: 'failed', name: error.name, message: error.message } satisfies RecorderMessage);
    });
  });
}
