/**
 * The rows of each block of 2 MiB in order of time, and how much happened in it within a window: what the map and the
 * picture of a block are made from. A row that reaches over several blocks is in each of them.
 */
import { PAGE_SIZE } from '../base/units.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { allocationsOfWords, BLOCK_BYTES, FAULT, formsOfKinds, MIGRATION, type Places, THRASHING } from './places.ts';
import { sortedOrder } from './sort_rows.ts';

/** Sums are kept for each so many places. */
const CHECKPOINT = 64;
/** Places for each row that rows over several blocks may take, beyond a room that every trace has. */
const SPREAD = 4;
const SPREAD_ROOM = 2 ** 22;

export class BlockRows {
  /** Those of block b are `rows[start[b]]` to before `rows[start[b + 1]]`, by begin and then by row. */
  readonly start: Uint32Array;
  readonly rows: Uint32Array;
  readonly #trace: Trace;
  readonly #places: Places;
  readonly #begins: Float64Array;
  readonly #allocations: Int32Array;
  readonly #forms: Uint8Array;
  /** Sums over all places before each CHECKPOINT of them. */
  readonly #faults: Uint32Array;
  readonly #thrashing: Uint32Array;
  readonly #moved: Float64Array;

  /** Throws RangeError where rows reach over very many blocks. */
  constructor(trace: Trace, places: Places, begins: Float64Array) {
    this.#trace = trace;
    this.#places = places;
    this.#begins = begins;
    this.#allocations = allocationsOfWords(trace);
    this.#forms = formsOfKinds(trace);
    const { count } = trace.columns;
    const start = new Uint32Array(places.blocks + 1);
    let taken = 0;
    for (let i = 0; i < count; i++) {
      const first = this.firstBlock(i);
      if (first < 0) continue;
      const last = this.lastBlock(i, first);
      taken += last - first + 1;
      if (taken > count * SPREAD + SPREAD_ROOM) {
        throw new RangeError('rows reach over so many blocks that there is no room for a map of them');
      }
      for (let b = first; b <= last; b++) start[b + 1]++;
    }
    for (let b = 0; b < places.blocks; b++) start[b + 1] += start[b];
    this.start = start;
    this.rows = new Uint32Array(start[places.blocks]);
    const next = start.slice(0, places.blocks);
    for (let i = 0; i < count; i++) {
      const first = this.firstBlock(i);
      if (first < 0) continue;
      const last = this.lastBlock(i, first);
      for (let b = first; b <= last; b++) this.rows[next[b]++] = i;
    }
    for (let b = 0; b < places.blocks; b++) this.#sort(b);
    const points = Math.floor(this.rows.length / CHECKPOINT) + 1;
    this.#faults = new Uint32Array(points);
    this.#thrashing = new Uint32Array(points);
    this.#moved = new Float64Array(points);
    this.#addCheckpoints();
  }

