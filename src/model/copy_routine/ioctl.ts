/**
 * The copy routine's three ioctls, byte for byte, and the file that they are issued on: what a program sees of it, over
 * the model here and over a real driver later. Layouts, statuses and the order of checks: docs/copy-routine.md.
 *
 * As every ioctl of the driver: an unknown number is -ENOSYS and a short buffer -EFAULT; everything else is 0 with an
 * NV_STATUS in the buffer. A call may sleep, so it is a generator that runs in a thread.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { LOCK_ORDER_GLOBAL_PM, lockAcquire, lockRelease } from '../kernel/lock.ts';
import type { Model } from '../state.ts';
import { vaSpaceLockRead, vaSpaceUnlockRead } from '../uvm/gpu_replayable_faults_service.ts';
import { INVALID_ID } from '../uvm/processors.ts';
import {
  NV_ERR_ILLEGAL_ACTION,
  NV_ERR_INVALID_ADDRESS,
  NV_ERR_INVALID_ARGUMENT,
  NV_ERR_INVALID_STATE,
  NV_ERR_OBJECT_NOT_FOUND,
  NV_ERR_STATE_IN_USE,
  NV_OK,
} from '../uvm/status.ts';
import type { VaSpace } from '../uvm/va_range_types.ts';
import { vaRangeFind } from '../uvm/va_space.ts';
import { copyImmediate, copyMapForGpus, copyTakeDestination } from './immediate.ts';
import {
  copyDisarm,
  copyIsArmed,
  copyLock,
  copyRecordAdd,
  copyRelease,
  copyRoutineStop,
  copyStage,
  copyState,
  copyUnlock,
  copyWait,
  createCopyRecord,
} from './record.ts';
import { COPY_ARMED, COPY_RUNNING, type CopyRecord, FORM_ARMED, FORM_ASYNC, FORM_IMMEDIATE } from './types.ts';
import { USER_INVALID, USER_PLAIN, userMemoryKind } from './user_memory.ts';

/** What an open file of the device is. */
export const FILE_UNINITIALIZED = 0;
export const FILE_VA_SPACE = 2;
export const FILE_MM = 3;

/** An open file of the device: plain data in its holder's hands. */
export interface UvmFile {
  type: number;
  /** Index in Model.vaSpaces of a FILE_VA_SPACE, else -1. */
  vaSpace: number;
}

/** ioctl numbers: configuration, since only this routine's driver has them. */
export interface CopyIoctlNumbers {
  setCopyFromAddress: number;
  setNextCopyAddress: number;
  copyStatus: number;
}

/** Beyond those that the stock driver uses: 1 to 80, 200 to 314 and 2047. */
export const COPY_IOCTL_NUMBERS: CopyIoctlNumbers = {
  setCopyFromAddress: 3001,
  setNextCopyAddress: 3002,
  copyStatus: 3003,
};

/** Sizes of the parameters, bytes. */
export const SET_COPY_FROM_BYTES = 24;
export const SET_NEXT_COPY_BYTES = 48;
export const COPY_STATUS_BYTES = 40;

/** Flags of SET_NEXT_COPY_ADDRESS and of COPY_STATUS. */
export const NEXT_COPY_ARM = 1;
export const NEXT_COPY_ASYNC = 2;
export const STATUS_WAIT = 1;
export const STATUS_DISARM = 2;

/** No processor, no channel, in a u32. */
export const NONE_U32 = 0xffffffff;

const EFAULT = 14;
const ENOSYS = 38;

/** open of the device. */
export function uvmFileOpen(): UvmFile {
  return { type: FILE_UNINITIALIZED, vaSpace: -1 };
}

/** UVM_INITIALIZE: the file stands for a VA space from now on. */
export function uvmFileInitialize(file: UvmFile, space: VaSpace): void {
  file.type = FILE_VA_SPACE;
  file.vaSpace = space.id;
}

/** UVM_MM_INITIALIZE: the file keeps the process's address space alive, and takes no other calls. */
export function uvmFileInitializeMm(file: UvmFile): void {
  file.type = FILE_MM;
}

