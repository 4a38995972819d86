/**
 * One bit of unprotected memory is changed somewhere in a random history with Confidential Computing. Either that is
 * found, and the driver ends as it ends for such an error, or nobody read what was changed. Never is there wrong data,
 * and never a wait without an end that the driver would not have.
 */
import { expect, it } from 'vitest';
import { createPrng, prngNext } from '../src/base/prng.ts';
import type { Model } from '../src/model/state.ts';
import { confComputingOf, confComputingResources } from '../src/model/uvm/conf_computing.ts';
import { ENCRYPTED_SEMAPHORE_BYTES, unprotectedName } from '../src/model/uvm/secure_memory.ts';
import { NV_ERR_INVALID_DATA, NV_ERR_RC_ERROR, NV_OK } from '../src/model/uvm/status.ts';
import { withConfidentialComputing } from './histories/check.ts';
import { generateHistory } from './histories/generate.ts';
import { runHistory } from './histories/run.ts';
import { flip } from './support/unprotected.ts';

/** Writes to unprotected memory that a history may have at most before the one that is changed. */
const WRITES = 300;
const FIRST = 4_000_000;
const COUNT = 120;

/** The parts of a semaphore's structure by their first byte. */
const PARTS: [number, string][] = [
  [16, 'tag'],
  [8, 'padding'],
  [4, 'notifier'],
  [0, 'payload'],
];

interface Outcome {
  /** What was changed; null where the history ended before. */
  what: string | null;
  status: number;
  pushDecryptFailures: number;
  failure: string | null;
}

function runWithFlip(seed: number): Outcome {
  const prng = createPrng(seed);
  let left = prngNext(prng) % WRITES;
  let what: string | null = null;
  const models: Model[] = [];
  const plant = (m: Model): void => {
    models.push(m);
    const resources = confComputingResources(m);
    resources.unprotectedWritten = (model, gpu, address, bytes) => {
      if (left-- !== 0) return;
      const at = prngNext(prng) % bytes;
      const name = unprotectedName(address);
      const part = bytes === ENCRYPTED_SEMAPHORE_BYTES ? PARTS.find(([first]) => at >= first)?.[1] : undefined;
      what = part === undefined || name === 'pushbuffer' ? name : part;
      flip(model, gpu, address + at, 2 ** (prngNext(prng) % 8));
    };
    resources.bounceWritten = (model, gpu, buffer, page, toGpu) => {
      if (left-- !== 0) return;
      what = toGpu ? 'page to GPU' : 'page to CPU';
      const { cipher } = confComputingOf(model.gpus[gpu].channelManager).dma.buffers[buffer];
      (cipher.get(page) as Uint8Array)[prngNext(prng) % 4096] ^= 2 ** (prngNext(prng) % 8);
    };
  };
  const { failure } = runHistory(withConfidentialComputing(generateHistory(seed)), new Map(), plant);
  const [m] = models;
  const counts = m.gpus.map(({ channelManager }) => confComputingOf(channelManager).counts.pushDecryptFailures);
  return { what, status: m.globalStatus, pushDecryptFailures: Math.max(...counts), failure };
}

it('of unprotected memory end as the driver ends, over random histories', () => {
  const found = new Map<string, number>();
  for (let seed = FIRST; seed < FIRST + COUNT; seed++) {
    const { what, status, pushDecryptFailures, failure } = runWithFlip(seed);
    if (what === null) continue;
    const text = `seed ${seed}, ${what}: ${failure}`;
    // Nothing is found only where nothing went wrong.
    if (status === NV_OK) expect(text).toBe(`seed ${seed}, ${what}: null`);
    else {
      expect([NV_ERR_RC_ERROR, NV_ERR_INVALID_DATA]).toContain(status);
      expect(text).not.toMatch(/finds|did not see|the push that|names the push|left there/);
    }
    // What is read for sure is found for sure.
    if (what === 'WLC') expect([text, status]).toEqual([text, NV_ERR_RC_ERROR]);
    if (what === 'padding') expect([text, status]).toEqual([text, NV_OK]);
    const how = status === NV_OK ? (pushDecryptFailures > 0 ? 'no error, but noticed' : 'not read') : status;
    found.set(`${what}: ${how}`, (found.get(`${what}: ${how}`) ?? 0) + 1);
  }
  expect([...found.keys()]).toEqual(
    expect.arrayContaining([
      `WLC: ${NV_ERR_RC_ERROR}`,
      `pushbuffer: ${NV_ERR_RC_ERROR}`,
      'pushbuffer: no error, but noticed',
      `page to GPU: ${NV_ERR_RC_ERROR}`,
      `page to CPU: ${NV_ERR_INVALID_DATA}`,
      `tag: ${NV_ERR_INVALID_DATA}`,
      `payload: ${NV_ERR_INVALID_DATA}`,
    ]),
  );
}, 60_000);
