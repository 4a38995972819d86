/**
 * Models uvm_gpu_isr.c (driver 580.105.08): the top half of the interrupts that concern UVM, their bottom halves, and
 * the lock and unlock of the replayable ISR for threads.
 *
 * Functions: uvm_parent_gpu_init_isr, init_queue_on_node, uvm_isr_top_half, schedule_replayable_faults_handler,
 * schedule_non_replayable_faults_handler, schedule_access_counters_handler, replayable_faults_isr_bottom_half,
 * non_replayable_faults_isr_bottom_half, uvm_parent_gpu_replayable_faults_isr_lock, _isr_unlock,
 * uvm_parent_gpu_non_replayable_faults_isr_lock, _isr_unlock, uvm_parent_gpu_replayable_faults_intr_disable,
 * _intr_enable, uvm_parent_gpu_flush_bottom_halves, uvm_parent_gpu_disable_isr, uvm_parent_gpu_deinit_isr; the GPU's
 * part of uvm_suspend and uvm_resume (uvm.c).
 *
 * Interrupts are pulses (Turing and later): see gpu/fault_buffer.ts. This machine does not report access counters, so
 * the top half's third step never finds any.
 *
 * Left out: reference counts of the parent GPU, the lookup by UUID, CPU affinity and per-CPU counters, MIG,
 * Confidential Computing's retrigger.
 */
import { assert } from '../../base/assert.ts';
import {
  faultBufferInterruptArrives,
  faultBufferInterruptTaken,
  faultBufferRetriggerInterrupt,
} from '../gpu/fault_buffer.ts';
import { registerHandler } from '../kernel/clock.ts';
import { LOCK_ORDER_ISR, lockAcquire, lockRelease, lockReleaseOutOfOrder } from '../kernel/lock.ts';
import {
  kthreadFunctionRegister,
  NO_NODE,
  nvKthreadQFlush,
  nvKthreadQInitOnNode,
  nvKthreadQItemInit,
  nvKthreadQScheduleQItem,
  nvKthreadQStop,
} from '../kernel/nv_kthread_q.ts';
import { BLOCKED, NO_THREAD, threadCurrent, threadWake } from '../kernel/thread.ts';
import type { Model } from '../state.ts';
import type { Gpu } from './gpu.ts';
import {
  killChannelDelayed,
  parentGpuNonReplayableFaultsPending,
  parentGpuServiceNonReplayableFaultBuffer,
} from './gpu_non_replayable_faults.ts';
import {
  parentGpuFaultBufferDeinit,
  parentGpuFaultBufferInit,
  parentGpuFaultBufferResume,
  parentGpuReplayableFaultsPending,
  parentGpuServiceReplayableFaults,
} from './gpu_replayable_faults.ts';
import { NV_ERR_NO_INTR_PENDING, NV_OK, NV_WARN_MORE_PROCESSING_REQUIRED } from './status.ts';
import {
  halClearReplayableFaults,
  halDisableReplayableFaults,
  halEnableReplayableFaults,
} from './volta_fault_buffer.ts';

/** A semaphore of one permit that threads may wait for: the first to wait is handed the permit. */
export interface ServiceLock {
  locked: boolean;
  waiters: number[];
  /** When it was given back last, ns: a thread that is behind in time gets it no earlier. */
  freeAt: number;
}

/** uvm_intr_handler_t */
export interface IntrHandler {
  serviceLock: ServiceLock;
  handling: boolean;
  wasHandling: boolean;
  disableIntrRefCount: number;
  bottomHalfCount: number;
  /** Queue function and item of the bottom half. */
  bottomHalfFunction: number;
  bottomHalfQItem: number;
}

/** uvm_isr_info_t */
export interface IsrInfo {
  isSuspended: boolean;
  /** Top halves run. */
  interruptCount: number;
  replayable: IntrHandler;
  nonReplayable: IntrHandler;
  /** Queues (nv_kthread_q.ts); all bottom halves share the first one's thread. */
  bottomHalfQ: number;
  killChannelQ: number;
  /** Function that kills a channel, and the items of the kills that are queued. */
  killChannelFunction: number;
  killItems: number[];
}

const NONE = -1;

function createIntrHandler(): IntrHandler {
  return {
    serviceLock: { locked: false, waiters: [], freeAt: 0 },
    handling: false,
    wasHandling: false,
    disableIntrRefCount: 0,
    bottomHalfCount: 0,
    bottomHalfFunction: NONE,
    bottomHalfQItem: NONE,
  };
}

