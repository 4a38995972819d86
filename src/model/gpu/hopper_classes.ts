/**
 * Methods of the classes that the driver speaks to on Hopper, from the class headers that it publishes (driver
 * 580.105.08): clb06f.h (headers), cla16f.h and clc86f.h (host), clc076.h (software), clc8b5.h (copy engine), clcba2.h
 * (SEC2), cla06fsubch.h and uvm_push_macros.h (subchannels). Fields are values in their place in the word.
 */

/** A header: operation, count of words, subchannel, address. */
const SEC_OP_INC_METHOD = 1;
const SEC_OP_NON_INC_METHOD = 3;
const SEC_OP_SHIFT = 29;
const COUNT_SHIFT = 16;
const SUBCHANNEL_SHIFT = 13;
export const METHOD_COUNT_MAX = 0x1fff;

export const SUBCHANNEL_HOST = 0;
export const SUBCHANNEL_SEC2 = 1;
export const SUBCHANNEL_CE = 4;
export const SUBCHANNEL_SW = 5;

/** The header of `count` words for consecutive methods from `address` on. */
export function methodInc(subchannel: number, address: number, count: number): number {
  return header(SEC_OP_INC_METHOD, subchannel, address, count);
}

/** The header of `count` words for one method. */
export function methodNonInc(subchannel: number, address: number, count: number): number {
  return header(SEC_OP_NON_INC_METHOD, subchannel, address, count);
}

function header(operation: number, subchannel: number, address: number, count: number): number {
  return (
    ((operation << SEC_OP_SHIFT) | (count << COUNT_SHIFT) | (subchannel << SUBCHANNEL_SHIFT) | (address >>> 2)) >>> 0
  );
}

export interface MethodHeader {
  incrementing: boolean;
  subchannel: number;
  address: number;
  count: number;
}

/** A header taken apart, or null where a word is none that the driver writes. */
export function methodHeader(word: number): MethodHeader | null {
  const operation = word >>> SEC_OP_SHIFT;
  if (operation !== SEC_OP_INC_METHOD && operation !== SEC_OP_NON_INC_METHOD) return null;
  return {
    incrementing: operation === SEC_OP_INC_METHOD,
    subchannel: (word >>> SUBCHANNEL_SHIFT) & 7,
    address: (word & 0xfff) << 2,
    count: (word >>> COUNT_SHIFT) & METHOD_COUNT_MAX,
  };
}

export const SET_OBJECT = 0;
export const GP100_UVM_SW = 0xc076;
export const HOPPER_DMA_COPY_A = 0xc8b5;
export const SW_CLEAR_FAULTED_A = 0x110;

/** Host */
export const HOST_NOP = 0x08;
export const HOST_MEM_OP_A = 0x28;
export const HOST_SEM_ADDR_LO = 0x5c;
export const HOST_WFI = 0x78;
export const MEM_OP_A_SYSMEMBAR_EN = 1 << 11;
export const MEM_OP_A_INVAL_SCOPE_NON_LINK_TLBS = 2 << 6;
export const MEM_OP_C_MEMBAR_TYPE_SYS_MEMBAR = 0;
export const MEM_OP_C_MEMBAR_TYPE_MEMBAR = 1;
export const MEM_OP_C_REPLAY_START = 1 << 2;
export const MEM_OP_C_REPLAY_START_ACK_ALL = 2 << 2;
export const MEM_OP_C_REPLAY_CANCEL_VA_GLOBAL = 5 << 2;
export const MEM_OP_C_ACK_TYPE_GLOBALLY = 1 << 5;
export const MEM_OP_C_ACCESS_TYPE_SHIFT = 7;
export const MEM_OP_C_PAGE_TABLE_LEVEL_PTE_ONLY = 1 << 7;
export const MEM_OP_C_PAGE_TABLE_LEVEL_UP_TO_PDE0 = 2 << 7;
/** OPERATION is in bits 27 to 31. */
const MEM_OP_D_OPERATION = 2 ** 27;
export const MEM_OP_D_MEMBAR = 5 * MEM_OP_D_OPERATION;
export const MEM_OP_D_TLB_INVALIDATE = 9 * MEM_OP_D_OPERATION;
export const MEM_OP_D_TLB_INVALIDATE_TARGETED = 10 * MEM_OP_D_OPERATION;
export const SEM_EXECUTE_ACQ_CIRC_GEQ = 3;
export const SEM_EXECUTE_ACQUIRE_SWITCH_TSG = 1 << 12;

