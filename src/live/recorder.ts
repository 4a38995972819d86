/**
 * Recording the VA space of a process: the queue's memory, its tools file and the thread that drains it
 * (recorder_worker.ts). The file is append-only: what the thread has written survives whatever happens to this process.
 */
import { release } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { LiveTally } from '../analysis/live_tally.ts';
import { packageVersion } from '../analysis/machines.ts';
import { type EventTypeName, RECORDED_EVENTS } from '../device/abi/events.ts';
import { AttachError, type Attachment, PROCESSOR_TABLE_BYTES } from '../device/attach.ts';
import { type CallerMemory, IoctlError } from '../device/device.ts';
import { closeEventSource, type EventSource, enableEvents, openEventSource } from '../device/event_source.ts';
import type { LinuxDevice } from '../device/linux/linux_device.ts';
import { driverVersion, processCommand, uvmParameters } from '../device/linux/proc.ts';
import { type EndReason, RecordingFileError, type RecordingHeader } from '../trace/recording_file.ts';
import { namedGpus } from './processor_names.ts';
import { type RecorderMessage, type RecorderWorkerData, STOP_REASONS } from './recorder_protocol.ts';

/** Entries of the ring when the user does not say: 18 MiB, a third of a second at the hardware's highest rate. */
export const RING_ENTRIES_DEFAULT = 2 ** 18;
const FLUSH_MILLISECONDS = 100;

export interface RecorderOptions {
  path: string;
  overwrite?: boolean;
  events?: readonly EventTypeName[];
  /** A power of two. */
  ringEntries?: number;
  /** The command line that was started, where one was. */
  command?: readonly string[];
  attached: RecordingHeader['attached'];
  notes?: readonly string[];
  /** Called twice a second with the totals so far. */
  onTally?: (tally: LiveTally, seconds: number) => void;
}

/** How a recording ended. */
export interface RecorderEnd {
  reason: EndReason;
  events: number;
  dropped: number;
  bytes: number;
  tally: LiveTally;
}

export interface Recorder {
  readonly header: RecordingHeader;
  /** Asks for the end; `done` follows. */
  stop(reason: 'interrupted' | 'time' | 'target exited'): void;
  /** Rejects when the thread failed; the file is then whole up to what it says it could write. */
  readonly done: Promise<RecorderEnd>;
}

/** What a recording of a process begins with. */
export function recordingHeader(pid: number, attachment: Attachment, options: RecorderOptions): RecordingHeader {
  const command = options.command ?? processCommand(pid);
  return {
    format: 1,
    uvmlab: packageVersion(),
    driver: driverVersion(),
    kernel: release(),
    pid,
    command: command === null ? null : [...command],
    executable: processCommand(pid)?.[0] ?? null,
    processors: namedGpus(attachment.processors),
    events: [...(options.events ?? RECORDED_EVENTS)],
    ringEntries: options.ringEntries ?? RING_ENTRIES_DEFAULT,
    machine: null,
    parameters: uvmParameters(),
    attached: options.attached,
    cpuClock: 'CLOCK_MONOTONIC_RAW',
  };
}

function startWorker(data: RecorderWorkerData): Worker {
  return new Worker(new URL('./recorder_worker.js', import.meta.url), { workerData: data });
}

/** Settles with the thread's first word; everything after it goes to `listen`. */
function whenReady(worker: Worker, listen: (message: RecorderMessage) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.on('error', reject);
    worker.on('message', (message: RecorderMessage) => {
      if (message.kind === 'ready') resolve();
      else if (message.kind === 'failed') reject(failure(message));
      listen(message);
    });
  });
}

function failure({ name, message }: { name: string; message: string }): Error {
  return name === 'RecordingFileError'
    ? new RecordingFileError(message)
    : new Error(`the recorder's thread: ${message}`);
}

/** The queue and the memory of a recording; the attachment is closed when there is none. */
async function openQueue(
  device: LinuxDevice,
  attachment: Attachment,
  entries: number,
): Promise<{ source: EventSource; table: CallerMemory }> {
  let table: CallerMemory | null = null;
  try {
    table = await device.allocate(PROCESSOR_TABLE_BYTES);
    const threshold = Math.max(1, entries / 8);
    return { source: await openEventSource(device, attachment.uvm, { entries, threshold }), table };
  } catch (error) {
    await table?.close();
    await device.close(attachment.uvm);
    if (!(error instanceof IoctlError)) throw error;
    throw new AttachError(
      `${error.message}: driver ${driverVersion() ?? 'of an unknown version'} does not give events as those do that ` +
        'uvmlab knows (580, and by its source 595)',
    );
  }
}

/**
 * Begins to record what process `pid` does in the VA space of `attachment`, which the recorder closes at the end. The
 * events are on when this returns. Throws RecordingFileError, IoctlError, RangeError; nothing is left behind then.
 */
export async function startRecorder(
  device: LinuxDevice,
  pid: number,
  attachment: Attachment,
  options: RecorderOptions,
): Promise<Recorder> {
  const entries = options.ringEntries ?? RING_ENTRIES_DEFAULT;
  const { source, table } = await openQueue(device, attachment, entries);
  const stop = new SharedArrayBuffer(4);
  const header = recordingHeader(pid, attachment, options);
  const worker = startWorker({
    path: options.path,
    overwrite: options.overwrite ?? false,
    header,
    notes: [...(options.notes ?? [])],
    pid,
    uvmFd: attachment.uvm.fd,
    toolsFd: source.tools.fd,
    ring: { address: source.memory[0].address, entries },
    control: source.memory[1].address,
    table: table.address,
    stop,
    flushMilliseconds: FLUSH_MILLISECONDS,
  });
  let end: RecorderEnd | null = null;
  let failed: Error | null = null;
  worker.on('error', (error) => {
    failed = error;
  });
  // The thread reads the ring until it has ended, so memory goes back after that.
  const exited = new Promise<void>((resolve) => {
    worker.once('exit', () => resolve());
  }).then(async () => {
    await closeEventSource(source);
    await table.close();
    await device.close(attachment.uvm);
  });
  try {
    await whenReady(worker, (message) => {
      if (message.kind === 'tally') options.onTally?.(message.tally, message.seconds);
      else if (message.kind === 'end') end = message;
      else if (message.kind === 'failed') failed = failure(message);
    });
    await enableEvents(source, header.events as EventTypeName[]);
  } catch (error) {
    await worker.terminate();
    await exited;
    throw error;
  }
  return {
    header,
    stop: (reason) => {
      Atomics.store(new Int32Array(stop), 0, STOP_REASONS.indexOf(reason) + 1);
    },
    done: exited.then(() => {
      if (failed !== null) throw failed;
      if (end === null) throw new Error("the recorder's thread ended without a word");
      return end;
    }),
  };
}
