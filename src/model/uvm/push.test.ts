import { describe, expect, it } from 'vitest';
import { createChannelModel } from '../../../test/support/channel_model.ts';
import { createPrng, prngNext } from '../../base/prng.ts';
import { contentsRead, contentsWrite } from '../gpu/contents.ts';
import type { Model } from '../state.ts';
import type { Why } from '../why.ts';
import {
  CHANNEL_TYPE_CPU_TO_GPU,
  CHANNEL_TYPE_GPU_TO_CPU,
  CHANNEL_TYPE_MEMOPS,
  channelManagerWait,
  channelRecentPushes,
} from './channel.ts';
import {
  PURPOSE_CONTROL,
  PURPOSE_COPY,
  PURPOSE_NAMES,
  PURPOSE_TEST,
  type Push,
  pushAcquireTracker,
  pushBegin,
  pushBeginAcquire,
  pushBeginGpuToGpuAcquire,
  pushBeginOnChannel,
  pushCallbackRegister,
  pushCopy,
  pushEnd,
  pushEndAndWait,
  pushMemset,
  pushTimestamp,
  pushWait,
} from './push.ts';
import { NV_OK } from './status.ts';
import { type Tracker, trackerAddPush, trackerFinishTime } from './tracker.ts';

const C2G = CHANNEL_TYPE_CPU_TO_GPU;
const PAGE = 2 ** 34;

describe('concurrent pushes', () => {
  it('keep their methods apart and finish once each, whatever ran between begin and end', () => {
    const m = createChannelModel();
    const completed: number[] = [];
    const kind = pushCallbackRegister(m, (_m, _channel, _value, data) => completed.push(data));
    const begin = (data: number): Push => {
      const push = pushBeginOnChannel(m, 0, PURPOSE_TEST);
      push.onComplete = kind;
      push.onCompleteData = data;
      pushMemset(m, push, 1, PAGE + data, 1);
      return push;
    };
    const held = [begin(0), begin(1)];
    for (let i = 2; i < 34; i++) pushEnd(m, begin(i));
    pushMemset(m, held[0], 1, PAGE + 100, 1);
    pushMemset(m, held[1], 1, PAGE + 101, 1);
    pushEnd(m, held[1]);
    pushEnd(m, held[0]);
    expect(held.map((push) => push.trackingValue)).toEqual([34, 33]);
    expect(channelManagerWait(m, 0)).toBe(NV_OK);
    expect(completed).toEqual([...Array.from({ length: 32 }, (_, i) => i + 2), 1, 0]);
    const pages = [...Array.from({ length: 34 }, (_, i) => i), 100, 101];
    expect(pages.map((page) => contentsRead(m.contents!, 1, PAGE + page, 0))).toEqual(pages.map(() => 0));
  });

  it('can hold more methods than a buffer had room for', () => {
    const m = createChannelModel();
    const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
    for (let i = 0; i < 300; i++) {
      contentsWrite(m.contents!, 0, PAGE + 2 * i, 5, i + 1);
      pushCopy(m, push, 1, 0, PAGE + 2 * i, 1, false);
      pushTimestamp(m, push);
    }
    pushEndAndWait(m, push);
    for (let i = 0; i < 300; i++) expect(contentsRead(m.contents!, 1, PAGE + 2 * i, 5)).toBe(i + 1);
    expect(push.timestampCount).toBe(300);
  });
});

describe('misuse', () => {
  it('of a push that has ended is caught', () => {
    const m = createChannelModel();
    const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
    pushEnd(m, push);
    expect(() => pushEnd(m, push)).toThrow('a push ends once');
    expect(() => pushMemset(m, push, 1, PAGE, 1)).toThrow('method outside of a push');
  });

  it('of copies is caught', () => {
    const m = createChannelModel({ gpus: 2 });
    const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
    expect(() => pushCopy(m, push, 1, 1, PAGE, 1, false)).toThrow('two sides');
    expect(() => pushCopy(m, push, 1, 0, PAGE, 0, false)).toThrow('at least one page');
    expect(() => pushBeginGpuToGpuAcquire(m, 1, 1, PURPOSE_TEST, [])).toThrow('another GPU');
  });
});

