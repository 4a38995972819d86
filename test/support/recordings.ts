/** Recordings made by hand, for tests: a header, and entries by the words of their fields. */
import { type EventTypeName, encodeEventV2 } from '../../src/device/abi/events.ts';
import { createRecordingWriter, type RecordingHeader, type RecordingWriter } from '../../src/trace/recording_file.ts';

export const GPU0 = 1;
export const GPU1 = 9;

export function recordingHeader(changes: Partial<RecordingHeader> = {}): RecordingHeader {
  return {
    format: 1,
    uvmlab: '1.0.0',
    driver: '580.105.08',
    kernel: '6.8.0',
    pid: 4711,
    command: ['./a.out', 'x'],
    executable: '/tmp/a.out',
    processors: [
      { number: 0, word: 'cpu', uuid: 'CPU' },
      { number: GPU0, word: 'gpu0', uuid: 'GPU-0', name: 'NVIDIA H200' },
    ],
    events: ['cpuFault', 'migration', 'gpuFault', 'replay'],
    ringEntries: 1024,
    machine: 'h200-pcie5',
    parameters: {},
    attached: 'before the first managed allocation',
    cpuClock: 'CLOCK_MONOTONIC_RAW',
    ...changes,
  };
}

type Entry<T extends EventTypeName> = Parameters<typeof encodeEventV2<T>>[1];

/** Some entries, one after another. */
export function entries(...list: Uint8Array[]): Uint8Array {
  return Buffer.concat(list);
}

export function entry<T extends EventTypeName>(name: T, values: Entry<T>): Uint8Array {
  return encodeEventV2(name, values);
}

/** The range from `start` on, of `bytes` bytes, as a maps frame has it. */
export function range(start: number, bytes: number): { start: string; end: string } {
  return { start: start.toString(16), end: (start + bytes).toString(16) };
}

/** Writes a whole recording. */
export function writeRecording(
  path: string,
  write: (writer: RecordingWriter) => void,
  changes: Partial<RecordingHeader> = {},
): void {
  const writer = createRecordingWriter(path, recordingHeader(changes), { overwrite: true });
  write(writer);
  writer.end('target exited');
  writer.close();
}
