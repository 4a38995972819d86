/** The command `validate`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES, UsageError } from './command.ts';
import { addDeviceOptions, DEVICE_HELP, type DeviceFlags, deviceOf } from './live_options.ts';
import { MACHINE_OPTION } from './run.ts';

const DETAILS = `
FILE holds recorded cases (.jsonl, .jsonl.gz) or is a recording (.uvmrec). Each is run, and its events are compared
with the recorded ones: for each step and kind of event the lists must be equal, in order.
  time-dependent  the history has thrashing or throttling, so only its counts are compared
  replayed        the recorded steps are kernels of many threads, or there are no steps: the recorded faults are
                  replayed, and the migrations compared
`;

const LIVE_DETAILS = `
With --device linux the scenarios of FILE (of recorded cases the scenario alone), or random ones, are run on this
machine's GPU and then on the model, and what both did is compared in the same way.
`;

const EXAMPLES = `
Examples:
  uvmlab validate recordings/serial.jsonl.gz
  uvmlab validate recordings/*.jsonl.gz
  uvmlab validate recordings/cpu.jsonl.gz --json
  uvmlab validate recordings/scripts1.jsonl.gz --walls recordings/walls.jsonl
  uvmlab validate --device linux --random 100 --seed 5000
`;

interface ValidateFlags extends DeviceFlags {
  json?: boolean;
  walls?: string;
  machine?: string;
  random?: string;
  seed?: string;
  record?: string;
}

export function registerValidate(program: Command): void {
  const command = program
    .command('validate')
    .summary('compare the model with recordings of hardware')
    .description('Compares the model with what hardware did.')
    .argument('[FILE...]', 'recorded cases; with --device linux: scenarios')
    .option('--json', 'print the result as JSON')
    .option(...MACHINE_OPTION)
    .option('--walls <FILE>', 'recorded wall times (default: the walls.jsonl beside each FILE, where there is one)')
    .option('--random <N>', 'with --device linux: run N random histories that do not depend on time')
    .option('--seed <S>', 'with --random: the seed of the first (default: 1)')
    .option('--record <OUT.jsonl>', 'with --device linux: keep what the GPU did, as recorded cases')
    .addHelpText('after', DETAILS + LIVE_DETAILS + DEVICE_HELP + EXAMPLES + EXIT_CODES);
  addDeviceOptions(command).action(async (files: string[], flags: ValidateFlags) => {
    const json = flags.json ?? false;
    if (deviceOf(flags) === 'linux') {
      if (flags.walls !== undefined)
        throw new UsageError('--walls is of recorded cases: leave it out with --device linux');
      const { validateLive } = await import('./validate_live.ts');
      process.exitCode = await validateLive(files, { ...flags, json });
      return;
    }
    for (const option of ['random', 'seed', 'record'] as const) {
      if (flags[option] !== undefined) throw new UsageError(`--${option} goes with --device linux`);
    }
    if (files.length === 0) throw new UsageError('give files with recorded cases, such as recordings/*.jsonl.gz');
    const { validateFiles } = await import('./validate_files.ts');
    process.exitCode = await validateFiles(files, { json, walls: flags.walls, machine: flags.machine });
  });
}
