/** The command `validate`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';
import { MACHINE_OPTION } from './run.ts';

const DETAILS = `
FILE holds recorded cases (.jsonl, .jsonl.gz) or is a recording (.uvmrec). Each is run, and its events are compared
with the recorded ones: for each step and kind of event the lists must be equal, in order.
  time-dependent  the history has thrashing or throttling, so only its counts are compared
  replayed        the recorded steps are kernels of many threads, or there are no steps: the recorded faults are
                  replayed, and the migrations compared
`;

const EXAMPLES = `
Examples:
  uvmlab validate recordings/serial.jsonl.gz
  uvmlab validate recordings/*.jsonl.gz
  uvmlab validate recordings/cpu.jsonl.gz --json
  uvmlab validate recordings/scripts1.jsonl.gz --walls recordings/walls.jsonl
`;

export function registerValidate(program: Command): void {
  program
    .command('validate')
    .summary('compare the model with recordings of hardware')
    .description('Compares the model with what hardware did.')
    .argument('<FILE...>', 'recorded cases')
    .option('--json', 'print the result as JSON')
    .option(...MACHINE_OPTION)
    .option('--walls <FILE>', 'recorded wall times (default: the walls.jsonl beside each FILE, where there is one)')
    .addHelpText('after', DETAILS + EXAMPLES + EXIT_CODES)
    .action(async (files: string[], options: { json?: boolean; walls?: string; machine?: string }) => {
      const { validateFiles } = await import('./validate_files.ts');
      process.exitCode = await validateFiles(files, { ...options, json: options.json ?? false });
    });
}
