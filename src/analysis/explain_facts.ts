/** Reads the facts of an explanation off the model at the moment of a decision. Nothing here changes the model. */
import { MASK_WORDS, maskNextClear, maskNextSet, maskTest, maskWeight } from '../base/page_mask.ts';
import { METHOD_PTE, METHOD_TLB_INVALIDATE, METHOD_WORDS } from '../model/gpu/methods.ts';
import { PTE_LEVEL_2M, PTE_LEVEL_4K, PTE_LEVEL_BIG, PTE_LEVEL_PDE } from '../model/gpu/mmu.ts';
import type { Model } from '../model/state.ts';
import {
  CHANNEL_TYPE_NAMES,
  channelFinishTime,
  channelGet,
  channelGpu,
  channelRecentPushes,
} from '../model/uvm/channel.ts';
import { perfThrashingGetThrashingPages } from '../model/uvm/perf_thrashing.ts';
import { CPU_ID, INVALID_ID, processorFirst } from '../model/uvm/processors.ts';
import { PURPOSE_NAMES } from '../model/uvm/push.ts';
import {
  mappedOffset,
  pageAuthorizedProcessors,
  pageClosestResident,
  pageMightReadDuplicate,
  pageResidentProcessors,
  residentOffset,
  residentWords,
} from '../model/uvm/va_block.ts';
import { RESIDENCY_RULES } from '../model/uvm/va_block_residency.ts';
import { newResidencyOffset } from '../model/uvm/va_block_service.ts';
import {
  B_DISCARDED,
  B_READ_DUPLICATED,
  PROT_READ_WRITE_ATOMIC,
  S_DID_NOT_MIGRATE,
  S_MAPPINGS,
  S_PREFETCH,
  type ServiceBlockContext,
  type VaBlock,
} from '../model/uvm/va_block_types.ts';
import { processorName } from '../model/uvm/va_space.ts';
import type { Allocation } from '../scenario/scenario.ts';
import {
  ACCESS_TYPE_WORDS,
  HINT_WORDS,
  type PageRun,
  type PermissionItem,
  PROTECTION_WORDS,
  type PrefetchItem,
  type PrefetchLevel,
  type PushInfo,
  READ_DUPLICATION_WORDS,
  type ResidencyItem,
  type ThrashingItem,
} from './explain_items.ts';

/** The model being watched, and where its buffers lie. */
export interface Watched {
  m: Model;
  allocations: readonly Allocation[];
}

/** Words of the processors in a mask. */
export function processorWords(mask: number): string[] {
  const words: string[] = [];
  for (let id = 0; id < 32; id++) if ((mask & (1 << id)) !== 0) words.push(processorName(id));
  return words;
}

export function processorOrNull(id: number): string | null {
  return id === INVALID_ID ? null : processorName(id);
}

/** Words of a mask of driver access types, the most intrusive first. */
export function accessWords(mask: number): string[] {
  return ACCESS_TYPE_WORDS.filter((_, type) => (mask & (1 << type)) !== 0).reverse();
}

/** Page index in its buffer of a block's page 0; what lies before the block counts down from there. */
export function blockBase(watched: Watched, block: VaBlock): number {
  return block.startPage - watched.allocations[block.range.allocation].firstPage;
}

/** The runs of set pages in a mask, moved by `base`. */
export function maskRuns(w: Uint32Array, o: number, n: number, base: number): PageRun[] {
  const runs: PageRun[] = [];
  let first = maskNextSet(w, o, 0, n);
  while (first < n) {
    const outer = maskNextClear(w, o, first, n);
    runs.push({ first: first + base, count: outer - first });
    first = maskNextSet(w, o, outer, n);
  }
  return runs;
}

/** Names of the channel types that share a channel's pool. */
function channelTypeName(m: Model, id: number): string {
  const { pool, gpu } = channelGet(m, id);
  const manager = m.gpus[gpu].channelManager;
  const types = CHANNEL_TYPE_NAMES.filter((_, type) => manager.poolForType[type] === pool);
  return types.length > 0 ? types.join('/') : 'GPU_TO_GPU';
}

const PTE_SIZES: Readonly<Record<number, string>> = {
  [PTE_LEVEL_2M]: '2 MiB',
  [PTE_LEVEL_PDE]: 'directory',
  [PTE_LEVEL_BIG]: '64 KiB',
  [PTE_LEVEL_4K]: '4 KiB',
};

/** Page-table entries and TLB invalidates among the methods of a push that has just ended. */
function readMethods(m: Model, gpu: number, channel: number, value: number, into: PushInfo): void {
  const push = m.gpus[gpu].channelManager.pushbuffer.pushes.find(
    (candidate) => candidate.channel === channel && candidate.trackingValue === value && !candidate.open,
  );
  if (push === undefined) return;
  const ptes: Record<string, number> = {};
  let invalidates = 0;
  for (let i = 0; i < push.length; i += METHOD_WORDS[push.words[i]]) {
    if (push.words[i] === METHOD_PTE) {
      const size = PTE_SIZES[push.words[i + 1]];
      ptes[size] = (ptes[size] ?? 0) + push.words[i + 3];
    } else if (push.words[i] === METHOD_TLB_INVALIDATE) invalidates++;
  }
  if (Object.keys(ptes).length > 0) into.ptes = ptes;
  if (invalidates > 0) into.tlbInvalidates = invalidates;
}

