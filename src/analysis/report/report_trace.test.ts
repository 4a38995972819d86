import { describe, expect, it } from 'vitest';
import { type SlowAllocation, slowReport } from '../../../test/support/slow_report.ts';
import { createPrng, type Prng, prngBelow, prngChance } from '../../base/prng.ts';
import type { UvmEvent } from '../../trace/event.ts';
import { createTraceColumns } from '../../trace/store/trace_columns.ts';
import { appendEvent, eventAt, type Trace } from '../../trace/store/trace_events.ts';
import { emptyTraceInfo } from '../../trace/store/trace_info.ts';
import { recordingPath } from '../machines.ts';
import { openTrace } from '../open_trace.ts';
import { reportTrace } from './report_trace.ts';
import type { AllocationReport, TraceReport } from './report_types.ts';

const UNKNOWN = { ok: false, why: 'not asked' } as const;
const MIB = 2 ** 20;

function traceOf(events: readonly UvmEvent[], names: readonly string[] = ['a']): Trace {
  const columns = createTraceColumns();
  for (const event of events) appendEvent(columns, event);
  const allocations = names.map((name) => ({ name, bytes: 64 * MIB, kind: 'managed' as const, address: null }));
  return { info: { ...emptyTraceInfo('t', 'lines', '0'), allocations, hasBuffers: names.length > 1 }, columns };
}

function report(events: readonly UvmEvent[], names?: readonly string[], policy = 2): TraceReport {
  const { info, columns } = traceOf(events, names);
  const parameters = { uvm_perf_fault_replay_policy: policy };
  return reportTrace({ info: { ...info, parameters }, columns }, { touches: UNKNOWN });
}

/** What the two have in common, in the words of the slow one. */
function figures(a: AllocationReport): Omit<SlowAllocation, 'gpuTime' | 'cpuTime'> {
  const flows = a.migrations.map(({ cause, src, dst, count, bytes, copyMicroseconds }) => [
    `${cause} ${src} ${dst}`,
    { count, bytes, copy: Math.round(copyMicroseconds * 1000) },
  ]);
  return {
    faults: Object.fromEntries(a.faults.map(({ processor, access, count }) => [`${processor} ${access}`, count])),
    flows: Object.fromEntries(flows),
    refaults: Object.fromEntries(a.refaults.map(({ processor, count }) => [processor, count])),
    firstTouch: Object.fromEntries(
      a.uses.filter((use) => use.firstTouchPages !== 0).map((use) => [use.processor, use.firstTouchPages]),
    ),
    duplicates: a.duplicates,
    thrashing: a.thrashing,
    throttlings: a.throttlings,
    evictedBytes: a.evictedBytes,
    pingPongPages: a.pingPongPages,
    pingPongMoves: a.pingPongMoves,
    pingPongReadOnlyPages: a.pingPongReadOnlyPages,
    sharedPages: a.sharedPages,
    sharedBlocks: a.sharedBlocks,
    falselySharedBlocks: a.falselySharedBlocks,
  };
}

