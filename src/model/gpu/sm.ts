/**
 * The MMU clients of a GPU: who issues accesses, and what becomes of an access that faults. It parks; a replay retries
 * every parked access of the GPU, a cancel ends those that it names. What the driver (580.105.08) relies on:
 * uvm_gpu_replayable_faults.c, the replay and cancel methods of uvm_volta_host.c.
 *
 * A client slot stands for something that can have one access outstanding, such as a warp. Each slot's faults carry its
 * MMU client's numbers. Rules of a replay:
 *   - every parked access is retried, in the order in which the accesses parked;
 *   - one that is translated now ends; the slot's thread goes on `replayToResume` later;
 *   - one that is not faults again and stays parked. Its new entry is in the buffer when the replay's end can be seen:
 *     precise cancel counts on that (service_fault_batch_for_cancel);
 *   - accesses of type prefetch never park and are never retried.
 * A cancel ends the parked accesses it names, and replays the others as a side effect.
 *
 * Left out: how SMs schedule warps, uTLBs that merge misses of one page, the limit of faults a uTLB may have
 * outstanding.
 */
import { assert } from '../../base/assert.ts';
import { threadWake } from '../kernel/thread.ts';
import type { Model } from '../state.ts';
import { faultBufferInject } from './fault_buffer.ts';
import { MMU_OK, mmuTranslate } from './mmu.ts';

/** States of a slot. */
export const CLIENT_IDLE = 0;
/** Its access faulted and waits for a replay. */
export const CLIENT_PARKED = 1;
/** Its parked access was translated by a replay. */
export const CLIENT_REPLAYED = 2;
/** Its parked access was cancelled. */
export const CLIENT_CANCELLED = 3;

/** Access filters of a cancel (virtual accesses). */
export const CANCEL_WRITE_AND_ATOMIC = 6;
export const CANCEL_ALL = 7;

/** Driver access types (uvm_fault_access_type_t) that matter here. */
const ACCESS_PREFETCH = 0;
const ACCESS_WRITE = 2;

const NO_THREAD = -1;
const FIRST_SLOTS = 16;

export interface GpuClients {
  /** Slots in use, from 0 on. */
  count: number;
  gpc: Uint8Array;
  client: Uint8Array;
  /** Index in the GPU's table of instance pointers. */
  instance: Int32Array;
  /** Thread that is woken when the slot's parked access ends, or -1. */
  thread: Int32Array;
  state: Uint8Array;
  /** The outstanding access of a parked slot; access is the driver's type. */
  page: Float64Array;
  access: Uint8Array;
  /** Parked slots in the order in which their accesses parked. */
  parked: Int32Array;
  parkedCount: number;
  /** Faults reported, retries included. */
  faults: number;
}

export function createClients(): GpuClients {
  return {
    count: 0,
    gpc: new Uint8Array(FIRST_SLOTS),
    client: new Uint8Array(FIRST_SLOTS),
    instance: new Int32Array(FIRST_SLOTS),
    thread: new Int32Array(FIRST_SLOTS),
    state: new Uint8Array(FIRST_SLOTS),
    page: new Float64Array(FIRST_SLOTS),
    access: new Uint8Array(FIRST_SLOTS),
    parked: new Int32Array(FIRST_SLOTS),
    parkedCount: 0,
    faults: 0,
  };
}

function growSlots(c: GpuClients): void {
  const slots = c.state.length * 2;
  const uint8 = (old: Uint8Array): Uint8Array => {
    const bigger = new Uint8Array(slots);
    bigger.set(old);
    return bigger;
  };
  const int32 = (old: Int32Array): Int32Array => {
    const bigger = new Int32Array(slots);
    bigger.set(old);
    return bigger;
  };
  const page = new Float64Array(slots);
  page.set(c.page);
  c.page = page;
  c.gpc = uint8(c.gpc);
  c.client = uint8(c.client);
  c.state = uint8(c.state);
  c.access = uint8(c.access);
  c.instance = int32(c.instance);
  c.thread = int32(c.thread);
  c.parked = int32(c.parked);
}

/**
 * Adds a slot whose faults name MMU client `client` of GPC `gpc` and the instance pointer with index `instance`;
 * `thread` is woken when a parked access ends (-1: nobody). Returns the slot.
 */
export function clientsAddSlot(
  m: Model,
  gpuIndex: number,
  gpc: number,
  client: number,
  instance: number,
  thread: number,
): number {
  const c = m.gpus[gpuIndex].clients;
  if (c.count === c.state.length) growSlots(c);
  const slot = c.count++;
  c.gpc[slot] = gpc;
  c.client[slot] = client;
  c.instance[slot] = instance;
  c.thread[slot] = thread;
  c.state[slot] = CLIENT_IDLE;
  return slot;
}

/** Gives a slot to another thread; it must not be parked. */
export function clientsSetThread(m: Model, gpuIndex: number, slot: number, thread: number): void {
  const c = m.gpus[gpuIndex].clients;
  assert(c.state[slot] !== CLIENT_PARKED, 'a parked client slot changes hands');
  c.thread[slot] = thread;
}

/** Forgets all slots, for the next program. None may be parked. */
export function clientsReset(m: Model, gpuIndex: number): void {
  const c = m.gpus[gpuIndex].clients;
  assert(c.parkedCount === 0, 'clients are reset while accesses are parked');
  c.count = 0;
}

