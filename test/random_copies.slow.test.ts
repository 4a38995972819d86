/** Random histories with copies, many, and a count of what occurred in them: nothing that is named may be missing. */
import { describe, expect, it } from 'vitest';
import { COPY_REQUIRED, checkCopySeed } from './histories/copies.ts';
import type { Coverage } from './histories/coverage.ts';

const PARTS = 4;
const PER_PART = 1250;
const TOTAL = PARTS * PER_PART;

const coverage: Coverage = new Map();

describe('random histories with copies', () => {
  for (let part = 0; part < PARTS; part++) {
    const first = 1 + part * PER_PART;
    it(`seeds ${first} to ${first + PER_PART - 1} break no rule`, { timeout: 300_000 }, () => {
      for (let seed = first; seed < first + PER_PART; seed++) expect(checkCopySeed(seed, coverage)).toBeNull();
    });
  }

  it('every form, source, outcome and replay policy occurs', () => {
    const names = [...new Set([...coverage.keys(), ...COPY_REQUIRED])].sort();
    const lines = names.map((name) => `${String(coverage.get(name) ?? 0).padStart(9)}  ${name}`);
    console.log(`random histories with copies, seeds 1 to ${TOTAL}:\n${lines.join('\n')}`);
    expect(COPY_REQUIRED.filter((name) => (coverage.get(name) ?? 0) === 0)).toEqual([]);
  });
});
