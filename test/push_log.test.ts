/**
 * The life of every push, over recorded and random histories: values of a channel rise and are completed in order,
 * nothing starts before it was submitted or before what it acquired is done, and nothing is collected before it is done.
 */
import { describe, expect, it } from 'vitest';
import { executeRun } from '../src/analysis/execute.ts';
import { loadMachines, recordingPath } from '../src/analysis/machines.ts';
import type { PushWatch } from '../src/model/push_watch.ts';
import type { Model } from '../src/model/state.ts';
import { channelGet } from '../src/model/uvm/channel.ts';
import { readCases } from '../src/trace/case_file.ts';
import { createPushLog, type PushEntry, type PushLog } from '../src/trace/push_log.ts';
import { generateHistory } from './histories/generate.ts';
import { runHistory } from './histories/run.ts';

const machines = loadMachines();
const channelOf = ({ gpu, channel }: { gpu: string; channel: number }): string => `${gpu} ${channel}`;

/** The first rule that a log breaks, or null. */
function broken(entries: readonly PushEntry[]): string | null {
  const last = new Map<string, PushEntry>();
  const finished = new Map<string, number>();
  for (const entry of entries) {
    const name = `push ${entry.push} (${entry.purpose}, value ${entry.trackingSemaphoreValue} of ${channelOf(entry)})`;
    const before = last.get(channelOf(entry));
    last.set(channelOf(entry), entry);
    finished.set(`${channelOf(entry)} ${entry.trackingSemaphoreValue}`, entry.finished);
    if (before !== undefined) {
      if (entry.trackingSemaphoreValue !== before.trackingSemaphoreValue + 1) return `${name}: is not the next value`;
      const wraps = entry.gpfifo === 0 && Number.isInteger(Math.log2(before.gpfifo + 1)) && before.gpfifo >= 31;
      if (entry.gpfifo !== before.gpfifo + 1 && !wraps) return `${name}: is not the next entry`;
      if (entry.started < before.finished) return `${name}: starts before the push ahead of it has finished`;
    }
    if (entry.begin > entry.end || entry.end > entry.started) return `${name}: starts before it is submitted`;
    if (entry.started > entry.finished) return `${name}: ends before its start`;
    for (const acquired of entry.acquires) {
      if (channelOf(acquired) === channelOf(entry)) return `${name}: acquires a push of its own channel`;
      const end = finished.get(`${channelOf(acquired)} ${acquired.value}`);
      if (end === undefined)
        return `${name}: acquires value ${acquired.value} of ${channelOf(acquired)}, never submitted`;
      if (entry.started < end) return `${name}: starts before what it acquired`;
    }
  }
  return null;
}

/** The log's watch, which also asks the driver's own state whether what is collected was completed, and in order. */
function watched(log: PushLog): { watch: PushWatch; wrong: string[] } {
  const wrong: string[] = [];
  const last = new Map<number, number>();
  const watch: PushWatch = {
    ended: log.watch.ended,
    collected(m, channel, value, hasCallback) {
      const { completedValue } = channelGet(m, channel).trackingSem;
      const before = last.get(channel);
      last.set(channel, value);
      if (completedValue < value) wrong.push(`value ${value} of channel ${channel}: collected at ${completedValue}`);
      if (before !== undefined && value !== before + 1)
        wrong.push(`value ${value} of channel ${channel}: collected after ${before}`);
      log.watch.collected(m, channel, value, hasCallback);
    },
  };
  return { watch, wrong };
}

/** Whether two pushes of different channels of one GPU are executed at the same time. */
function overlaps(entries: readonly PushEntry[]): boolean {
  return entries.some((a, i) =>
    entries
      .slice(Math.max(0, i - 8), i)
      .some((b) => b.gpu === a.gpu && b.channel !== a.channel && b.started < a.finished && a.started < b.finished),
  );
}

describe('pushes of recorded histories', () => {
  it.each(['serial', 'cpu', 'scripts1', 'probes1', 'peers1'])('%s: every life is in order', async (suite) => {
    let pushes = 0;
    let noticed = 0;
    let side = 0;
    let acquired = 0;
    for await (const entry of readCases(recordingPath(`${suite}.jsonl.gz`))) {
      if (entry.kind !== 'case') throw new Error(entry.error);
      const log = createPushLog();
      const { watch, wrong } = watched(log);
      const onRun = ({ m }: { m: Model }) => {
        m.res.pushWatch = watch;
      };
      const executed = executeRun(entry.scenario, machines, { traced: true, onRun });
      if (!executed.ok) throw new Error(executed.error);
      expect(wrong).toEqual([]);
      expect(broken(log.entries)).toBeNull();
      pushes += log.entries.length;
      noticed += log.entries.filter((one) => one.noticed !== null).length;
      acquired += log.entries.reduce((sum, one) => sum + one.acquires.length, 0);
      if (overlaps(log.entries)) side++;
    }
    expect(pushes).toBeGreaterThan(100);
    expect(noticed).toBeGreaterThan(50);
    expect(acquired).toBeGreaterThan(10);
    if (suite === 'scripts1') expect(side).toBeGreaterThan(0);
  });
});

describe('pushes of random histories', () => {
  it('seeds 4000001 to 4000120: every life is in order', () => {
    let pushes = 0;
    for (let seed = 4_000_001; seed <= 4_000_120; seed++) {
      const log = createPushLog();
      const { watch, wrong } = watched(log);
      const { failure } = runHistory(generateHistory(seed), new Map(), (m) => {
        m.res.pushWatch = watch;
      });
      expect(failure).toBeNull();
      const rule = broken(log.entries);
      expect(rule === null ? wrong : [rule, ...wrong], `seed ${seed}`).toEqual([]);
      pushes += log.entries.length;
    }
    expect(pushes).toBeGreaterThan(2000);
  });
});
