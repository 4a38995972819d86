import { describe, expect, it } from 'vitest';
import { createKernelModel } from '../../../test/support/kernel_model.ts';
import { AssertionError } from '../../base/assert.ts';
import type { Model } from '../state.ts';
import { registerHandler, runNextEvent, runUntilIdle, schedule } from './clock.ts';
import {
  kthreadFunctionRegister,
  nvKthreadQFlush,
  nvKthreadQInit,
  nvKthreadQInitOnNode,
  nvKthreadQItemFree,
  nvKthreadQItemInit,
  nvKthreadQScheduleQItem,
  nvKthreadQStop,
  STACK_NOT_VMALLOCED,
  THREAD_CREATE_FAILED,
} from './nv_kthread_q.ts';
import { BLOCKED, THREAD_DONE, threadCreate, threadCurrent, threadsAllBlocked, threadWake } from './thread.ts';

type Body = Generator<number, void, void>;

function at(m: Model, time: number, fn: () => void): void {
  schedule(
    m,
    time,
    registerHandler(m, () => fn()),
    0,
    0,
  );
}

/** Runs a thread to its end, and everything else with it. */
function runThread(m: Model, body: Body): void {
  const id = threadCreate(m, 'test', body);
  runUntilIdle(m);
  expect(m.k.threads[id].status).toBe(THREAD_DONE);
}

describe('nv-kthread-q-selftest.c: basic start and stop', () => {
  it('runs six items in order, through flushes of nothing, and stops twice', () => {
    const m = createKernelModel();
    const written: number[] = [];
    const fn = kthreadFunctionRegister(m, (_, argument) => {
      written.push(argument);
      return undefined;
    });
    function* test(): Body {
      const short = nvKthreadQInit(m, 'q_to_stop');
      yield* nvKthreadQStop(m, short);
      yield* nvKthreadQStop(m, short);

      const q = nvKthreadQInit(m, 'basic_q');
      for (let i = 0; i < 3; i++) expect(nvKthreadQScheduleQItem(m, q, nvKthreadQItemInit(m, fn, i))).toBe(true);
      expect(written).toEqual([]);
      yield* nvKthreadQFlush(m, q);
      expect(written).toEqual([0, 1, 2]);
      yield* nvKthreadQFlush(m, q);
      for (let i = 3; i < 6; i++) expect(nvKthreadQScheduleQItem(m, q, nvKthreadQItemInit(m, fn, i))).toBe(true);
      yield* nvKthreadQStop(m, q);
      expect(written).toEqual([0, 1, 2, 3, 4, 5]);
      yield* nvKthreadQStop(m, q);
      expect([m.k.queues[q].thread, m.k.queues[q].warnings]).toEqual([-1, 0]);
    }
    runThread(m, test());
    expect(m.k.threads.every((state) => state.status === THREAD_DONE)).toBe(true);
  });

  it('refuses items and flushes of a stopped queue, with a warning each', () => {
    const m = createKernelModel();
    let runs = 0;
    const fn = kthreadFunctionRegister(m, () => {
      runs++;
      return undefined;
    });
    const q = nvKthreadQInit(m, 'q');
    const item = nvKthreadQItemInit(m, fn, 0);
    function* test(): Body {
      yield* nvKthreadQStop(m, q);
      expect(nvKthreadQScheduleQItem(m, q, item)).toBe(false);
      yield* nvKthreadQFlush(m, q);
    }
    runThread(m, test());
    expect([runs, m.k.qItems[item].pending, m.k.queues[q].warnings]).toEqual([0, false, 2]);
  });

  it('lets only threads wait', () => {
    const m = createKernelModel();
    const q = nvKthreadQInit(m, 'q');
    expect(() => nvKthreadQFlush(m, q).next()).toThrow(AssertionError);
  });
});

describe('nv-kthread-q-selftest.c: same item', () => {
  it('has one pending instance at most, in whichever queue', () => {
    const m = createKernelModel();
    let runs = 0;
    const fn = kthreadFunctionRegister(m, () => {
      runs++;
      return undefined;
    });
    const q = nvKthreadQInit(m, 'q');
    const other = nvKthreadQInit(m, 'other');
    const item = nvKthreadQItemInit(m, fn, 0);
    let scheduled = 0;
    function* test(): Body {
      for (let i = 0; i < 1000; i++) {
        if (nvKthreadQScheduleQItem(m, i % 3 === 0 ? other : q, item)) scheduled++;
        if (i % 100 === 99) yield m.k.now + 1;
      }
      yield* nvKthreadQStop(m, q);
      yield* nvKthreadQStop(m, other);
    }
    runThread(m, test());
    expect(scheduled).toBe(10);
    expect(runs).toBe(10);
  });

  it('can be queued again while it runs, and then runs once more', () => {
    const m = createKernelModel();
    const starts: number[] = [];
    const fn = kthreadFunctionRegister(m, function* (model) {
      starts.push(model.k.now);
      yield model.k.now + 100;
    });
    const q = nvKthreadQInit(m, 'q');
    const item = nvKthreadQItemInit(m, fn, 0);
    const answers: boolean[] = [];
    for (const time of [10, 20, 30]) at(m, time, () => answers.push(nvKthreadQScheduleQItem(m, q, item)));
    runUntilIdle(m);
    expect(answers).toEqual([true, true, false]);
    expect(starts).toEqual([10, 110]);
  });
});

