import { describe, expect, it } from 'vitest';
import { createConfComputingModel } from '../../../test/support/conf_computing_model.ts';
import { flip, flipNext, memoryOf, type Target } from '../../../test/support/unprotected.ts';
import { byteMemoryRead, bytesEqual, wordAt } from '../gpu/byte_memory.ts';
import { hostRunUntil } from '../gpu/host.ts';
import { MMU_OK, makePte, mmuTranslate, PTE_LEVEL_4K } from '../gpu/mmu.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_POOL_TYPE_WLC,
  CHANNEL_TYPE_CPU_TO_GPU,
  CHANNEL_TYPE_LCIC,
  CHANNEL_TYPE_MEMOPS,
  CHANNEL_TYPE_WLC,
  type Channel,
  channelGet,
  channelManagerWait,
  channelReserve,
  channelUpdateProgressAll,
  channelWait,
} from './channel.ts';
import { confComputingOf, confComputingResources } from './conf_computing.ts';
import {
  PURPOSE_LAUNCH,
  PURPOSE_TEST,
  type Push,
  pushBegin,
  pushBeginAcquire,
  pushBeginOnChannel,
  pushEnd,
  pushPte,
  pushSecureCopyAt,
  pushTimestamp,
  pushTlbInvalidate,
  pushWait,
} from './push.ts';
import { codeBytes } from './push_code.ts';
import { pushEncode } from './push_encode.ts';
import {
  ENCRYPTED_NOTIFIER_OFFSET,
  ENCRYPTED_TAG_OFFSET,
  launchTagGpuVa,
  lcicNotifierGpuVa,
  pushbufferGpuVa,
  pushbufferUnprotectedGpuVa,
  semaphoreEncryptedGpuVa,
  WLC_PUSH_BYTES,
  wlcRunGpuVa,
  wlcTagGpuVa,
  wlcUnprotectedGpuVa,
} from './secure_memory.ts';
import { EndlessWaitError } from './spin_loop.ts';
import { NV_ERR_INVALID_DATA, NV_ERR_RC_ERROR, NV_OK } from './status.ts';
import { createTracker, trackerAddPush } from './tracker.ts';

const C2G = CHANNEL_TYPE_CPU_TO_GPU;

const create = (numGpfifoEntries = 64): Model => {
  const m = createConfComputingModel({ contents: true, numGpfifoEntries });
  expect(channelManagerWait(m, 0)).toBe(NV_OK);
  return m;
};
const managerOf = (m: Model) => m.gpus[0].channelManager;
const channelsOf = (m: Model, type: number): Channel[] => managerOf(m).pools[managerOf(m).poolForType[type]].channels;

function begin(m: Model, channel?: number): Push {
  const push =
    channel === undefined ? pushBegin(m, 0, C2G, PURPOSE_TEST) : pushBeginOnChannel(m, channel, PURPOSE_TEST);
  pushTlbInvalidate(m, push, 0x1234, 1, false, false);
  return push;
}

/** A push that has ended. */
function ended(m: Model, channel?: number): Push {
  const push = begin(m, channel);
  pushEnd(m, push);
  return push;
}

