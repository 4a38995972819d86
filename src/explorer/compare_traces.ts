/**
 * Two traces beside each other, by the rule of docs/formats.md ("The same"): for each step and each kind of event the
 * lists of identities, in order. Steps count as one where either trace has none.
 */
import { EVENT_KINDS, type EventKind, IDENTITY_FIELDS } from '../trace/event.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import type { ColumnKey } from '../trace/store/trace_schema.ts';
import type { Comparison } from './api.ts';
import { rowText } from './row_detail.ts';
import type { TraceIndex } from './trace_index.ts';

/** The columns that hold the identity of a kind of event. */
function identityColumns(kind: EventKind): ColumnKey[] {
  const columns: ColumnKey[] = IDENTITY_FIELDS[kind].map((field) => {
    if (field === 'gpu' || field === 'resident' || field === 'processor') return 'src';
    return field === 'reason' ? 'cause' : (field as ColumnKey);
  });
  return kind === 'replay' ? columns : [...columns, 'buffer'];
}

/** Rows of one kind, by step where steps count. */
type Lists = Map<number, number[]>;
const ALL_STEPS = -1;

function listsOf({ columns }: Trace, kind: string, bySteps: boolean, fromStep: number): Lists {
  const { arrays: a, words } = columns;
  const number = words.kind.numbers.get(kind) ?? -1;
  const lists: Lists = new Map();
  if (number < 0) return lists;
  for (let i = 0; i < columns.count; i++) {
    if (a.kind[i] !== number || (bySteps && a.step[i] < fromStep)) continue;
    const key = bySteps ? a.step[i] : ALL_STEPS;
    const list = lists.get(key);
    if (list === undefined) lists.set(key, [i]);
    else list.push(i);
  }
  return lists;
}

/** Numbers of the right trace's words in the left one; -1 for texts that the left one does not have. */
function translation(left: Trace, right: Trace, key: ColumnKey): Int32Array | null {
  const its = right.columns.words[key];
  if (its.list.length <= 1) return null;
  return Int32Array.from(its.list, (text) => left.columns.words[key].numbers.get(text) ?? -1);
}

interface Side {
  left: Trace;
  right: Trace;
  columns: ColumnKey[];
  words: (Int32Array | null)[];
}

function sameRow({ left, right, columns, words }: Side, x: number, y: number): boolean {
  for (let c = 0; c < columns.length; c++) {
    const a = left.columns.arrays[columns[c]][x];
    const b = right.columns.arrays[columns[c]][y];
    const table = words[c];
    if (a !== (table === null ? b : table[b])) return false;
  }
  return true;
}

interface Found {
  step: number;
  kind: EventKind;
  index: number;
  left: number | null;
  right: number | null;
}

function firstOf(side: Side, kind: EventKind, step: number, xs: number[], ys: number[]): Found | null {
  const both = Math.min(xs.length, ys.length);
  for (let i = 0; i < both; i++) {
    if (!sameRow(side, xs[i], ys[i])) return { step, kind, index: i, left: xs[i], right: ys[i] };
  }
  if (xs.length === ys.length) return null;
  return { step, kind, index: both, left: xs[both] ?? null, right: ys[both] ?? null };
}

/** Whether a trace names buffers that matter: a single allocation needs no name. */
function withBuffers(left: Trace, right: Trace): boolean {
  return left.info.hasBuffers && right.info.hasBuffers;
}

/** The earliest step that differs comes first, in it the first kind in the order of the format. */
export function compareTraces(x: TraceIndex, y: TraceIndex, ids: { left: string; right: string }): Comparison {
  const left = x.trace;
  const right = y.trace;
  const bySteps = left.info.hasSteps && right.info.hasSteps;
  const fromStep = Math.max(left.info.fromStep, right.info.fromStep);
  const kinds: Comparison['kinds'] = [];
  let first: Found | null = null;
  let differences = 0;
  for (const kind of EVENT_KINDS) {
    const a = listsOf(left, kind, bySteps, fromStep);
    const b = listsOf(right, kind, bySteps, fromStep);
    const total = (lists: Lists): number => [...lists.values()].reduce((sum, list) => sum + list.length, 0);
    if (a.size === 0 && b.size === 0) continue;
    kinds.push({ kind, left: total(a), right: total(b) });
    const columns = identityColumns(kind).filter((key) => key !== 'buffer' || withBuffers(left, right));
    const side: Side = { left, right, columns, words: columns.map((key) => translation(left, right, key)) };
    for (const step of new Set([...a.keys(), ...b.keys()])) {
      const found = firstOf(side, kind, step, a.get(step) ?? [], b.get(step) ?? []);
      if (found === null) continue;
      differences++;
      if (first === null || found.step < first.step) first = found;
    }
  }
  const text = (index: TraceIndex, row: number | null) => (row === null ? null : { row, text: rowText(index, row) });
  return {
    ...ids,
    kinds,
    differences,
    first:
      first === null
        ? null
        : {
            step: first.step === ALL_STEPS ? null : first.step,
            kind: first.kind,
            index: first.index,
            left: text(x, first.left),
            right: text(y, first.right),
          },
    durationLeft: x.end - x.begin,
    durationRight: y.end - y.begin,
  };
}
