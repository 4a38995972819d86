/** What a run did, in numbers: per step and in all. */
import type { UvmEvent } from '../trace/event.ts';

/** Migrations or remote mappings of one cause in one direction. */
export interface Flow {
  cause: string;
  src: string;
  dst: string;
  count: number;
  bytes: number;
}

export interface Tally {
  /** Predicted, microseconds. */
  wallMicroseconds: number;
  cpuFaults: number;
  gpuFaults: number;
  /** Batches of GPU faults. */
  batches: number;
  replays: number;
  /** In order of first occurrence. */
  migrations: Flow[];
  remoteMaps: Flow[];
  readDuplicates: number;
  readDuplicateInvalidations: number;
  thrashing: number;
  throttlings: number;
  fatalFaults: number;
  evictions: number;
}

export interface RunSummary {
  /** One for each step, in order. */
  steps: Tally[];
  total: Tally;
}

function emptyTally(): Tally {
  return {
    wallMicroseconds: 0,
    cpuFaults: 0,
    gpuFaults: 0,
    batches: 0,
    replays: 0,
    migrations: [],
    remoteMaps: [],
    readDuplicates: 0,
    readDuplicateInvalidations: 0,
    thrashing: 0,
    throttlings: 0,
    fatalFaults: 0,
    evictions: 0,
  };
}

function addFlow(flows: Flow[], cause: string, src: string, dst: string, count: number, bytes: number): void {
  // There are few causes and directions: a loop finds the one that it is.
  for (const flow of flows) {
    if (flow.cause === cause && flow.src === src && flow.dst === dst) {
      flow.count += count;
      flow.bytes += bytes;
      return;
    }
  }
  flows.push({ cause, src, dst, count, bytes });
}

function addEvent(tally: Tally, event: UvmEvent): void {
  switch (event.event) {
    case 'cpuFault':
      tally.cpuFaults++;
      return;
    case 'gpuFault':
      tally.gpuFaults++;
      return;
    case 'replay':
      tally.replays++;
      return;
    case 'migration':
      addFlow(tally.migrations, event.cause, event.src, event.dst, 1, event.bytes);
      return;
    case 'mapRemote':
      addFlow(tally.remoteMaps, event.cause, event.src, event.dst, 1, event.bytes);
      return;
    case 'readDuplicate':
      tally.readDuplicates++;
      return;
    case 'readDuplicateInvalidate':
      tally.readDuplicateInvalidations++;
      return;
    case 'thrashing':
      tally.thrashing++;
      return;
    case 'throttlingStart':
      tally.throttlings++;
      return;
    case 'throttlingEnd':
      return;
    case 'fatalFault':
      tally.fatalFaults++;
      return;
    case 'eviction':
      tally.evictions++;
      return;
  }
}

const NUMBERS = [
  'wallMicroseconds',
  'cpuFaults',
  'gpuFaults',
  'batches',
  'replays',
  'readDuplicates',
  'readDuplicateInvalidations',
  'thrashing',
  'throttlings',
  'fatalFaults',
  'evictions',
] as const satisfies readonly (keyof Tally)[];

/** The sum of some tallies. */
export function addTallies(tallies: Iterable<Tally>): Tally {
  const sum = emptyTally();
  for (const tally of tallies) {
    for (const name of NUMBERS) sum[name] += tally[name];
    for (const f of tally.migrations) addFlow(sum.migrations, f.cause, f.src, f.dst, f.count, f.bytes);
    for (const f of tally.remoteMaps) addFlow(sum.remoteMaps, f.cause, f.src, f.dst, f.count, f.bytes);
  }
  return sum;
}

/** Bytes that all of some flows moved. */
export function flowBytes(flows: readonly Flow[]): number {
  return flows.reduce((sum, flow) => sum + flow.bytes, 0);
}

/**
 * Counts a run's events by their steps. `wall` has the microseconds of each step and says how many there are; events
 * without a step (a recording that has none) count in the first.
 */
export function summarize(events: Iterable<UvmEvent>, wall: readonly number[]): RunSummary {
  const steps = wall.map((wallMicroseconds) => ({ ...emptyTally(), wallMicroseconds }));
  if (steps.length === 0) steps.push(emptyTally());
  const lastBatch = new Map<string, number>();
  for (const event of events) {
    const tally = steps[Math.min(event.step ?? 0, steps.length - 1)];
    addEvent(tally, event);
    if (event.event !== 'gpuFault') continue;
    if (lastBatch.get(event.gpu) !== event.batch) tally.batches++;
    lastBatch.set(event.gpu, event.batch);
  }
  return { steps, total: addTallies(steps) };
}
