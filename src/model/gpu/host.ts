/**
 * The Host unit and the copy engines of a GPU: what stands on the other side of uvm_channel.c (driver 580.105.08).
 *
 * A channel hands over pushes; each is given its start and finish at once, as everything it can wait for is already
 * submitted: its own channel's last push, the engine, and the pushes that it acquires. What a push does to memory, page
 * tables, clients and its tracking semaphore happens when somebody could see it: hostRunUntil runs, in order of finish
 * and then of submission, all that has finished. A push with a replay or a cancel also gets a timed event, since the
 * clients move on by themselves.
 *
 * All effects of a push land at its finish. Left out: runlists and time slices of a TSG, USERD and doorbells, effects
 * of TLB invalidates (they are counted; a translation is always looked up in the page tables), SEC2.
 *
 * A GPU goes wrong only where uvm/channel_inject.ts says so: a channel whose push fails (it and what is behind it never
 * finish, nor what acquires them), a tracking semaphore that stands still, a channel that starts nothing before a time,
 * an ECC error; and, with Confidential Computing, where an engine meets a tag that does not fit (gpu/secure_copy.ts).
 */

import { assert } from '../../base/assert.ts';
import { grown } from '../../base/grown.ts';
import { registerHandler, schedule } from '../kernel/clock.ts';
import type { Model } from '../state.ts';
import { contentsCopy, contentsCopyIn, contentsCopyOut, contentsZero } from './contents.ts';
import {
  createMethodMemory,
  METHOD_CANCEL,
  METHOD_COPY,
  METHOD_COPY_IN,
  METHOD_COPY_OUT,
  METHOD_COPY_SCATTERED,
  METHOD_MEMSET,
  METHOD_PTE,
  METHOD_REPLAY,
  METHOD_SECURE_DECRYPT,
  METHOD_SECURE_DECRYPT_AT,
  METHOD_SECURE_ENCRYPT,
  METHOD_SECURE_ENCRYPT_AT,
  METHOD_TIMESTAMP,
  METHOD_TLB_INVALIDATE,
  METHOD_WORDS,
  type MethodMemory,
  methodMemoryRelease,
} from './methods.ts';
import { mmuWritePte } from './mmu.ts';
import { type SecureChannel, secureDecrypt, secureEncrypt, secureRelease, secureRunAt } from './secure_copy.ts';
import { clientsCancel, clientsReplay } from './sm.ts';

/** A channel as the host sees it. */
export interface HostChannel {
  /** Index of the copy engine behind the channel. */
  engine: number;
  /** Where the tracking semaphore lives: page in Host.semaphorePages, index in it. */
  semaphorePage: number;
  semaphoreIndex: number;
  /** Finish of the last push submitted. */
  lastFinish: number;
  /** Injected: the push that fails; the first one whose release is lost (Infinity: none); no start before this time. */
  failsAt: number;
  stuckFrom: number;
  blockedUntil: number;
  /** The first push that an engine could not decrypt, or that waits for such a one; Infinity: none. */
  brokenFrom: number;
  /** When the error notifier was set, or will be; Infinity while there is no error. */
  errorTime: number;
  /** Entries that the ring can have, a power of two. */
  entries: number;
  /** Tracking value of the first push, whose entry is the first one. */
  firstValue: number;
  /** Entries of ENTRY_WORDS words, a power of two of them; none until the channel is used, and as many as it needs. */
  ring: Float64Array;
  /** Entries of the ring less one; the entry of a tracking value is `(value - firstValue) & mask`. */
  mask: number;
  /** Key and IVs of the engine's side; null without Confidential Computing. */
  secure: SecureChannel | null;
}

/** Words of a ring entry. */
const ENTRY_VALUE = 0;
const ENTRY_START = 1;
const ENTRY_FINISH = 2;
const ENTRY_BUFFER = 3;
const ENTRY_LENGTH = 4;
const ENTRY_OTHER_GPUS = 5;
const ENTRY_WORDS = 6;
/** Entries that a channel's rings, here and in channel.ts, have room for at first. */
export const RING_FIRST_ENTRIES = 64;

/** Words of a pending push: finish, channel index, word offset of its entry in the channel's ring. */
const PENDING_WORDS = 3;
const FIRST_PENDING = 64;

