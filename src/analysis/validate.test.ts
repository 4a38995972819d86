import { describe, expect, it } from 'vitest';
import type { CaseLine } from '../trace/case_check.ts';
import type { UvmEvent } from '../trace/event.ts';
import { logEvents } from '../trace/log_events.ts';
import { executeRun } from './execute.ts';
import { loadMachines } from './machines.ts';
import { type CaseResult, repetitionStem, tallyFile, timeDependentGroups, validateCase } from './validate.ts';

const machines = loadMachines();
const SCENARIO = {
  name: 'walk',
  machine: 'h200-pcie5',
  allocations: [{ name: 'a', bytes: 4194304 }],
  steps: [
    { on: 'cpu', do: 'write', buffer: 'a', offset: 0, length: 4194304, stride: 4096 },
    { on: 'gpu0', do: 'read', buffer: 'a', offset: 0, length: 4194304, stride: 65536 },
  ],
};

/** A recording of what the model itself does. */
function recorded(): UvmEvent[] {
  const result = executeRun(SCENARIO, machines);
  if (!result.ok) throw new Error(result.error);
  return logEvents(result.run.m, result.run.scenario.allocations).filter((e) => e.step === 1);
}

function caseOf(events: UvmEvent[], scenario: object = SCENARIO): CaseLine {
  return { kind: 'case', line: 4, scenario, recordedFromStep: 1, observed: { events } };
}

function judge(events: UvmEvent[], scenario?: object): CaseResult {
  return validateCase(caseOf(events, scenario), 'suite', machines).result;
}

describe('validateCase', () => {
  it('finds the same events exact', () => {
    const result = judge(recorded());
    expect(result).toMatchObject({ line: 4, scenario: 'walk', verdict: 'exact', replayed: false, difference: null });
    expect(result.counts.gpuFault?.recorded).toBeGreaterThan(5);
  });

  it('shows the first difference with two events on either side of it', () => {
    const events = recorded();
    const faults = events.filter((e) => e.event === 'gpuFault');
    faults[3].offset += 4096;
    const { verdict, difference } = judge(events);
    expect(verdict).toBe('notExact');
    expect(difference).toMatchObject({ step: 1, kind: 'gpuFault', index: 3, first: 1 });
    expect(difference?.recordedAround).toHaveLength(5);
    expect(difference?.producedAround).toHaveLength(5);
    const at = 3 - (difference?.first ?? 0);
    expect(difference?.recordedAround[at]).not.toBe(difference?.producedAround[at]);
    expect(difference?.recordedAround[at - 1]).toBe(difference?.producedAround[at - 1]);
  });

  it('shows what there is at the ends of the lists', () => {
    const events = recorded();
    const last = events.findLastIndex((e) => e.event === 'gpuFault');
    const { difference } = judge(events.toSpliced(last, 1));
    expect(difference?.recordedAround).toHaveLength(2);
    expect(difference?.producedAround).toHaveLength(3);
    const first = events.findIndex((e) => e.event === 'gpuFault');
    expect(judge(events.toSpliced(first, 1)).difference).toMatchObject({ index: 0, first: 0 });
  });

  it('sets time-dependent cases apart, even where their events differ', () => {
    const thrashing: UvmEvent = {
      event: 'thrashing',
      step: 1,
      offset: 0,
      bytes: 4096,
      processors: ['cpu', 'gpu0'],
      time: 0,
    };
    expect(judge([...recorded(), thrashing])).toMatchObject({ verdict: 'timeDependent', difference: null });
  });

  it('tells why a case cannot be judged', () => {
    const noScenario = validateCase({ kind: 'error', line: 9, error: 'not JSON' }, 's', machines).result;
    expect(noScenario).toMatchObject({ line: 9, scenario: null, verdict: 'error', error: 'not JSON' });
    const bare = validateCase({ kind: 'case', line: 1, scenario: SCENARIO }, 's', machines).result;
    expect(bare).toMatchObject({ scenario: 'walk', verdict: 'error', error: expect.stringContaining('no recording') });
    const unknown = judge(recorded(), { ...SCENARIO, machine: 'b200' });
    expect(unknown).toMatchObject({ verdict: 'error', error: expect.stringContaining('unknown machine "b200"') });
  });

  it('replays whole-grid kernels and compares the migrations alone', () => {
    const kernel = { on: 'gpu0', do: 'kernel', kernel: 'streamRead', buffer: 'a', grid: 1, block: 32 };
    const steps = [SCENARIO.steps[0], { ...kernel, elementBytes: 16, length: 4194304 }];
    const scenario = { ...SCENARIO, steps };
    const events = recorded();
    expect(judge(events, scenario)).toMatchObject({ verdict: 'exact', replayed: true });
    const withoutReplays = events.filter((e) => e.event !== 'replay');
    expect(judge(withoutReplays, scenario).verdict).toBe('exact');
    const migration = events.findIndex((e) => e.event === 'migration');
    expect(judge(events.toSpliced(migration, 1), scenario)).toMatchObject({
      verdict: 'notExact',
      difference: { kind: 'migration', index: 0 },
    });
    // A kernel that ran before the recording can be neither run nor replayed.
    expect(judge(events, { ...scenario, steps: [steps[1], SCENARIO.steps[1]] }).verdict).toBe('error');
  });

  it('predicts wall times only where there are recorded ones', () => {
    const captures = [[100], [300], [200]];
    const line = { scenario: 'walk', recordedFromStep: 1, steps: 2, traced: captures, untraced: [[10], [10], [10]] };
    const walls = new Map([['walk', line]]);
    const validated = validateCase(caseOf(recorded()), 'suite', machines, { walls });
    expect(validated.traced).toMatchObject([{ suite: 'suite', scenario: 'walk', step: 1, recorded: 200 }]);
    expect(validated.traced[0].predicted).toBeGreaterThan(0);
    // A step below 20 microseconds tells nothing.
    expect(validated.untraced).toEqual([]);
    const other = new Map([['other', { ...line, scenario: 'other' }]]);
    expect(validateCase(caseOf(recorded()), 'suite', machines, { walls: other }).traced).toEqual([]);
  });
});

