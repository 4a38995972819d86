/**
 * Work that takes long in slices: a generator that yields between them, so that whoever holds a trace can answer other
 * questions in between.
 */
export type Slices<T> = Generator<void, T>;

/** Rows that a slice goes through: some tens of milliseconds. */
export const SLICE_ROWS = 2 ** 18;

/** All of it at once. */
export function runSlices<T>(slices: Slices<T>): T {
  for (;;) {
    const { done, value } = slices.next();
    if (done) return value as T;
  }
}

/** All of it, with a pause behind each slice. */
export async function runSlicesWith<T>(slices: Slices<T>, pause: () => Promise<void>): Promise<T> {
  for (;;) {
    const { done, value } = slices.next();
    if (done) return value as T;
    await pause();
  }
}