export interface Host {
  /** Index of the GPU. */
  gpu: number;
  /** Kind of the timed event that calls hostRunUntil; -1 before hostInit. */
  eventKind: number;
  channels: HostChannel[];
  /** When each copy engine is done with what was submitted. */
  engineFree: Float64Array;
  /** Payloads of GPU semaphores, by page. */
  semaphorePages: Uint32Array[];
  memory: MethodMemory;
  /** Pushes that have not run, ordered by finish and then by submission, in words [pendingHead, pendingTail). */
  pending: Float64Array;
  pendingHead: number;
  pendingTail: number;
  /** Finish of the first pending push, Infinity when there is none. */
  nextFinish: number;
  /** A push is being run: a nested call has nothing to add. */
  running: boolean;
  /** Injected: copies until one has an ECC error (0: none has). When RM's notifier tells of it; Infinity: never. */
  eccCountdown: number;
  eccTime: number;
  /** Pushes run and TLB invalidates among their methods. */
  pushesRun: number;
  tlbInvalidates: number;
}

/** What the host needs to know of a push, and the two times that it answers. */
export interface HostWork {
  /** 64-bit value that the tracking semaphore takes when the push is done. */
  trackingValue: number;
  /** When the push is submitted. */
  end: number;
  /** Earliest start because of acquired pushes; 0 when nothing is acquired. */
  acquireTime: number;
  /** GPUs other than the channel's whose pushes are acquired, as a mask of GPU indices. */
  otherGpus: number;
  /** Sum of the methods' times on the engine, not rounded. */
  duration: number;
  /** It copies or sets memory, so it needs the copy engine for itself. */
  usesEngine: boolean;
  /** It must run at its finish even when nobody looks. */
  mustRun: boolean;
  /** Buffer of its methods and the words in it. */
  buffer: number;
  length: number;
  start: number;
  finish: number;
}

/** A host with `engines` copy engines and no channels; the GPU's index is `gpu`. */
export function createHost(gpu: number, engines: number): Host {
  return {
    gpu,
    eventKind: -1,
    channels: [],
    engineFree: new Float64Array(engines),
    semaphorePages: [],
    memory: createMethodMemory(),
    pending: new Float64Array(FIRST_PENDING * PENDING_WORDS),
    pendingHead: 0,
    pendingTail: 0,
    nextFinish: Infinity,
    running: false,
    eccCountdown: 0,
    eccTime: Infinity,
    pushesRun: 0,
    tlbInvalidates: 0,
  };
}

/** Registers the timed event of replays and cancels. Called once by createModel, when the GPUs exist. */
export function hostInit(m: Model): void {
  assert(m.gpus.length > 0, 'hostInit comes after the GPUs');
  const kind = registerHandler(m, hostRunUntil);
  for (const gpu of m.gpus) gpu.channelManager.host.eventKind = kind;
}

/** Adds a channel on a copy engine and returns its index. `entries` is a power of two. */
export function hostAddChannel(
  host: Host,
  engine: number,
  entries: number,
  semaphorePage: number,
  semaphoreIndex: number,
): number {
  host.channels.push({
    engine,
    semaphorePage,
    semaphoreIndex,
    lastFinish: 0,
    failsAt: Infinity,
    stuckFrom: Infinity,
    blockedUntil: 0,
    brokenFrom: Infinity,
    errorTime: Infinity,
    entries,
    firstValue: 0,
    ring: new Float64Array(0),
    mask: -1,
    secure: null,
  });
  return host.channels.length - 1;
}

/**
 * Makes room for the entry of a push, as far as the ring can grow. Before it is whole nothing has gone round, so
 * entries stay where they are.
 */
function growRing(channel: HostChannel, value: number): void {
  const had = channel.mask + 1;
  if (had === channel.entries) return;
  if (had === 0) channel.firstValue = value;
  const entries = Math.min(Math.max(RING_FIRST_ENTRIES, 2 * had), channel.entries);
  channel.ring = grown(channel.ring, entries * ENTRY_WORDS);
  channel.mask = entries - 1;
}

/**
 * Takes a push over: fills `work.start` and `work.finish` (ns) and queues its effects. A push starts when it has
 * reached the host, its channel is done with the one before, the engine is free (copies and memsets) and what it
 * acquires is released.
 */
