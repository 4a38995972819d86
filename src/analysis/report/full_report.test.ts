import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { UvmEvent } from '../../trace/event.ts';
import { createTraceColumns } from '../../trace/store/trace_columns.ts';
import { appendEvent } from '../../trace/store/trace_events.ts';
import { emptyTraceInfo } from '../../trace/store/trace_info.ts';
import { executeRun } from '../execute.ts';
import { loadMachines, recordingPath } from '../machines.ts';
import { openTrace } from '../open_trace.ts';
import { traceOfRun } from '../trace_of_run.ts';
import { prefetchMicroseconds } from './bytes_gain.ts';
import { type FullReport, fullReport } from './full_report.ts';
import { gainInterval, MODEL_ERROR, UNTRACED_ERRORS } from './model_error.ts';
import type { Advice, AdviceRule } from './report_types.ts';
import { changedTimes } from './scenario_gain.ts';

const MIB = 2 ** 20;
const machines = loadMachines();
type Step = Record<string, unknown>;

const write = (on: string, buffer = 'a', length = 16 * MIB): Step => ({
  ...{ on, do: 'write', buffer, offset: 0, length, stride: 4096 },
});
const read = (on: string, stride = 4096, buffer = 'a', length = 16 * MIB): Step => ({
  ...{ on, do: 'read', buffer, offset: 0, length, stride },
});

async function reportOf(steps: Step[], changes: Record<string, unknown> = {}, prediction = true): Promise<FullReport> {
  const json = { name: 'x', machine: 'h200-pcie5', allocations: [{ name: 'a', bytes: 16 * MIB }], steps, ...changes };
  const result = executeRun(json, machines);
  if (!result.ok) throw new Error(result.error);
  const trace = traceOfRun(result.run, { source: 'run', uvmlab: '0', scenario: json });
  return fullReport(trace, { machines, prediction });
}

const of = (list: readonly Advice[], rule: AdviceRule): Advice | undefined => list.find((item) => item.rule === rule);

describe('advice', () => {
  it('is to prefetch where a GPU faults its way through an allocation, and gains for sure', async () => {
    const full = await reportOf([write('cpu'), read('gpu0', 65536)]);
    const found = of(full.advice, 'prefetch') as Advice;
    expect(found).toMatchObject({
      allocation: 'a',
      processor: 'gpu0',
      offset: 0,
      length: 16 * MIB,
      notPredicted: null,
    });
    expect(found.evidence).toMatchObject({
      faults: full.report.batches.count,
      movedBytes: 16 * MIB,
      firstTouchPages: 0,
    });
    expect(found.prediction).toMatchObject({ basis: 'scenario', machine: 'h200-pcie5', uncertain: false });
    expect(found.prediction?.lowMicroseconds).toBeGreaterThan(0);
    expect(found.prediction?.highMicroseconds).toBeGreaterThan(found.prediction?.gainMicroseconds as number);
    // It is what the change does on the model, all in all.
    const after = await reportOf([
      write('cpu'),
      { do: 'prefetch', to: 'gpu0', buffer: 'a', offset: 0, length: 16 * MIB },
      read('gpu0', 65536),
    ]);
    const walls = (tracing: FullReport['tracing']): number => tracing?.untracedMicroseconds as number;
    expect(found.prediction?.gainMicroseconds).toBeCloseTo(walls(full.tracing) - walls(after.tracing), 3);
    expect(after.advice).toEqual([]);
  });

  it('is none where nothing is wrong', async () => {
    expect((await reportOf([write('cpu')])).advice).toEqual([]);
    const few = await reportOf([write('cpu'), { on: 'gpu0', do: 'read', buffer: 'a', pages: [1] }]);
    expect(few.advice).toEqual([]);
  });

  it('is not to prefetch what is hardly used', async () => {
    const sparse = { on: 'gpu0', do: 'read', buffer: 'a', pages: [0, 1, 2, 3, 4080, 4081, 4082, 4083] };
    const full = await reportOf([{ ...write('cpu'), length: 65536 }, sparse]);
    expect(of([...full.advice, ...full.rejected], 'prefetch')).toBeUndefined();
  });

  it('is to prefetch back what the CPU reads, before those steps alone in which data comes back', async () => {
    const full = await reportOf([write('cpu'), read('gpu0'), read('cpu')]);
    const back = of(full.advice, 'prefetchBack') as Advice;
    expect(back).toMatchObject({ allocation: 'a', processor: 'cpu' });
    expect(back.prediction?.gainMicroseconds).toBeGreaterThan(0);
  });

  it('is copies for all where several read and nobody writes any more', async () => {
    const rounds = [read('gpu0'), read('cpu'), read('gpu0'), read('cpu'), read('gpu0')];
    const full = await reportOf([write('cpu'), ...rounds]);
    const found = of(full.advice, 'readMostly') as Advice;
    expect(found.prediction?.lowMicroseconds).toBeGreaterThan(0);
    expect(found.evidence).toMatchObject({ pingPongPages: 4096 });
    const written = await reportOf([write('cpu'), ...rounds, write('gpu0')]);
    expect(of([...written.advice, ...written.rejected], 'readMostly')).toBeUndefined();
    expect(of([...written.advice, ...written.rejected], 'preferredLocation')).toBeDefined();
  });

  it('is not what the model finds slower', async () => {
    // One page of each block: the faults bring 64 KiB each, a prefetch all of it.
    const full = await reportOf([write('cpu'), read('gpu0', 2 * MIB)]);
    expect(full.advice).toEqual([]);
    expect(full.rejected).toMatchObject([{ rule: 'prefetch', allocation: 'a' }]);
    expect(full.rejected[0].prediction?.gainMicroseconds).toBeLessThan(0);
  });

  it('is to switch prefetching on where the module has it off', async () => {
    const full = await reportOf([write('cpu'), read('gpu0')], { parameters: { uvm_perf_prefetch_enable: 0 } });
    expect(of(full.advice, 'prefetchOff')?.prediction?.lowMicroseconds).toBeGreaterThan(0);
  });

  it('tells of small batches only where no prefetch is advised', async () => {
    const full = await reportOf([write('cpu'), read('gpu0')]);
    expect(full.report.batches).toMatchObject({ median: 1 });
    expect(of(full.advice, 'smallBatches')).toBeUndefined();
  });

  it('has no prediction where none is asked for', async () => {
    const full = await reportOf([write('cpu'), read('gpu0')], {}, false);
    expect(full).toMatchObject({ tracing: null, tracingUnknown: '--no-prediction', rejected: [] });
    expect(full.advice.length).toBeGreaterThan(0);
    for (const item of full.advice) expect(item).toMatchObject({ prediction: null, notPredicted: '--no-prediction' });
  });
});

