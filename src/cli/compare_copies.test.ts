import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { captureCli } from '../../test/support/captured_cli.ts';

const cli = captureCli();
const ARMED = fileURLToPath(new URL('../../examples/copy-at-the-fault.json', import.meta.url));
const ROUND_TRIPS = fileURLToPath(new URL('../../recordings/scripts1.jsonl.gz', import.meta.url));

describe('compare-copies', () => {
  it('compares three sizes of its own, and ends with a sentence from its figures', async () => {
    expect(await cli.run('compare-copies')).toBe(0);
    for (const title of ['page 0 of a: 4 KiB', 'pages 0 to 15 of a: 64 KiB', 'pages 0 to 511 of a: 2 MiB']) {
      expect(cli.out).toContain(title);
    }
    expect(cli.out).toMatch(
      /\nSo on these pages the routine takes [\s\S]*neither\s+moves\s+a\s+page\s+or\s+causes\s+a\s+fault,/,
    );
    for (const line of cli.out.split('\n')) expect(line.length).toBeLessThanOrEqual(120);
  });

  it('takes pages of a scenario, and says what cannot be done there', async () => {
    const choice = ['--scenario', 'round-trip-z1', '--page', '16', '--count', '2'];
    expect(await cli.run('compare-copies', ROUND_TRIPS, ...choice, '--json')).toBe(0);
    const [comparison] = JSON.parse(cli.out);
    expect(comparison).toMatchObject({ scenario: 'round-trip-z1', page: 16, count: 2, resident: { gpu0: 2 } });
    expect(comparison.ways).toHaveLength(5);
    expect(comparison.verdict.bothStay).toBe(true);
  });

  it.each([
    [['--page', '-1'], 2, '--page -1: expected a whole number from 0'],
    [['--count', '0'], 2, '--count 0: expected a whole number from 1'],
    [['--scenario', 'x'], 2, '--scenario goes with a FILE'],
    [['--count', '513'], 1, 'count: 513; buffer "a" has 512 pages from page 0 on'],
    [[ROUND_TRIPS, '--scenario', 'none'], 2, '--scenario none: not in '],
  ])('%j is a mistake', async (args, code, message) => {
    expect(await cli.run('compare-copies', ...args)).toBe(code);
    expect(cli.err).toContain(message);
    expect(cli.out).toBe('');
  });
});

describe('explain --copy', () => {
  it('shows the life of a copy, as text and as JSON', async () => {
    expect(await cli.run('explain', ARMED, '--copy', '1')).toBe(0);
    expect(cli.out).toMatch(/^Copy 1 of 1 in copy-at-the-fault: armed, page 0 of a to page 0 of b\n/);
    cli.out = '';
    expect(await cli.run('explain', ARMED, '--copy', '1', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toMatchObject({ number: 1, of: 1, copy: { form: 'armed', snapshot: true } });
  });

  it.each([
    [['--copy', '2'], "--copy 2: not in scenario 'copy-at-the-fault'; valid: 1 to 1"],
    [['--copy', 'x'], '--copy x: expected a whole number from 1'],
    [['--copy', '1', '--fault', '1'], 'and takes one of them'],
    [['--copy', '1', '--replay'], 'a replay of recorded faults makes no copies'],
  ])('%j is a mistake', async (args, message) => {
    expect(await cli.run('explain', ARMED, ...args)).toBe(2);
    expect(cli.err).toContain(message);
  });
});
