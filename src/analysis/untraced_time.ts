/** What a recorded program would have taken without the recorder: the recorded time, less what the model says. */
import { EVENT_GPU_FAULT, EVENT_REPLAY, type EventLog } from '../model/uvm/tools.ts';
import { CASE_EVENTS_MAX, createRecordingCase } from '../trace/recording_case.ts';
import { RecordingFileError } from '../trace/recording_file.ts';
import type { RecordingSurvey } from '../trace/recording_ranges.ts';
import { executeReplay } from './execute.ts';
import type { Machines } from './machines.ts';

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

/**
 * The prediction for a recording that took `recordedMicroseconds`, or why there is none. The recorded faults are
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
  recordedMicroseconds: number,
  machines: Machines,
  machine?: string,
): Promise<{ ok: true; time: UntracedTime } | { ok: false; why: string }> {
  const no = (why: string) => ({ ok: false, why }) as const;
  if (survey.events > CASE_EVENTS_MAX) return no('the recording has too many events to be replayed');
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
  for (const traced of [true, false]) {
    const executed = executeReplay(entry, machines, { traced });
    if (!executed.ok) return no(executed.error);
    const { batches, time } = batchTimes(executed.run.m.tools.log);
    times.push({ batches, gpuMicroseconds: time / 1000, cpuMicroseconds: (executed.cpuFaultTime ?? 0) / 1000 });
    notes = executed.notes;
    profile = executed.run.scenario.machine;
  }
  const [traced, untraced] = times;
  if (traced.batches === 0) return no('the recording has no GPU faults with a replay');
  const sum = ({ gpuMicroseconds, cpuMicroseconds }: ServiceTimes): number => gpuMicroseconds + cpuMicroseconds;
  const untracedMicroseconds = recordedMicroseconds - (sum(traced) - sum(untraced));
  if (untracedMicroseconds < sum(untraced)) return no("the model's service times do not fit into the recorded time");
  return { ok: true, time: { machine: profile, untracedMicroseconds, traced, untraced, notes } };
}
