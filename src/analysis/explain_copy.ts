/**
 * The life of one copy of the copy routine as a timeline: locks, stages, pushes and semaphore values, with the thread
 * that did each. The history runs once, from its start, with an observer.
 */

import type { CopyStage, CopyStageDetail } from '../model/copy_routine/types.ts';
import { LOCK_ORDER_NAMES } from '../model/kernel/lock.ts';
import { CHANNELS_PER_GPU_MAX, channelGpu } from '../model/uvm/channel.ts';
import { PURPOSE_NAMES } from '../model/uvm/push.ts';
import { processorName } from '../model/uvm/va_space.ts';
import type { Why } from '../model/why.ts';
import type { Run } from '../scenario/runner.ts';
import type { CaseLine } from '../trace/case_check.ts';
import { type CopyEntry, copyEntries } from '../trace/copies.ts';
import { executeRun } from './execute.ts';
import type { ExplainOptions, ExplainResult } from './explain.ts';
import type { Machines } from './machines.ts';

/** A lock that is held or taken, in the driver's name for its order. */
export interface LockInfo {
  lock: string;
  shared: boolean;
}

/** A push as the timeline names it: channel of a GPU, and the value that completes it. */
export interface PushName {
  gpu: string;
  channel: number;
  value: number;
}

/** One thing that happened; times are nanoseconds of the run. `thread` is empty for what a GPU does. */
export type CopyMoment = { time: number; thread: string } & (
  | { kind: 'lock'; taken: boolean; lock: string; shared: boolean }
  | { kind: 'stage'; stage: CopyStage; detail: CopyStageDetail; held: LockInfo[] }
  | { kind: 'push'; what: string; push: PushName; begin: number; acquires: PushName[] }
  | { kind: 'start'; what: string; push: PushName }
  | { kind: 'semaphore'; what: string; push: PushName; payload: number }
);

export interface CopyExplanation {
  scenario: string;
  machine: string;
  traced: boolean;
  number: number;
  of: number;
  copy: CopyEntry;
  timeline: CopyMoment[];
}

/** What is seen of one copy while the run goes on. */
interface Seen {
  token: number;
  moments: CopyMoment[];
  /** The thread whose locks belong to the copy now: that of the ioctl; -1 for none. */
  thread: number;
}

function nothing(): void {}

/** Watches every copy of a run. */
class CopyRecorder implements Why {
  readonly copies: Seen[] = [];
  #run: Run | null = null;
  #pending: Seen | null = null;
  #held = new Map<number, LockInfo[]>();
  /** The push that was ended last, for the stage that names it. */
  #lastPush: { push: PushName; begin: number; what: string } | null = null;

  readonly enter = nothing;
  readonly residency = nothing;
  readonly prefetchLevel = nothing;
  readonly prefetch = nothing;
  readonly thrashing = nothing;
  readonly copy = nothing;
  readonly map = nothing;

  attach(run: Run): void {
    this.#run = run;
  }

