/**
 * Runs a scenario on the model: the program that the ground truth's recorder was, as one host thread that touches
 * pages, launches single-thread kernels and calls the driver, one step after another, synchronised in between.
 *
 * The state of a run is plain data with a cursor (step, touch), so a run can stop between any two touches, be copied,
 * and go on. What a GPU thread does is part of the host thread here: it has one access outstanding and waits for the
 * replay.
 */

import { contentsRead, contentsWrite } from '../model/gpu/contents.ts';
import { hostRunUntil } from '../model/gpu/host.ts';
import {
  CLIENT_CANCELLED,
  CLIENT_PARKED,
  clientsAddSlot,
  clientsIssue,
  clientsOutcome,
  clientsSetThread,
} from '../model/gpu/sm.ts';
import { nextEventTime, runNextEvent } from '../model/kernel/clock.ts';
import { mmPagePresent } from '../model/kernel/mm.ts';
import { BLOCKED, THREAD_DONE, threadCreate, threadsAllBlocked } from '../model/kernel/thread.ts';
import { type ModelOptions, restoreSnapshot, type Snapshot, takeSnapshot } from '../model/model.ts';
import type { Costs, MachineSpec } from '../model/spec.ts';
import type { Model } from '../model/state.ts';
import { uvmMigrate } from '../model/uvm/migrate.ts';
import type { ModuleParameters } from '../model/uvm/params.ts';
import { policySetAccessedBy, policySetPreferredLocation, policySetReadDuplication } from '../model/uvm/policy.ts';
import { CPU_ID, INVALID_ID } from '../model/uvm/processors.ts';
import { NV_OK, NV_WARN_MORE_PROCESSING_REQUIRED } from '../model/uvm/status.ts';
import { toolsFlush } from '../model/uvm/tools.ts';
import { pageIsResident, vaBlockPageIsGpuAuthorized } from '../model/uvm/va_block.ts';
import {
  CPU_FAULT_DONE,
  CPU_FAULT_FATAL,
  vaSpaceCpuFault,
  vaSpaceCpuFaultWoken,
} from '../model/uvm/va_block_cpu_fault.ts';
import {
  ACCESS_ATOMIC_WEAK,
  ACCESS_READ,
  ACCESS_WRITE,
  PROT_READ_ONLY,
  PROT_READ_WRITE,
  type VaBlock,
} from '../model/uvm/va_block_types.ts';
import { vaSpaceMunmap } from '../model/uvm/va_range.ts';
import type { VaSpace } from '../model/uvm/va_range_types.ts';
import { processorName, vaBlockFind, vaSpaceMmap } from '../model/uvm/va_space.ts';
import {
  type AccessStep,
  type AdviseStep,
  type Allocation,
  accessPages,
  type CheckBytesStep,
  type ContendStep,
  type MemcpyStep,
  type PageList,
  type PrefetchStep,
  type Scenario,
  type Step,
} from './scenario.ts';

/** A step that the runner cannot carry out; the message is for the user and names the step. */
export class StepError extends Error {
  override name = 'StepError';
}

/** Clock of an H200's SMs while a kernel pauses. */
const SM_CYCLES_PER_MICROSECOND = 1980;
/** Word of a page that `contend` lets the CPU write; the GPU writes word 0. */
const CONTEND_CPU_WORD = 64;

/** Plain state of a run; see the head of this file. */
export interface RunState {
  step: number;
  /** Touches of the current access step that are done. */
  touch: number;
  /** Whether the current step has begun, and its start, ns. */
  begun: boolean;
  stepStart: number;
  /** Wall time of each finished step, microseconds. */
  wall: number[];
  /** Last value stored in each page's first word, by page; null without contents. */
  expected: Map<number, number> | null;
  /** Reads that did not see the last write. */
  mismatches: number;
  /** Why the run ended early. */
  error: string | null;
}

export interface Run {
  readonly scenario: Scenario;
  m: Model;
  space: VaSpace;
  state: RunState;
  /** Client slot of the single-thread kernels, by GPU index. */
  slots: number[];
  /** What the write of a contending GPU stores that is parked now. */
  carried: { page: number; value: number } | null;
}

