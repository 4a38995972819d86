/** A report as people read it in a terminal. */
import type { FullReport } from '../analysis/report/full_report.ts';
import type { AllocationReport, CostedFlow } from '../analysis/report/report_types.ts';
import { RECORDED_EVENTS } from '../device/abi/events.ts';
import type { RecordingSurvey } from '../trace/recording_ranges.ts';
import type { TraceInfo } from '../trace/store/trace_info.ts';
import {
  actionText,
  allocationLabel,
  batchReason,
  cpuFaultReason,
  evidenceText,
  harmless,
  headlines,
  intervalText,
  kernelText,
  outcomeText,
  siteText,
  tracingText,
  unreliableText,
} from './report_sentences.ts';
import { bytes, type Colors, clip, count, counted, duration, percent, table } from './text.ts';

/** What is shown: the report, what the trace is of, and for a recording what its file says besides. */
export interface ShownReport {
  file: string;
  full: FullReport;
  info: TraceInfo;
  recording: RecordingSurvey | null;
}

/** Allocations that are listed; the others are summed up. */
const ALLOCATIONS_SHOWN = 16;
const COMMAND_WIDTH = 100;
const INDENT = '  ';
const DEEP = INDENT.repeat(2);

export function orDash(n: number, text = count(n)): string {
  return n === 0 ? '-' : text;
}

const size = (n: number): string => orDash(n, bytes(n));
const time = (n: number): string => orDash(n, duration(n));

/** What the trace is of, as pairs of a name and a text; the terminal and the page have the same. */
export function factsOf({ full, info, recording }: ShownReport): [name: string, text: string][] {
  const facts: [string, string][] = [];
  const { report } = full;
  if (recording !== null) {
    const { header } = recording;
    const command = header.command ?? (header.executable === null ? null : [header.executable]);
    facts.push(
      ['program', command === null ? 'unknown' : clip(harmless(command.join(' ')), COMMAND_WIDTH)],
      ['process', `${header.pid}`],
    );
  } else {
    const of = info.command === null ? harmless(info.name) : clip(harmless(info.command.join(' ')), COMMAND_WIDTH);
    facts.push([info.command === null ? 'scenario' : 'program', of], ['trace of', SOURCES[info.source]]);
  }
  facts.push(['driver', harmless(info.driver ?? 'unknown')]);
  if (info.machine !== null) facts.push(['machine', harmless(info.machine)]);
  const gpus = info.processors.filter(({ word }) => word !== 'cpu');
  const words = gpus.map(({ word, name }) => harmless(name === undefined ? word : `${word}: ${name}`));
  if (recording !== null || words.length > 0) facts.push(['gpu', words.join(', ') || 'none']);
  if (recording !== null) {
    const { events, attached } = recording.header;
    const missing = RECORDED_EVENTS.filter((name) => !events.includes(name));
    facts.push(
      ['events', missing.length === 0 ? 'all kinds' : harmless(events.join(', ')) || 'none'],
      ['attached', attached],
      ['ended', endText(recording)],
    );
  } else if (info.ended !== null) facts.push(['ended', harmless(info.ended)]);
  facts.push(['duration', `${duration(report.durationMicroseconds)}, from the first event to the last`]);
  return facts;
}

const SOURCES: Readonly<Record<TraceInfo['source'], string>> = {
  run: 'a run of the model',
  replay: 'a replay on the model',
  case: 'a recorded case',
  recording: 'a recording',
  lines: 'lines of events',
  nsys: 'an export of Nsight Systems',
};

function endText({ end, truncated, ignoredBytes }: RecordingSurvey): string {
  if (end !== null) return harmless(end.reason);
  const cut = truncated ? `, in the middle of a frame (${bytes(ignoredBytes)} ignored)` : '';
  return `no end${cut}: the recorder was killed, or is still at work`;
}

function title(text: string, colors: Colors): string {
  return `\n${INDENT}${colors.bold(text)}\n`;
}

function heads(cells: readonly string[], colors: Colors): string[] {
  return cells.map((cell) => colors.dim(cell));
}

/** Breaks a text into lines of a width; the lines behind the first begin with `indent`. */
function wrapped(text: string, width: number, indent: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].join(`\n${indent}`);
}

const WIDTH = 104;

function headlineText({ full, info }: ShownReport, colors: Colors): string {
  const label = 9;
  return headlines(full, info)
    .map((h) => {
      const indent = INDENT + ' '.repeat(label + 2);
      return `${INDENT}${colors.bold(h.label.padEnd(label))}  ${wrapped(h.text, WIDTH - label, indent)}\n`;
    })
    .join('');
}

