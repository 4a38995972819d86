/** After test_channel_key_rotation and test_channel_iv_rotation of the driver's uvm_channel_test.c, and tighter. */
import { describe, expect, it } from 'vitest';
import {
  type ConfComputingModelOptions,
  createConfComputingModel,
} from '../../../test/support/conf_computing_model.ts';
import type { Contents } from '../gpu/contents.ts';
import { secureKey } from '../gpu/secure_copy.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_POOL_TYPE_LCIC,
  CHANNEL_POOL_TYPE_SEC2,
  CHANNEL_TYPE_CPU_TO_GPU,
  CHANNEL_TYPE_GPU_TO_CPU,
  CHANNEL_TYPE_LCIC,
  CHANNEL_TYPE_SEC2,
  CHANNEL_TYPE_WLC,
  type Channel,
  type ChannelPool,
  channelGet,
  channelManagerWait,
  channelRelease,
  channelReserve,
  channelReserveType,
} from './channel.ts';
import { channelInjectError, rmInjectBusy, rmInjectKeyRotation } from './channel_inject.ts';
import {
  channelRemainingDecryptions,
  channelRemainingEncryptions,
  confComputingOf,
  cpuDecrypt,
  cpuEncryptNote,
  dmaBufferAlloc,
  logGpuEncryption,
  maybeRotateChannelIvs,
  maybeRotateChannelIvsRetryBusy,
  rotateChannelIvsBelowLimit,
} from './conf_computing.ts';
import {
  channelKey,
  channelKeyVersion,
  channelPoolRotateKey,
  isKeyRotationEnabledInPool,
  isKeyRotationPendingInPool,
  KEY_ROTATION_LOWER_THRESHOLD,
  KEY_VERSIONS_KEPT,
  keyRotationEnable,
} from './conf_computing_key_rotation.ts';
import { CPU_ID } from './processors.ts';
import {
  PURPOSE_COPY,
  PURPOSE_TEST,
  type Push,
  pushBegin,
  pushBeginOnChannel,
  pushEnd,
  pushEndAndWait,
  pushSecureCopy,
  pushTlbInvalidate,
} from './push.ts';
import {
  NV_ERR_INSUFFICIENT_RESOURCES,
  NV_ERR_INVALID_DATA,
  NV_ERR_RC_ERROR,
  NV_ERR_STATE_IN_USE,
  NV_OK,
} from './status.ts';
import { createTracker } from './tracker.ts';
import {
  secureCopyBegin,
  secureCopyFinish,
  secureCopyPages,
  secureReadToCpu,
  secureWriteFromCpu,
} from './va_block_conf_computing.ts';

const ALL = 0xffffffff;
const C2G = CHANNEL_TYPE_CPU_TO_GPU;
const G2C = CHANNEL_TYPE_GPU_TO_CPU;
const TESTS = { uvm_enable_builtin_tests: 1 };

const managerOf = (m: Model) => m.gpus[0].channelManager;
const confOf = (m: Model) => confComputingOf(managerOf(m));
const poolOf = (m: Model, type: number): number => managerOf(m).poolForType[type];
const channelsOf = (m: Model, type: number): Channel[] => managerOf(m).pools[poolOf(m, type)].channels;
const versions = (m: Model) => managerOf(m).pools.map(({ channels }) => channelKeyVersion(m, channels[0]));
const engineKey = (m: Model, channel: Channel) => managerOf(m).host.channels[channel.index].secure?.key;
const left = (m: Model, channel: Channel) => [
  channelRemainingEncryptions(m, channel),
  channelRemainingDecryptions(m, channel),
];

/** A machine that has come to rest after its set-up; its WLC channels have an engine of their own. */
function atRest(options: ConfComputingModelOptions = {}): Model {
  const m = createConfComputingModel({ copyEngines: 5, contents: true, ...options });
  channelManagerWait(m, 0);
  return m;
}

function begin(m: Model, channel: Channel): Push {
  const push = pushBeginOnChannel(m, channel.id, PURPOSE_TEST);
  pushTlbInvalidate(m, push, 0, 1, true, false);
  return push;
}