/** Starts a run on a fresh model: allocates the buffers, runs nothing yet. */
export function createRun(m: Model, scenario: Scenario): Run {
  const space = m.vaSpaces[0];
  for (const [i, allocation] of scenario.allocations.entries()) {
    if (allocation.kind === 'managed') vaSpaceMmap(space, allocation.firstPage, allocation.pages, i);
  }
  const slots = m.gpus.map((gpu) => clientsAddSlot(m, gpu.index, 0, 0, 0, INVALID_ID));
  const state: RunState = {
    step: 0,
    touch: 0,
    begun: false,
    stepStart: 0,
    wall: [],
    expected: m.contents === null ? null : new Map(),
    mismatches: 0,
    error: null,
  };
  return attach({ scenario, m, space, slots, state, carried: null });
}

/** Lets replays carry out the contending GPU's parked write: by the time its thread goes on, the page may have left. */
function attach(run: Run): Run {
  run.m.res.accessReplayed = (_m, gpu, slot, processor) => {
    if (run.carried !== null && slot === run.slots[gpu]) store(run, processor, run.carried.page, run.carried.value);
  };
  return run;
}

function fail(run: Run, message: string): never {
  throw new StepError(`steps[${run.state.step}]: ${message}`);
}

/** Compares what a read saw with the last value stored in the page's first word. */
function checkRead(run: Run, processor: number, page: number): void {
  const { state, m } = run;
  if (state.expected === null || m.contents === null) return;
  if (contentsRead(m.contents, processor, page, 0) !== (state.expected.get(page) ?? 0)) state.mismatches++;
}

function store(run: Run, processor: number, page: number, value: number): void {
  const { state, m } = run;
  if (state.expected === null || m.contents === null) return;
  contentsWrite(m.contents, processor, page, 0, value);
  state.expected.set(page, value);
}

/** Which processor's memory a CPU access reaches: its own, or over a coherent link a GPU's. */
function cpuTarget(block: VaBlock, page: number): number {
  if (pageIsResident(block, CPU_ID, page)) return CPU_ID;
  for (let id = 1; id <= block.gpus.length; id++) if (pageIsResident(block, id, page)) return id;
  return CPU_ID;
}

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
  else if (step.do === 'atomic') store(run, target, page, ((expected.get(page) ?? 0) + 1) >>> 0);
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