/** The state that comes with the parent GPU object (alloc_parent_gpu), before parentGpuInitIsr. */
export function createIsrInfo(): IsrInfo {
  return {
    isSuspended: false,
    interruptCount: 0,
    replayable: createIntrHandler(),
    nonReplayable: createIntrHandler(),
    bottomHalfQ: NONE,
    killChannelQ: NONE,
    killChannelFunction: NONE,
    killItems: [],
  };
}

/**
 * Registers the event of an interrupt and the functions of the queues. Called once by createModel, when the GPUs exist.
 */
export function isrInit(m: Model): void {
  const interruptKind = registerHandler(m, interruptArrives);
  const replayableFunction = kthreadFunctionRegister(m, replayableFaultsIsrBottomHalf);
  const nonReplayableFunction = kthreadFunctionRegister(m, nonReplayableFaultsIsrBottomHalf);
  const killChannelFunction = kthreadFunctionRegister(m, killChannelDelayed);
  for (const gpu of m.gpus) {
    gpu.faultBuffer.interruptKind = interruptKind;
    gpu.isr.replayable.bottomHalfFunction = replayableFunction;
    gpu.isr.nonReplayable.bottomHalfFunction = nonReplayableFunction;
    gpu.isr.killChannelFunction = killChannelFunction;
  }
}

/**
 * Sets up the interrupts of a GPU (uvm_parent_gpu_init_isr): fault buffers, bottom halves, queues. Called once for each
 * GPU in the order of their indices, when the model is created, because it creates threads. `node` is the closest NUMA
 * node, or NO_NODE.
 */
export function parentGpuInitIsr(m: Model, gpu: Gpu, node = NO_NODE): void {
  const isr = gpu.isr;
  assert(isr.bottomHalfQ === NONE, 'the interrupts of a GPU are set up once');
  if (m.res.why !== null) m.res.why.enter('uvm_parent_gpu_init_isr', m.k.now, { gpu: gpu.index });
  parentGpuFaultBufferInit(m, gpu);
  isr.replayable.bottomHalfQItem = nvKthreadQItemInit(m, isr.replayable.bottomHalfFunction, gpu.index);
  isr.replayable.handling = true;
  isr.bottomHalfQ = nvKthreadQInitOnNode(m, `UVM GPU${gpu.id} BH`, node);
  isr.nonReplayable.bottomHalfQItem = nvKthreadQItemInit(m, isr.nonReplayable.bottomHalfFunction, gpu.index);
  isr.nonReplayable.handling = true;
  isr.killChannelQ = nvKthreadQInitOnNode(m, `UVM GPU${gpu.id} KC`, node);
}

/** Event handler: an interrupt of the fault buffer reaches the CPU. */
function interruptArrives(m: Model, gpuIndex: number, time: number): void {
  if (!faultBufferInterruptArrives(m, gpuIndex, time)) return;
  isrTopHalf(m, gpuIndex);
  faultBufferInterruptTaken(m, gpuIndex);
}

/** uvm_parent_gpu_replayable_faults_intr_disable: the hardware's interrupt goes off with the first disable. */
function replayableFaultsIntrDisable(m: Model, gpu: Gpu): void {
  const handler = gpu.isr.replayable;
  if (handler.handling && handler.disableIntrRefCount === 0) halDisableReplayableFaults(m, gpu);
  handler.disableIntrRefCount++;
}

/** uvm_parent_gpu_replayable_faults_intr_enable: and on again with the last enable. */
function replayableFaultsIntrEnable(m: Model, gpu: Gpu): void {
  const handler = gpu.isr.replayable;
  assert(handler.disableIntrRefCount > 0, 'interrupts are enabled more often than disabled');
  handler.disableIntrRefCount--;
  if (handler.handling && handler.disableIntrRefCount === 0) halEnableReplayableFaults(m, gpu);
}

function tryDown(m: Model, lock: ServiceLock): boolean {
  // A permit given back later than now is not there yet.
  if (lock.locked || lock.freeAt > m.k.now) return false;
  lock.locked = true;
  return true;
}