/** The push that has just ended on a channel. */
export function pushInfo(m: Model, purpose: number, gpu: number, channel: number, value: number): PushInfo {
  const record = channelRecentPushes(m, channel, 1)[0];
  const info: PushInfo = {
    purpose: PURPOSE_NAMES[purpose],
    gpu: processorName(gpu + 1),
    channel: channelGet(m, channel).index,
    channelType: channelTypeName(m, channel),
    engine: m.gpus[gpu].channelManager.pools[channelGet(m, channel).pool].engine,
    trackingValue: value,
    methods: record.methods,
    begin: record.begin,
    end: record.end,
    start: record.start,
    finish: record.finish,
    acquired: (record.acquires ?? []).map(([id, acquired]) => ({
      channel: channelGet(m, id).index,
      channelType: channelTypeName(m, id),
      gpu: processorName(channelGpu(id) + 1),
      trackingValue: acquired,
      finish: channelFinishTime(m, id, acquired),
    })),
  };
  readMethods(m, gpu, channel, value, info);
  return info;
}

export function residencyItem(
  watched: Watched,
  block: VaBlock,
  page: number,
  processor: number,
  accessMask: number,
  rule: number,
  residency: number,
): ResidencyItem {
  const { m } = watched;
  const policy = block.range.policy;
  return {
    kind: 'residency',
    time: m.k.now,
    page: blockBase(watched, block) + page,
    processor: processorName(processor),
    residency: processorName(residency),
    ruleNumber: rule + 1,
    rule: RESIDENCY_RULES[rule],
    accesses: accessWords(accessMask),
    residents: processorWords(pageResidentProcessors(block, page)),
    closest: processorOrNull(pageClosestResident(block, page, processor)),
    preferredLocation: processorOrNull(policy.preferredLocation),
    accessedBy: processorWords(policy.accessedBy),
    readDuplication: READ_DUPLICATION_WORDS[policy.readDuplication],
    readDuplicated: maskTest(block.w, B_READ_DUPLICATED, page),
    hint: HINT_WORDS[m.thrashingHint.type],
  };
}

/** Called when the hint is decided and not yet carried out. */
export function thrashingItem(
  watched: Watched,
  block: VaBlock,
  page: number,
  processor: number,
  step: string,
  type: number,
): ThrashingItem | null {
  const { m } = watched;
  const pages = block.thrashing === null ? null : block.thrashing.pages;
  if (pages === null && step !== 'epoch reset') return null;
  return {
    kind: 'thrashing',
    time: m.k.now,
    page: blockBase(watched, block) + page,
    processor: processorName(processor),
    hint: HINT_WORDS[type],
    step,
    events: pages === null ? 0 : pages.numEvents[page],
    threshold: m.params.uvm_perf_thrashing_threshold,
    sinceLast: pages === null || pages.lastTime[page] === 0 ? 0 : m.k.now - pages.lastTime[page],
    lapse: m.params.thrashingLapseNs,
    throttles: pages === null ? 0 : pages.throttlingCount[page],
    pinThreshold: m.params.uvm_perf_thrashing_pin_threshold,
    throttlingEnd: pages === null ? 0 : pages.throttlingEnd[page],
    doNotThrottle: pages === null ? null : processorOrNull(pages.doNotThrottle[page]),
    processors: pages === null ? [] : processorWords(pages.processors[page]),
    pinned: pages === null || pages.pinned[page] === 0 ? null : processorOrNull(pages.pinnedResidency[page]),
  };
}

/** Levels and region that one faulted page asked the tree for, with page indices relative to the block. */
export interface PrefetchAsk {
  page: number;
  levels: PrefetchLevel[];
  first: number;
  outer: number;
}

