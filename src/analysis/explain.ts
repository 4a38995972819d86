/**
 * The way of one fault through the driver: which functions, which decisions by which rules from which inputs, which
 * pushes, and what let the access go on. The history runs once, from its start, with an observer.
 */
import { PAGE_SIZE } from '../base/units.ts';
import {
  EVENT_CPU_FAULT,
  EVENT_FATAL_FAULT,
  EVENT_GPU_FAULT,
  EVENT_MIGRATION,
  type EventLog,
} from '../model/uvm/tools.ts';
import { processorName } from '../model/uvm/va_space.ts';
import type { Run } from '../scenario/runner.ts';
import type { CaseLine } from '../trace/case_check.ts';
import type { CpuFaultEvent, GpuFaultEvent } from '../trace/event.ts';
import { eventAt, placeOf } from '../trace/log_events.ts';
import { type ExecuteOptions, executeReplay, executeRun } from './execute.ts';
import {
  type CallItem,
  type FaultItem,
  type Item,
  type PermissionItem,
  type PrefetchItem,
  type PushInfo,
  pushOf,
  type ResidencyItem,
  runsHold,
  type ThrashingItem,
  walkItems,
} from './explain_items.ts';
import { FaultRecorder, type Flow, type Recorded, type Resumption } from './explain_recorder.ts';
import type { Machines } from './machines.ts';

export interface ExplainOptions extends Omit<ExecuteOptions, 'why' | 'onRun'> {
  /** Replay the case's recorded faults instead of running its scenario. */
  replay?: boolean;
}

/** `of` says what else there was. */
export interface FaultIdentity {
  /** Among the fault events in the order of the output, from 1. */
  number: number;
  of: number;
  step: number;
  event: 'cpuFault' | 'gpuFault';
  processor: string;
  access: string;
  buffer: string;
  page: number;
  offset: number;
  /** When the driver reported it. */
  time: number;
  /** GPU faults: the hardware's type, the batch, and when the entry came into the fault buffer. */
  type?: string;
  batch?: number;
  entryTime?: number;
  /** The MMU client that reported it. */
  gpc?: number;
  client?: number;
}

export type OutcomeWord =
  | 'serviced'
  | 'merged'
  | 'duplicate'
  | 'authorised'
  | 'throttled'
  | 'invalidPrefetch'
  | 'fatal'
  | 'spurious';

export interface Outcome {
  is: OutcomeWord;
  /** Merged or duplicate: the fault that stands for this one, and what became of it. */
  representative?: number;
  representativeOutcome?: OutcomeWord;
  /** The next fault event on the page by the same processor, when this one did not end the access. */
  comesBackAs?: number;
  fatalReason?: string;
}

/** What let the access of a GPU go on. */
export interface Replay {
  /** The replay that let it go on; where nobody waited, the first one behind the fault's batch. */
  push: PushInfo | null;
  /** The first replay behind a batch that did not help: the access faulted again. */
  again: PushInfo | null;
  /** The access was tried again, successfully; null where no access waited, as in a replay of recorded faults. */
  retried: number | null;
  /** Whoever waited goes on. */
  resumed: number | null;
  cancelled: boolean;
}

export interface FaultExplanation {
  scenario: string;
  machine: string;
  traced: boolean;
  fault: FaultIdentity;
  outcome: Outcome;
  /** From the entry (GPU) or the trap (CPU) to where the access can go on, ns. */
  duration: number | null;
  begin: number;
  end: number | null;
  residency: ResidencyItem | null;
  thrashing: ThrashingItem[];
  prefetch: PrefetchItem | null;
  permission: PermissionItem | null;
  /** All pushes on the way, in order. */
  pushes: PushInfo[];
  replay: Replay | null;
  calls: Item[];
  notes: string[];
}

/** `asked`: what was asked for does not exist; else the scenario is at fault. */
export type ExplainResult<T> = { ok: true; explanation: T } | { ok: false; error: string; asked: boolean };

const FATAL_REASONS = [
  'invalid',
  'invalid address',
  'invalid permissions',
  'invalid fault type',
  'out of memory',
  'internal error',
  'invalid operation',
];

