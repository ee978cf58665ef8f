import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { newId, Secret, unwrap, type Result } from "@shaman/kernel";
import { createOutbound, type OutboundOptions } from "@shaman/outbound";
import { givenGitRemote, givenGitServer, type GitTestRemote } from "@shaman/testkit";
import { afterEach, describe, expect, test } from "vitest";

import type { GitPlace } from "./git-place.ts";
import { createGitSource, type GitSource, type GitSourceOptions } from "./git-source.ts";

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

const givenRemote = async (): Promise<GitTestRemote> => {
  const remote = await givenGitRemote();
  closing.push(remote.close);
  return remote;
};

const givenSource = async (
  options: Partial<GitSourceOptions> & { readonly outbound?: Partial<OutboundOptions> },
): Promise<{ readonly source: GitSource; readonly cacheDir: string }> => {
  const cacheDir = await mkdtemp(join(tmpdir(), "shaman-cache-"));
  const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true, ...options.outbound });
  closing.push(() => rm(cacheDir, { recursive: true, force: true }), outbound.close);
  return { source: createGitSource({ cacheDir, checkGitUrl: outbound.checkGitUrl, ...options }), cacheDir };
};

const placeOf = (url: string, fields: Partial<GitPlace> = {}): GitPlace => ({
  orgId: newId("org"),
  repositoryId: newId("repo"),
  url,
  branch: "main",
  directory: "",
  ...fields,
});

const codeOf = (result: Result<unknown>): string => (result.ok ? "ok" : result.error.code);

const NOISE = 3 * 1024 * 1024;

