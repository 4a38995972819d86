/** What the command `demo` does. */
import { executeReplay, executeRun } from '../analysis/execute.ts';
import { loadMachines, type Machines, recordingPath } from '../analysis/machines.ts';
import type { Run } from '../scenario/runner.ts';
import { scenarioName } from '../scenario/scenario.ts';
import { type CaseLine, checkRecording, type Recording } from '../trace/case_check.ts';
import { readCases } from '../trace/case_file.ts';
import { type Comparison, compareEvents } from '../trace/compare.ts';
import { EVENT_KINDS, type UvmEvent } from '../trace/event.ts';
import { logEvents } from '../trace/log_events.ts';
import { EXIT_FAILED, EXIT_OK } from './command.ts';
import { describeStep } from './describe.ts';
import { explainFile } from './explain_file.ts';
import { bytes, type Colors, clip, colorsFor, count, duration, table } from './text.ts';

interface Exhibit {
  file: string;
  scenario: string;
  /** Lines of text. */
  about: readonly string[];
  /** A grid of threads: its faults are replayed, and the migrations compared. */
  replay: boolean;
}

const EXHIBITS: readonly Exhibit[] = [
  {
    file: 'serial.jsonl.gz',
    scenario: 'seq-64k-read',
    about: [
      'One GPU thread reads what the CPU wrote. Each fault brings 64 KiB at first, then more and more is prefetched.',
    ],
    replay: false,
  },
  {
    file: 'scripts1.jsonl.gz',
    scenario: 'accessed-by-gpu-z1',
    about: ['The buffer is advised as accessed by the GPU, which then maps what the CPU holds and moves nothing.'],
    replay: false,
  },
  {
    file: 'scripts1.jsonl.gz',
    scenario: 'read-mostly-both-z1',
    about: ['Read-mostly pages: both processors get a copy, until one of them writes.'],
    replay: false,
  },
  {
    file: 'parallel.jsonl.gz',
    scenario: 'vecadd-96m',
    about: [
      'A kernel of thousands of threads. Which of its faults meet in a batch varies on hardware, so the recorded',
      'batches are put into the fault buffer, and the migrations compared.',
    ],
    replay: true,
  },
];

async function findCase(file: string, name: string): Promise<CaseLine> {
  for await (const entry of readCases(recordingPath(file))) {
    if (entry.kind === 'case' && scenarioName(entry.scenario) === name) return entry;
  }
  throw new Error(`recordings/${file} has no case ${name}`);
}

/** What is shown of each exhibit, the first few of it. */
const FIRST_SHOWN = 5;

function eventText(event: UvmEvent | undefined): string {
  switch (event?.event) {
    case 'cpuFault':
      return `cpu ${event.access} at ${bytes(event.offset)}`;
    case 'gpuFault':
      return `${event.gpu} ${event.access} at ${bytes(event.offset)}, ${event.type}`;
    case 'migration':
      return `${event.src} -> ${event.dst} ${bytes(event.bytes)} at ${bytes(event.offset)}, ${event.cause}`;
    default:
      return '';
  }
}

/** The first events of the kind that tells most: GPU faults, CPU faults where there are none; of a grid, migrations. */
function firstEvents(recorded: readonly UvmEvent[], produced: readonly UvmEvent[], replay: boolean): string[][] {
  const hasGpuFaults = recorded.some((event) => event.event === 'gpuFault');
  const kind = replay ? 'migration' : hasGpuFaults ? 'gpuFault' : 'cpuFault';
  const [a, b] = [recorded, produced].map((list) => list.filter((event) => event.event === kind));
  const rows = [[`first ${kind}s`, 'hardware', 'model']];
  for (let i = 0; i < Math.min(FIRST_SHOWN, Math.max(a.length, b.length)); i++) {
    rows.push([String(i), eventText(a[i]), eventText(b[i])]);
  }
  return rows;
}

function recordedWall(recording: Recording<UvmEvent>): number {
  const wall = recording.wallMicroseconds;
  if (Array.isArray(wall)) return wall.reduce((sum: number, w) => sum + (w ?? 0), 0);
  return wall ?? 0;
}

function countRows(comparison: Comparison, replay: boolean): string[][] {
  return EVENT_KINDS.flatMap((kind) => {
    const n = comparison.counts[kind];
    // What a grid's last replays are on hardware hangs on when its queue was read.
    if (n === undefined || (replay && kind === 'replay')) return [];
    return [[kind, count(n.recorded), count(n.produced)]];
  });
}

