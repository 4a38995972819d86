/**
 * Models uvm_pushbuffer.c (driver 580.105.08): where the methods of a push are built.
 *
 * Functions: uvm_pushbuffer_create, _begin_push (its wait is in push.ts), _end_push, _mark_completed, _has_space,
 * try_claim_chunk, update_chunk. At most 16 pushes are open at once.
 *
 * The space is counted as the driver does: sixteen chunks of 1 MiB, in each the pushes that wait for their completion
 * in the order of their ends, and at most one push that is being built. What a push holds is not there, but in a buffer
 * of its own (gpu/methods.ts), which returns when the push has run.
 */

import { assert } from '../../base/assert.ts';
import { grown } from '../../base/grown.ts';
import type { HostWork } from '../gpu/host.ts';
import { type MethodMemory, methodMemoryClaim } from '../gpu/methods.ts';
import { PUSH_SIZE_MAX } from './push_bytes.ts';
import { NV_OK } from './status.ts';

/** UVM_PUSH_MAX_CONCURRENT_PUSHES: pushes between begin and end. */
export const PUSH_MAX_CONCURRENT_PUSHES = 16;

/** UVM_PUSH_ACQUIRE_INFO_MAX_ENTRIES: acquired entries that a push remembers. */
export const PUSH_ACQUIRE_INFO_MAX_ENTRIES = 16;

/** Slot of a push that is none of the pushbuffer's: one that launches others with Confidential Computing. */
export const PUSH_SLOT_STATIC = -1;
/** In place of such a push's span. */
export const SPAN_NONE = -1;

/** UVM_PUSHBUFFER_CHUNK_SIZE and UVM_PUSHBUFFER_CHUNKS: 16 MiB in all. */
export const PUSHBUFFER_CHUNK_SIZE = 1024 * 1024;
export const PUSHBUFFER_CHUNKS = 16;

const ALL_CHUNKS = 2 ** PUSHBUFFER_CHUNKS - 1;
const NONE = -1;
/** Words of a span: where it begins and ends in the pushbuffer, and its neighbours in the chunk. */
const SPAN_BEGIN = 0;
const SPAN_END = 1;
const SPAN_NEXT = 2;
const SPAN_PREVIOUS = 3;
const SPAN_WORDS = 4;
const FIRST_SPANS = 256;
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
  /** NV_OK, or why there is no push: the begin failed, nothing can be put into it and it must not be ended. */
  status: number;
  /** Where it lies in the pushbuffer, and its size so far; valid after pushEnd too, then with the push's end. */
  offset: number;
  bytes: number;
  /** Entries that were written last: level and page of the next one in a row, how many; and is their batch open? */
  pteLevel: number;
  pteNext: number;
  pteCount: number;
  pteBatch: boolean;
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
  /** Sizes are rounded up to a multiple of this and 1: 0, or 31 where pushes are encrypted. */
  sizeMask: number;
  /** Stands for pushes whose begin failed. */
  failedPush: Push;
  /** Chunks as bits: empty ones, those with room for a push of any size, those in which a push is being built. */
  idleChunks: number;
  availableChunks: number;
  currentChunks: number;
  /** Where the next push of a chunk begins, in the chunk; valid for available ones. */
  nextPushStart: Int32Array;
  /** The first and the last pending push of a chunk, as spans; -1 when there is none. */
  firstSpan: Int32Array;
  lastSpan: Int32Array;
  /** Spans [begin, end) of pending pushes, by index times SPAN_WORDS; -1 for no neighbour. */
  spans: Int32Array;
  /** Spans ever used, and the first of those that are not used now, linked by SPAN_NEXT. */
  spanCount: number;
  freeSpan: number;
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
    status: NV_OK,
    offset: 0,
    bytes: 0,
    pteLevel: 0,
    pteNext: 0,
    pteCount: 0,
    pteBatch: false,
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
    sizeMask: 0,
    failedPush: createPush(NONE),
    idleChunks: ALL_CHUNKS,
    availableChunks: ALL_CHUNKS,
    currentChunks: 0,
    nextPushStart: new Int32Array(PUSHBUFFER_CHUNKS),
    firstSpan: new Int32Array(PUSHBUFFER_CHUNKS).fill(NONE),
    lastSpan: new Int32Array(PUSHBUFFER_CHUNKS).fill(NONE),
    spans: new Int32Array(FIRST_SPANS * SPAN_WORDS),
    spanCount: 0,
    freeSpan: NONE,
  };
}

/** Is there a chunk with room for a push of any size (uvm_pushbuffer_has_space)? */
export function pushbufferHasSpace(pushbuffer: Pushbuffer): boolean {
  return pushbuffer.availableChunks !== 0;
}

/** The lowest chunk that is idle, else the lowest one that is available (pick_chunk); there is one. */
function pickChunk(pushbuffer: Pushbuffer): number {
  const chunks = pushbuffer.idleChunks !== 0 ? pushbuffer.idleChunks : pushbuffer.availableChunks;
  return 31 - Math.clz32(chunks & -chunks);
}

/** The chunk of a place in the pushbuffer. */
function chunkOf(offset: number): number {
  return Math.floor(offset / PUSHBUFFER_CHUNK_SIZE);
}

