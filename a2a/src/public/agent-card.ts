import { createHash } from "node:crypto";
import { INPUT_MODES, TRACE_EXTENSION } from "@shaman/a2a-wire";
import type { ResolvedAgent } from "@shaman/agents";
import type { JsonObject } from "@shaman/kernel";
import type { Organization } from "@shaman/tenancy";

const OUTPUT_MODES = ["text/plain", "text/markdown", "application/json"];

/** An agent's card (A2A 1.0.1 §4.4, §8): what its file says, and how it is called here. */
export const buildAgentCard = (
  agent: ResolvedAgent,
  at: { readonly organization: Organization; readonly baseUrl: string },
): JsonObject => {
  const { definition, commit } = agent;
  const skills = definition.skills.length > 0 ? definition.skills : [derivedSkill(agent)];
  return {
    name: definition.name,
    description: definition.description,
    supportedInterfaces: [
      {
        url: `${at.baseUrl}/a2a/v1/agents/${agentPath(definition.name)}`,
        protocolBinding: "JSONRPC",
        protocolVersion: "1.0",
      },
    ],
    provider: { organization: at.organization.name, url: at.baseUrl },
    version: definition.version ?? commit.slice(0, 12),
    capabilities: {
      streaming: true,
      pushNotifications: false,
      extendedAgentCard: false,
      extensions: [
        {
          uri: TRACE_EXTENSION,
          description: "Steps of the run (model calls, tool calls) as they happen, in the events' metadata.",
          required: false,
        },
      ],
    },
    securitySchemes: {
      apiKey: {
        httpAuthSecurityScheme: {
          scheme: "Bearer",
          description: "An API key of this organization, sk_live_… or sk_test_…",
        },
      },
    },
    securityRequirements: [{ schemes: { apiKey: { list: [] } } }],
    defaultInputModes: [...INPUT_MODES],
    defaultOutputModes: OUTPUT_MODES,
    skills: skills.map(({ id, name, description, tags, examples }) => ({
      id,
      name,
      description,
      tags: tags.length > 0 ? tags : ["agent"],
      ...(examples.length > 0 && { examples }),
    })),
  };
};

/** A name within a path; slashes of a folder path stay. */
const agentPath = (name: string): string => name.split("/").map(encodeURIComponent).join("/");

const derivedSkill = ({ definition }: ResolvedAgent) => ({
  id: definition.name,
  name: definition.name,
  description: definition.description,
  tags: definition.tags,
  examples: [],
});

/** The card's text and the tag that changes with it (§8.6.1). */
export const encodeAgentCard = (card: JsonObject): { readonly body: string; readonly etag: string } => {
  const body = JSON.stringify(card);
  return { body, etag: `"${createHash("sha256").update(body).digest("base64url").slice(0, 27)}"` };
};
