/** Random histories with copies, a few; the many are in random_copies.slow.test.ts. COPY_SEED=n runs one seed. */
import { expect, it } from 'vitest';
import { withConfidentialComputing } from './histories/check.ts';
import { checkCopySeed } from './histories/copies.ts';

const FIRST = Number(process.env['COPY_SEED'] ?? 2_000_001);
const COUNT = process.env['COPY_SEED'] === undefined ? 200 : 1;

it(`seeds ${FIRST} to ${FIRST + COUNT - 1} break no rule`, { timeout: 120_000 }, () => {
  for (let seed = FIRST; seed < FIRST + COUNT; seed++) expect(checkCopySeed(seed, new Map())).toBeNull();
});

it('the first ones break no rule with Confidential Computing either', { timeout: 120_000 }, () => {
  for (let seed = FIRST; seed < FIRST + Math.min(COUNT, 60); seed++) {
    expect(checkCopySeed(seed, new Map(), undefined, withConfidentialComputing)).toBeNull();
  }
});
