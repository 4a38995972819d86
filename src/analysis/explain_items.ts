/**
 * What an explanation consists of: plain data, the same for the text and for `--json`. Times are nanoseconds of virtual
 * time, processors are words (`cpu`, `gpu0`), pages are indices of 4 KiB pages in their buffer, and a run is `count` of
 * them from `first`.
 */
import type { FaultOutcome } from '../model/why.ts';

export interface PageRun {
  first: number;
  count: number;
}

/** A push: what the driver gave a copy engine to do, and how both sides know that it is done. */
export interface PushInfo {
  purpose: string;
  gpu: string;
  /** Channel id, the types of its pool, and the copy engine behind it. */
  channel: number;
  channelType: string;
  engine: number;
  /** The channel's tracking semaphore takes this value when the push is done. */
  trackingValue: number;
  methods: number;
  /** Begun and submitted by the CPU. */
  begin: number;
  end: number;
  /** Carried out by the GPU. */
  start: number;
  finish: number;
  /** What it waited for before it started. */
  acquired: Acquired[];
  /** Page-table entries written, by size; invalidates of the TLB. */
  ptes?: Record<string, number>;
  tlbInvalidates?: number;
  /** When the driver collected it and its tools records, where it has some. */
  noticed?: number;
}

export interface Acquired {
  channel: number;
  channelType: string;
  gpu: string;
  trackingValue: number;
  finish: number;
}

/** A function of the driver with what happened in it, in order. */
export interface CallItem {
  kind: 'call';
  function: string;
  time: number;
  /** When it was left, for functions that wait. */
  left?: number;
  detail: Record<string, number | string | boolean>;
  items: Item[];
}

/** One entry of a batch that was looked at (GPU), or the fault being served (CPU). */
export interface FaultItem {
  kind: 'fault';
  time: number;
  /** Numbers of the fault events: the representative's, then those merged into it. Empty for a fault tried again. */
  faults: number[];
  page: number;
  outcome: FaultOutcome | 'open';
  /** Access types merged on the entry. */
  accesses: string[];
  items: Item[];
}

export interface ResidencyItem {
  kind: 'residency';
  time: number;
  page: number;
  processor: string;
  residency: string;
  /** Number of the rule, from 1, and its words. */
  ruleNumber: number;
  rule: string;
  accesses: string[];
  /** Processors that hold the page, and the one of them that is the closest to the faulting one. */
  residents: string[];
  closest: string | null;
  preferredLocation: string | null;
  accessedBy: string[];
  readDuplication: 'unset' | 'enabled' | 'disabled';
  readDuplicated: boolean;
  hint: 'none' | 'pin' | 'throttle';
}

export interface ThrashingItem {
  kind: 'thrashing';
  time: number;
  page: number;
  processor: string;
  hint: 'none' | 'pin' | 'throttle';
  step: string;
  /** Thrashing events counted on the page, and how many make it thrash. */
  events: number;
  threshold: number;
  /** Since the last event, and the time within which events count. */
  sinceLast: number;
  lapse: number;
  /** Throttles counted on the page, and how many end in a pin. */
  throttles: number;
  pinThreshold: number;
  throttlingEnd: number;
  /** The processor that the current period spares. */
  doNotThrottle: string | null;
  processors: string[];
  pinned: string | null;
}

export interface PrefetchLevel {
  /** The driver's number: 0 is the root. */
  level: number;
  /** Pages of the node; the first may lie before the block. */
  first: number;
  outer: number;
  /** Set leaves, and leaves. */
  counter: number;
  size: number;
  /** counter * 100 > size * threshold */
  passes: boolean;
}

export interface PrefetchItem {
  kind: 'prefetch';
  time: number;
  rule: string;
  destination: string | null;
  threshold: number;
  /** Pages of the block, and the leaves that are set: resident there, faulted, and what growing to 64 KiB added. */
  block: PageRun;
  resident: number;
  faulted: number;
  grown: number;
  thrashing: number;
  /** By faulted page: every level above it, from the leaf, and the region of the highest that passes. */
  pages: { page: number; levels: PrefetchLevel[]; region: PageRun }[];
  /** What all regions together ask for, and which of those pages are not prefetched. */
  asked: number;
  removed: { reason: string; pages: number }[];
  /** Faults that moved here in a row, and how many it takes. */
  faultCount: number;
  minFaults: number;
  /** The pages to prefetch. */
  runs: PageRun[];
  prefetched: number;
}

