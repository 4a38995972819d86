/** The command `record`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';

const DETAILS = `
Records what the driver does for a program: its page faults, migrations and replays, through the driver's own event
queue. The program is not changed, nothing is loaded into it, and nothing runs in it. Needs Linux, the NVIDIA driver and
the right to look into the process; "uvmlab doctor" says what is missing.

  record -- COMMAND   starts COMMAND and attaches before it allocates managed memory. It works where
                      kernel.yama.ptrace_scope is 0 or 1. The exit code is COMMAND's.
  record --pid PID    attaches to a running program: what it did before is not in the recording, which says so. An
                      unrelated process needs scope 0 and the same user, or CAP_SYS_PTRACE.

It ends with the program, with Ctrl-C, or after --seconds. What has been written survives anything, also the recorder's
own end. A recording is read by report, replay, validate and explain.

--events chooses kinds of events: cpuFault, gpuFault, replay, migration, mapRemote, readDuplicate,
readDuplicateInvalidate, thrashing, throttlingStart, throttlingEnd, fatalFault. Recording migrations is what costs the
program most: the driver then waits for each copy of a push before the next one. replay needs cpuFault and gpuFault.
`;

const EXAMPLES = `
Examples:
  uvmlab record -- python3 train.py
  uvmlab record -o run.uvmrec -- ./program --size 100
  uvmlab record --pid 4711 --seconds 10
  uvmlab record --events cpuFault,gpuFault,replay -- ./program
  uvmlab report run.uvmrec
`;

export interface RecordFlags {
  pid?: string;
  output?: string;
  events?: string;
  ring?: string;
  seconds?: string;
  overwrite?: boolean;
  quiet?: boolean;
}

export function registerRecord(program: Command): void {
  program
    .command('record')
    .summary('record a program on a real driver')
    .description('Records the faults, migrations and replays of a running program.')
    .argument('[COMMAND...]', 'the program to start and its arguments, after --')
    .option('--pid <PID>', 'attach to a running process instead of starting one')
    .option('-o, --output <FILE.uvmrec>', 'the recording (default: uvmlab-PID.uvmrec)')
    .option('--events <KINDS>', 'kinds of events, with commas between (default: all)')
    .option('--ring <ENTRIES>', 'entries of the event queue, a power of two from 2 to 4194304 (default: 262144)')
    .option('--seconds <N>', 'end after that many seconds')
    .option('--overwrite', 'replace a file that is there')
    .option('-q, --quiet', 'no view of what goes on')
    .addHelpText('after', DETAILS + EXAMPLES + EXIT_CODES)
    .action(async (command: string[], flags: RecordFlags) => {
      const { runRecord } = await import('./run_record.ts');
      process.exitCode = await runRecord(command, flags);
    });
}
