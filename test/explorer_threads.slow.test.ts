/** Traces in threads of their own, from the built files. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadMachines, packageRoot } from '../src/analysis/machines.ts';
import type { TraceBackend, TraceEntry } from '../src/explorer/api.ts';
import { createEngine } from '../src/explorer/engine.ts';
import { saveTrace } from '../src/trace/store/trace_writer.ts';
import { randomTimeline } from './support/random_timeline.ts';

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-threads-'));
let serveTraces: typeof import('../src/explorer/server/backend.ts')['serveTraces'];

beforeAll(async () => {
  ({ serveTraces } = await import(pathToFileURL(join(packageRoot(), 'dist/explorer/server/backend.js')).href));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function until(backend: TraceBackend, done: (entries: TraceEntry[]) => boolean): Promise<TraceEntry[]> {
  for (;;) {
    const entries = await backend.traces();
    if (done(entries)) return entries;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A run that takes far longer than reading a small file. */
function longRun(): string {
  const path = join(folder, 'long.json');
  const pages = Array.from({ length: 512 }, (_, i) => i);
  const steps = Array.from({ length: 4000 }, (_, i) => ({
    on: i % 2 === 0 ? 'cpu' : 'gpu0',
    do: 'write',
    buffer: 'a',
    pages,
  }));
  const allocations = [{ name: 'a', bytes: 2 ** 21 }];
  writeFileSync(path, JSON.stringify({ name: 'long', machine: 'h200-pcie5', allocations, steps }));
  return path;
}

it('answer as those in memory', async () => {
  const path = join(folder, 'a.parquet');
  const { trace } = randomTimeline(3, 400, { pushes: true });
  saveTrace(path, trace);
  const engine = createEngine({ machines: loadMachines() });
  engine.add('t1', 'a.parquet', trace);
  engine.add('t2', 'a.parquet', trace);
  const { backend, close } = serveTraces([{ path }, { path }, { path: join(folder, 'none.parquet') }]);
  const entries = await until(backend, (all) => all.every(({ state }) => state !== 'opening'));
  expect(entries.slice(0, 2)).toEqual(await engine.traces());
  expect(entries[2].state === 'broken' && entries[2].error).toContain('none.parquet: cannot be read');
  const query = { kinds: ['gpuFault'], from: -1, direction: 1 as const };
  const questions: ((b: TraceBackend) => Promise<unknown>)[] = [
    (b) => b.tile('t1', 'cpu', 0, 2000, 50),
    (b) => b.row('t1', 17),
    (b) => b.find('t1', query),
    (b) => b.space('t2', 1000, 300),
    (b) => b.block('t1', 0, 1, 1000),
    (b) => b.compare('t1', 't2'),
  ];
  const answers = await Promise.all(questions.map((question) => question(backend)));
  expect(answers).toEqual(await Promise.all(questions.map((question) => question(engine))));
  await expect(backend.row('t1', -1)).rejects.toThrow('row -1; the trace has rows 0 to 399');
  await expect(backend.row('t3', 1)).rejects.toThrow('trace t3 cannot be shown: ');
  await close();
  await expect(backend.row('t1', 1)).rejects.toThrow('its thread ended');
});

it('do not wait for one that takes long to open, and end without it', async () => {
  const path = join(folder, 'a.parquet');
  const { backend, close } = serveTraces([{ path: longRun() }, { path }]);
  const [long] = await until(backend, ([, small]) => small.state === 'ready');
  expect(long.state).toBe('opening');
  expect((await backend.row('t2', 3)).row).toBe(3);
  await expect(backend.row('t1', 3)).rejects.toThrow('trace t1 is being opened');
  expect((await backend.traces())[0].state).toBe('opening');
  await close();
});