function eventsText({ full: { report }, info, recording }: ShownReport, colors: Colors): string {
  const { kinds } = report;
  const names = [...new Set([...Object.keys(kinds), ...Object.keys(info.dropped)])];
  const left = Object.entries(info.leftOut);
  if (names.length === 0 && left.length === 0) return title('no events', colors);
  const lost = Object.values(info.dropped).reduce((sum, n) => sum + n, 0);
  const rows = [heads(lost > 0 ? ['kind', 'events', 'lost'] : ['kind', 'events'], colors)];
  for (const kind of names) {
    const row = [harmless(kind), orDash(kinds[kind] ?? 0)];
    rows.push(lost > 0 ? [...row, orDash(info.dropped[kind] ?? 0)] : row);
  }
  for (const [why, n] of left) rows.push([`left out: ${harmless(why)}`, count(n), ...(lost > 0 ? ['-'] : [])]);
  const places = recording === null ? '' : ` at ${counted(recording.gaps, 'place')}`;
  const where = lost > 0 ? colors.yellow(`; ${count(lost)} lost${places}`) : '';
  return title(counted(report.rows, 'event') + where, colors) + table(rows, 'lrr', DEEP);
}

/** A part of a time as a percentage, with decimals where it is small. */
function share(part: number, whole: number): string {
  const value = whole === 0 ? 0 : part / whole;
  return value < 0.1 ? `${(value * 100).toFixed(2)} %` : percent(value);
}

/** What a report says of batches, in lines. */
export function batchLines({ report }: FullReport): string[] {
  const { batches, faults, standStill } = report;
  if (batches.count === 0) return [];
  const gpuFaults = faults.filter(({ processor }) => processor !== 'cpu').reduce((sum, { count: n }) => sum + n, 0);
  const number = `${counted(batches.count, 'batch', 'batches')} of GPU faults`;
  const lines = report.hasAllFaults
    ? [
        `${number}: median ${count(batches.median)}, 90 % up to ${count(batches.p90)}, largest ${count(batches.max)}`,
        `${counted(batches.duplicates, 'fault')} on a page that has one in its batch already: ` +
          `${percent(batches.duplicates / gpuFaults)}`,
      ]
    : [`${number}, whose sizes are not known: the trace has one fault of each`];
  if (batches.replayed === 0) return lines;
  const repeated =
    batches.duplicates === 0
      ? ''
      : `; ${duration(batches.duplicateMicroseconds)} of it by the duplicates (estimate: their share of the faults)`;
  lines.push(
    `${duration(batches.serviceMicroseconds)} from the first fault of a batch to its replay, summed up${repeated}`,
  );
  for (const { gpu, microseconds } of standStill) {
    lines.push(
      `${gpu} had faults waiting for ${duration(microseconds)} ` +
        `(${share(microseconds, report.durationMicroseconds)} of the time): at most so long it stood still`,
    );
  }
  return lines;
}

/** Places in code that are shown. */
const SITES_SHOWN = 6;

/** Code that the CPU's faults are of, where the trace tells it: faults, allocation, code. */
export function siteRows(info: TraceInfo): string[][] {
  return info.cpuFaultSites
    .slice(0, SITES_SHOWN)
    .map((site) => [count(site.faults), allocationLabel(info, site.allocation), siteText(site)]);
}

/** Kernels during which GPUs faulted, where the trace tells it: batches, time, allocation, GPU, kernel, launches. */
export function kernelRows(info: TraceInfo): string[][] {
  return info.gpuFaultKernels
    .slice(0, SITES_SHOWN)
    .map((its) => [
      ...[count(its.batches), duration(its.microseconds), allocationLabel(info, its.allocation), harmless(its.gpu)],
      ...[kernelText(its), orDash(its.launches)],
    ]);
}
export const KERNEL_HEADS = ['batches', 'took', 'allocation', 'gpu', 'in', 'launches'];

function kernelsText({ info }: ShownReport, colors: Colors): string {
  const rows = kernelRows(info);
  if (rows.length === 0) return '';
  return (
    title('batches of GPU faults by kernel', colors) + table([heads(KERNEL_HEADS, colors), ...rows], 'rrlllr', DEEP)
  );
}

function sitesText({ info }: ShownReport, colors: Colors): string {
  const rows = siteRows(info);
  if (rows.length === 0) return '';
  return (
    title('CPU faults by code', colors) + table([heads(['faults', 'allocation', 'in'], colors), ...rows], 'rll', DEEP)
  );
}

function faultsText({ full }: ShownReport, colors: Colors): string {
  const { faults, cpuFaults } = full.report;
  if (faults.length === 0) return '';
  const total = faults.reduce((sum, { count: n }) => sum + n, 0);
  const rows = [heads(['processor', 'access', 'faults'], colors)];
  for (const { processor, access, count: n } of faults) rows.push([harmless(processor), access, count(n)]);
  const lines = batchLines(full);
  if (cpuFaults.seen > 0) {
    lines.push(
      `${counted(cpuFaults.seen, 'CPU fault')} of ${count(cpuFaults.count)} moved data: ` +
        `${duration(cpuFaults.microseconds)} to the end of their copies, summed up (estimate)`,
    );
  }
  return (
    title(counted(total, 'fault'), colors) + table(rows, 'llr', DEEP) + lines.map((line) => `${DEEP}${line}\n`).join('')
  );
}

