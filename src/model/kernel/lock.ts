/**
 * Models uvm_lock.h, uvm_lock.c and the lock half of uvm_thread_context.c (driver 580.105.08): the order in which locks
 * may be taken, and the record of what each thread holds.
 *
 * Modelled: the 37 lock orders, __uvm_record_lock, __uvm_record_unlock, __uvm_record_downgrade, __uvm_check_locked,
 * __uvm_check_lockable_order, __uvm_check_unlocked_order, __uvm_check_all_unlocked, disabling of lock tracking.
 * Left out: the locks themselves (what must wait for a lock is modelled where it waits), bit locks.
 *
 * One lock is remembered for each order and thread, as in the driver. All of this is bookkeeping of the checks: it is
 * kept only while `m.res.verify` is on, and callers use the helpers at the end, which cost one test when it is off.
 */
import { AssertionError, assert } from '../../base/assert.ts';
import type { Model } from '../state.ts';

/** uvm_lock_order_t, outermost first. */
export const LOCK_ORDER_INVALID = 0;
export const LOCK_ORDER_GLOBAL_PM = 1;
export const LOCK_ORDER_GLOBAL = 2;
export const LOCK_ORDER_ACCESS_COUNTERS = 3;
export const LOCK_ORDER_ISR = 4;
export const LOCK_ORDER_MMAP_LOCK = 5;
export const LOCK_ORDER_VA_SPACES_LIST = 6;
export const LOCK_ORDER_VA_SPACE_SERIALIZE_WRITERS = 7;
export const LOCK_ORDER_VA_SPACE_READ_ACQUIRE_WRITE_RELEASE = 8;
export const LOCK_ORDER_VA_SPACE = 9;
export const LOCK_ORDER_EXT_RANGE_TREE = 10;
export const LOCK_ORDER_GPU_SEMAPHORE_POOL = 11;
export const LOCK_ORDER_RM_API = 12;
export const LOCK_ORDER_RM_GPUS = 13;
export const LOCK_ORDER_VA_BLOCK_MIGRATE = 14;
export const LOCK_ORDER_VA_BLOCK = 15;
export const LOCK_ORDER_CONF_COMPUTING_DMA_BUFFER_POOL = 16;
export const LOCK_ORDER_CHUNK_MAPPING = 17;
export const LOCK_ORDER_PAGE_TREE = 18;
export const LOCK_ORDER_KEY_ROTATION = 19;
export const LOCK_ORDER_CSL_PUSH = 20;
export const LOCK_ORDER_KEY_ROTATION_WLC = 21;
export const LOCK_ORDER_CSL_WLC_PUSH = 22;
export const LOCK_ORDER_CSL_SEC2_PUSH = 23;
export const LOCK_ORDER_PUSH = 24;
export const LOCK_ORDER_PMM = 25;
export const LOCK_ORDER_PMM_PMA = 26;
export const LOCK_ORDER_PMM_ROOT_CHUNK = 27;
export const LOCK_ORDER_ACCESS_COUNTERS_CLEAR_OPS = 28;
export const LOCK_ORDER_CHANNEL = 29;
export const LOCK_ORDER_WLC_CHANNEL = 30;
export const LOCK_ORDER_TOOLS_VA_SPACE_LIST = 31;
export const LOCK_ORDER_VA_SPACE_EVENTS = 32;
export const LOCK_ORDER_VA_SPACE_TOOLS = 33;
export const LOCK_ORDER_SEMA_POOL_TRACKER = 34;
export const LOCK_ORDER_SECURE_SEMAPHORE = 35;
export const LOCK_ORDER_CSL_CTX = 36;
export const LOCK_ORDER_LEAF = 37;
/** Number of orders, the invalid one included. */
export const LOCK_ORDER_COUNT = 38;

