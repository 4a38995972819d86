/**
 * The replayable fault buffer of a Volta and later GPU, as the hardware keeps it: a ring of 32-byte entries (class
 * C369) with a GET and a PUT register, and the interrupt that goes with them. Layout: clc369.h and the dev_fb.h
 * register fields that uvm_volta_fault_buffer.c reads and writes; interrupts: the pulses of Turing and later, as
 * uvm_turing_fault_buffer.c and uvm_gpu_isr.c rely on them (driver 580.105.08). Fault and client numbers are Hopper's.
 *
 * Time is part of the hardware. A fault is put in with the time at which it arrives and the time at which its entry
 * becomes valid, and everything that looks at the buffer does so at `m.k.now`; arrivals later than that are on their
 * way and move nothing yet. Two faults with one arrival time arrive in the order in which they were put in.
 *
 * Left out: the SIZE register, the GETPTR_CORRUPTED condition (the bit reads as zero), Confidential Computing's
 * encrypted packets, the level interrupts of Pascal and Volta, the overflow interrupt.
 */
import { assert } from '../../base/assert.ts';
import { schedule } from '../kernel/clock.ts';
import type { Model } from '../state.ts';

/** 32-bit words in an entry. */
export const FAULT_ENTRY_WORDS = 8;
/** The entry counts from this word and bit on: set by the hardware, cleared by the driver. */
export const FAULT_VALID_WORD = 7;
export const FAULT_VALID = 0x80000000 | 0;

/** Status bits of GET and PUT; writing them to GET clears them. The rest of the register is an index of 20 bits. */
export const FAULT_REGISTER_INDEX = 0xfffff;
export const FAULT_GETPTR_CORRUPTED = 0x40000000;
export const FAULT_OVERFLOW = 0x80000000;

/** Apertures of an instance pointer. */
export const APERTURE_VID_MEM = 0;
export const APERTURE_SYS_MEM_COHERENT = 2;
export const APERTURE_SYS_MEM_NONCOHERENT = 3;

/** Access types in an entry, 4 bits; 8 and above are physical. */
export const HW_ACCESS_READ = 0;
export const HW_ACCESS_WRITE = 1;
export const HW_ACCESS_ATOMIC_STRONG = 2;
export const HW_ACCESS_PREFETCH = 3;
export const HW_ACCESS_ATOMIC_WEAK = 4;

export const CLIENT_TYPE_GPC = 0;
export const CLIENT_TYPE_HUB = 1;

/** MMU engine id of the graphics engine's subcontext 0 on Hopper; subcontext (VEID) n has this plus n. */
export const ENGINE_GRAPHICS = 384;

/** Prefetch filter: whether accesses of type prefetch raise faults. */
export const PREFETCH_FILTER_SEND_ALL = 0;
export const PREFETCH_FILTER_SEND_NONE = 3;

/** GPU timestamps tick in steps of 32 ns. */
const TIMESTAMP_STEP = 32;
const TWO_32 = 4294967296;
const TWO_20 = 1048576;
const FIRST_ARRIVALS = 16;

/** Hardware access type by the driver's access type (prefetch, read, write, weak atomic, strong atomic). */
const HW_ACCESS = Uint8Array.of(
  HW_ACCESS_PREFETCH,
  HW_ACCESS_READ,
  HW_ACCESS_WRITE,
  HW_ACCESS_ATOMIC_WEAK,
  HW_ACCESS_ATOMIC_STRONG,
);

/** One entry, spelled out. Addresses are in units of 4 KiB. */
export interface FaultEntry {
  instanceAperture: number;
  instanceAddress: number;
  physicalAperture: number;
  page: number;
  timestamp: number;
  engineId: number;
  faultType: number;
  replayable: boolean;
  client: number;
  /** Hardware access type. */
  access: number;
  clientType: number;
  gpc: number;
  protectedMode: boolean;
  replayableEnabled: boolean;
  valid: boolean;
}

