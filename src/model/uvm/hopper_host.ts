/**
 * Models the methods of uvm_hopper_host.c, and those of uvm_volta_host.c (replay), uvm_pascal_host.c (membars, init)
 * and uvm_maxwell_host.c (wait for idle) that Hopper keeps (driver 580.105.08): what the host itself is told.
 *
 * The page directory is a number of the model's, as are depths: a range is invalidated in its entries alone, all of
 * them up to the directory level.
 */
import { assert } from '../../base/assert.ts';
import {
  GP_ENTRY1_LENGTH_SHIFT,
  GP_ENTRY1_OPCODE_SET_PB_SEGMENT_EXTENDED_BASE,
  GP_ENTRY1_SYNC_WAIT,
  GP100_UVM_SW,
  HOST_MEM_OP_A,
  HOST_SEM_ADDR_LO,
  HOST_WFI,
  MEM_OP_A_INVAL_SCOPE_NON_LINK_TLBS,
  MEM_OP_A_SYSMEMBAR_EN,
  MEM_OP_C_ACCESS_TYPE_SHIFT,
  MEM_OP_C_ACK_TYPE_GLOBALLY,
  MEM_OP_C_MEMBAR_TYPE_MEMBAR,
  MEM_OP_C_MEMBAR_TYPE_SYS_MEMBAR,
  MEM_OP_C_PAGE_TABLE_LEVEL_PTE_ONLY,
  MEM_OP_C_PAGE_TABLE_LEVEL_UP_TO_PDE0,
  MEM_OP_C_REPLAY_CANCEL_VA_GLOBAL,
  MEM_OP_C_REPLAY_START,
  MEM_OP_C_REPLAY_START_ACK_ALL,
  MEM_OP_D_MEMBAR,
  MEM_OP_D_TLB_INVALIDATE,
  MEM_OP_D_TLB_INVALIDATE_TARGETED,
  SEM_EXECUTE_ACQ_CIRC_GEQ,
  SEM_EXECUTE_ACQUIRE_SWITCH_TSG,
  SET_OBJECT,
  SUBCHANNEL_HOST,
  SUBCHANNEL_SW,
  SW_CLEAR_FAULTED_A,
} from '../gpu/hopper_classes.ts';
import { MEMBAR_GPU, MEMBAR_NONE } from './hopper_ce.ts';
import { codeMethods, high32, low32, type PushCode } from './push_code.ts';

/** Page numbers of a target address: 20 bits in MEM_OP_A, the rest in MEM_OP_B. */
const TARGET_LOW = 2 ** 20;
/** Page number of the page directory. */
const PDB_PAGE = 0x100;
const PDB_SHIFT = 4096;
/** VIRT_WRITE_AND_ATOMIC, VIRT_ALL */
const ACCESS_WRITE_AND_ATOMIC = 6;
const ACCESS_ALL = 7;

/** SET_OBJECT of the software class, for channels of copy engines. */
export function hostInitChannel(code: PushCode): void {
  codeMethods(code, SUBCHANNEL_SW, SET_OBJECT, GP100_UVM_SW);
}

function memOp(code: PushCode, a: number, b: number, c: number, d: number): void {
  codeMethods(code, SUBCHANNEL_HOST, HOST_MEM_OP_A, a, b, c, d);
}

/** uvm_hal_wfi_membar */
export function hostWfiMembar(code: PushCode, membar: number): void {
  codeMethods(code, SUBCHANNEL_HOST, HOST_WFI, 0);
  if (membar === MEMBAR_NONE) return;
  const type = membar === MEMBAR_GPU ? MEM_OP_C_MEMBAR_TYPE_MEMBAR : MEM_OP_C_MEMBAR_TYPE_SYS_MEMBAR;
  memOp(code, 0, 0, type, MEM_OP_D_MEMBAR);
}

export function hostSemaphoreAcquire(code: PushCode, address: number, payload: number): void {
  const execute = SEM_EXECUTE_ACQ_CIRC_GEQ | SEM_EXECUTE_ACQUIRE_SWITCH_TSG;
  codeMethods(code, SUBCHANNEL_HOST, HOST_SEM_ADDR_LO, low32(address), high32(address), payload, 0, execute);
}

