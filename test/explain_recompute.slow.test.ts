/**
 * Faults of the recordings, explained and recomputed: residency rule, prefetch counts level by level, and the tracking
 * semaphore value of every push, from an account of its own (test/support/ledger.ts), found in `explain --json`.
 */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { executeRun } from '../src/analysis/execute.ts';
import type { FaultExplanation } from '../src/analysis/explain.ts';
import { loadMachines, recordingPath } from '../src/analysis/machines.ts';
import { explainFile } from '../src/cli/explain_file.ts';
import { scenarioName } from '../src/scenario/scenario.ts';
import { readCases } from '../src/trace/case_file.ts';
import { logEvents } from '../src/trace/log_events.ts';
import { type Account, Ledger, type LedgerStep } from './support/ledger.ts';

interface Scenario {
  allocations: { bytes: number }[];
  steps: LedgerStep[];
}

const accounts = new Map<string, Account[]>();

/** The account of every fault of a recorded scenario, from the steps and the faults that a run produces. */
async function accountsOf(file: string, name: string): Promise<Account[]> {
  const known = accounts.get(name);
  if (known !== undefined) return known;
  for await (const entry of readCases(recordingPath(file))) {
    if (entry.kind !== 'case' || scenarioName(entry.scenario) !== name) continue;
    const result = executeRun(entry.scenario, loadMachines());
    if (!result.ok) throw new Error(result.error);
    const events = logEvents(result.run.m, result.run.scenario.allocations);
    const scenario = entry.scenario as Scenario;
    const { copyEngines } = result.run.m.spec;
    const ledger = new Ledger(scenario.allocations[0].bytes / 4096, copyEngines);
    const all: Account[] = [];
    for (const [i, step] of scenario.steps.entries()) {
      ledger.step(step);
      for (const event of events) {
        if (event.step !== i) continue;
        if (event.event === 'cpuFault') all.push(ledger.fault('cpu', event.offset / 4096, event.access));
        if (event.event === 'gpuFault') all.push(ledger.fault('gpu0', event.offset / 4096, event.access));
      }
    }
    accounts.set(name, all);
    return all;
  }
  throw new Error(`${file} has no case ${name}`);
}

let printed = '';

beforeEach(() => {
  printed = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
});

async function explainJson(file: string, name: string, fault: number): Promise<FaultExplanation> {
  const code = await explainFile(recordingPath(file), { scenario: name, fault: String(fault), json: true });
  expect(code).toBe(0);
  return JSON.parse(printed) as FaultExplanation;
}

const FAULTS: [string, string, number][] = [
  ['serial.jsonl.gz', 'seq-64k-read', 60],
  ['serial.jsonl.gz', 'seq-128k-read', 150],
  ['serial.jsonl.gz', 'rand-4k-read-s1', 30],
  ['serial.jsonl.gz', 'rand-4k-read-s1', 81],
  ['serial.jsonl.gz', 'rand-64k-write', 120],
  ['serial.jsonl.gz', 'rand-4k-atomic', 30],
  ['serial.jsonl.gz', 'seq-4k-firsttouch-read', 5],
  ['serial.jsonl.gz', 'rand-64k-firsttouch-read', 60],
  ['serial.jsonl.gz', 'odd-size-5m4k', 34],
  ['serial.jsonl.gz', 'small-256k', 5],
  ['serial.jsonl.gz', 'readmostly-seq-4k', 4120],
  ['serial.jsonl.gz', 'preferred-cpu-seq-64k', 100],
  ['serial.jsonl.gz', 'preferred-gpu-seq-64k', 60],
  ['cpu.jsonl.gz', 'cpu-read-back-4k', 30],
  ['cpu.jsonl.gz', 'cpu-read-back-rand-4k-s501', 35],
  ['cpu.jsonl.gz', 'cpu-write-back-4k', 47],
  ['scripts1.jsonl.gz', 'half-resident-then-read-z1', 20],
  ['scripts1.jsonl.gz', 'holes-then-read-z1', 20],
  ['scripts1.jsonl.gz', 'round-trip-z1', 30],
  ['scripts1.jsonl.gz', 'round-trip-z1', 48],
  ['scripts1.jsonl.gz', 'read-mostly-both-z1', 1060],
  ['scripts1.jsonl.gz', 'accessed-by-first-z1', 4],
  ['scripts1.jsonl.gz', 'accessed-by-first-z1', 9],
  ['scripts1.jsonl.gz', 'preferred-gpu-cpu-touch-z1', 40],
  ['scripts1.jsonl.gz', 'preferred-cpu-gpu-write-z1', 7],
  ['scripts1.jsonl.gz', 'preferred-cpu-gpu-write-z1', 20],
  ['scripts1.jsonl.gz', 'gpu-first-then-cpu-then-gpu-z1', 40],
  ['probes1.jsonl.gz', 'split-misaligned-seq-z1', 19],
  ['probes1.jsonl.gz', 'split-misaligned-seq-z1', 36],
  ['probes1.jsonl.gz', 'split-two-cuts-z1', 36],
  ['probes1.jsonl.gz', 'split-two-cuts-z1', 71],
  ['probes1.jsonl.gz', 'preferred-gpu-first-touch-z1', 12],
  ['probes1.jsonl.gz', 'gpu-atomics-then-cpu-z1', 70],
  ['probes1.jsonl.gz', 'tail-pages-z1', 30],
  ['probes2.jsonl.gz', 'cpu-first-rand-z2', 60],
];

it.each(FAULTS)('%s %s, fault %i', async (file, name, fault) => {
  const account = (await accountsOf(file, name))[fault - 1];
  const e = await explainJson(file, name, fault);
  expect(e.fault).toMatchObject({ number: fault, page: account.page });
  expect(e.outcome.is).toBe('serviced');
  expect([e.residency?.rule, e.residency?.residency]).toEqual([account.rule, account.residency]);
  const levels = e.prefetch?.pages[0]?.levels ?? [];
  expect(levels.map((l) => [l.level, l.first, l.outer, l.counter, l.size, l.passes])).toEqual(account.levels);
  const prefetched = (e.prefetch?.runs ?? []).flatMap((run) =>
    Array.from({ length: run.count }, (_, i) => run.first + i),
  );
  expect(prefetched).toEqual(account.prefetched);
  expect(e.pushes.map((p) => [p.purpose, p.engine, p.trackingValue])).toEqual(account.pushes);
});

it('is about all rules of the residency decision that these recordings can show', async () => {
  const rules = new Set<string>();
  for (const [file, name, fault] of FAULTS) rules.add((await accountsOf(file, name))[fault - 1].rule);
  expect([...rules].sort()).toEqual([
    'first touch at the faulting processor',
    'first touch at the preferred location',
    'migrate to the faulting processor',
    'read duplication: a copy for the faulting processor',
    'read duplication: collapse to the faulting processor',
    'the faulting processor is the preferred location',
    'the preferred location is reachable',
  ]);
});
