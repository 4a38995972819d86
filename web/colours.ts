/**
 * Colours and forms by word. The palette has the hues of Okabe and Ito, moved in lightness until each stands out from
 * the ground at 3 to 1 or more and any two can be told apart with each kind of colour blindness; the tests beside this
 * file hold it to both. A colour never stands alone: the words that share a lane differ in the height of their marks
 * as well, and places, labels and legends say the same.
 */

export type Theme = 'light' | 'dark';

const PALETTES = {
  light: {
    blue: '#1d5ca2',
    orange: '#c2871c',
    green: '#1b855b',
    vermilion: '#be552d',
    purple: '#883065',
    sky: '#479bcb',
    grey: '#848a95',
    faint: '#e5e7eb',
  },
  dark: {
    blue: '#47a3ea',
    orange: '#eaae07',
    green: '#1cdc93',
    vermilion: '#e67b33',
    purple: '#c455ab',
    sky: '#afcfe4',
    grey: '#9da3ad',
    faint: '#2b313c',
  },
} as const satisfies Readonly<Record<Theme, Readonly<Record<string, string>>>>;

type Hue = keyof (typeof PALETTES)['light'];

/** Part of a lane's height that a mark takes: all of it, its lower part, its upper part, or the middle. */
export type Form = 'full' | 'low' | 'high' | 'middle';

/** Begin and height of a form, as shares of the lane's height. */
export const FORM_PLACES: Readonly<Record<Form, readonly [top: number, height: number]>> = {
  full: [0, 1],
  low: [0.4, 0.6],
  high: [0, 0.6],
  middle: [0.3, 0.4],
};

/** What words look like. */
const LOOKS: Readonly<Record<string, readonly [Hue, Form]>> = {
  // Accesses.
  read: ['blue', 'full'],
  write: ['vermilion', 'low'],
  atomic: ['purple', 'high'],
  prefetch: ['green', 'middle'],
  // Causes of migrations; prefetch is one of them.
  coherence: ['blue', 'full'],
  user: ['orange', 'high'],
  eviction: ['vermilion', 'low'],
  accessCounters: ['sky', 'low'],
  // What befalls pages.
  thrashing: ['vermilion', 'full'],
  throttled: ['purple', 'full'],
  policy: ['sky', 'full'],
  outOfMemory: ['vermilion', 'low'],
  readDuplicate: ['sky', 'full'],
  readDuplicateInvalidate: ['vermilion', 'low'],
  // Batches and pushes.
  replay: ['grey', 'middle'],
  batch: ['grey', 'full'],
  'without a replay': ['orange', 'full'],
  copy: ['blue', 'full'],
  memset: ['orange', 'high'],
  map: ['green', 'low'],
  unmap: ['purple', 'low'],
  cancel: ['vermilion', 'high'],
  // Steps.
  contend: ['sky', 'full'],
  advise: ['grey', 'low'],
  memcpy: ['orange', 'high'],
  // Where pages are.
  cpu: ['orange', 'full'],
  gpu0: ['blue', 'full'],
  gpu1: ['green', 'full'],
  gpu2: ['purple', 'full'],
  gpu3: ['vermilion', 'full'],
  several: ['sky', 'full'],
  none: ['faint', 'full'],
};
const OTHERS: readonly Hue[] = ['sky', 'green', 'orange', 'purple', 'blue', 'vermilion'];

function lookOf(word: string): readonly [Hue, Form] {
  const known = Object.hasOwn(LOOKS, word) ? LOOKS[word] : undefined;
  if (known !== undefined) return known;
  let sum = 0;
  for (let i = 0; i < word.length; i++) sum = (sum * 31 + word.charCodeAt(i)) % 9973;
  return [OTHERS[sum % OTHERS.length], 'full'];
}

/** The colour of a word; one that is not known gets one by its letters, always the same. */
export function colourOf(word: string, theme: Theme): string {
  return PALETTES[theme][lookOf(word)[0]];
}

export function formOf(word: string): Form {
  return lookOf(word)[1];
}

/** Relative luminance of a colour, as WCAG 2.2 defines it: 0 to 1. */
export function luminanceOf(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const share = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** How much two colours stand out from each other, as WCAG 2.2 defines it: 1 to 21. */
export function contrastOf(a: string, b: string): number {
  const [high, low] = [luminanceOf(a), luminanceOf(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}

const INKS = ['#ffffff', '#10131a'] as const;

/** White or black, whichever is read better on a colour. */
export function inkOn(colour: string): string {
  return contrastOf(INKS[0], colour) >= contrastOf(INKS[1], colour) ? INKS[0] : INKS[1];
}

/** One letter for where pages are, the second sign beside the colour: C, the number of the GPU, + for several. */
export function letterOf(resident: string): string {
  if (resident === 'none') return '';
  if (resident === 'several') return '+';
  const gpu = /^gpu(\d+)$/.exec(resident);
  return gpu === null ? resident.slice(0, 1).toUpperCase() : gpu[1];
}
