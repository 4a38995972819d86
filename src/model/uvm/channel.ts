/**
 * Models uvm_channel.c (driver 580.105.08): pools of channels, their GPFIFOs, and what the CPU learns of completion.
 *
 * Functions: uvm_channel_manager_create (as far as it picks copy engines: pick_ces), uvm_channel_reserve_type,
 * _reserve_gpu_to_gpu, _reserve, _release, uvm_channel_update_progress, _all, uvm_channel_manager_update_progress,
 * uvm_channel_manager_wait, uvm_channel_wait, uvm_channel_is_value_completed, uvm_channel_update_completed_value,
 * uvm_channel_manager_set_p2p_ce. Beginning and ending a push is in push.ts, the channel's other side in gpu/host.ts.
 *
 * Two notions of completion, as in the driver: a push is complete once its value is reached (trackers), its callback
 * runs when somebody updates the channel's progress. Waiting threads poll; time moves to the finish they wait for.
 *
 * With Confidential Computing the pools are made in channel_conf_computing.ts, and a reservation locks its channel
 * until the push ends.
 *
 * Left out: CE_PROXY pools, the control entries and pushes of channel_init without Confidential Computing (tracking
 * values begin at 1, at entry 0), suspending peer copies, the properties of copy engines (all count as equal, and are
 * chosen by use and index alone), freeing a manager. Errors of a channel (RC, ECC) are found where the driver looks for
 * them (uvm_channel_check_errors); a GPU has none but those of channel_inject.ts.
 */

import { assert } from '../../base/assert.ts';
import { grown } from '../../base/grown.ts';
import {
  createHost,
  type Host,
  hostAddChannel,
  hostFinishTime,
  hostRunUntil,
  hostStartTime,
  RING_FIRST_ENTRIES,
} from '../gpu/host.ts';
import type { Model } from '../state.ts';
import type { ConfComputing, KeyRotation } from './conf_computing_types.ts';
import {
  createGpuSemaphorePool,
  type GpuSemaphorePool,
  type GpuTrackingSemaphore,
  globalSetFatalError,
  gpuTrackingSemaphoreAlloc,
  gpuTrackingSemaphoreIsValueCompleted,
  gpuTrackingSemaphoreUpdateCompletedValue,
} from './gpu_semaphore.ts';
import {
  createPushbuffer,
  PUSH_ACQUIRE_INFO_MAX_ENTRIES,
  type Pushbuffer,
  pushbufferHasSpace,
  pushbufferMarkCompleted,
  SPAN_NONE,
} from './pushbuffer.ts';
import { type SpinReport, spinLoopUntil } from './spin_loop.ts';
import { NV_ERR_ECC_ERROR, NV_ERR_INVALID_STATE, NV_ERR_RC_ERROR, NV_OK } from './status.ts';

/** uvm_channel_type_t */
export const CHANNEL_TYPE_CPU_TO_GPU = 0;
export const CHANNEL_TYPE_GPU_TO_CPU = 1;
export const CHANNEL_TYPE_GPU_INTERNAL = 2;
export const CHANNEL_TYPE_MEMOPS = 3;
export const CHANNEL_TYPE_GPU_TO_GPU = 4;
/** Of Confidential Computing alone. */
export const CHANNEL_TYPE_SEC2 = 5;
export const CHANNEL_TYPE_WLC = 6;
export const CHANNEL_TYPE_LCIC = 7;
/** A push on a channel that was named itself. */
export const CHANNEL_TYPE_ANY = -1;
export const CHANNEL_TYPE_NAMES: readonly string[] = [
  'CPU_TO_GPU',
  'GPU_TO_CPU',
  'GPU_INTERNAL',
  'MEMOPS',
  'GPU_TO_GPU',
  'SEC2',
  'WLC',
  'LCIC',
];

/** uvm_channel_pool_type_t */
export const CHANNEL_POOL_TYPE_CE = 1;
export const CHANNEL_POOL_TYPE_SEC2 = 4;
export const CHANNEL_POOL_TYPE_WLC = 8;
export const CHANNEL_POOL_TYPE_LCIC = 16;

