/** Where each row of a trace lies, and what it is on a map. */
import { PAGE_SIZE } from '../base/units.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { allocationsOfWords, BLOCK_BYTES, FAULT, formsOfKinds, MIGRATION, type Places, THRASHING } from './places.ts';

/** For each block what happened in it. */
export interface BlockCounts {
  faults: Uint32Array;
  /** Bytes. */
  moved: Float64Array;
  thrashing: Uint32Array;
}

/** Places for each row that rows over several blocks may take, beyond a room that every trace has. */
const SPREAD = 4;
const SPREAD_ROOM = 2 ** 22;

/** Throws RangeError where rows reach over so many blocks that going through them would take all time and memory. */
export function checkSpread(blocks: number, rows: number): void {
  if (blocks > rows * SPREAD + SPREAD_ROOM) {
    throw new RangeError('rows reach over so many blocks that there is no room for a map of them');
  }
}

/** Keeps the arrays that it looks into at hand: it is asked for each row. */
export class RowPlaces {
  readonly #begins: Float64Array;
  readonly #kind: Uint16Array;
  readonly #buffer: Uint16Array;
  readonly #offset: Float64Array;
  readonly #bytes: Float64Array;
  /** By number of the word in `buffer`: the allocation or -1, its first block, and its blocks. */
  readonly #allocations: Int32Array;
  readonly #firstBlocks: Uint32Array;
  readonly #blocks: Uint32Array;
  readonly #forms: Uint8Array;

  /** The columns PLACES of trace_index.ts must be there. */
  constructor(trace: Trace, places: Places, begins: Float64Array) {
    const { kind, buffer, offset, bytes } = trace.columns.arrays;
    this.#begins = begins;
    this.#kind = kind;
    this.#buffer = buffer;
    this.#offset = offset;
    this.#bytes = bytes;
    this.#allocations = allocationsOfWords(trace);
    const placeOf = (allocation: number) => places.list[allocation] ?? { firstBlock: 0, blocks: 0 };
    this.#firstBlocks = Uint32Array.from(this.#allocations, (allocation) => placeOf(allocation).firstBlock);
    this.#blocks = Uint32Array.from(this.#allocations, (allocation) => placeOf(allocation).blocks);
    this.#forms = formsOfKinds(trace);
  }

  /** The allocation of a row, or -1. */
  allocation(row: number): number {
    return this.#offset[row] < 0 ? -1 : this.#allocations[this.#buffer[row]];
  }

  /** The block in which a row begins, or -1 where it has no time, no place, or one outside of its allocation. */
  firstBlock(row: number): number {
    const offset = this.#offset[row];
    if (offset < 0 || Number.isNaN(this.#begins[row])) return -1;
    const block = Math.floor(offset / BLOCK_BYTES);
    const word = this.#buffer[row];
    return block < this.#blocks[word] ? this.#firstBlocks[word] + block : -1;
  }

  /** The block in which it ends, of a row that has a first one. */
  lastBlock(row: number, first: number): number {
    const bytes = this.#bytes[row];
    if (bytes <= PAGE_SIZE) return first;
    const word = this.#buffer[row];
    const last = Math.floor((this.#offset[row] + bytes - 1) / BLOCK_BYTES);
    return this.#firstBlocks[word] + Math.min(this.#blocks[word] - 1, last);
  }

  /** What the row is on a map: FAULT, MIGRATION, THRASHING or OTHER. */
  form(row: number): number {
    return this.#forms[this.#kind[row]];
  }

  /** Bytes of a row that lie in the block, which counts within all. */
  bytesIn(row: number, block: number): number {
    const offset = this.#offset[row];
    const begin = (block - this.#firstBlocks[this.#buffer[row]]) * BLOCK_BYTES;
    const end = Math.min(begin + BLOCK_BYTES, offset + this.#bytes[row]);
    return Math.max(0, end - Math.max(begin, offset));
  }

  /** Adds what a row did in a block. */
  count(row: number, block: number, into: BlockCounts): void {
    const form = this.form(row);
    if (form === FAULT) into.faults[block]++;
    else if (form === THRASHING) into.thrashing[block]++;
    else if (form === MIGRATION) into.moved[block] += this.bytesIn(row, block);
  }
}
