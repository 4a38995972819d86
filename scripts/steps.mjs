/** Runs a list of commands one after another, says how each went, and goes on after a failure: one run shows all. */
import { spawnSync } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The root of the repository, with a slash at the end. */
export const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * Whether the module of this URL is the one that node was started with (also through a symbolic link).
 * @param {string} url import.meta.url of the module that asks
 */
export function isMain(url) {
  return process.argv[1] !== undefined && realpathSync(process.argv[1]) === realpathSync(fileURLToPath(url));
}

/** @typedef {{ name: string, command: string, args: string[], needs?: string }} Step */

/**
 * A step that runs an npm script of this package.
 * @param {string} script
 * @param {{ needs?: string }} [options] needs: the step without whose success this one makes no sense
 * @returns {Step}
 */
export function npmStep(script, options = {}) {
  return { name: script, command: 'npm', args: ['run', '--silent', script], ...options };
}

/**
 * @param {Step[]} steps
 * @returns {string[]} the names of the steps that failed or could not be tried
 */
export function runSteps(steps) {
  /** @type {string[]} */
  const failed = [];
  for (const step of steps) {
    if (step.needs !== undefined && failed.includes(step.needs)) {
      console.log(`not run  ${step.name} (${step.needs} failed)`);
      failed.push(step.name);
      continue;
    }
    const begin = Date.now();
    const { status, error } = spawnSync(step.command, step.args, {
      cwd: root,
      stdio: 'inherit',
      shell: process.platform === 'win32' && step.command === 'npm',
    });
    const seconds = ((Date.now() - begin) / 1000).toFixed(1);
    if (error) console.error(`${step.command}: ${error.message}`);
    console.log(`${status === 0 ? 'ok      ' : 'FAILED  '} ${step.name} (${seconds} s)`);
    if (status !== 0) failed.push(step.name);
  }
  return failed;
}