/** Channel.pushLock: without Confidential Computing there is no lock; else a push has the channel for itself or not. */
export const PUSH_LOCK_NONE = -1;
export const PUSH_LOCK_FREE = 0;
export const PUSH_LOCK_TAKEN = 1;

export const CHANNEL_NUM_GPFIFO_ENTRIES_DEFAULT = 1024;

/** Kinds of GPFIFO entries. */
export const GPFIFO_ENTRY_NORMAL = 0;
export const GPFIFO_ENTRY_CONTROL = 1;

/** No channel: such a tracker entry counts as complete. */
export const CHANNEL_NONE = -1;

/** Channel ids are GPU index * CHANNELS_PER_GPU_MAX + index in ChannelManager.channels. */
export const CHANNELS_PER_GPU_MAX = 64;
const CHANNEL_SHIFT = 6;
const CHANNEL_MASK = CHANNELS_PER_GPU_MAX - 1;

export const CHANNELS_PER_CE_POOL = 2;

/** Entries that one update of progress collects at most. */
const UPDATE_PROGRESS_MAX = 8;

/** In the order in which the driver gives engines away (pick_ces). */
const TYPES_BY_PRIORITY = [
  CHANNEL_TYPE_CPU_TO_GPU,
  CHANNEL_TYPE_GPU_TO_CPU,
  CHANNEL_TYPE_GPU_INTERNAL,
  CHANNEL_TYPE_GPU_TO_GPU,
  CHANNEL_TYPE_MEMOPS,
];

/** Words of a GPFIFO entry in Channel.gpfifoEntries. */
export const GPFIFO_TRACKING_VALUE = 0;
export const GPFIFO_KIND = 1;
export const GPFIFO_ON_COMPLETE = 2;
export const GPFIFO_ON_COMPLETE_DATA = 3;
export const GPFIFO_PURPOSE = 4;
export const GPFIFO_BEGIN = 5;
export const GPFIFO_END = 6;
export const GPFIFO_METHODS = 7;
/** Number of its first pair among all pairs the channel ever kept, and its pairs. */
export const GPFIFO_ACQUIRE_FIRST = 8;
export const GPFIFO_ACQUIRE_COUNT = 9;
/** Span of its bytes in the pushbuffer. */
export const GPFIFO_SPAN = 10;
export const GPFIFO_WORDS = 11;
/** Words of acquired pairs that are remembered for each entry. */
const ACQUIRE_WORDS = 4;

export interface Channel {
  id: number;
  gpu: number;
  /** Index in ChannelManager.channels and Host.channels. */
  index: number;
  /** Index in ChannelManager.pools. */
  pool: number;
  /** A power of two; one entry always stays empty. */
  numGpfifoEntries: number;
  cpuPut: number;
  gpuGet: number;
  /** Entries reserved and not yet submitted. */
  currentGpfifoCount: number;
  /** A PUSH_LOCK_* constant. */
  pushLock: number;
  trackingSem: GpuTrackingSemaphore;
  /** Entries of GPFIFO_WORDS words; as many as were used so far, at least. */
  gpfifoEntries: Float64Array;
  /** Ring of [channel id, value] pairs that pushes acquired, and how many were ever kept. */
  acquires: Float64Array;
  acquireTotal: number;
}

export interface ChannelPool {
  poolType: number;
  /** Copy engine behind all channels of the pool. */
  engine: number;
  channels: Channel[];
  /** Keys of the pool's engine; null without Confidential Computing, and in a pool that has another one's. */
  keyRotation: KeyRotation | null;
}

/** The first push that was pending when an error of its channel was found: it is likely the cause. */
export interface FatalEntry {
  channel: number;
  value: number;
  purpose: number;
  /** NV_ERR_RC_ERROR or NV_ERR_ECC_ERROR, and when it was found (ns). */
  status: number;
  time: number;
}

