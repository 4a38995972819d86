/** The explorer's views in a real browser, over the server that `uvmlab serve` starts. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { coloured, type Explorer, hashOf, startExplorer, windowAfter } from './support/explorer_page.ts';

async function boxOf(page: Page, which = 0) {
  const box = await page.locator('.canvas-holder canvas').nth(which).boundingBox();
  if (box === null) throw new Error('no canvas');
  return box;
}

async function detailTitle(page: Page): Promise<string> {
  const title = page.locator('.detail-title');
  return (await title.count()) === 0 ? '' : ((await title.textContent()) ?? '');
}

let explorer: Explorer;
const onPage: Explorer['onPage'] = (...args) => explorer.onPage(...args);
beforeAll(async () => {
  explorer = await startExplorer();
}, 120_000);
afterAll(() => explorer?.close());

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
      const box = await boxOf(page);
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

  it('keeps every step of the wheel, however late the tiles come', async () => {
    const prepare = async (page: Page): Promise<void> => {
      await page.route('**/api/ask', async (route) => {
        if (route.request().postData()?.includes('"tile"')) await new Promise((resolve) => setTimeout(resolve, 60));
        await route.continue();
      });
    };
    await onPage(
      '#trace=t2&window=0-10000000',
      async (page) => {
        await page.waitForLoadState('networkidle');
        const box = await boxOf(page);
        await page.mouse.move(box.x + 300, box.y + 60);
        for (let i = 0; i < 12; i++) {
          await page.mouse.wheel(0, -100);
          await page.waitForTimeout(30);
        }
        // The window gets into the address when movement rests, which it may do between two steps of a slow machine.
        const width = (): number => {
          const [begin, end] = (hashOf(page).get('window') ?? '').split('-').map(Number);
          return end - begin;
        };
        await expect.poll(width, { timeout: 20_000 }).toBeCloseTo(1e7 / 1.25 ** 12, -2);
      },
      { prepare },
    );
  });

  it('says what is in view, and goes from event to event of the lane that is chosen', async () => {
    await onPage('#trace=t2&lane=gpu0%2F4&window=2000000-9000000', async (page) => {
      await page.getByText('973 in view').waitFor();
      await expect.poll(() => page.locator('.lane-legend [role="status"]').textContent()).toContain('CPU faults 22');
      await page.locator('.lanes').focus();
      const titles: string[] = [];
      for (let i = 0; i < 4; i++) {
        await page.keyboard.press('n');
        await expect.poll(async () => ['', ...titles].includes(await detailTitle(page))).toBe(false);
        titles.push(await detailTitle(page));
        expect(hashOf(page).get('lane')).toBe('gpu0/4');
      }
      for (const title of titles) expect(title).toMatch(/^push \d+ \(.*\) on gpu0 channel 4$/);
      await page.keyboard.press('p');
      await expect.poll(() => detailTitle(page)).toBe(titles[2]);
      await page.keyboard.press('Enter');
      expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe('Selected');
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
      const box = await boxOf(page);
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

describe('the address space', () => {
  it('shows blocks at the cursor, and opens one', async () => {
    await onPage('#trace=t2&time=2450000', async (page) => {
      await page.getByText('input, block 0, pages: 448 on cpu, 64 on gpu0').waitFor();
      const blocks = page.getByRole('slider', { name: 'blocks of output' });
      await blocks.focus();
      await page.keyboard.press('End');
      await page.getByText(/output, block 1, pages: 512 nowhere/).waitFor();
      await page.getByRole('button', { name: 'moved', exact: true }).click();
      await page.getByText(/the more bytes moved within/).waitFor();
      await blocks.focus();
      await page.keyboard.press('Enter');
      await page.getByText('Prefetch tree of the last fault').waitFor();
      expect(Object.fromEntries(hashOf(page))).toMatchObject({ view: 'block', allocation: '1', block: '1' });
    });
  });

  it('fails alone, where it fails', async () => {
    const prepare = async (page: Page): Promise<void> => {
      await page.route('**/api/ask', (route) =>
        route.request().postData()?.includes('"space"')
          ? route.fulfill({ status: 422, contentType: 'application/json', body: '{"error":"the map is away"}' })
          : route.continue(),
      );
    };
    await onPage(
      '#trace=t2',
      async (page) => {
        await page.getByRole('alert').getByText('the map is away').waitFor();
        await page.locator('.lane-label').first().waitFor();
        await page
          .getByText(/ in view/)
          .first()
          .waitFor();
      },
      { prepare, expected: /status of 422/ },
    );
  });
});

describe('a block', () => {
  it('follows the cursor, from event to event', async () => {
    await onPage('#view=block&trace=t2&time=2450000', async (page) => {
      const pages = page.getByRole('slider', { name: 'pages of the block' });
      await pages.focus();
      await page.keyboard.press('ArrowRight');
      await page.getByText('page 1: on gpu0, mapped on gpu0; 0 faults, 1 migration so far').waitFor();
      await page.getByRole('button', { name: 'event after' }).click();
      await page.getByText(/^Pages at 2,460\.\d+ µs/).waitFor();
      await page.getByRole('button', { name: 'event before' }).click();
      await page.getByText(/^Pages at 2,446\.\d+ µs/).waitFor();
      await page.getByRole('slider', { name: 'time of the cursor' }).focus();
      await page.keyboard.press('Home');
      await page.getByText('page 1: resident nowhere').waitFor();
      expect(hashOf(page).get('time')).toBe('0');
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
      await page.keyboard.press('Home');
      for (let i = 0; i < 9; i++) await page.getByRole('button', { name: 'forward', exact: true }).click();
      const stack = page.getByRole('list', { name: 'call stack' });
      await stack.getByRole('button', { name: 'service_fault_batch', exact: true }).click();
      await current.getByText('service_fault_batch', { exact: true }).waitFor();
      await page.getByRole('button', { name: 'on the timeline' }).click();
      await page.getByText('walk through fault 30').waitFor();
      await expect.poll(() => hashOf(page).get('time')).toMatch(/^\d+$/);
      // One step back is where the reader was.
      await page.goBack();
      await current.getByText('service_fault_batch', { exact: true }).waitFor();
    });
  });

  it('of a recording is walked through as the model replays it', async () => {
    await onPage('#view=walk&trace=t1&fault=30', async (page) => {
      await page.locator('.steps').getByText('service_fault_batch', { exact: true }).waitFor();
      await page.getByText('Pages of the block at the fault').waitFor();
      await page.getByText(/those of the model, which replays the recording/).waitFor();
    });
  });
});

describe('two traces', () => {
  it('are compared, and the first difference is shown on both', async () => {
    await onPage('#view=compare&trace=t1', async (page) => {
      await page.getByRole('combobox', { name: 'below' }).selectOption('t2');
      await page.getByText('First difference: step 12').waitFor();
      await page.getByRole('button', { name: 'show it on both' }).click();
      expect(hashOf(page).get('align')).toBe('difference');
      // Both axes call the same place zero.
      for (const side of ['above', 'below']) {
        await page
          .getByRole('img', { name: /from -.* to [^-]/ })
          .first()
          .waitFor();
        await page.getByRole('listbox', { name: `lanes of ${side}` }).waitFor();
      }
      await page.locator('.verdict .link').first().click();
      await page.getByText('Selected, below').waitFor();
      await page.getByRole('button', { name: 'open in its timeline' }).click();
      await page.getByText('CPU write fault, page 3 of shared').first().waitFor();
      expect(Object.fromEntries(hashOf(page))).toMatchObject({ trace: 't2', row: expect.stringMatching(/^\d+$/) });
    });
  });

  it('are aligned at a step, move together, and come back by a link', async () => {
    await onPage('#view=compare&trace=t1&other=t2', async (page) => {
      await page.getByLabel('aligned at').selectOption('step8');
      await expect.poll(() => hashOf(page).get('align')).toBe('step8');
      await page.waitForLoadState('networkidle');
      const box = await boxOf(page, 1);
      await page.mouse.move(box.x + box.width / 2, box.y + 60);
      await page.mouse.wheel(0, -300);
      const zoomed = await windowAfter(page, null, 'beside');
      const names = await page.getByRole('img').evaluateAll((all) => all.map((one) => one.getAttribute('aria-label')));
      const spans = names.map((name) => /from (.* to .*);/.exec(name ?? '')?.[1]);
      expect(spans).toHaveLength(2);
      expect(spans[0]).toBe(spans[1]);
      await page.reload();
      await expect.poll(() => page.getByLabel('aligned at').inputValue()).toBe('step8');
      expect(hashOf(page).get('beside')).toBe(zoomed.text);
    });
  });

  it('are compared where one of them was run in the page', async () => {
    await onPage('#view=live', async (page) => {
      await page.getByRole('button', { name: 'Run' }).click();
      await page.locator('.lane-label', { hasText: 'gpu0 faults' }).waitFor();
      await page.getByRole('button', { name: 'Compare', exact: true }).click();
      await page.getByRole('combobox', { name: 'below' }).selectOption('t2');
      // The same scenario as the server's t2, by the same model.
      await page.getByText('The same: every event has the same identity').waitFor();
      await page.getByRole('combobox', { name: 'below' }).selectOption('t1');
      await page.getByText('First difference: step 12').waitFor();
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
