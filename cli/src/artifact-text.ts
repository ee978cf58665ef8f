import { unwrap, userError } from "@shaman/kernel";
import { STORED_METADATA, storedObjectId, type ArtifactView } from "@shaman/runs";
import { readDownloadKeys, signDownload } from "@shaman/storage";
import type { Organization } from "@shaman/tenancy";
import type { Cli } from "./cli.ts";
import { safe, textOfParts } from "./run-text.ts";

const LIFETIME_SECONDS = 15 * 60;

/** Where the stored content can be fetched for a while; undefined without the keys that sign such addresses. */
const addressOf = (cli: Cli, organization: Organization, objectId: string): string | undefined => {
  const local = cli.localState();
  const text = cli.config.cli.downloadUrlKeys ?? local?.downloadUrlKeys;
  if (text === undefined) return undefined;
  const parsed = readDownloadKeys(text.reveal());
  const keys = unwrap(
    parsed.ok ? parsed : { ok: false, error: userError("usage", `DOWNLOAD_URL_KEYS: ${parsed.error}`) },
  );
  const expires = Math.floor(cli.clock.now() / 1_000) + LIFETIME_SECONDS;
  const signature = signDownload(keys, { orgId: organization.id, objectId, expires });
  const port = local === undefined ? "" : new URL(local.publicUrl).port;
  const origin =
    local === undefined
      ? cli.config.tenancy.publicUrlOf(organization.slug)
      : `http://${organization.slug}.localhost:${port}`;
  return `${origin}/a2a/v1/artifacts/${objectId}?expires=${expires}&signature=${signature}`;
};

/** The artifacts with addresses for what lies in the store. */
export const withAddresses = (
  cli: Cli,
  organization: Organization,
  artifacts: readonly ArtifactView[],
): readonly ArtifactView[] =>
  artifacts.map((artifact) => ({
    ...artifact,
    parts: artifact.parts.map((part) => {
      const objectId = storedObjectId(part);
      return objectId === undefined ? part : { ...part, url: addressOf(cli, organization, objectId) ?? "in the store" };
    }),
  }));

const storedSize = (part: ArtifactView["parts"][number]): string => {
  const { metadata } = part;
  const stored: unknown = Object(metadata)[STORED_METADATA];
  const bytes: unknown = Object(stored).bytes;
  return typeof bytes === "number" ? ` ${bytes} bytes` : "";
};

/** An artifact for a terminal: text as it is, stored content by its type, size and address. */
export const artifactText = (artifact: ArtifactView): string => {
  const parts = artifact.parts.map((part) => {
    if (typeof part.url !== "string") return textOfParts([part]);
    const type = typeof part.mediaType === "string" ? part.mediaType : "file";
    return `[${type}${storedSize(part)}: ${part.url}]`;
  });
  return `${artifact.name ?? "artifact"}: ${safe(parts.join(""))}\n`;
};
