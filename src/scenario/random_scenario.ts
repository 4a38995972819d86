/**
 * Random histories in the format of scenario files, small enough for a real GPU: to be run on hardware and on the model
 * and compared. The same seed always makes the same history.
 *
 * Each history has a random subset of what a history can do, so that what is rare when everything is mixed gets
 * histories of its own; and most touches fall near a few places, so that they meet.
 */
import { createPrng, type Prng, prngBelow, prngChance } from '../base/prng.ts';
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../base/units.ts';
import { ADVICES } from './shapes.ts';

export interface RandomBuffer {
  name: string;
  bytes: number;
}

/** A history as a scenario file has it. */
export interface RandomScenario {
  name: string;
  machine: string;
  allocations: RandomBuffer[];
  steps: Record<string, unknown>[];
}

export interface RandomOptions {
  machine: string;
  /** GPUs that take part. */
  gpus: number;
}

/** What a history may do, and the chance of ten that it may. */
const FEATURES = { cpu: 8, write: 8, atomic: 5, advise: 6, prefetch: 5, subRange: 8, stride: 6, oddSizes: 6 } as const;
type Feature = keyof typeof FEATURES;

interface Maker {
  p: Prng;
  options: RandomOptions;
  has: Record<Feature, boolean>;
  pages: number[];
  /** Places that touches prefer: buffer and page. */
  hot: [number, number][];
}

/** Smallest and largest buffer, in pages: CUDA takes smaller ones out of a range that it shares between them. */
const LEAST_PAGES = PAGES_PER_BLOCK;
const MOST_PAGES = 4 * PAGES_PER_BLOCK;

function pick<T>(p: Prng, list: readonly T[]): T {
  return list[prngBelow(p, list.length)];
}

function bufferPages(p: Prng, odd: boolean): number {
  if (!odd || prngChance(p, 1, 3)) return PAGES_PER_BLOCK * (1 + prngBelow(p, 4));
  return LEAST_PAGES + prngBelow(p, MOST_PAGES - LEAST_PAGES + 1);
}

const bufferName = (index: number): string => String.fromCharCode(97 + index);

function processor(s: Maker): string {
  if (s.has.cpu && prngChance(s.p, 2, 5)) return 'cpu';
  return `gpu${prngBelow(s.p, s.options.gpus)}`;
}

function verb(s: Maker): string {
  if (s.has.atomic && prngChance(s.p, 1, 5)) return 'atomic';
  return s.has.write && prngChance(s.p, 1, 2) ? 'write' : 'read';
}

function page(s: Maker, buffer: number): number {
  const near = s.hot.filter(([b]) => b === buffer);
  if (near.length > 0 && prngChance(s.p, 3, 5)) {
    const at = pick(s.p, near)[1] + prngBelow(s.p, 33) - 16;
    return Math.min(Math.max(at, 0), s.pages[buffer] - 1);
  }
  return prngBelow(s.p, s.pages[buffer]);
}

/** Pages in the order of their touch: scattered, one after another, or backwards. */
function pageList(s: Maker, buffer: number): number[] {
  const count = 1 + prngBelow(s.p, prngChance(s.p, 1, 3) ? 60 : 12);
  if (prngChance(s.p, 1, 2)) return Array.from({ length: count }, () => page(s, buffer));
  const first = page(s, buffer);
  const run = Array.from({ length: count }, (_, i) => first + i).filter((at) => at < s.pages[buffer]);
  return prngChance(s.p, 1, 3) ? run.reverse() : run;
}

/** Whole pages of a buffer: all of it, or a part that often begins and ends at odd places. */
function range(s: Maker, buffer: number): { offset: number; length: number } {
  const pages = s.pages[buffer];
  if (!s.has.subRange || prngChance(s.p, 1, 4)) return { offset: 0, length: pages * PAGE_SIZE };
  let first = prngChance(s.p, 1, 2) ? page(s, buffer) : prngBelow(s.p, pages);
  if (prngChance(s.p, 1, 3)) first -= first % 16;
  const most = pages - first;
  const count = 1 + prngBelow(s.p, prngChance(s.p, 1, 2) ? most : Math.min(most, 40));
  return { offset: first * PAGE_SIZE, length: count * PAGE_SIZE };
}

function access(s: Maker): Record<string, unknown> {
  const buffer = prngBelow(s.p, s.pages.length);
  const step = { on: processor(s), do: verb(s), buffer: bufferName(buffer) };
  if (!s.has.stride || prngChance(s.p, 3, 5)) return { ...step, pages: pageList(s, buffer) };
  const part = range(s, buffer);
  // Few touches that span the part, or one for each page of a short one.
  const least = Math.max(1, Math.ceil(part.length / PAGE_SIZE / 200));
  return { ...step, ...part, stride: (least + prngBelow(s.p, 20)) * PAGE_SIZE };
}

function advise(s: Maker): Record<string, unknown> {
  const buffer = prngBelow(s.p, s.pages.length);
  const setting = ADVICES.filter((a) => a.startsWith('set'));
  const advice = pick(s.p, prngChance(s.p, 2, 3) ? setting : ADVICES);
  const takesOne = advice.endsWith('PreferredLocation') ? advice.startsWith('set') : advice.endsWith('AccessedBy');
  const whom = prngChance(s.p, 1, 2) ? 'cpu' : `gpu${prngBelow(s.p, s.options.gpus)}`;
  return {
    do: 'advise',
    advice,
    ...(takesOne ? { processor: whom } : {}),
    buffer: bufferName(buffer),
    ...range(s, buffer),
  };
}

function prefetch(s: Maker): Record<string, unknown> {
  const buffer = prngBelow(s.p, s.pages.length);
  const to = prngChance(s.p, 1, 3) ? 'cpu' : `gpu${prngBelow(s.p, s.options.gpus)}`;
  return { do: 'prefetch', to, buffer: bufferName(buffer), ...range(s, buffer) };
}

/** The history of a seed, 3 to 14 steps on one or two buffers of 2 to 8 MiB. */
export function randomScenario(seed: number, options: RandomOptions): RandomScenario {
  const p = createPrng(seed);
  const has = Object.fromEntries(
    Object.entries(FEATURES).map(([name, tenths]) => [name, prngChance(p, tenths, 10)]),
  ) as Record<Feature, boolean>;
  const pages = Array.from({ length: 1 + prngBelow(p, 2) }, () => bufferPages(p, has.oddSizes));
  const hot = Array.from({ length: 1 + prngBelow(p, 4) }, (): [number, number] => {
    const buffer = prngBelow(p, pages.length);
    return [buffer, prngBelow(p, pages[buffer])];
  });
  const s: Maker = { p, options, has, pages, hot };
  const steps = Array.from({ length: 3 + prngBelow(p, 12) }, () => {
    if (has.advise && prngChance(p, 1, 4)) return advise(s);
    if (has.prefetch && prngChance(p, 1, 4)) return prefetch(s);
    return access(s);
  });
  return {
    name: `random-${seed}`,
    machine: options.machine,
    allocations: pages.map((n, i) => ({ name: bufferName(i), bytes: n * PAGE_SIZE })),
    steps,
  };
}
