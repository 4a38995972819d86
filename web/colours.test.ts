import { describe, expect, it } from 'vitest';
import { colourOf, type Theme } from './colours.ts';

/** Relative luminance (WCAG 2.2). */
function luminance(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const share = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(a: string, b: string): number {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}
const GROUND: Readonly<Record<Theme, string>> = { light: '#ffffff', dark: '#14181f' };

describe('colours', () => {
  it.each(['light', 'dark'] as const)('of %s stand out from the ground', (theme) => {
    for (const word of ['read', 'write', 'atomic', 'prefetch', 'cpu', 'gpu0', 'gpu1', 'several', 'replay']) {
      expect(contrast(colourOf(word, theme), GROUND[theme]), word).toBeGreaterThan(1.9);
    }
  });

  it('of processors and of accesses differ', () => {
    for (const words of [
      ['cpu', 'gpu0', 'gpu1', 'gpu2', 'several', 'none'],
      ['read', 'write', 'atomic', 'prefetch'],
    ]) {
      expect(new Set(words.map((word) => colourOf(word, 'light'))).size).toBe(words.length);
    }
  });

  it('of a word that is not known is always the same', () => {
    expect(colourOf('something else', 'dark')).toBe(colourOf('something else', 'dark'));
    expect(colourOf('something else', 'dark')).toMatch(/^#[0-9a-f]{6}$/);
  });
});