describe("a Git repository", () => {
  test("is read at its branch's latest commit, by listing and by blob", async () => {
    const remote = await givenRemote();
    await remote.commit({ "old.md": "old" });
    const commit = await remote.commit({ "a/One.md": "one", "a/b/two.txt": "zwei ü", "three.sh": { executable: "x" } });
    const { source } = await givenSource({ outbound: { gitFileRoot: remote.root } });
    const place = placeOf(remote.url);
    expect(unwrap(await source.findTip(place))).toBe(commit);
    const fetched = unwrap(await source.fetch(place));
    expect(fetched.commit).toBe(commit);
    expect(fetched.files.list).toMatchObject([
      { path: "a/One.md", kind: "file", bytes: 3 },
      { path: "a/b/two.txt", kind: "file", bytes: 7 },
      { path: "three.sh", kind: "file", bytes: 1 },
    ]);
    const contents = await fetched.files.read(["a/One.md", "a/b/two.txt", "no/such"]);
    expect([...contents].map(([path, bytes]) => [path, Buffer.from(bytes).toString()])).toEqual([
      ["a/One.md", "one"],
      ["a/b/two.txt", "zwei ü"],
    ]);
  });

  test("is read from its registered directory and branch, also after the branch was rewritten", async () => {
    const remote = await givenRemote();
    await remote.commit({ "README.md": "x" });
    await remote.commit({ "teams/sales/One.md": "1", "teams/other.md": "2" }, "next");
    const { source } = await givenSource({ outbound: { gitFileRoot: remote.root } });
    const place = placeOf(remote.url, { branch: "next", directory: "teams/sales/" });
    expect(unwrap(await source.fetch(place)).files.list.map(({ path }) => path)).toEqual(["One.md"]);
    const rewritten = await remote.commit({ "teams/sales/Two.md": "2" }, "next");
    const fetched = unwrap(await source.fetch(place));
    expect(fetched.commit).toBe(rewritten);
    expect(fetched.files.list.map(({ path }) => path)).toEqual(["Two.md"]);
    expect(codeOf(await source.fetch({ ...place, directory: "teams/nobody" }))).toBe("directory_not_found");
    expect(codeOf(await source.fetch({ ...place, directory: "teams/sales/Two.md" }))).toBe("directory_not_found");
    expect(codeOf(await source.findTip({ ...place, branch: "nope" }))).toBe("branch_not_found");
    expect(codeOf(await source.fetch({ ...place, branch: "nope" }))).toBe("branch_not_found");
  });

  test("gives links and submodules as what they are, and never a work tree", async () => {
    const remote = await givenRemote();
    await remote.commit({
      "Evil.md": { symlink: "/etc/passwd" },
      "Sub.md": { submodule: "1".repeat(40) },
      ".gitmodules": '[submodule "x"]\n\tpath = Sub.md\n\turl = --upload-pack=touch /tmp/pwned\n',
      "Good.md": "good",
    });
    const { source, cacheDir } = await givenSource({ outbound: { gitFileRoot: remote.root } });
    const place = placeOf(remote.url);
    const { files } = unwrap(await source.fetch(place));
    expect(files.list.map(({ path, kind }) => [path, kind])).toEqual([
      [".gitmodules", "file"],
      ["Evil.md", "symlink"],
      ["Good.md", "file"],
      ["Sub.md", "submodule"],
    ]);
    expect([...(await files.read(["Evil.md", "Sub.md", "Good.md"])).keys()]).toEqual(["Good.md"]);
    const copy = join(cacheDir, place.orgId, `${place.repositoryId}.git`);
    expect((await readdir(copy)).toSorted()).not.toContain("Evil.md");
    expect(await readdir(join(copy, "hooks")).catch(() => [])).toEqual([]);
  });

  test("lists no more than is allowed, however much a commit holds", async () => {
    const remote = await givenRemote();
    const folder = `${"long".repeat(50)}/`;
    const many = Array.from({ length: 18_000 }, (_, index) => [`${folder}${folder}file-${index}.txt`, ""]);
    await remote.commit(Object.fromEntries(many));
    const { source } = await givenSource({ outbound: { gitFileRoot: remote.root } });
    const { files } = unwrap(await source.fetch(placeOf(remote.url)));
    expect(files.list).toHaveLength(2_001);
  });

  test("whose latest commit is too large is refused, and leaves nothing behind", async () => {
    const remote = await givenRemote();
    const { source, cacheDir } = await givenSource({
      maxPackBytes: 1024 * 1024,
      outbound: { gitFileRoot: remote.root },
    });
    const place = placeOf(remote.url);
    await remote.commit({ "noise.bin": randomBytes(NOISE) });
    expect(codeOf(await source.fetch(place))).toBe("repository_too_large");
    expect(await readdir(join(cacheDir, place.orgId))).toEqual([]);
    await remote.commit({ "One.md": "1" });
    expect(codeOf(await source.fetch(place))).toBe("ok");
  });

  test("whose copy has grown is copied anew", async () => {
    const remote = await givenRemote();
    const { source, cacheDir } = await givenSource({
      maxPackBytes: 4 * 1024 * 1024,
      outbound: { gitFileRoot: remote.root },
    });
    const place = placeOf(remote.url);
    for (const name of ["a", "b"]) {
      await remote.commit({ [name]: randomBytes(NOISE) });
      unwrap(await source.fetch(place));
      await source.tidy(place);
    }
    expect(await readdir(join(cacheDir, place.orgId))).toEqual([]);
    expect(codeOf(await source.fetch(place))).toBe("ok");
  });

  test("that is not there is refused", async () => {
    const remote = await givenRemote();
    await mkdir(join(remote.root, "empty"));
    const { source } = await givenSource({ outbound: { gitFileRoot: remote.root } });
    expect(codeOf(await source.findTip(placeOf(`file://${remote.root}/empty`)))).toBe("repository_not_found");
    expect(codeOf(await source.findTip(placeOf(remote.url)))).toBe("branch_not_found");
  });

  test("can be stopped, and one that answers too slowly is given up", async () => {
    const remote = await givenRemote();
    await remote.commit({ "One.md": "1" });
    const { source } = await givenSource({ outbound: { gitFileRoot: remote.root }, fetchTimeoutMs: 1 });
    expect(codeOf(await source.findTip(placeOf(remote.url), AbortSignal.abort()))).toBe("sync_aborted");
    expect(codeOf(await source.fetch(placeOf(remote.url)))).toBe("repository_too_slow");
  });

  test("needs the git program, and says so when it is missing", async () => {
    const remote = await givenRemote();
    const { source } = await givenSource({ outbound: { gitFileRoot: remote.root }, gitProgram: "/nowhere/git" });
    await expect(source.findTip(placeOf(remote.url))).rejects.toMatchObject({ code: "git_missing" });
  });
});

