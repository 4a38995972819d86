/** A fault walked through the routine: the explanation of `uvmlab explain`, step by step. */
import { type ExplainResult, explainFault, type FaultExplanation } from '../analysis/explain.ts';
import { itemsText } from '../analysis/explain_item_text.ts';
import type { Item, PrefetchItem } from '../analysis/explain_items.ts';
import { PLAIN_STYLE, TextBuilder, TIME_WIDTH } from '../analysis/explain_layout.ts';
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../base/units.ts';
import type { CaseLine } from '../trace/case_check.ts';
import { eventAt, type Trace } from '../trace/store/trace_events.ts';
import type { BlockDetail, Walk, WalkStep } from './api.ts';
import { placeOfRow, rowText } from './row_detail.ts';
import type { TraceIndex } from './trace_index.ts';

/** Columns of a step's text. */
const WIDTH = 132;
/** Faults that are replayed for a walk, at most: each becomes an object. */
const REPLAYED_MAX = 200_000;

/** Why the faults of a trace cannot be walked through, or null where they can. */
export function whyNoWalk(trace: Trace, faults: number): string | null {
  const { info } = trace;
  if (faults === 0) return 'the trace has no faults';
  if (info.source === 'run') return info.scenario === null ? 'the trace has no scenario that could be run' : null;
  if (info.machine === null) return 'the trace names no machine profile, so its faults cannot be replayed';
  if (info.source === 'nsys' || info.source === 'lines') {
    return 'a fault is walked through in a run, a case or a recording; this trace has events alone';
  }
  if (faults > REPLAYED_MAX) return `the trace has more than ${REPLAYED_MAX.toLocaleString('en')} faults`;
  return null;
}

/** The case that the model runs: the scenario as it is, or the recorded faults in it. */
function caseOf(index: TraceIndex): { entry: CaseLine; replay: boolean } {
  const { info, columns } = index.trace;
  if (info.source === 'run') return { entry: { kind: 'case', line: 1, scenario: info.scenario }, replay: false };
  const scenario = info.scenario ?? {
    name: info.name,
    machine: info.machine,
    parameters: info.parameters,
    allocations: info.allocations.map(({ name, bytes, kind }) => ({ name, bytes, kind })),
    steps: [],
  };
  const events = Array.from(index.faultRows, (row) => eventAt(columns, row));
  return {
    entry: { kind: 'case', line: 1, scenario, recordedFromStep: info.fromStep, observed: { events } },
    replay: true,
  };
}

/** Faults that the run has before the first recorded one, by trace: those of steps that were not recorded. */
const SHIFTS = new WeakMap<TraceIndex, number>();

/** The explanation of a fault of the trace. */
export function explainFaultOf(index: TraceIndex, fault: number): ExplainResult<FaultExplanation> {
  const { entry, replay } = caseOf(index);
  const { traced, parameters, fromStep } = index.trace.info;
  const explain = (number: number): ExplainResult<FaultExplanation> =>
    explainFault(entry, number, index.machines, {
      replay,
      ...(replay ? {} : { traced, parameters: parameters as Record<string, number | string> }),
    });
  if (!replay || fromStep === 0) return explain(fault);
  const { step } = index.trace.columns.arrays;
  // Recorded faults of earlier steps are not delivered: the run makes its own.
  const delivered = (row: number): boolean => step[row] < 0 || step[row] >= fromStep;
  if (!delivered(index.faultRows[fault - 1])) {
    const error = `fault ${fault} is of a step before ${fromStep}, where the recording begins`;
    return { ok: false, error, asked: true };
  }
  const before = index.faultRows.subarray(0, fault - 1).filter(delivered).length;
  let shift = SHIFTS.get(index);
  if (shift === undefined) {
    const any = explain(1);
    if (!any.ok) return any;
    shift = any.explanation.fault.of - index.faultRows.filter(delivered).length;
    SHIFTS.set(index, shift);
  }
  return explain(shift + before + 1);
}