/** The ring, its registers, and what is on its way into it. */
export interface HwFaultBuffer {
  /** Slots; one of them stays empty. */
  entries: number;
  words: Uint32Array;
  /** When a written entry's valid bit appears; 0 when there is nothing to wait for. */
  validAt: Float64Array;
  get: number;
  put: number;
  overflow: boolean;
  prefetchFilter: number;
  /** Faults that arrived when the buffer was full or had overflowed: no entry tells of them. */
  dropped: number;
  /** Faults that got an entry. */
  written: number;

  /** Faults on their way, by time of arrival: a ring of `arrivalTime.length` records that grows. */
  arrivalTime: Float64Array;
  arrivalValidAt: Float64Array;
  arrivalWords: Uint32Array;
  arrivalFirst: number;
  arrivalCount: number;

  /** Kind of the timed event that delivers the interrupt (a = GPU index, b = its time); -1: nobody listens. */
  interruptKind: number;
  interruptEnabled: boolean;
  /** When it was enabled last, ns: a fault from before then interrupts no earlier. */
  interruptEnabledAt: number;
  interruptPending: boolean;
  /** When the interrupt on its way reaches the CPU; Infinity when there is none. */
  interruptAt: number;
}

/** A buffer of `entries` slots, empty, with its interrupt enabled. */
export function createHwFaultBuffer(entries: number): HwFaultBuffer {
  assert(entries >= 2 && entries <= FAULT_REGISTER_INDEX + 1, 'fault buffer: the index registers have 20 bits');
  return {
    entries,
    words: new Uint32Array(entries * FAULT_ENTRY_WORDS),
    validAt: new Float64Array(entries),
    get: 0,
    put: 0,
    overflow: false,
    prefetchFilter: PREFETCH_FILTER_SEND_ALL,
    dropped: 0,
    written: 0,
    arrivalTime: new Float64Array(FIRST_ARRIVALS),
    arrivalValidAt: new Float64Array(FIRST_ARRIVALS),
    arrivalWords: new Uint32Array(FIRST_ARRIVALS * FAULT_ENTRY_WORDS),
    arrivalFirst: 0,
    arrivalCount: 0,
    interruptKind: -1,
    interruptEnabled: true,
    interruptEnabledAt: 0,
    interruptPending: false,
    interruptAt: Number.POSITIVE_INFINITY,
  };
}

/** Writes an entry's 8 words at word offset `o` (NVC369_BUF_ENTRY). */
export function faultEntryEncode(w: Uint32Array, o: number, e: FaultEntry): void {
  w[o] = (e.instanceAperture << 8) | ((e.instanceAddress % TWO_20) << 12);
  w[o + 1] = Math.floor(e.instanceAddress / TWO_20);
  w[o + 2] = e.physicalAperture | ((e.page % TWO_20) << 12);
  w[o + 3] = Math.floor(e.page / TWO_20);
  w[o + 4] = e.timestamp % TWO_32;
  w[o + 5] = Math.floor(e.timestamp / TWO_32);
  w[o + 6] = e.engineId;
  w[o + 7] =
    e.faultType |
    (e.replayable ? 1 << 7 : 0) |
    (e.client << 8) |
    (e.access << 16) |
    (e.clientType << 20) |
    (e.gpc << 24) |
    (e.protectedMode ? 1 << 29 : 0) |
    (e.replayableEnabled ? 1 << 30 : 0) |
    (e.valid ? FAULT_VALID : 0);
}

/** Reads the entry at word offset `o`. */
export function faultEntryDecode(w: Uint32Array, o: number): FaultEntry {
  const last = w[o + 7];
  return {
    instanceAperture: (w[o] >>> 8) & 3,
    instanceAddress: (w[o] >>> 12) + w[o + 1] * TWO_20,
    physicalAperture: w[o + 2] & 3,
    page: (w[o + 2] >>> 12) + w[o + 3] * TWO_20,
    timestamp: w[o + 4] + w[o + 5] * TWO_32,
    engineId: w[o + 6] & 0x1ff,
    faultType: last & 0x1f,
    replayable: (last & (1 << 7)) !== 0,
    client: (last >>> 8) & 0x7f,
    access: (last >>> 16) & 0xf,
    clientType: (last >>> 20) & 1,
    gpc: (last >>> 24) & 0x1f,
    protectedMode: (last & (1 << 29)) !== 0,
    replayableEnabled: (last & (1 << 30)) !== 0,
    valid: (last & FAULT_VALID) !== 0,
  };
}

