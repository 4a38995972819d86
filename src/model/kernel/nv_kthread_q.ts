/**
 * Models nv-kthread-q.c (driver 580.105.08), whole: a first-in, first-out queue of work items that one kernel thread
 * serves. All bottom halves of a GPU share one such queue.
 *
 * Modelled: nv_kthread_q_init, nv_kthread_q_init_on_node, nv_kthread_q_item_init, nv_kthread_q_schedule_q_item,
 * nv_kthread_q_flush, nv_kthread_q_stop, _main_loop, _raw_q_schedule, _raw_q_flush, thread_create_on_node.
 * Left out: signals that interrupt the main loop's wait (nothing sends any), the queue's spinlock (nothing runs inside
 * it), `is_unload_flush_ongoing` (used by no part of this file). Kernel warnings are counted.
 *
 * Queues and items are plain data in `m.k.queues` and `m.k.qItems`, named by index; the functions they run are named by
 * id, in `m.res.kthreadFunctions`. A function may return a generator: the main loop then runs it, so that it can sleep.
 *
 * Waking the queue's thread out of its wait takes `m.cost.bottomHalfWake`; a busy thread goes on with the next item at
 * once.
 */
import { assert } from '../../base/assert.ts';
import type { Model } from '../state.ts';
import {
  BLOCKED,
  NO_THREAD,
  PARKED,
  threadCreateStopped,
  threadDiscard,
  threadShouldStop,
  threadStop,
  threadWake,
} from './thread.ts';

/** No preference for a NUMA node (NV_KTHREAD_NO_NODE). */
export const NO_NODE = -1;
/** Answers of a stack placement besides a node: the stack does not come from vmalloc; no thread could be created. */
export const STACK_NOT_VMALLOCED = -2;
export const THREAD_CREATE_FAILED = -3;

const ENOMEM = 12;
const CREATE_ATTEMPTS = 3;
/** Function of the marker items that a flush waits for. */
const FLUSH_FUNCTION = -1;
const NONE = -1;

/** Where the stack of the thread of attempt 0, 1 or 2 lands: a node, STACK_NOT_VMALLOCED or THREAD_CREATE_FAILED. */
export type StackPlacement = (attempt: number, preferredNode: number) => number;

/** nv_kthread_q_t */
export interface KthreadQueue {
  name: string;
  /** First and last pending item, or -1. */
  head: number;
  tail: number;
  /** Count of the semaphore: items queued and not yet taken, and 1 for a stop. */
  semaphore: number;
  /** The main loop waits in the semaphore, and the earliest wake-up on its way to it (Infinity: none). */
  waiting: boolean;
  wakeTime: number;
  mainLoopShouldExit: boolean;
  /** -1 before init succeeded and after stop (q_kthread). */
  thread: number;
  /** Node of the thread's stack, or NO_NODE. */
  stackNode: number;
  /** What init returned: 0 or a negative errno. */
  initResult: number;
  warnings: number;
}

/** nv_kthread_q_item_t */
export interface KthreadQItem {
  /** Function id, FLUSH_FUNCTION, or -2 for a free slot. */
  functionId: number;
  argument: number;
  /** Pending in a queue, and its successor there (of a free slot: the next free slot), or -1. */
  pending: boolean;
  next: number;
  /** Local time of the thread that queued it, ns. */
  queuedAt: number;
  /** A marker's completion and the thread that waits for it. */
  completed: boolean;
  waiter: number;
}

const FREE_SLOT = -2;

/**
 * Gives a function an id for `nvKthreadQItemInit`. Ids are positions and items of a snapshot name them: the model
 * registers its functions in one fixed order when it is created.
 */
export function kthreadFunctionRegister(
  m: Model,
  fn: (m: Model, argument: number) => Generator<number, void, void> | undefined,
): number {
  m.res.kthreadFunctions.push(fn);
  return m.res.kthreadFunctions.length - 1;
}

/** Makes a queue and starts its thread, wherever the thread's stack lands (nv_kthread_q_init); returns its index. */
export function nvKthreadQInit(m: Model, name: string): number {
  return nvKthreadQInitOnNode(m, name, NO_NODE);
}

