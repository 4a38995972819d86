import { describe, expect, it } from 'vitest';
import type { Tile } from '../src/explorer/api.ts';
import { createTileCache, tileFits, tileWindow } from './tile_cache.ts';

interface Asked {
  lane: string;
  begin: number;
  end: number;
  width: number;
  give(): void;
  refuse(): void;
}

function harness() {
  const asked: Asked[] = [];
  let changes = 0;
  const cache = createTileCache(
    (lane, begin, end, width) =>
      new Promise((resolve, reject) => {
        const give = (): void => resolve({ lane, begin, end } as Tile);
        asked.push({ lane, begin, end, width, give, refuse: () => reject(new Error('no such lane')) });
      }),
    () => {
      changes++;
    },
  );
  const settle = () => new Promise((resolve) => setTimeout(resolve, 0));
  return { asked, cache, settle, changes: () => changes };
}
const WINDOW = { begin: 1000, end: 2000 };

describe('tiles', () => {
  it('are asked for with a margin, once, and then kept', async () => {
    const { asked, cache, settle, changes } = harness();
    expect(cache.get('a', WINDOW, 400)).toBeNull();
    expect(cache.get('a', WINDOW, 400)).toBeNull();
    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatchObject({ lane: 'a', begin: 250, end: 2750, width: 1000 });
    asked[0].give();
    await settle();
    expect(changes()).toBe(1);
    expect(cache.get('a', WINDOW, 400)).toMatchObject({ begin: 250 });
    expect(cache.get('a', { begin: 1600, end: 2600 }, 400)).toMatchObject({ begin: 250 });
    await settle();
    // The second wish, made while the first was under way, was for the same window.
    expect(asked.length).toBeLessThanOrEqual(2);
  });

  it('are asked for anew where the window leaves them, and drawn until then', async () => {
    const { asked, cache, settle } = harness();
    cache.get('a', WINDOW, 400);
    asked[0].give();
    await settle();
    expect(cache.get('a', { begin: 2500, end: 3500 }, 400)).toMatchObject({ begin: 250 });
    expect(asked).toHaveLength(2);
    expect(cache.waiting()).toBe(1);
  });

  it('fail without a storm of requests', async () => {
    const { asked, cache, settle } = harness();
    cache.get('a', WINDOW, 400);
    asked[0].refuse();
    await settle();
    expect(cache.error('a')).toBe('no such lane');
    for (let i = 0; i < 10; i++) cache.get('a', WINDOW, 400);
    expect(asked).toHaveLength(1);
  });

  it('of an earlier trace change nothing', async () => {
    const { asked, cache, settle, changes } = harness();
    cache.get('a', WINDOW, 400);
    cache.clear();
    asked[0].give();
    await settle();
    expect(changes()).toBe(0);
  });

  it('fit at nearly their scale alone', () => {
    const { window, width } = tileWindow(WINDOW, 400);
    const scale = width / (window.end - window.begin);
    expect(tileFits(window, scale, WINDOW, 400)).toBe(true);
    expect(tileFits(window, scale, { begin: 1400, end: 1600 }, 400)).toBe(false);
    expect(tileFits(window, scale, { begin: 200, end: 1200 }, 400)).toBe(false);
  });
});