function identityOf(run: Run, index: number, number: number, of: number): FaultIdentity {
  const event = eventAt(run.m.tools.log, index, run.scenario.allocations) as CpuFaultEvent | GpuFaultEvent;
  const place = placeOf(run.scenario.allocations, run.m.tools.log.page[index]);
  const common = {
    number,
    of,
    step: event.step ?? 0,
    access: event.access,
    buffer: run.scenario.allocations[place.index].name,
    page: place.offset / PAGE_SIZE,
    offset: place.offset,
    time: event.time,
  };
  if (event.event === 'cpuFault') return { event: 'cpuFault', processor: 'cpu', ...common };
  const { gpu: processor, type, batch, gpuTime: entryTime, gpc = 0, client = 0 } = event;
  return { event: 'gpuFault', processor, ...common, type, batch, entryTime, gpc, client };
}

/** All fault items of the flow that concern a page, in service order. */
function faultItems(flow: Flow, page: number): FaultItem[] {
  const items: FaultItem[] = [];
  for (const item of walkItems(flow.roots)) if (item.kind === 'fault' && item.page === page) items.push(item);
  return items;
}

function outcomeOf(run: Run, recorded: Recorded, number: number): Outcome {
  const { item, flow } = recorded;
  const onPage = faultItems(flow, item.page);
  const is = item.outcome === 'open' ? 'fatal' : item.outcome;
  const outcome: Outcome = { is };
  if (item.faults[0] !== number) {
    outcome.is = 'merged';
    outcome.representative = item.faults[0];
    outcome.representativeOutcome = is;
  } else if (is === 'duplicate') {
    const first = onPage.find((other) => other.outcome !== 'duplicate' && other.faults[0] !== number);
    if (first !== undefined && first.outcome !== 'open') {
      outcome.representative = first.faults[0];
      outcome.representativeOutcome = first.outcome;
    }
  }
  if (isReportedFatal(flow, item.page)) {
    if (outcome.representative === undefined) outcome.is = 'fatal';
    else outcome.representativeOutcome = 'fatal';
  }
  const { log } = run.m.tools;
  const effective = outcome.representativeOutcome ?? outcome.is;
  if (effective === 'throttled' || effective === 'spurious' || effective === 'fatal') {
    const back = recorded.returns.find((other) => comesBack(log, recorded.logIndex, other.logIndex));
    if (back !== undefined) outcome.comesBackAs = back.number;
  }
  return outcome;
}

/** A fatal fault on the page was reported, be it that the service of the whole batch failed. */
function isReportedFatal(flow: Flow, page: number): boolean {
  for (const item of walkItems(flow.roots)) {
    if (item.kind === 'event' && item.event === 'fatalFault' && runsHold(item.runs, page)) return true;
  }
  return false;
}

/** A later fault on the page is of the same processor, and of another batch. */
function comesBack(log: EventLog, index: number, later: number): boolean {
  if (log.kind[later] !== log.kind[index]) return false;
  if (log.kind[index] === EVENT_CPU_FAULT) return true;
  return log.src[later] === log.src[index] && log.batch[later] !== log.batch[index];
}

function lastRootEnd(flow: Flow): number | null {
  const root = flow.roots[flow.roots.length - 1];
  return root?.left ?? null;
}

/** The access of the fault: the first one of its GPU on the page that ended after the fault came up. */
function resumptionOf(log: EventLog, recorded: Recorded): Resumption | null {
  const gpu = log.src[recorded.logIndex] - 1;
  const access = log.b[recorded.logIndex];
  const since = log.gpuTime[recorded.logIndex];
  const ended = recorded.resumptions.filter((r) => r.gpu === gpu && r.time >= since);
  return ended.find((r) => r.access === access) ?? ended[0] ?? null;
}

function replayOf(run: Run, recorded: Recorded): Replay | null {
  const { log } = run.m.tools;
  if (log.kind[recorded.logIndex] !== EVENT_GPU_FAULT) return null;
  const gpu = processorName(log.src[recorded.logIndex]);
  const after = recorded.replays.filter((push) => push.gpu === gpu);
  const end = resumptionOf(log, recorded);
  if (end === null) {
    return { push: after[0] ?? null, again: null, retried: null, resumed: null, cancelled: false };
  }
  const push = after.find((p) => p.channel === end.channel && p.trackingValue === end.trackingValue) ?? null;
  const again = push === after[0] ? null : (after[0] ?? null);
  return { push, again, retried: end.time, resumed: end.resume, cancelled: end.cancelled };
}

