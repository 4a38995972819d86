import { describe, expect, it } from 'vitest';
import { AssertionError } from '../base/assert.ts';
import { logEvents } from '../trace/log_events.ts';
import { type ExecuteResult, executeReplay, executeRun } from './execute.ts';
import { loadMachines } from './machines.ts';

const machines = loadMachines();
const WRITE = { on: 'cpu', do: 'write', buffer: 'a', pages: [0, 1] };
const READ = { on: 'gpu0', do: 'read', buffer: 'a', pages: [0, 1] };

function scenario(...steps: object[]) {
  return { name: 'x', machine: 'h200-pcie5', allocations: [{ name: 'a', bytes: 2097152 }], steps };
}

function errorOf(result: ExecuteResult): string {
  if (result.ok) throw new Error('it ran');
  return result.error;
}

function kindsOf(result: ExecuteResult): string[] {
  if (!result.ok) throw new Error(result.error);
  return logEvents(result.run.m, result.run.scenario.allocations).map((e) => `${e.step} ${e.event}`);
}

describe('executeRun', () => {
  it('runs to the end with a wall time for each step', () => {
    const result = executeRun(scenario(WRITE, READ), machines);
    expect(kindsOf(result)).toEqual(['0 cpuFault', '1 gpuFault', '1 migration', '1 migration', '1 replay']);
    if (result.ok) expect(result.run.state.wall).toEqual([expect.any(Number), expect.any(Number)]);
  });

  it('names the scenario of an error', () => {
    const result = executeRun(scenario({ ...READ, on: 'gpu1' }), machines);
    expect(result).toMatchObject({ ok: false, name: 'x', error: expect.stringContaining('unknown processor "gpu1"') });
  });

  it('predicts the untraced program unless asked for the traced one', () => {
    const { traced, untraced } = machines.profile('h200-pcie5');
    for (const [options, costs] of [
      [{}, untraced],
      [{ traced: true }, traced],
    ] as const) {
      const result = executeRun(scenario(WRITE, READ), machines, options);
      expect(result.ok && result.run.m.cost).toBe(costs);
    }
  });

  it('sets parameters over those of the scenario', () => {
    const json = { ...scenario(WRITE, READ), parameters: { uvm_perf_prefetch_enable: 1 } };
    const parameters = { uvm_perf_prefetch_enable: '0' };
    const all = kindsOf(executeRun(json, machines, { parameters }));
    // Without prefetching every page faults.
    expect(all.filter((kind) => kind === '1 gpuFault')).toHaveLength(2);
  });

  it('tells which parameters the driver replaces', () => {
    const result = executeRun({ ...scenario(WRITE), parameters: { uvm_perf_prefetch_threshold: 101 } }, machines);
    expect(result.ok && result.notes).toEqual([
      expect.stringContaining('uvm_perf_prefetch_threshold changed from 101 to 51'),
    ]);
  });

  it('keeps bytes where a step looks at them', () => {
    const check = (value: number) =>
      scenario({ ...WRITE, value: 7 }, READ, { do: 'checkBytes', buffer: 'a', page: 1, value });
    expect(executeRun(check(7), machines).ok).toBe(true);
    expect(errorOf(executeRun(check(8), machines))).toContain("page 1 of buffer 'a' begins with 7, not with 8");
  });

  it("turns the model's own broken promises into an error of that scenario", () => {
    const broken = (error: Error) => ({
      ...machines,
      profile: () => {
        throw error;
      },
    });
    expect(errorOf(executeRun(scenario(WRITE), broken(new AssertionError('a lock was left'))))).toBe(
      'internal error (a bug in uvmlab): a lock was left',
    );
    expect(errorOf(executeRun(scenario(WRITE), broken(new TypeError('no such field'))))).toBe(
      'internal error (a bug in uvmlab): TypeError: no such field',
    );
  });
});

describe('executeReplay', () => {
  const fault = { event: 'gpuFault', gpu: 'gpu0', type: 'invalidPde', access: 'read', offset: 0 };
  const at = (step: number, batch: number, more: object = {}) => ({
    ...fault,
    step,
    batch,
    time: 0,
    gpuTime: 0,
    ...more,
  });

  function replay(events: unknown[], from = 1, json: object = scenario(WRITE, READ)) {
    const line = { kind: 'case', line: 1, scenario: json, recordedFromStep: from, observed: { events } } as const;
    return executeReplay(line, machines);
  }

  it('services the recorded faults and nothing else of the recorded steps', () => {
    expect(kindsOf(replay([at(1, 0)]))).toEqual(['0 cpuFault', '1 gpuFault', '1 migration', '1 migration', '1 replay']);
    expect(kindsOf(replay([]))).toEqual(['0 cpuFault']);
  });

  it('passes over faults of steps that ran unrecorded', () => {
    expect(kindsOf(replay([at(0, 0, { offset: 1048576 }), at(1, 1)]))).toEqual(kindsOf(replay([at(1, 1)])));
  });

  it('refuses what cannot be delivered', () => {
    expect(errorOf(replay([at(2, 0)]))).toBe('a recorded fault is of step 2; the scenario has 2 steps');
    expect(errorOf(replay([at(1, 0, { gpu: 'gpu1' })]))).toContain('a recorded fault is of gpu1');
    expect(errorOf(replay([at(1, 0, { offset: 2097152 })]))).toContain('offset 2097152');
    expect(errorOf(executeReplay({ kind: 'case', line: 1, scenario: scenario(WRITE) }, machines))).toContain(
      'observed',
    );
  });

  it("says what a program's recording does not tell", () => {
    const frame = { name: 'x', machine: 'h200-pcie5', allocations: [{ name: 'a', bytes: 2097152 }] };
    const event = { ...fault, batch: 0, time: 0, gpuTime: 0 };
    const result = replay([event], 0, frame);
    expect(result.ok && result.notes.join()).toContain('no steps');
  });

  it('passes over checkBytes of recorded steps, and says so', () => {
    const check = { do: 'checkBytes', buffer: 'a', page: 0, value: 99 };
    const result = replay([at(1, 0)], 1, scenario(WRITE, READ, check));
    expect(result.ok && result.notes.join()).toContain('checkBytes');
    expect(errorOf(replay([], 2, scenario(WRITE, check)))).toContain('begins with 1, not with 99');
  });
});
