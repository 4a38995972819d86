/**
 * The order of the whole queue, kinds mixed. Faults enter it at once; migrations, remote maps and replays when somebody
 * collects their push, channel by channel in the order in which channels came to have something pending. So it tells
 * which types of channel share one: on the host of most recordings copies and page-table pushes do not, on the one with
 * two GPUs they do, and the profiles' copy engines are as many as make it so.
 */
import { expect, it } from 'vitest';
import { executeRun } from '../src/analysis/execute.ts';
import { loadMachines, recordingPath } from '../src/analysis/machines.ts';
import { checkRecording } from '../src/trace/case_check.ts';
import { readCases } from '../src/trace/case_file.ts';
import { compareEvents } from '../src/trace/compare.ts';
import { identity, type UvmEvent } from '../src/trace/event.ts';
import { logEvents } from '../src/trace/log_events.ts';

const machines = loadMachines();

function texts(events: readonly UvmEvent[], from: number, hasSteps: boolean): string[] {
  return events
    .filter((event) => event.step === undefined || event.step >= from)
    .map((event) => `${hasSteps ? event.step : '-'} ${identity(event)}`);
}

/** Cases of a suite that do not depend on time: how many there are, and the names of those in another order. */
async function differing(suite: string): Promise<{ cases: number; names: string[] }> {
  const names: string[] = [];
  let cases = 0;
  for await (const entry of readCases(recordingPath(`${suite}.jsonl.gz`))) {
    if (entry.kind !== 'case') throw new Error(entry.error);
    const checked = checkRecording(entry, false);
    const executed = executeRun(entry.scenario, machines, { traced: true });
    if (!checked.ok) throw new Error(checked.error);
    if (!executed.ok) throw new Error(executed.error);
    const { fromStep, events, hasSteps } = checked.recording;
    const made = logEvents(executed.run.m, executed.run.scenario.allocations);
    if (compareEvents(events, made, { recordedFromStep: fromStep }).timeDependent) continue;
    cases++;
    const [recorded, produced] = [texts(events, fromStep, hasSteps), texts(made, fromStep, hasSteps)];
    if (recorded.join('\n') !== produced.join('\n')) names.push(executed.run.scenario.name);
  }
  return { cases, names };
}

it.each([
  ['serial', 29],
  ['cpu', 7],
  ['scripts1', 22],
  ['scripts2', 22],
  ['probes1', 10],
  ['probes2', 10],
  ['peers1', 10],
])('%s: all %i histories come out in the recorded order', async (suite, cases) => {
  expect(await differing(suite)).toEqual({ cases, names: [] });
});
