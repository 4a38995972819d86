import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createChannelModel } from '../../../test/support/channel_model.ts';
import { createPrng, prngNext } from '../../base/prng.ts';
import { nextEventTime, runNextEvent, runUntilIdle } from '../kernel/clock.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_TYPE_CPU_TO_GPU,
  CHANNEL_TYPE_GPU_INTERNAL,
  CHANNEL_TYPE_GPU_TO_CPU,
  CHANNEL_TYPE_GPU_TO_GPU,
  CHANNEL_TYPE_MEMOPS,
} from '../uvm/channel.ts';
import {
  PURPOSE_TEST,
  type Push,
  pushBegin,
  pushBeginAcquire,
  pushBeginGpuToGpuAcquire,
  pushBeginOnChannel,
  pushCancel,
  pushCopy,
  pushEnd,
  pushMemset,
  pushPte,
  pushReplay,
  pushTimestamp,
  pushTlbInvalidate,
} from '../uvm/push.ts';
import { contentsRead, contentsWrite, POISON } from './contents.ts';
import { type Host, hostFinishTime, hostRunUntil, hostStartTime } from './host.ts';
import { FAULT_INVALID_PDE, MMU_OK, makePte, mmuTranslate, PTE_LEVEL_2M } from './mmu.ts';

/** What the clients were told, in order: the clients themselves are tested elsewhere. */
const told: (string | number)[][] = [];
vi.mock('./sm.ts', () => ({
  createClients: () => ({}),
  clientsReplay: (_m: unknown, gpu: number, time: number, type: number) => {
    told.push(['replay', gpu, time, type]);
  },
  clientsCancel: (_m: unknown, gpu: number, page: number, filter: number, time: number, space: number) => {
    told.push(['cancel', gpu, page, filter, time, space]);
  },
}));

beforeEach(() => {
  told.length = 0;
});

const PAGE = 2 ** 33 + 512;
const ACCESS_READ = 1;
const C2G = CHANNEL_TYPE_CPU_TO_GPU;
const MEMOPS = CHANNEL_TYPE_MEMOPS;

function hostOf(m: Model, gpu = 0): Host {
  return m.gpus[gpu].channelManager.host;
}

/** A push of one copy from the CPU to GPU 0. Takes 1000 + 3 * pages on the engine, 110 on the CPU. */
function copyPush(m: Model, pages: number, type = C2G, page = PAGE): Push {
  const push = pushBegin(m, 0, type, PURPOSE_TEST);
  pushCopy(m, push, 1, 0, page, pages, false);
  pushEnd(m, push);
  return push;
}

/** A push of `count` page-table writes of one entry. Takes 200 + 5 * count on the host. */
function ptePush(m: Model, pte: number, count: number, channel?: number): Push {
  const push =
    channel === undefined ? pushBegin(m, 0, MEMOPS, PURPOSE_TEST) : pushBeginOnChannel(m, channel, PURPOSE_TEST);
  for (let i = 0; i < count; i++) pushPte(m, push, PTE_LEVEL_2M, PAGE, 1, pte);
  pushEnd(m, push);
  return push;
}

function targetOf(m: Model, gpu = 0): number {
  return mmuTranslate(m.gpus[gpu].mmu, PAGE, ACCESS_READ) === MMU_OK ? m.gpus[gpu].mmu.target : -1;
}