function stackOnPreferredNode(_attempt: number, preferredNode: number): number {
  return preferredNode;
}

/**
 * Makes a queue and starts its thread with the stack on `preferredNode` if that works out
 * (nv_kthread_q_init_on_node). Returns the queue's index; `initResult` of the queue is 0, or a negative errno if no
 * thread could be created. A queue without a thread may be stopped, and nothing else.
 */
export function nvKthreadQInitOnNode(
  m: Model,
  name: string,
  preferredNode: number,
  placement: StackPlacement = stackOnPreferredNode,
): number {
  const queue = m.k.queues.length;
  if (m.res.why !== null) m.res.why.enter('nv_kthread_q_init_on_node', m.k.now, { queue: name });
  const q: KthreadQueue = {
    name,
    head: NONE,
    tail: NONE,
    semaphore: 0,
    waiting: false,
    wakeTime: Number.POSITIVE_INFINITY,
    mainLoopShouldExit: false,
    thread: NO_THREAD,
    stackNode: NO_NODE,
    initResult: 0,
    warnings: 0,
  };
  m.k.queues.push(q);
  createThread(m, queue, q, preferredNode, placement);
  if (q.thread === NO_THREAD) q.initResult = -ENOMEM;
  else threadWake(m, q.thread, m.k.now);
  return queue;
}

/**
 * Creates the queue's thread, stopped (thread_create_on_node). With a preferred node, up to three: Linux keeps a few
 * stacks for reuse by CPU whatever their node, and a third thread at the latest gets a fresh one. The last one created
 * is kept and the others are stopped.
 */
function createThread(
  m: Model,
  queue: number,
  q: KthreadQueue,
  preferredNode: number,
  placement: StackPlacement,
): void {
  const attempts = preferredNode === NO_NODE ? 1 : CREATE_ATTEMPTS;
  for (let attempt = 0; attempt < attempts; attempt++) {
    const node = placement(attempt, preferredNode);
    if (node === THREAD_CREATE_FAILED) return;
    const rejected = q.thread;
    q.thread = threadCreateStopped(m, q.name, mainLoop(m, queue));
    q.stackNode = node === STACK_NOT_VMALLOCED ? NO_NODE : node;
    if (rejected !== NO_THREAD) threadDiscard(m, rejected);
    if (node === STACK_NOT_VMALLOCED || node === preferredNode) return;
  }
}

/** Makes an item that runs `functionId` with `argument` (nv_kthread_q_item_init); returns its index. */
export function nvKthreadQItemInit(m: Model, functionId: number, argument: number): number {
  assert(m.res.kthreadFunctions[functionId] !== undefined, 'function of a queue item is not registered');
  return itemInit(m, functionId, argument);
}

function itemInit(m: Model, functionId: number, argument: number): number {
  const items = m.k.qItems;
  let item = m.k.qItemFree;
  if (item === NONE) item = items.length;
  else m.k.qItemFree = items[item].next;
  items[item] = {
    functionId,
    argument,
    pending: false,
    next: NONE,
    queuedAt: 0,
    completed: false,
    waiter: NO_THREAD,
  };
  return item;
}

/** Gives an item's slot back; it must not be pending. */
export function nvKthreadQItemFree(m: Model, item: number): void {
  const it = m.k.qItems[item];
  assert(it.functionId !== FREE_SLOT && !it.pending, 'only an item that exists and is not pending can be freed');
  it.functionId = FREE_SLOT;
  it.next = m.k.qItemFree;
  m.k.qItemFree = item;
}

/**
 * Queues an item; false when it is pending already, in whichever queue, or when the queue has been stopped
 * (nv_kthread_q_schedule_q_item). An item that is running is not pending: it can be queued again, and runs once more.
 * May be called from interrupt context.
 */
export function nvKthreadQScheduleQItem(m: Model, queue: number, item: number): boolean {
  const q = m.k.queues[queue];
  if (q.mainLoopShouldExit) {
    q.warnings++;
    return false;
  }
  return rawQSchedule(m, q, item);
}

