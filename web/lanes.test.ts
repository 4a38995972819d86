import { describe, expect, it } from 'vitest';
import type { Lane, Tile } from '../src/explorer/api.ts';
import { laneTable, swatchWord, viewText } from './lanes.ts';
import { countInView, hitTile } from './paint_tile.ts';

function lane(id: string, group: Lane['group'], kinds: string[] = [], label = id): Lane {
  return { id, label, group, kinds, shape: 'spans', rows: 1 };
}

const NONE = { count: new Uint32Array(0), covered: new Uint8Array(0) };
/** Spans 100 to 200 and 150 to 400 on two lines, and one at 900. */
const ROWS: Tile = {
  ...{ lane: 'a', begin: 0, end: 1000, detail: 'rows', ...NONE },
  first: Float64Array.of(100, 150, 900),
  last: Float64Array.of(200, 400, 900),
  row: Uint32Array.of(7, 8, 9),
  kind: Uint8Array.of(0, 1, 0),
  depth: Uint8Array.of(0, 1, 0),
  kinds: ['copy', 'map'],
};
/** Ten parts of 100 ns. */
const DENSITY: Tile = {
  ...ROWS,
  detail: 'density',
  ...{ first: new Float64Array(0), last: new Float64Array(0), row: new Uint32Array(0), depth: new Uint8Array(0) },
  count: Uint32Array.of(1, 2, 0, 0, 0, 5, 0, 0, 0, 3),
  kind: Uint8Array.of(0, 1, 0, 0, 0, 1, 0, 0, 0, 0),
  covered: new Uint8Array(10),
};

describe('lanes', () => {
  it('know where a group begins', () => {
    const lanes = [lane('a', 'cpu'), lane('b', 'gpu'), lane('c', 'gpu'), lane('d', 'copies')];
    expect(laneTable(lanes).map(({ begins }) => begins)).toEqual([false, true, false, true]);
  });

  it('have the colour of their processor, or of their group', () => {
    expect(swatchWord(lane('faults gpu1', 'gpu', ['gpuFault'], 'gpu1 faults'))).toBe('gpu1');
    expect(swatchWord(lane('x', 'migrations', ['readDuplicate', 'readDuplicateInvalidate']))).toBe('readDuplicate');
    expect(swatchWord(lane('cpu gpu0', 'migrations', ['migration'], 'cpu to gpu0'))).toBe('coherence');
  });

  it('say what is in view', () => {
    const lanes = [lane('a', 'channels', [], 'channel 0'), lane('b', 'gpu', [], 'faults')];
    expect(viewText(lanes, [ROWS, DENSITY], { begin: 0, end: 1000 })).toEqual({
      total: '14 in view',
      lanes: 'In view: channel 0 3, faults 11.',
    });
    expect(viewText(lanes, [ROWS, DENSITY], { begin: 600, end: 800 }).lanes).toBe('Nothing is in view.');
    expect(viewText(lanes, [ROWS, null], { begin: 0, end: 1000 })).toEqual({ total: '', lanes: '' });
  });
});

describe('a tile', () => {
  it('counts what lies in a window', () => {
    expect(countInView(ROWS, { begin: 200, end: 899 })).toBe(2);
    expect(countInView(ROWS, { begin: 201, end: 899 })).toBe(1);
    expect(countInView(ROWS, { begin: 401, end: 899 })).toBe(0);
    expect(countInView(ROWS, { begin: 401, end: 900 })).toBe(1);
    expect(countInView(ROWS, { begin: 401, end: 1001 })).toBeNull();
    expect(countInView(DENSITY, { begin: 100, end: 600 })).toBe(7);
    expect(countInView(DENSITY, { begin: -1, end: 600 })).toBeNull();
  });

  it('is hit on the line that is pointed at, the nearest within reach', () => {
    expect(hitTile(ROWS, 160, 5, 0.2)).toMatchObject({ row: 7, kind: 'copy' });
    expect(hitTile(ROWS, 160, 5, 0.8)).toMatchObject({ row: 8, kind: 'map' });
    expect(hitTile(ROWS, 895, 5, 0.2)).toMatchObject({ row: 9 });
    expect(hitTile(ROWS, 894, 5, 0.2)).toBeNull();
  });

  it('without its rows says how many there are', () => {
    expect(hitTile(DENSITY, 510, 5, 0.5)).toEqual({ count: 5, kind: 'map' });
    expect(hitTile(DENSITY, 610, 5, 0.5)).toBeNull();
  });
});
