import { describe as suite, expect, test } from "vitest";

import { bySeverity, matcherText } from "../../src/alerts";
import type { Alert, NodeStatus } from "../../src/api";
import { readChoices } from "../../src/choices";
import { describe, pairs } from "../../src/events";
import { ago, bytes, longSpan, metricTitle, metricValue, span } from "../../src/format";
import { commandParts, isReadable, isStale, servicesOf } from "../../src/nodes";
import { newSilence } from "../../src/silence";
import { parseTags } from "../../src/tags";
import { makeNodes } from "../browser/answers";
import { NOW } from "./devices";

suite("numbers and times", () => {
  test("time that went by is in one unit", () => {
    expect(ago(NOW, NOW)).toBe("now");
    expect(ago(NOW + 5_000, NOW)).toBe("now"); // a clock that is a little ahead
    expect([12, 90, 3600, 7200, 200_000].map(span)).toEqual([
      "12 s",
      "2 min",
      "60 min",
      "2 h",
      "2 d",
    ]);
  });

  test("a length of time is in two units", () => {
    expect([0, 59, 61, 3600, 93_600, 7 * 86400].map(longSpan)).toEqual([
      "0 s",
      "59 s",
      "1 min 1 s",
      "1 h",
      "1 d 2 h",
      "7 d",
    ]);
  });

  test("bytes are in units of 1024", () => {
    expect([0, 1023, 1536, 5 * 1024 ** 3].map(bytes)).toEqual([
      "0 B",
      "1023 B",
      "1.5 KiB",
      "5.0 GiB",
    ]);
  });

  test("a value has the unit that its name says", () => {
    expect(metricValue("disk_used_percent", 41.26)).toBe("41.3 %");
    expect(metricValue("temperature_c", 61.5)).toBe("61.5 °C");
    expect(metricValue("memory_total_bytes", 1024 ** 3)).toBe("1.0 GiB");
    expect(metricValue("uptime_s", 3661)).toBe("1 h 1 min");
    expect(metricValue("load_1m", 0.421)).toBe("0.42");
    expect(metricTitle("disk_used_percent")).toBe("Disk used");
  });
});

suite("events", () => {
  const event = (kind: string, detail: Record<string, unknown>) =>
    describe({ id: 1, at: "", device_id: null, kind, detail });

  test("a change of status says from what to what, and why", () => {
    expect(event("status_changed", { from: "ok", to: "critical", message: "disk full" })).toEqual({
      shown: "critical",
      text: "ok → critical",
      detail: "disk full",
    });
    expect(event("status_changed", { from: null, to: "ok", message: "" }).text).toBe("ok");
  });

  test("an event that this page does not know is shown all the same", () => {
    expect(event("clock_flagged", { skew: 3600, tags: ["a", "b"] })).toEqual({
      shown: null,
      text: "Clock flagged",
      detail: "skew 3600, tags a b",
    });
    expect(event("status_changed", { to: "purple" }).shown).toBeNull();
  });
});

test("a change in the audit log says from what to what", () => {
  const detail = { from: { name: "pi-1", tags: ["a", "b"] }, to: { name: "Roof", tags: [] } };
  expect(pairs(detail)).toBe("from (name pi-1, tags a b), to (name Roof, tags none)");
});

test("an agent's document of another shape is not taken for one", () => {
  const [own] = makeNodes(NOW);
  expect(isReadable(own!.status)).toBe(true);
  expect(isReadable({ leader: true })).toBe(false);
  expect(isReadable({ ...(own!.status as object), problems: null })).toBe(false);
  expect(isReadable(null)).toBe(false);
});

test("remedies have their commands apart", () => {
  expect(commandParts("see `df -h`; then call")).toEqual([
    { text: "see ", command: false },
    { text: "df -h", command: true },
    { text: "; then call", command: false },
  ]);
});

suite("tags", () => {
  test("are taken apart, each once and in order", () => {
    expect(parseTags(" site:berlin, spare  spare ")).toEqual({ tags: ["site:berlin", "spare"] });
    expect(parseTags("")).toEqual({ tags: [] });
  });

  test("that the API would refuse are named", () => {
    expect(parseTags("good Bad")).toMatchObject({ problem: expect.stringContaining("“Bad”") });
    const many = Array.from({ length: 33 }, (_, index) => `t${index}`).join(" ");
    expect(parseTags(many)).toMatchObject({ problem: expect.stringContaining("33") });
  });
});

suite("silences", () => {
  const matcher = { name: "node", value: 'a"b', isRegex: false, isEqual: true };

  test("begin now and end in time", () => {
    const asked = newSilence([matcher], 0.5, " disk is on its way ", NOW);
    expect(asked).toEqual({
      silence: {
        matchers: [matcher],
        startsAt: "2026-11-23T12:00:00.000Z",
        endsAt: "2026-11-23T12:30:00.000Z",
        comment: "disk is on its way",
      },
    });
  });

  test("of everything, or without a reason, are not made", () => {
    expect(newSilence([], 1, "why", NOW)).toHaveProperty("problem");
    expect(newSilence([matcher], 1, "  ", NOW)).toHaveProperty("problem");
  });

  test("are written as Alertmanager writes them", () => {
    expect(matcherText(matcher)).toBe('node="a\\"b"');
    expect(matcherText({ ...matcher, isRegex: true, isEqual: false })).toBe('node!~"a\\"b"');
  });
});

test("alerts come worst first, then the newest; those without a severity last", () => {
  const alert = (name: string, severity: string | undefined, startsAt: string) =>
    ({
      labels: { alertname: name, ...(severity ? { severity } : {}) },
      startsAt,
    }) as unknown as Alert;
  const list = [
    alert("none", undefined, "2026-11-23T12:00:00Z"),
    alert("old", "P1", "2026-11-23T10:00:00Z"),
    alert("three", "P3", "2026-11-23T12:00:00Z"),
    alert("fresh", "P1", "2026-11-23T11:00:00Z"),
  ];
  expect(bySeverity(list).map((one) => one.labels["alertname"])).toEqual([
    "fresh",
    "old",
    "three",
    "none",
  ]);
});

test("services in trouble come first, and one that starts is not yet trouble", () => {
  const container = (service: string, health: string) => ({
    service,
    state: "running",
    health,
    exit_code: null,
    image: "x",
    since: "Up 5 minutes",
  });
  const status = {
    time: NOW / 1000,
    expected: [
      { name: "api", one_shot: false },
      { name: "migrate", one_shot: true },
      { name: "nginx", one_shot: false },
      { name: "postgres", one_shot: false },
    ],
    containers: [container("api", "healthy"), container("nginx", "starting")],
    service_trouble: { nginx: "is starting", postgres: "has no container" },
  } as unknown as NodeStatus;
  expect(servicesOf(status).map((line) => [line.name, line.shown, line.text])).toEqual([
    ["nginx", "warning", "is starting"],
    ["postgres", "critical", "has no container"],
    ["api", "ok", "Up 5 minutes"],
    ["migrate", "ok", "done"],
  ]);
  expect(isStale(status, NOW + 59_000)).toBe(false);
  expect(isStale(status, NOW + 61_000)).toBe(true);
});

test("choices that make no sense are passed over", () => {
  const defaults = { view: "grid", sort: "id", group: "" };
  expect(readChoices(null)).toEqual(defaults);
  expect(readChoices("{not json")).toEqual(defaults);
  expect(readChoices("null")).toEqual(defaults);
  expect(readChoices('{"view":"list","sort":"size","group":3}')).toEqual({
    ...defaults,
    view: "list",
  });
});
