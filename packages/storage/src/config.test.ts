import { expect, test } from "vitest";
import { storageConfig } from "./config.ts";

const S3 = { S3_BUCKET: "artifacts", S3_ACCESS_KEY_ID: "AK", S3_SECRET_ACCESS_KEY: "hush" };

test("without a bucket artifacts lie in a folder of this checkout, wherever the process was started", () => {
  const read = storageConfig.read({});
  expect(read).toMatchObject({ ok: true, value: { kind: "folder", folder: expect.stringMatching(/^\/.*artifacts$/) } });
  const chosen = storageConfig.read({ ARTIFACT_DIR: "/srv/artifacts" });
  expect(chosen).toMatchObject({ ok: true, value: { folder: "/srv/artifacts" } });
});

test("a bucket without an endpoint is Amazon's, one with an endpoint is named in the path", () => {
  const amazon = storageConfig.read({ ...S3, S3_REGION: "eu-west-1" });
  expect(amazon).toMatchObject({ ok: true, value: { kind: "s3", pathStyle: false } });
  expect(amazon.ok && amazon.value.kind === "s3" && amazon.value.endpoint.href).toBe(
    "https://s3.eu-west-1.amazonaws.com/",
  );
  const own = storageConfig.read({ ...S3, S3_ENDPOINT: "http://s3.internal:9000" });
  expect(own).toMatchObject({ ok: true, value: { pathStyle: true } });
});

test("a bucket without its key is refused with the variable's name, and no secret is shown", () => {
  const read = storageConfig.read({ S3_BUCKET: "artifacts", S3_SECRET_ACCESS_KEY: "hush" });
  expect(read.ok ? [] : read.error).toEqual([expect.stringMatching(/^S3_ACCESS_KEY_ID: is missing/)]);
  expect(JSON.stringify(storageConfig.read(S3))).not.toContain("hush");
  expect(storageConfig.read({ ...S3, S3_ENDPOINT: "ftp://x" }).ok).toBe(false);
});
