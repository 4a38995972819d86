/**
 * Everything that ever lies in unprotected memory of a machine with Confidential Computing, over whole random histories:
 * no plain text of a page, of a push or of a tracking semaphore's payload is in it.
 */
import { describe, expect, it } from 'vitest';
import { byteMemoryRead, wordAt } from '../src/model/gpu/byte_memory.ts';
import type { Model } from '../src/model/state.ts';
import { channelManagerWait } from '../src/model/uvm/channel.ts';
import { confComputingOf, confComputingResources } from '../src/model/uvm/conf_computing.ts';
import type { AeadCipher } from '../src/model/uvm/conf_computing_types.ts';
import { PURPOSE_LAUNCH, PURPOSE_LAUNCH_CONFIRM } from '../src/model/uvm/push.ts';
import { codeBytes } from '../src/model/uvm/push_code.ts';
import { pushEncode } from '../src/model/uvm/push_encode.ts';
import {
  ENCRYPTED_TAG_OFFSET,
  semaphoreEncryptedGpuVa,
  unprotectedName,
  WLC_PUSH_BYTES,
  wlcRunGpuVa,
} from '../src/model/uvm/secure_memory.ts';
import { NV_OK } from '../src/model/uvm/status.ts';
import { aesGcm } from '../src/scenario/aead.ts';
import { withConfidentialComputing } from './histories/check.ts';
import { generateHistory } from './histories/generate.ts';
import { runHistory } from './histories/run.ts';
import { toyCipher } from './support/toy_cipher.ts';
import { memoryOf } from './support/unprotected.ts';

/** Bytes that must be the same for a piece of plain text to count as found: four words. */
const WINDOW = 16;

/** A number that tells 16 bytes from others; zeros have none. */
function windowKey(bytes: Uint8Array, at: number): number {
  let low = 0x811c9dc5;
  let high = 0x9747b28c;
  let any = 0;
  for (let i = at; i < at + WINDOW; i++) {
    any |= bytes[i];
    low = Math.imul(low ^ bytes[i], 0x01000193);
    high = Math.imul(high + bytes[i], 0x85ebca6b) ^ (high >>> 13);
  }
  return any === 0 ? 0 : (low >>> 0) + ((high >>> 0) % 2 ** 21) * 2 ** 32;
}

function addWindows(keys: Set<number>, bytes: Uint8Array): void {
  for (let at = 0; at + WINDOW <= bytes.length; at += 4) {
    const key = windowKey(bytes, at);
    if (key !== 0) keys.add(key);
  }
}

/** What a history wrote where anybody can read it, and what must not be there. */
interface Found {
  written: Set<number>;
  pages: Set<number>;
  pushes: Set<number>;
  /** Writes by place, payloads among them, and those that were in the clear. */
  places: Map<string, number>;
  openPayloads: number;
}

function watch(m: Model, found: Found): void {
  const resources = confComputingResources(m);
  resources.bounceWritten = (_m, gpu, buffer, page) => {
    const { cipher, tag } = confComputingOf(m.gpus[gpu].channelManager).dma.buffers[buffer];
    addWindows(found.written, cipher.get(page) as Uint8Array);
    addWindows(found.written, tag.get(page) as Uint8Array);
    found.places.set('pages', (found.places.get('pages') ?? 0) + 1);
  };
  resources.unprotectedWritten = (_m, gpu, address, bytes) => {
    const name = unprotectedName(address);
    const written = byteMemoryRead(memoryOf(m, gpu).unprotected, address, bytes);
    found.places.set(name, (found.places.get(name) ?? 0) + 1);
    if (name === 'notifiers of LCIC') return;
    if (name !== 'semaphore payloads') {
      addWindows(found.written, written);
      return;
    }
    addWindows(found.written, written.subarray(ENCRYPTED_TAG_OFFSET));
    const { channels, host } = m.gpus[gpu].channelManager;
    const channel = channels.find(({ trackingSem }) => semaphoreEncryptedGpuVa(trackingSem) === address);
    if (channel === undefined) throw new Error('no semaphore is there');
    const { page, index } = channel.trackingSem;
    if (wordAt(written, 0) === host.semaphorePages[page][index]) found.openPayloads++;
  };
  m.res.seams.pushEnded = (_m, push) => {
    if (push.purpose === PURPOSE_LAUNCH) {
      for (let pair = 0; pair < 16; pair++) {
        addWindows(found.pushes, byteMemoryRead(memoryOf(m, push.gpu).protected, wlcRunGpuVa(pair), WLC_PUSH_BYTES));
      }
    } else if (push.purpose !== PURPOSE_LAUNCH_CONFIRM) addWindows(found.pushes, codeBytes(pushEncode(m, push).code));
  };
}