/** What a reader should know where the model has another fault at the place of this one; else null. */
function strangerNote(index: TraceIndex, row: number, { fault }: FaultExplanation): string | null {
  const event = eventAt(index.trace.columns, row);
  if (event?.event !== 'cpuFault' && event?.event !== 'gpuFault') return null;
  const place = placeOfRow(index, row);
  const same =
    fault.event === event.event &&
    fault.access === event.access &&
    (event.event === 'cpuFault' || event.gpu === fault.processor) &&
    (place === null || index.trace.info.allocations[place.allocation].name === fault.buffer) &&
    Math.floor(event.offset / PAGE_SIZE) === fault.page;
  if (same) return null;
  const what = `${fault.processor} ${fault.access} fault on page ${fault.page} of ${fault.buffer}`;
  return `The model has another fault at this place of the history, and that one is explained: ${what}.`;
}

function linesOf(item: Item, zero: number): string[] {
  const b = new TextBuilder(zero, PLAIN_STYLE, WIDTH);
  itemsText(b, 0, [item.kind === 'call' || item.kind === 'fault' ? { ...item, items: [] } : item]);
  // The column of times is a field of its own here.
  return b.lines.map((line) => line.slice(TIME_WIDTH + 2));
}

function timeOf(item: Item, before: number): number {
  if (item.kind === 'push') return item.push.begin;
  return item.kind === 'others' ? before : item.time;
}

function flatten(index: TraceIndex, items: readonly Item[], depth: number, zero: number, into: WalkStep[]): void {
  for (const item of items) {
    const before = into.length === 0 ? zero : into[into.length - 1].time;
    const [title, ...lines] = linesOf(item, zero);
    const name = item.kind === 'call' ? item.function : null;
    into.push({
      time: timeOf(item, before),
      depth,
      title: title ?? item.kind,
      file: name === null ? null : index.fileOf(name),
      lines,
      kind: item.kind,
    });
    if (item.kind === 'call' || item.kind === 'fault') flatten(index, item.items, depth + 1, zero, into);
  }
}

/** `explain` may have the explanation at hand. Throws RangeError where the fault or the walk is not there. */
export function walkOf(
  index: TraceIndex,
  fault: number,
  explain: () => ExplainResult<FaultExplanation> = () => explainFaultOf(index, fault),
): Walk {
  const faults = index.faultRows.length;
  const no = whyNoWalk(index.trace, faults);
  if (no !== null) throw new RangeError(no);
  if (!Number.isSafeInteger(fault) || fault < 1 || fault > faults) {
    throw new RangeError(`fault ${fault}; the trace has faults 1 to ${faults}`);
  }
  const result = explain();
  if (!result.ok) throw new RangeError(result.error);
  const { explanation: e } = result;
  const steps: WalkStep[] = [];
  flatten(index, e.calls, 0, e.begin, steps);
  const row = index.faultRows[fault - 1];
  const stranger = strangerNote(index, row, e);
  const { replay } = e;
  if (replay !== null && replay.retried !== null && replay.push !== null) {
    const value = `value ${replay.push.trackingValue} of ${replay.push.gpu} channel ${replay.push.channel}`;
    const what = replay.cancelled ? 'the access is cancelled' : 'the access is tried again and goes through';
    steps.push({ time: replay.retried, depth: 0, title: `replay: ${what}`, file: null, lines: [value], kind: 'push' });
  }
  return {
    clock: index.trace.info.source === 'run' ? 'trace' : 'model',
    fault,
    faults,
    row,
    at: index.begins[row],
    title: rowText(index, row),
    outcome: e.outcome.fatalReason === undefined ? e.outcome.is : `${e.outcome.is}: ${e.outcome.fatalReason}`,
    begin: e.begin,
    end: e.end,
    place: placeOfRow(index, row),
    steps,
    notes: stranger === null ? e.notes : [stranger, ...e.notes],
  };
}

/** The prefetch tree that a fault's service had, with all levels of the faulted page. */
export function treeOf(prefetch: PrefetchItem): BlockDetail['tree'] {
  const [page] = prefetch.pages;
  if (page === undefined) return null;
  const region =
    page.region.count === 0 ? 'none' : `${page.region.first} to ${page.region.first + page.region.count - 1}`;
  const inBlock = (value: number): number => value % PAGES_PER_BLOCK;
  return {
    text:
      `${prefetch.rule}: page ${inBlock(page.page)} of the block asks for pages ${region} of the allocation; a level ` +
      `passes where more than ${prefetch.threshold} % of its leaves are set, and the highest that passes is taken`,
    destination: prefetch.destination ?? 'none',
    levels: page.levels.map(({ level, first, outer, counter, size, passes }) => ({
      level,
      first,
      outer,
      set: counter,
      size,
      passes,
    })),
  };
}
