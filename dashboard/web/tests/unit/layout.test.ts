import { describe, expect, test } from "vitest";

import { hit, layOut, move, position, shortNames, SMALLEST } from "../../src/fleet/layout";

const SIZES = [1, 7, 50, 500, 2_000, 10_000];
const SCREENS: [number, number][] = [
  [1500, 800],
  [1000, 640],
  [360, 480],
];

describe("the grid", () => {
  test.each(SCREENS)("shows 500 devices at once on %i by %i", (width, height) => {
    const layout = layOut([500], [""], width, height);
    expect(layout.height).toBeLessThanOrEqual(height);
    expect(layout.columns * layout.cellWidth).toBeLessThanOrEqual(width);
  });

  test("shows 10,000 devices at once on a desk's screen", () => {
    const layout = layOut([10_000], [""], 1040, 700);
    expect(layout.height).toBeLessThanOrEqual(700);
    expect(layout.cellWidth).toBeGreaterThanOrEqual(SMALLEST);
  });

  test("grows downwards where cells would be too small to hit", () => {
    const layout = layOut([10_000], [""], 360, 480);
    expect(layout.cellWidth).toBe(SMALLEST);
    expect(layout.height).toBeGreaterThan(480);
  });

  test.each(SIZES)(
    "of %i devices gives each a place of its own, and finds it there again",
    (count) => {
      const sizes = [Math.floor(count / 3), 0, count - Math.floor(count / 3)];
      const layout = layOut(sizes, ["a", "b", "c"], 900, 600);
      const seen = new Set<string>();
      for (let index = 0; index < count; index += 1) {
        const place = position(layout, index)!;
        seen.add(`${place.x},${place.y}`);
        expect(hit(layout, place.x, place.y)).toBe(index);
        expect(
          hit(layout, place.x + layout.cellWidth - 1.5, place.y + layout.cellHeight - 0.5),
        ).toBe(index);
      }
      expect(seen.size).toBe(count);
      expect(position(layout, count)).toBeNull();
    },
  );

  test("has nothing beside its cells", () => {
    const layout = layOut([5, 3], ["a", "b"], 400, 400);
    expect(hit(layout, -1, 30)).toBeNull();
    expect(hit(layout, 5, 5)).toBeNull(); // the heading
    expect(hit(layout, 399, layout.rows.at(-1)!.y + 1)).toBeNull();
    expect(hit(layout, 5, layout.height + 1)).toBeNull();
    expect(hit(layOut([], [], 400, 400), 5, 5)).toBeNull();
  });

  test("survives a page without any room", () => {
    expect(layOut([500], [""], 0, 0).columns).toBe(1);
  });
});

describe("the arrow keys", () => {
  // Sections of 7 and 3 with 5 columns: rows of 5, 2 and 3.
  const layout = layOut([7, 3], ["a", "b"], 390, 400);

  test("go along the rows and end at the ends", () => {
    expect(layout.rows.map((row) => row.count)).toEqual([5, 2, 3]);
    expect(move(layout, 0, "left")).toBe(0);
    expect(move(layout, 4, "right")).toBe(5);
    expect(move(layout, 9, "right")).toBe(9);
    expect(move(layout, 3, "first")).toBe(0);
    expect(move(layout, 3, "last")).toBe(9);
  });

  test("go up and down, to the end of a shorter row", () => {
    expect(move(layout, 1, "down")).toBe(6);
    expect(move(layout, 4, "down")).toBe(6);
    expect(move(layout, 6, "down")).toBe(8);
    expect(move(layout, 8, "up")).toBe(6);
    expect(move(layout, 9, "up")).toBe(6);
    expect(move(layout, 2, "up")).toBe(2);
    expect(move(layout, 0, "pagedown")).toBe(7);
    expect(move(layout, 9, "pageup")).toBe(2);
  });

  test("do nothing in an empty grid", () => {
    expect(move(layOut([], [], 390, 400), 0, "down")).toBe(0);
  });
});

describe("short names", () => {
  test("leave away what all names begin with, up to a separator", () => {
    expect(shortNames(["pi-0042", "pi-0007"])).toEqual(["0042", "0007"]);
    expect(shortNames(["pi-010", "pi-011"])).toEqual(["010", "011"]);
  });

  test("leave alone what does not begin alike, and a name that is alone", () => {
    expect(shortNames(["pi-1", "gw-1"])).toEqual(["pi-1", "gw-1"]);
    expect(shortNames(["pi-1"])).toEqual(["pi-1"]);
    expect(shortNames([])).toEqual([]);
  });

  test("never come to nothing", () => {
    expect(shortNames(["pi-", "pi-1"])).toEqual(["pi-", "1"]);
  });
});
