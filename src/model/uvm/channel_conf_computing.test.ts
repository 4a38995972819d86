import { describe, expect, it } from 'vitest';
import { createConfComputingModel } from '../../../test/support/conf_computing_model.ts';
import type { Model } from '../state.ts';
import type { Why } from '../why.ts';
import {
  CHANNEL_POOL_TYPE_CE,
  CHANNEL_POOL_TYPE_LCIC,
  CHANNEL_POOL_TYPE_SEC2,
  CHANNEL_POOL_TYPE_WLC,
  CHANNEL_TYPE_CPU_TO_GPU,
  CHANNEL_TYPE_GPU_INTERNAL,
  CHANNEL_TYPE_GPU_TO_CPU,
  CHANNEL_TYPE_GPU_TO_GPU,
  CHANNEL_TYPE_LCIC,
  CHANNEL_TYPE_MEMOPS,
  CHANNEL_TYPE_SEC2,
  CHANNEL_TYPE_WLC,
  type Channel,
  channelAvailableGpfifoEntries,
  channelGet,
  channelManagerWait,
  channelRelease,
  channelReserve,
  channelReserveType,
} from './channel.ts';
import { channelWlcGetPairedLcic, createConfComputingChannelManager } from './channel_conf_computing.ts';
import { channelInjectError } from './channel_inject.ts';
import { confComputingOf } from './conf_computing.ts';
import type { Launch } from './conf_computing_types.ts';
import {
  PURPOSE_LAUNCH,
  PURPOSE_TEST,
  type Push,
  pushBegin,
  pushBeginOnChannel,
  pushEnd,
  pushTlbInvalidate,
  pushWait,
} from './push.ts';
import { WLC_PUSH_BYTES } from './secure_memory.ts';
import { NV_ERR_RC_ERROR, NV_OK } from './status.ts';

const C2G = CHANNEL_TYPE_CPU_TO_GPU;

const managerOf = (m: Model) => m.gpus[0].channelManager;
const countsOf = (m: Model) => confComputingOf(managerOf(m)).counts;
const channelsOf = (m: Model, type: number): Channel[] => managerOf(m).pools[managerOf(m).poolForType[type]].channels;
const values = (channels: readonly Channel[]) => channels.map(({ trackingSem }) => trackingSem.queuedValue);

/** A push of one TLB invalidate, begun on a type's pool or on one channel. */
function begin(m: Model, channel?: number): Push {
  const push =
    channel === undefined ? pushBegin(m, 0, C2G, PURPOSE_TEST) : pushBeginOnChannel(m, channel, PURPOSE_TEST);
  pushTlbInvalidate(m, push, 0, 1, true, false);
  return push;
}

describe('pools with Confidential Computing', () => {
  const shape = (copyEngines: number) => {
    const manager = createConfComputingChannelManager(0, { gpus: 1, copyEngines, numGpfifoEntries: 64 });
    return {
      pools: manager.pools.map(({ poolType, engine, channels }) => [poolType, engine, channels.length]),
      forType: manager.poolForType,
    };
  };

  it('are those of SEC2, of launches, and of the engines that some type prefers', () => {
    const { pools, forType } = shape(8);
    expect(pools).toEqual([
      [CHANNEL_POOL_TYPE_SEC2, 8, 1],
      [CHANNEL_POOL_TYPE_WLC, 4, 8],
      [CHANNEL_POOL_TYPE_LCIC, 4, 8],
      [CHANNEL_POOL_TYPE_CE, 0, 2],
      [CHANNEL_POOL_TYPE_CE, 1, 2],
      [CHANNEL_POOL_TYPE_CE, 2, 2],
      [CHANNEL_POOL_TYPE_CE, 3, 2],
    ]);
    expect(forType[C2G]).toBe(3);
    expect(forType[CHANNEL_TYPE_GPU_TO_CPU]).toBe(4);
    expect(forType[CHANNEL_TYPE_GPU_INTERNAL]).toBe(5);
    expect(forType[CHANNEL_TYPE_MEMOPS]).toBe(6);
    expect(forType[CHANNEL_TYPE_GPU_TO_GPU]).toBe(forType[CHANNEL_TYPE_GPU_TO_CPU]);
    expect([CHANNEL_TYPE_SEC2, CHANNEL_TYPE_WLC, CHANNEL_TYPE_LCIC].map((type) => forType[type])).toEqual([0, 1, 2]);
  });

  it('give launches two channels for each engine in use, on the least used engine', () => {
    const wlc = (copyEngines: number) => shape(copyEngines).pools[1].slice(1);
    expect([1, 2, 3, 4, 5].map(wlc)).toEqual([
      [0, 2],
      [0, 4],
      [1, 6],
      [0, 8],
      [4, 8],
    ]);
  });

  it('need an engine', () => {
    expect(() => shape(0)).toThrow('copy engine');
  });
});

