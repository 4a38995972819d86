import { describe, expect, it } from 'vitest';
import { type ChannelModelOptions, createChannelModel } from '../../../test/support/channel_model.ts';
import { createPrng, prngNext } from '../../base/prng.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_TYPE_CPU_TO_GPU,
  CHANNEL_TYPE_GPU_INTERNAL,
  CHANNEL_TYPE_GPU_TO_CPU,
  CHANNEL_TYPE_GPU_TO_GPU,
  CHANNEL_TYPE_MEMOPS,
  CHANNEL_TYPE_NAMES,
  channelAvailableGpfifoEntries,
  channelGet,
  channelGpu,
  channelIsValueCompleted,
  channelManagerSetP2pCe,
  channelManagerUpdateProgress,
  channelManagerWait,
  channelRecentPushes,
  channelRelease,
  channelReserve,
  channelReserveType,
  channelUpdateCompletedValue,
  channelUpdateProgress,
  channelUpdateProgressAll,
  channelWait,
  createChannelManager,
} from './channel.ts';
import {
  PURPOSE_COPY,
  PURPOSE_MAP,
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
  pushMemset,
  pushTlbInvalidate,
} from './push.ts';
import { NV_ERR_INVALID_STATE, NV_OK } from './status.ts';
import { trackerWait } from './tracker.ts';

const C2G = CHANNEL_TYPE_CPU_TO_GPU;
const USABLE = 31;

/** A model that writes down each callback as [channel, value, data, time]. */
function setup(options: ChannelModelOptions = {}) {
  const m = createChannelModel({ contents: false, ...options });
  const log: number[][] = [];
  const kind = pushCallbackRegister(m, (_m, channel, value, data, noticed) =>
    log.push([channel, value, data, noticed]),
  );
  /** A push that takes 260 on the host; `channel` overrides the choice by type. */
  const push = (channel?: number, data = 0): Push => {
    const begun =
      channel === undefined ? pushBegin(m, 0, C2G, PURPOSE_TEST) : pushBeginOnChannel(m, channel, PURPOSE_TEST);
    pushTlbInvalidate(m, begun, 0, 1, true, false);
    begun.onComplete = kind;
    begun.onCompleteData = data;
    pushEnd(m, begun);
    return begun;
  };
  return { m, log, push };
}

function payloadWrite(m: Model, channel: number, payload: number): void {
  const { page, index } = channelGet(m, channel).trackingSem;
  m.gpus[channelGpu(channel)].channelManager.host.semaphorePages[page][index] = payload;
}

