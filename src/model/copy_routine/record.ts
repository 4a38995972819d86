/**
 * The life of a copy: its record, what it holds, and when it lets go. The callback of a push may run late and with the
 * channel locked, so all it does is to queue an item; the item's thread unmaps, unpins and releases.
 */
import { assert } from '../../base/assert.ts';
import { contentsForget } from '../gpu/contents.ts';
import { LOCK_ORDER_LEAF, lockAcquire, lockRelease } from '../kernel/lock.ts';
import { mmUnpin } from '../kernel/mm.ts';
import {
  kthreadFunctionRegister,
  nvKthreadQFlush,
  nvKthreadQInit,
  nvKthreadQItemFree,
  nvKthreadQItemInit,
  nvKthreadQScheduleQItem,
} from '../kernel/nv_kthread_q.ts';
import type { Model } from '../state.ts';
import { channelIsValueCompleted, channelUpdateProgressAll } from '../uvm/channel.ts';
import { CPU_ID, INVALID_ID } from '../uvm/processors.ts';
import { type Push, pushCallbackRegister } from '../uvm/push.ts';
import { NV_OK, NV_WARN_NOTHING_TO_DO } from '../uvm/status.ts';
import { type Tracker, trackerAddEntry, trackerWait, trackerWaitEnd } from '../uvm/tracker.ts';
import type { VaSpace } from '../uvm/va_range_types.ts';
import {
  COPY_ARMED,
  COPY_DONE,
  COPY_ENDED,
  COPY_RUNNING,
  type CopyPush,
  type CopyRecord,
  type CopyRoutine,
  type CopyStage,
  type CopyStageDetail,
  HOW_NOT_ARMED,
} from './types.ts';

/** A token and its VA space in one number, for callbacks and queue items. */
const SPACES = 1024;

export function createCopyRoutine(): CopyRoutine {
  return { queue: -1, cleanupFunction: -1, callback: -1, watched: [], refusedBy: 0 };
}

/** Registers the callback and the queue's function; each time that a model is created or restored. */
export function copyRecordRegister(m: Model): void {
  m.copyRoutine.callback = pushCallbackRegister(m, pushCollected);
  m.copyRoutine.cleanupFunction = kthreadFunctionRegister(m, cleanupItem);
}

/** Makes the queue and its thread; once, when the model is created. */
export function copyQueueInit(m: Model): void {
  m.copyRoutine.queue = nvKthreadQInit(m, 'UVM copies');
}

/** A new copy; it counts as begun once it is in the VA space's list, which copyRecordAdd does. */
export function createCopyRecord(m: Model, space: VaSpace, form: number, mm: number): CopyRecord {
  return {
    token: 0,
    form,
    state: COPY_RUNNING,
    status: NV_OK,
    step: m.tools.step,
    faultStep: -1,
    fromPage: space.copy.fromPages === 0 ? -1 : space.copy.fromPage,
    pages: Math.max(space.copy.fromPages, 1),
    mm,
    toPage: space.copy.nextPage,
    toOffset: space.copy.nextOffset,
    bytes: 0,
    residentOn: INVALID_ID,
    how: HOW_NOT_ARMED,
    snapshot: false,
    writableOn: 0,
    requested: m.k.now,
    begin: -1,
    end: -1,
    pushes: [],
    gpu: -1,
    pageTablePush: null,
    replay: null,
    bottomHalfTime: 0,
    bounces: [],
    pin: -1,
    staged: false,
    mappedGpus: 0,
    retainedGpus: 0,
    pendingPushes: 0,
    item: -1,
  };
}

/** Puts a copy on the VA space's list and gives it its token. The caller holds the leaf lock. */
export function copyRecordAdd(space: VaSpace, record: CopyRecord): void {
  space.copy.records.push(record);
  record.token = space.copy.records.length;
}

/** Tells whoever asks which stage a copy is in. */
export function copyStage(m: Model, record: CopyRecord, stage: CopyStage, detail: CopyStageDetail = {}): void {
  if (m.res.why !== null) m.res.why.copyStage?.(record.token, stage, m.k.now, detail);
}

export function copyLock(m: Model, space: VaSpace): void {
  lockAcquire(m, LOCK_ORDER_LEAF, space.id, false);
}

export function copyUnlock(m: Model, space: VaSpace): void {
  lockRelease(m, LOCK_ORDER_LEAF, space.id, false);
}

export function copyPushOf(push: Push): CopyPush {
  return { gpu: push.gpu, channel: push.channel, value: push.trackingValue, begin: push.start, end: push.finish };
}

/** Widens the time that the copying took. */
export function copyRecordTime(record: CopyRecord, begin: number, end: number): void {
  if (record.begin < 0 || begin < record.begin) record.begin = begin;
  if (end > record.end) record.end = end;
}

