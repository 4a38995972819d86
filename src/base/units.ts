/** Sizes shared by all rooms. Addresses are 4 KiB page numbers inside; bytes occur at the edges only. */
export const PAGE_SIZE = 4096;
/** Pages in 2 MiB, the largest VA block. */
export const PAGES_PER_BLOCK = 512;
/** Pages in the 64 KiB "big" page of the GPU's MMU. */
export const PAGES_PER_BIG_PAGE = 16;
/** Big pages in 2 MiB. */
export const BIG_PAGES_PER_BLOCK = 32;

/**
 * Place of a page in its 2 MiB of address space, 0 to 511. Not the remainder operator: for numbers beyond 32 bits it is
 * several times slower.
 */
export function pageInBlockExtent(page: number): number {
  return page - Math.floor(page / PAGES_PER_BLOCK) * PAGES_PER_BLOCK;
}

/** Place of a page in its 64 KiB of address space, 0 to 15; see pageInBlockExtent. */
export function pageInBigPage(page: number): number {
  return page - Math.floor(page / PAGES_PER_BIG_PAGE) * PAGES_PER_BIG_PAGE;
}
