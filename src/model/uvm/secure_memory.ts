/**
 * Where the memory lies that Confidential Computing is about: what uvm_pushbuffer.c, uvm_channel.c (WLC_SYSMEM_*),
 * uvm_gpu_semaphore.c (uvm_gpu_encrypted_semaphore_payload_t) and uvm_conf_computing.c allocate for a GPU (driver
 * 580.105.08). Sizes, alignments and offsets are the driver's; the model has no allocator of GPU addresses, so where
 * each piece begins is fixed here.
 *
 * A GPU sees both kinds of memory in one address space. The CPU can reach the unprotected kind alone, and so can
 * anybody else.
 */
import { FIRST_UNPROTECTED } from '../gpu/secure_memory.ts';
import type { Channel } from './channel.ts';
import type { GpuSemaphore } from './gpu_semaphore.ts';
import type { Push } from './pushbuffer.ts';

/** UVM_CONF_COMPUTING_AUTH_TAG_SIZE, _BUF_ALIGNMENT, UVM_CSL_SIGN_AUTH_TAG_SIZE_BYTES */
export const AUTH_TAG_BYTES = 16;
export const BUF_ALIGNMENT = 32;
export const SIGN_AUTH_TAG_BYTES = 32;
/** UVM_MAX_WLC_PUSH_SIZE and UVM_LCIC_PUSH_SIZE; a WLC push that is shorter is padded. */
export const WLC_PUSH_BYTES = 364;
export const LCIC_PUSH_BYTES = 216;
const WLC_ALIGNED = 384;
const LCIC_ALIGNED = 224;
/** WLC_SYSMEM_TOTAL_SIZE: a push, its tag, and the tag of the push that it launches. */
const WLC_SYSMEM_TOTAL = WLC_ALIGNED + 2 * AUTH_TAG_BYTES;
/** uvm_gpu_encrypted_semaphore_payload_t: payload, notifier, padding, tag. */
export const ENCRYPTED_SEMAPHORE_BYTES = 32;
export const ENCRYPTED_NOTIFIER_OFFSET = 4;
export const ENCRYPTED_TAG_OFFSET = 16;
const SEMAPHORE_PAGE = 4096;
const SEMAPHORES_PER_PAGE = 1024;

const REGION = 2 ** 32;
const region = (index: number): number => index * REGION;

/** Protected memory of the GPU. */
const PUSHBUFFER = region(1);
const SEMAPHORES = region(2);
const GPFIFO = region(3);
const GPFIFO_OF_CHANNEL = 2 ** 24;
const USERD = region(5);
const USERD_OF_CHANNEL = 512;
const GPGET_OFFSET = 0x88;
const GPPUT_OFFSET = 0x8c;
const DOORBELL = region(6) + 0x90;
const WLC_VIDMEM = region(7);
const LCIC_VIDMEM = region(8);
/** Where the tables of page-table entries lie: physical addresses, a region for each level (gpu/mmu.ts). */
const PAGE_TABLES = 2 ** 50;
const PAGE_TABLES_OF_LEVEL = 2 ** 44;

/** Unprotected memory. */
const NAMES = [
  'pushbuffer',
  'semaphore payloads',
  'semaphores of SEC2',
  'WLC',
  'notifiers of LCIC',
  'staging buffers',
  'tags of staging buffers',
  'IV',
];
const U_PUSHBUFFER = FIRST_UNPROTECTED;
const U_SEMAPHORES = FIRST_UNPROTECTED + region(1);
const U_SEC2_SEMAPHORES = FIRST_UNPROTECTED + region(2);
const U_WLC = FIRST_UNPROTECTED + region(3);
const U_LCIC = FIRST_UNPROTECTED + region(4);
const U_STAGING = FIRST_UNPROTECTED + region(5);
const U_STAGING_TAGS = FIRST_UNPROTECTED + region(6);
/** The engine writes the IV that it used there; nobody reads it. */
export const UNPROTECTED_IV = FIRST_UNPROTECTED + region(7);
const STAGING_BUFFER = 2 * 1024 * 1024;
const STAGING_PAGES = 512;

