import type { Clock, JsonObject } from "@shaman/kernel";
import { storedObjectId, type RecordedEvent, type TaskView } from "@shaman/runs";
import { signDownload, type DownloadKeys } from "@shaman/storage";
import type { Organization, TenancyConfig } from "@shaman/tenancy";

/** Gives parts whose content lies in the store an address where it can be fetched for a while. */
export type DownloadUrls = {
  readonly inTask: (organization: Organization, task: TaskView) => TaskView;
  readonly inEvent: (organization: Organization, event: RecordedEvent) => RecordedEvent;
};

const LIFETIME_SECONDS = 15 * 60;

export const createDownloadUrls = (deps: {
  readonly keys: DownloadKeys;
  readonly clock: Clock;
  readonly tenancy: Pick<TenancyConfig, "publicUrlOf">;
}): DownloadUrls => {
  const addressOf = ({ id: orgId, slug }: Organization, objectId: string): string => {
    const expires = Math.floor(deps.clock.now() / 1_000) + LIFETIME_SECONDS;
    const signature = signDownload(deps.keys, { orgId, objectId, expires });
    const path = `/a2a/v1/artifacts/${objectId}?expires=${expires}&signature=${signature}`;
    return `${deps.tenancy.publicUrlOf(slug)}${path}`;
  };
  const inParts = (organization: Organization, parts: readonly JsonObject[]): JsonObject[] =>
    parts.map((part) => {
      const objectId = storedObjectId(part);
      return objectId === undefined ? part : { ...part, url: addressOf(organization, objectId) };
    });
  const isStored = (part: JsonObject): boolean => storedObjectId(part) !== undefined;

  return {
    inTask: (organization, task) => {
      if (!task.artifacts.some(({ parts }) => parts.some(isStored))) return task;
      const artifacts = task.artifacts.map((one) => ({ ...one, parts: inParts(organization, one.parts) }));
      return { ...task, artifacts };
    },
    inEvent: (organization, event) => {
      if (event.type !== "task.artifact" || !event.payload.parts.some(isStored)) return event;
      return { ...event, payload: { ...event.payload, parts: inParts(organization, event.payload.parts) } };
    },
  };
};
