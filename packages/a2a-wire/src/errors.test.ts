import { AppError, userError } from "@shaman/kernel";
import { describe, expect, test } from "vitest";
import { encodeHttpError, encodeJsonRpcError, rpcHttpStatusOf } from "./errors.ts";

const fault = new AppError({ code: "boom", kind: "unexpected", message: "password=hunter2 at secret.ts:1" });
const away = new AppError({ code: "store_away", kind: "operational", message: "connect ECONNREFUSED 10.0.0.1" });

describe("an error on the wire", () => {
  test("always carries ErrorInfo, and BadRequest where fields are wrong", () => {
    const violations = [{ field: "message.parts", description: "is empty" }];
    const error = userError("invalid_params", "Invalid parameters.", { fieldViolations: violations });
    expect(encodeJsonRpcError(error, "req_1")).toEqual({
      code: -32602,
      message: "Invalid parameters.",
      data: [
        {
          "@type": "type.googleapis.com/google.rpc.ErrorInfo",
          reason: "INVALID_PARAMS",
          domain: "a2a-protocol.org",
          metadata: { requestId: "req_1", timestamp: expect.any(String) },
        },
        { "@type": "type.googleapis.com/google.rpc.BadRequest", fieldViolations: violations },
      ],
    });
  });

  test("has metadata of texts only", () => {
    const error = userError("version_not_supported", "No.", {
      supportedVersions: "1.0",
      near: ["x"],
      count: 3,
      field: "v",
    });
    expect(encodeJsonRpcError(error, "req_1").data[0]).toMatchObject({
      metadata: { supportedVersions: "1.0", requestId: "req_1", timestamp: expect.any(String) },
    });
    expect(JSON.stringify(encodeJsonRpcError(error, "req_1").data[0])).not.toMatch(/near|count|field/);
  });

  test("never shows what went wrong inside", () => {
    for (const error of [fault, away]) {
      const text = JSON.stringify([encodeJsonRpcError(error, "req_1"), encodeHttpError(error, "req_1")]);
      expect(text).not.toMatch(/hunter2|secret|ECONN|10\.0/);
    }
    expect(encodeHttpError(fault, "req_1")).toMatchObject({ error: { code: 500, status: "INTERNAL" } });
    expect(encodeHttpError(away, "req_1")).toMatchObject({ error: { code: 503, status: "UNAVAILABLE" } });
  });

  test.each([
    ["parse_error", 200],
    ["invalid_params", 200],
    ["task_not_found", 200],
    ["version_not_supported", 200],
    ["unauthenticated", 401],
    ["forbidden", 403],
    ["agent_not_found", 404],
    ["body_too_large", 413],
    ["media_type_not_supported", 415],
    ["too_many_requests", 429],
  ])("of code %s leaves JSON-RPC with HTTP status %i", (code, status) => {
    expect(rpcHttpStatusOf(userError(code, "x"))).toBe(status);
  });

  test("of ours leaves JSON-RPC with 503 while we are away, else with 200", () => {
    expect(rpcHttpStatusOf(away)).toBe(503);
    expect(rpcHttpStatusOf(fault)).toBe(200);
  });
});