/** Moves 4 KiB to the GPU and back. */
function roundTrip(m: Model, between: () => void = () => {}): void {
  const there = Uint8Array.from({ length: 4096 }, (_, i) => (i * 7 + m.k.now) & 0xff);
  expect(secureWriteFromCpu(m, 1, 600, 0, there, createTracker())).toBe(NV_OK);
  between();
  const back = new Uint8Array(4096);
  expect(secureReadToCpu(m, 1, 600, 0, back, createTracker())).toBe(NV_OK);
  expect(back).toEqual(there);
}

describe('a rotation of keys', () => {
  it('is of one pool: both sides of all of its channels have the new key, and no others', () => {
    const m = atRest();
    const { pools, channels } = managerOf(m);
    const mayRotate = (pool: ChannelPool) => isKeyRotationEnabledInPool(managerOf(m), pool);
    expect(pools.filter((pool) => !mayRotate(pool)).map(({ poolType }) => poolType)).toEqual([
      CHANNEL_POOL_TYPE_SEC2,
      CHANNEL_POOL_TYPE_LCIC,
    ]);
    for (const [index, pool] of pools.entries()) {
      if (!mayRotate(pool)) continue;
      const before = channels.map((channel) => channelKey(m, channel));
      expect(channelPoolRotateKey(m, 0, index)).toBe(NV_OK);
      const followsWlc = (channel: Channel) =>
        index === poolOf(m, CHANNEL_TYPE_WLC) && channel.pool === poolOf(m, CHANNEL_TYPE_LCIC);
      for (const [i, channel] of channels.entries()) {
        const rotated = channel.pool === index || followsWlc(channel);
        expect(String(channelKey(m, channel)) !== String(before[i])).toBe(rotated);
        expect(engineKey(m, channel)).toEqual(channelKey(m, channel));
      }
      roundTrip(m);
    }
    // SEC2; WLC, and LCIC with it; four copy engines.
    expect(versions(m)).toEqual([0, 1, 1, 1, 1, 1, 1]);
    expect(confOf(m).counts.keyRotations).toBe(5);
    for (const type of [CHANNEL_TYPE_SEC2, CHANNEL_TYPE_LCIC]) {
      expect(() => channelPoolRotateKey(m, 0, poolOf(m, type))).toThrow('not rotated');
    }
  });

  it('gives keys that differ by GPU, pool and version, the same in each run', () => {
    const keys: string[] = [];
    for (const gpu of [0, 1])
      for (const pool of [0, 1, 6])
        for (const version of [0, 1, 2, 255, 65536]) keys.push(String(secureKey(gpu, pool, version)));
    expect(new Set(keys).size).toBe(30);
    expect(keys[3]).toBe(String(secureKey(0, 0, 255)));
  });

  it('clears the counts of messages in both directions, and keeps the number of rotated IVs', () => {
    const m = atRest();
    const [channel, sibling] = channelsOf(m, C2G);
    const other = channelsOf(m, G2C)[0];
    const csl = confOf(m).csl[channel.index];
    csl.encryptUsed = ALL - 5000;
    csl.decryptUsed = ALL - 5000;
    channelReserve(m, channel, 1);
    maybeRotateChannelIvs(m, channel);
    channelRelease(channel, 1);
    pushEndAndWait(m, begin(m, channel));
    expect(csl).toMatchObject({ encryptRotations: 1, decryptRotations: 1, decryptUsed: 1 });
    const untouched = left(m, other);
    expect(channelPoolRotateKey(m, 0, channel.pool)).toBe(NV_OK);
    expect([left(m, channel), left(m, sibling), left(m, other)]).toEqual([[ALL, ALL], [ALL, ALL], untouched]);
    expect(csl).toMatchObject({ encryptRotations: 1, decryptRotations: 1 });
    expect(managerOf(m).host.channels[channel.index].secure).toMatchObject({ toGpuIv: 2 ** 32, toCpuIv: 2 ** 32 });
    expect(confOf(m).counts).toMatchObject({ keyRotations: 1, ivRotations: 1 });
    roundTrip(m);
  });

  it('waits for every channel of its pool and for no other; for WLC it waits for LCIC', () => {
    const m = atRest();
    const [first, second] = channelsOf(m, C2G);
    const other = begin(m, channelsOf(m, G2C)[0]);
    other.duration += 1e9;
    pushEnd(m, other);
    const pushes = [first, second].map((channel, i) => {
      const push = begin(m, channel);
      push.duration += 1e6 * (i + 1);
      pushEnd(m, push);
      return push;
    });
    expect(channelPoolRotateKey(m, 0, first.pool)).toBe(NV_OK);
    expect(m.k.now).toBe(Math.max(...pushes.map(({ finish }) => finish)) + m.cost.trackerPoll);
    expect(channelPoolRotateKey(m, 0, first.pool)).toBe(NV_OK);
    expect(m.k.now).toBeLessThan(other.finish);
    // The launches of the pushes were waited for; their confirmations are done as well by now. A new one:
    const launched = begin(m, first);
    pushEnd(m, launched);
    const confirmed = Math.max(
      ...channelsOf(m, CHANNEL_TYPE_LCIC).map(({ index }) => managerOf(m).host.channels[index].lastFinish),
    );
    expect(confirmed).toBeGreaterThan(m.k.now);
    expect(channelPoolRotateKey(m, 0, poolOf(m, CHANNEL_TYPE_WLC))).toBe(NV_OK);
    expect(m.k.now).toBe(confirmed + m.cost.trackerPoll);
  });

  it('needs the pushes of its pool to have ended', () => {
    const m = atRest();
    const push = begin(m, channelsOf(m, C2G)[0]);
    expect(() => channelPoolRotateKey(m, 0, poolOf(m, C2G))).toThrow('one is open');
    expect(channelPoolRotateKey(m, 0, poolOf(m, G2C))).toBe(NV_OK);
    pushEnd(m, push);
    expect(channelPoolRotateKey(m, 0, poolOf(m, C2G))).toBe(NV_OK);
  });

  it('does not take place after an error of a channel of its pool', () => {
    const m = atRest();
    const [channel] = channelsOf(m, C2G);
    channelInjectError(m, 0, 'CPU_TO_GPU', 1);
    pushEnd(m, begin(m, channel));
    rmInjectKeyRotation(m, 0, 'CPU_TO_GPU');
    expect(channelReserveType(m, 0, C2G)).toBeNull();
    expect(m.globalStatus).toBe(NV_ERR_RC_ERROR);
    expect(versions(m)).toEqual([0, 0, 0, 0, 0, 0, 0]);
  });
});