describe('nv-kthread-q-selftest.c: item that queues itself', () => {
  it('is over after a stop, since a flush has two rounds', () => {
    const m = createKernelModel();
    let runs = 0;
    let stop = false;
    let refused = 0;
    const q = nvKthreadQInit(m, 'resched_test_q');
    const fn = kthreadFunctionRegister(m, function* (model) {
      runs++;
      // The item decides before the wait; the flag may change meanwhile.
      const again = !stop;
      yield model.k.now + 10;
      if (again && !nvKthreadQScheduleQItem(model, q, item)) refused++;
    });
    const item = nvKthreadQItemInit(m, fn, 0);
    function* test(): Body {
      nvKthreadQScheduleQItem(m, q, item);
      while (runs < 10) yield m.k.now + 7;
      stop = true;
      const before = runs;
      yield* nvKthreadQStop(m, q);
      expect(runs).toBe(before + 1);
      expect(m.k.qItems[item].pending).toBe(false);
    }
    runThread(m, test());
    expect([refused, m.k.queues[q].warnings]).toEqual([0, 0]);
  });
});

describe('nv-kthread-q-selftest.c: many threads', () => {
  it('runs each of 8 x 10 000 items once; a flush waits for those of its thread', () => {
    const m = createKernelModel(3);
    const threads = 8;
    const each = 10_000;
    const perThread = new Int32Array(threads);
    const perItem = new Uint8Array(threads * each);
    let refused = 0;
    const fn = kthreadFunctionRegister(m, (_, argument) => {
      perThread[Math.floor(argument / each)]++;
      perItem[argument]++;
      return undefined;
    });
    const q = nvKthreadQInit(m, 'multithread_test_q');
    function* producer(t: number): Body {
      for (let i = 0; i < each; i++) {
        const item = nvKthreadQItemInit(m, fn, t * each + i);
        if (!nvKthreadQScheduleQItem(m, q, item)) refused++;
        if (i % (t + 2) === 0) yield m.k.now + t;
      }
      yield* nvKthreadQFlush(m, q);
      expect(perThread[t]).toBe(each);
    }
    function* stopper(): Body {
      while (m.k.threads.slice(1, 1 + threads).some((state) => state.status !== THREAD_DONE)) yield m.k.now + 1000;
      yield* nvKthreadQStop(m, q);
    }
    for (let t = 0; t < threads; t++) threadCreate(m, `producer${t}`, producer(t));
    threadCreate(m, 'stopper', stopper());
    runUntilIdle(m);
    expect(refused).toBe(0);
    expect(perItem.every((runs) => runs === 1)).toBe(true);
    expect(m.k.queues[q].warnings).toBe(0);
    expect(m.k.threads.every((state) => state.status === THREAD_DONE)).toBe(true);
  });
});

describe('nv-kthread-q-selftest.c: NUMA node of the stack', () => {
  const landing = (nodes: number[]) => (attempt: number) => nodes[attempt];

  it.each([
    { nodes: [1], stack: 1, created: 1 },
    { nodes: [0, 1], stack: 1, created: 2 },
    { nodes: [0, 0, 1], stack: 1, created: 3 },
    { nodes: [0, 0, 0], stack: 0, created: 3 },
    { nodes: [0, STACK_NOT_VMALLOCED], stack: -1, created: 2 },
    { nodes: [0, THREAD_CREATE_FAILED], stack: 0, created: 1 },
    { nodes: [0, 2, THREAD_CREATE_FAILED], stack: 2, created: 2 },
  ])('prefers node 1, and keeps the last thread created: $nodes', ({ nodes, stack, created }) => {
    const m = createKernelModel();
    const asked: number[] = [];
    const q = nvKthreadQInitOnNode(m, 'q', 1, (attempt, preferred) => {
      asked.push(attempt, preferred);
      return landing(nodes)(attempt);
    });
    expect(asked).toEqual(nodes.flatMap((_, attempt) => [attempt, 1]));
    expect([m.k.queues[q].initResult, m.k.queues[q].stackNode]).toEqual([0, stack]);
    const live = m.k.threads.filter((state) => state.status !== THREAD_DONE);
    expect(live.length).toBe(1);
    expect(m.res.threads.generators.filter((generator) => generator !== null).length).toBe(1);
    expect(m.k.queues[q].thread).toBe(created === 3 ? 0 : created - 1);

    let ranIn = -1;
    const fn = kthreadFunctionRegister(m, (model) => {
      ranIn = threadCurrent(model);
      return undefined;
    });
    nvKthreadQScheduleQItem(m, q, nvKthreadQItemInit(m, fn, 0));
    runUntilIdle(m);
    expect(ranIn).toBe(m.k.queues[q].thread);
  });

  it('fails when the first thread cannot be created; such a queue can be stopped', () => {
    const m = createKernelModel();
    const q = nvKthreadQInitOnNode(m, 'q', 1, landing([THREAD_CREATE_FAILED]));
    expect([m.k.queues[q].initResult, m.k.queues[q].thread]).toEqual([-12, -1]);
    function* test(): Body {
      yield* nvKthreadQStop(m, q);
    }
    runThread(m, test());
  });

  it('lands where it was asked to unless told otherwise', () => {
    const m = createKernelModel();
    expect(m.k.queues[nvKthreadQInitOnNode(m, 'q', 3)].stackNode).toBe(3);
    expect(m.k.threads.length).toBe(1);
  });
});

