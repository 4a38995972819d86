/**
 * The same run is the same run: again, from a snapshot in its middle, with an observer, with or without contents. Bytes
 * of output and hashes of the whole state say so. More recorded histories are in determinism.slow.test.ts.
 */
import { describe, expect, it } from 'vitest';
import { modelHash } from '../src/model/model.ts';
import { advanceRun, resumeRun, runCanStop, snapshotRun } from '../src/scenario/runner.ts';
import { generateHistory } from './histories/generate.ts';
import { moveToFreshModel } from './histories/harness.ts';
import { runHistory } from './histories/run.ts';
import {
  advanceToRest,
  begin,
  bytes,
  machineOf,
  recordedScenarios,
  sameRunTests,
  whole,
} from './support/recorded_runs.ts';

const [small, peers] = await recordedScenarios({ serial: ['small-256k'], peers1: ['peer-bounce-z1'] });

describe('recorded histories', () => {
  sameRunTests(small, false);
  sameRunTests(peers, true);

  it('a copy can be resumed twice, and neither run touches the other', () => {
    const { spec, params, cost } = machineOf(peers, false);
    const run = begin(peers, { contents: true });
    advanceToRest(run, 200);
    const snapshot = snapshotRun(run);
    const a = resumeRun(snapshot, peers, spec, params, cost, { contents: true });
    advanceRun(a);
    const b = resumeRun(snapshot, peers, spec, params, cost, { contents: true });
    advanceRun(b);
    expect(modelHash(a.m)).toBe(modelHash(b.m));
    expect(bytes(a) === bytes(b)).toBe(true);
    expect(bytes(run) === bytes(a)).toBe(false);
  });

  it('a run is not copied while the driver works', () => {
    const run = begin(peers, {});
    let busy = false;
    for (let i = 0; i < 2000 && !busy; i++) {
      advanceRun(run, 1);
      busy = !runCanStop(run);
    }
    expect(busy).toBe(true);
    expect(() => snapshotRun(run)).toThrow('while all threads are blocked');
  });

  it('the hash sees a single bit of the state', () => {
    const run = begin(small, {});
    advanceRun(run, 70);
    const before = modelHash(run.m);
    const block = run.space.ranges[0].blocks[0];
    expect(block).not.toBeNull();
    if (block !== null) block.w[3] ^= 1;
    expect(modelHash(run.m)).not.toBe(before);
    expect(modelHash(whole(small, {}).m)).not.toBe(before);
  });
});

describe('random histories', () => {
  const SEEDS = Array.from({ length: 15 }, (_, i) => 500 + i);

  interface Output {
    text: string;
    hashes: string;
  }

  /** Not by toEqual: the text is long, and nobody wants to see it. */
  function same(a: Output, b: Output): boolean {
    return a.hashes === b.hashes && a.text === b.text;
  }

  function output(seed: number, observed: boolean, move: boolean): Output {
    const history = { ...generateHistory(seed), observed };
    const hashes: string[] = [];
    const { failure, harness } = runHistory(history, new Map(), undefined, (h) => {
      hashes.push(modelHash(h.m));
      if (move) moveToFreshModel(h);
    });
    expect(failure).toBeNull();
    if (harness === null) throw new Error('a history without a machine');
    return { text: bytes(harness.run), hashes: hashes.join(' ') };
  }

  it('five runs of each seed give the same bytes, and the same state after every step', () => {
    for (const seed of SEEDS) {
      const first = output(seed, false, false);
      for (let i = 1; i < 5; i++) expect(same(output(seed, false, false), first)).toBe(true);
    }
  });

  it('moved to a fresh model after every step, with an observer or without, it is the same run', () => {
    for (const seed of SEEDS) {
      const plain = output(seed, false, false);
      expect(same(output(seed, false, true), plain)).toBe(true);
      expect(same(output(seed, true, true), plain)).toBe(true);
    }
  });
});
