/**
 * The same run is the same run: again, from a snapshot in its middle, with an observer, with or without contents. Bytes
 * of output and hashes of the whole state say so.
 */
import { describe, expect, it } from 'vitest';
import { loadMachines, recordingPath } from '../src/analysis/machines.ts';
import { modelHash } from '../src/model/model.ts';
import type { Costs, MachineSpec } from '../src/model/spec.ts';
import type { ModuleParameters } from '../src/model/uvm/params.ts';
import { advanceRun, createRun, type Run, resumeRun, runCanStop, snapshotRun } from '../src/scenario/runner.ts';
import { parseScenario, type Scenario } from '../src/scenario/scenario.ts';
import { createSession, type SessionOptions, sessionParameters } from '../src/scenario/session.ts';
import { readCases } from '../src/trace/case_file.ts';
import { logEvents } from '../src/trace/log_events.ts';
import { type Coverage, countingObserver } from './histories/coverage.ts';
import { generateHistory } from './histories/generate.ts';
import { moveToFreshModel } from './histories/harness.ts';
import { runHistory } from './histories/run.ts';

const machines = loadMachines();

/** Recorded histories, by file. */
const CASES: Readonly<Record<string, readonly string[]>> = {
  serial: ['rand-64k-read-s1', 'small-256k'],
  scripts1: ['half-resident-then-read-z1', 'subrange-advise-z1', 'pingpong-page-z1'],
  probes1: ['split-two-cuts-z1', 'read-mostly-prefetch-z1'],
  peers1: ['peer-bounce-z1'],
  pins: ['pin-both-write-run0'],
};

async function recorded(): Promise<Scenario[]> {
  const scenarios: Scenario[] = [];
  for (const [file, names] of Object.entries(CASES)) {
    for await (const entry of readCases(recordingPath(`${file}.jsonl.gz`))) {
      if (!entry.ok || !names.includes((entry.line.scenario as { name: string }).name)) continue;
      const parsed = parseScenario(entry.line.scenario, machines.known);
      if (parsed.ok) scenarios.push(parsed.scenario);
    }
  }
  return scenarios;
}

const scenarios = await recorded();

interface Machine {
  spec: MachineSpec;
  params: ModuleParameters;
  cost: Costs;
}

/** The scenario's machine with a small fault buffer, so that a hash of its state is soon made. */
function machineOf(scenario: Scenario, traced: boolean): Machine {
  const profile = machines.profile(scenario.machine);
  const parsed = sessionParameters(scenario, profile);
  if (!parsed.ok) throw new Error(parsed.error);
  const spec = { ...profile.spec, faultBufferEntries: 256 };
  return { spec, params: parsed.params, cost: traced ? profile.traced : profile.untraced };
}

function begin(scenario: Scenario, options: SessionOptions): Run {
  const profile = machines.profile(scenario.machine);
  const small = { ...profile, spec: machineOf(scenario, options.traced ?? false).spec };
  const session = createSession(scenario, small, options);
  if (!session.ok) throw new Error(session.error);
  return session.run;
}

function bytes(run: Run): string {
  return JSON.stringify([run.state.error, run.state.wall, logEvents(run.m, run.scenario.allocations)]);
}

function whole(scenario: Scenario, options: SessionOptions): Run {
  const run = begin(scenario, options);
  advanceRun(run);
  return run;
}

/** Goes on for about `touches` touches, and further until the driver is at rest. True at the end of the scenario. */
function advanceToRest(run: Run, touches: number): boolean {
  let ended = advanceRun(run, touches);
  while (!ended && !runCanStop(run)) ended = advanceRun(run, 1);
  return ended;
}

