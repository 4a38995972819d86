/**
 * A trace goes through its file and through JSON lines, and comes back with the same rows: every case and recording
 * that ships, runs of the model with their pushes, and random events.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { executeRun } from '../src/analysis/execute.ts';
import { loadMachines, packageVersion } from '../src/analysis/machines.ts';
import { openTrace } from '../src/analysis/open_trace.ts';
import { traceOfRun } from '../src/analysis/trace_of_run.ts';
import { randomScenario } from '../src/scenario/random_scenario.ts';
import { readCases } from '../src/trace/case_file.ts';
import type { UvmEvent } from '../src/trace/event.ts';
import { createLineWriter } from '../src/trace/jsonl.ts';
import { logEvents } from '../src/trace/log_events.ts';
import { createPushLog, type PushLog } from '../src/trace/push_log.ts';
import { createRecordingCase } from '../src/trace/recording_case.ts';
import { createTraceColumns } from '../src/trace/store/trace_columns.ts';
import { appendEvent, eventAt, pushAt, type Trace } from '../src/trace/store/trace_events.ts';
import { emptyTraceInfo } from '../src/trace/store/trace_info.ts';
import { readTrace } from '../src/trace/store/trace_reader.ts';
import { saveTrace } from '../src/trace/store/trace_writer.ts';
import { writeTraceLines } from '../src/trace/trace_lines.ts';
import { randomTrace } from './support/random_trace.ts';

const RECORDINGS = fileURLToPath(new URL('../recordings', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'uvmlab-round-'));
afterAll(() => rmSync(folder, { recursive: true }));

function rowsOf({ columns }: Trace): unknown[] {
  return Array.from({ length: columns.count }, (_, row) => eventAt(columns, row) ?? pushAt(columns, row));
}

/** Through a file, lines and a file again; the two files are the same byte by byte. */
async function roundTrip(trace: Trace, rows: readonly unknown[], what: string): Promise<void> {
  const [first, lines, second] = ['a.parquet', 'a.jsonl', 'b.parquet'].map((name) => join(folder, name));
  saveTrace(first, trace, { overwrite: true });
  const stored = await readTrace(first);
  const out = createLineWriter(lines);
  writeTraceLines(out, stored);
  out.commit();
  const read = await openTrace(lines);
  saveTrace(second, read, { overwrite: true });
  for (const one of [stored, read, await readTrace(second)]) {
    if (!isDeepStrictEqual(rowsOf(one), rows)) throw new Error(`${what}: rows differ`);
    if (!isDeepStrictEqual(one.info, trace.info)) throw new Error(`${what}: info differs`);
  }
  if (!readFileSync(second).equals(readFileSync(first))) throw new Error(`${what}: files differ`);
}

function traceOf(events: readonly UvmEvent[]): Trace {
  const columns = createTraceColumns({ capacity: events.length });
  for (const event of events) appendEvent(columns, event);
  return { info: emptyTraceInfo('events', 'case', packageVersion()), columns };
}

describe('what ships', () => {
  const files = readdirSync(RECORDINGS).filter((name) => name.endsWith('.jsonl.gz'));
  for (const name of files) {
    it(`${name} comes back`, async () => {
      let cases = 0;
      for await (const entry of readCases(join(RECORDINGS, name))) {
        if (entry.kind === 'error') throw new Error(entry.error);
        const { events } = entry.observed as { events: UvmEvent[] };
        await roundTrip(traceOf(events), events, `${name}:${entry.line}`);
        cases++;
      }
      expect(cases).toBeGreaterThan(0);
    });
  }

  it('recordings of programs come back', async () => {
    const names = readdirSync(RECORDINGS).filter((name) => name.endsWith('.uvmrec'));
    expect(names.length).toBeGreaterThan(1);
    for (const name of names) {
      const path = join(RECORDINGS, name);
      const trace = await openTrace(path);
      const { observed } = await createRecordingCase(path, { machines: loadMachines().known });
      const { events } = observed as { events: UvmEvent[] };
      await roundTrip(trace, JSON.parse(JSON.stringify(events)), name);
    }
  });
});

describe('the model', () => {
  it('has its runs come back, with their pushes', async () => {
    const machines = loadMachines();
    let pushes = 0;
    for (let seed = 1; seed <= 60; seed++) {
      const machine = seed % 2 === 0 ? 'h200-pcie5' : '2xh200-nvlink';
      const scenario = randomScenario(seed, { machine, gpus: seed % 2 === 0 ? 1 : 2 });
      let pushLog: PushLog = createPushLog();
      const result = executeRun(scenario, machines, {
        onRun: (run) => {
          pushLog = createPushLog();
          run.m.res.pushWatch = pushLog.watch;
        },
      });
      if (!result.ok) throw new Error(result.error);
      const { run } = result;
      const trace = traceOfRun(run, { source: 'run', uvmlab: packageVersion(), scenario, pushLog });
      const rows = rowsOf(trace);
      expect(rows.filter((row) => Object.hasOwn(row as object, 'event'))).toEqual(
        logEvents(run.m, run.scenario.allocations),
      );
      expect(rows.filter((row) => !Object.hasOwn(row as object, 'event'))).toEqual(pushLog.entries);
      pushes += pushLog.entries.length;
      await roundTrip(trace, rows, `seed ${seed}`);
    }
    expect(pushes).toBeGreaterThan(1000);
  });
});

describe('random events', () => {
  it('come back', async () => {
    for (let seed = 100; seed < 300; seed++) {
      const { trace } = randomTrace(seed, (seed * 7) % 600, { pushes: seed % 3 === 0 });
      await roundTrip(trace, rowsOf(trace), `seed ${seed}`);
    }
  });
});
