/** The command `import`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';
import { addParameter } from './run.ts';

/** What the commands that take a trace take besides. */
export const TRACE_HELP = `
What can be opened as a trace:
  .parquet            a trace
  .uvmrec             a recording of "uvmlab record"
  .jsonl, .jsonl.gz   recorded cases, results of run --events, lines of events, or what export --jsonl wrote
  .json               a scenario: it is run on the model
Where a file has several scenarios, --scenario names one.
`;

const EXAMPLES = `
Examples:
  uvmlab import run.uvmrec -o run.parquet
  uvmlab import history.json -o history.parquet
  uvmlab import recordings/serial.jsonl.gz --scenario seq-4k-read -o seq.parquet
`;

/** What is common to commands that open a trace. */
export interface OpenFlags {
  scenario?: string;
  machine?: string;
  param?: Record<string, string>;
  traced?: boolean;
}

export function addOpenOptions(command: Command): Command {
  return command
    .option('-s, --scenario <NAME>', 'which scenario of a file that has several')
    .option('-m, --machine <NAME>', 'the machine profile of a recording (default: as it says)')
    .option('-p, --param <NAME=VALUE>', 'of a scenario that is run: set a module parameter (repeatable)', addParameter)
    .option('--traced', 'of a scenario that is run: predict a program whose events are being recorded');
}

export interface ImportFlags extends OpenFlags {
  output: string;
  overwrite?: boolean;
}

export function registerImport(program: Command): void {
  addOpenOptions(
    program
      .command('import')
      .summary('make a trace of a recording, a case or a run')
      .description(
        'Makes a trace of anything that has events: one Parquet file with the events and what is known of them.',
      )
      .argument('<FILE>', 'what to make a trace of')
      .requiredOption('-o, --output <TRACE.parquet>', 'the trace'),
  )
    .option('--overwrite', 'replace a file that is there')
    .addHelpText('after', TRACE_HELP + EXAMPLES + EXIT_CODES)
    .action(async (file: string, flags: ImportFlags) => {
      const { runImport } = await import('./run_import.ts');
      process.exitCode = await runImport(file, flags);
    });
}
