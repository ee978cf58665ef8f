import { z } from "zod";

/** Names that people would take for ours, or that we may need as hosts ourselves. */
const RESERVED = new Set([
  ..."about account accounts admin api app apps assets auth billing blog cdn console dashboard dev docs download".split(
    " ",
  ),
  ..."email ftp git graphql grpc health help id identity imap internal invite kratos login logout mail metrics".split(
    " ",
  ),
  ..."mx ns ns1 ns2 oauth operator permiso pop postmaster private public queue root security shaman signup smtp".split(
    " ",
  ),
  ..."sso staging static status support system test webhook webhooks webmail worker ws www".split(" "),
]);

/** An organization's name in addresses: one DNS label (RFC 1035, 2.3.1), lower case, none of our own names. */
export const slugSchema = z
  .string()
  .min(2, "must have at least 2 characters")
  .max(63, "must have at most 63 characters")
  .regex(/^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/, "may hold a-z, 0-9 and - inside, like a host name")
  .refine(
    (slug) => slug.slice(2, 4) !== "--",
    "must not have -- at its third place: such names stand for other scripts",
  )
  .refine((slug) => !RESERVED.has(slug), "is reserved: choose another one");
