/**
 * Models lib/sort.c of Linux as the UVM driver (580.105.08) uses it: sort(), a heap sort. It is not stable, so the
 * order of equal elements is an outcome of its steps; uvm_gpu_replayable_faults.c sorts faults with it, and the order
 * of equal faults can be seen in recordings.
 *
 * The order of ties differs between kernels. This is the variant since Linux 6.10: the sift-down walks to a leaf first
 * and turns right at equal children, and each round takes the root and the larger of its children. Of the variants it
 * is the one that agrees with recordings of an H200.
 *
 * Elements are row numbers in `order`; a row's key is (primary, secondary, tertiary), ascending. Keys stay in place, so
 * that a swap moves one number.
 */

/** Order of rows x and y: negative, 0 or positive. */
function compareRows(x: number, y: number, primary: Int32Array, secondary: Float64Array, tertiary: Uint8Array): number {
  if (primary[x] !== primary[y]) return primary[x] - primary[y];
  if (secondary[x] !== secondary[y]) return secondary[x] < secondary[y] ? -1 : 1;
  return tertiary[x] - tertiary[y];
}

/** Sinks the element at `top` into the heap of the first `size` elements. */
function siftDown(
  order: Int32Array,
  top: number,
  size: number,
  primary: Int32Array,
  secondary: Float64Array,
  tertiary: Uint8Array,
): void {
  // To the leaf along the larger children: most elements end up near there, so comparing on the way back is cheaper.
  let at = top;
  let child = 2 * at + 1;
  while (child + 1 < size) {
    at = compareRows(order[child], order[child + 1], primary, secondary, tertiary) > 0 ? child : child + 1;
    child = 2 * at + 1;
  }
  if (child + 1 === size) at = child;

  const element = order[top];
  while (at !== top && compareRows(element, order[at], primary, secondary, tertiary) >= 0) at = (at - 1) >> 1;

  // The elements on the path move up by one place.
  let carried = element;
  for (;;) {
    const passed = order[at];
    order[at] = carried;
    if (at === top) break;
    carried = passed;
    at = (at - 1) >> 1;
  }
}

/** True when rows are in strictly ascending order: then every sort leaves them as they are. */
function strictlySorted(
  order: Int32Array,
  count: number,
  primary: Int32Array,
  secondary: Float64Array,
  tertiary: Uint8Array,
): boolean {
  for (let i = 1; i < count; i++) {
    if (compareRows(order[i - 1], order[i], primary, secondary, tertiary) >= 0) return false;
  }
  return true;
}

/** Sorts the first `count` rows of `order` by their keys. */
export function sortRows(
  order: Int32Array,
  count: number,
  primary: Int32Array,
  secondary: Float64Array,
  tertiary: Uint8Array,
): void {
  if (count < 2 || strictlySorted(order, count, primary, secondary, tertiary)) return;
  for (let top = (count >> 1) - 1; top >= 0; top--) siftDown(order, top, count, primary, secondary, tertiary);

  let size = count;
  while (size > 3) {
    size--;
    const root = order[0];
    order[0] = order[size];
    order[size] = root;
    const larger = compareRows(order[1], order[2], primary, secondary, tertiary) <= 0 ? 2 : 1;
    size--;
    const second = order[larger];
    order[larger] = order[size];
    order[size] = second;
    // First the hole that the child left, then the root.
    for (let top = larger; top >= 0; top -= larger) siftDown(order, top, size, primary, secondary, tertiary);
  }

  size--;
  const last = order[0];
  order[0] = order[size];
  order[size] = last;
  if (size === 2 && compareRows(order[0], order[1], primary, secondary, tertiary) > 0) {
    const first = order[0];
    order[0] = order[1];
    order[1] = first;
  }
}
