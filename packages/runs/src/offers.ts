import { CHANNELS, type Channel, type FanOut } from "@shaman/queue";
import { z } from "zod";
import { readAssignedRun, type AssignedRun } from "./assigned-run.ts";
import { parsedJsonText } from "./json-schema.ts";
import { tellOnRecord } from "./run-watcher.ts";

/** So long a lease lasts under which a run is assigned: it is found so soon if nobody heard of that. */
export const ASSIGNED_LEASE_MS = 5_000;
/** How often a worker tells its offer. */
export const OFFER_MS = 500;
/** As many may be missed before it counts as gone. */
const GOOD_FOR_MS = 3 * OFFER_MS;
/** A longer list is not told: a NOTIFY of PostgreSQL carries less than 8,000 bytes. */
const MAX_CLOSED_TO = 100;

const offerSchema = z.object({
  worker: z.string().min(1).max(300),
  /** Where it hears of runs that were assigned to it. */
  address: z.string().regex(/^[0-9a-z]{20}$/),
  /** How long the lease lasts under which a run is assigned to it. */
  leaseMs: z.int().min(1).max(ASSIGNED_LEASE_MS),
});

/**
 * A worker's word that it would begin a run at once. It holds for a moment only, and binds nobody: a run that the worker
 * cannot begin after all goes into the queue (docs/decisions/036-an-idle-worker-is-given-the-run.md).
 */
export type Offer = z.infer<typeof offerSchema>;

/** Organizations whose runs a worker could not begin now. */
export type ClosedTo = "everybody" | readonly string[];

const told = parsedJsonText.pipe(
  offerSchema.extend({
    /** The form in which it wants to be told of runs; another version may want another one. */
    form: z.literal(2),
    closedTo: z.literal("everybody").or(z.array(z.string())),
  }),
);

export const tellOffer = (
  fanOut: Pick<FanOut, "publish">,
  { closedTo, ...offer }: Offer & { readonly closedTo: ClosedTo },
): void => {
  const isLong = closedTo.length > MAX_CLOSED_TO;
  fanOut.publish(CHANNELS.offers, JSON.stringify({ form: 2, ...offer, closedTo: isLong ? "everybody" : closedTo }));
};

export type Offers = {
  /** A worker that would begin a run of this organization at once; where there are several, each in turn. */
  readonly find: (orgId: string) => Offer | undefined;
  /** Tells it of the run (`assigned-run.ts`), which is on record under its lease, or soon will be. */
  readonly assign: (offer: Offer, run: string) => void;
  /** A run it was told of has come on record; whoever prepares it may go on. */
  readonly onRecord: (runId: string) => void;
  /** A run it was told of has not come on record. */
  readonly withdraw: (offer: Offer, runId: string) => void;
  /** The channel by which a NOTIFY tells it, in the transaction that writes the run; undefined where only `assign` can. */
  readonly channelOf: (offer: Offer) => string | undefined;
};

/** Knows what workers offer, for a server that takes runs in. */
export const watchOffers = async (deps: { readonly fanOut: FanOut }): Promise<Offers> => {
  // By address; whose turn it is comes first.
  const offers = new Map<string, { readonly offer: Offer; readonly closedTo: readonly string[]; until: number }>();
  await deps.fanOut.subscribe(CHANNELS.offers, (payload) => {
    const { data } = told.safeParse(payload);
    if (data === undefined) return;
    const { form: _form, closedTo, ...offer } = data;
    if (closedTo === "everybody") offers.delete(offer.address);
    else offers.set(offer.address, { offer, closedTo, until: performance.now() + GOOD_FOR_MS });
  });
  return {
    find: (orgId) => {
      for (const [address, entry] of offers) {
        if (entry.until < performance.now()) offers.delete(address);
        else if (!entry.closedTo.includes(orgId)) {
          offers.delete(address);
          offers.set(address, entry);
          return entry.offer;
        }
      }
      return undefined;
    },
    channelOf: ({ address }) => (deps.fanOut.byNotify ? assignedTo(address) : undefined),
    assign: ({ address }, run) => deps.fanOut.publish(assignedTo(address), run),
    onRecord: (runId) => tellOnRecord(deps.fanOut, runId),
    withdraw: ({ address }, runId) => deps.fanOut.publish(assignedTo(address), WITHDRAWN + runId),
  };
};

const assignedTo = (address: string): Channel => `shaman_assigned_${address}`;

/** Hears of the runs that are assigned to this address, and of `callOut`. A run that cannot be read is found by the sweep. */
export const onAssigned = (
  fanOut: FanOut,
  address: string,
  handlers: {
    readonly run: (run: AssignedRun) => void;
    readonly withdrawn: (runId: string) => void;
    readonly heard: () => void;
  },
): Promise<void> =>
  fanOut.subscribe(assignedTo(address), (payload) => {
    if (payload === CALL) return handlers.heard();
    if (payload.startsWith(WITHDRAWN)) return handlers.withdrawn(payload.slice(WITHDRAWN.length));
    const run = readAssignedRun(payload);
    if (run !== undefined) handlers.run(run);
  });

const WITHDRAWN = "withdrawn ";

/** What a worker says to itself, to know whether it would hear what is assigned to it. */
const CALL = "do you hear";

export const callOut = (fanOut: Pick<FanOut, "publish">, address: string): void =>
  fanOut.publish(assignedTo(address), CALL);
