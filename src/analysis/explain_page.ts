/** The whole story of one page: faults, decisions, moves, mappings, throttles and pins, in order of time. */
import { maskTest } from '../base/page_mask.ts';
import { PAGE_SIZE } from '../base/units.ts';
import { CPU_ID, INVALID_ID } from '../model/uvm/processors.ts';
import { PURPOSE_COPY, PURPOSE_MAP, PURPOSE_REVOKE, PURPOSE_UNMAP } from '../model/uvm/push.ts';
import {
  EVENT_CPU_FAULT,
  EVENT_FATAL_FAULT,
  EVENT_GPU_FAULT,
  EVENT_READ_DUPLICATE,
  EVENT_READ_DUPLICATE_INVALIDATE,
  EVENT_THRASHING,
  EVENT_THROTTLING_END,
  EVENT_THROTTLING_START,
} from '../model/uvm/tools.ts';
import { pageClosestResident, pageIsResident, pageResidentProcessors } from '../model/uvm/va_block.ts';
import type { VaBlock } from '../model/uvm/va_block_types.ts';
import { processorName, vaBlockFind } from '../model/uvm/va_space.ts';
import type { FaultOutcome, Why } from '../model/why.ts';
import type { Run } from '../scenario/runner.ts';
import { type Allocation, parseScenario } from '../scenario/scenario.ts';
import type { CaseLine } from '../trace/case_check.ts';
import type { UvmEvent } from '../trace/event.ts';
import { eventAt, placeOf } from '../trace/log_events.ts';
import { describeRun, type ExplainOptions, type ExplainResult, watchCase } from './explain.ts';
import { isRoot } from './explain_calls.ts';
import {
  processorOrNull,
  processorWords,
  protectionNow,
  pushInfo,
  residencyItem,
  thrashingItem,
  type Watched,
} from './explain_facts.ts';
import {
  MIGRATION_WORDS,
  type PageRun,
  PROTECTION_WORDS,
  type PushInfo,
  type ResidencyItem,
  type ThrashingItem,
} from './explain_items.ts';
import type { Machines } from './machines.ts';

/** A fault that led to something on the page; `page` is its own. */
export interface FaultRef {
  number: number;
  page: number;
}

interface EntryBase {
  time: number;
  step: number;
}
/** A fault on the page; `number` is null for a CPU fault that is tried again after a throttle. */
export interface PageFault extends EntryBase {
  kind: 'fault';
  number: number | null;
  event: UvmEvent | null;
  outcome: FaultOutcome | 'merged' | 'open';
  mergedInto?: number;
  residency: ResidencyItem | null;
  thrashing: ThrashingItem | null;
}
/** Data is copied: the page moves, or gets a further copy. `within` is the run of pages that went with it. */
export interface PageMove extends EntryBase {
  kind: 'move';
  from: string;
  to: string;
  cause: string;
  keepsSource: boolean;
  within: PageRun;
  faults: FaultRef[];
  push: PushInfo;
}
export interface PageFirstTouch extends EntryBase {
  kind: 'firstTouch';
  processor: string;
  faults: FaultRef[];
}
export interface PageMapping extends EntryBase {
  kind: 'mapping';
  processor: string;
  protection: string;
  before: string;
  /** Whose memory is mapped. */
  target: string | null;
  faults: FaultRef[];
  push: PushInfo | null;
}
/** A tools event about the page that no other entry stands for. */
export interface PageEvent extends EntryBase {
  kind: 'event';
  event: UvmEvent;
}
export interface PageReset extends EntryBase {
  kind: 'thrashingReset';
}
/** An access of a GPU that waited ends. */
export interface PageResumed extends EntryBase {
  kind: 'resumed';
  processor: string;
  cancelled: boolean;
  resume: number;
  trackingValue: number;
}
/** A call of the program that covers the page. */
export interface PageCall extends EntryBase {
  kind: 'call';
  function: string;
  processor: string | null;
}

export type PageEntry =
  | PageFault
  | PageMove
  | PageFirstTouch
  | PageMapping
  | PageEvent
  | PageReset
  | PageResumed
  | PageCall;

