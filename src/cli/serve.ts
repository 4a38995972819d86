/** The command `serve`: its options. */
import type { Command } from 'commander';
import { TRACE_INPUTS } from '../analysis/trace_inputs.ts';
import { EXIT_CODES } from './command.ts';

const EXAMPLES = `
Examples:
  uvmlab serve                                       shipped recordings, and the model in the page
  uvmlab serve run.uvmrec                            a recording of yours
  uvmlab serve history.json h200.jsonl.gz            a run of the model beside what a GPU did
  uvmlab serve cases.jsonl.gz --scenario NAME        one of several lines of a file
  uvmlab serve trace.parquet --port 8080
`;

export interface ServeFlags {
  port: string;
  scenario?: string;
}

export function registerServe(program: Command): void {
  program
    .command('serve')
    .summary('look at traces in a browser')
    .description(
      'Serves the explorer, a page over traces: a timeline, the address space, blocks page by page, faults step by ' +
        'step, two runs side by side, and the model live. Only this machine can reach it; it serves nothing else.',
    )
    .argument('[TRACE...]', `traces: ${TRACE_INPUTS}`)
    .option('--port <N>', 'port on this machine; 0: any that is free', '0')
    .option('--scenario <NAME>', 'which line, of files with several')
    .addHelpText('after', EXAMPLES + EXIT_CODES)
    .action(async (files: string[], flags: ServeFlags) => {
      const { runServe } = await import('./run_serve.ts');
      process.exitCode = await runServe(files, flags);
    });
}