export interface ChannelManager {
  gpu: number;
  host: Host;
  pushbuffer: Pushbuffer;
  semaphorePool: GpuSemaphorePool;
  pools: ChannelPool[];
  /** All channels, pool by pool. */
  channels: Channel[];
  /** pool_to_use: pool index by channel type, and by peer GPU (-1: the GPU_TO_GPU pool). */
  poolForType: number[];
  poolForPeer: number[];
  /** Null without Confidential Computing. */
  confComputing: ConfComputing | null;
  /** What the driver printed at the first error of a channel; null while there was none. */
  fatalEntry: FatalEntry | null;
  /** Waits for this GPU's channels that took 30 s and more. */
  spinReports: SpinReport[];
}

export interface ChannelManagerOptions {
  /** GPUs of the machine. */
  gpus: number;
  /** Usable copy engines of this GPU, at least 1. */
  copyEngines: number;
  /** Power of two, at least 32. */
  numGpfifoEntries: number;
  /** Value before the first push of each channel; the driver's is 0. */
  firstTrackingValue?: number;
}

/** Runs when a push is collected: its channel and value, the data given with it, and the time of the notice (ns). */
export type PushCallback = (m: Model, channel: number, value: number, data: number, noticed: number) => void;

/** Makes the pools and channels of one GPU; `gpu` is its index (uvm_channel_manager_create). */
export function createChannelManager(gpu: number, options: ChannelManagerOptions): ChannelManager {
  const { gpus, copyEngines, numGpfifoEntries, firstTrackingValue = 0 } = options;
  assert(copyEngines >= 1, 'a GPU needs a copy engine');
  assert(copyEngines * CHANNELS_PER_CE_POOL <= CHANNELS_PER_GPU_MAX, 'too many copy engines for channel ids');
  assert(
    numGpfifoEntries >= 32 && Number.isInteger(Math.log2(numGpfifoEntries)),
    'GPFIFO entries must be a power of two of at least 32',
  );
  const manager = createManagerWithoutPools(gpu, gpus, copyEngines);
  manager.poolForType = pickCes(copyEngines, TYPES_BY_PRIORITY);
  for (let engine = 0; engine < copyEngines; engine++) {
    channelPoolAdd(manager, CHANNEL_POOL_TYPE_CE, engine, CHANNELS_PER_CE_POOL, numGpfifoEntries, firstTrackingValue);
  }
  return manager;
}

/** A manager of a GPU with `engines` engines on which no channel runs yet. */
export function createManagerWithoutPools(gpu: number, gpus: number, engines: number): ChannelManager {
  return {
    gpu,
    host: createHost(gpu, engines),
    pushbuffer: createPushbuffer(),
    semaphorePool: createGpuSemaphorePool(),
    pools: [],
    channels: [],
    poolForType: [],
    poolForPeer: new Array<number>(gpus).fill(-1),
    confComputing: null,
    fatalEntry: null,
    spinReports: [],
  };
}

/** Adds a pool with its channels, of `entries` GPFIFO entries each, and returns its index (channel_pool_add). */
export function channelPoolAdd(
  manager: ChannelManager,
  poolType: number,
  engine: number,
  channels: number,
  entries: number,
  firstValue: number,
): number {
  const pool: ChannelPool = { poolType, engine, channels: [], keyRotation: null };
  manager.pools.push(pool);
  for (let i = 0; i < channels; i++) addChannel(manager, pool, entries, firstValue);
  return manager.pools.length - 1;
}

/**
 * Preferred engine by channel type, for the types in the order in which they are asked: the least used so far, then the
 * lowest (pick_ces).
 */
export function pickCes(copyEngines: number, types: readonly number[]): number[] {
  const uses = new Array<number>(copyEngines).fill(0);
  const preferred: number[] = new Array<number>(Math.max(...types) + 1).fill(0);
  for (const type of types) {
    const engine = uses.indexOf(Math.min(...uses));
    uses[engine]++;
    preferred[type] = engine;
  }
  return preferred;
}

