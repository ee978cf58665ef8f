import { err, ok, userError, type Result } from "@shaman/kernel";
import type { FastifyRequest } from "fastify";

const SUPPORTED = "1.0";

/**
 * The A2A version a request asks for: header before query parameter, a patch number not looked at, nothing means 0.3
 * (A2A 1.0.1 §3.6). Error: `version_not_supported`.
 */
export const checkVersion = (request: FastifyRequest): Result<typeof SUPPORTED> => {
  const asked = fromHeader(request) ?? fromQuery(request.raw.url ?? "") ?? "";
  const match = /^(\d+\.\d+)(?:\.\d+)?$/.exec(asked.trim());
  if (match?.[1] === SUPPORTED) return ok(SUPPORTED);
  const was = asked.trim() === "" ? "none was given, which means 0.3" : `asked for: ${asked.slice(0, 20)}`;
  const message = `A2A version not supported (${was}). Send the header A2A-Version: ${SUPPORTED}.`;
  return err(userError("version_not_supported", message, { supportedVersions: SUPPORTED }));
};

const fromHeader = (request: FastifyRequest): string | undefined => {
  const value = request.headers["a2a-version"];
  return typeof value === "string" && value.trim() !== "" ? value : undefined;
};

const fromQuery = (url: string): string | undefined => {
  const query = url.indexOf("?");
  if (query < 0) return undefined;
  for (const [name, value] of new URLSearchParams(url.slice(query))) {
    if (name.toLowerCase() === "a2a-version") return value;
  }
  return undefined;
};
