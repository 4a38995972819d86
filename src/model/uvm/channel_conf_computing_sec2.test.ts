/** After uvm_sec2_test.c and the part of uvm_ce_test.c with Confidential Computing (driver 580.105.08). */
import { describe, expect, it } from 'vitest';
import { createChannelModel } from '../../../test/support/channel_model.ts';
import { createConfComputingModel } from '../../../test/support/conf_computing_model.ts';
import { flipNext, memoryOf } from '../../../test/support/unprotected.ts';
import { byteMemoryRead, byteMemoryReadWord, byteMemoryWrite, bytesEqual, bytesOfWords } from '../gpu/byte_memory.ts';
import { FIRST_UNPROTECTED } from '../gpu/secure_memory.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_TYPE_CPU_TO_GPU,
  CHANNEL_TYPE_GPU_TO_CPU,
  CHANNEL_TYPE_SEC2,
  channelGet,
  channelManagerWait,
} from './channel.ts';
import { cpuDecryptAt, cpuEncryptAt } from './channel_conf_computing_bytes.ts';
import { sec2BeginPush, sec2EndAndWait, sec2Release, sec2Reserve, sec2Upload } from './channel_conf_computing_sec2.ts';
import { acquireEncryptionIv, confComputingOf, logGpuEncryption } from './conf_computing.ts';
import { PURPOSE_TEST, pushBegin, pushBeginAcquire, pushEnd, pushEndAndWait, pushSecureCopyAt } from './push.ts';
import { semaphoreSec2GpuVa } from './secure_memory.ts';
import { NV_ERR_INVALID_DATA, NV_ERR_INVALID_STATE, NV_ERR_RC_ERROR, NV_OK } from './status.ts';
import { createTracker, trackerAddPush } from './tracker.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** Memory of a test: plain on the GPU, cipher text of either direction, tags. */
const VIDMEM = 2 ** 40;
const TO_GPU = FIRST_UNPROTECTED + 2 ** 40;
const TO_CPU = FIRST_UNPROTECTED + 2 ** 41;
const TAGS = FIRST_UNPROTECTED + 2 ** 42;
const TAG_BYTES = 16;

const create = (): Model => createConfComputingModel({ contents: true });

/** `size` bytes of words of 64 bits that count up. */
function pattern(size: number, first: number): Uint8Array {
  const words: number[] = [];
  for (let i = 0; 8 * i < size; i++) words.push(first + i, 0x5ec2);
  return bytesOfWords(words).subarray(0, size);
}

const part = (plain: Uint8Array, i: number, copySize: number) => plain.slice(i * copySize, (i + 1) * copySize);

/** Encrypts memory of the GPU with a copy engine and decrypts it on the CPU, in order or in reverse. */
function backToCpu(m: Model, size: number, copySize: number, inOrder: boolean, tracker = createTracker()): Uint8Array {
  const push = pushBeginAcquire(m, 0, CHANNEL_TYPE_GPU_TO_CPU, PURPOSE_TEST, tracker);
  const channel = channelGet(m, push.channel);
  const count = size / copySize;
  const ivs: number[] = [];
  for (let i = 0; i < count; i++) {
    ivs.push(logGpuEncryption(m, channel, copySize));
    const at = i * copySize;
    pushSecureCopyAt(m, push, false, TO_CPU + at, VIDMEM + at, copySize, TAGS + i * TAG_BYTES);
  }
  expect(pushEndAndWait(m, push)).toBe(NV_OK);
  const plain = new Uint8Array(size);
  for (let k = 0; k < count; k++) {
    const i = inOrder ? k : count - 1 - k;
    const { status, plain: bytes } = cpuDecryptAt(m, channel, ivs[i], TO_CPU + i * copySize, copySize, TAGS + i * 16);
    expect(status).toBe(NV_OK);
    plain.set(bytes as Uint8Array, i * copySize);
  }
  return plain;
}

/** Neither direction's cipher text is the plain text, not even a small part of it. */
function expectCipherText(m: Model, plain: Uint8Array): void {
  const { unprotected } = memoryOf(m);
  for (const at of [TO_GPU, TO_CPU]) {
    const cipher = byteMemoryRead(unprotected, at, plain.length);
    expect(bytesEqual(cipher, plain)).toBe(false);
    for (let i = 0; i + 16 <= plain.length; i += 16) {
      if (bytesEqual(cipher.subarray(i, i + 16), plain.subarray(i, i + 16))) throw new Error(`plain text at byte ${i}`);
    }
  }
}

