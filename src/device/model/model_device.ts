/**
 * The device contract over the model: a process that talks to the executable driver as to a real one, in virtual time.
 *
 * The model's state cannot be snapshot with what is kept here: descriptors and rings belong to the program.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { FILE_MM, FILE_UNINITIALIZED, FILE_VA_SPACE, uvmFileClose } from '../../model/copy_routine/ioctl.ts';
import { userMunmap } from '../../model/copy_routine/user_memory.ts';
import { nextEventTime, runNextEvent } from '../../model/kernel/clock.ts';
import { mmMapPlain } from '../../model/kernel/mm.ts';
import { NV_ERR_ILLEGAL_ACTION, NV_OK } from '../../model/uvm/status.ts';
import { toolsFlush } from '../../model/uvm/tools.ts';
import { vaRangeSplit, vaSpaceMunmap } from '../../model/uvm/va_range.ts';
import { vaRangeFind, vaSpaceMmap } from '../../model/uvm/va_space.ts';
import { eventQueuePoll } from '../abi/event_queue.ts';
import { IOCTL, type IoctlDevice, UVM_DEINITIALIZE } from '../abi/ioctls.ts';
import { addressOfPage, encodeInto, offsetOfAddress, pageOfAddress } from '../abi/layout.ts';
import { ERRNO, statusErrno } from '../abi/status.ts';
import { TEST_IOCTL } from '../abi/test_ioctls.ts';
import {
  type CallerMemory,
  type Device,
  DeviceError,
  type DeviceFile,
  type MapRequest,
  type PollResult,
} from '../device.ts';
import { type Route, routeTable } from './calls.ts';
import { copyRouteOf } from './copy_calls.ts';
import {
  type Area,
  addArea,
  createOpenFile,
  createProcess,
  type DriverProcess,
  freePlace,
  installFile,
  isMapped,
  MM_RELEASED,
  type ModelDriver,
  NotModelledError,
  type OpenFile,
  runThread,
} from './driver.ts';
import { MEMORY_ROUTES } from './memory_calls.ts';
import { SPACE_ROUTES, spaceHasMm } from './space_calls.ts';
import { TEST_ROUTES, TOOLS_ROUTES, UVM_TOOLS_ROUTES } from './tools_calls.ts';
import { deliverEvents } from './tools_queue.ts';
import { forgetCopies } from './user_memory.ts';

export { createModelDriver, type ModelDriver, type ModelDriverOptions, NotModelledError, runThread } from './driver.ts';
export { deliverEvents } from './tools_queue.ts';

const ALL = Object.values(IOCTL);
const UVM_TABLE = routeTable(
  [...SPACE_ROUTES, ...MEMORY_ROUTES, ...UVM_TOOLS_ROUTES],
  ALL.filter((call) => call.device === 'uvm'),
);
const TOOLS_TABLE = routeTable(
  TOOLS_ROUTES,
  ALL.filter((call) => call.device === 'tools'),
);
const TEST_TABLE = routeTable(TEST_ROUTES, Object.values(TEST_IOCTL));

/** The routine for a number on a device, or the errno that stands for none. */
function routeOf(driver: ModelDriver, device: IoctlDevice, number: number): Route | number {
  if (device === 'tools') return TOOLS_TABLE.get(number) ?? ERRNO.EINVAL;
  const found = UVM_TABLE.get(number) ?? copyRouteOf(driver, number);
  if (found !== null) return found;
  if (driver.m.params.uvm_enable_builtin_tests === 0) return ERRNO.ENOSYS;
  return TEST_TABLE.get(number) ?? ERRNO.EINVAL;
}

/** The driver's dispatch (uvm_ioctl, uvm_tools_unlocked_ioctl). */
function ioctlBytes(
  driver: ModelDriver,
  process: DriverProcess,
  file: OpenFile,
  number: number,
  bytes: Uint8Array,
): number {
  if (file.device === 'uvm' && number === UVM_DEINITIALIZE) return 0;
  const found = routeOf(driver, file.device, number);
  if (typeof found === 'number') return found;
  const { params } = found.call;
  if (bytes.length < params.size) return ERRNO.EFAULT;
  let status = driver.m.globalStatus;
  if (status === NV_OK && found.initCheck && file.uvm.type !== FILE_VA_SPACE) status = NV_ERR_ILLEGAL_ACTION;
  if (status === NV_OK) status = runThread(driver.m, found.run({ driver, process, file }, bytes));
  encodeInto(params, { rmStatus: status } as never, bytes);
  deliverEvents(driver);
  return 0;
}