describe('waiting', () => {
  it('for a push ends at its finish plus the poll, and runs no callback', () => {
    const m = createChannelModel();
    let calls = 0;
    const kind = pushCallbackRegister(m, () => calls++);
    const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
    pushMemset(m, push, 1, PAGE, 1);
    push.onComplete = kind;
    expect(pushEndAndWait(m, push)).toBe(NV_OK);
    expect(m.k.now).toBe(push.finish + 7);
    expect(pushWait(m, push)).toBe(NV_OK);
    expect(m.k.now).toBe(push.finish + 7);
    expect(contentsRead(m.contents!, 1, PAGE, 0)).toBe(0);
    expect(calls).toBe(0);
  });
});

describe('timestamps', () => {
  it('are not zero and rise over the pushes of a channel', () => {
    const m = createChannelModel();
    let last = 0;
    for (let i = 0; i < 200; i++) {
      const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
      pushCopy(m, push, 1, 0, PAGE, 1, false);
      pushTimestamp(m, push);
      pushEnd(m, push);
      expect(push.timestamps[0]).toBeGreaterThan(last);
      last = push.timestamps[0];
    }
  });
});

describe('acquires', () => {
  it('take the latest of all entries, drop the completed ones, and remember 16', () => {
    const m = createChannelModel({ gpus: 2, copyEngines: 16 });
    const tracker: Tracker = [];
    const done = pushBeginOnChannel(m, 70, PURPOSE_TEST);
    trackerAddPush(tracker, done);
    pushEndAndWait(m, done);
    trackerAddPush(tracker, done);
    for (let channel = 1; channel <= 20; channel++) {
      const push = pushBeginOnChannel(m, channel, PURPOSE_TEST);
      pushMemset(m, push, 1, PAGE, 5000 - 10 * channel);
      pushEnd(m, push);
      trackerAddPush(tracker, push);
    }
    const latest = trackerFinishTime(m, tracker);
    const push = pushBeginOnChannel(m, 0, PURPOSE_TEST);
    pushAcquireTracker(m, push, tracker);
    pushEnd(m, push);
    expect(tracker.length).toBe(40);
    expect(push.start).toBe(latest + 30);
    expect(push.acquireCount).toBe(20);
    expect(push.otherGpus).toBe(0);
    const [record] = channelRecentPushes(m, 0, 1);
    expect(record.acquires?.length).toBe(16);
    expect(record.acquires?.flat()).toEqual(tracker.slice(0, 32));
  });

  it('never let a push start before what it acquired has finished, over random streams', () => {
    const prng = createPrng(3);
    const gpus = 3;
    const m = createChannelModel({ gpus, copyEngines: 3, numGpfifoEntries: 32 });
    const streams: Tracker[] = Array.from({ length: 6 }, () => []);
    const times = new Map<string, { start: number; finish: number }>();
    const lastOfChannel = new Map<number, number>();
    for (let i = 0; i < 3000; i++) {
      const own = streams[prngNext(prng) % streams.length];
      const other = streams[prngNext(prng) % streams.length];
      const push = pushBeginAcquire(m, prngNext(prng) % gpus, prngNext(prng) % 5, PURPOSE_COPY, own);
      const acquired = [...own, ...other];
      pushAcquireTracker(m, push, other);
      pushMemset(m, push, 1, PAGE, 1 + (prngNext(prng) % 500));
      pushEnd(m, push);
      for (let k = 0; k < acquired.length; k += 2) {
        const before = times.get(`${acquired[k]}:${acquired[k + 1]}`);
        expect(before?.finish).toBeLessThanOrEqual(push.start);
      }
      expect(lastOfChannel.get(push.channel) ?? 0).toBeLessThanOrEqual(push.start);
      expect(push.start).toBeGreaterThanOrEqual(push.end + 50);
      lastOfChannel.set(push.channel, push.finish);
      times.set(`${push.channel}:${push.trackingValue}`, { start: push.start, finish: push.finish });
      trackerAddPush(own, push);
    }
    expect(times.size).toBe(3000);
    for (let gpu = 0; gpu < gpus; gpu++) expect(channelManagerWait(m, gpu)).toBe(NV_OK);
  });
});

