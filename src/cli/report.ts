/** The command `report`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';
import { addOpenOptions, type OpenFlags, TRACE_HELP } from './import.ts';

const DETAILS = `
The first three lines say which allocation cost most, why, and what to change. Then: what to try with its evidence;
faults, batches, moved bytes by cause and direction; each allocation; the slowest batches and CPU faults with their
reasons; what tracing cost. docs/report.md says how each figure comes about.

What the model predicts is labelled so and has an interval: gains by running the changed scenario where there is one, or
by a replay of the recorded faults; and how long a program would have taken without the recorder. That is what takes
long: some 20 seconds for a million events.
`;

const EXAMPLES = `
Examples:
  uvmlab report run.uvmrec
  uvmlab report run.uvmrec --html run.html       a page that opens from disk
  uvmlab report history.json                     of a run of the model
  uvmlab report recordings/serial.jsonl.gz --scenario seq-4k-read
  uvmlab report run.parquet --json
  uvmlab report long.uvmrec --no-prediction
`;

export interface ReportFlags extends OpenFlags {
  json?: boolean;
  html?: string;
  prediction?: boolean;
}

export function registerReport(program: Command): void {
  addOpenOptions(
    program
      .command('report')
      .summary('what a trace holds, what it cost and what to change')
      .description('Says what moved, why and what it cost, and what to try.')
      .argument('<TRACE>', 'a trace, or what can be opened as one'),
  )
    .option('--html <OUT.html>', 'write the report as one page that opens from disk')
    .option('--json', 'print the report as JSON')
    .option('--no-prediction', 'run and replay nothing')
    .addHelpText('after', DETAILS + TRACE_HELP + EXAMPLES + EXIT_CODES)
    .action(async (file: string, flags: ReportFlags) => {
      const { runReport } = await import('./run_report.ts');
      process.exitCode = await runReport(file, flags);
    });
}
