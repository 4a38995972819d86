/** Carries out a history, step by step, with all checks after each. */
import { AssertionError } from '../../src/base/assert.ts';
import { maskTest } from '../../src/base/page_mask.ts';
import { MMU_OK, mmuTranslate } from '../../src/model/gpu/mmu.ts';
import { mmUnmapRange } from '../../src/model/kernel/mm.ts';
import type { Model } from '../../src/model/state.ts';
import { isrTopHalf } from '../../src/model/uvm/gpu_isr.ts';
import { nonReplayableFaultInject } from '../../src/model/uvm/gpu_non_replayable_faults.ts';
import { INVALID_ID } from '../../src/model/uvm/processors.ts';
import { rangeGroupAllMigratable, rangeGroupCreate, rangeGroupDestroy } from '../../src/model/uvm/range_group.ts';
import { rangeGroupSetAndMigrate, rangeGroupsAllowMigration } from '../../src/model/uvm/range_group_migrate.ts';
import {
  NV_ERR_INVALID_ADDRESS,
  NV_ERR_INVALID_ARGUMENT,
  NV_ERR_INVALID_DEVICE,
  NV_ERR_NO_MEMORY,
  NV_ERR_OBJECT_NOT_FOUND,
  NV_OK,
} from '../../src/model/uvm/status.ts';
import { pageIsResident, pageResidentProcessors, vaBlockPageIsGpuAuthorized } from '../../src/model/uvm/va_block.ts';
import { B_MAYBE_MAPPED } from '../../src/model/uvm/va_block_types.ts';
import { READ_DUPLICATION_ENABLED } from '../../src/model/uvm/va_range_types.ts';
import { vaBlockFind, vaSpaceMmap } from '../../src/model/uvm/va_space.ts';
import { advanceRun, beginStep, finishStep } from '../../src/scenario/runner.ts';
import type { Step } from '../../src/scenario/scenario.ts';
import { type Coverage, count, countLog } from './coverage.ts';
import {
  checkAtRest,
  createHarness,
  fail,
  type Harness,
  HistoryFailure,
  pageAt,
  refill,
  rest,
  runBody,
} from './harness.ts';
import type { Access, History, HistoryStep, Program } from './history.ts';
import { burst } from './programs.ts';

type StepOf<D extends HistoryStep['do']> = Extract<HistoryStep, { do: D }>;

const ACCESS = { read: 1, write: 2, atomic: 4 } as const;

/** Statuses with which a call may end although nothing is wrong. */
function tolerate(h: Harness, status: number, allowed: readonly number[], what: string): void {
  if (status === NV_OK || allowed.includes(status) || (h.scarce && status === NV_ERR_NO_MEMORY)) return;
  fail(`${what} ends with status 0x${status.toString(16)}`);
}

/** A step that the scenario's runner carries out. */
function runScenarioStep(h: Harness, step: Step, touches: number): void {
  const { run } = h;
  const at = run.state.step;
  run.scenario.steps.push(step);
  while (run.state.step === at && !advanceRun(run, touches));
  if (run.state.error !== null) fail(run.state.error);
  if (run.state.step !== at + 1) fail('nothing is left to happen, and the step has not ended');
}

/** A step of the history's own. */
function runOwnStep(h: Harness, body: () => Generator<number, void, void> | void): void {
  const { run } = h;
  run.scenario.steps.push({ do: 'free', buffer: 0 });
  function* all(): Generator<number, void, void> {
    beginStep(run);
    const generator = body();
    if (generator !== undefined) yield* generator;
    yield* finishStep(run);
  }
  runBody(h, all());
}

/** Pages of a step that names a range and a stride. */
function stridePages(step: StepOf<'stride'>): number[] {
  const pages: number[] = [];
  for (let page = step.first; page < step.outer; page += step.stride / 4096) pages.push(page);
  return pages;
}

function accessStep(h: Harness, step: StepOf<'access' | 'stride'>): void {
  const pages = step.do === 'access' ? step.pages : stridePages(step);
  const { space } = h.run;
  const fatal =
    h.scarce ||
    pages.some((p) => !rangeGroupAllMigratable(space, pageAt(h, step.buffer, p), pageAt(h, step.buffer, p) + 1));
  if (fatal) {
    // The runner takes a fatal fault for the end of the program.
    const accesses = pages.map((p): [number, number, Access] => [step.buffer, p, ACCESS[step.kind]]);
    const programs: Program[] = accesses.map((a) => ({ on: step.on, gpc: 0, client: 0, at: 0, accesses: [a] }));
    runOwnStep(h, () => burst(h, programs));
    return;
  }
  const value = h.nextValue++;
  const base = { do: step.kind, on: step.on, buffer: step.buffer, value } as const;
  if (step.do === 'access') {
    runScenarioStep(h, { ...base, pages: Int32Array.from(pages), offset: 0, length: 0, stride: 0 }, pages.length);
    return;
  }
  const range = { offset: step.first * 4096, length: (step.outer - step.first) * 4096, stride: step.stride };
  runScenarioStep(h, { ...base, pages: null, ...range }, pages.length);
}

