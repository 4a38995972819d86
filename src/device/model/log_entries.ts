/**
 * Rows of the model's event log (src/model/uvm/tools.ts) as entries of the ring, in both versions, word by word and
 * without an allocation.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { CPU_ID } from '../../model/uvm/processors.ts';
import type { EventLog } from '../../model/uvm/tools.ts';
import { toolsAccessType, toolsFaultType } from '../../model/uvm/tools_codes.ts';
import { EVENT_TYPE } from '../abi/events.ts';

/** GPU instances that a physical GPU has numbers for; without MIG a GPU is the first of its own. */
const INSTANCES = 8;
const HIGH = 4294967296;
/** UvmEventFaultClientType of all clients of the model. */
const CLIENT_GPC = 1;
/** NUMA nodes of migrations: the machine has one, and the GPUs' memory is none. */
const CPU_NODE = 0;
const NO_NODE = 0xffffffff;

/** The number of a processor of the model in entries and uuid tables of version 2. */
export function instanceNumber(processor: number): number {
  return processor === CPU_ID ? 0 : INSTANCES * (processor - 1) + 1;
}

/** What a row does not tell. */
export interface EntryContext {
  /** Process of the CPU's faults. */
  pid: number;
  /** Range group of a page, or 0. */
  rangeGroup: (page: number) => number;
}

function put64(w: Uint32Array, at: number, value: number): void {
  w[at] = value % HIGH;
  w[at + 1] = Math.floor(value / HIGH);
}

function putPage(w: Uint32Array, at: number, page: number): void {
  put64(w, at, (page % 1048576) * PAGE_SIZE);
  w[at + 1] = Math.floor(page / 1048576);
}

/** Word 0: the type and three bytes. */
function head(type: number, b1: number, b2: number, b3: number): number {
  return type | (b1 << 8) | (b2 << 16) | (b3 << 24);
}

function putCpuFault(w: Uint32Array, log: EventLog, i: number, context: EntryContext): void {
  w[0] = head(EVENT_TYPE.cpuFault, log.a[i], 0, 0);
  putPage(w, 2, log.page[i]);
  put64(w, 4, log.time[i]);
  w[6] = context.pid;
  w[7] = context.pid;
}

/** From the address on. */
function putMigration(w: Uint32Array, at: number, log: EventLog, i: number, context: EntryContext): void {
  putPage(w, at, log.page[i]);
  put64(w, at + 2, log.pages[i] * PAGE_SIZE);
  put64(w, at + 4, log.time[i]);
  put64(w, at + 6, log.end[i]);
  put64(w, at + 8, context.rangeGroup(log.page[i]));
  put64(w, at + 10, log.gpuTime[i]);
  put64(w, at + 12, log.gpuEnd[i]);
}

/** From word 1 on. */
function putGpuFault(w: Uint32Array, log: EventLog, i: number): void {
  w[1] = log.gpc[i] | (log.client[i] << 16);
  putPage(w, 2, log.page[i]);
  put64(w, 4, log.time[i]);
  put64(w, 6, log.gpuTime[i]);
  w[8] = log.batch[i];
}

function putReplay(w: Uint32Array, log: EventLog, i: number): void {
  w[1] = log.batch[i];
  put64(w, 2, log.time[i]);
  put64(w, 4, log.gpuTime[i]);
}

/** Address, size and time, from word `at` on; `bytes` of the events of single pages is a page. */
function putSized(w: Uint32Array, at: number, log: EventLog, i: number, bytes: number): void {
  putPage(w, at, log.page[i]);
  put64(w, at + 2, bytes);
  put64(w, at + 4, log.time[i]);
}

function putPlaceAndTime(w: Uint32Array, log: EventLog, i: number): void {
  putPage(w, 2, log.page[i]);
  put64(w, 4, log.time[i]);
}

/** The 320 bits of version 2 from the model's mask of processors. */
function putInstances(w: Uint32Array, at: number, processors: number): void {
  for (let id = 0; id < 32; id++) {
    if ((processors & (1 << id)) === 0) continue;
    const number = instanceNumber(id);
    w[at + (number >>> 5)] |= 1 << (number & 31);
  }
}

