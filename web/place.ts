/**
 * Where the reader is: what is looked at, of which trace, at what time. It stands in the address behind '#', so that a
 * link leads to the same picture, and the browser's back button to the one before.
 */

export const VIEWS = ['timeline', 'block', 'walk', 'compare', 'live'] as const;
export type View = (typeof VIEWS)[number];

export interface Place {
  view: View;
  /** Id of a trace; null until one is there. */
  trace: string | null;
  /** Part of the time that is shown, ns; null: all of it. */
  window: { begin: number; end: number } | null;
  /** The cursor, ns; null: the end of the trace. */
  time: number | null;
  row: number | null;
  lane: string | null;
  allocation: number;
  block: number;
  fault: number | null;
  /** Step of the walk. */
  step: number;
  /** The other trace of a comparison. */
  other: string | null;
  /** What stands at the same place in a comparison: `begin`, `difference`, or `step` and its number. */
  align: string;
  /** Part of the time of a comparison, ns from there; null: all of it. */
  beside: { begin: number; end: number } | null;
}

export const START: Place = {
  view: 'timeline',
  trace: null,
  window: null,
  time: null,
  row: null,
  lane: null,
  allocation: 0,
  block: 0,
  fault: null,
  step: 0,
  other: null,
  align: 'begin',
  beside: null,
};

/** Times with a fraction of a nanosecond are not worth their digits. */
function short(ns: number): string {
  return String(Math.round(ns));
}

const ALIGN = /^(begin|difference|step\d{1,6})$/;

function spanOf(text: string | null): { begin: number; end: number } | null {
  const span = /^(-?\d{1,15})-(-?\d{1,15})$/.exec(text ?? '');
  const begin = Number(span?.[1]);
  const end = Number(span?.[2]);
  return span !== null && end > begin ? { begin, end } : null;
}

/** The text behind '#'; what is as at the start is left out. */
export function placeText(place: Place): string {
  const fields = new URLSearchParams();
  const put = (name: string, value: string | number | null, unless: string | number | null): void => {
    if (value !== null && value !== unless) fields.set(name, String(value));
  };
  put('view', place.view, START.view);
  put('trace', place.trace, null);
  if (place.window !== null) fields.set('window', `${short(place.window.begin)}-${short(place.window.end)}`);
  if (place.time !== null) fields.set('time', short(place.time));
  put('row', place.row, null);
  put('lane', place.lane, null);
  put('allocation', place.allocation, START.allocation);
  put('block', place.block, START.block);
  put('fault', place.fault, null);
  put('step', place.step, START.step);
  put('other', place.other, null);
  put('align', place.align, START.align);
  if (place.beside !== null) fields.set('beside', `${short(place.beside.begin)}-${short(place.beside.end)}`);
  return fields.toString();
}

function whole(text: string | null): number | null {
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/** The place of a text; whatever in it makes no sense is as at the start. */
export function parsePlace(text: string): Place {
  const fields = new URLSearchParams(text.replace(/^#/, ''));
  const view = VIEWS.find((one) => one === fields.get('view')) ?? START.view;
  const time = fields.get('time') ?? '';
  const align = fields.get('align') ?? '';
  return {
    view,
    trace: fields.get('trace'),
    window: spanOf(fields.get('window')),
    time: /^-?\d{1,15}$/.test(time) ? Number(time) : null,
    row: whole(fields.get('row')),
    lane: fields.get('lane'),
    allocation: whole(fields.get('allocation')) ?? START.allocation,
    block: whole(fields.get('block')) ?? START.block,
    fault: whole(fields.get('fault')),
    step: whole(fields.get('step')) ?? START.step,
    other: fields.get('other'),
    align: ALIGN.test(align) ? align : START.align,
    beside: spanOf(fields.get('beside')),
  };
}
