/**
 * Holds the model to recordings: each case of a file is run and its events are compared with the recorded ones. Cases
 * whose recorded steps are whole-grid kernels cannot be run; the recorded faults are replayed instead, and the
 * migrations compared. Cases that depend on time are compared by their counts, over all recordings of a history.
 */
import { scenarioName } from '../scenario/scenario.ts';
import { type CaseLine, checkRecording, type Recording } from '../trace/case_check.ts';
import type { CaseEntry } from '../trace/case_file.ts';
import { type Comparison, compareEvents, type Difference } from '../trace/compare.ts';
import { type EventKind, identity, type MigrationEvent, type UvmEvent } from '../trace/event.ts';
import { logEvents } from '../trace/log_events.ts';
import { type Executed, executeReplay, executeRun } from './execute.ts';
import type { Machines } from './machines.ts';
import { SHORTEST_STEP, targetsOfLine, type WallLine, type WallSample } from './walls.ts';

export type Verdict = 'exact' | 'notExact' | 'timeDependent' | 'error';

/** The first difference with what stands around it on either side. */
export interface ShownDifference extends Difference {
  /** Index of the first entry of the two lists below, among the step's events of that kind. */
  first: number;
  /** Identities; the difference is at `index - first`. Empty where sizes of batches differ. */
  recordedAround: string[];
  producedAround: string[];
}

export interface CaseResult {
  line: number;
  /** Null for a line that holds no scenario. */
  scenario: string | null;
  verdict: Verdict;
  /** Whether the recorded faults were replayed and the migrations alone compared. */
  replayed: boolean;
  /** How many recorded migrations were compared of a replayed case: all, or those before the program asked for one. */
  comparedMigrations: number | null;
  error: string | null;
  /** Events of the recorded steps by kind. */
  counts: Comparison['counts'];
  difference: ShownDifference | null;
  /** What makes the recordings of one history a group: the scenario without the number of its repetition. */
  history: string;
}

export interface ValidateOptions {
  /** Lines of walls.jsonl by scenario, for predictions of wall times. */
  walls?: ReadonlyMap<string, WallLine>;
}

export interface ValidatedCase {
  result: CaseResult;
  /** Predicted beside recorded wall times of the traced and the untraced program. */
  traced: WallSample[];
  untraced: WallSample[];
}

/** Entries shown before and after the first difference. */
const AROUND = 2;

function around(
  difference: Difference,
  recorded: readonly UvmEvent[],
  produced: readonly UvmEvent[],
  fromStep: number,
): ShownDifference {
  if (difference.what === 'batches') return { ...difference, first: 0, recordedAround: [], producedAround: [] };
  const first = Math.max(0, difference.index - AROUND);
  const cut = (events: readonly UvmEvent[]): string[] =>
    events
      .filter((e) => e.event === difference.kind && (e.step === undefined || e.step >= fromStep))
      .filter((e) => difference.step === null || e.step === difference.step)
      .slice(first, difference.index + AROUND + 1)
      .map(identity);
  return { ...difference, first, recordedAround: cut(recorded), producedAround: cut(produced) };
}

/** Whether a recorded step is a kernel of many threads, which only a replay of its faults can repeat. */
function isWholeGrid(scenario: unknown, fromStep: number): boolean {
  const steps = (scenario as { steps?: unknown }).steps;
  if (!Array.isArray(steps) || steps.length === 0) return true;
  return steps.slice(fromStep).some((step) => step?.do === 'kernel' || step?.do === 'memset');
}

/** The scenario as a text, with the number of the repetition taken from its name. */
function historyOf(scenario: unknown): string {
  return JSON.stringify({ ...(scenario as object), name: repetitionStem(scenarioName(scenario) ?? '') });
}

/** The name of a history that was recorded several times: `pp-page` of `pp-page-run3`. */
export function repetitionStem(name: string): string {
  return name.replace(/-run\d+$/, '');
}

const NOTHING: Omit<CaseResult, 'line' | 'scenario' | 'verdict' | 'error' | 'history'> = {
  replayed: false,
  comparedMigrations: null,
  counts: {},
  difference: null,
};

function failed(line: number, scenario: unknown, error: string): ValidatedCase {
  const name = scenario === null ? null : scenarioName(scenario);
  const result: CaseResult = { ...NOTHING, line, scenario: name, verdict: 'error', error, history: '' };
  return { result, traced: [], untraced: [] };
}

