import { describe, expect, it } from 'vitest';
import { createChannelModel } from '../../../test/support/channel_model.ts';
import { makePte, PTE_BIG_UNMAPPED, PTE_INVALID, PTE_LEVEL_2M, PTE_LEVEL_4K, PTE_LEVEL_BIG } from '../gpu/mmu.ts';
import { CHANNEL_TYPE_CPU_TO_GPU, CHANNEL_TYPE_MEMOPS, channelManagerWait } from './channel.ts';
import {
  PURPOSE_TEST,
  type Push,
  pushBegin,
  pushBeginAcquire,
  pushBeginOnChannel,
  pushCancel,
  pushCopy,
  pushEnd,
  pushMemset,
  pushPte,
  pushReplay,
  pushTimestamp,
  pushTlbInvalidate,
} from './push.ts';
import { PUSH_END_BYTES, PUSH_SIZE_MAX } from './push_bytes.ts';
import { NV_OK } from './status.ts';
import { type Tracker, trackerAddPush } from './tracker.ts';

const PAGE = 2 ** 34;
const PTE = makePte(3, 1);

/** Bytes of a push of these methods. */
function bytesOf(fill: (m: ReturnType<typeof createChannelModel>, push: Push) => void): number {
  const m = createChannelModel();
  const push = pushBegin(m, 0, CHANNEL_TYPE_MEMOPS, PURPOSE_TEST);
  fill(m, push);
  pushEnd(m, push);
  return push.bytes;
}

