/** Sizes shared by all rooms. Addresses are 4 KiB page numbers inside; bytes occur at the edges only. */
export const PAGE_SIZE = 4096;
/** Pages in 2 MiB, the largest VA block. */
export const PAGES_PER_BLOCK = 512;
/** Pages in the 64 KiB "big" page of the GPU's MMU. */
export const PAGES_PER_BIG_PAGE = 16;
/** Big pages in 2 MiB. */
export const BIG_PAGES_PER_BLOCK = 32;
