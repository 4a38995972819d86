/**
 * Exports that Nsight Systems made of real runs, against what uvmlab's recorder saw of the same runs, and against the
 * model.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sqlite from 'node-sqlite3-wasm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { executeRun } from '../src/analysis/execute.ts';
import { loadMachines } from '../src/analysis/machines.ts';
import { reportTrace } from '../src/analysis/report/report_trace.ts';
import type { UvmEvent } from '../src/trace/event.ts';
import { importNsys } from '../src/trace/import/nsys.ts';
import { ALLOCATION, MANAGED } from '../src/trace/import/nsys_ranges.ts';
import { ACCESSES, CAUSES, UNIFIED_DTOD, UNIFIED_DTOH, UNIFIED_HTOD } from '../src/trace/import/nsys_rows.ts';
import { logEvents } from '../src/trace/log_events.ts';
import { eventAt, type Trace } from '../src/trace/store/trace_events.ts';
import { captureCli } from './support/captured_cli.ts';

type Batch = [gpu: string, page: string, begin: number, replay: number, faults: number, pages: number, onFirst: number];
type Migration = [
  address: string,
  bytes: number,
  src: string,
  dst: string,
  cause: string,
  gpuBegin: number,
  gpuEnd: number,
];
interface Seen {
  batches: Batch[];
  migrations: Migration[];
  cpuFaults: [address: string, time: number][];
}

const fixture = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url)), 'utf8');
const machines = loadMachines();
const cli = captureCli();
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'uvmlab-nsys-real-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** An export as a database; its path. */
function exported(name: string): string {
  const path = join(folder, `${name}.sqlite`);
  rmSync(path, { force: true });
  const database = new sqlite.Database(path);
  database.exec(fixture(`nsys-${name}.sql`));
  database.close();
  return path;
}
const imported = (name: string): Promise<Trace> =>
  importNsys(exported(name), { uvmlab: '0', machines: machines.known });
function rowsIn(path: string, sql: string): Record<string, unknown>[] {
  const database = new sqlite.Database(path, { fileMustExist: true, readOnly: true });
  try {
    return database.all(sql) as Record<string, unknown>[];
  } finally {
    database.close();
  }
}
const seenOf = (name: string): Seen => JSON.parse(fixture(`nsys-${name}.json`)) as Seen;
const eventsOf = ({ columns }: Trace): UvmEvent[] =>
  Array.from({ length: columns.count }, (_, row) => eventAt(columns, row) as UvmEvent);
const of = <K extends UvmEvent['event']>(events: readonly UvmEvent[], kind: K) =>
  events.filter((event): event is Extract<UvmEvent, { event: K }> => event.event === kind);

function addresses({ info }: Trace): (event: { buffer?: string | undefined; offset: number }) => string {
  const bases = new Map(info.allocations.map(({ name, address }) => [name, BigInt(`0x${address}`)]));
  return ({ buffer, offset }) => ((bases.get(buffer ?? '') as bigint) + BigInt(offset)).toString(16);
}

/** Nanoseconds that the clocks of GPU and CPU go apart in the half a second that the longer run took, and more. */
const DRIFT = 20_000;

/** In order of the GPU's time for each way: GPUs have clocks of their own. */
function byWay<T>(rows: readonly T[], wayOf: (row: T) => string, timeOf: (row: T) => number): T[] {
  return [...rows].sort((a, b) => wayOf(a).localeCompare(wayOf(b)) || timeOf(a) - timeOf(b));
}

/** How far apart differences are that would all be one number if both sides had the same clock. */
function spread(differences: readonly number[]): number {
  return Math.max(...differences) - Math.min(...differences);
}

