/**
 * The rows of each block of 2 MiB in order of time, and how much happened in it within a window: what the map and the
 * picture of a block are made from. A row that reaches over several blocks is in each of them.
 */
import { FAULT, MIGRATION, type Places, THRASHING } from './places.ts';
import { type BlockCounts, checkSpread, type RowPlaces } from './row_places.ts';
import { SLICE_ROWS, type Slices } from './slices.ts';
import { sortedOrder } from './sort_rows.ts';

/** Sums are kept for each so many places. */
const CHECKPOINT = 64;

export class BlockRows {
  /** Those of block b are `rows[start[b]]` to before `rows[start[b + 1]]`, by begin and then by row. */
  readonly start: Uint32Array;
  rows = new Uint32Array(0);
  readonly #rowPlaces: RowPlaces;
  readonly #begins: Float64Array;
  /** Sums over all places before each CHECKPOINT of them. */
  #faults = new Uint32Array(0);
  #thrashing = new Uint32Array(0);
  #moved = new Float64Array(0);

  private constructor(blocks: number, rowPlaces: RowPlaces, begins: Float64Array) {
    this.#rowPlaces = rowPlaces;
    this.#begins = begins;
    this.start = new Uint32Array(blocks + 1);
  }

  /**
   * `begins` has the begin of each of the trace's `count` rows. Throws RangeError where rows reach over very many
   * blocks.
   */
  static *of(count: number, places: Places, rowPlaces: RowPlaces, begins: Float64Array): Slices<BlockRows> {
    const all = new BlockRows(places.blocks, rowPlaces, begins);
    yield* all.#fill(count, places.blocks);
    return all;
  }

  *#fill(count: number, blocks: number): Slices<void> {
    const { start } = this;
    const rowPlaces = this.#rowPlaces;
    let taken = 0;
    for (let i = 0; i < count; i++) {
      if (i % SLICE_ROWS === 0) yield;
      const first = rowPlaces.firstBlock(i);
      if (first < 0) continue;
      const last = rowPlaces.lastBlock(i, first);
      taken += last - first + 1;
      checkSpread(taken, count);
      for (let b = first; b <= last; b++) start[b + 1]++;
    }
    for (let b = 0; b < blocks; b++) start[b + 1] += start[b];
    this.rows = new Uint32Array(start[blocks]);
    const next = start.slice(0, blocks);
    for (let i = 0; i < count; i++) {
      if (i % SLICE_ROWS === 0) yield;
      const first = rowPlaces.firstBlock(i);
      if (first < 0) continue;
      const last = rowPlaces.lastBlock(i, first);
      for (let b = first; b <= last; b++) this.rows[next[b]++] = i;
    }
    let done = 0;
    for (let b = 0; b < blocks; b++) {
      this.#sort(b);
      done += start[b + 1] - start[b];
      if (done <= SLICE_ROWS) continue;
      done = 0;
      yield;
    }
    const points = Math.floor(this.rows.length / CHECKPOINT) + 1;
    this.#faults = new Uint32Array(points);
    this.#thrashing = new Uint32Array(points);
    this.#moved = new Float64Array(points);
    this.#addCheckpoints(blocks);
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

  #addCheckpoints(blocks: number): void {
    let faults = 0;
    let thrashing = 0;
    let moved = 0;
    const keep = (at: number): void => {
      this.#faults[at / CHECKPOINT] = faults;
      this.#thrashing[at / CHECKPOINT] = thrashing;
      this.#moved[at / CHECKPOINT] = moved;
    };
    for (let block = 0; block < blocks; block++) {
      for (let at = this.start[block]; at < this.start[block + 1]; at++) {
        if (at % CHECKPOINT === 0) keep(at);
        const row = this.rows[at];
        const form = this.#rowPlaces.form(row);
        if (form === FAULT) faults++;
        else if (form === THRASHING) thrashing++;
        else if (form === MIGRATION) moved += this.#rowPlaces.bytesIn(row, block);
      }
    }
    // What lies behind the last place is asked for as the end of the last block.
    if (this.rows.length % CHECKPOINT === 0) keep(this.rows.length);
  }

  /** Adds what rows of a block that begin within a window did, edges included, to the block's place in each list. */
  addWithin(block: number, begin: number, end: number, into: BlockCounts): void {
    const from = this.find(block, begin);
    const to = this.find(block, end, true);
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

  #addRows(block: number, from: number, to: number, into: BlockCounts): void {
    for (let at = from; at < to; at++) this.#rowPlaces.count(this.rows[at], block, into);
  }
}
