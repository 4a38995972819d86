import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { entries, entry, GPU0, GPU1, range, recordingHeader, writeRecording } from '../../test/support/recordings.ts';
import type { RecordingHeader, RecordingWriter } from '../trace/recording_file.ts';
import { surveyRecording } from '../trace/recording_ranges.ts';
import { type RecordingReport, reportRecording } from './recording_report.ts';

const MIB = 2 ** 20;
const A = 0x7f12_a000_0000;
const B = A + 64 * MIB;
const GOLDEN = fileURLToPath(new URL('../../test/fixtures/h100-cupy-sort.uvmrec', import.meta.url));

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'uvmlab-report-'));
  path = join(dir, 'run.uvmrec');
});
afterEach(() => rmSync(dir, { recursive: true }));

async function reportOf(write: (writer: RecordingWriter) => void, changes: Partial<RecordingHeader> = {}) {
  writeRecording(path, write, changes);
  return reportRecording(await surveyRecording(path));
}

/** A GPU fault; times by the GPU's clock count from one that is above 2^53. */
function gpuFault(batchId: number, address: number, gpuTime: number, gpuIndex = GPU0): Uint8Array {
  const timeStampGpu = (1n << 60n) + BigInt(gpuTime);
  return entry('gpuFault', {
    ...{ faultType: 2, accessType: 1, clientType: 1, timeStamp: 1000 },
    ...{ batchId, address, timeStampGpu, gpuIndex },
  });
}

function replay(batchId: number, gpuTime: number, gpuIndex = GPU0): Uint8Array {
  return entry('replay', { gpuIndex, batchId, timeStamp: 1000, timeStampGpu: (1n << 60n) + BigInt(gpuTime) });
}

function move(migrationCause: number, srcIndex: number, dstIndex: number, address: number, bytes: number): Uint8Array {
  const times = { beginTimeStamp: 1000, endTimeStamp: 3000 };
  return entry('migration', { migrationCause, srcIndex, dstIndex, address, migratedBytes: bytes, ...times });
}

describe('batches', () => {
  const batches = async (...list: Uint8Array[]) => (await reportOf((w) => w.appendEvents(entries(...list)))).batches;

  it('have sizes with their duplicates, GPU by GPU, and end with the next number', async () => {
    const numbers = await batches(
      gpuFault(1, A, 10),
      gpuFault(7, A, 10, GPU1),
      gpuFault(1, A + 4096, 11),
      gpuFault(7, A + 5, 10, GPU1),
      // The same page of another byte; the same page in another batch is none.
      gpuFault(1, A + 4097, 12),
      gpuFault(2, A, 13),
      gpuFault(3, A, 14),
    );
    // Sizes 1, 1, 2, 3.
    expect(numbers).toMatchObject({ count: 4, median: 1, p90: 3, max: 3, duplicates: 2 });
  });

  it('take from their first fault to the replay with their number, whenever that comes', async () => {
    const list = [
      gpuFault(1, A, 1000),
      gpuFault(1, A, 900),
      gpuFault(2, A, 3000),
      replay(1, 5001),
      gpuFault(2, A, 3500, GPU1),
      replay(1, 9999),
      replay(2, 3010),
      replay(3, 9999),
    ];
    expect(await batches(...list)).toMatchObject({ count: 3, replayed: 2, serviceMicroseconds: 4.111 });
    expect(await batches(replay(1, 5))).toEqual({
      ...{ count: 0, median: 0, p90: 0, max: 0, duplicates: 0, replayed: 0, serviceMicroseconds: 0 },
    });
    const without = await reportOf((w) => w.appendEvents(entries(...list)), { events: ['gpuFault'] });
    expect(without.batches).toMatchObject({ count: 3, replayed: 0, serviceMicroseconds: 0 });
  });
});

