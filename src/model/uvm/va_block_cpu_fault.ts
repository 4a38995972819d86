/**
 * Models CPU faults on managed memory: uvm_va_space_cpu_fault (uvm_va_space.c) and block_cpu_fault_locked with
 * skip_cpu_fault_with_valid_permissions (uvm_va_block.c), driver 580.105.08.
 *
 * Left out: HMM, the power management lock, ECC and NVLink error checks.
 */
import { maskSet, maskTest, maskZero } from '../../base/page_mask.ts';
import { LOCK_ORDER_VA_BLOCK, LOCK_ORDER_VA_SPACE, lockAcquire, lockRelease } from '../kernel/lock.ts';
import type { Model } from '../state.ts';
import { statusToFatalFaultReason } from './gpu_replayable_faults_types.ts';
import { perfThrashingGetHint } from './perf_thrashing.ts';
import { THRASHING_HINT_PIN, THRASHING_HINT_THROTTLE } from './perf_thrashing_types.ts';
import { CPU_ID } from './processors.ts';
import { NV_OK, NV_WARN_MORE_PROCESSING_REQUIRED } from './status.ts';
import { toolsFlush, toolsRecordCpuFault, toolsRecordFatalFault, toolsRecordThrottling } from './tools.ts';
import { vaBlockCheckLogicalPermissions } from './va_block.ts';
import { newResidencyOffset, vaBlockServiceLocked } from './va_block_service.ts';
import {
  ACCESS_ATOMIC_STRONG,
  ACCESS_READ,
  B_CPU_READ,
  B_CPU_WRITE,
  OPERATION_REPLAYABLE_FAULTS,
  PROT_READ_ONLY,
  PROT_READ_WRITE_ATOMIC,
  S_READ_DUPLICATE,
  S_THRASHING_PIN,
  type VaBlock,
} from './va_block_types.ts';
import type { VaSpace } from './va_range_types.ts';
import { vaBlockFindCreate } from './va_space.ts';

/** Two faults on a page that the driver holds to be mapped count as one lost mapping within this time, ns. */
const FAULT_AUTHORIZED_WINDOW = 300_000;

/** Fatal reasons (UvmEventFatalReason). */
const REASON_INVALID_ADDRESS = 1;

/** skip_cpu_fault_with_valid_permissions: true when the fault needs no service because the mapping is there already. */
function skipFaultWithValidPermissions(m: Model, block: VaBlock, page: number, write: boolean): boolean {
  if (!maskTest(block.w, write ? B_CPU_WRITE : B_CPU_READ, page)) return false;
  const now = m.k.now;
  const pid = block.range.space.pid;
  if (block.cpuFirstFaultStamp === 0) {
    block.cpuFirstFaultStamp = now;
    block.cpuFirstPid = pid;
    block.cpuFaultPage = page;
    return true;
  }
  // The second fault of the same thread on the page: the kernel has dropped the entry, so it must be mapped again.
  const same = block.cpuFirstPid === pid && block.cpuFaultPage === page;
  if (same || now - block.cpuFirstFaultStamp > FAULT_AUTHORIZED_WINDOW) {
    block.cpuFirstFaultStamp = 0;
    return false;
  }
  return true;
}

/**
 * block_cpu_fault_locked. Returns a status; NV_WARN_MORE_PROCESSING_REQUIRED asks to sleep until context.wakeupTime.
 */
function blockCpuFaultLocked(m: Model, block: VaBlock, page: number, write: boolean, retries: number): number {
  const space = block.range.space;
  const context = space.serviceContext;
  if (retries === 0) toolsRecordCpuFault(m, block.startPage + page, write);
  const access = write ? ACCESS_ATOMIC_STRONG : ACCESS_READ;
  const needed = write ? PROT_READ_WRITE_ATOMIC : PROT_READ_ONLY;
  const permission = vaBlockCheckLogicalPermissions(m, block, CPU_ID, page, needed);
  if (permission !== NV_OK) {
    if (m.res.why !== null) m.res.why.outcome?.(block, page, CPU_ID, 'fatal', -1);
    return permission;
  }
  if (skipFaultWithValidPermissions(m, block, page, write)) {
    if (m.res.why !== null) m.res.why.outcome?.(block, page, CPU_ID, 'spurious', -1);
    return NV_OK;
  }
  const hint = perfThrashingGetHint(m, block, page, CPU_ID);
  if (hint.type === THRASHING_HINT_THROTTLE) {
    context.wakeupTime = hint.endTime;
    if (m.res.why !== null) m.res.why.outcome?.(block, page, CPU_ID, 'throttled', -1);
    return NV_WARN_MORE_PROCESSING_REQUIRED;
  }
  const w = context.w;
  context.readDuplicateCount = 0;
  context.thrashingPinCount = 0;
  context.operation = OPERATION_REPLAYABLE_FAULTS;
  context.numRetries = retries;
  if (hint.type === THRASHING_HINT_PIN) {
    maskZero(w, S_THRASHING_PIN);
    maskSet(w, S_THRASHING_PIN, page);
    context.thrashingPinCount = 1;
  }
  const residency = m.res.seams.selectResidency(
    m,
    block,
    context,
    page,
    CPU_ID,
    1 << access,
    hint,
    OPERATION_REPLAYABLE_FAULTS,
  );
  context.residentProcessors = 1 << residency;
  maskZero(w, newResidencyOffset(residency));
  maskSet(w, newResidencyOffset(residency), page);
  if (context.readDuplicate) {
    maskZero(w, S_READ_DUPLICATE);
    maskSet(w, S_READ_DUPLICATE, page);
    context.readDuplicateCount = 1;
  }
  context.accessType[page] = access;
  context.firstPage = page;
  context.outerPage = page + 1;
  if (m.res.why !== null) m.res.why.outcome?.(block, page, CPU_ID, 'serviced', -1);
  return vaBlockServiceLocked(m, CPU_ID, block, context);
}

