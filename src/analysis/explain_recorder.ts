/**
 * The observer behind `explain --fault`: keeps the way of one fault through the driver and forgets the others.
 *
 * What happens between two fetches of a bottom half, or during one CPU fault, is a flow: a tree of calls, built from
 * the functions that the model enters. A flow is kept if the fault asked for is among its events, and dropped when the
 * next one begins.
 */

import { maskTest } from '../base/page_mask.ts';
import { PAGE_SIZE } from '../base/units.ts';
import type { Model } from '../model/state.ts';
import { CPU_ID } from '../model/uvm/processors.ts';
import {
  PURPOSE_CANCEL,
  PURPOSE_COPY,
  PURPOSE_MAP,
  PURPOSE_MEMSET,
  PURPOSE_REPLAY,
  PURPOSE_REVOKE,
  PURPOSE_UNMAP,
} from '../model/uvm/push.ts';
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
import { pageClosestResident, pageResidentProcessors, residentOffset, residentWords } from '../model/uvm/va_block.ts';
import type { ServiceBlockContext, VaBlock } from '../model/uvm/va_block_types.ts';
import { processorName } from '../model/uvm/va_space.ts';
import type { FaultOutcome, Why } from '../model/why.ts';
import type { Run } from '../scenario/runner.ts';
import { placeOf } from '../trace/log_events.ts';
import { callParent, isPassedOver, isRoot } from './explain_calls.ts';
import {
  accessWords,
  blockBase,
  type PrefetchAsk,
  permissionItem,
  prefetchItem,
  processorOrNull,
  pushInfo,
  residencyItem,
  thrashingItem,
  type Watched,
} from './explain_facts.ts';
import {
  addRun,
  CAUSE_WORDS,
  type CallItem,
  type CopyRun,
  type FaultItem,
  type Item,
  type MapItem,
  MIGRATION_WORDS,
  PROTECTION_WORDS,
  type PushInfo,
} from './explain_items.ts';

/** Events of so many faults before the one asked for are looked at in full: more than one bottom half can report. */
const LEAD = 8192;
/** Candidates kept for what comes after the fault: its replay, its return, the access going on. */
const CANDIDATES_MAX = 256;

export interface Flow {
  /** Calls at the top: a top half and its bottom half, or the rounds of a CPU fault. */
  roots: CallItem[];
  stack: CallItem[];
  /** The fault event that is being decided upon. */
  open: FaultItem | null;
  asks: PrefetchAsk[];
  copies: CopyRun[];
  copyFrom: number;
  copyTo: number;
  /** Batches of the bottom half that were dropped. */
  batchesBefore: number;
  hasTarget: boolean;
  closed: boolean;
}

/** A parked access that ended: by the push with this channel index and value. */
export interface Resumption {
  gpu: number;
  page: number;
  access: number;
  time: number;
  resume: number;
  cancelled: boolean;
  channel: number;
  trackingValue: number;
}

/** What is known of the fault asked for once the run is over. */
export interface Recorded {
  flow: Flow;
  /** Index of its event in the log. */
  logIndex: number;
  item: FaultItem;
  replays: PushInfo[];
  resumptions: Resumption[];
  /** Later fault events on the page. */
  returns: { number: number; logIndex: number }[];
}

function newFlow(): Flow {
  return {
    roots: [],
    stack: [],
    open: null,
    asks: [],
    copies: [],
    copyFrom: 0,
    copyTo: 0,
    batchesBefore: 0,
    hasTarget: false,
    closed: false,
  };
}

/** Adds an item where the flow is; what concerns one fault goes below that fault. */
function add(flow: Flow, item: Item): void {
  const top = flow.stack[flow.stack.length - 1];
  if (item.kind === 'thrashing' || item.kind === 'residency') {
    if (flow.open !== null) {
      flow.open.items.push(item);
      return;
    }
  }
  if (top !== undefined) top.items.push(item);
}

function enterCall(flow: Flow, call: CallItem): void {
  const depth = callParent(
    flow.stack.map((entry) => entry.function),
    call.function,
  );
  flow.stack.length = depth;
  if (depth === 0) flow.roots.push(call);
  else flow.stack[depth - 1].items.push(call);
  flow.stack.push(call);
}

