/**
 * The CPU page tables of the process, as far as managed memory goes: what Linux does for `vm_insert_page` and
 * `unmap_mapping_range`. The entries live in the block's masks B_MM_PRESENT and B_MM_WRITE, apart from the driver's own
 * belief (B_CPU_READ, B_CPU_WRITE), because the kernel may drop entries on its own.
 */
import { maskClearRegion, maskSet, maskTest } from '../../base/page_mask.ts';

/** Offsets of the two masks in the words handed in (see uvm/va_block_types.ts). */
const PRESENT = 64;
const WRITE = 80;

/** True when a CPU access to the page succeeds without a fault. */
export function mmPagePresent(w: Uint32Array, page: number, write: boolean): boolean {
  return maskTest(w, write ? WRITE : PRESENT, page);
}

/** vm_insert_page: one 4 KiB entry; the page must not be present. */
export function mmInsertPage(w: Uint32Array, page: number, writable: boolean): void {
  maskSet(w, PRESENT, page);
  if (writable) maskSet(w, WRITE, page);
}

/** unmap_mapping_range on `[first, outer)`. */
export function mmUnmapRange(w: Uint32Array, first: number, outer: number): void {
  maskClearRegion(w, PRESENT, first, outer);
  maskClearRegion(w, WRITE, first, outer);
}