describe("an address that is not for us", () => {
  test("on this machine is refused outside the allowed folder, also by way of a link", async () => {
    const [remote, other] = [await givenRemote(), await givenRemote()];
    await other.commit({ "One.md": "1" });
    await symlink(other.folder, join(remote.root, "link.git"));
    const { source } = await givenSource({ outbound: { gitFileRoot: remote.root } });
    for (const url of [
      other.url,
      `file://${remote.root}/link.git`,
      `file://${remote.root}/../x`,
      "file:///etc",
      other.folder,
    ]) {
      const found = await source.findTip(placeOf(url));
      expect(codeOf(found), url).toBe("outbound_refused");
    }
    const { source: closed } = await givenSource({});
    expect(codeOf(await closed.findTip(placeOf(remote.url)))).toBe("outbound_refused");
  });

  test.each([
    "ext::sh -c touch% /tmp/pwned",
    "--upload-pack=touch /tmp/pwned",
    "-u",
    "ssh://git@example.com/x.git",
    "git@example.com:x.git",
    "git://example.com/x.git",
    "https://user:word@example.com/x.git",
    "http://example.com/x.git",
    "https://example.com:22/x.git",
    "https://169.254.169.254/x.git",
    "https://10.0.0.1/x.git",
    "https://example.com/x.git?a=b",
    "",
  ])("is refused before Git hears of it: %j", async (url) => {
    const { source } = await givenSource({
      outbound: { allowLoopback: false, resolve: () => Promise.resolve(["93.184.216.34"]) },
      gitProgram: "/nowhere/git",
    });
    expect(codeOf(await source.findTip(placeOf(url)))).toBe("outbound_refused");
  });

  test.each(["--upload-pack=x", "-x", "a..b", "a b", "a:b", "refs\n", "x.lock", "/x", "x/", "a@{1}", ""])(
    "has a branch that is refused: %j",
    async (branch) => {
      const { source } = await givenSource({ gitProgram: "/nowhere/git" });
      expect(codeOf(await source.findTip(placeOf("https://example.com/x.git", { branch })))).toBe("branch_invalid");
    },
  );

  test.each(["../x", "a/../../b", "/etc", "-x", "a\\b", ".git", "a:b"])(
    "has a directory that is refused: %j",
    async (directory) => {
      const { source } = await givenSource({ gitProgram: "/nowhere/git" });
      expect(codeOf(await source.fetch(placeOf("https://example.com/x.git", { directory })))).toBe("directory_invalid");
    },
  );
});

describe("a repository behind HTTP", () => {
  test("gets its credential, which no other place gets, and is reached at the checked address only", async () => {
    const remote = await givenRemote();
    const commit = await remote.commit({ "One.md": "one" });
    const authorization = `Basic ${Buffer.from("x-access-token:tok_123").toString("base64")}`;
    const server = await givenGitServer({ root: remote.root, authorization });
    closing.push(server.close);
    // The name means nothing to any resolver but ours: Git can only have got there by the pinned address.
    const url = new URL(server.url.replace("127.0.0.1", "git.invalid"));
    const { source } = await givenSource({
      outbound: { allowHttp: true, resolve: (host) => Promise.resolve(host === "git.invalid" ? ["127.0.0.1"] : []) },
    });
    const place = placeOf(`${url.href}agents.git`, { credential: new Secret("tok_123") });
    expect(unwrap(await source.fetch(place)).commit).toBe(commit);
    expect(server.requests.length).toBeGreaterThan(0);

    expect(codeOf(await source.findTip({ ...place, credential: undefined }))).toBe("repository_access_denied");
    const refused = await source.findTip({ ...place, credential: new Secret("wrong:word") });
    expect(codeOf(refused)).toBe("repository_access_denied");
    expect(JSON.stringify(refused)).not.toContain("word");
    expect(codeOf(await source.findTip({ ...place, url: `${url.href}none.git` }))).toBe("repository_not_found");
  });

  test("that redirects is not followed", async () => {
    const remote = await givenRemote();
    await remote.commit({ "One.md": "one" });
    const target = await givenGitServer({ root: remote.root });
    const server = await givenGitServer({ root: remote.root, redirectTo: target.url });
    closing.push(target.close, server.close);
    const { source } = await givenSource({});
    const found = await source.findTip(placeOf(`${server.url}/agents.git`, { credential: new Secret("tok") }));
    expect(codeOf(found)).toBe("repository_redirects");
    expect(target.requests).toEqual([]);
  });
});
