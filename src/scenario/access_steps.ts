/**
 * Steps that touch memory: single accesses of the CPU and of a GPU's thread, and `contend`, where both write one page.
 */
import { contentsPopulate, contentsWrite } from '../model/gpu/contents.ts';
import { hostRunUntil } from '../model/gpu/host.ts';
import { CLIENT_CANCELLED, CLIENT_PARKED, clientsIssue, clientsOutcome, clientsSetThread } from '../model/gpu/sm.ts';
import { nextEventTime } from '../model/kernel/clock.ts';
import { mmPagePresent } from '../model/kernel/mm.ts';
import { BLOCKED, THREAD_DONE, threadCreate } from '../model/kernel/thread.ts';
import { CPU_ID } from '../model/uvm/processors.ts';
import {
  CPU_FAULT_DONE,
  CPU_FAULT_FATAL,
  vaSpaceCpuFault,
  vaSpaceCpuFaultWoken,
} from '../model/uvm/va_block_cpu_fault.ts';
import { ACCESS_ATOMIC_WEAK, ACCESS_READ, ACCESS_WRITE, type VaBlock } from '../model/uvm/va_block_types.ts';
import { vaBlockFind } from '../model/uvm/va_space.ts';
import { checkRead, cpuTarget, fail, lastStored, type Run, store } from './run.ts';
import type { AccessStep, ContendStep, PageList } from './scenario.ts';

/** Clock of an H200's SMs while a kernel pauses. */
const SM_CYCLES_PER_MICROSECOND = 1980;

/** Word of a page that `contend` lets the CPU write; the GPU writes word 0. */
const CONTEND_CPU_WORD = 64;

/** One CPU access: faults, and sleeps when throttled, until the page is there. */
function* cpuAccess(run: Run, page: number, write: boolean): Generator<number, VaBlock, void> {
  const { m, space } = run;
  for (;;) {
    const block = vaBlockFind(space, page);
    if (block !== null && mmPagePresent(block.w, page - block.startPage, write)) {
      m.k.now += m.cost.cpuAccess;
      return block;
    }
    let retries = 0;
    for (;;) {
      const outcome = vaSpaceCpuFault(m, space, page, write, retries++);
      if (outcome === CPU_FAULT_DONE) break;
      if (outcome === CPU_FAULT_FATAL) fail(run, `the CPU's access to page ${page} ended in a bus error`);
      yield outcome;
      vaSpaceCpuFaultWoken(m, page);
    }
    // The instruction is retried at once: whoever takes the page away again needs the block's lock, which was held.
  }
}

/** Waits until the faulting access of a client slot has been replayed. */
function* replayedAccess(run: Run, gpu: number, slot: number, page: number): Generator<number, void, void> {
  const { m } = run;
  for (;;) {
    const outcome = clientsOutcome(m, gpu, slot);
    if (outcome === CLIENT_CANCELLED) {
      fail(run, `the access of gpu${gpu} to page ${page} is a fatal fault: no managed buffer there`);
    }
    if (outcome !== CLIENT_PARKED) return;
    yield BLOCKED;
  }
}

/** A CPU access to a page that is present: what it reads and stores. */
function cpuContents(run: Run, step: AccessStep, block: VaBlock, page: number): void {
  const expected = run.state.expected;
  if (expected === null) return;
  const target = cpuTarget(block, page - block.startPage);
  checkRead(run, target, page);
  if (step.do === 'write') store(run, target, page, step.value);
  else if (step.do === 'atomic') store(run, target, page, (lastStored(run, target, page) + 1) >>> 0);
}

/**
 * Touches pages by the CPU from the cursor on as long as they are present and no other actor is due. A plain loop: most
 * touches of a history end here.
 */
function cpuHits(run: Run, step: AccessStep, pages: PageList, base: number, outer: number): void {
  const { state, m, space } = run;
  const write = step.do !== 'read';
  const cost = m.cost.cpuAccess;
  const due = nextEventTime(m);
  let block: VaBlock | null = null;
  while (state.touch < outer && m.k.now < due) {
    const page = base + pages[state.touch];
    if (block === null || page < block.startPage || page >= block.startPage + block.n) block = vaBlockFind(space, page);
    if (block === null || !mmPagePresent(block.w, page - block.startPage, write)) return;
    m.k.now += cost;
    cpuContents(run, step, block, page);
    state.touch++;
  }
}

/** Touches pages of managed memory by the CPU, up to touch `limit` of the step. */
export function* cpuTouches(
  run: Run,
  step: AccessStep,
  pages: PageList,
  base: number,
  limit: number,
): Generator<number, void> {
  const { state, m } = run;
  const outer = Math.min(pages.length, limit);
  while (state.touch < outer) {
    cpuHits(run, step, pages, base, outer);
    if (state.touch === outer) return;
    if (m.k.now >= nextEventTime(m)) yield m.k.now;
    const page = base + pages[state.touch];
    cpuContents(run, step, yield* cpuAccess(run, page, step.do !== 'read'), page);
    state.touch++;
  }
}

const ACCESS_TYPE = { read: ACCESS_READ, write: ACCESS_WRITE, atomic: ACCESS_ATOMIC_WEAK } as const;