function growArrivals(b: HwFaultBuffer): void {
  const old = b.arrivalTime.length;
  const time = new Float64Array(old * 2);
  const validAt = new Float64Array(old * 2);
  const words = new Uint32Array(old * 2 * FAULT_ENTRY_WORDS);
  for (let i = 0; i < b.arrivalCount; i++) {
    const from = (b.arrivalFirst + i) & (old - 1);
    time[i] = b.arrivalTime[from];
    validAt[i] = b.arrivalValidAt[from];
    words.set(b.arrivalWords.subarray(from * FAULT_ENTRY_WORDS, (from + 1) * FAULT_ENTRY_WORDS), i * FAULT_ENTRY_WORDS);
  }
  b.arrivalTime = time;
  b.arrivalValidAt = validAt;
  b.arrivalWords = words;
  b.arrivalFirst = 0;
}

/** Opens a place for a fault that arrives at `time`, behind those that arrive no later; returns its index. */
function insertArrival(b: HwFaultBuffer, time: number): number {
  if (b.arrivalCount === b.arrivalTime.length) growArrivals(b);
  const wrap = b.arrivalTime.length - 1;
  let at = (b.arrivalFirst + b.arrivalCount) & wrap;
  b.arrivalCount++;
  while (at !== b.arrivalFirst) {
    const before = (at - 1) & wrap;
    if (b.arrivalTime[before] <= time) break;
    b.arrivalTime[at] = b.arrivalTime[before];
    b.arrivalValidAt[at] = b.arrivalValidAt[before];
    const from = before * FAULT_ENTRY_WORDS;
    b.arrivalWords.copyWithin(at * FAULT_ENTRY_WORDS, from, from + FAULT_ENTRY_WORDS);
    at = before;
  }
  b.arrivalTime[at] = time;
  return at;
}

/** Sends the interrupt so that it reaches the CPU at `time`, unless one that arrives earlier is on its way. */
function sendInterrupt(m: Model, b: HwFaultBuffer, gpuIndex: number, time: number): void {
  if (b.interruptKind < 0 || b.interruptAt <= time) return;
  const at = Math.max(Math.round(time), m.k.eventTime);
  b.interruptAt = at;
  schedule(m, at, b.interruptKind, gpuIndex, at);
}

/**
 * An access to `page` of type `access` (the driver's ACCESS_*) failed with hardware fault type `faultType`.
 *
 * The fault reaches the buffer at `time` (ns) and its entry is valid from `validAt` on. `instance` is the index in the
 * GPU's table of instance pointers; `gpc` and `client` are the hardware's numbers of the MMU client. Returns false when
 * the prefetch filter keeps the fault from being reported. Also the way in for recorded and hand-made faults.
 */
export function faultBufferInject(
  m: Model,
  gpuIndex: number,
  page: number,
  access: number,
  faultType: number,
  gpc: number,
  client: number,
  instance: number,
  time: number,
  validAt: number,
): boolean {
  const gpu = m.gpus[gpuIndex];
  const pointer = gpu.instancePointers[instance];
  assert(pointer !== undefined, 'fault of an instance pointer that does not exist');
  return faultBufferPut(
    m,
    gpuIndex,
    pointer.address,
    pointer.aperture,
    page,
    HW_ACCESS[access],
    faultType,
    gpc,
    client,
    time,
    validAt,
  );
}

