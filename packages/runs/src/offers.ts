import type { Clock } from "@shaman/kernel";
import { CHANNELS, type Channel, type FanOut } from "@shaman/queue";
import { z } from "zod";
import { readAssignedRun } from "./assigned-run.ts";
import { parsedJsonText } from "./json-schema.ts";
import type { LeasedRun } from "./lease.ts";

const offerSchema = z.object({
  worker: z.string(),
  /** Where it hears of runs that were assigned to it. */
  address: z.string(),
  /** How long the lease lasts under which a run is assigned to it. */
  leaseMs: z.int(),
});

/**
 * A worker's word that it would begin a run at once. It holds for a moment only, and binds nobody: a run that the worker
 * cannot begin after all goes into the queue (docs/decisions/036-an-idle-worker-is-given-the-run.md).
 */
export type Offer = z.infer<typeof offerSchema>;

/** Organizations whose runs a worker could not begin now. */
export type ClosedTo = "everybody" | readonly string[];

const told = parsedJsonText.pipe(offerSchema.extend({ closedTo: z.literal("everybody").or(z.array(z.string())) }));

/** How often a worker tells its offer. */
export const OFFER_MS = 500;
/** As many may be missed before it counts as gone. */
const GOOD_FOR_MS = 3 * OFFER_MS;

export const tellOffer = (fanOut: Pick<FanOut, "publish">, offer: Offer & { readonly closedTo: ClosedTo }): void =>
  fanOut.publish(CHANNELS.offers, JSON.stringify(offer));

export type Offers = {
  /** A worker that would begin a run of this organization at once; where there are several, each in turn. */
  readonly find: (orgId: string) => Offer | undefined;
  /** Tells it of the run (`assigned-run.ts`), which is on record under its lease. */
  readonly assign: (offer: Offer, run: string) => void;
};

/** Knows what workers offer, for a server that takes runs in. */
export const watchOffers = async (deps: { readonly fanOut: FanOut; readonly clock: Clock }): Promise<Offers> => {
  // By address; whose turn it is comes first.
  const offers = new Map<string, { readonly offer: Offer; readonly closedTo: readonly string[]; until: number }>();
  await deps.fanOut.subscribe(CHANNELS.offers, (payload) => {
    const { data } = told.safeParse(payload);
    if (data === undefined) return;
    const { closedTo, ...offer } = data;
    if (closedTo === "everybody") offers.delete(offer.address);
    else offers.set(offer.address, { offer, closedTo, until: deps.clock.now() + GOOD_FOR_MS });
  });
  return {
    find: (orgId) => {
      for (const [address, entry] of offers) {
        if (entry.until < deps.clock.now()) offers.delete(address);
        else if (!entry.closedTo.includes(orgId)) {
          offers.delete(address);
          offers.set(address, entry);
          return entry.offer;
        }
      }
      return undefined;
    },
    assign: ({ address }, run) => deps.fanOut.publish(assignedTo(address), run),
  };
};

const assignedTo = (address: string): Channel => `shaman_assigned_${address}`;

/** Hears of the runs that are assigned to this address. One that cannot be read is found by the sweep. */
export const onAssigned = (fanOut: FanOut, address: string, handler: (run: LeasedRun) => void): Promise<void> =>
  fanOut.subscribe(assignedTo(address), (payload) => {
    const run = readAssignedRun(payload);
    if (run !== undefined) handler(run);
  });