/** Gives the permit back, or hands it to the first thread that waits. */
function up(m: Model, lock: ServiceLock): void {
  assert(lock.locked, 'a service lock is released by its holder');
  lock.freeAt = m.k.now;
  const next = lock.waiters.shift();
  if (next === undefined) lock.locked = false;
  else threadWake(m, next, m.k.now);
}

/** Takes the permit, waiting for it if need be. Runs in a thread. */
function* down(m: Model, lock: ServiceLock): Generator<number, void, void> {
  if (lock.locked) {
    const thread = threadCurrent(m);
    assert(thread !== NO_THREAD, 'only a thread can wait for a service lock');
    lock.waiters.push(thread);
    while (lock.waiters.includes(thread)) yield BLOCKED;
  }
  lock.locked = true;
  if (lock.freeAt > m.k.now) m.k.now = lock.freeAt;
}

/** Step a of the top half. The service lock stays taken for the bottom half. */
function scheduleReplayableFaultsHandler(m: Model, gpu: Gpu): number {
  const isr = gpu.isr;
  if (isr.isSuspended || !isr.replayable.handling) return 0;
  const lock = isr.replayable.serviceLock;
  if (!tryDown(m, lock)) return 0;
  if (!parentGpuReplayableFaultsPending(m, gpu)) {
    up(m, lock);
    return 0;
  }
  replayableFaultsIntrDisable(m, gpu);
  nvKthreadQScheduleQItem(m, isr.bottomHalfQ, isr.replayable.bottomHalfQItem);
  return 1;
}

/** Step b. A bottom half that is queued already takes these faults too. */
function scheduleNonReplayableFaultsHandler(m: Model, gpu: Gpu): number {
  const isr = gpu.isr;
  if (isr.isSuspended || !isr.nonReplayable.handling) return 0;
  if (!parentGpuNonReplayableFaultsPending(gpu)) return 0;
  nvKthreadQScheduleQItem(m, isr.bottomHalfQ, isr.nonReplayable.bottomHalfQItem);
  return 1;
}

/** Step c: access counters are not supported here. */
function scheduleAccessCountersHandler(): number {
  return 0;
}

/**
 * The top half (uvm_isr_top_half), called by RM's interrupt handler for any interrupt of the GPU. Returns what it tells
 * RM: NV_OK when it scheduled something, NV_WARN_MORE_PROCESSING_REQUIRED when not, NV_ERR_NO_INTR_PENDING when not
 * because of a suspend.
 */
export function isrTopHalf(m: Model, gpuIndex: number): number {
  const gpu = m.gpus[gpuIndex];
  if (m.res.why !== null) m.res.why.enter('uvm_isr_top_half', m.k.now, { gpu: gpuIndex });
  gpu.isr.interruptCount++;
  m.k.now = Math.round(m.k.now + m.cost.topHalf);
  const scheduled =
    scheduleReplayableFaultsHandler(m, gpu) +
    scheduleNonReplayableFaultsHandler(m, gpu) +
    scheduleAccessCountersHandler();
  if (scheduled > 0) return NV_OK;
  return gpu.isr.isSuspended ? NV_ERR_NO_INTR_PENDING : NV_WARN_MORE_PROCESSING_REQUIRED;
}

/** replayable_faults_isr_bottom_half: it holds the service lock that its top half took. */
function* replayableFaultsIsrBottomHalf(m: Model, gpuIndex: number): Generator<number, void, void> {
  const gpu = m.gpus[gpuIndex];
  if (m.res.why !== null) m.res.why.enter('replayable_faults_isr_bottom_half', m.k.now, { gpu: gpuIndex });
  lockAcquire(m, LOCK_ORDER_ISR, gpuIndex, true);
  gpu.isr.replayable.bottomHalfCount++;
  yield* parentGpuServiceReplayableFaults(m, gpu);
  m.k.now = Math.round(m.k.now + m.cost.bottomHalfExit);
  parentGpuReplayableFaultsIsrUnlock(m, gpu);
  if (m.res.why !== null) m.res.why.leave?.('replayable_faults_isr_bottom_half', m.k.now);
}

/** non_replayable_faults_isr_bottom_half */
function* nonReplayableFaultsIsrBottomHalf(m: Model, gpuIndex: number): Generator<number, void, void> {
  const gpu = m.gpus[gpuIndex];
  yield* parentGpuNonReplayableFaultsIsrLock(m, gpu);
  gpu.isr.nonReplayable.bottomHalfCount++;
  parentGpuServiceNonReplayableFaultBuffer(m, gpu);
  parentGpuNonReplayableFaultsIsrUnlock(m, gpu);
}

