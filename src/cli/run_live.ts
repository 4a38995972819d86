/** What `run --device linux` does. */
import { loadMachines } from '../analysis/machines.ts';
import { addTallies, summarize, type Tally } from '../analysis/summary.ts';
import { RECORDED_EVENTS } from '../device/abi/events.ts';
import { type LiveCase, liveCase } from '../live/experiment/live_cases.ts';
import { closeLiveSession, openLiveSession } from '../live/experiment/live_session.ts';
import { parseScenario } from '../scenario/scenario.ts';
import { createLineWriter, type LineWriter } from '../trace/jsonl.ts';
import { EXIT_FAILED, EXIT_OK, UsageError } from './command.ts';
import { checkFiles, checkOutput, type Input, placeText, readInputs } from './inputs.ts';
import { type DeviceFlags, managedChoice } from './live_options.ts';
import { liveTotalText, summaryText } from './summary_text.ts';
import { colorsFor } from './text.ts';

export interface RunLiveOptions extends DeviceFlags {
  events?: string;
  /** A file of recorded cases to write. */
  record?: string;
  /** False: no queue is attached, so that the times are those of an untraced program. */
  traced: boolean;
}

interface Outputs {
  events: LineWriter | null;
  record: LineWriter | null;
}

function openOutputs(options: RunLiveOptions): Outputs {
  const events = options.events === undefined ? null : createLineWriter(options.events);
  return { events, record: options.record === undefined ? null : createLineWriter(options.record) };
}

function caseJson({ entry }: LiveCase): object {
  const { scenario, recordedFromStep, observed } = entry;
  return { scenario, recordedFromStep, observed };
}

function writeCase(outputs: Outputs, live: LiveCase, name: string): void {
  const { events, wallMicroseconds, copies } = live.run;
  outputs.events?.write({ scenario: name, wallMicroseconds, events, ...(copies.length > 0 ? { copies } : {}) });
  outputs.record?.write(caseJson(live));
}

function show(live: LiveCase, machines: ReturnType<typeof loadMachines>): Tally {
  const colors = colorsFor(process.stdout);
  const parsed = parseScenario(live.entry.scenario, machines.known);
  const summary = summarize(live.run.events, live.run.wallMicroseconds);
  if (!parsed.ok) return summary.total;
  const notes = live.run.copies.map(
    ({ step, from, to, bytes, status }) =>
      `copy of step ${step} by ioctl 62, as this driver has no copy routine: ${bytes} bytes of ${from.buffer}, page ` +
      `${from.page}, to ${to.buffer}, page ${to.page} (${status})`,
  );
  process.stdout.write(`${summaryText(parsed.scenario, summary, notes, colors)}\n`);
  return summary.total;
}

/** Runs all scenarios of the files on this machine's GPU, and returns the exit code. */
export async function runFilesLive(files: readonly string[], options: RunLiveOptions): Promise<number> {
  if (!options.traced && (options.events !== undefined || options.record !== undefined)) {
    throw new UsageError('--untraced records nothing: leave out --events and --record');
  }
  await checkFiles(files);
  for (const option of ['events', 'record'] as const) {
    const path = options[option];
    if (path !== undefined) checkOutput(path, files, option);
  }
  const machines = loadMachines();
  const session = await openLiveSession({
    managed: managedChoice(options),
    events: options.traced ? RECORDED_EVENTS : [],
  });
  const outputs = openOutputs(options);
  const red = colorsFor(process.stderr).red('error:');
  const totals: Tally[] = [];
  let failures = 0;
  const failed = (input: Input, name: string | null, error: string): void => {
    failures++;
    outputs.events?.write({ scenario: name, line: input.entry.line, error });
    process.stderr.write(`${red} ${placeText(input)}:${name === null ? '' : ` ${name}:`} ${error}\n`);
  };
  try {
    for await (const input of readInputs(files)) {
      const { entry } = input;
      if (entry.kind === 'error') {
        failed(input, null, entry.error);
        continue;
      }
      const live = await liveCase(session, entry.scenario, entry.line, machines);
      if (!live.ok) failed(input, live.name, live.error);
      else if (options.events !== undefined) writeCase(outputs, live, (live.entry.scenario as { name: string }).name);
      else {
        writeCase(outputs, live, '');
        totals.push(show(live, machines));
      }
    }
    outputs.events?.commit();
    outputs.record?.commit();
  } catch (error) {
    outputs.events?.abort();
    // What has been recorded is kept.
    outputs.record?.commit();
    throw error;
  } finally {
    await closeLiveSession(session);
  }
  if (totals.length + failures > 1 && options.events === undefined) {
    const gpu = session.cuda.devices[0].name;
    process.stdout.write(liveTotalText(addTallies(totals), totals.length, failures, gpu, colorsFor(process.stdout)));
  }
  return failures === 0 ? EXIT_OK : EXIT_FAILED;
}
