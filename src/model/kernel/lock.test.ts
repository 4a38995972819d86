import { beforeEach, describe, expect, it } from 'vitest';
import { createKernelModel } from '../../../test/support/kernel_model.ts';
import { AssertionError } from '../../base/assert.ts';
import type { Model } from '../state.ts';
import {
  assertAllUnlocked,
  assertLocked,
  checkAllUnlocked,
  checkLockableOrder,
  checkLocked,
  checkUnlockedOrder,
  LOCK_MODE_ANY,
  LOCK_MODE_EXCLUSIVE,
  LOCK_MODE_SHARED,
  LOCK_ORDER_COUNT,
  LOCK_ORDER_INVALID,
  LOCK_ORDER_ISR,
  LOCK_ORDER_LEAF,
  LOCK_ORDER_MMAP_LOCK,
  LOCK_ORDER_NAMES,
  LOCK_ORDER_PMM,
  LOCK_ORDER_RM_GPUS,
  LOCK_ORDER_VA_BLOCK,
  LOCK_ORDER_VA_SPACE,
  LOCK_ORDER_VA_SPACE_SERIALIZE_WRITERS,
  LOCK_RULE_INSTANCE,
  LOCK_RULE_INVALID_ORDER,
  LOCK_RULE_MODE,
  LOCK_RULE_NOT_HELD,
  LOCK_RULE_ORDER,
  LOCK_RULE_RELEASE_ORDER,
  LOCK_RULE_RM_MMAP,
  LOCK_RULE_RM_VA_SPACE_READ,
  LOCK_RULE_RM_VA_SPACE_WRITE,
  lockAcquire,
  lockDowngrade,
  lockRelease,
  lockReleaseOutOfOrder,
  lockTrackingDisable,
  lockTrackingEnable,
  lockTryAcquire,
  recordDowngrade,
  recordLock,
  recordUnlock,
} from './lock.ts';

const FIRST = 1;
const SECOND = 2;
const EXCLUSIVE = false;
const SHARED = true;

let m: Model;
beforeEach(() => {
  m = createKernelModel();
});

/** The order stands for the instance, as in the driver's test. */
const lock = (order: number, shared: boolean, trylock = false) => recordLock(m, order, order, shared, trylock);
const unlock = (order: number, shared: boolean, outOfOrder = false) =>
  recordUnlock(m, order, order, shared, outOfOrder);
const rule = () => m.k.lockViolation?.rule;

/** RM's GPU lock has rules of its own; these two cannot be held with it. */
function skipped(order: number, shared: boolean): boolean {
  return order === LOCK_ORDER_RM_GPUS ? !shared : order === LOCK_ORDER_MMAP_LOCK;
}

function allLocksFrom(from: number): void {
  for (const outOfOrder of [false, true]) {
    for (const shared of [SHARED, EXCLUSIVE]) {
      const orders: number[] = [];
      for (let order = from; order < LOCK_ORDER_COUNT; order++) {
        expect(checkUnlockedOrder(m, order)).toBe(true);
        expect(checkLockableOrder(m, order)).toBe(true);
        if (!skipped(order, shared)) orders.push(order);
      }
      for (const order of orders) expect(lock(order, shared)).toBe(true);
      if (!skipped(from, shared)) {
        expect(checkUnlockedOrder(m, from)).toBe(false);
        expect(checkLockableOrder(m, from)).toBe(false);
        expect(checkLockableOrder(m, from, true)).toBe(true);
      }
      for (const order of orders) {
        expect(checkLocked(m, order, order, shared ? LOCK_MODE_SHARED : LOCK_MODE_EXCLUSIVE)).toBe(true);
        expect(checkLocked(m, order, order, shared ? LOCK_MODE_EXCLUSIVE : LOCK_MODE_SHARED)).toBe(false);
        expect(checkLocked(m, order, order, LOCK_MODE_ANY)).toBe(true);
      }
      if (!outOfOrder) orders.reverse();
      for (const order of orders) expect(unlock(order, shared, outOfOrder)).toBe(true);
      for (const order of orders) expect(checkUnlockedOrder(m, order)).toBe(true);
    }
  }
}

