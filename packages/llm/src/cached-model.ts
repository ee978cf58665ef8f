import { hash } from "node:crypto";

import type { Db } from "@shaman/db";
import { z } from "zod";

import type { Model, ModelEvent, ModelRequest } from "./model-port.ts";
import { digestOf } from "./request-digest.ts";

export type CachedModelDeps = {
  readonly db: Pick<Db, "batch">;
  /** A cache that fails costs a model call and nothing else: whoever looks after the database wants to know. */
  readonly onError?: (error: unknown) => void;
};

export type CachePolicy = {
  readonly orgId: string;
  /** How long an answer may be reused. */
  readonly seconds: number;
  /** How many answers the organization keeps; the oldest go first. */
  readonly maxAnswers: number;
  /** Who answers: a provider's kind, address and model. */
  readonly source: readonly string[];
};

type Done = Extract<ModelEvent, { type: "done" }>;

const MAX_ANSWER_CHARS = 256 * 1024;

const answerSchema = z.object({
  text: z.string(),
  toolCalls: z.array(z.object({ id: z.string(), name: z.string(), input: z.json() })),
  finishReason: z.enum(["stop", "tool_calls"]),
  model: z.string(),
});
type Answer = z.output<typeof answerSchema>;

const FIND = `SELECT response FROM model_response WHERE org_id = $1 AND request_hash = $2 AND expires_at > now()`;

const MAKE_ROOM = `
  DELETE FROM model_response WHERE org_id = $1 AND request_hash IN (
    SELECT request_hash FROM model_response WHERE org_id = $1 AND request_hash <> $2
    ORDER BY created_at DESC OFFSET $3)`;

const STORE = `
  INSERT INTO model_response (org_id, request_hash, response, expires_at)
  VALUES ($1, $2, $3, now() + $4 * interval '1 second')
  ON CONFLICT (org_id, request_hash) DO UPDATE
    SET response = excluded.response, created_at = now(), expires_at = excluded.expires_at`;

const keyOf = (policy: CachePolicy, request: ModelRequest): string =>
  hash("sha256", JSON.stringify([policy.source, digestOf(request)]), "base64url");

const find = async (deps: CachedModelDeps, policy: CachePolicy, key: string): Promise<Answer | undefined> => {
  try {
    const [found] = await deps.db.batch(policy.orgId, [
      { name: "find_model_response", text: FIND, values: [policy.orgId, key] },
    ]);
    const response: unknown = found?.rows[0]?.response;
    return typeof response === "string" ? answerSchema.safeParse(JSON.parse(response)).data : undefined;
  } catch (error) {
    deps.onError?.(error);
    return undefined;
  }
};

/** Only a whole answer to all that was asked is one: what was cut off or filtered might come out better next time. */
const store = async (deps: CachedModelDeps, policy: CachePolicy, entry: { key: string; done: Done }): Promise<void> => {
  const { key, done } = entry;
  const answer = answerSchema.safeParse(done);
  if (!answer.success || done.notes?.mediaRefused !== undefined) return;
  const response = JSON.stringify(answer.data);
  if (response.length > MAX_ANSWER_CHARS) return;
  const { orgId, seconds, maxAnswers } = policy;
  try {
    await deps.db.batch(
      orgId,
      [
        { name: "make_room_for_model_response", text: MAKE_ROOM, values: [orgId, key, maxAnswers - 1] },
        { name: "store_model_response", text: STORE, values: [orgId, key, response, seconds] },
      ],
      { durable: "later" },
    );
  } catch (error) {
    deps.onError?.(error);
  }
};

async function* answer(
  deps: CachedModelDeps & { readonly model: Model },
  policy: CachePolicy,
  request: ModelRequest,
): AsyncGenerator<ModelEvent> {
  const key = keyOf(policy, request);
  const known = await find(deps, policy, key);
  if (known !== undefined) {
    if (known.text !== "") yield { type: "text", text: known.text };
    const usage = { inputTokens: 0, outputTokens: 0, cachedInputTokens: 0 };
    yield { type: "done", ...known, usage, notes: { cached: true } };
    return;
  }
  for await (const event of deps.model.stream(request)) {
    if (event.type === "done") await store(deps, policy, { key, done: event });
    yield event;
  }
}

/**
 * A model whose answers are reused within one organization, as long as everything that was asked is the same: messages,
 * tools, settings, and who is asked. An answer from the cache costs nothing and says in its notes where it came from.
 */
export const createCachedModel = (deps: CachedModelDeps, policy: CachePolicy, model: Model): Model => ({
  stream: (request) => answer({ ...deps, model }, policy, request),
});
