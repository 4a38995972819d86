import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { randomTimeline } from '../../test/support/random_timeline.ts';
import { createHttpBackend } from '../explorer/http_client.ts';
import { saveTrace } from '../trace/store/trace_writer.ts';
import { pageFiles, runServe } from './run_serve.ts';

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-serve-'));
afterAll(() => rmSync(folder, { recursive: true }));
const page = join(folder, 'page');
mkdirSync(page);
writeFileSync(join(page, 'index.html'), '<p>page</p>');
writeFileSync(join(page, 'main.js'), '1');
writeFileSync(join(page, 'main.js.secret'), 'x');
mkdirSync(join(page, 'inner.js'));

describe('the files of the page', () => {
  it('are those of known types in its folder', () => {
    const files = pageFiles(page);
    expect([...files.keys()].sort()).toEqual(['/index.html', '/main.js']);
    expect(files.get('/main.js')?.type).toBe('text/javascript; charset=utf-8');
  });

  it('have to be built', () => {
    expect(() => pageFiles(join(folder, 'none'))).toThrow('the page of the explorer was not built; run: npm run build');
  });
});

describe('serve', () => {
  it('serves its traces until it is interrupted', async () => {
    const path = join(folder, 'a.parquet');
    saveTrace(path, randomTimeline(1, 50).trace);
    let said = '';
    const write = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      said += String(text);
      return true;
    });
    const ended = runServe([path, join(folder, 'none.json')], { port: '0' }, page);
    await vi.waitFor(() => expect(said).toContain('Ctrl-C'));
    write.mockRestore();
    const address = /^http:\/\/127\.0\.0\.1:\d+/.exec(said)?.[0] ?? '';
    expect(said).toBe(`${address}/ has the explorer with 2 files, for this machine alone; end with Ctrl-C\n`);
    expect(await (await fetch(`${address}/`)).text()).toBe('<p>page</p>');
    const backend = createHttpBackend(fetch, address);
    await vi.waitFor(async () => {
      expect((await backend.traces()).map(({ state }) => state)).toEqual(['ready', 'broken']);
    });
    process.emit('SIGINT');
    expect(await ended).toBe(0);
    await expect(fetch(address)).rejects.toThrow();
  });

  it('says what is wrong with its options', async () => {
    for (const port of ['-1', '65536', 'x', '1.5', '']) {
      await expect(runServe([], { port }, page)).rejects.toThrow(`--port ${port}: expected 0 to 65535`);
    }
    await expect(runServe([], { port: '0', scenario: 'x' }, page)).rejects.toThrow('--scenario: no file is named');
  });

  it('says so where the port is taken', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as AddressInfo;
    await expect(runServe([join(folder, 'a.parquet')], { port: String(port) }, page)).rejects.toThrow(
      `--port ${port}: cannot listen there: it is in use`,
    );
    other.close();
  });
});