describe('pools', () => {
  it('give each channel type the least used engine, in the order in which the driver asks', () => {
    const engines = (copyEngines: number) => {
      const manager = createChannelManager(0, { gpus: 1, copyEngines, numGpfifoEntries: 1024 });
      const types = [
        CHANNEL_TYPE_CPU_TO_GPU,
        CHANNEL_TYPE_GPU_TO_CPU,
        CHANNEL_TYPE_GPU_INTERNAL,
        CHANNEL_TYPE_GPU_TO_GPU,
        CHANNEL_TYPE_MEMOPS,
      ];
      return types.map((type) => manager.pools[manager.poolForType[type]].engine);
    };
    expect(engines(1)).toEqual([0, 0, 0, 0, 0]);
    expect(engines(2)).toEqual([0, 1, 0, 1, 0]);
    expect(engines(3)).toEqual([0, 1, 2, 0, 1]);
    expect(engines(5)).toEqual([0, 1, 2, 3, 4]);
    expect(engines(10)).toEqual([0, 1, 2, 3, 4]);
    expect(CHANNEL_TYPE_NAMES[CHANNEL_TYPE_MEMOPS]).toBe('MEMOPS');
  });

  it('are one for each engine with two channels each, with ids that name the GPU', () => {
    const { m } = setup({ gpus: 3, copyEngines: 6 });
    const manager = m.gpus[2].channelManager;
    expect(manager.pools.map((pool) => pool.channels.length)).toEqual([2, 2, 2, 2, 2, 2]);
    expect(manager.channels.map((channel) => channel.id)).toEqual(Array.from({ length: 12 }, (_, i) => 128 + i));
    for (const channel of manager.channels) {
      expect(channelGet(m, channel.id)).toBe(channel);
      expect(channelGpu(channel.id)).toBe(2);
    }
  });

  it('send copies to a peer where the manager was told to', () => {
    const { m } = setup({ gpus: 3 });
    const channelTo = (peer: number) => {
      const push = pushBeginGpuToGpuAcquire(m, 0, peer, PURPOSE_COPY, []);
      pushEnd(m, push);
      return push.channel;
    };
    expect([channelTo(1), channelTo(2)]).toEqual([6, 6]);
    channelManagerSetP2pCe(m, 0, 2, 7);
    expect([channelTo(1), channelTo(2)]).toEqual([6, 14]);
    expect(() => channelManagerSetP2pCe(m, 0, 2, 8)).toThrow('no such copy engine');
  });

  it('refuse sizes that the hardware cannot have', () => {
    const options = { gpus: 1, copyEngines: 1, numGpfifoEntries: 32 };
    expect(() => createChannelManager(0, { ...options, copyEngines: 0 })).toThrow('copy engine');
    expect(() => createChannelManager(0, { ...options, copyEngines: 33 })).toThrow('too many copy engines');
    expect(() => createChannelManager(0, { ...options, numGpfifoEntries: 48 })).toThrow('power of two');
    expect(() => createChannelManager(0, { ...options, numGpfifoEntries: 16 })).toThrow('at least 32');
  });
});

describe('reservation', () => {
  it('uses the second channel only while the first is full', () => {
    const { m, push } = setup();
    const channels = Array.from({ length: 2 * USABLE }, () => push().channel);
    expect(channels).toEqual([...new Array(USABLE).fill(0), ...new Array(USABLE).fill(1)]);
    m.k.now += 1e6;
    // All are done but nobody has collected them: the pool still counts as full, and gives way 8 at a time.
    expect(Array.from({ length: 8 }, () => push().channel)).toEqual(new Array(8).fill(0));
    expect(push().channel).toBe(0);
    expect(channelAvailableGpfifoEntries(channelGet(m, 0))).toBe(7);
    expect(channelAvailableGpfifoEntries(channelGet(m, 1))).toBe(0);
  });

  it('of a full pool waits for the first push that finishes, and runs its callback', () => {
    const { m, log } = setup();
    const kind = m.res.pushCallbacks.length - 1;
    const finishes: number[] = [];
    for (let i = 0; i < 2 * USABLE; i++) {
      const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
      pushCopy(m, push, 1, 0, 0, 1e6, false);
      push.onComplete = kind;
      pushEnd(m, push);
      finishes.push(push.finish);
    }
    expect(log).toEqual([]);
    const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
    expect([push.channel, push.begin]).toEqual([0, finishes[0] + 7]);
    expect(log).toEqual([[0, 1, 0, finishes[0] + 7]]);
    pushEnd(m, push);
    expect(pushBegin(m, 0, C2G, PURPOSE_TEST).begin).toBe(finishes[1] + 7);
  });

  it('keeps one entry empty, and a release gives the entries back', () => {
    const { m, push } = setup();
    const channel = channelGet(m, 0);
    channelReserve(m, channel, USABLE - 1);
    expect(channelAvailableGpfifoEntries(channel)).toBe(1);
    expect([push().channel, push().channel]).toEqual([0, 1]);
    channelRelease(channel, USABLE - 1);
    expect(channelAvailableGpfifoEntries(channel)).toBe(USABLE - 1);
    expect(push().channel).toBe(0);
    expect(() => channelRelease(channel, 1)).toThrow('released more');
    expect(() => channelReserve(m, channel, 32)).toThrow('more entries than a channel has');
  });

  it('of several entries on one channel waits for that channel alone', () => {
    const { m, log } = setup();
    const kind = m.res.pushCallbacks.length - 1;
    const long = (channel: number): number => {
      const push = pushBeginOnChannel(m, channel, PURPOSE_TEST);
      pushMemset(m, push, 1, 0, 1e5);
      push.onComplete = kind;
      pushEnd(m, push);
      return push.finish;
    };
    long(5);
    const finishes = Array.from({ length: 20 }, () => long(3));
    channelReserve(m, channelGet(m, 3), 14);
    expect(m.k.now).toBe(finishes[2] + 7);
    expect(channelAvailableGpfifoEntries(channelGet(m, 3))).toBe(0);
    expect(log).toEqual([0, 1, 2].map((i) => [3, i + 1, 0, finishes[i] + 7]));
  });

  it('that only open pushes could end is an error', () => {
    const { m } = setup();
    channelReserve(m, channelGet(m, 0), USABLE);
    channelReserve(m, channelGet(m, 1), USABLE);
    expect(() => channelReserveType(m, 0, C2G)).toThrow('reserved by open pushes');
  });
});

