/** What the recorder's thread and its main thread say to each other. */
import type { LiveTally } from '../../analysis/live_tally.ts';
import type { EndReason, RecordingHeader } from '../../trace/recording_file.ts';

/** What the main thread hands over. */
export interface RecorderWorkerData {
  path: string;
  overwrite: boolean;
  header: RecordingHeader;
  notes: string[];
  pid: number;
  uvmFd: number;
  toolsFd: number;
  ring: { address: bigint; entries: number };
  control: bigint;
  /** Memory for the table of processors, PROCESSOR_TABLE_BYTES. */
  table: bigint;
  /** Word 0: 0 go on, else the index of an end reason, plus one. */
  stop: SharedArrayBuffer;
  flushMilliseconds: number;
}

/** What it says. */
export type RecorderMessage =
  | { kind: 'ready' }
  | { kind: 'tally'; tally: LiveTally; seconds: number }
  | { kind: 'end'; reason: EndReason; events: number; dropped: number; bytes: number; tally: LiveTally }
  | { kind: 'failed'; name: string; message: string };

/** Reasons that the main thread may give. */
export const STOP_REASONS = ['interrupted', 'time', 'target exited'] as const satisfies readonly EndReason[];
export type StopReason = (typeof STOP_REASONS)[number];
