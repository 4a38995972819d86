import { describe, expect, it } from 'vitest';
import { type Place, parsePlace, placeText, START } from './place.ts';

const FULL: Place = {
  view: 'walk',
  trace: 't2',
  window: { begin: -5, end: 1_000_000 },
  time: 12_345,
  row: 7,
  lane: 'gpu0/8',
  allocation: 2,
  block: 3,
  fault: 30,
  step: 4,
  other: 't1',
  align: 'step12',
  beside: { begin: -100, end: 2000 },
};

describe('a place in the address', () => {
  it('comes back as it was', () => {
    expect(parsePlace(`#${placeText(FULL)}`)).toEqual(FULL);
    expect(placeText(START)).toBe('');
    expect(parsePlace('')).toEqual(START);
  });

  it.each([
    ['a view that there is not', 'view=nowhere'],
    ['a window that ends before it begins', 'window=20-10'],
    ['an empty window', 'window=10-10&beside=3-2'],
    ['an alignment that there is not', 'align=stepx'],
    ['numbers that are none', 'time=x&row=-1&fault=1e9&step=&block=99999999999999999999'],
    ['something else', '%%%&&&=='],
  ])('passes over %s', (_, text) => {
    expect(parsePlace(text)).toEqual(START);
  });
});