/** Joins changes of one processor's mappings by one push, or at once on the CPU, into one item. */
function addMap(flow: Flow, item: MapItem): void {
  const top = flow.stack[flow.stack.length - 1];
  const last = top?.items[top.items.length - 1];
  const joins =
    last?.kind === 'map' &&
    last.processor === item.processor &&
    last.protection === item.protection &&
    last.target === item.target &&
    (item.push === null || last.push === item.push);
  if (joins) for (const run of item.runs) addRun(last.runs, run.first, run.count);
  else top?.items.push(item);
}

const MAP_FUNCTIONS: Readonly<Record<number, string>> = {
  [PURPOSE_MAP]: 'uvm_va_block_map',
  [PURPOSE_UNMAP]: 'uvm_va_block_unmap',
  [PURPOSE_REVOKE]: 'uvm_va_block_revoke_prot',
};

export class FaultRecorder implements Why {
  /** Fault events so far; at the end, how many there are. */
  faults = 0;
  #target: number;
  #watched: Watched | null = null;
  #flows = new Map<number, Flow>();
  /** By GPU: the top half that woke the bottom half to come, and whether one runs. */
  #topHalves = new Map<number, CallItem>();
  #bottomHalves = new Set<number>();
  #lastMapPush: { purpose: number; push: PushInfo } | null = null;
  #lastRun = { gpu: 0, channel: 0, trackingValue: 0 };
  #recorded: Recorded | null = null;
  #absolutePage = -1;

  /** `target` counts the fault events in the order of the output, from 1. */
  constructor(target: number) {
    this.#target = target;
  }

  /** Call with the run before its first step. */
  attach(run: Run): void {
    this.#watched = { m: run.m, allocations: run.scenario.allocations };
  }

  /** The fault asked for, or null when the run had fewer. */
  get recorded(): Recorded | null {
    return this.#recorded;
  }

  /** The model while it is worth looking: near the fault, and from there to the end of its flow. */
  #watch(): Model | null {
    if (this.#watched === null || this.faults + LEAD < this.#target) return null;
    return this.#watched.m;
  }

