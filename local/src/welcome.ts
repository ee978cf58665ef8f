import { randomBytes } from "node:crypto";
import type { LocalFile } from "./local-file.ts";

const PROMPT = "Please handle order A-1001: check the stock and tell me what happens next.";

/**
 * A call that works as it is printed: SendMessage of A2A 1.0, which waits for the answer. Sent again it gives the same
 * task, because it is the same message.
 */
const curlFor = (organization: LocalFile["organizations"][number], agent: string): string => {
  const message = {
    messageId: `hello-${randomBytes(4).toString("hex")}`,
    role: "ROLE_USER",
    parts: [{ text: PROMPT }],
  };
  const body = { jsonrpc: "2.0", id: 1, method: "SendMessage", params: { message } };
  return [
    `curl -sS http://${organization.host}/a2a/v1/agents/${agent} \\`,
    `  -H 'Authorization: Bearer ${organization.apiKey}' \\`,
    `  -H 'A2A-Version: 1.0' -H 'Content-Type: application/json' \\`,
    `  -d '${JSON.stringify(body)}'`,
  ].join("\n");
};

/** What `npm start` ends with: where things are, and a first call. */
export const welcome = (local: LocalFile, folder: string): string => {
  const lines = ["", "Shaman is running. Ctrl-C stops everything.", ""];
  for (const { slug, host, agents, user } of local.organizations) {
    lines.push(`  ${slug.padEnd(10)} http://${host}/a2a/v1/agents   agents: ${agents.join(", ")}`);
    lines.push(`  ${"".padEnd(10)} ${user.email} / ${user.password}`);
  }
  const [first] = local.organizations;
  const [agent] = first?.agents ?? [];
  if (first !== undefined && agent !== undefined) lines.push("", "A first call:", "", curlFor(first, agent));
  lines.push("", `Keys, addresses and process numbers: ${folder}/local.json`, "");
  return lines.join("\n");
};
