/** The checks of the random histories catch bugs: each one planted here must show within a few seeds. */
import { describe, expect, it } from 'vitest';
import { generateHistory } from './histories/generate.ts';
import { PLANTS } from './histories/plants.ts';
import { runHistory } from './histories/run.ts';

const SEEDS_MAX = 60;

/** First seed whose history fails with the bug and passes without it, and what it says. */
function firstCatch(plant: (typeof PLANTS)[string]): { seed: number; failure: string } | null {
  for (let seed = 1; seed <= SEEDS_MAX; seed++) {
    const { failure } = runHistory(generateHistory(seed), new Map(), plant);
    if (failure === null) continue;
    return runHistory(generateHistory(seed), new Map()).failure === null ? { seed, failure } : null;
  }
  return null;
}

describe('planted bugs', () => {
  for (const [name, plant] of Object.entries(PLANTS)) {
    it(`${name}: caught`, () => {
      const caught = firstCatch(plant);
      expect(caught).not.toBeNull();
    });
  }
});