describe('data', () => {
  it('comes through whole between rotations of either direction', () => {
    const m = atRest();
    const rotateBoth = () => {
      expect(channelPoolRotateKey(m, 0, poolOf(m, G2C))).toBe(NV_OK);
      expect(channelPoolRotateKey(m, 0, poolOf(m, C2G))).toBe(NV_OK);
    };
    for (let i = 0; i < 5; i++) {
      rotateBoth();
      roundTrip(m, rotateBoth);
    }
    expect(channelKeyVersion(m, channelsOf(m, C2G)[0])).toBe(10);
  });

  /** A page that the GPU encrypted before `rotations` rotations of its key: its decryption's status, and its bytes. */
  function decryptedAfter(rotations: number, before = 0): { status: number; same: boolean } {
    const m = atRest();
    const there = Uint8Array.from({ length: 4096 }, (_, i) => (i * 11) & 0xff);
    secureWriteFromCpu(m, 1, 600, 0, there, createTracker());
    for (let i = 0; i < before; i++) channelPoolRotateKey(m, 0, poolOf(m, G2C));
    const buffer = dmaBufferAlloc(m, 0, null);
    const push = pushBegin(m, 0, G2C, PURPOSE_TEST);
    const channel = channelGet(m, push.channel);
    const iv = logGpuEncryption(m, channel, 4096);
    const version = channelKeyVersion(m, channel);
    pushSecureCopy(m, push, false, 1, 600, 0, 4096, buffer, 0);
    expect(pushEndAndWait(m, push)).toBe(NV_OK);
    for (let i = 0; i < rotations; i++) expect(channelPoolRotateKey(m, 0, channel.pool)).toBe(NV_OK);
    const { status, plain } = cpuDecrypt(m, channel, buffer, 0, iv, version, 4096);
    return { status, same: String(plain) === String(there) };
  }

  it('of a block that the GPU encrypted before 8 rotations arrives on the CPU, page by page', () => {
    const m = atRest();
    const { pages } = m.contents as Contents;
    for (const page of [512, 515]) {
      const words = Uint32Array.from({ length: 1024 }, (_, i) => page * i);
      secureWriteFromCpu(m, 1, page, 0, new Uint8Array(words.buffer), createTracker());
    }
    for (const [page, rotations] of [
      [0, 3],
      [3, 8],
    ]) {
      const copy = secureCopyBegin(m, createTracker(), CPU_ID, 1, PURPOSE_COPY);
      secureCopyPages(m, copy, 512, page, page + 1);
      pushEnd(m, copy.push);
      for (let i = 0; i < rotations; i++) expect(channelPoolRotateKey(m, 0, poolOf(m, G2C))).toBe(NV_OK);
      expect(secureCopyFinish(m, copy, 512)).toBe(NV_OK);
    }
    for (const page of [512, 515]) expect(pages[CPU_ID].get(page)).toEqual(pages[1].get(page));
    expect(pages[CPU_ID].get(515)?.[7]).toBe(515 * 7);
  });

  it('that was encrypted before 8 rotations still decrypts, and before 15, but not before 16', () => {
    for (const before of [0, 13]) {
      for (const rotations of [0, 1, 8, KEY_VERSIONS_KEPT - 1]) {
        expect(decryptedAfter(rotations, before)).toEqual({ status: NV_OK, same: true });
      }
      expect(decryptedAfter(KEY_VERSIONS_KEPT, before)).toEqual({ status: NV_ERR_INVALID_DATA, same: false });
    }
  });
});

