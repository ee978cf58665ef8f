import { dirname, resolve } from "node:path";
import { defineConfig, type ConfigReader } from "@shaman/config";
import { err, Secret } from "@shaman/kernel";
import { z } from "zod";

export type S3Config = {
  readonly kind: "s3";
  readonly endpoint: URL;
  readonly bucket: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: Secret;
  /** The bucket is the first part of the path, not of the host. */
  readonly pathStyle: boolean;
};

export type StorageConfig = { readonly kind: "folder"; readonly folder: string } | S3Config;

/** Of this checkout: processes start in different folders, and must find the same artifacts. */
const CHECKOUT = dirname(dirname(dirname(import.meta.dirname)));
const DEFAULT_FOLDER = ".shaman/artifacts";

const text = z.string().min(1);

const variables = {
  ARTIFACT_DIR: {
    schema: text.default(DEFAULT_FOLDER),
    about: "folder for artifacts too large for the database, the same for worker and public server",
  },
  S3_BUCKET: {
    schema: z
      .string()
      .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, "must be the name of a bucket")
      .optional(),
    about: "bucket for such artifacts instead of a folder",
  },
  S3_ENDPOINT: {
    schema: z.url({ protocol: /^https?$/, error: "must be a URL such as https://s3.example.com" }).optional(),
    about: "where the S3-compatible store is; Amazon's of S3_REGION by default",
  },
  S3_REGION: { schema: text.default("us-east-1"), about: "region that requests are signed for" },
  S3_ACCESS_KEY_ID: { schema: text.optional(), about: "access key of the bucket" },
  S3_SECRET_ACCESS_KEY: { schema: text.optional(), about: "its secret" },
  S3_PATH_STYLE: {
    schema: z.enum(["true", "false"], "must be true or false").optional(),
    about: "whether the bucket is part of the path instead of the host; default true with S3_ENDPOINT",
  },
} as const;

const inner = defineConfig(variables, (env) => env);

/** Where artifacts are kept that are too large for the database: a bucket when S3_BUCKET is set, else a folder. */
export const storageConfig: ConfigReader<StorageConfig> = {
  variables,
  read: (env) => {
    const read = inner.read(env);
    if (!read.ok) return read;
    const { value } = read;
    const { S3_BUCKET: bucket, S3_ACCESS_KEY_ID: accessKeyId, S3_SECRET_ACCESS_KEY: secret } = value;
    if (bucket === undefined) {
      return { ok: true, value: { kind: "folder", folder: resolve(CHECKOUT, value.ARTIFACT_DIR) } };
    }
    if (accessKeyId === undefined || secret === undefined) {
      const missing = accessKeyId === undefined ? "S3_ACCESS_KEY_ID" : "S3_SECRET_ACCESS_KEY";
      return err([`${missing}: is missing, and S3_BUCKET is set (${variables[missing].about})`]);
    }
    const { S3_REGION: region, S3_ENDPOINT: endpoint = `https://s3.${region}.amazonaws.com` } = value;
    const pathStyle =
      value.S3_PATH_STYLE === undefined ? value.S3_ENDPOINT !== undefined : value.S3_PATH_STYLE === "true";
    return {
      ok: true,
      value: {
        kind: "s3",
        endpoint: new URL(endpoint),
        bucket,
        region,
        accessKeyId,
        secretAccessKey: new Secret(secret),
        pathStyle,
      },
    };
  },
};
