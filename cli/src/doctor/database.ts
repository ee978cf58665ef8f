import type { Cli } from "../cli.ts";
import type { Check, Finding } from "./check.ts";

export const databaseCheck: Check = {
  name: "Database",
  run: async (cli): Promise<Finding> => {
    const from = cli.config.cli.databaseUrl === undefined ? (cli.localState()?.folder ?? "") : "DATABASE_URL";
    await cli.db().check();
    const { rows } = await cli.db().plain<{ role: string; version: string }>({
      text: "SELECT current_user AS role, current_setting('server_version') AS version",
    });
    const { role = "", version = "" } = rows[0] ?? {};
    const message = `PostgreSQL ${version.split(" ")[0]} as ${role} (from ${from})`;
    if (role === "shaman_web") return { state: "ok", message };
    return { state: "warning", message, hint: "Management needs the role shaman_web: set DATABASE_URL to its URL." };
  },
};

export const schemaCheck: Check = {
  name: "Migrations",
  run: async (cli): Promise<Finding> => {
    const { rows } = await cli.db().plain<{ model: boolean; queue: boolean }>({
      text: "SELECT to_regclass('public.audit_seal') IS NOT NULL AS model, to_regnamespace('bullmq') IS NOT NULL AS queue",
    });
    const missing = [rows[0]?.model !== true && "its tables", rows[0]?.queue !== true && "the queue's schema"].filter(
      Boolean,
    );
    if (missing.length === 0) return { state: "ok", message: "the database has its tables" };
    const hint = "Migrate it as its owner: npm start does, and so does every release's migrate step.";
    return { state: "failed", message: `the database lacks ${missing.join(" and ")}`, hint };
  },
};

const countOf = async (cli: Cli, text: string): Promise<number> => {
  const { rows } = await cli.db().unscoped((tx) => tx.query<{ count: number }>({ text }));
  return rows[0]?.count ?? 0;
};

export const runsCheck: Check = {
  name: "Runs",
  run: async (cli): Promise<Finding> => {
    const stuck = await countOf(
      cli,
      `SELECT count(*) AS count FROM (SELECT FROM run WHERE state IN ('submitted', 'working')
        AND enqueued_at < now() - interval '90 seconds' AND coalesce(wake_at, now()) <= now()
        AND coalesce(lease_until, 'epoch') < now() LIMIT 1000) waiting`,
    );
    if (stuck === 0) return { state: "ok", message: "no run waits for a worker" };
    const message = `${stuck}${stuck === 1000 ? " or more" : ""} runs have waited over 90 seconds for a worker`;
    return { state: "failed", message, hint: "Start a worker, or look into its log for why it takes none." };
  },
};

export const auditCheck: Check = {
  name: "Audit seal",
  run: async (cli): Promise<Finding> => {
    const late = await countOf(
      cli,
      // By the sealer's own watermark, which an index serves; audit verify looks at every row.
      `SELECT count(*) AS count FROM organization o
        LEFT JOIN LATERAL (SELECT xid, audit_id FROM audit_seal s WHERE s.org_id = o.id
          ORDER BY position DESC LIMIT 1) s ON true
        WHERE EXISTS (SELECT FROM audit_log a WHERE a.org_id = o.id AND a.at < now() - interval '60 seconds'
          AND (a.xid, a.id) > (coalesce(s.xid, '0'::xid8), coalesce(s.audit_id, 0)))`,
    );
    if (late === 0) return { state: "ok", message: "every row older than a minute is sealed" };
    const message = `${late} organizations have audit rows that wait for their seal over a minute`;
    return { state: "failed", message, hint: "Start a worker: it seals every 10 seconds." };
  },
};

export const repositoriesCheck: Check = {
  name: "Repositories",
  run: async (cli): Promise<Finding> => {
    const failed = await countOf(cli, "SELECT count(*) AS count FROM repository WHERE sync_state = 'failed'");
    if (failed === 0) return { state: "ok", message: "no sync failed" };
    const message = `the last sync of ${failed} ${failed === 1 ? "repository" : "repositories"} failed`;
    return { state: "warning", message, hint: "./shaman repo list --org … says which and why." };
  },
};
