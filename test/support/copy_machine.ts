/** A machine for the tests of the copy routine: contents and checks on, managed and plain memory, and its ioctls. */
import {
  COPY_IOCTL_NUMBERS,
  COPY_STATUS_BYTES,
  SET_COPY_FROM_BYTES,
  SET_NEXT_COPY_BYTES,
  type UvmFile,
  uvmCopyIoctl,
  uvmFileInitialize,
  uvmFileOpen,
} from '../../src/model/copy_routine/ioctl.ts';
import type { CopyRecord } from '../../src/model/copy_routine/types.ts';
import { contentsRead, contentsWords, contentsWrite, createContents } from '../../src/model/gpu/contents.ts';
import { hostRunUntil } from '../../src/model/gpu/host.ts';
import { CLIENT_PARKED, clientsAddSlot, clientsIssue, clientsOutcome } from '../../src/model/gpu/sm.ts';
import { runNextEvent } from '../../src/model/kernel/clock.ts';
import { mmMapPlain } from '../../src/model/kernel/mm.ts';
import { BLOCKED, THREAD_DONE, threadCreate } from '../../src/model/kernel/thread.ts';
import type { Model } from '../../src/model/state.ts';
import { CPU_FAULT_FATAL, vaSpaceCpuFault, vaSpaceCpuFaultWoken } from '../../src/model/uvm/va_block_cpu_fault.ts';
import { ACCESS_WRITE, type VaBlock } from '../../src/model/uvm/va_block_types.ts';
import type { VaSpace } from '../../src/model/uvm/va_range_types.ts';
import { vaBlockFind } from '../../src/model/uvm/va_space.ts';
import { BASE, createFaultMachine, type FaultMachineOptions, runMachine } from './fault_machine.ts';

/** First page of 64 MiB of plain memory. */
export const HOST = BASE + 2 ** 20;
const HOST_PAGES = 16384;

export interface CopyMachine {
  m: Model;
  space: VaSpace;
  file: UvmFile;
  /** Client slot of the one thread of each GPU. */
  slots: number[];
}

/** A machine on which copies out of a GPU take some time, with 64 MiB managed from BASE on and as much plain at HOST. */
export function createCopyMachine(options: FaultMachineOptions = {}): CopyMachine {
  const costs = { copyBaseToCpu: 5000, copyPageToCpu: 100, copyBaseToGpu: 4000, ...options.costs };
  const m = createFaultMachine({ ...options, costs });
  m.contents = createContents(m.spec.gpus + 1);
  const space = m.vaSpaces[0];
  mmMapPlain(m.k, space.mm, HOST, HOST_PAGES);
  const file = uvmFileOpen();
  uvmFileInitialize(file, space);
  const slots = m.gpus.map((gpu) => clientsAddSlot(m, gpu.index, 0, gpu.index, 0, -1));
  return { m, space, file, slots };
}

/** Runs a generator as a thread until it ends; what it left behind goes on later. Returns what it returned. */
export function runOnly<T>(m: Model, body: Generator<number, T, void>): T {
  let result: T | undefined;
  function* run(): Generator<number, void, void> {
    result = yield* body;
  }
  m.k.eventTime = Math.min(m.k.eventTime, m.k.now);
  const thread = threadCreate(m, 'test', run());
  while (m.k.threads[thread].status !== THREAD_DONE && runNextEvent(m));
  return result as T;
}

/** Runs until nothing is left: collecting pushes queues what lets go of a copy. */
export function settle(m: Model): void {
  runMachine(m);
  runMachine(m);
}

/** As runOnly, and then everything that is left, so that all work is done and collected. */
export function runAll<T>(m: Model, body: Generator<number, T, void>): T {
  const result = runOnly(m, body);
  settle(m);
  return result;
}

/** A CPU access to a managed page; writes `value` into its first word unless null. */
export function* cpuBody(b: CopyMachine, page: number, value: number | null): Generator<number, void, void> {
  const { m, space } = b;
  for (let retries = 0; ; retries++) {
    const outcome = vaSpaceCpuFault(m, space, page, value !== null, retries);
    if (outcome === CPU_FAULT_FATAL) throw new Error('bus error');
    if (outcome < 0) break;
    yield outcome;
    vaSpaceCpuFaultWoken(m, page);
  }
  if (value !== null && m.contents !== null) contentsWrite(m.contents, 0, page, 0, value);
}

export function cpu(b: CopyMachine, page: number, value: number | null): void {
  runAll(b.m, cpuBody(b, page, value));
}

/** Accesses of a GPU's thread: page, access type, and the word that a write stores as soon as it is carried out. */
export type GpuAccess = readonly [page: number, access: number, value?: number];

export function* gpuBody(
  b: CopyMachine,
  gpu: number,
  accesses: readonly GpuAccess[],
  slot = b.slots[gpu],
): Generator<number, string[], void> {
  const { m } = b;
  const outcomes: string[] = [];
  m.gpus[gpu].clients.thread[slot] = m.k.currentThread;
  for (const [page, access, value] of accesses) {
    yield m.k.now;
    hostRunUntil(m, gpu, m.k.now);
    const before = m.res.accessReplayed;
    m.res.accessReplayed = (model, g, s, processor) => {
      if (g === gpu && s === slot && value !== undefined && model.contents !== null) {
        contentsWrite(model.contents, processor, page, 0, value);
      } else before?.(model, g, s, processor);
    };
    if (clientsIssue(m, gpu, slot, page, access)) {
      if (value !== undefined && m.contents !== null) {
        contentsWrite(m.contents, m.gpus[gpu].mmu.target, page, 0, value);
      }
      outcomes.push('hit');
      m.res.accessReplayed = before;
      continue;
    }
    let outcome = clientsOutcome(m, gpu, slot);
    while (outcome === CLIENT_PARKED) {
      yield BLOCKED;
      outcome = clientsOutcome(m, gpu, slot);
    }
    m.res.accessReplayed = before;
    outcomes.push(outcome === 2 ? 'replayed' : 'cancelled');
    if (outcome !== 2) break;
  }
  return outcomes;
}

