/**
 * Models uvm_tools.c (driver 580.105.08): which events exist, when they are recorded and when they are delivered.
 *
 * Synchronous events enter the log at once. Migrations, GPU remote maps and replays are deferred: their record rides on
 * a push and enters the log when somebody collects that push (channel progress), channel by channel. The log is
 * parallel typed arrays; trace/ turns it into the event objects of the file format. Queues of several subscribers,
 * counters and the ioctls of the tools device are left out here.
 */

import { assert } from '../../base/assert.ts';
import { grown } from '../../base/grown.ts';
import type { Model } from '../state.ts';
import { channelUpdateProgressAll } from './channel.ts';
import { type Push, pushCallbackRegister } from './push.ts';

/** Kinds of log entries. */
export const EVENT_CPU_FAULT = 1;
export const EVENT_MIGRATION = 2;
export const EVENT_GPU_FAULT = 3;
export const EVENT_REPLAY = 4;
export const EVENT_FATAL_FAULT = 6;
export const EVENT_READ_DUPLICATE = 7;
export const EVENT_READ_DUPLICATE_INVALIDATE = 8;
export const EVENT_THRASHING = 10;
export const EVENT_THROTTLING_START = 11;
export const EVENT_THROTTLING_END = 12;
export const EVENT_MAP_REMOTE = 13;

/** Causes in migration and remote-map records (UvmEventMigrationCause, UvmEventMapRemoteCause). */
export const TOOLS_MIGRATION_USER = 1;
export const TOOLS_MIGRATION_COHERENCE = 2;
export const TOOLS_MIGRATION_PREFETCH = 3;
export const TOOLS_MIGRATION_EVICTION = 4;
export const TOOLS_MIGRATION_ACCESS_COUNTERS = 5;
export const MAP_REMOTE_INVALID = 0;
export const MAP_REMOTE_COHERENCE = 1;
export const MAP_REMOTE_THRASHING = 2;
export const MAP_REMOTE_POLICY = 3;
export const MAP_REMOTE_OUT_OF_MEMORY = 4;
export const MAP_REMOTE_EVICTION = 5;

/** Tools migration cause by the driver's internal cause (g_make_resident_to_tools_migration_cause). */
const MIGRATION_CAUSE = Uint8Array.of(2, 2, 5, 3, 4, 0, 1, 2, 1);

/** Columns of the log; which are meaningful depends on the kind. Pages are absolute VA page numbers. */
export interface EventLog {
  count: number;
  kind: Uint8Array;
  /** Access, fault type, cause or reason; see the recording function of each kind. */
  a: Uint8Array;
  b: Uint8Array;
  /** Processors: the one concerned, or source and destination. */
  src: Uint8Array;
  dst: Uint8Array;
  gpc: Uint16Array;
  client: Uint16Array;
  processors: Uint32Array;
  batch: Int32Array;
  step: Int32Array;
  page: Float64Array;
  pages: Float64Array;
  time: Float64Array;
  end: Float64Array;
  gpuTime: Float64Array;
  gpuEnd: Float64Array;
}

/** Columns by falling size of an entry, so that in one buffer every column is aligned. */
const COLUMNS = [
  'page',
  'pages',
  'time',
  'end',
  'gpuTime',
  'gpuEnd',
  'processors',
  'batch',
  'step',
  'gpc',
  'client',
  'kind',
  'a',
  'b',
  'src',
  'dst',
] as const;
const ROW_BYTES = 6 * 8 + 3 * 4 + 2 * 2 + 5;

/** Zeroed rows; `capacity` is a power of two of at least 8. One buffer holds all columns: it is had at one go. */
function createLog(capacity: number): EventLog {
  const buffer = new ArrayBuffer(capacity * ROW_BYTES);
  let at = 0;
  const next = (bytes: number): number => {
    at += capacity * bytes;
    return at - capacity * bytes;
  };
  const doubles = (): Float64Array => new Float64Array(buffer, next(8), capacity);
  const ints = (): Int32Array => new Int32Array(buffer, next(4), capacity);
  const shorts = (): Uint16Array => new Uint16Array(buffer, next(2), capacity);
  const bytes = (): Uint8Array => new Uint8Array(buffer, next(1), capacity);
  return {
    count: 0,
    page: doubles(),
    pages: doubles(),
    time: doubles(),
    end: doubles(),
    gpuTime: doubles(),
    gpuEnd: doubles(),
    processors: new Uint32Array(buffer, next(4), capacity),
    batch: ints(),
    step: ints(),
    gpc: shorts(),
    client: shorts(),
    kind: bytes(),
    a: bytes(),
    b: bytes(),
    src: bytes(),
    dst: bytes(),
  };
}

