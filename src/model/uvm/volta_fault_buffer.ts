/**
 * The fault buffer and interrupt HAL of Volta and later, with Hopper's numbers: uvm_volta_fault_buffer.c,
 * uvm_turing_fault_buffer.c (pulse interrupts), uvm_hopper_fault_buffer.c, uvm_hopper_mmu.c (clients to uTLBs),
 * uvm_pascal_mmu.c (prefetch filter); driver 580.105.08.
 *
 * Functions: uvm_hal_volta_fault_buffer_read_put, _read_get, _write_get, _parse_replayable_entry,
 * _parse_non_replayable_entry, uvm_hal_turing_clear_replayable_faults, _disable_replayable_faults,
 * uvm_hal_pascal_enable_replayable_faults, _enable_prefetch_faults, _disable_prefetch_faults,
 * uvm_hal_hopper_mmu_client_id_to_utlb_id, uvm_hal_hopper_fault_buffer_get_ve_id, uvm_parent_gpu_canonical_address.
 * Left out: decryption (Confidential Computing), physical addresses.
 */
import { assert } from '../../base/assert.ts';
import {
  APERTURE_VID_MEM,
  CLIENT_TYPE_GPC,
  ENGINE_GRAPHICS,
  FAULT_ENTRY_WORDS,
  FAULT_GETPTR_CORRUPTED,
  FAULT_OVERFLOW,
  FAULT_REGISTER_INDEX,
  faultBufferClearInterrupt,
  faultBufferClearValid,
  faultBufferDisableInterrupt,
  faultBufferEnableInterrupt,
  faultBufferIsValid,
  faultBufferReadGet,
  faultBufferReadPut,
  faultBufferSetPrefetchFilter,
  faultBufferWriteGet,
  PREFETCH_FILTER_SEND_ALL,
  PREFETCH_FILTER_SEND_NONE,
} from '../gpu/fault_buffer.ts';
import type { Model } from '../state.ts';
import type { Gpu } from './gpu.ts';
import {
  CANCEL_VA_MODE_ALL,
  FATAL_REASON_INVALID,
  FATAL_REASON_INVALID_FAULT_TYPE,
  FAULT_FILTERED,
  FAULT_IS_FATAL,
  type FaultCache,
  faultTypeIsFatal,
} from './gpu_replayable_faults_types.ts';
import {
  ACCESS_ATOMIC_STRONG,
  ACCESS_ATOMIC_WEAK,
  ACCESS_PREFETCH,
  ACCESS_READ,
  ACCESS_WRITE,
} from './va_block_types.ts';

const TWO_32 = 4294967296;
const TWO_20 = 1048576;

/** Virtual address bits of Hopper, counted in 4 KiB pages, and the whole 64-bit address space. */
const VA_PAGES = 2 ** (57 - 12);
const ADDRESS_SPACE_PAGES = 2 ** 52;

/** Order of uvm_aperture_t: system memory comes before vidmem. */
export const UVM_APERTURE_SYS = 0;
export const UVM_APERTURE_VID = 1;

const MAX_SUBCONTEXTS = 64;
const INVALID = 0xff;

/** Driver access type by the hardware's 4 bits (get_fault_access_type). */
const ACCESS_TYPE = new Uint8Array(16).fill(INVALID);
ACCESS_TYPE.set([ACCESS_READ, ACCESS_WRITE, ACCESS_ATOMIC_STRONG, ACCESS_PREFETCH, ACCESS_ATOMIC_WEAK], 0);
ACCESS_TYPE.set([ACCESS_READ, ACCESS_WRITE, ACCESS_ATOMIC_STRONG, ACCESS_PREFETCH], 8);

/** GPC clients of GH100 by their number: the first of a run of clients and how many there are. */
const CLIENT_T1: readonly (readonly [first: number, count: number])[] = [
  [0x00, 8],
  [0x21, 8],
  [0x35, 2],
];
const CLIENT_PE: readonly (readonly [first: number, count: number])[] = [
  [0x08, 8],
  [0x31, 1],
];
const CLIENT_TPCCS: readonly (readonly [first: number, count: number])[] = [
  [0x29, 8],
  [0x33, 1],
];
const CLIENT_RAST = 0x10;
const CLIENT_GCC = 0x11;
const CLIENT_GPCCS = 0x12;

function listClients(runs: readonly (readonly [first: number, count: number])[]): number[] {
  return runs.flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i));
}

/** uTLB inside the GPC by client: the two texture units of a TPC have one each, the rest of the TPC uses the second. */
const UTLB_OF_CLIENT = new Uint8Array(128).fill(INVALID);
for (const client of [CLIENT_RAST, CLIENT_GCC, CLIENT_GPCCS]) UTLB_OF_CLIENT[client] = 0;
listClients(CLIENT_T1).forEach((client, i) => {
  UTLB_OF_CLIENT[client] = 1 + i;
});
for (const clients of [CLIENT_PE, CLIENT_TPCCS]) {
  listClients(clients).forEach((client, i) => {
    UTLB_OF_CLIENT[client] = 2 + 2 * i;
  });
}

/** Clients that texture units fault through, in the order of their uTLBs: SM n of a GPC is client T1[n]. */
export const T1_CLIENTS: readonly number[] = listClients(CLIENT_T1);

/** uvm_hal_hopper_mmu_client_id_to_utlb_id */
export function mmuClientIdToUtlbId(client: number): number {
  const utlb = UTLB_OF_CLIENT[client];
  assert(utlb !== INVALID, 'fault entry names an MMU client that a GPC does not have');
  return utlb;
}

/** uvm_parent_gpu_canonical_address, for a page number. */
export function canonicalPage(page: number): number {
  return page >= VA_PAGES / 2 && page < VA_PAGES ? page + (ADDRESS_SPACE_PAGES - VA_PAGES) : page;
}