function* cpuTouches(
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
  else if (step.do === 'atomic') store(run, target, page, ((state.expected.get(page) ?? 0) + 1) >>> 0);
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

function* gpuTouches(
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

function* runContend(run: Run, step: ContendStep): Generator<number, void, void> {
  const { m, scenario } = run;
  const page = scenario.allocations[step.buffer].firstPage + step.page;
  const cpu = threadCreate(m, 'contend cpu', contendCpu(run, step, page));
  yield* contendGpu(run, step, page);
  // Joining: this thread registers with the other one, which wakes it when it ends.
  const writer = m.k.threads[cpu];
  if (writer.status !== THREAD_DONE) writer.joiners.push(m.k.currentThread);
  while (writer.status !== THREAD_DONE) yield BLOCKED;
}

function advise(run: Run, step: AdviseStep): number {
  const { m, space, scenario } = run;
  const base = scenario.allocations[step.buffer].firstPage;
  const start = base + step.offset / 4096;
  const outer = start + step.length / 4096;
  switch (step.advice) {
    case 'setPreferredLocation':
      return policySetPreferredLocation(m, space, start, outer, step.processor);
    case 'unsetPreferredLocation':
      return policySetPreferredLocation(m, space, start, outer, INVALID_ID);
    case 'setAccessedBy':
      return policySetAccessedBy(m, space, start, outer, step.processor, true);
    case 'unsetAccessedBy':
      return policySetAccessedBy(m, space, start, outer, step.processor, false);
    case 'setReadMostly':
      return policySetReadDuplication(m, space, start, outer, true);
    case 'unsetReadMostly':
      return policySetReadDuplication(m, space, start, outer, false);
  }
}

function prefetch(run: Run, step: PrefetchStep): number {
  const { m, space, scenario } = run;
  const start = scenario.allocations[step.buffer].firstPage + step.offset / 4096;
  return uvmMigrate(m, space, start, start + step.length / 4096, step.to);
}

/** A copy engine of gpu0 reads or writes managed memory; only what is resident and mapped there goes without faults. */
function memcpy(run: Run, step: MemcpyStep): void {
  const { m, space, scenario } = run;
  if (step.length === 0) return;
  for (const side of [step.from, step.to]) {
    if (side < 0 || scenario.allocations[side].kind !== 'managed') continue;
    const base = scenario.allocations[side].firstPage;
    const first = Math.floor(step.offset / 4096);
    const last = Math.floor((step.offset + step.length - 1) / 4096);
    const needed = side === step.to ? PROT_READ_WRITE : PROT_READ_ONLY;
    for (let i = first; i <= last; i++) {
      const block = vaBlockFind(space, base + i);
      const page = block === null ? 0 : base + i - block.startPage;
      if (block === null || !pageIsResident(block, 1, page) || !vaBlockPageIsGpuAuthorized(block, page, 1, needed)) {
        fail(
          run,
          `memcpy reaches page ${i} of buffer '${scenario.allocations[side].name}', ` +
            'which is not resident and mapped on gpu0; copies that fault are not modelled yet',
        );
      }
    }
  }
  m.k.now += m.cost.memcpyCall + Math.ceil(step.length / 4096) * m.cost.memcpyPage;
}

/** Reads a page's first word where its valid copy is, without moving it. */
function peek(run: Run, buffer: number, page: number): number {
  const { m, space, scenario } = run;
  if (m.contents === null) fail(run, 'checkBytes needs a run with contents');
  const absolute = scenario.allocations[buffer].firstPage + page;
  for (const gpu of m.gpus) hostRunUntil(m, gpu.index, Number.MAX_SAFE_INTEGER);
  const block = vaBlockFind(space, absolute);
  if (block === null) return 0;
  for (let id = 0; id <= m.spec.gpus; id++) {
    if (pageIsResident(block, id, absolute - block.startPage)) return contentsRead(m.contents, id, absolute, 0);
  }
  return 0;
}

function checkBytes(run: Run, step: CheckBytesStep): void {
  const name = run.scenario.allocations[step.buffer].name;
  const have = peek(run, step.buffer, step.page);
  const want = step.sameAs === null ? (step.value ?? 0) : peek(run, step.sameAs.buffer, step.sameAs.page);
  if (have !== want) fail(run, `page ${step.page} of buffer '${name}' begins with ${have}, not with ${want}`);
}

function free(run: Run, allocation: Allocation): void {
  const { m, space, state } = run;
  if (allocation.kind !== 'managed') return;
  vaSpaceMunmap(m, space, allocation.firstPage, allocation.firstPage + allocation.pages);
  if (state.expected === null) return;
  for (const page of [...state.expected.keys()]) {
    if (page >= allocation.firstPage && page < allocation.firstPage + allocation.pages) state.expected.delete(page);
  }
}

function check(run: Run, status: number, what: string): void {
  if (status === NV_OK || status === NV_WARN_MORE_PROCESSING_REQUIRED) return;
  fail(run, `${what} failed with status 0x${status.toString(16)}`);
}

/** Runs what is left of one step, or at most `limit` touches of it (counted from the step's first). */
export function* runStep(run: Run, step: Step, limit: number): Generator<number, void, void> {
  const { m, scenario } = run;
  switch (step.do) {
    case 'read':
    case 'write':
    case 'atomic': {
      const allocation = scenario.allocations[step.buffer];
      const pages = accessPages(step, allocation);
      if (step.on === CPU_ID && allocation.kind !== 'managed') {
        m.k.now += (pages.length - run.state.touch) * m.cost.cpuAccess;
        run.state.touch = pages.length;
      } else if (step.on === CPU_ID) {
        yield* cpuTouches(run, step, pages, allocation.firstPage, limit);
      } else {
        if (run.state.touch === 0) m.k.now += m.cost.kernelLaunch;
        yield* gpuTouches(run, step, pages, allocation.firstPage, limit);
      }
      return;
    }
    case 'prefetch':
      return check(run, prefetch(run, step), `prefetch to ${processorName(step.to)}`);
    case 'advise':
      return check(run, advise(run, step), `advice ${step.advice}`);
    case 'contend':
      return yield* runContend(run, step);
    case 'memcpy':
      return memcpy(run, step);
    case 'checkBytes':
      return checkBytes(run, step);
    case 'free':
      return free(run, scenario.allocations[step.buffer]);
    case 'kernel':
    case 'memset':
      return fail(run, `'${step.do}' cannot be run yet: only a recording of it can be replayed`);
    case 'setCopyFrom':
    case 'setNextCopy':
    case 'copyStatus':
      return fail(run, `'${step.do}' belongs to the copy routine, which is not built yet`);
  }
}

/** Touches of an access step; other steps count as one. */
function stepTouches(step: Step): number {
  if (step.do !== 'read' && step.do !== 'write' && step.do !== 'atomic') return 1;
  return step.pages === null ? Math.ceil(step.length / step.stride) : step.pages.length;
}

/** Ends a step: its wall time, then a pause in which late work comes to rest, and the delivery of its events. */
export function* finishStep(run: Run): Generator<number, void, void> {
  const { m, state } = run;
  state.wall.push((m.k.now - state.stepStart) / 1000);
  yield m.k.now + m.cost.stepGap;
  for (const gpu of m.gpus) hostRunUntil(m, gpu.index, m.k.now);
  toolsFlush(m);
  state.step++;
  state.touch = 0;
  state.begun = false;
}

export function beginStep(run: Run): void {
  const { m, state } = run;
  m.tools.step = state.step;
  if (state.begun) return;
  state.begun = true;
  state.stepStart = m.k.now;
}

/** The host thread: goes on from the cursor for at most `budget` touches. */
function* program(run: Run, budget: number): Generator<number, void, void> {
  const { state, scenario } = run;
  let left = budget;
  while (state.step < scenario.steps.length && left > 0) {
    const step = scenario.steps[state.step];
    beginStep(run);
    const before = state.touch;
    const total = stepTouches(step);
    const limit = before + left;
    yield* runStep(run, step, limit);
    left -= Math.max(1, Math.min(total, limit) - before);
    if (total > limit && state.touch < total) return;
    yield* finishStep(run);
  }
}

/**
 * Goes on for at most `budget` touches (steps without pages count as one). The driver may still be at work afterwards:
 * runCanStop tells whether the state may be copied. Returns true when the scenario has ended or failed;
 * `run.state.error` tells which.
 */
export function advanceRun(run: Run, budget = Number.POSITIVE_INFINITY): boolean {
  const { m, state } = run;
  if (state.error !== null) return true;
  const resumeAt = m.k.now;
  m.k.eventTime = Math.min(m.k.eventTime, resumeAt);
  try {
    const thread = threadCreate(m, 'program', program(run, budget));
    while (m.k.threads[thread].status !== THREAD_DONE && runNextEvent(m));
  } catch (error) {
    if (!(error instanceof StepError)) throw error;
    state.error = error.message;
  }
  return state.error !== null || state.step >= run.scenario.steps.length;
}

/** A run that was stopped: plain data, which nothing changes any more. */
export interface RunSnapshot {
  readonly model: Snapshot;
  readonly state: RunState;
  readonly slots: readonly number[];
}

/** Whether the run may be copied now: the driver's threads have nothing to do. If not, it may after more touches. */
export function runCanStop(run: Run): boolean {
  return threadsAllBlocked(run.m);
}

/** Copies a run between two calls of advanceRun; runCanStop says when. */
export function snapshotRun(run: Run): RunSnapshot {
  return { model: takeSnapshot(run.m), state: structuredClone(run.state), slots: [...run.slots] };
}

/**
 * A run that goes on from a snapshot, on a model of its own. Scenario, machine, parameters, costs and options are those
 * of the run that was copied. A snapshot may be resumed any number of times.
 */
export function resumeRun(
  snapshot: RunSnapshot,
  scenario: Scenario,
  spec: MachineSpec,
  params: ModuleParameters,
  cost: Costs,
  options: ModelOptions = {},
): Run {
  const m = restoreSnapshot(snapshot.model, spec, params, cost, options);
  const state = structuredClone(snapshot.state);
  return attach({ scenario, m, space: m.vaSpaces[0], slots: [...snapshot.slots], state, carried: null });
}