describe('a launched push', () => {
  it('lies encrypted in unprotected memory, and decrypted where the GPU runs it', () => {
    const m = create();
    const pair = nextPair(m);
    const push = ended(m);
    const plain = codeBytes(pushEncode(m, push).code);
    const { unprotected, protected: vidmem } = memoryOf(m);
    const cipher = byteMemoryRead(unprotected, pushbufferUnprotectedGpuVa(push.offset), push.bytes);
    expect(bytesEqual(byteMemoryRead(vidmem, pushbufferGpuVa(push.offset), push.bytes), plain)).toBe(true);
    for (let i = 0; i + 4 <= plain.length; i += 4) {
      if (wordAt(plain, i) !== 0) expect(wordAt(cipher, i)).not.toBe(wordAt(plain, i));
    }
    // WLC's own push too.
    const own = byteMemoryRead(vidmem, wlcRunGpuVa(pair), WLC_PUSH_BYTES);
    const sent = byteMemoryRead(unprotected, wlcUnprotectedGpuVa(pair), WLC_PUSH_BYTES);
    const same = Array.from({ length: WLC_PUSH_BYTES / 4 }, (_, i) => wordAt(own, 4 * i) === wordAt(sent, 4 * i));
    expect([same.length, same.filter(Boolean).length]).toEqual([91, 0]);
  });

  it('has notifiers in the clear, even ones where the payload can be decrypted', () => {
    const m = create();
    const push = ended(m);
    const { trackingSem } = channelGet(m, push.channel);
    const at = semaphoreEncryptedGpuVa(trackingSem);
    const notifier = () => wordAt(byteMemoryRead(memoryOf(m).unprotected, at + ENCRYPTED_NOTIFIER_OFFSET, 4), 0);
    const before = notifier();
    expect(pushWait(m, push)).toBe(NV_OK);
    expect([notifier() - before, notifier(), trackingSem.secure?.lastObservedNotifier]).toEqual([
      2,
      2 * push.trackingValue,
      2 * push.trackingValue,
    ]);
    // What lies there is not the payload, which is what was decrypted.
    const written = wordAt(byteMemoryRead(memoryOf(m).unprotected, at, 4), 0);
    expect([trackingSem.secure?.cachedPayload, written === push.trackingValue]).toEqual([push.trackingValue, false]);
    // LCIC copies the ones that the CPU prepared: odd, even.
    const prepared = byteMemoryRead(memoryOf(m).unprotected, lcicNotifierGpuVa(0), 8);
    expect([wordAt(prepared, 0) % 2, wordAt(prepared, 4) - wordAt(prepared, 0)]).toEqual([1, 1]);
  });

  it.each<[string, (m: Model) => Target]>([
    ['the push', () => ({ name: 'pushbuffer', offset: 9 })],
    ['the tag of the push', (m) => ({ name: 'WLC', address: launchTagGpuVa(nextPair(m)) })],
    ["WLC's push", () => ({ name: 'WLC', bytes: WLC_PUSH_BYTES, offset: 300 })],
    ["the tag of WLC's push", (m) => ({ name: 'WLC', address: wlcTagGpuVa(nextPair(m)), offset: 15 })],
  ])('fails with WLC when a bit of %s was changed: an error of that channel', (_name, target) => {
    const m = create();
    const flipped = flipNext(m, target(m));
    const push = ended(m);
    expect(flipped()).toBe(1);
    expect(m.globalStatus).toBe(NV_ERR_RC_ERROR);
    expect(managerOf(m).fatalEntry).toMatchObject({ purpose: PURPOSE_LAUNCH, status: NV_ERR_RC_ERROR });
    const failed = channelGet(m, managerOf(m).fatalEntry?.channel ?? -1);
    expect(managerOf(m).pools[failed.pool].poolType).toBe(CHANNEL_POOL_TYPE_WLC);
    expect([push.finish, pushWait(m, push)]).toEqual([Infinity, NV_ERR_RC_ERROR]);
    // The push was not run, and nobody waits for ever.
    expect(channelManagerWait(m, 0)).toBe(NV_ERR_RC_ERROR);
  });
});

/** The pair that will launch next: the first one with room. */
function nextPair(m: Model): number {
  const channels = channelsOf(m, CHANNEL_TYPE_WLC);
  return channels.findIndex((wlc) => wlc.cpuPut === wlc.gpuGet);
}

