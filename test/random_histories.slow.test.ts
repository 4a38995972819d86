/** Random histories, many, and a count of what occurred in them: nothing that is named may be missing. */
import { describe, expect, it } from 'vitest';
import { checkSeeds, withConfidentialComputing } from './histories/check.ts';
import { type Coverage, coverageText, missing } from './histories/coverage.ts';

const PARTS = 4;
const PER_PART = 2500;
const TOTAL = PARTS * PER_PART;
/** A part takes some 15 seconds on one free core. */
const TIMEOUT = 300_000;

const coverage: Coverage = new Map();

describe('random histories', () => {
  for (let part = 0; part < PARTS; part++) {
    const first = 1 + part * PER_PART;
    it(`seeds ${first} to ${first + PER_PART - 1} break no rule`, { timeout: TIMEOUT }, () => {
      expect(checkSeeds(first, PER_PART, coverage)).toBeNull();
    });
  }

  it('seeds 20001 to 20800 break no rule with Confidential Computing', { timeout: TIMEOUT }, () => {
    expect(checkSeeds(20_001, 800, new Map(), withConfidentialComputing)).toBeNull();
  });

  it('every rule, event, replay policy, fault type and advice occurs', () => {
    console.log(`random histories, seeds 1 to ${TOTAL}:\n${coverageText(coverage)}`);
    expect(missing(coverage)).toEqual([]);
  });
});