describe('tallyFile', () => {
  it('counts verdicts, and the migrations of what was replayed', () => {
    const base = judge(recorded());
    const migrations = (n: number) => ({ migration: { recorded: n, produced: n } });
    const results: CaseResult[] = [
      base,
      { ...base, verdict: 'notExact', replayed: true, comparedMigrations: 5, counts: migrations(5) },
      { ...base, replayed: true, comparedMigrations: 6, counts: migrations(7) },
      { ...base, verdict: 'error', replayed: true, counts: {} },
      { ...base, verdict: 'timeDependent' },
    ];
    expect(tallyFile('f', results)).toEqual({
      file: 'f',
      cases: 5,
      exact: 2,
      notExact: 1,
      timeDependent: 1,
      errors: 1,
      replayed: 3,
      replayedMigrations: 11,
      exactMigrations: 6,
      unknownMigrations: 1,
    });
  });
});

describe('timeDependentGroups', () => {
  type Counts = [thrashing: number, migrations: number, throttling: number, gpuFaults: number];

  function result(name: string, recordedCounts: Counts, model: Counts, history = 'h'): CaseResult {
    const kinds = ['thrashing', 'migration', 'throttlingStart', 'gpuFault'] as const;
    const counts = Object.fromEntries(kinds.map((k, i) => [k, { recorded: recordedCounts[i], produced: model[i] }]));
    const rest = { line: 1, replayed: false, comparedMigrations: null, error: null, difference: null };
    return { ...rest, scenario: name, verdict: 'timeDependent', counts, history };
  }

  function inside(recordedCounts: Counts, model: Counts): boolean {
    return timeDependentGroups([result('x', recordedCounts, model)])[0].inside;
  }

  it('puts the repetitions of one history together', () => {
    const groups = timeDependentGroups([
      result('pp-run0', [10, 20, 3, 100], [10, 20, 3, 100]),
      result('pp-run1', [14, 22, 5, 80], [10, 20, 3, 100]),
      result('other', [1, 1, 0, 1], [1, 1, 0, 1], 'h2'),
    ]);
    expect(groups.map((g) => [g.scenario, g.recordings])).toEqual([
      ['pp', 2],
      ['other', 1],
    ]);
    expect(groups[0].counts.thrashing).toMatchObject({
      recorded: { low: 10, high: 14 },
      allowed: { low: 8, high: 16 },
    });
    expect(groups[0].counts.throttling.allowed).toEqual({ low: 0, high: 8 });
    expect(groups[0].counts.gpuFaults.allowed).toEqual({ low: 40, high: 200 });
  });

  it('widens thrashing and migrations by a fifth', () => {
    for (const i of [0, 1]) {
      const model = (n: number): Counts => [10, 10, 0, 10].map((c, k) => (k === i ? n : c)) as Counts;
      expect([7, 8, 12, 13].map((n) => inside([10, 10, 0, 10], model(n)))).toEqual([false, true, true, false]);
    }
  });

  it('widens throttling by three', () => {
    const at = (n: number) => inside([0, 0, 5, 0], [0, 0, n, 0]);
    expect([1, 2, 8, 9].map(at)).toEqual([false, true, true, false]);
  });

  it('takes GPU faults from half to twice', () => {
    const at = (n: number) => inside([0, 0, 0, 11], [0, 0, 0, n]);
    expect([5, 6, 22, 23].map(at)).toEqual([false, true, true, false]);
  });

  it('leaves out what does not depend on time', () => {
    expect(timeDependentGroups([{ ...result('x', [0, 0, 0, 0], [0, 0, 0, 0]), verdict: 'exact' }])).toEqual([]);
  });
});

