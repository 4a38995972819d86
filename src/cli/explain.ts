/** The command `explain`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';
import { addParameter, MACHINE_OPTION } from './run.ts';

const DETAILS = `
FILE is a scenario (.json), or lines of scenarios or of recorded cases (.jsonl, .jsonl.gz); --scenario picks one.
A recording (.uvmrec) is always replayed.

--fault N shows the way of one fault through the driver, function by function in the driver's names and with virtual
times: why the page goes where it goes, the prefetch tree level by level, what was unmapped, populated, copied and
mapped, by which push on which channel, the tracking semaphore value that completed it, and the replay that let the
access go on.

N counts the cpuFault and gpuFault events in the order of the output of run (with --replay: of replay), from 1.

--page shows all that happened to one page. INDEX counts the 4 KiB pages of the buffer from 0; the buffer's name may be
left out where there is one buffer.

--copy N shows a copy of the copy routine as a timeline of locks, pushes and semaphore values. N counts the copies of
the output, from 1.

--names prints the functions' names of another branch, 535 to 595. What happens is still what driver 580 does.
`;

const EXAMPLES = `
Examples:
  uvmlab explain history.json --fault 1
  uvmlab explain recordings/serial.jsonl.gz --scenario rand-4k-read-s1 --fault 30
  uvmlab explain recordings/cpu.jsonl.gz --scenario pingpong-one-page --page a:0
  uvmlab explain examples/copy-at-the-fault.json --copy 1
  uvmlab explain history.json --fault 1 --names 545
  uvmlab explain recordings/parallel.jsonl.gz --scenario vecadd-96m --replay --fault 300 --json
`;

export interface ExplainFlags {
  scenario?: string;
  fault?: string;
  page?: string;
  copy?: string;
  replay?: boolean;
  json?: boolean;
  param?: Record<string, string>;
  traced?: boolean;
  names?: string;
  machine?: string;
}

export function registerExplain(program: Command): void {
  program
    .command('explain')
    .summary('explain one fault, one copy, or all that happened to one page')
    .description('Explains why the driver did what it did: for one fault, one page, or one copy.')
    .argument('<FILE>', 'a scenario, or scenarios or recorded cases')
    .option('-s, --scenario <NAME>', 'which scenario of FILE (default: the only one)')
    .option('-f, --fault <N>', 'explain fault N, counted from 1 in the order of the output')
    .option('--page <BUFFER:INDEX>', 'tell the story of a page, counted from 0 in its buffer')
    .option('--copy <N>', 'tell the life of copy N of the copy routine, counted from 1')
    .option('--replay', "replay the case's recorded faults instead of running the scenario")
    .option(...MACHINE_OPTION)
    .option('--json', 'print the explanation as JSON')
    .option('-p, --param <NAME=VALUE>', "set a module parameter over the scenario's own (repeatable)", addParameter)
    .option('--traced', 'predict a program whose events are being recorded, which is slower')
    .option('--names <V>', 'call functions as this branch or version of the driver does (default: 580)')
    .addHelpText('after', DETAILS + EXAMPLES + EXIT_CODES)
    .action(async (file: string, flags: ExplainFlags) => {
      const { explainFile } = await import('./explain_file.ts');
      process.exitCode = await explainFile(file, flags);
    });
}
