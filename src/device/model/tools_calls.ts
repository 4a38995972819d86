/**
 * The tools' ioctls over the model: event queues, the table of processors, flushing, the memory of a process. Statuses
 * and the order of checks are those of uvm_tools.c (driver 580.105.08).
 *
 * Left out: counters.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { FILE_VA_SPACE } from '../../model/copy_routine/ioctl.ts';
import {
  NV_ERR_ILLEGAL_ACTION,
  NV_ERR_INSUFFICIENT_PERMISSIONS,
  NV_ERR_INVALID_ADDRESS,
  NV_ERR_INVALID_ARGUMENT,
  NV_OK,
} from '../../model/uvm/status.ts';
import { toolsFlush } from '../../model/uvm/tools.ts';
import { type ProcessMemoryAccess, toolsAccessProcessMemory } from '../../model/uvm/tools_access.ts';
import { CONTROL_BUFFER_BYTES, createEventQueueWriter } from '../abi/event_queue.ts';
import { EVENT_ENTRY_BYTES_V1, EVENT_ENTRY_BYTES_V2, EVENT_TYPES_ALL, EVENT_TYPES_OUTER } from '../abi/events.ts';
import { IOCTL, UUID_TABLE_ENTRIES, UUID_TABLE_V2_ENTRIES } from '../abi/ioctls.ts';
import { offsetOfAddress, pageOfAddress } from '../abi/layout.ts';
import { TEST_IOCTL } from '../abi/test_ioctls.ts';
import { type Call, type Route, route, spaceOf } from './calls.ts';
import { areaOf, type DriverProcess, NotModelledError, type Tracker, userBytes } from './driver.ts';
import { instanceNumber } from './log_entries.ts';
import { rangeInvalid } from './memory_calls.ts';
import { deliverEvents, recordEntry } from './tools_queue.ts';
import { needContents, userCopy } from './user_memory.ts';

const UUID_BYTES = 16;
const UINT_MAX = 0xffffffffn;

/** map_user_pages: whole pages of the program's own memory; a status, or the bytes asked for. */
function mapUserPages(process: DriverProcess, address: bigint, bytes: number): number | Uint8Array {
  const rounded = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
  if (rangeInvalid(address, BigInt(rounded))) return NV_ERR_INVALID_ADDRESS;
  const area = areaOf(process, pageOfAddress(address));
  // Managed memory is refused as what is not mapped.
  if (area === undefined || area.memory === null) return NV_ERR_INVALID_ARGUMENT;
  return userBytes(process, address, rounded)?.subarray(0, bytes) ?? NV_ERR_INVALID_ARGUMENT;
}

/** Parameters of both versions. */
interface TrackerParams {
  queueBuffer: bigint;
  queueBufferSize: bigint;
  controlBuffer: bigint;
  uvmFd: number;
}

/** create_event_tracker */
function initEventTracker(call: Call, p: TrackerParams, version: 1 | 2): number {
  const { driver, process, file } = call;
  const uvm = process.files[p.uvmFd] ?? null;
  if (uvm === null || uvm.device !== 'uvm') return NV_ERR_INSUFFICIENT_PERMISSIONS;
  if (uvm.uvm.type !== FILE_VA_SPACE) return NV_ERR_ILLEGAL_ACTION;
  if (p.queueBufferSize === 0n) throw new NotModelledError('counters');
  if (p.queueBufferSize > UINT_MAX) return NV_ERR_INVALID_ARGUMENT;
  const entries = Number(p.queueBufferSize);
  if (entries < 2 || 2 ** Math.round(Math.log2(entries)) !== entries) return NV_ERR_INVALID_ARGUMENT;
  const entryBytes = version === 1 ? EVENT_ENTRY_BYTES_V1 : EVENT_ENTRY_BYTES_V2;
  const ring = mapUserPages(process, p.queueBuffer, entries * entryBytes);
  if (typeof ring === 'number') return ring;
  const control = mapUserPages(process, p.controlBuffer, CONTROL_BUFFER_BYTES);
  if (typeof control === 'number') return control;
  if (file.tracker !== null) return NV_ERR_INVALID_ARGUMENT;
  deliverEvents(driver);
  file.tracker = {
    writer: createEventQueueWriter(control, ring, entryBytes),
    version,
    enabled: new Uint8Array(EVENT_TYPES_ALL),
  };
  file.holds = uvm;
  uvm.references++;
  driver.trackers.push(file.tracker);
  return NV_OK;
}

function trackerOf(call: Call): Tracker | null {
  return call.file.tracker;
}

/** mask_contains_invalid_events: types 1 to 14; the tests' with the module parameter for them. */
function enableEvents(call: Call, flags: bigint): number {
  const tracker = trackerOf(call);
  if (tracker === null) return NV_ERR_INVALID_ARGUMENT;
  let valid = (1n << BigInt(EVENT_TYPES_OUTER)) - 2n;
  if (call.driver.m.params.uvm_enable_builtin_tests !== 0) valid |= 3n << 62n;
  if ((flags & ~valid) !== 0n) return NV_ERR_INVALID_ARGUMENT;
  deliverEvents(call.driver);
  for (let type = 0; type < EVENT_TYPES_ALL; type++)
    if (((flags >> BigInt(type)) & 1n) === 1n) tracker.enabled[type] = 1;
  return NV_OK;
}

