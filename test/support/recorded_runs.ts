/** Recorded scenarios on machines with a small fault buffer, run, stopped and copied: for the tests of determinism. */
import { expect, it } from 'vitest';
import { loadMachines, recordingPath } from '../../src/analysis/machines.ts';
import { modelHash } from '../../src/model/model.ts';
import type { Costs, MachineSpec } from '../../src/model/spec.ts';
import type { ModuleParameters } from '../../src/model/uvm/params.ts';
import { advanceRun, type Run, resumeRun, runCanStop, snapshotRun } from '../../src/scenario/runner.ts';
import { accessCount, parseScenario, type Scenario } from '../../src/scenario/scenario.ts';
import { createSession, type SessionOptions, sessionParameters } from '../../src/scenario/session.ts';
import { readCases } from '../../src/trace/case_file.ts';
import { logEvents } from '../../src/trace/log_events.ts';
import { type Coverage, countingObserver } from '../histories/coverage.ts';

const machines = loadMachines();

/** How often a run is stopped on its way. */
const STOPS = 12;

/** The scenarios of these names, by recording. Throws when one is not there. */
export async function recordedScenarios(names: Readonly<Record<string, readonly string[]>>): Promise<Scenario[]> {
  const scenarios: Scenario[] = [];
  for (const [file, wanted] of Object.entries(names)) {
    for await (const entry of readCases(recordingPath(`${file}.jsonl.gz`))) {
      if (entry.kind === 'error') throw new Error(entry.error);
      const parsed = parseScenario(entry.scenario, machines.known);
      if (parsed.ok && wanted.includes(parsed.scenario.name)) scenarios.push(parsed.scenario);
    }
  }
  const have = scenarios.map((s) => s.name);
  const lost = Object.values(names)
    .flat()
    .filter((name) => !have.includes(name));
  if (lost.length > 0) throw new Error(`no recording of ${lost.join(', ')}`);
  return scenarios;
}

interface Machine {
  spec: MachineSpec;
  params: ModuleParameters;
  cost: Costs;
}

/** Rings and the fault buffer are small, so that a hash of the state is soon made; nothing here fills them. */
export function machineOf(scenario: Scenario, traced: boolean): Machine {
  const profile = machines.profile(scenario.machine);
  const parsed = sessionParameters(scenario, profile, { uvm_channel_num_gpfifo_entries: 64 });
  if (!parsed.ok) throw new Error(parsed.error);
  const spec = { ...profile.spec, faultBufferEntries: 256 };
  return { spec, params: parsed.params, cost: traced ? profile.traced : profile.untraced };
}

export function begin(scenario: Scenario, options: SessionOptions): Run {
  const profile = machines.profile(scenario.machine);
  const { spec } = machineOf(scenario, options.traced ?? false);
  const parameters = { uvm_channel_num_gpfifo_entries: 64 };
  const session = createSession(scenario, { ...profile, spec }, { ...options, parameters });
  if (!session.ok) throw new Error(session.error);
  return session.run;
}

/** All that a run puts out. */
export function bytes(run: Run): string {
  return JSON.stringify([run.state.error, run.state.wall, logEvents(run.m, run.scenario.allocations)]);
}

export function whole(scenario: Scenario, options: SessionOptions): Run {
  const run = begin(scenario, options);
  advanceRun(run);
  return run;
}

/** Goes on for about `touches` touches, and further until the driver is at rest. True at the end of the scenario. */
export function advanceToRest(run: Run, touches: number): boolean {
  let ended = advanceRun(run, touches);
  while (!ended && !runCanStop(run)) ended = advanceRun(run, 1);
  return ended;
}

function touchesOf(scenario: Scenario): number {
  const isAccess = (word: string): boolean => word === 'read' || word === 'write' || word === 'atomic';
  return scenario.steps.reduce((sum, step) => sum + (isAccess(step.do) ? accessCount(step as never) : 1), 0);
}

/** Runs one beside a copy that is stopped, moved to a fresh model and resumed again and again. */
function stopAndResume(scenario: Scenario, traced: boolean): void {
  const { spec, params, cost } = machineOf(scenario, traced);
  const options = { traced, contents: true };
  const each = Math.max(1, Math.ceil(touchesOf(scenario) / STOPS));
  const straight = begin(scenario, options);
  let moved = begin(scenario, options);
  let stops = 0;
  for (;;) {
    const ended = advanceToRest(straight, each);
    expect(advanceToRest(moved, each)).toBe(ended);
    const state = modelHash(straight.m);
    expect(modelHash(moved.m)).toBe(state);
    if (ended) break;
    const snapshot = snapshotRun(moved);
    // What happens to the run after it was copied must not reach the copy.
    advanceRun(moved, 1);
    moved = resumeRun(snapshot, scenario, spec, params, cost, options);
    expect(modelHash(moved.m)).toBe(state);
    stops++;
  }
  expect(stops).toBeGreaterThan(2);
  expect(moved.state).toEqual(straight.state);
  expect(bytes(moved) === bytes(whole(scenario, options))).toBe(true);
}

/** The tests of one scenario. */
export function sameRunTests(scenario: Scenario, traced: boolean): void {
  const title = `${scenario.name}, ${traced ? 'traced' : 'untraced'}`;

  it(`${title}: five runs give the same bytes and the same state`, () => {
    const first = whole(scenario, { traced, contents: true });
    expect(first.state.error).toBeNull();
    const text = bytes(first);
    const state = modelHash(first.m);
    for (let i = 1; i < 5; i++) {
      const again = whole(scenario, { traced, contents: true });
      expect(bytes(again) === text).toBe(true);
      expect(modelHash(again.m)).toBe(state);
    }
  });

  it(`${title}: stopped, copied and resumed on a fresh model again and again, it is the same run`, () => {
    stopAndResume(scenario, traced);
  });

  it(`${title}: an observer, contents and checks change nothing`, () => {
    const plain = bytes(whole(scenario, { traced }));
    const coverage: Coverage = new Map();
    const observed = whole(scenario, { traced, contents: true, why: countingObserver(coverage) });
    expect(coverage.size).toBeGreaterThan(0);
    expect(bytes(observed) === plain).toBe(true);
    expect(modelHash(observed.m)).toBe(modelHash(whole(scenario, { traced, contents: true }).m));
    expect(bytes(whole(scenario, { traced, verify: true })) === plain).toBe(true);
  });
}