/** The push reports to the record when it is collected. Before pushEnd. */
export function copyPushAttach(m: Model, space: VaSpace, record: CopyRecord, push: Push): void {
  push.onComplete = m.copyRoutine.callback;
  push.onCompleteData = record.token * SPACES + space.id;
  record.pendingPushes++;
}

function recordOf(m: Model, data: number): { space: VaSpace; record: CopyRecord } {
  const space = m.vaSpaces[data % SPACES];
  return { space, record: space.copy.records[Math.floor(data / SPACES) - 1] };
}

/** Push callback, maybe with the channel locked: it only queues. */
function pushCollected(m: Model, _channel: number, _value: number, data: number): void {
  const { space, record } = recordOf(m, data);
  if (--record.pendingPushes === 0 && record.form !== 0) copyScheduleCleanup(m, space, record);
}

/** Has the queue's thread let go of what the copy holds; for whoever may not sleep. */
export function copyScheduleCleanup(m: Model, space: VaSpace, record: CopyRecord): void {
  if (record.item >= 0) return;
  copyStage(m, record, 'queued');
  const { queue, cleanupFunction } = m.copyRoutine;
  record.item = nvKthreadQItemInit(m, cleanupFunction, record.token * SPACES + space.id);
  nvKthreadQScheduleQItem(m, queue, record.item);
}

function cleanupItem(m: Model, data: number): undefined {
  const { record } = recordOf(m, data);
  nvKthreadQItemFree(m, record.item);
  record.item = -1;
  copyRelease(m, record);
}

/** Unmaps, unpins dirty and releases the GPUs. The copy is over. */
export function copyRelease(m: Model, record: CopyRecord): void {
  assert(record.bounces.length === 0, 'a copy that is over holds no staging buffers');
  if (record.state === COPY_RUNNING) record.state = record.status === NV_OK ? COPY_DONE : COPY_ENDED;
  record.mappedGpus = 0;
  const frames = record.pin < 0 ? 0 : m.k.pins[record.pin].frames.length;
  if (record.pin >= 0) {
    m.k.now += m.cost.copyUnpinPage * frames;
    mmUnpin(m.k, record.pin, (frame) => {
      if (m.contents !== null) contentsForget(m.contents, CPU_ID, frame, 1);
    });
    record.pin = -1;
  }
  record.retainedGpus = 0;
  copyStage(m, record, 'released', { pages: frames });
}

/**
 * The state as COPY_STATUS tells it: a copy is done when its channels' completed values say so, and nothing that they
 * brought is left to decrypt.
 */
export function copyState(m: Model, record: CopyRecord): number {
  if (record.state !== COPY_RUNNING) return record.state;
  if (record.bounces.length > 0) return COPY_RUNNING;
  for (const push of record.pushes) {
    if (!channelIsValueCompleted(m, push.channel, push.value)) return COPY_RUNNING;
  }
  return record.status === NV_OK ? COPY_DONE : COPY_ENDED;
}

/** The pushes of a copy. */
function copyTracker(record: CopyRecord): Tracker {
  const tracker: Tracker = [];
  for (const push of record.pushes) trackerAddEntry(tracker, push.channel, push.value);
  return tracker;
}

/** Waits, without a lock, until the copy's pushes are done, and collects them. Returns a driver status. */
export function* copyWait(m: Model, record: CopyRecord): Generator<number, number, void> {
  copyStage(m, record, 'wait');
  const tracker = copyTracker(record);
  const end = trackerWaitEnd(m, tracker);
  if (end > m.k.now && end < Infinity) yield end;
  const status = trackerWait(m, tracker);
  copyStage(m, record, 'waited');
  for (const push of record.pushes) channelUpdateProgressAll(m, push.channel);
  return status;
}

/** Takes the armed copy, if there is one: an atomic exchange, so that one of several bottom halves gets it. */
export function copyClaim(m: Model, space: VaSpace): CopyRecord | null {
  copyLock(m, space);
  const token = space.copy.armed;
  space.copy.armed = 0;
  copyUnlock(m, space);
  return token === 0 ? null : space.copy.records[token - 1];
}

/** Disarms, in process context. */
export function copyDisarm(m: Model, space: VaSpace): void {
  const record = copyClaim(m, space);
  if (record === null) return;
  record.state = COPY_ENDED;
  record.status = NV_WARN_NOTHING_TO_DO;
  copyRelease(m, record);
}

/**
 * Ends all copies of a VA space: disarms, waits for the pushes, and for the thread that lets go. For the closing of the
 * file, the unregistering of a GPU and the teardown; runs in a thread without locks.
 */
export function* copyRoutineStop(m: Model, space: VaSpace): Generator<number, void, void> {
  copyDisarm(m, space);
  for (const record of space.copy.records) {
    if (record.state === COPY_RUNNING) yield* copyWait(m, record);
  }
  yield* nvKthreadQFlush(m, m.copyRoutine.queue);
}

/** Is the copy still waiting for its fault? */
export function copyIsArmed(record: CopyRecord): boolean {
  return record.state === COPY_ARMED;
}