function addChannel(manager: ChannelManager, pool: ChannelPool, entries: number, firstValue: number): void {
  const trackingSem = gpuTrackingSemaphoreAlloc(manager.semaphorePool, manager.host, firstValue);
  const index = hostAddChannel(manager.host, pool.engine, entries, trackingSem.page, trackingSem.index);
  const channel: Channel = {
    id: manager.gpu * CHANNELS_PER_GPU_MAX + index,
    gpu: manager.gpu,
    index,
    pool: manager.pools.length - 1,
    numGpfifoEntries: entries,
    cpuPut: 0,
    gpuGet: 0,
    currentGpfifoCount: 0,
    pushLock: PUSH_LOCK_NONE,
    trackingSem,
    gpfifoEntries: new Float64Array(0),
    acquires: new Float64Array(0),
    acquireTotal: 0,
  };
  pool.channels.push(channel);
  manager.channels.push(channel);
}

/** The manager that a channel belongs to. */
export function channelManagerGet(m: Model, channel: Channel): ChannelManager {
  return m.gpus[channel.gpu].channelManager;
}

/** The channel with this id. */
export function channelGet(m: Model, id: number): Channel {
  return m.gpus[id >> CHANNEL_SHIFT].channelManager.channels[id & CHANNEL_MASK];
}

/** Index of the GPU that owns the channel with this id. */
export function channelGpu(id: number): number {
  return id >> CHANNEL_SHIFT;
}

/** Copies to `peer` go through the pool of copy engine `engine` from now on (uvm_channel_manager_set_p2p_ce). */
export function channelManagerSetP2pCe(m: Model, gpu: number, peer: number, engine: number): void {
  const manager = m.gpus[gpu].channelManager;
  assert(manager.pools[engine] !== undefined, 'no such copy engine');
  manager.poolForPeer[peer] = engine;
}

/** Entries that can be reserved now (channel_get_available_gpfifo_entries). */
export function channelAvailableGpfifoEntries(channel: Channel): number {
  const mask = channel.numGpfifoEntries - 1;
  return mask - channel.currentGpfifoCount - ((channel.cpuPut - channel.gpuGet) & mask);
}

function tryClaim(channel: Channel, count: number): boolean {
  if (channel.pushLock === PUSH_LOCK_TAKEN || channelAvailableGpfifoEntries(channel) < count) return false;
  channel.currentGpfifoCount += count;
  const last = channel.cpuPut + channel.currentGpfifoCount;
  if (last * GPFIFO_WORDS > channel.gpfifoEntries.length) growEntries(channel, last);
  if (channel.pushLock === PUSH_LOCK_FREE) channel.pushLock = PUSH_LOCK_TAKEN;
  return true;
}

/**
 * Makes room for the entries below `count`, as far as there are so many. Most channels are never used, and few of them
 * for long: their rings, the big part of a channel, grow until they are whole. Up to then nothing has gone round.
 */
function growEntries(channel: Channel, count: number): void {
  const old = channel.gpfifoEntries;
  const whole = channel.numGpfifoEntries * GPFIFO_WORDS;
  if (old.length === whole) return;
  const wanted = Math.max(count, RING_FIRST_ENTRIES) * GPFIFO_WORDS;
  channel.gpfifoEntries = grown(old, Math.min(Math.max(wanted, 2 * old.length), whole));
}

/** Ring of acquired pairs with room for `count` more; it grows as entries do. */
export function channelAcquiresFor(channel: Channel, count: number): Float64Array {
  const old = channel.acquires;
  const whole = channel.numGpfifoEntries * ACQUIRE_WORDS;
  if (2 * (channel.acquireTotal + count) <= old.length || old.length === whole) return old;
  const wanted = RING_FIRST_ENTRIES * ACQUIRE_WORDS;
  channel.acquires = grown(old, Math.min(Math.max(wanted, 2 * old.length), whole));
  return channel.acquires;
}

/**
 * Reserves an entry on a channel of the type's pool (uvm_channel_reserve_type). Returns null when all of them are full
 * and one has an error, as the two below do: the global status tells which.
 */
export function channelReserveType(m: Model, gpu: number, type: number): Channel | null {
  const manager = m.gpus[gpu].channelManager;
  return channelReserveInPool(m, manager.pools[manager.poolForType[type]]);
}