describe('a rotation is pending', () => {
  const pending = (m: Model, type: number) =>
    isKeyRotationPendingInPool(m, managerOf(m), managerOf(m).pools[poolOf(m, type)]);

  it.each([
    ['encrypted', logGpuEncryption],
    ['was sent to decrypt', cpuEncryptNote],
  ] as const)('with the tests on, once the engine has %s more than 8 MiB', (_name, crypt) => {
    const m = atRest({ parameters: TESTS });
    const [channel, sibling] = channelsOf(m, C2G);
    const { keyRotation } = managerOf(m).pools[channel.pool];
    expect(keyRotation).toMatchObject({ encrypted: 0, decrypted: 0 });
    crypt(m, channel, KEY_ROTATION_LOWER_THRESHOLD - 1);
    crypt(m, sibling, 1);
    expect(pending(m, C2G)).toBe(false);
    channelRelease(channelReserveType(m, 0, C2G) as Channel, 1);
    expect(channelKeyVersion(m, channel)).toBe(0);
    crypt(m, channel, 1);
    expect([pending(m, C2G), pending(m, G2C)]).toEqual([true, false]);
    channelRelease(channelReserveType(m, 0, C2G) as Channel, 1);
    expect([channelKeyVersion(m, channel), pending(m, C2G)]).toEqual([1, false]);
    expect(keyRotation).toMatchObject({ encrypted: 0, decrypted: 0 });
    crypt(m, channel, KEY_ROTATION_LOWER_THRESHOLD + 1);
    expect(channelReserve(m, sibling, 1)).toBe(NV_OK);
    expect(channelKeyVersion(m, channel)).toBe(2);
  });

  it('in WLC for what LCIC encrypts, in SEC2 never', () => {
    const m = atRest({ parameters: TESTS });
    logGpuEncryption(m, channelsOf(m, CHANNEL_TYPE_LCIC)[3], KEY_ROTATION_LOWER_THRESHOLD + 1);
    cpuEncryptNote(m, channelsOf(m, CHANNEL_TYPE_SEC2)[0], KEY_ROTATION_LOWER_THRESHOLD + 1);
    expect([pending(m, CHANNEL_TYPE_WLC), pending(m, CHANNEL_TYPE_LCIC)]).toEqual([true, false]);
    expect(pending(m, CHANNEL_TYPE_SEC2)).toBe(false);
    // Any push that needs a launch rotates WLC's key.
    pushEndAndWait(m, begin(m, channelsOf(m, C2G)[0]));
    expect(versions(m)).toEqual([0, 1, 1, 0, 0, 0, 0]);
  });

  it('without the tests when the resource manager says so, whatever was encrypted', () => {
    const m = atRest();
    const [channel] = channelsOf(m, C2G);
    cpuEncryptNote(m, channel, KEY_ROTATION_LOWER_THRESHOLD + 1);
    expect(pending(m, C2G)).toBe(false);
    rmInjectKeyRotation(m, 0, 'CPU_TO_GPU');
    expect([pending(m, C2G), pending(m, G2C)]).toEqual([true, false]);
    roundTrip(m);
    expect([channelKeyVersion(m, channel), pending(m, C2G)]).toEqual([1, false]);
    const tests = atRest({ parameters: TESTS });
    rmInjectKeyRotation(tests, 0, 'CPU_TO_GPU');
    expect(pending(tests, C2G)).toBe(false);
  });

  it('not while it is off, when nothing is counted either: open pushes of one pool have different channels', () => {
    const m = atRest({ parameters: TESTS });
    keyRotationEnable(m, 0, false);
    const pushes = channelsOf(m, C2G).map(() => {
      const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
      cpuEncryptNote(m, channelGet(m, push.channel), KEY_ROTATION_LOWER_THRESHOLD + 1);
      return push;
    });
    expect(new Set(pushes.map(({ channel }) => channel)).size).toBe(pushes.length);
    for (const push of pushes) pushEndAndWait(m, push);
    keyRotationEnable(m, 0, true);
    expect(pending(m, C2G)).toBe(false);
    expect(versions(m)).toEqual([0, 0, 0, 0, 0, 0, 0]);
  });

  it('not during set-up', () => {
    const m = createConfComputingModel({ parameters: TESTS });
    for (const { keyRotation } of managerOf(m).pools) {
      if (keyRotation !== null) expect(keyRotation).toMatchObject({ version: 0, encrypted: 0, decrypted: 0 });
    }
    expect(confOf(m).keyRotationEnabled).toBe(true);
  });
});

