/** Facts of the tour's items 6 and 7: the model's channels, and how the CPU learned that pushes were done. */
import type { Model } from '../model/state.ts';
import { CHANNEL_TYPE_NAMES } from '../model/uvm/channel.ts';
import { EVENT_MIGRATION, EVENT_REPLAY } from '../model/uvm/tools.ts';
import type { PushInfo } from './explain_items.ts';
import { type ChannelSample, type Pushed, readChannel } from './tour_recorder.ts';

export interface ChannelRow extends ChannelSample {
  channel: number;
  pool: number;
  /** Copy engine behind the pool. */
  engine: number;
  /** Types whose pushes go to the pool; none where no type prefers its engine. */
  types: string[];
  gpfifoEntries: number;
  /** Pushes submitted so far. */
  used: number;
}

/** All channels of a GPU, by index. */
export function channelRows(m: Model, gpu: number): ChannelRow[] {
  const manager = m.gpus[gpu].channelManager;
  return manager.channels.map((channel) => ({
    ...readChannel(m, channel.id),
    channel: channel.index,
    pool: channel.pool,
    engine: manager.pools[channel.pool].engine,
    types: CHANNEL_TYPE_NAMES.filter((_, type) => manager.poolForType[type] === channel.pool),
    gpfifoEntries: channel.numGpfifoEntries,
    // Tracking values begin at 1.
    used: channel.trackingSem.queuedValue,
  }));
}

/** A push from its first method to the moment when its entry was collected. */
export interface PushLife extends Pushed {
  /** When its tools records were delivered, which is when its entry was collected; null where it has none. */
  collected: number | null;
  /** The channel at the end of the step. */
  end: ChannelSample;
}

/** When the records that rode on a push came into the log. */
function collectedAt(m: Model, push: PushInfo): number | null {
  const { log } = m.tools;
  for (let i = 0; i < log.count; i++) {
    const copy = log.kind[i] === EVENT_MIGRATION && push.purpose === 'copy' && log.time[i] === push.begin;
    const replay = log.kind[i] === EVENT_REPLAY && push.purpose === 'replay' && log.gpuTime[i] === push.finish;
    if (copy || replay) return log.end[i];
  }
  return null;
}

/** The pushes of a step, called at its end. */
export function pushLives(m: Model, pushed: readonly Pushed[]): PushLife[] {
  return pushed.map((one) => ({
    ...one,
    collected: collectedAt(m, one.push),
    end: readChannel(m, one.push.channel),
  }));
}

/** A push whose value needs more than 32 bits. */
export interface WrappedPush {
  trackingValue: number;
  /** The last value before it, and its payload. */
  previousValue: number;
  previousPayload: number;
  payload: number;
  completedValue: number;
}

/** The first copy on a model whose channels have been used almost 2^32 times: `run` runs it to the end of its step. */
export function wrappedPush(run: () => { m: Model; pushed: readonly Pushed[] }): WrappedPush {
  const { m, pushed } = run();
  const first = pushed.find((one) => one.push.purpose === 'copy');
  if (first === undefined) throw new Error('the tour: the run had no copy');
  const { payload, completedValue } = readChannel(m, first.push.channel);
  return {
    trackingValue: first.push.trackingValue,
    previousValue: first.push.trackingValue - 1,
    previousPayload: first.after.payload,
    payload,
    completedValue,
  };
}
