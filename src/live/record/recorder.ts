/**
 * Recording the VA space of a process: the queue's memory, its tools file and the thread that drains it
 * (recorder_worker.ts). The file is append-only: what the thread has written survives whatever happens to this process.
 */
import { release } from 'node:os';
import type { Worker } from 'node:worker_threads';
import type { LiveTally } from '../../analysis/live_tally.ts';
import { packageVersion } from '../../analysis/machines.ts';
import { type EventTypeName, RECORDED_EVENTS } from '../../device/abi/events.ts';
import { AttachError, type Attachment, PROCESSOR_TABLE_BYTES } from '../../device/attach.ts';
import { type CallerMemory, IoctlError } from '../../device/device.ts';
import { closeEventSource, type EventSource, enableEvents, openEventSource } from '../../device/event_source.ts';
import type { LinuxDevice } from '../../device/linux/linux_device.ts';
import { driverVersion, processCommand, uvmParameters } from '../../device/linux/proc.ts';
import { type EndReason, RecordingFileError, type RecordingHeader } from '../../trace/recording_file.ts';
import { giveWorkerBack, takeWorker } from '../worker_pool.ts';
import { namedGpus } from './processor_names.ts';
import { type RecorderMessage, type RecorderWorkerData, STOP_REASONS, type StopReason } from './recorder_protocol.ts';

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
  stop(reason: StopReason): void;
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

function failure({ name, message }: { name: string; message: string }): Error {
  return name === 'RecordingFileError'
    ? new RecordingFileError(message)
    : new Error(`the recorder's thread: ${message}`);
}

/** What a thread says of its job: that it has begun, and how it ended. It goes back to the pool then. */
function listen(
  worker: Worker,
  onTally: RecorderOptions['onTally'],
): { ready: Promise<void>; ended: Promise<RecorderEnd> } {
  let begun = (): void => {};
  let failed = (_error: Error): void => {};
  const ready = new Promise<void>((resolve, reject) => {
    begun = resolve;
    failed = reject;
  });
  ready.catch(() => {});
  const ended = new Promise<RecorderEnd>((resolve, reject) => {
    const fail = (error: Error): void => {
      failed(error);
      reject(error);
    };
    worker.on('error', fail);
    worker.once('exit', () => fail(new Error("the recorder's thread ended without a word")));
    worker.on('message', (message: RecorderMessage) => {
      if (message.kind === 'ready') begun();
      else if (message.kind === 'tally') onTally?.(message.tally, message.seconds);
      else {
        giveWorkerBack('recorder_worker', worker);
        if (message.kind === 'failed') fail(failure(message));
        else resolve(message);
      }
    });
  });
  return { ready, ended };
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
  const worker = takeWorker('recorder_worker');
  const job = listen(worker, options.onTally);
  // The thread reads the ring until it has ended its job, so memory goes back after that.
  const done = job.ended.finally(async () => {
    await closeEventSource(source);
    await table.close();
    await device.close(attachment.uvm);
  });
  // Who waits for it comes later.
  done.catch(() => {});
  worker.postMessage({
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
  } satisfies RecorderWorkerData);
  const ask = (reason: StopReason): void => {
    Atomics.store(new Int32Array(stop), 0, STOP_REASONS.indexOf(reason) + 1);
  };
  try {
    await job.ready;
    await enableEvents(source, header.events as EventTypeName[]);
  } catch (error) {
    ask('interrupted');
    await done.catch(() => {});
    throw error;
  }
  return { header, stop: ask, done };
}
