/** The command as a user has it: bundled from src/ as it is now, and started as a process of its own. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface Cli {
  /** An empty folder for a test's files. */
  readonly folder: string;
  /** Runs `uvmlab` with these arguments in that folder. */
  run(...args: string[]): { status: number | null; stdout: string; stderr: string };
  remove(): void;
}

/** Bundles the command. Its folder lies in the package, where it finds profiles and the packages it depends on. */
export async function createCli(): Promise<Cli> {
  const cache = join(ROOT, 'node_modules', '.cache', 'uvmlab');
  mkdirSync(cache, { recursive: true });
  const outdir = mkdtempSync(join(cache, 'cli-'));
  const folder = mkdtempSync(join(tmpdir(), 'uvmlab-cli-'));
  await build({
    absWorkingDir: ROOT,
    entryPoints: ['src/cli/main.ts'],
    outdir,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    logLevel: 'error',
  });
  const main = join(outdir, 'main.mjs');
  return {
    folder,
    run: (...args) => {
      const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
        cwd: folder,
        encoding: 'utf8',
      });
      return { status, stdout, stderr };
    },
    remove: () => {
      rmSync(outdir, { recursive: true, force: true });
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