/** Copy engine */
export const CE_SET_SEMAPHORE_A = 0x240;
export const CE_SET_SEMAPHORE_B = 0x244;
export const CE_SET_SEMAPHORE_PAYLOAD = 0x248;
export const CE_SET_SRC_PHYS_MODE = 0x260;
export const CE_SET_DST_PHYS_MODE = 0x264;
export const CE_LAUNCH_DMA = 0x300;
export const CE_OFFSET_IN_UPPER = 0x400;
export const CE_OFFSET_IN_LOWER = 0x404;
export const CE_OFFSET_OUT_UPPER = 0x408;
export const CE_OFFSET_OUT_LOWER = 0x40c;
export const CE_LINE_LENGTH_IN = 0x418;
export const CE_SET_SECURE_COPY_MODE = 0x500;
export const CE_SET_DECRYPT_AUTH_TAG_COMPARE_ADDR_UPPER = 0x514;
export const CE_SET_DECRYPT_AUTH_TAG_COMPARE_ADDR_LOWER = 0x518;
export const CE_SET_ENCRYPT_AUTH_TAG_ADDR_UPPER = 0x530;
export const CE_SET_MEMORY_SCRUB_PARAMETERS = 0x6fc;
export const CE_SET_REMAP_CONST_A = 0x700;
export const CE_SET_REMAP_CONST_B = 0x704;
export const PHYS_MODE_LOCAL_FB = 0;
export const PHYS_MODE_COHERENT_SYSMEM = 1;
export const PHYS_MODE_PEERMEM = 3;
export const SECURE_COPY_MODE_ENCRYPT = 0;
export const SECURE_COPY_MODE_DECRYPT = 1;
/** DST_X, COMPONENT_SIZE FOUR; for 8 bytes DST_Y and two components besides. */
export const REMAP_COMPONENTS_4 = 5 | (3 << 16);
export const REMAP_COMPONENTS_8 = 4 | (5 << 4) | (3 << 16) | (1 << 24);
export const LAUNCH_DMA_TRANSFER_MASK = 3;
export const LAUNCH_DMA_PIPELINED = 1;
export const LAUNCH_DMA_NON_PIPELINED = 2;
export const LAUNCH_DMA_FLUSH_ENABLE = 1 << 2;
export const LAUNCH_DMA_RELEASE = 1 << 3;
export const LAUNCH_DMA_RELEASE_WITH_TIMESTAMP = 2 << 3;
/** Source and destination are lines of bytes. */
export const LAUNCH_DMA_PITCH = (1 << 7) | (1 << 8);
export const LAUNCH_DMA_REMAP_ENABLE = 1 << 10;
export const LAUNCH_DMA_SRC_PHYSICAL = 1 << 12;
export const LAUNCH_DMA_DST_PHYSICAL = 1 << 13;
/** SEMAPHORE_REDUCTION INC, unsigned, enabled. */
export const LAUNCH_DMA_REDUCTION_INC = (6 << 14) | (1 << 18) | (1 << 19);
export const LAUNCH_DMA_COPY_TYPE_MASK = 3 << 20;
export const LAUNCH_DMA_COPY_TYPE_SECURE = 1 << 20;
export const LAUNCH_DMA_COPY_TYPE_NONPROT2NONPROT = 2 << 20;
export const LAUNCH_DMA_SCRUB_ENABLE = 1 << 23;
export const LAUNCH_DMA_FLUSH_TYPE_GL = 1 << 25;
export const LAUNCH_DMA_DISABLE_PLC = 1 << 26;

/** SEC2 */
export const SEC2_DECRYPT_COPY_SRC_ADDR_HI = 0x400;
export const SEC2_DECRYPT_COPY_SRC_ADDR_LO = 0x404;
export const SEC2_DECRYPT_COPY_DST_ADDR_HI = 0x408;
export const SEC2_DECRYPT_COPY_DST_ADDR_LO = 0x40c;
export const SEC2_DECRYPT_COPY_SIZE = 0x410;
export const SEC2_DECRYPT_COPY_AUTH_TAG_ADDR_HI = 0x414;
export const SEC2_DECRYPT_COPY_AUTH_TAG_ADDR_LO = 0x418;
export const SEC2_METHOD_STREAM_AUTH_TAG_ADDR_HI = 0x41c;
export const SEC2_METHOD_STREAM_AUTH_TAG_ADDR_LO = 0x420;
export const SEC2_SEMAPHORE_A = 0x440;
export const SEC2_SEMAPHORE_B = 0x444;
export const SEC2_SET_SEMAPHORE_PAYLOAD_LOWER = 0x448;
export const SEC2_SEMAPHORE_D = 0x450;
export const SEC2_EXECUTE = 0x470;
export const SEC2_SEMAPHORE_D_FLUSH_DISABLE = 1 << 3;
export const SEC2_EXECUTE_FLUSH_DISABLE = 1 << 2;

/** GPFIFO entries: two words. */
export const GP_ENTRY1_LENGTH_SHIFT = 10;
export const GP_ENTRY1_SYNC_WAIT = 2 ** 31;
export const GP_ENTRY1_OPCODE_SET_PB_SEGMENT_EXTENDED_BASE = 4;
export const GP_ENTRY_BYTES = 8;
