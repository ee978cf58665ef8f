import { expect, test } from "vitest";
import { contradicts } from "./media-type.ts";

const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13]);
const ZIP = Buffer.from([0x50, 0x4b, 3, 4, 0, 0]);
const text = (value: string): Buffer => Buffer.from(value);

test("content may be what it is declared as", () => {
  const right: readonly (readonly [string, Buffer, string?])[] = [
    ["image/png", PNG, "chart.png"],
    ["application/pdf", text("%PDF-1.7\n"), "invoice.pdf"],
    ["application/zip", ZIP],
    ["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ZIP, "orders.xlsx"],
    ["text/plain", text("Dear customer, a < b"), "letter.txt"],
    ["text/markdown; charset=utf-8", text("# Invoice\n\n<b>Total</b>")],
    ["application/json", text('{"html": "<html>"}')],
    ["text/html", text("<!doctype html><p>Hello"), "page.html"],
    ["image/svg+xml", text("<svg xmlns='x'/>"), "logo.svg"],
    ["text/javascript", text("alert(1)"), "app.js"],
    ["application/octet-stream", PNG],
    ["application/octet-stream", Buffer.from([0, 1, 2])],
    ["text/csv", text("BM;1;2\n")],
    ["text/plain", text("")],
    ["application/x-own", Buffer.from([0, 1, 2])],
  ];
  for (const [mediaType, head, fileName] of right) {
    expect(contradicts({ head, mediaType, fileName }), mediaType).toBeUndefined();
  }
});

test("markup and scripts pass for nothing else, and no kind passes for another", () => {
  const wrong: readonly (readonly [string, Buffer, string?])[] = [
    ["image/png", text("<script>alert(1)</script>")],
    ["image/png", text("not a picture")],
    ["image/jpeg", PNG],
    ["text/plain", text("\n <!DOCTYPE HTML>\n<html>")],
    ["text/plain", text("\uFEFF<html>")],
    ["text/markdown", text("<!-- hi --><script src=x>")],
    ["application/pdf", text("<svg onload=alert(1)>")],
    ["application/x-own", text("<iframe src=x>")],
    ["text/plain", text("alert(1)"), "run.js"],
    ["text/plain", text("hello"), "page.HTML"],
    ["image/png", PNG, "logo.svg"],
    ["text/plain", PNG],
    ["text/csv", ZIP],
    ["application/json", Buffer.from([0x7b, 0, 0x7d])],
    ["application/vnd.oasis.opendocument.text", text("plain")],
  ];
  for (const [mediaType, head, fileName] of wrong) {
    expect(contradicts({ head, mediaType, fileName }), `${mediaType} ${fileName ?? ""}`).toBeTypeOf("string");
  }
});
