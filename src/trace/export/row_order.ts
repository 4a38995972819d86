/** Rows of a trace in an order, and slices that overlap on as many lanes as they need. Without an object per row. */

/** The rows that `wanted` says, ascending. */
export function rowsWhere(count: number, wanted: (row: number) => boolean): Uint32Array {
  const rows = new Uint32Array(count);
  let found = 0;
  for (let row = 0; row < count; row++) if (wanted(row)) rows[found++] = row;
  // A part of a large array would keep all of it.
  return found === count ? rows : rows.slice(0, found);
}

const DIGITS = 6;
const DIGIT_BITS = 11;
const DIGIT_VALUES = 1 << DIGIT_BITS;
const DIGIT_MASK = DIGIT_VALUES - 1;

/** The digit of a 64-bit key, 11 bits each, from the least. */
function digitOf(low: number, high: number, digit: number): number {
  if (digit === 0) return low & DIGIT_MASK;
  if (digit === 1) return (low >>> 11) & DIGIT_MASK;
  if (digit === 2) return ((low >>> 22) | (high << 10)) & DIGIT_MASK;
  if (digit === 3) return (high >>> 1) & DIGIT_MASK;
  if (digit === 4) return (high >>> 12) & DIGIT_MASK;
  return high >>> 23;
}

/** The bits of doubles so that they compare as unsigned numbers: sign flipped, all flipped where negative. */
function comparableBits(values: Float64Array): Uint32Array {
  const bits = new Uint32Array(values.buffer);
  for (let i = 0; i < bits.length; i += 2) {
    if (bits[i + 1] >>> 31 === 0) bits[i + 1] = (bits[i + 1] | 0x80000000) >>> 0;
    else {
      bits[i] = ~bits[i];
      bits[i + 1] = ~bits[i + 1];
    }
  }
  return bits;
}

/**
 * The rows, ascending by a number of each that is not NaN; equal ones stay in order. A radix sort: linear, and rows
 * that are in order already cost one look.
 */
export function sortRows(rows: Uint32Array, keyOf: (row: number) => number): Uint32Array {
  const count = rows.length;
  const values = new Float64Array(count);
  let sorted = true;
  for (let i = 0; i < count; i++) {
    // A zero is not to be below another.
    values[i] = keyOf(rows[i]) + 0;
    if (i > 0 && values[i - 1] > values[i]) sorted = false;
  }
  if (sorted) return rows;
  const bits = comparableBits(values);
  const counts = new Uint32Array(DIGITS * DIGIT_VALUES);
  for (let i = 0; i < count; i++) {
    for (let d = 0; d < DIGITS; d++) counts[d * DIGIT_VALUES + digitOf(bits[2 * i], bits[2 * i + 1], d)]++;
  }
  let order = new Uint32Array(count);
  for (let i = 0; i < count; i++) order[i] = i;
  let next = new Uint32Array(count);
  for (let d = 0; d < DIGITS; d++) {
    const at = counts.subarray(d * DIGIT_VALUES, (d + 1) * DIGIT_VALUES);
    if (at[digitOf(bits[0], bits[1], d)] === count) continue;
    let before = 0;
    for (let v = 0; v < DIGIT_VALUES; v++) {
      const here = at[v];
      at[v] = before;
      before += here;
    }
    for (let i = 0; i < count; i++) {
      const one = order[i];
      next[at[digitOf(bits[2 * one], bits[2 * one + 1], d)]++] = one;
    }
    [order, next] = [next, order];
  }
  for (let i = 0; i < count; i++) next[i] = rows[order[i]];
  return next;
}

/** A heap: the least key is at the top. */
interface Heap {
  keys: number[];
  values: number[];
}

function pushHeap({ keys, values }: Heap, key: number, value: number): void {
  let at = keys.length;
  keys.push(key);
  values.push(value);
  while (at > 0) {
    const up = (at - 1) >> 1;
    if (keys[up] <= key) break;
    keys[at] = keys[up];
    values[at] = values[up];
    at = up;
  }
  keys[at] = key;
  values[at] = value;
}

/** Takes the top off and gives its value. */
function popHeap({ keys, values }: Heap): number {
  const top = values[0];
  const key = keys.pop() as number;
  const value = values.pop() as number;
  const count = keys.length;
  if (count === 0) return top;
  let at = 0;
  for (;;) {
    let down = 2 * at + 1;
    if (down >= count) break;
    if (down + 1 < count && keys[down + 1] < keys[down]) down++;
    if (keys[down] >= key) break;
    keys[at] = keys[down];
    values[at] = values[down];
    at = down;
  }
  keys[at] = key;
  values[at] = value;
  return top;
}

/** Says on which lane a slice goes, so that none overlap there. Slices come by their begin. */
export interface Lanes {
  /** The first free lane, from 0. */
  place(begin: number, end: number): number;
}

export function createLanes(): Lanes {
  const busy: Heap = { keys: [], values: [] };
  const free: Heap = { keys: [], values: [] };
  let lanes = 0;
  return {
    place: (begin, end) => {
      while (busy.keys.length > 0 && busy.keys[0] <= begin) {
        const lane = popHeap(busy);
        pushHeap(free, lane, lane);
      }
      const lane = free.keys.length > 0 ? popHeap(free) : lanes++;
      pushHeap(busy, end, lane);
      return lane;
    },
  };
}
