import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const run = promisify(execFile);
const BUBBLEWRAP = "/usr/bin/bwrap";
const SIZE = 4_000_000;

/** Fills a small disk of its own, then writes something small. */
const PROGRAM = `
  import { createFolderStore, objectKey } from ${JSON.stringify(join(import.meta.dirname, "index.ts"))};
  import { readdir } from "node:fs/promises";
  const store = createFolderStore({ folder: "/disk" });
  const key = (objectId) => objectKey({ orgId: "org_a", runId: "run_b", taskId: "task_c", artifactId: "x", objectId });
  const content = async function* (bytes) { for (let sent = 0; sent < bytes; sent += 100_000) yield Buffer.alloc(100_000, 1); };
  const failed = await store.put(key("art_1"), content(8_000_000)).catch((error) => ({ code: error.code, kind: error.kind }));
  const left = await readdir("/disk/org_a/run_b/task_c");
  const small = await store.put(key("art_2"), content(1_000_000));
  console.log(JSON.stringify({ failed, left, small: small.bytes }));`;

test.runIf(existsSync(BUBBLEWRAP))(
  "a full disk is told as full, leaves nothing behind, and takes what fits",
  async () => {
    const disk = ["--bind", "/", "/", "--dev", "/dev", "--size", String(SIZE), "--tmpfs", "/disk"];
    const { stdout } = await run(BUBBLEWRAP, [...disk, process.execPath, "--input-type=module", "-e", PROGRAM]).catch(
      (error: unknown) => {
        throw new Error("bubblewrap could not make a disk of its own", { cause: error });
      },
    );
    const answer: unknown = JSON.parse(stdout);
    expect(answer).toEqual({ failed: { code: "storage_full", kind: "operational" }, left: [], small: 1_000_000 });
  },
);