/** Drops one reference; the last one is the driver's release. */
function putFile(driver: ModelDriver, file: OpenFile): void {
  if (--file.references > 0) return;
  const { m, space } = driver;
  const held = file.holds;
  file.holds = null;
  if (file.tracker !== null) {
    deliverEvents(driver);
    driver.trackers = driver.trackers.filter((tracker) => tracker !== file.tracker);
    file.tracker = null;
  }
  if (file.uvm.type === FILE_MM && space !== null) {
    space.mmState = MM_RELEASED;
    space.gpuVaSpaces = 0;
    space.channels = [];
  }
  if (file.uvm.type === FILE_VA_SPACE) {
    runThread(m, uvmFileClose(m, file.uvm));
    toolsFlush(m);
  }
  file.uvm.type = FILE_UNINITIALIZED;
  if (held !== null) putFile(driver, held);
}

/** uvm_mmap, after the place has been found free. Throws DeviceError. */
function mapManaged(driver: ModelDriver, process: DriverProcess, file: OpenFile, request: MapRequest): bigint {
  const fail = (errno: number): never => {
    throw new DeviceError('mmap of managed memory', errno);
  };
  if (file.device === 'tools') fail(ERRNO.ENODEV);
  const { length, shared = true, writable = true } = request;
  if (!Number.isSafeInteger(length) || length <= 0 || length % PAGE_SIZE !== 0) fail(ERRNO.EINVAL);
  const pages = length / PAGE_SIZE;
  if (request.address !== undefined && offsetOfAddress(request.address) !== 0) fail(ERRNO.EINVAL);
  const start =
    request.address === undefined ? freePlace(driver, process, pages, true) : pageOfAddress(request.address);
  if (isMapped(process, start, start + pages)) fail(ERRNO.EEXIST);
  const elsewhere = (other: DriverProcess) =>
    other.areas.some((area) => area.memory !== null && area.startPage < start + pages && area.outerPage > start);
  if (driver.m.contents !== null && driver.processes.some(elsewhere)) {
    throw new NotModelledError('managed memory at an address where another process has memory of its own');
  }
  const address = addressOfPage(start);
  const { m, space } = driver;
  if (m.globalStatus !== NV_OK) fail(statusErrno(m.globalStatus));
  if (file.uvm.type !== FILE_VA_SPACE || space === null) return fail(ERRNO.EBADFD);
  if (spaceHasMm(driver, space) && space.mm !== process.mm) fail(ERRNO.EOPNOTSUPP);
  if ((request.offset ?? address) !== address || !shared || !writable) fail(ERRNO.EINVAL);
  const status = vaSpaceMmap(space.space, start, pages, space.space.ranges.length);
  if (status !== NV_OK) fail(statusErrno(status));
  addArea(process, { startPage: start, outerPage: start + pages, memory: null, file });
  return address;
}

/** Splits an area and the managed range behind it at a page inside of it. */
function splitArea(driver: ModelDriver, process: DriverProcess, page: number): void {
  const area = process.areas.find((a) => a.memory === null && a.startPage < page && page < a.outerPage);
  if (area === undefined) return;
  const space = driver.m.vaSpaces[0];
  const range = vaRangeFind(space, page);
  if (range !== null && range.startPage !== page) vaRangeSplit(driver.m, range, page);
  addArea(process, { ...area, startPage: page });
  area.outerPage = page;
}

/** munmap; what is not managed memory stays. */
function unmapManaged(driver: ModelDriver, process: DriverProcess, address: bigint, length: number): void {
  if (!Number.isSafeInteger(length) || length <= 0 || length % PAGE_SIZE !== 0 || offsetOfAddress(address) !== 0) {
    throw new DeviceError('munmap of managed memory', ERRNO.EINVAL);
  }
  const start = pageOfAddress(address);
  const outer = start + length / PAGE_SIZE;
  function* body(): Generator<number, Area[], void> {
    splitArea(driver, process, start);
    splitArea(driver, process, outer);
    const gone = process.areas.filter((a) => a.memory === null && a.startPage >= start && a.outerPage <= outer);
    if (gone.length > 0) vaSpaceMunmap(driver.m, driver.m.vaSpaces[0], start, outer);
    process.areas = process.areas.filter((area) => !gone.includes(area));
    yield driver.m.k.now;
    return gone;
  }
  const gone = runThread(driver.m, body());
  deliverEvents(driver);
  for (const area of gone) if (area.file !== null) putFile(driver, area.file);
}