function flowsText(what: string, flows: readonly CostedFlow[], colors: Colors): string {
  if (flows.length === 0) return '';
  const total = flows.reduce((sum, flow) => sum + flow.bytes, 0);
  const copied = flows.some(({ copyMicroseconds }) => copyMicroseconds > 0);
  const rows = [heads(['from', 'to', 'cause', 'times', 'bytes', ...(copied ? ['copying'] : [])], colors)];
  for (const { src, dst, cause, count: n, bytes: moved, copyMicroseconds } of flows) {
    const row = [src, dst, cause, count(n), bytes(moved)].map(harmless);
    rows.push(copied ? [...row, time(copyMicroseconds)] : row);
  }
  return title(`${what}: ${bytes(total)}`, colors) + table(rows, 'lllrrr', DEEP);
}

function prefetchCell({ prefetch }: AllocationReport): string {
  if (prefetch === null) return '-';
  const used = prefetch.byFaults.used + prefetch.byCalls.used;
  const all = used + prefetch.byFaults.unused + prefetch.byCalls.unused;
  return all === 0 ? '-' : `${count(used)} of ${count(all)}`;
}

type Column = [head: string, cell: (a: AllocationReport) => string, always: boolean];

const refaults = (a: AllocationReport): number => a.refaults.reduce((sum, { count: n }) => sum + n, 0);

/** Columns of the table of allocations; those without `always` are there where something is in them. */
export const ALLOCATION_COLUMNS: readonly Column[] = [
  ['size', (a) => size(a.bytes), true],
  ['cost', (a) => time(a.costMicroseconds), true],
  ['cpu faults', (a) => orDash(a.cpuFaults), true],
  ['gpu faults', (a) => orDash(a.gpuFaults), true],
  ['to gpu', (a) => size(a.toGpu), true],
  ['to cpu', (a) => size(a.toCpu), true],
  ['between gpus', (a) => size(a.betweenGpus), false],
  ['refaults', (a) => orDash(refaults(a)), false],
  ['ping-pong', (a) => orDash(a.pingPongPages, counted(a.pingPongPages, 'page')), false],
  ['prefetch used', prefetchCell, false],
  ['thrashing', (a) => orDash(a.thrashing), false],
  ['throttled', (a) => orDash(a.throttlings), false],
  ['evicted', (a) => size(a.evictedBytes), false],
  ['mapped remotely', (a) => size(a.remoteMaps.reduce((sum, flow) => sum + flow.bytes, 0)), false],
];

/** Why it is not known what became of prefetch; null where it is, or where none was. */
export function prefetchUnknown({ report }: FullReport): string | null {
  const reasons = new Set(report.allocations.flatMap(({ prefetchUnknown: why }) => (why === null ? [] : [why])));
  if (reasons.size === 0 || !report.migrations.some(({ cause }) => cause === 'prefetch' || cause === 'user'))
    return null;
  return `prefetch used or not: not known, since ${harmless([...reasons].join('; '))}`;
}

function allocationsText({ full, info }: ShownReport, colors: Colors): string {
  const { allocations, quietAllocations } = full.report;
  const quiet = quietAllocations === 0 ? '' : `, and ${count(quietAllocations)} without events`;
  if (allocations.length === 0) return '';
  const shown = allocations.slice(0, ALLOCATIONS_SHOWN);
  const columns = ALLOCATION_COLUMNS.filter(([, cell, always]) => always || shown.some((a) => cell(a) !== '-'));
  const rows = [heads(['allocation', ...columns.map(([head]) => head)], colors)];
  for (const a of shown) rows.push([allocationLabel(info, a.name), ...columns.map(([, cell]) => cell(a))]);
  const rest = allocations.length - shown.length;
  if (rest > 0) rows.push([`${count(rest)} more that cost less: --json lists them`]);
  const unknown = prefetchUnknown(full);
  return (
    title(`${counted(allocations.length, 'allocation')} with events${quiet}; cost is an estimate`, colors) +
    table(rows, `l${'r'.repeat(columns.length)}`, DEEP) +
    (unknown === null ? '' : `${DEEP}${colors.dim(unknown)}\n`)
  );
}