/** Reserves an entry on a channel for copies to `peer`, a GPU index (uvm_channel_reserve_gpu_to_gpu). */
export function channelReserveGpuToGpu(m: Model, gpu: number, peer: number): Channel | null {
  const manager = m.gpus[gpu].channelManager;
  const pool = manager.poolForPeer[peer];
  return channelReserveInPool(m, manager.pools[pool === -1 ? manager.poolForType[CHANNEL_TYPE_GPU_TO_GPU] : pool]);
}

function rotateKeyIfPending(m: Model, pool: ChannelPool): number {
  if (pool.keyRotation === null || m.res.confComputing === null) return NV_OK;
  return m.res.confComputing.rotateKeyIfPending(m, pool);
}

/**
 * The first channel with room, from index 0: the next one is used only while those before it are full. With all of them
 * full the thread updates their progress, which runs callbacks, and polls until one has room.
 */
function channelReserveInPool(m: Model, pool: ChannelPool): Channel | null {
  if (rotateKeyIfPending(m, pool) !== NV_OK) return null;
  const channels = pool.channels;
  for (let i = 0; i < channels.length; i++) {
    if (tryClaim(channels[i], 1)) return channels[i];
  }
  const since = m.k.now;
  for (;;) {
    for (let i = 0; i < channels.length; i++) {
      updateProgress(m, channels[i], UPDATE_PROGRESS_MAX);
      if (tryClaim(channels[i], 1)) return channels[i];
      if (channelCheckErrors(m, channels[i]) !== NV_OK) return null;
    }
    spin(m, channels, 'channel_reserve_in_pool', since);
  }
}

/** Reserves `count` entries on one channel, polling while it is full; returns a driver status (uvm_channel_reserve). */
export function channelReserve(m: Model, channel: Channel, count: number): number {
  assert(count < channel.numGpfifoEntries, 'more entries than a channel has');
  const rotated = rotateKeyIfPending(m, channelManagerGet(m, channel).pools[channel.pool]);
  if (rotated !== NV_OK) return rotated;
  if (tryClaim(channel, count)) return NV_OK;
  const since = m.k.now;
  for (;;) {
    updateProgress(m, channel, UPDATE_PROGRESS_MAX);
    if (tryClaim(channel, count)) return NV_OK;
    const status = channelCheckErrors(m, channel);
    if (status !== NV_OK) return status;
    spin(m, [channel], 'uvm_channel_reserve', since);
  }
}

/** Gives reserved entries back (uvm_channel_release). */
export function channelRelease(channel: Channel, count: number): void {
  assert(channel.currentGpfifoCount >= count, 'released more entries than were reserved');
  channel.currentGpfifoCount -= count;
  channelUnlockForPush(channel);
}

/** The channel's push has ended, or was given up: another one may have the channel (unlock_channel_for_push). */
export function channelUnlockForPush(channel: Channel): void {
  if (channel.pushLock === PUSH_LOCK_TAKEN) channel.pushLock = PUSH_LOCK_FREE;
}

/**
 * Moves the local time of a thread that spins since `since` to the next completion or error among the channels, unless
 * one is waiting to be found. `endsWithDriver`: a fatal error of the driver ends the wait too.
 */
function spin(m: Model, channels: Channel[], place: string, since: number, endsWithDriver = false): void {
  let next = Infinity;
  let first: Channel | null = null;
  for (let i = 0; i < channels.length; i++) {
    const channel = channels[i];
    if (channel.gpuGet === channel.cpuPut) continue;
    first ??= channel;
    const { host } = m.gpus[channel.gpu].channelManager;
    const value = channel.gpfifoEntries[channel.gpuGet * GPFIFO_WORDS + GPFIFO_TRACKING_VALUE];
    let finish = Math.min(hostFinishTime(host, channel.index, value), host.channels[channel.index].errorTime);
    if (channel.trackingSem.secure?.unreadable) {
      // Whoever looks at the driver's status has found the error by now; others go on with the next release.
      if (endsWithDriver) return;
      finish = nextRelease(m, channel);
    }
    if (finish < next) next = finish;
  }
  assert(first !== null, 'nothing to wait for: the entries are reserved by open pushes');
  const { gpu } = first;
  spinLoopUntil(m, gpu, place, since, next, () => channels.map(channelWaitText).join(', '));
}

