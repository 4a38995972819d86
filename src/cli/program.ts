/** The command line: which commands there are. What they do is loaded when one is called. */
import { Command, CommanderError } from 'commander';
import { packageVersion } from '../analysis/machines.ts';
import { registerChannels } from './channels.ts';
import { EXIT_CODES, EXIT_FAILED, EXIT_OK, EXIT_USAGE, UsageError } from './command.ts';
import { registerCompareCopies } from './compare_copies.ts';
import { registerCopy, registerPeek, registerPoke } from './copy.ts';
import { registerDemo } from './demo.ts';
import { registerDoctor } from './doctor.ts';
import { registerExplain } from './explain.ts';
import { registerExport } from './export.ts';
import { registerImport } from './import.ts';
import { registerParameters } from './parameters.ts';
import { registerQuery } from './query.ts';
import { registerRecord } from './record.ts';
import { registerReport } from './report.ts';
import { registerReplay, registerRun } from './run.ts';
import { registerServe } from './serve.ts';
import { shippedHint } from './shipped.ts';
import { registerTour } from './tour.ts';
import { registerValidate } from './validate.ts';
import { registerWhere } from './where.ts';

const EXAMPLES = `
Examples:
  uvmlab demo                                    a first look
  uvmlab tour                                    the fault routine, item by item, on a live run
  uvmlab run history.json                        what the driver would do, step by step
  uvmlab run history.json --events out.jsonl     the same as a list of events
  uvmlab explain history.json --fault 1          why one fault went as it did
  uvmlab validate recordings/*.jsonl.gz          the model against real hardware
  uvmlab where uvm_gpu_init_isr                  a name of the driver, in its branches and in the model
  uvmlab doctor                                  what this machine has for working with the real driver
  uvmlab record -- ./program                     record a program on a real GPU
  uvmlab report run.uvmrec                       what cost most, why, and what to change
  uvmlab import run.uvmrec -o run.parquet        a trace of it, for query and other tools
  uvmlab serve run.uvmrec                        the same in a browser, down to each page
  uvmlab run --help                              more about one command
`;

function createProgram(): Command {
  const program = new Command('uvmlab')
    .description("An executable model of the GPU page-fault path of NVIDIA's UVM driver, and a client of the real one.")
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .addHelpText('after', EXAMPLES + EXIT_CODES)
    .showHelpAfterError('(add --help for what there is)')
    .exitOverride();
  registerRun(program);
  registerReplay(program);
  registerValidate(program);
  registerExplain(program);
  registerDoctor(program);
  registerRecord(program);
  registerReport(program);
  registerImport(program);
  registerExport(program);
  registerQuery(program);
  registerServe(program);
  registerCopy(program);
  registerPeek(program);
  registerPoke(program);
  registerCompareCopies(program);
  registerDemo(program);
  registerTour(program);
  registerChannels(program);
  registerParameters(program);
  registerWhere(program);
  return program;
}

/** Errors whose message is meant for the user; every other one is a bug and shows its stack. */
const USER_ERRORS = [
  'UsageError',
  'CaseFileError',
  'LineFileError',
  'RecordingFileError',
  'TraceFileError',
  'TraceQueryError',
  'UnavailableError',
  'AttachError',
  'ManagedRangeError',
  'ManagedLimitError',
  'CopyAbiError',
  'CopyRoutineError',
];

/** Runs a command line (without node and the script) and returns the exit code. */
export async function runCli(args: readonly string[]): Promise<number> {
  try {
    await createProgram().parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? EXIT_OK);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
    // Whoever reads /dev/stdout may stop early, as `head` does.
    if (name === 'LineFileError' && message.includes('EPIPE')) return EXIT_OK;
    if (error instanceof UsageError || USER_ERRORS.includes(name)) {
      process.stderr.write(`error: ${message}${shippedHint(message, args)}\n`);
      return EXIT_USAGE;
    }
    process.stderr.write(`internal error (a bug in uvmlab): ${stack ?? message}\n`);
    return EXIT_FAILED;
  }
}