/** Makes room for at least `capacity` rows, and keeps those that there are. */
function growLog(log: EventLog, capacity: number): void {
  let rows = log.kind.length;
  while (rows < capacity) rows *= 2;
  const bigger = createLog(rows);
  for (const name of COLUMNS) bigger[name].set(log[name]);
  bigger.count = log.count;
  Object.assign(log, bigger);
}

function reserve(log: EventLog): number {
  const i = log.count++;
  if (i === log.kind.length) growLog(log, i + 1);
  return i;
}

export interface Tools {
  log: EventLog;
  /** Records that wait for their push to be collected; same columns. Rows are used again. */
  deferred: EventLog;
  /** By row of `deferred`: the group's next record, or the next free row, or NO_ROW. */
  deferredNext: Int32Array;
  /** First free row below `deferred.count`, or NO_ROW. */
  deferredFree: number;
  /** First and last record of each group, by the number that its push carries; of a free group `first` is the next. */
  groupFirst: Int32Array;
  groupLast: Int32Array;
  /** Groups ever used, and the first free one of them or NO_ROW. */
  groups: number;
  groupFree: number;
  groupsPending: number;
  /** Group under construction, or -1. */
  open: number;
  /** Channels with undelivered records, in the order in which they got their first one. */
  pendingChannels: number[];
  /** Pending groups by channel id. */
  pendingByChannel: number[];
  /** Callback id of the deferred records. */
  callback: number;
  /** Scenario step stamped on records when they are delivered or recorded. */
  step: number;
  /** The program is traced: recording has its costs, and block pushes take timestamps. */
  traced: boolean;
}

const FIRST_DEFERRED = 1024;
const FIRST_GROUPS = 512;
const NO_ROW = -1;

export function createTools(traced: boolean): Tools {
  return {
    log: createLog(1024),
    deferred: createLog(FIRST_DEFERRED),
    deferredNext: new Int32Array(FIRST_DEFERRED),
    deferredFree: NO_ROW,
    groupFirst: new Int32Array(FIRST_GROUPS),
    groupLast: new Int32Array(FIRST_GROUPS),
    groups: 0,
    groupFree: NO_ROW,
    groupsPending: 0,
    open: -1,
    pendingChannels: [],
    pendingByChannel: [],
    callback: -1,
    step: 0,
    traced,
  };
}

/** Makes room for `events` more events at once: for whoever knows that so many are to come. */
export function toolsReserve(m: Model, events: number): void {
  const log = m.tools.log;
  if (log.count + events > log.kind.length) growLog(log, log.count + events);
}

/** Registers the delivery of deferred records with the push layer (uvm_tools_init). */
export function toolsInit(m: Model): void {
  m.tools.callback = pushCallbackRegister(m, deliver);
}

function record(m: Model, kind: number, page: number): number {
  const t = m.tools;
  const log = t.log;
  const i = reserve(log);
  log.kind[i] = kind;
  log.page[i] = page;
  log.step[i] = t.step;
  log.time[i] = m.k.now;
  if (m.res.why !== null) m.res.why.event?.(i);
  if (t.traced) m.k.now += m.cost.toolsEvent;
  return i;
}

/** A CPU fault, under the block lock and before permissions are looked at. a = 1 for a read, 2 for a write. */
export function toolsRecordCpuFault(m: Model, page: number, write: boolean): void {
  const i = record(m, EVENT_CPU_FAULT, page);
  m.tools.log.a[i] = write ? 2 : 1;
}

/** One entry of the fault buffer. a = hardware fault type, b = the driver's access type. */
export function toolsRecordGpuFault(
  m: Model,
  gpu: number,
  faultType: number,
  access: number,
  page: number,
  batch: number,
  gpc: number,
  client: number,
  gpuTime: number,
): void {
  const i = record(m, EVENT_GPU_FAULT, page);
  const log = m.tools.log;
  log.a[i] = faultType;
  log.b[i] = access;
  log.src[i] = gpu + 1;
  log.batch[i] = batch;
  log.gpc[i] = gpc;
  log.client[i] = client;
  log.gpuTime[i] = gpuTime;
}

