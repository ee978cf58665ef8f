export { startModelServer } from "./model-server.ts";
export type { ModelReply, ModelServer, ModelServerRequest } from "./model-server.ts";
export type { ModelAnswer, Wire } from "./model-wire.ts";
export { TEST_ROLE_SECRET, testDatabase } from "./test-database.ts";
export type { TestDatabase } from "./test-database.ts";
export { givenGitRemote, givenGitServer } from "./git-remote.ts";
export type { GitTestRemote, GitTestServer, RemoteFile } from "./git-remote.ts";