/** When the pending push finishes that is the next to finish; Infinity when none is left. */
function nextRelease(m: Model, channel: Channel): number {
  const { host } = m.gpus[channel.gpu].channelManager;
  const { queuedValue, completedValue } = channel.trackingSem;
  for (let value = completedValue + 1; value <= queuedValue; value++) {
    const finish = hostFinishTime(host, channel.index, value);
    if (finish > m.k.now) return finish;
  }
  return Infinity;
}

/** A channel and how far it has come, for a message. */
export function channelWaitText(channel: Channel): string {
  const { completedValue, queuedValue } = channel.trackingSem;
  return `gpu${channel.gpu} channel ${channel.index} (${completedValue} of ${queuedValue} pushes completed)`;
}

/** What the error notifiers say at the local time (uvm_channel_get_status). */
function channelStatus(m: Model, channel: Channel): number {
  const { host } = m.gpus[channel.gpu].channelManager;
  if (host.channels[channel.index].errorTime > m.k.now) return NV_OK;
  return host.eccTime <= m.k.now ? NV_ERR_ECC_ERROR : NV_ERR_RC_ERROR;
}

/**
 * Looks for an error of a channel; returns a driver status (uvm_channel_check_errors). An error names the first push
 * that is pending, for which all that is complete is collected, and becomes the global status.
 */
export function channelCheckErrors(m: Model, channel: Channel): number {
  const status = channelStatus(m, channel);
  if (status === NV_OK) return NV_OK;
  const manager = m.gpus[channel.gpu].channelManager;
  const pending = updateProgress(m, channel, Infinity);
  if (manager.fatalEntry === null && pending > 0) {
    const at = channel.gpuGet * GPFIFO_WORDS;
    const { gpfifoEntries: entries } = channel;
    manager.fatalEntry = {
      channel: channel.id,
      value: entries[at + GPFIFO_TRACKING_VALUE],
      purpose: entries[at + GPFIFO_PURPOSE],
      status,
      time: m.k.now,
    };
  }
  globalSetFatalError(m, status);
  return status;
}

/** Looks for an error of the driver or of any channel of a GPU (uvm_channel_manager_check_errors). */
export function channelManagerCheckErrors(m: Model, gpu: number): number {
  if (m.globalStatus !== NV_OK) return m.globalStatus;
  const { channels } = m.gpus[gpu].channelManager;
  for (let i = 0; i < channels.length; i++) {
    const status = channelCheckErrors(m, channels[i]);
    if (status !== NV_OK) return status;
  }
  return NV_OK;
}

/** Refreshes and returns the completed value of a channel (uvm_channel_update_completed_value). */
export function channelUpdateCompletedValue(m: Model, id: number): number {
  const channel = channelGet(m, id);
  hostRunUntil(m, channel.gpu, m.k.now);
  return gpuTrackingSemaphoreUpdateCompletedValue(m, m.gpus[channel.gpu].channelManager.host, channel.trackingSem);
}

/** Is the push with this value done at the local time? Never runs callbacks (uvm_channel_is_value_completed). */
export function channelIsValueCompleted(m: Model, id: number, value: number): boolean {
  const manager = m.gpus[id >> CHANNEL_SHIFT].channelManager;
  const trackingSem = manager.channels[id & CHANNEL_MASK].trackingSem;
  if (trackingSem.completedValue >= value) return true;
  hostRunUntil(m, manager.gpu, m.k.now);
  return gpuTrackingSemaphoreIsValueCompleted(m, manager.host, trackingSem, value);
}

/** When the push with this value finishes (ns); 0 when that is so long ago that the channel has forgotten it. */
export function channelFinishTime(m: Model, id: number, value: number): number {
  const manager = m.gpus[id >> CHANNEL_SHIFT].channelManager;
  assert(value <= manager.channels[id & CHANNEL_MASK].trackingSem.queuedValue, 'value was never submitted');
  return hostFinishTime(manager.host, id & CHANNEL_MASK, value);
}

