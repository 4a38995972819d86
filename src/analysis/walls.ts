/**
 * Predicted against recorded wall times: which recorded times there are, what the model predicts for them, and the
 * statistics of the relative errors by suite.
 *
 * Recorded times come from two places. `walls.jsonl` has three captures of a scenario with the tools' event queue
 * attached (`traced`) and three without (`untraced`); the target is their median. Recordings that are not in it have
 * one capture of their own, traced. A time belongs to one step, or to the whole recorded part of a scenario. Steps
 * under 20 microseconds are left out: they measure the clock and the call, not the driver.
 */
import { readFile } from 'node:fs/promises';
import type { FaultStream } from '../scenario/fault_stream.ts';
import type { KnownMachines } from '../scenario/machine.ts';
import type { Profile } from '../scenario/profile.ts';
import { replayRun } from '../scenario/replay.ts';
import { advanceRun, type Run } from '../scenario/runner.ts';
import { parseScenario, type Scenario } from '../scenario/scenario.ts';
import { createSession } from '../scenario/session.ts';
import { checkRecording } from '../trace/case_check.ts';
import { readCases } from '../trace/case_file.ts';
import { faultStream } from '../trace/recorded_faults.ts';

/** Steps whose recorded time is below this, microseconds, are left out. */
export const SHORTEST_STEP = 20;

/** One line of `walls.jsonl`: microseconds by capture; one number for each step, or one for the whole recorded part. */
export interface WallLine {
  scenario: string;
  recordedFromStep: number;
  /** How many steps the scenario has. */
  steps: number;
  traced: number[][];
  untraced: number[][];
}

/** A recorded time and whose it is. */
export interface WallTarget {
  /** The step's index, or -1 for the whole recorded part. */
  step: number;
  /** Microseconds; null where there is no such recording. */
  traced: number | null;
  untraced: number | null;
}

/** A scenario with its recorded times. */
export interface WallCase {
  suite: string;
  scenario: Scenario;
  fromStep: number;
  /** For scenarios that cannot be run, the recorded faults to replay; null to run it. */
  stream: FaultStream | null;
  targets: WallTarget[];
}

/** A prediction beside its target, microseconds. */
export interface WallSample {
  suite: string;
  scenario: string;
  step: number;
  predicted: number;
  recorded: number;
}

/** Errors of one suite: |predicted - recorded| / recorded. */
export interface WallStatistics {
  suite: string;
  samples: number;
  median: number;
  p90: number;
  /** Median of predicted / recorded: above 1 the model is too slow. */
  ratio: number;
}

/** The value below which the fraction `q` of a list lies, between neighbours linearly; NaN for an empty list. */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

function isCaptures(value: unknown): value is number[][] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((capture) => Array.isArray(capture) && capture.every(Number.isFinite)) &&
    value.every((capture) => capture.length === value[0].length)
  );
}

/** Reads the lines of a `walls.jsonl`. Throws an Error that names the line for anything else. */
export function parseWallLines(text: string): WallLine[] {
  const lines: WallLine[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    let json: Partial<WallLine>;
    try {
      json = JSON.parse(line);
    } catch (error) {
      throw new Error(`line ${i + 1}: not JSON: ${(error as Error).message}`);
    }
    if (typeof json.scenario !== 'string') throw new Error(`line ${i + 1}: scenario: expected a name`);
    for (const field of ['recordedFromStep', 'steps'] as const) {
      if (!Number.isSafeInteger(json[field])) throw new Error(`line ${i + 1}: ${field}: expected a whole number`);
    }
    for (const field of ['traced', 'untraced'] as const) {
      if (!isCaptures(json[field])) throw new Error(`line ${i + 1}: ${field}: expected captures, lists of numbers`);
    }
    lines.push(json as WallLine);
  }
  return lines;
}

function medianOfCaptures(captures: number[][], i: number): number {
  return quantile(
    captures.map((capture) => capture[i]),
    0.5,
  );
}

/** Targets of a scenario from its line of `walls.jsonl`. */
export function targetsOfLine(line: WallLine): WallTarget[] {
  const count = line.traced[0].length;
  const whole = count !== line.steps - line.recordedFromStep;
  return Array.from({ length: count }, (_, i) => ({
    step: whole ? -1 : line.recordedFromStep + i,
    traced: medianOfCaptures(line.traced, i),
    untraced: medianOfCaptures(line.untraced, i),
  }));
}

/** Targets of a scenario from its own recording, which was traced. */
export function targetsOfRecording(wall: number | (number | null)[] | null): WallTarget[] {
  if (wall === null) return [];
  if (typeof wall === 'number') return [{ step: -1, traced: wall, untraced: null }];
  return wall.flatMap((traced, step) => (traced === null ? [] : [{ step, traced, untraced: null }]));
}