/** A fault that nobody can serve. a = hardware fault type (CPU: 0), b = access type, batch = the fatal reason. */
export function toolsRecordFatalFault(
  m: Model,
  processor: number,
  faultType: number,
  access: number,
  reason: number,
  page: number,
): void {
  const i = record(m, EVENT_FATAL_FAULT, page);
  const log = m.tools.log;
  log.a[i] = faultType;
  log.b[i] = access;
  log.src[i] = processor;
  log.batch[i] = reason;
}

/** A page got a further resident copy; `processors` is the mask of residents after it. */
export function toolsRecordReadDuplicate(m: Model, page: number, processors: number): void {
  const i = record(m, EVENT_READ_DUPLICATE, page);
  m.tools.log.processors[i] = processors;
}

/** Copies of a page are dropped; `resident` keeps its copy. */
export function toolsRecordReadDuplicateInvalidate(m: Model, page: number, resident: number): void {
  const i = record(m, EVENT_READ_DUPLICATE_INVALIDATE, page);
  m.tools.log.src[i] = resident;
}

export function toolsRecordThrashing(m: Model, page: number, processors: number): void {
  const i = record(m, EVENT_THRASHING, page);
  m.tools.log.processors[i] = processors;
}

export function toolsRecordThrottling(m: Model, start: boolean, processor: number, page: number): void {
  const i = record(m, start ? EVENT_THROTTLING_START : EVENT_THROTTLING_END, page);
  m.tools.log.src[i] = processor;
}

/** The CPU maps memory of a GPU: recorded at once, since no push is involved. */
export function toolsRecordMapRemoteCpu(m: Model, page: number, pages: number, owner: number, cause: number): void {
  const i = record(m, EVENT_MAP_REMOTE, page);
  const log = m.tools.log;
  log.src[i] = 0;
  log.dst[i] = owner;
  log.a[i] = cause;
  log.pages[i] = pages;
}

/** Opens a group of deferred records that will ride on one push. */
function openGroup(m: Model): void {
  const t = m.tools;
  assert(t.open < 0, 'tools: a group of deferred records is open already');
  if (t.groupsPending === 0) {
    t.groups = 0;
    t.groupFree = NO_ROW;
    t.deferred.count = 0;
    t.deferredFree = NO_ROW;
  }
  if (t.groupFree !== NO_ROW) {
    t.open = t.groupFree;
    t.groupFree = t.groupFirst[t.open];
  } else {
    if (t.groups === t.groupFirst.length) {
      t.groupFirst = grown(t.groupFirst, 2 * t.groupFirst.length);
      t.groupLast = grown(t.groupLast, 2 * t.groupLast.length);
    }
    t.open = t.groups++;
  }
  t.groupsPending++;
  t.groupFirst[t.open] = NO_ROW;
}

/** Hands the open group to its push. Call before pushEnd. */
function attachGroup(m: Model, push: Push): void {
  const t = m.tools;
  assert(t.groupFirst[t.open] !== NO_ROW, 'tools: a push carries a group without records');
  push.onComplete = t.callback;
  push.onCompleteData = t.open;
  const channel = push.channel;
  const pending = t.pendingByChannel[channel] ?? 0;
  if (pending === 0) t.pendingChannels.push(channel);
  t.pendingByChannel[channel] = pending + 1;
}

/** Adds a record to the open group and returns its row. */
function defer(m: Model, kind: number, page: number): number {
  const t = m.tools;
  const log = t.deferred;
  let i = t.deferredFree;
  if (i !== NO_ROW) {
    t.deferredFree = t.deferredNext[i];
  } else {
    i = reserve(log);
    if (i === t.deferredNext.length) t.deferredNext = grown(t.deferredNext, 2 * i);
  }
  t.deferredNext[i] = NO_ROW;
  if (t.groupFirst[t.open] === NO_ROW) t.groupFirst[t.open] = i;
  else t.deferredNext[t.groupLast[t.open]] = i;
  t.groupLast[t.open] = i;
  log.kind[i] = kind;
  log.page[i] = page;
  return i;
}

/**
 * Begins the records of a copy push (uvm_tools_record_migration_begin). Runs follow by toolsMigrationRun, then
 * toolsMigrationAttach before pushEnd and toolsMigrationTimes after it.
 */
export function toolsMigrationBegin(m: Model): void {
  openGroup(m);
}