describe('copies', () => {
  it('between all ordered pairs of peers give the right data', () => {
    const gpus = 4;
    const m = createChannelModel({ gpus });
    for (let from = 0; from < gpus; from++) {
      for (let to = 0; to < gpus; to++) {
        if (from === to) continue;
        const page = PAGE + from * 100 + to * 10;
        for (let i = 0; i < 4; i++) contentsWrite(m.contents!, from + 1, page + i, 1000 + i, page + i - PAGE);
        const push = pushBeginGpuToGpuAcquire(m, from, to, PURPOSE_COPY, []);
        pushCopy(m, push, to + 1, from + 1, page, 4, from % 2 === 0);
        expect(pushEndAndWait(m, push)).toBe(NV_OK);
        for (let i = 0; i < 4; i++) {
          expect(contentsRead(m.contents!, to + 1, page + i, 1000 + i)).toBe(page + i - PAGE);
        }
      }
    }
  });

  it('in a chain of acquires over all channels and GPUs show a total order', () => {
    const gpus = 2;
    const m = createChannelModel({ gpus });
    const tracker: Tracker = [];
    const route = [0];
    const step = (gpu: number, type: number, dst: number): void => {
      const src = route[route.length - 1];
      const peer = src !== 0 && dst !== 0;
      const push = peer
        ? pushBeginGpuToGpuAcquire(m, gpu, dst - 1, PURPOSE_COPY, tracker)
        : pushBeginAcquire(m, gpu, type, PURPOSE_COPY, tracker);
      pushCopy(m, push, dst, src, PAGE, 1, false);
      // A copy of a page that still holds the last round's bytes would be seen at the end.
      pushMemset(m, push, src, PAGE, 1);
      pushEnd(m, push);
      trackerAddPush(tracker, push);
      route.push(dst);
    };
    contentsWrite(m.contents!, 0, PAGE, 3, 77);
    for (let round = 0; round < 10; round++) {
      step(0, C2G, 1);
      step(0, 0, 2);
      step(1, 0, 1);
      step(0, CHANNEL_TYPE_GPU_TO_CPU, 0);
      step(1, CHANNEL_TYPE_CPU_TO_GPU, 2);
      step(1, CHANNEL_TYPE_MEMOPS, 0);
    }
    expect(channelManagerWait(m, 1)).toBe(NV_OK);
    expect(contentsRead(m.contents!, 0, PAGE, 3)).toBe(77);
    expect(contentsRead(m.contents!, 1, PAGE, 3)).toBe(0);
    expect(contentsRead(m.contents!, 2, PAGE, 3)).toBe(0);
  });
});

describe('the observer of decisions', () => {
  it('is told of each push that ends', () => {
    const m = createChannelModel({ gpus: 2 });
    const told: number[][] = [];
    m.res.why = { push: (...args: number[]) => told.push(args) } as unknown as Why;
    const push = pushBegin(m, 1, C2G, PURPOSE_COPY);
    pushCopy(m, push, 2, 0, PAGE, 3, true);
    pushEnd(m, push);
    expect(told).toEqual([[PURPOSE_COPY, 1, 64, 1, 0, 180, 180 + 1060, 3]]);
  });

  it('has a name for each purpose', () => {
    expect(PURPOSE_NAMES.length).toBe(PURPOSE_CONTROL + 1);
    expect(PURPOSE_NAMES[PURPOSE_COPY]).toBe('copy');
  });
});

describe('a callback', () => {
  it('kind counts up from the first registered', () => {
    const m: Model = createChannelModel();
    const first = pushCallbackRegister(m, () => {});
    expect(pushCallbackRegister(m, () => {})).toBe(first + 1);
  });
});