describe('a resource manager that is busy', () => {
  it('makes a rotation of keys fail, and one that is pending wait for the next reservation', () => {
    const m = atRest();
    const [channel] = channelsOf(m, C2G);
    rmInjectBusy(m, 0, 3);
    expect(channelPoolRotateKey(m, 0, channel.pool)).toBe(NV_ERR_STATE_IN_USE);
    rmInjectKeyRotation(m, 0, 'CPU_TO_GPU');
    for (const version of [0, 0, 1, 1]) {
      const push = pushBegin(m, 0, C2G, PURPOSE_TEST);
      expect(push.status).toBe(NV_OK);
      expect(channelKeyVersion(m, channel)).toBe(version);
      pushEnd(m, push);
    }
    expect(confOf(m).rmBusyCalls).toBe(0);
    roundTrip(m);
  });

  /** A channel with few IVs left in one direction. */
  function fewLeft(count: number): { m: Model; channel: Channel } {
    const m = atRest();
    const [channel] = channelsOf(m, C2G);
    confOf(m).csl[channel.index].encryptUsed = ALL - count;
    return { m, channel };
  }

  it('leaves IVs as they are, until less are left than a push can use', () => {
    const enough = fewLeft(2342);
    rmInjectBusy(enough.m, 0, 1);
    expect(maybeRotateChannelIvs(enough.m, enough.channel)).toBe(NV_OK);
    expect(channelRemainingEncryptions(enough.m, enough.channel)).toBe(2342);
    expect(maybeRotateChannelIvs(enough.m, enough.channel)).toBe(NV_OK);
    expect(channelRemainingEncryptions(enough.m, enough.channel)).toBe(ALL);

    const { m, channel } = fewLeft(2341);
    rmInjectBusy(m, 0, 1);
    const refused = pushBegin(m, 0, C2G, PURPOSE_TEST);
    expect(refused.status).toBe(NV_ERR_INSUFFICIENT_RESOURCES);
    // Nothing was begun, and no channel stays locked: the next push takes the same one.
    const next = pushBegin(m, 0, C2G, PURPOSE_TEST);
    expect([next.status, next.channel]).toEqual([NV_OK, channel.id]);
    expect(m.globalStatus).toBe(NV_OK);
    pushEnd(m, next);
  });

  it('of a launch channel gives back both channels', () => {
    const m = atRest();
    const [wlc] = channelsOf(m, CHANNEL_TYPE_WLC);
    for (const channel of channelsOf(m, CHANNEL_TYPE_WLC)) confOf(m).csl[channel.index].decryptUsed = ALL - 100;
    rmInjectBusy(m, 0, 1);
    expect(pushBegin(m, 0, C2G, PURPOSE_TEST).status).toBe(NV_ERR_INSUFFICIENT_RESOURCES);
    const next = pushBegin(m, 0, C2G, PURPOSE_TEST);
    expect([next.channel, next.launchChannel]).toEqual([channelsOf(m, C2G)[0].id, wlc.id]);
    pushEnd(m, next);
  });

  it('is tried until it is free where a caller cannot come back', () => {
    const { m, channel } = fewLeft(5000);
    rmInjectBusy(m, 0, 4);
    expect(maybeRotateChannelIvsRetryBusy(m, channel)).toBe(NV_OK);
    expect([confOf(m).rmBusyCalls, channelRemainingEncryptions(m, channel)]).toEqual([0, ALL]);
  });

  it('leaves both directions of IVs as they are', () => {
    const m = atRest();
    const [channel] = channelsOf(m, C2G);
    Object.assign(confOf(m).csl[channel.index], { encryptUsed: ALL - 5000, decryptUsed: ALL - 5000 });
    rmInjectBusy(m, 0, 1);
    expect(rotateChannelIvsBelowLimit(m, channel, 2 ** 31)).toBe(NV_ERR_STATE_IN_USE);
    expect(left(m, channel)).toEqual([5000, 5000]);
    expect(rotateChannelIvsBelowLimit(m, channel, 2 ** 31)).toBe(NV_OK);
    expect(left(m, channel)).toEqual([ALL, ALL]);
  });
});