/** The predictions for a case's recorded wall times; none for steps that are too short to tell anything. */
function wallSamples(run: Executed['run'], line: WallLine | undefined, suite: string, traced: boolean): WallSample[] {
  if (line === undefined) return [];
  const { wall } = run.state;
  const sum = wall.slice(line.recordedFromStep).reduce((a, b) => a + b, 0);
  return targetsOfLine(line).flatMap((target) => {
    const recorded = traced ? target.traced : target.untraced;
    if (recorded === null || recorded < SHORTEST_STEP) return [];
    const predicted = target.step < 0 ? sum : wall[target.step];
    return [{ suite, scenario: line.scenario, step: target.step, predicted, recorded }];
  });
}

function compared(entry: CaseLine, recording: Recording<UvmEvent>, run: Executed['run'], replayed: boolean) {
  const { fromStep, events: recorded } = recording;
  const produced = logEvents(run.m, run.scenario.allocations);
  const options = { recordedFromStep: fromStep };
  const all = compareEvents(recorded, produced, options);
  const known = replayed ? knownMigrations(recorded, produced, run.scenario.steps.length > 0) : null;
  const judged = known === null ? all : compareEvents(known.recorded, known.produced, options);
  const first = judged.firstDifference;
  const result: CaseResult = {
    line: entry.line,
    scenario: run.scenario.name,
    verdict: all.timeDependent ? 'timeDependent' : judged.same ? 'exact' : 'notExact',
    replayed,
    comparedMigrations: known?.recorded.filter(({ step }) => step === undefined || step >= fromStep).length ?? null,
    error: null,
    counts: all.counts,
    difference:
      first === null || all.timeDependent
        ? null
        : around(first, known?.recorded ?? recorded, known?.produced ?? produced, fromStep),
    history: all.timeDependent ? historyOf(entry.scenario) : '',
  };
  return result;
}

function isMigration(event: UvmEvent): event is MigrationEvent {
  return event.event === 'migration';
}

/**
 * The migrations that a replay of the faults can tell, on both sides. With steps these are all. A recording without
 * steps does not have the calls of its program: what counts are the migrations that began before the first one which
 * the program asked for, by a prefetch say, since what comes after it hangs on it; those of the model are cut to as
 * many in each direction. Directions are compared one after another there, as their order is the driver's habit of
 * delivery.
 */
function knownMigrations(recorded: readonly UvmEvent[], produced: readonly UvmEvent[], hasSteps: boolean) {
  const all = recorded.filter(isMigration);
  const made = produced.filter(isMigration);
  if (hasSteps) return { recorded: all, produced: made };
  const asked = all.filter((event) => event.cause === 'user');
  if (asked.length === 0) return { recorded: byDirection(all), produced: byDirection(made) };
  const until = asked.reduce((least, event) => Math.min(least, event.begin), Number.POSITIVE_INFINITY);
  const known = all.filter((event) => event.begin < until);
  const left = new Map<string, number>();
  for (const event of known) left.set(directionOf(event), (left.get(directionOf(event)) ?? 0) + 1);
  const kept = made.filter((event) => {
    const more = left.get(directionOf(event)) ?? 0;
    left.set(directionOf(event), more - 1);
    return more > 0;
  });
  return { recorded: byDirection(known), produced: byDirection(kept) };
}

function directionOf({ src, dst }: MigrationEvent): string {
  return `${src} ${dst}`;
}

/** In the order of directions; within one in the order of the list. */
function byDirection(events: readonly MigrationEvent[]): MigrationEvent[] {
  return [...events].sort((a, b) => (directionOf(a) < directionOf(b) ? -1 : directionOf(a) > directionOf(b) ? 1 : 0));
}

/**
 * Judges one entry of a file. Recordings are of traced programs, so the run predicts one, and keeps the contents of
 * pages: a read that does not see the last write is an error. `suite` is what wall times are summed up by.
 */
export function validateCase(
  entry: CaseEntry,
  suite: string,
  machines: Machines,
  options: ValidateOptions = {},
): ValidatedCase {
  if (entry.kind === 'error') return failed(entry.line, null, entry.error);
  const checked = checkRecording(entry, false);
  if (!checked.ok) return failed(entry.line, entry.scenario, checked.error);
  const { recording } = checked;
  const replayed = isWholeGrid(entry.scenario, recording.fromStep);
  const executed = replayed
    ? executeReplay(entry, machines, { traced: true })
    : executeRun(entry.scenario, machines, { traced: true, contents: true });
  if (!executed.ok) return failed(entry.line, entry.scenario, executed.error);
  const result = compared(entry, recording, executed.run, replayed);
  // A replay takes its times from the recording, so they predict nothing.
  const walls = replayed ? undefined : options.walls?.get(executed.run.scenario.name);
  if (walls === undefined) return { result, traced: [], untraced: [] };
  const plain = executeRun(entry.scenario, machines, { traced: false });
  return {
    result,
    traced: wallSamples(executed.run, walls, suite, true),
    untraced: plain.ok ? wallSamples(plain.run, walls, suite, false) : [],
  };
}

