/**
 * Traces for Perfetto, read back through its published format: recordings of programs, recorded cases, runs of the
 * model and random traces. test/perfetto.slow.test.ts has all that ship.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { compareProtos } from '../scripts/check-perfetto-proto.mjs';
import { recordingPath } from '../src/analysis/machines.ts';
import { openTrace } from '../src/analysis/open_trace.ts';
import type { UvmEvent } from '../src/trace/event.ts';
import { exportPerfetto } from '../src/trace/export/perfetto.ts';
import { createTraceColumns } from '../src/trace/store/trace_columns.ts';
import { appendEvent, type Trace } from '../src/trace/store/trace_events.ts';
import { emptyTraceInfo } from '../src/trace/store/trace_info.ts';
import { modelTrace } from './support/model_trace.ts';
import { checkPerfetto } from './support/perfetto_check.ts';
import { readPerfetto } from './support/perfetto_reader.ts';
import { randomTrace } from './support/random_trace.ts';

const of = (events: { category: string }[], category: string): number =>
  events.filter((one) => one.category === category).length;

function traceOf(events: readonly UvmEvent[], clock = 'virtual'): Trace {
  const columns = createTraceColumns({ capacity: events.length });
  for (const event of events) appendEvent(columns, event);
  return { info: { ...emptyTraceInfo('small', 'run', '0'), clock }, columns };
}

describe('a Perfetto trace', () => {
  it('has a recording of a program with its counts and times', async () => {
    const { read, summary } = checkPerfetto(await openTrace(recordingPath('h100-cupy-sort.uvmrec')));
    expect(of(read.instants, 'gpuFault')).toBe(8097);
    expect(of(read.instants, 'cpuFault')).toBe(48);
    expect(of(read.instants, 'replay')).toBe(54);
    expect(of(read.slices, 'migration')).toBe(96);
    expect(of(read.slices, 'batch')).toBeGreaterThan(40);
    // One of the four has no events.
    expect(of(read.slices, 'allocation')).toBe(3);
    // The GPU's clock is its own.
    expect(of(read.slices, 'copy')).toBe(0);
    expect(summary.shortened).toBe(0);
  });

  it('has recorded cases', async () => {
    for (const [file, scenario] of [
      ['serial', 'seq-4k-read'],
      ['cpu', null],
      ['pingpongs', null],
    ] as const) {
      const path = recordingPath(`${file}.jsonl.gz`);
      const options = scenario === null ? { scenario: await firstName(path) } : { scenario };
      const trace = await openTrace(path, options);
      const { read } = checkPerfetto(trace);
      expect(read.slices.length + read.instants.length).toBeGreaterThan(trace.columns.count);
    }
  });

  it('has runs of the model, with their pushes', () => {
    let flows = 0;
    for (let seed = 1; seed <= 6; seed++) {
      const { read, summary } = checkPerfetto(modelTrace(seed));
      expect(of(read.slices, 'push')).toBeGreaterThan(10);
      expect(of(read.slices, 'step')).toBeGreaterThan(1);
      flows += summary.flows - of(read.slices, 'push');
    }
    expect(flows).toBeGreaterThan(20);
  });

  it('has random traces, negative times and fractions among them', () => {
    let shifted = 0;
    for (let seed = 1; seed <= 60; seed++) {
      const { trace } = randomTrace(seed, (seed * 13) % 400, { pushes: seed % 2 === 0 });
      if (seed % 3 === 0) trace.info.clock = 'recorded';
      if (checkPerfetto(trace).summary.shift > 0) shifted++;
    }
    expect(shifted).toBeGreaterThan(20);
  });

  it('is whole when nothing happened', () => {
    const { read } = checkPerfetto(traceOf([]));
    expect(read.instants.map(({ name, category }) => [name, category])).toEqual([['small', 'trace']]);
  });

  it('keeps every nanosecond of large times', () => {
    const time = 2 ** 60 + 2 ** 9;
    const events: UvmEvent[] = [
      { event: 'cpuFault', access: 'read', offset: 0, time: -3 },
      { event: 'cpuFault', access: 'read', offset: 4096, time },
    ];
    const { read, summary } = checkPerfetto(traceOf(events));
    expect(summary.shift).toBe(3);
    expect(read.instants.at(-1)?.begin).toBe(2n ** 60n + 2n ** 9n + 3n);
  });

  it('leaves out what has no time, and says so', () => {
    const trace = traceOf([
      { event: 'cpuFault', access: 'read', offset: 0, time: 5 },
      { event: 'cpuFault', access: 'read', offset: 0, time: 6 },
      { event: 'replay', gpu: 'gpu0', batch: 0, time: 7, gpuTime: 8 },
    ]);
    trace.columns.arrays.time[0] = Number.NaN;
    trace.columns.arrays.time[1] = 2 ** 62 * 1.5;
    const chunks: Uint8Array[] = [];
    expect(exportPerfetto(trace, (chunk) => chunks.push(chunk.slice())).leftOut).toBe(2);
    expect(readPerfetto(Buffer.concat(chunks)).instants.map((one) => one.category)).toEqual(['trace', 'replay']);
  });

  it('hands over pieces of bounded size', () => {
    const { trace } = randomTrace(5, 30_000);
    const sizes: number[] = [];
    const { bytes } = exportPerfetto(trace, (chunk) => sizes.push(chunk.length));
    expect(sizes.length).toBeGreaterThan(2);
    expect(Math.max(...sizes)).toBeLessThan(2 ** 20 + 4096);
    expect(sizes.reduce((sum, size) => sum + size)).toBe(bytes);
  });
});

describe('the comparison of the listing with the published format', () => {
  const listing = readFileSync(new URL('fixtures/perfetto-trace.proto', import.meta.url), 'utf8');

  it('finds no difference to itself', () => {
    const { compared, differences } = compareProtos(listing, listing);
    expect(differences).toEqual([]);
    expect(compared).toBe(89);
  });

  it('finds each kind of difference', () => {
    for (const [from, to, message] of [
      [
        'uint64 timestamp = 8',
        'uint64 timestamp = 9',
        '.perfetto.protos.TracePacket: uint64 timestamp = 8; published: uint64 timestamp = 9',
      ],
      [
        'uint64 timestamp = 8',
        'uint32 timestamp = 8',
        '.perfetto.protos.TracePacket: uint64 timestamp = 8; published: uint32 timestamp = 8',
      ],
      [
        'fixed64 flow_ids',
        'fixed64 flows',
        '.perfetto.protos.TrackEvent: repeated fixed64 flow_ids = 47; published: nothing',
      ],
      [
        'repeated fixed64',
        'optional fixed64',
        '.perfetto.protos.TrackEvent: repeated fixed64 flow_ids = 47; published: fixed64 flow_ids = 47',
      ],
      [
        'EXPLICIT = 3',
        'EXPLICIT = 4',
        '.perfetto.protos.TrackDescriptor.ChildTracksOrdering: EXPLICIT = 3; published: 4',
      ],
      ['message EventName {', 'message EventNames {', 'message .perfetto.protos.EventName: not published'],
    ]) {
      const published = listing
        .replaceAll(from, to)
        .replace('repeated EventName event', `repeated ${/EventNames/.test(to) ? 'EventNames' : 'EventName'} event`);
      expect(published).not.toBe(listing);
      expect(compareProtos(listing, published).differences).toContain(message);
    }
  });
});

async function firstName(path: string): Promise<string> {
  const error = await openTrace(path).then(
    () => '',
    (reason: Error) => reason.message,
  );
  return /--scenario: ([^,]+),/.exec(error)?.[1] ?? '';
}