  #thread(): number {
    return this.#run?.m.k.currentThread ?? -1;
  }

  #name(thread: number): string {
    return this.#run?.m.k.threads[thread]?.name ?? 'interrupt';
  }

  lock(order: number, _instance: number, shared: boolean, taken: boolean, time: number): void {
    const thread = this.#thread();
    const held = this.#held.get(thread) ?? [];
    this.#held.set(thread, held);
    const name = LOCK_ORDER_NAMES[order];
    if (taken) held.push({ lock: name, shared });
    else {
      const at = held.map(({ lock }) => lock).lastIndexOf(name);
      if (at >= 0) held.splice(at, 1);
    }
    for (const seen of this.#pending === null ? this.copies : [...this.copies, this.#pending]) {
      if (seen.thread === thread) {
        seen.moments.push({ time, thread: this.#name(thread), kind: 'lock', taken, lock: name, shared });
      }
    }
  }

  push(purpose: number, gpu: number, channel: number, value: number, begin: number): void {
    const push = { gpu: processorName(gpu + 1), channel: channel % CHANNELS_PER_GPU_MAX, value };
    this.#lastPush = { push, begin, what: PURPOSE_NAMES[purpose] };
  }

  #of(token: number, stage: CopyStage): Seen {
    if (stage === 'called') this.#pending = { token: 0, moments: [], thread: this.#thread() };
    const pending = this.#pending;
    if (pending !== null && pending.thread === this.#thread() && (token === 0 || stage === 'listed')) {
      if (token === 0) return pending;
      pending.token = token;
      this.copies.push(pending);
      this.#pending = null;
      return pending;
    }
    const seen = this.copies.find((one) => one.token === token);
    if (seen !== undefined) return seen;
    // A call that was refused before it had a token: nobody asks for it.
    return { token, moments: [], thread: -1 };
  }

  copyStage(token: number, stage: CopyStage, time: number, detail: CopyStageDetail): void {
    const thread = this.#thread();
    const seen = this.#of(token, stage);
    const who = { time, thread: this.#name(thread) };
    if (stage === 'push' && this.#lastPush !== null) {
      const { push, begin, what } = this.#lastPush;
      const flat = (detail['acquires'] ?? []) as readonly number[];
      const acquires: PushName[] = [];
      for (let i = 0; i < flat.length; i += 2) {
        const gpu = processorName(channelGpu(flat[i]) + 1);
        acquires.push({ gpu, channel: flat[i] % CHANNELS_PER_GPU_MAX, value: flat[i + 1] });
      }
      seen.moments.push({ ...who, kind: 'push', what, push, begin, acquires });
      return;
    }
    const held = stage === 'claimed' ? [...(this.#held.get(thread) ?? [])] : [];
    seen.moments.push({ ...who, kind: 'stage', stage, detail, held });
    if (stage === 'returned') {
      seen.thread = -1;
      if (this.#pending?.thread === thread) this.#pending = null;
    }
  }
}

/** What the GPU does for a push: it starts, and its channel's semaphore gets the low half of its value. */
function engineMoments(what: string, entry: CopyEntry['pushes'][number]): CopyMoment[] {
  const { gpu, begin, end, value } = entry;
  const push = { gpu, channel: entry.channel % CHANNELS_PER_GPU_MAX, value };
  return [
    { time: begin, thread: '', kind: 'start', what, push },
    { time: end, thread: '', kind: 'semaphore', what, push, payload: value % 2 ** 32 },
  ];
}

/**
 * Explains copy `number` of a case, counted from 1 in the order of the output. An error names what was asked for and
 * does not exist, or what is wrong with the scenario.
 */
export function explainCopy(
  entry: CaseLine,
  number: number,
  machines: Machines,
  options: ExplainOptions = {},
): ExplainResult<CopyExplanation> {
  const recorder = new CopyRecorder();
  const result = executeRun(entry.scenario, machines, {
    ...options,
    why: recorder,
    onRun: (run) => recorder.attach(run),
  });
  if (!result.ok) return { ok: false, error: result.error, asked: false };
  const { run } = result;
  const copies = copyEntries(run.m, run.scenario.allocations);
  const copy = copies[number - 1];
  if (copy === undefined) {
    const there = copies.length === 0 ? 'it makes no copies' : `valid: 1 to ${copies.length}`;
    return { ok: false, error: `--copy ${number}: not in scenario '${run.scenario.name}'; ${there}`, asked: true };
  }
  const seen = recorder.copies.find(({ token }) => token === number);
  const timeline = [...(seen?.moments ?? [])];
  for (const push of copy.pushes) timeline.push(...engineMoments('copy to pinned memory', push));
  if (copy.pageTablePush) timeline.push(...engineMoments('page-table entries', copy.pageTablePush));
  if (copy.replay) timeline.push(...engineMoments('replay', copy.replay));
  // Stable: what one thread did at one time stays in its order. What a GPU does comes before its being noticed.
  timeline.sort((a, b) => a.time - b.time || Number(a.thread !== '') - Number(b.thread !== ''));
  return {
    ok: true,
    explanation: {
      scenario: run.scenario.name,
      machine: run.scenario.machine,
      traced: options.traced ?? false,
      number,
      of: copies.length,
      copy,
      timeline,
    },
  };
}
