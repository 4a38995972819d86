import { describe, expect, it } from 'vitest';
import { createChannelModel } from '../../../test/support/channel_model.ts';
import { createPrng, prngNext } from '../../base/prng.ts';
import type { Model } from '../state.ts';
import { CHANNEL_NONE, channelFinishTime, channelUpdateCompletedValue } from './channel.ts';
import {
  PURPOSE_TEST,
  type Push,
  pushAcquireTracker,
  pushBeginOnChannel,
  pushEnd,
  pushMemset,
  pushTlbInvalidate,
} from './push.ts';
import { NV_ERR_INVALID_STATE, NV_OK, NV_WARN_MORE_PROCESSING_REQUIRED } from './status.ts';
import {
  type Tracker,
  trackerAddEntry,
  trackerAddPush,
  trackerAddTracker,
  trackerCheckErrors,
  trackerClear,
  trackerFinishTime,
  trackerInitFrom,
  trackerIsCompleted,
  trackerIsEntryCompleted,
  trackerOverwrite,
  trackerOverwriteWithEntry,
  trackerOverwriteWithPush,
  trackerQuery,
  trackerRemoveCompleted,
  trackerSize,
  trackerWait,
  trackerWaitForEntry,
  trackerWaitForOtherGpus,
} from './tracker.ts';

function channelIds(m: Model): number[] {
  return m.gpus.flatMap((gpu) => gpu.channelManager.channels.map((channel) => channel.id));
}

/** Starts something on the channel that lasts for a very long time. */
function longPush(m: Model, channel: number): Tracker {
  const push = pushBeginOnChannel(m, channel, PURPOSE_TEST);
  pushMemset(m, push, 1, 0, 1e8);
  pushEnd(m, push);
  return [push.channel, push.trackingValue];
}

/** A push on the channel that takes 260 on the host, behind what is in the tracker. */
function testPush(m: Model, channel: number, acquire: Tracker = []): Push {
  const push = pushBeginOnChannel(m, channel, PURPOSE_TEST);
  pushAcquireTracker(m, push, acquire);
  pushTlbInvalidate(m, push, 0, 512, true, true);
  pushEnd(m, push);
  return push;
}

function expectCompleted(m: Model, t: Tracker): void {
  const now = m.k.now;
  expect(trackerQuery(m, t)).toBe(NV_OK);
  expect(trackerIsCompleted(m, t)).toBe(true);
  expect(trackerWait(m, t)).toBe(NV_OK);
  expect(trackerCheckErrors(m, [])).toBe(NV_OK);
  expect(t).toEqual([]);
  expect(m.k.now).toBe(now);
}

function pairs(t: Tracker): string[] {
  const list: string[] = [];
  for (let i = 0; i < t.length; i += 2) list.push(`${t[i]}:${t[i + 1]}`);
  return list.sort();
}

describe('entries', () => {
  it('are one for each channel, the highest value', () => {
    const m = createChannelModel();
    const t: Tracker = [];
    expectCompleted(m, t);
    const steps = [
      [1, 1],
      [1, 1],
      [10, 10],
      [5, 10],
    ];
    for (const [value, kept] of steps) {
      trackerAddEntry(t, 3, value);
      expect(t).toEqual([3, kept]);
      expect(trackerSize(t)).toBe(1);
    }
    trackerClear(t);
    expectCompleted(m, t);
  });

  it('of completed pushes count until somebody asks', () => {
    const m = createChannelModel({ gpus: 2, contents: false });
    const t: Tracker = [];
    for (const id of channelIds(m)) trackerAddEntry(t, id, channelUpdateCompletedValue(m, id));
    expect(trackerSize(t)).toBe(32);
    expectCompleted(m, t);
  });

  it('of one push on each channel are as many as channels, and none after a wait', () => {
    const m = createChannelModel({ gpus: 2, contents: false });
    const t: Tracker = [];
    for (const id of channelIds(m)) trackerAddPush(t, testPush(m, id));
    expect(trackerSize(t)).toBe(32);
    const last = trackerFinishTime(m, t);
    expect(trackerWait(m, t)).toBe(NV_OK);
    expect(m.k.now).toBe(last + 7);
    expectCompleted(m, t);
    expect(m.gpus.map((gpu) => gpu.channelManager.host.pushesRun)).toEqual([16, 16]);
  });

  it('complete one by one', () => {
    const m = createChannelModel({ gpus: 2, contents: false });
    const t: Tracker = [];
    const finishes: number[] = [];
    let before: Tracker = longPush(m, 0);
    for (const id of channelIds(m)) {
      const push = testPush(m, id, before);
      before = [id, push.trackingValue];
      trackerAddPush(t, push);
      finishes.push(push.finish);
    }
    finishes.forEach((finish, i) => {
      m.k.now = finish - 1;
      expect(trackerQuery(m, t)).toBe(NV_WARN_MORE_PROCESSING_REQUIRED);
      expect(trackerIsCompleted(m, t)).toBe(false);
      expect(trackerSize(t)).toBe(32 - i);
      m.k.now = finish;
      trackerRemoveCompleted(m, t);
      expect(trackerSize(t)).toBe(31 - i);
    });
    expectCompleted(m, t);
  });

  it('without a channel are complete', () => {
    const m = createChannelModel();
    expect(trackerIsEntryCompleted(m, CHANNEL_NONE, 99)).toBe(true);
    expect(trackerWaitForEntry(m, CHANNEL_NONE, 99)).toBe(NV_OK);
    expect(m.k.now).toBe(0);
  });
});