/** Names of the orders, by order (uvm_lock_order_to_string). */
export const LOCK_ORDER_NAMES: readonly string[] = [
  'UVM_LOCK_ORDER_INVALID',
  'UVM_LOCK_ORDER_GLOBAL_PM',
  'UVM_LOCK_ORDER_GLOBAL',
  'UVM_LOCK_ORDER_ACCESS_COUNTERS',
  'UVM_LOCK_ORDER_ISR',
  'UVM_LOCK_ORDER_MMAP_LOCK',
  'UVM_LOCK_ORDER_VA_SPACES_LIST',
  'UVM_LOCK_ORDER_VA_SPACE_SERIALIZE_WRITERS',
  'UVM_LOCK_ORDER_VA_SPACE_READ_ACQUIRE_WRITE_RELEASE_LOCK',
  'UVM_LOCK_ORDER_VA_SPACE',
  'UVM_LOCK_ORDER_EXT_RANGE_TREE',
  'UVM_LOCK_ORDER_GPU_SEMAPHORE_POOL',
  'UVM_LOCK_ORDER_RM_API',
  'UVM_LOCK_ORDER_RM_GPUS',
  'UVM_LOCK_ORDER_VA_BLOCK_MIGRATE',
  'UVM_LOCK_ORDER_VA_BLOCK',
  'UVM_LOCK_ORDER_CONF_COMPUTING_DMA_BUFFER_POOL',
  'UVM_LOCK_ORDER_CHUNK_MAPPING',
  'UVM_LOCK_ORDER_PAGE_TREE',
  'UVM_LOCK_ORDER_KEY_ROTATION',
  'UVM_LOCK_ORDER_CSL_PUSH',
  'UVM_LOCK_ORDER_KEY_ROTATION_WLC',
  'UVM_LOCK_ORDER_CSL_WLC_PUSH',
  'UVM_LOCK_ORDER_CSL_SEC2_PUSH',
  'UVM_LOCK_ORDER_PUSH',
  'UVM_LOCK_ORDER_PMM',
  'UVM_LOCK_ORDER_PMM_PMA',
  'UVM_LOCK_ORDER_PMM_ROOT_CHUNK',
  'UVM_LOCK_ACCESS_COUNTERS_CLEAR_OPS',
  'UVM_LOCK_ORDER_CHANNEL',
  'UVM_LOCK_ORDER_WLC_CHANNEL',
  'UVM_LOCK_ORDER_TOOLS_VA_SPACE_LIST',
  'UVM_LOCK_ORDER_VA_SPACE_EVENTS',
  'UVM_LOCK_ORDER_VA_SPACE_TOOLS',
  'UVM_LOCK_ORDER_SEMA_POOL_TRACKER',
  'UVM_LOCK_ORDER_SECURE_SEMAPHORE',
  'UVM_LOCK_ORDER_CSL_CTX',
  'UVM_LOCK_ORDER_LEAF',
];

/** Modes for `checkLocked` (uvm_lock_flags_t). */
export const LOCK_MODE_EXCLUSIVE = 1;
export const LOCK_MODE_SHARED = 2;
export const LOCK_MODE_ANY = 3;

/** Bits of `LockContext.state`. */
const HELD = 1;
const EXCLUSIVE = 2;
/** Taken out of order by a trylock: may be released out of order too. */
const OUT_OF_ORDER = 4;

/** The rules, as `LockViolation.rule` names them. */
export const LOCK_RULE_INVALID_ORDER = 'invalid order';
export const LOCK_RULE_ORDER = 'taken while an equal or deeper lock is held';
export const LOCK_RULE_RM_MMAP = 'RM GPU lock taken while mmap_lock is held';
export const LOCK_RULE_RM_VA_SPACE_WRITE = 'RM GPU lock taken while the VA space lock is held for write';
export const LOCK_RULE_RM_VA_SPACE_READ =
  'RM GPU lock taken while the VA space lock is held for read without the writer serialization lock';
