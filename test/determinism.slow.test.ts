/** The same run is the same run (determinism.test.ts), for more of the recorded histories. */
import { describe } from 'vitest';
import { recordedScenarios, sameRunTests } from './support/recorded_runs.ts';

const scenarios = await recordedScenarios({
  serial: ['rand-64k-read-s1', 'readmostly-seq-4k'],
  cpu: ['cpu-read-back-64k', 'prefetch-to-cpu'],
  scripts1: ['half-resident-then-read-z1', 'subrange-advise-z1', 'pingpong-page-z1'],
  probes1: ['split-two-cuts-z1', 'read-mostly-prefetch-z1'],
  peers1: ['peer-read-mostly-z1'],
  pins: ['pin-both-write-run0'],
});

describe('recorded histories', () => {
  for (const scenario of scenarios) {
    sameRunTests(scenario, false);
    sameRunTests(scenario, true);
  }
});
