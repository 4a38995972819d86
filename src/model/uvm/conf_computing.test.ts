import { describe, expect, it } from 'vitest';
import { createConfComputingModel } from '../../../test/support/conf_computing_model.ts';
import { secureIv, secureKey } from '../gpu/secure_copy.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_CPU_TO_GPU, CHANNEL_TYPE_SEC2, type Channel, channelManagerWait } from './channel.ts';
import {
  acquireEncryptionIv,
  channelRemainingDecryptions,
  channelRemainingEncryptions,
  confComputingOf,
  DMA_BUFFERS,
  dmaBufferAlloc,
  dmaBufferFree,
  logGpuEncryption,
  maybeRotateChannelIvs,
} from './conf_computing.ts';
import { PURPOSE_TEST, pushBegin, pushEnd, pushTlbInvalidate } from './push.ts';
import { createTracker, trackerAddPush, trackerSize } from './tracker.ts';

const ALL = 0xffffffff;

function firstChannel(m: Model, type: number): Channel {
  const manager = m.gpus[0].channelManager;
  return manager.pools[manager.poolForType[type]].channels[0];
}

describe('IVs of a channel', () => {
  /** A channel with so many IVs used in each direction since set-up, and how many it may use at most. */
  function used(encryptions: number, decryptions: number, limit: number, type = CHANNEL_TYPE_CPU_TO_GPU) {
    const m = createConfComputingModel({ parameters: { uvm_conf_computing_channel_iv_rotation_limit: limit } });
    const channel = firstChannel(m, type);
    const context = confComputingOf(m.gpus[0].channelManager).csl[channel.index];
    context.encryptUsed = encryptions;
    context.decryptUsed = decryptions;
    const left = () => [channelRemainingEncryptions(m, channel), channelRemainingDecryptions(m, channel)];
    return { m, channel, left };
  }

  it('are counted one by one, and none is given twice', () => {
    const { m, channel, left } = used(0, 0, 2 ** 31);
    expect(left()).toEqual([ALL, ALL]);
    expect([acquireEncryptionIv(m, channel), acquireEncryptionIv(m, channel)]).toEqual([1, 2]);
    expect(logGpuEncryption(m, channel, 4096)).toBe(1);
    expect(left()).toEqual([ALL - 2, ALL - 1]);
  });

  it('are new once no more than the limit are left, each direction by itself', () => {
    for (const [encryptions, decryptions] of [
      [0, 0],
      [1, 0],
      [0, 1],
    ]) {
      const { m, channel, left } = used(ALL - 5000 - 1 + encryptions, ALL - 5000 - 1 + decryptions, 5000);
      maybeRotateChannelIvs(m, channel);
      expect(left()).toEqual([encryptions === 1 ? ALL : 5001, decryptions === 1 ? ALL : 5001]);
      expect(acquireEncryptionIv(m, channel)).toBe(encryptions === 1 ? 2 ** 32 + 1 : ALL - 5000);
    }
  });

  it('wait for the pushes of the channel before they are new', () => {
    const { m, channel } = used(0, 0, 2 ** 31);
    channelManagerWait(m, 0);
    const push = pushBegin(m, 0, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TEST);
    pushTlbInvalidate(m, push, 0, 1, true, false);
    pushEnd(m, push);
    const before = m.k.now;
    maybeRotateChannelIvs(m, channel);
    expect(m.k.now).toBe(before);
    confComputingOf(m.gpus[0].channelManager).csl[channel.index].encryptUsed = 2 ** 31;
    maybeRotateChannelIvs(m, channel);
    expect(m.k.now).toBe(push.finish + m.cost.trackerPoll);
  });

  it('of SEC2 have one direction', () => {
    const { m, channel, left } = used(7, ALL - 10, 2 ** 31, CHANNEL_TYPE_SEC2);
    maybeRotateChannelIvs(m, channel);
    expect(left()).toEqual([ALL - 7, 10]);
  });

  it('differ by channel, direction, rotation and message; keys by GPU and pool', () => {
    const ivs = [secureIv(1, true, 1), secureIv(1, false, 1), secureIv(2, true, 1), secureIv(1, true, 2 ** 32 + 1)];
    expect(new Set([...ivs, secureIv(1, true, 2)].map(String)).size).toBe(5);
    expect(ivs.every((iv) => iv.length === 12)).toBe(true);
    const keys = [secureKey(0, 3), secureKey(0, 4), secureKey(1, 3), secureKey(0, 3)];
    expect(new Set(keys.map(String)).size).toBe(3);
    expect(keys[0]).toHaveLength(32);
  });
});

describe('staging buffers', () => {
  it('are taken oldest first, all but the one of the VA space, and doubled when none is free', () => {
    const m = createConfComputingModel();
    const { dma } = confComputingOf(m.gpus[0].channelManager);
    const taken = Array.from({ length: DMA_BUFFERS - 1 }, () => dmaBufferAlloc(m, 0, null));
    expect(taken).toEqual(Array.from({ length: DMA_BUFFERS - 1 }, (_, i) => i + 1));
    expect(dma.buffers).toHaveLength(DMA_BUFFERS);
    expect(dmaBufferAlloc(m, 0, null)).toBe(DMA_BUFFERS);
    expect(dma.buffers).toHaveLength(2 * DMA_BUFFERS);
    dmaBufferFree(m, 0, 5, null);
    dmaBufferFree(m, 0, 3, null);
    expect(dma.free.slice(-2)).toEqual([5, 3]);
  });

  it('hand what still uses them to the tracker of who takes them, or are waited for', () => {
    const m = createConfComputingModel();
    const { dma } = confComputingOf(m.gpus[0].channelManager);
    const push = pushBegin(m, 0, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TEST);
    push.duration += 1e6;
    pushEnd(m, push);
    const tracker = createTracker();
    trackerAddPush(tracker, push);
    const buffer = dmaBufferAlloc(m, 0, null);
    dma.free = [];
    dmaBufferFree(m, 0, buffer, tracker);
    const before = m.k.now;
    const taker = createTracker();
    expect(dmaBufferAlloc(m, 0, taker)).toBe(buffer);
    expect([trackerSize(taker), m.k.now]).toEqual([1, before]);
    dma.free = [buffer];
    expect(dmaBufferAlloc(m, 0, null)).toBe(buffer);
    expect(m.k.now).toBe(push.finish + m.cost.trackerPoll);
  });
});