/** A GPU access that was translated: its cost, and what it reads and stores. */
function gpuDone(run: Run, step: AccessStep, page: number, extra: number): void {
  const { m, state } = run;
  const target = m.gpus[step.on - 1].mmu.target;
  m.k.now += (target === step.on ? m.cost.gpuAccessHit : m.cost.gpuAccessRemote) + extra;
  if (state.expected === null) return;
  checkRead(run, target, page);
  if (step.do === 'write') store(run, target, page, step.value);
  else if (step.do === 'atomic') store(run, target, page, (lastStored(run, target, page) + 1) >>> 0);
}

/**
 * Touches pages by a GPU's thread from the cursor on until one faults, which has parked then, or another actor is due.
 */
function gpuHits(run: Run, step: AccessStep, pages: PageList, base: number, outer: number, extra: number): boolean {
  const { state, m } = run;
  const gpu = step.on - 1;
  const slot = run.slots[gpu];
  const access = ACCESS_TYPE[step.do];
  const due = nextEventTime(m);
  while (state.touch < outer && m.k.now <= due) {
    const page = base + pages[state.touch];
    hostRunUntil(m, gpu, m.k.now);
    if (!clientsIssue(m, gpu, slot, page, access)) return false;
    gpuDone(run, step, page, extra);
    state.touch++;
  }
  return true;
}

/** Touches pages by one thread of a GPU, up to touch `limit` of the step. */
export function* gpuTouches(
  run: Run,
  step: AccessStep,
  pages: PageList,
  base: number,
  limit: number,
): Generator<number, void> {
  const { state, m } = run;
  const gpu = step.on - 1;
  const slot = run.slots[gpu];
  const extra = step.do === 'read' ? 0 : step.do === 'write' ? m.cost.gpuWriteExtra : m.cost.gpuAtomicExtra;
  const outer = Math.min(pages.length, limit);
  clientsSetThread(m, gpu, slot, m.k.currentThread);
  while (state.touch < outer) {
    if (gpuHits(run, step, pages, base, outer, extra)) {
      if (state.touch < outer) yield m.k.now;
      continue;
    }
    const page = base + pages[state.touch];
    yield* replayedAccess(run, gpu, slot, page);
    gpuDone(run, step, page, extra);
    state.touch++;
  }
}

/** The CPU's half of `contend`, on a thread of its own. */
function* contendCpu(run: Run, step: ContendStep, page: number): Generator<number, void, void> {
  const { m } = run;
  for (let i = 0; i < step.cpuWrites; i++) {
    const block = yield* cpuAccess(run, page, true);
    if (m.contents !== null) {
      contentsWrite(m.contents, cpuTarget(block, page - block.startPage), page, CONTEND_CPU_WORD, i + 1);
    }
    yield m.k.now + step.cpuPauseMicroseconds * 1000 + m.cost.sleepOvershoot;
  }
}

/** The GPU's half of `contend`: a write, a system fence, a read back, a pause. */
function* contendGpu(run: Run, step: ContendStep, page: number): Generator<number, void, void> {
  const { m } = run;
  const gpu = step.gpu - 1;
  const slot = run.slots[gpu];
  const pause = Math.round((step.gpuPauseCycles * 1000) / SM_CYCLES_PER_MICROSECOND);
  const mmu = m.gpus[gpu].mmu;
  clientsSetThread(m, gpu, slot, m.k.currentThread);
  m.k.now += m.cost.kernelLaunch;
  for (let i = 0; i < step.gpuWrites; i++) {
    hostRunUntil(m, gpu, m.k.now);
    run.carried = { page, value: i + 1 };
    if (clientsIssue(m, gpu, slot, page, ACCESS_WRITE)) store(run, mmu.target, page, i + 1);
    else yield* replayedAccess(run, gpu, slot, page);
    run.carried = null;
    m.k.now += (mmu.target === step.gpu ? m.cost.gpuAccessHit : m.cost.gpuAccessRemote) + m.cost.gpuWriteExtra;
    yield m.k.now + pause;
  }
}

/** A GPU thread and a CPU thread write one page at the same time; ends when both have. */
export function* runContend(run: Run, step: ContendStep): Generator<number, void, void> {
  const { m, scenario } = run;
  const page = scenario.allocations[step.buffer].firstPage + step.page;
  const cpu = threadCreate(m, 'contend cpu', contendCpu(run, step, page));
  yield* contendGpu(run, step, page);
  // Joining: this thread registers with the other one, which wakes it when it ends.
  const writer = m.k.threads[cpu];
  if (writer.status !== THREAD_DONE) writer.joiners.push(m.k.currentThread);
  while (writer.status !== THREAD_DONE) yield BLOCKED;
}

/** Touches pages of plain host memory, which never fault in the driver. */
export function hostTouches(run: Run, step: AccessStep, pages: PageList, base: number, limit: number): void {
  const { state, m } = run;
  const outer = Math.min(pages.length, limit);
  m.k.now += (outer - state.touch) * m.cost.cpuAccess;
  if (state.expected === null || m.contents === null) state.touch = outer;
  for (; state.touch < outer; state.touch++) {
    if (state.expected === null || m.contents === null) continue;
    const page = base + pages[state.touch];
    contentsPopulate(m.contents, CPU_ID, page);
    checkRead(run, CPU_ID, page);
    if (step.do === 'write') store(run, CPU_ID, page, step.value);
    else if (step.do === 'atomic') store(run, CPU_ID, page, (lastStored(run, CPU_ID, page) + 1) >>> 0);
  }
}