describe('times of a push', () => {
  it('adds up the CPU side, the way to the engine, and the copy', () => {
    const m = createChannelModel();
    m.k.now = 5000;
    const push = copyPush(m, 16);
    expect(m.k.now).toBe(5000 + 100 + 10);
    expect([push.begin, push.end, push.start, push.finish]).toEqual([5000, 5110, 5160, 5160 + 1000 + 16 * 3]);
    expect(hostStartTime(hostOf(m), 0, 1)).toBe(push.start);
    expect(hostFinishTime(hostOf(m), 0, 1)).toBe(push.finish);
  });

  it('charges the base of a kind once a push and copyRun from the second copy on', () => {
    const m = createChannelModel();
    const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
    pushCopy(m, push, 1, 0, PAGE, 4, false);
    pushCopy(m, push, 1, 0, PAGE + 8, 2, false);
    pushCopy(m, push, 0, 1, PAGE + 16, 3, false);
    pushCopy(m, push, 0, 1, PAGE + 32, 1, false);
    pushEnd(m, push);
    expect(push.finish - push.start).toBe(1000 + 12 + (500 + 6) + (500 + 2000 + 12) + (500 + 4));
    expect(push.methods).toBe(4);
  });

  it('takes a scattered copy for one method a page', () => {
    const m = createChannelModel();
    const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
    pushCopy(m, push, 1, 0, PAGE, 16, true);
    pushCopy(m, push, 0, 1, PAGE, 4, true);
    pushEnd(m, push);
    expect(push.methods).toBe(20);
    expect(push.end - push.begin).toBe(100 + 20 * 10);
    expect(push.finish - push.start).toBe(1000 + 16 * 20 + 500 + 2000 + 4 * 25);
  });

  it('knows peers, memsets and the methods of MEMOPS', () => {
    const m = createChannelModel({ gpus: 2 });
    const peer = pushBeginGpuToGpuAcquire(m, 0, 1, PURPOSE_TEST, []);
    pushCopy(m, peer, 2, 1, PAGE, 10, false);
    pushCopy(m, peer, 2, 1, PAGE, 10, true);
    pushEnd(m, peer);
    expect(peer.finish - peer.start).toBe(3000 + 20 + 500 + 20);

    const memset = pushBegin(m, 0, CHANNEL_TYPE_GPU_INTERNAL, PURPOSE_TEST);
    pushMemset(m, memset, 1, PAGE, 10);
    pushMemset(m, memset, 1, PAGE, 20);
    pushEnd(m, memset);
    expect(memset.finish - memset.start).toBe(400 + 30);

    const memops = pushBegin(m, 0, MEMOPS, PURPOSE_TEST);
    pushPte(m, memops, PTE_LEVEL_2M, PAGE, 1, 0);
    pushTlbInvalidate(m, memops, PAGE, 512, false, true);
    pushReplay(m, memops, 1);
    pushCancel(m, memops, PAGE, 0, 7);
    pushEnd(m, memops);
    expect(memops.finish - memops.start).toBe(200 + 5 + 60 + 80 + 80);
  });

  it('rounds start and finish to whole nanoseconds, not the parts', () => {
    const m = createChannelModel({
      costs: { pushLatency: 50.4, copyPageToGpu: 2.3, pushMethod: 10.2, pushBase: 99.6 },
    });
    const push = copyPush(m, 3);
    // 110.2 rounds down, 110 + 50.4 too, 160 + 1000 + 6.9 up.
    expect([push.end, push.start, push.finish]).toEqual([110, 160, 1167]);
  });

  it('starts a push when the one before it on the channel is done', () => {
    const m = createChannelModel();
    const first = ptePush(m, 0, 100);
    const second = ptePush(m, 0, 1);
    expect(second.end + 50).toBeLessThan(first.finish);
    expect(second.start).toBe(first.finish);
  });

  it('gives the engine to one push of copies at a time, and other pushes need not wait for it', () => {
    const m = createChannelModel({ copyEngines: 1 });
    const [a, b] = m.gpus[0].channelManager.pools[0].channels;
    const first = copyPush(m, 500);
    const other = pushBeginOnChannel(m, b.id, PURPOSE_TEST);
    pushPte(m, other, PTE_LEVEL_2M, PAGE, 1, 0);
    pushEnd(m, other);
    const second = pushBeginOnChannel(m, b.id, PURPOSE_TEST);
    pushMemset(m, second, 1, PAGE, 1);
    pushEnd(m, second);
    expect([first.channel, second.channel]).toEqual([a.id, b.id]);
    expect(other.start).toBe(other.end + 50);
    expect(second.start).toBe(first.finish);
  });

  it('lets engines work side by side', () => {
    const m = createChannelModel();
    copyPush(m, 500);
    const other = copyPush(m, 1, CHANNEL_TYPE_GPU_TO_CPU);
    expect(other.start).toBe(other.end + 50);
  });

  it('starts after what it acquires, and a little later', () => {
    const m = createChannelModel();
    const first = copyPush(m, 100);
    const second = pushBeginAcquire(m, 0, MEMOPS, PURPOSE_TEST, [first.channel, first.trackingValue]);
    pushEnd(m, second);
    expect(second.start).toBe(first.finish + 30);
  });

  it('does not wait for an acquired push that is done, nor for its own channel twice', () => {
    const m = createChannelModel();
    const first = copyPush(m, 1);
    const tracker = [first.channel, first.trackingValue];
    const same = pushBeginAcquire(m, 0, C2G, PURPOSE_TEST, tracker);
    pushEnd(m, same);
    expect(same.start).toBe(first.finish);
    expect(same.acquireCount).toBe(0);
    m.k.now = first.finish;
    const late = pushBeginAcquire(m, 0, MEMOPS, PURPOSE_TEST, tracker);
    pushEnd(m, late);
    expect(late.start).toBe(late.end + 50);
    expect(tracker).toEqual([]);
  });

  it('stamps the time on the engine at that point of the push', () => {
    const m = createChannelModel({ costs: { copyPageToGpu: 2.4 } });
    const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
    const slots = [pushTimestamp(m, push)];
    pushCopy(m, push, 1, 0, PAGE, 1, false);
    slots.push(pushTimestamp(m, push));
    for (let i = 0; i < 30; i++) {
      pushCopy(m, push, 1, 0, PAGE + i, 1, false);
      slots.push(pushTimestamp(m, push));
    }
    pushEnd(m, push);
    expect(slots).toEqual(Array.from({ length: 32 }, (_, i) => i));
    expect(push.timestamps[0]).toBe(push.start);
    expect(push.timestamps[1]).toBe(push.start + 1002);
    for (let i = 2; i < 32; i++) {
      expect(push.timestamps[i]).toBe(push.start + Math.round(1002.4 + (i - 1) * 502.4));
    }
    expect(push.timestamps[31]).toBe(push.finish);
    expect(push.timestampCount).toBe(32);
  });
});