describe('nv-kthread-q.c: flush', () => {
  it('waits for what is queued before it, and not for what comes after its second marker', () => {
    const m = createKernelModel();
    const log: string[] = [];
    const q = nvKthreadQInit(m, 'q');
    const fn = kthreadFunctionRegister(m, function* (model, argument) {
      yield model.k.now + 10;
      log.push(`item ${argument}`);
    });
    const items = [0, 1, 2].map((argument) => nvKthreadQItemInit(m, fn, argument));
    function* flusher(): Body {
      yield* nvKthreadQFlush(m, q);
      log.push(`flushed at ${m.k.now}`);
    }
    nvKthreadQScheduleQItem(m, q, items[0]);
    threadCreate(m, 'flusher', flusher());
    // Item 1 comes in between the two markers, item 2 behind the second.
    at(m, 5, () => nvKthreadQScheduleQItem(m, q, items[1]));
    at(m, 15, () => nvKthreadQScheduleQItem(m, q, items[2]));
    runUntilIdle(m);
    expect(log).toEqual(['item 0', 'item 1', 'flushed at 20', 'item 2']);
  });

  it('gives its markers back', () => {
    const m = createKernelModel();
    const q = nvKthreadQInit(m, 'q');
    function* test(): Body {
      for (let i = 0; i < 10; i++) yield* nvKthreadQFlush(m, q);
    }
    runThread(m, test());
    expect(m.k.qItems.length).toBe(1);
  });
});

describe('nv-kthread-q.c: time', () => {
  it('charges the wake-up of a sleeping thread, and none to a busy one', () => {
    const m = createKernelModel(25);
    const starts: number[] = [];
    const fn = kthreadFunctionRegister(m, (model) => {
      starts.push(model.k.now);
      model.k.now += 100;
      return undefined;
    });
    const q = nvKthreadQInit(m, 'q');
    const items = [0, 1, 2].map((argument) => nvKthreadQItemInit(m, fn, argument));
    at(m, 1000, () => nvKthreadQScheduleQItem(m, q, items[0]));
    at(m, 1124, () => nvKthreadQScheduleQItem(m, q, items[1]));
    at(m, 1225, () => nvKthreadQScheduleQItem(m, q, items[2]));
    runUntilIdle(m);
    // The second is queued in the last nanosecond of the first one's run, the third at the end of the second one's.
    expect(starts).toEqual([1025, 1125, 1250]);
  });

  it('wakes for the earliest of the items queued by actors whose local times differ', () => {
    const m = createKernelModel(25);
    const starts: number[][] = [];
    const fn = kthreadFunctionRegister(m, (model, argument) => {
      starts.push([argument, model.k.now]);
      return undefined;
    });
    const q = nvKthreadQInit(m, 'q');
    const ahead = nvKthreadQItemInit(m, fn, 1);
    const behind = nvKthreadQItemInit(m, fn, 2);
    at(m, 200, () => nvKthreadQScheduleQItem(m, q, behind));
    at(m, 100, () => {
      m.k.now += 700;
      nvKthreadQScheduleQItem(m, q, ahead);
    });
    runUntilIdle(m);
    // First in, first out; an item does not run before it was queued.
    expect(starts).toEqual([
      [1, 800],
      [2, 800],
    ]);
  });

  it('lets what happened during an item come before the next item', () => {
    const m = createKernelModel();
    const seen: boolean[] = [];
    let happened = false;
    const q = nvKthreadQInit(m, 'q');
    const fn = kthreadFunctionRegister(m, (model) => {
      seen.push(happened);
      model.k.now += 100;
      return undefined;
    });
    for (let i = 0; i < 3; i++) nvKthreadQScheduleQItem(m, q, nvKthreadQItemInit(m, fn, i));
    at(m, 150, () => {
      happened = true;
    });
    runUntilIdle(m);
    expect(seen).toEqual([false, false, true]);
  });

  it('lets an item sleep without losing what is queued meanwhile', () => {
    const m = createKernelModel();
    const log: string[] = [];
    let open = false;
    const q = nvKthreadQInit(m, 'q');
    const fn = kthreadFunctionRegister(m, function* (model, argument) {
      while (!open) yield BLOCKED;
      log.push(`${argument} at ${model.k.now}`);
    });
    for (const argument of [0, 1, 2]) {
      at(m, 10 * argument, () => nvKthreadQScheduleQItem(m, q, nvKthreadQItemInit(m, fn, argument)));
    }
    at(m, 100, () => {
      open = true;
      threadWake(m, m.k.queues[q].thread, m.k.now);
    });
    runUntilIdle(m);
    expect(log).toEqual(['0 at 100', '1 at 100', '2 at 100']);
  });
});

