/**
 * The model's driver as processes see it: open files, processes with their descriptors and memory, and what a VA space
 * keeps besides src/model: registrations and the address space that it belongs to. Models what uvm.c, uvm_va_space.c,
 * uvm_va_space_mm.c and uvm_tools.c (driver 580.105.08) keep in files.
 *
 * The model has one VA space, with all GPUs of the machine registered from its creation. The first UVM_INITIALIZE takes
 * it. Registering GPUs and channels is bookkeeping on top of it: it decides what calls may name, and changes nothing in
 * the model.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { type UvmFile, uvmFileOpen } from '../../model/copy_routine/ioctl.ts';
import type { CopyRecord } from '../../model/copy_routine/types.ts';
import { runNextEvent } from '../../model/kernel/clock.ts';
import { mmCreate } from '../../model/kernel/mm.ts';
import { THREAD_DONE, threadCreate } from '../../model/kernel/thread.ts';
import type { Model } from '../../model/state.ts';
import { CPU_ID, INVALID_ID } from '../../model/uvm/processors.ts';
import type { VaSpace } from '../../model/uvm/va_range_types.ts';
import type { EventQueueWriter } from '../abi/event_queue.ts';
import { type CopyIoctls, CPU_UUID, copyIoctls, type IoctlDevice } from '../abi/ioctls.ts';
import { pageOfAddress } from '../abi/layout.ts';

/** A call that a driver answers and the model does not; nothing has happened. */
export class NotModelledError extends Error {
  override name = 'NotModelledError';
}

/** uvm_va_space_mm_t: whether an MM file keeps the address space. */
export const MM_UNINITIALIZED = 0;
export const MM_ALIVE = 1;
export const MM_RELEASED = 2;

/** What a VA space keeps besides the model's. */
export interface SpaceState {
  readonly space: VaSpace;
  /** Flags of UVM_INITIALIZE. */
  readonly flags: bigint;
  /** Number of the address space that mapped memory belongs to. */
  readonly mm: number;
  mmState: number;
  /** Masks by processor id: UVM_REGISTER_GPU, UVM_REGISTER_GPU_VASPACE. */
  registeredGpus: number;
  gpuVaSpaces: number;
  channels: { hClient: number; hChannel: number }[];
}

/** An event queue: what a tools file becomes. */
export interface Tracker {
  readonly writer: EventQueueWriter;
  readonly version: 1 | 2;
  /** By event type. */
  readonly enabled: Uint8Array;
}

/** struct file: one open, however many descriptors and mappings it has. */
export interface OpenFile {
  readonly device: IoctlDevice;
  /** Descriptors, mappings and files that hold it. */
  references: number;
  /** Type of a uvm file and its VA space, as the copy routine's ioctls take it. */
  readonly uvm: UvmFile;
  tracker: Tracker | null;
  /** The VA space's file that an MM file or an event queue holds. */
  holds: OpenFile | null;
}

/** A mapping in a process: plain memory, or managed memory of a file. */
export interface Area {
  startPage: number;
  outerPage: number;
  memory: Uint8Array | null;
  file: OpenFile | null;
}

export interface DriverProcess {
  readonly pid: number;
  /** Number of its address space (src/model/kernel/mm.ts). */
  readonly mm: number;
  /** By descriptor. */
  readonly files: (OpenFile | null)[];
  /** By ascending address. */
  areas: Area[];
}

export interface ModelDriver {
  readonly m: Model;
  readonly processes: DriverProcess[];
  /** By processor id. */
  readonly uuids: readonly Uint8Array[];
  /** Once UVM_INITIALIZE was called. */
  space: SpaceState | null;
  /** Event queues in the order of their attachment. */
  trackers: Tracker[];
  /** Entries of the model's log that queues have been offered. */
  delivered: number;
  /** The copy routine's ioctls; null for a stock driver, which has none. */
  readonly copyIoctls: CopyIoctls | null;
  /** Copies whose bytes have not been put into the memory of a process, and how many copies have been looked at. */
  copies: CopyRecord[];
  copiesSeen: number;
}

export interface ModelDriverOptions {
  /** Numbers and layouts of the copy routine's ioctls; 3001 to 3003 when left out, null for a driver without them. */
  copyIoctls?: CopyIoctls | null;
}

const FIRST_FD = 3;
/** Chosen addresses: managed memory from 2^41 on, the program's own from 2^46 on, with a free page between areas. */
const FIRST_MANAGED_PAGE = 2 ** 29;
const FIRST_PLAIN_PAGE = 2 ** 34;
const MANAGED_ALIGNMENT = 512;

/** The uuid of a GPU of the model, by its processor id: the same on every run. */
function gpuUuid(id: number): Uint8Array {
  const text = 'uvmlab model gp';
  return Uint8Array.from({ length: 16 }, (_, i) => (i < text.length ? text.charCodeAt(i) : id));
}