describe('hostRunUntil', () => {
  it('does nothing one nanosecond before the finish and everything at it', () => {
    const m = createChannelModel();
    contentsWrite(m.contents!, 0, PAGE, 7, 42);
    const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
    pushCopy(m, push, 1, 0, PAGE, 1, false);
    pushMemset(m, push, 1, PAGE + 1, 1);
    pushPte(m, push, PTE_LEVEL_2M, PAGE, 1, makePte(3, 1));
    pushTlbInvalidate(m, push, PAGE, 512, false, true);
    pushEnd(m, push);
    const host = hostOf(m);
    const payload = () => host.semaphorePages[host.channels[0].semaphorePage][host.channels[0].semaphoreIndex];
    hostRunUntil(m, 0, push.finish - 1);
    expect(contentsRead(m.contents!, 1, PAGE, 7)).toBe(POISON);
    expect(mmuTranslate(m.gpus[0].mmu, PAGE, ACCESS_READ)).toBe(FAULT_INVALID_PDE);
    expect([payload(), host.tlbInvalidates, host.pushesRun]).toEqual([0, 0, 0]);
    hostRunUntil(m, 0, push.finish);
    expect(contentsRead(m.contents!, 1, PAGE, 7)).toBe(42);
    expect(contentsRead(m.contents!, 1, PAGE + 1, 7)).toBe(0);
    expect(targetOf(m)).toBe(1);
    expect([payload(), host.tlbInvalidates, host.pushesRun]).toEqual([1, 1, 1]);
  });

  it('reads the source of a copy when the copy ends', () => {
    const m = createChannelModel();
    contentsWrite(m.contents!, 0, PAGE, 0, 1);
    const push = copyPush(m, 1);
    contentsWrite(m.contents!, 0, PAGE, 0, 2);
    hostRunUntil(m, 0, push.finish);
    contentsWrite(m.contents!, 0, PAGE, 0, 3);
    expect(contentsRead(m.contents!, 1, PAGE, 0)).toBe(2);
  });

  it('runs without contents', () => {
    const m = createChannelModel();
    m.contents = null;
    const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
    pushCopy(m, push, 1, 0, PAGE, 1, false);
    pushMemset(m, push, 1, PAGE, 1);
    pushEnd(m, push);
    hostRunUntil(m, 0, push.finish);
    expect(hostOf(m).pushesRun).toBe(1);
  });

  it('breaks a tie of finishes by submission', () => {
    const m = createChannelModel({ copyEngines: 1 });
    const [a, b] = m.gpus[0].channelManager.pools[0].channels;
    // The second push is submitted 110 later and is 110 shorter.
    const first = ptePush(m, makePte(1, 3), 23, b.id);
    const second = ptePush(m, makePte(1, 4), 1, a.id);
    expect(second.finish).toBe(first.finish);
    hostRunUntil(m, 0, first.finish);
    expect(targetOf(m)).toBe(4);
  });

  it('runs pushes of many channels in order of finish and submission, whenever it is called', () => {
    const prng = createPrng(5);
    for (let round = 0; round < 20; round++) {
      const m = createChannelModel({ numGpfifoEntries: 64 });
      const submitted: { finish: number; order: number; id: number }[] = [];
      for (let order = 0; order < 200; order++) {
        const channel = prngNext(prng) % 16;
        const id = prngNext(prng) % 8;
        const { finish } = ptePush(m, makePte(1, id), 1 + (prngNext(prng) % 60), channel);
        submitted.push({ finish, order, id });
        m.k.now = 3 * order;
      }
      submitted.sort((x, y) => x.finish - y.finish || x.order - y.order);
      for (let i = 0; i < submitted.length; i += 1 + (prngNext(prng) % 9)) {
        const time = submitted[i].finish;
        const done = submitted.filter((s) => s.finish <= time);
        hostRunUntil(m, 0, time);
        expect(hostOf(m).pushesRun).toBe(done.length);
        expect(targetOf(m)).toBe(done[done.length - 1].id);
      }
    }
  });

  it('gives method buffers back', () => {
    const m = createChannelModel();
    for (let i = 0; i < 100; i++) {
      copyPush(m, 1);
      const push = copyPush(m, 1);
      hostRunUntil(m, 0, push.finish);
    }
    expect(hostOf(m).memory.buffers.length).toBe(2);
    expect(hostOf(m).memory.free.length).toBe(2);
  });

  it('first runs, on other GPUs, what a push acquired there', () => {
    const m = createChannelModel({ gpus: 3 });
    contentsWrite(m.contents!, 0, PAGE, 0, 42);
    const first = copyPush(m, 1);
    const second = pushBeginGpuToGpuAcquire(m, 0, 1, PURPOSE_TEST, [first.channel, first.trackingValue]);
    pushCopy(m, second, 2, 1, PAGE, 1, false);
    pushEnd(m, second);
    const third = pushBeginAcquire(m, 1, CHANNEL_TYPE_GPU_TO_GPU, PURPOSE_TEST, [second.channel, second.trackingValue]);
    pushCopy(m, third, 3, 2, PAGE, 1, false);
    pushEnd(m, third);
    const fourth = pushBeginAcquire(m, 2, CHANNEL_TYPE_GPU_TO_CPU, PURPOSE_TEST, [third.channel, third.trackingValue]);
    pushCopy(m, fourth, 0, 3, PAGE + 1, 1, false);
    pushCopy(m, fourth, 0, 3, PAGE, 1, false);
    pushEnd(m, fourth);
    contentsWrite(m.contents!, 0, PAGE, 0, 42);
    hostRunUntil(m, 2, fourth.finish);
    expect([0, 1, 2].map((gpu) => hostOf(m, gpu).pushesRun)).toEqual([2, 1, 1]);
    expect([1, 2, 3].map((processor) => contentsRead(m.contents!, processor, PAGE, 0))).toEqual([42, 42, 42]);
  });
});

