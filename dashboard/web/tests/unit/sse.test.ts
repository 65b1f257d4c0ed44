import { describe, expect, test } from "vitest";

import { EventParser } from "../../src/live/sse";

describe("server-sent events", () => {
  const text = ': ping\n\nevent: hello\ndata: {"a":1}\n\ndata: one\r\ndata: two\r\n\r\n';
  const expected = [
    { event: "hello", data: '{"a":1}' },
    { event: "message", data: "one\ntwo" },
  ];

  test("are read whole", () => {
    expect(new EventParser().push(text)).toEqual(expected);
  });

  test("are the same wherever the network cuts the text", () => {
    for (let size = 1; size <= text.length; size += 1) {
      const parser = new EventParser();
      const events = [];
      for (let at = 0; at < text.length; at += size) {
        events.push(...parser.push(text.slice(at, at + size)));
      }
      expect(events, `cut every ${size} characters`).toEqual(expected);
    }
  });

  test("wait for the empty line that ends them", () => {
    const parser = new EventParser();
    expect(parser.push("data: x\n")).toEqual([]);
    expect(parser.push("\n")).toEqual([{ event: "message", data: "x" }]);
  });

  test("without data are none", () => {
    expect(new EventParser().push("event: hello\n\n: comment\n\n")).toEqual([]);
  });

  test("keep the spaces of their data but the first", () => {
    expect(new EventParser().push("data:  x\n\n")).toEqual([{ event: "message", data: " x" }]);
  });
});
