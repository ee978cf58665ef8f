import { once } from "node:events";
import { get } from "node:http";
import { join } from "node:path";
import { assertNoEviction, openRedis } from "@shaman/queue";
import { openObjectStore } from "@shaman/storage";
import type { Check, Finding } from "./check.ts";

const TIMEOUT_MS = 3_000;

const statusOf = (url: string): Promise<number> =>
  new Promise((resolve, reject) => {
    const request = get(url, { timeout: TIMEOUT_MS }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    request.on("timeout", () => request.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    request.on("error", reject);
  });

/** Servers elsewhere are watched by whoever runs them; here we know only those of npm start. */
export const serversCheck: Check = {
  name: "Servers",
  run: async (cli): Promise<Finding> => {
    const local = cli.localState();
    if (local === undefined) return { state: "ok", message: "not looked at: no npm start runs in this checkout" };
    for (const [name, url] of [
      ["public", local.publicUrl],
      ["internal", local.internalUrl],
    ] as const) {
      const status = await statusOf(`${url}/ready`).catch((error: unknown) => String(error));
      if (status === 200) continue;
      const hint = "Look at the output of npm start; it starts a process that died again.";
      return { state: "failed", message: `the ${name} server at ${url} is not ready (${status})`, hint };
    }
    return { state: "ok", message: `public ${local.publicUrl} and internal ${local.internalUrl} are ready` };
  },
};

export const redisCheck: Check = {
  name: "Redis",
  run: async (cli): Promise<Finding> => {
    const url = cli.redisUrl();
    if (url === undefined) return { state: "ok", message: "not configured: PostgreSQL carries the queue" };
    let lastError: Error | undefined;
    const onError = (error: Error): void => {
      lastError = error;
    };
    const redis = openRedis({ url, name: "shaman-doctor", patient: true, onError });
    const tooLate = AbortSignal.timeout(TIMEOUT_MS);
    try {
      await Promise.race([
        assertNoEviction(redis),
        once(tooLate, "abort").then(() => Promise.reject(lastError ?? new Error("Redis does not answer"))),
      ]);
      return { state: "ok", message: "Redis answers and evicts nothing" };
    } finally {
      redis.disconnect();
    }
  },
};

/** Where large artifacts go: what is configured here, or the folder of npm start. */
export const storageCheck: Check = {
  name: "Storage",
  run: async (cli): Promise<Finding> => {
    const local = cli.localState();
    const { storage } = cli.config;
    const config =
      storage.kind === "folder" && local !== undefined
        ? { ...storage, folder: join(local.folder, "artifacts") }
        : storage;
    const store = openObjectStore(config);
    try {
      await store.check();
    } finally {
      await store.close();
    }
    const where = config.kind === "s3" ? `the bucket ${config.bucket} at ${config.endpoint.host}` : config.folder;
    return { state: "ok", message: `large artifacts can be kept in ${where}` };
  },
};
