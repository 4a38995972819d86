/** The explorer's page in a real browser: what holds in each view. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Explorer, seriousViolations, startExplorer } from './support/explorer_page.ts';

const VIEWS: Readonly<Record<string, string>> = {
  timeline: '#trace=t2&row=100',
  block: '#view=block&trace=t2&time=2450000',
  fault: '#view=walk&trace=t2&fault=30&step=9',
  compare: '#view=compare&trace=t1&other=t2&align=difference',
  live: '#view=live',
};
let explorer: Explorer;
const onPage: Explorer['onPage'] = (...args) => explorer.onPage(...args);
beforeAll(async () => {
  explorer = await startExplorer();
}, 120_000);
afterAll(() => explorer?.close());

describe('the page', () => {
  it('shows what is wrong with a broken trace, says when one is empty, and names a link to none', async () => {
    await onPage('#trace=t3', async (page) => {
      await page.getByText(/broken\.parquet cannot be shown: /).waitFor();
      await page.getByText('This trace has no events.').waitFor();
      expect(await page.locator('.failure').count()).toBe(1);
      await page.getByRole('button', { name: 'Fault', exact: true }).click();
      await page.getByText('This trace has no faults.').waitFor();
      await page.getByRole('button', { name: 'Block', exact: true }).click();
      await page.getByText('This trace names no allocations.').waitFor();
      await page.getByRole('button', { name: 'Compare', exact: true }).click();
      await page.getByRole('combobox', { name: 'below' }).selectOption('t2');
      await page.getByText('First difference:').waitFor();
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
        await expect.poll(theme).toBe('light');
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