function adviseStep(h: Harness, step: StepOf<'advise'>): void {
  const { run } = h;
  const takesProcessor = step.advice.includes('AccessedBy') || step.advice === 'setPreferredLocation';
  const processor = takesProcessor ? step.processor : INVALID_ID;
  const first = pageAt(h, step.buffer, step.first);
  const outer = pageAt(h, step.buffer, step.outer);
  // A GPU that can fault is no home for memory that may not migrate.
  if (step.advice === 'setPreferredLocation' && processor > 0 && !rangeGroupAllMigratable(run.space, first, outer))
    return;
  count(h.coverage, `advice ${step.advice}`);
  const range = { offset: step.first * 4096, length: (step.outer - step.first) * 4096 };
  runScenarioStep(h, { do: 'advise', advice: step.advice, processor, buffer: step.buffer, ...range }, 1);
}

/** Copies of memory that gpu0 holds and maps are all that the runner can do. */
function memcpyStep(h: Harness, step: StepOf<'memcpy'>): void {
  for (let p = step.first; p < step.outer; p++) {
    const page = pageAt(h, step.from, p);
    const block = vaBlockFind(h.run.space, page);
    if (block === null || !pageIsResident(block, 1, page - block.startPage)) return;
    if (!vaBlockPageIsGpuAuthorized(block, page - block.startPage, 1, 1)) return;
  }
  count(h.coverage, 'step memcpy done');
  const range = { offset: step.first * 4096, length: (step.outer - step.first) * 4096 };
  runScenarioStep(h, { do: 'memcpy', from: step.from, to: -1, ...range }, 1);
}

/** After a group's migration was prevented, all of its pages lie at their preferred location. */
function checkHome(h: Harness, group: number): void {
  const { space } = h.run;
  for (const interval of space.rangeGroupRanges) {
    if (interval.group.id !== group) continue;
    for (let page = interval.startPage; page < interval.outerPage; page++) {
      const block = vaBlockFind(space, page);
      const home = block?.range.policy.preferredLocation ?? INVALID_ID;
      if (block === null || home === INVALID_ID || !pageIsResident(block, home, page - block.startPage)) {
        fail(`page ${page} of range group ${group} is not at its preferred location`);
      }
    }
  }
}

function groupStep(h: Harness, step: StepOf<'group'>): void {
  const { m, run } = h;
  const { space } = run;
  const first = pageAt(h, step.buffer, step.first);
  const outer = pageAt(h, step.buffer, step.outer);
  const gone = [NV_ERR_OBJECT_NOT_FOUND];
  runOwnStep(h, () => {
    switch (step.operation) {
      case 'create':
        rangeGroupCreate(space);
        break;
      case 'assign':
      case 'remove': {
        const id = step.operation === 'assign' ? step.group : 0;
        const status = rangeGroupSetAndMigrate(m, space, id, first, outer);
        tolerate(h, status, [...gone, NV_ERR_INVALID_ADDRESS], `range group ${step.operation}`);
        break;
      }
      case 'prevent': {
        const status = rangeGroupsAllowMigration(m, space, [step.group], false);
        tolerate(h, status, [...gone, NV_ERR_INVALID_ARGUMENT, NV_ERR_INVALID_DEVICE], 'preventing migration');
        if (status !== NV_OK) return;
        checkHome(h, step.group);
        break;
      }
      case 'allow':
        tolerate(h, rangeGroupsAllowMigration(m, space, [step.group], true), gone, 'allowing migration');
        break;
      case 'destroy':
        if (rangeGroupDestroy(space, step.group) !== NV_OK) return;
        break;
    }
    count(h.coverage, `range group ${step.operation}`);
  });
}

/** A copy engine's faults: RM hands over the packets, and the top half is called. */
function nonReplayableStep(h: Harness, step: StepOf<'nonReplayable'>): void {
  const { m } = h;
  const gpu = m.gpus[step.gpu - 1];
  const hwAccess = [3, 0, 1, 4, 2];
  runOwnStep(h, () => {
    for (const [buffer, index, anyAccess] of step.faults) {
      const page = pageAt(h, buffer, index);
      const access = Math.max(anyAccess, 1);
      // What the page tables allow does not fault.
      const faultType = mmuTranslate(gpu.mmu, page, access);
      if (faultType === MMU_OK) continue;
      nonReplayableFaultInject(gpu, {
        instanceAperture: gpu.instancePointers[0].aperture,
        instanceAddress: gpu.instancePointers[0].address,
        physicalAperture: 0,
        page,
        timestamp: m.k.now,
        engineId: 15,
        faultType,
        replayable: false,
        client: 0,
        access: hwAccess[access],
        clientType: 1,
        gpc: 0,
        protectedMode: false,
        replayableEnabled: true,
        valid: true,
      });
    }
    isrTopHalf(m, gpu.index);
  });
}

