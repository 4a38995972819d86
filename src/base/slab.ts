/**
 * Small `Uint32Array`s cut from larger ones. An array of its own costs several hundred bytes besides its words; a piece
 * of a slab costs about a hundred. Pieces are never given back: they go with the slab.
 */
export interface Slab {
  /** The slab that pieces are cut from now. */
  words: Uint32Array;
  used: number;
}

const FIRST_WORDS = 1 << 11;
const MOST_WORDS = 1 << 18;

export function createSlab(): Slab {
  return { words: new Uint32Array(FIRST_WORDS), used: 0 };
}

/** A zeroed piece of `count` words, at most half of the largest slab. */
export function slabTake(slab: Slab, count: number): Uint32Array {
  if (slab.used + count > slab.words.length) {
    slab.words = new Uint32Array(Math.min(slab.words.length * 2, MOST_WORDS));
    slab.used = 0;
  }
  const piece = slab.words.subarray(slab.used, slab.used + count);
  slab.used += count;
  return piece;
}
