/** The explorer in a real browser: its page, over the server that `uvmlab serve` starts. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { launchBrowser } from '../scripts/browser.mjs';
import { buildWeb } from '../scripts/build-web.mjs';
import { packageRoot } from '../src/analysis/machines.ts';
import { pageFiles } from '../src/cli/run_serve.ts';
import { type ServedTraces, serveTraces } from '../src/explorer/server/backend.ts';
import { type ExplorerServer, startServer } from '../src/explorer/server/http_server.ts';

/** Traces: t1 on an H200, t2 on the model, t3 without events, t4 none at all. */
const RECORDED = join(packageRoot(), 'recordings', 'h200-two-sides.jsonl.gz');
const MODEL = join(packageRoot(), 'examples', 'two-sides.json');
const EMPTY = { scenario: 'empty', wallMicroseconds: [], events: [] };
const VIEWS: Readonly<Record<string, string>> = {
  timeline: '#trace=t2&row=100',
  block: '#view=block&trace=t2&time=2450000',
  fault: '#view=walk&trace=t2&fault=30&step=9',
  compare: '#view=compare&trace=t1&other=t2',
  live: '#view=live',
};
const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let browser: Browser;
let server: ExplorerServer;
let traces: ServedTraces;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'uvmlab-explorer-'));
  writeFileSync(join(folder, 'empty.jsonl'), `${JSON.stringify(EMPTY)}\n`);
  writeFileSync(join(folder, 'broken.parquet'), 'PAR1 and nothing that follows from it');
  await buildWeb(join(folder, 'web'));
  const files = [RECORDED, MODEL, join(folder, 'empty.jsonl'), join(folder, 'broken.parquet')];
  traces = serveTraces(files.map((path) => ({ path })));
  server = await startServer({ backend: traces.backend, page: pageFiles(join(folder, 'web')), port: 0 });
  browser = await launchBrowser();
}, 120_000);

afterAll(async () => {
  await browser?.close();
  await server?.close();
  await traces?.close();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

/** Runs `act` on the page at a place; errors of the page and requests to other servers fail it. */
async function onPage(
  hash: string,
  act: (page: Page) => Promise<void>,
  options: { colorScheme?: 'light' | 'dark' } = {},
): Promise<void> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 720 }, ...options });
  const wrong: string[] = [];
  page.on('pageerror', (error) => wrong.push(`page error: ${error.message}`));
  page.on('request', (request) => {
    if (!request.url().startsWith(server.address) && !request.url().startsWith('data:')) wrong.push(request.url());
  });
  try {
    await page.goto(server.address + hash);
    await page.waitForSelector('main .panel, main .nothing');
    await act(page);
    expect(wrong).toEqual([]);
  } finally {
    await page.close();
  }
}

const hashOf = (page: Page): URLSearchParams => new URLSearchParams(new URL(page.url()).hash.slice(1));

/** Begin and end of the window in the address; waits until it is another one than before. */
async function windowAfter(page: Page, before: string | null): Promise<{ text: string; begin: number; end: number }> {
  await page.waitForFunction((old) => new URLSearchParams(location.hash.slice(1)).get('window') !== old, before);
  const text = hashOf(page).get('window') as string;
  const [, begin, end] = /^(-?\d+)-(-?\d+)$/.exec(text) as RegExpExecArray;
  return { text, begin: Number(begin), end: Number(end) };
}

