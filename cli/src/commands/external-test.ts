import { randomUUID } from "node:crypto";
import {
  callExternalAgent,
  externalOutcomeText,
  probeExternalAgent,
  type ExternalCallDeps,
  type ExternalOutcome,
} from "@shaman/a2a-wire";
import { createExternalDirectory, createHealthRecorder, getExternalAgent, type ExternalTarget } from "@shaman/external";
import { unwrap } from "@shaman/kernel";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { failedAfterOutput } from "../failed-after-output.ts";
import { safe } from "../run-text.ts";
import { seconds } from "../time.ts";

type Test = {
  readonly orgId: string;
  readonly target: ExternalTarget;
  readonly timeoutMs: number;
};

const send = async (deps: ExternalCallDeps, test: Test, text: string): Promise<ExternalOutcome> => {
  let outcome: ExternalOutcome | undefined;
  const events = callExternalAgent(deps, {
    orgId: test.orgId,
    target: test.target,
    message: { messageId: `test-${randomUUID()}`, parts: [{ text }] },
    deadline: deps.clock.now() + test.timeoutMs,
    signal: new AbortController().signal,
  });
  for await (const event of events) if (event.kind === "outcome") outcome = event.outcome;
  if (outcome === undefined) throw new Error("The call had no end");
  if (outcome.kind === "error") throw outcome.error;
  return outcome;
};

export const externalTest = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "test <name>",
    about: "fetch an outside agent's card and try its interface and credential; with --message, call it",
    options: (command) =>
      orgOption(command)
        .addOption(new Option("--message <text>", "send this; without it the agent is given nothing to do"))
        .addOption(new Option("--timeout <span>", "how long to wait").default("60s")),
    input: z.object({ name: z.string(), message: z.string().min(1).optional(), timeout: seconds }),
    run: async ({ org, name, message, timeout }, show) => {
      const organization = await cli.organization(org);
      const orgId = organization.id;
      const agent = unwrap(await getExternalAgent({ db: cli.db() }, cli.operatorOf(organization), name));
      const common = { db: cli.db(), clock: cli.clock };
      const outbound = cli.outbound();
      const health = createHealthRecorder({ ...common, onError: () => undefined });
      const directory = createExternalDirectory({ ...common, outbound, secretKeys: cli.secretKeys() });
      const deps: ExternalCallDeps = { directory, outbound, clock: cli.clock, health };
      const target = { kind: "registered", externalAgentId: agent.id, name: agent.name } as const;
      const timeoutMs = timeout * 1_000;
      try {
        const probe = unwrap(await probeExternalAgent(deps, { orgId, target, signal: AbortSignal.timeout(timeoutMs) }));
        const { binding, version, url } = probe.interface;
        const reached = `${safe(probe.agent.card.name)} answers by ${binding} ${version} at ${safe(url)} in ${probe.latencyMs} ms.\n`;
        const json = { name: agent.name, interface: probe.interface, latencyMs: probe.latencyMs };
        if (message === undefined) {
          show({ json, text: reached });
          return;
        }
        const outcome = await send(deps, { orgId, target, timeoutMs }, message);
        show({ json: { ...json, outcome }, text: `${reached}${safe(externalOutcomeText(agent.name, outcome))}\n` });
        if (outcome.kind === "task" && outcome.state !== "completed") throw failedAfterOutput();
      } finally {
        await health.close();
      }
    },
  });
