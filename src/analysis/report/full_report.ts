/** A report with what the model can say about it: what tracing cost, what to try, and what that would gain. */
import { parseScenario, type Scenario } from '../../scenario/scenario.ts';
import type { Trace } from '../../trace/store/trace_events.ts';
import { executeRun } from '../execute.ts';
import type { Machines } from '../machines.ts';
import { predictUntraced, type Untraced, type UntracedTime } from '../untraced_time.ts';
import { adviceFor, readOnlyFrom } from './advice_rules.ts';
import { bytesGain } from './bytes_gain.ts';
import { caseOfTrace, hasSteps } from './case_of_trace.ts';
import { MODEL_ERROR, MODEL_ERROR_SOURCE } from './model_error.ts';
import { type ReportOptions, reportTrace } from './report_trace.ts';
import type { Advice, TraceReport, TracingCost } from './report_types.ts';
import { type ScenarioBase, scenarioBase, scenarioGain } from './scenario_gain.ts';
import { scenarioTouches } from './scenario_touches.ts';

export interface FullReport {
  report: TraceReport;
  /**
   * Gains whose interval lies above zero come first, by their size, then all else by its cost. What the model predicts
   * to lose is in `rejected`.
   */
  advice: Advice[];
  rejected: Advice[];
  tracing: TracingCost | null;
  /** Why `tracing` is null. */
  tracingUnknown: string | null;
  /** Details of the prediction for a recording, or null. */
  untraced: UntracedTime | null;
  /** The relative error of the model that intervals are made of, and where it is from. */
  modelError: { error: number; source: string };
}

export interface FullReportOptions {
  machines: Machines;
  /** The profile that takes the place of the trace's. */
  machine?: string;
  /** False: nothing is run or replayed. */
  prediction: boolean;
  /** The trace with all columns of events, where `trace` has only those of a report. */
  whole?: () => Promise<Trace>;
}

/** Changed scenarios are run while a trace has no more events than this, and at most so many of them. */
const SCENARIO_EVENTS_MAX = 300_000;
const GAINS_MAX = 8;

function readScenario({ info }: Trace, machines: Machines): { scenario: Scenario | null; why: string } {
  if (!hasSteps(info.scenario)) return { scenario: null, why: 'which pages the program touched is not in the trace' };
  const parsed = parseScenario(info.scenario, machines.known);
  return parsed.ok ? { scenario: parsed.scenario, why: '' } : { scenario: null, why: parsed.error };
}

function touchesOf(trace: Trace, scenario: Scenario | null, why: string): ReportOptions['touches'] {
  if (scenario === null) return { ok: false, why };
  const oneStep = scenario.steps.length === trace.info.fromStep + 1;
  if (!trace.info.hasSteps && !oneStep) return { ok: false, why: 'the events do not tell their steps' };
  return scenarioTouches(scenario);
}

interface Gathered {
  tracing: TracingCost | null;
  why: string;
  base: ScenarioBase | null;
  baseWhy: string;
  untraced: Untraced | null;
}

/** A gain whose interval lies above zero; else 0. */
function sureGain({ prediction }: Advice): number {
  return prediction !== null && prediction.lowMicroseconds > 0 ? prediction.gainMicroseconds : 0;
}

const sum = (list: readonly number[]): number => list.reduce((total, n) => total + n, 0);

/** The scenario run with both tables of costs. */
function byRuns(trace: Trace, { machines }: FullReportOptions): Gathered {
  const scenario = trace.info.scenario as Record<string, unknown>;
  const none: Gathered = { tracing: null, why: '', base: null, baseWhy: '', untraced: null };
  if (trace.columns.count > SCENARIO_EVENTS_MAX) {
    const why = `the trace has more than ${SCENARIO_EVENTS_MAX} events, so its scenario is not run again`;
    return { ...none, why, baseWhy: why };
  }
  const started = scenarioBase(scenario, machines);
  if (!started.ok) return { ...none, why: started.why, baseWhy: started.why };
  const { base } = started;
  const traced = executeRun(scenario, machines, { traced: true });
  if (!traced.ok) return { ...none, why: traced.error, base };
  const tracing: TracingCost = {
    machine: traced.run.scenario.machine,
    tracedMicroseconds: sum(traced.run.state.wall),
    untracedMicroseconds: sum(base.wall),
    reliable: true,
    basis: 'runs',
  };
  return { ...none, tracing, base };
}

