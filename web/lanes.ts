/** What stands beside and below a timeline: its lanes as a list, and in words what is in view. */
import type { Lane, Tile } from '../src/explorer/api.ts';
import { countInView } from './paint_tile.ts';
import type { Window } from './scale.ts';

/** Lanes in their order; where a group begins, a line is drawn. */
export function laneTable(lanes: readonly Lane[]): { lane: Lane; begins: boolean }[] {
  return lanes.map((lane, i) => ({ lane, begins: i > 0 && lanes[i - 1].group !== lane.group }));
}

const GROUP_WORDS: Readonly<Record<Lane['group'], string>> = {
  steps: 'advise',
  cpu: 'cpu',
  gpu: 'gpu0',
  batches: 'batch',
  migrations: 'coherence',
  thrashing: 'thrashing',
  evictions: 'eviction',
  channels: 'copy',
  copies: 'memcpy',
};

/** The word whose colour stands for a lane: its processor's, where it has one, else its group's. */
export function swatchWord({ group, kinds, label }: Lane): string {
  if (group === 'migrations' && kinds.includes('readDuplicate')) return 'readDuplicate';
  const gpu = group === 'gpu' ? /^gpu\d+/.exec(label) : null;
  return gpu === null ? GROUP_WORDS[group] : gpu[0];
}

/** What is in view: how many in all, and lane by lane. Empty while tiles are on their way. */
export function viewText(
  lanes: readonly Lane[],
  tiles: readonly (Tile | null)[],
  window: Window,
): { total: string; lanes: string } {
  let total = 0;
  const parts: string[] = [];
  for (const [i, tile] of tiles.entries()) {
    const count = tile === null ? null : countInView(tile, window);
    if (count === null) return { total: '', lanes: '' };
    total += count;
    if (count > 0) parts.push(`${lanes[i].label} ${count.toLocaleString('en')}`);
  }
  return {
    total: `${total.toLocaleString('en')} in view`,
    lanes: parts.length === 0 ? 'Nothing is in view.' : `In view: ${parts.join(', ')}.`,
  };
}
