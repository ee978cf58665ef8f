import { describe, expect, test } from "vitest";
import { fields, table } from "./table.ts";

describe("a table", () => {
  const columns = [
    { title: "name", cell: (row: { name: string; runs: number | null }) => row.name },
    { title: "runs", cell: (row: { name: string; runs: number | null }) => row.runs, right: true },
  ];

  test("aligns texts to the left, numbers to the right, and shows nothing as a dash", () => {
    const rows = [
      { name: "Order", runs: 7 },
      { name: "A", runs: 12_345 },
      { name: "", runs: null },
    ];
    expect(table(columns, rows)).toBe("NAME    RUNS\nOrder      7\nA      12345\n–          –\n");
  });

  test("lets no text of others move the cursor or break a line", () => {
    expect(table(columns, [{ name: "a\u001b[2Jb\nc", runs: 1 }])).toBe("NAME      RUNS\na [2Jb c     1\n");
  });

  test("shows one thing's fields under each other", () => {
    expect(
      fields([
        ["id", "run_1"],
        ["agent", null],
      ]),
    ).toBe("id     run_1\nagent  –\n");
  });
});
