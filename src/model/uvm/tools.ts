/**
 * Models uvm_tools.c (driver 580.105.08): which events exist, when they are recorded and when they are delivered.
 *
 * Synchronous events enter the log at once. Migrations, GPU remote maps and replays are deferred: their record rides on
 * a push and enters the log when somebody collects that push (channel progress), channel by channel. The log is
 * parallel typed arrays; trace/ turns it into the event objects of the file format. Queues of several subscribers,
 * counters and the ioctls of the tools device are left out here.
 */
import { assert } from '../../base/assert.ts';
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

function createLog(capacity: number): EventLog {
  return {
    count: 0,
    kind: new Uint8Array(capacity),
    a: new Uint8Array(capacity),
    b: new Uint8Array(capacity),
    src: new Uint8Array(capacity),
    dst: new Uint8Array(capacity),
    gpc: new Uint16Array(capacity),
    client: new Uint16Array(capacity),
    processors: new Uint32Array(capacity),
    batch: new Int32Array(capacity),
    step: new Int32Array(capacity),
    page: new Float64Array(capacity),
    pages: new Float64Array(capacity),
    time: new Float64Array(capacity),
    end: new Float64Array(capacity),
    gpuTime: new Float64Array(capacity),
    gpuEnd: new Float64Array(capacity),
  };
}

function grow<T extends Uint8Array | Uint16Array | Uint32Array | Int32Array | Float64Array>(
  old: T,
  capacity: number,
): T {
  const bigger = new (old.constructor as new (n: number) => T)(capacity);
  bigger.set(old as never);
  return bigger;
}

function reserve(log: EventLog): number {
  const i = log.count++;
  if (i === log.kind.length) {
    const capacity = i * 2;
    log.kind = grow(log.kind, capacity);
    log.a = grow(log.a, capacity);
    log.b = grow(log.b, capacity);
    log.src = grow(log.src, capacity);
    log.dst = grow(log.dst, capacity);
    log.gpc = grow(log.gpc, capacity);
    log.client = grow(log.client, capacity);
    log.processors = grow(log.processors, capacity);
    log.batch = grow(log.batch, capacity);
    log.step = grow(log.step, capacity);
    log.page = grow(log.page, capacity);
    log.pages = grow(log.pages, capacity);
    log.time = grow(log.time, capacity);
    log.end = grow(log.end, capacity);
    log.gpuTime = grow(log.gpuTime, capacity);
    log.gpuEnd = grow(log.gpuEnd, capacity);
  }
  return i;
}

export interface Tools {
  log: EventLog;
  /** Records that wait for their push to be collected; same columns, filled from `deferredFirst` groups. */
  deferred: EventLog;
  /** First and outer record of each group; a push carries the group's index. */
  groupFirst: Int32Array;
  groupCount: Int32Array;
  groups: number;
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

export function createTools(traced: boolean): Tools {
  return {
    log: createLog(1024),
    deferred: createLog(256),
    groupFirst: new Int32Array(64),
    groupCount: new Int32Array(64),
    groups: 0,
    groupsPending: 0,
    open: -1,
    pendingChannels: [],
    pendingByChannel: [],
    callback: -1,
    step: 0,
    traced,
  };
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
    t.deferred.count = 0;
  }
  if (t.groups === t.groupFirst.length) {
    t.groupFirst = grow(t.groupFirst, t.groups * 2);
    t.groupCount = grow(t.groupCount, t.groups * 2);
  }
  t.open = t.groups++;
  t.groupsPending++;
  t.groupFirst[t.open] = t.deferred.count;
}

/** Hands the open group to its push. Call before pushEnd. */
function attachGroup(m: Model, push: Push): void {
  const t = m.tools;
  t.groupCount[t.open] = t.deferred.count - t.groupFirst[t.open];
  push.onComplete = t.callback;
  push.onCompleteData = t.open;
  const channel = push.channel;
  const pending = t.pendingByChannel[channel] ?? 0;
  if (pending === 0) t.pendingChannels.push(channel);
  t.pendingByChannel[channel] = pending + 1;
}

function defer(m: Model, kind: number, page: number): number {
  const log = m.tools.deferred;
  const i = reserve(log);
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
  const first = t.groupFirst[t.open];
  const count = t.groupCount[t.open];
  for (let i = 0; i < count; i++) {
    t.deferred.time[first + i] = push.begin;
    t.deferred.gpuTime[first + i] = push.timestamps[i];
    t.deferred.gpuEnd[first + i] = push.timestamps[i + 1];
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
  const first = t.groupFirst[t.open];
  for (let i = 0; i < t.groupCount[t.open]; i++) t.deferred.gpuTime[first + i] = push.timestamps[0];
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
  const first = t.groupFirst[group];
  for (let j = first; j < first + t.groupCount[group]; j++) {
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
