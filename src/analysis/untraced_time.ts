/** What a recorded program would have taken without the recorder: the recorded time, less what the model says. */
import { PAGE_SIZE } from '../base/units.ts';
import {
  EVENT_GPU_FAULT,
  EVENT_MIGRATION,
  EVENT_REPLAY,
  type EventLog,
  TOOLS_MIGRATION_USER,
} from '../model/uvm/tools.ts';
import { CASE_EVENTS_MAX, createRecordingCase } from '../trace/recording_case.ts';
import { RecordingFileError } from '../trace/recording_file.ts';
import type { RecordingSurvey } from '../trace/recording_ranges.ts';
import { executeReplay } from './execute.ts';
import type { Machines } from './machines.ts';
import type { RecordingReport } from './recording_report.ts';
import { flowBytes } from './summary.ts';

export interface ServiceTimes {
  /** Batches with a replay, and the sum of their times from the first fault's entry to the replay. */
  batches: number;
  gpuMicroseconds: number;
  cpuMicroseconds: number;
}

/** Predicted by the model; microseconds. */
export interface UntracedTime {
  machine: string;
  /** The recorded time less the difference of the two below. */
  untracedMicroseconds: number;
  /** What the service of the recorded faults takes a traced and an untraced driver. */
  traced: ServiceTimes;
  untraced: ServiceTimes;
  /** Bytes that faults moved: recorded, and in the replay. */
  moved: { recorded: number; replayed: number };
  /**
   * The replay moved what the recording did, within a twentieth. Where it moved less (it knows neither of prefetch
   * calls nor of what was before the recording, so pages are where the faults want them), tracing took more than was
   * found, and the prediction is too long.
   */
  movedAlike: boolean;
  notes: string[];
}

/** Batches with a replay, and the sum of their service times, in nanoseconds of the model's clock. */
export function batchTimes(log: EventLog): { batches: number; time: number } {
  const key = (i: number): number => log.src[i] * 2 ** 32 + log.batch[i];
  const firsts = new Map<number, number>();
  for (let i = 0; i < log.count; i++) {
    if (log.kind[i] !== EVENT_GPU_FAULT) continue;
    firsts.set(key(i), Math.min(firsts.get(key(i)) ?? log.gpuTime[i], log.gpuTime[i]));
  }
  const lasts = new Map<number, number>();
  for (let i = 0; i < log.count; i++) {
    if (log.kind[i] !== EVENT_REPLAY || !firsts.has(key(i))) continue;
    lasts.set(key(i), Math.max(lasts.get(key(i)) ?? log.gpuTime[i], log.gpuTime[i]));
  }
  let time = 0;
  for (const [batch, last] of lasts) time += last - (firsts.get(batch) as number);
  return { batches: lasts.size, time };
}

/** Bytes that the log's faults moved, prefetched ones with them. */
function movedByFaults(log: EventLog): number {
  let pages = 0;
  for (let i = 0; i < log.count; i++) {
    if (log.kind[i] === EVENT_MIGRATION && log.a[i] !== TOOLS_MIGRATION_USER) pages += log.pages[i];
  }
  return pages * PAGE_SIZE;
}

/** How far the replayed bytes may be from the recorded ones, as a share. */
const MOVED_TOLERANCE = 0.05;

/**
 * The prediction for a recording of which `report` tells, or why there is none. The recorded faults are
 * replayed twice, with the costs of a traced driver and with those of an untraced one. A replay is paced by the
 * recorded times, so its own duration tells nothing; the service of each batch (from the entry of its first fault to
 * the last replay that names it) and of each CPU fault (from the fault to its end) does. The difference of their sums
 * is what tracing took, and the recorded time less that is the prediction.
 *
 * It assumes that the program waited for each batch and CPU fault, one after another, and that tracing changed neither
 * the faults nor their batches. What tracing adds to copies that no fault asked for (prefetch calls) stays in.
 *
 * Throws RecordingFileError for a file that cannot be read, and for a `machine` that there is not.
 */
export async function predictUntraced(
  survey: RecordingSurvey,
  report: RecordingReport,
  machines: Machines,
  machine?: string,
): Promise<{ ok: true; time: UntracedTime } | { ok: false; why: string }> {
  const { durationMicroseconds, migrations, batches: recordedBatches } = report;
  const no = (why: string) => ({ ok: false, why }) as const;
  if (survey.events > CASE_EVENTS_MAX) return no('the recording has too many events to be replayed');
  if (recordedBatches.count === 0) return no('the recording has no GPU faults');
  let entry: Awaited<ReturnType<typeof createRecordingCase>>;
  try {
    entry = await createRecordingCase(survey.path, { machine, machines: machines.known });
  } catch (error) {
    if (machine !== undefined || !(error instanceof RecordingFileError)) throw error;
    return no(error.message);
  }
  const times: ServiceTimes[] = [];
  let notes: string[] = [];
  let profile = '';
  const recorded = flowBytes(migrations.filter(({ cause }) => cause !== 'user'));
  let replayed = 0;
  for (const traced of [true, false]) {
    const executed = executeReplay(entry, machines, { traced });
    if (!executed.ok) return no(executed.error);
    const { batches, time } = batchTimes(executed.run.m.tools.log);
    times.push({ batches, gpuMicroseconds: time / 1000, cpuMicroseconds: (executed.cpuFaultTime ?? 0) / 1000 });
    replayed = movedByFaults(executed.run.m.tools.log);
    notes = executed.notes;
    profile = executed.run.scenario.machine;
  }
  const [traced, untraced] = times;
  const sum = ({ gpuMicroseconds, cpuMicroseconds }: ServiceTimes): number => gpuMicroseconds + cpuMicroseconds;
  const untracedMicroseconds = durationMicroseconds - (sum(traced) - sum(untraced));
  if (untracedMicroseconds < sum(untraced)) return no("the model's service times do not fit into the recorded time");
  const movedAlike = Math.abs(recorded - replayed) <= recorded * MOVED_TOLERANCE;
  const moved = { recorded, replayed };
  return { ok: true, time: { machine: profile, untracedMicroseconds, traced, untraced, moved, movedAlike, notes } };
}
