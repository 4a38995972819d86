/**
 * State of the copy routine: plain data on the VA space, and a little for the whole driver. What the routine is, and
 * its rules by number, is in docs/copy-routine.md.
 */

/** Forms of a copy. */
export const FORM_IMMEDIATE = 0;
export const FORM_ASYNC = 1;
export const FORM_ARMED = 2;

/** States of a copy, as COPY_STATUS gives them. */
export const COPY_ARMED = 1;
/** Its pushes are under way. */
export const COPY_RUNNING = 2;
export const COPY_DONE = 3;
/** It ended without having copied everything: disarmed, its fault failed, or an error. */
export const COPY_ENDED = 4;

/** What the page's fault came to when an armed copy was made. */
export const HOW_NOT_ARMED = 0;
/** Its residency changed in this service: moved, or touched for the first time. */
export const HOW_MIGRATED = 1;
/** It stayed where it was, or was duplicated, and got a mapping. */
export const HOW_MAPPED = 2;
/** The fault was stale: the GPU had the right already, and nothing was serviced. */
export const HOW_STALE = 3;

/** A push that a record names. Times are ns of the GPU's execution. */
export interface CopyPush {
  /** Index of the GPU, channel id and tracking value. */
  gpu: number;
  channel: number;
  value: number;
  begin: number;
  end: number;
}

/** With Confidential Computing: a staging buffer into which a push of a copy encrypts pages of one block. */
export interface CopyBounce {
  /** Index of the GPU, and the number of the buffer in its pool. */
  gpu: number;
  buffer: number;
  /** The push that encrypts. */
  channel: number;
  value: number;
  /** First page of the block, and the pages that are encrypted, ascending and counted from there. */
  startPage: number;
  pages: number[];
}

/** One copy: its request, what it holds while it lasts, and what is known of it afterwards. */
export interface CopyRecord {
  /** Index in `CopySpace.records` + 1. */
  token: number;
  form: number;
  state: number;
  /** NV_STATUS: of the copy, as far as it has come. */
  status: number;
  /** Scenario step in which it was asked for, and in which its fault was (armed; -1 before). */
  step: number;
  faultStep: number;
  /** First page of A; -1 while an armed copy waits for whichever page faults. */
  fromPage: number;
  pages: number;
  /** B: address space, page and byte in it. */
  mm: number;
  toPage: number;
  toOffset: number;
  /** The prefix that arrived, or will when the pushes are done. */
  bytes: number;
  /** Where the first page's valid copy was: a processor id, or INVALID_ID for nowhere. */
  residentOn: number;
  how: number;
  /** B holds the value that the page had when it faulted: nobody could write it meanwhile. */
  snapshot: boolean;
  /** Processors that mapped a page of A writable at the time of the copy, a mask. */
  writableOn: number;
  /** When it was asked for, and first and last moment of the copying, ns; -1 where there is none. */
  requested: number;
  begin: number;
  end: number;
  pushes: CopyPush[];
  /** Armed: the faulting GPU's index, its push that maps the page afterwards, and the replay that follows. */
  gpu: number;
  pageTablePush: CopyPush | null;
  replay: CopyPush | null;
  /** Armed: how long the bottom half was busy with the copy, ns: its submission, and all that it waited for. */
  bottomHalfTime: number;
  /** Staging buffers that are not decrypted yet: none is left when the copy is over. */
  bounces: CopyBounce[];
  /** Held until the copy is over: pinned memory or stage (a slot of Kernel.pins, or -1), GPUs that map it, GPUs. */
  pin: number;
  staged: boolean;
  mappedGpus: number;
  retainedGpus: number;
  /** Pushes whose callback has not run, and the item that cleans up after them (-1: none). */
  pendingPushes: number;
  item: number;
}

/** The copy routine's part of a VA space. Guarded by a leaf lock. */
export interface CopySpace {
  /** copyFromAddress: first page and pages; 0 pages when it is cleared. */
  fromPage: number;
  fromPages: number;
  /** nextCopyAddress that no copy has consumed: page (-1: none) and byte in it. */
  nextPage: number;
  nextOffset: number;
  /** Token of the armed copy, or 0. */
  armed: number;
  records: CopyRecord[];
}

/** The copy routine's part of the driver. */
export interface CopyRoutine {
  /** Queue of the kernel thread that cleans up, its function, and the pushes' callback. */
  queue: number;
  cleanupFunction: number;
  callback: number;
  /** Flat pairs [VA space, token]: armed copies whose page-table push or replay has not been seen yet. */
  watched: number[];
  /** Number of the rule (docs/copy-routine.md) by which the latest ioctl was refused; 0 when none was. */
  refusedBy: number;
}

/** Stages of a copy, in the order in which they come; not every copy has all. For whoever observes (model/why.ts). */
export type CopyStage =
  /** The ioctl enters the routine. */
  | 'called'
  /** B is pinned, or a stage of the kernel's is taken. */
  | 'destination'
  /** B is mapped for DMA on the registered GPUs, which are kept. */
  | 'mapped'
  /** The copy has its token and is on the list. */
  | 'listed'
  /** Armed: a bottom half has found its fault and taken it. */
  | 'claimed'
  /** The CPU copied, or wrote zeros. */
  | 'cpu'
  /** A push that copies was ended. */
  | 'push'
  /** Waiting begins, with no lock held; with Confidential Computing also in a bottom half, with the block locked. */
  | 'wait'
  /** The pushes are done as far as the waiter knows. */
  | 'waited'
  /** With Confidential Computing: the CPU decrypted what the pushes brought. */
  | 'decrypted'
  /** The stage was copied to B. */
  | 'staged'
  /** The push's callback queues the item that lets go. */
  | 'queued'
  /** Unmapped, unpinned, GPUs released. */
  | 'released'
  /** The ioctl leaves the routine. */
  | 'returned';
export type CopyStageDetail = Readonly<Record<string, number | string | readonly number[]>>;
