/** Rows in the order of their times, fast for ten million of them: a radix sort on the bits of the numbers. */

const DIGIT = 16;
const DIGITS = 2 ** DIGIT;

/** Whether the times do not fall. NaN counts as falling. */
function rises(times: Float64Array, count: number): boolean {
  for (let i = 1; i < count; i++) if (!(times[i] >= times[i - 1])) return false;
  return count === 0 || !Number.isNaN(times[0]);
}

/**
 * Indices 0 to `count` - 1 by `times`, equal ones in their order; NaN comes last. `times` is not changed.
 */
export function timeOrder(times: Float64Array, count: number): Uint32Array {
  let from = new Uint32Array(count);
  for (let i = 0; i < count; i++) from[i] = i;
  if (rises(times, count)) return from;
  // As unsigned numbers the bits of doubles rise with them, once those of negative ones are turned round.
  const bits = new Uint32Array(new Float64Array(times.subarray(0, count)).buffer);
  for (let i = 0; i < count; i++) {
    const high = bits[2 * i + 1];
    if (Number.isNaN(times[i])) {
      bits[2 * i] = 0xffffffff;
      bits[2 * i + 1] = 0xffffffff;
    } else if (high >>> 31 === 1 && times[i] !== 0) {
      bits[2 * i] = ~bits[2 * i];
      bits[2 * i + 1] = ~high;
    } else bits[2 * i + 1] = times[i] === 0 ? 0x80000000 : high | 0x80000000;
  }
  let to = new Uint32Array(count);
  const starts = new Uint32Array(DIGITS);
  for (let pass = 0; pass < 4; pass++) {
    const word = pass >> 1;
    const shift = (pass & 1) * DIGIT;
    starts.fill(0);
    for (let i = 0; i < count; i++) starts[(bits[2 * i + word] >>> shift) & (DIGITS - 1)]++;
    // All alike in this digit: nothing to do.
    if (starts[(bits[word] >>> shift) & (DIGITS - 1)] === count) continue;
    for (let d = 0, sum = 0; d < DIGITS; d++) {
      const here = starts[d];
      starts[d] = sum;
      sum += here;
    }
    for (let i = 0; i < count; i++) {
      const row = from[i];
      to[starts[(bits[2 * row + word] >>> shift) & (DIGITS - 1)]++] = row;
    }
    [from, to] = [to, from];
  }
  return from;
}

/** The length of the union of intervals by their begins and ends; those that end before they begin are none. */
export function unionLength(begins: Float64Array, ends: Float64Array, count: number): number {
  let sum = 0;
  let reach = Number.NEGATIVE_INFINITY;
  for (const i of timeOrder(begins, count)) {
    const begin = Math.max(begins[i], reach);
    if (ends[i] > begin) sum += ends[i] - begin;
    if (ends[i] > reach) reach = ends[i];
  }
  return sum;
}
