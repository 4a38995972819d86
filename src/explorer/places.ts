/** Where rows lie: allocations as consecutive blocks of 2 MiB, and the block and page of a row. */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../base/units.ts';
import type { Trace } from '../trace/store/trace_events.ts';

export interface Place {
  firstBlock: number;
  blocks: number;
  /** Pages of the allocation. */
  room: number;
}

export interface Places {
  /** Of the allocations, in their order. */
  list: Place[];
  blocks: number;
  blockPages: Uint16Array;
  /** Allocation by number of the word in `buffer`; -1 for a name that no allocation has. */
  ofWord: Int32Array;
}

export function placesOf({ info, columns }: Trace): Places {
  let blocks = 0;
  const list = info.allocations.map(({ bytes }) => {
    const room = Math.ceil(bytes / PAGE_SIZE);
    const place = { firstBlock: blocks, blocks: Math.ceil(room / PAGES_PER_BLOCK), room };
    blocks += place.blocks;
    return place;
  });
  const blockPages = new Uint16Array(blocks);
  for (const { firstBlock, blocks: its, room } of list) {
    for (let b = 0; b < its; b++) blockPages[firstBlock + b] = Math.min(PAGES_PER_BLOCK, room - b * PAGES_PER_BLOCK);
  }
  const names = new Map(info.allocations.map(({ name }, i) => [name, i]));
  const ofWord = Int32Array.from(columns.words.buffer.list, (name) =>
    name === '' ? (list.length === 1 ? 0 : -1) : (names.get(name) ?? -1),
  );
  return { list, blocks, blockPages, ofWord };
}

/** The allocation of a row, or -1. */
export function allocationOf(places: Places, { columns }: Trace, row: number): number {
  return columns.arrays.offset[row] < 0 ? -1 : places.ofWord[columns.arrays.buffer[row]];
}

/** The block of a row among all, or -1 where it has no place or one outside of its allocation. */
export function blockOf(places: Places, trace: Trace, row: number): number {
  const allocation = allocationOf(places, trace, row);
  if (allocation < 0) return -1;
  const { firstBlock, blocks } = places.list[allocation];
  const block = Math.floor(trace.columns.arrays.offset[row] / (PAGE_SIZE * PAGES_PER_BLOCK));
  return block < blocks ? firstBlock + block : -1;
}