/** Looks again what room a chunk has (update_chunk). */
function updateChunk(pushbuffer: Pushbuffer, chunk: number): void {
  const first = pushbuffer.firstSpan[chunk];
  let start = NONE;
  if (first === NONE) {
    pushbuffer.idleChunks |= 1 << chunk;
    // At the very beginning, which wastes least at the end of the chunk.
    start = 0;
  } else {
    const base = chunk * PUSHBUFFER_CHUNK_SIZE;
    const get = pushbuffer.spans[first + SPAN_BEGIN] - base;
    const put = pushbuffer.spans[pushbuffer.lastSpan[chunk] + SPAN_END] - base;
    if (get > put) {
      if (get - put >= PUSH_SIZE_MAX) start = put;
    } else if (get < put) {
      if (put + PUSH_SIZE_MAX <= PUSHBUFFER_CHUNK_SIZE) start = put;
      else if (get >= PUSH_SIZE_MAX) start = 0;
    }
  }
  if (start === NONE) return;
  pushbuffer.availableChunks |= 1 << chunk;
  pushbuffer.nextPushStart[chunk] = start;
}

/** A span that is not used, as the index of its first word. */
function claimSpan(pushbuffer: Pushbuffer): number {
  const span = pushbuffer.freeSpan;
  if (span !== NONE) {
    pushbuffer.freeSpan = pushbuffer.spans[span + SPAN_NEXT];
    return span;
  }
  const fresh = pushbuffer.spanCount++ * SPAN_WORDS;
  if (fresh === pushbuffer.spans.length) pushbuffer.spans = grown(pushbuffer.spans, 2 * fresh);
  return fresh;
}

/**
 * Opens a push and gives it room for methods (uvm_pushbuffer_begin_push); there must be space. The caller fills in gpu,
 * channel, purpose and begin. A 17th open push would wait in the driver for another thread; here it is an error of the
 * caller.
 */
export function pushbufferBeginPush(pushbuffer: Pushbuffer, memory: MethodMemory): Push {
  assert(pushbuffer.freeCount > 0, 'too many open pushes');
  assert(pushbuffer.availableChunks !== 0, 'a push begins in a pushbuffer with space');
  const chunk = pickChunk(pushbuffer);
  pushbuffer.idleChunks &= ~(1 << chunk);
  pushbuffer.availableChunks &= ~(1 << chunk);
  pushbuffer.currentChunks |= 1 << chunk;
  const slot = pushbuffer.freePushes[pushbuffer.freeFirst];
  pushbuffer.freeFirst = (pushbuffer.freeFirst + 1) & (PUSH_MAX_CONCURRENT_PUSHES - 1);
  pushbuffer.freeCount--;
  const push = pushbuffer.pushes[slot];
  pushReset(push, memory);
  push.offset = chunk * PUSHBUFFER_CHUNK_SIZE + pushbuffer.nextPushStart[chunk];
  return push;
}

/** Opens a push that is not open, with nothing in it yet. */
export function pushReset(push: Push, memory: MethodMemory): void {
  push.open = true;
  push.launchChannel = -1;
  push.bytes = 0;
  push.pteCount = 0;
  push.pteBatch = false;
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

/**
 * Closes a push that the host has taken over (uvm_pushbuffer_end_push). Returns the span of its bytes, which
 * pushbufferMarkCompleted gives back.
 */
export function pushbufferEndPush(pushbuffer: Pushbuffer, push: Push): number {
  push.open = false;
  const at = (pushbuffer.freeFirst + pushbuffer.freeCount) & (PUSH_MAX_CONCURRENT_PUSHES - 1);
  pushbuffer.freePushes[at] = push.slot;
  pushbuffer.freeCount++;
  pushbuffer.pendingPushes++;
  const span = claimSpan(pushbuffer);
  const spans = pushbuffer.spans;
  const chunk = chunkOf(push.offset);
  const last = pushbuffer.lastSpan[chunk];
  spans[span + SPAN_BEGIN] = push.offset;
  spans[span + SPAN_END] = push.offset + ((push.bytes + pushbuffer.sizeMask) & ~pushbuffer.sizeMask);
  spans[span + SPAN_NEXT] = NONE;
  spans[span + SPAN_PREVIOUS] = last;
  if (last === NONE) pushbuffer.firstSpan[chunk] = span;
  else spans[last + SPAN_NEXT] = span;
  pushbuffer.lastSpan[chunk] = span;
  updateChunk(pushbuffer, chunk);
  pushbuffer.currentChunks &= ~(1 << chunk);
  return span;
}

/**
 * A collected push gives its space back, after its callback ran (uvm_pushbuffer_mark_completed). Of the pushes in a
 * chunk only the first and the last bound its room; while a push is being built there, its end looks for room.
 */
export function pushbufferMarkCompleted(pushbuffer: Pushbuffer, span: number): void {
  pushbuffer.pendingPushes--;
  const spans = pushbuffer.spans;
  const chunk = chunkOf(spans[span + SPAN_BEGIN]);
  const next = spans[span + SPAN_NEXT];
  const previous = spans[span + SPAN_PREVIOUS];
  if (previous === NONE) pushbuffer.firstSpan[chunk] = next;
  else spans[previous + SPAN_NEXT] = next;
  if (next === NONE) pushbuffer.lastSpan[chunk] = previous;
  else spans[next + SPAN_PREVIOUS] = previous;
  spans[span + SPAN_NEXT] = pushbuffer.freeSpan;
  pushbuffer.freeSpan = span;
  const bounds = previous === NONE || next === NONE;
  if (bounds && (pushbuffer.currentChunks & (1 << chunk)) === 0) updateChunk(pushbuffer, chunk);
}