function verdict(same: boolean, replay: boolean, colors: Colors): string {
  if (!same) return colors.red(replay ? 'the migrations differ' : 'the events differ');
  return colors.green(replay ? 'the same migrations, in order' : 'the same events, in order within each kind');
}

function stepsText(run: Run, fromStep: number, colors: Colors): string {
  const rows = run.scenario.steps.map((step, i) => {
    const recorded = i < fromStep ? colors.dim('before the recording') : '';
    return [String(i), clip(describeStep(step, run.scenario), 60), recorded];
  });
  return table(rows, 'rll', '  ');
}

/** Prints one exhibit; false when model and hardware differ. */
function show(run: Run, recording: Recording<UvmEvent>, exhibit: Exhibit, colors: Colors): boolean {
  const { events: recorded, fromStep } = recording;
  const produced = logEvents(run.m, run.scenario.allocations).filter((e) => (e.step ?? 0) >= fromStep);
  const options = { recordedFromStep: fromStep };
  const comparison = compareEvents(recorded, produced, options);
  const judged = exhibit.replay
    ? compareEvents(recorded.filter(isMigration), produced.filter(isMigration), options)
    : comparison;
  const rows = [['', 'hardware', 'model'].map((cell) => colors.dim(cell)), ...countRows(comparison, exhibit.replay)];
  if (!exhibit.replay) {
    const wall = run.state.wall.slice(fromStep).reduce((sum, w) => sum + w, 0);
    rows.push(['wall time', duration(recordedWall(recording)), `${duration(wall)}`]);
  }
  const first = firstEvents(recorded, produced, exhibit.replay);
  first[0] = first[0].map((cell) => colors.dim(cell));
  process.stdout.write(
    `${colors.bold(run.scenario.name)}: ${verdict(judged.same, exhibit.replay, colors)}\n` +
      `${exhibit.about.map((line) => `  ${line}\n`).join('')}` +
      `${stepsText(run, fromStep, colors)}\n` +
      `${table(rows, 'lrr', '  ')}\n${table(first, 'rll', '  ')}\n`,
  );
  return judged.same;
}

function isMigration(event: UvmEvent): boolean {
  return event.event === 'migration';
}

async function showExhibit(exhibit: Exhibit, machines: Machines, colors: Colors): Promise<boolean> {
  const entry = await findCase(exhibit.file, exhibit.scenario);
  const checked = checkRecording(entry, false);
  if (!checked.ok) throw new Error(checked.error);
  const executed = exhibit.replay
    ? executeReplay(entry, machines, { traced: true })
    : executeRun(entry.scenario, machines, { traced: true });
  if (!executed.ok) throw new Error(executed.error);
  return show(executed.run, checked.recording, exhibit, colors);
}

const FAREWELL = `Where to go from here:
  uvmlab tour                               the whole routine, item by item, on a live run
  uvmlab explain FILE --fault N             the same for any other fault
  uvmlab validate recordings/*.jsonl.gz     every recording, held to the same
  uvmlab run FILE                           a history of your own
  uvmlab --help                             everything else
`;

/** The fault that is explained: the second of the GPU, whose prefetch region has grown. */
const EXPLAINED = { file: 'serial.jsonl.gz', scenario: 'seq-64k-read', fault: '50' };

async function showExplanation(colors: Colors): Promise<boolean> {
  const { file, scenario, fault } = EXPLAINED;
  const command = `uvmlab explain recordings/${file} --scenario ${scenario} --fault ${fault}`;
  process.stdout.write(`${colors.bold('One fault, and why it went as it did')}\n  ${command}\n\n`);
  const code = await explainFile(recordingPath(file), { scenario, fault });
  process.stdout.write('\n');
  return code === EXIT_OK;
}

/** Prints the exhibits and an explanation, and returns the exit code. */
export async function runDemo(): Promise<number> {
  const machines = loadMachines();
  const colors = colorsFor(process.stdout);
  process.stdout.write('What a real H200 did, and what the model of its driver does with the same history.\n\n');
  let same = true;
  for (const exhibit of EXHIBITS) same = (await showExhibit(exhibit, machines, colors)) && same;
  const explained = await showExplanation(colors);
  process.stdout.write(FAREWELL);
  return same && explained ? EXIT_OK : EXIT_FAILED;
}
