/**
 * Models the methods of uvm_hopper_ce.c, with uvm_hal_volta_ce_memcopy and uvm_hal_ampere_ce_phys_mode, which Hopper
 * keeps (driver 580.105.08): what a copy engine is told.
 *
 * Functions: uvm_hal_maxwell_ce_init, uvm_hal_hopper_ce_semaphore_release, _semaphore_reduction_inc,
 * _semaphore_timestamp, _memset_4, _memset_8, _encrypt, _decrypt, uvm_hal_volta_ce_memcopy. Left out: memset_1, copies
 * and memsets beyond 4 GiB, validation.
 */
import {
  CE_LAUNCH_DMA,
  CE_LINE_LENGTH_IN,
  CE_OFFSET_IN_UPPER,
  CE_OFFSET_OUT_UPPER,
  CE_SET_DECRYPT_AUTH_TAG_COMPARE_ADDR_UPPER,
  CE_SET_DST_PHYS_MODE,
  CE_SET_ENCRYPT_AUTH_TAG_ADDR_UPPER,
  CE_SET_MEMORY_SCRUB_PARAMETERS,
  CE_SET_REMAP_CONST_A,
  CE_SET_REMAP_CONST_B,
  CE_SET_SECURE_COPY_MODE,
  CE_SET_SEMAPHORE_A,
  CE_SET_SRC_PHYS_MODE,
  HOPPER_DMA_COPY_A,
  LAUNCH_DMA_COPY_TYPE_NONPROT2NONPROT,
  LAUNCH_DMA_COPY_TYPE_SECURE,
  LAUNCH_DMA_DISABLE_PLC,
  LAUNCH_DMA_DST_PHYSICAL,
  LAUNCH_DMA_FLUSH_ENABLE,
  LAUNCH_DMA_FLUSH_TYPE_GL,
  LAUNCH_DMA_NON_PIPELINED,
  LAUNCH_DMA_PIPELINED,
  LAUNCH_DMA_PITCH,
  LAUNCH_DMA_REDUCTION_INC,
  LAUNCH_DMA_RELEASE,
  LAUNCH_DMA_RELEASE_WITH_TIMESTAMP,
  LAUNCH_DMA_REMAP_ENABLE,
  LAUNCH_DMA_SCRUB_ENABLE,
  LAUNCH_DMA_SRC_PHYSICAL,
  PHYS_MODE_COHERENT_SYSMEM,
  PHYS_MODE_LOCAL_FB,
  PHYS_MODE_PEERMEM,
  REMAP_COMPONENTS_4,
  REMAP_COMPONENTS_8,
  SECURE_COPY_MODE_DECRYPT,
  SECURE_COPY_MODE_ENCRYPT,
  SET_OBJECT,
  SUBCHANNEL_CE,
  SUBCHANNEL_HOST,
} from '../gpu/hopper_classes.ts';
import { codeMethods, high32, low32, type PushCode } from './push_code.ts';

/** uvm_membar_t */
export const MEMBAR_NONE = 0;
export const MEMBAR_GPU = 1;
export const MEMBAR_SYS = 2;

/** Where an address lies: it is virtual, or physical in an aperture. */
export const VIRTUAL = -1;
export const APERTURE_VID = PHYS_MODE_LOCAL_FB;
export const APERTURE_SYS = PHYS_MODE_COHERENT_SYSMEM;
export const APERTURE_PEER = PHYS_MODE_PEERMEM;

export interface GpuAddress {
  address: number;
  aperture: number;
  /** Anybody can read it. */
  unprotected: boolean;
}

/** Memory barrier behind an operation, and whether it may overlap the one before. */
export interface CeFlags {
  membar: number;
  pipelined: boolean;
}

export const CE_DEFAULT: CeFlags = { membar: MEMBAR_SYS, pipelined: false };
export const CE_NO_MEMBAR: CeFlags = { membar: MEMBAR_NONE, pipelined: false };
export const CE_PIPELINED: CeFlags = { membar: MEMBAR_NONE, pipelined: true };