/** Colours of the timeline's canvas that are no grey. */
function coloured(page: Page): Promise<number> {
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
async function seriousViolations(page: Page): Promise<string[]> {
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

describe('the timeline', () => {
  it('shows the lanes of a trace, with events on them', async () => {
    await onPage('#trace=t1', async (page) => {
      const lanes = await page.locator('.lane-label').allTextContents();
      expect(lanes).toEqual(expect.arrayContaining(['CPU faults', 'gpu0 faults', 'gpu0 batches', 'cpu to gpu0']));
      await page.waitForLoadState('networkidle');
      await expect.poll(() => coloured(page)).toBeGreaterThan(500);
    });
  });

  it('zooms at the pointer, pans by dragging, and by keys', async () => {
    await onPage('#trace=t2', async (page) => {
      const box = await page.locator('.canvas-holder canvas').boundingBox();
      if (box === null) throw new Error('no canvas');
      const at = { x: box.x + box.width / 4, y: box.y + 60 };
      await page.mouse.move(at.x, at.y);
      await page.mouse.wheel(0, -600);
      const zoomed = await windowAfter(page, null);
      expect(zoomed.end - zoomed.begin).toBeLessThan(8e6);
      await page.mouse.down();
      await page.mouse.move(at.x - 120, at.y, { steps: 4 });
      await page.mouse.up();
      const panned = await windowAfter(page, zoomed.text);
      expect(panned.begin).toBeGreaterThan(zoomed.begin);
      expect(panned.end - panned.begin).toBeCloseTo(zoomed.end - zoomed.begin, -3);
      await page.locator('.lanes').focus();
      await page.keyboard.press('ArrowLeft');
      const back = await windowAfter(page, panned.text);
      expect(back.begin).toBeLessThan(panned.begin);
      await page.keyboard.press('+');
      const nearer = await windowAfter(page, back.text);
      expect(nearer.end - nearer.begin).toBeLessThan(back.end - back.begin);
      await page.keyboard.press('0');
      const whole = await windowAfter(page, nearer.text);
      expect(whole.begin).toBeLessThanOrEqual(0);
    });
  });

  it('picks a fault by keys, and goes to its block and its walk', async () => {
    await onPage('#trace=t2&lane=faults%20gpu0', async (page) => {
      await page.locator('.lanes').focus();
      await page.keyboard.press('n');
      await page.getByText('gpu0 read fault (invalidPde), page 0 of input').first().waitFor();
      await page.getByRole('button', { name: 'its block' }).click();
      await page.getByText('Prefetch tree of the last fault').waitFor();
      await page.goBack();
      await page.getByRole('button', { name: /walk through fault 30/ }).click();
      await page.getByText('replayable_faults_isr_bottom_half').first().waitFor();
    });
  });

  it('picks what is clicked', async () => {
    await onPage('#trace=t2&window=2000000-4000000', async (page) => {
      await page.waitForLoadState('networkidle');
      const box = await page.locator('.canvas-holder canvas').boundingBox();
      if (box === null) throw new Error('no canvas');
      // The step that is under way in the middle of the window has no row; the batch lane has.
      const lanes = await page.locator('.lane-label').allTextContents();
      const y = box.y + 24 + lanes.indexOf('gpu0 batches') * 22 + 11;
      for (let x = 0.2; x < 0.6 && hashOf(page).get('row') === null; x += 0.01) {
        await page.mouse.click(box.x + box.width * x, y);
      }
      expect(hashOf(page).get('row')).not.toBeNull();
      await page
        .getByText(/gpu0 read fault/)
        .first()
        .waitFor();
    });
  });
});

describe('a fault', () => {
  it('is walked through forwards and backwards', async () => {
    await onPage('#view=walk&trace=t2&fault=30', async (page) => {
      const current = page.locator('.steps li[aria-current="step"]');
      await current.getByText('uvm_isr_top_half').waitFor();
      for (let i = 0; i < 9; i++) await page.keyboard.press('ArrowDown');
      await current.getByText('uvm_va_block_select_residency for page 0: gpu0').waitFor();
      await page.getByText('rule 11: migrate to the faulting processor').waitFor();
      await page.getByRole('button', { name: 'back', exact: true }).click();
      await current.getByText('goes into the service').waitFor();
      await page.keyboard.press('End');
      await current.getByText('the access is tried again and goes through').waitFor();
      expect(hashOf(page).get('step')).toBe('25');
      await page.getByText(/page 0: on gpu0, mapped on gpu0/).waitFor();
    });
  });

  it('of a recording is walked through as the model replays it', async () => {
    await onPage('#view=walk&trace=t1&fault=30', async (page) => {
      await page.locator('.steps').getByText('service_fault_batch', { exact: true }).waitFor();
    });
  });
});

describe('two traces', () => {
  it('are compared, and the first difference leads to its event', async () => {
    await onPage('#view=compare&trace=t1', async (page) => {
      await page.getByLabel('beside it').selectOption('t2');
      await page.getByText('The first difference: step 12').waitFor();
      await page.locator('.verdict button').first().click();
      await page.getByText('Selected', { exact: true }).waitFor();
      expect(hashOf(page).get('row')).not.toBeNull();
    });
  });
});

describe('a live run', () => {
  it('runs the model in the page and opens the trace', async () => {
    await onPage('#view=live', async (page) => {
      await page.getByLabel('an example to begin with').selectOption('1');
      await page.getByRole('button', { name: 'Run' }).click();
      await page.locator('.lane-label', { hasText: 'gpu0 faults' }).waitFor();
      expect(await page.locator('.top select').locator('option:checked').textContent()).toContain('gpu-reads');
      await page.locator('.lanes').focus();
      await page.getByRole('button', { name: 'Fault', exact: true }).click();
      await page.locator('.steps li').first().waitFor();
    });
  });

  it('says what is wrong with a scenario, and the page lives on', async () => {
    await onPage('#view=live', async (page) => {
      await page.getByLabel('scenario as JSON').fill('{ "name": ');
      await page.getByRole('button', { name: 'Run' }).click();
      await page.getByRole('alert').getByText('the scenario is not JSON').waitFor();
      await page
        .getByLabel('scenario as JSON')
        .fill('{ "name": "x", "machine": "nowhere", "allocations": [], "steps": [] }');
      await page.getByRole('button', { name: 'Run' }).click();
      await page.getByRole('alert').getByText('nowhere').waitFor();
      await page.getByLabel('an example to begin with').selectOption('1');
      await page.getByRole('button', { name: 'Run' }).click();
      await page.locator('.lane-label', { hasText: 'gpu0 faults' }).waitFor();
    });
  });
});

describe('the page', () => {
  it('shows what is wrong with a broken trace, says when one is empty, and names a link to none', async () => {
    await onPage('#trace=t3', async (page) => {
      await page.getByText(/broken\.parquet cannot be shown: /).waitFor();
      await page.getByText('This trace has no events.').waitFor();
      expect(await page.locator('.failure').count()).toBe(1);
    });
    await onPage('#trace=t99', async (page) => {
      await page.getByText('There is no trace t99 here').waitFor();
      await page.locator('.lane-label').first().waitFor();
    });
  });

  it('comes back to a place by its link, and by the back button', async () => {
    const hash = '#view=block&trace=t2&time=2450000&allocation=1&block=1';
    await onPage(hash, async (page) => {
      await page.getByText('Pages at 2,450').waitFor();
      expect(await page.locator('.chooser select').inputValue()).toBe('1');
      expect(await page.locator('.chooser input').inputValue()).toBe('1');
      await page.getByRole('button', { name: 'Timeline' }).click();
      await page.locator('.lane-label').first().waitFor();
      await page.goBack();
      await page.getByText('Pages at 2,450').waitFor();
      expect(new URL(page.url()).hash).toBe(hash.replace('allocation=1&block=1', 'allocation=1&block=1'));
    });
  });

  it('is dark where the system is, and switches', async () => {
    await onPage(
      '#trace=t2',
      async (page) => {
        const theme = () => page.evaluate(() => document.documentElement.dataset['theme']);
        expect(await theme()).toBe('dark');
        await page.getByRole('button', { name: 'light' }).click();
        expect(await theme()).toBe('light');
      },
      { colorScheme: 'dark' },
    );
  });

  it('tells its keys', async () => {
    await onPage('#trace=t2', async (page) => {
      await page.keyboard.press('?');
      await page.getByText('next and previous event of the lane').waitFor();
      await page.keyboard.press('Escape');
      await expect.poll(() => page.locator('dialog').count()).toBe(0);
    });
  });

  it.each(Object.entries(VIEWS))('fits 1280 by 720 in the view %s', async (_, hash) => {
    await onPage(hash, async (page) => {
      await page.waitForLoadState('networkidle');
      const { wide, high } = await page.evaluate(() => ({
        wide: document.documentElement.scrollWidth,
        high: document.documentElement.scrollHeight,
      }));
      expect({ wide, high }).toEqual({ wide: 1280, high: 720 });
    });
  });

  it('is looked at by an axe that finds what is wrong', async () => {
    await onPage('#view=live', async (page) => {
      await page.evaluate(() => document.querySelector('main')?.append(document.createElement('input')));
      expect(await seriousViolations(page)).toEqual([expect.stringMatching(/^label: /)]);
    });
  });

  const combinations = Object.entries(VIEWS).flatMap(([view, hash]) =>
    (['light', 'dark'] as const).map((colorScheme) => ({ view, hash, colorScheme })),
  );
  it.each(combinations)('has no serious violation for axe: $view, $colorScheme', async ({ hash, colorScheme }) => {
    await onPage(
      hash,
      async (page) => {
        await page.waitForLoadState('networkidle');
        expect(await seriousViolations(page)).toEqual([]);
      },
      { colorScheme },
    );
  });
});
