import { afterEach, describe, expect, it, vi } from 'vitest';
import { bytes, clip, colorsFor, counted, duration, PLAIN, percent, table } from './text.ts';

describe('numbers', () => {
  it('gives a duration the unit that leaves one to three digits', () => {
    const texts = [0, 0.25, 0.9996, 1, 9.994, 9.996, 99.94, 99.96, 999.4, 999.6, 12345.6, 999_499, 999_500, 2_500_000];
    expect(texts.map(duration)).toEqual([
      '0',
      '250 ns',
      '1.00 µs',
      '1.00 µs',
      '9.99 µs',
      '10.0 µs',
      '99.9 µs',
      '100 µs',
      '999 µs',
      '1.00 ms',
      '12.3 ms',
      '999 ms',
      '1.00 s',
      '2.50 s',
    ]);
  });

  it('gives bytes a unit, without a fraction where there is none', () => {
    expect([0, 1023, 1024, 4096, 1536, 2 ** 20, 2 ** 47].map(bytes)).toEqual([
      '0 B',
      '1023 B',
      '1 KiB',
      '4 KiB',
      '1.50 KiB',
      '1 MiB',
      '128 TiB',
    ]);
  });

  it('separates thousands and knows the plural', () => {
    expect([counted(1, 'case'), counted(12345, 'case'), counted(2, 'copy', 'copies')]).toEqual([
      '1 case',
      '12,345 cases',
      '2 copies',
    ]);
    expect(percent(0.125)).toBe('13 %');
    expect([clip('abcdef', 6), clip('abcdefg', 6)]).toEqual(['abcdef', 'abc...']);
  });
});

describe('table', () => {
  it('aligns columns, colours or not, and leaves lone cells out', () => {
    const rows = [
      ['name', 'n'],
      ['x', '100'],
      ['a line of its own that is long'],
      ['long name', '\u001b[31m7\u001b[39m'],
    ];
    expect(table(rows, 'lr', '  ')).toBe(
      '  name         n\n  x          100\n  a line of its own that is long\n  long name    \u001b[31m7\u001b[39m\n',
    );
  });

  it('leaves no blanks at the end of a line', () => {
    expect(
      table(
        [
          ['a', ''],
          ['b', 'c'],
        ],
        'll',
      ),
    ).toBe('a\nb  c\n');
  });
});

describe('colorsFor', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it('colours a terminal alone, unless NO_COLOR is set', () => {
    vi.stubEnv('NO_COLOR', '');
    vi.stubEnv('TERM', 'xterm');
    expect(colorsFor({ isTTY: true }).red('x')).toBe('\u001b[31mx\u001b[39m');
    expect(colorsFor({ isTTY: false }).red('x')).toBe('x');
    expect(colorsFor({}).red('x')).toBe('x');
    vi.stubEnv('NO_COLOR', '1');
    expect(colorsFor({ isTTY: true }).red('x')).toBe('x');
    vi.stubEnv('NO_COLOR', '');
    vi.stubEnv('TERM', 'dumb');
    expect(colorsFor({ isTTY: true }).red('x')).toBe('x');
    expect(PLAIN.red('x')).toBe('x');
  });
});
