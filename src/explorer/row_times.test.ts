import { describe, expect, it } from 'vitest';
import { createTraceColumns } from '../trace/store/trace_columns.ts';
import { appendEvent, type Trace } from '../trace/store/trace_events.ts';
import { emptyTraceInfo } from '../trace/store/trace_info.ts';
import { rowBegins, rowEnd } from './row_times.ts';

/** Faults and replays of gpu0 at a CPU and a GPU time each. */
function traceOf(times: readonly (readonly [time: number, gpuTime: number])[], clock = 'recorded'): Trace {
  const columns = createTraceColumns();
  for (const [time, gpuTime] of times) appendEvent(columns, { event: 'replay', gpu: 'gpu0', batch: 1, time, gpuTime });
  return { info: { ...emptyTraceInfo('t', 'case', '0'), clock }, columns };
}
const begins = (trace: Trace): number[] => [...rowBegins(trace).subarray(0, trace.columns.count)];
const PART = 1e8;

describe('begins of rows', () => {
  it('are the GPU times of a run of the model, whose clocks are one', () => {
    expect(begins(traceOf([[500, 400]], 'virtual'))).toEqual([400]);
  });

  it('of a recording are as late as the event allows that was noticed soonest, and no later', () => {
    expect(
      begins(
        traceOf([
          [1000, 10],
          [1200, 300],
          [2000, 400],
        ]),
      ),
    ).toEqual([910, 1200, 1300]);
  });

  it('follow clocks that drift, from one tenth of a second to the next', () => {
    // The GPU's clock loses 1000 ns in each part; neighbours share the least of their distances.
    const times = Array.from({ length: 6 }, (_, p) => [p * PART + 50, p * PART - p * 1000] as const);
    expect(begins(traceOf(times))).toEqual(times.map(([, gpuTime], p) => gpuTime + 50 + Math.max(0, p - 1) * 1000));
  });

  it('take the distance of the part before where a part has no event that tells', () => {
    const trace = traceOf([
      [0, 0],
      [5 * PART, 5 * PART - 7],
    ]);
    const times = { begin: 3 * PART, end: 3 * PART + 90, gpuBegin: 3 * PART - 4, gpuEnd: 3 * PART };
    appendEvent(trace.columns, {
      event: 'migration',
      cause: 'user',
      src: 'cpu',
      dst: 'gpu0',
      offset: 0,
      bytes: 4096,
      ...times,
    });
    const [first, , migration] = begins(trace);
    expect([first, migration]).toEqual([0, 3 * PART - 4]);
    expect(rowEnd(trace, 2, migration)).toBe(3 * PART);
  });

  it('are the CPU times where no event of that GPU tells', () => {
    const trace = traceOf([]);
    const times = { begin: 70, end: 90, gpuBegin: 5, gpuEnd: 8 };
    const place = { offset: 0, bytes: 4096 };
    appendEvent(trace.columns, { event: 'migration', cause: 'user', src: 'gpu0', dst: 'cpu', ...place, ...times });
    appendEvent(trace.columns, { event: 'cpuFault', access: 'read', offset: 0, time: 40 });
    expect(begins(trace)).toEqual([70, 40]);
    expect(rowEnd(trace, 0, 70)).toBe(73);
  });
});
