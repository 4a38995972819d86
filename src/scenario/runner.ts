/**
 * Runs a scenario on the model: the program that the ground truth's recorder was, as one host thread that touches
 * pages, launches single-thread kernels and calls the driver, one step after another, synchronised in between.
 *
 * The state of a run is plain data with a cursor (step, touch), so a run can stop between any two touches, be copied,
 * and go on. What a GPU thread does is part of the host thread here: it has one access outstanding and waits for the
 * replay.
 */

import { type UvmFile, uvmFileInitialize, uvmFileOpen } from '../model/copy_routine/ioctl.ts';
import { userMunmap } from '../model/copy_routine/user_memory.ts';
import { hostRunUntil } from '../model/gpu/host.ts';
import { clientsAddSlot } from '../model/gpu/sm.ts';
import { runNextEvent } from '../model/kernel/clock.ts';
import { mmMapPlain } from '../model/kernel/mm.ts';
import { THREAD_DONE, threadCreate, threadsAllBlocked } from '../model/kernel/thread.ts';
import { type ModelOptions, restoreSnapshot, type Snapshot, takeSnapshot } from '../model/model.ts';
import type { Costs, MachineSpec } from '../model/spec.ts';
import type { Model } from '../model/state.ts';
import { uvmMigrate } from '../model/uvm/migrate.ts';
import type { ModuleParameters } from '../model/uvm/params.ts';
import { policySetAccessedBy, policySetPreferredLocation, policySetReadDuplication } from '../model/uvm/policy.ts';
import { CPU_ID, INVALID_ID } from '../model/uvm/processors.ts';
import { EndlessWaitError } from '../model/uvm/spin_loop.ts';
import { NV_OK, NV_WARN_MORE_PROCESSING_REQUIRED, statusName } from '../model/uvm/status.ts';
import { toolsFlush } from '../model/uvm/tools.ts';
import { vaSpaceMunmap } from '../model/uvm/va_range.ts';
import { processorName, vaSpaceMmap } from '../model/uvm/va_space.ts';
import { cpuTouches, gpuTouches, hostTouches, runContend } from './access_steps.ts';
import { aesGcm } from './aead.ts';
import { checkBytes, copyStatus, memcpy, setCopyFrom, setNextCopy } from './copy_steps.ts';
import { fail, type Run, type RunState, StepError, store } from './run.ts';
import {
  type AdviseStep,
  type Allocation,
  accessPages,
  type PrefetchStep,
  type Scenario,
  type Step,
} from './scenario.ts';

export { type Run, type RunState, StepError } from './run.ts';

/** Starts a run on a fresh model: allocates the buffers, runs nothing yet. */
export function createRun(m: Model, scenario: Scenario): Run {
  const space = m.vaSpaces[0];
  for (const [i, allocation] of scenario.allocations.entries()) {
    if (allocation.kind === 'managed') vaSpaceMmap(space, allocation.firstPage, allocation.pages, i);
    else mmMapPlain(m.k, space.mm, allocation.firstPage, allocation.pages);
  }
  const slots = m.gpus.map((gpu) => clientsAddSlot(m, gpu.index, 0, 0, 0, INVALID_ID));
  const state: RunState = {
    step: 0,
    touch: 0,
    begun: false,
    stepStart: 0,
    begins: [],
    wall: [],
    expected: m.contents === null ? null : new Map(),
    mismatches: 0,
    copyToken: 0,
    error: null,
  };
  return attach({ scenario, m, space, slots, state, file: openFile(m), carried: null });
}

/** The file of the program's VA space. */
function openFile(m: Model): UvmFile {
  const file = uvmFileOpen();
  uvmFileInitialize(file, m.vaSpaces[0]);
  return file;
}

/** Lets replays carry out the contending GPU's parked write: by the time its thread goes on, the page may have left. */
function attach(run: Run): Run {
  run.m.res.accessReplayed = (_m, gpu, slot, processor) => {
    if (run.carried !== null && slot === run.slots[gpu]) store(run, processor, run.carried.page, run.carried.value);
  };
  return run;
}

function advise(run: Run, step: AdviseStep): number {
  const { m, space, scenario } = run;
  // As every ioctl of the driver.
  if (m.globalStatus !== NV_OK) return m.globalStatus;
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
  if (m.globalStatus !== NV_OK) return m.globalStatus;
  const start = scenario.allocations[step.buffer].firstPage + step.offset / 4096;
  return uvmMigrate(m, space, start, start + step.length / 4096, step.to);
}

function free(run: Run, allocation: Allocation): void {
  const { m, space, state } = run;
  if (allocation.kind === 'managed') {
    vaSpaceMunmap(m, space, allocation.firstPage, allocation.firstPage + allocation.pages);
  } else {
    userMunmap(m, space.mm, allocation.firstPage, allocation.pages);
  }
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
        hostTouches(run, step, pages, allocation.firstPage, limit);
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
      return yield* setCopyFrom(run, step);
    case 'setNextCopy':
      return yield* setNextCopy(run, step);
    case 'copyStatus':
      return yield* copyStatus(run, step);
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
  state.begins.push(m.k.now);
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

/** Ends a run with an error that is the step's or the driver's; throws any other. */
export function endWith(run: Run, error: unknown): void {
  if (error instanceof StepError) run.state.error = error.message;
  else if (error instanceof EndlessWaitError) run.state.error = `steps[${run.state.step}]: ${error.message}`;
  else throw error;
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
    if (m.k.threads[thread].status !== THREAD_DONE) {
      const status = `the driver's global status is ${statusName(m.globalStatus)}`;
      fail(run, `the program waits for the driver, which has nothing more to do: ${status}`);
    }
  } catch (error) {
    endWith(run, error);
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
  const m = restoreSnapshot(snapshot.model, spec, params, cost, { aead: aesGcm, ...options });
  const state = structuredClone(snapshot.state);
  return attach({
    scenario,
    m,
    space: m.vaSpaces[0],
    slots: [...snapshot.slots],
    state,
    file: openFile(m),
    carried: null,
  });
}