  #flow(m: Model): Flow | null {
    const flow = this.#flows.get(m.k.currentThread);
    return flow === undefined || flow.closed ? null : flow;
  }

  #topHalf(gpu: number, call: CallItem): void {
    // One that comes while a bottom half runs schedules nothing.
    if (!this.#bottomHalves.has(gpu) && !this.#topHalves.has(gpu)) this.#topHalves.set(gpu, call);
  }

  #begin(m: Model, call: CallItem): Flow {
    const thread = m.k.currentThread;
    const old = this.#flows.get(thread);
    if (call.function === 'uvm_va_space_cpu_fault' && (call.detail['retries'] as number) > 0 && old !== undefined) {
      return old;
    }
    const flow = newFlow();
    this.#flows.set(thread, flow);
    if (call.function === 'replayable_faults_isr_bottom_half') {
      const gpu = call.detail['gpu'] as number;
      const top = this.#topHalves.get(gpu);
      if (top !== undefined) flow.roots.push(top);
      this.#topHalves.delete(gpu);
      this.#bottomHalves.add(gpu);
    }
    return flow;
  }

  /** A fetch begins a new batch: the one before is done with, unless a cancel looks again at its faults. */
  #nextBatch(flow: Flow): void {
    if (flow.stack.some((call) => call.function === 'service_fault_batch_for_cancel')) return;
    if (flow.hasTarget) {
      flow.closed = true;
      return;
    }
    const service = flow.stack.find((call) => call.function === 'uvm_parent_gpu_service_replayable_faults');
    if (service === undefined || service.items.length === 0) return;
    service.items.length = 0;
    flow.batchesBefore++;
  }

  enter(name: string, time: number, detail: Readonly<Record<string, number | string | boolean>> = {}): void {
    const m = this.#watch();
    if (m === null || isPassedOver(name)) return;
    const call: CallItem = { kind: 'call', function: name, time, detail: this.#words(detail), items: [] };
    if (name === 'uvm_isr_top_half') {
      this.#topHalf(detail['gpu'] as number, call);
      return;
    }
    let flow = isRoot(name) ? this.#begin(m, call) : this.#flows.get(m.k.currentThread);
    if (flow === undefined) {
      flow = newFlow();
      this.#flows.set(m.k.currentThread, flow);
    }
    if (name === 'fetch_fault_buffer_entries') this.#nextBatch(flow);
    if (!flow.closed) enterCall(flow, call);
  }

  /** A call's detail with pages of a buffer in place of virtual page numbers. */
  #words(detail: Readonly<Record<string, number | string | boolean>>): CallItem['detail'] {
    const page = detail['page'];
    if (this.#watched === null || typeof page !== 'number') return { ...detail };
    return { ...detail, page: placeOf(this.#watched.allocations, page).offset / PAGE_SIZE };
  }

  leave(name: string, time: number): void {
    const m = this.#watch();
    if (m === null) return;
    const flow = this.#flows.get(m.k.currentThread);
    if (flow === undefined) return;
    if (name === 'replayable_faults_isr_bottom_half') {
      this.#bottomHalves.delete(flow.roots[flow.roots.length - 1].detail['gpu'] as number);
    }
    if (flow.closed) return;
    const at = flow.stack.findLastIndex((call) => call.function === name);
    if (at < 0) return;
    flow.stack[at].left = time;
    flow.stack.length = at;
  }

  event(index: number): void {
    if (this.#watched === null) return;
    const { log } = this.#watched.m.tools;
    const kind = log.kind[index];
    if (kind === EVENT_CPU_FAULT || kind === EVENT_GPU_FAULT) this.#faultEvent(this.#watched, index);
    else if (this.#watch() !== null) this.#otherEvent(this.#watched, index, kind);
  }

  #faultEvent(watched: Watched, index: number): void {
    const number = ++this.faults;
    const { m } = watched;
    const page = m.tools.log.page[index];
    const recorded = this.#recorded;
    if (recorded !== null && page === this.#absolutePage && recorded.returns.length < CANDIDATES_MAX) {
      recorded.returns.push({ number, logIndex: index });
    }
    const flow = this.#watch() === null ? null : this.#flow(m);
    if (flow === null) return;
    if (flow.open === null) {
      const { offset } = placeOf(watched.allocations, page);
      flow.open = {
        kind: 'fault',
        time: m.k.now,
        faults: [],
        page: offset / PAGE_SIZE,
        outcome: 'open',
        accesses: [],
        items: [],
      };
      add(flow, flow.open);
    }
    flow.open.faults.push(number);
    if (number !== this.#target) return;
    flow.hasTarget = true;
    this.#absolutePage = page;
    this.#recorded = { flow, logIndex: index, item: flow.open, replays: [], resumptions: [], returns: [] };
  }

  #otherEvent(watched: Watched, index: number, kind: number): void {
    const { m } = watched;
    const flow = this.#flow(m);
    const words: Readonly<Record<number, string>> = {
      [EVENT_THRASHING]: 'thrashing',
      [EVENT_THROTTLING_START]: 'throttlingStart',
      [EVENT_THROTTLING_END]: 'throttlingEnd',
      [EVENT_READ_DUPLICATE]: 'readDuplicate',
      [EVENT_READ_DUPLICATE_INVALIDATE]: 'readDuplicateInvalidate',
      [EVENT_FATAL_FAULT]: 'fatalFault',
    };
    const event = words[kind];
    if (flow === null || event === undefined) return;
    const page = placeOf(watched.allocations, m.tools.log.page[index]).offset / PAGE_SIZE;
    const items = flow.open?.items ?? flow.stack[flow.stack.length - 1]?.items;
    const last = items?.[items.length - 1];
    if (last?.kind === 'event' && last.event === event) addRun(last.runs, page, 1);
    else items?.push({ kind: 'event', time: m.k.now, event, runs: [{ first: page, count: 1 }], detail: {} });
  }

  outcome(block: VaBlock | null, page: number, _processor: number, outcome: FaultOutcome, row: number): void {
    const m = this.#watch();
    const flow = m === null ? null : this.#flow(m);
    if (m === null || flow === null || this.#watched === null) return;
    let item = flow.open;
    if (item === null) {
      const base = block === null ? 0 : blockBase(this.#watched, block);
      item = {
        kind: 'fault',
        time: m.k.now,
        faults: [],
        page: base + page,
        outcome,
        accesses: [],
        items: [],
      };
      // A CPU fault tried again reports no event: what was decided before this is its own.
      const top = flow.stack[flow.stack.length - 1];
      if (top !== undefined) item.items = top.items.splice(0);
      add(flow, item);
    }
    item.outcome = outcome;
    if (row >= 0 && block !== null) {
      const gpu = m.gpus[flow.roots[flow.roots.length - 1]?.detail['gpu'] as number];
      if (gpu !== undefined) item.accesses = accessWords(gpu.replayable.batch.faultCache.accessMask[row]);
    }
    flow.open = null;
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
    const flow = this.#here();
    if (flow === null || this.#watched === null) return;
    add(flow, residencyItem(this.#watched, block, page, processor, accessMask, rule, residency));
  }

  #here(): Flow | null {
    const m = this.#watch();
    return m === null ? null : this.#flow(m);
  }

  /** The flow if it has the fault asked for: a service comes after all its faults, so before that nobody will ask. */
  #wanted(): Flow | null {
    const flow = this.#here();
    return flow === null || !flow.hasTarget ? null : flow;
  }

  thrashing(block: VaBlock, page: number, processor: number, step: string, type: number): void {
    const flow = this.#here();
    if (flow === null || this.#watched === null) return;
    const item = thrashingItem(this.#watched, block, page, processor, step, type);
    if (item !== null) add(flow, item);
  }

  prefetchLevel(
    _block: VaBlock,
    page: number,
    level: number,
    first: number,
    outer: number,
    counter: number,
    size: number,
    passes: boolean,
  ): void {
    const flow = this.#wanted();
    if (flow === null) return;
    const last = flow.asks[flow.asks.length - 1];
    let ask = last;
    if (last === undefined || last.page !== page) {
      ask = { page, levels: [], first: 0, outer: 0 };
      flow.asks.push(ask);
    }
    ask.levels.push({ level, first, outer, counter, size, passes });
  }

  prefetchRegion(_block: VaBlock, page: number, first: number, outer: number): void {
    const flow = this.#wanted();
    const ask = flow?.asks[flow.asks.length - 1];
    if (ask === undefined || ask.page !== page) return;
    ask.first = first;
    ask.outer = outer;
  }

  prefetch(block: VaBlock, context: ServiceBlockContext, rule: string): void {
    const flow = this.#wanted();
    if (flow === null || this.#watched === null) return;
    add(flow, prefetchItem(this.#watched, block, context, rule, flow.asks));
    flow.asks = [];
  }

  makeResident(
    block: VaBlock,
    destination: number,
    words: Uint32Array,
    offset: number,
    cause: number,
    duplicate: boolean,
  ): void {
    const m = this.#watch();
    if (m === null || this.#wanted() === null) return;
    const there = residentWords(block, destination);
    let pages = 0;
    let already = 0;
    let nowhere = 0;
    for (let page = 0; page < block.n; page++) {
      if (!maskTest(words, offset, page)) continue;
      pages++;
      if (there !== null && maskTest(there, residentOffset(destination), page)) already++;
      else if (pageResidentProcessors(block, page) === 0) nowhere++;
    }
    const name = duplicate ? 'uvm_va_block_make_resident_read_duplicate' : 'uvm_va_block_make_resident_copy';
    const to = processorName(destination);
    this.enter(name, m.k.now, { to, cause: CAUSE_WORDS[cause], pages, already, nowhere });
  }

  populate(block: VaBlock, processor: number, first: number, count: number, zeroed: number): void {
    const flow = this.#wanted();
    if (flow === null || this.#watched === null) return;
    const run = { first: blockBase(this.#watched, block) + first, count, zeroed };
    const top = flow.stack[flow.stack.length - 1];
    const last = top?.items[top.items.length - 1];
    if (last?.kind === 'populate' && last.processor === processorName(processor)) last.runs.push(run);
    else {
      add(flow, {
        kind: 'populate',
        time: this.#watched.m.k.now,
        processor: processorName(processor),
        runs: [run],
        push: null,
      });
    }
  }

  permissions(
    block: VaBlock,
    context: ServiceBlockContext,
    processor: number,
    residency: number,
    protections: number,
  ): void {
    const flow = this.#wanted();
    if (flow === null || this.#watched === null) return;
    const page = this.#absolutePage - block.startPage;
    const item = permissionItem(this.#watched, block, context, processor, residency, protections, page);
    if (item !== null) add(flow, item);
  }

  copy(block: VaBlock, first: number, count: number, from: number, to: number, cause: number): void {
    const flow = this.#wanted();
    if (flow === null || this.#watched === null) return;
    flow.copyFrom = from;
    flow.copyTo = to;
    flow.copies.push({ first: blockBase(this.#watched, block) + first, count, cause: MIGRATION_WORDS[cause] });
  }

  push(purpose: number, gpu: number, channel: number, value: number): void {
    const m = this.#watch();
    if (m === null) return;
    const replays = purpose === PURPOSE_REPLAY || purpose === PURPOSE_CANCEL;
    const later = replays && this.#recorded !== null && this.#recorded.replays.length < CANDIDATES_MAX;
    const flow = this.#wanted();
    if (flow === null && !later) return;
    const push = pushInfo(m, purpose, gpu, channel, value);
    if (later) this.#recorded?.replays.push(push);
    if (flow === null) return;
    if (purpose === PURPOSE_COPY) {
      const from = processorName(flow.copyFrom);
      const to = processorName(flow.copyTo);
      add(flow, { kind: 'copy', time: push.begin, from, to, runs: flow.copies, push });
      flow.copies = [];
    } else if (purpose === PURPOSE_MEMSET) {
      const top = flow.stack[flow.stack.length - 1];
      const last = top?.items[top.items.length - 1];
      if (last?.kind === 'populate') last.push = push;
      else add(flow, { kind: 'push', push });
    } else if (MAP_FUNCTIONS[purpose] !== undefined) this.#lastMapPush = { purpose, push };
    else add(flow, { kind: 'push', push });
  }

  map(block: VaBlock, processor: number, first: number, count: number, protection: number): void {
    const flow = this.#wanted();
    if (flow === null || this.#watched === null) return;
    const { m } = this.#watched;
    const onCpu = processor === CPU_ID;
    const purpose = onCpu
      ? protection === 0
        ? PURPOSE_UNMAP
        : PURPOSE_MAP
      : (this.#lastMapPush?.purpose ?? PURPOSE_MAP);
    const push = onCpu ? null : (this.#lastMapPush?.push ?? null);
    const target = protection === 0 ? null : processorOrNull(pageClosestResident(block, first, processor));
    addMap(flow, {
      kind: 'map',
      time: push === null ? m.k.now : push.begin,
      function: MAP_FUNCTIONS[purpose],
      processor: processorName(processor),
      protection: PROTECTION_WORDS[protection],
      target,
      runs: [{ first: blockBase(this.#watched, block) + first, count }],
      push,
    });
  }

  pushRun(gpu: number, channelIndex: number, value: number): void {
    this.#lastRun = { gpu, channel: channelIndex, trackingValue: value };
  }

  resumed(gpu: number, page: number, access: number, time: number, resume: number, cancelled: boolean): void {
    const recorded = this.#recorded;
    if (recorded === null || page !== this.#absolutePage || recorded.resumptions.length >= CANDIDATES_MAX) return;
    const { channel, trackingValue } = this.#lastRun;
    recorded.resumptions.push({ gpu, page, access, time, resume, cancelled, channel, trackingValue });
  }
}
