import { defineConfig } from "@shaman/config";
import { z } from "zod";

/** How far outbound requests may go; development is told by NODE_ENV. */
export const outboundConfig = defineConfig(
  {
    NODE_ENV: {
      schema: z.string().optional(),
      about: "development allows http and loopback addresses",
    },
    OUTBOUND_ALLOW_LOOPBACK: {
      schema: z.enum(["true", "false"], "must be true or false").optional(),
      about: "whether tenants' addresses may lead to this machine; default true only in development",
    },
  },
  (values) => {
    const isDevelopment = values.NODE_ENV === "development";
    const chosen = values.OUTBOUND_ALLOW_LOOPBACK;
    const allowLoopback = chosen === undefined ? isDevelopment : chosen === "true";
    return { allowLoopback, mapLocalhost: allowLoopback, allowHttp: isDevelopment };
  },
);
