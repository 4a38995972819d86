/**
 * The root of the executable driver. `Model` minus `res` is plain data: `structuredClone` of it is a snapshot.
 */
import type { CopyRoutine } from './copy_routine/types.ts';
import type { Contents } from './gpu/contents.ts';
import type { Kernel } from './kernel/clock.ts';
import type { KThreads } from './kernel/thread.ts';
import type { PushWatch } from './push_watch.ts';
import type { Costs, MachineSpec } from './spec.ts';
import type { PushCallback } from './uvm/channel.ts';
import type { ConfComputingResources } from './uvm/conf_computing_types.ts';
import type { Gpu } from './uvm/gpu.ts';
import type { ModuleParameters } from './uvm/params.ts';
import type { ThrashingHint } from './uvm/perf_thrashing_types.ts';
import type { Push } from './uvm/push.ts';
import type { Tools } from './uvm/tools.ts';
import type { ServiceBlockContext, VaBlock } from './uvm/va_block_types.ts';
import type { VaSpace } from './uvm/va_range_types.ts';
import type { Why } from './why.ts';

/** Functions, threads and observers: rebuilt by createModel, never part of a snapshot. */
export interface Resources {
  /** Handlers of timed events, by event kind (kernel/clock.ts). */
  handlers: ((m: Model, a: number, b: number) => void)[];
  /** Functions that pushes name, by callback kind (uvm/push.ts). */
  pushCallbacks: PushCallback[];
  /** Functions that queue items run, by function id (kernel/nv_kthread_q.ts). A generator may sleep. */
  kthreadFunctions: ((m: Model, argument: number) => Generator<number, void, void> | undefined)[];
  threads: KThreads;
  /** Asked for every decision; null when nobody asks. */
  why: Why | null;
  /** Told of every push; null while nobody watches. */
  pushWatch: PushWatch | null;
  /** Dear checks after each operation: lock order, invariants of a block. */
  verify: boolean;
  seams: Seams;
  /** Null on a machine without Confidential Computing. */
  confComputing: ConfComputingResources | null;
  /**
   * A replay carries out the parked access of a client slot: it reaches the memory of `processor` now, while the slot's
   * thread goes on later. For whoever keeps contents; null by default.
   */
  accessReplayed: ((m: Model, gpuIndex: number, slot: number, processor: number) => void) | null;
}

/** Where an extension may change the driver; the stock rules are the defaults (see createModel). */
export interface Seams {
  selectResidency: (
    m: Model,
    block: VaBlock,
    context: ServiceBlockContext,
    page: number,
    processor: number,
    accessMask: number,
    hint: ThrashingHint,
    operation: number,
  ) => number;
  /** Called in service finish right after the residency update; the copy routine's by default. */
  serviceFinishHook:
    | ((m: Model, block: VaBlock, context: ServiceBlockContext, processor: number, residency: number) => void)
    | null;
  /**
   * Called when the service of a batch passes a fault over because the GPU has the right already (a stale fault), under
   * the block's lock and before anything of the block is serviced. `page` counts from the block's start, and
   * `context.residentProcessors` is not 0 when an earlier page of the block goes into the service.
   */
  staleFaultSkipped: ((m: Model, gpu: Gpu, block: VaBlock, context: ServiceBlockContext, page: number) => void) | null;
  /** Called when a fault is cancelled, right after its fatal event; `fault` is its row in the batch's fault cache. */
  faultCancelled: ((m: Model, gpu: Gpu, fault: number) => void) | null;
  /** Called when a push was handed over to the host: its times and methods are known. Null while nobody watches. */
  pushEnded: ((m: Model, push: Push) => void) | null;
}

export type { CopySpace } from './copy_routine/types.ts';

export interface Model {
  readonly spec: MachineSpec;
  readonly params: ModuleParameters;
  readonly cost: Costs;
  res: Resources;
  k: Kernel;
  gpus: Gpu[];
  vaSpaces: VaSpace[];
  tools: Tools;
  contents: Contents | null;
  copyRoutine: CopyRoutine;
  /** Fatal error recorded for the whole driver (uvm_global_set_fatal_error), or NV_OK. */
  globalStatus: number;
  /** Reused answer of perfThrashingGetHint. */
  thrashingHint: ThrashingHint;
}
