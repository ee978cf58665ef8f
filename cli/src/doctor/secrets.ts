import { open, secretIdentity } from "@shaman/secrets";
import { listOrganizations } from "@shaman/tenancy";
import type { Check, Finding } from "./check.ts";

const ORGANIZATIONS = 200;
const SECRETS = 100;

/** Opens stored secrets as the servers would, and shows none. */
export const secretsCheck: Check = {
  name: "Secrets",
  run: async (cli): Promise<Finding> => {
    const known = cli.config.cli.secretKeys ?? cli.localState()?.secretKeys;
    if (known === undefined) {
      const hint = "Set it to what the servers have to check that stored secrets open.";
      return { state: "warning", message: "SHAMAN_SECRET_KEYS is not set here", hint };
    }
    const keys = cli.secretKeys();
    const organizations = await listOrganizations({ db: cli.db() }, { first: ORGANIZATIONS });
    if (!organizations.ok) throw organizations.error;
    let opened = 0;
    for (const { id: orgId, slug } of organizations.value.organizations) {
      const { rows } = await cli.db().withOrg(orgId, (tx) =>
        tx.query<{ id: string; sealed: string }>({
          text: "SELECT id, sealed FROM secret WHERE org_id = $1 ORDER BY id DESC LIMIT $2",
          values: [orgId, SECRETS],
        }),
      );
      for (const { id, sealed } of rows) {
        const result = open(keys, { sealed, identity: secretIdentity({ orgId, secretId: id }) });
        if (!result.ok) return { state: "failed", message: `${slug}: ${result.error.message}` };
        opened += 1;
      }
    }
    return {
      state: "ok",
      message: opened === 0 ? "none are stored" : `${opened} stored secrets open with the given keys`,
    };
  },
};
