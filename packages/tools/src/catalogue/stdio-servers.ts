import { createHash } from "node:crypto";
import { rm } from "node:fs/promises";

import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { err, ok, userError, type JsonObject, type Result } from "@shaman/kernel";

import { WORKING_FOLDER } from "../sandbox/sandbox-arguments.ts";
import { sandboxError } from "../sandbox/sandbox-error.ts";
import { findSandboxPrograms, type SandboxPrograms } from "../sandbox/sandbox-programs.ts";
import type { Sandbox, SandboxEnd, SandboxSpec } from "../sandbox/sandbox.ts";
import { startSandboxed } from "../sandbox/start-sandboxed.ts";
import { makeScratchFolder, startUnsandboxed } from "../sandbox/start-unsandboxed.ts";
import { StdioTransport } from "../sandbox/stdio-transport.ts";
import type { Catalogue, CatalogueEntry } from "./catalogue-entry.ts";
import { fillArguments } from "./fill-arguments.ts";
import type { StdioConfig } from "./stdio-config.ts";

/** Which server of the catalogue a run wants, and what its agent file says about it. */
export type CatalogueUse = {
  readonly orgId: string;
  readonly runId: string;
  readonly catalogue: string;
  readonly parameters: JsonObject;
};

/** How a server's process ended, for the operator's log. */
export type StdioServerEnd = Omit<CatalogueUse, "parameters"> & SandboxEnd;

export type StdioServersDeps = {
  readonly catalogue: Catalogue;
  readonly config: Pick<StdioConfig, "unsandboxed" | "maxServers" | "maxServersPerOrganization">;
  readonly onEnd?: (end: StdioServerEnd) => void;
  /** Where bubblewrap is looked for; the system's folders by default. */
  readonly findPrograms?: () => Promise<Result<SandboxPrograms>>;
};

/** The stdio servers of this process. They belong to it, and `close` ends them all. */
export type StdioServers = {
  /**
   * A transport, not started yet, to a process of its own for this run: no two runs and no two organizations share one. The
   * error says why there is none: not in the catalogue, parameters that do not fit, no sandbox on this machine, too many.
   */
  readonly open: (use: CatalogueUse) => Promise<Result<Transport>>;
  readonly close: () => Promise<void>;
};

/** Runs whose servers' breakdowns are remembered; the oldest are forgotten first. */
const MAX_REMEMBERED = 10_000;

/** Counts how often the server of a run broke down, in bounded memory. */
const createBreakdowns = () => {
  const counts = new Map<string, number>();
  return {
    of: (key: string): number => counts.get(key) ?? 0,
    add: (key: string): void => {
      const count = (counts.get(key) ?? 0) + 1;
      counts.delete(key);
      counts.set(key, count);
      const [oldest] = counts.keys();
      if (counts.size > MAX_REMEMBERED && oldest !== undefined) counts.delete(oldest);
    },
  };
};

const keyOf = ({ orgId, runId, catalogue, parameters }: CatalogueUse): string =>
  createHash("sha256")
    .update(JSON.stringify([orgId, runId, catalogue, parameters]))
    .digest("base64url");

const unknownServer = (catalogue: Catalogue, name: string) => {
  const names = [...catalogue.keys()].toSorted().join(", ");
  const known = names === "" ? "It has none." : `It has: ${names}.`;
  const message = `There is no ${name.slice(0, 64)} in this installation's catalogue of MCP servers. ${known}`;
  return userError("mcp_server_not_found", message);
};

const tooMany = (whose: string) =>
  sandboxError("sandbox_busy", `${whose} has as many stdio MCP servers running as it may have: try again shortly.`);