/** Row `i` as an entry of version 1; `w` has 16 words. */
export function putEntryV1(w: Uint32Array, log: EventLog, i: number, context: EntryContext): void {
  w.fill(0);
  const type = log.kind[i];
  const src = log.src[i];
  switch (type) {
    case EVENT_TYPE.cpuFault:
      putCpuFault(w, log, i, context);
      break;
    case EVENT_TYPE.migration:
      w[0] = head(type, log.a[i], src, log.dst[i]);
      putMigration(w, 2, log, i, context);
      break;
    case EVENT_TYPE.gpuFault:
      w[0] = head(type, toolsFaultType(log.a[i]), toolsAccessType(log.b[i]), src);
      putGpuFault(w, log, i);
      w[9] = CLIENT_GPC;
      break;
    case EVENT_TYPE.replay:
      w[0] = head(type, src, CLIENT_GPC, 0);
      putReplay(w, log, i);
      break;
    case EVENT_TYPE.fatalFault:
      w[0] = head(type, src === CPU_ID ? 0 : toolsFaultType(log.a[i]), toolsAccessType(log.b[i]), src);
      w[1] = log.batch[i];
      putPlaceAndTime(w, log, i);
      break;
    case EVENT_TYPE.readDuplicate:
    case EVENT_TYPE.thrashing:
      w[0] = type;
      w[2] = log.processors[i];
      putSized(w, 4, log, i, PAGE_SIZE);
      break;
    case EVENT_TYPE.readDuplicateInvalidate:
      w[0] = head(type, src, 0, 0);
      putSized(w, 2, log, i, PAGE_SIZE);
      break;
    case EVENT_TYPE.throttlingStart:
    case EVENT_TYPE.throttlingEnd:
      w[0] = head(type, src, 0, 0);
      putPlaceAndTime(w, log, i);
      break;
    case EVENT_TYPE.mapRemote:
      w[0] = head(type, src, log.dst[i], log.a[i]);
      putSized(w, 2, log, i, log.pages[i] * PAGE_SIZE);
      put64(w, 8, log.gpuTime[i]);
      break;
    default:
      throw new RangeError(`entry ${i} of the event log has kind ${type}`);
  }
}

/** Row `i` as an entry of version 2; `w` has 18 words. */
export function putEntryV2(w: Uint32Array, log: EventLog, i: number, context: EntryContext): void {
  w.fill(0);
  const type = log.kind[i];
  const src = instanceNumber(log.src[i]);
  switch (type) {
    case EVENT_TYPE.cpuFault:
      putCpuFault(w, log, i, context);
      break;
    case EVENT_TYPE.migration:
      w[0] = head(type, log.a[i], 0, 0);
      w[1] = src | (instanceNumber(log.dst[i]) << 16);
      w[2] = log.src[i] === CPU_ID ? CPU_NODE : NO_NODE;
      w[3] = log.dst[i] === CPU_ID ? CPU_NODE : NO_NODE;
      putMigration(w, 4, log, i, context);
      break;
    case EVENT_TYPE.gpuFault:
      w[0] = head(type, toolsFaultType(log.a[i]), src, 0);
      putGpuFault(w, log, i);
      w[9] = CLIENT_GPC | (toolsAccessType(log.b[i]) << 8);
      break;
    case EVENT_TYPE.replay:
      w[0] = head(type, CLIENT_GPC, src, 0);
      putReplay(w, log, i);
      break;
    case EVENT_TYPE.fatalFault:
      w[0] = head(type, log.src[i] === CPU_ID ? 0 : toolsFaultType(log.a[i]), toolsAccessType(log.b[i]), log.batch[i]);
      w[1] = src;
      putPlaceAndTime(w, log, i);
      break;
    case EVENT_TYPE.readDuplicate:
    case EVENT_TYPE.thrashing:
      w[0] = type;
      putSized(w, 2, log, i, PAGE_SIZE);
      putInstances(w, 8, log.processors[i]);
      break;
    case EVENT_TYPE.readDuplicateInvalidate:
      w[0] = head(type, 0, src, 0);
      putSized(w, 2, log, i, PAGE_SIZE);
      break;
    case EVENT_TYPE.throttlingStart:
    case EVENT_TYPE.throttlingEnd:
      w[0] = head(type, 0, src, 0);
      putPlaceAndTime(w, log, i);
      break;
    case EVENT_TYPE.mapRemote:
      w[0] = head(type, log.a[i], 0, 0);
      w[1] = src | (instanceNumber(log.dst[i]) << 16);
      putSized(w, 2, log, i, log.pages[i] * PAGE_SIZE);
      put64(w, 8, log.gpuTime[i]);
      break;
    default:
      throw new RangeError(`entry ${i} of the event log has kind ${type}`);
  }
}