export function virtual(address: number): GpuAddress {
  return { address, aperture: VIRTUAL, unprotected: false };
}
export function unprotected(address: number): GpuAddress {
  return { address, aperture: VIRTUAL, unprotected: true };
}
export function physical(aperture: number, address: number): GpuAddress {
  return { address, aperture, unprotected: false };
}

const PAGE_MASK = 4095;

function flushOf(membar: number): number {
  if (membar === MEMBAR_NONE) return 0;
  return LAUNCH_DMA_FLUSH_ENABLE | (membar === MEMBAR_GPU ? LAUNCH_DMA_FLUSH_TYPE_GL : 0);
}

function transferOf(flags: CeFlags): number {
  return (flags.pipelined ? LAUNCH_DMA_PIPELINED : LAUNCH_DMA_NON_PIPELINED) | flushOf(flags.membar);
}

function semaphore(code: PushCode, address: number, payload: number, launch: number): void {
  codeMethods(code, SUBCHANNEL_CE, CE_SET_SEMAPHORE_A, high32(address), low32(address), payload);
  codeMethods(code, SUBCHANNEL_CE, CE_LAUNCH_DMA, launch | LAUNCH_DMA_DISABLE_PLC);
}

/** SET_OBJECT of the engine, on the host's subchannel. */
export function ceInit(code: PushCode): void {
  codeMethods(code, SUBCHANNEL_HOST, SET_OBJECT, HOPPER_DMA_COPY_A);
}

export function ceSemaphoreRelease(code: PushCode, address: number, payload: number, membar = MEMBAR_SYS): void {
  semaphore(code, address, payload, flushOf(membar) | LAUNCH_DMA_RELEASE);
}

/** The payload counts up, to 0 after `last`. */
export function ceSemaphoreReductionInc(code: PushCode, address: number, last: number, membar = MEMBAR_SYS): void {
  semaphore(code, address, last, flushOf(membar) | LAUNCH_DMA_RELEASE | LAUNCH_DMA_REDUCTION_INC);
}

export function ceSemaphoreTimestamp(code: PushCode, address: number, membar = MEMBAR_SYS): void {
  semaphore(code, address, 0xdeadbeef, flushOf(membar) | LAUNCH_DMA_RELEASE_WITH_TIMESTAMP);
}

/** phys_mode: tells the apertures; returns the types of both sides for the launch. */
function physMode(code: PushCode, dst: GpuAddress, src: GpuAddress): number {
  const srcPhysical = src.aperture !== VIRTUAL;
  const dstPhysical = dst.aperture !== VIRTUAL;
  if (srcPhysical && dstPhysical) {
    codeMethods(code, SUBCHANNEL_CE, CE_SET_SRC_PHYS_MODE, src.aperture, dst.aperture);
  } else if (srcPhysical) codeMethods(code, SUBCHANNEL_CE, CE_SET_SRC_PHYS_MODE, src.aperture);
  else if (dstPhysical) codeMethods(code, SUBCHANNEL_CE, CE_SET_DST_PHYS_MODE, dst.aperture);
  return (srcPhysical ? LAUNCH_DMA_SRC_PHYSICAL : 0) | (dstPhysical ? LAUNCH_DMA_DST_PHYSICAL : 0);
}

function transfer(code: PushCode, dst: GpuAddress, src: GpuAddress, bytes: number, launch: number): void {
  const { address: from } = src;
  const { address: to } = dst;
  codeMethods(code, SUBCHANNEL_CE, CE_OFFSET_IN_UPPER, high32(from), low32(from), high32(to), low32(to));
  codeMethods(code, SUBCHANNEL_CE, CE_LINE_LENGTH_IN, bytes);
  codeMethods(code, SUBCHANNEL_CE, CE_LAUNCH_DMA, launch | LAUNCH_DMA_PITCH | LAUNCH_DMA_DISABLE_PLC);
}

export function ceMemcopy(code: PushCode, dst: GpuAddress, src: GpuAddress, bytes: number, flags = CE_DEFAULT): void {
  const copyType = dst.unprotected && src.unprotected ? LAUNCH_DMA_COPY_TYPE_NONPROT2NONPROT : 0;
  transfer(code, dst, src, bytes, physMode(code, dst, src) | copyType | transferOf(flags));
}

