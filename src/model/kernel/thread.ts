/**
 * Kernel threads as generators; models what the driver (580.105.08) uses of Linux's kthreads: create, wake, stop, and
 * `current`. Priorities, CPUs and preemption are left out: a thread runs until it yields.
 *
 * What a thread yields says when it goes on:
 *   a time (ns)  not before that time; a time that has passed means at once
 *   BLOCKED      when it is woken
 *   PARKED       when it is woken, and it stands at its outermost wait
 *
 * A wake-up may be spurious, as in Linux: every wait is a loop around its condition. A wake-up is never lost: one that
 * finds the thread not blocked lets its next wait end at once.
 *
 * Generators cannot be copied, so a snapshot holds only the plain half of a thread (`m.k.threads`), and is taken only
 * while every thread is PARKED or has ended (`threadsAllBlocked`). Restoring is: create the model anew, which creates
 * the same threads in the same order and with them fresh generators, then put the snapshot's state in place. A fresh
 * generator runs from its first line when the thread is next woken. That is right because of the rule for whoever
 * yields PARKED: between its first line and that yield a thread changes nothing, and it looks at its condition before
 * it yields. The main loop of a queue (nv_kthread_q.ts) is the pattern: it starts at the down of its semaphore.
 */
import { assert } from '../../base/assert.ts';
import type { Model } from '../state.ts';
import { nextEventTime, registerHandler, schedule } from './clock.ts';
import { assertAllUnlocked } from './lock.ts';

/** Yielded: until woken. */
export const BLOCKED = -1;
/** Yielded: until woken; the thread is at its outermost wait and holds nothing. */
export const PARKED = -2;

/** `threadCurrent` outside of threads. */
export const NO_THREAD = -1;

/** Waits to be woken. */
export const THREAD_BLOCKED = 0;
/** Waits for a time, in the event heap. */
export const THREAD_READY = 1;
export const THREAD_RUNNING = 2;
export const THREAD_DONE = 3;

/** The plain half of a thread (task_struct). */
export interface ThreadState {
  name: string;
  status: number;
  /** Blocked by PARKED, or not started yet. */
  parked: boolean;
  /** A wake-up came while the thread was not blocked. */
  wakePending: boolean;
  /** Wake-ups on their way. */
  wakeEvents: number;
  /** The thread's local time when it blocked, ns. */
  blockedAt: number;
  /** Woken at least once. */
  started: boolean;
  /** kthread_should_stop */
  shouldStop: boolean;
  /** Threads that wait for this one to end. */
  joiners: number[];
}

/** The half that a snapshot leaves out. */
export interface KThreads {
  /** By thread id; null once the thread has ended. */
  generators: (Generator<number, void, void> | null)[];
  /** The event kind of this file. */
  kind: number;
}

/** Event argument b of a thread that yielded a time; other values are a wake-up's latency + 1. */
const RESUME = 0;

/** Sets up `m.res.threads` and registers the event handler; once, when the model is created. */
export function createThreads(m: Model): void {
  m.res.threads = { generators: [], kind: registerHandler(m, threadEvent) };
}

/**
 * Creates a thread that has not started: the first `threadWake` starts it (kthread_create). The id of a thread that has
 * ended is used again once no wake-up for it is left.
 */
export function threadCreateStopped(m: Model, name: string, generator: Generator<number, void, void>): number {
  const threads = m.k.threads;
  let id = 0;
  while (id < threads.length && (threads[id].status !== THREAD_DONE || threads[id].wakeEvents > 0)) id++;
  threads[id] = {
    name,
    status: THREAD_BLOCKED,
    parked: true,
    wakePending: false,
    wakeEvents: 0,
    blockedAt: m.k.now,
    started: false,
    shouldStop: false,
    joiners: [],
  };
  const generators = m.res.threads.generators;
  while (generators.length <= id) generators.push(null);
  generators[id] = generator;
  return id;
}

/** Creates a thread that starts at the caller's local time (kthread_run); returns its id. */
export function threadCreate(m: Model, name: string, generator: Generator<number, void, void>): number {
  const id = threadCreateStopped(m, name, generator);
  threadWake(m, id, m.k.now);
  return id;
}

/** The thread that runs, or NO_THREAD. */
export function threadCurrent(m: Model): number {
  return m.k.currentThread;
}

/**
 * Wakes a thread at `time` (ns, wake_up_process). If it is asleep at that time it goes on `latency` ns later; if it is
 * not, its next wait ends at once.
 */
