/** The command `where`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';

const DETAILS = `
NAME is a function, a structure, an enumeration or one of its values, a field or a module parameter of the driver, by
its name in any branch from 535 to 595. Arguments, and what stands before "…" or "...", do not matter:
"…read_get(parent_gpu)" will do, and so will "fault_buffer_info.replayable" or the end of a longer name.

FILE:LINE is a line of a file in kernel-open/nvidia-uvm; --driver says of which branch or version (default: 580).

The map holds names, files and lines of one version of each branch, without tests of the driver and without its files
for external memory, pageable migration and the security engine. Fields are those of the structures on the way of a
fault.
`;

const EXAMPLES = `
Examples:
  uvmlab where uvm_va_block_select_residency
  uvmlab where uvm_gpu_init_isr                            what it is called today
  uvmlab where uvm_gpu_isr.c:280 --driver 545              what stands there, and where that is today
  uvmlab where fault_buffer_info.replayable                fields
  uvmlab where uvm_perf_prefetch_threshold --json
`;

export function registerWhere(program: Command): void {
  program
    .command('where')
    .summary("find a name or a line of the driver's source in its branches and in the model")
    .description("Finds a name or a line of the driver's source in each branch, and its counterpart in the model.")
    .argument('<NAME|FILE:LINE>', 'what to find')
    .option('-d, --driver <V>', 'whose line it is: a branch or a version (default: 580)')
    .option('--json', 'print the answer as JSON')
    .addHelpText('after', DETAILS + EXAMPLES + EXIT_CODES)
    .action(async (what: string, flags: { driver?: string; json?: boolean }) => {
      const { runWhere } = await import('./run_where.ts');
      process.exitCode = runWhere(what, flags);
    });
}
