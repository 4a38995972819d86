import { describe, expect, it } from 'vitest';
import { createKernelModel } from '../../../test/support/kernel_model.ts';
import { AssertionError } from '../../base/assert.ts';
import type { Model } from '../state.ts';
import { registerHandler, runNextEvent, runUntilIdle, schedule } from './clock.ts';
import { LOCK_ORDER_ISR, lockAcquire, lockRelease } from './lock.ts';
import {
  BLOCKED,
  NO_THREAD,
  PARKED,
  THREAD_BLOCKED,
  THREAD_DONE,
  type ThreadState,
  threadCreate,
  threadCreateStopped,
  threadCurrent,
  threadDiscard,
  threadShouldStop,
  threadStop,
  threadsAllBlocked,
  threadWake,
} from './thread.ts';

type Body = Generator<number, void, void>;

/** Schedules `fn` as an event, at interrupt level. */
function at(m: Model, time: number, fn: () => void): void {
  schedule(
    m,
    time,
    registerHandler(m, () => fn()),
    0,
    0,
  );
}

/** Waits for wake-ups in the given way and writes down when it goes on. */
function* sleeper(m: Model, wait: number, log: number[]): Body {
  for (;;) {
    yield wait;
    log.push(m.k.now);
  }
}

describe('threads: time', () => {
  it('start at the creator’s local time and go on at the time they yield', () => {
    const m = createKernelModel();
    const log: number[] = [];
    function* body(): Body {
      log.push(m.k.now);
      yield m.k.now + 30;
      log.push(m.k.now);
      m.k.now += 5;
      yield 10;
      log.push(m.k.now);
    }
    at(m, 100, () => {
      m.k.now += 7;
      threadCreate(m, 'a', body());
    });
    runUntilIdle(m);
    // A time that has passed means at once.
    expect(log).toEqual([107, 137, 142]);
  });

  it('interleave by local time', () => {
    const m = createKernelModel();
    const log: string[] = [];
    function* body(name: string, step: number): Body {
      for (let i = 0; i < 3; i++) {
        log.push(`${name}${m.k.now}`);
        yield m.k.now + step;
      }
    }
    threadCreate(m, 'a', body('a', 10));
    threadCreate(m, 'b', body('b', 4));
    runUntilIdle(m);
    expect(log).toEqual(['a0', 'b0', 'b4', 'b8', 'a10', 'a20']);
  });

  it('go on without the heap up to the time of the next event, through it from the next nanosecond on', () => {
    const m = createKernelModel();
    const log: string[] = [];
    function* body(): Body {
      const before = m.k.seq;
      yield 50;
      log.push(`fast ${m.k.now} ${m.k.seq - before}`);
      yield 51;
      log.push(`slow ${m.k.now} ${m.k.seq - before}`);
    }
    threadCreate(m, 'a', body());
    at(m, 50, () => log.push('event'));
    runUntilIdle(m);
    expect(log).toEqual(['fast 50 0', 'event', 'slow 51 1']);
  });

  it('close the past behind them when they go on without the heap', () => {
    const m = createKernelModel();
    let checked = false;
    function* body(): Body {
      yield 50;
      at(m, 50, () => {});
      expect(() => at(m, 49, () => {})).toThrow(AssertionError);
      checked = true;
    }
    threadCreate(m, 'a', body());
    runUntilIdle(m);
    expect(checked).toBe(true);
  });

  it('refuse what is no time', () => {
    for (const bad of [0.5, Number.NaN, Number.POSITIVE_INFINITY, -3]) {
      const m = createKernelModel();
      function* body(): Body {
        yield bad;
      }
      threadCreate(m, 'a', body());
      expect(() => runUntilIdle(m)).toThrow(AssertionError);
    }
  });
});

