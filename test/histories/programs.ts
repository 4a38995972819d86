/** Programs of a burst: threads of GPUs and of the CPU that access memory at the same time. */
import { faultBufferInject } from '../../src/model/gpu/fault_buffer.ts';
import { hostRunUntil } from '../../src/model/gpu/host.ts';
import {
  CLIENT_CANCELLED,
  CLIENT_PARKED,
  clientsAddSlot,
  clientsIssue,
  clientsOutcome,
} from '../../src/model/gpu/sm.ts';
import { mmPagePresent } from '../../src/model/kernel/mm.ts';
import { BLOCKED, THREAD_DONE, threadCreate } from '../../src/model/kernel/thread.ts';
import { gpuFaultBufferFlush } from '../../src/model/uvm/gpu_replayable_faults_flush.ts';
import { faultTypeIsFatal } from '../../src/model/uvm/gpu_replayable_faults_types.ts';
import { NV_OK } from '../../src/model/uvm/status.ts';
import { pageIsResident } from '../../src/model/uvm/va_block.ts';
import {
  CPU_FAULT_DONE,
  CPU_FAULT_FATAL,
  vaSpaceCpuFault,
  vaSpaceCpuFaultWoken,
} from '../../src/model/uvm/va_block_cpu_fault.ts';
import { vaBlockFind } from '../../src/model/uvm/va_space.ts';
import { count } from './coverage.ts';
import { fail, type Harness, isLegal, pageAt, touch } from './harness.ts';
import type { Program, RawFault } from './history.ts';

/** A client slot that nobody uses, with these numbers. */
function takeSlot(h: Harness, gpu: number, gpc: number, client: number): number {
  const slot = h.slots[gpu].pop() ?? clientsAddSlot(h.m, gpu, gpc, client, 0, -1);
  const c = h.m.gpus[gpu].clients;
  c.gpc[slot] = gpc;
  c.client[slot] = client;
  c.thread[slot] = h.m.k.currentThread;
  return slot;
}

/** One access of a GPU's program; false when it was cancelled. */
function* gpuAccess(h: Harness, gpu: number, slot: number, page: number, access: number): Generator<number, boolean> {
  const { m } = h;
  // What others did up to now comes first.
  yield m.k.now;
  hostRunUntil(m, gpu, m.k.now);
  if (clientsIssue(m, gpu, slot, page, access)) {
    if (access !== 0) touch(h, m.gpus[gpu].mmu.target, page, access);
  } else {
    h.parked[gpu][slot] = { page, access };
    let outcome = clientsOutcome(m, gpu, slot);
    while (outcome === CLIENT_PARKED) {
      yield BLOCKED;
      outcome = clientsOutcome(m, gpu, slot);
    }
    delete h.parked[gpu][slot];
    if (outcome === CLIENT_CANCELLED) {
      count(h.coverage, 'access cancelled');
      if (isLegal(h, gpu + 1, page) && !h.scarce && !h.doomed.has(page))
        fail(`gpu${gpu}: a legal access to page ${page} was cancelled`);
      return false;
    }
  }
  if (access !== 0 && vaBlockFind(h.run.space, page) === null) {
    fail(`gpu${gpu}: an access to page ${page}, which nobody allocated, succeeds`);
  }
  m.k.now += m.cost.gpuAccessHit;
  return true;
}

function* gpuProgram(h: Harness, program: Program, start: number): Generator<number, void, void> {
  const gpu = program.on - 1;
  yield start + program.at;
  const slot = takeSlot(h, gpu, program.gpc, program.client);
  for (const [buffer, page, access] of program.accesses) {
    const done = yield* gpuAccess(h, gpu, slot, pageAt(h, buffer, page), access);
    if (!done) break;
  }
  h.slots[gpu].push(slot);
}

/** One access of a CPU thread; false when it ends in a bus error. */
function* cpuAccess(h: Harness, page: number, access: number): Generator<number, boolean> {
  const { m, run } = h;
  const write = access > 1;
  yield m.k.now;
  for (;;) {
    // Right after its fault the CPU has the page: nobody else had the block's lock since.
    const block = vaBlockFind(run.space, page);
    if (block !== null && mmPagePresent(block.w, page - block.startPage, write)) {
      if (!pageIsResident(block, 0, page - block.startPage)) fail(`the CPU maps page ${page}, which is not its own`);
      touch(h, 0, page, access);
      m.k.now += m.cost.cpuAccess;
      return true;
    }
    for (let retries = 0; ; retries++) {
      const outcome = vaSpaceCpuFault(m, run.space, page, write, retries);
      if (outcome === CPU_FAULT_DONE) break;
      if (outcome === CPU_FAULT_FATAL) {
        count(h.coverage, 'bus error');
        if (isLegal(h, 0, page)) fail(`a legal access of the CPU to page ${page} ends in a bus error`);
        return false;
      }
      yield outcome;
      vaSpaceCpuFaultWoken(m, page);
    }
  }
}

function* cpuProgram(h: Harness, program: Program, start: number): Generator<number, void, void> {
  yield start + program.at;
  for (const [buffer, page, access] of program.accesses) {
    const done = yield* cpuAccess(h, pageAt(h, buffer, page), access);
    if (!done) return;
  }
}

function* flush(h: Harness, gpu: number, at: number): Generator<number, void, void> {
  yield at;
  const status = yield* gpuFaultBufferFlush(h.m, h.m.gpus[gpu]);
  if (status !== NV_OK) fail(`a flush of the fault buffer fails with status ${status}`);
}

function injectRaw(h: Harness, raw: RawFault, start: number): void {
  const { m } = h;
  const time = start + raw.at;
  const page = pageAt(h, raw.buffer, raw.page);
  // The cancel of a fault that nobody can service ends every access to its page.
  if (faultTypeIsFatal(raw.type)) h.doomed.add(page);
  faultBufferInject(m, raw.gpu - 1, page, raw.access, raw.type, raw.gpc, raw.client, 0, time, time + raw.late);
}

/** Starts everything and waits until all programs have ended. */
export function* burst(
  h: Harness,
  programs: readonly Program[],
  raw: readonly RawFault[] = [],
  flushAt: readonly number[] = [],
): Generator<number, void, void> {
  const { m } = h;
  const start = Math.ceil(m.k.now);
  h.doomed.clear();
  const threads: number[] = [];
  for (const program of programs) {
    const body = program.on === 0 ? cpuProgram(h, program, start) : gpuProgram(h, program, start);
    threads.push(threadCreate(m, 'program', body));
  }
  for (const at of flushAt) threads.push(threadCreate(m, 'flush', flush(h, at % m.spec.gpus, start + at)));
  for (const fault of raw) injectRaw(h, fault, start);
  for (const thread of threads) {
    if (m.k.threads[thread].status !== THREAD_DONE) m.k.threads[thread].joiners.push(m.k.currentThread);
  }
  for (const thread of threads) while (m.k.threads[thread].status !== THREAD_DONE) yield BLOCKED;
}
