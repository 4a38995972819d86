/** Orders of many rows by a time: typed arrays alone, and little work where they are nearly in order, as events are. */

/** So many are put in order by moving each to its place. */
const RUN = 32;

/**
 * The positions 0 to n - 1 in ascending order of `keys`, equal ones in their own order; null where they are in order
 * already. A merge sort that touches only what two neighbouring runs have in common.
 */
export function sortedOrder(keys: Float64Array): Uint32Array | null {
  const n = keys.length;
  let ordered = 1;
  while (ordered < n && keys[ordered] >= keys[ordered - 1]) ordered++;
  if (ordered >= n) return null;
  const order = new Uint32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  for (let begin = 0; begin < n; begin += RUN) insertionSort(keys, order, begin, Math.min(n, begin + RUN));
  let spare = new Uint32Array(RUN);
  for (let width = RUN; width < n; width *= 2) {
    for (let begin = 0; begin + width < n; begin += 2 * width) {
      spare = mergeRuns(keys, order, spare, begin, begin + width, Math.min(n, begin + 2 * width));
    }
  }
  return order;
}

function insertionSort(keys: Float64Array, order: Uint32Array, begin: number, end: number): void {
  for (let i = begin + 1; i < end; i++) {
    const one = order[i];
    const key = keys[one];
    let at = i;
    while (at > begin && keys[order[at - 1]] > key) {
      order[at] = order[at - 1];
      at--;
    }
    order[at] = one;
  }
}

/** Merges the runs before and behind `middle` where they lie; returns the spare room, which may have had to grow. */
function mergeRuns(
  keys: Float64Array,
  order: Uint32Array,
  spare: Uint32Array<ArrayBuffer>,
  begin: number,
  middle: number,
  end: number,
): Uint32Array<ArrayBuffer> {
  if (keys[order[middle - 1]] <= keys[order[middle]]) return spare;
  // What is in its place already: the first run up to the second's least, the second from the first's largest on.
  let low = begin;
  let high = middle;
  while (low < high) {
    const half = (low + high) >>> 1;
    if (keys[order[half]] > keys[order[middle]]) high = half;
    else low = half + 1;
  }
  const from = low;
  low = middle;
  high = end;
  while (low < high) {
    const half = (low + high) >>> 1;
    if (keys[order[half]] < keys[order[middle - 1]]) low = half + 1;
    else high = half;
  }
  const to = low;
  const count = middle - from;
  const room = spare.length >= count ? spare : new Uint32Array(Math.max(count, spare.length * 2));
  room.set(order.subarray(from, middle));
  let a = 0;
  let b = middle;
  for (let at = from; a < count; at++) {
    order[at] = b < to && keys[order[b]] < keys[room[a]] ? order[b++] : room[a++];
  }
  return room;
}

/** The first position whose value is at least `value`; the length where there is none. `values` ascend. */
export function lowerBound(values: Float64Array, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The first position whose value is above `value`; the length where there is none. `values` ascend. */
export function upperBound(values: Float64Array, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}
