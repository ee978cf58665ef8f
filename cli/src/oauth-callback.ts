import { createServer } from "node:http";
import { abortAfter, AppError, userError } from "@shaman/kernel";

/** Waits on loopback for the browser that comes back from an authorization server (RFC 8252, section 7.3). */
export type OauthCallback = {
  readonly redirectUrl: string;
  /** The code that came with the right `state`. Rejects when the person refused or the time is up. */
  readonly code: (state: string, timeoutMs: number) => Promise<string>;
  readonly close: () => Promise<void>;
};

const PATH = "/callback";

export const openOauthCallback = async (): Promise<OauthCallback> => {
  const arrived = Promise.withResolvers<URLSearchParams>();
  let expected: string | undefined;
  const server = createServer((incoming, response) => {
    const url = URL.parse(incoming.url ?? "", "http://127.0.0.1");
    const isMine = url?.pathname === PATH && expected !== undefined && url.searchParams.get("state") === expected;
    const text = isMine ? "Done. You may close this window." : "Not found";
    response.writeHead(isMine ? 200 : 404, { "content-type": "text/plain", connection: "close" }).end(text);
    if (isMine) arrived.resolve(url.searchParams);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The callback has no port");
  return {
    redirectUrl: `http://127.0.0.1:${address.port}${PATH}`,
    code: async (state, timeoutMs) => {
      expected = state;
      const deadline = abortAfter(timeoutMs);
      const late = new Promise<never>((_resolve, reject) => {
        deadline.signal.addEventListener("abort", () => {
          reject(userError("mcp_oauth_failed", "Nobody came back from the authorization server in time."));
        });
      });
      try {
        const answer = await Promise.race([arrived.promise, late]);
        const code = answer.get("code");
        if (code !== null) return code;
        const reason = (answer.get("error_description") ?? answer.get("error") ?? "no code came back").slice(0, 300);
        throw new AppError({ code: "mcp_oauth_failed", kind: "user", message: `Not authorized: ${reason}` });
      } finally {
        deadline.clear();
      }
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
};
