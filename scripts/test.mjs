/** Everything: build, checks, all tests, the browser bundle, the packed package. The last line counts the tests. */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { staticSteps } from './check.mjs';
import { npmStep, root, runSteps } from './steps.mjs';
import { summaryLine } from './test-summary.mjs';

const cache = `${root}node_modules/.cache/uvmlab`;
const reportFile = `${cache}/vitest.json`;
mkdirSync(cache, { recursive: true });
rmSync(reportFile, { force: true });

const failed = runSteps([
  npmStep('build'),
  ...staticSteps,
  {
    name: 'tests',
    command: process.execPath,
    args: [
      `${root}node_modules/vitest/vitest.mjs`,
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${reportFile}`,
    ],
  },
  npmStep('check:browser'),
  npmStep('check:pack', { needs: 'build' }),
]);

/** @type {import('./test-summary.mjs').VitestReport | null} */
let report = null;
try {
  report = JSON.parse(readFileSync(reportFile, 'utf8'));
} catch {
  console.error('vitest left no report.');
}
if (failed.length > 0) console.error(`Failed: ${failed.join(', ')}.`);
console.log(summaryLine(report, failed, 'tests'));
process.exitCode = failed.length > 0 ? 1 : 0;
