/**
 * Steps that copy without a fault of their own: the copy routine's ioctls, `memcpy` by a copy engine, and `checkBytes`,
 * which looks at what they did.
 */
import { PAGE_SIZE } from '../base/units.ts';
import {
  COPY_IOCTL_NUMBERS,
  COPY_STATUS_BYTES,
  NEXT_COPY_ARM,
  NEXT_COPY_ASYNC,
  SET_COPY_FROM_BYTES,
  SET_NEXT_COPY_BYTES,
  STATUS_DISARM,
  STATUS_WAIT,
  uvmCopyIoctl,
} from '../model/copy_routine/ioctl.ts';
import {
  type Contents,
  contentsCopyBytes,
  contentsPopulate,
  contentsRead,
  contentsWords,
} from '../model/gpu/contents.ts';
import { hostRunUntil } from '../model/gpu/host.ts';
import { CPU_ID } from '../model/uvm/processors.ts';
import { NV_OK, statusName } from '../model/uvm/status.ts';
import { pageIsResident, vaBlockPageIsGpuAuthorized } from '../model/uvm/va_block.ts';
import { PROT_READ_ONLY, PROT_READ_WRITE } from '../model/uvm/va_block_types.ts';
import { vaBlockFind } from '../model/uvm/va_space.ts';
import { fail, type Run } from './run.ts';
import {
  BASE_PAGE,
  type CheckBytesStep,
  type CopyStatusStep,
  HOST_SIDE,
  type MemcpyStep,
  NO_BUFFER,
  type SetCopyFromStep,
  type SetNextCopyStep,
} from './scenario.ts';

/** Where the program's memory that is no allocation lies, as a side of a memcpy: far below all buffers. */
const HOST_SIDE_PAGE = BASE_PAGE / 2;

/** Why a copy step may be refused, by the number of the rule in docs/copy-routine.md. */
const REFUSALS: Readonly<Record<number, string>> = {
  4: 'there is no copy with that token',
  8: 'the address to copy from lies in managed memory',
  9: 'the address to copy from stays as it is while a copy is armed',
  11: 'without arm there must be an address to copy from (setCopyFrom)',
  12: 'source and destination overlap',
  13: 'the destination is not memory of the program to its end, or the driver has met a fatal error',
  25: 'an asynchronous copy goes to host memory alone',
  30: 'an armed copy is of one page and goes to host memory alone',
  31: 'a copy is armed already, and there can be one',
};

function byteAddress(run: Run, buffer: number, page: number): bigint {
  return BigInt(run.scenario.allocations[buffer].firstPage + page) * BigInt(PAGE_SIZE);
}

/** Issues an ioctl; a status other than NV_OK ends the scenario, with the status and the rule in words. */
function* copyIoctl(
  run: Run,
  what: string,
  command: number,
  view: DataView,
  statusAt: number,
): Generator<number, void> {
  const { m, space, file } = run;
  const result = yield* uvmCopyIoctl(m, file, space.mm, command, new Uint8Array(view.buffer));
  if (result !== 0) fail(run, `${what}: the ioctl returned ${result}`);
  const status = view.getUint32(statusAt, true);
  if (status === NV_OK) return;
  const rule = REFUSALS[m.copyRoutine.refusedBy];
  const why = rule === undefined ? '' : `: ${rule} (docs/copy-routine.md, rule ${m.copyRoutine.refusedBy})`;
  fail(run, `${what} failed with ${statusName(status)}${why}`);
}

export function* setCopyFrom(run: Run, step: SetCopyFromStep): Generator<number, void> {
  const view = new DataView(new ArrayBuffer(SET_COPY_FROM_BYTES));
  if (step.buffer !== NO_BUFFER) {
    view.setBigUint64(0, byteAddress(run, step.buffer, step.page), true);
    view.setBigUint64(8, BigInt(step.count * PAGE_SIZE), true);
  }
  yield* copyIoctl(run, 'setCopyFrom', COPY_IOCTL_NUMBERS.setCopyFromAddress, view, 20);
}

export function* setNextCopy(run: Run, step: SetNextCopyStep): Generator<number, void> {
  const view = new DataView(new ArrayBuffer(SET_NEXT_COPY_BYTES));
  view.setBigUint64(0, byteAddress(run, step.buffer, step.page), true);
  view.setUint32(8, (step.arm ? NEXT_COPY_ARM : 0) + (step.async ? NEXT_COPY_ASYNC : 0), true);
  yield* copyIoctl(run, 'setNextCopy', COPY_IOCTL_NUMBERS.setNextCopyAddress, view, 12);
  const token = Number(view.getBigUint64(24, true));
  if (token !== 0) run.state.copyToken = token;
  expectCopied(run, step);
}

export function* copyStatus(run: Run, step: CopyStatusStep): Generator<number, void> {
  if (run.state.copyToken === 0) fail(run, 'copyStatus: no setNextCopy with arm or async came before it');
  const view = new DataView(new ArrayBuffer(COPY_STATUS_BYTES));
  view.setBigUint64(0, BigInt(run.state.copyToken), true);
  view.setUint32(8, (step.wait ? STATUS_WAIT : 0) + (step.disarm ? STATUS_DISARM : 0), true);
  yield* copyIoctl(run, 'copyStatus', COPY_IOCTL_NUMBERS.copyStatus, view, 12);
}

/** What the copy stores at the start of B's pages is what reads of them see: from now on, or from some time on. */
function expectCopied(run: Run, step: SetNextCopyStep): void {
  const { expected } = run.state;
  if (expected === null) return;
  const { fromPage, fromPages } = run.space.copy;
  const to = run.scenario.allocations[step.buffer].firstPage + step.page;
  if (step.arm || step.async) for (let i = 0; i < Math.max(fromPages, 1); i++) expected.set(to + i, Number.NaN);
  else for (let i = 0; i < fromPages; i++) expected.set(to + i, expected.get(fromPage + i) ?? 0);
}

