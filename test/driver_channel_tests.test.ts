/**
 * What the driver's tests of channels, pushes, trackers and semaphores assert over whole GPUs, with and without
 * Confidential Computing; the table in docs/driver-tests.md says which test that is.
 */
import { describe, expect, it } from 'vitest';
import { createPrng, prngNext } from '../src/base/prng.ts';
import type { Model } from '../src/model/state.ts';
import {
  CHANNEL_TYPE_CPU_TO_GPU,
  CHANNEL_TYPE_GPU_INTERNAL,
  CHANNEL_TYPE_GPU_TO_CPU,
  CHANNEL_TYPE_GPU_TO_GPU,
  CHANNEL_TYPE_MEMOPS,
  CHANNEL_TYPE_NAMES,
  channelManagerWait,
  channelUpdateCompletedValue,
} from '../src/model/uvm/channel.ts';
import { channelInjectBlock } from '../src/model/uvm/channel_inject.ts';
import { confComputingOf } from '../src/model/uvm/conf_computing.ts';
import {
  channelPoolRotateKey,
  isKeyRotationEnabledInPool,
  keyRotationEnable,
} from '../src/model/uvm/conf_computing_key_rotation.ts';
import { gpuSemaphoreAlloc, gpuSemaphoreGetPayload, gpuSemaphoreSetPayload } from '../src/model/uvm/gpu_semaphore.ts';
import { PURPOSE_TEST, pushBegin, pushEnd, pushEndAndWait, pushMemset, pushWait } from '../src/model/uvm/push.ts';
import { PUSHBUFFER_CHUNK_SIZE, PUSHBUFFER_CHUNKS } from '../src/model/uvm/pushbuffer.ts';
import { NV_OK } from '../src/model/uvm/status.ts';
import { createTracker, trackerAddEntry, trackerQuery, trackerSize, trackerWait } from '../src/model/uvm/tracker.ts';
import { secureReadToCpu, secureWriteFromCpu } from '../src/model/uvm/va_block_conf_computing.ts';
import { createChannelModel } from './support/channel_model.ts';
import { createConfComputingModel } from './support/conf_computing_model.ts';

const PAGE = 2 ** 34;
const COPY_TYPES = [
  CHANNEL_TYPE_CPU_TO_GPU,
  CHANNEL_TYPE_GPU_TO_CPU,
  CHANNEL_TYPE_GPU_INTERNAL,
  CHANNEL_TYPE_MEMOPS,
  CHANNEL_TYPE_GPU_TO_GPU,
].map((type): [string, number] => [CHANNEL_TYPE_NAMES[type], type]);
const plain = () => createChannelModel({ gpus: 2, copyEngines: 5 });
const secure = () => createConfComputingModel({ gpus: 2, copyEngines: 5, contents: true });
const MACHINES: [string, () => Model, number][] = [
  ['without Confidential Computing', plain, 24],
  ['with it', secure, 168],
];

describe.each(MACHINES)('%s', (_name, create, endBytes) => {
  it.each(COPY_TYPES)(`a push of type %s ends in ${endBytes} bytes`, (_type, type) => {
    const m = create();
    for (const gpu of m.gpus) {
      const push = pushBegin(m, gpu.index, type, PURPOSE_TEST);
      expect(push.bytes).toBe(0);
      pushEnd(m, push);
      expect(push.bytes).toBe(endBytes);
      expect(pushWait(m, push)).toBe(NV_OK);
    }
  });

  it('a tracker has an entry for each channel of each pool, none of which is left once somebody asks', () => {
    const m = create();
    const tracker = createTracker();
    const channels = m.gpus.flatMap(({ channelManager }) => channelManager.channels);
    for (const gpu of m.gpus) channelManagerWait(m, gpu.index);
    for (const { id } of channels) trackerAddEntry(tracker, id, channelUpdateCompletedValue(m, id));
    expect(trackerSize(tracker)).toBe(channels.length);
    expect(trackerQuery(m, tracker)).toBe(NV_OK);
    expect([trackerSize(tracker), trackerWait(m, tracker)]).toEqual([0, NV_OK]);
  });

  it('each GPU has 4096 semaphores more, which keep their payloads, and pushes complete besides', () => {
    const m = create();
    const all = m.gpus.flatMap(({ channelManager: { semaphorePool, host } }) =>
      Array.from({ length: 4096 }, () => ({ host, semaphore: gpuSemaphoreAlloc(semaphorePool, host) })),
    );
    for (const [i, { host, semaphore }] of all.entries()) gpuSemaphoreSetPayload(host, semaphore, i + 1);
    for (const gpu of m.gpus) expect(pushEndAndWait(m, pushBegin(m, gpu.index, 0, PURPOSE_TEST))).toBe(NV_OK);
    expect(all.every(({ host, semaphore }, i) => gpuSemaphoreGetPayload(host, semaphore) === i + 1)).toBe(true);
  });
});

