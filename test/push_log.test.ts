/**
 * The life of every push, over recorded and random histories: values of a channel rise and are completed in order,
 * nothing starts before it was submitted or before what it acquired is done, and nobody notices before it is done.
 */
import { describe, expect, it } from 'vitest';
import { executeRun } from '../src/analysis/execute.ts';
import { loadMachines, recordingPath } from '../src/analysis/machines.ts';
import type { Model } from '../src/model/state.ts';
import { readCases } from '../src/trace/case_file.ts';
import { createPushLog, type PushEntry } from '../src/trace/push_log.ts';
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
      if (entry.gpfifo !== (before.gpfifo + 1) % 1024 && entry.gpfifo !== 0) return `${name}: is not the next entry`;
      if (entry.started < before.finished) return `${name}: starts before the push ahead of it has finished`;
      if (entry.completed < before.completed) return `${name}: completed values go back`;
      // Callbacks of a channel run in its order.
      if (entry.noticed !== null && before.noticed !== null && entry.noticed < before.noticed) {
        return `${name}: is noticed before the one ahead of it`;
      }
    }
    if (entry.begin > entry.end || entry.end > entry.started) return `${name}: starts before it is submitted`;
    if (entry.started > entry.finished || entry.finished > entry.completed)
      return `${name}: is complete before its end`;
    if (entry.noticed !== null && entry.noticed < entry.completed) return `${name}: is noticed before it is complete`;
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
      const onRun = ({ m }: { m: Model }) => {
        m.res.pushWatch = log.watch;
      };
      const executed = executeRun(entry.scenario, machines, { traced: true, onRun });
      if (!executed.ok) throw new Error(executed.error);
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
      const { failure } = runHistory(generateHistory(seed), new Map(), (m) => {
        m.res.pushWatch = log.watch;
      });
      expect(failure).toBeNull();
      const wrong = broken(log.entries);
      expect(wrong === null ? null : `seed ${seed}: ${wrong}`).toBeNull();
      pushes += log.entries.length;
    }
    expect(pushes).toBeGreaterThan(2000);
  });
});