describe('replays and cancels', () => {
  it('happen at their finish even when nobody looks', () => {
    const m = createChannelModel();
    const replay = pushBegin(m, 0, MEMOPS, PURPOSE_TEST);
    pushReplay(m, replay, 2);
    pushEnd(m, replay);
    const cancel = pushBegin(m, 0, MEMOPS, PURPOSE_TEST);
    pushCancel(m, cancel, PAGE, 5, 6);
    pushEnd(m, cancel);
    expect(nextEventTime(m)).toBe(replay.finish);
    runNextEvent(m);
    expect(told).toEqual([['replay', 0, replay.finish, 2]]);
    runNextEvent(m);
    expect(told[1]).toEqual(['cancel', 0, PAGE, 6, cancel.finish, 5]);
    expect(runNextEvent(m)).toBe(false);
  });

  it('happen once when somebody looked before', () => {
    const m = createChannelModel();
    const replay = pushBegin(m, 0, MEMOPS, PURPOSE_TEST);
    pushReplay(m, replay, 1);
    pushEnd(m, replay);
    hostRunUntil(m, 0, replay.finish + 1000);
    runUntilIdle(m);
    expect(told).toEqual([['replay', 0, replay.finish, 1]]);
  });

  it('need no event in other pushes', () => {
    const m = createChannelModel();
    copyPush(m, 1);
    ptePush(m, 0, 1);
    expect(nextEventTime(m)).toBe(Infinity);
  });
});

