/**
 * The recorder's thread as it runs, from the built files, with a queue in plain memory in the place of the driver's: a
 * descriptor that is always readable stands for the tools file, and one that knows no ioctl for the VA space.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { packageRoot } from '../src/analysis/machines.ts';
import { createEventQueueWriter, type EventQueueWriter, enqueueEvent } from '../src/device/abi/event_queue.ts';
import { encodeEventV2 } from '../src/device/abi/events.ts';
import type { CallerMemory } from '../src/device/device.ts';
import { createLinuxDevice, type LinuxDevice } from '../src/device/linux/linux_device.ts';
import type { RecorderMessage, RecorderWorkerData } from '../src/live/record/recorder_protocol.ts';
import type { RecordingHeader } from '../src/trace/recording_file.ts';
import { readRecording } from '../src/trace/recording_file.ts';
import { itOnLinux } from './support/on_linux.ts';

const ENTRIES = 1024;
const HEADER: RecordingHeader = {
  format: 1,
  uvmlab: '0',
  driver: null,
  kernel: null,
  pid: process.pid,
  command: null,
  executable: null,
  processors: [{ number: 0, word: 'cpu', uuid: '' }],
  events: ['cpuFault'],
  ringEntries: ENTRIES,
  machine: null,
  parameters: {},
  attached: 'unknown',
  cpuClock: 'CLOCK_MONOTONIC_RAW',
};

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-thread-'));
let pool: typeof import('../src/live/worker_pool.ts');

interface Job {
  worker: Worker;
  writer: EventQueueWriter;
  stop: Int32Array;
  path: string;
  ended: Promise<RecorderMessage>;
  close(): Promise<void>;
}

beforeAll(async () => {
  pool = await import(pathToFileURL(join(packageRoot(), 'dist/live/worker_pool.js')).href);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Starts a job on the thread; resolves when it is ready, or has failed. */
async function start(name: string, pid = process.pid, path = join(folder, name)): Promise<Job> {
  const device: LinuxDevice = await createLinuxDevice();
  const [uvmFd, toolsFd] = [device.libc.open('/dev/null'), device.libc.open('/dev/zero')];
  const memories: CallerMemory[] = [];
  for (const bytes of [ENTRIES * 72, 4096, 8192]) memories.push(await device.allocate(Math.ceil(bytes / 4096) * 4096));
  const [ring, control, table] = memories;
  const stop = new SharedArrayBuffer(4);
  const worker = pool.takeWorker('recorder_worker');
  let ready = (): void => {};
  const begun = new Promise<void>((resolve) => {
    ready = resolve;
  });
  const ended = new Promise<RecorderMessage>((resolve) => {
    worker.on('message', (message: RecorderMessage) => {
      ready();
      if (message.kind === 'end' || message.kind === 'failed') {
        pool.giveWorkerBack('recorder_worker', worker);
        resolve(message);
      }
    });
  });
  worker.postMessage({
    path,
    overwrite: false,
    header: HEADER,
    notes: ['a note'],
    pid,
    uvmFd,
    toolsFd,
    ring: { address: ring.address, entries: ENTRIES },
    control: control.address,
    table: table.address,
    stop,
    flushMilliseconds: 1,
  } satisfies RecorderWorkerData);
  await begun;
  return {
    worker,
    writer: createEventQueueWriter(control.bytes(), ring.bytes().subarray(0, ENTRIES * 72), 72),
    stop: new Int32Array(stop),
    path,
    ended,
    close: async () => {
      device.libc.close(uvmFd);
      device.libc.close(toolsFd);
      for (const memory of memories) await memory.close();
    },
  };
}

/** The numbers of the CPU faults in a file, in order, and what else is in it. */
async function contents(path: string) {
  const numbers: number[] = [];
  let dropped = 0;
  let end: string | null = null;
  const notes: string[] = [];
  for await (const frame of readRecording(path)) {
    if (frame.kind === 'events') {
      const view = new DataView(frame.entries.buffer, frame.entries.byteOffset, frame.entries.length);
      for (let at = 0; at < frame.entries.length; at += 72) numbers.push(Number(view.getBigUint64(at + 16, true)));
    } else if (frame.kind === 'drops') for (const [, count] of frame.dropped) dropped += count;
    else if (frame.kind === 'end') end = frame.end.reason;
    else if (frame.kind === 'note') notes.push(frame.note.text);
  }
  return { numbers, dropped, end, notes };
}

const fault = (n: number) => encodeEventV2('cpuFault', { address: 0x7f0000000000n, timeStamp: BigInt(n) });
const pause = () => new Promise((resolve) => setTimeout(resolve, 1));

describe("the recorder's thread", () => {
  itOnLinux('writes all entries in order, many times around the ring, and ends when it is told to', async () => {
    const job = await start('all.uvmrec');
    const total = 50_000;
    for (let n = 0; n < total; ) {
      // Up to half of the ring, then as long as it takes until there is room again.
      for (const outer = Math.min(n + ENTRIES / 2, total); n < outer; n++) enqueueEvent(job.writer, fault(n));
      while (((job.writer.control[3] - Atomics.load(job.writer.control, 1)) & (ENTRIES - 1)) > 0) await pause();
    }
    Atomics.store(job.stop, 0, 2);
    expect(await job.ended).toMatchObject({ kind: 'end', reason: 'time', events: total, dropped: 0 });
    const found = await contents(job.path);
    expect(found.numbers).toEqual(Array.from({ length: total }, (_, n) => n));
    expect(found).toMatchObject({ dropped: 0, end: 'time', notes: ['a note'] });
    await job.close();
  });

  itOnLinux('counts what found the ring full', async () => {
    const job = await start('full.uvmrec');
    // Without a pause the thread cannot keep up with all of them: what is lost is counted, and nothing is counted twice.
    const total = 40_000;
    for (let n = 0; n < total; n++) enqueueEvent(job.writer, fault(n));
    Atomics.store(job.stop, 0, 1);
    const end = await job.ended;
    const { numbers, dropped } = await contents(job.path);
    expect(end).toMatchObject({ kind: 'end', reason: 'interrupted', events: numbers.length, dropped });
    expect(numbers.length + dropped).toBe(total);
    expect(numbers.every((n, i) => i === 0 || n > numbers[i - 1])).toBe(true);
    await job.close();
  });

  itOnLinux('ends by itself when the target is gone', async () => {
    const job = await start('gone.uvmrec', 2 ** 30);
    enqueueEvent(job.writer, fault(7));
    expect(await job.ended).toMatchObject({ kind: 'end', reason: 'target exited', events: 1 });
    expect((await contents(job.path)).numbers).toEqual([7]);
    await job.close();
  });

  itOnLinux('says what is wrong with the file, and takes the next job', async () => {
    const job = await start('none.uvmrec', process.pid, join(folder, 'no-such-folder', 'none.uvmrec'));
    expect(await job.ended).toMatchObject({ kind: 'failed', name: 'RecordingFileError' });
    await job.close();
    const next = await start('next.uvmrec');
    expect(next.worker).toBe(job.worker);
    Atomics.store(next.stop, 0, 2);
    expect(await next.ended).toMatchObject({ kind: 'end', events: 0 });
    await next.close();
  });
});