/** The fault was served. */
export const CPU_FAULT_DONE = -1;
/** The program gets a SIGBUS. */
export const CPU_FAULT_FATAL = -2;

/**
 * uvm_va_space_cpu_fault, one round. `page` is an absolute VA page number of managed memory; `retries` counts the
 * rounds before this one. Returns CPU_FAULT_DONE, CPU_FAULT_FATAL, or the time until which the thread must sleep: then
 * call vaSpaceCpuFaultWoken and come back with `retries + 1`.
 */
export function vaSpaceCpuFault(m: Model, space: VaSpace, page: number, write: boolean, retries: number): number {
  if (m.globalStatus !== NV_OK && retries === 0) return CPU_FAULT_FATAL;
  lockAcquire(m, LOCK_ORDER_VA_SPACE, space.id, true);
  if (m.res.why !== null) {
    m.res.why.enter('uvm_va_space_cpu_fault', m.k.now, { page, write, retries });
  }
  m.k.now += retries === 0 ? m.cost.cpuFaultEntry : 0;
  const block = vaBlockFindCreate(m, space, page);
  if (block === null) {
    lockRelease(m, LOCK_ORDER_VA_SPACE, space.id, true);
    toolsRecordFatalFault(m, CPU_ID, 0, write ? ACCESS_ATOMIC_STRONG : ACCESS_READ, REASON_INVALID_ADDRESS, page);
    return CPU_FAULT_FATAL;
  }
  let count = retries;
  let status: number;
  for (;;) {
    lockAcquire(m, LOCK_ORDER_VA_BLOCK, block.id, false);
    if (m.k.now < block.lockFreeAt) m.k.now = block.lockFreeAt;
    if (m.res.why !== null) m.res.why.enter('block_cpu_fault_locked', m.k.now);
    m.k.now += m.cost.cpuFaultService;
    space.serviceContext.didMigrate = false;
    status = blockCpuFaultLocked(m, block, page - block.startPage, write, count);
    block.lockFreeAt = m.k.now;
    lockRelease(m, LOCK_ORDER_VA_BLOCK, block.id, false);
    if (status !== NV_WARN_MORE_PROCESSING_REQUIRED) break;
    const wakeup = space.serviceContext.wakeupTime;
    // A period that is over already needs no sleep and leaves no events.
    const microseconds = Math.floor((wakeup - m.k.now) / 1000);
    if (wakeup > m.k.now) {
      toolsRecordThrottling(m, true, CPU_ID, page);
      lockRelease(m, LOCK_ORDER_VA_SPACE, space.id, true);
      return m.k.now + microseconds * 1000 + m.cost.sleepOvershoot;
    }
    count++;
  }
  lockRelease(m, LOCK_ORDER_VA_SPACE, space.id, true);
  if (status !== NV_OK) {
    const access = write ? ACCESS_ATOMIC_STRONG : ACCESS_READ;
    toolsRecordFatalFault(m, CPU_ID, 0, access, statusToFatalFaultReason(status), page);
    if (m.res.why !== null) m.res.why.leave?.('uvm_va_space_cpu_fault', m.k.now);
    return CPU_FAULT_FATAL;
  }
  toolsFlush(m);
  if (m.tools.traced) m.k.now += m.cost.cpuFaultFlush;
  if (m.res.why !== null) m.res.why.leave?.('uvm_va_space_cpu_fault', m.k.now);
  return CPU_FAULT_DONE;
}

/** The throttled thread is awake again. */
export function vaSpaceCpuFaultWoken(m: Model, page: number): void {
  toolsRecordThrottling(m, false, CPU_ID, page);
}
