import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What a path holds in a commit: text, bytes, a link, or a submodule's commit. */
export type RemoteFile =
  | string
  | Uint8Array
  | { readonly symlink: string }
  | { readonly submodule: string }
  | { readonly executable: string };

export type GitTestRemote = {
  /** The folder of the bare repository, and the folder it lies in. */
  readonly folder: string;
  readonly root: string;
  readonly url: string;
  /** Commits exactly these files, on top of what the branch had. Returns the commit. */
  readonly commit: (files: Readonly<Record<string, RemoteFile>>, branch?: string) => Promise<string>;
  readonly close: () => Promise<void>;
};

/** A Git server over HTTP, as hosts run it. */
export type GitTestServer = {
  readonly url: string;
  /** The requests that came in: method, path and Authorization header. */
  readonly requests: readonly { readonly path: string; readonly authorization: string | undefined }[];
  readonly close: () => Promise<void>;
};

const ENVIRONMENT = {
  ...process.env,
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
};

const git = (args: readonly string[], input: Uint8Array | string = ""): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = spawn("git", args, { env: ENVIRONMENT, stdio: ["pipe", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString("utf8")));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString("utf8")));
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(stdout.trim());
      else reject(new Error(`git ${args.join(" ")} ended with ${code}: ${stderr}`));
    });
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
  });

const MODES = { file: "100644", executable: "100755", symlink: "120000", submodule: "160000" };

const quotePath = (path: string): string => `"${path.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

const entryOf = (path: string, file: RemoteFile): readonly Uint8Array[] => {
  const inline = (mode: string, content: string | Uint8Array): readonly Uint8Array[] => {
    const bytes = Buffer.from(content);
    return [Buffer.from(`M ${mode} inline ${quotePath(path)}\ndata ${bytes.length}\n`), bytes, Buffer.from("\n")];
  };
  if (typeof file === "string" || file instanceof Uint8Array) return inline(MODES.file, file);
  if ("symlink" in file) return inline(MODES.symlink, file.symlink);
  if ("executable" in file) return inline(MODES.executable, file.executable);
  return [Buffer.from(`M ${MODES.submodule} ${file.submodule} ${quotePath(path)}\n`)];
};

/** A real repository in a temporary folder, for tests. Commits are made without a work tree, so that any path and mode is possible. */
export const givenGitRemote = async (): Promise<GitTestRemote> => {
  const root = await mkdtemp(join(tmpdir(), "shaman-remote-"));
  const folder = join(root, "agents.git");
  await git(["init", "--quiet", "--bare", "--initial-branch=main", folder]);
  const branches = new Set<string>();
  let count = 0;

  return {
    folder,
    root,
    url: `file://${folder}`,
    commit: async (files, branch = "main") => {
      count += 1;
      const ref = `refs/heads/${branch}`;
      const message = `commit ${count}`;
      const head = [
        `commit ${ref}`,
        `committer Test <test@example.com> ${1_700_000_000 + count} +0000`,
        `data ${message.length}`,
        message,
        ...(branches.has(branch) ? [`from ${ref}^0`] : []),
        "deleteall",
        "",
      ].join("\n");
      branches.add(branch);
      const entries = Object.entries(files).flatMap(([path, file]) => entryOf(path, file));
      await git(
        ["--git-dir", folder, "fast-import", "--quiet", "--force"],
        Buffer.concat([Buffer.from(head), ...entries]),
      );
      return git(["--git-dir", folder, "rev-parse", ref]);
    },
    close: () => rm(root, { recursive: true, force: true }),
  };
};

/** Passes one request to Git's own CGI program (git-http-backend). */
const runBackend = (root: string, request: IncomingMessage, response: ServerResponse): void => {
  const url = new URL(request.url ?? "/", "http://localhost");
  const child = spawn("git", ["http-backend"], {
    env: {
      ...ENVIRONMENT,
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: "1",
      REQUEST_METHOD: request.method ?? "GET",
      PATH_INFO: decodeURIComponent(url.pathname),
      QUERY_STRING: url.search.slice(1),
      CONTENT_TYPE: request.headers["content-type"] ?? "",
      HTTP_CONTENT_ENCODING: request.headers["content-encoding"] ?? "",
      GIT_PROTOCOL: String(request.headers["git-protocol"] ?? ""),
    },
    stdio: ["pipe", "pipe", "ignore"],
  });
  child.stdin.on("error", () => undefined);
  request.pipe(child.stdin);
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  child.on("close", () => {
    const output = Buffer.concat(chunks);
    const split = output.indexOf("\r\n\r\n");
    const lines = output.subarray(0, split).toString("utf8").split("\r\n");
    for (const line of lines) {
      const at = line.indexOf(":");
      const [name, value] = [line.slice(0, at), line.slice(at + 1).trim()];
      if (name.toLowerCase() === "status") response.statusCode = Number.parseInt(value, 10);
      else if (name !== "") response.setHeader(name, value);
    }
    response.end(output.subarray(split + 4));
  });
};

/**
 * Serves the repositories below `root` over HTTP on a free port of loopback. With `authorization` it demands that
 * header; with `redirectTo` it answers everything by a redirect there.
 */
export const givenGitServer = async (input: {
  readonly root: string;
  readonly authorization?: string;
  readonly redirectTo?: string;
}): Promise<GitTestServer> => {
  const requests: { path: string; authorization: string | undefined }[] = [];
  const server = createServer((request, response) => {
    const { authorization } = request.headers;
    requests.push({ path: request.url ?? "", authorization });
    if (input.redirectTo !== undefined) {
      response.writeHead(302, { location: `${input.redirectTo}${request.url ?? ""}` }).end();
    } else if (input.authorization !== undefined && authorization !== input.authorization) {
      response.writeHead(401, { "www-authenticate": 'Basic realm="git"' }).end();
    } else runBackend(input.root, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  // A server that listens on a port has an address with one.
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
};