it('takes the number of the repetition from a name', () => {
  expect(['pp-page-run3', 'pp-page-run12', 'pp-page', 'run1', 'a-run1-b'].map(repetitionStem)).toEqual([
    'pp-page',
    'pp-page',
    'pp-page',
    'run1',
    'a-run1-b',
  ]);
});

describe('recordings without steps', () => {
  const bare = { ...SCENARIO, steps: [] };

  /** The faults and migrations of a run as a recorder has them: without steps, by their times. */
  function recordedProgram(): UvmEvent[] {
    const result = executeRun(SCENARIO, machines, { traced: true });
    if (!result.ok) throw new Error(result.error);
    const events = logEvents(result.run.m, result.run.scenario.allocations);
    return events.map(({ step, ...event }) => event as UvmEvent);
  }

  const judgeBare = (events: UvmEvent[]) =>
    validateCase({ kind: 'case', line: 1, scenario: bare, recordedFromStep: 0, observed: { events } }, 's', machines)
      .result;

  it('are replayed, and their migrations compared', () => {
    const events = recordedProgram();
    const migrations = events.filter((e) => e.event === 'migration').length;
    expect(migrations).toBeGreaterThan(10);
    expect(judgeBare(events)).toMatchObject({ verdict: 'exact', replayed: true, comparedMigrations: migrations });
  });

  it('are compared direction by direction, since they are delivered channel by channel', () => {
    const events = recordedProgram();
    const strange: UvmEvent = {
      event: 'migration',
      cause: 'coherence',
      src: 'gpu0',
      dst: 'cpu',
      offset: 0,
      bytes: 4096,
      begin: 0,
      end: 1,
      gpuBegin: 0,
      gpuEnd: 1,
    };
    const { verdict, difference } = judgeBare([strange, ...events]);
    expect(verdict).toBe('notExact');
    expect(difference?.recorded).toContain('gpu0');
    expect(difference?.produced).toBeNull();
  });

  it('are compared up to the first migration that the program asked for', () => {
    const events = recordedProgram();
    const migrations = events.filter((e) => e.event === 'migration');
    const asked = migrations[6];
    asked.cause = 'user';
    const before = migrations.filter((e) => e.begin < asked.begin).length;
    expect(before).toBeGreaterThan(0);
    const result = judgeBare(events);
    expect(result).toMatchObject({ verdict: 'exact', comparedMigrations: before });
    expect(tallyFile('f', [result])).toMatchObject({
      replayedMigrations: before,
      unknownMigrations: migrations.length - before,
    });
    // What is before it is still compared.
    migrations[0].offset += 4096;
    expect(judgeBare(events).verdict).toBe('notExact');
  });
});