/** Why pages that a region asked for are not prefetched; the first reason that holds counts. */
function removedPages(
  block: VaBlock,
  context: ServiceBlockContext,
  destination: number,
  asked: Uint8Array,
): PrefetchItem['removed'] {
  const faulted = newResidencyOffset(destination);
  const thrashing = perfThrashingGetThrashingPages(block);
  const reasons = new Map<string, number>();
  for (let page = 0; page < block.n; page++) {
    if (asked[page] === 0 || maskTest(context.w, S_PREFETCH, page)) continue;
    let reason = 'other range group';
    if (maskTest(context.w, faulted, page)) reason = 'faulted themselves';
    else if (destination === CPU_ID && maskTest(block.w, residentOffset(CPU_ID), page)) {
      reason = 'on the CPU and mapped there already';
    } else if (thrashing !== null && maskTest(thrashing, 0, page)) reason = 'thrashing';
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  return [...reasons].map(([reason, pages]) => ({ reason, pages }));
}

/** Called when the prefetcher has decided and its pages are not yet part of the service. */
export function prefetchItem(
  watched: Watched,
  block: VaBlock,
  context: ServiceBlockContext,
  rule: string,
  asks: readonly PrefetchAsk[],
): PrefetchItem {
  const { m } = watched;
  const base = blockBase(watched, block);
  const single = rule !== 'several residencies';
  const destination = single ? processorFirst(context.residentProcessors) : INVALID_ID;
  const used = context.prefetchResidency !== INVALID_ID;
  const item: PrefetchItem = {
    kind: 'prefetch',
    time: m.k.now,
    rule,
    destination: processorOrNull(destination),
    threshold: m.params.uvm_perf_prefetch_threshold,
    block: { first: base, count: block.n },
    resident: 0,
    faulted: 0,
    grown: 0,
    thrashing: 0,
    pages: [],
    asked: 0,
    removed: [],
    faultCount: block.faultMigrationsToLastProc,
    minFaults: m.params.uvm_perf_prefetch_min_faults,
    runs: used ? maskRuns(context.w, S_PREFETCH, block.n, base) : [],
    prefetched: used ? maskWeight(context.w, S_PREFETCH) : 0,
  };
  if (destination === INVALID_ID) return item;
  const faulted = newResidencyOffset(destination);
  const words = residentWords(block, destination);
  const at = residentOffset(destination);
  const thrashing = perfThrashingGetThrashingPages(block);
  let set = 0;
  for (let page = 0; page < block.n; page++) {
    const held = words !== null && maskTest(words, at, page);
    if (held) item.resident++;
    if (maskTest(context.w, faulted, page)) item.faulted++;
    if (held || maskTest(context.w, faulted, page)) set++;
    if (thrashing !== null && maskTest(thrashing, 0, page)) item.thrashing++;
  }
  if (rule === 'disabled') return item;
  const asked = new Uint8Array(block.n);
  if (rule === 'whole block') asked.fill(1);
  for (const ask of asks) {
    asked.fill(1, ask.first, ask.outer);
    const root = ask.levels[ask.levels.length - 1];
    if (root !== undefined) item.grown = root.counter - set;
    item.pages.push({
      page: ask.page + base,
      levels: ask.levels.map((level) => ({ ...level, first: level.first + base, outer: level.outer + base })),
      region: { first: ask.first + base, count: ask.outer - ask.first },
    });
  }
  item.asked = asked.reduce((sum, one) => sum + one, 0);
  item.removed = removedPages(block, context, destination, asked);
  return item;
}

/** Called when the pages of a service are sorted by protection; null when the page is not among them. */
export function permissionItem(
  watched: Watched,
  block: VaBlock,
  context: ServiceBlockContext,
  processor: number,
  residency: number,
  protections: number,
  page: number,
): PermissionItem | null {
  if (page < 0 || page >= block.n || !maskTest(context.w, newResidencyOffset(residency), page)) return null;
  const native = block.range.space.processors.hasNativeAtomics[residency];
  const pages: Record<string, number> = {};
  let protection = 0;
  for (let p = 1; p <= PROT_READ_WRITE_ATOMIC; p++) {
    if ((protections & (1 << p)) === 0) continue;
    pages[PROTECTION_WORDS[p]] = maskWeight(context.w, S_MAPPINGS + p * MASK_WORDS);
    if (maskTest(context.w, S_MAPPINGS + p * MASK_WORDS, page)) protection = p;
  }
  const atomics = pageAuthorizedProcessors(block, page, PROT_READ_WRITE_ATOMIC) & ~native;
  return {
    kind: 'permission',
    time: watched.m.k.now,
    page: blockBase(watched, block) + page,
    processor: processorName(processor),
    residency: processorName(residency),
    access: ACCESS_TYPE_WORDS[context.accessType[page]],
    mayReadDuplicate: pageMightReadDuplicate(block, page),
    discarded: maskTest(block.w, B_DISCARDED, page),
    atomicElsewhere: processorWords(atomics),
    nativeAtomics: (native & (1 << processor)) !== 0,
    protection: PROTECTION_WORDS[protection],
    pages,
    didNotMigrate: maskTest(context.w, S_DID_NOT_MIGRATE, page),
  };
}

/** The word of the protection that a processor has on a page now. */
export function protectionNow(block: VaBlock, processor: number, page: number): string {
  const words = processor === CPU_ID ? block.w : (block.gpus[processor - 1]?.w ?? null);
  let held = 0;
  for (let p = 1; words !== null && p <= PROT_READ_WRITE_ATOMIC; p++) {
    if (maskTest(words, mappedOffset(processor, p), page)) held = p;
  }
  return PROTECTION_WORDS[held];
}