describe('rotating IVs on demand', () => {
  it('gives each pool what it can use: SEC2 only decrypts, LCIC only encrypts', () => {
    const m = atRest();
    roundTrip(m);
    for (const pool of managerOf(m).pools) {
      const [channel] = pool.channels;
      if (pool.poolType !== CHANNEL_POOL_TYPE_SEC2 && pool.poolType !== CHANNEL_POOL_TYPE_LCIC) {
        confOf(m).csl[channel.index].encryptUsed++;
        confOf(m).csl[channel.index].decryptUsed++;
      }
      const [encryptions, decryptions] = left(m, channel);
      expect(rotateChannelIvsBelowLimit(m, channel, Infinity)).toBe(NV_OK);
      const [encryptionsAfter, decryptionsAfter] = left(m, channel);
      expect(encryptionsAfter > encryptions).toBe(pool.poolType !== CHANNEL_POOL_TYPE_LCIC);
      expect(decryptionsAfter > decryptions).toBe(pool.poolType !== CHANNEL_POOL_TYPE_SEC2);
    }
  });
});

describe('an injection', () => {
  it('needs Confidential Computing, a count, and a pool with a key of its own', () => {
    const m = atRest();
    expect(() => rmInjectBusy(m, 0, 0)).toThrow('calls is 0');
    expect(() => rmInjectBusy(m, 1, 1)).toThrow('gpu is 1');
    expect(() => rmInjectKeyRotation(m, 0, 'LCIC')).toThrow('have the key of WLC');
    managerOf(m).confComputing = null;
    expect(() => rmInjectBusy(m, 0, 1)).toThrow('no Confidential Computing');
  });
});