export function faultBufferHalReadPut(m: Model, gpu: Gpu): number {
  return faultBufferReadPut(m, gpu.faultBuffer) & FAULT_REGISTER_INDEX;
}

export function faultBufferHalReadGet(gpu: Gpu): number {
  return faultBufferReadGet(gpu.faultBuffer) & FAULT_REGISTER_INDEX;
}

/** Two writes: the index alone moves GET, the second one then clears an overflow. */
export function faultBufferHalWriteGet(m: Model, gpu: Gpu, index: number): void {
  faultBufferWriteGet(m, gpu.index, index);
  faultBufferWriteGet(m, gpu.index, (index | FAULT_GETPTR_CORRUPTED | FAULT_OVERFLOW) >>> 0);
}

export function faultBufferHalEntryIsValid(m: Model, gpu: Gpu, index: number): boolean {
  return faultBufferIsValid(m, gpu.faultBuffer, index);
}

export function faultBufferHalEntryClearValid(gpu: Gpu, index: number): void {
  faultBufferClearValid(gpu.faultBuffer, index);
}

/** Pulse interrupts: clears the pending bit, then has the condition looked at again by writing GET. */
export function halClearReplayableFaults(m: Model, gpu: Gpu, get: number): void {
  faultBufferClearInterrupt(m, gpu.index);
  faultBufferHalWriteGet(m, gpu, get);
}

/** Also clears what is pending. */
export function halDisableReplayableFaults(m: Model, gpu: Gpu): void {
  faultBufferDisableInterrupt(m, gpu.index);
  faultBufferClearInterrupt(m, gpu.index);
}

export function halEnableReplayableFaults(m: Model, gpu: Gpu): void {
  faultBufferEnableInterrupt(m, gpu.index);
}

export function halEnablePrefetchFaults(gpu: Gpu): void {
  faultBufferSetPrefetchFilter(gpu.faultBuffer, PREFETCH_FILTER_SEND_ALL);
}

export function halDisablePrefetchFaults(gpu: Gpu): void {
  faultBufferSetPrefetchFilter(gpu.faultBuffer, PREFETCH_FILTER_SEND_NONE);
}

/**
 * Reads the packet at word offset `o` of `w` into row `row` of a cache (parse_fault_entry_common), and sets what the
 * fetch sets for every entry. FAULT_THROTTLED and FAULT_INVALID_PREFETCH of the row are left as they were: the driver
 * clears them only when it services the entry in a block.
 */
export function parseFaultEntry(
  gpu: Gpu,
  w: Uint32Array,
  o: number,
  utlbsPerGpc: number,
  c: FaultCache,
  row: number,
): void {
  const w0 = w[o];
  const w7 = w[o + 7];
  const access = ACCESS_TYPE[(w7 >>> 16) & 0xf];
  assert(access !== INVALID, 'fault entry has an unknown access type');
  assert((w7 & (1 << 30)) !== 0, 'fault entry without the replayable-enabled bit');
  const page = (w[o + 2] >>> 12) + w[o + 3] * TWO_20;
  c.page[row] = page < VA_PAGES / 2 ? page : canonicalPage(page);
  c.instance[row] = (w0 >>> 12) + w[o + 1] * TWO_20;
  c.aperture[row] = ((w0 >>> 8) & 3) === APERTURE_VID_MEM ? UVM_APERTURE_VID : UVM_APERTURE_SYS;
  c.timestamp[row] = w[o + 4] + w[o + 5] * TWO_32;
  const faultType = w7 & 0x1f;
  c.faultType[row] = faultType;
  c.accessType[row] = access;
  c.accessOrder[row] = ACCESS_ATOMIC_STRONG - access;
  const client = (w7 >>> 8) & 0x7f;
  c.client[row] = client;
  const gpc = (w7 >>> 24) & 0x1f;
  c.gpc[row] = gpc;
  const clientType = (w7 >>> 20) & 1;
  c.clientType[row] = clientType;
  const engine = w[o + 6] & 0x1ff;
  c.engineId[row] = engine;
  if (clientType === CLIENT_TYPE_GPC) {
    assert(engine >= ENGINE_GRAPHICS && engine < ENGINE_GRAPHICS + MAX_SUBCONTEXTS, 'GPC fault of a foreign engine');
    const utlb = gpc * utlbsPerGpc + mmuClientIdToUtlbId(client);
    assert(utlb < gpu.replayable.utlbCount, 'fault entry names a uTLB that the GPU does not have');
    c.utlb[row] = utlb;
    c.veId[row] = engine - ENGINE_GRAPHICS;
  } else {
    c.utlb[row] = 0;
    c.veId[row] = 0;
  }
  const fatal = faultTypeIsFatal(faultType);
  c.flags[row] = (c.flags[row] & ~(FAULT_IS_FATAL | FAULT_FILTERED)) | (fatal ? FAULT_IS_FATAL : 0);
  c.fatalReason[row] = fatal ? FATAL_REASON_INVALID_FAULT_TYPE : FATAL_REASON_INVALID;
  c.cancelVaMode[row] = CANCEL_VA_MODE_ALL;
  c.vaSpace[row] = -1;
}

/** Parses the valid entry in slot `index` and gives the slot back (parse_replayable_entry). */
export function parseReplayableEntry(gpu: Gpu, index: number, utlbsPerGpc: number, c: FaultCache, row: number): void {
  const w = gpu.faultBuffer.words;
  const o = index * FAULT_ENTRY_WORDS;
  assert((w[o + 7] & (1 << 7)) !== 0, 'fault in the replayable buffer that is not replayable');
  parseFaultEntry(gpu, w, o, utlbsPerGpc, c, row);
  faultBufferClearValid(gpu.faultBuffer, index);
}
