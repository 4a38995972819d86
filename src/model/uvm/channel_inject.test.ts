import { describe, expect, it } from 'vitest';
import { COSTS, createChannelModel } from '../../../test/support/channel_model.ts';
import { contentsRead, contentsWrite } from '../gpu/contents.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_TYPE_CPU_TO_GPU,
  channelAvailableGpfifoEntries,
  channelGet,
  channelManagerUpdateProgress,
  channelManagerWait,
  channelUpdateProgressAll,
  channelWait,
} from './channel.ts';
import {
  channelInjectBlock,
  channelInjectError,
  channelInjectStuckSemaphore,
  gpuInjectEccError,
  InjectError,
} from './channel_inject.ts';
import {
  PURPOSE_MAP,
  PURPOSE_TEST,
  type Push,
  pushBegin,
  pushBeginAcquire,
  pushBeginOnChannel,
  pushCallbackRegister,
  pushEnd,
  pushEndAndWait,
  pushMemset,
} from './push.ts';
import { PUSH_END_BYTES, PUSH_SIZE_MAX } from './push_bytes.ts';
import { EndlessWaitError, SPIN_LOOP_REPORT_NS } from './spin_loop.ts';
import { NV_ERR_ECC_ERROR, NV_ERR_RC_ERROR, NV_OK, NV_WARN_MORE_PROCESSING_REQUIRED } from './status.ts';
import {
  type Tracker,
  trackerAddEntry,
  trackerAddPush,
  trackerIsEntryCompleted,
  trackerQuery,
  trackerWait,
  trackerWaitForEntry,
  trackerWaitForOtherGpus,
} from './tracker.ts';

const PAGE = 2 ** 34;
const POLL = COSTS.trackerPoll;

/** Begins and ends a push that sets page PAGE + `page` of GPU 1's memory to zero; its words are 1 before. */
function add(m: Model, channel: number, page = 0, purpose = PURPOSE_TEST, onComplete = -1): Push {
  if (m.contents !== null) contentsWrite(m.contents, 1, PAGE + page, 0, 1);
  const push = pushBeginOnChannel(m, channel, purpose);
  push.onComplete = onComplete;
  push.onCompleteData = page;
  pushMemset(m, push, 1, PAGE + page, 1);
  pushEnd(m, push);
  return push;
}

const word = (m: Model, page: number): number =>
  contentsRead(m.contents as NonNullable<Model['contents']>, 1, PAGE + page, 0);