describe('uvm_lock_test.c: all locks', () => {
  it('may be held together, and released innermost first or, with the flag, in any order', () => {
    allLocksFrom(FIRST);
    expect(checkAllUnlocked(m)).toBe(true);
  });

  it('below a first one held shared, and below a second one held exclusively', () => {
    expect(lock(FIRST, SHARED)).toBe(true);
    allLocksFrom(FIRST + 1);
    expect(unlock(FIRST, SHARED)).toBe(true);
    expect(lock(SECOND, EXCLUSIVE)).toBe(true);
    allLocksFrom(SECOND + 1);
    expect(unlock(SECOND, EXCLUSIVE)).toBe(true);
    expect(checkAllUnlocked(m)).toBe(true);
  });

  it('are 37, with the driver’s names', () => {
    expect(LOCK_ORDER_LEAF).toBe(37);
    expect(LOCK_ORDER_NAMES.length).toBe(LOCK_ORDER_COUNT);
    expect(new Set(LOCK_ORDER_NAMES).size).toBe(LOCK_ORDER_COUNT);
    expect(LOCK_ORDER_NAMES[LOCK_ORDER_VA_SPACE]).toBe('UVM_LOCK_ORDER_VA_SPACE');
    expect(LOCK_ORDER_NAMES[LOCK_ORDER_VA_BLOCK]).toBe('UVM_LOCK_ORDER_VA_BLOCK');
    expect(LOCK_ORDER_NAMES[LOCK_ORDER_PMM]).toBe('UVM_LOCK_ORDER_PMM');
    expect(LOCK_ORDER_NAMES[LOCK_ORDER_LEAF]).toBe('UVM_LOCK_ORDER_LEAF');
  });
});

describe('uvm_lock_test.c: unlocking', () => {
  it('without locking', () => {
    expect(unlock(SECOND, EXCLUSIVE)).toBe(false);
    expect(rule()).toBe(LOCK_RULE_NOT_HELD);
    expect(checkAllUnlocked(m)).toBe(true);
  });

  it('another order than locked', () => {
    expect(lock(FIRST, EXCLUSIVE)).toBe(true);
    expect(unlock(SECOND, EXCLUSIVE)).toBe(false);
    expect(rule()).toBe(LOCK_RULE_NOT_HELD);
    expect(checkAllUnlocked(m)).toBe(false);
    expect(unlock(FIRST, EXCLUSIVE)).toBe(true);
    expect(checkAllUnlocked(m)).toBe(true);
  });

  it('another instance than locked: wrong, and released', () => {
    expect(lock(FIRST, EXCLUSIVE)).toBe(true);
    expect(recordUnlock(m, FIRST, 77, EXCLUSIVE)).toBe(false);
    expect(m.k.lockViolation).toEqual({ rule: LOCK_RULE_INSTANCE, order: FIRST, other: 0, instance: 77, thread: -1 });
    expect(checkAllUnlocked(m)).toBe(true);
  });

  it('in another mode than locked: wrong, and released', () => {
    expect(lock(FIRST, EXCLUSIVE)).toBe(true);
    expect(unlock(FIRST, SHARED)).toBe(false);
    expect(rule()).toBe(LOCK_RULE_MODE);
    expect(lock(FIRST, SHARED)).toBe(true);
    expect(unlock(FIRST, EXCLUSIVE)).toBe(false);
    expect(checkAllUnlocked(m)).toBe(true);
  });

  it('in another order than locked: wrong without the flag', () => {
    expect(lock(FIRST, EXCLUSIVE)).toBe(true);
    expect(lock(SECOND, EXCLUSIVE)).toBe(true);
    expect(unlock(FIRST, EXCLUSIVE, true)).toBe(true);
    expect(unlock(SECOND, EXCLUSIVE)).toBe(true);
    expect(checkAllUnlocked(m)).toBe(true);

    expect(lock(FIRST, EXCLUSIVE)).toBe(true);
    expect(lock(SECOND, EXCLUSIVE)).toBe(true);
    expect(unlock(FIRST, EXCLUSIVE)).toBe(false);
    expect([rule(), m.k.lockViolation?.other]).toEqual([LOCK_RULE_RELEASE_ORDER, SECOND]);
    expect(unlock(SECOND, EXCLUSIVE)).toBe(true);
    expect(checkAllUnlocked(m)).toBe(true);
  });
});

