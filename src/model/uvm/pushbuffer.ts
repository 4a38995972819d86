/**
 * Models uvm_pushbuffer.c (driver 580.105.08): where the methods of a push are built.
 *
 * Functions: uvm_pushbuffer_begin_push, _end_push, _mark_completed. At most 16 pushes are open at once. Left out: the
 * sixteen chunks of 1 MiB and their accounting of space, so a pushbuffer is never full and never makes a push wait;
 * methods are kept in buffers of their own (gpu/methods.ts), which return when the push has run.
 */
import { assert } from '../../base/assert.ts';
import type { HostWork } from '../gpu/host.ts';
import { type MethodMemory, methodMemoryClaim } from '../gpu/methods.ts';

/** UVM_PUSH_MAX_CONCURRENT_PUSHES: pushes between begin and end. */
export const PUSH_MAX_CONCURRENT_PUSHES = 16;

/** UVM_PUSH_ACQUIRE_INFO_MAX_ENTRIES: acquired entries that a push remembers. */
export const PUSH_ACQUIRE_INFO_MAX_ENTRIES = 16;

/** Slot of a push that is none of the pushbuffer's: one that launches others with Confidential Computing. */
export const PUSH_SLOT_STATIC = -1;

const FIRST_TIMESTAMPS = 16;

/**
 * A push between begin and end. Objects are reused, the one ended longest ago first: what a push holds after its end
 * stays readable until 15 more pushes have begun on its GPU.
 */
export interface Push extends HostWork {
  /** Index in Pushbuffer.pushes. */
  slot: number;
  /** Index of the GPU, and the channel's id. */
  gpu: number;
  channel: number;
  /** A CHANNEL_TYPE_* constant of channel.ts: what the channel was asked for as. */
  type: number;
  /** A PURPOSE_* constant of push.ts. */
  purpose: number;
  open: boolean;
  /** Channel that launches the push with Confidential Computing, by id, or -1: the push is submitted directly. */
  launchChannel: number;
  /** CPU time of begin; `end` is the CPU time of submission (ns). `start` and `finish` are valid after pushEnd. */
  begin: number;
  /** Methods emitted, acquires apart. */
  methods: number;
  /** Callback kind (pushCallbackRegister) that runs when the push is collected, or -1, and its argument. */
  onComplete: number;
  onCompleteData: number;
  /** GPU times of the timestamp methods (ns), valid after pushEnd; until then times relative to the start. */
  timestamps: Float64Array;
  timestampCount: number;
  /** Kinds of work that the base cost was charged for (KIND_* bits of push.ts), and runs copied. */
  kinds: number;
  copies: number;
  /** Acquired pushes, [channel id, value] each; `acquireCount` counts those beyond the first 16 too. */
  acquires: Float64Array;
  acquireCount: number;
  /** The buffer that `buffer` names. */
  words: Float64Array;
}

export interface Pushbuffer {
  /** PUSH_MAX_CONCURRENT_PUSHES objects, and a ring of those that are free. */
  pushes: Push[];
  freePushes: Int32Array;
  freeFirst: number;
  freeCount: number;
  /** Pushes ended and not yet collected. */
  pendingPushes: number;
}

/** An unused push. */
export function createPush(slot: number): Push {
  return {
    slot,
    trackingValue: 0,
    end: 0,
    acquireTime: 0,
    otherGpus: 0,
    duration: 0,
    usesEngine: false,
    mustRun: false,
    buffer: -1,
    length: 0,
    start: 0,
    finish: 0,
    gpu: -1,
    channel: -1,
    type: 0,
    purpose: 0,
    open: false,
    launchChannel: -1,
    begin: 0,
    methods: 0,
    onComplete: -1,
    onCompleteData: 0,
    timestamps: new Float64Array(FIRST_TIMESTAMPS),
    timestampCount: 0,
    kinds: 0,
    copies: 0,
    acquires: new Float64Array(2 * PUSH_ACQUIRE_INFO_MAX_ENTRIES),
    acquireCount: 0,
    words: new Float64Array(0),
  };
}

export function createPushbuffer(): Pushbuffer {
  return {
    pushes: Array.from({ length: PUSH_MAX_CONCURRENT_PUSHES }, (_, slot) => createPush(slot)),
    freePushes: Int32Array.from({ length: PUSH_MAX_CONCURRENT_PUSHES }, (_, i) => i),
    freeFirst: 0,
    freeCount: PUSH_MAX_CONCURRENT_PUSHES,
    pendingPushes: 0,
  };
}

/**
 * Opens a push and gives it room for methods (uvm_pushbuffer_begin_push). The caller fills in gpu, channel, purpose and
 * begin. A 17th open push would wait in the driver for another thread; here it is an error of the caller.
 */
export function pushbufferBeginPush(pushbuffer: Pushbuffer, memory: MethodMemory): Push {
  assert(pushbuffer.freeCount > 0, 'too many open pushes');
  const slot = pushbuffer.freePushes[pushbuffer.freeFirst];
  pushbuffer.freeFirst = (pushbuffer.freeFirst + 1) & (PUSH_MAX_CONCURRENT_PUSHES - 1);
  pushbuffer.freeCount--;
  const push = pushbuffer.pushes[slot];
  pushReset(push, memory);
  return push;
}

/** Opens a push that is not open, with nothing in it yet. */
export function pushReset(push: Push, memory: MethodMemory): void {
  push.open = true;
  push.launchChannel = -1;
  push.buffer = methodMemoryClaim(memory);
  push.words = memory.buffers[push.buffer];
  push.trackingValue = 0;
  push.acquireTime = 0;
  push.otherGpus = 0;
  push.duration = 0;
  push.usesEngine = false;
  push.mustRun = false;
  push.length = 0;
  push.methods = 0;
  push.onComplete = -1;
  push.onCompleteData = 0;
  push.timestampCount = 0;
  push.kinds = 0;
  push.copies = 0;
  push.acquireCount = 0;
}

/** Closes a push that the host has taken over (uvm_pushbuffer_end_push). */
export function pushbufferEndPush(pushbuffer: Pushbuffer, push: Push): void {
  push.open = false;
  const at = (pushbuffer.freeFirst + pushbuffer.freeCount) & (PUSH_MAX_CONCURRENT_PUSHES - 1);
  pushbuffer.freePushes[at] = push.slot;
  pushbuffer.freeCount++;
  pushbuffer.pendingPushes++;
}

/** A collected push gives its space back, after its callback ran (uvm_pushbuffer_mark_completed). */
export function pushbufferMarkCompleted(pushbuffer: Pushbuffer): void {
  pushbuffer.pendingPushes--;
}
