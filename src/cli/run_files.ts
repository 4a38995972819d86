/** The commands `run` and `replay`: what they do. */
import {
  type Executed,
  type ExecuteOptions,
  type ExecuteResult,
  executeReplay,
  executeRun,
} from '../analysis/execute.ts';
import { loadMachines, type Machines, packageVersion } from '../analysis/machines.ts';
import { addTallies, summarize, type Tally } from '../analysis/summary.ts';
import { traceOfRun } from '../analysis/trace_of_run.ts';
import { parseModuleParameters } from '../model/uvm/params.ts';
import type { Run } from '../scenario/runner.ts';
import { copyEntries } from '../trace/copies.ts';
import type { UvmEvent } from '../trace/event.ts';
import { createLineWriter, type LineWriter } from '../trace/jsonl.ts';
import { eventAt } from '../trace/log_events.ts';
import { createPushLog, type PushLog } from '../trace/push_log.ts';
import { RECORDING_SUFFIX } from '../trace/recording_file.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { createProgress, EXIT_FAILED, EXIT_OK, UsageError } from './command.ts';
import { checkFiles, checkOutput, checkTraceName, type Input, placeText, readInputs } from './inputs.ts';
import { overallText, summaryText } from './summary_text.ts';
import { colorsFor, counted } from './text.ts';

export interface RunFilesOptions {
  events?: string;
  param: Record<string, string>;
  traced: boolean;
  /** A file for a line of each push. */
  pushes?: string;
  /** A file for the only scenario as a trace. */
  trace?: string;
  /** The machine of recordings that do not tell theirs. */
  machine?: string;
}

type Mode = 'run' | 'replay';

/** Where results go: into a file, or to people. */
interface Sink {
  done(executed: Executed): void;
  failed(line: number, name: string | null, error: string): void;
  end(): void;
  abort(): void;
}

function* events(run: Run): Generator<UvmEvent> {
  const { log } = run.m.tools;
  for (let i = 0; i < log.count; i++) yield eventAt(log, i, run.scenario.allocations);
}

/** Writes the line of one scenario piece by piece: a replay may have millions of events. */
function writeLine(out: LineWriter, { run, notes }: Executed): void {
  const { scenario, state } = run;
  const wall = JSON.stringify(state.wall);
  out.writeText(`{"scenario":${JSON.stringify(scenario.name)},"wallMicroseconds":${wall},"events":[`);
  let separator = '';
  for (const event of events(run)) {
    out.writeText(separator + JSON.stringify(event));
    separator = ',';
  }
  out.writeText(']');
  const copies = copyEntries(run.m, scenario.allocations);
  if (copies.length > 0) out.writeText(`,"copies":${JSON.stringify(copies)}`);
  if (notes.length > 0) out.writeText(`,"notes":${JSON.stringify(notes)}`);
  out.writeText('}\n');
}

function fileSink(path: string): Sink {
  const out = createLineWriter(path);
  const colors = colorsFor(process.stderr);
  return {
    done: (executed) => {
      writeLine(out, executed);
      const { name } = executed.run.scenario;
      for (const note of executed.notes) process.stderr.write(`${colors.yellow('note:')} ${name}: ${note}\n`);
    },
    failed: (line, scenario, error) => out.write({ scenario, line, error }),
    end: () => out.commit(),
    abort: () => out.abort(),
  };
}

function summarySink(traced: boolean): Sink {
  const colors = colorsFor(process.stdout);
  const totals: Tally[] = [];
  let failures = 0;
  return {
    done: ({ run, notes }) => {
      const summary = summarize(events(run), run.state.wall);
      totals.push(summary.total);
      process.stdout.write(
        `${summaryText(run.scenario, summary, notes, colors, copyEntries(run.m, run.scenario.allocations))}\n`,
      );
    },
    failed: () => {
      failures++;
    },
    end: () => {
      if (totals.length + failures < 2 && failures === 0) return;
      process.stdout.write(overallText(addTallies(totals), totals.length, failures, traced, colors));
    },
    abort: () => {},
  };
}

