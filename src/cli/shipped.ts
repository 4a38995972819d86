/** Files that come with the package, for those who name one from another folder. */
import { existsSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { packageRoot } from '../analysis/machines.ts';

const FOLDERS = ['recordings', 'examples'];

/** What to add to a message about a file that is not there: where the package has one of its name, or ''. */
export function shippedHint(message: string, args: readonly string[], folder = process.cwd()): string {
  if (!message.includes('no such file')) return '';
  const missing = args.find((arg) => message.startsWith(`${arg}: `) && !existsSync(arg));
  if (missing === undefined) return '';
  for (const own of FOLDERS) {
    const path = join(packageRoot(), own, basename(missing));
    if (existsSync(path)) return `; uvmlab comes with ${relative(folder, path)}`;
  }
  return '';
}