/** The last close of a file: all its copies end before the VA space does. Runs in a thread. */
export function* uvmFileClose(m: Model, file: UvmFile): Generator<number, void, void> {
  if (file.type === FILE_VA_SPACE) yield* copyRoutineStop(m, m.vaSpaces[file.vaSpace]);
  file.type = FILE_UNINITIALIZED;
  file.vaSpace = -1;
}

/** A page number and the byte in the page. 57-bit byte addresses do not fit a number; page numbers do. */
function pageOf(address: bigint): number {
  return Number(address >> 12n);
}
function offsetOf(address: bigint): number {
  return Number(address & 4095n);
}

/** Remembers by which rule a call is refused, for messages. */
function refuse(m: Model, rule: number, status: number): number {
  m.copyRoutine.refusedBy = rule;
  return status;
}

/** Managed ranges cover `[page, page + pages)` without a hole. */
function allManaged(space: VaSpace, page: number, pages: number): boolean {
  for (let p = page; p < page + pages; ) {
    const range = vaRangeFind(space, p);
    if (range === null) return false;
    p = range.outerPage;
  }
  return true;
}

/** UVM_SET_COPY_FROM_ADDRESS: stores A and does nothing else. */
function setCopyFromAddress(m: Model, space: VaSpace, view: DataView): number {
  const address = view.getBigUint64(0, true);
  const length = view.getBigUint64(8, true);
  if (view.getUint32(16, true) !== 0) return refuse(m, 9, NV_ERR_INVALID_ARGUMENT);
  vaSpaceLockRead(m, space);
  const status = storeCopyFrom(m, space, address, length);
  vaSpaceUnlockRead(m, space);
  return status;
}

function storeCopyFrom(m: Model, space: VaSpace, address: bigint, length: bigint): number {
  const page = pageOf(address);
  let pages = 0;
  if (address !== 0n) {
    if (offsetOf(length) !== 0) return refuse(m, 8, NV_ERR_INVALID_ARGUMENT);
    pages = length === 0n ? 1 : pageOf(length);
    if (offsetOf(address) !== 0 || !allManaged(space, page, pages)) return refuse(m, 8, NV_ERR_INVALID_ADDRESS);
  }
  copyLock(m, space);
  const busy = space.copy.armed !== 0;
  if (!busy) {
    space.copy.fromPage = pages === 0 ? 0 : page;
    space.copy.fromPages = pages;
  }
  copyUnlock(m, space);
  return busy ? refuse(m, 9, NV_ERR_STATE_IN_USE) : NV_OK;
}

/** [A, A + n) and [B, B + n) overlap in one address space. */
function overlaps(space: VaSpace, mm: number): boolean {
  const { copy } = space;
  if (space.mm !== mm || copy.fromPages === 0) return false;
  const distance = (copy.nextPage - copy.fromPage) * PAGE_SIZE + copy.nextOffset;
  return Math.abs(distance) < copy.fromPages * PAGE_SIZE;
}

/** Everything that is wrong with B for the form that was asked for; NV_OK when nothing is. */
function checkDestination(m: Model, space: VaSpace, mm: number, form: number): number {
  const { copy } = space;
  if (copy.nextOffset !== 0 && form === FORM_ASYNC) return refuse(m, 12, NV_ERR_INVALID_ADDRESS);
  if (copy.nextOffset !== 0 && form === FORM_ARMED) return refuse(m, 30, NV_ERR_INVALID_ADDRESS);
  if (overlaps(space, mm)) return refuse(m, 12, NV_ERR_INVALID_ARGUMENT);
  const pages = Math.max(copy.fromPages, 1) + (copy.nextOffset === 0 ? 0 : 1);
  const kind = userMemoryKind(m, mm, copy.nextPage, pages);
  if (kind === USER_INVALID) return refuse(m, 13, NV_ERR_INVALID_ADDRESS);
  if (kind === USER_PLAIN) return NV_OK;
  if (form === FORM_ASYNC) return refuse(m, 25, NV_ERR_INVALID_ADDRESS);
  return form === FORM_ARMED ? refuse(m, 30, NV_ERR_INVALID_ADDRESS) : NV_OK;
}