describe('set-up', () => {
  it('goes through SEC2 until launches stand, and through WLC from then on', () => {
    const m = createConfComputingModel({ copyEngines: 5 });
    const pairs = 8;
    const ce = 8;
    // SEC2's own first push; for each channel of WLC and LCIC two launches; for each of them a schedule.
    const sec2 = 1 + 2 * (2 * pairs) + 2 * pairs;
    expect(countsOf(m)).toMatchObject({ sec2Pushes: sec2, launches: 2 * ce });
    expect(values(channelsOf(m, CHANNEL_TYPE_SEC2))).toEqual([sec2]);
    expect(values(channelsOf(m, C2G))).toEqual([1, 1]);
    // Each WLC and LCIC channel has its first push; launches come on top.
    const sum = (type: number) => values(channelsOf(m, type)).reduce((a, b) => a + b);
    expect([sum(CHANNEL_TYPE_WLC), sum(CHANNEL_TYPE_LCIC)]).toEqual([pairs + 2 * ce, pairs + 2 * ce]);
    expect(channelManagerWait(m, 0)).toBe(NV_OK);
  });

  it('leaves one entry to a WLC channel and none to an LCIC channel', () => {
    const m = createConfComputingModel();
    channelManagerWait(m, 0);
    expect(channelsOf(m, CHANNEL_TYPE_WLC).map(channelAvailableGpfifoEntries)).toEqual(new Array(8).fill(1));
    expect(channelsOf(m, CHANNEL_TYPE_LCIC).map(channelAvailableGpfifoEntries)).toEqual(new Array(8).fill(0));
  });
});

describe('a reservation', () => {
  it('locks its channel until the push ends, so that open pushes use different channels', () => {
    const m = createConfComputingModel();
    const [first, second] = channelsOf(m, C2G);
    const a = begin(m);
    const b = begin(m);
    expect([a.channel, b.channel]).toEqual([first.id, second.id]);
    pushEnd(m, b);
    const c = begin(m);
    expect(c.channel).toBe(second.id);
    expect(() => channelReserveType(m, 0, C2G)).toThrow('reserved by open pushes');
    pushEnd(m, a);
    expect(channelReserveType(m, 0, C2G)).toBe(first);
    channelRelease(first, 1);
    expect(channelReserveType(m, 0, C2G)).toBe(first);
  });

  it('waits for a completion where every channel is locked or full', () => {
    const m = createConfComputingModel({ numGpfifoEntries: 32 });
    channelManagerWait(m, 0);
    const [first, second] = channelsOf(m, C2G);
    const pushes = Array.from({ length: 31 }, () => {
      const push = begin(m, second.id);
      push.duration += 1e9;
      pushEnd(m, push);
      return push.finish;
    });
    channelReserve(m, first, 1);
    const before = m.k.now;
    expect(before).toBeLessThan(pushes[0]);
    expect(channelReserveType(m, 0, C2G)).toBe(second);
    expect(m.k.now).toBe(pushes[0] + m.cost.trackerPoll);
  });
});