function rawQSchedule(m: Model, q: KthreadQueue, item: number): boolean {
  const items = m.k.qItems;
  const it = items[item];
  assert(it !== undefined && it.functionId !== FREE_SLOT, 'queue item does not exist');
  if (it.pending) return false;
  it.pending = true;
  it.next = NONE;
  it.queuedAt = m.k.now;
  if (q.tail === NONE) q.head = item;
  else items[q.tail].next = item;
  q.tail = item;
  semaphoreUp(m, q);
  return true;
}

/** Only the first wake-up counts: the main loop finds the count, however often it was raised meanwhile. */
function semaphoreUp(m: Model, q: KthreadQueue): void {
  q.semaphore++;
  if (!q.waiting || m.k.now >= q.wakeTime) return;
  q.wakeTime = m.k.now;
  threadWake(m, q.thread, m.k.now, m.cost.bottomHalfWake);
}

/** Waits until everything queued before the marker has run (_raw_q_flush). */
function* rawQFlush(m: Model, queue: number): Generator<number, void, void> {
  assert(m.k.currentThread !== NO_THREAD, 'only a thread can wait for a queue');
  const marker = itemInit(m, FLUSH_FUNCTION, 0);
  m.k.qItems[marker].waiter = m.k.currentThread;
  rawQSchedule(m, m.k.queues[queue], marker);
  while (!m.k.qItems[marker].completed) yield BLOCKED;
  nvKthreadQItemFree(m, marker);
}

/**
 * Waits until the items queued so far have run, and those they queued again while running (nv_kthread_q_flush): one
 * round is not enough for an item that queues itself. Runs in a thread, and not in the queue's own.
 */
export function* nvKthreadQFlush(m: Model, queue: number): Generator<number, void, void> {
  const q = m.k.queues[queue];
  if (q.mainLoopShouldExit) {
    q.warnings++;
    return;
  }
  yield* rawQFlush(m, queue);
  yield* rawQFlush(m, queue);
}

/** Flushes the queue and ends its thread (nv_kthread_q_stop); does nothing the second time. Runs in a thread. */
export function* nvKthreadQStop(m: Model, queue: number): Generator<number, void, void> {
  const q = m.k.queues[queue];
  if (q.thread === NO_THREAD) return;
  yield* nvKthreadQFlush(m, queue);
  if (q.head !== NONE) q.warnings++;
  if (q.mainLoopShouldExit) return;
  q.mainLoopShouldExit = true;
  semaphoreUp(m, q);
  yield* threadStop(m, q.thread, m.cost.bottomHalfWake);
  q.thread = NO_THREAD;
}

/** The body of the queue's thread (_main_loop). Its outermost wait comes first, as threads that are restored need. */
function* mainLoop(m: Model, queue: number): Generator<number, void, void> {
  for (;;) {
    // What happened up to the thread's local time comes first: an interrupt may still queue work.
    yield m.k.now;
    while (m.k.queues[queue].semaphore === 0) {
      m.k.queues[queue].waiting = true;
      yield PARKED;
    }
    const q = m.k.queues[queue];
    q.semaphore--;
    q.waiting = false;
    q.wakeTime = Number.POSITIVE_INFINITY;
    if (q.mainLoopShouldExit) break;
    if (q.head === NONE) {
      q.warnings++;
      continue;
    }
    const item = m.k.qItems[q.head];
    // Queued by a thread that is ahead in time.
    if (item.queuedAt > m.k.now) yield item.queuedAt;
    q.head = item.next;
    if (q.head === NONE) q.tail = NONE;
    item.pending = false;
    item.next = NONE;
    // The item is not touched after this: its function may free it.
    if (item.functionId === FLUSH_FUNCTION) {
      item.completed = true;
      threadWake(m, item.waiter, m.k.now);
    } else {
      if (m.res.why !== null) m.res.why.enter('_main_loop', m.k.now, { queue: q.name });
      const body = m.res.kthreadFunctions[item.functionId](m, item.argument);
      if (body !== undefined) yield* body;
    }
  }
  while (!threadShouldStop(m)) yield BLOCKED;
}
