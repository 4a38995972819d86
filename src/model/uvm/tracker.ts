/**
 * Models uvm_tracker.c (driver 580.105.08): sets of pushes that something has to wait for.
 *
 * Functions: uvm_tracker_add_push, _add_entry, _add_tracker, _overwrite, _overwrite_with_entry, _overwrite_with_push,
 * _init_from, _clear, _remove_completed, _is_completed, _is_entry_completed, _check_errors, _query, _wait,
 * _wait_for_entry, _wait_for_other_gpus. A wait never runs the callbacks of pushes.
 *
 * Left out: running out of memory, and with it _reserve, the *_safe forms and static entries.
 */
import { hostRunUntil } from '../gpu/host.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_NONE,
  channelCheckErrors,
  channelFinishTime,
  channelGet,
  channelGpu,
  channelIsValueCompleted,
  channelWaitText,
} from './channel.ts';
import type { Push } from './pushbuffer.ts';
import { SPIN_LOOP_REPORT_NS, spinLoopUntil } from './spin_loop.ts';
import { NV_OK, NV_WARN_MORE_PROCESSING_REQUIRED } from './status.ts';

/** Flat pairs [channel id, tracking value, ...], at most one pair for each channel. */
export type Tracker = number[];

/**
 * An empty tracker with room for three entries. The clearing of a block's memory, its copy and its mapping, each on a
 * channel of its own, are all that most trackers ever hold, and an array that outgrows its room takes sixteen numbers
 * more: much of a block's memory.
 */
export function createTracker(): Tracker {
  // Not a literal of constants: engines share the memory of those, and a change makes a copy without the room.
  const none = CHANNEL_NONE;
  const tracker = [none, none, none, none, none, none];
  trackerClear(tracker);
  return tracker;
}

/** A new tracker with the entries of `src`. */
export function trackerInitFrom(src: Tracker): Tracker {
  return src.slice();
}

/** Number of entries. */
export function trackerSize(t: Tracker): number {
  return t.length >> 1;
}

/** Forgets all entries. */
export function trackerClear(t: Tracker): void {
  // Popping keeps the array's memory, setting the length to 0 would give it away.
  if (t.length > 16) t.length = 0;
  else while (t.length > 0) t.pop();
}

/** Adds a push; of two on one channel the later one stays. */
export function trackerAddEntry(t: Tracker, channel: number, value: number): void {
  for (let i = 0; i < t.length; i += 2) {
    if (t[i] === channel) {
      if (value > t[i + 1]) t[i + 1] = value;
      return;
    }
  }
  t.push(channel, value);
}

/** Adds a push that was ended. */
export function trackerAddPush(t: Tracker, push: Push): void {
  trackerAddEntry(t, push.channel, push.trackingValue);
}

/** Makes `dst` the union of both. */
export function trackerAddTracker(dst: Tracker, src: Tracker): void {
  if (src === dst) return;
  for (let i = 0; i < src.length; i += 2) trackerAddEntry(dst, src[i], src[i + 1]);
}

/** Makes `dst` equal to `src`. */
export function trackerOverwrite(dst: Tracker, src: Tracker): void {
  if (src === dst) return;
  trackerClear(dst);
  for (let i = 0; i < src.length; i++) dst.push(src[i]);
}

/** Makes one push the only entry. */
export function trackerOverwriteWithEntry(t: Tracker, channel: number, value: number): void {
  trackerClear(t);
  t.push(channel, value);
}

/** Makes one ended push the only entry. */
export function trackerOverwriteWithPush(t: Tracker, push: Push): void {
  trackerOverwriteWithEntry(t, push.channel, push.trackingValue);
}

/** Is this entry done at the local time? No channel counts as done. */
export function trackerIsEntryCompleted(m: Model, channel: number, value: number): boolean {
  return channel === CHANNEL_NONE || channelIsValueCompleted(m, channel, value);
}

/** Drops what is done at the local time; the last entry moves into the hole. */
export function trackerRemoveCompleted(m: Model, t: Tracker): void {
  let i = 0;
  while (i < t.length) {
    if (!trackerIsEntryCompleted(m, t[i], t[i + 1])) {
      i += 2;
      continue;
    }
    const value = t.pop() as number;
    const channel = t.pop() as number;
    if (i < t.length) {
      t[i] = channel;
      t[i + 1] = value;
    }
  }
}

/** Drops what is done; is nothing left? */
export function trackerIsCompleted(m: Model, t: Tracker): boolean {
  trackerRemoveCompleted(m, t);
  return t.length === 0;
}

