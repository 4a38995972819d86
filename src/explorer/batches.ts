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

function room(count: number): Batches {
  return {
    count: 0,
    batch: new Int32Array(count),
    firstRow: new Uint32Array(count),
    faults: new Uint32Array(count),
    length: new Float64Array(count),
    replayed: new Uint8Array(count),
    replayRow: new Uint32Array(count),
  };
}

/** Rows of GPU faults at which a batch begins, by GPU (number of the word in `src`). */
function beginnings(trace: Trace): Map<number, number> {
  const { arrays: a, words, count } = trace.columns;
  const fault = words.kind.numbers.get('gpuFault') ?? -1;
  const last = new Map<number, number>();
  const counts = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    if (a.kind[i] !== fault) continue;
    if (last.get(a.src[i]) === a.batch[i]) continue;
    last.set(a.src[i], a.batch[i]);
    counts.set(a.src[i], (counts.get(a.src[i]) ?? 0) + 1);
  }
  return counts;
}

/**
 * Batches by GPU (number of the word in `src`). Faults of a batch follow each other; a replay names the last batch that
 * it covers, so it ends that one, and those before it that have no replay of their own.
 */
export function batchesOf(trace: Trace): Map<number, Batches> {
  const { arrays: a, words, count } = trace.columns;
  const fault = words.kind.numbers.get('gpuFault') ?? -1;
  const replay = words.kind.numbers.get('replay') ?? -1;
  const all = new Map([...beginnings(trace)].map(([src, n]) => [src, room(n)]));
  for (let i = 0; i < count; i++) {
    if (a.kind[i] !== fault) continue;
    const its = all.get(a.src[i]) as Batches;
    if (its.count > 0 && its.batch[its.count - 1] === a.batch[i]) {
      its.faults[its.count - 1]++;
      const row = its.firstRow[its.count - 1];
      if (a.gpuTime[i] < a.gpuTime[row]) its.firstRow[its.count - 1] = i;
      continue;
    }
    const at = its.count++;
    its.batch[at] = a.batch[i];
    its.firstRow[at] = i;
    its.replayRow[at] = i;
    its.faults[at] = 1;
  }
  const numbers = new Map([...all].map(([src, its]) => [src, byNumber(its)]));
  for (let i = 0; i < count; i++) {
    if (a.kind[i] !== replay) continue;
    const its = all.get(a.src[i]);
    const at = numbers.get(a.src[i])?.get(a.batch[i]);
    if (its === undefined || at === undefined) continue;
    for (let covered = at; covered >= 0 && (covered === at || its.replayed[covered] === 0); covered--) {
      const length = a.gpuTime[i] - a.gpuTime[its.firstRow[covered]];
      if (!(length >= its.length[covered])) continue;
      its.length[covered] = length;
      its.replayed[covered] = 1;
      its.replayRow[covered] = i;
    }
  }
  return all;
}

function byNumber(its: Batches): Map<number, number> {
  const numbers = new Map<number, number>();
  for (let i = 0; i < its.count; i++) numbers.set(its.batch[i], i);
  return numbers;
}