describe('a launch', () => {
  /** The launches that an observer is told of. */
  function watched(m: Model): Launch[] {
    const launches: Launch[] = [];
    m.res.why = { enter: () => {}, push: () => {}, launch: (one: Launch) => launches.push(one) } as unknown as Why;
    return launches;
  }

  it('goes from the push to a WLC channel, and on to its LCIC channel, and is waited for', () => {
    const m = createConfComputingModel();
    const launches = watched(m);
    const push = begin(m);
    const before = { ...countsOf(m) };
    pushEnd(m, push);
    expect(launches).toHaveLength(1);
    const [one] = launches;
    const wlc = channelGet(m, one.launchChannel);
    expect(one).toMatchObject({
      channel: push.channel,
      value: push.trackingValue,
      lcicChannel: channelWlcGetPairedLcic(managerOf(m), wlc).id,
      launchValue: wlc.trackingSem.queuedValue,
    });
    // A membar's worth of methods, and an end of 168 bytes.
    expect([push.bytes, one.bytes]).toEqual([20 + 168, 188]);
    // The CPU goes on when it sees that WLC is done; neither the push nor LCIC is done by then.
    expect(m.k.now).toBe(one.launchFinish + m.cost.trackerPoll);
    expect(one.end).toBe(m.k.now);
    expect(push.start).toBe(one.launchFinish + m.cost.pushLatency);
    expect(one.lcicFinish).toBe(one.launchFinish + m.cost.memopsBase);
    expect(countsOf(m).launches).toBe(before.launches + 1);
    expect(countsOf(m).cpuEncryptedBytes).toBe(before.cpuEncryptedBytes + one.bytes + WLC_PUSH_BYTES);
    // Payloads of the push, of WLC and of LCIC.
    expect(countsOf(m).gpuEncryptedBytes).toBe(before.gpuEncryptedBytes + 3 * 4);
    expect(pushWait(m, push)).toBe(NV_OK);
  });

  it('is of as many bytes as the push has, and the next push in the chunk begins at a multiple of 32', () => {
    const m = createConfComputingModel();
    channelManagerWait(m, 0);
    const offsets = Array.from({ length: 17 }, () => {
      const push = begin(m);
      push.duration += 1e9;
      pushEnd(m, push);
      expect(push.bytes).toBe(188);
      return push.offset;
    });
    expect(offsets.slice(0, 16).every((offset) => offset % 2 ** 20 === 0)).toBe(true);
    expect(offsets[16] % 2 ** 20).toBe(192);
  });

  it('that fails ends the waits for its push with the error of the WLC channel', () => {
    const m = createConfComputingModel();
    channelManagerWait(m, 0);
    channelInjectError(m, 0, 'WLC', 1);
    const push = begin(m);
    pushEnd(m, push);
    expect(m.globalStatus).toBe(NV_ERR_RC_ERROR);
    expect(managerOf(m).fatalEntry).toMatchObject({ purpose: PURPOSE_LAUNCH });
    expect(push.finish).toBe(Infinity);
    expect(pushWait(m, push)).toBe(NV_ERR_RC_ERROR);
  });

  it('encrypts the push for its callback', () => {
    const m = createConfComputingModel();
    const push = begin(m);
    m.res.pushCallbacks.push(() => {});
    push.onComplete = m.res.pushCallbacks.length - 1;
    const before = countsOf(m).gpuEncryptions;
    pushEnd(m, push);
    expect(countsOf(m).gpuEncryptions).toBe(before + 4);
  });

  it('waits until the LCIC channel is idle', () => {
    const m = createConfComputingModel({ costs: { memopsBase: 50000 } });
    channelManagerWait(m, 0);
    const launches = watched(m);
    for (let i = 0; i < 9; i++) pushEnd(m, begin(m));
    pushEnd(m, begin(m));
    const [last, next] = launches.slice(-2);
    expect(next.launchChannel).toBe(last.launchChannel);
    expect(next.begin).toBeLessThan(last.lcicFinish);
    expect(next.idle).toBe(last.lcicFinish + m.cost.trackerPoll);
    // The others had been at rest.
    expect(launches[1].idle - launches[1].begin).toBe(m.cost.pushBase + m.cost.pushMethod * 10);
  });

  it('comes back to the channel that was seen to be done, once each has been used', () => {
    const m = createConfComputingModel();
    channelManagerWait(m, 0);
    const launches = watched(m);
    for (let i = 0; i < 12; i++) pushEnd(m, begin(m));
    const [first] = channelsOf(m, CHANNEL_TYPE_WLC);
    expect(launches.map(({ launchChannel }) => launchChannel - first.id)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0]);
  });
});
