/** After the control entries of the driver's uvm_channel_test.c, and tighter. */
import { describe, expect, it } from 'vitest';
import { createChannelModel } from '../../../test/support/channel_model.ts';
import { createConfComputingModel } from '../../../test/support/conf_computing_model.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_POOL_TYPE_CE,
  CHANNEL_POOL_TYPE_LCIC,
  CHANNEL_POOL_TYPE_WLC,
  CHANNEL_TYPE_WLC,
  type Channel,
  channelAvailableGpfifoEntries,
  channelGet,
  channelManagerWait,
  channelRecentPushes,
  channelUpdateProgressAll,
  GPFIFO_ENTRY_CONTROL,
  GPFIFO_KIND,
  GPFIFO_TRACKING_VALUE,
  GPFIFO_WORDS,
} from './channel.ts';
import { channelWriteCtrlGpfifo } from './channel_control.ts';
import { channelInjectBlock, channelInjectError, rmInjectBusy } from './channel_inject.ts';
import { channelRemainingEncryptions, confComputingOf } from './conf_computing.ts';
import {
  PURPOSE_CHANNEL_INIT,
  PURPOSE_CONTROL,
  PURPOSE_TEST,
  type Push,
  pushBeginOnChannel,
  pushCallbackRegister,
  pushEnd,
  pushEndAndWait,
  pushTlbInvalidate,
  pushWait,
} from './push.ts';
import { NV_ERR_RC_ERROR, NV_OK } from './status.ts';

const ENTRIES = 32;
const plain = () => createChannelModel({ gpus: 2, copyEngines: 3, numGpfifoEntries: ENTRIES });
const secure = () => createConfComputingModel({ gpus: 2, copyEngines: 5, numGpfifoEntries: ENTRIES });
const MACHINES: [string, () => Model][] = [
  ['without Confidential Computing', plain],
  ['with it', secure],
];

/** The channels that take control entries once they are set up: all but those of launches. */
function takers(m: Model): Channel[] {
  return m.gpus.flatMap(({ channelManager: { channels, pools } }) =>
    channels.filter(({ pool }) => ![CHANNEL_POOL_TYPE_WLC, CHANNEL_POOL_TYPE_LCIC].includes(pools[pool].poolType)),
  );
}

function invalidate(m: Model, channel: Channel, onComplete = -1, data = 0): Push {
  const push = pushBeginOnChannel(m, channel.id, PURPOSE_TEST);
  pushTlbInvalidate(m, push, 0, 1, true, false);
  push.onComplete = onComplete;
  push.onCompleteData = data;
  return push;
}

const pending = ({ cpuPut, gpuGet, numGpfifoEntries }: Channel) => (cpuPut - gpuGet) & (numGpfifoEntries - 1);
const kinds = (channel: Channel, first: number, count: number) =>
  Array.from({ length: count }, (_, i) => {
    const at = ((first + i) & (channel.numGpfifoEntries - 1)) * GPFIFO_WORDS;
    return [channel.gpfifoEntries[at + GPFIFO_KIND], channel.gpfifoEntries[at + GPFIFO_TRACKING_VALUE]];
  });

