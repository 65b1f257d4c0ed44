import { describe, expect, test } from "vitest";

import { filtered, grouped, sorted, tagKeys } from "../../src/fleet/order";
import { search } from "../../src/fleet/search";
import { entryOf, shownAs } from "../../src/fleet/state";
import { FleetStore, KEPT_EVENTS } from "../../src/fleet/store";
import { inSight } from "../../src/fleet/window";
import { device, idsOf, item, NOW } from "./devices";

const at = (seconds: number) => new Date(NOW + seconds * 1000).toISOString();
const snapshot = (devices: ReturnType<typeof device>[]) => ({
  at: at(0),
  online_within_seconds: 180,
  devices,
});

describe("what a device shows as", () => {
  test("is its status while it reports", () => {
    const entry = entryOf(device("pi-1", { status: "warning", observed_at: at(-180) }));
    expect(shownAs(entry, NOW, 180_000)).toBe("warning");
  });

  test("is offline once it has been silent for too long, whatever it said last", () => {
    const entry = entryOf(device("pi-1", { status: "critical", observed_at: at(-181) }));
    expect(shownAs(entry, NOW, 180_000)).toBe("offline");
  });

  test("is new before its first report", () => {
    const entry = entryOf(device("pi-1", { status: null, observed_at: null }));
    expect(shownAs(entry, NOW, 180_000)).toBe("new");
  });

  test("does not turn to offline while the page itself hears nothing", () => {
    const store = new FleetStore();
    store.load(snapshot([device("pi-1", { observed_at: at(-10) })]));
    const cutAt = NOW;
    expect(store.view(cutAt).counts).toMatchObject({ ok: 1, offline: 0 });
    expect(store.view(NOW + 3600_000).counts).toMatchObject({ ok: 0, offline: 1 });
  });
});

describe("the fleet store", () => {
  test("counts every device once", () => {
    const store = new FleetStore();
    store.load(
      snapshot([
        device("pi-1"),
        device("pi-2", { status: "critical" }),
        device("pi-3", { observed_at: at(-500) }),
        device("pi-4", { status: null, observed_at: null }),
      ]),
    );
    expect(store.view(NOW).counts).toEqual({
      ok: 1,
      warning: 0,
      critical: 1,
      offline: 1,
      new: 1,
      total: 4,
    });
  });

  test("lists ids in their natural order, new ones too", () => {
    const store = new FleetStore();
    store.load(snapshot([device("pi-10"), device("pi-9")]));
    expect(idsOf(store.view(NOW).items)).toEqual(["pi-9", "pi-10"]);
    store.merge([device("pi-2")]);
    expect(idsOf(store.view(NOW).items)).toEqual(["pi-2", "pi-9", "pi-10"]);
    store.remove("pi-9");
    expect(idsOf(store.view(NOW).items)).toEqual(["pi-2", "pi-10"]);
  });

  test("never goes back in time", () => {
    const store = new FleetStore();
    store.merge([device("pi-1", { status: "critical", observed_at: at(0) })]);
    store.merge([device("pi-1", { status: "ok", observed_at: at(-60) })]);
    expect(store.get("pi-1")?.device.status).toBe("critical");
    store.load(snapshot([device("pi-1", { status: "ok", observed_at: at(-60) })]));
    expect(store.get("pi-1")?.device.status).toBe("critical");
  });

  test("takes a new name that comes with the same report", () => {
    const store = new FleetStore();
    store.merge([device("pi-1", { name: "old" })]);
    store.merge([device("pi-1", { name: "new" })]);
    expect(store.get("pi-1")?.device.name).toBe("new");
  });

  test("forgets what a snapshot no longer has, and keeps what came while it was on its way", () => {
    const store = new FleetStore();
    store.load(snapshot([device("gone"), device("retired"), device("kept")]));
    store.merge([device("come", { name: "just enrolled" })]);
    store.merge([device("kept", { name: "renamed" })]);
    store.remove("retired");
    store.load(
      snapshot([device("retired"), device("kept", { name: "before" })]),
      new Set(["come", "kept", "retired"]),
    );
    expect(idsOf(store.view(NOW).items)).toEqual(["come", "kept"]);
    expect(store.get("kept")?.device.name).toBe("renamed");
  });

  test("shows each event once, newest first, and not without end", () => {
    const store = new FleetStore();
    const event = (id: number) => ({ id, at: at(id), device_id: "pi-1", kind: "x", detail: {} });
    store.addEvents([event(2), event(1)]);
    store.addEvents([event(2), event(3)]);
    expect(store.events.map((one) => one.id)).toEqual([3, 2, 1]);
    store.addEvents(Array.from({ length: 500 }, (_, index) => event(index + 4)));
    expect(store.events).toHaveLength(KEPT_EVENTS);
    expect(store.events[0]?.id).toBe(503);
  });
});

