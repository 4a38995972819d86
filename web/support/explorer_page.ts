/** The explorer in a real browser: a server over four traces, and what tests ask of a page. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { expect } from 'vitest';
import { launchBrowser } from '../../scripts/browser.mjs';
import { buildWeb } from '../../scripts/build-web.mjs';
import { packageRoot } from '../../src/analysis/machines.ts';
import { pageFiles } from '../../src/cli/run_serve.ts';
import { serveTraces } from '../../src/explorer/server/backend.ts';
import { startServer } from '../../src/explorer/server/http_server.ts';

const RECORDED = join(packageRoot(), 'recordings', 'h200-two-sides.jsonl.gz');
const MODEL = join(packageRoot(), 'examples', 'two-sides.json');
const EMPTY = { scenario: 'empty', wallMicroseconds: [], events: [] };
const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

interface PageOptions {
  colorScheme?: 'light' | 'dark';
  /** Called before the page is opened. */
  prepare?(page: Page): Promise<void>;
  /** Errors that are meant to happen. */
  expected?: RegExp;
}

export interface Explorer {
  /** Runs `act` on the page at a place; errors of the page and requests to other servers fail it. */
  onPage(hash: string, act: (page: Page) => Promise<void>, options?: PageOptions): Promise<void>;
  close(): Promise<void>;
}

/** Traces: t1 on an H200, t2 on the model, t3 without events, t4 none at all. */
export async function startExplorer(): Promise<Explorer> {
  const folder = mkdtempSync(join(tmpdir(), 'uvmlab-explorer-'));
  writeFileSync(join(folder, 'empty.jsonl'), `${JSON.stringify(EMPTY)}\n`);
  writeFileSync(join(folder, 'broken.parquet'), 'PAR1 and nothing that follows from it');
  await buildWeb(join(folder, 'web'));
  const files = [RECORDED, MODEL, join(folder, 'empty.jsonl'), join(folder, 'broken.parquet')];
  const traces = serveTraces(files.map((path) => ({ path })));
  const server = await startServer({ backend: traces.backend, page: pageFiles(join(folder, 'web')), port: 0 });
  const browser = await launchBrowser();
  return {
    onPage: async (hash, act, { colorScheme, prepare, expected } = {}) => {
      const viewport = { width: 1280, height: 720 };
      const page = await browser.newPage({ viewport, ...(colorScheme === undefined ? {} : { colorScheme }) });
      const wrong: string[] = [];
      const tell = (what: string): void => {
        if (expected?.test(what) !== true) wrong.push(what);
      };
      page.on('pageerror', (error) => tell(`page error: ${error.message}`));
      page.on('console', (message) => {
        if (message.type() === 'error') tell(`console: ${message.text()}`);
      });
      page.on('request', (request) => {
        if (!request.url().startsWith(server.address) && !request.url().startsWith('data:')) tell(request.url());
      });
      try {
        await prepare?.(page);
        await page.goto(server.address + hash);
        await page.waitForSelector('main .panel, main .nothing');
        await act(page);
        expect(wrong).toEqual([]);
      } finally {
        await page.close();
      }
    },
    close: async () => {
      await browser.close();
      await server.close();
      await traces.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export const hashOf = (page: Page): URLSearchParams => new URLSearchParams(new URL(page.url()).hash.slice(1));

/** Begin and end of the window in the address; waits until it is another one than before. */
export async function windowAfter(
  page: Page,
  before: string | null,
  name = 'window',
): Promise<{ text: string; begin: number; end: number }> {
  await page.waitForFunction(([old, key]) => new URLSearchParams(location.hash.slice(1)).get(key as string) !== old, [
    before,
    name,
  ] as const);
  const text = hashOf(page).get(name) as string;
  const [, begin, end] = /^(-?\d+)-(-?\d+)$/.exec(text) as RegExpExecArray;
  return { text, begin: Number(begin), end: Number(end) };
}

/** Colours of the timeline's canvas that are no grey. */
export function coloured(page: Page): Promise<number> {
  return page.evaluate(() => {
    const canvas = document.querySelector('.canvas-holder canvas') as HTMLCanvasElement;
    const { data } = (canvas.getContext('2d') as CanvasRenderingContext2D).getImageData(
      0,
      0,
      canvas.width,
      canvas.height,
    );
    let n = 0;
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b, a] = data.subarray(i, i + 4);
      if (a > 0 && Math.max(r, g, b) - Math.min(r, g, b) > 60) n++;
    }
    return n;
  });
}

/** What axe calls serious or critical, as "rule: places". */
export async function seriousViolations(page: Page): Promise<string[]> {
  await page.evaluate(axeSource);
  return page.evaluate(async () => {
    const { axe } = window as unknown as {
      axe: { run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }> };
    };
    const { violations } = await axe.run();
    return violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`);
  });
}
