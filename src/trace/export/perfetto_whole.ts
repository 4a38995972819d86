/** What belongs to no processor: what the trace is of, steps, and allocations with what happened to them in sum. */

import { EVENT_KINDS } from '../event.ts';
import { PUSH_KIND } from '../store/trace_events.ts';
import { isUsable, type PerfettoExport } from './perfetto_export.ts';
import { INSTANT, SLICE_BEGIN } from './perfetto_writer.ts';
import { rowsWhere, sortRows } from './row_order.ts';

/** An instant at the begin of the trace with what is known of it. */
export function exportAbout(x: PerfettoExport): void {
  const { writer, trace, shift, first } = x;
  const { info } = trace;
  const track = x.trackIn(x.group(0, 'about'), 'trace', 0);
  writer.open(INSTANT, track, writer.nameId(info.name), writer.categoryId('trace'));
  const texts: Record<string, unknown> = {
    source: info.source,
    uvmlab: info.uvmlab,
    driver: info.driver,
    machine: info.machine,
    clock: info.clock,
    traced: info.traced,
    parameters: info.parameters,
    dropped: info.dropped,
    left_out: info.leftOut,
    notes: info.notes,
    command: info.command,
    ended: info.ended,
  };
  for (const [key, value] of Object.entries(texts)) {
    if (value === null) continue;
    const id = writer.keyId(key);
    if (typeof value === 'boolean') writer.annotateBoolean(id, value);
    else writer.annotateText(id, typeof value === 'string' ? value : JSON.stringify(value));
  }
  writer.annotateNumber(writer.keyId('rows'), trace.columns.count);
  writer.annotateNumber(writer.keyId('times_shifted_by'), shift);
  writer.close(first);
}

/** What a step does, as far as the scenario's own words tell it. */
function stepText(scenario: Record<string, unknown> | null, step: number): string {
  const steps = scenario?.['steps'];
  const one: unknown = Array.isArray(steps) ? steps[step] : undefined;
  if (typeof one !== 'object' || one === null) return `step ${step}`;
  const fields = one as Record<string, unknown>;
  const words = ['on', 'do', 'buffer'].map((key) => fields[key]).filter((word) => typeof word === 'string');
  return words.length === 0 ? `step ${step}` : `step ${step}: ${words.join(' ')}`;
}

/** Begin and end of each step: as the trace knows them, or else of its first and last event. */
function stepTimes(x: PerfettoExport): { step: number; begin: number; end: number }[] {
  const { steps } = x.trace.info;
  if (steps !== null) return steps.filter(({ begin, end }) => isUsable(begin) && isUsable(end));
  const { step, time } = x.columns.arrays;
  const found = new Map<number, { step: number; begin: number; end: number }>();
  for (let row = 0; row < x.columns.count; row++) {
    if (step[row] < 0 || !isUsable(time[row])) continue;
    const one = found.get(step[row]);
    if (one === undefined) found.set(step[row], { step: step[row], begin: time[row], end: time[row] });
    else {
      one.begin = Math.min(one.begin, time[row]);
      one.end = Math.max(one.end, time[row]);
    }
  }
  return [...found.values()];
}

export function exportSteps(x: PerfettoExport): void {
  const { info } = x.trace;
  const times = stepTimes(x).sort((one, other) => one.begin - other.begin || one.step - other.step);
  if (times.length === 0) return;
  const { writer } = x;
  const track = x.slicesIn(
    x.group(0, 'steps'),
    'steps',
    0,
    info.steps === null ? 'From the first event of a step to its last: its own times are not known.' : 'Steps.',
  );
  const category = writer.categoryId('step');
  const [stepKey, wallKey] = ['step', 'wall_microseconds'].map((key) => writer.keyId(key));
  for (const { step, begin, end } of times) {
    const name = writer.nameId(stepText(info.scenario, step));
    track.begin(Math.round(begin), Math.max(Math.round(begin), Math.round(end)), name, category);
    writer.annotateNumber(stepKey, step);
    const wall = Array.isArray(info.wallMicroseconds) ? info.wallMicroseconds[step] : null;
    if (typeof wall === 'number') writer.annotateNumber(wallKey, wall);
    track.end();
  }
}

const SUMS = ['cpuFault', 'gpuFault', 'migration', 'mapRemote', 'thrashing', 'eviction'] as const;

/** A slice for each allocation from its first to its last event, with sums of what happened to it. */
export function exportAllocations(x: PerfettoExport): void {
  const { writer, columns, trace } = x;
  const { kind, buffer, time, timeEnd, bytes } = columns.arrays;
  const { list } = columns.words.buffer;
  const many = list.length;
  // In a trace of one allocation events need not name it.
  const only = trace.info.allocations.length === 1 ? trace.info.allocations[0].name : '';
  const unnamed = columns.words.buffer.numbers.get(only) ?? 0;
  const first = new Float64Array(many).fill(Number.POSITIVE_INFINITY);
  const last = new Float64Array(many).fill(Number.NEGATIVE_INFINITY);
  const moved = new Float64Array(many);
  const sums = SUMS.map(() => new Float64Array(many));
  const sumOf = Int32Array.from(columns.words.kind.list, (word) => SUMS.indexOf(word as (typeof SUMS)[number]));
  const migration = columns.words.kind.numbers.get('migration') ?? -1;
  const passed = [PUSH_KIND, 'replay'].map((word) => columns.words.kind.numbers.get(word) ?? -1);
  for (let row = 0; row < columns.count; row++) {
    const k = kind[row];
    const word = buffer[row] === 0 ? unnamed : buffer[row];
    if (passed.includes(k) || (word === 0 && only === '') || !isUsable(time[row])) continue;
    const end = isUsable(timeEnd[row]) ? timeEnd[row] : time[row];
    first[word] = Math.min(first[word], time[row]);
    last[word] = Math.max(last[word], time[row], end);
    if (k === migration) moved[word] += Math.max(0, bytes[row]);
    if (sumOf[k] >= 0) sums[sumOf[k]][word]++;
  }
  const used = rowsWhere(many, (word) => Number.isFinite(first[word]));
  for (const word of sortRows(used, (one) => first[one])) {
    const name = word === 0 ? only : list[word];
    const track = x.trackIn(x.group(0, 'allocations'), name, word);
    writer.open(SLICE_BEGIN, track, writer.nameId(name), writer.categoryId('allocation'));
    const known = trace.info.allocations.find((one) => one.name === name);
    if (known !== undefined) {
      writer.annotateNumber(writer.keyId('bytes'), known.bytes);
      writer.annotateText(writer.keyId('kind'), known.kind);
      if (known.address !== null) writer.annotateText(writer.keyId('address'), `0x${known.address}`);
    }
    for (const [i, sum] of sums.entries()) writer.annotateNumber(writer.keyId(`${SUMS[i]}s`), sum[word]);
    writer.annotateNumber(writer.keyId('bytes moved'), moved[word]);
    writer.close(Math.round(first[word]));
    writer.endSlice(track, Math.round(last[word]));
  }
}

/** Rows of kinds that this version does not know are counted, not shown. */
export function countUnknown(x: PerfettoExport): number {
  const known = new Set<string>([...EVENT_KINDS, PUSH_KIND]);
  const { kind } = x.columns.arrays;
  const strange = Uint8Array.from(x.columns.words.kind.list, (word) => (known.has(word) ? 0 : 1));
  let count = 0;
  for (let row = 0; row < x.columns.count; row++) count += strange[kind[row]];
  return count;
}