/** Holds a report to what the slow one finds in the same events. */
function expectSame(found: TraceReport, events: readonly UvmEvent[], only: string, once = false): void {
  const slow = slowReport(events, only, once);
  expect(found.durationMicroseconds).toBeCloseTo((slow.end - slow.begin) / 1000, 6);
  expect(found.allocations.map(({ name }) => name).sort()).toEqual([...slow.allocations.keys()].sort());
  for (const a of found.allocations) {
    const { gpuTime, cpuTime, ...rest } = slow.allocations.get(a.name as string) as SlowAllocation;
    const nonZero = Object.fromEntries(Object.entries(rest.firstTouch).filter(([, n]) => n !== 0));
    const rounded = Object.entries(rest.flows).map(([key, flow]) => [key, { ...flow, copy: Math.round(flow.copy) }]);
    expect(figures(a)).toEqual({ ...rest, firstTouch: nonZero, flows: Object.fromEntries(rounded) });
    // Without replays or CPU faults other figures stand for these, which have a test of their own.
    if (found.kinds['replay'] !== undefined) expect(a.gpuMicroseconds).toBeCloseTo(gpuTime / 1000, 6);
    if (found.kinds['cpuFault'] !== undefined) expect(a.cpuMicroseconds).toBeCloseTo(cpuTime / 1000, 6);
  }
  const sizes = slow.batches.map(({ faults }) => faults.length).sort((x, y) => x - y);
  const { batches } = found;
  expect([batches.count, batches.max]).toEqual([sizes.length, sizes.at(-1) ?? 0]);
  if (sizes.length > 0) {
    expect(batches.median).toBe(sizes[Math.ceil(sizes.length / 2) - 1]);
    expect(batches.p90).toBe(sizes[Math.ceil(sizes.length * 0.9) - 1]);
  }
  for (const { from, to, count } of batches.histogram) {
    expect(count).toBe(sizes.filter((size) => size >= from && size <= to).length);
  }
  expect(batches.histogram.reduce((sum, { count }) => sum + count, 0)).toBe(sizes.length);
  expect(batches.duplicates).toBe(slow.batches.reduce((sum, b) => sum + b.faults.length - b.pages.size, 0));
  const served = slow.batches.filter(({ first, replay }) => replay !== null && replay >= first);
  const services = served.map(({ first, replay }) => (replay as number) - first);
  expect(batches.replayed).toBe(served.length);
  expect(batches.serviceMicroseconds).toBeCloseTo(services.reduce((sum, n) => sum + n, 0) / 1000, 6);
  const wasted = served.reduce(
    (sum, b, i) => sum + (services[i] * (b.faults.length - b.pages.size)) / b.faults.length,
    0,
  );
  expect(batches.duplicateMicroseconds).toBeCloseTo(wasted / 1000, 6);
  expect(found.slowestBatches.map(({ microseconds }) => microseconds)).toEqual(
    services
      .filter((n) => n > 0)
      .sort((x, y) => y - x)
      .slice(0, 8)
      .map((n) => n / 1000),
  );
  for (const { gpu, microseconds } of found.standStill) {
    expect(microseconds).toBeCloseTo(slow.standStill[gpu] / 1000, 6);
  }
  expect(found.standStill.map(({ gpu }) => gpu).sort()).toEqual(Object.keys(slow.standStill).sort());
}

function randomEvents(p: Prng, names: readonly string[]): UvmEvent[] {
  const events: UvmEvent[] = [];
  const who = (): string => ['cpu', 'gpu0', 'gpu1'][prngBelow(p, 3)];
  const batch: Record<string, number> = { gpu0: 1, gpu1: 1 };
  let time = 0;
  for (let i = 0; i < 120; i++) {
    time += prngBelow(p, 3) * 500;
    const at = prngChance(p, 1, 8) ? Math.max(0, time - 2000) : time;
    const place = {
      ...(names.length > 1 ? { buffer: names[prngBelow(p, names.length)] } : {}),
      offset: (prngBelow(p, 3) * 512 + prngBelow(p, 6)) * 4096 + (prngChance(p, 1, 3) ? 8 : 0),
    };
    const run = place.offset - (place.offset % 4096);
    const bytes = 4096 * (1 + prngBelow(p, 5));
    const gpu = `gpu${prngBelow(p, 2)}`;
    const access = (['read', 'write', 'atomic'] as const)[prngBelow(p, 3)];
    const cause = (['coherence', 'prefetch', 'user', 'eviction'] as const)[prngBelow(p, 4)];
    switch (prngBelow(p, 10)) {
      case 0:
      case 1:
        events.push({ event: 'cpuFault', access, ...place, time: at });
        break;
      case 2:
      case 3:
      case 4:
        if (prngChance(p, 1, 4)) batch[gpu]++;
        events.push({
          ...{ event: 'gpuFault', gpu, type: 'invalidPte', access, ...place, batch: batch[gpu] },
          // Numbers of batches rise with time.
          ...{ time, gpuTime: at + 10 },
        } as UvmEvent);
        break;
      case 5:
        events.push({ event: 'replay', gpu, batch: batch[gpu], time, gpuTime: at + prngBelow(p, 4000) });
        break;
      case 6:
      case 7: {
        const [begin, end] = [at, at + prngBelow(p, 3000)];
        const times = { begin, end, gpuBegin: begin + 5, gpuEnd: end + 3 };
        events.push({ event: 'migration', cause, src: who(), dst: who(), ...place, offset: run, bytes, ...times });
        break;
      }
      case 8: {
        const processors = ['cpu', 'gpu0', 'gpu1'].filter(() => prngChance(p, 1, 2));
        events.push({ event: 'readDuplicate', ...place, offset: run, bytes, processors, time: at });
        break;
      }
      default: {
        const which = prngBelow(p, 4);
        if (which < 2) {
          events.push({ event: 'readDuplicateInvalidate', resident: who(), ...place, offset: run, bytes, time: at });
        } else if (which === 2) {
          events.push({ event: 'thrashing', ...place, offset: run, bytes, processors: ['cpu', 'gpu0'], time: at });
        } else {
          const pair = { src: 'gpu0', dst: 'cpu' };
          events.push({ event: 'eviction', ...pair, ...place, offset: run, causedBy: 0, bytes, time: at });
        }
      }
    }
  }
  return events;
}

