import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { ApiError } from "../../src/http";
import { LiveStream, retryDelay, type StreamState } from "../../src/live/stream";

/** A server whose stream the test writes and cuts. */
class FakeServer {
  opened = 0;
  failWith: Error | null = null;
  private writer: ReadableStreamDefaultController<Uint8Array> | null = null;

  open = (signal: AbortSignal): Promise<Response> => {
    this.opened += 1;
    if (this.failWith) return Promise.reject(this.failWith);
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.writer = controller;
        signal.addEventListener("abort", () => {
          try {
            controller.error(new DOMException("aborted", "AbortError"));
          } catch {
            // Closed already.
          }
        });
      },
    });
    return Promise.resolve(new Response(body));
  };

  async write(text: string): Promise<void> {
    this.writer!.enqueue(new TextEncoder().encode(text));
    await vi.advanceTimersByTimeAsync(0);
  }

  async cut(): Promise<void> {
    this.writer!.close();
    await vi.advanceTimersByTimeAsync(0);
  }
}

const HELLO = "event: hello\ndata: {}\n\n";

describe("the live stream", () => {
  let server: FakeServer;
  let states: StreamState[];
  let events: string[];
  let stream: LiveStream;
  const kinds = () => states.map((state) => state.kind);

  beforeEach(() => {
    vi.useFakeTimers({ now: Date.parse("2026-11-23T12:00:00Z") });
    server = new FakeServer();
    states = [];
    events = [];
    stream = new LiveStream({
      open: server.open,
      onEvent: (event) => events.push(event.event),
      onState: (state) => states.push(state),
      random: () => 1,
    });
  });
  afterEach(() => {
    stream.close();
    vi.useRealTimers();
  });

  async function goLive(): Promise<void> {
    stream.start();
    await vi.advanceTimersByTimeAsync(0);
    await server.write(HELLO);
  }

  test("is live only when the server has spoken", async () => {
    stream.start();
    await vi.advanceTimersByTimeAsync(0);
    expect(kinds()).toEqual(["connecting"]);
    await server.write(": ping\n\n");
    expect(kinds()).toEqual(["connecting"]);
    await server.write(HELLO);
    expect(kinds()).toEqual(["connecting", "live"]);
    expect(events).toEqual(["hello"]);
  });

  test("is cut since the last word and not since it was noticed", async () => {
    await goLive();
    const spoke = Date.now();
    await vi.advanceTimersByTimeAsync(5_000);
    await server.cut();
    expect(states.at(-1)).toMatchObject({ kind: "cut", since: spoke });
  });

  test("is opened again after a second, and is live again", async () => {
    await goLive();
    await server.cut();
    await vi.advanceTimersByTimeAsync(999);
    expect(server.opened).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(server.opened).toBe(2);
    await server.write(HELLO);
    expect(kinds()).toEqual(["connecting", "live", "cut", "live"]);
  });

  test("is dead after 25 s of silence, though the connection stands", async () => {
    await goLive();
    await vi.advanceTimersByTimeAsync(24_000);
    await server.write(": ping\n\n");
    await vi.advanceTimersByTimeAsync(24_900);
    expect(kinds().at(-1)).toBe("live");
    await vi.advanceTimersByTimeAsync(200);
    expect(states.at(-1)).toMatchObject({ kind: "cut", reason: "nothing came for too long" });
  });

  test("that is accepted but says nothing is given up after 10 s", async () => {
    stream.start();
    await vi.advanceTimersByTimeAsync(9_900);
    expect(kinds()).toEqual(["connecting"]);
    await vi.advanceTimersByTimeAsync(200);
    expect(kinds()).toEqual(["connecting", "cut"]);
  });

  test("waits longer after each failure, and never beyond half a minute", async () => {
    server.failWith = new ApiError("The server cannot be reached.", 0);
    stream.start();
    await vi.advanceTimersByTimeAsync(0);
    const waits = [];
    for (let failure = 0; failure < 7; failure += 1) {
      const state = states.at(-1)!;
      if (state.kind !== "cut") throw new Error("must be cut");
      expect(state.reason).toBe("The server cannot be reached.");
      waits.push(state.retryAt - Date.now());
      await vi.advanceTimersByTimeAsync(state.retryAt - Date.now());
    }
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16000, 30000, 30000]);
  });

  test("keeps the time of the cut through failed tries", async () => {
    await goLive();
    const spoke = Date.now();
    server.failWith = new ApiError("away", 0);
    await server.cut();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(states.at(-1)).toMatchObject({ kind: "cut", since: spoke });
  });

  test("can be hurried, which changes nothing while it is open", async () => {
    await goLive();
    stream.hurry();
    await vi.advanceTimersByTimeAsync(0);
    expect(server.opened).toBe(1);
    await server.cut();
    stream.hurry();
    await vi.advanceTimersByTimeAsync(0);
    expect(server.opened).toBe(2);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(server.opened).toBe(2);
  });

  test("stays closed when it is closed", async () => {
    await goLive();
    stream.close();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.opened).toBe(1);
    expect(kinds()).toEqual(["connecting", "live"]);
  });
});

test("half of a wait is by chance", () => {
  expect(retryDelay(1, () => 0)).toBe(500);
  expect(retryDelay(1, () => 1)).toBe(1000);
  expect(retryDelay(100, () => 0)).toBe(15_000);
});