describe.each([['two-gpus'], ['sort']])('an export of Nsight Systems and a recording of the same run: %s', (name) => {
  it('have the same migrations', async () => {
    const trace = await imported(name);
    const where = addresses(trace);
    const migrations = byWay(
      of(eventsOf(trace), 'migration'),
      ({ src, dst }) => `${src} ${dst}`,
      ({ gpuBegin }) => gpuBegin,
    );
    const seen = byWay(
      seenOf(name).migrations,
      ([, , src, dst]) => `${src} ${dst}`,
      (row) => row[5],
    );
    expect(migrations.map((m) => [where(m), m.bytes, m.src, m.dst, m.cause])).toEqual(
      // An export has no cause of a migration between GPUs.
      seen.map(([address, bytes, src, dst, cause]) => [
        ...[address, bytes, src, dst],
        src === 'cpu' || dst === 'cpu' ? cause : 'invalid',
      ]),
    );
    for (const [i, [, , , , , begin, end]] of seen.entries()) {
      expect(Math.abs(migrations[i].gpuEnd - migrations[i].gpuBegin - (end - begin))).toBeLessThan(10);
    }
  });

  it('have the same CPU faults', async () => {
    const trace = await imported(name);
    const where = addresses(trace);
    const faults = of(eventsOf(trace), 'cpuFault');
    const seen = seenOf(name).cpuFaults;
    expect(faults.map((fault) => where(fault))).toEqual(seen.map(([address]) => address));
    expect(spread(faults.map(({ time }, i) => time - seen[i][1]))).toBe(0);
  });

  it('have the same batches, of which the export has the first page', async () => {
    const trace = await imported(name);
    const where = addresses(trace);
    const events = eventsOf(trace);
    const seen = seenOf(name).batches;
    for (const { word: gpu } of trace.info.processors.slice(1)) {
      const batches = of(events, 'gpuFault').filter((fault) => fault.gpu === gpu);
      const replays = of(events, 'replay').filter((replay) => replay.gpu === gpu);
      const own = seen.filter(([its]) => its === gpu);
      expect(batches.map((fault) => where(fault))).toEqual(own.map(([, page]) => page));
      expect(batches.map(({ batch }) => batch)).toEqual(own.map((_, i) => i + 1));
      expect(spread(batches.map(({ time }, i) => time - own[i][2]))).toBeLessThan(DRIFT);
      expect(spread(replays.map(({ time }, i) => time - own[i][3]))).toBeLessThan(DRIFT);
    }
    // The faults that an export counts are those of the batch on this page.
    const counts = rowsIn(
      exported(name),
      'SELECT deviceId, numberOfPageFaults n FROM CUDA_UM_GPU_PAGE_FAULT_EVENTS ORDER BY deviceId, start',
    ).map(({ deviceId, n }) => [`gpu${deviceId}`, n]);
    const byGpu = [...seen].sort((a, b) => a[0].localeCompare(b[0]));
    expect(counts).toEqual(byGpu.map(([gpu, , , , , , faults]) => [gpu, faults]));
    const onFirst = seen.reduce((sum, [, , , , , , faults]) => sum + faults, 0);
    expect(trace.info.notes.join('\n')).toContain(
      `Of each of the ${seen.length} batches of GPU faults an export has the first page alone, on which ${onFirst} of`,
    );
  });
});

describe('numbers in an export', () => {
  it('mean what the export says of them', () => {
    const path = exported('enums');
    const named = (table: string, prefix: string): Map<string, number> =>
      new Map(
        rowsIn(path, `SELECT id, name FROM ${table}`).map(({ id, name }) => [
          String(name).slice(prefix.length).toLowerCase(),
          Number(id),
        ]),
      );
    const words = (list: readonly string[]): [string, number][] =>
      list.map((word, i) => [word.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), i]);
    const unknown = (map: Map<string, number>, word: string): [string, number][] =>
      [...map].map(([name, id]) => [name === 'unknown' ? word : name, id]);
    const causes = named('ENUM_CUDA_UNIF_MEM_MIGRATION', 'CUDA_UNIFIED_MEMORY_MIGRATION_CAUSE_');
    expect(unknown(causes, 'invalid')).toEqual(words(CAUSES));
    const accesses = named('ENUM_CUDA_UNIF_MEM_ACCESS_TYPE', 'CUDA_UNIFIED_MEMORY_ACCESS_TYPE_');
    expect(unknown(accesses, '')).toEqual(words(ACCESSES));
    const copies = named('ENUM_CUDA_MEMCPY_OPER', 'CUDA_MEMCPY_KIND_');
    expect(['uvm_htod', 'uvm_dtoh', 'uvm_dtod'].map((kind) => copies.get(kind))).toEqual([
      ...[UNIFIED_HTOD, UNIFIED_DTOH, UNIFIED_DTOD],
    ]);
    const kinds = named('ENUM_CUDA_MEM_KIND', 'CUDA_MEMOPR_MEMORY_KIND_');
    expect(['managed', 'managed_static'].map((kind) => kinds.get(kind))).toEqual(MANAGED);
    expect(named('ENUM_CUDA_DEV_MEM_EVENT_OPER', 'CUDA_DEV_MEM_EVENT_OPR_').get('allocation')).toBe(ALLOCATION);
  });
});

