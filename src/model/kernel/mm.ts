/**
 * The CPU page tables of the process, as far as managed memory goes: what Linux does for `vm_insert_page` and
 * `unmap_mapping_range`. The entries live in the block's masks B_MM_PRESENT and B_MM_WRITE, apart from the driver's own
 * belief (B_CPU_READ, B_CPU_WRITE), because the kernel may drop entries on its own.
 */
import { maskClearRegion, maskOr, maskTest } from '../../base/page_mask.ts';

/** Offsets of the two masks in the words handed in (see uvm/va_block_types.ts). */
const PRESENT = 64;
const WRITE = 80;

/** True when a CPU access to the page succeeds without a fault. */
export function mmPagePresent(w: Uint32Array, page: number, write: boolean): boolean {
  return maskTest(w, write ? WRITE : PRESENT, page);
}

/** vm_insert_page for each page of the mask `pages[o]`: 4 KiB entries; none of the pages is present. */
export function mmInsertPages(w: Uint32Array, pages: Uint32Array, o: number, writable: boolean): void {
  maskOr(w, PRESENT, pages, o);
  if (writable) maskOr(w, WRITE, pages, o);
}

/** unmap_mapping_range on `[first, outer)`. */
export function mmUnmapRange(w: Uint32Array, first: number, outer: number): void {
  maskClearRegion(w, PRESENT, first, outer);
  maskClearRegion(w, WRITE, first, outer);
}