export interface PageExplanation {
  scenario: string;
  machine: string;
  traced: boolean;
  buffer: string;
  page: number;
  faults: Record<string, number>;
  moves: number;
  /** At the end of the run. */
  resident: string[];
  mapped: Record<string, string>;
  entries: PageEntry[];
  notes: string[];
}

/** What a thread is at: the faults whose service runs, and the fault on the page that is being decided. */
interface Context {
  faults: FaultRef[];
  open: PageFault[];
  residency: ResidencyItem | null;
  thrashing: ThrashingItem | null;
  copy: { from: number; to: number; cause: number; within: PageRun } | null;
  duplicate: boolean;
}

const EVENTS = [
  EVENT_FATAL_FAULT,
  EVENT_READ_DUPLICATE,
  EVENT_READ_DUPLICATE_INVALIDATE,
  EVENT_THRASHING,
  EVENT_THROTTLING_START,
  EVENT_THROTTLING_END,
];

class PageRecorder implements Why {
  readonly entries: PageEntry[] = [];
  #page: number;
  #watched: Watched | null = null;
  #number = 0;
  #contexts = new Map<number, Context>();
  #mapped = new Map<number, string>();
  #mapPush: PushInfo | null = null;
  #lastValue = 0;
  /** Entries that stand for an event, by its index: the event is complete only later. */
  #events: { entry: PageEntry; index: number }[] = [];

  /** `page` is the absolute page number. */
  constructor(page: number) {
    this.#page = page;
  }

  attach(run: Run): void {
    this.#watched = { m: run.m, allocations: run.scenario.allocations };
  }

  /** Fills in the events once the run is over. */
  finish(): void {
    if (this.#watched === null) return;
    const { m, allocations } = this.#watched;
    for (const { entry, index } of this.#events) {
      if (entry.kind === 'fault' || entry.kind === 'event') entry.event = eventAt(m.tools.log, index, allocations);
    }
  }

  #context(): Context {
    const thread = this.#watched?.m.k.currentThread ?? -1;
    let context = this.#contexts.get(thread);
    if (context === undefined) {
      context = { faults: [], open: [], residency: null, thrashing: null, copy: null, duplicate: false };
      this.#contexts.set(thread, context);
    }
    return context;
  }