export const LOCK_RULE_RELEASE_ORDER = 'released while a deeper lock is held';
export const LOCK_RULE_NOT_HELD = 'not held';
export const LOCK_RULE_INSTANCE = 'another instance is held';
export const LOCK_RULE_MODE = 'held in the other mode';
export const LOCK_RULE_STILL_HELD = 'still held';

/** A breach of the rules: a bug of the driver part that took or released the lock. */
export interface LockViolation {
  rule: string;
  order: number;
  /** The lock that conflicts, or LOCK_ORDER_INVALID. */
  other: number;
  instance: number;
  /** Thread id, or -1 for interrupt context. */
  thread: number;
}

/** What one thread holds (uvm_thread_context_lock_t). */
export interface LockContext {
  /** Tracking is off while above 0. */
  skipLockTracking: number;
  /** By order: HELD, EXCLUSIVE, OUT_OF_ORDER. */
  state: Uint8Array;
  /** By order: the lock that is held, a number its owner chooses. */
  acquired: Float64Array;
}

/** The running thread's context, made when it is first needed (uvm_thread_context_lock_get). */
export function lockContextGet(m: Model): LockContext {
  const contexts = m.k.lockContexts;
  const index = m.k.currentThread + 1;
  while (contexts.length <= index) {
    contexts.push({
      skipLockTracking: 0,
      state: new Uint8Array(LOCK_ORDER_COUNT),
      acquired: new Float64Array(LOCK_ORDER_COUNT),
    });
  }
  return contexts[index];
}

/** Turns tracking off for the running thread; calls are counted (uvm_thread_context_lock_disable_tracking). */
export function lockTrackingDisable(m: Model): void {
  lockContextGet(m).skipLockTracking++;
}

/** Takes back one `lockTrackingDisable` (uvm_thread_context_lock_enable_tracking). */
export function lockTrackingEnable(m: Model): void {
  const context = lockContextGet(m);
  assert(context.skipLockTracking > 0, 'lock tracking is not disabled');
  context.skipLockTracking--;
}

/** Remembers the breach; returns false, the answer of every check that fails. */
function violation(m: Model, rule: string, order: number, other: number, instance: number): false {
  m.k.lockViolation = { rule, order, other, instance, thread: m.k.currentThread };
  return false;
}

/** First order at or after `from` that is held, or LOCK_ORDER_COUNT. */
function nextHeld(context: LockContext, from: number): number {
  let order = from;
  while (order < LOCK_ORDER_COUNT && (context.state[order] & HELD) === 0) order++;
  return order;
}

/** RM's GPU lock: faults may block RM, and servicing them takes mmap_lock and the VA space lock. */
function checkRmGpus(m: Model, context: LockContext, order: number, instance: number): boolean {
  const state = context.state;
  let correct = true;
  if ((state[LOCK_ORDER_MMAP_LOCK] & HELD) !== 0) {
    correct = violation(m, LOCK_RULE_RM_MMAP, order, LOCK_ORDER_MMAP_LOCK, instance);
  }
  if ((state[LOCK_ORDER_VA_SPACE] & EXCLUSIVE) !== 0) {
    correct = violation(m, LOCK_RULE_RM_VA_SPACE_WRITE, order, LOCK_ORDER_VA_SPACE, instance);
  } else if ((state[LOCK_ORDER_VA_SPACE] & HELD) !== 0 && (state[LOCK_ORDER_VA_SPACE_SERIALIZE_WRITERS] & HELD) === 0) {
    correct = violation(m, LOCK_RULE_RM_VA_SPACE_READ, order, LOCK_ORDER_VA_SPACE, instance);
  }
  return correct;
}

/**
 * Records that the running thread took a lock (__uvm_record_lock). False when that breaks a rule; the lock counts as
 * held either way, and the breach is in `m.k.lockViolation`.
 */
