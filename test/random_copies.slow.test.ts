/** Random histories with copies, many, and a count of what occurred in them: nothing that is named may be missing. */
import { describe, expect, it } from 'vitest';
import { withConfidentialComputing } from './histories/check.ts';
import { COPY_REQUIRED, COPY_REQUIRED_CONF_COMPUTING, checkCopySeed } from './histories/copies.ts';
import type { Coverage } from './histories/coverage.ts';

const PARTS = 4;
const PER_PART = 1250;
const TOTAL = PARTS * PER_PART;

const SECURE_FIRST = 20_001;
const SECURE = 1500;

const coverage: Coverage = new Map();

/** How often each thing occurred, and the names of those that are missing. */
function counted(what: string, counts: Coverage, required: readonly string[]): string[] {
  const names = [...new Set([...counts.keys(), ...required])].sort();
  const lines = names.map((name) => `${String(counts.get(name) ?? 0).padStart(9)}  ${name}`);
  console.log(`random histories with copies, ${what}:\n${lines.join('\n')}`);
  return required.filter((name) => (counts.get(name) ?? 0) === 0);
}

describe('random histories with copies', () => {
  for (let part = 0; part < PARTS; part++) {
    const first = 1 + part * PER_PART;
    it(`seeds ${first} to ${first + PER_PART - 1} break no rule`, { timeout: 300_000 }, () => {
      for (let seed = first; seed < first + PER_PART; seed++) expect(checkCopySeed(seed, coverage)).toBeNull();
    });
  }

  it('every form, source, outcome and replay policy occurs', () => {
    expect(counted(`seeds 1 to ${TOTAL}`, coverage, COPY_REQUIRED)).toEqual([]);
  });

  it(`seeds ${SECURE_FIRST} to ${SECURE_FIRST + SECURE - 1}, with Confidential Computing`, { timeout: 300_000 }, () => {
    const secure: Coverage = new Map();
    for (let seed = SECURE_FIRST; seed < SECURE_FIRST + SECURE; seed++) {
      expect(checkCopySeed(seed, secure, undefined, withConfidentialComputing)).toBeNull();
    }
    expect(counted('with Confidential Computing', secure, COPY_REQUIRED_CONF_COMPUTING)).toEqual([]);
  });
});
