/** The command `report`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';
import { MACHINE_OPTION } from './run.ts';

const DETAILS = `
FILE is a recording (.uvmrec), of any length: what was recorded, faults, batches, moved bytes by cause and direction,
each allocation, the hottest 2 MiB, what was lost, and how the recording ended.

Where the recorded faults can be replayed by the model, a line predicts how long the program would have taken without
the recorder: the recorded time less the difference between the service of the faults with tracing and without it. It
assumes that the program waited for each batch. It is what takes long: some 20 seconds for a million events.
`;

const EXAMPLES = `
Examples:
  uvmlab report run.uvmrec
  uvmlab report run.uvmrec --json
  uvmlab report long.uvmrec --no-prediction
  uvmlab report run.uvmrec --machine h200-pcie5
`;

export interface ReportFlags {
  json?: boolean;
  machine?: string;
  prediction?: boolean;
}

export function registerReport(program: Command): void {
  program
    .command('report')
    .summary('sum up a recording')
    .description('Sums up what a recording holds.')
    .argument('<FILE.uvmrec>', 'the recording')
    .option('--json', 'print the report as JSON')
    .option(...MACHINE_OPTION)
    .option('--no-prediction', 'leave the prediction out')
    .addHelpText('after', DETAILS + EXAMPLES + EXIT_CODES)
    .action(async (file: string, flags: ReportFlags) => {
      const { runReport } = await import('./run_report.ts');
      process.exitCode = await runReport(file, flags);
    });
}
