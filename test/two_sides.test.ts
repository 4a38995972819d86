/** One scenario with both sides of a story: what an H200 recorded of it, and what the model makes of it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { executeRun } from '../src/analysis/execute.ts';
import { loadMachines, packageRoot, recordingPath } from '../src/analysis/machines.ts';
import type { CaseLine } from '../src/trace/case_check.ts';
import { readCases } from '../src/trace/case_file.ts';
import { identity, type UvmEvent } from '../src/trace/event.ts';
import { logEvents } from '../src/trace/log_events.ts';

const machines = loadMachines();
/** The step in which CPU and GPU contend for a page: it depends on time. */
const CONTEND = 12;

async function recorded(): Promise<CaseLine> {
  for await (const entry of readCases(recordingPath('h200-two-sides.jsonl.gz'))) {
    if (entry.kind === 'case') return entry;
  }
  throw new Error('no case');
}

function byKind(events: readonly UvmEvent[]): Record<string, string[]> {
  const lists: Record<string, string[]> = {};
  for (const event of events) {
    if ((event.step as number) >= CONTEND) continue;
    const key = `${event.step} ${event.event}`;
    lists[key] ??= [];
    lists[key].push(identity(event));
  }
  return lists;
}

describe('examples/two-sides.json, on an H200 and on the model', () => {
  it('has the same events up to the step that depends on time', async () => {
    const entry = await recorded();
    const file = JSON.parse(readFileSync(join(packageRoot(), 'examples', 'two-sides.json'), 'utf8'));
    expect(entry.scenario).toEqual(file);
    const executed = executeRun(file, machines);
    if (!executed.ok) throw new Error(executed.error);
    const { run } = executed;
    const model = byKind(logEvents(run.m, run.scenario.allocations));
    const hardware = byKind((entry.observed as { events: UvmEvent[] }).events);
    expect(Object.values(hardware).flat().length).toBe(495);
    expect(model).toEqual(hardware);
  });
});