describe('control entries', () => {
  it('take a place each, and are complete with the empty push behind them', () => {
    const m = plain();
    const channel = channelGet(m, 0);
    channelInjectBlock(m, 0, 0, 1e6);
    expect(channelWriteCtrlGpfifo(m, 0)).toBe(NV_OK);
    expect(channelWriteCtrlGpfifo(m, 0)).toBe(NV_OK);
    expect(kinds(channel, 0, 4)).toEqual([
      [GPFIFO_ENTRY_CONTROL, 1],
      [0, 1],
      [GPFIFO_ENTRY_CONTROL, 2],
      [0, 2],
    ]);
    expect([channel.trackingSem.queuedValue, channelAvailableGpfifoEntries(channel)]).toEqual([2, ENTRIES - 1 - 4]);
    expect(channelUpdateProgressAll(m, 0)).toBe(4);
    m.k.now = 1e6;
    expect(channelUpdateProgressAll(m, 0)).toBe(0);
    expect([channel.gpuGet, channelAvailableGpfifoEntries(channel)]).toEqual([4, ENTRIES - 1]);
  });

  it.each(MACHINES)('as many as eight rings of them go through every channel, %s', (_name, create) => {
    const m = create();
    for (const gpu of m.gpus) channelManagerWait(m, gpu.index);
    for (const channel of takers(m)) {
      const { queuedValue } = channel.trackingSem;
      const { cpuPut } = channel;
      const count = 8 * ENTRIES + 3;
      for (let i = 0; i < count; i++) expect(channelWriteCtrlGpfifo(m, channel.id)).toBe(NV_OK);
      expect(channelManagerWait(m, channel.gpu)).toBe(NV_OK);
      // A SEC2 channel launches nothing for others meanwhile.
      expect(channel.trackingSem).toMatchObject({
        queuedValue: queuedValue + count,
        completedValue: queuedValue + count,
      });
      expect(channel.cpuPut).toBe((cpuPut + 2 * count) % ENTRIES);
      expect([channel.gpuGet, channel.currentGpfifoCount]).toEqual([channel.cpuPut, 0]);
    }
  });

  it.each(MACHINES)('and pushes in turns: none is lost, each callback runs once and in order, %s', (_name, create) => {
    const m = create();
    const seen = new Map<number, number[]>();
    const kind = pushCallbackRegister(m, (_m, channel, _value, data) => seen.get(channel)?.push(data));
    for (const channel of takers(m)) {
      seen.set(channel.id, []);
      const invalidates = m.gpus[channel.gpu].channelManager.host.tlbInvalidates;
      let last: Push | null = null;
      for (let i = 0; i < 8 * ENTRIES; i++) {
        if (i % 2 === 0) expect(channelWriteCtrlGpfifo(m, channel.id)).toBe(NV_OK);
        else {
          last = invalidate(m, channel, kind, i);
          pushEnd(m, last);
        }
      }
      expect(last === null ? -1 : pushWait(m, last)).toBe(NV_OK);
      channelUpdateProgressAll(m, channel.id);
      expect(seen.get(channel.id)).toEqual(Array.from({ length: 4 * ENTRIES }, (_, i) => 2 * i + 1));
      expect(m.gpus[channel.gpu].channelManager.host.tlbInvalidates).toBe(invalidates + 4 * ENTRIES);
    }
  });

  it('fit while exactly two entries are free and the GPU is blocked, and wait for two while one is', () => {
    const m = plain();
    const channel = channelGet(m, 0);
    const until = 1e7;
    channelInjectBlock(m, 0, 0, until);
    const first = invalidate(m, channel);
    first.duration += 1000;
    pushEnd(m, first);
    const { finish } = first;
    channelUpdateProgressAll(m, 0);
    for (let i = 0; i < ENTRIES - 4; i++) pushEnd(m, invalidate(m, channel));
    expect(channelAvailableGpfifoEntries(channel)).toBe(2);
    expect(channelWriteCtrlGpfifo(m, 0)).toBe(NV_OK);
    expect(m.k.now).toBeLessThan(until);
    expect(channelAvailableGpfifoEntries(channel)).toBe(0);
    // The next one needs two completions, and the first of them is later.
    expect(channelWriteCtrlGpfifo(m, 0)).toBe(NV_OK);
    expect(finish).toBeGreaterThan(until);
    expect(m.k.now).toBeGreaterThan(finish);
    expect(pending(channel)).toBeGreaterThan(ENTRIES - 8);
    expect(channelManagerWait(m, 0)).toBe(NV_OK);
    expect(channelAvailableGpfifoEntries(channel)).toBe(ENTRIES - 1);
  });

  it('are no pushes: who watches pushes is told of the empty ones alone, and records leave them out', () => {
    const m = plain();
    const told: number[][] = [];
    m.res.pushWatch = {
      ended: (_m, push, gpfifo) => told.push([push.trackingValue, gpfifo]),
      collected: (_m, _channel, value) => told.push([value]),
    };
    channelWriteCtrlGpfifo(m, 0);
    pushEndAndWait(m, invalidate(m, channelGet(m, 0)));
    channelWriteCtrlGpfifo(m, 0);
    channelManagerWait(m, 0);
    expect(told).toEqual([[1, 1], [2, 2], [3, 4], [1], [2], [3]]);
    const recent = channelRecentPushes(m, 0, 8);
    expect(recent.map(({ value, purpose }) => [value, purpose])).toEqual([
      [3, PURPOSE_CONTROL],
      [2, PURPOSE_TEST],
      [1, PURPOSE_CONTROL],
    ]);
    expect(recent.every(({ collected }) => collected)).toBe(true);
  });

  it('ahead of a push that fails are the entry that is likely the cause', () => {
    const m = plain();
    pushEndAndWait(m, invalidate(m, channelGet(m, 0)));
    channelInjectError(m, 0, 0, 1);
    channelWriteCtrlGpfifo(m, 0);
    expect(channelManagerWait(m, 0)).toBe(NV_ERR_RC_ERROR);
    expect(m.gpus[0].channelManager.fatalEntry).toMatchObject({ channel: 0, value: 2, purpose: PURPOSE_CONTROL });
    // With the ring full of what never ends, there is no room for another one.
    for (let i = 0; i < 16; i++) if (channelWriteCtrlGpfifo(m, 0) !== NV_OK) return;
    expect('a full channel with an error').toBe('refused');
  });
});

