/** Times on a line of pixels: which go where, which get a label, how a window moves. */

export interface Window {
  begin: number;
  end: number;
}

/** Narrowest window, ns. */
const SPAN_MIN = 10;

export function pixelOf(window: Window, width: number, time: number): number {
  return ((time - window.begin) / (window.end - window.begin)) * width;
}

export function timeOf(window: Window, width: number, pixel: number): number {
  return window.begin + (pixel / width) * (window.end - window.begin);
}

/** The window in its bounds, which have some air around them; no narrower than a few nanoseconds. */
export function clampWindow(window: Window, bounds: Window): Window {
  const air = Math.max(1, (bounds.end - bounds.begin) * 0.02);
  const low = bounds.begin - air;
  const high = bounds.end + air;
  const span = Math.min(Math.max(window.end - window.begin, SPAN_MIN), high - low);
  const begin = Math.min(Math.max(window.begin, low), high - span);
  return { begin, end: begin + span };
}

/** All of it, with some air. */
export function wholeWindow(bounds: Window): Window {
  return clampWindow({ begin: Number.NEGATIVE_INFINITY, end: Number.POSITIVE_INFINITY }, bounds);
}

/** Wider (factor above 1) or narrower around a time, which stays where it is. */
export function zoomWindow(window: Window, around: number, factor: number, bounds: Window): Window {
  const begin = around - (around - window.begin) * factor;
  const end = around + (window.end - around) * factor;
  return clampWindow({ begin, end }, bounds);
}

/** Moved by a share of its width. */
export function panWindow(window: Window, share: number, bounds: Window): Window {
  const by = (window.end - window.begin) * share;
  return clampWindow({ begin: window.begin + by, end: window.end + by }, bounds);
}

const UNITS = [
  { name: 's', ns: 1e9 },
  { name: 'ms', ns: 1e6 },
  { name: 'µs', ns: 1e3 },
  { name: 'ns', ns: 1 },
] as const;

/** 1, 2 or 5 times a power of ten, not below `least`. */
function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  for (const factor of [1, 2, 5, 10]) if (factor * power >= least * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

export interface Tick {
  time: number;
  label: string;
}

/** Round times of a window, so many that each has `room` pixels. */
export function ticksOf(window: Window, width: number, room = 90): Tick[] {
  const span = window.end - window.begin;
  if (!(span > 0) || width <= 0) return [];
  const step = Math.max(1, roundStep((span / width) * room));
  const ticks: Tick[] = [];
  for (let time = Math.ceil(window.begin / step) * step; time <= window.end; time += step) {
    ticks.push({ time, label: timeLabel(time, step) });
  }
  return ticks;
}

/** A time in the unit of a step, with as many digits as the step needs. */
export function timeLabel(time: number, step: number): string {
  const unit = UNITS.find(({ ns }) => step >= ns) ?? UNITS[UNITS.length - 1];
  // Large times in a small unit have more digits than anybody reads.
  const shown = Math.abs(time) >= unit.ns * 100_000 ? (UNITS[UNITS.indexOf(unit) - 1] ?? unit) : unit;
  const digits = Math.max(0, Math.ceil(Math.log10(shown.ns / step) - 1e-9));
  // Adding nothing makes a zero of a negative one.
  const value = Number((time / shown.ns).toFixed(digits)) + 0;
  const fraction = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return `${value.toLocaleString('en', fraction)} ${shown.name}`;
}

/** A length of time as people say it. */
export function spanText(ns: number): string {
  const unit = UNITS.find((one) => Math.abs(ns) >= one.ns) ?? UNITS[UNITS.length - 1];
  const value = ns / unit.ns;
  const digits = unit.name === 'ns' ? 0 : value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${unit.name}`;
}

/** So many of something, whose name gets an s where there are not one. */
export function countText(count: number, what: string): string {
  return `${count.toLocaleString('en')} ${what}${count === 1 ? '' : 's'}`;
}