describe('advice without a scenario', () => {
  /** A trace of events alone, in which each fault takes half a millisecond. */
  async function of(events: UvmEvent[], parameters: Record<string, number> = {}): Promise<FullReport> {
    const columns = createTraceColumns();
    for (const event of events) appendEvent(columns, event);
    const allocations = [{ name: 'a', bytes: 64 * MIB, kind: 'managed' as const, address: null }];
    const info = { ...emptyTraceInfo('t', 'lines', '0'), allocations, parameters };
    return fullReport({ info, columns }, { machines, prediction: true });
  }
  let time = 0;
  let batch = 0;
  const gpuFault = (page: number): UvmEvent[] => {
    time += 1e6;
    batch++;
    const fault = { event: 'gpuFault', gpu: 'gpu0', type: 'invalidPte', access: 'write', offset: page * 4096 } as const;
    return [
      { ...fault, batch, time, gpuTime: time },
      { event: 'replay', gpu: 'gpu0', batch, time: time + 5e5, gpuTime: time + 5e5 },
    ];
  };
  const move = (page: number, src: string, dst: string, cause: 'coherence' | 'eviction' = 'coherence'): UvmEvent => ({
    ...{ event: 'migration', cause, src, dst, offset: page * 4096, bytes: 4096 },
    ...{ begin: time + 1e5, end: time + 2e5, gpuBegin: time + 1e5, gpuEnd: time + 2e5 },
  });
  const cpuFault = (page: number): UvmEvent => {
    time += 1e6;
    return { event: 'cpuFault', access: 'write', offset: page * 4096, time };
  };
  const rules = ({ advice }: FullReport): string[] => advice.map(({ rule }) => rule);

  it('is one place, and a layout, where neighbours pull a block to and fro', async () => {
    const rounds = [0, 1, 2].flatMap(() => [
      ...gpuFault(0),
      move(0, 'cpu', 'gpu0'),
      move(1, 'cpu', 'gpu0'),
      cpuFault(1),
      move(1, 'gpu0', 'cpu'),
      move(0, 'gpu0', 'cpu'),
    ]);
    const full = await of(rounds);
    expect(rules(full)).toEqual(expect.arrayContaining(['preferredLocation', 'layout']));
    const layout = full.advice.find(({ rule }) => rule === 'layout');
    expect(layout?.evidence).toMatchObject({ sharedBlocks: 1, falselySharedBlocks: 1 });
    // With a page that both want it is no matter of layout.
    expect(rules(await of([...rounds, cpuFault(0)]))).not.toContain('layout');
  });

  it('is less at a time where pages are evicted', async () => {
    const full = await of([...gpuFault(0), move(0, 'gpu0', 'cpu', 'eviction')]);
    expect(full.advice.find(({ rule }) => rule === 'oversubscription')?.evidence).toEqual({
      ...{ evictedBytes: 4096, refaults: 0 },
    });
    expect(rules(await of([...gpuFault(0), move(0, 'gpu0', 'cpu')]))).not.toContain('oversubscription');
  });

  it('is larger batches where faults come one by one, from 32 on', async () => {
    const far = (count: number): UvmEvent[] => Array.from({ length: count }, (_, i) => gpuFault(i * 1024)).flat();
    // Every other block is wanted: that is enough for a prefetch, which takes all of it.
    expect(rules(await of(far(32)))).toEqual(['prefetch']);
    // One block in eight is not.
    const wide = (count: number): UvmEvent[] =>
      Array.from({ length: count }, (_, i) => gpuFault((i % 4) * 4096)).flat();
    expect(rules(await of(wide(32)))).toEqual(['smallBatches']);
    expect(rules(await of(wide(31)))).toEqual([]);
  });
});