/** The program's own memory. */
function allocate(driver: ModelDriver, process: DriverProcess, length: number): CallerMemory {
  if (!Number.isSafeInteger(length) || length <= 0 || length % PAGE_SIZE !== 0) {
    throw new DeviceError(`mmap of ${length} bytes`, ERRNO.EINVAL);
  }
  const { m } = driver;
  const pages = length / PAGE_SIZE;
  const startPage = freePlace(driver, process, pages, false);
  const memory = new Uint8Array(length);
  const area: Area = { startPage, outerPage: startPage + pages, memory, file: null };
  addArea(process, area);
  mmMapPlain(m.k, process.mm, startPage, pages);
  return {
    address: addressOfPage(startPage),
    length,
    bytes: () => {
      if (!process.areas.includes(area)) throw new Error('the memory was given back');
      return memory;
    },
    close: async () => {
      if (!process.areas.includes(area)) return;
      forgetCopies(driver, process, area);
      process.areas = process.areas.filter((a) => a !== area);
      userMunmap(m, process.mm, startPage, pages);
    },
  };
}

const NS_PER_MS = 1_000_000;

/** uvm_tools_poll, with time going on until the queue is readable or the wait is over. */
function poll(driver: ModelDriver, file: OpenFile, milliseconds: number): PollResult {
  const { m } = driver;
  if (m.globalStatus !== NV_OK || file.tracker === null) return { readable: false, error: true };
  const { writer } = file.tracker;
  const deadline = m.k.now + Math.round(milliseconds * NS_PER_MS);
  deliverEvents(driver);
  while (!eventQueuePoll(writer)) {
    if (nextEventTime(m) > deadline) {
      m.k.now = deadline;
      return { readable: false, error: false };
    }
    runNextEvent(m);
    deliverEvents(driver);
    // The poller goes on where the world stands, whatever local time the last actor has reached.
    m.k.now = m.k.eventTime;
  }
  return { readable: true, error: false };
}

/**
 * A new process over a model's driver. The first one of a driver is the program that the model's VA space belongs to;
 * another one is a tool that adopts its files.
 */
export function createModelDevice(driver: ModelDriver): Device {
  const process = createProcess(driver);
  const open = (file: DeviceFile, call: string): OpenFile => {
    const found = process.files[file.fd] ?? null;
    if (found === null || found.device !== file.device) throw new DeviceError(call, ERRNO.EBADF);
    return found;
  };
  return {
    pid: process.pid,
    open: async (device) => {
      if (driver.m.globalStatus !== NV_OK) throw new DeviceError(`open ${device}`, statusErrno(driver.m.globalStatus));
      return { device, fd: installFile(process, createOpenFile(device)) };
    },
    adopt: async (pid, fd) => {
      const other = driver.processes.find((p) => p.pid === pid);
      if (other === undefined) throw new DeviceError(`pidfd_open ${pid}`, ERRNO.ESRCH);
      const file = other.files[fd] ?? null;
      if (file === null) throw new DeviceError(`pidfd_getfd ${fd}`, ERRNO.EBADF);
      return { device: file.device, fd: installFile(process, file) };
    },
    close: async (file) => {
      const found = open(file, `close ${file.fd}`);
      process.files[file.fd] = null;
      putFile(driver, found);
    },
    ioctlBytes: async (file, number, params) => {
      const found = process.files[file.fd] ?? null;
      if (found === null || found.device !== file.device) return ERRNO.EBADF;
      return ioctlBytes(driver, process, found, number, params);
    },
    mapManaged: async (file, request) => mapManaged(driver, process, open(file, 'mmap of managed memory'), request),
    unmapManaged: async (address, length) => unmapManaged(driver, process, address, length),
    allocate: async (length) => allocate(driver, process, length),
    poll: async (file, milliseconds) => poll(driver, open(file, 'poll'), milliseconds),
  };
}
