/**
 * The CPU page tables of the process, as far as managed memory goes: what Linux does for `vm_insert_page` and
 * `unmap_mapping_range`. The entries live in the block's masks B_MM_PRESENT and B_MM_WRITE, apart from the driver's own
 * belief (B_CPU_READ, B_CPU_WRITE), because the kernel may drop entries on its own.
 *
 * Also the rest of an address space as far as pinning goes (mm_struct, pin_user_pages): which pages are plain memory,
 * and which of them are pinned. A frame is named by the virtual page that maps it, or by a negative number when none
 * does: a kernel page, or a pinned page that was unmapped.
 */
import { assert } from '../../base/assert.ts';
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

/** Pages `[startPage, outerPage)` of plain memory. */
export interface PlainMemory {
  startPage: number;
  outerPage: number;
}

/** mm_struct: its plain memory. Managed memory is known by VaSpace.mm. */
export interface AddressSpace {
  plain: PlainMemory[];
}

/** Memory that stays where it is until it is unpinned. */
export interface Pin {
  live: boolean;
  /** Number of the address space, or -1 for pages of the kernel. */
  mm: number;
  /** Frames by page. */
  frames: number[];
}

/** The slice of the model's kernel that this file works on. */
interface Memory {
  addressSpaces: AddressSpace[];
  pins: Pin[];
  nextFrame: number;
}

/** A new process's address space; returns its number. */
export function mmCreate(k: Memory): number {
  k.addressSpaces.push({ plain: [] });
  return k.addressSpaces.length - 1;
}

/** mmap of plain memory. */
export function mmMapPlain(k: Memory, mm: number, startPage: number, pages: number): void {
  k.addressSpaces[mm].plain.push({ startPage, outerPage: startPage + pages });
}

export function mmIsPlain(k: Memory, mm: number, page: number): boolean {
  return k.addressSpaces[mm].plain.some((range) => page >= range.startPage && page < range.outerPage);
}

/**
 * munmap of plain memory that was mapped in one piece. Pinned pages live on as frames without an address: `moved` is
 * told of each, with its page and the number of its frame from now on.
 */
export function mmUnmapPlain(
  k: Memory,
  mm: number,
  startPage: number,
  moved: (page: number, frame: number) => void,
): void {
  const { plain } = k.addressSpaces[mm];
  const at = plain.findIndex((range) => range.startPage === startPage);
  assert(at >= 0, 'plain memory is unmapped as it was mapped');
  const { outerPage } = plain[at];
  plain.splice(at, 1);
  for (const pin of k.pins) {
    if (!pin.live || pin.mm !== mm) continue;
    for (const [i, page] of pin.frames.entries()) {
      if (page < startPage || page >= outerPage) continue;
      const frame = k.nextFrame--;
      // Two pins of one page hold one frame.
      for (const other of k.pins) {
        if (!other.live || other.mm !== mm) continue;
        const again = other.frames.indexOf(page);
        if (again >= 0) other.frames[again] = frame;
      }
      pin.frames[i] = frame;
      moved(page, frame);
    }
  }
}

function pin(k: Memory, mm: number, frames: number[]): number {
  let slot = k.pins.findIndex((other) => !other.live);
  if (slot < 0) slot = k.pins.length;
  k.pins[slot] = { live: true, mm, frames };
  return slot;
}

/** Pins `pages` pages of plain memory for writing (pin_user_pages); returns the slot. */
export function mmPin(k: Memory, mm: number, startPage: number, pages: number): number {
  return pin(
    k,
    mm,
    Array.from({ length: pages }, (_, i) => startPage + i),
  );
}

/** Takes `pages` pages of the kernel's own memory, which never move; returns the slot. */
export function mmAllocKernelPages(k: Memory, pages: number): number {
  const first = k.nextFrame;
  k.nextFrame -= pages;
  return pin(
    k,
    -1,
    Array.from({ length: pages }, (_, i) => first - i),
  );
}

/** Gives a slot back; frames without an address end with it, and `freed` is told of each. */
export function mmUnpin(k: Memory, slot: number, freed: (frame: number) => void): void {
  const gone = k.pins[slot];
  assert(gone.live, 'memory is unpinned once');
  gone.live = false;
  for (const frame of gone.frames) {
    if (frame < 0 && !k.pins.some((other) => other.live && other.frames.includes(frame))) freed(frame);
  }
  gone.frames = [];
}