describe('a changed bit of a semaphore', () => {
  const at = (channel: Channel) => semaphoreEncryptedGpuVa(channel.trackingSem);
  const target = (channel: Channel, offset: number, bits = 0x10): Target => ({
    name: 'semaphore payloads',
    address: at(channel),
    offset,
    bits,
  });

  it.each([
    ['payload', 1, 0x10],
    ['tag', ENCRYPTED_TAG_OFFSET + 3, 0x10],
    ['notifier, which tells the IV', ENCRYPTED_NOTIFIER_OFFSET, 2],
  ])('(%s) is a fatal error for whoever waits, and ends the wait', (_name, offset, bits) => {
    const m = create();
    const [channel] = channelsOf(m, C2G);
    const push = begin(m);
    const flipped = flipNext(m, target(channel, offset, bits));
    pushEnd(m, push);
    expect([m.globalStatus, flipped()]).toEqual([NV_OK, 0]);
    const { completedValue } = channel.trackingSem;
    expect(pushWait(m, push)).toBe(NV_ERR_INVALID_DATA);
    expect([flipped(), m.globalStatus]).toEqual([1, NV_ERR_INVALID_DATA]);
    expect(channel.trackingSem.completedValue).toBe(completedValue);
    expect([channelWait(m, channel.id), channelManagerWait(m, 0)]).toEqual([NV_ERR_INVALID_DATA, NV_ERR_INVALID_DATA]);
  });

  it('is found by a wait for the channel, too', () => {
    const m = create();
    const [channel] = channelsOf(m, C2G);
    flipNext(m, target(channel, 0));
    ended(m);
    expect(channelWait(m, channel.id)).toBe(NV_ERR_INVALID_DATA);
  });

  it('is gone with the next release, but the error stays', () => {
    const m = create();
    const [channel] = channelsOf(m, C2G);
    flipNext(m, target(channel, 0));
    const first = ended(m);
    expect(pushWait(m, first)).toBe(NV_ERR_INVALID_DATA);
    const second = ended(m);
    m.k.now = second.finish;
    expect(channelUpdateProgressAll(m, channel.id)).toBe(0);
    expect([channel.trackingSem.completedValue, m.globalStatus]).toEqual([second.trackingValue, NV_ERR_INVALID_DATA]);
  });

  it('of a WLC channel is found by the launch, which goes on', () => {
    const m = create();
    const flipped = flipNext(m, target(channelsOf(m, CHANNEL_TYPE_WLC)[nextPair(m)], 2));
    const push = ended(m);
    expect([flipped(), m.globalStatus]).toEqual([1, NV_ERR_INVALID_DATA]);
    expect(push.finish).toBeLessThan(Infinity);
  });

  it('of an LCIC channel is found by the next launch of its pair', () => {
    const m = create();
    const pair = nextPair(m);
    const flipped = flipNext(m, target(channelsOf(m, CHANNEL_TYPE_LCIC)[pair], 0));
    const count = channelsOf(m, CHANNEL_TYPE_WLC).length;
    for (let i = 0; i < count; i++) ended(m);
    m.k.now += 1e6;
    expect(m.globalStatus).toBe(NV_OK);
    ended(m);
    expect([flipped(), m.globalStatus]).toEqual([1, NV_ERR_INVALID_DATA]);
  });

  it('in the notifiers that LCIC copies is found there too', () => {
    const m = create();
    const pair = nextPair(m);
    const flipped = flipNext(m, { name: 'notifiers of LCIC', offset: 4, bits: 4 });
    const count = channelsOf(m, CHANNEL_TYPE_WLC).length;
    for (let i = 0; i < count; i++) ended(m);
    m.k.now += 1e6;
    ended(m);
    expect([flipped(), nextPair(m) === pair, m.globalStatus]).toEqual([1, false, NV_ERR_INVALID_DATA]);
  });

  it('(an odd notifier that stays) is waited for for ever', () => {
    const m = create();
    const [channel] = channelsOf(m, C2G);
    flipNext(m, target(channel, ENCRYPTED_NOTIFIER_OFFSET, 1));
    const push = ended(m);
    expect(() => pushWait(m, push)).toThrow(EndlessWaitError);
    expect(() => pushWait(m, push)).toThrow(
      'gpu_semaphore_encrypted_payload_update waits for an even notifier of gpu0',
    );
  });

  it('leaves a full channel full: who needs an entry goes on with the next release', () => {
    const m = create(32);
    const [channel] = channelsOf(m, C2G);
    for (let i = 0; i < 30; i++) ended(m, channel.id);
    const last = begin(m, channel.id);
    last.duration += 1e6;
    pushEnd(m, last);
    m.k.now = last.start;
    hostRunUntil(m, 0, m.k.now);
    flip(m, 0, at(channel));
    expect(channelReserve(m, channel, 1)).toBe(NV_OK);
    expect([m.k.now, m.globalStatus]).toEqual([last.finish + m.cost.trackerPoll, NV_ERR_INVALID_DATA]);
  });

  it('(the last release of a full channel) is waited for for ever by who needs an entry', () => {
    const m = create(32);
    const [channel] = channelsOf(m, C2G);
    for (let i = 0; i < 31; i++) ended(m, channel.id);
    m.k.now += 1e6;
    hostRunUntil(m, 0, m.k.now);
    flip(m, 0, at(channel));
    expect(() => channelReserve(m, channel, 1)).toThrow(EndlessWaitError);
    expect(m.globalStatus).toBe(NV_ERR_INVALID_DATA);
  });
});

