/**
 * How often the whole queue comes out in the recorded order, kinds mixed: the order in which migrations, remote maps
 * and replays are delivered follows the driver's collection, channel by channel. `validate` compares each kind by
 * itself, as the formats demand; this counts what goes beyond.
 *
 *     npm run build && node bench/delivery_order.mjs [--show]
 */
import { executeRun } from '../dist/analysis/execute.js';
import { loadMachines, recordingPath } from '../dist/analysis/machines.js';
import { checkRecording } from '../dist/trace/case_check.js';
import { readCases } from '../dist/trace/case_file.js';
import { identity } from '../dist/trace/event.js';
import { logEvents } from '../dist/trace/log_events.js';

const SUITES = ['serial', 'cpu', 'scripts1', 'scripts2', 'probes1', 'probes2', 'peers1'];
const show = process.argv.includes('--show');
const machines = loadMachines();

/** Events of the recorded steps as one text each, with the step. */
function texts(/** @type {any[]} */ events, /** @type {number} */ from, /** @type {boolean} */ hasSteps) {
  const recorded = events.filter((event) => event.step === undefined || event.step >= from);
  return recorded.map((event) => `${hasSteps ? event.step : '-'} ${event.event} ${identity(event)}`);
}

for (const suite of SUITES) {
  let cases = 0;
  let same = 0;
  for await (const entry of readCases(recordingPath(`${suite}.jsonl.gz`))) {
    if (entry.kind !== 'case') continue;
    const checked = checkRecording(entry, false);
    const executed = executeRun(entry.scenario, machines, { traced: true });
    if (!checked.ok || !executed.ok) continue;
    const { fromStep, events, hasSteps } = checked.recording;
    const made = logEvents(executed.run.m, executed.run.scenario.allocations);
    const [recorded, produced] = [texts(events, fromStep, hasSteps), texts(made, fromStep, hasSteps)];
    cases++;
    const at = recorded.findIndex((text, i) => text !== produced[i]);
    if (at < 0 && recorded.length === produced.length) same++;
    else if (show) {
      console.log(`${suite} ${executed.run.scenario.name}: at ${at} of ${recorded.length}`);
      for (let i = Math.max(0, at - 2); i < at + 6; i++) console.log(`    ${recorded[i]}    |    ${produced[i]}`);
    }
  }
  console.log(`${suite}: ${same} of ${cases} in the recorded order`);
}