/** Arms: pins and maps B now, since nobody can in a bottom half. Returns a status. */
function arm(m: Model, space: VaSpace, record: CopyRecord): number {
  copyTakeDestination(m, record, false);
  vaSpaceLockRead(m, space);
  copyMapForGpus(m, space, record);
  copyLock(m, space);
  const busy = space.copy.armed !== 0;
  if (!busy) {
    record.state = COPY_ARMED;
    copyRecordAdd(space, record);
    space.copy.armed = record.token;
    copyStage(m, record, 'listed');
  }
  copyUnlock(m, space);
  vaSpaceUnlockRead(m, space);
  if (busy) copyRelease(m, record);
  return busy ? refuse(m, 31, NV_ERR_STATE_IN_USE) : NV_OK;
}

function* startCopy(
  m: Model,
  space: VaSpace,
  mm: number,
  form: number,
  record: CopyRecord,
): Generator<number, number, void> {
  const checked = checkDestination(m, space, mm, form);
  if (checked !== NV_OK) return checked;
  if (form === FORM_ARMED) return arm(m, space, record);
  const staged = userMemoryKind(m, mm, record.toPage, record.pages + (record.toOffset === 0 ? 0 : 1)) !== USER_PLAIN;
  copyTakeDestination(m, record, staged);
  copyLock(m, space);
  copyRecordAdd(space, record);
  copyStage(m, record, 'listed');
  copyUnlock(m, space);
  // With Confidential Computing the CPU decrypts, so the asynchronous form waits too: its token is done already.
  const wait = form === FORM_IMMEDIATE || m.res.confComputing !== null;
  return yield* copyImmediate(m, space, record, wait);
}

/** UVM_SET_NEXT_COPY_ADDRESS: stores B and starts. */
function* setNextCopyAddress(m: Model, space: VaSpace, mm: number, view: DataView): Generator<number, number, void> {
  const address = view.getBigUint64(0, true);
  const flags = view.getUint32(8, true);
  const { copy } = space;
  if ((flags & ~(NEXT_COPY_ARM | NEXT_COPY_ASYNC)) !== 0) return refuse(m, 9, NV_ERR_INVALID_ARGUMENT);
  const armed = (flags & NEXT_COPY_ARM) !== 0;
  if (!armed && copy.fromPages === 0) return refuse(m, 11, NV_ERR_INVALID_STATE);
  if (armed && copy.armed !== 0) return refuse(m, 31, NV_ERR_STATE_IN_USE);
  if (armed && copy.fromPages > 1) return refuse(m, 30, NV_ERR_INVALID_ARGUMENT);
  copyLock(m, space);
  copy.nextPage = pageOf(address);
  copy.nextOffset = offsetOf(address);
  copyUnlock(m, space);
  const form = armed ? FORM_ARMED : (flags & NEXT_COPY_ASYNC) !== 0 ? FORM_ASYNC : FORM_IMMEDIATE;
  const record = createCopyRecord(m, space, form, mm);
  copyStage(m, record, 'called');
  const status = yield* startCopy(m, space, mm, form, record);
  copyStage(m, record, 'returned', { status });
  if (status === NV_OK) {
    copyLock(m, space);
    copy.nextPage = -1;
    copy.nextOffset = 0;
    copyUnlock(m, space);
  }
  encodeStart(view, record);
  return status;
}

/** The last push of a copy, for the fields that name one. */
function encodePush(view: DataView, record: CopyRecord, channelAt: number, valueAt: number): void {
  const last = record.pushes[record.pushes.length - 1];
  if (channelAt >= 0) view.setUint32(channelAt, last === undefined ? NONE_U32 : last.channel, true);
  view.setBigUint64(valueAt, last === undefined ? 0n : BigInt(last.value), true);
}

function encodeStart(view: DataView, record: CopyRecord): void {
  const over = record.form === FORM_IMMEDIATE || record.pin < 0;
  view.setBigUint64(16, over ? BigInt(record.bytes) : 0n, true);
  view.setBigUint64(24, record.form === FORM_IMMEDIATE ? 0n : BigInt(record.token), true);
  view.setUint32(32, record.residentOn === INVALID_ID ? NONE_U32 : record.residentOn, true);
  encodePush(view, record, 36, 40);
}