/** Keeps bottom halves and interrupts away (uvm_parent_gpu_replayable_faults_isr_lock). Runs in a thread. */
export function* parentGpuReplayableFaultsIsrLock(m: Model, gpu: Gpu): Generator<number, void, void> {
  // Disabled first, so that nobody who lets go of the lock meanwhile enables them.
  replayableFaultsIntrDisable(m, gpu);
  yield* down(m, gpu.isr.replayable.serviceLock);
  lockAcquire(m, LOCK_ORDER_ISR, gpu.index, true);
}

/**
 * Ends a bottom half or a thread's turn (uvm_parent_gpu_replayable_faults_isr_unlock): interrupts on, then the pending
 * one is cleared and its condition looked at again, so that what is left in the buffer interrupts anew.
 */
export function parentGpuReplayableFaultsIsrUnlock(m: Model, gpu: Gpu): void {
  const handler = gpu.isr.replayable;
  if (handler.handling) {
    replayableFaultsIntrEnable(m, gpu);
    halClearReplayableFaults(m, gpu, gpu.replayable.cachedGet);
  }
  lockReleaseOutOfOrder(m, LOCK_ORDER_ISR, gpu.index, true);
  up(m, handler.serviceLock);
}

/** uvm_parent_gpu_non_replayable_faults_isr_lock. Runs in a thread. */
export function* parentGpuNonReplayableFaultsIsrLock(m: Model, gpu: Gpu): Generator<number, void, void> {
  yield* down(m, gpu.isr.nonReplayable.serviceLock);
  lockAcquire(m, LOCK_ORDER_ISR, gpu.index, true);
}

/** uvm_parent_gpu_non_replayable_faults_isr_unlock */
export function parentGpuNonReplayableFaultsIsrUnlock(m: Model, gpu: Gpu): void {
  lockRelease(m, LOCK_ORDER_ISR, gpu.index, true);
  up(m, gpu.isr.nonReplayable.serviceLock);
}

/**
 * Waits for the bottom halves that are queued, and for the kills they schedule (uvm_parent_gpu_flush_bottom_halves).
 */
export function* parentGpuFlushBottomHalves(m: Model, gpu: Gpu): Generator<number, void, void> {
  yield* nvKthreadQFlush(m, gpu.isr.bottomHalfQ);
  yield* nvKthreadQFlush(m, gpu.isr.killChannelQ);
}

/** The GPU goes away: no more bottom halves (uvm_parent_gpu_disable_isr). Runs in a thread. */
export function* parentGpuDisableIsr(m: Model, gpu: Gpu): Generator<number, void, void> {
  const isr = gpu.isr;
  replayableFaultsIntrDisable(m, gpu);
  isr.replayable.wasHandling = isr.replayable.handling;
  isr.nonReplayable.wasHandling = isr.nonReplayable.handling;
  isr.replayable.handling = false;
  isr.nonReplayable.handling = false;
  yield* nvKthreadQStop(m, isr.bottomHalfQ);
  yield* nvKthreadQStop(m, isr.killChannelQ);
}

/** Hands the buffer back to RM (uvm_parent_gpu_deinit_isr); left-over disable counts do not matter any more. */
export function parentGpuDeinitIsr(gpu: Gpu): void {
  if (!gpu.isr.replayable.wasHandling) return;
  assert(gpu.isr.replayable.disableIntrRefCount > 0, 'interrupts of a GPU that goes away are disabled');
  parentGpuFaultBufferDeinit(gpu);
}

/** The top half schedules nothing from now on; what is queued has run when this ends (uvm_suspend, after its flush). */
export function* parentGpuSuspendIsr(m: Model, gpu: Gpu): Generator<number, void, void> {
  gpu.isr.isSuspended = true;
  yield* parentGpuFlushBottomHalves(m, gpu);
}

/** uvm_resume: the registers are read anew, then interrupts count again; RM triggers those that are pending. */
export function parentGpuResumeIsr(m: Model, gpu: Gpu): void {
  parentGpuFaultBufferResume(m, gpu);
  gpu.isr.isSuspended = false;
  faultBufferRetriggerInterrupt(m, gpu.index);
}
