import { expect, test } from "vitest";
import { invalidInput } from "./invalid-input.ts";

/** The issues as zod 4 gives them, whose own wording must not reach anybody. */
const tooBig = { code: "too_big", path: ["name"], origin: "string", maximum: 4, message: "Too big: expected string…" };
const regex = (path: PropertyKey[]) => ({
  code: "invalid_format",
  path,
  format: "regex",
  pattern: "/^a$/",
  message: "Invalid string: must match pattern /^a$/",
});

test.each([
  [[{ path: ["name"], message: "must be a name" }], "name: must be a name."],
  [[{ path: ["agents", 0, "name"], message: "must be a name" }], "agents[0].name: must be a name."],
  [[tooBig], "name: must have at most 4 characters."],
  [
    [tooBig, tooBig, { path: [], message: "choose one of both" }],
    "name: must have at most 4 characters; choose one of both.",
  ],
  [
    [{ code: "too_small", path: ["rate"], origin: "number", minimum: 0, inclusive: true, message: "Too small: …" }],
    "rate: must be at least 0.",
  ],
  [
    [{ code: "too_big", path: ["rate"], origin: "number", maximum: 9, inclusive: false, message: "Too big: …" }],
    "rate: must be less than 9.",
  ],
  [
    [{ code: "invalid_type", path: ["n"], expected: "int", message: "Invalid input: expected int, received number" }],
    "n: must be a whole number.",
  ],
  [
    [
      {
        code: "invalid_type",
        path: ["n"],
        expected: "string",
        message: "Invalid input: expected string, received undefined",
      },
    ],
    "n: is missing.",
  ],
  [
    [
      {
        code: "invalid_value",
        path: ["kind"],
        values: ["a", "b", "c"],
        message: 'Invalid option: expected one of "a"|…',
      },
    ],
    "kind: must be a, b or c.",
  ],
  [
    [{ code: "unrecognized_keys", path: ["run"], keys: ["x", "y"], message: "Unrecognized keys: …" }],
    "run: does not know x, y.",
  ],
  [[regex(["name"])], "name: must fit /^a$/."],
  [
    [
      {
        code: "invalid_key",
        path: ["by", "x"],
        issues: [{ path: [], message: "must be a name" }],
        message: "Invalid key in record",
      },
    ],
    "by.x: must be a name.",
  ],
  [
    [
      {
        code: "invalid_union",
        path: ["span"],
        errors: [
          [{ code: "invalid_value", path: [], values: ["off"], message: 'Invalid input: expected "off"' }],
          [{ path: [], message: "must be a span" }],
        ],
        message: "Invalid input",
      },
    ],
    "span: must be off, or must be a span.",
  ],
  [
    [
      {
        code: "invalid_union",
        path: ["agents"],
        errors: [
          [{ code: "invalid_value", path: [], values: ["*"], message: 'Invalid input: expected "*"' }],
          [
            { code: "invalid_type", path: [1], expected: "string", message: "Invalid input: expected string, …" },
            { path: [2, "name"], message: "must be a name" },
          ],
        ],
        message: "Invalid input",
      },
    ],
    "agents[1]: must be text; agents[2].name: must be a name.",
  ],
  [
    [
      {
        code: "invalid_union",
        path: ["agents"],
        errors: [
          [{ code: "invalid_value", path: [], values: ["*"], message: 'Invalid input: expected "*"' }],
          [
            {
              code: "invalid_type",
              path: [],
              expected: "array",
              message: "Invalid input: expected array, received undefined",
            },
          ],
        ],
        message: "Invalid input",
      },
    ],
    "agents: is missing.",
  ],
  [
    [
      {
        code: "invalid_union",
        path: ["auth", "kind"],
        errors: [],
        options: ["none", "headers", "oauth"],
        message: "Invalid discriminator value. Expected 'none' | …",
      },
    ],
    "auth.kind: must be none, headers or oauth.",
  ],
  [
    [{ code: "too_small", path: ["x"], origin: "string", minimum: 3, exact: true, message: "Too small: …" }],
    "x: must have exactly 3 characters.",
  ],
  [
    [{ code: "too_big", path: ["x"], origin: "array", maximum: 3, exact: true, message: "Too big: …" }],
    "x: must have exactly 3 entries.",
  ],
  [
    [{ code: "too_small", path: ["x"], origin: "string", minimum: 1, inclusive: true, message: "Too small: …" }],
    "x: must not be empty.",
  ],
  [
    [
      {
        code: "invalid_format",
        path: ["x"],
        format: "datetime",
        pattern: "/^(?:…)$/",
        message: "Invalid ISO datetime",
      },
    ],
    "x: must be a time such as 2027-01-31T12:00:00Z.",
  ],
  [
    [{ code: "invalid_format", path: ["x"], format: "uuid", pattern: "/^(?:…)$/", message: "Invalid UUID" }],
    "x: must be a valid uuid.",
  ],
  [[{ code: "news", path: ["x"], message: "Invalid input" }], "x: is not as it must be."],
])("what a schema finds is said in our words, as one sentence (%#)", (issues, message) => {
  expect(invalidInput({ issues })).toMatchObject({ code: "invalid_input", kind: "user", message });
});