/** UVM_COPY_STATUS: of a copy by its token. */
function* copyStatus(m: Model, space: VaSpace, view: DataView): Generator<number, number, void> {
  const token = view.getBigUint64(0, true);
  const flags = view.getUint32(8, true);
  if ((flags & ~(STATUS_WAIT | STATUS_DISARM)) !== 0) return refuse(m, 9, NV_ERR_INVALID_ARGUMENT);
  const record = token <= BigInt(space.copy.records.length) ? space.copy.records[Number(token) - 1] : undefined;
  if (record === undefined || record.form === FORM_IMMEDIATE) return refuse(m, 4, NV_ERR_OBJECT_NOT_FOUND);
  if ((flags & STATUS_DISARM) !== 0 && space.copy.armed === record.token) copyDisarm(m, space);
  // A copy that no fault has claimed has nothing to wait for: whoever asks looks again.
  let status = NV_OK;
  if ((flags & STATUS_WAIT) !== 0 && !copyIsArmed(record)) status = yield* copyWait(m, record);
  const state = copyState(m, record);
  view.setUint32(16, state, true);
  view.setUint32(20, record.status, true);
  view.setBigUint64(24, state === COPY_ARMED || state === COPY_RUNNING ? 0n : BigInt(record.bytes), true);
  encodePush(view, record, -1, 32);
  return status;
}

/** Size and place of rmStatus in the parameters of a call, or null for a number that is none of the three. */
function shapeOf(command: number, numbers: CopyIoctlNumbers): { bytes: number; statusAt: number } | null {
  if (command === numbers.setCopyFromAddress) return { bytes: SET_COPY_FROM_BYTES, statusAt: 20 };
  if (command === numbers.setNextCopyAddress) return { bytes: SET_NEXT_COPY_BYTES, statusAt: 12 };
  if (command === numbers.copyStatus) return { bytes: COPY_STATUS_BYTES, statusAt: 12 };
  return null;
}

function* dispatch(
  m: Model,
  file: UvmFile,
  mm: number,
  command: number,
  view: DataView,
  numbers: CopyIoctlNumbers,
): Generator<number, number, void> {
  if (m.globalStatus !== NV_OK) return refuse(m, 13, m.globalStatus);
  if (file.type !== FILE_VA_SPACE) return refuse(m, 9, NV_ERR_ILLEGAL_ACTION);
  const space = m.vaSpaces[file.vaSpace];
  if (command === numbers.setCopyFromAddress) return setCopyFromAddress(m, space, view);
  if (command === numbers.setNextCopyAddress) return yield* setNextCopyAddress(m, space, mm, view);
  return yield* copyStatus(m, space, view);
}

/**
 * One ioctl by a process whose address space is `mm`, on a file; `buffer` holds the parameters and gets the results.
 * Returns 0, or a negative errno when the call did not reach the routine.
 */
export function* uvmCopyIoctl(
  m: Model,
  file: UvmFile,
  mm: number,
  command: number,
  buffer: Uint8Array,
  numbers: CopyIoctlNumbers = COPY_IOCTL_NUMBERS,
): Generator<number, number, void> {
  // What others do before this moment comes first.
  yield m.k.now;
  const shape = shapeOf(command, numbers);
  if (shape === null) return -ENOSYS;
  if (buffer.byteLength < shape.bytes) return -EFAULT;
  lockAcquire(m, LOCK_ORDER_GLOBAL_PM, 0, true);
  m.k.now += m.cost.copyCall;
  m.copyRoutine.refusedBy = 0;
  const view = new DataView(buffer.buffer, buffer.byteOffset, shape.bytes);
  const status = yield* dispatch(m, file, mm, command, view, numbers);
  view.setUint32(shape.statusAt, status, true);
  lockRelease(m, LOCK_ORDER_GLOBAL_PM, 0, true);
  return 0;
}