/** The scrubber sets whole pages of the GPU's own memory, given by their physical address. */
function isScrub(dst: GpuAddress, bytes: number): boolean {
  return dst.aperture === APERTURE_VID && (low32(dst.address) & PAGE_MASK) === 0 && (bytes & PAGE_MASK) === 0;
}

function memset(code: PushCode, dst: GpuAddress, count: number, size: number, flags: CeFlags): void {
  const isPhysical = dst.aperture !== VIRTUAL;
  const scrub = size === 8 && isScrub(dst, count * size);
  if (isPhysical) codeMethods(code, SUBCHANNEL_CE, CE_SET_DST_PHYS_MODE, dst.aperture);
  if (scrub) codeMethods(code, SUBCHANNEL_CE, CE_SET_MEMORY_SCRUB_PARAMETERS, 0);
  codeMethods(code, SUBCHANNEL_CE, CE_OFFSET_OUT_UPPER, high32(dst.address), low32(dst.address));
  codeMethods(code, SUBCHANNEL_CE, CE_LINE_LENGTH_IN, scrub ? count * size : count);
  const kind =
    (scrub ? LAUNCH_DMA_SCRUB_ENABLE : LAUNCH_DMA_REMAP_ENABLE) |
    (isPhysical ? LAUNCH_DMA_DST_PHYSICAL : 0) |
    (dst.unprotected ? LAUNCH_DMA_COPY_TYPE_NONPROT2NONPROT : 0);
  codeMethods(code, SUBCHANNEL_CE, CE_LAUNCH_DMA, kind | transferOf(flags) | LAUNCH_DMA_PITCH | LAUNCH_DMA_DISABLE_PLC);
}

/** Sets `count` elements of 8 bytes; `low` and `high` are the halves of the value. */
export function ceMemset8(
  code: PushCode,
  dst: GpuAddress,
  low: number,
  high: number,
  count: number,
  flags = CE_DEFAULT,
): void {
  codeMethods(code, SUBCHANNEL_CE, CE_SET_REMAP_CONST_A, low, high, REMAP_COMPONENTS_8);
  memset(code, dst, count, 8, flags);
}

/** Sets `count` elements of 4 bytes, not whole pages. */
export function ceMemset4(code: PushCode, dst: GpuAddress, value: number, count: number, flags = CE_DEFAULT): void {
  codeMethods(code, SUBCHANNEL_CE, CE_SET_REMAP_CONST_B, value, REMAP_COMPONENTS_4);
  memset(code, dst, count, 4, flags);
}

/** Encrypts memory of the GPU into unprotected memory; the engine writes the tag, and the IV that it used to `iv`. */
export function ceEncrypt(
  code: PushCode,
  dst: GpuAddress,
  src: GpuAddress,
  bytes: number,
  tag: number,
  iv: number,
  flags = CE_DEFAULT,
): void {
  codeMethods(code, SUBCHANNEL_CE, CE_SET_SECURE_COPY_MODE, SECURE_COPY_MODE_ENCRYPT);
  const method = CE_SET_ENCRYPT_AUTH_TAG_ADDR_UPPER;
  codeMethods(code, SUBCHANNEL_CE, method, high32(tag), low32(tag), high32(iv), low32(iv));
  transfer(code, dst, src, bytes, physMode(code, dst, src) | LAUNCH_DMA_COPY_TYPE_SECURE | transferOf(flags));
}

/** Decrypts unprotected memory into memory of the GPU, if the tag at `tag` fits. */
export function ceDecrypt(
  code: PushCode,
  dst: GpuAddress,
  src: GpuAddress,
  bytes: number,
  tag: number,
  flags = CE_DEFAULT,
): void {
  codeMethods(code, SUBCHANNEL_CE, CE_SET_SECURE_COPY_MODE, SECURE_COPY_MODE_DECRYPT);
  codeMethods(code, SUBCHANNEL_CE, CE_SET_DECRYPT_AUTH_TAG_COMPARE_ADDR_UPPER, high32(tag), low32(tag));
  transfer(code, dst, src, bytes, physMode(code, dst, src) | LAUNCH_DMA_COPY_TYPE_SECURE | transferOf(flags));
}
