/** The command `compare-copies`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';
import { addDeviceOptions, DEVICE_HELP, type DeviceFlags } from './live_options.ts';
import { addParameter } from './run.ts';

const DETAILS = `
Ways to have the bytes of pages that live on a GPU in the CPU's hands, each on a run of its own from the same state: the
copy routine (setCopyFrom, setNextCopy), an explicit copy (cudaMemcpy) into page-locked and into plain memory, a
prefetch to the CPU and then a read, and a plain read, which faults. For each: its time, the bytes that crossed the
link, the faults, where the pages live afterwards, and what the GPU's next reading of the same pages costs.

With FILE the state is that in which the scenario leaves the pages; without, the CPU writes 2 MiB, the GPU reads it, and
1, 16 and 512 pages of it are compared. All times are predicted by the model, or measured with
--device linux, where ioctl 62 stands in for the routine.
`;

const EXAMPLES = `
Examples:
  uvmlab compare-copies
  uvmlab compare-copies history.json --buffer a --page 0 --count 16
  uvmlab compare-copies recordings/scripts1.jsonl.gz --scenario round-trip-z1 --json
`;

export interface CompareFlags extends DeviceFlags {
  runs?: string;
  scenario?: string;
  buffer?: string;
  page?: string;
  count?: string;
  json?: boolean;
  traced?: boolean;
  param?: Record<string, string>;
}

export function registerCompareCopies(program: Command): void {
  const command = program
    .command('compare-copies')
    .summary('the copy routine beside cudaMemcpy, prefetch and a plain read')
    .description('Compares the copy routine with an explicit copy, a prefetch and a plain read, on the same pages.')
    .argument('[FILE]', 'a scenario, or scenarios or recorded cases (default: pages of one of its own)')
    .option('-s, --scenario <NAME>', 'which scenario of FILE (default: the only one)')
    .option('--buffer <NAME>', 'pages of this buffer (default: the first with pages on a GPU)')
    .option('--page <N>', 'first page, counted from 0 (default: the first on a GPU)')
    .option('--count <N>', 'how many pages (default: all that follow on a GPU)')
    .option('--json', 'print the comparison as JSON')
    .option('-p, --param <NAME=VALUE>', "set a module parameter over the scenario's own (repeatable)", addParameter)
    .option('--traced', 'predict a program whose events are being recorded, which is slower')
    .option('--runs <N>', 'with --device linux: how often each way is measured (default: 9)')
    .addHelpText('after', DETAILS + DEVICE_HELP + EXAMPLES + EXIT_CODES);
  addDeviceOptions(command).action(async (file: string | undefined, flags: CompareFlags) => {
    const { runCompareCopies } = await import('./run_compare_copies.ts');
    process.exitCode = await runCompareCopies(file, flags);
  });
}
