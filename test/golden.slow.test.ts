/** Every recording of the package: what is exact stays exact, and what depends on time stays near the hardware. */
import { beforeAll, describe, expect, it } from 'vitest';
import { loadMachines, recordingPath } from '../src/analysis/machines.ts';
import { type CaseResult, tallyFile, timeDependentGroups, validateCase } from '../src/analysis/validate.ts';
import { readCases } from '../src/trace/case_file.ts';

const machines = loadMachines();

async function validate(suite: string): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  for await (const entry of readCases(recordingPath(`${suite}.jsonl.gz`))) {
    results.push(validateCase(entry, suite, machines).result);
  }
  return results;
}

/** What went wrong, for the message of a failing test. */
function complaints(results: readonly CaseResult[]): string[] {
  return results
    .filter((r) => r.verdict === 'notExact' || r.verdict === 'error')
    .map((r) => `${r.scenario}: ${r.error ?? r.difference?.message}`);
}

describe('one fault at a time: all that does not depend on time is exact', () => {
  const SUITES = [
    ['serial', 29, 0],
    ['cpu', 7, 2],
    ['scripts1', 22, 1],
    ['scripts2', 22, 1],
    ['probes1', 10, 0],
    ['probes2', 10, 0],
    ['peers1', 10, 0],
    ['pins', 0, 6],
    ['pingpongs', 0, 18],
  ] as const;
  for (const [suite, exact, timeDependent] of SUITES) {
    it(`${suite}: ${exact} exact, ${timeDependent} time-dependent`, async () => {
      const results = await validate(suite);
      expect(complaints(results)).toEqual([]);
      expect(tallyFile(suite, results)).toMatchObject({ exact, timeDependent, notExact: 0, errors: 0, replayed: 0 });
    });
  }
});

describe('random histories, recorded after the rules were written', () => {
  // Whether one of the few that depend on time shows it in the model is a matter of its times: only most are counted.
  const SUITES = [
    ['random1', 497, 490],
    ['random2', 1499, 1470],
    ['random-peers1', 300, 275],
  ] as const;
  for (const [suite, cases, exact] of SUITES) {
    it(`${suite}: at least ${exact} of ${cases} exact, the others time-dependent`, async () => {
      const results = await validate(suite);
      expect(complaints(results)).toEqual([]);
      const tally = tallyFile(suite, results);
      expect(tally.exact + tally.timeDependent).toBe(cases);
      expect(tally.exact).toBeGreaterThanOrEqual(exact);
    });
  }
});

describe('whole-grid kernels: given the recorded batches, every migration is exact, in order', () => {
  const SUITES = [
    ['parallel', 8, 26014],
    ['repeats', 15, 11977],
  ] as const;
  for (const [suite, cases, migrations] of SUITES) {
    it(`${suite}: ${migrations} migrations`, async () => {
      const results = await validate(suite);
      expect(complaints(results)).toEqual([]);
      expect(tallyFile(suite, results)).toMatchObject({
        exact: cases,
        replayed: cases,
        replayedMigrations: migrations,
        exactMigrations: migrations,
      });
    });
  }
});

describe('time-dependent histories: counts within the widened range of their recordings', () => {
  const results: CaseResult[] = [];
  beforeAll(async () => {
    for (const suite of ['cpu', 'scripts1', 'scripts2', 'pins', 'pingpongs']) results.push(...(await validate(suite)));
  });
  // Recordings of one history in one line; the ones with the number of a seed are histories of their own.
  const HISTORIES = [
    ['pingpong-one-page', 1],
    ['pingpong-64-pages', 1],
    ['pingpong-page-z1', 1],
    ['pingpong-page-z2', 1],
    ['pin-both-write', 6],
    ['pp-page', 6],
    ['pp-64-pages', 6],
    ['pp-block-64k', 6],
  ] as const;
  for (const [history, recordings] of HISTORIES) {
    it(`${history}, recorded ${recordings} times`, () => {
      const group = timeDependentGroups(results).find((g) => g.scenario === history);
      expect(group?.recordings).toBe(recordings);
      const outside = Object.entries(group?.counts ?? {}).filter(([, count]) => !count.inside);
      expect(outside).toEqual([]);
    });
  }
  it('there are no others', () => {
    expect(timeDependentGroups(results)).toHaveLength(HISTORIES.length);
  });
});
