import { createApiKey, createOperatorPrincipal, type CreateApiKeyInput } from "@shaman/access";
import { systemClock, unwrap, type JsonObject } from "@shaman/kernel";
import { updateOrganizationSettings } from "@shaman/tenancy";
import type { Shaman, TestOrg } from "./shaman.ts";

/** A further key of the organization, in its place. */
export const givenKey = async (shaman: Shaman, org: TestOrg, input: Partial<CreateApiKeyInput>): Promise<TestOrg> => {
  const deps = { db: shaman.database.as("web"), clock: systemClock, origin: { server: "test" } };
  const operator = createOperatorPrincipal({ orgId: org.orgId, name: "test" });
  const { key, record } = unwrap(
    await createApiKey(deps, operator, { name: "test", mode: "test", agents: "*", ...input }),
  );
  return { ...org, apiKey: key.reveal(), apiKeyId: record.id };
};

/** Changes the organization's settings. Do it before its first request: servers remember settings for some seconds. */
export const givenSettings = async (shaman: Shaman, org: TestOrg, patch: JsonObject): Promise<void> => {
  const deps = { db: shaman.database.as("web"), origin: { server: "test" } };
  unwrap(await updateOrganizationSettings(deps, createOperatorPrincipal({ orgId: org.orgId, name: "test" }), patch));
};

let messages = 0;

/** The parameters of a send with one text part, and an id of its own unless given one. */
export const textMessage = (text: string, fields: JsonObject = {}, rest: JsonObject = {}) => {
  messages += 1;
  return { message: { messageId: `m-${messages}`, role: "ROLE_USER", parts: [{ text }], ...fields }, ...rest };
};
