/** Orders of many rows by a time: typed arrays alone, and little work where they are nearly in order, as events are. */

/**
 * The positions 0 to n - 1 in ascending order of `keys`, equal ones in their own order; null where they are in order
 * already. A merge sort over the runs that there are: n comparisons for each doubling of their length.
 */
export function sortedOrder(keys: Float64Array): Uint32Array | null {
  const n = keys.length;
  const starts: number[] = [0];
  for (let i = 1; i < n; i++) if (keys[i] < keys[i - 1]) starts.push(i);
  if (starts.length === 1) return null;
  let from = new Uint32Array(n);
  let to = new Uint32Array(n);
  for (let i = 0; i < n; i++) from[i] = i;
  let runs = starts;
  while (runs.length > 1) {
    const merged: number[] = [];
    for (let r = 0; r < runs.length; r += 2) {
      const begin = runs[r];
      const middle = r + 1 < runs.length ? runs[r + 1] : n;
      const end = r + 2 < runs.length ? runs[r + 2] : n;
      mergeRuns(keys, from, to, begin, middle, end);
      merged.push(begin);
    }
    [from, to] = [to, from];
    runs = merged;
  }
  return from;
}

function mergeRuns(
  keys: Float64Array,
  from: Uint32Array,
  to: Uint32Array,
  begin: number,
  middle: number,
  end: number,
): void {
  let a = begin;
  let b = middle;
  for (let at = begin; at < end; at++) {
    const takeA = a < middle && (b >= end || keys[from[a]] <= keys[from[b]]);
    to[at] = takeA ? from[a++] : from[b++];
  }
}

/** The first position whose value is at least `value`; the length where there is none. `values` ascend. */
export function lowerBound(values: Float64Array, value: number, count = values.length): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The first position whose value is above `value`; the length where there is none. `values` ascend. */
export function upperBound(values: Float64Array, value: number, count = values.length): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}