/** Whether a call or what it calls has to do with the page or the fault. */
function concerns(call: CallItem, item: FaultItem): boolean {
  for (const inner of walkItems([call])) if (inner === item) return true;
  return false;
}

/** Counts of faults by what became of them, as words. */
function tally(items: readonly FaultItem[]): string {
  const counts = new Map<string, number>();
  for (const { outcome } of items) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  return [...counts].map(([outcome, n]) => `${n} ${outcome}`).join(', ');
}

/** Under policy BLOCK each block has its replay; the fault's is the first one behind its own block. */
function isReplayOfBlock(item: Item, siblings: readonly Item[]): boolean {
  if (item.kind !== 'call' || item.function !== 'push_replay_on_gpu') return false;
  return siblings.some((other) => other.kind === 'call' && other.function === 'service_fault_batch_dispatch');
}

/** A copy of the calls without what is about other faults only. */
function pruned(items: readonly Item[], target: FaultItem): Item[] {
  const out: Item[] = [];
  const others: FaultItem[] = [];
  let dispatches = 0;
  let dispatched = 0;
  let seen = false;
  let replayed = false;
  for (const item of items) {
    if (isReplayOfBlock(item, items)) {
      if (!seen || replayed) continue;
      replayed = true;
    }
    seen ||= item.kind === 'call' && concerns(item, target);
    if (item.kind === 'fault' && item.page !== target.page) {
      others.push(item);
    } else if (item.kind === 'call' && item.function === 'service_fault_batch_dispatch' && !concerns(item, target)) {
      dispatches++;
      for (const inner of walkItems([item])) if (inner.kind === 'fault') dispatched++;
    } else {
      if (others.length > 0) out.push(othersItem(others.splice(0)));
      if (item.kind === 'call') out.push({ ...item, items: pruned(item.items, target) });
      else if (item.kind === 'prefetch') out.push(prunedPrefetch(item, target.page));
      else out.push(item);
    }
  }
  if (others.length > 0) out.push(othersItem(others));
  if (dispatches > 0) {
    out.push({ kind: 'others', what: `${dispatches} other blocks with ${dispatched} faults` });
  }
  return out;
}

/** Says how many batches the bottom half had serviced before. */
function addBatchesBefore(calls: readonly Item[], batches: number): void {
  if (batches === 0) return;
  for (const item of walkItems(calls)) {
    if (item.kind !== 'call' || item.function !== 'uvm_parent_gpu_service_replayable_faults') continue;
    const what = batches === 1 ? '1 earlier batch' : `${batches} earlier batches`;
    item.items.unshift({ kind: 'others', what: `${what} of this bottom half` });
    return;
  }
}

function othersItem(others: readonly FaultItem[]): Item {
  const pages = others.length === 1 ? 'entry' : 'entries';
  return { kind: 'others', what: `${others.length} ${pages} on other pages: ${tally(others)}` };
}

/** The levels of the one page; of others only that they were there. */
function prunedPrefetch(item: PrefetchItem, page: number): PrefetchItem {
  return { ...item, pages: item.pages.filter((ask) => ask.page === page) };
}

/** Adds when the driver collected a copy's push: the time its migration records carry. */
function addNoticed(run: Run, pushes: readonly PushInfo[]): void {
  const { log } = run.m.tools;
  const byBegin = new Map(pushes.filter((push) => push.purpose === 'copy').map((push) => [push.begin, push]));
  if (byBegin.size === 0) return;
  for (let i = 0; i < log.count; i++) {
    if (log.kind[i] !== EVENT_MIGRATION) continue;
    const push = byBegin.get(log.time[i]);
    if (push !== undefined && log.gpuTime[i] >= push.start && log.gpuEnd[i] <= push.finish) push.noticed = log.end[i];
  }
}

function fatalReasonOf(run: Run, recorded: Recorded): string | null {
  const { log } = run.m.tools;
  const page = log.page[recorded.logIndex];
  for (let i = recorded.logIndex; i < log.count; i++) {
    // The batch column of a fatal fault holds its reason.
    if (log.kind[i] === EVENT_FATAL_FAULT && log.page[i] === page) return FATAL_REASONS[log.batch[i]] ?? 'unknown';
  }
  return null;
}