it('16 small pushes of a blocked GPU take 16 chunks of the pushbuffer, and all are idle after the wait', () => {
  const m = createChannelModel({ copyEngines: 1, numGpfifoEntries: 64 });
  const { pushbuffer } = m.gpus[0].channelManager;
  channelInjectBlock(m, 0, 0, 1e6);
  const chunks = Array.from({ length: PUSHBUFFER_CHUNKS }, () => {
    const push = pushBegin(m, 0, CHANNEL_TYPE_GPU_INTERNAL, PURPOSE_TEST);
    pushMemset(m, push, 1, PAGE, 1);
    pushEnd(m, push);
    return Math.floor(push.offset / PUSHBUFFER_CHUNK_SIZE);
  });
  expect(new Set(chunks).size).toBe(16);
  expect([pushbuffer.idleChunks, pushbuffer.pendingPushes]).toEqual([0, 16]);
  expect(channelManagerWait(m, 0)).toBe(NV_OK);
  expect([pushbuffer.idleChunks, pushbuffer.pendingPushes]).toEqual([0xffff, 0]);
});

describe('channels of a pool with Confidential Computing', () => {
  it.each(COPY_TYPES)('are different ones for pushes of type %s that are open at once', (_type, type) => {
    const m = secure();
    for (const { index, channelManager } of m.gpus) {
      keyRotationEnable(m, index, false);
      const { channels } = channelManager.pools[channelManager.poolForType[type]];
      const pushes = channels.map(() => pushBegin(m, index, type, PURPOSE_TEST));
      expect(new Set(pushes.map(({ channel }) => channel)).size).toBe(channels.length);
      expect(new Set(pushes.map(({ launchChannel }) => launchChannel)).size).toBe(channels.length);
      for (const push of pushes) expect(pushEndAndWait(m, push)).toBe(NV_OK);
    }
  });

  it('carry data either way whatever keys are rotated in between, at random', () => {
    const m = secure();
    const prng = createPrng(9);
    const there = new Map<number, Uint8Array>();
    let read = 0;
    for (let i = 0; i < 300; i++) {
      const gpu = prngNext(prng) % 2;
      const page = 700 + 8 * gpu + (prngNext(prng) % 4);
      const manager = m.gpus[gpu].channelManager;
      const operation = prngNext(prng) % 3;
      if (operation === 0) {
        const bytes = Uint8Array.from({ length: 4096 }, () => prngNext(prng) & 0xff);
        expect(secureWriteFromCpu(m, gpu + 1, page, 0, bytes, createTracker())).toBe(NV_OK);
        there.set(page, bytes);
      } else if (operation === 1) {
        const bytes = new Uint8Array(4096);
        expect(secureReadToCpu(m, gpu + 1, page, 0, bytes, createTracker())).toBe(NV_OK);
        const want = there.get(page);
        if (want !== undefined) expect(bytes).toEqual(want);
        read++;
      } else {
        const pool = prngNext(prng) % manager.pools.length;
        if (!isKeyRotationEnabledInPool(manager, manager.pools[pool])) continue;
        expect(channelPoolRotateKey(m, gpu, pool)).toBe(NV_OK);
      }
    }
    const rotations = m.gpus.map(({ channelManager }) => confComputingOf(channelManager).counts.keyRotations);
    expect(Math.min(...rotations, read)).toBeGreaterThan(20);
    expect(m.globalStatus).toBe(NV_OK);
  });
});