describe('uvm_lock_test.c: locking', () => {
  it('out of order', () => {
    expect(lock(SECOND, EXCLUSIVE)).toBe(true);
    expect(lock(FIRST, EXCLUSIVE)).toBe(false);
    expect([rule(), m.k.lockViolation?.other]).toEqual([LOCK_RULE_ORDER, SECOND]);
    expect(unlock(SECOND, EXCLUSIVE)).toBe(true);
    expect(unlock(FIRST, EXCLUSIVE)).toBe(true);
    expect(checkAllUnlocked(m)).toBe(true);
  });

  it('the same order twice', () => {
    expect(lock(SECOND, EXCLUSIVE)).toBe(true);
    expect(lock(SECOND, EXCLUSIVE)).toBe(false);
    expect(unlock(SECOND, EXCLUSIVE)).toBe(true);
    expect(unlock(SECOND, EXCLUSIVE)).toBe(false);
    expect(checkAllUnlocked(m)).toBe(true);
  });

  it('by trylock out of order: allowed, and the release too', () => {
    expect(lock(SECOND, EXCLUSIVE)).toBe(true);
    expect(lock(FIRST, EXCLUSIVE, true)).toBe(true);
    expect(unlock(FIRST, EXCLUSIVE)).toBe(true);
    expect(unlock(SECOND, EXCLUSIVE)).toBe(true);
    expect(checkAllUnlocked(m)).toBe(true);

    // In order, the trylock gives no licence to release out of order.
    expect(lock(FIRST, EXCLUSIVE, true)).toBe(true);
    expect(lock(SECOND, EXCLUSIVE)).toBe(true);
    expect(unlock(FIRST, EXCLUSIVE)).toBe(false);
    expect(unlock(SECOND, EXCLUSIVE)).toBe(true);
    expect(checkAllUnlocked(m)).toBe(true);
  });

  it('with an invalid order', () => {
    expect(lock(LOCK_ORDER_INVALID, EXCLUSIVE)).toBe(false);
    expect(rule()).toBe(LOCK_RULE_INVALID_ORDER);
    expect(unlock(LOCK_ORDER_INVALID, EXCLUSIVE)).toBe(false);
    expect(checkUnlockedOrder(m, LOCK_ORDER_INVALID)).toBe(false);
    expect(checkLockableOrder(m, LOCK_ORDER_INVALID)).toBe(false);
  });
});

describe('uvm_lock_test.c: checking', () => {
  it('locked when nothing is held', () => {
    for (const mode of [LOCK_MODE_SHARED, LOCK_MODE_EXCLUSIVE, LOCK_MODE_ANY]) {
      expect(checkLocked(m, SECOND, SECOND, mode)).toBe(false);
    }
    expect(rule()).toBe(LOCK_RULE_NOT_HELD);
  });

  it('locked when another instance is held', () => {
    expect(recordLock(m, FIRST, 77, EXCLUSIVE)).toBe(true);
    expect(checkLocked(m, FIRST, FIRST, LOCK_MODE_EXCLUSIVE)).toBe(false);
    expect(rule()).toBe(LOCK_RULE_INSTANCE);
    expect(recordUnlock(m, FIRST, 77, EXCLUSIVE)).toBe(true);
  });

  it('all unlocked when one is held', () => {
    expect(lock(SECOND, SHARED)).toBe(true);
    expect(checkAllUnlocked(m)).toBe(false);
    expect(unlock(SECOND, SHARED)).toBe(true);
    expect(checkAllUnlocked(m)).toBe(true);
  });
});

describe('uvm_lock_test.c: downgrading', () => {
  it('once, from exclusive to shared', () => {
    expect(lock(FIRST, EXCLUSIVE)).toBe(true);
    expect(recordDowngrade(m, FIRST, FIRST)).toBe(true);
    expect(checkLocked(m, FIRST, FIRST, LOCK_MODE_SHARED)).toBe(true);
    expect(recordDowngrade(m, FIRST, FIRST)).toBe(false);
    expect(rule()).toBe(LOCK_RULE_MODE);
    expect(checkLocked(m, FIRST, FIRST, LOCK_MODE_ANY)).toBe(true);
    expect(unlock(FIRST, SHARED)).toBe(true);
    expect(checkAllUnlocked(m)).toBe(true);
  });

  it('not without a lock, nor another instance, nor one that is shared', () => {
    expect(recordDowngrade(m, FIRST, FIRST)).toBe(false);
    expect(rule()).toBe(LOCK_RULE_NOT_HELD);

    expect(recordLock(m, FIRST, 77, EXCLUSIVE)).toBe(true);
    expect(recordDowngrade(m, FIRST, FIRST)).toBe(false);
    expect(rule()).toBe(LOCK_RULE_INSTANCE);
    expect(recordUnlock(m, FIRST, 77, EXCLUSIVE)).toBe(true);

    expect(lock(FIRST, SHARED)).toBe(true);
    expect(recordDowngrade(m, FIRST, FIRST)).toBe(false);
    expect(unlock(FIRST, SHARED)).toBe(true);
    expect(checkAllUnlocked(m)).toBe(true);
  });
});

