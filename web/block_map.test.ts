import { describe, expect, it } from 'vitest';
import type { Space } from '../src/explorer/api.ts';
import { blockAtPoint, blockByKey, blockText, layoutOf } from './block_map.ts';

describe('the blocks of an allocation', () => {
  it.each([
    [1, 1, 1],
    [17, 16, 2],
    [128, 16, 8],
    [129, 64, 3],
    [40_960, 256, 160],
  ])('%i of them are laid out', (blocks, columns, rows) => {
    const layout = layoutOf(blocks);
    expect(layout).toMatchObject({ columns, rows });
    expect(layout.columns * layout.cell).toBeLessThanOrEqual(832);
  });

  it('are fewer pixels than a canvas may have, for a terabyte of them', () => {
    const { rows, cell } = layoutOf(2 ** 19);
    expect(rows * cell).toBeLessThan(16_384);
  });

  it('are found by a point', () => {
    const layout = layoutOf(20);
    expect(blockAtPoint(layout, 20, 0, 0)).toBe(0);
    expect(blockAtPoint(layout, 20, 26 * 16 - 1, 0)).toBe(15);
    expect(blockAtPoint(layout, 20, 26 * 16, 0)).toBe(-1);
    expect(blockAtPoint(layout, 20, 26 * 3, 26)).toBe(19);
    expect(blockAtPoint(layout, 20, 26 * 4, 26)).toBe(-1);
    expect(blockAtPoint(layout, 20, -1, 26)).toBe(-1);
  });

  it('are gone through by keys, and not left', () => {
    const layout = layoutOf(20);
    const by = (from: number, key: string) => blockByKey(layout, 20, from, key);
    expect([by(3, 'ArrowRight'), by(3, 'ArrowDown'), by(19, 'ArrowRight'), by(3, 'ArrowUp')]).toEqual([4, 19, 19, 0]);
    expect([by(3, 'Home'), by(3, 'End'), by(3, 'x')]).toEqual([0, 19, null]);
  });

  it('are described', () => {
    const space: Space = {
      ...{ time: 0, known: 'exact', residents: ['none', 'cpu', 'several'] },
      pages: Uint16Array.of(0, 512, 0, 12, 400, 100),
      faults: Uint32Array.of(0, 1200),
      moved: Float64Array.of(0, 8192),
      thrashing: Uint32Array.of(0, 0),
    };
    expect(blockText(space, 0)).toBe('pages: 512 on cpu');
    expect(blockText(space, 1)).toBe('pages: 12 nowhere, 400 on cpu, 100 on several; 1,200 faults, 8 KiB moved');
  });
});