export function hostSubmit(m: Model, host: Host, channel: number, work: HostWork): void {
  const hostChannel = host.channels[channel];
  let start = work.end + m.cost.pushLatency;
  if (hostChannel.lastFinish > start) start = hostChannel.lastFinish;
  if (work.acquireTime > start) start = work.acquireTime;
  if (hostChannel.blockedUntil > start) start = hostChannel.blockedUntil;
  if (work.usesEngine && host.engineFree[hostChannel.engine] > start) start = host.engineFree[hostChannel.engine];
  start = Math.round(start);
  let finish = Math.round(start + work.duration);
  // What waits for ever leaves the engine to others.
  if (work.usesEngine && finish < Infinity) {
    host.engineFree[hostChannel.engine] = finish;
    if (host.eccCountdown > 0 && --host.eccCountdown === 0) host.eccTime = finish;
  }
  if (work.trackingValue === hostChannel.failsAt) {
    hostChannel.errorTime = finish;
    finish = Infinity;
  }
  hostChannel.lastFinish = finish;
  work.start = start;
  work.finish = finish;

  if (work.trackingValue - hostChannel.firstValue > hostChannel.mask) growRing(hostChannel, work.trackingValue);
  const ring = hostChannel.ring;
  const at = ((work.trackingValue - hostChannel.firstValue) & hostChannel.mask) * ENTRY_WORDS;
  ring[at + ENTRY_VALUE] = work.trackingValue;
  ring[at + ENTRY_START] = start;
  ring[at + ENTRY_FINISH] = finish;
  ring[at + ENTRY_BUFFER] = work.buffer;
  ring[at + ENTRY_LENGTH] = work.length;
  ring[at + ENTRY_OTHER_GPUS] = work.otherGpus;
  if (finish === Infinity) return;
  pendingInsert(host, finish, channel, at);
  if (work.mustRun) schedule(m, finish, host.eventKind, host.gpu, finish);
}

/**
 * When the push with this tracking value finishes, as its semaphore tells: Infinity when that will not happen, and 0
 * when its entry was reused, so it finished long ago.
 */
export function hostFinishTime(host: Host, channel: number, value: number): number {
  const { ring, mask, firstValue, stuckFrom } = host.channels[channel];
  if (value >= stuckFrom) return Infinity;
  const at = ((value - firstValue) & mask) * ENTRY_WORDS;
  return ring[at + ENTRY_VALUE] === value ? ring[at + ENTRY_FINISH] : 0;
}

/** When the push with this tracking value started; 0 when its entry was reused. */
export function hostStartTime(host: Host, channel: number, value: number): number {
  const { ring, mask, firstValue } = host.channels[channel];
  const at = ((value - firstValue) & mask) * ENTRY_WORDS;
  return ring[at + ENTRY_VALUE] === value ? ring[at + ENTRY_START] : 0;
}

/** Runs all pushes of a GPU that have finished by `time`, in order of (finish, submission). */
export function hostRunUntil(m: Model, gpu: number, time: number): void {
  const host = m.gpus[gpu].channelManager.host;
  if (host.nextFinish <= time && !host.running) runPending(m, host, time);
}

function runPending(m: Model, host: Host, time: number): void {
  host.running = true;
  while (host.nextFinish <= time) {
    const at = host.pendingHead;
    const finish = host.pending[at];
    const channel = host.channels[host.pending[at + 1]];
    const entry = host.pending[at + 2];
    host.pendingHead = at + PENDING_WORDS;
    if (host.pendingHead === host.pendingTail) host.pendingHead = host.pendingTail = 0;
    host.nextFinish = host.pendingTail === 0 ? Infinity : host.pending[host.pendingHead];
    runPush(m, host, channel, entry, finish);
  }
  host.running = false;
}

function pendingInsert(host: Host, finish: number, channel: number, entry: number): void {
  if (host.pendingTail === host.pending.length) pendingMakeRoom(host);
  const pending = host.pending;
  let at = host.pendingTail;
  host.pendingTail += PENDING_WORDS;
  while (at > host.pendingHead && pending[at - PENDING_WORDS] > finish) {
    pending[at] = pending[at - 3];
    pending[at + 1] = pending[at - 2];
    pending[at + 2] = pending[at - 1];
    at -= PENDING_WORDS;
  }
  pending[at] = finish;
  pending[at + 1] = channel;
  pending[at + 2] = entry;
  if (at === host.pendingHead) host.nextFinish = finish;
}

function pendingMakeRoom(host: Host): void {
  const used = host.pendingTail - host.pendingHead;
  // Moving down is paid for by the pushes that ran since the last move: half of the array at least.
  if (used * 2 <= host.pending.length) {
    host.pending.copyWithin(0, host.pendingHead, host.pendingTail);
  } else {
    const grown = new Float64Array(host.pending.length * 2);
    grown.set(host.pending.subarray(host.pendingHead, host.pendingTail));
    host.pending = grown;
  }
  host.pendingHead = 0;
  host.pendingTail = used;
}

