import { expect, test } from "vitest";

import { outboundConfig } from "./outbound-config.ts";

const read = (env: Record<string, string>) => {
  const result = outboundConfig.read(env);
  return result.ok ? result.value : result.error;
};

test("loopback and http are open in development only, unless the operator says otherwise", () => {
  expect(read({})).toEqual({ allowLoopback: false, mapLocalhost: false, allowHttp: false });
  expect(read({ NODE_ENV: "production" })).toEqual({ allowLoopback: false, mapLocalhost: false, allowHttp: false });
  expect(read({ NODE_ENV: "development" })).toEqual({ allowLoopback: true, mapLocalhost: true, allowHttp: true });
  expect(read({ NODE_ENV: "development", OUTBOUND_ALLOW_LOOPBACK: "false" })).toMatchObject({ allowLoopback: false });
  expect(read({ OUTBOUND_ALLOW_LOOPBACK: "true" })).toEqual({
    allowLoopback: true,
    mapLocalhost: true,
    allowHttp: false,
  });
});

test("anything but true and false is refused", () => {
  expect(outboundConfig.read({ OUTBOUND_ALLOW_LOOPBACK: "yes" }).ok).toBe(false);
});
