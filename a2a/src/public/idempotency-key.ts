import { invalidParams } from "@shaman/a2a-wire";
import { err, ok, type Result } from "@shaman/kernel";
import type { FastifyRequest } from "fastify";

const MAX_CHARS = 256;

/** The Idempotency-Key header of a request, if it has one. Error: `invalid_params` when it is too long to be kept. */
export const readIdempotencyKey = (request: FastifyRequest): Result<string | undefined> => {
  const key = request.headers["idempotency-key"];
  if (typeof key !== "string" || key === "") return ok(undefined);
  if (key.length <= MAX_CHARS) return ok(key);
  return err(
    invalidParams([{ field: "Idempotency-Key", description: `must not have more than ${MAX_CHARS} characters` }]),
  );
};
