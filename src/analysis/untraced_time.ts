/** What a recorded program would have taken without the recorder: the recorded time, less what the model says. */
import { PAGE_SIZE } from '../base/units.ts';
import {
  EVENT_CPU_FAULT,
  EVENT_GPU_FAULT,
  EVENT_MIGRATION,
  EVENT_REPLAY,
  type EventLog,
  TOOLS_MIGRATION_USER,
} from '../model/uvm/tools.ts';
import type { Run } from '../scenario/runner.ts';
import type { CaseLine } from '../trace/case_check.ts';
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

/** What an untraced driver needs for the faults of one allocation, by the replay; microseconds. */
export interface AllocationService {
  gpuMicroseconds: number;
  cpuMicroseconds: number;
}

function batchKey(log: EventLog, i: number): number {
  return log.src[i] * 2 ** 32 + log.batch[i];
}

/** The service time of each batch with a replay, by its key. */
function batchServices(log: EventLog): Map<number, number> {
  const firsts = new Map<number, number>();
  for (let i = 0; i < log.count; i++) {
    if (log.kind[i] !== EVENT_GPU_FAULT) continue;
    const key = batchKey(log, i);
    firsts.set(key, Math.min(firsts.get(key) ?? log.gpuTime[i], log.gpuTime[i]));
  }
  const services = new Map<number, number>();
  for (let i = 0; i < log.count; i++) {
    const first = log.kind[i] === EVENT_REPLAY ? firsts.get(batchKey(log, i)) : undefined;
    if (first === undefined) continue;
    const key = batchKey(log, i);
    services.set(key, Math.max(services.get(key) ?? 0, log.gpuTime[i] - first));
  }
  return services;
}

/** Batches with a replay, and the sum of their service times, in nanoseconds of the model's clock. */
export function batchTimes(log: EventLog): { batches: number; time: number } {
  const services = batchServices(log);
  let time = 0;
  for (const service of services.values()) time += service;
  return { batches: services.size, time };
}

/**
 * The service of a run by allocation: that of each batch divided by its faults, and `cpuFaultTime` nanoseconds by the
 * number of CPU faults.
 */
export function servicesByAllocation(run: Run, cpuFaultTime: number): Map<string, AllocationService> {
  const { log } = run.m.tools;
  const services = batchServices(log);
  const faults = new Map<number, number>();
  let cpuFaults = 0;
  for (let i = 0; i < log.count; i++) {
    if (log.kind[i] === EVENT_CPU_FAULT) cpuFaults++;
    if (log.kind[i] !== EVENT_GPU_FAULT) continue;
    faults.set(batchKey(log, i), (faults.get(batchKey(log, i)) ?? 0) + 1);
  }
  const out = new Map<string, AllocationService>();
  let last = run.scenario.allocations[0];
  for (let i = 0; i < log.count; i++) {
    const ofCpu = log.kind[i] === EVENT_CPU_FAULT;
    if (!ofCpu && log.kind[i] !== EVENT_GPU_FAULT) continue;
    const page = log.page[i];
    if (page < last.firstPage || page >= last.firstPage + last.pages) {
      last = run.scenario.allocations.find((a) => page >= a.firstPage && page < a.firstPage + a.pages) ?? last;
    }
    let its = out.get(last.name);
    if (its === undefined) {
      its = { gpuMicroseconds: 0, cpuMicroseconds: 0 };
      out.set(last.name, its);
    }
    if (ofCpu) its.cpuMicroseconds += cpuFaultTime / cpuFaults / 1000;
    else {
      const key = batchKey(log, i);
      its.gpuMicroseconds += (services.get(key) ?? 0) / (faults.get(key) as number) / 1000;
    }
  }
  return out;
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

export interface Untraced {
  ok: true;
  time: UntracedTime;
  /** By name of the allocation. */
  services: Map<string, AllocationService>;
}

/**
 * The prediction for recorded faults, or why there is none. They are replayed twice, with the costs of a traced driver
 * and with those of an untraced one. A replay is paced by the recorded times, so its own duration tells nothing; the
 * service of each batch (from the entry of its first fault to the last replay that names it) and of each CPU fault
 * (from the fault to its end) does. The difference of their sums is what tracing took, and the recorded time less that
 * is the prediction.
 *
 * It assumes that the program waited for each batch and CPU fault, one after another, and that tracing changed neither
 * the faults nor their batches. What tracing adds to copies that no fault asked for (prefetch calls) stays in.
 *
 * `recordedBytes` are those that faults moved in the recording.
 */
export function predictUntraced(
  entry: CaseLine,
  { durationMicroseconds, recordedBytes }: { durationMicroseconds: number; recordedBytes: number },
  machines: Machines,
): Untraced | { ok: false; why: string } {
  const no = (why: string) => ({ ok: false, why }) as const;
  const times: ServiceTimes[] = [];
  let notes: string[] = [];
  let profile = '';
  let replayed = 0;
  let services = new Map<string, AllocationService>();
  for (const traced of [true, false]) {
    const executed = executeReplay(entry, machines, { traced });
    if (!executed.ok) return no(executed.error);
    const { run, cpuFaultTime = 0 } = executed;
    const { batches, time } = batchTimes(run.m.tools.log);
    times.push({ batches, gpuMicroseconds: time / 1000, cpuMicroseconds: cpuFaultTime / 1000 });
    replayed = movedByFaults(run.m.tools.log);
    notes = executed.notes;
    profile = run.scenario.machine;
    if (!traced) services = servicesByAllocation(run, cpuFaultTime);
  }
  const [traced, untraced] = times;
  const sum = ({ gpuMicroseconds, cpuMicroseconds }: ServiceTimes): number => gpuMicroseconds + cpuMicroseconds;
  const untracedMicroseconds = durationMicroseconds - (sum(traced) - sum(untraced));
  if (untracedMicroseconds < sum(untraced)) return no("the model's service times do not fit into the recorded time");
  const movedAlike = Math.abs(recordedBytes - replayed) <= recordedBytes * MOVED_TOLERANCE;
  const moved = { recorded: recordedBytes, replayed };
  const time = { machine: profile, untracedMicroseconds, traced, untraced, moved, movedAlike, notes };
  return { ok: true, time, services };
}
