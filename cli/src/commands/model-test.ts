import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { toAppError, userError, type AppError } from "@shaman/kernel";
import {
  costUsd,
  modelStepUsage,
  resolveModels,
  withListedPrices,
  type Model,
  type ModelEvent,
  type ModelRequest,
} from "@shaman/llm";
import { MODEL_PROVIDER_KINDS, modelsNamed } from "@shaman/tenancy";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { cost, safe } from "../run-text.ts";
import { seconds } from "../time.ts";

const MAX_OUTPUT_TOKENS = 200;

type Done = Extract<ModelEvent, { type: "done" }>;

export const modelTest = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "test <model>",
    about: "make one short call of a model: provider/model, an alias, or scripted/<file>",
    options: (command) =>
      orgOption(command)
        .addOption(new Option("--prompt <text>", "what to say").default("Answer with the single word: ready"))
        .addOption(new Option("--timeout <span>", "how long to wait").default("60s")),
    input: z.object({ model: z.string(), prompt: z.string(), timeout: seconds }),
    run: async ({ org, model: name, prompt, timeout }, show) => {
      const { id: orgId, slug, settings } = await cli.organization(org);
      const models = modelsNamed(settings, name) ?? [];
      const [model] = models;
      if (model === undefined) {
        throw userError(
          "model_request_invalid",
          `"${name}" is neither provider/model nor a model alias of this organization.`,
        );
      }
      const script = await scriptOf(model);
      const deps = { db: cli.db(), secretKeys: cli.secretKeys(), outbound: cli.outbound() };
      const asked = { orgId, models, ...(script !== undefined && { script }) };
      const resolved = await resolveModels(deps, asked);
      if (!resolved.ok) throw withAdvice(resolved.error, { models, slug });
      const request = {
        model,
        messages: [{ role: "user" as const, text: prompt }],
        tools: [],
        maxOutputTokens: MAX_OUTPUT_TOKENS,
        turn: 1,
        messageId: "model-test",
        signal: AbortSignal.timeout(timeout * 1_000),
      };
      const { done, firstTokenMs, totalMs } = await ask(resolved.value, request).catch((error: unknown) => {
        throw withAdvice(toAppError(error), { models, slug });
      });
      const prices = withListedPrices(settings.prices);
      const used = modelStepUsage(done, (usage, answered) => costUsd(usage, answered, prices));
      const { inputTokens, outputTokens, costUsd: usd } = used;
      const tried = done.notes?.tried ?? [];
      const priced = usd === null ? "price not known" : cost(usd);
      show({
        json: {
          model,
          answeredBy: done.model,
          text: done.text,
          firstTokenMs,
          totalMs,
          ...done.usage,
          inputTokens,
          outputTokens,
          costUsd: usd,
          tried,
        },
        text:
          tried.map((each) => `${safe(each.model)} did not answer: ${safe(each.message)}\n`).join("") +
          `${safe(done.text).trim()}\n\n${done.model} answered in ${totalMs} ms (first token after ${firstTokenMs} ms), ` +
          `${inputTokens} tokens in, ${outputTokens} out, ${priced}.\n`,
      });
    },
  });

const ask = async (model: Model, request: ModelRequest) => {
  const startMs = performance.now();
  let firstMs: number | undefined;
  let done: Done | undefined;
  for await (const event of model.stream(request)) {
    firstMs ??= performance.now() - startMs;
    if (event.type === "done") done = event;
  }
  if (done === undefined) throw new Error("The model's answer had no end");
  const totalMs = Math.round(performance.now() - startMs);
  return { done, totalMs, firstTokenMs: Math.round(firstMs ?? totalMs) };
};

const providerOf = (model: string): string => model.split("/")[0] ?? "";

const told = z.object({ provider: z.string().optional(), model: z.string().optional() });

/** Where a provider or its key is missing or wrong, the command that sets it. */
const withAdvice = (
  error: AppError,
  { models, slug }: { readonly models: readonly string[]; readonly slug: string },
): AppError => {
  if (error.code !== "model_unknown_provider" && error.code !== "model_auth_failed") return error;
  const { data } = told.safeParse(error.details ?? {});
  const provider = data?.provider ?? providerOf(data?.model ?? models[0] ?? "");
  const isKnownKind = MODEL_PROVIDER_KINDS.some((kind) => kind === provider);
  const address = isKnownKind ? "" : " --base-url https://…/v1";
  const command = `./shaman model set-key ${provider}${address} --org ${slug}`;
  return error.code === "model_unknown_provider"
    ? userError(error.code, `${slug} has no model provider "${provider}". Register it with its key: ${command}`)
    : userError(error.code, `${error.message} Set the key: ${command}`);
};

/** A scripted model is tried with the script at this path. */
const scriptOf = async (model: string): Promise<{ text: string; fileName: string } | undefined> => {
  if (!model.startsWith("scripted/")) return undefined;
  const path = model.slice("scripted/".length);
  try {
    return { text: await readFile(path, "utf8"), fileName: basename(path) };
  } catch {
    // Without its file the resolver says what is missing, as it does for an agent.
    return undefined;
  }
};
