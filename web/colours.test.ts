import { describe, expect, it } from 'vitest';
import { colourOf, contrastOf, FORM_PLACES, formOf, inkOn, letterOf, type Theme } from './colours.ts';

const GROUND: Readonly<Record<Theme, string>> = { light: '#ffffff', dark: '#14181f' };
const THEMES = ['light', 'dark'] as const;
/** Words that stand beside each other, in a lane or on a map. */
const TOGETHER: Readonly<Record<string, readonly string[]>> = {
  residency: ['cpu', 'gpu0', 'gpu1', 'gpu2', 'gpu3', 'several'],
  accesses: ['read', 'write', 'atomic', 'prefetch'],
  causes: ['coherence', 'prefetch', 'user', 'eviction', 'accessCounters'],
  duplication: ['readDuplicate', 'readDuplicateInvalidate'],
  batches: ['batch', 'without a replay'],
  pushes: ['copy', 'memset', 'map', 'unmap', 'cancel', 'replay'],
  steps: ['read', 'write', 'atomic', 'prefetch', 'advise', 'contend', 'memcpy'],
};

/** Matrices of Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB. */
const EYES: Readonly<Record<string, readonly (readonly number[])[]>> = {
  all: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protan: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deutan: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritan: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

/** A colour in Oklab as somebody sees it. */
function seen(hex: string, eyes: string): number[] {
  const linear = [1, 3, 5].map((at) => {
    const share = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const dot = (row: readonly number[], v: readonly number[]) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2];
  const rgb = EYES[eyes].map((row) => Math.min(1, Math.max(0, dot(row, linear))));
  const l = Math.cbrt(dot([0.4122214708, 0.5363325363, 0.0514459929], rgb));
  const m = Math.cbrt(dot([0.2119034982, 0.6806995451, 0.1073969566], rgb));
  const s = Math.cbrt(dot([0.0883024619, 0.2817188376, 0.6299787005], rgb));
  return [
    dot([0.2104542553, 0.793617785, -0.0040720468], [l, m, s]),
    dot([1.9779984951, -2.428592205, 0.4505937099], [l, m, s]),
    dot([0.0259040371, 0.7827717662, -0.808675766], [l, m, s]),
  ];
}

/** Distance of two colours in Oklab, in hundredths: 2 can just be told apart side by side. */
function distance(a: string, b: string, eyes: string): number {
  const [x, y] = [seen(a, eyes), seen(b, eyes)];
  return 100 * Math.hypot(x[0] - y[0], x[1] - y[1], x[2] - y[2]);
}

describe('colours', () => {
  it.each(THEMES)('of %s stand out from the ground at 3 to 1', (theme) => {
    for (const word of Object.values(TOGETHER).flat()) {
      expect(contrastOf(colourOf(word, theme), GROUND[theme]), word).toBeGreaterThanOrEqual(3);
    }
  });

  it.each(THEMES.flatMap((theme) => Object.keys(EYES).map((eyes) => ({ theme, eyes }))))(
    'of words that stand together are told apart, $theme, eyes: $eyes',
    ({ theme, eyes }) => {
      for (const words of Object.values(TOGETHER)) {
        for (const [i, a] of words.entries()) {
          for (const b of words.slice(0, i)) {
            expect(distance(colourOf(a, theme), colourOf(b, theme), eyes), `${a}, ${b}`).toBeGreaterThan(7.5);
          }
        }
      }
    },
  );

  it('are measured by a rule that knows what is hard to tell apart', () => {
    expect(distance('#c00000', '#6b5a00', 'all')).toBeGreaterThan(15);
    expect(distance('#c00000', '#6b5a00', 'deutan')).toBeLessThan(7.5);
    expect(contrastOf('#ffffff', '#000000')).toBeCloseTo(21, 9);
    expect(contrastOf('#ffffff', '#777777')).toBeCloseTo(4.48, 2);
  });

  it('of accesses have forms of their own', () => {
    expect(new Set(TOGETHER.accesses.map(formOf)).size).toBe(4);
    for (const [top, height] of Object.values(FORM_PLACES)) expect(top + height).toBeLessThanOrEqual(1);
  });

  it('of a word that is not known are always the same', () => {
    expect(colourOf('something else', 'dark')).toBe(colourOf('something else', 'dark'));
    expect(colourOf('toString', 'dark')).toMatch(/^#[0-9a-f]{6}$/);
    expect(formOf('something else')).toBe('full');
  });
});

describe('letters', () => {
  it('of residency differ, and are read on their colour', () => {
    expect(TOGETHER.residency.map(letterOf)).toEqual(['C', '0', '1', '2', '3', '+']);
    expect(letterOf('none')).toBe('');
    for (const theme of THEMES) {
      for (const word of TOGETHER.residency) {
        const colour = colourOf(word, theme);
        expect(contrastOf(inkOn(colour), colour), word).toBeGreaterThanOrEqual(4.5);
      }
    }
  });
});