describe('SEC2', () => {
  it('releases a semaphore', () => {
    const m = create();
    const s = sec2BeginPush(m, 0, PURPOSE_TEST);
    const at = TO_GPU + 2 ** 20;
    sec2Release(m, s, at, 0xa5a55a5a);
    expect(byteMemoryReadWord(memoryOf(m).unprotected, at)).toBe(0);
    expect(sec2EndAndWait(m, s)).toBe(NV_OK);
    expect(byteMemoryReadWord(memoryOf(m).unprotected, at)).toBe(0xa5a55a5a);
    // Its own tracking semaphore is in the clear.
    const { trackingSem } = channelGet(m, s.push.channel);
    expect(byteMemoryReadWord(memoryOf(m).unprotected, semaphoreSec2GpuVa(trackingSem))).toBe(s.push.trackingValue);
  });

  /** CPU encrypts, SEC2 decrypts, a copy engine encrypts, CPU decrypts. */
  function roundTrip(copySize: number, size: number): void {
    const m = create();
    const plain = pattern(size, copySize);
    const s = sec2BeginPush(m, 0, PURPOSE_TEST);
    for (let i = 0; i < size / copySize; i++) {
      const at = i * copySize;
      sec2Upload(m, s, part(plain, i, copySize), copySize, TO_GPU + at, TAGS + i * TAG_BYTES, VIDMEM + at);
    }
    expect(sec2EndAndWait(m, s)).toBe(NV_OK);
    expect(bytesEqual(byteMemoryRead(memoryOf(m).protected, VIDMEM, size), plain)).toBe(true);
    expect(bytesEqual(backToCpu(m, size, copySize, true), plain)).toBe(true);
    if (size >= 16) expectCipherText(m, plain);
  }

  it.each([4, 16, 512, 2 * KIB, 4 * KIB, 64 * KIB, 2 * MIB])('decrypts, in pieces of %i bytes', (copySize) => {
    roundTrip(copySize, copySize < 16 ? copySize : Math.min(2 * MIB, 256 * copySize));
  });

  it('decrypts 2 MiB in pages of 4 KiB', () => roundTrip(4 * KIB, 2 * MIB));

  it('is not there without Confidential Computing', () => {
    expect(sec2BeginPush(createChannelModel(), 0, PURPOSE_TEST).push.status).toBe(NV_ERR_INVALID_STATE);
  });

  it('has the bytes of its push counted without contents too', () => {
    const bytes = [true, false].map((contents) => {
      const m = createConfComputingModel({ contents });
      const s = sec2BeginPush(m, 0, PURPOSE_TEST);
      const tag = sec2Reserve(s);
      sec2Upload(m, s, contents ? pattern(64, 1) : null, 64, TO_GPU, tag, VIDMEM);
      expect(sec2EndAndWait(m, s)).toBe(NV_OK);
      return [s.push.bytes, confComputingOf(m.gpus[0].channelManager).signed];
    });
    // 84 to gather methods; 12, 16 for the tag; 4, 32 for a signature, 80 of methods; 16, 32 and 48 for the release.
    expect(bytes[0][0]).toBe(84 + (12 + 16) + (4 + 12 + 32 + 80) + (16 + 32 + 48));
    expect(bytes[1]).toEqual(bytes[0]);
  });

  it.each([
    ['methods', 100],
    ['a signature', 140],
  ])('refuses a push of which %s were changed: an error of its channel', (_name, offset) => {
    const m = create();
    expect(channelManagerWait(m, 0)).toBe(NV_OK);
    const s = sec2BeginPush(m, 0, PURPOSE_TEST);
    sec2Upload(m, s, pattern(64, 1), 64, TO_GPU, TAGS, VIDMEM);
    const flipped = flipNext(m, { name: 'pushbuffer', offset });
    expect(sec2EndAndWait(m, s)).toBe(NV_ERR_RC_ERROR);
    expect([flipped(), m.globalStatus]).toEqual([1, NV_ERR_RC_ERROR]);
    const { fatalEntry, poolForType, pools } = m.gpus[0].channelManager;
    expect(fatalEntry?.channel).toBe(pools[poolForType[CHANNEL_TYPE_SEC2]].channels[0].id);
  });

  it.each([
    ['cipher text', TO_GPU],
    ['a tag', TAGS],
  ])('refuses %s that was changed', (_name, address) => {
    const m = create();
    const s = sec2BeginPush(m, 0, PURPOSE_TEST);
    sec2Upload(m, s, pattern(64, 1), 64, TO_GPU, TAGS, VIDMEM);
    const byte = byteMemoryRead(memoryOf(m).unprotected, address, 1);
    byte[0] ^= 1;
    byteMemoryWrite(memoryOf(m).unprotected, address, byte);
    expect(sec2EndAndWait(m, s)).toBe(NV_ERR_RC_ERROR);
    expect(bytesEqual(byteMemoryRead(memoryOf(m).protected, VIDMEM, 64), new Uint8Array(64))).toBe(true);
  });
});