describe('a push with a callback', () => {
  function watched(m: Model): { push: Push; seen: number[]; plain: Uint8Array[] } {
    const seen: number[] = [];
    const plain: Uint8Array[] = [];
    m.res.pushCallbacks.push((_m, _channel, value) => seen.push(value));
    confComputingResources(m).pushDecrypted = (_m, _channel, value, bytes) => {
      expect(seen).not.toContain(value);
      plain.push(bytes);
    };
    const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
    pushTimestamp(m, push);
    pushTlbInvalidate(m, push, 0, 1, false, false);
    pushTimestamp(m, push);
    push.onComplete = m.res.pushCallbacks.length - 1;
    return { push, seen, plain };
  }

  it('comes back encrypted, and the CPU reads its timestamps before the callback runs', () => {
    const m = create();
    const { push, seen, plain } = watched(m);
    pushEnd(m, push);
    expect(channelManagerWait(m, 0)).toBe(NV_OK);
    expect([seen, plain.length]).toEqual([[push.trackingValue], 1]);
    // 4 bytes of header, 12 of padding, 16 of data; 24 of release, 20 of invalidate, 4 of header.
    const times = [16, 80].map((offset) => [
      wordAt(plain[0], offset),
      wordAt(plain[0], offset + 8) + 2 ** 32 * wordAt(plain[0], offset + 12),
    ]);
    expect(times).toEqual([
      [0xdeadbeef, push.timestamps[0]],
      [0xdeadbeef, push.timestamps[1]],
    ]);
    expect(push.timestamps[1]).toBeGreaterThan(push.timestamps[0]);
    expect(confComputingOf(managerOf(m)).bundles.size).toBe(0);
  });

  it('whose bits were changed on the way back runs its callback: no fatal error', () => {
    const m = create();
    const { push, seen, plain } = watched(m);
    pushEnd(m, push);
    const flipped = flipNext(m, { name: 'pushbuffer', offset: 20 });
    expect(channelManagerWait(m, 0)).toBe(NV_OK);
    expect([flipped(), seen, plain.length]).toEqual([1, [push.trackingValue], 0]);
    expect([m.globalStatus, confComputingOf(managerOf(m)).counts.pushDecryptFailures]).toEqual([NV_OK, 1]);
  });
});

describe('a copy engine that meets a tag that does not fit', () => {
  it('stops its channel: the push is not complete, nor are those behind it', () => {
    const m = create();
    const [first, other] = channelsOf(m, C2G);
    const push = begin(m, first.id);
    // Nothing was ever encrypted there.
    pushSecureCopyAt(m, push, true, 2 ** 36, 2 ** 44 + 2 ** 40, 64, 2 ** 44 + 2 ** 41);
    pushEnd(m, push);
    const behind = ended(m, first.id);
    const elsewhere = ended(m, other.id);
    expect(pushWait(m, behind)).toBe(NV_ERR_RC_ERROR);
    expect(managerOf(m).fatalEntry).toMatchObject({ channel: first.id, value: push.trackingValue });
    expect(pushWait(m, push)).toBe(NV_ERR_RC_ERROR);
    expect(first.trackingSem.completedValue).toBeLessThan(push.trackingValue);
    m.k.now += 1e6;
    channelUpdateProgressAll(m, other.id);
    expect(other.trackingSem.completedValue).toBe(elsewhere.trackingValue);
  });

  it('stops what acquires its push, and what is behind that, on other channels too', () => {
    const m = create();
    const [first, other] = channelsOf(m, C2G);
    const push = begin(m, first.id);
    pushSecureCopyAt(m, push, true, 2 ** 36, 2 ** 44 + 2 ** 40, 64, 2 ** 44 + 2 ** 41);
    push.duration += 1e6;
    pushEnd(m, push);
    const tracker = createTracker();
    trackerAddPush(tracker, push);
    const before = ended(m, other.id);
    const map = pushBeginAcquire(m, 0, CHANNEL_TYPE_MEMOPS, PURPOSE_TEST, tracker);
    pushPte(m, map, PTE_LEVEL_4K, 7, 1, makePte(1, 1));
    pushEnd(m, map);
    const next = ended(m, map.channel);
    expect(pushWait(m, push)).toBe(NV_ERR_RC_ERROR);
    m.k.now += 1e7;
    expect([pushWait(m, map), pushWait(m, next)]).toEqual([NV_ERR_RC_ERROR, NV_ERR_RC_ERROR]);
    expect(channelGet(m, map.channel).trackingSem.completedValue).toBeLessThan(map.trackingValue);
    expect(mmuTranslate(m.gpus[0].mmu, 7, 1)).not.toBe(MMU_OK);
    expect(pushWait(m, before)).toBe(NV_OK);
  });
});
