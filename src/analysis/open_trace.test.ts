import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { readCases } from '../trace/case_file.ts';
import type { UvmEvent } from '../trace/event.ts';
import { createLineWriter } from '../trace/jsonl.ts';
import { createRecordingCase } from '../trace/recording_case.ts';
import { eventAt, pushAt, type Trace } from '../trace/store/trace_events.ts';
import { createTraceWriter } from '../trace/store/trace_writer.ts';
import { writeTraceLines } from '../trace/trace_lines.ts';
import { executeRun } from './execute.ts';
import { loadMachines, recordingPath } from './machines.ts';
import { openTrace } from './open_trace.ts';

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-open-'));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function fileWith(name: string, content: string | Uint8Array): string {
  const path = join(folder, `${files++}-${name}`);
  writeFileSync(path, content);
  return path;
}

function eventsOf({ columns }: Trace): UvmEvent[] {
  return Array.from({ length: columns.count }, (_, row) => eventAt(columns, row)).filter((event) => event !== null);
}

const SCENARIO = {
  name: 'two',
  machine: 'h200-pcie5',
  parameters: { uvm_perf_prefetch_enable: 0 },
  allocations: [
    { name: 'a', bytes: 2 ** 21 },
    { name: 'b', bytes: 8192 },
  ],
  steps: [
    { on: 'cpu', do: 'write', buffer: 'a', offset: 0, length: 65536, stride: 4096 },
    { on: 'gpu0', do: 'read', buffer: 'a', pages: [0, 3, 300] },
    { on: 'gpu0', do: 'write', buffer: 'b', pages: [1] },
  ],
};
const EVENT = { event: 'cpuFault', access: 'write', offset: 4096, time: 12.5 };

describe('a scenario', () => {
  it('is run, with its pushes in the order of submission', async () => {
    const trace = await openTrace(fileWith('two.json', JSON.stringify(SCENARIO)));
    const { info, columns } = trace;
    expect(info).toMatchObject({
      name: 'two',
      source: 'run',
      driver: '580.105.08',
      machine: 'h200-pcie5',
      parameters: { uvm_perf_prefetch_enable: 0 },
      processors: [{ word: 'cpu' }, { word: 'gpu0' }],
      scenario: SCENARIO,
      hasSteps: true,
      hasBuffers: true,
      traced: false,
      clock: 'virtual',
    });
    expect(info.allocations.map(({ name, address }) => [name, Number.parseInt(address ?? '', 16)])).toEqual([
      ['a', 2 ** 46],
      ['b', 2 ** 46 + 2 ** 22],
    ]);
    const result = executeRun(SCENARIO, loadMachines());
    if (!result.ok) throw new Error(result.error);
    const { wall } = result.run.state;
    expect(info.wallMicroseconds).toEqual(wall);
    expect(info.steps?.map(({ begin, end }) => (end - begin) / 1000)).toEqual(wall);
    const pushes = Array.from({ length: columns.count }, (_, row) => pushAt(columns, row)).filter((p) => p !== null);
    expect(pushes.map(({ push }) => push)).toEqual(pushes.map((_, i) => i));
    expect(pushes.length).toBeGreaterThan(5);
    // The replay's event is there when its push has been collected, so never before the push.
    const kinds = Array.from({ length: columns.count }, (_, row) => columns.words.kind.list[columns.arrays.kind[row]]);
    expect(kinds.indexOf('push')).toBeLessThan(kinds.indexOf('replay'));
    for (const { step, begin, end } of info.steps ?? []) {
      for (const event of eventsOf(trace)) {
        if (event.step !== step || event.event !== 'gpuFault') continue;
        expect(event.time).toBeGreaterThanOrEqual(begin);
        expect(event.time).toBeLessThanOrEqual(end);
      }
    }
  });

  it('that is wrong is an error with its place', async () => {
    const path = fileWith('wrong.json', JSON.stringify({ ...SCENARIO, machine: 'x' }));
    await expect(openTrace(path)).rejects.toThrow(/wrong.json: machine: unknown machine "x"/);
    await expect(openTrace(fileWith('no.json', '{'))).rejects.toThrow(/no.json: not JSON/);
    await expect(openTrace(fileWith('empty.jsonl', ''))).rejects.toThrow(/holds no scenario, no case and no events/);
  });
});

describe('lines of cases', () => {
  it('are chosen by name', async () => {
    const path = recordingPath('cpu.jsonl.gz');
    const names: string[] = [];
    for await (const entry of readCases(path)) {
      if (entry.kind !== 'case') throw new Error(entry.error);
      const { name } = entry.scenario as { name: string };
      names.push(name);
      const trace = await openTrace(path, { scenario: name });
      expect(eventsOf(trace)).toEqual((entry.observed as { events: UvmEvent[] }).events);
      expect(trace.info).toMatchObject({ name, source: 'case', scenario: entry.scenario, machine: 'h200-pcie5' });
    }
    await expect(openTrace(path)).rejects.toThrow(
      new RegExp(`cpu.jsonl.gz: holds 9 scenarios; name one with --scenario: ${names.join(', ')}`),
    );
    await expect(openTrace(path, { scenario: 'x' })).rejects.toThrow(`has no scenario x; valid: ${names.join(', ')}`);
  });

  it('name the event that is wrong', async () => {
    const entry = (events: unknown[]) => JSON.stringify({ scenario: SCENARIO, observed: { events } });
    const wrong = fileWith(
      'x.jsonl',
      entry([
        { ...EVENT, step: 0 },
        { ...EVENT, step: 2 ** 31 },
      ]),
    );
    await expect(openTrace(wrong)).rejects.toThrow(/x.jsonl:1: observed.events\[1\]: step: 2147483648; a trace holds/);
    const other = fileWith('x.jsonl', entry([{ ...EVENT, access: 'look' }]));
    await expect(openTrace(other)).rejects.toThrow(/x.jsonl:1: observed.events\[0\].access: "look"; expected one of/);
  });
});