/** The error of the driver, or of a channel in the tracker, or NV_OK. */
export function trackerCheckErrors(m: Model, t: Tracker): number {
  let status = m.globalStatus;
  for (let i = 0; i < t.length && status === NV_OK; i += 2) {
    if (t[i] !== CHANNEL_NONE) status = channelCheckErrors(m, channelGet(m, t[i]));
  }
  return status;
}

/** NV_OK when all is done, NV_WARN_MORE_PROCESSING_REQUIRED when not, or the driver's error. Drops what is done. */
export function trackerQuery(m: Model, t: Tracker): number {
  const completed = trackerIsCompleted(m, t);
  const status = trackerCheckErrors(m, t);
  if (status !== NV_OK) return status;
  return completed ? NV_OK : NV_WARN_MORE_PROCESSING_REQUIRED;
}

/** When the last entry finishes (ns), which may be past; 0 for an empty tracker, Infinity when one never does. */
export function trackerFinishTime(m: Model, t: Tracker): number {
  let finish = 0;
  for (let i = 0; i < t.length; i += 2) {
    if (t[i] === CHANNEL_NONE) continue;
    const time = channelFinishTime(m, t[i], t[i + 1]);
    if (time > finish) finish = time;
  }
  return finish;
}

/**
 * When a wait on this tracker ends: with the last entry, or when the error notifier of a channel is set whose entry
 * never finishes.
 */
export function trackerWaitEnd(m: Model, t: Tracker): number {
  const finish = trackerFinishTime(m, t);
  if (finish < Infinity) return finish;
  let error = Infinity;
  for (let i = 0; i < t.length; i += 2) {
    if (t[i] === CHANNEL_NONE || channelFinishTime(m, t[i], t[i + 1]) < Infinity) continue;
    const { gpu, index } = channelGet(m, t[i]);
    error = Math.min(error, m.gpus[gpu].channelManager.host.channels[index].errorTime);
  }
  return error;
}

/**
 * Waits for all entries and empties the tracker. The local time becomes the finish of the last entry plus the cost of
 * polling, or stays when all had finished. Returns NV_OK, or the driver's error, or that of a channel, when something
 * is not done. Throws EndlessWaitError when nothing would end the wait.
 */
export function trackerWait(m: Model, t: Tracker): number {
  if (t.length === 0) return NV_OK;
  let status = NV_OK;
  if (m.globalStatus === NV_OK) {
    waitUntil(m, t, 'uvm_tracker_wait', trackerWaitEnd(m, t));
    trackerRemoveCompleted(m, t);
    if (t.length > 0) status = trackerCheckErrors(m, t);
  } else if (!trackerIsCompleted(m, t)) status = m.globalStatus;
  trackerClear(t);
  return status;
}

/** Waits for one push. Returns NV_OK, or the error of its channel or the driver when it is not done. */
export function trackerWaitForEntry(m: Model, channel: number, value: number): number {
  if (trackerIsEntryCompleted(m, channel, value)) return NV_OK;
  if (m.globalStatus !== NV_OK) {
    // The driver spins once, and looks at the channel before it looks at the global status.
    const status = channelCheckErrors(m, channelGet(m, channel));
    return status === NV_OK ? m.globalStatus : status;
  }
  const entry = [channel, value];
  waitUntil(m, entry, 'uvm_tracker_wait_for_entry', trackerWaitEnd(m, entry));
  hostRunUntil(m, channelGpu(channel), m.k.now);
  return trackerIsEntryCompleted(m, channel, value) ? NV_OK : trackerCheckErrors(m, entry);
}

/** Waits for the entries of GPUs other than `gpu` (an index) and drops what is done. An error empties the tracker. */
export function trackerWaitForOtherGpus(m: Model, t: Tracker, gpu: number): number {
  for (let i = 0; i < t.length; i += 2) {
    if (t[i] === CHANNEL_NONE || channelGpu(t[i]) === gpu) continue;
    const status = trackerWaitForEntry(m, t[i], t[i + 1]);
    if (status !== NV_OK) {
      trackerClear(t);
      return status;
    }
  }
  trackerRemoveCompleted(m, t);
  return NV_OK;
}

function waitUntil(m: Model, t: Tracker, place: string, end: number): void {
  if (end <= m.k.now) return;
  if (end - m.k.now < SPIN_LOOP_REPORT_NS / 2) {
    m.k.now = Math.round(end + m.cost.trackerPoll);
    return;
  }
  const channels: number[] = [];
  for (let i = 0; i < t.length; i += 2) if (!trackerIsEntryCompleted(m, t[i], t[i + 1])) channels.push(t[i]);
  const gpu = channelGpu(channels[0]);
  spinLoopUntil(m, gpu, place, m.k.now, end, () => channels.map((id) => channelWaitText(channelGet(m, id))).join(', '));
}
