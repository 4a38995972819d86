/** Batches of GPU faults: which faults came in one, and which replay covered them. */
import type { Trace } from '../trace/store/trace_events.ts';

/** Batches of one GPU, in the order of their first fault. */
export interface Batches {
  count: number;
  batch: Int32Array;
  firstRow: Uint32Array;
  faults: Uint32Array;
  /** From the first fault's entry to the last replay that names the batch, ns of the GPU's clock; 0 without one. */
  length: Float64Array;
  replayed: Uint8Array;
  /** Row of that replay; the first fault's where there is none. */
  replayRow: Uint32Array;
}

function createBatches(capacity: number): Batches {
  return {
    count: 0,
    batch: new Int32Array(capacity),
    firstRow: new Uint32Array(capacity),
    faults: new Uint32Array(capacity),
    length: new Float64Array(capacity),
    replayed: new Uint8Array(capacity),
    replayRow: new Uint32Array(capacity),
  };
}

/** A new batch that begins with the fault of a row. */
function addBatch(its: Batches, batch: number, row: number): void {
  const at = its.count++;
  if (at === its.batch.length) {
    const wider = createBatches(Math.max(64, at * 2));
    for (const key of ['batch', 'firstRow', 'faults'] as const) {
      wider[key].set(its[key]);
      (its as unknown as Record<string, unknown>)[key] = wider[key];
    }
    // Nothing has been written to those yet.
    its.length = wider.length;
    its.replayed = wider.replayed;
    its.replayRow = wider.replayRow;
  }
  its.batch[at] = batch;
  its.firstRow[at] = row;
  its.faults[at] = 1;
}

/** Gives the batches that a replay covers their end: the one that it names, and those before it without a replay. */
function addReplay({ columns }: Trace, its: Batches, at: number, row: number): void {
  const { gpuTime } = columns.arrays;
  for (let covered = at; covered >= 0 && (covered === at || its.replayed[covered] === 0); covered--) {
    const length = gpuTime[row] - gpuTime[its.firstRow[covered]];
    if (!(length >= its.length[covered])) break;
    its.length[covered] = length;
    its.replayed[covered] = 1;
    its.replayRow[covered] = row;
  }
}

/**
 * Batches by GPU (number of the word in `src`). Faults of a batch follow each other; a replay names the last batch that
 * it covers, so it ends that one, and those before it that have no replay of their own.
 */
export function batchesOf(trace: Trace): Map<number, Batches> {
  const { arrays: a, words, count } = trace.columns;
  const fault = words.kind.numbers.get('gpuFault') ?? -1;
  const replay = words.kind.numbers.get('replay') ?? -1;
  const all = words.src.list.map(() => createBatches(0));
  const { kind, src, batch, gpuTime } = a;
  for (let i = 0; i < count; i++) {
    if (kind[i] !== fault) continue;
    const its = all[src[i]];
    const at = its.count - 1;
    if (at < 0 || its.batch[at] !== batch[i]) addBatch(its, batch[i], i);
    else {
      its.faults[at]++;
      if (gpuTime[i] < gpuTime[its.firstRow[at]]) its.firstRow[at] = i;
    }
  }
  for (const its of all) its.replayRow.set(its.firstRow);
  const finders = all.map(batchFinder);
  for (let i = 0; i < count; i++) {
    if (a.kind[i] !== replay) continue;
    const at = finders[a.src[i]](a.batch[i]);
    if (at >= 0) addReplay(trace, all[a.src[i]], at, i);
  }
  return new Map([...all.entries()].filter(([, its]) => its.count > 0));
}

/** The position of a batch by its number, the last one of several; -1 for none. */
export function batchFinder(its: Batches): (batch: number) => number {
  let ascending = true;
  for (let i = 1; i < its.count && ascending; i++) ascending = its.batch[i] > its.batch[i - 1];
  if (!ascending) {
    const numbers = new Map<number, number>();
    for (let i = 0; i < its.count; i++) numbers.set(its.batch[i], i);
    return (batch) => numbers.get(batch) ?? -1;
  }
  return (batch) => {
    let low = 0;
    let high = its.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (its.batch[middle] < batch) low = middle + 1;
      else high = middle;
    }
    return low < its.count && its.batch[low] === batch ? low : -1;
  };
}