describe('progress', () => {
  it('is not made one nanosecond before a finish, and is at it', () => {
    const { m, push, log } = setup();
    const { finish } = push(4, 17);
    m.k.now = finish - 1;
    expect(channelUpdateProgress(m, 4)).toBe(1);
    expect(channelIsValueCompleted(m, 4, 1)).toBe(false);
    expect(log).toEqual([]);
    m.k.now = finish;
    expect(channelIsValueCompleted(m, 4, 1)).toBe(true);
    expect(log).toEqual([]);
    m.k.now = finish + 5;
    expect(channelUpdateProgress(m, 4)).toBe(0);
    expect(log).toEqual([[4, 1, 17, finish + 5]]);
    expect(channelUpdateProgress(m, 4)).toBe(0);
    expect(log.length).toBe(1);
  });

  it('collects at most 8 entries at a time, or all', () => {
    const { m, push, log } = setup();
    for (let i = 0; i < 20; i++) push(0, i);
    m.k.now += 1e6;
    expect(channelUpdateProgress(m, 0)).toBe(12);
    expect(log.map(([, , data]) => data)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(channelUpdateProgressAll(m, 0)).toBe(0);
    expect(log.map(([, value]) => value)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(m.gpus[0].channelManager.pushbuffer.pendingPushes).toBe(0);
  });

  it('made by a callback itself runs no callback twice', () => {
    const { m, push, log } = setup();
    const kind = pushCallbackRegister(m, (_m, channel) => {
      log.push([channel]);
      channelUpdateProgress(m, channel);
    });
    const begun = pushBeginOnChannel(m, 0, PURPOSE_TEST);
    begun.onComplete = kind;
    pushEnd(m, begun);
    push(0, 5);
    m.k.now += 1e6;
    expect(channelUpdateProgress(m, 0)).toBe(0);
    expect(log).toEqual([[0], [0, 2, 5, m.k.now]]);
    expect(m.gpus[0].channelManager.pushbuffer.pendingPushes).toBe(0);
  });

  it('of a manager goes channel by channel, whatever finished first', () => {
    const { m, push, log } = setup();
    for (const channel of [9, 2, 9, 0, 2]) push(channel);
    m.k.now += 1e6;
    expect(channelManagerUpdateProgress(m, 0)).toBe(0);
    expect(log.map(([channel]) => channel)).toEqual([0, 2, 2, 9, 9]);
  });

  it('is no business of trackers', () => {
    const { m, push, log } = setup();
    const { channel, trackingValue } = push();
    trackerWait(m, [channel, trackingValue]);
    pushEnd(m, pushBeginAcquire(m, 0, CHANNEL_TYPE_MEMOPS, PURPOSE_MAP, [channel, trackingValue]));
    expect(log).toEqual([]);
  });

  it('waits until all is collected', () => {
    const { m, push, log } = setup();
    const finishes = Array.from({ length: 70 }, (_, i) => push(i % 4, i).finish);
    const last = push(6).finish;
    expect(channelWait(m, 2)).toBe(NV_OK);
    expect(m.gpus[0].channelManager.channels[2].gpuGet).toBe(m.gpus[0].channelManager.channels[2].cpuPut);
    expect(channelManagerWait(m, 0)).toBe(NV_OK);
    expect(m.k.now).toBe(Math.max(...finishes, last) + 7);
    expect(log.length).toBe(71);
    expect(new Set(log.map(([channel, value]) => channel * 1000 + value)).size).toBe(71);
    const now = m.k.now;
    expect(channelManagerWait(m, 0)).toBe(NV_OK);
    expect(channelWait(m, 0)).toBe(NV_OK);
    expect(m.k.now).toBe(now);
  });

  it('runs each callback once, in order and never early, over random calls', () => {
    const prng = createPrng(21);
    const { m, push, log } = setup({ copyEngines: 2 });
    const finishes = new Map<string, number>();
    const completed = [0, 0, 0, 0];
    for (let i = 0; i < 5000; i++) {
      const channel = prngNext(prng) % 4;
      switch (prngNext(prng) % 8) {
        case 0:
          channelUpdateProgress(m, channel);
          break;
        case 1:
          m.k.now += prngNext(prng) % 2000;
          break;
        case 2:
          if (prngNext(prng) % 50 === 0) channelManagerWait(m, 0);
          break;
        default: {
          const done = push(channel, i);
          finishes.set(`${channel}:${done.trackingValue}`, done.finish);
        }
      }
      const value = channelUpdateCompletedValue(m, channel);
      expect(value).toBeGreaterThanOrEqual(completed[channel]);
      completed[channel] = value;
    }
    channelManagerWait(m, 0);
    expect(log.length).toBe(finishes.size);
    const last = [0, 0, 0, 0];
    for (const [channel, value, , noticed] of log) {
      expect(value).toBe(++last[channel]);
      expect(noticed).toBeGreaterThanOrEqual(finishes.get(`${channel}:${value}`) as number);
    }
  });

  it('goes through a wrap of the payload', () => {
    const { m, push, log } = setup({ firstTrackingValue: 2 ** 32 - 3 });
    for (let i = 0; i < 100; i++) {
      const { trackingValue, finish } = push(0, i);
      expect(trackingValue).toBe(2 ** 32 - 2 + i);
      m.k.now = finish - 1;
      expect(channelIsValueCompleted(m, 0, trackingValue)).toBe(false);
      m.k.now = finish;
      expect(channelIsValueCompleted(m, 0, trackingValue)).toBe(true);
      if (i % 20 === 0) channelUpdateProgressAll(m, 0);
    }
    channelUpdateProgressAll(m, 0);
    expect(log.map(([, value]) => value)).toEqual(Array.from({ length: 100 }, (_, i) => 2 ** 32 - 2 + i));
    expect(m.globalStatus).toBe(NV_OK);
  });

  it('beyond what was queued is a fatal error', () => {
    const { m, push } = setup();
    const { finish } = push(1);
    m.k.now = finish;
    expect(channelUpdateProgress(m, 1)).toBe(0);
    expect(m.globalStatus).toBe(NV_OK);
    payloadWrite(m, 1, 2);
    channelUpdateProgress(m, 1);
    expect(m.globalStatus).toBe(NV_ERR_INVALID_STATE);
    push(3);
    expect(channelWait(m, 3)).toBe(NV_ERR_INVALID_STATE);
    expect(channelManagerWait(m, 0)).toBe(NV_ERR_INVALID_STATE);
  });
});

describe('the record of pushes', () => {
  it('is empty for a channel that was never used', () => {
    const { m } = setup();
    expect(channelRecentPushes(m, 3, 10)).toEqual([]);
  });

  it('holds what was said and timed, newest first', () => {
    const { m, push } = setup();
    const first = push(0);
    const { finish: firstFinish } = first;
    const second = pushBeginAcquire(m, 0, CHANNEL_TYPE_MEMOPS, PURPOSE_MAP, [0, 1]);
    pushTlbInvalidate(m, second, 0, 1, true, false);
    pushEnd(m, second);
    const third = push(second.channel);
    m.k.now = second.finish;
    channelUpdateProgress(m, second.channel);
    const { channel } = second;
    expect(channelRecentPushes(m, channel, 5)).toEqual([
      {
        channel,
        value: 2,
        purpose: PURPOSE_TEST,
        begin: 220,
        end: 330,
        start: second.finish,
        finish: third.finish,
        methods: 1,
        collected: false,
        acquires: [],
      },
      {
        channel,
        value: 1,
        purpose: PURPOSE_MAP,
        begin: 110,
        end: 220,
        start: firstFinish + 30,
        finish: firstFinish + 30 + 260,
        methods: 1,
        collected: true,
        acquires: [[0, 1]],
      },
    ]);
    expect(channelRecentPushes(m, channel, 1).length).toBe(1);
  });

  it('goes back one ring', () => {
    const { m, push } = setup();
    for (let i = 0; i < 40; i++) {
      m.k.now = push(0).finish;
      channelUpdateProgressAll(m, 0);
    }
    const values = channelRecentPushes(m, 0, 100).map(({ value }) => value);
    expect(values).toEqual(Array.from({ length: 31 }, (_, i) => 40 - i));
  });

  it('keeps what is in its rings while they grow, and while they go round', () => {
    const firstTrackingValue = 2 ** 32 - 100;
    const { m } = setup({ numGpfifoEntries: 256, firstTrackingValue });
    const long = pushBeginOnChannel(m, 1, PURPOSE_TEST);
    pushMemset(m, long, 1, 0, 1e9);
    pushEnd(m, long);
    const waited = [long.channel, long.trackingValue];
    const ended: { value: number; begin: number; finish: number; acquires: number[][] }[] = [];
    for (let i = 1; i <= 600; i++) {
      const push = pushBeginOnChannel(m, 0, PURPOSE_TEST);
      const acquires = i <= 250 && i % 7 !== 0 ? [waited] : [];
      pushAcquireTracker(m, push, acquires.flat());
      pushTlbInvalidate(m, push, 0, 1, true, false);
      pushEnd(m, push);
      ended.unshift({ value: firstTrackingValue + i, begin: push.begin, finish: push.finish, acquires });
      if (i > 250) {
        m.k.now = push.finish;
        channelUpdateProgressAll(m, 0);
      }
      expect(channelRecentPushes(m, 0, 1000)).toMatchObject(ended.slice(0, 255));
    }
  });

  it('forgets what old pushes acquired', () => {
    const { m } = setup();
    const acquired: number[] = [];
    for (let channel = 1; channel <= 5; channel++) {
      const long = pushBeginOnChannel(m, channel, PURPOSE_TEST);
      pushMemset(m, long, 1, 0, 1e9);
      pushEnd(m, long);
      acquired.push(long.channel, long.trackingValue);
    }
    for (let i = 0; i < USABLE; i++) pushEnd(m, pushBeginAcquire(m, 0, C2G, PURPOSE_TEST, acquired));
    const records = channelRecentPushes(m, 0, 100);
    expect(records.length).toBe(USABLE);
    // A channel of 32 entries keeps 64 pairs: those of the last 12 pushes.
    expect(records.map(({ acquires }) => acquires?.flat() ?? null)).toEqual(
      records.map((_, i) => (i < 12 ? acquired : null)),
    );
  });
});
