/** The commands `copy`, `peek` and `poke`: their options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';

const COPY_DETAILS = `
Copies managed memory of another process into a file, wherever its pages live, by ioctl 62 of the stock driver: no page
moves, no mapping changes, no fault and no event is caused. A copy takes what is there page by page, while the process
goes on; nothing keeps it from writing meanwhile.

With --armed best-effort the page of the next GPU fault is copied (of the page at --from, where that is given), as soon
as its event is seen: right after the fault was serviced, at about the time of the replay. That is no snapshot, and the
output says whether it was likely before the replay. An armed snapshot needs a driver that has the copy routine.

With --copy-abi FILE the copy goes through the copy routine of your own driver, whose numbers and layouts FILE gives
(examples/copy-abi.json), and is checked against ioctl 62.
`;

const EXAMPLES = `
Examples:
  uvmlab copy --pid 4711 --from 0x7f2a00000000 --length 64M --to pages.bin
  uvmlab copy --pid 4711 --armed best-effort --to page.bin
  uvmlab peek --pid 4711 --at 0x7f2a00000000
  uvmlab poke --pid 4711 --at 0x7f2a00000010 --hex 01000000
`;

const PEEK_DETAILS = `
Prints managed memory of another process as hexadecimal bytes, and for each page where it lives, as far as that can be
known: 'known from events' (with --recording, from the last migration in it), 'mapped by the CPU' (from
/proc/PID/pagemap), or 'not mapped by the CPU: on a GPU or nowhere'. The driver does not tell, and nothing is guessed.
`;

const POKE_DETAILS = `
Writes managed memory of another process by ioctl 63. The page stays where it is, yet the driver may change what it
knows of it: copies of a read-duplicated page are dropped (their processors fault again), a page that was nowhere is
populated on the CPU, and its 2 MiB of a GPU's memory count as just used, which decides what is evicted first.
`;

export interface CopyFlags {
  pid: string;
  from?: string;
  length?: string;
  to: string;
  inFlight?: string;
  armed?: string;
  timeout?: string;
  copyAbi?: string;
  overwrite?: boolean;
}

export interface PeekFlags {
  pid: string;
  at: string;
  length?: string;
  recording?: string;
}

export interface PokeFlags {
  pid: string;
  at: string;
  hex?: string;
  file?: string;
}

export function registerCopy(program: Command): void {
  program
    .command('copy')
    .summary("copy another process's pages, wherever they live")
    .description('Copies managed memory of a running process into a file without moving it.')
    .requiredOption('--pid <PID>', 'the process')
    .option('--from <ADDRESS>', 'where to begin: 0x... or decimal')
    .option('--length <BYTES>', 'how much: bytes, or with K, M, G')
    .requiredOption('--to <FILE>', 'the file to write')
    .option('--in-flight <N>', 'copies side by side, 1 to 64 (default: 8)')
    .option('--armed <HOW>', 'copy the page of the next GPU fault; HOW is best-effort')
    .option('--timeout <SECONDS>', 'how long an armed copy waits (default: 60)')
    .option('--copy-abi <FILE>', "use the copy routine of the process's driver, described by FILE")
    .option('--overwrite', 'replace a file that is there')
    .addHelpText('after', COPY_DETAILS + EXAMPLES + EXIT_CODES)
    .action(async (flags: CopyFlags) => {
      const { runCopy } = await import('./run_copy.ts');
      process.exitCode = await runCopy(flags);
    });
}

export function registerPeek(program: Command): void {
  program
    .command('peek')
    .summary("print another process's pages as hexadecimal")
    .description('Prints managed memory of a running process, wherever it lives, without moving it.')
    .requiredOption('--pid <PID>', 'the process')
    .requiredOption('--at <ADDRESS>', 'where: 0x... or decimal')
    .option('--length <BYTES>', 'how much, at most 1M (default: 256)')
    .option('--recording <FILE.uvmrec>', 'a recording of the process, to know where pages were moved to')
    .addHelpText('after', PEEK_DETAILS + EXAMPLES + EXIT_CODES)
    .action(async (flags: PeekFlags) => {
      const { runPeek } = await import('./run_peek.ts');
      process.exitCode = await runPeek(flags);
    });
}

export function registerPoke(program: Command): void {
  program
    .command('poke')
    .summary("write another process's managed memory")
    .description('Writes managed memory of a running process, wherever it lives.')
    .requiredOption('--pid <PID>', 'the process')
    .requiredOption('--at <ADDRESS>', 'where: 0x... or decimal')
    .option('--hex <BYTES>', 'the bytes, two hexadecimal digits each')
    .option('--file <FILE>', 'a file with the bytes, at most 1 MiB')
    .addHelpText('after', POKE_DETAILS + EXAMPLES + EXIT_CODES)
    .action(async (flags: PokeFlags) => {
      const { runPoke } = await import('./run_peek.ts');
      process.exitCode = await runPoke(flags);
    });
}
