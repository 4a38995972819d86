/**
 * A line for each push of a run, in the order of submission: who sent what to which channel, what it waited for, and
 * the five times of its life. Virtual nanoseconds; `begin` and `end` are of the CPU, `started` and `finished` of the
 * engine, `completed` is when the semaphore reached the value, and `noticed` when the callback ran.
 */
import type { PushWatch } from '../model/push_watch.ts';
import type { Model } from '../model/state.ts';
import { CHANNEL_TYPE_NAMES, channelGet } from '../model/uvm/channel.ts';
import { PURPOSE_NAMES } from '../model/uvm/push.ts';
import { PUSH_ACQUIRE_INFO_MAX_ENTRIES } from '../model/uvm/pushbuffer.ts';

/** One push. */
export interface PushEntry {
  step: number;
  /** Counts from 0 in the run. */
  push: number;
  gpu: string;
  /** Channel of that GPU. */
  channel: number;
  /** What the channel was asked for as; null for one that was named itself. */
  type: string | null;
  pool: number;
  engine: number;
  /** Entry of the channel's ring. */
  gpfifo: number;
  trackingSemaphoreValue: number;
  /** What it waited for on the GPU, at most 16, by channel and value. */
  acquires: { gpu: string; channel: number; value: number }[];
  methods: number;
  /** As the driver's methods would take in the pushbuffer. */
  bytes: number;
  begin: number;
  end: number;
  started: number;
  finished: number;
  completed: number;
  /** Null for a push without a callback, and for one whose entry nobody collected. */
  noticed: number | null;
  purpose: string;
}

export interface PushLog {
  readonly entries: PushEntry[];
  /** For each push, how many events were in the log when it was submitted. */
  readonly eventsBefore: number[];
  readonly watch: PushWatch;
}

const CHANNELS = 64;
const gpuOf = (channel: number): string => `gpu${Math.floor(channel / CHANNELS)}`;

/** An empty log. Give its `watch` to the model that is to be watched. */
export function createPushLog(): PushLog {
  const entries: PushEntry[] = [];
  const eventsBefore: number[] = [];
  /** Pushes whose entries were not collected, by channel and value. */
  const waiting = new Map<string, PushEntry>();
  /** When the last callback of each channel ran. */
  const noticed = new Map<number, number>();
  const key = (channel: number, value: number): string => `${channel} ${value}`;
  const watch: PushWatch = {
    ended: (m: Model, push, gpfifo) => {
      const channel = channelGet(m, push.channel);
      const pool = m.gpus[push.gpu].channelManager.pools[channel.pool];
      const kept = Math.min(push.acquireCount, PUSH_ACQUIRE_INFO_MAX_ENTRIES);
      const acquires = Array.from({ length: kept }, (_, i) => ({
        gpu: gpuOf(push.acquires[2 * i]),
        channel: push.acquires[2 * i] % CHANNELS,
        value: push.acquires[2 * i + 1],
      }));
      const entry: PushEntry = {
        step: m.tools.step,
        push: entries.length,
        gpu: gpuOf(push.channel),
        channel: channel.index,
        type: CHANNEL_TYPE_NAMES[push.type] ?? null,
        pool: channel.pool,
        engine: pool.engine,
        gpfifo,
        trackingSemaphoreValue: push.trackingValue,
        acquires,
        methods: push.methods,
        bytes: push.bytes,
        begin: push.begin,
        end: push.end,
        started: push.start,
        finished: push.finish,
        // The release of the semaphore is the last thing that a push does.
        completed: push.finish,
        noticed: null,
        purpose: PURPOSE_NAMES[push.purpose],
      };
      entries.push(entry);
      eventsBefore.push(m.tools.log.count);
      waiting.set(key(push.channel, push.trackingValue), entry);
    },
    collected: (m, channel, value, hasCallback) => {
      const entry = waiting.get(key(channel, value));
      waiting.delete(key(channel, value));
      if (entry === undefined || !hasCallback) return;
      // A thread that collects may have a clock behind that of the one before it, or of the one that let the GPU go on
      // (ARCHITECTURE.md: actors run until they yield). It does not look before what it sees.
      entry.noticed = Math.max(m.k.now, entry.completed, noticed.get(channel) ?? 0);
      noticed.set(channel, entry.noticed);
    },
  };
  return { entries, eventsBefore, watch };
}

/** What a channel did in a run. */
export interface ChannelUse {
  gpu: string;
  channel: number;
  pushes: number;
  methods: number;
  /** Nanoseconds in which a push of it was executed. */
  busy: number;
  /** Most pushes between submission and completion at one time. */
  most: number;
  /** Pushes by what they were for. */
  purposes: Record<string, number>;
}

/** The use of each channel that was used, by GPU and channel. */
export function channelUses(entries: readonly PushEntry[]): ChannelUse[] {
  const uses = new Map<string, ChannelUse & { open: number[] }>();
  for (const entry of entries) {
    const name = `${entry.gpu} ${String(entry.channel).padStart(3)}`;
    let use = uses.get(name);
    if (use === undefined) {
      const { gpu, channel } = entry;
      use = { gpu, channel, pushes: 0, methods: 0, busy: 0, most: 0, purposes: {}, open: [] };
      uses.set(name, use);
    }
    use.pushes++;
    use.methods += entry.methods;
    use.busy += entry.finished - entry.started;
    use.purposes[entry.purpose] = (use.purposes[entry.purpose] ?? 0) + 1;
    use.open = use.open.filter((finished) => finished > entry.end);
    use.open.push(entry.finished);
    use.most = Math.max(use.most, use.open.length);
  }
  return [...uses.keys()].sort().map((name) => {
    const { open, ...use } = uses.get(name) as ChannelUse & { open: number[] };
    return use;
  });
}