  /** The block in which a row begins, or -1 where it has no time, no place, or one outside of its allocation. */
  firstBlock(row: number): number {
    const { arrays: a } = this.#trace.columns;
    const offset = a.offset[row];
    const allocation = offset < 0 ? -1 : this.#allocations[a.buffer[row]];
    if (allocation < 0 || Number.isNaN(this.#begins[row])) return -1;
    const { firstBlock, blocks } = this.#places.list[allocation];
    const block = Math.floor(offset / BLOCK_BYTES);
    return block < blocks ? firstBlock + block : -1;
  }

  /** The block in which it ends. */
  lastBlock(row: number, first: number): number {
    const { arrays: a } = this.#trace.columns;
    if (a.bytes[row] <= PAGE_SIZE) return first;
    const { firstBlock, blocks } = this.#places.list[this.#allocations[a.buffer[row]]];
    const last = Math.floor((a.offset[row] + a.bytes[row] - 1) / BLOCK_BYTES);
    return firstBlock + Math.min(blocks - 1, last);
  }

  /** The allocation of a row, or -1. */
  allocation(row: number): number {
    const { arrays: a } = this.#trace.columns;
    return a.offset[row] < 0 ? -1 : this.#allocations[a.buffer[row]];
  }

  #sort(block: number): void {
    const begin = this.start[block];
    const end = this.start[block + 1];
    let before = Number.NEGATIVE_INFINITY;
    for (let at = begin; at < end; at++) {
      const time = this.timeAt(at);
      if (time < before) {
        const rows = this.rows.subarray(begin, end);
        const order = sortedOrder(Float64Array.from(rows, (row) => this.#begins[row]));
        if (order !== null) rows.set(order.map((position) => rows[position]));
        return;
      }
      before = time;
    }
  }

  /** Begin of the row at a place. */
  timeAt(at: number): number {
    return this.#begins[this.rows[at]];
  }

  /** The first place of the block whose row begins at `time` or later (`after`: later); the block's end for none. */
  find(block: number, time: number, after = false): number {
    let low = this.start[block];
    let high = this.start[block + 1];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const its = this.timeAt(middle);
      if (after ? its <= time : its < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** What the row is on a map: FAULT, MIGRATION, THRASHING or OTHER. */
  formOf(row: number): number {
    return this.#forms[this.#trace.columns.arrays.kind[row]];
  }

  /** Bytes of a row that lie in the block, which counts within all. */
  #bytesIn(row: number, block: number): number {
    const { arrays: a } = this.#trace.columns;
    const { firstBlock } = this.#places.list[this.#allocations[a.buffer[row]]];
    const begin = (block - firstBlock) * BLOCK_BYTES;
    const end = Math.min(begin + BLOCK_BYTES, a.offset[row] + a.bytes[row]);
    return Math.max(0, end - Math.max(begin, a.offset[row]));
  }

  #addCheckpoints(): void {
    let faults = 0;
    let thrashing = 0;
    let moved = 0;
    for (let block = 0; block < this.#places.blocks; block++) {
      for (let at = this.start[block]; at < this.start[block + 1]; at++) {
        if (at % CHECKPOINT === 0) {
          this.#faults[at / CHECKPOINT] = faults;
          this.#thrashing[at / CHECKPOINT] = thrashing;
          this.#moved[at / CHECKPOINT] = moved;
        }
        const form = this.formOf(this.rows[at]);
        if (form === FAULT) faults++;
        else if (form === THRASHING) thrashing++;
        else if (form === MIGRATION) moved += this.#bytesIn(this.rows[at], block);
      }
    }
    // What lies behind the last place is asked for as the end of the last block.
    const end = this.rows.length;
    if (end % CHECKPOINT === 0) {
      this.#faults[end / CHECKPOINT] = faults;
      this.#thrashing[end / CHECKPOINT] = thrashing;
      this.#moved[end / CHECKPOINT] = moved;
    }
  }

  /** Adds what rows of a block that begin within a window did, edges included, to the block's place in each list. */
  addWithin(
    block: number,
    begin: number,
    end: number,
    into: { faults: Uint32Array; thrashing: Uint32Array; moved: Float64Array },
  ): void {
    const from = this.find(block, begin);
    const to = this.find(block, end, true);
    if (from >= to) return;
    const first = Math.ceil(from / CHECKPOINT);
    const last = Math.floor(to / CHECKPOINT);
    if (first >= last) {
      this.#addRows(block, from, to, into);
      return;
    }
    this.#addRows(block, from, first * CHECKPOINT, into);
    into.faults[block] += this.#faults[last] - this.#faults[first];
    into.thrashing[block] += this.#thrashing[last] - this.#thrashing[first];
    into.moved[block] += this.#moved[last] - this.#moved[first];
    this.#addRows(block, last * CHECKPOINT, to, into);
  }

  #addRows(
    block: number,
    from: number,
    to: number,
    into: { faults: Uint32Array; thrashing: Uint32Array; moved: Float64Array },
  ): void {
    for (let at = from; at < to; at++) {
      const form = this.formOf(this.rows[at]);
      if (form === FAULT) into.faults[block]++;
      else if (form === THRASHING) into.thrashing[block]++;
      else if (form === MIGRATION) into.moved[block] += this.#bytesIn(this.rows[at], block);
    }
  }
}
