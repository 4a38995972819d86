/**
 * Colours by word, from the palette of Okabe and Ito, which people with any kind of colour blindness tell apart; on a
 * dark ground its dark members are lighter. A colour never stands alone: labels, places and legends say the same.
 */

export type Theme = 'light' | 'dark';

interface Palette {
  blue: string;
  orange: string;
  green: string;
  vermilion: string;
  purple: string;
  sky: string;
  yellow: string;
  grey: string;
  faint: string;
}

const PALETTES: Readonly<Record<Theme, Palette>> = {
  light: {
    blue: '#0072b2',
    orange: '#e69f00',
    green: '#009e73',
    vermilion: '#d55e00',
    purple: '#b0578d',
    sky: '#56b4e9',
    yellow: '#c9b800',
    grey: '#6b7280',
    faint: '#e5e7eb',
  },
  dark: {
    blue: '#4ba3dc',
    orange: '#e69f00',
    green: '#2fc79a',
    vermilion: '#f07f35',
    purple: '#d98cba',
    sky: '#8fd0f5',
    yellow: '#f0e442',
    grey: '#9aa3b2',
    faint: '#2b313c',
  },
};

type Hue = keyof Palette;

/** What words of events look like. */
const HUES: Readonly<Record<string, Hue>> = {
  read: 'blue',
  write: 'vermilion',
  atomic: 'purple',
  prefetch: 'green',
  coherence: 'blue',
  user: 'orange',
  eviction: 'vermilion',
  accessCounters: 'sky',
  thrashing: 'vermilion',
  throttled: 'purple',
  policy: 'yellow',
  outOfMemory: 'vermilion',
  readDuplicate: 'sky',
  readDuplicateInvalidate: 'yellow',
  replay: 'grey',
  batch: 'grey',
  'without a replay': 'yellow',
  copy: 'blue',
  memset: 'orange',
  map: 'green',
  unmap: 'purple',
  cancel: 'vermilion',
  contend: 'vermilion',
  advise: 'yellow',
  memcpy: 'sky',
  cpu: 'orange',
  gpu0: 'blue',
  gpu1: 'green',
  gpu2: 'purple',
  gpu3: 'vermilion',
  several: 'sky',
  none: 'faint',
};
const OTHERS: readonly Hue[] = ['sky', 'green', 'orange', 'purple', 'yellow', 'blue', 'vermilion'];

/** The colour of a word; one that is not known gets one by its letters, always the same. */
export function colourOf(word: string, theme: Theme): string {
  let hue = HUES[word];
  if (hue === undefined) {
    let sum = 0;
    for (let i = 0; i < word.length; i++) sum = (sum * 31 + word.charCodeAt(i)) % 9973;
    hue = OTHERS[sum % OTHERS.length];
  }
  return PALETTES[theme][hue];
}