describe('a report', () => {
  function writeAll(writer: RecordingWriter): void {
    writer.appendMaps({ time: 1, ranges: [range(A, 4 * MIB), range(B, 2 * MIB), range(B + 8 * MIB, MIB)] });
    const where = { address: B + 4096, timeStamp: 1500 };
    const processors = [1n | (1n << BigInt(GPU0)), 0n, 0n, 0n, 0n];
    writer.appendEvents(
      entries(
        entry('cpuFault', { accessType: 2, address: A, timeStamp: 500 }),
        gpuFault(1, A + 2 * MIB, 1),
        gpuFault(1, A + 2 * MIB, 1),
        move(2, 0, GPU0, A, 4096),
        move(2, 0, GPU0, A + 8192, 8192),
        move(3, 0, GPU0, A, 65536),
        move(1, GPU0, 0, B, MIB),
        // From one NUMA node to another the cause is the driver's own number.
        move(6, 0, 0, B, 4096),
        move(4, GPU0, GPU1, B, 16384),
        entry('thrashing', { ...where, size: 4096, processors }),
        entry('throttlingStart', { ...where, processorIndex: GPU0 }),
        entry('throttlingEnd', { ...where, processorIndex: GPU0 }),
        entry('mapRemote', { ...where, mapRemoteCause: 2, srcIndex: GPU0, dstIndex: 0, size: 8192 }),
        // Outside of all ranges.
        entry('cpuFault', { accessType: 1, address: A + 32 * MIB, timeStamp: 2500 }),
        // Types without a time do not begin the recording.
        entry('faultBufferOverflow', {}),
        entry('testHmmSplitInvalidate', {}),
      ),
    );
    writer.appendDrops([
      [3, 7],
      [40, 1],
    ]);
  }

  const EMPTY = {
    ...{ cpuFaults: 0, gpuFaults: 0, toGpu: 0, toCpu: 0, betweenGpus: 0, betweenCpuNodes: 0 },
    ...{ thrashing: 0, throttlings: 0, remoteMaps: 0, remoteMapBytes: 0 },
  };

  it('sums up every kind of event', async () => {
    const report = await reportOf(writeAll);
    expect(report).toMatchObject({
      entries: 16,
      durationMicroseconds: 2.5,
      events: { cpuFault: 2, migration: 6, gpuFault: 2, mapRemote: 1, faultBufferOverflow: 1 },
      dropped: { gpuFault: 7, 'type 40': 1 },
      gaps: 1,
      faults: [
        { processor: 'cpu', access: 'write', count: 1 },
        { processor: 'gpu0', access: 'read', count: 2 },
        { processor: 'cpu', access: 'read', count: 1 },
      ],
      migrations: [
        { cause: 'coherence', src: 'cpu', dst: 'gpu0', count: 2, bytes: 12288 },
        { cause: 'prefetch', src: 'cpu', dst: 'gpu0', count: 1, bytes: 65536 },
        { cause: 'user', src: 'gpu0', dst: 'cpu', count: 1, bytes: MIB },
        { cause: 'user', src: 'cpu', dst: 'cpu', count: 1, bytes: 4096 },
        { cause: 'eviction', src: 'gpu0', dst: 'processor 9', count: 1, bytes: 16384 },
      ],
      remoteMaps: [{ cause: 'thrashing', src: 'gpu0', dst: 'cpu', count: 1, bytes: 8192 }],
      quietAllocations: 1,
      end: { reason: 'target exited', events: 16, dropped: 8 },
      truncated: false,
    });
    expect(report.allocations).toEqual([
      { ...EMPTY, name: '7f12a0000000', bytes: 4 * MIB, cpuFaults: 1, gpuFaults: 2, toGpu: 77824 },
      {
        ...{ ...EMPTY, name: '7f12a4000000', bytes: 2 * MIB, toCpu: MIB, betweenGpus: 16384, betweenCpuNodes: 4096 },
        ...{ thrashing: 1, throttlings: 1, remoteMaps: 1, remoteMapBytes: 8192 },
      },
      { ...EMPTY, name: null, bytes: 0, cpuFaults: 1 },
    ]);
    expect(report.hottest).toEqual([
      { address: '7f12a0200000', faults: 2, allocation: '7f12a0000000' },
      { address: '7f12a0000000', faults: 1, allocation: '7f12a0000000' },
      { address: '7f12a2000000', faults: 1, allocation: null },
    ]);
  });

  it('is of what is there where the recorder was killed', async () => {
    writeRecording(path, writeAll);
    const end = readFileSync(path).lastIndexOf('{"reason"');
    writeFileSync(path, readFileSync(path).subarray(0, end + 5));
    const report = await reportRecording(await surveyRecording(path));
    expect(report).toMatchObject({ entries: 16, end: null, truncated: true, ignoredBytes: 13 });
    expect(report.durationMicroseconds).toBe(2.5);
  });

  it('is of an empty recording', async () => {
    expect(await reportOf(() => {})).toMatchObject({
      ...{ header: recordingHeader(), entries: 0, durationMicroseconds: 0, events: {}, dropped: {}, faults: [] },
      ...{ allocations: [], quietAllocations: 0, hottest: [], migrations: [], remoteMaps: [] },
    });
  });

  it('has the numbers of a real recording', async () => {
    const report: RecordingReport = await reportRecording(await surveyRecording(GOLDEN));
    const lines = readFileSync(GOLDEN.replace('.uvmrec', '.jsonl'), 'utf8').trimEnd().split('\n');
    const events = lines.map((line) => JSON.parse(line) as Record<string, number | string>);
    const of = (kind: string) => events.filter(({ event }) => event === kind);
    const faults = of('gpuFault');
    const pages = new Set(faults.map((f) => `${f.batch} ${f.buffer} ${Math.floor(Number(f.offset) / 4096)}`));
    const first = new Map<unknown, number>();
    for (const { batch, gpuTime } of faults) first.set(batch, Math.min(first.get(batch) ?? 2 ** 53, Number(gpuTime)));
    const served = of('replay').filter(({ batch }) => first.has(batch));
    const service = served.reduce((sum, r) => sum + Number(r.gpuTime) - (first.get(r.batch) as number), 0);
    expect(served.length).toBeGreaterThan(0);
    expect(report.batches).toMatchObject({
      ...{ count: first.size, duplicates: faults.length - pages.size },
      ...{ replayed: served.length, serviceMicroseconds: service / 1000 },
    });
    expect(report.migrations.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(
      of('migration').reduce((sum, { bytes }) => sum + Number(bytes), 0),
    );
    expect(report.durationMicroseconds).toBe(Math.max(...events.map(({ time, end }) => Number(end ?? time))) / 1000);
  });
});