export function gpu(b: CopyMachine, index: number, ...accesses: GpuAccess[]): string[] {
  return runAll(b.m, gpuBody(b, index, accesses));
}

/** Page of the managed memory, written by the CPU and moved to a GPU by its write of `value`. */
export function onGpu(b: CopyMachine, page: number, value: number, index = 0): void {
  cpu(b, page, value - 1);
  gpu(b, index, [page, ACCESS_WRITE, value]);
}

/** What a call is made with besides the parameters. */
export interface Call {
  file?: UvmFile;
  mm?: number;
  /** Run to the end of everything (default), or to the end of the call alone. */
  only?: boolean;
}

export function* callBody(
  b: CopyMachine,
  command: number,
  view: DataView,
  call: Call = {},
): Generator<number, number, void> {
  return yield* uvmCopyIoctl(b.m, call.file ?? b.file, call.mm ?? b.space.mm, command, new Uint8Array(view.buffer));
}

function issue(b: CopyMachine, command: number, view: DataView, call: Call): void {
  const body = callBody(b, command, view, call);
  const result = call.only ? runOnly(b.m, body) : runAll(b.m, body);
  if (result !== 0) throw new Error(`the ioctl returned ${result}`);
}

export interface FromFields extends Call {
  length?: number;
  flags?: number;
  /** Byte in the page. */
  offset?: number;
}

/** SET_COPY_FROM_ADDRESS; a page of null is address 0. Returns rmStatus. */
export function setFrom(b: CopyMachine, page: number | null, fields: FromFields = {}): number {
  const view = new DataView(new ArrayBuffer(SET_COPY_FROM_BYTES));
  view.setBigUint64(0, page === null ? 0n : BigInt(page) * 4096n + BigInt(fields.offset ?? 0), true);
  view.setBigUint64(8, BigInt(fields.length ?? 0), true);
  view.setUint32(16, fields.flags ?? 0, true);
  issue(b, COPY_IOCTL_NUMBERS.setCopyFromAddress, view, fields);
  return view.getUint32(20, true);
}

export interface NextResult {
  status: number;
  bytes: number;
  token: number;
  residentOn: number;
  channel: number;
  value: number;
}

export function nextView(page: number, flags = 0, offset = 0): DataView {
  const view = new DataView(new ArrayBuffer(SET_NEXT_COPY_BYTES));
  view.setBigUint64(0, BigInt(page) * 4096n + BigInt(offset), true);
  view.setUint32(8, flags, true);
  return view;
}

export function nextResult(view: DataView): NextResult {
  return {
    status: view.getUint32(12, true),
    bytes: Number(view.getBigUint64(16, true)),
    token: Number(view.getBigUint64(24, true)),
    residentOn: view.getUint32(32, true),
    channel: view.getUint32(36, true),
    value: Number(view.getBigUint64(40, true)),
  };
}

/** SET_NEXT_COPY_ADDRESS. */
export function next(b: CopyMachine, page: number, flags = 0, fields: FromFields = {}): NextResult {
  const view = nextView(page, flags, fields.offset ?? 0);
  issue(b, COPY_IOCTL_NUMBERS.setNextCopyAddress, view, fields);
  return nextResult(view);
}

export interface StatusResult {
  status: number;
  state: number;
  copyStatus: number;
  bytes: number;
  value: number;
}

export function statusView(token: number, flags = 0): DataView {
  const view = new DataView(new ArrayBuffer(COPY_STATUS_BYTES));
  view.setBigUint64(0, BigInt(token), true);
  view.setUint32(8, flags, true);
  return view;
}

export function statusResult(view: DataView): StatusResult {
  return {
    status: view.getUint32(12, true),
    state: view.getUint32(16, true),
    copyStatus: view.getUint32(20, true),
    bytes: Number(view.getBigUint64(24, true)),
    value: Number(view.getBigUint64(32, true)),
  };
}

/** COPY_STATUS. */
export function status(b: CopyMachine, token: number, flags = 0, call: Call = {}): StatusResult {
  const view = statusView(token, flags);
  issue(b, COPY_IOCTL_NUMBERS.copyStatus, view, call);
  return statusResult(view);
}

/** The record of the last copy. */
export function lastRecord(b: CopyMachine): CopyRecord {
  const { records } = b.space.copy;
  return records[records.length - 1];
}

/** First word of a page of plain memory, as the program sees it. */
export function plainWord(b: CopyMachine, page: number): number {
  if (b.m.contents === null || !b.m.contents.pages[0].has(page)) return 0;
  return contentsRead(b.m.contents, 0, page, 0);
}

/** All bytes of a page in a processor's memory. */
export function pageBytes(b: CopyMachine, processor: number, page: number): Uint8Array {
  if (b.m.contents === null) throw new Error('no contents');
  return new Uint8Array(contentsWords(b.m.contents, processor, page).buffer);
}

export function blockOf(b: CopyMachine, page: number): VaBlock {
  const block = vaBlockFind(b.space, page);
  if (block === null) throw new Error(`no block at page ${page}`);
  return block;
}
