/**
 * Whether two histories are the same: for each recorded step and each kind of event the lists of identities are equal
 * in order, and on each GPU the faults come in batches of the same sizes. Order between kinds is not compared, since
 * the driver delivers migrations and replays late. Where the recorded events carry no `step`, all recorded steps are
 * one.
 */
import { EVENT_KINDS, type EventKind, type GpuFaultEvent, identity, sameIdentity, type UvmEvent } from './event.ts';

export interface CompareOptions {
  /** Events of earlier steps do not count, on either side. */
  recordedFromStep: number;
}

export interface Difference {
  /** Null where all recorded steps are compared as one. */
  step: number | null;
  kind: EventKind;
  /** What differs: the identities, or for gpuFault the sizes of a GPU's batches. */
  what: 'events' | 'batches';
  /** Place in the step's list of that kind, or of that GPU's batches. */
  index: number;
  /** The identity, or the batch size, on either side; null past the end of a list. */
  recorded: string | null;
  produced: string | null;
  message: string;
}

export interface Comparison {
  same: boolean;
  /** A thrashing or throttling event on either side: what happened hangs on how long things took. */
  timeDependent: boolean;
  /** Of the earliest step that differs; in it, of the first kind in the order of EVENT_KINDS, batches after faults. */
  firstDifference: Difference | null;
  /** Events that count, by kind; kinds that occur on neither side are absent. */
  counts: Partial<Record<EventKind, { recorded: number; produced: number }>>;
}

/** Lists of events by kind, in the order of EVENT_KINDS. */
type Lists = UvmEvent[][];

/** The one key where all steps count as one. */
const ALL_STEPS = -1;
const NO_EVENTS: readonly UvmEvent[] = [];

function isTimeDependent(events: readonly UvmEvent[]): boolean {
  return events.some((e) => e.event === 'thrashing' || e.event === 'throttlingStart' || e.event === 'throttlingEnd');
}

function byStep(events: readonly UvmEvent[], fromStep: number, perStep: boolean): Map<number, Lists> {
  const steps = new Map<number, Lists>();
  for (const event of events) {
    if (event.step !== undefined && event.step < fromStep) continue;
    const key = perStep ? (event.step ?? ALL_STEPS) : ALL_STEPS;
    let lists = steps.get(key);
    if (lists === undefined) {
      lists = EVENT_KINDS.map(() => []);
      steps.set(key, lists);
    }
    lists[EVENT_KINDS.indexOf(event.event)].push(event);
  }
  return steps;
}

/** Sizes of the runs of one batch among the faults of one GPU. */
function batchSizes(faults: readonly UvmEvent[], gpu: string): number[] {
  const sizes: number[] = [];
  let batch: number | undefined;
  for (const fault of faults as readonly GpuFaultEvent[]) {
    if (fault.gpu !== gpu) continue;
    if (sizes.length > 0 && fault.batch === batch) sizes[sizes.length - 1] += 1;
    else sizes.push(1);
    batch = fault.batch;
  }
  return sizes;
}

/** The first index at which two lists differ, or -1. */
function firstUnequal(a: number, b: number, equal: (i: number) => boolean): number {
  const both = Math.min(a, b);
  for (let i = 0; i < both; i++) if (!equal(i)) return i;
  return a === b ? -1 : both;
}

function difference(
  step: number | null,
  kind: EventKind,
  gpu: string | null,
  index: number,
  recorded: string | null,
  produced: string | null,
): Difference {
  const where = step === null ? '' : `step ${step}, `;
  const thing = gpu === null ? `${kind} ${index}` : `size of batch ${index} of ${gpu}`;
  const message = `${where}${thing}: recorded ${recorded ?? 'nothing'}, produced ${produced ?? 'nothing'}`;
  return { step, kind, what: gpu === null ? 'events' : 'batches', index, recorded, produced, message };
}

function compareBatches(step: number | null, r: readonly UvmEvent[], p: readonly UvmEvent[]): Difference | null {
  const gpus = [...new Set((r as readonly GpuFaultEvent[]).map((e) => e.gpu))].sort();
  for (const gpu of gpus) {
    const a = batchSizes(r, gpu);
    const b = batchSizes(p, gpu);
    const i = firstUnequal(a.length, b.length, (k) => a[k] === b[k]);
    if (i >= 0) {
      const text = (sizes: number[]): string | null => (i < sizes.length ? String(sizes[i]) : null);
      return difference(step, 'gpuFault', gpu, i, text(a), text(b));
    }
  }
  return null;
}

function compareKind(
  step: number | null,
  kind: EventKind,
  r: readonly UvmEvent[],
  p: readonly UvmEvent[],
  withBuffer: boolean,
): Difference | null {
  const i = firstUnequal(r.length, p.length, (k) => sameIdentity(r[k], p[k], withBuffer));
  if (i >= 0) {
    const text = (list: readonly UvmEvent[]): string | null => (i < list.length ? identity(list[i]) : null);
    return difference(step, kind, null, i, text(r), text(p));
  }
  return kind === 'gpuFault' ? compareBatches(step, r, p) : null;
}

/**
 * Compares a recording with what a run produced. Evictions are compared only where the recording has some: hardware
 * never records them (their migrations it does). Buffers are compared only where the recording names them.
 */
export function compareEvents(
  recorded: readonly UvmEvent[],
  produced: readonly UvmEvent[],
  options: CompareOptions,
): Comparison {
  const perStep = recorded.every((e) => e.step !== undefined);
  const withBuffer = recorded.some((e) => e.event !== 'replay' && e.buffer !== undefined);
  const withEvictions = recorded.some((e) => e.event === 'eviction');
  const r = byStep(recorded, options.recordedFromStep, perStep);
  const p = byStep(produced, options.recordedFromStep, perStep);
  const counts: Comparison['counts'] = {};
  let firstDifference: Difference | null = null;
  for (const key of [...new Set([...r.keys(), ...p.keys()])].sort((a, b) => a - b)) {
    for (const [k, kind] of EVENT_KINDS.entries()) {
      if (kind === 'eviction' && !withEvictions) continue;
      const a = r.get(key)?.[k] ?? NO_EVENTS;
      const b = p.get(key)?.[k] ?? NO_EVENTS;
      if (a.length + b.length === 0) continue;
      counts[kind] ??= { recorded: 0, produced: 0 };
      counts[kind].recorded += a.length;
      counts[kind].produced += b.length;
      firstDifference ??= compareKind(key === ALL_STEPS ? null : key, kind, a, b, withBuffer);
    }
  }
  const timeDependent = isTimeDependent(recorded) || isTimeDependent(produced);
  return { same: firstDifference === null, timeDependent, firstDifference, counts };
}
