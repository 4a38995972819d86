/** A machine on which a history runs, and what must hold between its steps. */
import profileJson from '../../profiles/h200-pcie5.json' with { type: 'json' };
import { maskTest } from '../../src/base/page_mask.ts';
import { contentsRead, contentsWrite } from '../../src/model/gpu/contents.ts';
import { hostRunUntil } from '../../src/model/gpu/host.ts';
import { nextEventTime, runNextEvent } from '../../src/model/kernel/clock.ts';
import { THREAD_BLOCKED, THREAD_DONE, threadCreate } from '../../src/model/kernel/thread.ts';
import { createModel, type ModelOptions } from '../../src/model/model.ts';
import type { Costs, MachineSpec } from '../../src/model/spec.ts';
import type { Model } from '../../src/model/state.ts';
import { parseModuleParameters } from '../../src/model/uvm/params.ts';
import { rangeGroupMigratable } from '../../src/model/uvm/range_group.ts';
import { NV_OK } from '../../src/model/uvm/status.ts';
import { residentOffset, residentWords } from '../../src/model/uvm/va_block.ts';
import { vaSpaceCheck } from '../../src/model/uvm/va_block_check.ts';
import { RESIDENCY_RULES } from '../../src/model/uvm/va_block_residency.ts';
import type { VaBlock } from '../../src/model/uvm/va_block_types.ts';
import { vaRangeFind } from '../../src/model/uvm/va_space.ts';
import { parseProfile } from '../../src/scenario/profile.ts';
import { createRun, type Run, resumeRun, snapshotRun } from '../../src/scenario/runner.ts';
import type { Allocation, Scenario } from '../../src/scenario/scenario.ts';
import { toyCipher } from '../support/toy_cipher.ts';
import { type Coverage, count, countingObserver } from './coverage.ts';
import { type History, WILD } from './history.ts';
import { residencyOpinion } from './oracle.ts';

/** What a history found wrong; the step and the seed are added by runHistory. */
export class HistoryFailure extends Error {
  override name = 'HistoryFailure';
}

export function fail(message: string): never {
  throw new HistoryFailure(message);
}

/** A little above 2^32 bytes of address, at a 2 MiB boundary. */
const BASE = 512 * 2100;
/** More events or decisions than this in one step: it goes in circles. */
const EVENTS_MAX = 100_000;
const DECISIONS_MAX = 30_000;

const profile = parseProfile(profileJson);

export interface Harness {
  history: History;
  m: Model;
  run: Run;
  coverage: Coverage;
  /** Linux dropped CPU entries at least once. */
  dropped: boolean;
  /** Events and decisions that the step may still take. */
  events: number;
  decisions: number;
  /** Vidmem may run out, so that accesses end in fatal faults and calls fail. */
  scarce: boolean;
  /** Pages of the burst with a fault of a type that nobody can service. */
  doomed: Set<number>;
  /** Client slots by GPU that programs take turns with. */
  slots: number[][];
  /** By GPU and slot: the access that is parked, if any, and will be carried out by a replay. */
  parked: { page: number; access: number }[][];
  nextValue: number;
}

function machineOf(history: History): { spec: MachineSpec; costs: Costs } {
  const spec: MachineSpec = {
    ...profile.spec,
    gpus: history.gpus,
    nvlinkPeers: history.nvlinkPeers,
    confidentialComputing: history.confidentialComputing ?? false,
    faultBufferEntries: history.faultBufferEntries,
    vidmemBytes: history.vidmemPages * 4096,
  };
  const costs: Record<string, number> = { ...(history.traced ? profile.traced : profile.untraced) };
  for (const [name, percent] of Object.entries(history.costs)) costs[name] = Math.round((costs[name] * percent) / 100);
  return { spec, costs: costs as unknown as Costs };
}

function optionsOf(history: History, coverage: Coverage): ModelOptions {
  return {
    contents: true,
    aead: toyCipher,
    traced: history.traced,
    verify: history.verify,
    why: history.observed ? countingObserver(coverage) : null,
  };
}

function scenarioOf(history: History): Scenario {
  const allocations: Allocation[] = [];
  let page = BASE;
  for (const [i, buffer] of history.buffers.entries()) {
    page += buffer.gap;
    allocations.push({
      name: `b${i}`,
      bytes: buffer.pages * 4096,
      pages: buffer.pages,
      firstPage: page,
      kind: 'managed',
    });
    page += buffer.pages;
  }
  return { name: `seed ${history.seed}`, machine: 'test', gpus: history.gpus, parameters: {}, allocations, steps: [] };
}