export function recordLock(m: Model, order: number, instance: number, shared: boolean, trylock = false): boolean {
  const context = lockContextGet(m);
  if (context.skipLockTracking > 0) return true;
  if (order === LOCK_ORDER_INVALID) return violation(m, LOCK_RULE_INVALID_ORDER, order, LOCK_ORDER_INVALID, instance);

  let correct = order === LOCK_ORDER_RM_GPUS ? checkRmGpus(m, context, order, instance) : true;
  const conflicting = nextHeld(context, order);
  if (conflicting < LOCK_ORDER_COUNT) {
    if (trylock) context.state[order] |= OUT_OF_ORDER;
    else correct = violation(m, LOCK_RULE_ORDER, order, conflicting, instance);
  }
  context.state[order] |= shared ? HELD : HELD | EXCLUSIVE;
  context.acquired[order] = instance;
  return correct;
}

/**
 * Records that the running thread released a lock (__uvm_record_unlock); `outOfOrder` allows deeper locks to be held
 * still. False when that breaks a rule; the lock counts as released either way.
 */
export function recordUnlock(m: Model, order: number, instance: number, shared: boolean, outOfOrder = false): boolean {
  const context = lockContextGet(m);
  if (context.skipLockTracking > 0) return true;
  if (order === LOCK_ORDER_INVALID) return violation(m, LOCK_RULE_INVALID_ORDER, order, LOCK_ORDER_INVALID, instance);

  let correct = true;
  const state = context.state[order];
  context.state[order] &= ~OUT_OF_ORDER;
  if ((state & OUT_OF_ORDER) === 0 && !outOfOrder) {
    const deeper = nextHeld(context, order + 1);
    if (deeper < LOCK_ORDER_COUNT) correct = violation(m, LOCK_RULE_RELEASE_ORDER, order, deeper, instance);
  }
  if ((state & HELD) === 0) return violation(m, LOCK_RULE_NOT_HELD, order, LOCK_ORDER_INVALID, instance);
  context.state[order] &= ~HELD;
  if (context.acquired[order] !== instance) {
    // The mode stays behind here, as in the driver.
    correct = violation(m, LOCK_RULE_INSTANCE, order, LOCK_ORDER_INVALID, instance);
  } else {
    context.state[order] &= ~EXCLUSIVE;
    if (((state & EXCLUSIVE) === 0) !== shared) {
      correct = violation(m, LOCK_RULE_MODE, order, LOCK_ORDER_INVALID, instance);
    }
  }
  return correct;
}

/** Records the change from exclusive to shared (__uvm_record_downgrade); false when it is not held exclusively. */
export function recordDowngrade(m: Model, order: number, instance: number): boolean {
  const context = lockContextGet(m);
  if (context.skipLockTracking > 0) return true;
  if (!checkLocked(m, order, instance, LOCK_MODE_EXCLUSIVE)) return false;
  context.state[order] &= ~EXCLUSIVE;
  return true;
}

/** True when the running thread holds this lock in this mode (__uvm_check_locked); mode is LOCK_MODE_*. */
export function checkLocked(m: Model, order: number, instance: number, mode: number): boolean {
  const context = lockContextGet(m);
  if (context.skipLockTracking > 0) return true;
  const state = context.state[order];
  if ((state & HELD) === 0) return violation(m, LOCK_RULE_NOT_HELD, order, LOCK_ORDER_INVALID, instance);
  if (context.acquired[order] !== instance) {
    return violation(m, LOCK_RULE_INSTANCE, order, LOCK_ORDER_INVALID, instance);
  }
  if (mode !== LOCK_MODE_ANY && ((state & EXCLUSIVE) !== 0) !== (mode === LOCK_MODE_EXCLUSIVE)) {
    return violation(m, LOCK_RULE_MODE, order, LOCK_ORDER_INVALID, instance);
  }
  return true;
}

/** True when the running thread may take a lock of this order now (__uvm_check_lockable_order). */
export function checkLockableOrder(m: Model, order: number, trylock = false): boolean {
  const context = lockContextGet(m);
  if (context.skipLockTracking > 0) return true;
  if (order === LOCK_ORDER_INVALID) return violation(m, LOCK_RULE_INVALID_ORDER, order, LOCK_ORDER_INVALID, 0);
  if (trylock) return true;
  const conflicting = nextHeld(context, order);
  return conflicting === LOCK_ORDER_COUNT || violation(m, LOCK_RULE_ORDER, order, conflicting, 0);
}