describe('an error of a channel', () => {
  it('stops the push and what is behind it; a wait finds it, names the push and empties its tracker', () => {
    const m = createChannelModel();
    const completed: number[] = [];
    const kind = pushCallbackRegister(m, (_m, _channel, _value, data) => completed.push(data));
    add(m, 0, 0, PURPOSE_TEST, kind);
    channelInjectError(m, 0, 0, 2);
    for (let i = 1; i < 5; i++) add(m, 0, i, i === 2 ? PURPOSE_MAP : PURPOSE_TEST, kind);
    const { errorTime } = m.gpus[0].channelManager.host.channels[0];
    const done: Tracker = [0, 2];
    const failed: Tracker = [0, 3];
    m.k.now = errorTime - 1;
    expect(trackerQuery(m, failed)).toBe(NV_WARN_MORE_PROCESSING_REQUIRED);
    expect(trackerWait(m, failed)).toBe(NV_ERR_RC_ERROR);
    expect(m.k.now).toBe(errorTime + POLL);
    expect(failed).toEqual([]);
    expect(m.globalStatus).toBe(NV_ERR_RC_ERROR);
    expect(m.gpus[0].channelManager.fatalEntry).toEqual({
      channel: 0,
      value: 3,
      purpose: PURPOSE_MAP,
      status: NV_ERR_RC_ERROR,
      time: errorTime + POLL,
    });
    // To name the push all that is complete was collected: nothing that ran before is lost, nothing later runs.
    expect(completed).toEqual([0, 1]);
    m.k.now += 1e9;
    expect([0, 1, 2, 3, 4].map((page) => word(m, page))).toEqual([0, 0, 1, 1, 1]);
    expect(trackerWait(m, done)).toBe(NV_OK);
    expect(trackerIsEntryCompleted(m, 0, 3)).toBe(false);
    expect(trackerWaitForEntry(m, 0, 3)).toBe(NV_ERR_RC_ERROR);
    expect(channelManagerWait(m, 0)).toBe(NV_ERR_RC_ERROR);
    expect(channelWait(m, 0)).toBe(NV_ERR_RC_ERROR);
    // Another channel works, and what it has done counts as complete.
    const other = add(m, 5, 9);
    m.k.now = other.finish;
    expect(trackerWaitForEntry(m, 5, other.trackingValue)).toBe(NV_OK);
    expect(word(m, 9)).toBe(0);
    expect(m.gpus[0].channelManager.fatalEntry?.value).toBe(3);
  });

  it('on every channel after 512 good pushes is found by a wait for the GPU', () => {
    const m = createChannelModel({ copyEngines: 4, contents: false });
    for (const { id } of m.gpus[0].channelManager.channels) {
      for (let i = 0; i < 512; i++) add(m, id);
      channelInjectError(m, 0, id, 1);
      add(m, id);
    }
    expect(channelManagerWait(m, 0)).toBe(NV_ERR_RC_ERROR);
    const { fatalEntry, channels } = m.gpus[0].channelManager;
    expect(fatalEntry?.value).toBe(513);
    m.k.now = 1e9;
    for (const { id } of channels) expect(channelUpdateProgressAll(m, id)).toBe(1);
  });

  it('ends a wait for other channels too, at once', () => {
    const m = createChannelModel({ gpus: 2, costs: { memsetBase: 1_000_000 } });
    channelInjectError(m, 0, 'CPU_TO_GPU', 1);
    const failed = pushBegin(m, 0, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TEST);
    pushEnd(m, failed);
    const long = add(m, 64);
    const tracker: Tracker = [];
    trackerAddPush(tracker, long);
    trackerAddPush(tracker, failed);
    expect(trackerWait(m, tracker)).toBe(NV_ERR_RC_ERROR);
    expect(m.k.now).toBeLessThan(long.finish);
    expect(tracker).toEqual([]);
    trackerAddEntry(tracker, 0, 1);
    trackerAddEntry(tracker, 64, 1);
    expect(trackerWaitForOtherGpus(m, tracker, 1)).toBe(NV_ERR_RC_ERROR);
    expect(tracker).toEqual([]);
  });

  it('reads as an ECC error when there is one', () => {
    const m = createChannelModel();
    gpuInjectEccError(m, 0, 2);
    channelInjectError(m, 0, 0, 3);
    for (let i = 0; i < 3; i++) add(m, 0, i);
    expect(trackerWait(m, [0, 2])).toBe(NV_OK);
    expect(m.globalStatus).toBe(NV_OK);
    expect(trackerWait(m, [0, 3])).toBe(NV_ERR_ECC_ERROR);
    expect(m.globalStatus).toBe(NV_ERR_ECC_ERROR);
    expect(m.gpus[0].channelManager.fatalEntry?.status).toBe(NV_ERR_ECC_ERROR);
  });

  it('is not looked for by a wait for what only waits for the channel: that would never end', () => {
    const m = createChannelModel();
    channelInjectError(m, 0, 0, 1);
    const failed = add(m, 0);
    const behind = pushBeginAcquire(m, 0, CHANNEL_TYPE_CPU_TO_GPU + 3, PURPOSE_TEST, [0, failed.trackingValue]);
    pushMemset(m, behind, 1, PAGE + 1, 1);
    expect(() => pushEndAndWait(m, behind)).toThrow(/gpu0 channel 0 has an error that this wait does not look for/);
    // The engine is not taken by it.
    const engine = add(m, behind.channel + 1, 2);
    expect(engine.start).toBe(engine.end + COSTS.pushLatency);
  });
});

describe('a tracking semaphore that stands still', () => {
  it('lets the push run, and a wait never end; the driver reports it after 30 seconds', () => {
    const m = createChannelModel();
    add(m, 0, 0);
    channelInjectStuckSemaphore(m, 0, 0, 2);
    for (let i = 1; i < 4; i++) add(m, 0, i);
    expect(trackerWait(m, [0, 2])).toBe(NV_OK);
    const since = m.k.now;
    const wait = (): unknown => trackerWait(m, [0, 3]);
    expect(wait).toThrow(EndlessWaitError);
    expect(m.k.now).toBe(since + SPIN_LOOP_REPORT_NS);
    expect(m.gpus[0].channelManager.spinReports).toEqual([
      { place: 'uvm_tracker_wait', since, last: m.k.now, reports: 1 },
    ]);
    expect(wait).toThrow(`the driver would spin for ever: since ${since + SPIN_LOOP_REPORT_NS} ns`);
    expect(wait).toThrow('uvm_tracker_wait waits for gpu0 channel 0 (2 of 4 pushes completed)');
    expect(() => channelManagerWait(m, 0)).toThrow('uvm_channel_manager_wait');
    // The pushes ran.
    expect([1, 2, 3].map((page) => word(m, page))).toEqual([0, 0, 0]);
    expect(m.globalStatus).toBe(NV_OK);
    expect(m.gpus[0].channelManager.fatalEntry).toBe(null);
  });
});