describe('a copy engine', () => {
  /** As SEC2's, with a copy engine on both ways; the CPU may encrypt in reverse with IVs that it took in order. */
  function roundTrip(size: number, copySize: number, encryptInOrder: boolean, decryptInOrder: boolean): void {
    const m = create();
    const plain = pattern(size, size + copySize + (decryptInOrder ? 2 ** 31 : 0));
    const push = pushBegin(m, 0, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_TEST);
    const channel = channelGet(m, push.channel);
    const count = size / copySize;
    const ivs = Array.from({ length: count }, () => acquireEncryptionIv(m, channel));
    for (let k = 0; k < count; k++) {
      const i = encryptInOrder ? k : count - 1 - k;
      const at = TO_GPU + i * copySize;
      cpuEncryptAt(m, channel, ivs[i], part(plain, i, copySize), at, TAGS + i * TAG_BYTES);
    }
    for (let i = 0; i < count; i++) {
      const at = i * copySize;
      pushSecureCopyAt(m, push, true, VIDMEM + at, TO_GPU + at, copySize, TAGS + i * TAG_BYTES);
    }
    pushEnd(m, push);
    const tracker = createTracker();
    trackerAddPush(tracker, push);
    expect(bytesEqual(backToCpu(m, size, copySize, decryptInOrder, tracker), plain)).toBe(true);
    if (size >= 16) expectCipherText(m, plain);
  }

  it.each([
    [1, 1],
    [3, 1],
    [8, 1],
    [2, 2],
    [8, 4],
    [4 * KIB - 8, 8],
    [4 * KIB + 8, 8],
  ])('decrypts and encrypts %i bytes in pieces of %i', (size, copySize) => roundTrip(size, copySize, true, true));

  const ORDERS = [
    [true, true],
    [true, false],
    [false, true],
    [false, false],
  ];
  const SIZES = [4 * KIB, 8 * KIB, 2 * MIB];
  const COPY_SIZES = [4 * KIB, 64 * KIB, 2 * MIB];
  const cases = SIZES.flatMap((size) =>
    COPY_SIZES.filter((copySize) => copySize <= size).flatMap((copySize) =>
      // One piece has no order.
      ORDERS.filter(([, decrypt]) => decrypt || copySize < size).map(
        ([encrypt, decrypt]): [number, number, boolean, boolean] => [size, copySize, encrypt, decrypt],
      ),
    ),
  );

  it.each(cases)('and pages: %i bytes in pieces of %i, CPU in order: encryption %s, decryption %s', roundTrip);

  it('is not believed by the CPU when a bit was changed on the way', () => {
    const m = create();
    const push = pushBegin(m, 0, CHANNEL_TYPE_GPU_TO_CPU, PURPOSE_TEST);
    const channel = channelGet(m, push.channel);
    const iv = logGpuEncryption(m, channel, 64);
    pushSecureCopyAt(m, push, false, TO_CPU, VIDMEM, 64, TAGS);
    expect(pushEndAndWait(m, push)).toBe(NV_OK);
    expect(cpuDecryptAt(m, channel, iv, TO_CPU, 64, TAGS).status).toBe(NV_OK);
    expect(cpuDecryptAt(m, channel, iv + 1, TO_CPU, 64, TAGS).status).toBe(NV_ERR_INVALID_DATA);
    byteMemoryWrite(memoryOf(m).unprotected, TO_CPU + 63, Uint8Array.of(0));
    expect(cpuDecryptAt(m, channel, iv, TO_CPU, 64, TAGS)).toEqual({ status: NV_ERR_INVALID_DATA, plain: null });
  });
});