/** True when the running thread holds no lock of this order (__uvm_check_unlocked_order). */
export function checkUnlockedOrder(m: Model, order: number): boolean {
  const context = lockContextGet(m);
  if (context.skipLockTracking > 0) return true;
  if (order === LOCK_ORDER_INVALID) return violation(m, LOCK_RULE_INVALID_ORDER, order, LOCK_ORDER_INVALID, 0);
  if ((context.state[order] & HELD) === 0) return true;
  return violation(m, LOCK_RULE_STILL_HELD, order, LOCK_ORDER_INVALID, context.acquired[order]);
}

/** True when the running thread holds no lock at all (__uvm_thread_check_all_unlocked). */
export function checkAllUnlocked(m: Model): boolean {
  const context = lockContextGet(m);
  const order = nextHeld(context, 0);
  if (order === LOCK_ORDER_COUNT) return true;
  return violation(m, LOCK_RULE_STILL_HELD, order, LOCK_ORDER_INVALID, context.acquired[order]);
}

/** The latest breach in words; only for error messages. */
export function lockViolationText(m: Model): string {
  const v = m.k.lockViolation;
  if (v === null) return 'no locking violation';
  const name = LOCK_ORDER_NAMES[v.order] ?? `order ${v.order}`;
  const other = v.other === LOCK_ORDER_INVALID ? '' : ` (${LOCK_ORDER_NAMES[v.other]})`;
  const who = v.thread < 0 ? 'interrupt context' : `thread ${m.k.threads[v.thread]?.name ?? v.thread}`;
  return `locking violation: ${name}, instance ${v.instance}, by ${who}: ${v.rule}${other}`;
}

function demand(m: Model, correct: boolean): void {
  if (!correct) throw new AssertionError(lockViolationText(m));
}

/** For the users of locks: each does nothing unless `m.res.verify` is on, and throws AssertionError on a breach. */
export function lockAcquire(m: Model, order: number, instance: number, shared: boolean): void {
  if (m.res.why !== null) m.res.why.lock?.(order, instance, shared, true, m.k.now);
  if (!m.res.verify) return;
  demand(m, recordLock(m, order, instance, shared));
}

export function lockTryAcquire(m: Model, order: number, instance: number, shared: boolean): void {
  if (m.res.why !== null) m.res.why.lock?.(order, instance, shared, true, m.k.now);
  if (!m.res.verify) return;
  demand(m, recordLock(m, order, instance, shared, true));
}

export function lockRelease(m: Model, order: number, instance: number, shared: boolean): void {
  if (m.res.why !== null) m.res.why.lock?.(order, instance, shared, false, m.k.now);
  if (!m.res.verify) return;
  demand(m, recordUnlock(m, order, instance, shared));
}

export function lockReleaseOutOfOrder(m: Model, order: number, instance: number, shared: boolean): void {
  if (m.res.why !== null) m.res.why.lock?.(order, instance, shared, false, m.k.now);
  if (!m.res.verify) return;
  demand(m, recordUnlock(m, order, instance, shared, true));
}

export function lockDowngrade(m: Model, order: number, instance: number): void {
  if (!m.res.verify) return;
  demand(m, recordDowngrade(m, order, instance));
}

/** Demands that the running thread holds the lock (uvm_assert_mutex_locked and its kin). */
export function assertLocked(m: Model, order: number, instance: number, mode: number): void {
  if (!m.res.verify) return;
  demand(m, checkLocked(m, order, instance, mode));
}

/** Demands that the running thread holds nothing (uvm_assert_thread_all_unlocked). */
export function assertAllUnlocked(m: Model): void {
  if (!m.res.verify) return;
  demand(m, checkAllUnlocked(m));
}