/** What lies at an address of unprotected memory, as a name for reports and tests. */
export function unprotectedName(address: number): string {
  return NAMES[Math.floor((address - FIRST_UNPROTECTED) / REGION)] ?? 'something else';
}

/** A push at `offset` in the pushbuffer: decrypted, and as the CPU and the engine encrypt it. */
export function pushbufferGpuVa(offset: number): number {
  return PUSHBUFFER + offset;
}
export function pushbufferUnprotectedGpuVa(offset: number): number {
  return U_PUSHBUFFER + offset;
}

/** Where the tag goes that is reserved in a push of `bytes` bytes so far: 16 aligned bytes behind a header. */
export function pushTagUnprotectedGpuVa(push: Push, bytes: number): number {
  const behind = pushbufferUnprotectedGpuVa(push.offset + bytes) + 4;
  return Math.ceil(behind / AUTH_TAG_BYTES) * AUTH_TAG_BYTES;
}

/** A semaphore that a copy engine releases, and the structure with its encrypted payload. */
export function semaphoreGpuVa(semaphore: GpuSemaphore): number {
  return SEMAPHORES + semaphore.page * SEMAPHORE_PAGE + 4 * semaphore.index;
}
export function semaphoreEncryptedGpuVa(semaphore: GpuSemaphore): number {
  return U_SEMAPHORES + (semaphore.page * SEMAPHORES_PER_PAGE + semaphore.index) * ENCRYPTED_SEMAPHORE_BYTES;
}
/** A semaphore that SEC2 releases: it reaches no protected memory for that. */
export function semaphoreSec2GpuVa(semaphore: GpuSemaphore): number {
  return U_SEC2_SEMAPHORES + semaphore.page * SEMAPHORE_PAGE + 4 * semaphore.index;
}

/** GPFIFO entry `entry` of a channel, its GET and PUT; and the doorbell of all channels, which takes their tokens. */
export function gpfifoGpuVa(channel: Channel, entry: number): number {
  return GPFIFO + channel.index * GPFIFO_OF_CHANNEL + 8 * entry;
}
export function gpGetGpuVa(channel: Channel): number {
  return USERD + channel.index * USERD_OF_CHANNEL + GPGET_OFFSET;
}
export function gpPutGpuVa(channel: Channel): number {
  return USERD + channel.index * USERD_OF_CHANNEL + GPPUT_OFFSET;
}
export const doorbellGpuVa = DOORBELL;

/** Channel `pair` of the WLC pool: its push decrypted, the push that decrypts it, and its unprotected memory. */
export function wlcRunGpuVa(pair: number): number {
  return WLC_VIDMEM + 2 * pair * WLC_ALIGNED;
}
export function wlcDecryptGpuVa(pair: number): number {
  return wlcRunGpuVa(pair) + WLC_ALIGNED;
}
export function wlcUnprotectedGpuVa(pair: number): number {
  return U_WLC + pair * WLC_SYSMEM_TOTAL;
}
export function wlcTagGpuVa(pair: number): number {
  return wlcUnprotectedGpuVa(pair) + WLC_ALIGNED;
}
export function launchTagGpuVa(pair: number): number {
  return wlcTagGpuVa(pair) + AUTH_TAG_BYTES;
}

/** LCIC's push, and the notifiers that the CPU prepares for it: the odd one and, 4 bytes behind, the even one. */
export function lcicRunGpuVa(pair: number): number {
  return LCIC_VIDMEM + pair * LCIC_ALIGNED;
}
export function lcicNotifierGpuVa(pair: number): number {
  return U_LCIC + 8 * pair;
}

/** Entry `index` of all tables of a level, of `bytes` bytes. */
export function pageTableEntryAddress(level: number, index: number, bytes: number): number {
  return PAGE_TABLES + level * PAGE_TABLES_OF_LEVEL + index * bytes;
}

/** Page `page` of a staging buffer, and its tag. */
export function stagingGpuVa(buffer: number, page: number): number {
  return U_STAGING + buffer * STAGING_BUFFER + page * SEMAPHORE_PAGE;
}
export function stagingTagGpuVa(buffer: number, page: number): number {
  return U_STAGING_TAGS + (buffer * STAGING_PAGES + page) * AUTH_TAG_BYTES;
}
