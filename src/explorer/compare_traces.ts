/**
 * Two traces beside each other, by the rule of docs/formats.md ("The same"): for each step and each kind of event the
 * lists of identities, in order, and the sizes of each GPU's batches. Steps count as one where either trace has none;
 * evictions count where both have some, buffers where both name them.
 *
 * The two traces need not lie in one place: each says for every list a number that its identities make, and only the
 * list that differs first is looked at in full.
 */
import { EVENT_KINDS, type EventKind, IDENTITY_FIELDS } from '../trace/event.ts';
import type { TraceColumns } from '../trace/store/trace_columns.ts';
import { type ColumnKey, TRACE_COLUMNS } from '../trace/store/trace_schema.ts';
import type { Comparison, TraceBackend } from './api.ts';
import { NO_ROW } from './lane_index.ts';
import type { TraceIndex } from './trace_index.ts';

/** What decides how two traces are compared. */
export interface CompareTraits {
  hasSteps: boolean;
  hasBuffers: boolean;
  hasEvictions: boolean;
  fromStep: number;
  duration: number;
  /** When the events of each step lie, in the order of the steps. */
  steps: { step: number; begin: number; end: number }[];
}

export interface CompareRule {
  bySteps: boolean;
  /** Events of earlier steps do not count. */
  fromStep: number;
  buffers: boolean;
  evictions: boolean;
}

/** A list that is compared: the events of a kind in a step, or with `gpu` the sizes of its batches. */
export interface ListName {
  step: number;
  kind: EventKind;
  gpu: string | null;
}

export interface CompareDigest {
  lists: (ListName & { count: number; hash: string })[];
}

/** The identities of a list as pairs of 32-bit numbers, each with its row. */
export interface CompareList {
  row: Uint32Array;
  low: Uint32Array;
  high: Uint32Array;
  /** Of batches: faults of each. */
  size: Uint32Array;
}

/** Where a trace of a comparison lies. */
export interface CompareSide {
  traits(): Promise<CompareTraits>;
  digest(rule: CompareRule): Promise<CompareDigest>;
  list(rule: CompareRule, name: ListName): Promise<CompareList>;
  /** A row in one line. */
  title(row: number): Promise<string>;
}

/** What one side of a comparison says of its trace; the two may lie in different engines, or machines. */
export interface Comparable {
  compareTraits(id: string): Promise<CompareTraits>;
  compareDigest(id: string, rule: CompareRule): Promise<CompareDigest>;
  compareList(id: string, rule: CompareRule, name: ListName): Promise<CompareList>;
}

/** A side of a comparison that an engine, or what stands for one, answers for. */
export function sideOf(engine: Comparable & Pick<TraceBackend, 'row'>, id: string): CompareSide {
  return {
    traits: () => engine.compareTraits(id),
    digest: (rule) => engine.compareDigest(id, rule),
    list: (rule, name) => engine.compareList(id, rule, name),
    title: async (row) => (await engine.row(id, row)).title,
  };
}

const ALL_STEPS = -1;
const LOW_SEED = 0x811c9dc5;
const HIGH_SEED = 0x2545f491;

function mix(hash: number, value: number): number {
  const h = Math.imul(hash ^ value, 0x9e3779b1);
  return h ^ (h >>> 15);
}

function hashText(text: string, seed: number): number {
  let hash = seed;
  for (let i = 0; i < text.length; i++) hash = mix(hash, text.charCodeAt(i));
  return mix(hash, text.length);
}

/** One column of an identity; words by their texts, whose numbers differ between traces. */
interface Part {
  values: Float64Array | Int32Array | Uint16Array | Uint32Array;
  low: Int32Array | null;
  high: Int32Array | null;
}

/** The columns that hold the identity of a kind of event. */
function identityColumns(kind: EventKind, buffers: boolean): ColumnKey[] {
  const columns: ColumnKey[] = IDENTITY_FIELDS[kind].map((field) => {
    if (field === 'gpu' || field === 'resident' || field === 'processor') return 'src';
    return field === 'reason' ? 'cause' : (field as ColumnKey);
  });
  return buffers && kind !== 'replay' ? [...columns, 'buffer'] : columns;
}

function partsOf(columns: TraceColumns, kind: EventKind, buffers: boolean): Part[] {
  return identityColumns(kind, buffers).map((key) => {
    const { type } = TRACE_COLUMNS[key];
    const { list } = columns.words[key];
    const words = type === 'word' || type === 'text';
    const hashes = (seed: number) => (words ? Int32Array.from(list, (text) => hashText(text, seed)) : null);
    return { values: columns.arrays[key], low: hashes(LOW_SEED), high: hashes(HIGH_SEED) };
  });
}

const HIGH_WORD = 2 ** 32;

/** Two numbers of 32 bits for the identity of a row, into `out`. */
function identityOf(parts: readonly Part[], row: number, out: Int32Array): void {
  let low = LOW_SEED;
  let high = HIGH_SEED;
  for (let p = 0; p < parts.length; p++) {
    const part = parts[p];
    const value = part.values[row];
    if (part.low !== null && part.high !== null) {
      low = mix(low, part.low[value]);
      high = mix(high, part.high[value]);
    } else {
      const upper = Math.floor(value / HIGH_WORD) | 0;
      low = mix(mix(low, value | 0), upper);
      high = mix(mix(high, upper), value | 0);
    }
  }
  out[0] = low;
  out[1] = high;
}

