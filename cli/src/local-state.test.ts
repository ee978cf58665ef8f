import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findLocalState } from "./local-state.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "shaman-state-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const given = async (checkout: string, copies: Record<string, number>): Promise<string> => {
  const folder = join(root, checkout);
  for (const [name, port] of Object.entries(copies)) {
    const state = join(folder, ".shaman", name);
    await mkdir(state, { recursive: true });
    const local = {
      public: `http://127.0.0.1:${port}`,
      internal: `http://127.0.0.1:${port + 1}`,
      databaseUrl: `postgres://shaman_public:of-public@127.0.0.1:${port + 10}/shaman`,
      processes: [{ name: "worker", pid: 1 }],
      organizations: [],
    };
    await writeFile(join(state, "local.json"), JSON.stringify(local));
    const keys = { internalJwtKeys: "a:b", secretKeys: "local:secret-of-test", roleSecret: "role-secret" };
    await writeFile(join(state, "keys.json"), JSON.stringify(keys));
  }
  return folder;
};

describe("a running npm start", () => {
  test("is found, and its database is entered as the role for management with a password of its own", async () => {
    const state = findLocalState(await given("one", { ".": 5000 }));
    const url = new URL(state?.databaseUrl.reveal() ?? "");
    expect([url.username, url.host, url.pathname]).toEqual(["shaman_web", "127.0.0.1:5010", "/shaman"]);
    expect(url.password).not.toBe("of-public");
    expect(state?.publicUrl).toBe("http://127.0.0.1:5000");
    expect(JSON.stringify(state)).not.toMatch(/secret-of-test|role-secret/);
  });

  test("is chosen by its port where several copies run", async () => {
    const folder = await given("several", { ".": 5000, "port-6000": 6000 });
    expect(findLocalState(folder)?.publicUrl).toBe("http://127.0.0.1:5000");
    expect(findLocalState(folder, 6000)?.publicUrl).toBe("http://127.0.0.1:6000");
    expect(() => findLocalState(folder, 7000)).toThrow("No copy of npm start runs on port 7000");
  });

  test("is absent where none was started, and says what to do where its file cannot be read", async () => {
    expect(findLocalState(join(root, "nowhere"))).toBeUndefined();
    const folder = await given("broken", { ".": 5000 });
    await writeFile(join(folder, ".shaman", "local.json"), "{");
    expect(() => findLocalState(folder)).toThrow("start it again");
  });
});
