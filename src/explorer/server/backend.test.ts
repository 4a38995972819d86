import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { randomTimeline } from '../../../test/support/random_timeline.ts';
import { loadMachines, recordingPath } from '../../analysis/machines.ts';
import { saveTrace } from '../../trace/store/trace_writer.ts';
import type { TraceBackend, TraceEntry } from '../api.ts';
import { createEngine } from '../engine.ts';
import { serveTraces } from './backend.ts';

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-served-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

/** Until no file is being opened any more. */
async function opened(backend: TraceBackend): Promise<TraceEntry[]> {
  for (;;) {
    const entries = await backend.traces();
    if (entries.every(({ state }) => state !== 'opening')) return entries;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('served traces', () => {
  it('are there with what is wrong with the others', async () => {
    const { trace } = randomTimeline(3, 300, { pushes: true });
    saveTrace(at('good.parquet'), trace);
    saveTrace(at('none.parquet'), randomTimeline(1, 0, { info: { allocations: [] } }).trace);
    writeFileSync(at('empty.parquet'), '');
    writeFileSync(at('text.parquet'), 'this is no trace');
    writeFileSync(at('empty.json'), '');
    writeFileSync(at('wrong.json'), '{"name":"x"}');
    writeFileSync(at('notes.txt'), 'x');
    mkdirSync(at('folder.parquet'));
    const huge = randomTimeline(2, 5).trace;
    huge.info.allocations = [{ name: 'a', bytes: 2 ** 50, kind: 'managed', address: null }];
    saveTrace(at('huge.parquet'), huge);
    const names = [
      'good.parquet',
      'none.parquet',
      'empty.parquet',
      'text.parquet',
      'empty.json',
      'wrong.json',
      'notes.txt',
      'folder.parquet',
      'huge.parquet',
      'missing.uvmrec',
    ];
    const { backend, close } = serveTraces(names.map((name) => ({ path: at(name) })));
    expect((await backend.traces()).map(({ state }) => state)).toContain('opening');
    await expect(backend.row('t1', 0)).rejects.toThrow('trace t1 is being opened');
    const entries = await opened(backend);
    expect(entries.map(({ id, label }) => [id, label])).toEqual(names.map((name, i) => [`t${i + 1}`, name]));
    expect(entries.map(({ state }) => state)).toEqual(['ready', 'ready', ...new Array(8).fill('broken')]);
    const errors = entries.map((entry) => (entry.state === 'broken' ? entry.error : ''));
    expect(errors[2]).toContain('the file is empty');
    expect(errors[3]).toContain('it does not begin as a Parquet file');
    expect(errors[5]).toContain('wrong.json');
    expect(errors[6]).toContain('unknown kind of file');
    expect(errors[7]).toContain('it is a folder');
    expect(errors[8]).toContain('blocks of 2 MiB; the explorer shows up to');
    expect(errors[9]).toContain('missing.uvmrec');
    for (const error of errors.slice(2)) expect(error).not.toBe('');
    expect((await backend.row('t1', 5)).row).toBe(5);
    await expect(backend.row('t2', 0)).rejects.toThrow('row 0; the trace has no rows');
    expect((await backend.space('t2', 0, 10)).pages.length).toBe(0);
    await expect(backend.row('t3', 0)).rejects.toThrow(/^trace t3 cannot be shown: .*the file is empty/);
    await expect(backend.row('t11', 0)).rejects.toThrow('trace t11: there is none of that name; valid: t1, t2');
    await close();
  });

  it('of which columns come when they are needed answer as those in memory', async () => {
    for (const seed of [1, 2, 3, 4]) {
      const { trace } = randomTimeline(seed, 300, { pushes: seed % 2 === 0, virtual: seed > 2 });
      saveTrace(at(`${seed}.parquet`), trace, { overwrite: true });
      const engine = createEngine({ machines: loadMachines() });
      engine.add('t1', `${seed}.parquet`, trace);
      engine.add('t2', `${seed}.parquet`, trace);
      const files = [{ path: at(`${seed}.parquet`) }, { path: at(`${seed}.parquet`) }];
      const questions: ((backend: TraceBackend) => Promise<unknown>)[] = [
        (b) => b.compare('t1', 't2'),
        (b) => b.block('t1', 0, 1, 1000),
        (b) => b.space('t1', 1000, 300),
        (b) => b.row('t1', 17),
        (b) => b.find('t1', { kinds: ['gpuFault'], from: -1, direction: 1, allocation: 1, block: 0 }),
        (b) => b.find('t1', { kinds: ['migration'], from: -1, direction: -1, allocation: 0 }),
        (b) => b.tile('t1', 'cpu', 0, 2000, 50),
        (b) => b.traces(),
      ];
      for (const question of questions) {
        // A fresh one each time: what one question loads must not be what another one needs.
        const { backend, close } = serveTraces(files);
        await opened(backend);
        expect(await question(backend)).toEqual(await question(engine));
        await close();
      }
      const { backend, close } = serveTraces(files);
      await opened(backend);
      const together = await Promise.all(questions.map((question) => question(backend)));
      expect(together).toEqual(await Promise.all(questions.map((question) => question(engine))));
      await close();
    }
  });

  it('take one of several lines of a file by its name', async () => {
    const path = recordingPath('cpu.jsonl.gz');
    const { backend, close } = serveTraces([
      { path },
      { path, scenario: 'cpu-read-back-4k' },
      { path: at('good.parquet'), scenario: 'x' },
    ]);
    const [several, one, other] = await opened(backend);
    expect(several.state === 'broken' && several.error).toContain('name one with --scenario');
    expect([one.state, one.label]).toEqual(['ready', 'cpu-read-back-4k (cpu.jsonl.gz)']);
    expect(other.state === 'broken' && other.error).toContain('has no scenario x; valid: timeline 3');
    await close();
  });

  it('end while they are being opened', async () => {
    const { backend, close } = serveTraces([1, 2, 3, 4].map((seed) => ({ path: at(`${seed}.parquet`) })));
    await close();
    expect((await backend.traces()).filter(({ state }) => state === 'opening').length).toBeGreaterThan(0);
  });
});