/** Collects at most 8 finished pushes and returns how many entries are left (uvm_channel_update_progress). */
export function channelUpdateProgress(m: Model, id: number): number {
  return updateProgress(m, channelGet(m, id), UPDATE_PROGRESS_MAX);
}

/** Collects all finished pushes and returns how many entries are left (uvm_channel_update_progress_all). */
export function channelUpdateProgressAll(m: Model, id: number): number {
  return updateProgress(m, channelGet(m, id), Infinity);
}

function updateProgress(m: Model, channel: Channel, max: number): number {
  const manager = m.gpus[channel.gpu].channelManager;
  const mask = channel.numGpfifoEntries - 1;
  hostRunUntil(m, channel.gpu, m.k.now);
  const completed = gpuTrackingSemaphoreUpdateCompletedValue(m, manager.host, channel.trackingSem);
  if (completed > channel.trackingSem.queuedValue) globalSetFatalError(m, NV_ERR_INVALID_STATE);
  const entries = channel.gpfifoEntries;
  for (let done = 0; channel.gpuGet !== channel.cpuPut && done < max; done++) {
    const at = channel.gpuGet * GPFIFO_WORDS;
    const value = entries[at + GPFIFO_TRACKING_VALUE];
    if (value > completed) break;
    const onComplete = entries[at + GPFIFO_ON_COMPLETE];
    const entry = channel.gpuGet;
    // Before the callback, so that one that looks at this channel itself does not run again.
    channel.gpuGet = (channel.gpuGet + 1) & mask;
    if (onComplete !== -1) {
      if (manager.confComputing !== null) m.res.confComputing?.decryptPush(m, channel, entry, value);
      m.res.pushCallbacks[onComplete](m, channel.id, value, entries[at + GPFIFO_ON_COMPLETE_DATA], m.k.now);
    }
    const span = entries[at + GPFIFO_SPAN];
    if (span !== SPAN_NONE) pushbufferMarkCompleted(manager.pushbuffer, span);
    if (m.res.pushWatch !== null && entries[at + GPFIFO_KIND] === GPFIFO_ENTRY_NORMAL) {
      m.res.pushWatch.collected(m, channel.id, value, onComplete !== -1);
    }
  }
  return (channel.cpuPut - channel.gpuGet) & mask;
}

/** One update of every channel of a GPU; returns the entries left (uvm_channel_manager_update_progress). */
export function channelManagerUpdateProgress(m: Model, gpu: number): number {
  const channels = m.gpus[gpu].channelManager.channels;
  let pending = 0;
  for (let i = 0; i < channels.length; i++) pending += updateProgress(m, channels[i], UPDATE_PROGRESS_MAX);
  return pending;
}

/** Waits until the pushbuffer of a GPU has space again; returns a driver status (claim_chunk of uvm_pushbuffer.c). */
export function channelManagerWaitForSpace(m: Model, gpu: number): number {
  const { pushbuffer, channels } = m.gpus[gpu].channelManager;
  const since = m.k.now;
  let status = NV_OK;
  channelManagerUpdateProgress(m, gpu);
  while (!pushbufferHasSpace(pushbuffer) && status === NV_OK) {
    spin(m, channels, 'uvm_pushbuffer_begin_push', since, true);
    status = channelManagerCheckErrors(m, gpu);
    channelManagerUpdateProgress(m, gpu);
  }
  return status;
}

/** Waits until all pushes of a GPU are collected; returns a driver status (uvm_channel_manager_wait). */
export function channelManagerWait(m: Model, gpu: number): number {
  const since = m.k.now;
  let status = m.globalStatus;
  if (channelManagerUpdateProgress(m, gpu) === 0 && status === NV_OK) return channelManagerCheckErrors(m, gpu);
  while (channelManagerUpdateProgress(m, gpu) > 0 && status === NV_OK) {
    spin(m, m.gpus[gpu].channelManager.channels, 'uvm_channel_manager_wait', since, true);
    status = channelManagerCheckErrors(m, gpu);
  }
  return status;
}

