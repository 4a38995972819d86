/** The commands `run` and `replay`: their options. */
import type { Command } from 'commander';
import { EXIT_CODES, UsageError } from './command.ts';
import { addDeviceOptions, DEVICE_HELP, type DeviceFlags, deviceOf } from './live_options.ts';

const FILE_HELP = `
FILE is a scenario (.json), or lines of scenarios or of recorded cases (.jsonl, .jsonl.gz).
`;

const REPLAY_FILE_HELP = `
FILE is a recording (.uvmrec), or lines of recorded cases (.jsonl, .jsonl.gz).
`;

const OUTPUT_HELP = `
With --pushes OUT.jsonl each push becomes one line:
  { "scenario", "step", "push", "gpu", "channel", "type", "pool", "engine", "gpfifo", "trackingSemaphoreValue",
    "acquires", "methods", "bytes", "begin", "end", "started", "finished", "completed", "noticed", "purpose" }
in virtual nanoseconds: begin and end on the CPU, started and finished on the engine; completed when the semaphore
reached the value, noticed when the callback ran (null: it has none, or nobody collected it).
With --events OUT.jsonl each scenario becomes one line:
  { "scenario": NAME, "wallMicroseconds": [one per step], "events": [...], "notes": [...] }
One that cannot run becomes { "scenario": NAME, "line": N, "error": WHY }; all others still run.
With --trace TRACE.parquet the events and pushes of the one scenario that there is are kept as a trace ("uvmlab query").
`;

const RUN_EXAMPLES = `
Examples:
  uvmlab run history.json
  uvmlab run histories.jsonl --events out.jsonl
  uvmlab run history.json --trace history.parquet
  uvmlab run history.json --param uvm_perf_prefetch_enable=0
  uvmlab run recordings/serial.jsonl.gz --traced --events /dev/stdout | head -1
`;

const REPLAY_EXAMPLES = `
Examples:
  uvmlab replay recordings/parallel.jsonl.gz
  uvmlab replay recording.jsonl --events out.jsonl
  uvmlab replay a.uvmrec --machine h200-pcie5
  uvmlab replay recording.jsonl --param uvm_perf_fault_replay_policy=1
`;

export function addParameter(text: string, before: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at <= 0) throw new UsageError(`--param ${text}: expected NAME=VALUE; "uvmlab parameters" lists the names`);
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

interface RunFlags {
  events?: string;
  param?: Record<string, string>;
  traced?: boolean;
  machine?: string;
  pushes?: string;
  trace?: string;
}

function register(program: Command, mode: 'run' | 'replay'): Command {
  return program
    .command(mode)
    .argument('<FILE...>', 'scenarios or recorded cases')
    .option('-e, --events <OUT.jsonl>', 'write the events instead of a summary')
    .option('--pushes <OUT.jsonl>', 'write a line for each push, in the order of submission')
    .option('--trace <TRACE.parquet>', 'keep the run of the only scenario as a trace, with its pushes')
    .option('-p, --param <NAME=VALUE>', "set a module parameter over the scenario's own (repeatable)", addParameter)
    .option('--traced', 'predict a program whose events are being recorded, which is slower')
    .action(async (files: string[], options: RunFlags) => {
      const { runFiles } = await import('./run_files.ts');
      const { events, param = {}, traced = false, machine, pushes, trace } = options;
      process.exitCode = await runFiles(mode, files, { events, param, traced, machine, pushes, trace });
    });
}

/** The option that says what a recording does not tell by itself. */
export const MACHINE_OPTION = [
  '-m, --machine <NAME>',
  'the machine profile of recordings (default: as they say); with --device linux: to compare with',
] as const;

interface RunDeviceFlags extends RunFlags, DeviceFlags {
  record?: string;
  untraced?: boolean;
}

async function runAction(files: string[], flags: RunDeviceFlags): Promise<void> {
  const { events, param = {}, traced = false, record, untraced = false, pushes, trace } = flags;
  if (deviceOf(flags) === 'linux') {
    if (Object.keys(param).length > 0) {
      throw new UsageError("--param: a real driver's module parameters are set when it is loaded, not by a program");
    }
    if (pushes !== undefined) throw new UsageError('--pushes is of the model: a real driver does not tell its pushes');
    if (trace !== undefined) {
      throw new UsageError('--trace is of the model; of a real run keep --record OUT.jsonl, and "uvmlab import" it');
    }
    if (traced) throw new UsageError('--traced is of the model; a real run is traced unless --untraced is given');
    const { runFilesLive } = await import('./run_live.ts');
    process.exitCode = await runFilesLive(files, { ...flags, events, record, traced: !untraced });
    return;
  }
  if (record !== undefined || untraced) {
    throw new UsageError(`${record === undefined ? '--untraced' : '--record'} goes with --device linux`);
  }
  const { runFiles } = await import('./run_files.ts');
  process.exitCode = await runFiles('run', files, { events, param, traced, pushes, trace });
}

export function registerRun(program: Command): void {
  addDeviceOptions(register(program, 'run'))
    .option('--record <OUT.jsonl>', 'with --device linux: keep what the GPU did, as recorded cases')
    .option('--untraced', 'with --device linux: attach no event queue, for the times of an untraced program')
    .action(runAction)
    .summary('run scenarios through the model')
    .description(
      'Runs each scenario through the model of the driver, or on the real GPU of this machine, and shows what ' +
        'happened in each step.',
    )
    .addHelpText('after', FILE_HELP + OUTPUT_HELP + DEVICE_HELP + RUN_EXAMPLES + EXIT_CODES);
}

export function registerReplay(program: Command): void {
  register(program, 'replay')
    .option(...MACHINE_OPTION)
    .summary('put recorded faults through the model')
    .description(
      'Puts the recorded faults of each case into the fault buffer, batch by batch as the GPU delivered them, and ' +
        'shows what the driver does with them. Of a recording nothing but the faults is read.',
    )
    .addHelpText('after', REPLAY_FILE_HELP + OUTPUT_HELP + REPLAY_EXAMPLES + EXIT_CODES);
}
