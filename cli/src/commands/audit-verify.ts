import { verifyAudit, type AuditReport } from "@shaman/audit";
import { Option, type Command } from "commander";
import { listOrganizations, type Organization } from "@shaman/tenancy";
import { unwrap } from "@shaman/kernel";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { failedAfterOutput } from "../failed-after-output.ts";

const head = z
  .string()
  .regex(/^\d+:[0-9a-f]{64}$/, "--head must be place:hash, as an earlier run printed it")
  .transform((text) => {
    const [position = "", hash = ""] = text.split(":");
    return { position: Number(position), hash };
  });

export const auditVerify = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "verify",
    about: "check that no audit row was changed, removed or put in; exits 1 when one was",
    options: (command) =>
      orgOption(command)
        .addOption(new Option("--all", "every organization"))
        .addOption(new Option("--head <place:hash>", "the head of an earlier run: the chain must still go through it")),
    input: z.object({ all: z.boolean().default(false), head: head.optional() }),
    run: async ({ org, all, head: expected }, show) => {
      const organizations = all ? await everyOrganization(cli) : [await cli.organization(org)];
      const reports: (AuditReport & { slug: string })[] = [];
      for (const { id, slug } of organizations) {
        const report = await verifyAudit({ db: cli.db() }, { orgId: id, ...(expected !== undefined && { expected }) });
        reports.push({ slug, ...report });
      }
      const ok = reports.every((report) => report.ok);
      show({ json: { ok, organizations: reports }, text: reports.map(describe).join("\n") });
      if (!ok) throw failedAfterOutput();
    },
  });

const everyOrganization = async (cli: Cli): Promise<readonly Organization[]> => {
  const all: Organization[] = [];
  let after = "";
  for (;;) {
    const page = unwrap(await listOrganizations({ db: cli.db() }, { first: 200, after }));
    all.push(...page.organizations);
    if (page.endCursor === null) return all;
    after = page.endCursor;
  }
};

const describe = (report: AuditReport & { readonly slug: string }): string => {
  const lines = [`${report.slug}: ${report.ok ? "intact" : "NOT INTACT"}, ${report.sealed} rows sealed`];
  if (report.unsealed > 0) lines.push(`  ${report.unsealed} rows wait for their seal since ${report.oldestUnsealedAt}`);
  for (const problem of report.problems) lines.push(`  ${problem.kind}: ${problem.message}`);
  const hidden = report.problemCount - report.problems.length;
  if (hidden > 0) lines.push(`  and ${hidden} more`);
  if (report.head !== null) lines.push(`  head ${report.head.position}:${report.head.hash}`);
  return `${lines.join("\n")}\n`;
};