describe('threads: wake-ups', () => {
  it('go on when woken, at the time of the wake-up plus its latency', () => {
    const m = createKernelModel();
    const log: number[] = [];
    const id = threadCreate(m, 'a', sleeper(m, BLOCKED, log));
    at(m, 100, () => threadWake(m, id, m.k.now));
    at(m, 200, () => threadWake(m, id, m.k.now, 25));
    at(m, 300, () => threadWake(m, id, 350));
    runUntilIdle(m);
    expect(log).toEqual([100, 225, 350]);
  });

  it('remember one wake-up that comes while the thread is not blocked', () => {
    const m = createKernelModel();
    const log: number[] = [];
    function* body(): Body {
      yield 100;
      log.push(m.k.now);
      yield* sleeper(m, BLOCKED, log);
    }
    const id = threadCreate(m, 'a', body());
    at(m, 40, () => threadWake(m, id, m.k.now, 25));
    at(m, 60, () => threadWake(m, id, m.k.now, 25));
    runUntilIdle(m);
    expect(log).toEqual([100, 100]);
    expect(m.k.threads[id].status).toBe(THREAD_BLOCKED);
  });

  it('do not wake a thread before the local time at which it blocked, nor charge it a wake-up then', () => {
    const m = createKernelModel();
    const log: number[] = [];
    function* body(): Body {
      m.k.now += 500;
      yield* sleeper(m, BLOCKED, log);
    }
    const id = threadCreate(m, 'a', body());
    at(m, 300, () => threadWake(m, id, m.k.now, 25));
    at(m, 501, () => threadWake(m, id, m.k.now, 25));
    runUntilIdle(m);
    expect(log).toEqual([500, 526]);
  });

  it('charge the wake-up when the thread falls asleep between the call and the time it names', () => {
    const m = createKernelModel();
    const log: number[] = [];
    function* body(): Body {
      yield 200;
      yield* sleeper(m, BLOCKED, log);
    }
    const id = threadCreate(m, 'a', body());
    at(m, 100, () => {
      threadWake(m, id, 500, 25);
      threadWake(m, id, 200, 25);
    });
    runUntilIdle(m);
    // At 200 it blocks right before the wake-up comes.
    expect(log).toEqual([225, 525]);
    expect(m.k.threads[id].wakeEvents).toBe(0);
  });

  it('each count: an earlier one does not swallow a later one', () => {
    const m = createKernelModel();
    const log: number[] = [];
    const id = threadCreate(m, 'a', sleeper(m, BLOCKED, log));
    at(m, 10, () => {
      threadWake(m, id, 900);
      threadWake(m, id, 600);
    });
    runUntilIdle(m);
    expect(log).toEqual([600, 900]);
  });

  it('are never lost: a producer and a consumer of any speed', () => {
    for (const [produce, consume] of [
      [3, 10],
      [10, 3],
      [7, 7],
    ]) {
      const m = createKernelModel();
      let made = 0;
      let used = 0;
      function* consumer(): Body {
        for (;;) {
          while (used === made) yield BLOCKED;
          used++;
          yield m.k.now + consume;
        }
      }
      const id = threadCreate(m, 'consumer', consumer());
      function* producer(): Body {
        for (; made < 1000; ) {
          made++;
          threadWake(m, id, m.k.now);
          yield m.k.now + produce;
        }
      }
      threadCreate(m, 'producer', producer());
      runUntilIdle(m);
      expect(used).toBe(1000);
    }
  });

  it('of a thread that has ended do nothing; of one that never was are refused', () => {
    const m = createKernelModel();
    function* body(): Body {}
    const id = threadCreate(m, 'a', body());
    runUntilIdle(m);
    expect(m.k.threads[id].status).toBe(THREAD_DONE);
    threadWake(m, id, m.k.now);
    expect(runNextEvent(m)).toBe(false);
    expect(() => threadWake(m, id + 1, 0)).toThrow(AssertionError);
  });
});

describe('threads: current', () => {
  it('is the thread that runs, and NO_THREAD in event handlers and outside', () => {
    const m = createKernelModel();
    const log: number[] = [];
    function* body(): Body {
      log.push(threadCurrent(m));
      yield 10;
      log.push(threadCurrent(m));
    }
    threadCreate(m, 'a', body());
    threadCreate(m, 'b', body());
    at(m, 5, () => log.push(threadCurrent(m)));
    runUntilIdle(m);
    expect(log).toEqual([0, 1, NO_THREAD, 0, 1]);
    expect(threadCurrent(m)).toBe(NO_THREAD);
  });
});

describe('uvm_thread_context_test.c: thread context', () => {
  it('is one for each thread: two threads may hold locks of one order, an interrupt too', () => {
    const m = createKernelModel();
    let overlaps = 0;
    let holders = 0;
    function* body(instance: number): Body {
      lockAcquire(m, LOCK_ORDER_ISR, instance, false);
      holders++;
      yield m.k.now + 10;
      if (holders === 2) overlaps++;
      lockRelease(m, LOCK_ORDER_ISR, instance, false);
    }
    threadCreate(m, 'a', body(1));
    threadCreate(m, 'b', body(2));
    at(m, 5, () => {
      lockAcquire(m, LOCK_ORDER_ISR, 3, false);
      lockRelease(m, LOCK_ORDER_ISR, 3, false);
    });
    runUntilIdle(m);
    expect(overlaps).toBe(2);
  });

  it('is reused by a nested entry', () => {
    const m = createKernelModel();
    function* inner(): Body {
      yield m.k.now + 1;
      expect(() => lockAcquire(m, LOCK_ORDER_ISR, 2, false)).toThrow('equal or deeper');
      lockRelease(m, LOCK_ORDER_ISR, 2, false);
    }
    function* outer(): Body {
      lockAcquire(m, LOCK_ORDER_ISR, 1, false);
      yield* inner();
    }
    threadCreate(m, 'a', outer());
    runUntilIdle(m);
    expect(m.k.threads[0].status).toBe(THREAD_DONE);
  });

  it('must hold no lock when the thread ends', () => {
    const m = createKernelModel();
    function* body(): Body {
      lockAcquire(m, LOCK_ORDER_ISR, 1, false);
      yield m.k.now + 1;
    }
    threadCreate(m, 'leaky', body());
    expect(() => runUntilIdle(m)).toThrow('UVM_LOCK_ORDER_ISR, instance 1, by thread leaky: still held');
  });
});

