/** Where rows lie: allocations as consecutive blocks of 2 MiB, and the block and page of a row. */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../base/units.ts';
import type { Trace } from '../trace/store/trace_events.ts';

export const BLOCK_BYTES = PAGE_SIZE * PAGES_PER_BLOCK;
/** Blocks of all allocations of a trace: 8 TiB. */
export const BLOCKS_MAX = 2 ** 22;

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
}

/** Throws RangeError where the allocations are larger than can be drawn. */
export function placesOf({ info }: Trace): Places {
  let blocks = 0;
  const list = info.allocations.map(({ bytes }) => {
    const room = Math.ceil(bytes / PAGE_SIZE);
    const place = { firstBlock: blocks, blocks: Math.ceil(room / PAGES_PER_BLOCK), room };
    blocks += place.blocks;
    return place;
  });
  if (blocks > BLOCKS_MAX) {
    throw new RangeError(`the allocations have ${blocks} blocks of 2 MiB; the explorer shows up to ${BLOCKS_MAX}`);
  }
  const blockPages = new Uint16Array(blocks);
  for (const { firstBlock, blocks: its, room } of list) {
    for (let b = 0; b < its; b++) blockPages[firstBlock + b] = Math.min(PAGES_PER_BLOCK, room - b * PAGES_PER_BLOCK);
  }
  return { list, blocks, blockPages };
}

/** Allocation by number of the word in `buffer`; -1 for a name that no allocation has. The column must be loaded. */
export function allocationsOfWords({ info, columns }: Trace): Int32Array {
  const names = new Map(info.allocations.map(({ name }, i) => [name, i]));
  return Int32Array.from(columns.words.buffer.list, (name) =>
    name === '' ? (info.allocations.length === 1 ? 0 : -1) : (names.get(name) ?? -1),
  );
}

/** What rows are on a map: codes by number of the word in `kind`. */
export const OTHER = 0;
export const FAULT = 1;
export const MIGRATION = 2;
export const THRASHING = 3;

const FORMS: ReadonlyMap<string, number> = new Map([
  ['cpuFault', FAULT],
  ['gpuFault', FAULT],
  ['migration', MIGRATION],
  ['thrashing', THRASHING],
]);
/** Kinds that a map counts. */
export const COUNTED: ReadonlySet<string> = new Set(FORMS.keys());

export function formsOfKinds({ columns }: Trace): Uint8Array {
  return Uint8Array.from(columns.words.kind.list, (kind) => FORMS.get(kind) ?? OTHER);
}
