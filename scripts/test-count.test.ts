import { expect, test } from "vitest";
import { countTests } from "./test-count.mjs";

const fine = { status: "passed", assertionResults: [{}] };
const broken = { status: "failed", assertionResults: [] };

test("passed and failed tests are counted as vitest counts them", () => {
  const results = { numPassedTests: 5, numFailedTests: 2, testResults: [fine] };
  expect(countTests(results, { testsFailed: true, checksFailed: 0 })).toEqual({ passed: 5, failed: 2 });
});

test("a file that does not load is a failure although no test of it failed", () => {
  const results = { numPassedTests: 5, numFailedTests: 0, testResults: [fine, broken] };
  expect(countTests(results, { testsFailed: true, checksFailed: 0 })).toEqual({ passed: 5, failed: 1 });
});

test("a run that broke off is never zero failures", () => {
  expect(countTests(undefined, { testsFailed: true, checksFailed: 0 })).toEqual({ passed: 0, failed: 1 });
});

test("each failed check counts beside the tests", () => {
  const results = { numPassedTests: 5, numFailedTests: 0, testResults: [fine] };
  expect(countTests(results, { testsFailed: false, checksFailed: 2 })).toEqual({ passed: 5, failed: 2 });
});