/** An access of a slot fails: it is reported, and parks unless it is a prefetch. */
function park(m: Model, gpuIndex: number, slot: number, page: number, access: number, faultType: number): boolean {
  const c = m.gpus[gpuIndex].clients;
  assert(slot >= 0 && slot < c.count, 'client slot does not exist');
  assert(c.state[slot] !== CLIENT_PARKED, 'a parked client slot issues an access');
  c.page[slot] = page;
  c.access[slot] = access;
  report(m, gpuIndex, slot, faultType, Math.round(m.k.now + m.cost.faultToEntry));
  if (access === ACCESS_PREFETCH) return true;
  c.state[slot] = CLIENT_PARKED;
  c.parked[c.parkedCount++] = slot;
  return false;
}

function report(m: Model, gpuIndex: number, slot: number, faultType: number, time: number): void {
  const c = m.gpus[gpuIndex].clients;
  c.faults++;
  faultBufferInject(
    m,
    gpuIndex,
    c.page[slot],
    c.access[slot],
    faultType,
    c.gpc[slot],
    c.client[slot],
    c.instance[slot],
    time,
    time,
  );
}

/**
 * A slot accesses a page (`access`: the driver's ACCESS_*) at `m.k.now`. True: it was translated, and `mmu.target`
 * names the processor whose memory it reached; a prefetch is true in any case. False: it faulted and parks; the caller
 * waits until clientsOutcome says how it ended. Its entry reaches the fault buffer `faultToEntry` from now.
 *
 * The caller has run the GPU's finished pushes first (hostRunUntil): their page-table writes count.
 */
export function clientsIssue(m: Model, gpuIndex: number, slot: number, page: number, access: number): boolean {
  const result = mmuTranslate(m.gpus[gpuIndex].mmu, page, access);
  if (result === MMU_OK) return true;
  return park(m, gpuIndex, slot, page, access, result);
}

/** State of a slot; CLIENT_REPLAYED and CLIENT_CANCELLED are handed over once, and the slot is idle after that. */
export function clientsOutcome(m: Model, gpuIndex: number, slot: number): number {
  const c = m.gpus[gpuIndex].clients;
  const state = c.state[slot];
  if (state !== CLIENT_PARKED) c.state[slot] = CLIENT_IDLE;
  return state;
}

/** A parked access ends; `time` is when the replay or cancel was carried out. */
function unpark(m: Model, gpuIndex: number, slot: number, state: number, time: number): void {
  const c = m.gpus[gpuIndex].clients;
  c.state[slot] = state;
  const resume = Math.round(time + m.cost.replayToResume);
  if (m.res.why !== null) {
    m.res.why.resumed?.(gpuIndex, c.page[slot], c.access[slot], time, resume, state === CLIENT_CANCELLED);
  }
  if (c.thread[slot] === NO_THREAD) return;
  threadWake(m, c.thread[slot], resume > m.k.eventTime ? resume : m.k.eventTime);
}

/**
 * A replay of any type is carried out at `time` (ns): every parked access of the GPU is retried. START and
 * START_ACK_ALL differ in what their completion promises, not in what they do.
 */
export function clientsReplay(m: Model, gpuIndex: number, time: number, _type: number): void {
  const gpu = m.gpus[gpuIndex];
  const c = gpu.clients;
  const count = c.parkedCount;
  let left = 0;
  for (let i = 0; i < count; i++) {
    const slot = c.parked[i];
    const result = mmuTranslate(gpu.mmu, c.page[slot], c.access[slot]);
    if (result === MMU_OK) {
      if (m.res.accessReplayed) m.res.accessReplayed(m, gpuIndex, slot, gpu.mmu.target);
      unpark(m, gpuIndex, slot, CLIENT_REPLAYED, time);
    } else {
      c.parked[left++] = slot;
      report(m, gpuIndex, slot, result, time);
    }
  }
  c.parkedCount = left;
}

function filterMatches(accessFilter: number, access: number): boolean {
  return accessFilter === CANCEL_ALL || access >= ACCESS_WRITE;
}

/**
 * A cancel of a virtual address is carried out at `time` (ns): parked accesses to the page that pass the filter
 * (CANCEL_ALL, CANCEL_WRITE_AND_ATOMIC) end as cancelled. `vaSpace` limits it to one VA space (-1: any).
 */
export function clientsCancel(
  m: Model,
  gpuIndex: number,
  page: number,
  accessFilter: number,
  time: number,
  vaSpace = -1,
): void {
  assert(accessFilter === CANCEL_ALL || accessFilter === CANCEL_WRITE_AND_ATOMIC, 'access filter of a cancel');
  const gpu = m.gpus[gpuIndex];
  const c = gpu.clients;
  let left = 0;
  for (let i = 0; i < c.parkedCount; i++) {
    const slot = c.parked[i];
    const named =
      c.page[slot] === page &&
      filterMatches(accessFilter, c.access[slot]) &&
      (vaSpace < 0 || gpu.instancePointers[c.instance[slot]].vaSpace === vaSpace);
    if (named) unpark(m, gpuIndex, slot, CLIENT_CANCELLED, time);
    else c.parked[left++] = slot;
  }
  c.parkedCount = left;
  clientsReplay(m, gpuIndex, time, 0);
}

/** A cancel of a whole context is carried out: all parked accesses of the instance pointer end as cancelled. */
export function clientsCancelInstance(m: Model, gpuIndex: number, address: number, time: number): void {
  const gpu = m.gpus[gpuIndex];
  const c = gpu.clients;
  let left = 0;
  for (let i = 0; i < c.parkedCount; i++) {
    const slot = c.parked[i];
    if (gpu.instancePointers[c.instance[slot]].address === address) unpark(m, gpuIndex, slot, CLIENT_CANCELLED, time);
    else c.parked[left++] = slot;
  }
  c.parkedCount = left;
  clientsReplay(m, gpuIndex, time, 0);
}
