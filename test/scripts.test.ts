import { describe, expect, it } from 'vitest';
import { installGap } from '../scripts/ensure-install.mjs';
import { summaryLine } from '../scripts/test-summary.mjs';

describe('installGap', () => {
  const lock = {
    packages: {
      '': { version: '0.1.0' },
      'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' },
      'node_modules/a-darwin': { version: '1.0.0', integrity: 'sha512-d', optional: true },
    },
  };
  const a = { version: '1.0.0', integrity: 'sha512-a' };

  it('is satisfied without the optional packages of other platforms', () => {
    expect(installGap(lock, { packages: { 'node_modules/a': a } })).toBeNull();
  });

  it('names what is missing, of another version, of other contents, or too many', () => {
    expect(installGap(lock, { packages: {} })).toBe('node_modules/a is missing');
    expect(installGap(lock, { packages: { 'node_modules/a': { ...a, version: '0.9.0' } } })).toBe(
      'node_modules/a is 0.9.0, the lock file wants 1.0.0',
    );
    expect(installGap(lock, { packages: { 'node_modules/a': { ...a, integrity: 'sha512-b' } } })).not.toBeNull();
    expect(installGap(lock, { packages: { 'node_modules/a': a, 'node_modules/b': a } })).toBe(
      'node_modules/b is not in the lock file',
    );
  });
});

describe('summaryLine', () => {
  it('counts tests', () => {
    expect(summaryLine({ numPassedTests: 12, numFailedTests: 0 }, [], 'tests')).toBe('12 passed, 0 failed');
    expect(summaryLine({ numPassedTests: 12, numFailedTests: 2 }, ['tests'], 'tests')).toBe('12 passed, 2 failed');
  });

  it('never says 0 failed when a step failed', () => {
    expect(summaryLine({ numPassedTests: 12, numFailedTests: 0 }, ['tests'], 'tests')).toBe('12 passed, 1 failed');
    expect(summaryLine({ numPassedTests: 12, numFailedTests: 1 }, ['build', 'tests'], 'tests')).toBe(
      '12 passed, 2 failed',
    );
    expect(summaryLine(null, ['build', 'tests'], 'tests')).toBe('0 passed, 2 failed');
  });
});