describe('an export of a run', () => {
  it('says what it is of', async () => {
    const { info } = await imported('sort');
    expect(info).toMatchObject({
      driver: '580.159.04',
      machine: 'h200-pcie5',
      command: ['python3', 'bench/gpu/cupy_managed.py', 'sort'],
      processors: [{ word: 'cpu' }, { word: 'gpu0', name: 'NVIDIA H200' }],
    });
    expect(info.notes.join('\n')).not.toContain('processes');
    expect(info.notes).toContain('Exported by Nsight Systems 2025.3.2.0, schema 3.20.3.');
  });

  it('says which code the CPU faulted in', async () => {
    const { info } = await imported('sort');
    expect(info.cpuFaultSites).toEqual([
      {
        allocation: '7fb3b3000000',
        function: 'simd_binary_less_equal_f32',
        module: '_multiarray_umath.cpython-312-x86_64-linux-gnu.so',
        ...{ file: '', line: 0, faults: 48 },
      },
    ]);
    // An instruction of code that was made while the program ran has no name.
    const made = (await imported('two-gpus')).info.cpuFaultSites;
    expect(made.map((site) => site.function)).toContain('');
    expect(made.reduce((sum, { faults }) => sum + faults, 0)).toBe(48);
  });

  it('says in which kernels the GPU faulted', async () => {
    const shortOf = ({ info }: Trace): unknown[] =>
      info.gpuFaultKernels.map(({ gpu, kernel, launches, batches, allocation }) => [
        ...[gpu, kernel, launches, batches, allocation],
      ]);
    expect(shortOf(await imported('two-gpus'))).toEqual([
      ['gpu0', 'touch', 2, 30, '7f3644000000'],
      ['gpu1', 'touch', 1, 24, '7f3644000000'],
      ['gpu0', 'touch', 1, 12, '7f3644800000'],
    ]);
    expect(shortOf(await imported('sort'))).toEqual([
      ['gpu0', 'cupy_copy__float32_float32', 1, 17, '7fb3b3000000'],
      ['gpu0', 'DeviceRadixSortOnesweepKernel', 1, 16, '7fb3a8000000'],
      // A copy of CUDA's into memory that nobody had touched, and a memset.
      ['gpu0', '', 0, 9, '7fb3b2000000'],
      ['gpu0', '', 0, 3, '7fb3a8000000'],
    ]);
  });

  it('is reported with the code, and without sizes of batches and predictions', async () => {
    await imported('sort');
    const page = join(folder, 'sort.html');
    expect(await cli.run('report', join(folder, 'sort.sqlite'), '--html', page)).toBe(0);
    const html = readFileSync(page, 'utf8').replace(/\s+/g, ' ');
    expect(await cli.run('report', join(folder, 'sort.sqlite'))).toBe(0);
    const text = cli.out.replace(/\s+/g, ' ');
    for (const part of [
      '48 CPU faults brought 16 MiB back, 6.58 ms, all of them in simd_binary_less_equal_f32 (_multiarray_umath.',
      '45 batches of GPU faults, whose sizes are not known: the trace has one fault of each',
      '17 batches of GPU faults, 2.77 ms, all of them in cupy_copy__float32_float32',
      'no prediction: the trace has one fault of each batch alone, so its faults cannot be replayed',
    ]) {
      expect(text).toContain(part);
      expect(html).toContain(part);
    }
    expect(html).toContain('CPU faults by code');
    expect(html).toContain('Batches by kernel');
    expect(html).not.toContain('Sizes of batches');
    cli.out = '';
    expect(await cli.run('report', '--json', join(folder, 'sort.sqlite'))).toBe(0);
    const { hasAllFaults, gpuFaultKernels, cpuFaultSites } = JSON.parse(cli.out);
    expect([hasAllFaults, gpuFaultKernels.length, cpuFaultSites.length]).toEqual([false, 4, 1]);
  });

  it('has its managed allocations, by address', async () => {
    const { info } = await imported('two-gpus');
    expect(info.allocations).toEqual([
      { name: '7f3644000000', bytes: 8 * 2 ** 20, kind: 'managed', address: '7f3644000000' },
      { name: '7f3644800000', bytes: 4 * 2 ** 20, kind: 'managed', address: '7f3644800000' },
    ]);
  });

  it('is reported as the recording is: the time that batches took, and the time that the GPU stood still', async () => {
    const report = reportTrace(await imported('sort'), { touches: { ok: false, why: 'not asked for' } });
    const seen = seenOf('sort').batches;
    const took = seen.reduce((sum, [, , begin, replay]) => sum + replay - begin, 0) / 1000;
    expect(report.batches.count).toBe(seen.length);
    expect(report.batches.replayed).toBe(seen.length);
    expect(Math.abs(report.batches.serviceMicroseconds / took - 1)).toBeLessThan(0.02);
    expect(report.standStill[0].microseconds).toBeGreaterThan(0.97 * took);
  });

  it('is what the model says of the scenario', async () => {
    const scenario = {
      name: 'two-gpus',
      machine: '2xh200-nvlink',
      allocations: [
        { name: 'a', bytes: 8 * 2 ** 20 },
        { name: 'b', bytes: 4 * 2 ** 20 },
      ],
      steps: [
        { on: 'cpu', do: 'write', buffer: 'a', offset: 0, length: 8 * 2 ** 20, stride: 4096 },
        { on: 'gpu0', do: 'read', buffer: 'a', offset: 0, length: 8 * 2 ** 20, stride: 4096 },
        { on: 'gpu1', do: 'write', buffer: 'a', offset: 0, length: 8 * 2 ** 20, stride: 4096 },
        { on: 'gpu0', do: 'write', buffer: 'b', offset: 0, length: 4 * 2 ** 20, stride: 4096 },
        { do: 'prefetch', to: 'gpu1', buffer: 'b', offset: 0, length: 4 * 2 ** 20 },
        { on: 'gpu0', do: 'atomic', buffer: 'a', offset: 0, length: 2 * 2 ** 20, stride: 4096 },
        { on: 'cpu', do: 'read', buffer: 'a', offset: 0, length: 8 * 2 ** 20, stride: 65536 },
      ],
    };
    const executed = executeRun(scenario, machines);
    if (!executed.ok) throw new Error(executed.error);
    const { run } = executed;
    const events = logEvents(run.m, run.scenario.allocations);
    const trace = await imported('two-gpus');
    const names = new Map(trace.info.allocations.map(({ name }, i) => [name, scenario.allocations[i].name]));
    const told = (list: readonly UvmEvent[], name: (buffer: string) => string | undefined): Record<string, unknown> => {
      const faults = (gpu: string): unknown[] =>
        of(list, 'gpuFault').flatMap((f) => (f.gpu === gpu ? [[name(f.buffer ?? ''), f.offset, f.access]] : []));
      return {
        migrations: byWay(
          of(list, 'migration'),
          ({ src, dst }) => `${src} ${dst}`,
          ({ gpuBegin }) => gpuBegin,
        ).map((m) => [name(m.buffer ?? ''), m.offset, m.bytes, m.src, m.dst]),
        cpuFaults: of(list, 'cpuFault').map((f) => [name(f.buffer ?? ''), f.offset]),
        gpu0: faults('gpu0'),
        gpu1: faults('gpu1'),
      };
    };
    // Each batch of this run is one fault, so the export has them all.
    expect(told(eventsOf(trace), (buffer) => names.get(buffer))).toEqual(told(events, (buffer) => buffer));
  });
});