/** One maximal run of pages with one cause; `cause` is the driver's internal one. */
export function toolsMigrationRun(
  m: Model,
  from: number,
  to: number,
  page: number,
  pages: number,
  cause: number,
): void {
  const i = defer(m, EVENT_MIGRATION, page);
  const log = m.tools.deferred;
  log.a[i] = MIGRATION_CAUSE[cause];
  log.src[i] = from;
  log.dst[i] = to;
  log.pages[i] = pages;
  log.time[i] = m.k.now;
}

export function toolsMigrationAttach(m: Model, push: Push): void {
  attachGroup(m, push);
}

/** Fills in the GPU times of the runs: timestamp 0 is the start, timestamp i + 1 the end of run i. */
export function toolsMigrationTimes(m: Model, push: Push): void {
  const t = m.tools;
  let i = 0;
  for (let row = t.groupFirst[t.open]; row !== NO_ROW; row = t.deferredNext[row]) {
    t.deferred.time[row] = push.begin;
    t.deferred.gpuTime[row] = push.timestamps[i];
    t.deferred.gpuEnd[row] = push.timestamps[++i];
  }
  t.open = -1;
}

/** Begins the remote-map records of a GPU mapping push. */
export function toolsMapRemoteBegin(m: Model): void {
  openGroup(m);
}

export function toolsMapRemoteRun(
  m: Model,
  mapper: number,
  owner: number,
  page: number,
  pages: number,
  cause: number,
): void {
  const i = defer(m, EVENT_MAP_REMOTE, page);
  const log = m.tools.deferred;
  log.src[i] = mapper;
  log.dst[i] = owner;
  log.a[i] = cause;
  log.pages[i] = pages;
  log.time[i] = m.k.now;
}

export function toolsMapRemoteAttach(m: Model, push: Push): void {
  attachGroup(m, push);
}

/** All remote maps of a push share its one timestamp. */
export function toolsMapRemoteTimes(m: Model, push: Push): void {
  const t = m.tools;
  for (let row = t.groupFirst[t.open]; row !== NO_ROW; row = t.deferredNext[row]) {
    t.deferred.gpuTime[row] = push.timestamps[0];
  }
  t.open = -1;
}

/** A replay method is in this push: call before pushEnd, then toolsReplayTimes after it. */
export function toolsRecordReplay(m: Model, gpu: number, push: Push, batch: number): void {
  openGroup(m);
  const i = defer(m, EVENT_REPLAY, 0);
  const log = m.tools.deferred;
  log.src[i] = gpu + 1;
  log.batch[i] = batch;
  log.time[i] = m.k.now;
  attachGroup(m, push);
}

export function toolsReplayTimes(m: Model, push: Push): void {
  const t = m.tools;
  t.deferred.gpuTime[t.groupFirst[t.open]] = push.finish;
  t.open = -1;
}

/** Push callback: the records of a completed push enter the log. */
function deliver(m: Model, channel: number, _value: number, group: number, noticed: number): void {
  const t = m.tools;
  const from = t.deferred;
  const to = t.log;
  for (let j = t.groupFirst[group]; j !== NO_ROW; j = t.deferredNext[j]) {
    const i = reserve(to);
    to.kind[i] = from.kind[j];
    to.a[i] = from.a[j];
    to.src[i] = from.src[j];
    to.dst[i] = from.dst[j];
    to.batch[i] = from.batch[j];
    to.page[i] = from.page[j];
    to.pages[i] = from.pages[j];
    to.time[i] = from.time[j];
    to.end[i] = noticed;
    to.gpuTime[i] = from.gpuTime[j];
    to.gpuEnd[i] = from.gpuEnd[j];
    to.step[i] = t.step;
  }
  t.deferredNext[t.groupLast[group]] = t.deferredFree;
  t.deferredFree = t.groupFirst[group];
  t.groupFirst[group] = t.groupFree;
  t.groupFree = group;
  t.groupsPending--;
  const left = --t.pendingByChannel[channel];
  if (left === 0) t.pendingChannels.splice(t.pendingChannels.indexOf(channel), 1);
}

/**
 * uvm_tools_flush_events: collects, channel by channel, the records of pushes that have finished by now. It does not
 * wait for work on the GPU.
 */
export function toolsFlush(m: Model): void {
  const t = m.tools;
  if (t.pendingChannels.length === 0) return;
  const channels = t.pendingChannels.slice();
  for (const channel of channels) channelUpdateProgressAll(m, channel);
}
