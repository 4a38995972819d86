/** The last line of `npm test`, from the report that vitest writes as JSON. */

/** @typedef {{ numPassedTests?: number, numFailedTests?: number }} VitestReport */

/**
 * "N passed, N failed", where a step that failed without a failing test of its own (a build, a check, a test file that
 * does not load) counts as one failure: the line never says 0 failed when the run failed.
 * @param {VitestReport | null} report null when vitest left none
 * @param {string[]} failedSteps names of the failed steps
 * @param {string} testStep the name of the step that ran vitest
 * @returns {string}
 */
export function summaryLine(report, failedSteps, testStep) {
  const passed = report?.numPassedTests ?? 0;
  const failedTests = report?.numFailedTests ?? 0;
  const other = failedSteps.filter((name) => name !== testStep || failedTests === 0).length;
  return `${passed} passed, ${failedTests + other} failed`;
}
