/**
 * Predicted against recorded wall times, by suite, of the traced and of the untraced program. The bounds are what the
 * costs of the profile reach, with some room: a change of a cost or of where it is charged shows here.
 */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadMachines } from '../src/analysis/machines.ts';
import { readWallCases, wallErrors } from '../src/analysis/walls.ts';

const SUITES = ['serial', 'cpu', 'scripts1', 'scripts2'];
const RECORDINGS = fileURLToPath(new URL('../recordings', import.meta.url));
/** Most of the median and of the 90th percentile of |predicted - recorded| / recorded. */
const MEDIAN = 0.14;
const P90 = 0.35;

const machines = loadMachines();
const cases = await readWallCases(RECORDINGS, SUITES, machines.known);
const profiles = { 'h200-pcie5': machines.profile('h200-pcie5') };

describe('wall times', () => {
  for (const traced of [false, true]) {
    for (const statistics of wallErrors(cases, profiles, traced).suites) {
      const { suite, samples, median, p90 } = statistics;
      it(`${suite}, ${traced ? 'traced' : 'untraced'}: ${samples} times`, () => {
        expect(samples).toBeGreaterThanOrEqual(9);
        expect(median).toBeLessThanOrEqual(MEDIAN);
        expect(p90).toBeLessThanOrEqual(P90);
      });
    }
  }
});