/** Compares every residency decision with the second opinion, and counts it. */
function watchDecisions(h: Harness): void {
  const { coverage, m } = h;
  const decide = m.res.seams.selectResidency;
  m.res.seams.selectResidency = (_m, block, context, page, processor, accessMask, hint, operation) => {
    if (--h.decisions < 0) fail(`page ${page} of block ${block.id} is decided upon again and again`);
    const want = residencyOpinion(m, block, page, processor, accessMask, hint, operation);
    const rule = RESIDENCY_RULES[want.rule];
    count(coverage, `rule ${rule}`);
    const have = decide(m, block, context, page, processor, accessMask, hint, operation);
    if (have !== want.residency || context.readDuplicate !== want.readDuplicate) {
      fail(`page ${page} of block ${block.id} goes to processor ${have}, not ${want.residency} (${rule})`);
    }
    return have;
  };
}

/** Limits the events that a step may take: what goes in circles ends. */
function watchEvents(h: Harness): void {
  const { handlers } = h.m.res;
  for (let kind = 0; kind < handlers.length; kind++) {
    const handler = handlers[kind];
    handlers[kind] = (m, a, b) => {
      if (--h.events < 0) fail('events without end');
      handler(m, a, b);
    };
  }
}

/** A parked access of a program takes place when a replay carries it out: its page may be gone when the thread goes on. */
function watchReplays(h: Harness): void {
  const { res } = h.m;
  const before = res.accessReplayed;
  res.accessReplayed = (m, gpu, slot, processor) => {
    const parked = h.parked[gpu][slot];
    if (parked === undefined) before?.(m, gpu, slot, processor);
    else touch(h, processor, parked.page, parked.access);
  };
}

/** A machine with the history's buffers allocated and nothing done. `plant` may put a bug into it. */
export function createHarness(history: History, coverage: Coverage, plant: (m: Model) => void = () => {}): Harness {
  const { spec, costs } = machineOf(history);
  const parsed = parseModuleParameters(history.parameters, spec.faultBufferEntries);
  if (!parsed.ok) fail(parsed.error);
  const m = createModel(spec, parsed.params, costs, optionsOf(history, coverage));
  plant(m);
  const h: Harness = {
    history,
    m,
    run: createRun(m, scenarioOf(history)),
    coverage,
    dropped: false,
    events: 0,
    decisions: 0,
    scarce: history.vidmemPages < 2 ** 20,
    doomed: new Set(),
    slots: m.gpus.map(() => []),
    parked: m.gpus.map(() => []),
    nextValue: 1_000_000,
  };
  watch(h);
  return h;
}

function watch(h: Harness): void {
  watchDecisions(h);
  watchEvents(h);
  watchReplays(h);
}

/** Copies the machine at rest, and goes on from the copy on a fresh model. */
export function moveToFreshModel(h: Harness): void {
  const { spec, params, cost } = h.m;
  const snapshot = snapshotRun(h.run);
  h.run = resumeRun(snapshot, h.run.scenario, spec, params, cost, optionsOf(h.history, h.coverage));
  h.m = h.run.m;
  watch(h);
}

/** Runs a thread until it has ended. */
export function runBody(h: Harness, body: Generator<number, void, void>): void {
  const { m } = h;
  m.k.eventTime = Math.min(m.k.eventTime, m.k.now);
  const thread = threadCreate(m, 'history', body);
  while (m.k.threads[thread].status !== THREAD_DONE) {
    if (!runNextEvent(m)) fail('nothing is left to happen, and the program still waits');
  }
}

/** Time at which the last push that was submitted is done; 0 when none is outstanding. */
function lastFinish(m: Model): number {
  let last = 0;
  for (const gpu of m.gpus) {
    const host = gpu.channelManager.host;
    for (let at = host.pendingHead; at < host.pendingTail; at += 3) last = Math.max(last, host.pending[at]);
  }
  return last;
}

/** The driver has nothing to do: no thread runs, no fault is in a buffer or on its way to one. */
function isQuiet(m: Model): boolean {
  for (const [id, thread] of m.k.threads.entries()) {
    if (id === m.k.currentThread || thread.status === THREAD_DONE) continue;
    if (thread.status !== THREAD_BLOCKED || !thread.parked || thread.wakeEvents > 0) return false;
  }
  return m.gpus.every((gpu) => {
    const b = gpu.faultBuffer;
    return b.arrivalCount === 0 && b.get === b.put && b.interruptAt === Number.POSITIVE_INFINITY;
  });
}