export function describeRun(run: Run): { scenario: string; machine: string; traced: boolean } {
  return { scenario: run.scenario.name, machine: run.scenario.machine, traced: run.m.tools.traced };
}

function explain(
  run: Run,
  recorder: FaultRecorder,
  recorded: Recorded,
  number: number,
  notes: string[],
): FaultExplanation {
  const { flow, item } = recorded;
  const { log } = run.m.tools;
  const onCpu = log.kind[recorded.logIndex] === EVENT_CPU_FAULT;
  const fault = identityOf(run, recorded.logIndex, number, recorder.faults);
  const outcome = outcomeOf(run, recorded, number);
  if ((outcome.representativeOutcome ?? outcome.is) === 'fatal') {
    const reason = fatalReasonOf(run, recorded);
    if (reason !== null) outcome.fatalReason = reason;
  }
  const calls = pruned(flow.roots, item);
  addBatchesBefore(calls, flow.batchesBefore);
  const all = [...walkItems(calls)];
  const pushes = all.map(pushOf).filter((push) => push !== null);
  const replay = replayOf(run, recorded);
  addNoticed(run, pushes);
  const begin = onCpu ? flow.roots[0].time : log.gpuTime[recorded.logIndex];
  const end = onCpu ? lastRootEnd(flow) : (replay?.retried ?? replay?.push?.finish ?? null);
  const ofPage = <T extends ResidencyItem | ThrashingItem | PermissionItem>(kind: T['kind']): T[] =>
    all.filter((i): i is T => i.kind === kind && (i as T).page === item.page);
  const prefetches = all.filter((i) => i.kind === 'prefetch');
  return {
    ...describeRun(run),
    fault,
    outcome,
    duration: end === null ? null : end - begin,
    begin,
    end,
    residency: ofPage<ResidencyItem>('residency').at(-1) ?? null,
    thrashing: ofPage<ThrashingItem>('thrashing'),
    prefetch: prefetches.find((p) => runsHold([p.block], item.page)) ?? null,
    permission: ofPage<PermissionItem>('permission').at(-1) ?? null,
    pushes,
    replay,
    calls,
    notes,
  };
}

/** Runs or replays the case with an observer. Null where the input cannot run at all. */
export function watchCase(
  entry: CaseLine,
  machines: Machines,
  options: ExplainOptions,
  observer: ExecuteOptions['why'] & { attach(run: Run): void },
): { ok: true; run: Run; notes: string[] } | { ok: false; error: string; asked: false } {
  const { replay = false, ...rest } = options;
  let run: Run | null = null;
  const execute: ExecuteOptions = {
    ...rest,
    why: observer,
    onRun: (begun) => {
      run = begun;
      observer.attach(begun);
    },
  };
  const result = replay ? executeReplay(entry, machines, execute) : executeRun(entry.scenario, machines, execute);
  if (result.ok) return { ok: true, run: result.run, notes: result.notes };
  const begun = run as Run | null;
  // A history that ends early has faults that can be explained: the one that ended it above all.
  if (begun === null || begun.m.tools.log.count === 0) return { ok: false, error: result.error, asked: false };
  return { ok: true, run: begun, notes: [`The run ended early: ${result.error}`] };
}

/**
 * Explains the fault with this number, from 1, in the order of the output's cpuFault and gpuFault events. The error
 * names what is wrong with the input, or the valid numbers.
 */
export function explainFault(
  entry: CaseLine,
  number: number,
  machines: Machines,
  options: ExplainOptions = {},
): ExplainResult<FaultExplanation> {
  const recorder = new FaultRecorder(number);
  const watched = watchCase(entry, machines, options, recorder);
  if (!watched.ok) return watched;
  const { recorded } = recorder;
  if (recorded === null) {
    const { name } = watched.run.scenario;
    const valid = recorder.faults === 0 ? 'it has no fault' : `valid: 1 to ${recorder.faults}`;
    return { ok: false, error: `scenario '${name}' has no fault ${number}; ${valid}`, asked: true };
  }
  return { ok: true, explanation: explain(watched.run, recorder, recorded, number, watched.notes) };
}