/** How many cases of a file came out how. */
export interface FileTally {
  file: string;
  cases: number;
  exact: number;
  notExact: number;
  timeDependent: number;
  errors: number;
  /** Of the cases, those replayed; migrations recorded in all of these, and in those of these that are exact. */
  replayed: number;
  replayedMigrations: number;
  exactMigrations: number;
  /** Migrations of these after a call of the program that a recording without steps does not have. */
  unknownMigrations: number;
}

export function tallyFile(file: string, results: readonly CaseResult[]): FileTally {
  const of = (verdict: Verdict): number => results.filter((r) => r.verdict === verdict).length;
  const replayed = results.filter((r) => r.replayed);
  const migrations = (list: readonly CaseResult[]): number =>
    list.reduce((sum, r) => sum + (r.comparedMigrations ?? 0), 0);
  return {
    file,
    cases: results.length,
    exact: of('exact'),
    notExact: of('notExact'),
    timeDependent: of('timeDependent'),
    errors: of('error'),
    replayed: replayed.length,
    replayedMigrations: migrations(replayed),
    exactMigrations: migrations(replayed.filter((r) => r.verdict === 'exact')),
    unknownMigrations: replayed.reduce((sum, r) => sum + (r.counts.migration?.recorded ?? 0), 0) - migrations(replayed),
  };
}

export interface Range {
  low: number;
  high: number;
}

/** One count of a time-dependent history. */
export interface CountRange {
  recorded: Range;
  /** What the recordings allow for another run. */
  allowed: Range;
  model: Range;
  inside: boolean;
}

export const GROUP_COUNTS = ['thrashing', 'migrations', 'throttling', 'gpuFaults'] as const;
export type GroupCount = (typeof GROUP_COUNTS)[number];

/** All recordings of one time-dependent history. */
export interface TimeDependentGroup {
  scenario: string;
  recordings: number;
  counts: Record<GroupCount, CountRange>;
  inside: boolean;
}

const KIND_OF: Record<GroupCount, EventKind> = {
  thrashing: 'thrashing',
  migrations: 'migration',
  throttling: 'throttlingStart',
  gpuFaults: 'gpuFault',
};

/** How far another run may lie from the recorded ones; whole counts inside the widened range. */
const WIDENED: Record<GroupCount, (range: Range) => Range> = {
  thrashing: byAFifth,
  migrations: byAFifth,
  throttling: ({ low, high }) => ({ low: Math.max(0, low - 3), high: high + 3 }),
  gpuFaults: ({ low, high }) => ({ low: Math.ceil(low / 2), high: high * 2 }),
};

function byAFifth({ low, high }: Range): Range {
  // In tenths, so that no rounding error decides over a count at the edge.
  return { low: Math.ceil((low * 8) / 10), high: Math.floor((high * 12) / 10) };
}

function rangeOf(values: readonly number[]): Range {
  return { low: Math.min(...values), high: Math.max(...values) };
}

function countRange(name: GroupCount, members: readonly CaseResult[]): CountRange {
  const of = (side: 'recorded' | 'produced') => rangeOf(members.map((r) => r.counts[KIND_OF[name]]?.[side] ?? 0));
  const recorded = of('recorded');
  const allowed = WIDENED[name](recorded);
  const model = of('produced');
  return { recorded, allowed, model, inside: model.low >= allowed.low && model.high <= allowed.high };
}

/** The time-dependent cases by history, in order of first occurrence. */
export function timeDependentGroups(results: readonly CaseResult[]): TimeDependentGroup[] {
  const members = new Map<string, CaseResult[]>();
  for (const result of results) {
    if (result.verdict !== 'timeDependent') continue;
    const list = members.get(result.history);
    if (list === undefined) members.set(result.history, [result]);
    else list.push(result);
  }
  return [...members.values()].map((list) => {
    const counts = Object.fromEntries(GROUP_COUNTS.map((name) => [name, countRange(name, list)]));
    const ranges = counts as Record<GroupCount, CountRange>;
    return {
      scenario: repetitionStem(list[0].scenario ?? ''),
      recordings: list.length,
      counts: ranges,
      inside: GROUP_COUNTS.every((name) => ranges[name].inside),
    };
  });
}