export const createStdioServers = (deps: StdioServersDeps): StdioServers => {
  const { catalogue, config } = deps;
  const breakdowns = createBreakdowns();
  const running = new Map<StdioTransport, string>();
  let isClosed = false;
  let programs: Promise<Result<SandboxPrograms>> | undefined;

  /** Looked for once; a machine that lacks them is asked again, since somebody may install them. */
  const findPrograms = async (): Promise<Result<SandboxPrograms>> => {
    programs ??= (deps.findPrograms ?? findSandboxPrograms)();
    const found = await programs.catch((error: unknown) => {
      programs = undefined;
      throw error;
    });
    if (!found.ok) programs = undefined;
    return found;
  };

  const startInside = async (spec: Omit<SandboxSpec, "args">, args: readonly string[]): Promise<Result<Sandbox>> => {
    const found = await findPrograms();
    return found.ok ? startSandboxed(found.value, { ...spec, args }) : found;
  };

  const startOutside = async (spec: Omit<SandboxSpec, "args">, use: CatalogueUse, entry: CatalogueEntry) => {
    const scratch = await makeScratchFolder();
    const args = fillArguments(entry, use.parameters, { scratch });
    const started = args.ok ? await startUnsandboxed({ ...spec, args: args.value }, scratch) : args;
    if (!started.ok) await rm(scratch, { recursive: true, force: true });
    return started;
  };

  const start = async (spec: Omit<SandboxSpec, "args">, use: CatalogueUse, entry: CatalogueEntry) => {
    if (config.unsandboxed) return startOutside(spec, use, entry);
    const args = fillArguments(entry, use.parameters, { scratch: WORKING_FOLDER });
    return args.ok ? startInside(spec, args.value) : args;
  };

  const refusal = async (use: CatalogueUse, entry: CatalogueEntry): Promise<Result<undefined>> => {
    if (isClosed) return err(sandboxError("sandbox_unavailable", "The server is stopping."));
    // Before any process: what an agent file says wrong is its author's to mend, on whatever machine.
    const args = fillArguments(entry, use.parameters, { scratch: WORKING_FOLDER });
    if (!args.ok) return args;
    if (breakdowns.of(keyOf(use)) > entry.restarts) {
      const message = `${entry.name} broke down ${breakdowns.of(keyOf(use))} times in this run and is not started again.`;
      return err(sandboxError("sandbox_failed", message));
    }
    if (config.unsandboxed) return ok(undefined);
    const found = await findPrograms();
    return found.ok ? ok(undefined) : found;
  };

  const makeRoom = (orgId: string): Result<undefined> => {
    if (running.size >= config.maxServers) return err(tooMany("This process"));
    const own = [...running.values()].filter((each) => each === orgId).length;
    return own >= config.maxServersPerOrganization ? err(tooMany("The organization")) : ok(undefined);
  };

  return {
    open: async (use) => {
      const entry = catalogue.get(use.catalogue);
      if (entry === undefined) return err(unknownServer(catalogue, use.catalogue));
      const refused = await refusal(use, entry);
      if (!refused.ok) return refused;
      const { orgId, runId } = use;
      const { command, readOnly, network, limits } = entry;
      const starting = async (onLog: (line: string) => void): Promise<Result<Sandbox>> => {
        const room = makeRoom(orgId);
        if (!room.ok) return room;
        running.set(transport, orgId);
        const environment = Object.fromEntries(
          Object.entries(entry.environment).map(([name, value]) => [name, value.reveal()]),
        );
        const label = `mcp:${orgId}:${runId}:${entry.name}`;
        const spec = { label, command, environment, readOnly, network, limits, onLog };
        const started = await start(spec, use, entry).catch((error: unknown) => {
          running.delete(transport);
          throw error;
        });
        if (!started.ok) running.delete(transport);
        return started;
      };
      const transport = new StdioTransport({
        start: starting,
        outputBytes: limits.outputBytes,
        onEnd: (end) => {
          running.delete(transport);
          if (end.reason !== "closed") breakdowns.add(keyOf(use));
          deps.onEnd?.({ orgId, runId, catalogue: entry.name, ...end });
        },
      });
      return ok(transport);
    },
    close: async () => {
      isClosed = true;
      await Promise.all([...running.keys()].map((transport) => transport.close()));
    },
  };
};
