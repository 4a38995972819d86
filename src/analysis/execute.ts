/**
 * One line of a file, run or replayed to its end. Whatever is wrong with it, a mistake in the input as much as one of
 * the model's own, ends in an error for this line alone.
 */
import { AssertionError } from '../base/assert.ts';
import { replayNotes, replayRun } from '../scenario/replay.ts';
import { advanceRun, type Run } from '../scenario/runner.ts';
import { parseScenario, type Scenario, scenarioName } from '../scenario/scenario.ts';
import { createSession, type SessionOptions } from '../scenario/session.ts';
import { type CaseLine, checkRecording } from '../trace/case_check.ts';
import type { FaultEvent } from '../trace/event.ts';
import { faultStream } from '../trace/recorded_faults.ts';
import type { Machines } from './machines.ts';

export interface ExecuteOptions extends SessionOptions {
  /** Called from time to time with the number of finished steps, and once before the first. */
  onProgress?: (scenario: Scenario, stepsDone: number) => void;
  /** Called with the run before its first step. */
  onRun?: (run: Run) => void;
}

export interface Executed {
  ok: true;
  /** The run at its end: its log has the events, `state.wall` each step's predicted microseconds. */
  run: Run;
  /** Parameters that the driver would replace, and what a recording cannot tell. */
  notes: string[];
  /** Of a replay: nanoseconds that its CPU faults took. */
  cpuFaultTime?: number;
}
export type ExecuteResult = Executed | { ok: false; name: string | null; error: string };

/** Touches between two calls of `onProgress`: seldom enough that the list of a step's pages is not made too often. */
const TOUCHES_AT_ONCE = 2 ** 23;

/** A mistake in the input that ends this scenario. */
class InputError extends Error {}

function describe(error: unknown): string {
  if (error instanceof InputError) return error.message;
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  const what = error instanceof AssertionError ? message : `${name}: ${message}`;
  return `internal error (a bug in uvmlab): ${what}`;
}

/** A fresh run; contents are kept where a step looks at them. */
function begin(json: unknown, stepsOptional: boolean, machines: Machines, options: ExecuteOptions) {
  const parsed = parseScenario(json, machines.known, { stepsOptional });
  if (!parsed.ok) throw new InputError(parsed.error);
  const { scenario } = parsed;
  const contents = options.contents ?? scenario.steps.some((step) => step.do === 'checkBytes');
  const session = createSession(scenario, machines.profile(scenario.machine), { ...options, contents });
  if (!session.ok) throw new InputError(session.error);
  options.onRun?.(session.run);
  options.onProgress?.(scenario, 0);
  return { scenario, run: session.run, notes: session.notes };
}

function end(run: Run, notes: string[]): Executed {
  const { error, mismatches } = run.state;
  if (error !== null) throw new InputError(error);
  if (mismatches > 0) throw new AssertionError(`${mismatches} reads did not see the last write`);
  return { ok: true, run, notes };
}

function guarded(json: unknown, act: () => Executed): ExecuteResult {
  try {
    return act();
  } catch (error) {
    return { ok: false, name: scenarioName(json), error: describe(error) };
  }
}

/** Runs a scenario as it comes from a file. Nothing else of the line is looked at. */
export function executeRun(json: unknown, machines: Machines, options: ExecuteOptions = {}): ExecuteResult {
  return guarded(json, () => {
    const { scenario, run, notes } = begin(json, false, machines, options);
    while (!advanceRun(run, TOUCHES_AT_ONCE)) options.onProgress?.(scenario, run.state.step);
    return end(run, notes);
  });
}

/** The recorded faults that a replay delivers: those of recorded steps, of GPUs and steps that there are. */
function usableFaults(faults: readonly FaultEvent[], scenario: Scenario, fromStep: number): FaultEvent[] {
  for (const fault of faults) {
    if (fault.event === 'gpuFault' && Number(fault.gpu.slice(3)) >= scenario.gpus) {
      throw new InputError(
        `a recorded fault is of ${fault.gpu}; machine '${scenario.machine}' has ${scenario.gpus} GPU`,
      );
    }
    if (fault.step !== undefined && scenario.steps.length > 0 && fault.step >= scenario.steps.length) {
      throw new InputError(
        `a recorded fault is of step ${fault.step}; the scenario has ${scenario.steps.length} steps`,
      );
    }
  }
  return faults.filter((fault) => fault.step === undefined || fault.step >= fromStep);
}

/** Replays the recorded faults of a case. Of its recording nothing but the faults is looked at. */
export function executeReplay(entry: CaseLine, machines: Machines, options: ExecuteOptions = {}): ExecuteResult {
  return guarded(entry.scenario, () => {
    const recorded = checkRecording(entry, true);
    if (!recorded.ok) throw new InputError(recorded.error);
    const { fromStep, events } = recorded.recording;
    const { scenario, run, notes } = begin(entry.scenario, true, machines, options);
    const faults = faultStream(usableFaults(events, scenario, fromStep), scenario.allocations);
    if (!faults.ok) throw new InputError(faults.error);
    const cpuFaultTime = replayRun(run, faults.stream, fromStep);
    const all = [...(entry.notes ?? []), ...notes, ...replayNotes(run, faults.stream, fromStep)];
    return { ...end(run, all), cpuFaultTime };
  });
}
