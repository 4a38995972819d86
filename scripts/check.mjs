/** The inner loop: types, lint and format, imports, unused files and packages, tidiness, then the quick tests. */
import { isMain, npmStep, root, runSteps } from './steps.mjs';

/** The checks without the tests. */
export const staticSteps = [
  npmStep('check:types'),
  npmStep('check:lint'),
  npmStep('check:imports'),
  npmStep('check:unused'),
  npmStep('check:tidy'),
];

if (isMain(import.meta.url)) {
  const vitest = `${root}node_modules/vitest/vitest.mjs`;
  const failed = runSteps([
    ...staticSteps,
    { name: 'quick tests', command: process.execPath, args: [vitest, 'run', '--project', 'quick', '--reporter=dot'] },
  ]);
  if (failed.length > 0) console.error(`\nFailed: ${failed.join(', ')}.`);
  process.exitCode = failed.length > 0 ? 1 : 0;
}
