/**
 * The model's stand-in for the Linux kernel: its state, and the queue of timed events every actor runs through.
 *
 * Models no driver file; the driver (580.105.08) gets its interrupts, threads and timers from Linux. An event is a kind
 * and two numbers at a time in integer nanoseconds. Events run in the order of (time, seq): seq counts the calls of
 * `schedule`, so events of one time run first come, first served. The queue is a binary heap in typed arrays: no event
 * allocates, and all of it is plain data for `structuredClone`.
 */
import { assert } from '../../base/assert.ts';
import type { Model } from '../state.ts';
import type { LockContext, LockViolation } from './lock.ts';
import type { AddressSpace, Pin } from './mm.ts';
import type { KthreadQItem, KthreadQueue } from './nv_kthread_q.ts';
import type { ThreadState } from './thread.ts';

const INITIAL_CAPACITY = 64;

export interface Kernel {
  /** Local time of the actor that runs, ns. Goes back when an actor starts that is behind the one that ran last. */
  now: number;
  /** Time at which the running actor was last started, ns. Never goes back: nothing can be scheduled before it. */
  eventTime: number;
  /** Events scheduled so far: the tie-breaker of equal times. */
  seq: number;
  /** Heap of events; entries at and above heapSize are stale. */
  heapTime: Float64Array;
  heapSeq: Float64Array;
  heapKind: Int32Array;
  heapA: Float64Array;
  heapB: Float64Array;
  heapSize: number;
  /** By thread id (thread.ts). */
  threads: ThreadState[];
  /** Thread that runs, or NO_THREAD in an event handler, which stands for interrupt context. */
  currentThread: number;
  /** Locks held, by thread id + 1; the first one is interrupt context (lock.ts). */
  lockContexts: LockContext[];
  /** Latest breach of the locking rules, or null. */
  lockViolation: LockViolation | null;
  /** By queue and item index (nv_kthread_q.ts). */
  queues: KthreadQueue[];
  qItems: KthreadQItem[];
  /** First free slot of qItems, or -1. */
  qItemFree: number;
  /** Address spaces of processes, by number, and pinned memory, by slot (mm.ts). */
  addressSpaces: AddressSpace[];
  pins: Pin[];
  /** The number that the next frame without an address gets: negative. */
  nextFrame: number;
}

export function createKernel(): Kernel {
  return {
    now: 0,
    eventTime: 0,
    seq: 0,
    heapTime: new Float64Array(INITIAL_CAPACITY),
    heapSeq: new Float64Array(INITIAL_CAPACITY),
    heapKind: new Int32Array(INITIAL_CAPACITY),
    heapA: new Float64Array(INITIAL_CAPACITY),
    heapB: new Float64Array(INITIAL_CAPACITY),
    heapSize: 0,
    threads: [],
    currentThread: -1,
    lockContexts: [],
    lockViolation: null,
    queues: [],
    qItems: [],
    qItemFree: -1,
    addressSpaces: [],
    pins: [],
    nextFrame: -1,
  };
}

/**
 * Adds a handler and returns its event kind. Kinds are positions, and the events of a snapshot name them: the model
 * registers its handlers in one fixed order when it is created.
 */
export function registerHandler(m: Model, handler: (m: Model, a: number, b: number) => void): number {
  m.res.handlers.push(handler);
  return m.res.handlers.length - 1;
}

function grow(k: Kernel): void {
  const capacity = k.heapTime.length * 2;
  const time = new Float64Array(capacity);
  const seq = new Float64Array(capacity);
  const kind = new Int32Array(capacity);
  const a = new Float64Array(capacity);
  const b = new Float64Array(capacity);
  time.set(k.heapTime);
  seq.set(k.heapSeq);
  kind.set(k.heapKind);
  a.set(k.heapA);
  b.set(k.heapB);
  k.heapTime = time;
  k.heapSeq = seq;
  k.heapKind = kind;
  k.heapA = a;
  k.heapB = b;
}

function moveEntry(k: Kernel, to: number, from: number): void {
  k.heapTime[to] = k.heapTime[from];
  k.heapSeq[to] = k.heapSeq[from];
  k.heapKind[to] = k.heapKind[from];
  k.heapA[to] = k.heapA[from];
  k.heapB[to] = k.heapB[from];
}

function setEntry(k: Kernel, i: number, time: number, seq: number, kind: number, a: number, b: number): void {
  k.heapTime[i] = time;
  k.heapSeq[i] = seq;
  k.heapKind[i] = kind;
  k.heapA[i] = a;
  k.heapB[i] = b;
}

/**
 * Runs the handler of `kind` with (a, b) at `time` (ns). The time may lie before the caller's local time, but not
 * before the moment at which the caller was started: that part of the run is over.
 */
export function schedule(m: Model, time: number, kind: number, a: number, b: number): void {
  const k = m.k;
  assert(Number.isSafeInteger(time), 'event time is not a safe integer');
  assert(time >= k.eventTime, 'event time lies before the running event');
  assert(m.res.handlers[kind] !== undefined, 'event kind is not registered');
  if (k.heapSize === k.heapTime.length) grow(k);
  // Sift up. The new entry has the highest seq, so an equal time does not pass its parent.
  const heapTime = k.heapTime;
  let i = k.heapSize++;
  while (i > 0) {
    const parent = (i - 1) >>> 1;
    if (time >= heapTime[parent]) break;
    moveEntry(k, i, parent);
    i = parent;
  }
  setEntry(k, i, time, k.seq++, kind, a, b);
}

/** Time of the earliest event, ns; Infinity when there is none. */
export function nextEventTime(m: Model): number {
  return m.k.heapSize === 0 ? Number.POSITIVE_INFINITY : m.k.heapTime[0];
}

/** Takes the root out of a heap that is not empty. */
function removeFirst(k: Kernel): void {
  const size = --k.heapSize;
  if (size === 0) return;
  const heapTime = k.heapTime;
  const heapSeq = k.heapSeq;
  const time = heapTime[size];
  const seq = heapSeq[size];
  let i = 0;
  for (;;) {
    let child = 2 * i + 1;
    if (child >= size) break;
    const right = child + 1;
    if (
      right < size &&
      (heapTime[right] < heapTime[child] || (heapTime[right] === heapTime[child] && heapSeq[right] < heapSeq[child]))
    ) {
      child = right;
    }
    if (time < heapTime[child] || (time === heapTime[child] && seq < heapSeq[child])) break;
    moveEntry(k, i, child);
    i = child;
  }
  moveEntry(k, i, size);
}

/** Runs the earliest event; false when there is none. */
export function runNextEvent(m: Model): boolean {
  const k = m.k;
  if (k.heapSize === 0) return false;
  const time = k.heapTime[0];
  const kind = k.heapKind[0];
  const a = k.heapA[0];
  const b = k.heapB[0];
  removeFirst(k);
  k.now = time;
  k.eventTime = time;
  m.res.handlers[kind](m, a, b);
  return true;
}

/** Runs events until none is left. */
export function runUntilIdle(m: Model): void {
  while (runNextEvent(m));
}
