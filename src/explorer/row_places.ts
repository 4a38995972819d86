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

export class RowPlaces {
  readonly #trace: Trace;
  readonly #places: Places;
  readonly #begins: Float64Array;
  readonly #allocations: Int32Array;
  readonly #forms: Uint8Array;

  /** The columns PLACES of trace_index.ts must be there. */
  constructor(trace: Trace, places: Places, begins: Float64Array) {
    this.#trace = trace;
    this.#places = places;
    this.#begins = begins;
    this.#allocations = allocationsOfWords(trace);
    this.#forms = formsOfKinds(trace);
  }

  /** The allocation of a row, or -1. */
  allocation(row: number): number {
    const { arrays: a } = this.#trace.columns;
    return a.offset[row] < 0 ? -1 : this.#allocations[a.buffer[row]];
  }

  /** The block in which a row begins, or -1 where it has no time, no place, or one outside of its allocation. */
  firstBlock(row: number): number {
    const allocation = this.allocation(row);
    if (allocation < 0 || Number.isNaN(this.#begins[row])) return -1;
    const { firstBlock, blocks } = this.#places.list[allocation];
    const block = Math.floor(this.#trace.columns.arrays.offset[row] / BLOCK_BYTES);
    return block < blocks ? firstBlock + block : -1;
  }

  /** The block in which it ends, of a row that has a first one. */
  lastBlock(row: number, first: number): number {
    const { arrays: a } = this.#trace.columns;
    if (a.bytes[row] <= PAGE_SIZE) return first;
    const { firstBlock, blocks } = this.#places.list[this.#allocations[a.buffer[row]]];
    const last = Math.floor((a.offset[row] + a.bytes[row] - 1) / BLOCK_BYTES);
    return firstBlock + Math.min(blocks - 1, last);
  }

  /** What the row is on a map: FAULT, MIGRATION, THRASHING or OTHER. */
  form(row: number): number {
    return this.#forms[this.#trace.columns.arrays.kind[row]];
  }

  /** Bytes of a row that lie in the block, which counts within all. */
  bytesIn(row: number, block: number): number {
    const { arrays: a } = this.#trace.columns;
    const { firstBlock } = this.#places.list[this.#allocations[a.buffer[row]]];
    const begin = (block - firstBlock) * BLOCK_BYTES;
    const end = Math.min(begin + BLOCK_BYTES, a.offset[row] + a.bytes[row]);
    return Math.max(0, end - Math.max(begin, a.offset[row]));
  }

  /** Adds what a row did in a block. */
  count(row: number, block: number, into: BlockCounts): void {
    const form = this.form(row);
    if (form === FAULT) into.faults[block]++;
    else if (form === THRASHING) into.thrashing[block]++;
    else if (form === MIGRATION) into.moved[block] += this.bytesIn(row, block);
  }
}