/** Steps that only a replay of the recorded faults can carry out. */
function needsReplay(scenario: Scenario): boolean {
  return scenario.steps.some((step) => step.do === 'kernel' || step.do === 'memset');
}

/**
 * Reads the cases of `<folder>/<suite>.jsonl.gz` with the times of `<folder>/walls.jsonl`, or their own where that file
 * has none. Throws an Error for a case that is not valid.
 */
export async function readWallCases(
  folder: string,
  suites: readonly string[],
  machines: KnownMachines,
): Promise<WallCase[]> {
  const lines = new Map(
    parseWallLines(await readFile(`${folder}/walls.jsonl`, 'utf8')).map((line) => [line.scenario, line]),
  );
  const cases: WallCase[] = [];
  for (const suite of suites) {
    const file = `${folder}/${suite}.jsonl.gz`;
    for await (const entry of readCases(file)) {
      if (entry.kind === 'error') throw new Error(`${file}, line ${entry.line}: ${entry.error}`);
      const parsed = parseScenario(entry.scenario, machines);
      if (!parsed.ok) throw new Error(`${file}, line ${entry.line}: ${parsed.error}`);
      const checked = checkRecording(entry, false);
      if (!checked.ok) throw new Error(`${file}, line ${entry.line}: ${checked.error}`);
      const { recording } = checked;
      const { scenario } = parsed;
      const line = lines.get(scenario.name);
      let stream: FaultStream | null = null;
      if (needsReplay(scenario)) {
        const faults = recording.events.filter((event) => event.event === 'gpuFault' || event.event === 'cpuFault');
        const result = faultStream(faults, scenario.allocations);
        if (!result.ok) throw new Error(`${file}, line ${entry.line}: ${result.error}`);
        stream = result.stream;
      }
      cases.push({
        suite,
        scenario,
        fromStep: recording.fromStep,
        stream,
        targets: line === undefined ? targetsOfRecording(recording.wallMicroseconds) : targetsOfLine(line),
      });
    }
  }
  return cases;
}

/** Runs a case, or replays it if it needs that, and returns the run. Throws an Error for one that fails. */
export function runWallCase(wallCase: WallCase, profile: Profile, traced: boolean): Run {
  const session = createSession(wallCase.scenario, profile, { traced });
  if (!session.ok) throw new Error(`${wallCase.scenario.name}: ${session.error}`);
  const { run } = session;
  if (wallCase.stream === null) advanceRun(run);
  else replayRun(run, wallCase.stream, wallCase.fromStep);
  if (run.state.error !== null) throw new Error(`${wallCase.scenario.name}: ${run.state.error}`);
  return run;
}

/** Predictions for the targets of a case, of the traced or the untraced program. */
export function wallSamples(wallCase: WallCase, profile: Profile, traced: boolean): WallSample[] {
  const wanted = wallCase.targets.filter((target) => {
    const recorded = traced ? target.traced : target.untraced;
    return recorded !== null && recorded >= SHORTEST_STEP;
  });
  if (wanted.length === 0) return [];
  const { wall } = runWallCase(wallCase, profile, traced).state;
  return wanted.map((target) => ({
    suite: wallCase.suite,
    scenario: wallCase.scenario.name,
    step: target.step,
    predicted: target.step < 0 ? wall.slice(wallCase.fromStep).reduce((sum, t) => sum + t, 0) : wall[target.step],
    recorded: (traced ? target.traced : target.untraced) as number,
  }));
}

/** Statistics by suite, in the order in which the suites appear. */
export function wallStatistics(samples: readonly WallSample[]): WallStatistics[] {
  const bySuite = new Map<string, WallSample[]>();
  for (const sample of samples) {
    const list = bySuite.get(sample.suite);
    if (list === undefined) bySuite.set(sample.suite, [sample]);
    else list.push(sample);
  }
  return [...bySuite].map(([suite, list]) => {
    const errors = list.map((s) => Math.abs(s.predicted - s.recorded) / s.recorded);
    return {
      suite,
      samples: list.length,
      median: quantile(errors, 0.5),
      p90: quantile(errors, 0.9),
      ratio: quantile(
        list.map((s) => s.predicted / s.recorded),
        0.5,
      ),
    };
  });
}

/**
 * The errors of a set of cases: each sample, and statistics by suite. `profiles` by machine name. Suites without a
 * recorded time of that kind do not appear.
 */
export function wallErrors(
  cases: readonly WallCase[],
  profiles: Readonly<Record<string, Profile>>,
  traced: boolean,
): { samples: WallSample[]; suites: WallStatistics[] } {
  const samples = cases.flatMap((wallCase) => wallSamples(wallCase, profiles[wallCase.scenario.machine], traced));
  return { samples, suites: wallStatistics(samples) };
}