function runPush(m: Model, host: Host, channel: HostChannel, at: number, finish: number): void {
  const ring = channel.ring;
  const buffer = ring[at + ENTRY_BUFFER];
  const value = ring[at + ENTRY_VALUE];
  const { secure } = channel;
  if (secure !== null && m.globalStatus !== 0 && cannotRun(m, channel, secure, value)) {
    methodMemoryRelease(host.memory, buffer);
    return;
  }
  if (ring[at + ENTRY_OTHER_GPUS] !== 0) runOtherGpus(m, ring[at + ENTRY_OTHER_GPUS], ring[at + ENTRY_START]);
  if (m.res.why !== null) {
    m.res.why.pushRun?.(host.gpu, host.channels.indexOf(channel), ring[at + ENTRY_VALUE], finish);
  }
  const { buffers } = host.memory;
  const runs = runMethods(m, host, channel, buffers[buffer], ring[at + ENTRY_LENGTH], finish);
  methodMemoryRelease(host.memory, buffer);
  host.pushesRun++;
  if (!runs) {
    channel.errorTime = finish;
    breakFrom(channel, value);
    if (secure !== null) m.res.confComputing?.engineFailed(m, secure.channel);
    return;
  }
  // A store into 32 bits keeps the low half of the tracking value.
  const semaphores = host.semaphorePages[channel.semaphorePage];
  if (value < channel.stuckFrom) semaphores[channel.semaphoreIndex] = value;
  if (secure !== null) secureRelease(m, host.gpu, secure, semaphores[channel.semaphoreIndex]);
}

/** This push of a channel and those behind it never finish. */
function breakFrom(channel: HostChannel, value: number): void {
  channel.brokenFrom = Math.min(channel.brokenFrom, value);
  channel.stuckFrom = Math.min(channel.stuckFrom, value);
  channel.lastFinish = Infinity;
}

/**
 * Is a push behind one that failed while it ran, in its channel or because it acquires it? Its times were given before
 * that was known. With Confidential Computing alone: other failures are known when a push is submitted.
 */
function cannotRun(m: Model, channel: HostChannel, secure: SecureChannel, value: number): boolean {
  if (value >= channel.brokenFrom) return true;
  if (m.res.confComputing === null || !m.res.confComputing.waitsForBroken(m, secure.channel, value)) return false;
  breakFrom(channel, value);
  return true;
}

/** What a push acquired on other GPUs happened before it: make it so. */
function runOtherGpus(m: Model, mask: number, time: number): void {
  for (let rest = mask; rest !== 0; rest &= rest - 1) hostRunUntil(m, 31 - Math.clz32(rest & -rest), time);
}

/** Returns false where an engine met a tag that does not fit: the push ends there. */
function runMethods(
  m: Model,
  host: Host,
  channel: HostChannel,
  words: Float64Array,
  length: number,
  finish: number,
): boolean {
  const gpu = host.gpu;
  for (let i = 0; i < length; i += METHOD_WORDS[words[i]]) {
    switch (words[i]) {
      case METHOD_COPY:
      case METHOD_COPY_SCATTERED:
        if (m.contents !== null) contentsCopy(m.contents, words[i + 1], words[i + 2], words[i + 3], words[i + 4]);
        break;
      case METHOD_COPY_OUT:
        if (m.contents !== null) {
          const { frames } = m.k.pins[words[i + 4]];
          contentsCopyOut(m.contents, words[i + 1], words[i + 2], words[i + 3], frames, words[i + 5], words[i + 6]);
        }
        break;
      case METHOD_COPY_IN:
        if (m.contents !== null) {
          const { frames } = m.k.pins[words[i + 4]];
          contentsCopyIn(m.contents, words[i + 1], words[i + 2], words[i + 3], frames, words[i + 5], words[i + 6]);
        }
        break;
      case METHOD_MEMSET:
        if (m.contents !== null) contentsZero(m.contents, words[i + 1], words[i + 2], words[i + 3]);
        break;
      case METHOD_PTE:
        mmuWritePte(m.gpus[gpu].mmu, words[i + 1], words[i + 2], words[i + 3], words[i + 4]);
        break;
      case METHOD_TLB_INVALIDATE:
        host.tlbInvalidates++;
        break;
      case METHOD_REPLAY:
        clientsReplay(m, gpu, finish, words[i + 1]);
        break;
      case METHOD_CANCEL:
        clientsCancel(m, gpu, words[i + 1], words[i + 3], finish, words[i + 2]);
        break;
      case METHOD_TIMESTAMP:
        break;
      case METHOD_SECURE_DECRYPT:
        if (!secureDecrypt(m, gpu, channel.secure, words, i)) return false;
        break;
      case METHOD_SECURE_ENCRYPT:
        secureEncrypt(m, gpu, channel.secure, words, i);
        break;
      case METHOD_SECURE_ENCRYPT_AT:
      case METHOD_SECURE_DECRYPT_AT:
        if (!secureRunAt(m, gpu, channel.secure, words, i)) return false;
        break;
      default:
        assert(false, 'unknown method in a push');
    }
  }
  return true;
}