/** Linux drops the CPU's entries of pages, without a word to the driver. */
function dropStep(h: Harness, step: StepOf<'drop'>): void {
  h.dropped = true;
  const outer = pageAt(h, step.buffer, step.outer);
  for (let page = pageAt(h, step.buffer, step.first); page < outer; page++) {
    const block = vaBlockFind(h.run.space, page);
    if (block !== null) mmUnmapRange(block.w, page - block.startPage, page - block.startPage + 1);
  }
}

function allocateStep(h: Harness, step: StepOf<'allocate'>): void {
  const { firstPage, pages } = h.run.scenario.allocations[step.buffer];
  if (vaSpaceMmap(h.run.space, firstPage, pages, step.buffer) !== NV_OK) fail('addresses that were freed are in use');
}

function contendStep(h: Harness, step: StepOf<'contend'>): void {
  const page = pageAt(h, step.buffer, step.page);
  if (h.scarce || !rangeGroupAllMigratable(h.run.space, page, page + 1)) return;
  const { gpu, buffer, gpuWrites, cpuWrites } = step;
  const pauses = { gpuPauseCycles: step.pause * 1980, cpuPauseMicroseconds: step.pause };
  runScenarioStep(h, { do: 'contend', gpu, buffer, page: step.page, gpuWrites, cpuWrites, ...pauses }, 1);
}

/**
 * A habit of the driver that its own assertions would catch: a migrate call maps pages that nobody maps with all rights,
 * also those that read duplication has just given a second copy.
 */
function wouldMapDuplicates(h: Harness, step: StepOf<'prefetch'>): boolean {
  for (let page = pageAt(h, step.buffer, step.first); page < pageAt(h, step.buffer, step.outer); page++) {
    const block = vaBlockFind(h.run.space, page);
    if (block === null || block.range.policy.readDuplication !== READ_DUPLICATION_ENABLED) continue;
    const p = page - block.startPage;
    const others = pageResidentProcessors(block, p) & ~(1 << step.to);
    if (others !== 0 && !maskTest(block.w, B_MAYBE_MAPPED, p)) return true;
  }
  return false;
}

function prefetchStep(h: Harness, step: StepOf<'prefetch'>): void {
  if ((h.scarce && step.to > 0) || wouldMapDuplicates(h, step)) return;
  const range = { offset: step.first * 4096, length: (step.outer - step.first) * 4096 };
  runScenarioStep(h, { do: 'prefetch', to: step.to, buffer: step.buffer, ...range }, 1);
}

function runStep(h: Harness, step: HistoryStep): void {
  count(h.coverage, `step ${step.do}`);
  switch (step.do) {
    case 'access':
    case 'stride':
      accessStep(h, step);
      break;
    case 'prefetch':
      prefetchStep(h, step);
      break;
    case 'advise':
      adviseStep(h, step);
      break;
    case 'contend':
      contendStep(h, step);
      break;
    case 'memcpy':
      memcpyStep(h, step);
      break;
    case 'free':
      runScenarioStep(h, { do: 'free', buffer: step.buffer }, 1);
      break;
    case 'allocate':
      allocateStep(h, step);
      break;
    case 'burst':
      runOwnStep(h, () => burst(h, step.programs, step.raw, step.flushAt));
      break;
    case 'nonReplayable':
      nonReplayableStep(h, step);
      break;
    case 'group':
      groupStep(h, step);
      break;
    case 'drop':
      dropStep(h, step);
      break;
    case 'idle':
      runOwnStep(h, function* () {
        yield Math.ceil(h.m.k.now) + step.time;
      });
      break;
  }
}

export interface HistoryResult {
  /** What is wrong, or null. */
  failure: string | null;
  /** Step at which it showed. */
  step: number;
  harness: Harness | null;
}

/**
 * Runs a history; `plant` puts a bug into its machine, `afterStep` is called when a step has been checked. Counts into
 * `coverage`.
 */
export function runHistory(
  history: History,
  coverage: Coverage,
  plant?: (m: Model) => void,
  afterStep: (h: Harness) => void = () => {},
): HistoryResult {
  let at = -1;
  let harness: Harness | null = null;
  try {
    const h = createHarness(history, coverage, plant);
    harness = h;
    for (const [i, step] of history.steps.entries()) {
      at = i;
      refill(h);
      runStep(h, step);
      runBody(h, rest(h));
      checkAtRest(h);
      afterStep(h);
    }
    countLog(coverage, h.m);
    return { failure: null, step: at, harness };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const expected = error instanceof HistoryFailure || error instanceof AssertionError;
    return { failure: expected ? error.message : (error.stack ?? error.message), step: at, harness };
  }
}
