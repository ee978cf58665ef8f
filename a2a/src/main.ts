import { parseArgs } from "node:util";
import { loadCatalogue } from "@shaman/tools";
import { readInternalConfig, readPublicConfig } from "./config.ts";
import { buildInternalServer } from "./internal-server.ts";
import { buildPublicServer } from "./public-server.ts";
import type { RunningServer } from "./running-server.ts";

const { values } = parseArgs({ options: { role: { type: "string" }, port: { type: "string" } } });

const refuse = (...lines: readonly string[]): never => {
  for (const line of lines) console.error(line);
  process.exit(1);
};

const portOf = (fallback: number): number => {
  const port = values.port === undefined ? fallback : Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) refuse("Error: --port must be a number from 0 to 65535");
  return port;
};

const inCatalogue = (problem: string): string =>
  `a2a --role internal: does not start until this is mended in the catalogue of MCP servers: ${problem}`;

const start = async (): Promise<RunningServer> => {
  if (values.role === "public") {
    const config = readPublicConfig();
    if (!config.ok) return refuse(...config.error.map((problem) => `a2a --role public: ${problem}`));
    const server = await buildPublicServer(config.value);
    await server.listen(portOf(5000));
    return server;
  }
  if (values.role === "internal") {
    const config = readInternalConfig();
    if (!config.ok) return refuse(...config.error.map((problem) => `a2a --role internal: ${problem}`));
    const catalogue = await loadCatalogue(config.value.stdio);
    if (!catalogue.ok) return refuse(...catalogue.error.map(inCatalogue));
    const server = await buildInternalServer(config.value, catalogue.value);
    await server.listen(portOf(5001));
    return server;
  }
  return refuse("Error: Server role must be specified with --role flag", "Options: public, internal");
};

const server = await start();
let stopping = false;
const stop = (signal: string): void => {
  if (stopping) return;
  stopping = true;
  server.log.info("stopping", { signal });
  void server.close();
};
process.on("SIGTERM", () => stop("SIGTERM"));
process.on("SIGINT", () => stop("SIGINT"));