describe('of a recorded program', () => {
  it('gains come from a replay of its faults, and say so', async () => {
    const trace = await openTrace(recordingPath('h100-cupy-sort.uvmrec'));
    const full = await fullReport(trace, { machines, prediction: true });
    expect(full.advice.length).toBeGreaterThan(2);
    for (const { rule, prediction } of full.advice) {
      expect(['prefetch', 'prefetchBack']).toContain(rule);
      expect(prediction).toMatchObject({ basis: 'bytes', assumption: expect.stringContaining('replayed') });
    }
    expect(full.tracing).toMatchObject({ basis: 'replays', reliable: true, machine: 'h200-pcie5' });
  });

  it('a case whose steps are kernels is replayed, and has known accesses', async () => {
    const trace = await openTrace(recordingPath('parallel.jsonl.gz'), { scenario: 'stream-1warp-16m' });
    const full = await fullReport(trace, { machines, prediction: true });
    const { prefetch } = full.report.allocations[0];
    // The kernel reads all of the buffer.
    expect(prefetch?.byFaults.used).toBeGreaterThan(1000);
    expect(prefetch?.byFaults.unused).toBe(0);
    expect(of(full.advice, 'prefetch')?.prediction).toMatchObject({ basis: 'bytes' });
  });

  it('nothing is predicted without a machine', async () => {
    const trace = await openTrace(recordingPath('h100-cupy-sort.uvmrec'));
    const full = await fullReport({ ...trace, info: { ...trace.info, machine: null } }, { machines, prediction: true });
    expect(full).toMatchObject({ tracing: null, tracingUnknown: expect.stringContaining('--machine') });
    for (const item of full.advice) expect(item.notPredicted).toContain('--machine');
  });
});

describe('an interval', () => {
  it('is made of the errors that decision 0005 has', () => {
    const text = readFileSync(fileURLToPath(new URL('../../../docs/decisions/0005-costs.md', import.meta.url)), 'utf8');
    for (const { suite, median, p90 } of UNTRACED_ERRORS) {
      const row = text.split('\n').find((line) => line.startsWith(`| ${suite} |`)) as string;
      expect(row.split('|')[2].trim()).toBe(`${Math.round(median * 100)} %, ${Math.round(p90 * 100)} %`);
    }
    expect(MODEL_ERROR).toBe(0.3);
  });

  it('has both errors at their worst', () => {
    const { low, high } = gainInterval(100, 40, 0.3);
    expect([low, high]).toEqual([70 - 52, 130 - 28]);
    expect(gainInterval(100, 60, 0.3).low).toBeLessThan(0);
    expect(gainInterval(0, 10, 0.3)).toEqual({ low: -13, high: -7 });
  });

  it('is of what a change removes and adds, step by step', () => {
    expect(changedTimes([10, 20, 30], [10, 7, 5, 33], [0, -1, 1, 2])).toEqual({ removed: 15, added: 10 });
  });
});

it('a prefetch takes longer for more bytes, and in proportion beyond what is run', () => {
  const time = (length: number, to = 'gpu0'): number | null =>
    prefetchMicroseconds(machines, 'h200-pcie5', to, { allocationBytes: length, offset: 0, length }, length);
  expect(time(64 * MIB)).toBeGreaterThan(time(8 * MIB) as number);
  expect(time(512 * MIB)).toBeCloseTo(2 * (time(256 * MIB) as number), 6);
  expect(time(8 * MIB, 'cpu')).toBeGreaterThan(0);
  expect(time(MIB, 'gpu7')).toBeNull();
});