/** What a list has come to. */
interface Tally {
  name: ListName;
  count: number;
  low: number;
  high: number;
}

function add(tally: Tally, low: number, high: number): void {
  tally.count++;
  tally.low = mix(tally.low, low);
  tally.high = mix(tally.high, high);
}

/** Faults of one GPU and step that follow each other in one batch. */
interface OpenBatch {
  tally: Tally;
  batch: number;
  row: number;
  faults: number;
}

/** First and last time of the events of each step that lie on a lane. */
function stepTimes({ lanes, trace: { info, columns } }: TraceIndex): CompareTraits['steps'] {
  if (!info.hasSteps) return [];
  const { step } = columns.arrays;
  const begins: number[] = [];
  const ends: number[] = [];
  for (const { first, last, row } of lanes) {
    for (let i = 0; i < row.length; i++) {
      const its = row[i] === NO_ROW ? -1 : step[row[i]];
      if (its < 0) continue;
      if (!(first[i] >= begins[its])) begins[its] = first[i];
      if (!(last[i] <= ends[its])) ends[its] = last[i];
    }
  }
  return Object.entries(begins).map(([its, begin]) => ({ step: Number(its), begin, end: ends[Number(its)] }));
}

export function compareTraits(index: TraceIndex): CompareTraits {
  const { trace, begin, end } = index;
  const { info, columns } = trace;
  const eviction = columns.words.kind.numbers.get('eviction') ?? -1;
  const { hasSteps, hasBuffers, fromStep } = info;
  const hasEvictions = columns.arrays.kind.subarray(0, columns.count).indexOf(eviction) >= 0;
  return { hasSteps, hasBuffers, hasEvictions, fromStep, duration: end - begin, steps: stepTimes(index) };
}

export function ruleOf(left: CompareTraits, right: CompareTraits): CompareRule {
  return {
    bySteps: left.hasSteps && right.hasSteps,
    fromStep: Math.max(left.fromStep, right.fromStep),
    buffers: left.hasBuffers && right.hasBuffers,
    evictions: left.hasEvictions && right.hasEvictions,
  };
}

/** Goes through the rows that count: events one by one, batches when they end. All columns must be there. */
function goThrough(
  { trace: { columns } }: TraceIndex,
  rule: CompareRule,
  wants: (name: ListName) => boolean,
  found: (tally: Tally, low: number, high: number, row: number, faults: number) => void,
): Tally[] {
  const { arrays: a, words } = columns;
  const kinds = words.kind.list.map((kind) => EVENT_KINDS.find((one) => one === kind) ?? null);
  const counts = kinds.map((kind) => kind !== null && (kind !== 'eviction' || rule.evictions));
  const parts = kinds.map((kind) => (kind === null ? [] : partsOf(columns, kind, rule.buffers)));
  const tallies: (Tally | null)[] = [];
  const numbers = kinds.map(() => new Map<number, number>());
  const batches = new Map<string, OpenBatch | null>();
  const hash = new Int32Array(2);
  const tallyOf = (name: ListName): Tally | null =>
    wants(name) ? { name, count: 0, low: LOW_SEED, high: HIGH_SEED } : null;
  const close = (open: OpenBatch): void => {
    if (open.faults > 0)
      found(open.tally, mix(LOW_SEED, open.faults), mix(HIGH_SEED, open.faults), open.row, open.faults);
    open.faults = 0;
  };
  for (let i = 0; i < columns.count; i++) {
    const kind = kinds[a.kind[i]];
    const step = a.step[i];
    if (kind === null || !counts[a.kind[i]] || (step >= 0 && step < rule.fromStep)) continue;
    const list = rule.bySteps ? step : ALL_STEPS;
    const its = numbers[a.kind[i]];
    let number = its.get(list);
    if (number === undefined) {
      number = tallies.push(tallyOf({ step: list, kind, gpu: null })) - 1;
      its.set(list, number);
    }
    const tally = tallies[number];
    if (tally !== null) {
      identityOf(parts[a.kind[i]], i, hash);
      found(tally, hash[0], hash[1], i, 0);
    }
    if (kind !== 'gpuFault') continue;
    const key = `${list} ${a.src[i]}`;
    let open = batches.get(key);
    if (open === undefined) {
      const batchTally = tallyOf({ step: list, kind, gpu: words.src.list[a.src[i]] });
      open = batchTally === null ? null : { tally: batchTally, batch: a.batch[i], row: i, faults: 0 };
      batches.set(key, open);
    }
    if (open === null) continue;
    if (open.batch !== a.batch[i]) close(open);
    if (open.faults === 0) open.row = i;
    open.batch = a.batch[i];
    open.faults++;
  }
  const ofBatches = [...batches.values()].filter((open) => open !== null);
  for (const open of ofBatches) close(open);
  return [...tallies.filter((tally) => tally !== null), ...ofBatches.map(({ tally }) => tally)];
}