describe("order, filter and groups", () => {
  const items = [
    item("pi-1", "ok", { tags: ["site:berlin"] }),
    item("pi-2", "critical", { tags: ["site:aachen"], observed_at: at(-1) }),
    item("pi-3", "offline", { tags: ["site:berlin", "spare"] }),
    item("pi-4", "critical"),
  ];

  test("worst first keeps the order of ids among equals", () => {
    expect(idsOf(sorted(items, "status"))).toEqual(["pi-2", "pi-4", "pi-3", "pi-1"]);
  });

  test("by last report puts the newest first", () => {
    expect(idsOf(sorted(items, "seen"))[0]).toBe("pi-2");
  });

  test("a filter of nothing shows all", () => {
    expect(filtered(items, new Set())).toHaveLength(4);
    expect(idsOf(filtered(items, new Set(["critical"])))).toEqual(["pi-2", "pi-4"]);
  });

  test("groups are by tag value, with those that lack the tag at the end", () => {
    expect(grouped(items, "site").map((group) => [group.label, idsOf(group.items)])).toEqual([
      ["aachen", ["pi-2"]],
      ["berlin", ["pi-1", "pi-3"]],
      ["no site", ["pi-4"]],
    ]);
  });

  test("only tags with a value can group", () => {
    expect(tagKeys(items.map((one) => one.entry.device.tags))).toEqual(["site"]);
  });
});

describe("search", () => {
  const entries = [
    entryOf(device("pi-0042", { name: "Kitchen", tags: ["site:berlin"] })),
    entryOf(device("pi-0420", { name: "Roof" })),
    entryOf(device("gw-42", { name: "Gateway 42" })),
    entryOf(device("pi-0007", { name: "Kitchen 2", tags: ["site:aachen"] })),
  ];
  const found = (query: string) =>
    search(entries, query, 10).found.map((one) => one.device.device_id);

  test("finds part of an id, a name or a tag, in any letters", () => {
    expect(found("0042")).toEqual(["pi-0042"]);
    expect(found("KITCHEN")).toEqual(["pi-0042", "pi-0007"]);
    expect(found("berlin")).toEqual(["pi-0042"]);
  });

  test("puts the exact one first, then those that begin so", () => {
    expect(found("42")).toEqual(["pi-0042", "pi-0420", "gw-42"]);
    expect(found("gw-42")).toEqual(["gw-42"]);
    expect(found("roof")).toEqual(["pi-0420"]);
    expect(found("pi-0042")[0]).toBe("pi-0042");
    expect(found("pi-04")).toEqual(["pi-0420"]);
  });

  test("wants every word", () => {
    expect(found("kitchen aachen")).toEqual(["pi-0007"]);
    expect(found("kitchen paris")).toEqual([]);
  });

  test("of nothing finds nothing", () => {
    expect(found("  ")).toEqual([]);
  });

  test("says how many there are beyond those shown", () => {
    expect(search(entries, "pi", 2)).toMatchObject({ total: 3 });
    expect(search(entries, "pi", 2).found).toHaveLength(2);
  });

  test("of ten thousand devices takes less than a frame", () => {
    const many = Array.from({ length: 10_000 }, (_, index) => entryOf(device(`pi-${index}`)));
    // The best of some, since the machine does other things as well.
    const times = Array.from({ length: 10 }, () => {
      const started = performance.now();
      expect(search(many, "pi-99", 12).total).toBe(111);
      return performance.now() - started;
    });
    console.log(`search in 10,000 devices: ${Math.min(...times).toFixed(1)} ms`);
    expect(Math.min(...times)).toBeLessThan(16);
  });
});

test("a window holds the rows in sight and a few more, and never more than there are", () => {
  expect(inSight(10_000, 30, 0, 300, 5)).toEqual({ first: 0, end: 15 });
  expect(inSight(10_000, 30, 3000, 300, 5)).toEqual({ first: 95, end: 115 });
  expect(inSight(10_000, 30, 299_700, 300, 5)).toEqual({ first: 9985, end: 10_000 });
  // Filtered while scrolled far down.
  expect(inSight(3, 30, 9000, 300, 5)).toEqual({ first: 3, end: 3 });
});