function addPages(m: Model, found: Found): void {
  for (const pages of m.contents?.pages ?? []) {
    for (const words of pages.values()) {
      if (words !== null) addWindows(found.pages, new Uint8Array(words.buffer, words.byteOffset, words.byteLength));
    }
  }
}

const common = (a: Set<number>, b: Set<number>): number => [...a].filter((key) => b.has(key)).length;

/** Runs a history with a cipher; what was in the clear. */
function run(
  seed: number,
  cipher: AeadCipher,
): Found & { failure: string | null; openPages: number; openPushes: number } {
  const found: Found = {
    written: new Set(),
    pages: new Set(),
    pushes: new Set(),
    places: new Map(),
    openPayloads: 0,
  };
  const history = withConfidentialComputing(generateHistory(seed));
  const plant = (m: Model): void => {
    for (const gpu of m.gpus) expect(channelManagerWait(m, gpu.index)).toBe(NV_OK);
    confComputingResources(m).aead = cipher;
    watch(m, found);
  };
  const { failure } = runHistory(history, new Map(), plant, (h) => addPages(h.m, found));
  const { written, pages, pushes } = found;
  return { ...found, failure, openPages: common(written, pages), openPushes: common(written, pushes) };
}

describe('unprotected memory', () => {
  const seeds = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);

  it.each([
    ['AES-256-GCM', aesGcm, seeds(1_000_001, 12)],
    ["the histories' cipher", toyCipher, seeds(1_000_101, 30)],
  ])('holds no plain text over random histories, with %s', (_name, cipher, list) => {
    const places = new Map<string, number>();
    const secrets = [0, 0];
    for (const seed of list) {
      const one = run(seed, cipher);
      expect([seed, one.failure, one.openPages, one.openPushes, one.openPayloads]).toEqual([seed, null, 0, 0, 0]);
      for (const [name, count] of one.places) places.set(name, (places.get(name) ?? 0) + count);
      secrets[0] += one.pages.size;
      secrets[1] += one.pushes.size;
    }
    // Pages hold few words, each of them in four windows.
    expect(secrets[0]).toBeGreaterThan(80);
    expect(secrets[1]).toBeGreaterThan(10_000);
    const names = ['WLC', 'notifiers of LCIC', 'pages', 'pushbuffer', 'semaphore payloads'];
    expect([...places.keys()].sort()).toEqual(names);
    for (const name of names) expect(places.get(name)).toBeGreaterThan(100);
  });

  it('would be found to hold some, if the cipher did nothing', () => {
    const open: AeadCipher = {
      seal: (_key, _iv, plain) => ({ cipher: plain.slice(), tag: new Uint8Array(16) }),
      open: (_key, _iv, cipher) => cipher.slice(),
    };
    const all = seeds(1_000_001, 12).map((seed) => run(seed, open));
    expect(all.map(({ failure }) => failure)).toEqual(all.map(() => null));
    const sum = (of: (one: (typeof all)[0]) => number) => all.reduce((total, one) => total + of(one), 0);
    expect(sum((one) => one.openPages)).toBeGreaterThan(50);
    expect(sum((one) => one.openPushes)).toBeGreaterThan(1000);
    expect(sum((one) => one.openPayloads)).toBeGreaterThan(1000);
  });
});