export function compareDigest(index: TraceIndex, rule: CompareRule): CompareDigest {
  const tallies = goThrough(index, rule, () => true, add);
  return { lists: tallies.map(({ name, count, low, high }) => ({ ...name, count, hash: `${low} ${high}` })) };
}

export function compareList(index: TraceIndex, rule: CompareRule, { step, kind, gpu }: ListName): CompareList {
  const rows: number[] = [];
  const lows: number[] = [];
  const highs: number[] = [];
  const sizes: number[] = [];
  goThrough(
    index,
    rule,
    (name) => name.step === step && name.kind === kind && name.gpu === gpu,
    (_, low, high, row, faults) => {
      rows.push(row);
      lows.push(low);
      highs.push(high);
      sizes.push(faults);
    },
  );
  return {
    row: Uint32Array.from(rows),
    low: Uint32Array.from(lows),
    high: Uint32Array.from(highs),
    size: Uint32Array.from(sizes),
  };
}

function firstUnequal(a: CompareList, b: CompareList): number {
  const both = Math.min(a.row.length, b.row.length);
  for (let i = 0; i < both; i++) if (a.low[i] !== b.low[i] || a.high[i] !== b.high[i]) return i;
  return both;
}

type DigestList = CompareDigest['lists'][number];
const keyOf = ({ step, kind, gpu }: ListName): string => `${step} ${kind} ${gpu ?? ''}`;

/** The order in which differences are told: by step, then by kind as the format has them, batches behind faults. */
function inOrder(x: ListName, y: ListName): number {
  const kinds = EVENT_KINDS.indexOf(x.kind) - EVENT_KINDS.indexOf(y.kind);
  if (x.step !== y.step || kinds !== 0) return x.step - y.step || kinds;
  if (x.gpu === y.gpu) return 0;
  return (x.gpu ?? '') < (y.gpu ?? '') ? -1 : 1;
}

function countsByKind(left: readonly DigestList[], right: readonly DigestList[]): Comparison['kinds'] {
  const total = (lists: readonly DigestList[], kind: EventKind): number =>
    lists.reduce((sum, list) => (list.kind === kind && list.gpu === null ? sum + list.count : sum), 0);
  return EVENT_KINDS.map((kind) => ({ kind, left: total(left, kind), right: total(right, kind) })).filter(
    (one) => one.left + one.right > 0,
  );
}

/** The steps of both traces, each with when it was on either side. */
function stepsOfBoth(left: CompareTraits['steps'], right: CompareTraits['steps']): Comparison['steps'] {
  const times = (list: CompareTraits['steps']) =>
    new Map(list.map(({ step, begin, end }) => [step, { begin, end }] as const));
  const [ours, theirs] = [times(left), times(right)];
  const steps = [...new Set([...ours.keys(), ...theirs.keys()])].sort((a, b) => a - b);
  return steps.map((step) => ({ step, left: ours.get(step) ?? null, right: theirs.get(step) ?? null }));
}

async function sideText(side: CompareSide, list: CompareList, at: number) {
  if (at >= list.row.length) return null;
  const row = list.row[at];
  const faults = list.size[at];
  const title = await side.title(row);
  return { row, text: faults === 0 ? title : `batch of ${faults} ${faults === 1 ? 'fault' : 'faults'}: ${title}` };
}

export async function compareSides(
  left: CompareSide,
  right: CompareSide,
  ids: { left: string; right: string },
): Promise<Comparison> {
  const [x, y] = await Promise.all([left.traits(), right.traits()]);
  const rule = ruleOf(x, y);
  const [a, b] = await Promise.all([left.digest(rule), right.digest(rule)]);
  const ours = new Map(a.lists.map((list) => [keyOf(list), list]));
  const theirs = new Map(b.lists.map((list) => [keyOf(list), list]));
  const names = new Map([...a.lists, ...b.lists].map((list): [string, ListName] => [keyOf(list), list]));
  const differing = [...names].filter(([key]) => {
    const one = ours.get(key);
    const other = theirs.get(key);
    return one?.count !== other?.count || one?.hash !== other?.hash;
  });
  const first = differing.map(([, name]) => name).sort(inOrder)[0];
  const result: Comparison = {
    ...ids,
    kinds: countsByKind(a.lists, b.lists),
    differences: new Set(differing.map(([, { step, kind }]) => `${step} ${kind}`)).size,
    first: null,
    steps: stepsOfBoth(x.steps, y.steps),
    durationLeft: x.duration,
    durationRight: y.duration,
  };
  if (first === undefined) return result;
  const { step, kind, gpu } = first;
  const name = { step, kind, gpu };
  const [one, other] = await Promise.all([left.list(rule, name), right.list(rule, name)]);
  const index = firstUnequal(one, other);
  const texts = await Promise.all([sideText(left, one, index), sideText(right, other, index)]);
  return {
    ...result,
    first: {
      step: step === ALL_STEPS ? null : step,
      kind,
      what: gpu === null ? 'events' : 'batches',
      index,
      left: texts[0],
      right: texts[1],
    },
  };
}
