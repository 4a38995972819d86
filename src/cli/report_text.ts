/** What a recording holds, as people read it. */
import type { AllocationReport, RecordingReport } from '../analysis/recording_report.ts';
import type { Flow } from '../analysis/summary.ts';
import type { UntracedTime } from '../analysis/untraced_time.ts';
import { RECORDED_EVENTS } from '../device/abi/events.ts';
import { bytes, type Colors, clip, count, counted, duration, percent, table } from './text.ts';

/** Allocations that are listed; the others are summed up. */
const ALLOCATIONS_SHOWN = 16;
const COMMAND_WIDTH = 100;
const INDENT = '  ';

/** A text of another program, without what a terminal would obey. */
function harmless(text: string): string {
  return text.replace(/\p{Cc}/gu, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function orDash(n: number, text = count(n)): string {
  return n === 0 ? '-' : text;
}

const size = (n: number): string => orDash(n, bytes(n));

function endText({ end, truncated, ignoredBytes }: RecordingReport, colors: Colors): string {
  if (end !== null) return harmless(end.reason);
  const cut = truncated ? `, in the middle of a frame (${bytes(ignoredBytes)} ignored)` : '';
  return colors.yellow(`no end${cut}: the recorder was killed, or is still at work`);
}

function heading(file: string, report: RecordingReport, colors: Colors): string {
  const { header } = report;
  const gpus = header.processors.filter(({ word }) => word !== 'cpu');
  const command = header.command ?? (header.executable === null ? null : [header.executable]);
  const missing = RECORDED_EVENTS.filter((name) => !header.events.includes(name));
  const rows = [
    ['program', command === null ? 'unknown' : clip(harmless(command.join(' ')), COMMAND_WIDTH)],
    ['process', `${header.pid}`],
    ['driver', harmless(header.driver ?? 'unknown')],
    ['gpu', gpus.map(({ word, name }) => `${word}: ${harmless(name ?? 'without a name')}`).join(', ') || 'none'],
    ['events', missing.length === 0 ? 'all kinds' : harmless(header.events.join(', ')) || 'none'],
    ['attached', header.attached],
    ['ended', endText(report, colors)],
    ['duration', `${duration(report.durationMicroseconds)}, from the first event to the last`],
  ];
  return `${colors.bold(harmless(file))}\n${table(rows, 'll', INDENT)}`;
}

function title(text: string, colors: Colors): string {
  return `\n${INDENT}${colors.bold(text)}\n`;
}

function heads(cells: readonly string[], colors: Colors): string[] {
  return cells.map((cell) => colors.dim(cell));
}

function eventsText(report: RecordingReport, colors: Colors): string {
  const { events, dropped, gaps } = report;
  const kinds = [...new Set([...Object.keys(events), ...Object.keys(dropped)])];
  if (kinds.length === 0) return title('no events', colors);
  const lost = Object.values(dropped).reduce((sum, n) => sum + n, 0);
  const rows = [heads(lost > 0 ? ['kind', 'events', 'lost'] : ['kind', 'events'], colors)];
  for (const kind of kinds) {
    const row = [kind, orDash(events[kind] ?? 0)];
    rows.push(lost > 0 ? [...row, orDash(dropped[kind] ?? 0)] : row);
  }
  const where = lost > 0 ? colors.yellow(`; ${count(lost)} lost at ${counted(gaps, 'place')}`) : '';
  return title(counted(report.entries, 'event') + where, colors) + table(rows, 'lrr', INDENT.repeat(2));
}

function faultsText({ faults, batches }: RecordingReport, colors: Colors): string {
  if (faults.length === 0) return '';
  const total = faults.reduce((sum, { count: n }) => sum + n, 0);
  const rows = [heads(['processor', 'access', 'faults'], colors)];
  for (const { processor, access, count: n } of faults) rows.push([processor, access, count(n)]);
  const text = title(counted(total, 'fault'), colors) + table(rows, 'llr', INDENT.repeat(2));
  if (batches.count === 0) return text;
  const gpuFaults = faults.filter(({ processor }) => processor !== 'cpu').reduce((sum, { count: n }) => sum + n, 0);
  const lines = [
    `${counted(batches.count, 'batch', 'batches')} of GPU faults: median ${count(batches.median)}, ` +
      `90 % up to ${count(batches.p90)}, largest ${count(batches.max)}`,
    `${counted(batches.duplicates, 'fault')} on a page that has one in its batch already: ` +
      `${percent(batches.duplicates / gpuFaults)}`,
  ];
  if (batches.replayed > 0) {
    lines.push(`${duration(batches.serviceMicroseconds)} from the first fault of a batch to its replay, summed up`);
  }
  return text + lines.map((line) => `${INDENT.repeat(2)}${line}\n`).join('');
}

function flowsText(what: string, flows: readonly Flow[], colors: Colors): string {
  if (flows.length === 0) return '';
  const total = flows.reduce((sum, flow) => sum + flow.bytes, 0);
  const rows = [heads(['from', 'to', 'cause', 'times', 'bytes'], colors)];
  for (const { src, dst, cause, count: n, bytes: moved } of flows) rows.push([src, dst, cause, count(n), bytes(moved)]);
  return title(`${what}: ${bytes(total)}`, colors) + table(rows, 'lllrr', INDENT.repeat(2));
}

/** Columns of the table of allocations; those from the seventh on are there where something is in them. */
const COLUMNS: readonly [head: string, cell: (a: AllocationReport) => string, always: boolean][] = [
  ['allocation', ({ name }) => (name === null ? 'no known range' : `0x${name}`), true],
  ['size', (a) => size(a.bytes), true],
  ['cpu faults', (a) => orDash(a.cpuFaults), true],
  ['gpu faults', (a) => orDash(a.gpuFaults), true],
  ['to gpu', (a) => size(a.toGpu), true],
  ['to cpu', (a) => size(a.toCpu), true],
  ['between gpus', (a) => size(a.betweenGpus), false],
  ['between nodes', (a) => size(a.betweenCpuNodes), false],
  ['thrashing', (a) => orDash(a.thrashing), false],
  ['throttled', (a) => orDash(a.throttlings), false],
  ['mapped remotely', (a) => size(a.remoteMapBytes), false],
];

function allocationsText({ allocations, quietAllocations }: RecordingReport, colors: Colors): string {
  const quiet = quietAllocations === 0 ? '' : `, and ${count(quietAllocations)} without events`;
  if (allocations.length === 0) return '';
  const weight = (a: AllocationReport): number => a.cpuFaults + a.gpuFaults;
  const shown = [...allocations].sort((a, b) => weight(b) - weight(a)).slice(0, ALLOCATIONS_SHOWN);
  const columns = COLUMNS.filter(([, cell, always]) => always || shown.some((a) => cell(a) !== '-'));
  const rows = [
    heads(
      columns.map(([head]) => head),
      colors,
    ),
  ];
  for (const allocation of shown) rows.push(columns.map(([, cell]) => cell(allocation)));
  const rest = allocations.length - shown.length;
  if (rest > 0) rows.push([`${count(rest)} more with fewer faults: --json lists them`]);
  return (
    title(`${counted(allocations.length, 'allocation')} with events${quiet}`, colors) +
    table(rows, `l${'r'.repeat(columns.length - 1)}`, INDENT.repeat(2))
  );
}

function hottestText({ hottest }: RecordingReport, colors: Colors): string {
  if (hottest.length === 0) return '';
  const rows = [heads(['address', 'faults', 'allocation'], colors)];
  for (const { address, faults, allocation } of hottest) {
    rows.push([`0x${address}`, count(faults), allocation === null ? '-' : `0x${allocation}`]);
  }
  return title('2 MiB with most faults', colors) + table(rows, 'lrl', INDENT.repeat(2));
}

function untracedText(untraced: UntracedTime | null, colors: Colors): string {
  if (untraced === null) return '';
  const { untracedMicroseconds, movedAlike, moved, machine } = untraced;
  const time = `${duration(untracedMicroseconds)}, predicted (${machine})`;
  const lines = [`without the recorder: ${time}, if the program waited for each batch`];
  if (!movedAlike) {
    const [replayed, recorded] = [bytes(moved.replayed), bytes(moved.recorded)];
    lines.push(
      `not reliable: the replay behind it moves ${replayed} by faults where ${recorded} were recorded; of prefetch ` +
        'calls, and of what was before, it does not know',
    );
  }
  return `\n${lines.map((line, i) => `${INDENT}${i === 0 ? line : colors.yellow(line)}\n`).join('')}`;
}

/** The report; `untraced` is null where nothing is predicted. */
export function reportText(
  file: string,
  report: RecordingReport,
  untraced: UntracedTime | null,
  colors: Colors,
): string {
  const notes = report.notes.map(({ text }) => `${INDENT}${colors.yellow('note:')} ${harmless(text)}\n`).join('');
  return [
    heading(file, report, colors),
    notes,
    eventsText(report, colors),
    faultsText(report, colors),
    flowsText('migrations', report.migrations, colors),
    flowsText('remote mappings', report.remoteMaps, colors),
    allocationsText(report, colors),
    hottestText(report, colors),
    untracedText(untraced, colors),
  ].join('');
}