function execute(mode: Mode, { entry }: Input, machines: Machines, options: ExecuteOptions): ExecuteResult {
  if (entry.kind === 'error') return { ok: false, name: null, error: entry.error };
  return mode === 'run' ? executeRun(entry.scenario, machines, options) : executeReplay(entry, machines, options);
}

function traceOf(mode: Mode, { entry }: Input, { run, notes }: Executed, pushLog: PushLog | null): Trace | null {
  if (entry.kind === 'error') return null;
  const from = entry.recordedFromStep;
  const fromStep = mode === 'replay' && typeof from === 'number' ? from : 0;
  return traceOfRun(run, {
    source: mode,
    uvmlab: packageVersion(),
    scenario: entry.scenario,
    pushLog,
    notes,
    fromStep,
  });
}

/** Executes every line, hands the results on and returns how many failed. */
async function executeAll(
  mode: Mode,
  files: readonly string[],
  options: RunFilesOptions,
  sink: Sink,
  pushes: LineWriter | null,
): Promise<number> {
  const machines = loadMachines();
  const progress = createProgress();
  const colors = colorsFor(process.stderr);
  let done = 0;
  let failures = 0;
  let log: PushLog | null = null;
  let trace: Trace | null = null;
  const execution: ExecuteOptions = {
    traced: options.traced,
    onRun: (run) => {
      if (pushes === null && options.trace === undefined) return;
      log = createPushLog();
      run.m.res.pushWatch = log.watch;
    },
    parameters: options.param,
    onProgress: (scenario, step) => {
      const where = step === 0 ? '' : `, step ${step} of ${scenario.steps.length}`;
      progress.say(`${counted(done + failures, 'scenario')} done, now ${scenario.name}${where}`);
    },
  };
  try {
    for await (const input of readInputs(files, options.machine)) {
      if (options.trace !== undefined && done + failures > 0) {
        throw new UsageError(`--trace ${options.trace}: takes one scenario, and ${placeText(input)} has another`);
      }
      const result = execute(mode, input, machines, execution);
      progress.clear();
      if (result.ok) {
        done++;
        sink.done(result);
        if (options.trace !== undefined) trace = traceOf(mode, input, result, log);
        const { name: scenario } = result.run.scenario;
        for (const entry of (log as PushLog | null)?.entries ?? []) pushes?.write({ scenario, ...entry });
        continue;
      }
      failures++;
      sink.failed(input.entry.line, result.name, result.error);
      const name = result.name === null ? '' : ` ${result.name}:`;
      process.stderr.write(`${colors.red('error:')} ${placeText(input)}:${name} ${result.error}\n`);
    }
  } finally {
    progress.clear();
  }
  if (trace !== null && options.trace !== undefined) {
    const { saveTrace } = await import('../trace/store/trace_writer.ts');
    saveTrace(options.trace, trace, { overwrite: true });
  }
  return failures;
}

/** Runs or replays all lines of the files and returns the exit code. */
export async function runFiles(mode: Mode, files: readonly string[], options: RunFilesOptions): Promise<number> {
  const parameters = parseModuleParameters(options.param);
  if (!parameters.ok) throw new UsageError(`--param: ${parameters.error}`);
  const recording = mode === 'run' ? files.find((file) => file.endsWith(RECORDING_SUFFIX)) : undefined;
  if (recording !== undefined) throw new UsageError(`${recording}: a recording has no steps to run; use replay`);
  await checkFiles(files);
  if (options.events !== undefined) checkOutput(options.events, files);
  if (options.pushes !== undefined) checkOutput(options.pushes, files, 'pushes');
  if (options.trace !== undefined) {
    checkTraceName('--trace', options.trace);
    checkOutput(options.trace, files, 'trace');
  }
  const sink = options.events === undefined ? summarySink(options.traced) : fileSink(options.events);
  const pushes = options.pushes === undefined ? null : createLineWriter(options.pushes);
  try {
    const failures = await executeAll(mode, files, options, sink, pushes);
    sink.end();
    pushes?.commit();
    return failures === 0 ? EXIT_OK : EXIT_FAILED;
  } catch (error) {
    sink.abort();
    pushes?.abort();
    throw error;
  }
}
