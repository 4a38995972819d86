/** The command inside of the test's own process, with what it prints kept: quick, and good for texts and messages. */
import { beforeEach, vi } from 'vitest';
import { runCli } from '../../src/cli/program.ts';

/** What was printed since the current test began. */
export interface Captured {
  out: string;
  err: string;
  /** Runs a command line and returns its exit code. */
  run(...args: string[]): Promise<number>;
}

/** Keeps what is printed, test by test; called once in a file. */
export function captureCli(): Captured {
  const captured: Captured = {
    out: '',
    err: '',
    run: async (...args) => {
      const code = await runCli(args);
      process.exitCode = undefined;
      return code;
    },
  };
  beforeEach(() => {
    captured.out = '';
    captured.err = '';
    process.exitCode = undefined;
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      captured.out += String(text);
      return true;
    });
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      captured.err += String(text);
      return true;
    });
  });
  return captured;
}