/** Waits until all work has come to rest, so that the hardware's state can be compared with the driver's. */
export function* rest(h: Harness): Generator<number, void, void> {
  const { m } = h;
  for (;;) {
    const finish = lastFinish(m);
    if (finish > m.k.now) yield finish;
    for (const gpu of m.gpus) hostRunUntil(m, gpu.index, m.k.now);
    if (lastFinish(m) > 0) continue;
    if (isQuiet(m)) return;
    const next = nextEventTime(m);
    if (!Number.isFinite(next)) fail('faults are left in the buffer, or a thread never ends its work');
    yield Math.max(m.k.now, next) + 1;
  }
}

/** Absolute page of a history's (buffer, page); a wild one lies right behind the last buffer. */
export function pageAt(h: Harness, buffer: number, page: number): number {
  const { allocations } = h.run.scenario;
  if (buffer !== WILD) return allocations[buffer].firstPage + page;
  const last = allocations[allocations.length - 1];
  return last.firstPage + last.pages + page;
}

/** Whether an access must succeed: managed memory, and where it may not migrate within the processor's reach. */
export function isLegal(h: Harness, processor: number, page: number): boolean {
  const { space } = h.run;
  const range = vaRangeFind(space, page);
  if (range === null) return false;
  if (rangeGroupMigratable(space, page)) return true;
  const preferred = range.policy.preferredLocation;
  return processor !== 0 && preferred >= 0 && (space.processors.accessibleFrom[preferred] & (1 << processor)) !== 0;
}

/** What an access of the driver's type does to the page's first word in a processor's memory, compared with before. */
export function touch(h: Harness, memory: number, page: number, access: number): void {
  const { m, run } = h;
  if (m.contents === null || run.state.expected === null || access === 0) return;
  const want = run.state.expected.get(page) ?? 0;
  const have = contentsRead(m.contents, memory, page, 0);
  if (have !== want) fail(`an access of type ${access} to page ${page} finds ${have}, not ${want}`);
  if (access === 1) return;
  const value = access === 2 ? h.nextValue++ : (want + 1) >>> 0;
  contentsWrite(m.contents, memory, page, 0, value);
  run.state.expected.set(page, value);
}

/** Every copy of every page holds what was written last; what was written exists. */
function checkContents(h: Harness): void {
  const { m, run } = h;
  const { contents } = m;
  const { expected } = run.state;
  if (contents === null || expected === null) return;
  let written = 0;
  const look = (block: VaBlock): void => {
    for (let p = 0; p < block.n; p++) {
      let copies = 0;
      for (let id = 0; id <= m.spec.gpus; id++) {
        const w = residentWords(block, id);
        if (w === null || !maskTest(w, residentOffset(id), p)) continue;
        copies++;
        const have = contentsRead(contents, id, block.startPage + p, 0);
        const want = expected.get(block.startPage + p) ?? 0;
        if (have !== want) fail(`page ${block.startPage + p} on processor ${id} holds ${have}, not ${want}`);
      }
      if (copies > 0 && expected.has(block.startPage + p)) written++;
    }
  };
  for (const range of run.space.ranges) for (const block of range.blocks) if (block !== null) look(block);
  if (written !== expected.size) fail(`${expected.size - written} pages that were written have no copy`);
}

/** What must hold whenever all is at rest. */
export function checkAtRest(h: Harness): void {
  const { m, run } = h;
  const broken = vaSpaceCheck(m, run.space, h.dropped);
  if (broken !== null) fail(broken);
  if (m.k.lockViolation !== null) fail(`lock order: ${JSON.stringify(m.k.lockViolation)}`);
  if (m.globalStatus !== NV_OK) fail(`the driver gave up with status ${m.globalStatus}`);
  for (const gpu of m.gpus) {
    if (gpu.clients.parkedCount > 0) fail(`gpu${gpu.index}: an access still waits for its replay`);
    if (gpu.isr.replayable.serviceLock.locked) fail(`gpu${gpu.index}: the service lock is held at rest`);
    if (gpu.isr.replayable.disableIntrRefCount !== 0) fail(`gpu${gpu.index}: interrupts stay disabled`);
  }
  if (run.state.mismatches > 0) fail('a read did not see the last write');
  checkContents(h);
}

/** A step may take this much from now on. */
export function refill(h: Harness): void {
  h.events = EVENTS_MAX;
  h.decisions = DECISIONS_MAX;
}