describe('nv-kthread-q.c: items', () => {
  it('may be freed by their own function, and their slots are used again', () => {
    const m = createKernelModel();
    let runs = 0;
    const fn = kthreadFunctionRegister(m, (model, argument) => {
      runs++;
      nvKthreadQItemFree(model, argument);
      return undefined;
    });
    const q = nvKthreadQInit(m, 'q');
    for (let i = 0; i < 5; i++) {
      expect(nvKthreadQItemInit(m, fn, 0)).toBe(0);
      nvKthreadQScheduleQItem(m, q, 0);
      runUntilIdle(m);
    }
    expect(runs).toBe(5);
  });

  it('are refused when their function is unknown, when pending at a free, and when freed', () => {
    const m = createKernelModel();
    expect(() => nvKthreadQItemInit(m, 0, 0)).toThrow(AssertionError);
    const fn = kthreadFunctionRegister(m, () => undefined);
    const q = nvKthreadQInit(m, 'q');
    const item = nvKthreadQItemInit(m, fn, 0);
    nvKthreadQScheduleQItem(m, q, item);
    expect(() => nvKthreadQItemFree(m, item)).toThrow(AssertionError);
    runUntilIdle(m);
    nvKthreadQItemFree(m, item);
    expect(() => nvKthreadQItemFree(m, item)).toThrow(AssertionError);
    expect(() => nvKthreadQScheduleQItem(m, q, item)).toThrow(AssertionError);
  });
});

describe('nv-kthread-q.c: snapshots', () => {
  function build(log: string[]): Model {
    const m = createKernelModel(25);
    const fn = kthreadFunctionRegister(m, function* (model, argument) {
      yield model.k.now + 10;
      log.push(`${argument} at ${model.k.now}`);
    });
    const q = nvKthreadQInit(m, 'q');
    for (let argument = 0; argument < 3; argument++) nvKthreadQItemInit(m, fn, argument);
    runUntilIdle(m);
    expect(threadsAllBlocked(m)).toBe(true);
    expect(m.k.queues[q].waiting).toBe(true);
    return m;
  }

  it('restored with items pending, run on as the original does', () => {
    const original: string[] = [];
    const m = build(original);
    nvKthreadQScheduleQItem(m, 0, 2);
    nvKthreadQScheduleQItem(m, 0, 0);
    expect(threadsAllBlocked(m)).toBe(true);
    const snapshot = structuredClone(m.k);
    runUntilIdle(m);
    expect(original).toEqual(['2 at 35', '0 at 45']);

    const restored: string[] = [];
    const n = build(restored);
    n.k = structuredClone(snapshot);
    runUntilIdle(n);
    expect(restored).toEqual(original);
    expect(n.k).toEqual(m.k);
    nvKthreadQScheduleQItem(n, 0, 1);
    runUntilIdle(n);
    expect(restored[2]).toBe('1 at 80');
  });

  it('are refused while an item runs or a flush waits', () => {
    const m = build([]);
    const seen: boolean[] = [];
    // The item runs from 25 to 35.
    for (const time of [24, 34, 36]) at(m, time, () => seen.push(threadsAllBlocked(m)));
    nvKthreadQScheduleQItem(m, 0, 0);
    runUntilIdle(m);
    expect(seen).toEqual([true, false, true]);
    expect(threadsAllBlocked(m)).toBe(true);
    function* flusher(): Body {
      yield* nvKthreadQFlush(m, 0);
    }
    threadCreate(m, 'flusher', flusher());
    runNextEvent(m);
    expect(threadsAllBlocked(m)).toBe(false);
    runUntilIdle(m);
    expect(threadsAllBlocked(m)).toBe(true);
  });
});
