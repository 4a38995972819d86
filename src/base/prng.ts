/**
 * The one source of chance: xoshiro128** on four 32-bit words. Integers only, so that every machine draws the same
 * numbers; the state is plain and can be stored in a snapshot.
 */
export interface Prng {
  readonly s: Uint32Array;
}

function splitmix32(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x9e3779b9) >>> 0;
    let t = a ^ (a >>> 16);
    t = Math.imul(t, 0x21f0aaad);
    t ^= t >>> 15;
    t = Math.imul(t, 0x735a2d97);
    return (t ^ (t >>> 15)) >>> 0;
  };
}

export function createPrng(seed: number): Prng {
  const next = splitmix32(seed);
  return { s: Uint32Array.of(next(), next(), next(), next()) };
}

/** A uniform 32-bit word. */
export function prngNext(p: Prng): number {
  const s = p.s;
  const m = Math.imul(s[1], 5);
  const result = Math.imul((m << 7) | (m >>> 25), 9) >>> 0;
  const t = s[1] << 9;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = (s[3] << 11) | (s[3] >>> 21);
  return result;
}

/** A uniform integer in `[0, bound)`; `bound` is at least 1 and at most 2^32. Unbiased by rejection. */
export function prngBelow(p: Prng, bound: number): number {
  const limit = 4294967296 - (4294967296 % bound);
  let v = prngNext(p);
  while (v >= limit) v = prngNext(p);
  return v % bound;
}

/** True with probability `numerator / denominator`. */
export function prngChance(p: Prng, numerator: number, denominator: number): boolean {
  return prngBelow(p, denominator) < numerator;
}