describe('uvm_lock.c: RM’s GPU lock', () => {
  it('is not taken with mmap_lock held', () => {
    expect(lock(LOCK_ORDER_MMAP_LOCK, SHARED)).toBe(true);
    expect(lock(LOCK_ORDER_RM_GPUS, EXCLUSIVE)).toBe(false);
    expect(rule()).toBe(LOCK_RULE_RM_MMAP);
  });

  it('is not taken with the VA space lock held for write, the writer serialization lock or not', () => {
    expect(lock(LOCK_ORDER_VA_SPACE_SERIALIZE_WRITERS, EXCLUSIVE)).toBe(true);
    expect(lock(LOCK_ORDER_VA_SPACE, EXCLUSIVE)).toBe(true);
    expect(lock(LOCK_ORDER_RM_GPUS, EXCLUSIVE)).toBe(false);
    expect(rule()).toBe(LOCK_RULE_RM_VA_SPACE_WRITE);
  });

  it('is taken with the VA space lock held for read only under the writer serialization lock', () => {
    expect(lock(LOCK_ORDER_VA_SPACE, SHARED)).toBe(true);
    expect(lock(LOCK_ORDER_RM_GPUS, EXCLUSIVE)).toBe(false);
    expect(rule()).toBe(LOCK_RULE_RM_VA_SPACE_READ);
    expect(unlock(LOCK_ORDER_RM_GPUS, EXCLUSIVE)).toBe(true);
    expect(unlock(LOCK_ORDER_VA_SPACE, SHARED)).toBe(true);

    expect(lock(LOCK_ORDER_VA_SPACE_SERIALIZE_WRITERS, EXCLUSIVE)).toBe(true);
    expect(lock(LOCK_ORDER_VA_SPACE, SHARED)).toBe(true);
    expect(lock(LOCK_ORDER_RM_GPUS, EXCLUSIVE)).toBe(true);
  });
});

describe('uvm_thread_context.h: lock tracking', () => {
  it('can be turned off; calls are counted', () => {
    lockTrackingDisable(m);
    lockTrackingDisable(m);
    lockTrackingEnable(m);
    expect(lock(SECOND, EXCLUSIVE)).toBe(true);
    expect(lock(FIRST, EXCLUSIVE)).toBe(true);
    expect(unlock(LOCK_ORDER_LEAF, EXCLUSIVE)).toBe(true);
    lockTrackingEnable(m);
    expect(checkAllUnlocked(m)).toBe(true);
    expect(unlock(FIRST, EXCLUSIVE)).toBe(false);
    expect(() => lockTrackingEnable(m)).toThrow(AssertionError);
  });
});

describe('lock helpers', () => {
  it('throw and name the lock, the thread and the rule', () => {
    lockAcquire(m, LOCK_ORDER_PMM, 3, EXCLUSIVE);
    expect(() => lockAcquire(m, LOCK_ORDER_VA_BLOCK, 4, EXCLUSIVE)).toThrow(
      'locking violation: UVM_LOCK_ORDER_VA_BLOCK, instance 4, by interrupt context: ' +
        'taken while an equal or deeper lock is held (UVM_LOCK_ORDER_PMM)',
    );
    expect(() => lockRelease(m, LOCK_ORDER_PMM, 4, EXCLUSIVE)).toThrow(AssertionError);
  });

  it('accept what the rules allow', () => {
    lockAcquire(m, LOCK_ORDER_VA_SPACE, 1, EXCLUSIVE);
    lockDowngrade(m, LOCK_ORDER_VA_SPACE, 1);
    assertLocked(m, LOCK_ORDER_VA_SPACE, 1, LOCK_MODE_SHARED);
    lockAcquire(m, LOCK_ORDER_VA_BLOCK, 2, EXCLUSIVE);
    lockTryAcquire(m, LOCK_ORDER_ISR, 0, EXCLUSIVE);
    lockRelease(m, LOCK_ORDER_ISR, 0, EXCLUSIVE);
    expect(() => assertAllUnlocked(m)).toThrow(AssertionError);
    lockReleaseOutOfOrder(m, LOCK_ORDER_VA_SPACE, 1, SHARED);
    lockRelease(m, LOCK_ORDER_VA_BLOCK, 2, EXCLUSIVE);
    assertAllUnlocked(m);
  });

  it('do nothing while checks are off', () => {
    m.res.verify = false;
    lockAcquire(m, LOCK_ORDER_LEAF, 1, EXCLUSIVE);
    lockAcquire(m, LOCK_ORDER_ISR, 1, EXCLUSIVE);
    lockTryAcquire(m, LOCK_ORDER_ISR, 2, EXCLUSIVE);
    lockDowngrade(m, LOCK_ORDER_VA_SPACE, 1);
    lockReleaseOutOfOrder(m, LOCK_ORDER_PMM, 1, SHARED);
    lockRelease(m, LOCK_ORDER_PMM, 1, SHARED);
    assertLocked(m, LOCK_ORDER_PMM, 1, LOCK_MODE_ANY);
    assertAllUnlocked(m);
    expect([m.k.lockContexts.length, m.k.lockViolation]).toEqual([0, null]);
  });
});