describe('threads: stop', () => {
  it('asks, wakes and waits until the thread has ended', () => {
    const m = createKernelModel();
    const log: string[] = [];
    function* body(): Body {
      while (!threadShouldStop(m)) yield BLOCKED;
      m.k.now += 40;
      log.push(`ends ${m.k.now}`);
    }
    const id = threadCreate(m, 'a', body());
    function* stopper(): Body {
      yield 100;
      yield* threadStop(m, id, 5);
      log.push(`stopped ${m.k.now}`);
    }
    threadCreate(m, 'b', stopper());
    runUntilIdle(m);
    expect(log).toEqual(['ends 145', 'stopped 145']);
  });

  it('ends a thread that never started without running it', () => {
    const m = createKernelModel();
    let ran = false;
    function* body(): Body {
      ran = true;
      yield m.k.now;
    }
    const first = threadCreateStopped(m, 'a', body());
    threadDiscard(m, first);
    const second = threadCreateStopped(m, 'a', body());
    function* stopper(): Body {
      yield* threadStop(m, second);
    }
    threadCreate(m, 'b', stopper());
    runUntilIdle(m);
    expect(ran).toBe(false);
    expect(m.k.threads.every((state: ThreadState) => state.status === THREAD_DONE)).toBe(true);
    const third = threadCreate(m, 'c', body());
    expect(() => threadDiscard(m, third)).toThrow(AssertionError);
  });

  it('frees the id, but not while a wake-up for the old thread is on its way', () => {
    const m = createKernelModel();
    function* body(): Body {}
    const id = threadCreate(m, 'a', body());
    threadWake(m, id, 100);
    runNextEvent(m);
    expect(m.k.threads[id].status).toBe(THREAD_DONE);
    expect(threadCreateStopped(m, 'b', body())).toBe(id + 1);
    runUntilIdle(m);
    expect(threadCreateStopped(m, 'c', body())).toBe(id);
  });
});

describe('threads: snapshots', () => {
  it('are allowed when every thread stands at its outermost wait or has ended, and only then', () => {
    const m = createKernelModel();
    const log: number[] = [];
    function* done(): Body {}
    function* nested(): Body {
      yield PARKED;
      yield BLOCKED;
      yield m.k.now + 10;
      yield PARKED;
    }
    threadCreate(m, 'done', done());
    threadCreate(m, 'parked', sleeper(m, PARKED, log));
    const id = threadCreate(m, 'nested', nested());
    runUntilIdle(m);
    expect(threadsAllBlocked(m)).toBe(true);
    threadWake(m, id, m.k.now);
    runUntilIdle(m);
    expect(threadsAllBlocked(m)).toBe(false);
    at(m, 20, () => {});
    threadWake(m, id, 15);
    runNextEvent(m);
    expect(m.k.now).toBe(15);
    expect(threadsAllBlocked(m)).toBe(false);
    runUntilIdle(m);
    expect(threadsAllBlocked(m)).toBe(true);
  });

  it('run on with fresh generators as the original does, with wake-ups that were on their way', () => {
    // A counter served by a thread whose body begins at its outermost wait.
    interface Served extends Model {
      work: number;
    }
    function build(log: string[]): Served {
      const m = createKernelModel() as Served;
      m.work = 0;
      function* server(): Body {
        for (;;) {
          while (m.work === 0) yield PARKED;
          m.work--;
          log.push(`served ${m.k.now}`);
          yield m.k.now + 30;
        }
      }
      threadCreate(m, 'server', server());
      return m;
    }
    const original: string[] = [];
    const m = build(original);
    runUntilIdle(m);
    m.work = 3;
    threadWake(m, 0, 70);
    expect(threadsAllBlocked(m)).toBe(true);
    const snapshot = structuredClone(m.k);
    runUntilIdle(m);
    expect(original).toEqual(['served 70', 'served 100', 'served 130']);

    const restored: string[] = [];
    const n = build(restored);
    n.k = snapshot;
    n.work = 3;
    runUntilIdle(n);
    expect(restored).toEqual(original);
    expect(n.k.seq).toBe(m.k.seq);
  });
});
