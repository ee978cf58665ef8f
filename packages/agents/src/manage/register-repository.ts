import { auditOf, forbidden, type Origin, type Principal } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import { isUniqueViolation, type Db, type Tx } from "@shaman/db";
import { err, invalidInput, newId, ok, Secret, userError, type Result } from "@shaman/kernel";
import type { GitRemote } from "@shaman/outbound";
import { seal, secretIdentity, type SecretKeys } from "@shaman/secrets";
import { z } from "zod";

import { checkBranch, checkDirectory } from "../git/git-place.ts";
import { repositoryResource } from "./repository-view.ts";

export type RegisterRepositoryDeps = {
  readonly db: Db;
  readonly origin: Origin;
  readonly secretKeys: SecretKeys;
  readonly checkGitUrl: (url: string) => Promise<Result<GitRemote>>;
};

export const registerRepositoryInput = z.strictObject({
  /** How agents and people call it: `name:path/Agent`. */
  name: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "must be 1 to 64 letters, digits, - or _"),
  url: z.string().min(1).max(2_000),
  branch: z.string().default("main"),
  directory: z.string().default(""),
  /** `token`, or `user:token`; kept sealed, and sent to the origin of `url` only. */
  credential: z.instanceof(Secret).optional(),
  /** Absent: synced on demand only. */
  syncEverySeconds: z.int().min(10).max(86_400).optional(),
});
export type RegisterRepositoryInput = z.input<typeof registerRepositoryInput>;

const CREATE = "repository:create";
/** What fits into a header, and what no header can be cut by. */
const CREDENTIAL = /^[\x21-\x7e]{1,1000}$/;

const checkCredential = (credential: Secret | undefined, url: string): Result<string | undefined> => {
  if (credential === undefined) return ok(undefined);
  const origin = URL.parse(url)?.origin;
  if (origin === undefined || origin === "null") {
    return err(userError("invalid_input", "A repository on this machine takes no credential."));
  }
  return CREDENTIAL.test(credential.reveal())
    ? ok(origin)
    : err(userError("invalid_input", "The credential must be a token, or user:token, without spaces or line ends."));
};

type Plan = {
  readonly orgId: string;
  readonly id: string;
  readonly name: string;
  readonly url: string;
  readonly branch: string;
  readonly directory: string;
  readonly syncEverySeconds: number | undefined;
  readonly secret: { readonly id: string; readonly origin: string; readonly sealed: string } | undefined;
};

const insert = async (tx: Tx, plan: Plan): Promise<void> => {
  const { orgId, secret } = plan;
  if (secret !== undefined) {
    await tx.query({
      text: "INSERT INTO secret (org_id, id, name, origin, sealed) VALUES ($1, $2, $3, $4, $5)",
      values: [orgId, secret.id, `repository ${plan.name}`, secret.origin, secret.sealed],
    });
  }
  await tx.query({
    text: `INSERT INTO repository (org_id, id, name, url, branch, directory, secret_id, sync_every_seconds, next_sync_at)
      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now())`,
    values: [
      orgId,
      plan.id,
      plan.name,
      plan.url,
      plan.branch,
      plan.directory,
      secret?.id ?? null,
      plan.syncEverySeconds ?? null,
    ],
  });
};

/**
 * Registers a repository; its first sync is due at once. Needs `repository:create`. Errors: `forbidden`,
 * `invalid_input`, `branch_invalid`, `directory_invalid`, `outbound_refused`, `repository_exists`.
 */
export const registerRepository = async (
  deps: RegisterRepositoryDeps,
  principal: Principal,
  input: RegisterRepositoryInput,
): Promise<Result<{ readonly repositoryId: string }>> => {
  if (!principal.can(CREATE, "/repositories/")) return err(forbidden(CREATE));
  const parsed = registerRepositoryInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const { name, credential, syncEverySeconds } = parsed.data;
  const branch = checkBranch(parsed.data.branch);
  if (!branch.ok) return branch;
  const directory = checkDirectory(parsed.data.directory);
  if (!directory.ok) return directory;
  const remote = await deps.checkGitUrl(parsed.data.url);
  if (!remote.ok) return remote;
  const { url } = remote.value;
  const origin = checkCredential(credential, url);
  if (!origin.ok) return origin;

  const { orgId } = principal;
  const id = newId("repo");
  const secretId = newId("secret");
  const secret =
    credential === undefined || origin.value === undefined
      ? undefined
      : {
          id: secretId,
          origin: origin.value,
          sealed: seal(deps.secretKeys, { plaintext: credential, identity: secretIdentity({ orgId, secretId }) }),
        };
  const plan: Plan = {
    orgId,
    id,
    name,
    url,
    branch: branch.value,
    directory: directory.value,
    syncEverySeconds,
    secret,
  };
  try {
    await deps.db.withOrg(orgId, async (tx) => {
      await insert(tx, plan);
      const details = { id, url, branch: plan.branch, directory: plan.directory, credential: secret !== undefined };
      await recordAudit(tx, auditOf(deps, principal, { action: CREATE, resource: repositoryResource(name), details }));
    });
  } catch (thrown) {
    if (!isUniqueViolation(thrown, "repository_org_id_name_key")) throw thrown;
    return err(userError("repository_exists", `There is a repository ${name} already: choose another name.`));
  }
  return ok({ repositoryId: id });
};