/** A driver over a model on which nobody has called the driver yet. */
export function createModelDriver(m: Model, options: ModelDriverOptions = {}): ModelDriver {
  const { copyIoctls: calls = copyIoctls() } = options;
  return {
    m,
    processes: [],
    uuids: [CPU_UUID, ...m.gpus.map((gpu) => gpuUuid(gpu.id))],
    space: null,
    trackers: [],
    delivered: m.tools.log.count,
    copyIoctls: calls,
    copies: [],
    copiesSeen: m.vaSpaces[0].copy.records.length,
  };
}

/** A process that has opened nothing. The first one gets the address space that the model's VA space belongs to. */
export function createProcess(driver: ModelDriver): DriverProcess {
  const { m, processes } = driver;
  const space = m.vaSpaces[0];
  const process: DriverProcess = {
    pid: space.pid + processes.length,
    mm: processes.length === 0 ? space.mm : mmCreate(m.k),
    files: new Array<OpenFile | null>(FIRST_FD).fill(null),
    areas: [],
  };
  processes.push(process);
  return process;
}

/** A descriptor for an open file: the lowest free one from 3 on. */
export function installFile(process: DriverProcess, file: OpenFile): number {
  let fd = FIRST_FD;
  while (process.files[fd]) fd++;
  process.files[fd] = file;
  file.references++;
  return fd;
}

export function createOpenFile(device: IoctlDevice): OpenFile {
  return { device, references: 0, uvm: uvmFileOpen(), tracker: null, holds: null };
}

/** Processor with this uuid among those of the mask (and the CPU), or INVALID_ID. */
export function processorOfUuid(driver: ModelDriver, uuid: Uint8Array, gpus: number): number {
  for (const [id, known] of driver.uuids.entries()) {
    if (id !== CPU_ID && (gpus & (1 << id)) === 0) continue;
    if (known.every((byte, i) => byte === uuid[i])) return id;
  }
  return INVALID_ID;
}

/** The areas overlap `[startPage, outerPage)`. */
export function isMapped(process: DriverProcess, startPage: number, outerPage: number): boolean {
  return process.areas.some((area) => area.startPage < outerPage && area.outerPage > startPage);
}

/**
 * The first page of a free place for `pages` pages. A program's own memory gets a place that is free in all processes,
 * since the model keeps all of it in one store (src/model/gpu/contents.ts).
 */
export function freePlace(driver: ModelDriver, process: DriverProcess, pages: number, managed: boolean): number {
  let page = managed ? FIRST_MANAGED_PAGE : FIRST_PLAIN_PAGE;
  const areas = managed ? process.areas : driver.processes.flatMap((other) => other.areas);
  if (!managed) areas.sort((a, b) => a.startPage - b.startPage);
  for (const area of areas) {
    if (area.outerPage < page) continue;
    if (area.startPage > page + pages) break;
    page = area.outerPage + 1;
    if (managed) page = Math.ceil(page / MANAGED_ALIGNMENT) * MANAGED_ALIGNMENT;
  }
  return page;
}

/** The area that a page belongs to. */
export function areaOf(process: DriverProcess, page: number): Area | undefined {
  return process.areas.find((area) => page >= area.startPage && page < area.outerPage);
}

export function addArea(process: DriverProcess, area: Area): void {
  process.areas.push(area);
  process.areas.sort((a, b) => a.startPage - b.startPage);
  if (area.file !== null) area.file.references++;
}

/**
 * The bytes of `[address, address + length)` of the program's own memory, or null where it is not mapped. NotModelled
 * for managed memory, which the driver would fault in.
 */
export function userBytes(process: DriverProcess, address: bigint, length: number): Uint8Array | null {
  const area = areaOf(process, pageOfAddress(address));
  if (area === undefined) return null;
  if (area.memory === null) throw new NotModelledError('parameters that point into managed memory');
  const offset = Number(address - BigInt(area.startPage) * BigInt(PAGE_SIZE));
  return offset + length <= area.memory.length ? area.memory.subarray(offset, offset + length) : null;
}

/**
 * Runs a program's thread on the model until it ends, from the model's time on. What it left behind, such as work of a
 * GPU, goes on when time does. Throws what the body throws, and when it waits for what nothing will ever do.
 */
export function runThread<T>(m: Model, body: Generator<number, T, void>): T {
  let result: { value: T } | null = null;
  let failure: { error: unknown } | null = null;
  function* run(): Generator<number, void, void> {
    try {
      result = { value: yield* body };
    } catch (error) {
      failure = { error };
    }
  }
  m.k.eventTime = Math.min(m.k.eventTime, m.k.now);
  const thread = threadCreate(m, 'call', run());
  while (m.k.threads[thread].status !== THREAD_DONE && runNextEvent(m));
  const failed = failure as { error: unknown } | null;
  if (failed !== null) throw failed.error;
  const done = result as { value: T } | null;
  if (done === null) throw new Error('a call waits for something that nothing in the model will do');
  return done.value;
}