describe('bytes of a push', () => {
  it('are 24 for the release of the tracking semaphore alone', () => {
    expect(bytesOf(() => {})).toBe(24);
  });

  it('are those of Hopper for each method', () => {
    const one = (fill: Parameters<typeof bytesOf>[0]): number => bytesOf(fill) - 24;
    // Words: 3 apertures, 5 offsets, 2 length, 2 launch; a memset has 4 constants, 2 for the scrubber, one offset.
    expect(one((m, push) => pushCopy(m, push, 1, 0, PAGE, 16, false))).toBe(4 * 12);
    expect(one((m, push) => pushCopy(m, push, 1, 0, PAGE, 16, true))).toBe(16 * 4 * 12);
    expect(one((m, push) => pushMemset(m, push, 1, PAGE, 16))).toBe(4 * 15);
    expect(one((m, push) => pushTlbInvalidate(m, push, PAGE, 512, false, true))).toBe(20);
    expect(one((m, push) => pushReplay(m, push, 0))).toBe(20);
    expect(one((m, push) => pushCancel(m, push, PAGE, 0, 0))).toBe(20);
  });

  it('count a timestamp with its 16 aligned bytes, wherever the push begins', () => {
    const m = createChannelModel();
    const sizes: number[] = [];
    for (let i = 0; i < 16; i++) pushEnd(m, pushBegin(m, 0, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TEST));
    for (let i = 0; i < 4; i++) {
      const push = pushBegin(m, 0, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TEST);
      pushTimestamp(m, push);
      // The data lies behind a header and before the release: at the first multiple of 16.
      expect((push.offset + push.bytes - 24) % 16).toBe(0);
      pushTimestamp(m, push);
      expect((push.offset + push.bytes - 24) % 16).toBe(0);
      pushEnd(m, push);
      expect(push.offset).toBeGreaterThan(0);
      sizes.push(push.bytes);
    }
    // From 24 on a header, 4 bytes, the data, the release: to 72 and in the same way to 120; then the end. The next one
    // begins at 144, and its first data lies 12 bytes behind the header.
    expect(sizes).toEqual([120, 128, 128, 128]);
  });

  it('count each acquire, of up to any number of channels', () => {
    const m = createChannelModel({ gpus: 2, costs: { memsetBase: 1_000_000 } });
    const tracker: Tracker = [];
    for (const gpu of [0, 1]) {
      for (const { id } of m.gpus[gpu].channelManager.channels) {
        const push = pushBeginOnChannel(m, id, PURPOSE_TEST);
        pushMemset(m, push, gpu + 1, PAGE, 16);
        pushEnd(m, push);
        trackerAddPush(tracker, push);
      }
    }
    const push = pushBeginAcquire(m, 0, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TEST, tracker);
    pushEnd(m, push);
    expect(push.acquireCount).toBe(31);
    expect(push.bytes).toBe(24 + 31 * 24);
  });

  it('write up to four consecutive entries one by one, and more as inline data', () => {
    const ptes = (count: number): number =>
      bytesOf((m, push) => {
        // In two methods: what makes a batch is that the entries follow one another.
        pushPte(m, push, PTE_LEVEL_4K, PAGE, 1, PTE);
        pushPte(m, push, PTE_LEVEL_4K, PAGE + 1, count - 1, PTE);
      });
    const end = 24 + 28;
    expect(ptes(4)).toBe(4 * 52 + end);
    expect(ptes(5)).toBe(4 + 5 * 8 + 44 + end);
    expect(ptes(512)).toBe(4 + 512 * 8 + 44 + end);
    const apart = bytesOf((m, push) => {
      pushPte(m, push, PTE_LEVEL_4K, PAGE, 4, PTE);
      pushPte(m, push, PTE_LEVEL_4K, PAGE + 5, 1, PTE);
      pushPte(m, push, PTE_LEVEL_BIG, PAGE + 16, 2, PTE);
      pushPte(m, push, PTE_LEVEL_BIG, PAGE + 48, 6, PTE);
    });
    expect(apart).toBe(5 * 52 + (4 + 8 * 8 + 44) + end);
  });

  it('clear entries by one memset, whole tables by the scrubber', () => {
    const clear = (level: number, count: number, pte: number): number =>
      bytesOf((m, push) => pushPte(m, push, level, PAGE, count, pte)) - 24 - 28;
    expect(clear(PTE_LEVEL_4K, 1, PTE_INVALID)).toBe(52);
    expect(clear(PTE_LEVEL_4K, 511, PTE_INVALID)).toBe(52);
    expect(clear(PTE_LEVEL_4K, 512, PTE_INVALID)).toBe(60);
    expect(clear(PTE_LEVEL_BIG, 32, PTE_BIG_UNMAPPED)).toBe(52);
    expect(clear(PTE_LEVEL_2M, 1, PTE_INVALID)).toBe(52);
  });

  it('end a batch of entries once, before an invalidate or a directory entry', () => {
    const bytes = bytesOf((m, push) => {
      pushPte(m, push, PTE_LEVEL_4K, PAGE, 2, PTE);
      pushPte(m, push, PTE_LEVEL_4K, PAGE, 2, PTE_INVALID);
      pushPte(m, push, 1, PAGE, 1, PTE_INVALID);
      pushTlbInvalidate(m, push, PAGE, 512, false, false);
      pushPte(m, push, PTE_LEVEL_4K, PAGE + 2, 2, PTE);
      pushTlbInvalidate(m, push, PAGE, 512, false, false);
    });
    expect(bytes).toBe(2 * 52 + 52 + 28 + 64 + 20 + 2 * 52 + 28 + 20 + 24);
  });

  it('are at most 128 KiB, the end included', () => {
    const m = createChannelModel();
    const push = pushBegin(m, 0, CHANNEL_TYPE_MEMOPS, PURPOSE_TEST);
    push.bytes = PUSH_SIZE_MAX - PUSH_END_BYTES;
    pushEnd(m, push);
    expect(push.bytes).toBe(128 * 1024);
    const more = pushBegin(m, 0, CHANNEL_TYPE_MEMOPS, PURPOSE_TEST);
    more.bytes = PUSH_SIZE_MAX - PUSH_END_BYTES + 4;
    expect(() => pushEnd(m, more)).toThrow('128 KiB');
  });
});

describe('a full pushbuffer', () => {
  const big = (m: ReturnType<typeof createChannelModel>, channel: number): { finish: number; offset: number } => {
    const push = pushBeginOnChannel(m, channel, PURPOSE_TEST);
    pushMemset(m, push, 1, PAGE, 512);
    push.bytes = PUSH_SIZE_MAX - PUSH_END_BYTES;
    pushEnd(m, push);
    return { finish: push.finish, offset: push.offset };
  };

  it('holds 128 of the largest pushes; a begin waits for the next completion on any channel', () => {
    const m = createChannelModel({ numGpfifoEntries: 256, copyEngines: 2, contents: false });
    const { pushbuffer } = m.gpus[0].channelManager;
    const first = big(m, 0);
    for (let i = 1; i < 128; i++) big(m, 0);
    m.k.now = 0;
    const push = pushBeginOnChannel(m, 3, PURPOSE_TEST);
    // The thread polls: what it notices is the first completion, and the push lies where that one lay.
    expect(push.begin).toBe(first.finish + m.cost.trackerPoll);
    expect(push.offset).toBe(first.offset);
    expect(pushbuffer.pendingPushes).toBe(127);
    pushEnd(m, push);
    expect(channelManagerWait(m, 0)).toBe(NV_OK);
    expect([pushbuffer.pendingPushes, pushbuffer.idleChunks]).toEqual([0, 0xffff]);
  });
});
