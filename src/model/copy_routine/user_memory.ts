/**
 * B, the memory that a copy goes to: pinned plain memory of the caller, or a stage of the kernel's that is copied to
 * the caller's managed memory once every lock is dropped. Pinning is pin_user_pages; the copy to user is copy_to_user,
 * which faults like any other CPU write.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { contentsCopyBytes, contentsForget, contentsPopulate } from '../gpu/contents.ts';
import { LOCK_ORDER_MMAP_LOCK, lockAcquire, lockRelease } from '../kernel/lock.ts';
import { mmAllocKernelPages, mmIsPlain, mmPagePresent, mmPin, mmUnmapPlain } from '../kernel/mm.ts';
import type { Model } from '../state.ts';
import { CPU_ID, INVALID_ID } from '../uvm/processors.ts';
import { NV_ERR_INVALID_ARGUMENT, NV_OK } from '../uvm/status.ts';
import { pageResidentProcessors } from '../uvm/va_block.ts';
import { CPU_FAULT_DONE, CPU_FAULT_FATAL, vaSpaceCpuFault, vaSpaceCpuFaultWoken } from '../uvm/va_block_cpu_fault.ts';
import type { VaBlock } from '../uvm/va_block_types.ts';
import type { VaSpace } from '../uvm/va_range_types.ts';
import { vaBlockFind, vaRangeFind } from '../uvm/va_space.ts';
import type { CopyRecord } from './types.ts';

/** What the pages of B are. */
export const USER_INVALID = 0;
export const USER_PLAIN = 1;
/** At least one page is managed. */
export const USER_MANAGED = 2;

/** The VA space of the process in which the page is managed, or null. */
function managingSpace(m: Model, mm: number, page: number): VaSpace | null {
  for (const space of m.vaSpaces) if (space.mm === mm && vaRangeFind(space, page) !== null) return space;
  return null;
}

/** What `pages` pages of a process's address space are, from `page` on. */
export function userMemoryKind(m: Model, mm: number, page: number, pages: number): number {
  let kind = USER_PLAIN;
  for (let p = page; p < page + pages; p++) {
    if (managingSpace(m, mm, p) !== null) kind = USER_MANAGED;
    else if (!mmIsPlain(m.k, mm, p)) return USER_INVALID;
  }
  return kind;
}

/** Pins plain memory writable under the plain mmap lock of its process: pages that were never touched become zero. */
export function userPin(m: Model, mm: number, page: number, pages: number): number {
  lockAcquire(m, LOCK_ORDER_MMAP_LOCK, mm, true);
  m.k.now += m.cost.copyPinPage * pages;
  const slot = mmPin(m.k, mm, page, pages);
  if (m.contents !== null) for (let p = page; p < page + pages; p++) contentsPopulate(m.contents, CPU_ID, p);
  lockRelease(m, LOCK_ORDER_MMAP_LOCK, mm, true);
  return slot;
}

/** Pages of the kernel for a copy that cannot go to B itself. */
export function userStage(m: Model, pages: number): number {
  m.k.now += m.cost.cpuChunkAlloc * pages;
  return mmAllocKernelPages(m.k, pages);
}

/** munmap of plain memory: what is pinned there keeps its contents, out of the program's sight. */
export function userMunmap(m: Model, mm: number, startPage: number, pages: number): void {
  const { contents } = m;
  mmUnmapPlain(m.k, mm, startPage, (page, frame) => {
    if (contents !== null) contentsCopyBytes(contents, CPU_ID, frame, 0, CPU_ID, page, 0, PAGE_SIZE);
  });
  if (contents === null) return;
  for (const page of [...contents.pages[CPU_ID].keys()]) {
    if (page >= startPage && page < startPage + pages) contentsForget(contents, CPU_ID, page, 1);
  }
}

/** Which processor's memory the CPU reaches a present page in. */
function cpuTarget(block: VaBlock, page: number): number {
  const residents = pageResidentProcessors(block, page);
  return residents === 0 ? CPU_ID : 31 - Math.clz32(residents & -residents);
}

/**
 * Has the CPU fault on a managed page until it may read or write it. Returns the processor in whose memory the CPU
 * reaches the page, or INVALID_ID when that is a bus error.
 */
export function* userFaultIn(m: Model, space: VaSpace, page: number, write: boolean): Generator<number, number, void> {
  for (;;) {
    const block = vaBlockFind(space, page);
    if (block !== null && mmPagePresent(block.w, page - block.startPage, write)) {
      return cpuTarget(block, page - block.startPage);
    }
    for (let retries = 0; ; retries++) {
      const outcome = vaSpaceCpuFault(m, space, page, write, retries);
      if (outcome === CPU_FAULT_FATAL) return INVALID_ID;
      if (outcome === CPU_FAULT_DONE) break;
      yield outcome;
      vaSpaceCpuFaultWoken(m, page);
    }
  }
}

/**
 * Copies the first `bytes` bytes of the stage to B; no lock is held. Adds what arrived to `record.bytes`. Returns
 * NV_ERR_INVALID_ARGUMENT, as ioctl 62 does, when B cannot be written.
 */
export function* userCopyStaged(m: Model, record: CopyRecord, bytes: number): Generator<number, number, void> {
  const { frames } = m.k.pins[record.pin];
  record.bytes = 0;
  while (record.bytes < bytes) {
    const source = record.bytes;
    const target = record.toOffset + source;
    const page = record.toPage + Math.floor(target / PAGE_SIZE);
    const targetOffset = target % PAGE_SIZE;
    const sourceOffset = source % PAGE_SIZE;
    const n = Math.min(bytes - source, PAGE_SIZE - targetOffset, PAGE_SIZE - sourceOffset);
    const space = managingSpace(m, record.mm, page);
    let to = CPU_ID;
    if (space !== null) {
      to = yield* userFaultIn(m, space, page, true);
      if (to === INVALID_ID) return NV_ERR_INVALID_ARGUMENT;
    } else if (m.contents !== null) contentsPopulate(m.contents, CPU_ID, page);
    m.k.now += m.cost.copyCpuPage;
    if (m.contents !== null) {
      const frame = frames[Math.floor(source / PAGE_SIZE)];
      contentsCopyBytes(m.contents, to, page, targetOffset, CPU_ID, frame, sourceOffset, n);
    }
    record.bytes += n;
  }
  return NV_OK;
}
