import { defineConfig } from "@shaman/config";
import { Secret } from "@shaman/kernel";
import { z } from "zod";

/** Where this process finds PostgreSQL, as its own role. */
export const databaseConfig = defineConfig(
  {
    DATABASE_URL: {
      schema: z
        .string("is missing: set it to a postgres:// URL, or start everything with npm start")
        .regex(/^postgres(ql)?:\/\//, "must begin with postgres:// or postgresql://"),
      about: "PostgreSQL as this process's own role",
    },
    DATABASE_POOL_SIZE: {
      schema: z.coerce.number("must be a number").int().min(1).max(200).default(10),
      about: "connections of this process for its queries, 1 to 200",
    },
  },
  (env) => ({ url: new Secret(env.DATABASE_URL), poolSize: env.DATABASE_POOL_SIZE }),
);