describe('lines of results and of events', () => {
  it('give their events, wall times and copies', async () => {
    const line = { scenario: 'r', wallMicroseconds: [1, null], events: [{ ...EVENT, step: 0 }], notes: ['n'] };
    const { info, columns } = await openTrace(fileWith('r.jsonl.gz', gzipSync(`${JSON.stringify(line)}\n`)));
    expect(columns.count).toBe(1);
    expect(info).toMatchObject({ name: 'r', source: 'lines', wallMicroseconds: [1, null], hasSteps: true });
    expect(info.notes.at(-1)).toBe('n');
    const failed = fileWith('f.jsonl', '{"scenario":"r","line":3,"error":"no machine"}');
    await expect(openTrace(failed)).rejects.toThrow(/f.jsonl:1: r did not run: no machine/);
  });

  it('of events alone tell the least allocations', async () => {
    const lines = [EVENT, { ...EVENT, buffer: 'q', offset: 2 ** 21 }];
    const path = fileWith('bare.jsonl', lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    const trace = await openTrace(path);
    expect(eventsOf(trace)).toEqual(lines);
    expect(trace.info.allocations).toEqual([
      { name: 'memory', bytes: 2 ** 21, kind: 'managed', address: null },
      { name: 'q', bytes: 2 ** 22, kind: 'managed', address: null },
    ]);
    expect(trace.info).toMatchObject({ name: `${files - 1}-bare`, hasSteps: false });
  });

  it('name the line that is wrong', async () => {
    const lines = (...values: unknown[]) =>
      fileWith('w.jsonl', values.map((v) => `${typeof v === 'string' ? v : JSON.stringify(v)}\n`).join(''));
    await expect(openTrace(lines(EVENT, '{"event"'))).rejects.toThrow(/w.jsonl:2: not JSON/);
    await expect(openTrace(lines(EVENT, { ...EVENT, time: 'x' }))).rejects.toThrow(/w.jsonl:2: time: "x"/);
    await expect(openTrace(lines(EVENT, { ...EVENT, step: 1 }))).rejects.toThrow(/:2: step: there, though other/);
    await expect(openTrace(lines(EVENT, { event: 'push' }))).rejects.toThrow(/:2: event: "push", in a trace whose/);
    await expect(openTrace(lines({ ...EVENT, buffer: '' }))).rejects.toThrow(/:1: buffer: ""; expected a name/);
    await expect(openTrace(lines({ trace: {} }))).rejects.toThrow(/:1: trace.format: missing; expected 1/);
    await expect(openTrace(lines({ trace: { format: 2 } }))).rejects.toThrow(/trace.format: 2; this version/);
  });
});

describe('a recording', () => {
  it('has the events, places and times of its case', async () => {
    for (const name of ['h100-cupy-sort.uvmrec', 'h100-cupy-matmul.uvmrec']) {
      const path = recordingPath(name);
      const entry = await createRecordingCase(path, { machines: loadMachines().known });
      const trace = await openTrace(path);
      const { events } = entry.observed as { events: UvmEvent[] };
      expect(eventsOf(trace)).toEqual(events.map((event) => JSON.parse(JSON.stringify(event))));
      const { allocations } = entry.scenario as { allocations: { name: string; bytes: number }[] };
      expect(trace.info.allocations.map(({ name, bytes }) => ({ name, bytes }))).toEqual(allocations);
      expect(trace.info).toMatchObject({ source: 'recording', machine: 'h200-pcie5', notes: entry.notes });
      expect(trace.info.allocations.every(({ name, address }) => name.startsWith(address ?? '?'))).toBe(true);
    }
  });

  it('needs a machine that there is', async () => {
    const path = recordingPath('h100-cupy-sort.uvmrec');
    await expect(openTrace(path, { machine: 'x' })).rejects.toThrow(/sort.uvmrec: machine "x": unknown; valid: /);
  });
});

describe('a trace', () => {
  it('comes back from its file and from its lines', async () => {
    const trace = await openTrace(fileWith('two.json', JSON.stringify(SCENARIO)));
    const parquet = join(folder, 'two.parquet');
    const writer = createTraceWriter(parquet, { info: trace.info, pushes: true });
    writer.append(trace.columns);
    writer.close();
    const lines = join(folder, 'two.jsonl');
    const out = createLineWriter(lines);
    writeTraceLines(out, trace);
    out.commit();
    const all = ({ columns }: Trace) =>
      Array.from({ length: columns.count }, (_, row) => eventAt(columns, row) ?? pushAt(columns, row));
    for (const path of [parquet, lines]) {
      const read = await openTrace(path);
      expect(all(read)).toEqual(all(trace));
      expect(read.info).toEqual(trace.info);
      await expect(openTrace(path, { scenario: 'three' })).rejects.toThrow(/has no scenario three; valid: two/);
    }
  });

  it('is none where the name says no known kind', async () => {
    await expect(openTrace(fileWith('x.txt', ''))).rejects.toThrow(/x.txt: unknown kind of file; its name must end in/);
    await expect(openTrace(fileWith('x.nsys-rep', ''))).rejects.toThrow(
      /is read as its export: nsys export --type sqlite/,
    );
    await expect(openTrace(join(folder, 'nowhere.jsonl'))).rejects.toThrow(/nowhere.jsonl: no such file/);
  });
});