/** Waits until all pushes of a channel are collected; returns a driver status (uvm_channel_wait). */
export function channelWait(m: Model, id: number): number {
  const channel = channelGet(m, id);
  const since = m.k.now;
  let status = m.globalStatus;
  if (updateProgress(m, channel, UPDATE_PROGRESS_MAX) === 0 && status === NV_OK) return channelCheckErrors(m, channel);
  while (updateProgress(m, channel, UPDATE_PROGRESS_MAX) > 0 && status === NV_OK) {
    spin(m, [channel], 'uvm_channel_wait', since, true);
    status = m.globalStatus === NV_OK ? channelCheckErrors(m, channel) : m.globalStatus;
  }
  return status;
}

/** What is known of a push that was submitted. Times in ns. */
export interface PushRecord {
  channel: number;
  value: number;
  purpose: number;
  begin: number;
  end: number;
  start: number;
  finish: number;
  methods: number;
  /** The entry was collected: its callback, if any, has run. */
  collected: boolean;
  /** Acquired [channel id, value] pairs, at most 16; null when the channel has forgotten them. */
  acquires: [number, number][] | null;
}

/** The last pushes of a channel, newest first, at most `count` and at most one ring of them. For reports. */
export function channelRecentPushes(m: Model, id: number, count: number): PushRecord[] {
  const channel = channelGet(m, id);
  const host = m.gpus[channel.gpu].channelManager.host;
  const mask = channel.numGpfifoEntries - 1;
  const pending = (channel.cpuPut - channel.gpuGet) & mask;
  const { gpfifoEntries: entries, trackingSem } = channel;
  const records: PushRecord[] = [];
  for (let back = 1; back <= mask && records.length < count; back++) {
    const at = ((channel.cpuPut - back) & mask) * GPFIFO_WORDS;
    if (entries[at + GPFIFO_KIND] === GPFIFO_ENTRY_CONTROL) continue;
    const value = entries[at + GPFIFO_TRACKING_VALUE];
    // An entry that was never written, or the whole ring of a channel that was never used.
    if (!(value > 0) || value !== trackingSem.queuedValue - records.length) break;
    records.push({
      channel: id,
      value,
      purpose: entries[at + GPFIFO_PURPOSE],
      begin: entries[at + GPFIFO_BEGIN],
      end: entries[at + GPFIFO_END],
      start: hostStartTime(host, channel.index, value),
      finish: hostFinishTime(host, channel.index, value),
      methods: entries[at + GPFIFO_METHODS],
      collected: back > pending,
      acquires: recordedAcquires(channel, entries[at + GPFIFO_ACQUIRE_FIRST], entries[at + GPFIFO_ACQUIRE_COUNT]),
    });
  }
  return records;
}

/** What a push that is not collected acquires, as far as its channel remembers. */
export function channelAcquiresOf(channel: Channel, value: number): [number, number][] {
  const back = channel.trackingSem.queuedValue + 1 - value;
  const at = ((channel.cpuPut - back) & (channel.numGpfifoEntries - 1)) * GPFIFO_WORDS;
  const { gpfifoEntries: entries } = channel;
  if (entries[at + GPFIFO_TRACKING_VALUE] !== value) return [];
  return recordedAcquires(channel, entries[at + GPFIFO_ACQUIRE_FIRST], entries[at + GPFIFO_ACQUIRE_COUNT]) ?? [];
}

function recordedAcquires(channel: Channel, first: number, count: number): [number, number][] | null {
  const pairs = channel.acquires.length / 2;
  if (channel.acquireTotal - first > pairs) return null;
  return Array.from({ length: Math.min(count, PUSH_ACQUIRE_INFO_MAX_ENTRIES) }, (_, i): [number, number] => {
    const at = ((first + i) & (pairs - 1)) * 2;
    return [channel.acquires[at], channel.acquires[at + 1]];
  });
}
