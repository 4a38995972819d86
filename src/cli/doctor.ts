/** The command `doctor`: its options. */
import type { Command } from 'commander';

const DETAILS = `
Says what this machine offers for working with the real nvidia-uvm driver: the system, the package koffi, the driver and
its version, its module, device nodes, parameters and GPUs, and who may look into which process. For each thing that is
missing it says what to do, and which rule blocks it where it is one. It changes nothing and asks nothing of the driver;
device nodes are opened once and closed. Rules of AppArmor and SELinux are not looked at.

  ok        it is there
  limited   it is there, within the limits that are named
  missing   it is not there
  unknown   what decides it cannot be read; that is not guessed

With --pid it also says whether that process can be recorded.
`;

const EXAMPLES = `
Examples:
  uvmlab doctor
  uvmlab doctor --pid 4711
  uvmlab doctor --json
`;

const DOCTOR_EXIT_CODES = `
Exit codes:
  0  everything that recording needs is there: for a program to be started, or with --pid for that process
  1  something that recording needs is missing or unknown
  2  wrong usage
`;

export interface DoctorFlags {
  pid?: string;
  json?: boolean;
}

export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .summary('what this machine has for work with a real driver, and what is missing')
    .description('Says what this machine has for work with the real driver, what is missing, and what to do.')
    .option('--pid <PID>', 'a running process: whether it can be recorded')
    .option('--json', 'print findings and facts as JSON')
    .addHelpText('after', DETAILS + EXAMPLES + DOCTOR_EXIT_CODES)
    .action(async (flags: DoctorFlags) => {
      const { runDoctor } = await import('./run_doctor.ts');
      process.exitCode = await runDoctor(flags);
    });
}