describe('copies and unions', () => {
  it('overwrite and init_from copy all entries and share nothing', () => {
    const m = createChannelModel({ gpus: 2, contents: false });
    const t: Tracker = [0, 1];
    const copy = trackerInitFrom(t);
    expect(copy).toEqual([0, 1]);
    trackerOverwriteWithEntry(copy, 0, 2);
    expect([t, copy]).toEqual([
      [0, 1],
      [0, 2],
    ]);
    for (const id of channelIds(m)) trackerAddEntry(t, id, id + 5);
    trackerOverwrite(copy, t);
    expect(copy).toEqual(t);
    trackerAddEntry(copy, 0, 99);
    expect(t[1]).toBe(5);
    trackerOverwriteWithPush(t, testPush(m, 4));
    expect(t).toEqual([4, 1]);
    trackerOverwrite(t, t);
    expect(t).toEqual([4, 1]);
  });

  it('add_tracker gives the union with the highest values', () => {
    const a: Tracker = [1, 10, 2, 20];
    trackerAddTracker(a, []);
    trackerAddTracker(a, a);
    expect(a).toEqual([1, 10, 2, 20]);
    trackerAddTracker(a, [2, 25, 1, 5, 3, 30]);
    expect(pairs(a)).toEqual(['1:10', '2:25', '3:30']);
  });

  it('agree with a map over random operations', () => {
    const prng = createPrng(11);
    const t: Tracker = [];
    const model = new Map<number, number>();
    for (let i = 0; i < 2000; i++) {
      if (prngNext(prng) % 200 === 0) {
        trackerClear(t);
        model.clear();
      }
      const channel = prngNext(prng) % 40;
      const value = prngNext(prng);
      trackerAddEntry(t, channel, value);
      model.set(channel, Math.max(value, model.get(channel) ?? 0));
      expect(pairs(t)).toEqual([...model].map(([c, v]) => `${c}:${v}`).sort());
    }
  });

  it('a hole is filled by the last entry', () => {
    const m = createChannelModel();
    const t: Tracker = [];
    for (let channel = 0; channel < 4; channel++) {
      m.k.now = channel * 10000;
      trackerAddPush(t, testPush(m, channel));
    }
    m.k.now = 15000;
    trackerRemoveCompleted(m, t);
    expect(t).toEqual([3, 1, 2, 1]);
  });
});

describe('wait', () => {
  it('ends at the finish of the last entry, plus the poll', () => {
    const m = createChannelModel();
    const t: Tracker = [];
    const finishes = [0, 2, 4].map((channel) => {
      const push = testPush(m, channel);
      trackerAddPush(t, push);
      return push.finish;
    });
    expect(trackerFinishTime(m, t)).toBe(Math.max(...finishes));
    expect(trackerWait(m, t)).toBe(NV_OK);
    expect(m.k.now).toBe(Math.max(...finishes) + 7);
    expect(t).toEqual([]);
  });

  it('polls at the last nanosecond, and not once all is done', () => {
    for (const early of [1, 0]) {
      const m = createChannelModel();
      const push = testPush(m, 0);
      const t = [push.channel, push.trackingValue];
      m.k.now = push.finish - early;
      trackerWait(m, t);
      expect(m.k.now).toBe(push.finish + (early === 1 ? 7 : 0));
      expect(m.gpus[0].channelManager.host.pushesRun).toBe(1);
    }
  });

  it('for one entry does not wait for others', () => {
    const m = createChannelModel();
    const first = testPush(m, 0);
    const firstFinish = first.finish;
    const second = testPush(m, 0);
    expect(trackerWaitForEntry(m, 0, 1)).toBe(NV_OK);
    expect(m.k.now).toBe(firstFinish + 7);
    expect(trackerIsEntryCompleted(m, 0, 1)).toBe(true);
    expect(trackerIsEntryCompleted(m, 0, second.trackingValue)).toBe(false);
  });

  it('for other GPUs leaves the entries of one', () => {
    const m = createChannelModel({ gpus: 3, contents: false });
    const t = longPush(m, 2);
    const other = [64, 128].map((channel) => {
      const push = testPush(m, channel);
      trackerAddPush(t, push);
      return push.finish;
    });
    expect(trackerWaitForOtherGpus(m, t, 0)).toBe(NV_OK);
    expect(m.k.now).toBe(other[1] + 7);
    expect(t).toEqual([2, 1]);
  });

  it('after a fatal error fails for what is not done and empties the tracker', () => {
    const m = createChannelModel();
    const first = testPush(m, 0);
    const firstFinish = first.finish;
    testPush(m, 0);
    m.globalStatus = NV_ERR_INVALID_STATE;
    m.k.now = firstFinish;
    expect(trackerWait(m, [0, 1])).toBe(NV_OK);
    expect(trackerWaitForEntry(m, 0, 1)).toBe(NV_OK);
    const t: Tracker = [0, 2];
    expect(trackerQuery(m, t)).toBe(NV_ERR_INVALID_STATE);
    expect(t).toEqual([0, 2]);
    expect(trackerWaitForEntry(m, 0, 2)).toBe(NV_ERR_INVALID_STATE);
    expect(trackerWait(m, t)).toBe(NV_ERR_INVALID_STATE);
    expect(t).toEqual([]);
    const others: Tracker = [0, 2];
    expect(trackerWaitForOtherGpus(m, others, 1)).toBe(NV_ERR_INVALID_STATE);
    expect(others).toEqual([]);
    expect(m.k.now).toBe(firstFinish);
  });

  it('refuses a value that was never submitted', () => {
    const m = createChannelModel();
    expect(() => channelFinishTime(m, 0, 1)).toThrow('never submitted');
  });
});