  #base(): EntryBase {
    const m = this.#watched?.m;
    return { time: m?.k.now ?? 0, step: m?.tools.step ?? 0 };
  }

  #isHere(block: VaBlock, first: number, count = 1): boolean {
    const page = this.#page - block.startPage;
    return page >= first && page < first + count;
  }

  /** A run of a block's pages as pages of the buffer. */
  #run(block: VaBlock, first: number, count: number): PageRun {
    const allocations = this.#watched?.allocations ?? [];
    return { first: block.startPage + first - allocations[block.range.allocation].firstPage, count };
  }

  enter(name: string, time: number, detail: Readonly<Record<string, number | string | boolean>> = {}): void {
    if (this.#watched === null) return;
    const begins = name === 'service_fault_batch_block_locked' || name === 'uvm_va_space_cpu_fault';
    if (begins || (isRoot(name) && !(name === 'uvm_isr_top_half'))) {
      const context = this.#context();
      if (detail['retries'] === undefined || detail['retries'] === 0) context.faults = [];
      context.open = [];
    }
    const { startPage, outerPage, processor = INVALID_ID } = detail;
    if (typeof startPage !== 'number' || typeof outerPage !== 'number') return;
    if (this.#page < startPage || this.#page >= outerPage) return;
    const { step } = this.#base();
    this.entries.push({
      kind: 'call',
      time,
      step,
      function: name,
      processor: processorOrNull(processor as number),
    });
  }

  event(index: number): void {
    if (this.#watched === null) return;
    const { m, allocations } = this.#watched;
    const { log } = m.tools;
    const kind = log.kind[index];
    const page = log.page[index];
    const isFault = kind === EVENT_CPU_FAULT || kind === EVENT_GPU_FAULT;
    if (isFault) {
      const number = ++this.#number;
      const context = this.#context();
      context.faults.push({ number, page: placeOf(allocations, page).offset / PAGE_SIZE });
      if (page !== this.#page) return;
      const entry: PageFault = {
        kind: 'fault',
        ...this.#base(),
        number,
        event: null,
        outcome: 'open',
        residency: null,
        thrashing: null,
      };
      this.#events.push({ entry, index });
      this.entries.push(entry);
      context.open.push(entry);
    } else if (page === this.#page && EVENTS.includes(kind)) {
      const entry = { kind: 'event', ...this.#base(), event: null } as unknown as PageEvent;
      this.#events.push({ entry, index });
      this.entries.push(entry);
    }
  }

  outcome(block: VaBlock | null, page: number, _processor: number, outcome: FaultOutcome): void {
    if (this.#watched === null) return;
    const absolute = block === null ? page : block.startPage + page;
    if (absolute !== this.#page) return;
    const context = this.#context();
    let [first] = context.open;
    if (first === undefined) {
      first = { kind: 'fault', ...this.#base(), number: null, event: null, outcome, residency: null, thrashing: null };
      this.entries.push(first);
    }
    first.outcome = outcome;
    first.residency = context.residency;
    first.thrashing = context.thrashing;
    for (const merged of context.open.slice(1)) {
      merged.outcome = 'merged';
      merged.mergedInto = first.number ?? 0;
    }
    context.open = [];
    context.residency = null;
    context.thrashing = null;
  }

  residency(
    block: VaBlock,
    page: number,
    processor: number,
    accessMask: number,
    rule: number,
    _closest: number,
    residency: number,
  ): void {
    if (this.#watched === null || !this.#isHere(block, page)) return;
    this.#context().residency = residencyItem(this.#watched, block, page, processor, accessMask, rule, residency);
  }

  thrashing(block: VaBlock, page: number, processor: number, step: string, type: number): void {
    if (this.#watched === null || !this.#isHere(block, page)) return;
    this.#context().thrashing = thrashingItem(this.#watched, block, page, processor, step, type);
  }

  thrashingReset(block: VaBlock, page: number): void {
    if (this.#isHere(block, page)) this.entries.push({ kind: 'thrashingReset', ...this.#base() });
  }

  prefetchLevel(): void {}

  prefetch(): void {}

  makeResident(
    block: VaBlock,
    destination: number,
    words: Uint32Array,
    offset: number,
    _cause: number,
    duplicate: boolean,
  ): void {
    if (this.#watched === null || !this.#isHere(block, 0, block.n)) return;
    const page = this.#page - block.startPage;
    if (!maskTest(words, offset, page)) return;
    const context = this.#context();
    context.duplicate = duplicate;
    if (pageResidentProcessors(block, page) !== 0) return;
    this.entries.push({
      kind: 'firstTouch',
      ...this.#base(),
      processor: processorName(destination),
      faults: context.faults.slice(),
    });
  }

  copy(block: VaBlock, first: number, count: number, from: number, to: number, cause: number): void {
    if (this.#watched === null || !this.#isHere(block, first, count)) return;
    this.#context().copy = { from, to, cause, within: this.#run(block, first, count) };
  }

  push(purpose: number, gpu: number, channel: number, value: number): void {
    if (this.#watched === null) return;
    if (purpose === PURPOSE_MAP || purpose === PURPOSE_UNMAP || purpose === PURPOSE_REVOKE) {
      this.#mapPush = pushInfo(this.#watched.m, purpose, gpu, channel, value);
    }
    const context = this.#context();
    if (purpose !== PURPOSE_COPY || context.copy === null) return;
    const { from, to, cause, within } = context.copy;
    context.copy = null;
    const push = pushInfo(this.#watched.m, purpose, gpu, channel, value);
    this.entries.push({
      kind: 'move',
      time: push.begin,
      step: this.#base().step,
      from: processorName(from),
      to: processorName(to),
      cause: MIGRATION_WORDS[cause],
      keepsSource: context.duplicate,
      within,
      faults: context.faults.slice(),
      push,
    });
  }

  map(block: VaBlock, processor: number, first: number, count: number, protection: number): void {
    if (this.#watched === null || !this.#isHere(block, first, count)) return;
    const before = this.#mapped.get(processor) ?? PROTECTION_WORDS[0];
    const after = PROTECTION_WORDS[protection];
    // A run that is unmapped may hold pages that were not mapped.
    if (before === after) return;
    this.#mapped.set(processor, after);
    const push = processor === CPU_ID ? null : this.#mapPush;
    const page = this.#page - block.startPage;
    this.entries.push({
      kind: 'mapping',
      ...this.#base(),
      processor: processorName(processor),
      protection: after,
      before,
      target: protection === 0 ? null : processorOrNull(pageClosestResident(block, page, processor)),
      faults: this.#context().faults.slice(),
      push,
    });
  }

  pushRun(_gpu: number, _channel: number, value: number): void {
    this.#lastValue = value;
  }

  resumed(gpu: number, page: number, _access: number, time: number, resume: number, cancelled: boolean): void {
    if (this.#watched === null || page !== this.#page) return;
    const processor = processorName(gpu + 1);
    const { step } = this.#base();
    this.entries.push({ kind: 'resumed', time, step, processor, cancelled, resume, trackingValue: this.#lastValue });
  }
}

/** Which page is meant: of the one buffer where no name is given. */
export interface PageName {
  buffer: string | null;
  index: number;
}

function findPage(
  allocations: readonly Allocation[],
  name: PageName,
): { ok: true; allocation: Allocation; page: number } | { ok: false; error: string } {
  const names = allocations.map((allocation) => allocation.name).join(', ');
  let allocation: Allocation | undefined = allocations[0];
  if (name.buffer !== null) {
    allocation = allocations.find((candidate) => candidate.name === name.buffer);
    if (allocation === undefined) return { ok: false, error: `unknown buffer '${name.buffer}'; valid: ${names}` };
  } else if (allocations.length !== 1) {
    return { ok: false, error: `page ${name.index} of which buffer? write BUFFER:${name.index}; valid: ${names}` };
  }
  if (allocation.kind !== 'managed') {
    return { ok: false, error: `buffer '${allocation.name}' is host memory, which has no faults` };
  }
  if (name.index >= allocation.pages) {
    const valid = `valid: 0 to ${allocation.pages - 1}`;
    return { ok: false, error: `buffer '${allocation.name}' has no page ${name.index}; ${valid}` };
  }
  return { ok: true, allocation, page: allocation.firstPage + name.index };
}

function atTheEnd(run: Run, page: number): Pick<PageExplanation, 'resident' | 'mapped'> {
  const block = vaBlockFind(run.space, page);
  const mapped: Record<string, string> = {};
  if (block === null) return { resident: [], mapped };
  const index = page - block.startPage;
  let residents = 0;
  for (let id = 0; id <= run.m.spec.gpus; id++) {
    if (pageIsResident(block, id, index)) residents |= 1 << id;
    const protection = protectionNow(block, id, index);
    if (protection !== PROTECTION_WORDS[0]) mapped[processorName(id)] = protection;
  }
  return { resident: processorWords(residents), mapped };
}

/** Explains all that happened to one page. The error names what is wrong with the input, or the valid pages. */
export function explainPage(
  entry: CaseLine,
  name: PageName,
  machines: Machines,
  options: ExplainOptions = {},
): ExplainResult<PageExplanation> {
  const parsed = parseScenario(entry.scenario, machines.known, { stepsOptional: options.replay ?? false });
  if (!parsed.ok) return { ok: false, error: parsed.error, asked: false };
  const found = findPage(parsed.scenario.allocations, name);
  if (!found.ok) return { ok: false, error: found.error, asked: true };
  const recorder = new PageRecorder(found.page);
  const watched = watchCase(entry, machines, options, recorder);
  if (!watched.ok) return watched;
  recorder.finish();
  const entries = recorder.entries.sort((a, b) => a.time - b.time);
  const faults: Record<string, number> = {};
  for (const one of entries) {
    if (one.kind !== 'fault' || one.event === null) continue;
    const who = one.event.event === 'gpuFault' ? one.event.gpu : 'cpu';
    faults[who] = (faults[who] ?? 0) + 1;
  }
  return {
    ok: true,
    explanation: {
      ...describeRun(watched.run),
      buffer: found.allocation.name,
      page: name.index,
      faults,
      moves: entries.filter((one) => one.kind === 'move').length,
      ...atTheEnd(watched.run, found.page),
      entries,
      notes: watched.notes,
    },
  };
}
