/** The command `tour`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';

const DETAILS = `
The items, in the numbering of the notes that uvmlab began with:
  1  who calls uvm_va_block_select_residency, with the call stack
  2  the GPU page-fault routine, from the thread and its set-up to the replay and the re-arm
  3  one valid copy of a page in the whole system
  4  the custom copy: copyFromAddress and nextCopyAddress
  5  its rival, CUDA's explicit copies
  6  channel types
  7  how the CPU knows that a push is completed

Numbers, names of threads, registers, call stacks and times come from a run of the model that the command makes; the
text around them explains.
`;

const EXAMPLES = `
Examples:
  uvmlab tour              all items
  uvmlab tour 2            one of them
  uvmlab tour 7 --json     its facts as data
`;

export function registerTour(program: Command): void {
  program
    .command('tour')
    .summary('the GPU page-fault routine, item by item, on a live run')
    .description('Walks through the GPU page-fault routine and what belongs to it, on a live run of the model.')
    .argument('[ITEM]', 'which item, 1 to 7 (default: all)')
    .option('--json', 'print the facts as JSON')
    .addHelpText('after', DETAILS + EXAMPLES + EXIT_CODES)
    .action(async (item: string | undefined, flags: { json?: boolean }) => {
      const { runTour } = await import('./run_tour.ts');
      process.exitCode = runTour(item, flags.json ?? false);
    });
}