describe('entries of a channel', () => {
  it('count as finished long ago once they were reused', () => {
    const m = createChannelModel({ numGpfifoEntries: 32, firstTrackingValue: 2 ** 32 - 10 });
    const values: number[] = [];
    const finishes: number[] = [];
    for (let i = 0; i < 33; i++) {
      expect(values.map((value) => hostFinishTime(hostOf(m), 0, value))).toEqual(finishes);
      const push = ptePush(m, 0, 1, 0);
      values.push(push.trackingValue);
      finishes.push(push.finish);
      m.k.now = push.finish;
    }
    expect(values[0]).toBe(2 ** 32 - 9);
    expect(hostFinishTime(hostOf(m), 0, values[0])).toBe(0);
    expect(hostStartTime(hostOf(m), 0, values[0])).toBe(0);
    expect(hostFinishTime(hostOf(m), 0, values[1])).toBe(finishes[1]);
  });
});

describe('a snapshot', () => {
  it('taken between two pushes goes on like the original', () => {
    const m = createChannelModel({ gpus: 2 });
    for (let i = 0; i < 10; i++) {
      copyPush(m, 1 + i);
      ptePush(m, makePte(1, i), i);
    }
    hostRunUntil(m, 0, m.k.now);
    const { res, ...state } = m;
    const copy = { ...structuredClone(state), res } as Model;
    for (const model of [m, copy]) {
      copyPush(model, 9);
      hostRunUntil(model, 0, model.k.now + 5000);
    }
    const { res: _, ...after } = m;
    const { res: __, ...copyAfter } = copy;
    expect(copyAfter).toEqual(after);
    expect(hostOf(m).pushesRun).toBeGreaterThan(10);
  });
});