/** A side of a memcpy that lies in managed memory must be resident and mapped on gpu0. */
function checkMapped(run: Run, step: MemcpyStep, side: number): void {
  const allocation = run.scenario.allocations[side];
  const first = Math.floor(step.offset / PAGE_SIZE);
  const last = Math.floor((step.offset + step.length - 1) / PAGE_SIZE);
  const needed = side === step.to ? PROT_READ_WRITE : PROT_READ_ONLY;
  for (let i = first; i <= last; i++) {
    const block = vaBlockFind(run.space, allocation.firstPage + i);
    const page = block === null ? 0 : allocation.firstPage + i - block.startPage;
    if (block === null || !pageIsResident(block, 1, page) || !vaBlockPageIsGpuAuthorized(block, page, 1, needed)) {
      fail(
        run,
        `memcpy reaches page ${i} of buffer '${allocation.name}', ` +
          'which is not resident and mapped on gpu0; copies that fault are not modelled yet',
      );
    }
  }
}

/** Where a side of a memcpy lies: the processor whose memory it is in, and its first page. */
function memcpySide(run: Run, side: number): { processor: number; page: number } {
  if (side === HOST_SIDE) return { processor: CPU_ID, page: HOST_SIDE_PAGE };
  const allocation = run.scenario.allocations[side];
  return { processor: allocation.kind === 'managed' ? 1 : CPU_ID, page: allocation.firstPage };
}

/** Moves the bytes of a memcpy, page by page; both sides have the same offset, so no piece leaves its page. */
function memcpyContents(run: Run, contents: Contents, step: MemcpyStep): void {
  const { expected } = run.state;
  const from = memcpySide(run, step.from);
  const to = memcpySide(run, step.to);
  const outer = step.offset + step.length;
  for (let at = step.offset; at < outer; ) {
    const offset = at % PAGE_SIZE;
    const bytes = Math.min(PAGE_SIZE - offset, outer - at);
    const source = from.page + Math.floor(at / PAGE_SIZE);
    const target = to.page + Math.floor(at / PAGE_SIZE);
    if (from.processor === CPU_ID) contentsPopulate(contents, CPU_ID, source);
    if (to.processor === CPU_ID) contentsPopulate(contents, CPU_ID, target);
    contentsCopyBytes(contents, to.processor, target, offset, from.processor, source, offset, bytes);
    // What is read next at the start of a page of a buffer; the program's other memory is never read.
    if (expected !== null && offset < 4 && step.to !== HOST_SIDE) {
      const whole = offset === 0 && bytes >= 4 && step.from !== HOST_SIDE;
      const last = whole ? (expected.get(source) ?? 0) : contentsRead(contents, to.processor, target, 0);
      expected.set(target, last);
    }
    at += bytes;
  }
}

/** A copy engine of gpu0 reads or writes managed memory; only what is resident and mapped there goes without faults. */
export function memcpy(run: Run, step: MemcpyStep): void {
  const { m, scenario } = run;
  if (step.length === 0) return;
  for (const side of [step.from, step.to]) {
    if (side !== HOST_SIDE && scenario.allocations[side].kind === 'managed') checkMapped(run, step, side);
  }
  m.k.now += m.cost.memcpyCall + Math.ceil(step.length / PAGE_SIZE) * m.cost.memcpyPage;
  if (m.contents === null) return;
  for (const gpu of m.gpus) hostRunUntil(m, gpu.index, m.k.now);
  memcpyContents(run, m.contents, step);
}

/** All words of a page where its valid copy is, without moving it. The device is synchronised first. */
function peek(run: Run, buffer: number, page: number): Uint32Array {
  const { m, space, scenario } = run;
  if (m.contents === null) fail(run, 'checkBytes needs a run with contents');
  const absolute = scenario.allocations[buffer].firstPage + page;
  for (const gpu of m.gpus) hostRunUntil(m, gpu.index, Number.MAX_SAFE_INTEGER);
  if (scenario.allocations[buffer].kind === 'host') {
    contentsPopulate(m.contents, CPU_ID, absolute);
    return contentsWords(m.contents, CPU_ID, absolute);
  }
  const block = vaBlockFind(space, absolute);
  for (let id = 0; block !== null && id <= m.spec.gpus; id++) {
    if (pageIsResident(block, id, absolute - block.startPage)) return contentsWords(m.contents, id, absolute);
  }
  return new Uint32Array(PAGE_SIZE / 4);
}

/** Compares a page's first word with a value, or all of it with another page. */
export function checkBytes(run: Run, step: CheckBytesStep): void {
  const nameOf = (buffer: number): string => run.scenario.allocations[buffer].name;
  const have = peek(run, step.buffer, step.page);
  const page = `page ${step.page} of buffer '${nameOf(step.buffer)}'`;
  if (step.sameAs === null) {
    const value = step.value ?? 0;
    if (have[0] !== value) fail(run, `${page} begins with ${have[0]}, not with ${value}`);
    return;
  }
  const want = peek(run, step.sameAs.buffer, step.sameAs.page);
  const at = have.findIndex((word, i) => word !== want[i]);
  if (at < 0) return;
  const other = `page ${step.sameAs.page} of buffer '${nameOf(step.sameAs.buffer)}'`;
  fail(run, `${page} differs from ${other} at byte ${at * 4}: the word ${have[at]} instead of ${want[at]}`);
}