describe('a blocked GPU', () => {
  it('makes a long wait that ends well, with a report every 30 seconds', () => {
    const m = createChannelModel();
    channelInjectBlock(m, 0, 0, 95e9);
    const push = add(m, 0);
    const since = m.k.now;
    expect(trackerWait(m, [0, 1])).toBe(NV_OK);
    expect(m.k.now).toBe(push.finish + POLL);
    expect(push.start).toBe(95e9);
    expect(m.gpus[0].channelManager.spinReports).toEqual([
      { place: 'uvm_tracker_wait', since, last: since + 90e9, reports: 3 },
    ]);
  });

  it('fills a GPFIFO: a begin waits for the first completion, counted as one wait', () => {
    const m = createChannelModel({ copyEngines: 1 });
    for (const channel of [0, 1]) channelInjectBlock(m, 0, channel, 40e9);
    for (let i = 0; i < 62; i++) add(m, Math.floor(i / 31), i);
    const since = m.k.now;
    const push = pushBegin(m, 0, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TEST);
    expect(push.status).toBe(NV_OK);
    // The engine runs one push at a time, that of channel 0 first.
    expect(push.begin).toBe(40e9 + 401 + POLL);
    expect(word(m, 0)).toBe(0);
    expect(m.gpus[0].channelManager.spinReports).toEqual([
      { place: 'channel_reserve_in_pool', since, last: since + 30e9, reports: 1 },
    ]);
    pushEnd(m, push);
    expect(channelManagerWait(m, 0)).toBe(NV_OK);
    expect(Array.from({ length: 62 }, (_, i) => word(m, i))).toEqual(new Array(62).fill(0));
  });

  it('for ever makes a begin fail clearly instead of hanging', () => {
    const m = createChannelModel({ copyEngines: 1 });
    for (const channel of [0, 1]) channelInjectBlock(m, 0, channel, Infinity);
    for (let i = 0; i < 62; i++) add(m, Math.floor(i / 31), i);
    expect(() => pushBegin(m, 0, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TEST)).toThrow('; gpu0 channel 1 is blocked');
    expect(() => pushBeginOnChannel(m, 1, PURPOSE_TEST)).toThrow(
      'uvm_channel_reserve waits for gpu0 channel 1 (0 of 31',
    );
  });

  it('with an error: a begin on the full channel has the status, and one on another works', () => {
    const m = createChannelModel({ copyEngines: 2 });
    channelInjectError(m, 0, 0, 3);
    for (let i = 0; i < 33; i++) add(m, 0, i % 40);
    // Two were collected; 31 are pending and will be.
    const failed = pushBeginOnChannel(m, 0, PURPOSE_TEST);
    expect(failed.status).toBe(NV_ERR_RC_ERROR);
    expect(failed.open).toBe(false);
    expect(() => pushEnd(m, failed)).toThrow('a push ends once');
    expect(channelAvailableGpfifoEntries(channelGet(m, 0))).toBe(0);
    // A pool gives its other channel away before it looks at errors.
    const other = pushBegin(m, 0, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TEST);
    expect([other.status, other.channel]).toEqual([NV_OK, 1]);
    pushEnd(m, other);
    expect(pushBeginAcquire(m, 0, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TEST, [1, 1]).status).toBe(NV_OK);
  });
});

describe('a full pushbuffer', () => {
  const fill = (m: Model): void => {
    for (let i = 0; i < 128; i++) {
      const push = pushBeginOnChannel(m, 0, PURPOSE_TEST);
      push.bytes = PUSH_SIZE_MAX - PUSH_END_BYTES;
      pushEnd(m, push);
    }
  };

  it('of a GPU that is blocked waits, and the same again', () => {
    const m = createChannelModel({ numGpfifoEntries: 256, copyEngines: 2 });
    channelInjectBlock(m, 0, 0, 31e9);
    fill(m);
    const since = m.k.now;
    const push = pushBeginOnChannel(m, 3, PURPOSE_TEST);
    expect([push.status, push.begin]).toEqual([NV_OK, 31e9 + POLL]);
    expect(m.gpus[0].channelManager.spinReports).toEqual([
      { place: 'uvm_pushbuffer_begin_push', since, last: since + 30e9, reports: 1 },
    ]);
    pushEnd(m, push);
    expect(channelManagerUpdateProgress(m, 0)).toBeGreaterThan(0);
  });

  it('of a channel with an error makes a begin fail, and gives its reservation back', () => {
    const m = createChannelModel({ numGpfifoEntries: 256, copyEngines: 2 });
    channelInjectError(m, 0, 0, 1);
    fill(m);
    const failed = pushBeginOnChannel(m, 3, PURPOSE_TEST);
    expect(failed.status).toBe(NV_ERR_RC_ERROR);
    expect(channelAvailableGpfifoEntries(channelGet(m, 3))).toBe(255);
    expect(m.gpus[0].channelManager.pushbuffer.freeCount).toBe(16);
  });
});

describe('an injection', () => {
  it('names the argument that is wrong, its value and the choices', () => {
    const m = createChannelModel({ copyEngines: 2 });
    expect(() => channelInjectError(m, 2, 0, 1)).toThrow(new InjectError('gpu is 2, and GPUs are numbered 0 to 0'));
    expect(() => channelInjectError(m, 0, 4, 1)).toThrow(
      'channel is 4, and channels of GPU 0 are 0 to 3, or one of CPU',
    );
    expect(() => channelInjectError(m, 0, 'COPY', 1)).toThrow('channel is COPY');
    expect(() => channelInjectStuckSemaphore(m, 0, 0, 0)).toThrow('nth is 0');
    expect(() => channelInjectBlock(m, 0, 0, Number.NaN)).toThrow('until is NaN');
    expect(() => gpuInjectEccError(m, 0, 1.5)).toThrow('nth is 1.5');
  });
});