function slowText({ full: { report }, info }: ShownReport, colors: Colors): string {
  const { slowestBatches, slowestCpuFaults } = report;
  let text = '';
  if (slowestBatches.length > 0) {
    const rows = [heads(['batch', 'row', 'faults', 'took', 'allocation', 'by'], colors)];
    for (const b of slowestBatches) {
      rows.push([
        `${harmless(b.gpu)} ${count(b.batch)}`,
        count(b.row),
        report.hasAllFaults ? count(b.faults) : '-',
        duration(b.microseconds),
        allocationLabel(info, b.allocation),
        batchReason(b, report),
      ]);
    }
    text += title('slowest batches', colors) + table(rows, 'lrrrll', DEEP);
  }
  if (slowestCpuFaults.length > 0) {
    const rows = [heads(['row', 'took', 'allocation', 'offset', 'by'], colors)];
    for (const f of slowestCpuFaults) {
      const place = [allocationLabel(info, f.allocation), bytes(f.offset)];
      rows.push([count(f.row), duration(f.microseconds), ...place, cpuFaultReason(f)]);
    }
    text += title('slowest CPU faults (estimate: to the end of their copies)', colors) + table(rows, 'rrlrl', DEEP);
  }
  return text;
}

function hottestText({ full: { report }, info }: ShownReport, colors: Colors): string {
  if (report.hottest.length === 0) return '';
  const addresses = report.hottest.some(({ address }) => address !== null);
  const rows = [heads([addresses ? 'address' : 'offset', 'faults', 'allocation'], colors)];
  for (const { address, offset, faults, allocation } of report.hottest) {
    rows.push([address === null ? bytes(offset) : `0x${address}`, count(faults), allocationLabel(info, allocation)]);
  }
  return title('2 MiB with most faults', colors) + table(rows, 'lrl', DEEP);
}

function adviceText({ full, info }: ShownReport, colors: Colors): string {
  const { advice, rejected, modelError } = full;
  if (advice.length + rejected.length === 0) return '';
  const inner = WIDTH - 6;
  let text = advice.length === 0 ? '' : title('what to try', colors);
  for (const [i, item] of advice.entries()) {
    const number = `${i + 1}. `;
    const indent = DEEP + ' '.repeat(number.length);
    text += `${DEEP}${number}${wrapped(actionText(item, info), inner, indent)}\n`;
    text += `${indent}${colors.dim(wrapped(`evidence: ${evidenceText(item)}`, inner, indent))}\n`;
    text += `${indent}${wrapped(outcomeText(item), inner, indent)}\n`;
  }
  if (rejected.length > 0) {
    text += title('looked at and left out: by the model it would be slower', colors);
    for (const item of rejected) {
      text += `${DEEP}- ${wrapped(`${actionText(item, info)}; ${outcomeText(item)}`, inner, `${DEEP}  `)}\n`;
    }
  }
  const predicted = [...advice, ...rejected].flatMap(({ prediction }) => (prediction === null ? [] : [prediction]));
  for (const assumption of new Set(predicted.map((p) => p.assumption))) {
    text += `${DEEP}${colors.dim(wrapped(`predicted: ${assumption}`, inner, DEEP))}\n`;
  }
  if (predicted.length > 0) {
    text += `${DEEP}${colors.dim(wrapped(intervalText(modelError), inner, DEEP))}\n`;
  }
  return text;
}

function tracingLines({ full }: ShownReport, colors: Colors): string {
  const line = tracingText(full);
  if (line === null) return '';
  const unreliable = unreliableText(full);
  return `\n${INDENT}${line}\n${unreliable === null ? '' : `${INDENT}${colors.yellow(unreliable)}\n`}`;
}

/** The report. */
export function reportText(shown: ShownReport, colors: Colors): string {
  const { file, full, info, recording } = shown;
  const facts = factsOf(shown).map(([name, text]) => {
    return [name, name === 'ended' && recording !== null && recording.end === null ? colors.yellow(text) : text];
  });
  const notes = info.notes.map((text) => `${INDENT}${colors.yellow('note:')} ${harmless(text)}\n`).join('');
  const { eventsNotFollowed } = full.report;
  const lost =
    eventsNotFollowed === 0
      ? ''
      : `${INDENT}${colors.yellow('note:')} ${counted(eventsNotFollowed, 'event')} on pages beyond 128 GiB: ` +
        'refaults and ping-pong there are not counted\n';
  return [
    `${colors.bold(harmless(file))}\n`,
    headlineText(shown, colors),
    `\n${table(facts, 'll', INDENT)}`,
    notes,
    lost,
    adviceText(shown, colors),
    eventsText(shown, colors),
    faultsText(shown, colors),
    kernelsText(shown, colors),
    sitesText(shown, colors),
    flowsText('migrations', full.report.migrations, colors),
    flowsText('remote mappings', full.report.remoteMaps, colors),
    allocationsText(shown, colors),
    slowText(shown, colors),
    hottestText(shown, colors),
    tracingLines(shown, colors),
  ].join('');
}