describe('control entries with Confidential Computing', () => {
  it('come first on every channel, ahead of its first push', () => {
    // SEC2's ring holds all of set-up; the four entries of LCIC's have been used again.
    const m = createConfComputingModel({ copyEngines: 5, numGpfifoEntries: 64 });
    const { channels, pools } = m.gpus[0].channelManager;
    for (const channel of channels) {
      if (pools[channel.pool].poolType === CHANNEL_POOL_TYPE_LCIC) continue;
      expect(kinds(channel, 0, 2)).toEqual([
        [GPFIFO_ENTRY_CONTROL, 1],
        [0, 1],
      ]);
      if (pools[channel.pool].poolType !== CHANNEL_POOL_TYPE_CE) continue;
      // Nobody has looked for progress since.
      expect([channel.cpuPut, channel.gpuGet]).toEqual([2, 0]);
      expect(channelRecentPushes(m, channel.id, 3).map(({ purpose }) => purpose)).toEqual([PURPOSE_CHANNEL_INIT]);
    }
  });

  it('are launched on their own, before the push behind them', () => {
    const m = createConfComputingModel({ copyEngines: 5, numGpfifoEntries: ENTRIES });
    const [channel] = takers(m).filter(
      ({ pool }) => m.gpus[0].channelManager.pools[pool].poolType === CHANNEL_POOL_TYPE_CE,
    );
    const { counts } = confComputingOf(m.gpus[0].channelManager);
    const { launches } = counts;
    expect(channelWriteCtrlGpfifo(m, channel.id)).toBe(NV_OK);
    expect(counts.launches).toBe(launches + 2);
    // The channel is free again.
    pushEndAndWait(m, invalidate(m, channel));
    expect(counts.launches).toBe(launches + 3);
  });

  it('make sure of the IVs of both, however long the resource manager is busy', () => {
    const m = createConfComputingModel({ copyEngines: 5, numGpfifoEntries: ENTRIES });
    channelManagerWait(m, 0);
    const channel = m.gpus[0].channelManager.channels[0];
    const conf = confComputingOf(m.gpus[0].channelManager);
    conf.csl[channel.index].encryptUsed = 2 ** 32 - 1 - 100;
    rmInjectBusy(m, 0, 1);
    expect(channelWriteCtrlGpfifo(m, channel.id)).not.toBe(NV_OK);
    expect([channel.currentGpfifoCount, channelRemainingEncryptions(m, channel)]).toEqual([0, 100]);
    conf.csl[channel.index].encryptUsed = 2 ** 32 - 1 - 5000;
    rmInjectBusy(m, 0, 9);
    expect(channelWriteCtrlGpfifo(m, channel.id)).toBe(NV_OK);
    expect([conf.rmBusyCalls, conf.csl[channel.index].encryptRotations]).toEqual([0, 1]);
  });

  it('do not go to channels that launch', () => {
    const m = createConfComputingModel({ copyEngines: 5, numGpfifoEntries: ENTRIES });
    const { pools, poolForType } = m.gpus[0].channelManager;
    const [wlc] = pools[poolForType[CHANNEL_TYPE_WLC]].channels;
    expect(() => channelWriteCtrlGpfifo(m, wlc.id)).toThrow('schedule of its own');
  });
});
