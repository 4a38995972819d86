/**
 * What the MMU of a Hopper GPU walks for managed memory: for each 2 MiB of its address space the dual page directory
 * entry (PDE0), the 64 KiB ("big") table and the 4 KiB table behind it. Levels above PDE0 add nothing to a fault's type
 * and are left out; so is the TLB, since the driver always invalidates before it relies on a change.
 *
 * Geometry and the meaning of the "unmapped" big entry: uvm_hopper_mmu.c and uvm_va_block.h, driver 580.105.08. Where
 * the walk stops decides the fault type: at PDE0 or above INVALID_PDE, inside a table INVALID_PTE.
 */
import { createSlab, type Slab, slabTake } from '../../base/slab.ts';
import { BIG_PAGES_PER_BLOCK, PAGES_PER_BIG_PAGE, PAGES_PER_BLOCK, pageInBlockExtent } from '../../base/units.ts';

/** Levels of pushPte: the PDE0 entry as a 2 MiB PTE, the PDE0 entry as a directory, a big PTE, a 4 KiB PTE. */
export const PTE_LEVEL_2M = 0;
export const PTE_LEVEL_PDE = 1;
export const PTE_LEVEL_BIG = 2;
export const PTE_LEVEL_4K = 3;

/** A PTE: bit 0 valid, bits 1-2 protection (1 read, 2 write, 3 atomic), bits 3-6 the processor that owns the memory. */
export const PTE_INVALID = 0;
/** Big entry that stops the walk although nothing is mapped. */
export const PTE_BIG_UNMAPPED = 0x80;
const PDE_TABLES = 0x81;

export function makePte(protection: number, target: number): number {
  return 1 | (protection << 1) | (target << 3);
}

/** The translation succeeded. */
export const MMU_OK = -1;
/** Hardware fault types (fault packet, 5 bits). */
export const FAULT_INVALID_PDE = 0;
export const FAULT_INVALID_PTE = 2;
export const FAULT_RO_VIOLATION = 6;
export const FAULT_ATOMIC_VIOLATION = 15;

/** Tables of one 2 MiB region; a table is null until something is written to it. */
export interface MmuRegion {
  pde0: number;
  big: Uint8Array | null;
  small: Uint8Array | null;
}

export interface GpuMmu {
  regions: Map<number, MmuRegion>;
  /** Where tables are cut from. */
  slab: Slab;
  /** The region looked up last: programs stay in one region for many accesses. */
  lastIndex: number;
  last: MmuRegion | null;
  /** Processor whose memory the last successful translation reached. */
  target: number;
}

export function createMmu(): GpuMmu {
  return { regions: new Map(), slab: createSlab(), lastIndex: -1, last: null, target: 0 };
}

function regionOf(mmu: GpuMmu, page: number): MmuRegion | null {
  const index = Math.floor(page / PAGES_PER_BLOCK);
  if (index === mmu.lastIndex) return mmu.last;
  mmu.lastIndex = index;
  mmu.last = mmu.regions.get(index) ?? null;
  return mmu.last;
}

/** Protection an access needs, by the driver's access types (prefetch, read, write, weak and strong atomic). */
const NEEDED = Uint8Array.of(1, 1, 2, 2, 3);

function checkPte(mmu: GpuMmu, pte: number, access: number): number {
  const protection = (pte >> 1) & 3;
  if (protection >= NEEDED[access]) {
    mmu.target = (pte >> 3) & 15;
    return MMU_OK;
  }
  return protection === 1 ? FAULT_RO_VIOLATION : FAULT_ATOMIC_VIOLATION;
}

/**
 * Translates an access of type `access` (ACCESS_*) to `page`: MMU_OK with `mmu.target` set, or a hardware fault type.
 */
export function mmuTranslate(mmu: GpuMmu, page: number, access: number): number {
  const region = regionOf(mmu, page);
  if (region === null || region.pde0 === PTE_INVALID) return FAULT_INVALID_PDE;
  if (region.pde0 !== PDE_TABLES) return checkPte(mmu, region.pde0, access);
  const index = pageInBlockExtent(page);
  const big = region.big === null ? PTE_INVALID : region.big[(index / PAGES_PER_BIG_PAGE) | 0];
  if (big === PTE_BIG_UNMAPPED) return FAULT_INVALID_PTE;
  if (big !== PTE_INVALID) return checkPte(mmu, big, access);
  const small = region.small === null ? PTE_INVALID : region.small[index];
  return small === PTE_INVALID ? FAULT_INVALID_PTE : checkPte(mmu, small, access);
}

/** A zeroed table of `bytes` entries, a multiple of 4. */
function takeBytes(mmu: GpuMmu, bytes: number): Uint8Array {
  const words = slabTake(mmu.slab, bytes / 4);
  return new Uint8Array(words.buffer, words.byteOffset, bytes);
}

/** The tables of a page's 2 MiB region are given back: those that come next are empty, whatever these held. */
export function mmuForgetTables(mmu: GpuMmu, page: number): void {
  const region = mmu.regions.get(Math.floor(page / PAGES_PER_BLOCK));
  region?.big?.fill(PTE_INVALID);
  region?.small?.fill(PTE_INVALID);
}

/** Writes `count` entries of a level from the one that covers `page` on; `pte` is makePte(...) or a special value. */
export function mmuWritePte(mmu: GpuMmu, level: number, page: number, count: number, pte: number): void {
  const index = Math.floor(page / PAGES_PER_BLOCK);
  let region = mmu.regions.get(index);
  if (region === undefined) {
    region = { pde0: PTE_INVALID, big: null, small: null };
    mmu.regions.set(index, region);
    mmu.lastIndex = -1;
  }
  const offset = page - index * PAGES_PER_BLOCK;
  if (level === PTE_LEVEL_2M) {
    region.pde0 = pte;
  } else if (level === PTE_LEVEL_PDE) {
    region.pde0 = PDE_TABLES;
  } else if (level === PTE_LEVEL_BIG) {
    region.big ??= takeBytes(mmu, BIG_PAGES_PER_BLOCK);
    const first = offset / PAGES_PER_BIG_PAGE;
    region.big.fill(pte, first, first + count);
  } else {
    region.small ??= takeBytes(mmu, PAGES_PER_BLOCK);
    region.small.fill(pte, offset, offset + count);
  }
}