export interface PopulateItem {
  kind: 'populate';
  time: number;
  processor: string;
  runs: (PageRun & { zeroed: number })[];
  push: PushInfo | null;
}

export interface CopyRun extends PageRun {
  /** As the migration event has it. */
  cause: string;
}

export interface CopyItem {
  kind: 'copy';
  time: number;
  from: string;
  to: string;
  runs: CopyRun[];
  push: PushInfo;
}

/** A processor's mappings change: PTEs of a GPU by a push, those of the CPU at once. */
export interface MapItem {
  kind: 'map';
  time: number;
  /** The driver's function. */
  function: string;
  processor: string;
  protection: string;
  /** Whose memory is mapped; null when unmapped. */
  target: string | null;
  runs: PageRun[];
  push: PushInfo | null;
}

export interface PermissionItem {
  kind: 'permission';
  time: number;
  page: number;
  processor: string;
  residency: string;
  access: string;
  mayReadDuplicate: boolean;
  discarded: boolean;
  /** Processors that map the page for atomics and are not native to the residency. */
  atomicElsewhere: string[];
  nativeAtomics: boolean;
  protection: string;
  /** Pages of the service by what they get. */
  pages: Record<string, number>;
  /** The page stayed where it was. */
  didNotMigrate: boolean;
}

/** A push that belongs to no copy, mapping or population: replays and cancels. */
export interface PushItem {
  kind: 'push';
  push: PushInfo;
}

/** A synchronous tools event on the way: thrashing, throttling, read duplication, a fatal fault. */
export interface EventItem {
  kind: 'event';
  time: number;
  event: string;
  runs: PageRun[];
  detail: Record<string, string>;
}

/** What is left out because it is about other faults. */
export interface OthersItem {
  kind: 'others';
  what: string;
}

export type Item =
  | CallItem
  | FaultItem
  | ResidencyItem
  | ThrashingItem
  | PrefetchItem
  | PopulateItem
  | CopyItem
  | MapItem
  | PermissionItem
  | PushItem
  | EventItem
  | OthersItem;

export const PROTECTION_WORDS = ['none', 'read', 'read and write', 'read, write and atomics'] as const;
/** Driver access types by number. */
export const ACCESS_TYPE_WORDS = ['prefetch', 'read', 'write', 'weak atomic', 'strong atomic'] as const;
export const HINT_WORDS = ['none', 'pin', 'throttle'] as const;
export const READ_DUPLICATION_WORDS = ['unset', 'enabled', 'disabled'] as const;
/** The word that a migration event has for each internal cause. */
export const MIGRATION_WORDS = [
  'coherence',
  'coherence',
  'accessCounters',
  'prefetch',
  'eviction',
  'invalid',
  'user',
  'coherence',
  'user',
] as const;
/** Internal causes by number (uvm_make_resident_cause_t). */
export const CAUSE_WORDS = [
  'replayable fault',
  'non-replayable fault',
  'access counter',
  'prefetch',
  'eviction',
  'tools',
  'migrate',
  'range group',
  'hint',
] as const;

/** Items of all depths, in order. */
export function* walkItems(items: readonly Item[]): Generator<Item> {
  for (const item of items) {
    yield item;
    if (item.kind === 'call' || item.kind === 'fault') yield* walkItems(item.items);
  }
}

/** The push of an item, if it has one. */
export function pushOf(item: Item): PushInfo | null {
  switch (item.kind) {
    case 'copy':
    case 'map':
    case 'populate':
    case 'push':
      return item.push;
    default:
      return null;
  }
}

/** Adds a run, joined with the last one where it follows it. */
export function addRun(runs: PageRun[], first: number, count: number): void {
  const last = runs[runs.length - 1];
  if (last !== undefined && last.first + last.count === first) last.count += count;
  else runs.push({ first, count });
}

export function runPages(runs: readonly PageRun[]): number {
  return runs.reduce((sum, run) => sum + run.count, 0);
}

export function runsHold(runs: readonly PageRun[], page: number): boolean {
  return runs.some((run) => page >= run.first && page < run.first + run.count);
}