/** The recorded faults replayed with both. */
async function byReplays(trace: Trace, report: TraceReport, options: FullReportOptions): Promise<Gathered> {
  const no = (why: string): Gathered => ({ tracing: null, why, base: null, baseWhy: why, untraced: null });
  if (report.batches.count === 0) return no('the trace has no GPU faults');
  const made = caseOfTrace((await options.whole?.()) ?? trace, options.machine);
  if (!made.ok) return no(made.why);
  const recordedBytes = sum(report.migrations.filter(({ cause }) => cause !== 'user').map(({ bytes }) => bytes));
  const { durationMicroseconds } = report;
  const untraced = predictUntraced(made.entry, { durationMicroseconds, recordedBytes }, options.machines);
  if (!untraced.ok) return no(untraced.why);
  const { time } = untraced;
  const tracing: TracingCost = {
    machine: time.machine,
    tracedMicroseconds: durationMicroseconds,
    untracedMicroseconds: time.untracedMicroseconds,
    reliable: time.movedAlike,
    basis: 'replays',
  };
  // A trace that is not of a traced driver has no cost of tracing in it.
  return {
    tracing: trace.info.traced ? tracing : null,
    why: 'the trace is not of a traced driver',
    base: null,
    baseWhy: '',
    untraced,
  };
}

function predictGain(
  item: Advice,
  report: TraceReport,
  scenario: Scenario | null,
  g: Gathered,
  o: FullReportOptions,
): void {
  const allocation = report.allocations.find(({ name }) => name === item.allocation);
  if (g.base !== null) {
    const index = scenario?.allocations.findIndex(({ name }) => name === item.allocation) ?? -1;
    const from = scenario === null || index < 0 ? -1 : readOnlyFrom(scenario, index);
    const found = scenarioGain(g.base, item, allocation?.uses ?? [], from);
    if (!found.ok) item.notPredicted = found.why;
    else {
      item.prediction = found.gain.prediction;
      if (item.rule === 'preferredLocation') item.home = found.gain.what;
    }
    return;
  }
  if (g.untraced === null || allocation === undefined) {
    item.notPredicted = g.baseWhy || g.why || 'the model cannot run the change';
    return;
  }
  const found = bytesGain(item, allocation, g.untraced, o.machines);
  if (found.ok) item.prediction = found.prediction;
  else item.notPredicted = found.why;
}

/**
 * The report of a trace whose REPORT_COLUMNS are loaded. Runs and replays take some 20 seconds for a million events;
 * without `prediction` there are none.
 */
export async function fullReport(trace: Trace, options: FullReportOptions): Promise<FullReport> {
  const { scenario, why } = readScenario(trace, options.machines);
  const report = reportTrace(trace, { touches: touchesOf(trace, scenario, why) });
  const all = adviceFor({ report, info: trace.info, scenario });
  const modelError = { error: MODEL_ERROR, source: MODEL_ERROR_SOURCE };
  if (!options.prediction) {
    for (const item of all) item.notPredicted = '--no-prediction';
    const nothing = { rejected: [], tracing: null, tracingUnknown: '--no-prediction', untraced: null };
    return { report, advice: all, ...nothing, modelError };
  }
  const canRun = scenario !== null && !scenario.steps.some((step) => step.do === 'kernel' || step.do === 'memset');
  const gathered = canRun ? byRuns(trace, options) : await byReplays(trace, report, options);
  for (const [i, item] of all.entries()) {
    if (i < GAINS_MAX) predictGain(item, report, scenario, gathered, options);
    else item.notPredicted = `only the ${GAINS_MAX} most costly ones are predicted`;
  }
  const loses = ({ prediction }: Advice): boolean => prediction !== null && prediction.gainMicroseconds <= 0;
  return {
    report,
    advice: all.filter((item) => !loses(item)).sort((a, b) => sureGain(b) - sureGain(a)),
    rejected: all.filter(loses),
    tracing: gathered.tracing,
    tracingUnknown: gathered.tracing === null ? gathered.why : null,
    untraced: gathered.untraced?.time ?? null,
    modelError,
  };
}