describe('recorded histories', () => {
  it('are all there', () => {
    expect(scenarios.map((s) => s.name).sort()).toEqual(Object.values(CASES).flat().sort());
  });

  for (const scenario of scenarios) {
    for (const traced of [false, true]) {
      const title = `${scenario.name}, ${traced ? 'traced' : 'untraced'}`;

      it(`${title}: five runs give the same bytes and the same state`, () => {
        const first = whole(scenario, { traced, contents: true });
        expect(first.state.error).toBeNull();
        const state = modelHash(first.m);
        for (let i = 1; i < 5; i++) {
          const again = whole(scenario, { traced, contents: true });
          expect(bytes(again) === bytes(first)).toBe(true);
          expect(modelHash(again.m)).toBe(state);
        }
      });

      it(`${title}: stopped, copied and resumed on a fresh model again and again, it is the same run`, () => {
        const { spec, params, cost } = machineOf(scenario, traced);
        const options = { traced, contents: true };
        const straight = begin(scenario, options);
        let moved = begin(scenario, options);
        let stops = 0;
        for (let ended = false; !ended; stops++) {
          ended = advanceToRest(straight, 97);
          expect(advanceToRest(moved, 97)).toBe(ended);
          expect(modelHash(moved.m)).toBe(modelHash(straight.m));
          if (ended) break;
          const snapshot = snapshotRun(moved);
          // What happens to the run after it was copied must not reach the copy.
          advanceRun(moved, 1);
          moved = resumeRun(snapshot, scenario, spec, params, cost, options);
          expect(modelHash(moved.m)).toBe(modelHash(straight.m));
        }
        expect(stops).toBeGreaterThan(0);
        expect(moved.state).toEqual(straight.state);
        expect(bytes(moved) === bytes(whole(scenario, options))).toBe(true);
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
  }

  it('a copy can be resumed twice, and neither run touches the other', () => {
    const scenario = scenarios[0];
    const { spec, params, cost } = machineOf(scenario, false);
    const run = begin(scenario, { contents: true });
    advanceToRest(run, 200);
    const snapshot = snapshotRun(run);
    const a = resumeRun(snapshot, scenario, spec, params, cost, { contents: true });
    advanceRun(a);
    const b = resumeRun(snapshot, scenario, spec, params, cost, { contents: true });
    advanceRun(b);
    expect(modelHash(a.m)).toBe(modelHash(b.m));
    expect(bytes(a)).toBe(bytes(b));
    expect(a.state.expected).not.toBe(b.state.expected);
  });

  it('a run is not copied while the driver works', () => {
    const scenario = scenarios[0];
    const run = begin(scenario, {});
    let busy = false;
    for (let i = 0; i < 200 && !busy; i++) {
      advanceRun(run, 1);
      busy = !runCanStop(run);
    }
    expect(busy).toBe(true);
    expect(() => snapshotRun(run)).toThrow('while all threads are blocked');
  });

  it('the hash sees a single bit of the state', () => {
    const scenario = scenarios[0];
    const run = whole(scenario, {});
    const before = modelHash(run.m);
    const block = run.space.ranges[0]?.blocks[0] ?? createRun(run.m, scenario).space.ranges[0].blocks[0];
    expect(block).not.toBeNull();
    if (block !== null) block.w[3] ^= 1;
    expect(modelHash(run.m)).not.toBe(before);
  });
});

describe('random histories', () => {
  const SEEDS = Array.from({ length: 40 }, (_, i) => 500 + i);

  function output(seed: number, observed: boolean, move: boolean): { text: string; hash: string } {
    const history = { ...generateHistory(seed), observed };
    const hashes: string[] = [];
    const { failure, harness } = runHistory(history, new Map(), undefined, (h) => {
      hashes.push(modelHash(h.m));
      if (move) moveToFreshModel(h);
    });
    expect(failure).toBeNull();
    if (harness === null) throw new Error('a history without a machine');
    return { text: bytes(harness.run), hash: hashes.join(' ') };
  }

  it('five runs of each seed give the same bytes, and the same state after every step', () => {
    for (const seed of SEEDS) {
      const first = output(seed, false, false);
      for (let i = 1; i < 5; i++) expect(output(seed, false, false)).toEqual(first);
    }
  });

  it('moved to a fresh model after every step, with an observer or without, it is the same run', () => {
    for (const seed of SEEDS) {
      const plain = output(seed, false, false);
      expect(output(seed, false, true)).toEqual(plain);
      expect(output(seed, true, true)).toEqual(plain);
    }
  });
});
