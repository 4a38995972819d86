/** The summary of a run as people read it. */
import type { Flow, RunSummary, Tally } from '../analysis/summary.ts';
import { flowBytes } from '../analysis/summary.ts';
import type { Scenario } from '../scenario/scenario.ts';
import type { CopyEntry, CopyPlace } from '../trace/copies.ts';
import { describeStep } from './describe.ts';
import { bytes, type Colors, clip, count, counted, duration, table } from './text.ts';

/** Longest description of a step. */
const STEP_WIDTH = 56;

const HEADER = ['', 'step', 'time', 'cpu faults', 'gpu faults', 'batches', 'replays', 'moved'];
const ALIGN = 'rlrrrrrr';

function orDash(n: number, text = count(n)): string {
  return n === 0 ? '-' : text;
}

function cells(tally: Tally): string[] {
  const moved = flowBytes(tally.migrations);
  return [
    duration(tally.wallMicroseconds),
    orDash(tally.cpuFaults),
    orDash(tally.gpuFaults),
    orDash(tally.batches),
    orDash(tally.replays),
    orDash(moved, bytes(moved)),
  ];
}

function flowText(flow: Flow, one: string, many: string): string {
  return `${flow.src} -> ${flow.dst}: ${counted(flow.count, one, many)} by ${flow.cause}, ${bytes(flow.bytes)}`;
}

/** By direction, then by cause. */
function sorted(flows: readonly Flow[]): Flow[] {
  const key = (flow: Flow): string => `${flow.src} ${flow.dst} ${flow.cause}`;
  return [...flows].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

/** What the columns do not show, a line each. */
function details(tally: Tally): string[] {
  const lines = sorted(tally.migrations).map((flow) => flowText(flow, 'migration', 'migrations'));
  for (const { src, dst, count: n, cause, bytes: size } of sorted(tally.remoteMaps)) {
    lines.push(`${src} maps memory of ${dst}: ${counted(n, 'time')} by ${cause}, ${bytes(size)}`);
  }
  if (tally.readDuplicates > 0)
    lines.push(counted(tally.readDuplicates, 'page read-duplicated', 'pages read-duplicated'));
  if (tally.readDuplicateInvalidations > 0) {
    lines.push(counted(tally.readDuplicateInvalidations, 'read duplicate invalidated', 'read duplicates invalidated'));
  }
  if (tally.thrashing > 0) lines.push(counted(tally.thrashing, 'thrashing event'));
  if (tally.throttlings > 0) lines.push(counted(tally.throttlings, 'time throttled', 'times throttled'));
  if (tally.evictions > 0) lines.push(counted(tally.evictions, 'eviction'));
  if (tally.fatalFaults > 0) lines.push(counted(tally.fatalFaults, 'fatal fault'));
  return lines;
}

function placeText({ buffer, page }: CopyPlace): string {
  return buffer === null ? `page ${page}` : `${buffer}, page ${page}`;
}

/** A copy of the copy routine in one line. */
function copyText(copy: CopyEntry): string {
  const { form, from, to, state, status, fault } = copy;
  const what = `${form} copy of step ${copy.step}, ${from === null ? 'of whichever page faults' : placeText(from)}`;
  const target = `${what} to ${placeText(to)}`;
  if (state === 'armed') return `${target}: still waiting for a fault`;
  if (state === 'ended') return `${target}: ended with ${status} after ${bytes(copy.bytes)}`;
  const source = copy.residentOn === null ? 'zeros, since it lives nowhere' : `from ${copy.residentOn}`;
  const time = copy.begin === null || copy.end === null ? '' : ` in ${duration((copy.end - copy.begin) / 1000)}`;
  const when = fault === undefined ? '' : `, at the fault of ${fault.gpu} in step ${fault.step}`;
  const kind = form !== 'armed' ? '' : copy.snapshot ? ', a snapshot' : ', no snapshot';
  return `${target}: ${bytes(copy.bytes)} ${source}${time}${when}${kind}${state === 'running' ? ', under way' : ''}`;
}

function tallyRows(label: string, what: string, tally: Tally, colors: Colors): string[][] {
  return [[label, what, ...cells(tally)], ...details(tally).map((line) => [colors.dim(`       ${line}`)])];
}

/** A scenario's name, a table of its steps, and notes. */
export function summaryText(
  scenario: Scenario,
  summary: RunSummary,
  notes: readonly string[],
  colors: Colors,
  copies: readonly CopyEntry[] = [],
): string {
  const rows = [HEADER.map((cell) => colors.dim(cell))];
  for (const [i, tally] of summary.steps.entries()) {
    const step = scenario.steps[i];
    const what = step === undefined ? 'recorded faults' : clip(describeStep(step, scenario), STEP_WIDTH);
    rows.push(...tallyRows(String(i), what, tally, colors));
  }
  // With one step the sum says nothing more.
  if (summary.steps.length > 1) rows.push(['', 'total', ...cells(summary.total)]);
  const title = `${colors.bold(scenario.name)} on ${scenario.machine}\n`;
  const copied = copies.map((copy) => `  ${colors.bold('copy:')} ${copyText(copy)}\n`).join('');
  return (
    title + table(rows, ALIGN, '  ') + copied + notes.map((note) => `  ${colors.yellow('note:')} ${note}\n`).join('')
  );
}

/** The end of the output of several scenarios. */
export function overallText(total: Tally, done: number, failures: number, traced: boolean, colors: Colors): string {
  return totalText(total, done, failures, `predicted (${traced ? 'traced' : 'untraced'})`, colors);
}

/** The same of scenarios that ran on a GPU. */
export function liveTotalText(total: Tally, done: number, failures: number, gpu: string, colors: Colors): string {
  return totalText(total, done, failures, `on ${gpu}`, colors);
}

function totalText(total: Tally, done: number, failures: number, of: string, colors: Colors): string {
  const faults = total.cpuFaults + total.gpuFaults;
  const migrations = total.migrations.reduce((sum, flow) => sum + flow.count, 0);
  const failed = failures === 0 ? '' : colors.red(`, ${counted(failures, 'failure')}`);
  const what = [
    counted(faults, 'fault'),
    counted(migrations, 'migration'),
    `${bytes(flowBytes(total.migrations))} moved`,
    `${duration(total.wallMicroseconds)} ${of}`,
  ];
  return `${colors.bold(counted(done, 'scenario'))}${failed}: ${what.join(', ')}\n`;
}
