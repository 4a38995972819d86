/**
 * Sizes in bytes of what a push holds, as the HALs of Hopper build it: uvm_volta_ce.c (memcopy), uvm_hopper_ce.c,
 * uvm_hopper_host.c, uvm_volta_host.c (replay), uvm_pascal_host.c (membars), uvm_maxwell_host.c (noop, wait for idle),
 * uvm_pte_batch.c and pde_fill_gpu of uvm_mmu.c (driver 580.105.08).
 *
 * A run of n methods with consecutive addresses is one header and n words. Addresses of copies and memsets are physical
 * on a machine whose CPU and GPUs are not coherent, inline data has a virtual one.
 */
import { PTE_BIG_UNMAPPED, PTE_INVALID, PTE_LEVEL_4K, PTE_LEVEL_PDE } from '../gpu/mmu.ts';

const HEADER = 4;
const WORD = 4;
const ONE = HEADER + WORD;
const TWO = HEADER + 2 * WORD;
const THREE = HEADER + 3 * WORD;
const FOUR = HEADER + 4 * WORD;

/** UVM_MAX_PUSH_SIZE */
export const PUSH_SIZE_MAX = 128 * 1024;
/** Semaphore address and payload, and the launch that releases it: the end of a push on a copy engine. */
export const PUSH_END_BYTES = THREE + ONE;
/** The same with a timestamp; its 16 bytes are inline data. */
const CE_SEMAPHORE_TIMESTAMP_BYTES = THREE + ONE;
/** Address, payload and operation of a semaphore that the host waits for. */
export const HOST_ACQUIRE_BYTES = HEADER + 5 * WORD;
/** Both apertures, both offsets, length, launch. */
export const COPY_BYTES = TWO + FOUR + 2 * ONE;
/** Secure copies of a page, which is physical: mode, tag, offsets, length, launch; to encrypt an IV's address too. */
export const SECURE_DECRYPT_BYTES = ONE + TWO + FOUR + 3 * ONE;
export const SECURE_ENCRYPT_BYTES = ONE + 2 * FOUR + 3 * ONE;
/** The same between virtual addresses. */
export const SECURE_DECRYPT_VIRTUAL_BYTES = SECURE_DECRYPT_BYTES - ONE;
export const SECURE_ENCRYPT_VIRTUAL_BYTES = SECURE_ENCRYPT_BYTES - ONE;
/** The encryption of the tracking semaphore's payload, all virtual, and the notifier before and behind it. */
export const SECURE_PAYLOAD_BYTES = SECURE_ENCRYPT_VIRTUAL_BYTES + 2 * (TWO + TWO + 2 * ONE);
/** From inline data: only the destination has an aperture. */
const COPY_INLINE_BYTES = ONE + FOUR + 2 * ONE;
/** 8 bytes again and again: constants, aperture, offset, length, launch. */
const MEMSET_BYTES = THREE + ONE + TWO + 2 * ONE;
/** Of whole pages of 4 KiB in the GPU's own memory: the scrubber takes parameters besides. */
export const MEMSET_PAGES_BYTES = MEMSET_BYTES + ONE;
/** MEM_OP_A to MEM_OP_D: a TLB invalidate of a range or of all, a replay, a cancel, a membar. */
export const MEM_OP_BYTES = FOUR;
/** uvm_hal_wfi_membar: wait for idle, membar. */
export const WFI_MEMBAR_BYTES = ONE + MEM_OP_BYTES;
/** The software method that clears a faulted channel. */
export const CLEAR_FAULTED_BYTES = TWO;

/** UVM_PTE_BATCH_MAX_PTES: so many entries are written one by one, more as inline data. */
export const PTE_BATCH_MAX_PTES = 4;
const PTE_BYTES = 8;
/** An entry of the directory level, which a 2 MiB entry takes the place of. */
const PDE0_BYTES = 16;
/** pde_fill_gpu: one directory entry as inline data, and its copy. */
export const PDE_FILL_BYTES = HEADER + PDE0_BYTES + COPY_INLINE_BYTES;
/** A table of 4 KiB entries: a page of its own. */
const PTES_4K_PER_TABLE = 512;

/** uvm_push_timestamp in a push of `bytes` bytes that begins at `offset`: 16 aligned bytes, a release into them. */
export function timestampBytes(offset: number, bytes: number): number {
  const data = offset + bytes + HEADER;
  return HEADER + (((data + 15) & ~15) - data) + 16 + CE_SEMAPHORE_TIMESTAMP_BYTES;
}

/** encrypt_push of a push of `bytes` bytes that begins at `offset`: 16 aligned bytes for the tag, the encryption. */
export function secureEncryptPushBytes(offset: number, bytes: number): number {
  return timestampBytes(offset, bytes) - CE_SEMAPHORE_TIMESTAMP_BYTES + SECURE_ENCRYPT_VIRTUAL_BYTES;
}

/** Is this entry one that the driver clears (uvm_pte_batch_clear_ptes) instead of writing it? */
export function pteIsCleared(pte: number): boolean {
  return pte === PTE_INVALID || pte === PTE_BIG_UNMAPPED;
}

/** uvm_pte_batch_clear_ptes of `count` entries of a level. */
export function clearPtesBytes(level: number, count: number): number {
  return level === PTE_LEVEL_4K && count === PTES_4K_PER_TABLE ? MEMSET_PAGES_BYTES : MEMSET_BYTES;
}

/** uvm_pte_batch_flush_ptes of `count` consecutive entries of a level. */
export function writePtesBytes(level: number, count: number): number {
  if (count <= PTE_BATCH_MAX_PTES) return count * MEMSET_BYTES;
  return HEADER + count * (level <= PTE_LEVEL_PDE ? PDE0_BYTES : PTE_BYTES) + COPY_INLINE_BYTES;
}