export function threadWake(m: Model, thread: number, time: number, latency = 0): void {
  const state = m.k.threads[thread];
  assert(state !== undefined, 'wake-up of a thread that does not exist');
  assert(Number.isSafeInteger(latency) && latency >= 0, 'wake-up latency is not a whole number of nanoseconds');
  if (state.status === THREAD_DONE) return;
  const kind = m.res.threads.kind;
  state.started = true;
  state.wakeEvents++;
  // Local times differ: the thread may have blocked at a later time than this one, and does not sleep then.
  if (state.status === THREAD_BLOCKED && state.blockedAt > time) schedule(m, state.blockedAt, kind, thread, 1);
  else if (state.status === THREAD_BLOCKED) schedule(m, time + latency, kind, thread, 1);
  else schedule(m, time, kind, thread, latency + 1);
}

/** True when the thread has been asked to end (kthread_should_stop); asked about the running thread. */
export function threadShouldStop(m: Model): boolean {
  return m.k.threads[m.k.currentThread].shouldStop;
}

/**
 * Asks a thread to end, wakes it as `threadWake` does, and waits until it has ended (kthread_stop). A thread that was
 * never started ends without running. Runs in a thread.
 */
export function* threadStop(m: Model, thread: number, latency = 0): Generator<number, void, void> {
  const state = m.k.threads[thread];
  if (state.status === THREAD_DONE) return;
  if (!state.started) {
    threadDiscard(m, thread);
    return;
  }
  state.shouldStop = true;
  assert(m.k.currentThread !== NO_THREAD, 'only a thread can wait for a thread');
  state.joiners.push(m.k.currentThread);
  threadWake(m, thread, m.k.now, latency);
  while (state.status !== THREAD_DONE) yield BLOCKED;
}

/** Ends a thread that was created stopped and never woken (kthread_stop before the first wake-up). */
export function threadDiscard(m: Model, thread: number): void {
  const state = m.k.threads[thread];
  assert(!state.started, 'only a thread that was never woken can be discarded');
  state.status = THREAD_DONE;
  m.res.threads.generators[thread] = null;
}

/** The snapshot rule: every thread stands at its outermost wait or has ended. */
export function threadsAllBlocked(m: Model): boolean {
  for (const state of m.k.threads) {
    if (state.status === THREAD_DONE) continue;
    if (state.status !== THREAD_BLOCKED || !state.parked) return false;
  }
  return true;
}

function threadEnd(m: Model, id: number, state: ThreadState): void {
  if (m.res.verify) assertAllUnlocked(m);
  state.status = THREAD_DONE;
  m.res.threads.generators[id] = null;
  for (const joiner of state.joiners) threadWake(m, joiner, m.k.now);
}

/** Runs a thread from its local time until it waits for something that is not there yet. */
function threadRun(m: Model, id: number): void {
  const k = m.k;
  const state = k.threads[id];
  const generator = m.res.threads.generators[id];
  assert(generator !== null && generator !== undefined, 'thread has no generator');
  state.status = THREAD_RUNNING;
  k.currentThread = id;
  for (;;) {
    const step = generator.next();
    if (step.done === true) {
      threadEnd(m, id, state);
      break;
    }
    const until = step.value;
    if (until < 0) {
      assert(until === BLOCKED || until === PARKED, 'a thread yields a time, BLOCKED or PARKED');
      if (state.wakePending) {
        state.wakePending = false;
        continue;
      }
      state.status = THREAD_BLOCKED;
      state.parked = until === PARKED;
      state.blockedAt = k.now;
      break;
    }
    assert(Number.isSafeInteger(until), 'a thread waits for a time that is not a safe integer');
    const time = until > k.now ? until : k.now;
    if (time > nextEventTime(m)) {
      state.status = THREAD_READY;
      schedule(m, time, m.res.threads.kind, id, RESUME);
      break;
    }
    // Nothing comes before it: the thread goes on without passing through the heap.
    k.now = time;
    k.eventTime = time;
  }
  k.currentThread = NO_THREAD;
}

/** Handler of the one event kind: a = thread, b = RESUME or wake-up latency + 1. */
function threadEvent(m: Model, id: number, b: number): void {
  const state = m.k.threads[id];
  if (b === RESUME) {
    threadRun(m, id);
    return;
  }
  state.wakeEvents--;
  if (state.status === THREAD_BLOCKED) {
    const from = state.blockedAt > m.k.now ? state.blockedAt : m.k.now + b - 1;
    if (from === m.k.now) {
      threadRun(m, id);
    } else {
      state.wakeEvents++;
      schedule(m, from, m.res.threads.kind, id, 1);
    }
  } else if (state.status !== THREAD_DONE) {
    state.wakePending = true;
  }
}