/** As faultBufferInject, with the instance pointer itself (4 KiB units) and the hardware's access type. */
export function faultBufferPut(
  m: Model,
  gpuIndex: number,
  instanceAddress: number,
  instanceAperture: number,
  page: number,
  hwAccess: number,
  faultType: number,
  gpc: number,
  client: number,
  time: number,
  validAt: number,
): boolean {
  const b = m.gpus[gpuIndex].faultBuffer;
  if (hwAccess === HW_ACCESS_PREFETCH && b.prefetchFilter === PREFETCH_FILTER_SEND_NONE) return false;
  assert(validAt >= time, 'a fault entry becomes valid before it is written');
  const at = insertArrival(b, time);
  b.arrivalValidAt[at] = validAt;
  const w = b.arrivalWords;
  const o = at * FAULT_ENTRY_WORDS;
  // Quotients instead of remainders: for numbers beyond 32 bits the remainder operator is several times slower.
  const timestamp = Math.floor(time / TIMESTAMP_STEP) * TIMESTAMP_STEP;
  const timestampHigh = Math.floor(timestamp / TWO_32);
  const pageHigh = Math.floor(page / TWO_20);
  w[o] = (instanceAperture << 8) | ((instanceAddress % TWO_20) << 12);
  w[o + 1] = (instanceAddress / TWO_20) | 0;
  w[o + 2] = (page - pageHigh * TWO_20) << 12;
  w[o + 3] = pageHigh;
  w[o + 4] = timestamp - timestampHigh * TWO_32;
  w[o + 5] = timestampHigh;
  w[o + 6] = ENGINE_GRAPHICS;
  w[o + 7] = faultType | (1 << 7) | (client << 8) | (hwAccess << 16) | (gpc << 24) | (1 << 30);
  if (b.interruptEnabled) sendInterrupt(m, b, gpuIndex, Math.max(time, b.interruptEnabledAt) + m.cost.interruptLatency);
  return true;
}

/** A fault arrives: it gets the slot at PUT, or is lost. */
function land(b: HwFaultBuffer, at: number): void {
  const put = b.put;
  const next = put + 1 === b.entries ? 0 : put + 1;
  if (next === b.get) b.overflow = true;
  if (b.overflow) {
    b.dropped++;
    return;
  }
  const from = at * FAULT_ENTRY_WORDS;
  const to = put * FAULT_ENTRY_WORDS;
  const words = b.words;
  const arriving = b.arrivalWords;
  for (let i = 0; i < FAULT_ENTRY_WORDS; i++) words[to + i] = arriving[from + i];
  if (b.arrivalValidAt[at] <= b.arrivalTime[at]) {
    words[to + FAULT_VALID_WORD] |= FAULT_VALID;
    b.validAt[put] = 0;
  } else {
    b.validAt[put] = b.arrivalValidAt[at];
  }
  b.put = next;
  b.written++;
  b.interruptPending = true;
}

/** Lets everything arrive that has by now. */
function settle(m: Model, b: HwFaultBuffer): void {
  const now = m.k.now;
  while (b.arrivalCount > 0 && b.arrivalTime[b.arrivalFirst] <= now) {
    land(b, b.arrivalFirst);
    b.arrivalFirst = (b.arrivalFirst + 1) & (b.arrivalTime.length - 1);
    b.arrivalCount--;
  }
}

/** Reads the GET register. */
export function faultBufferReadGet(b: HwFaultBuffer): number {
  return (b.get | (b.overflow ? FAULT_OVERFLOW : 0)) >>> 0;
}

/** Reads the PUT register. */
export function faultBufferReadPut(m: Model, b: HwFaultBuffer): number {
  if (b.arrivalCount > 0) settle(m, b);
  return (b.put | (b.overflow ? FAULT_OVERFLOW : 0)) >>> 0;
}

/** Interrupts of faults that are still on their way: their delivery depends on the state at that time. */
function expectArrivals(m: Model, b: HwFaultBuffer, gpuIndex: number): void {
  if (b.arrivalCount === 0) return;
  sendInterrupt(m, b, gpuIndex, b.arrivalTime[b.arrivalFirst] + m.cost.interruptLatency);
}

function raiseInterrupt(m: Model, b: HwFaultBuffer, gpuIndex: number): void {
  if (!b.interruptEnabled) return;
  if (b.interruptPending) sendInterrupt(m, b, gpuIndex, m.k.now + m.cost.interruptLatency);
  else expectArrivals(m, b, gpuIndex);
}

/**
 * Writes the GET register: moves GET to the index, clears the status bits that are set in `value`, and looks again at
 * whether GET and PUT differ: if so, the interrupt is raised anew.
 */
