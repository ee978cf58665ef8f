import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { createOutbound } from "./outbound.ts";

let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "git-url-"));
  await mkdir(join(folder, "root", "acme"), { recursive: true });
  await mkdir(join(folder, "rootless"));
  await mkdir(join(folder, "outside"));
  await symlink(join(folder, "outside"), join(folder, "root", "link"));
});

afterAll(() => rm(folder, { recursive: true }));

const check = async (
  url: string,
  options: { readonly development?: boolean; readonly addresses?: readonly string[] } = {},
): Promise<unknown> => {
  const development = options.development ?? false;
  const outbound = createOutbound({
    allowLoopback: development,
    mapLocalhost: development,
    allowHttp: development,
    resolve: () => Promise.resolve(options.addresses ?? ["140.82.121.4"]),
    ...(development && { gitFileRoot: join(folder, "root") }),
  });
  const checked = await outbound.checkGitUrl(url);
  await outbound.close();
  return checked.ok ? checked.value : checked.error.details?.["reason"];
};

describe("the address of a Git remote", () => {
  test("is pinned to an address that was checked", async () => {
    expect(await check("https://git.example.com/acme/agents.git")).toEqual({
      kind: "network",
      url: "https://git.example.com/acme/agents.git",
      address: "140.82.121.4",
      curloptResolve: "git.example.com:443:140.82.121.4",
    });
    expect(await check("https://git.example.com:8443/a", { addresses: ["2606:50c0::1"] })).toMatchObject({
      curloptResolve: "git.example.com:8443:[2606:50c0::1]",
    });
    expect(await check("https://8.8.8.8/a.git")).toMatchObject({ address: "8.8.8.8", curloptResolve: null });
    expect(await check("http://acme.localhost:8080/a.git", { development: true })).toMatchObject({
      curloptResolve: "acme.localhost:8080:127.0.0.1",
    });
  });

  test("is refused when it leads inside, or holds credentials, a query or a fragment", async () => {
    expect(await check("https://git.example.com/a", { addresses: ["10.0.0.1"] })).toBe("address");
    expect(await check("https://127.0.0.1/a")).toBe("address");
    expect(await check("https://token@git.example.com/a")).toBe("credentials_in_url");
    expect(await check("https://git.example.com/a?x=1")).toBe("invalid_url");
    expect(await check("https://git.example.com/a#x")).toBe("invalid_url");
    expect(await check("https://git.example.com/a\n--upload-pack=x")).toBe("invalid_url");
  });

  test("is refused in every other form Git understands", async () => {
    for (const url of [
      "ssh://git@h/a",
      "git@host:a/b.git",
      "git://h/a",
      "ext::sh -c id",
      "/srv/git/a",
      "../a",
      "--upload-pack=x",
      "ftp://h/a",
      "file:///etc",
      "http://git.example.com/a",
    ]) {
      expect([url, await check(url)]).toEqual([url, "scheme"]);
    }
  });

  test("may be a folder below the development root, and nowhere else", async () => {
    const url = (path: string): string => pathToFileURL(join(folder, path)).href;
    expect(await check(url("root/acme"), { development: true })).toMatchObject({ kind: "file" });
    for (const path of ["root", "rootless", "outside", "root/link", "root/missing"]) {
      expect([path, await check(url(path), { development: true })]).toEqual([path, "path"]);
    }
    expect(await check(`file://${folder}/root/../outside`, { development: true })).toBe("path");
    expect(await check(`file://${folder}/root/%2e%2e/outside`, { development: true })).toBe("path");
    expect(await check(`file://host${folder}/root/acme`, { development: true })).toBe("path");
    expect(await check("file:///etc/passwd", { development: true })).toBe("path");
  });
});
