/**
 * Random histories, a few: after every step the driver's invariants hold, the hardware's page tables agree with the
 * driver's, and every byte read is the last one written. The many are in random_histories.slow.test.ts.
 *
 * HISTORY_SEED=n runs one seed; HISTORY_FILE=path runs a history that a failure has printed.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { checkSeeds, failureText, withConfidentialComputing } from './histories/check.ts';
import { type Coverage, missing, REQUIRED } from './histories/coverage.ts';
import { generateHistory } from './histories/generate.ts';
import { fail } from './histories/harness.ts';
import type { Access, History, Program } from './histories/history.ts';
import { runHistory } from './histories/run.ts';
import { shrink } from './histories/shrink.ts';

const FIRST = Number(process.env['HISTORY_SEED'] ?? 1_000_001);
const COUNT = process.env['HISTORY_SEED'] === undefined ? 400 : 1;

describe('random histories', () => {
  it(`seeds ${FIRST} to ${FIRST + COUNT - 1} break no rule`, () => {
    expect(checkSeeds(FIRST, COUNT, new Map())).toBeNull();
  }, 120_000);

  it('the first ones break no rule with Confidential Computing either', () => {
    expect(checkSeeds(FIRST, Math.min(COUNT, 60), new Map(), withConfidentialComputing)).toBeNull();
  }, 60_000);

  it('two GPUs that take pages from each other stop once the driver sees that they thrash', () => {
    const program = (on: number, page: number, access: Access, at: number): Program => ({
      on,
      gpc: 2,
      client: 53,
      at,
      accesses: [[0, page, access]],
    });
    const programs = [program(1, 9, 1, 58_019), program(2, 6, 2, 274)];
    /** Decisions, up to a limit; replays wait until a fault buffer is empty. */
    function decisions(parameters: Record<string, number>, limit: number): number {
      let count = 0;
      const { failure } = runHistory(
        {
          ...{ seed: 0, gpus: 2, nvlinkPeers: false, confidentialComputing: true, faultBufferEntries: 256 },
          ...{ vidmemPages: 2 ** 25, traced: false, observed: false, verify: true, costs: {} },
          parameters: { uvm_perf_fault_replay_policy: 3, ...parameters },
          buffers: [{ gap: 512, pages: 16 }],
          steps: [{ do: 'burst', programs, raw: [], flushAt: [] }],
        },
        new Map(),
        (m) => {
          const decide = m.res.seams.selectResidency;
          m.res.seams.selectResidency = (...call) => {
            if (++count >= limit) fail('enough');
            return decide(...call);
          };
        },
      );
      expect(failure).toBe(count < limit ? null : 'enough');
      return count;
    }
    expect(decisions({}, 100)).toBeLessThan(20);
    expect(decisions({ uvm_perf_thrashing_lapse_usec: 100 }, 100)).toBeLessThan(20);
    expect(decisions({ uvm_perf_thrashing_lapse_usec: 50 }, 100)).toBe(100);
    expect(decisions({ uvm_perf_thrashing_enable: 0 }, 100)).toBe(100);
  });

  it('a history in a file breaks no rule', () => {
    const file = process.env['HISTORY_FILE'];
    const history: History = file === undefined ? generateHistory(1) : JSON.parse(readFileSync(file, 'utf8'));
    const { failure, step } = runHistory(history, new Map());
    expect(failure === null ? null : failureText(history, failure, step)).toBeNull();
  });

  it('a seed makes the same history every time, and different seeds make different ones', () => {
    expect(generateHistory(77)).toEqual(generateHistory(77));
    expect(generateHistory(77).steps).not.toEqual(generateHistory(78).steps);
  });

  it('names what did not occur', () => {
    const coverage: Coverage = new Map([['advice setReadMostly', 1]]);
    const names = missing(coverage);
    expect(names).toHaveLength(REQUIRED.length - 1);
    expect(names).not.toContain('advice setReadMostly');
  });

  it('leaves out what a failure does not need', () => {
    const history = generateHistory(77);
    expect(history.steps.length).toBeGreaterThan(2);
    const wanted = history.steps[2];
    const least = shrink(history, (candidate) => candidate.steps.some((step) => step.do === wanted.do));
    expect(least.steps).toHaveLength(1);
    expect(least.steps[0].do).toBe(wanted.do);
    expect(least.parameters).toEqual({});
    expect(least.costs).toEqual({});
  });
});