describe('a report', () => {
  it('has the figures of a slow one, on random events', () => {
    const p = createPrng(4);
    for (let round = 0; round < 120; round++) {
      const names = round % 2 === 0 ? ['a'] : ['a', 'b', 'c'];
      const events = randomEvents(p, names);
      expectSame(report(events, names), events, 'a');
      expectSame(report(events, names, 3), events, 'a', true);
    }
  });

  it.each(['h100-cupy-sort', 'h100-cupy-matmul'])('has them on the recording %s', async (name) => {
    const trace = await openTrace(recordingPath(`${name}.uvmrec`));
    const events: UvmEvent[] = [];
    for (let row = 0; row < trace.columns.count; row++) events.push(eventAt(trace.columns, row) as UvmEvent);
    expectSame(reportTrace(trace, { touches: UNKNOWN }), events, trace.info.allocations[0].name);
  });

  it('takes the replay that ends a batch by the policy of the driver', () => {
    const fault = (batch: number, time: number): UvmEvent => ({
      ...{ event: 'gpuFault', gpu: 'gpu0', type: 'invalidPte', access: 'read', offset: 0, batch, time, gpuTime: time },
    });
    const replay = (batch: number, time: number): UvmEvent => ({
      ...{ event: 'replay', gpu: 'gpu0', batch, time, gpuTime: time },
    });
    const events = [fault(1, 1000), fault(2, 2000), replay(2, 5000), replay(2, 6000)];
    const served = (policy: number) => report(events, ['a'], policy).batches;
    expect(served(2)).toMatchObject({ replayed: 1, serviceMicroseconds: 3 });
    expect(served(0)).toMatchObject({ replayed: 1, serviceMicroseconds: 4 });
    expect(served(3)).toMatchObject({ replayed: 2, serviceMicroseconds: 7 });
    expect(report(events, ['a'], 3).standStill).toEqual([{ gpu: 'gpu0', microseconds: 4 }]);
  });

  it('is of no events', () => {
    const empty = report([]);
    expect(empty).toMatchObject({ rows: 0, durationMicroseconds: 0, costMicroseconds: 0, allocations: [] });
    expect(empty.batches).toMatchObject({ count: 0, median: 0, histogram: [] });
    expect(empty.timeline.gpuFaults.every((n) => n === 0)).toBe(true);
  });

  it('says where and when a processor faults in an allocation', () => {
    const fault = (offset: number, step: number, time: number): UvmEvent => ({
      ...{ event: 'gpuFault', gpu: 'gpu0', type: 'invalidPte', access: 'write', offset, batch: step },
      ...{ step, time, gpuTime: time },
    });
    const [a] = report([fault(8200, 3, 1000), fault(4096, 1, 500), fault(3 * MIB, 3, 9000)]).allocations;
    const [use] = a.uses;
    expect(use).toMatchObject({ processor: 'gpu0', faults: 3, firstByte: 4096, endByte: 3 * MIB + 4096, writes: 3 });
    // Row 1 has the earliest time.
    expect(use).toMatchObject({ firstRow: 1, firstMicroseconds: 0, steps: [1, 3], blocks: 2, batches: 2 });
  });

  it('explains a slow batch by the copies, events and pages in its time', () => {
    const base = { gpu: 'gpu0', type: 'invalidPte', access: 'read', batch: 1 } as const;
    const events: UvmEvent[] = [
      { event: 'gpuFault', ...base, offset: 0, time: 1000, gpuTime: 500 },
      { event: 'gpuFault', ...base, offset: 4096, time: 1010, gpuTime: 510 },
      { event: 'gpuFault', ...base, offset: 2 * MIB, time: 1020, gpuTime: 520 },
      { event: 'thrashing', offset: 0, bytes: 4096, processors: ['cpu', 'gpu0'], time: 1500 },
      {
        ...{ event: 'migration', cause: 'coherence', src: 'cpu', dst: 'gpu0', offset: 0, bytes: 8192 },
        ...{ begin: 1400, end: 5000, gpuBegin: 1000, gpuEnd: 3000 },
      },
      {
        // Overlaps the one before by half.
        ...{ event: 'migration', cause: 'prefetch', src: 'cpu', dst: 'gpu0', offset: MIB, bytes: 4096 },
        ...{ begin: 1400, end: 5000, gpuBegin: 2000, gpuEnd: 4000 },
      },
      { event: 'replay', gpu: 'gpu0', batch: 1, time: 5000, gpuTime: 5500 },
    ];
    expect(report(events).slowestBatches).toMatchObject([
      {
        ...{ gpu: 'gpu0', batch: 1, row: 0, microseconds: 5, faults: 3, duplicates: 0, blocks: 2, allocation: 'a' },
        ...{ copyMicroseconds: 3, copiedBytes: 12288, pagesWithoutData: 1, thrashing: 1, throttlings: 0 },
      },
    ]);
  });

  it('counts copies to a CPU fault while they can be its own', () => {
    const fault: UvmEvent = { event: 'cpuFault', access: 'read', offset: 0, time: 0 };
    const copy = (begin: number, src = 'gpu0', dst = 'cpu'): UvmEvent => ({
      ...{ event: 'migration', cause: 'coherence', src, dst, offset: MIB, bytes: 4096 },
      ...{ begin, end: begin + 500, gpuBegin: 0, gpuEnd: 200 },
    });
    const time = (...events: UvmEvent[]): number => report([fault, ...events]).cpuFaults.microseconds;
    expect(time(copy(1000))).toBe(1.5);
    expect(time(copy(1000), copy(4000))).toBe(4.5);
    expect(time(copy(1000), copy(2000, 'cpu', 'gpu0'), copy(4000))).toBe(1.5);
    expect(time(copy(10e6))).toBe(10_000.5);
    expect(time(copy(10e6 + 1))).toBe(0);
    const [slow] = report([fault, copy(1000), copy(1000)]).slowestCpuFaults;
    expect(slow).toMatchObject({ row: 0, microseconds: 1.5, copies: 2, copiedBytes: 8192, copyMicroseconds: 0.2 });
  });

  it('takes copies for the cost of faults where the trace does not have what tells it', () => {
    const copy = (src: string, dst: string, copying: number): UvmEvent => ({
      ...{ event: 'migration', cause: 'coherence', src, dst, offset: 0, bytes: 4096 },
      ...{ begin: 0, end: 9e6, gpuBegin: 0, gpuEnd: copying },
    });
    const copies = [copy('cpu', 'gpu0', 3000), copy('gpu0', 'cpu', 5000)];
    expect(report(copies).allocations[0]).toMatchObject({ gpuMicroseconds: 3, cpuMicroseconds: 5 });
    const replay: UvmEvent = { event: 'replay', gpu: 'gpu0', batch: 1, time: 0, gpuTime: 0 };
    const fault: UvmEvent = { event: 'cpuFault', access: 'read', offset: 4 * MIB, time: 0 };
    expect(report([...copies, replay, fault]).costMicroseconds).toBe(0);
  });

  it('takes hostile numbers for what they are', () => {
    const far = Number.MAX_SAFE_INTEGER;
    const events: UvmEvent[] = [
      { event: 'cpuFault', access: 'read', offset: far, time: -5 },
      {
        ...{ event: 'migration', cause: 'user', src: 'cpu', dst: 'gpu17', offset: far - 4096, bytes: far },
        ...{ begin: 3, end: -9, gpuBegin: 8, gpuEnd: 1 },
      },
      { event: 'replay', gpu: 'gpu17', batch: 9, time: 1, gpuTime: 2 },
    ];
    const found = report(events, []);
    expect(found.migrations).toEqual([
      { cause: 'user', src: 'cpu', dst: 'gpu17', count: 1, bytes: far, copyMicroseconds: 0 },
    ]);
    expect(found.allocations).toMatchObject([{ name: null, bytes: 0, cpuFaults: 1 }]);
  });

  it('says of how many events it followed no page', () => {
    const events: UvmEvent[] = [0, 1, 2].map((block) => ({
      ...{ event: 'cpuFault', access: 'read', offset: block * 2 * MIB, time: block },
    }));
    const trace = traceOf(events);
    expect(reportTrace(trace, { touches: UNKNOWN, blocks: 2 })).toMatchObject({ eventsNotFollowed: 1 });
    expect(reportTrace(trace, { touches: UNKNOWN, blocks: 3 })).toMatchObject({ eventsNotFollowed: 0 });
  });
});
