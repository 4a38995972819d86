/** The command `channels`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';
import { addParameter } from './run.ts';

const DETAILS = `
Shows the channels of a machine: which pool and copy engine each belongs to, what types of push its pool serves, and
how many GPFIFO entries it has. With FILE, a scenario is run, and each channel's use is shown beside it: its pushes,
how long it was busy, and what the pushes were for.
`;

const EXAMPLES = `
Examples:
  uvmlab channels
  uvmlab channels --machine 2xh200-nvlink
  uvmlab channels history.json
  uvmlab channels recordings/scripts1.jsonl.gz --scenario round-trip-z1
`;

export interface ChannelsFlags {
  machine?: string;
  scenario?: string;
  json?: boolean;
  traced?: boolean;
  param?: Record<string, string>;
}

export function registerChannels(program: Command): void {
  program
    .command('channels')
    .summary("a machine's channels, and their use in a run")
    .description("Shows a machine's channels, and what a run sends through them.")
    .argument('[FILE]', 'a scenario, or scenarios or recorded cases')
    .option('-m, --machine <NAME>', 'the machine, without FILE (default: h200-pcie5)')
    .option('-s, --scenario <NAME>', 'which scenario of FILE (default: the only one)')
    .option('--json', 'print them as JSON')
    .option('-p, --param <NAME=VALUE>', "set a module parameter over the scenario's own (repeatable)", addParameter)
    .option('--traced', 'a program whose events are being recorded')
    .addHelpText('after', DETAILS + EXAMPLES + EXIT_CODES)
    .action(async (file: string | undefined, flags: ChannelsFlags) => {
      const { runChannels } = await import('./run_channels.ts');
      process.exitCode = await runChannels(file, flags);
    });
}
