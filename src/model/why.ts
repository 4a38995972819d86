/**
 * Why, not only what: the observer of decisions. The model calls it only when `m.res.why` is not null, so nobody
 * asking costs one test at each decision. Methods take plain values that are valid during the call alone, and an
 * observer must change nothing. Methods marked optional may be left out by whoever does not want them.
 *
 * Blocks come with page indices relative to the block, `count` pages from `first`; processors are ids (0 is the CPU),
 * GPUs are indices, times are nanoseconds.
 */
import type { CopyStage, CopyStageDetail } from './copy_routine/types.ts';
import type { Launch } from './uvm/conf_computing_types.ts';
import type { ServiceBlockContext, VaBlock } from './uvm/va_block_types.ts';

/** What became of a fault that the driver looked at. */
export type FaultOutcome =
  /** Its page goes into the service. */
  | 'serviced'
  /** The entry before it in service order is of the same page and has been decided upon. */
  | 'duplicate'
  /** The driver's own page-table state says that the access is allowed. */
  | 'authorised'
  | 'throttled'
  /** A prefetch of what may not be accessed: neither serviced nor cancelled. */
  | 'invalidPrefetch'
  | 'fatal'
  /** CPU: the page is mapped as far as the driver knows, so the access is tried again first. */
  | 'spurious';

export interface Why {
  /** A function of the driver is entered, in the driver's name; `detail` is plain data for reports. */
  enter(name: string, time: number, detail?: Readonly<Record<string, number | string | boolean>>): void;
  /** A function is left; only those whose end is of interest tell. */
  leave?(name: string, time: number): void;
  /** A tools event that is not deferred was recorded: its index in the log, kind, page, step and time are set. */
  event?(index: number): void;
  /** What becomes of one fault; `block` is null outside of managed memory, `row` is the fault's in the cache or -1. */
  outcome?(block: VaBlock | null, page: number, processor: number, outcome: FaultOutcome, row: number): void;
  /** Residency of one page: the rule of the residency decision (number of the step) that matched, and its inputs. */
  residency(
    block: VaBlock,
    page: number,
    processor: number,
    accessMask: number,
    rule: number,
    closest: number,
    residency: number,
  ): void;
  /** One level of the prefetch tree for one faulted page. */
  prefetchLevel(
    block: VaBlock,
    page: number,
    level: number,
    first: number,
    outer: number,
    counter: number,
    size: number,
    taken: boolean,
  ): void;
  /** The region that one faulted page asks the prefetcher for; empty when no level passes. */
  prefetchRegion?(block: VaBlock, page: number, first: number, outer: number): void;
  /** The prefetch decision for one service call: rule is 'whole block', 'tree', 'several residencies', 'disabled'. */
  prefetch(block: VaBlock, context: ServiceBlockContext, rule: string): void;
  /** The thrashing hint for one page and the step that gave it. */
  thrashing(block: VaBlock, page: number, processor: number, step: string, type: number): void;
  /** A page's thrashing data starts afresh. */
  thrashingReset?(block: VaBlock, page: number): void;
  /** Pages of the mask `words[offset]` are about to be moved to a processor, or to get a further copy there. */
  makeResident?(
    block: VaBlock,
    destination: number,
    words: Uint32Array,
    offset: number,
    cause: number,
    duplicate: boolean,
  ): void;
  /** A processor gets memory for pages; `zeroed` of them are set to zero first. */
  populate?(block: VaBlock, processor: number, first: number, count: number, zeroed: number): void;
  /**
   * The pages of a service are sorted by the protection that the faulting processor gets. `protections` has a bit for
   * each one that occurs; the masks of the others mean nothing.
   */
  permissions?(
    block: VaBlock,
    context: ServiceBlockContext,
    processor: number,
    residency: number,
    protections: number,
  ): void;
  /** A lock of the order `order` (kernel/lock.ts) is taken or released by the thread that runs. */
  lock?(order: number, instance: number, shared: boolean, taken: boolean, time: number): void;
  /** A stage in the life of a copy of the copy routine; `token` is 0 until it has one. */
  copyStage?(token: number, stage: CopyStage, time: number, detail: CopyStageDetail): void;
  /** A push was ended. */
  push(
    purpose: number,
    gpu: number,
    channel: number,
    value: number,
    begin: number,
    start: number,
    finish: number,
    methods: number,
  ): void;
  /** With Confidential Computing: a push was launched, by which channel and when; `push` of it follows. */
  launch?(launch: Readonly<Launch>): void;
  /** A push is carried out on the GPU; what its methods bring about is told until the next one. */
  pushRun?(gpu: number, channelIndex: number, value: number, time: number): void;
  /** A parked access of the GPU ends because of a replay or a cancel; the one who waits goes on at `resume`. */
  resumed?(gpu: number, page: number, access: number, time: number, resume: number, cancelled: boolean): void;
  /** Pages of a block were copied by the push that will end next, or skipped. */
  copy(block: VaBlock, first: number, count: number, from: number, to: number, cause: number): void;
  /** Pages of a block were mapped or unmapped on a processor. */
  map(block: VaBlock, processor: number, first: number, count: number, protection: number): void;
}
