import { describe, expect, it } from 'vitest';
import {
  clampWindow,
  countText,
  panWindow,
  pixelOf,
  spanText,
  ticksOf,
  timeLabel,
  timeOf,
  wholeWindow,
  zoomWindow,
} from './scale.ts';

const BOUNDS = { begin: 0, end: 1000 };

describe('a window of time', () => {
  it('maps times to pixels and back', () => {
    const window = { begin: 100, end: 300 };
    expect(pixelOf(window, 400, 150)).toBe(100);
    expect(timeOf(window, 400, pixelOf(window, 400, 277))).toBeCloseTo(277, 9);
  });

  it('stays in its bounds, with two hundredths of air', () => {
    expect(wholeWindow(BOUNDS)).toEqual({ begin: -20, end: 1020 });
    expect(clampWindow({ begin: -500, end: -400 }, BOUNDS)).toEqual({ begin: -20, end: 80 });
    expect(clampWindow({ begin: 1000, end: 1100 }, BOUNDS)).toEqual({ begin: 920, end: 1020 });
  });

  it('is never narrower than ten nanoseconds', () => {
    const narrow = zoomWindow({ begin: 500, end: 511 }, 505, 0.01, BOUNDS);
    expect(narrow.end - narrow.begin).toBeCloseTo(10, 9);
  });

  it('keeps the time under the cursor where it is', () => {
    const before = { begin: 200, end: 600 };
    const after = zoomWindow(before, 300, 0.5, BOUNDS);
    expect(pixelOf(after, 800, 300)).toBeCloseTo(pixelOf(before, 800, 300), 9);
    expect(after.end - after.begin).toBeCloseTo(200, 9);
  });

  it('moves by a share of its width', () => {
    expect(panWindow({ begin: 100, end: 200 }, 0.5, BOUNDS)).toEqual({ begin: 150, end: 250 });
  });
});

describe('labels', () => {
  it.each([
    [{ begin: 0, end: 1e6 }, 1000, ['0 µs', '100 µs', '200 µs']],
    [{ begin: 1e9, end: 1e9 + 500 }, 1000, undefined],
  ])('of %o are round and have room', (window, width, first) => {
    const ticks = ticksOf(window, width);
    expect(ticks.length).toBeGreaterThan(2);
    for (let i = 1; i < ticks.length; i++) {
      const room = pixelOf(window, width, ticks[i].time) - pixelOf(window, width, ticks[i - 1].time);
      expect(room).toBeGreaterThanOrEqual(89.999);
      expect(ticks[i].label).not.toBe(ticks[i - 1].label);
    }
    if (first !== undefined) expect(ticks.slice(0, 3).map(({ label }) => label)).toEqual(first);
  });

  it('name a time in the unit of the step', () => {
    expect(timeLabel(1_500_000, 100_000)).toBe('1,500 µs');
    expect(timeLabel(2_000_000_000, 500_000_000)).toBe('2,000 ms');
  });

  it('say a length', () => {
    expect([0, 5, 1500, 23_400, 14_930_986, 2.5e9].map(spanText)).toEqual([
      '0 ns',
      '5 ns',
      '1.50 µs',
      '23.4 µs',
      '14.9 ms',
      '2.50 s',
    ]);
  });

  it('count', () => {
    expect([0, 1, 1200].map((n) => countText(n, 'fault'))).toEqual(['0 faults', '1 fault', '1,200 faults']);
  });

  it('has none for a window without a span', () => {
    expect(ticksOf({ begin: 5, end: 5 }, 100)).toEqual([]);
  });
});
