/**
 * The numbers of the last line of `npm test`. A file that could not be loaded has no tests that could fail, and counts as
 * one failure; so does each check before the tests.
 * @param {{ numPassedTests: number, numFailedTests: number, testResults: readonly { status: string, assertionResults: readonly unknown[] }[] } | undefined} results
 *   what vitest wrote, `undefined` when it wrote nothing
 * @param {{ testsFailed: boolean, checksFailed: number }} outcome
 * @returns {{ passed: number, failed: number }}
 */
export const countTests = (results, { testsFailed, checksFailed }) => {
  const passed = results?.numPassedTests ?? 0;
  const broken = results?.testResults.filter(
    ({ status, assertionResults }) => status === "failed" && assertionResults.length === 0,
  );
  const failedTests = (results?.numFailedTests ?? 0) + (broken?.length ?? 0);
  return { passed, failed: Math.max(failedTests, testsFailed ? 1 : 0) + checksFailed };
};