export function faultBufferWriteGet(m: Model, gpuIndex: number, value: number): void {
  const b = m.gpus[gpuIndex].faultBuffer;
  const index = value & FAULT_REGISTER_INDEX;
  assert(index < b.entries, 'GET is written with an index beyond the buffer');
  // What arrived before this moment met the old GET.
  settle(m, b);
  b.get = index;
  if ((value & FAULT_OVERFLOW) !== 0) b.overflow = false;
  if (b.get !== b.put) b.interruptPending = true;
  raiseInterrupt(m, b, gpuIndex);
}

/** The valid bit of a slot. */
export function faultBufferIsValid(m: Model, b: HwFaultBuffer, index: number): boolean {
  if (b.arrivalCount > 0) settle(m, b);
  const word = index * FAULT_ENTRY_WORDS + FAULT_VALID_WORD;
  if ((b.words[word] & FAULT_VALID) !== 0) return true;
  const at = b.validAt[index];
  if (at === 0 || at > m.k.now) return false;
  b.words[word] |= FAULT_VALID;
  b.validAt[index] = 0;
  return true;
}

/** The driver gives a slot back. */
export function faultBufferClearValid(b: HwFaultBuffer, index: number): void {
  b.words[index * FAULT_ENTRY_WORDS + FAULT_VALID_WORD] &= ~FAULT_VALID;
}

/** Sets the prefetch filter register (PREFETCH_FILTER_*). */
export function faultBufferSetPrefetchFilter(b: HwFaultBuffer, filter: number): void {
  b.prefetchFilter = filter;
}

/** Sets the interrupt's enable bit; a pending interrupt goes out at once. */
export function faultBufferEnableInterrupt(m: Model, gpuIndex: number): void {
  const b = m.gpus[gpuIndex].faultBuffer;
  settle(m, b);
  b.interruptEnabled = true;
  b.interruptEnabledAt = m.k.now;
  raiseInterrupt(m, b, gpuIndex);
}

/** Clears the interrupt's enable bit. */
export function faultBufferDisableInterrupt(m: Model, gpuIndex: number): void {
  const b = m.gpus[gpuIndex].faultBuffer;
  settle(m, b);
  b.interruptEnabled = false;
}

/** Clears the interrupt's pending bit. */
export function faultBufferClearInterrupt(m: Model, gpuIndex: number): void {
  const b = m.gpus[gpuIndex].faultBuffer;
  settle(m, b);
  b.interruptPending = false;
}

/**
 * The event of an interrupt's arrival at the CPU, sent to arrive at `time`: true when the CPU takes it. It does not
 * when the interrupt was disabled or cleared on the way, or an earlier one took its place.
 */
export function faultBufferInterruptArrives(m: Model, gpuIndex: number, time: number): boolean {
  const b = m.gpus[gpuIndex].faultBuffer;
  if (b.interruptAt !== time) return false;
  b.interruptAt = Number.POSITIVE_INFINITY;
  settle(m, b);
  if (!b.interruptEnabled) return false;
  if (m.k.now < b.interruptEnabledAt) {
    // The thread that enabled it is ahead in time: at this moment it was still off. It goes out again from there.
    sendInterrupt(m, b, gpuIndex, b.interruptEnabledAt + m.cost.interruptLatency);
    return false;
  }
  if (b.interruptPending) return true;
  expectArrivals(m, b, gpuIndex);
  return false;
}

/** After the CPU took an interrupt and left it enabled: the next fault raises one of its own. */
export function faultBufferInterruptTaken(m: Model, gpuIndex: number): void {
  const b = m.gpus[gpuIndex].faultBuffer;
  if (b.interruptEnabled) expectArrivals(m, b, gpuIndex);
}

/** RM triggers its interrupts anew, as it does at the end of its top half and on resume: a pending one goes out. */
export function faultBufferRetriggerInterrupt(m: Model, gpuIndex: number): void {
  const b = m.gpus[gpuIndex].faultBuffer;
  settle(m, b);
  raiseInterrupt(m, b, gpuIndex);
}

/** Time from which the entry at `index` is valid (ns): the past when it is, Infinity when nothing will make it so. */
export function faultBufferValidTime(m: Model, b: HwFaultBuffer, index: number): number {
  if (faultBufferIsValid(m, b, index)) return m.k.now;
  return b.validAt[index] === 0 ? Number.POSITIVE_INFINITY : b.validAt[index];
}
