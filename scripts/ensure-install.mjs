/**
 * Installs the dependencies when node_modules does not hold what package-lock.json asks for; does nothing otherwise.
 * Runs before every npm script that needs them, so it uses Node and npm alone.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMain, root } from './steps.mjs';

/** @typedef {{ version?: string, integrity?: string, optional?: boolean, link?: boolean }} LockedPackage */
/** @typedef {{ packages?: Record<string, LockedPackage> }} Lock */

/**
 * Why `installed` (node_modules/.package-lock.json) is not what `wanted` (package-lock.json) asks for; null if it is.
 * Optional packages may be missing: they are builds for other platforms.
 * @param {Lock} wanted
 * @param {Lock} installed
 * @returns {string | null}
 */
export function installGap(wanted, installed) {
  const have = installed.packages ?? {};
  const want = wanted.packages ?? {};
  for (const [path, pkg] of Object.entries(want)) {
    if (path === '') continue;
    const found = have[path];
    if (found === undefined) {
      if (pkg.optional) continue;
      return `${path} is missing`;
    }
    if (found.version !== pkg.version || found.integrity !== pkg.integrity) {
      return `${path} is ${found.version}, the lock file wants ${pkg.version}`;
    }
  }
  for (const path of Object.keys(have)) if (want[path] === undefined) return `${path} is not in the lock file`;
  return null;
}

/**
 * @param {string} top the root of the repository
 * @returns {string | null}
 */
function gapIn(top) {
  const hidden = join(top, 'node_modules', '.package-lock.json');
  if (!existsSync(hidden)) return 'nothing is installed';
  return installGap(
    JSON.parse(readFileSync(join(top, 'package-lock.json'), 'utf8')),
    JSON.parse(readFileSync(hidden, 'utf8')),
  );
}

/** @returns {number} the exit status */
function main() {
  const gap = gapIn(root);
  if (gap === null) return 0;
  console.error(`Installing dependencies with npm ci (${gap}).`);
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (npm.status === 0) return 0;
  console.error('npm ci failed: the dependencies are needed once, from a registry or an npm cache that holds them.');
  return npm.status || 1;
}

if (isMain(import.meta.url)) process.exitCode = main();
