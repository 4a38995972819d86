/** The summary of a run as people read it. */
import type { Flow, RunSummary, Tally } from '../analysis/summary.ts';
import { flowBytes } from '../analysis/summary.ts';
import type { Scenario } from '../scenario/scenario.ts';
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

function tallyRows(label: string, what: string, tally: Tally, colors: Colors): string[][] {
  return [[label, what, ...cells(tally)], ...details(tally).map((line) => [colors.dim(`       ${line}`)])];
}

/** A scenario's name, a table of its steps, and notes. */
export function summaryText(scenario: Scenario, summary: RunSummary, notes: readonly string[], colors: Colors): string {
  const rows = [HEADER.map((cell) => colors.dim(cell))];
  for (const [i, tally] of summary.steps.entries()) {
    const step = scenario.steps[i];
    const what = step === undefined ? 'recorded faults' : clip(describeStep(step, scenario), STEP_WIDTH);
    rows.push(...tallyRows(String(i), what, tally, colors));
  }
  // With one step the sum says nothing more.
  if (summary.steps.length > 1) rows.push(['', 'total', ...cells(summary.total)]);
  const title = `${colors.bold(scenario.name)} on ${scenario.machine}\n`;
  return title + table(rows, ALIGN, '  ') + notes.map((note) => `  ${colors.yellow('note:')} ${note}\n`).join('');
}

/** The end of the output of several scenarios. */
export function overallText(total: Tally, done: number, failures: number, traced: boolean, colors: Colors): string {
  const faults = total.cpuFaults + total.gpuFaults;
  const migrations = total.migrations.reduce((sum, flow) => sum + flow.count, 0);
  const failed = failures === 0 ? '' : colors.red(`, ${counted(failures, 'failure')}`);
  const what = [
    counted(faults, 'fault'),
    counted(migrations, 'migration'),
    `${bytes(flowBytes(total.migrations))} moved`,
    `${duration(total.wallMicroseconds)} predicted (${traced ? 'traced' : 'untraced'})`,
  ];
  return `${colors.bold(counted(done, 'scenario'))}${failed}: ${what.join(', ')}\n`;
}
