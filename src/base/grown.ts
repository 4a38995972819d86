type Grows = Float64Array | Int32Array | Uint32Array | Uint16Array | Uint8Array;

/** A longer copy of an array; what it has more is 0. */
export function grown<T extends Grows>(old: T, length: number): T {
  const longer = new (old.constructor as new (length: number) => T)(length);
  longer.set(old);
  return longer;
}