/** Bits of pages that the two ends of a range differ in: it is invalidated as 2 to that power pages. */
function sizeOfRange(page: number, count: number): number {
  let bits = 0;
  for (let size = 1; Math.floor(page / size) !== Math.floor((page + count - 1) / size); size *= 2) bits++;
  return bits;
}

function tlbFlags(sysMembar: boolean): [number, number] {
  const a = MEM_OP_A_INVAL_SCOPE_NON_LINK_TLBS | (sysMembar ? MEM_OP_A_SYSMEMBAR_EN : 0);
  return [a, PDB_PAGE * PDB_SHIFT + (sysMembar ? MEM_OP_C_ACK_TYPE_GLOBALLY : 0)];
}

export function hostTlbInvalidateAll(code: PushCode, sysMembar: boolean): void {
  const [a, c] = tlbFlags(sysMembar);
  memOp(code, a, 0, c | MEM_OP_C_PAGE_TABLE_LEVEL_UP_TO_PDE0, MEM_OP_D_TLB_INVALIDATE);
}

export function hostTlbInvalidateVa(code: PushCode, page: number, count: number, sysMembar: boolean): void {
  const [a, c] = tlbFlags(sysMembar);
  const low = ((page % TARGET_LOW) * 4096) | a | sizeOfRange(page, count);
  const level = MEM_OP_C_PAGE_TABLE_LEVEL_PTE_ONLY;
  memOp(code, low, Math.floor(page / TARGET_LOW), c | level, MEM_OP_D_TLB_INVALIDATE_TARGETED);
}

/** UVM_FAULT_REPLAY_TYPE_START or, with `ackAll`, _START_ACK_ALL. */
export function hostReplay(code: PushCode, ackAll: boolean): void {
  const replay = ackAll ? MEM_OP_C_REPLAY_START_ACK_ALL : MEM_OP_C_REPLAY_START;
  memOp(code, 0, 0, MEM_OP_C_PAGE_TABLE_LEVEL_PTE_ONLY | replay, MEM_OP_D_TLB_INVALIDATE_TARGETED);
}

/** uvm_hal_hopper_cancel_faults_va: all accesses to the page, or those that write. */
export function hostCancelFaultsVa(code: PushCode, page: number, all: boolean): void {
  const access = (all ? ACCESS_ALL : ACCESS_WRITE_AND_ATOMIC) << MEM_OP_C_ACCESS_TYPE_SHIFT;
  const c = PDB_PAGE * PDB_SHIFT + (MEM_OP_C_REPLAY_CANCEL_VA_GLOBAL | access);
  const low = (page % TARGET_LOW) * 4096;
  memOp(code, low, Math.floor(page / TARGET_LOW), c, MEM_OP_D_TLB_INVALIDATE_TARGETED);
}

/** The software method that lets a channel with this instance pointer (a page number) run again. */
export function hostClearFaulted(code: PushCode, instance: number): void {
  codeMethods(code, SUBCHANNEL_SW, SW_CLEAR_FAULTED_A, low32(instance * 4096), high32(instance * 4096));
}

/** The two words of the GPFIFO entry of a push; `wait` is UVM_GPFIFO_SYNC_WAIT (set_gpfifo_entry). */
export function gpfifoEntry(address: number, bytes: number, wait: boolean): [number, number] {
  assert(address % 4 === 0 && bytes % 4 === 0, 'a push is made of words');
  const low40 = address % 2 ** 40;
  const length = (bytes / 4) * 2 ** GP_ENTRY1_LENGTH_SHIFT;
  return [low32(low40), high32(low40) + length + (wait ? GP_ENTRY1_SYNC_WAIT : 0)];
}

/** The entry that holds no push (set_gpfifo_pushbuffer_segment_base). */
export function gpfifoSegmentBase(address: number): [number, number] {
  return [Math.floor(address / 2 ** 40) * 256, GP_ENTRY1_OPCODE_SET_PB_SEGMENT_EXTENDED_BASE];
}
