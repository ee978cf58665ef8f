import { defineConfig } from "@shaman/config";
import { z } from "zod";

const ORG = "{org}";

export type TenancyConfig = {
  /** Organizations live at `{org}.<baseDomain>`. */
  readonly baseDomain: string;
  /** Where an organization's A2A server is reached from outside, without a slash at the end. */
  readonly publicUrlOf: (slug: string) => string;
};

const isPublicUrlTemplate = (template: string): boolean => {
  const url = URL.parse(template.replace(ORG, "org"));
  return template.split(ORG).length === 2 && url !== null && /^https?:$/.test(url.protocol) && url.pathname === "/";
};

/** How organizations are addressed. */
export const tenancyConfig = defineConfig(
  {
    BASE_DOMAIN: {
      schema: z
        .string()
        .toLowerCase()
        .regex(/^[a-z0-9-]+(?:\.[a-z0-9-]+)*$/, "must be a domain such as example.com, without port")
        .default("localhost"),
      about: "organizations are reached at {org}.BASE_DOMAIN",
    },
    PUBLIC_URL_TEMPLATE: {
      schema: z
        .string()
        .refine(
          isPublicUrlTemplate,
          "must be an http(s) URL with {org} in its host and no path, such as https://{org}.example.com",
        )
        .default("http://{org}.localhost:5000"),
      about: "address of an organization's A2A server as callers see it, for agent cards",
    },
  },
  (env): TenancyConfig => ({
    baseDomain: env.BASE_DOMAIN,
    publicUrlOf: (slug) => env.PUBLIC_URL_TEMPLATE.replace(ORG, slug).replace(/\/$/, ""),
  }),
);
