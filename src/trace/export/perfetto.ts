/**
 * A trace as a native trace of Perfetto (https://perfetto.dev): track events in protobuf, for ui.perfetto.dev and its
 * trace processor. docs/perfetto.md says what is on which track and whose clock times are of.
 *
 * Packets are not in the order of time, which Perfetto does not ask for: each subject is written by itself, so that
 * nothing but numbers of rows is held. What ends and what begins at one time on a track does stand in that order.
 */
import type { Trace } from '../store/trace_events.ts';
import { createPerfettoExport } from './perfetto_export.ts';
import { exportBatches, exportInstants } from './perfetto_faults.ts';
import { exportMigrations, exportThrottling } from './perfetto_moves.ts';
import { exportPushes } from './perfetto_pushes.ts';
import { countUnknown, exportAbout, exportAllocations, exportSteps } from './perfetto_whole.ts';
import type { PerfettoCounts } from './perfetto_writer.ts';

export interface PerfettoSummary extends PerfettoCounts {
  flows: number;
  /** Rows that are not shown: without a time, or of an unknown kind. */
  leftOut: number;
  /** Slices without an end, or with one before their begin; they have no length. */
  shortened: number;
  /** ns added to all times, so that none is negative. */
  shift: number;
}

/**
 * Writes a trace, all of whose columns are loaded, to `sink` in chunks of about 1 MiB; a chunk is valid until `sink`
 * returns. Memory beyond the trace: about 40 bytes for each row of the most frequent kind.
 */
export function exportPerfetto(trace: Trace, sink: (chunk: Uint8Array) => void): PerfettoSummary {
  const x = createPerfettoExport(trace, sink);
  exportAbout(x);
  exportSteps(x);
  exportInstants(x);
  exportBatches(x);
  exportMigrations(x);
  exportThrottling(x);
  exportPushes(x);
  exportAllocations(x);
  x.writer.finish();
  const { leftOut, shortened, flows } = x.counts;
  return { ...x.writer.counts, flows, leftOut: leftOut + countUnknown(x), shortened, shift: x.shift };
}