function disableEvents(call: Call, flags: bigint): number {
  const tracker = trackerOf(call);
  if (tracker === null) return NV_ERR_INVALID_ARGUMENT;
  deliverEvents(call.driver);
  for (let type = 0; type < EVENT_TYPES_ALL; type++)
    if (((flags >> BigInt(type)) & 1n) === 1n) tracker.enabled[type] = 0;
  return NV_OK;
}

/** uvm_tools_get_processor_uuid_table_common */
function processorUuidTable(call: Call, tablePtr: bigint, entries: number, numberOf: (id: number) => number): number {
  const { driver, process } = call;
  const { registeredGpus } = spaceOf(call);
  const table = new Uint8Array(entries * UUID_BYTES);
  for (const [id, uuid] of driver.uuids.entries()) {
    if (id === 0 || (registeredGpus & (1 << id)) !== 0) table.set(uuid, numberOf(id) * UUID_BYTES);
  }
  const bytes = userBytes(process, tablePtr, table.length);
  if (bytes === null) return NV_ERR_INVALID_ADDRESS;
  bytes.set(table);
  return NV_OK;
}

/** tools_access_process_memory; the buffer is the caller's, whoever the VA space belongs to. */
function* accessProcessMemory(
  call: Call,
  p: { buffer: bigint; size: bigint; targetVa: bigint },
  write: boolean,
): Generator<number, ProcessMemoryAccess, void> {
  const { m } = call.driver;
  needContents(m, write ? 'UVM_TOOLS_WRITE_PROCESS_MEMORY' : 'UVM_TOOLS_READ_PROCESS_MEMORY');
  // What others do before this moment comes first.
  yield m.k.now;
  const [page, offset] = [pageOfAddress(p.targetVa), offsetOfAddress(p.targetVa)];
  return yield* toolsAccessProcessMemory(m, spaceOf(call).space, page, offset, Number(p.size), write, (at, part) =>
    userCopy(call, p.buffer + BigInt(at), part, !write),
  );
}

/** uvm_test_inject_tools_event, _v2 */
function injectEvent(call: Call, version: 1 | 2, entry: readonly number[], count: number): number {
  if (entry[0] >= EVENT_TYPES_ALL) return NV_ERR_INVALID_ARGUMENT;
  deliverEvents(call.driver);
  const bytes = Uint8Array.from(entry);
  for (let i = 0; i < count; i++) recordEntry(call.driver, version, bytes);
  return NV_OK;
}

/** For /dev/nvidia-uvm-tools; none asks what the file is. */
export const TOOLS_ROUTES: readonly Route[] = [
  route(IOCTL.TOOLS_INIT_EVENT_TRACKER, (call, p) => initEventTracker(call, p, 1), false),
  route(IOCTL.TOOLS_INIT_EVENT_TRACKER_V2, (call, p) => initEventTracker(call, p, 2), false),
  route(
    IOCTL.TOOLS_SET_NOTIFICATION_THRESHOLD,
    (call, p) => {
      const tracker = trackerOf(call);
      if (tracker === null) return NV_ERR_INVALID_ARGUMENT;
      tracker.writer.threshold = p.notificationThreshold;
      return NV_OK;
    },
    false,
  ),
  route(IOCTL.TOOLS_EVENT_QUEUE_ENABLE_EVENTS, (call, p) => enableEvents(call, p.eventTypeFlags), false),
  route(IOCTL.TOOLS_EVENT_QUEUE_DISABLE_EVENTS, (call, p) => disableEvents(call, p.eventTypeFlags), false),
];

/** The tools' ioctls that go to /dev/nvidia-uvm. */
export const UVM_TOOLS_ROUTES: readonly Route[] = [
  route(IOCTL.TOOLS_GET_PROCESSOR_UUID_TABLE, (call, p) =>
    processorUuidTable(call, p.tablePtr, UUID_TABLE_ENTRIES, (id) => id),
  ),
  route(IOCTL.TOOLS_GET_PROCESSOR_UUID_TABLE_V2, (call, p) =>
    processorUuidTable(call, p.tablePtr, UUID_TABLE_V2_ENTRIES, instanceNumber),
  ),
  route(IOCTL.TOOLS_READ_PROCESS_MEMORY, function* (call, p) {
    const { status, bytes } = yield* accessProcessMemory(call, p, false);
    p.bytesRead = BigInt(bytes);
    return status;
  }),
  route(IOCTL.TOOLS_WRITE_PROCESS_MEMORY, function* (call, p) {
    const { status, bytes } = yield* accessProcessMemory(call, p, true);
    p.bytesWritten = BigInt(bytes);
    return status;
  }),
  route(IOCTL.TOOLS_FLUSH_EVENTS, (call) => {
    toolsFlush(call.driver.m);
    return NV_OK;
  }),
];

/** Where the driver's tests are built in. */
export const TEST_ROUTES: readonly Route[] = [
  route(TEST_IOCTL.INJECT_TOOLS_EVENT, (call, p) => injectEvent(call, 1, p.entry, p.count)),
  route(TEST_IOCTL.INJECT_TOOLS_EVENT_V2, (call, p) => injectEvent(call, 2, p.entry, p.count)),
];
