/** Keeps the fleet store in step with the server: by the stream, or by asking while it is cut. */

import { computed, ref, shallowRef } from "vue";

import { type Api, type FleetDevice, type FleetEvent, type Hello, STREAM_PATH } from "../api";
import type { FleetStore } from "../fleet/store";
import { ApiError, messageOf } from "../http";
import { LiveStream, type StreamState } from "./stream";
import type { ServerEvent } from "./sse";

const POLL_MS = 15_000;
const TICK_MS = 5_000;
const FLUSH_MS = 100;
const EVENTS_AT_START = 100;

export interface NodeState {
  node: string;
  leader: boolean;
}

export class Feed {
  readonly stream = shallowRef<StreamState>({ kind: "connecting" });
  /** Which node answers; null until one has. */
  readonly node = shallowRef<NodeState | null>(null);
  /** Why the fleet could not be loaded; empty when it could. */
  readonly loadError = ref("");
  readonly eventsError = ref("");
  /** The present by the server's clock, in milliseconds; moves every few seconds. */
  readonly now = ref(Date.now());
  /** Up to when the page knows the fleet, by the server's clock. */
  private readonly contact = ref(Date.now());
  /** The present while the page hears from the server, else when it last did. */
  readonly asOf = computed(() =>
    this.stream.value.kind === "live" ? this.now.value : this.contact.value,
  );

  private serverOffset = 0;
  private live: LiveStream | null = null;
  private ticker: ReturnType<typeof setInterval> | undefined;
  private poller: ReturnType<typeof setInterval> | undefined;
  private loading: Promise<void> | null = null;
  private loadAgain = false;
  /** Ids that the stream touched while a snapshot is on its way. */
  private touched = new Set<string>();
  private waiting: FleetDevice[] = [];
  private waitingEvents: FleetEvent[] = [];
  private flush: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly api: Api,
    private readonly store: FleetStore,
  ) {}

  start(): void {
    this.ticker = setInterval(() => (this.now.value = this.serverNow()), TICK_MS);
    this.live = new LiveStream({
      open: (signal) => this.api.client.open(STREAM_PATH, { signal }),
      onEvent: (event) => this.take(event),
      onState: (state) => this.enter(state),
      onContact: () => (this.contact.value = this.serverNow()),
    });
    // Not after the stream's first word, which would cost the first paint a round trip.
    void this.load();
    void this.loadEvents();
    this.live.start();
    addEventListener("online", this.hurry);
    document.addEventListener("visibilitychange", this.hurry);
  }

  stop(): void {
    clearInterval(this.ticker);
    clearInterval(this.poller);
    this.live?.close();
    this.live = null;
    if (this.flush !== null) clearTimeout(this.flush);
    removeEventListener("online", this.hurry);
    document.removeEventListener("visibilitychange", this.hurry);
  }

  /** Try the stream again now. */
  readonly hurry = (): void => {
    if (document.visibilityState === "visible") this.live?.hurry();
  };

  /** Load the whole fleet; calls that come while one runs share the next. */
  load(): Promise<void> {
    if (this.loading) {
      this.loadAgain = true;
      return this.loading;
    }
    this.loading = this.loadOnce().finally(() => {
      this.loading = null;
      if (this.loadAgain) {
        this.loadAgain = false;
        void this.load();
      }
    });
    return this.loading;
  }

  private async loadOnce(): Promise<void> {
    this.touched = new Set();
    try {
      const snapshot = await this.api.fleet();
      this.setServerTime(Date.parse(snapshot.at));
      this.store.load(snapshot, this.touched);
      this.contact.value = Math.max(this.contact.value, Date.parse(snapshot.at));
      this.loadError.value = "";
    } catch (error) {
      if (error instanceof ApiError && error.unauthorised) return;
      this.loadError.value = messageOf(error);
    }
  }

  private async loadEvents(): Promise<void> {
    try {
      this.store.addEvents((await this.api.events({ limit: EVENTS_AT_START })).items);
      this.eventsError.value = "";
    } catch (error) {
      this.eventsError.value = messageOf(error);
    }
  }

  private enter(state: StreamState): void {
    const before = this.stream.value.kind;
    this.stream.value = state;
    if (state.kind === "cut" && before !== "cut") {
      clearInterval(this.poller);
      this.poller = setInterval(() => void this.poll(), POLL_MS);
    }
    if (state.kind === "live") {
      clearInterval(this.poller);
      // What happened while nobody listened.
      if (before === "cut") void this.reload();
    }
  }

  /** Load what the stream would have brought. */
  async reload(): Promise<void> {
    await Promise.all([this.load(), this.loadEvents()]);
  }

  private async poll(): Promise<void> {
    await Promise.all([this.reload(), this.askNode()]);
  }

  private async askNode(): Promise<void> {
    try {
      const health = await this.api.health();
      this.node.value = { node: health.node, leader: health.leader };
    } catch {
      // The banner says already that nothing answers.
    }
  }

  private take(event: ServerEvent): void {
    const data: unknown = JSON.parse(event.data);
    switch (event.event) {
      case "hello": {
        const hello = data as Hello;
        this.setServerTime(Date.parse(hello.at));
        this.node.value = { node: hello.node, leader: hello.leader };
        break;
      }
      case "devices":
        for (const device of (data as { devices: FleetDevice[] }).devices) {
          this.touched.add(device.device_id);
          this.waiting.push(device);
        }
        this.flushSoon();
        break;
      case "retired": {
        const id = (data as { device_id: string }).device_id;
        this.flushNow();
        this.touched.add(id);
        this.store.remove(id);
        break;
      }
      case "event":
        this.waitingEvents.push(data as FleetEvent);
        this.flushSoon();
        break;
    }
  }

  /** Not at once: of ten thousand devices, a hundred report while the page draws. */
  private flushSoon(): void {
    this.flush ??= setTimeout(() => this.flushNow(), FLUSH_MS);
  }

  private flushNow(): void {
    if (this.flush !== null) clearTimeout(this.flush);
    this.flush = null;
    const devices = this.waiting;
    const events = this.waitingEvents;
    this.waiting = [];
    this.waitingEvents = [];
    if (devices.length > 0) {
      this.now.value = this.serverNow();
      this.store.merge(devices);
    }
    if (events.length > 0) this.store.addEvents(events);
  }

  private setServerTime(at: number): void {
    this.serverOffset = at - Date.now();
    this.now.value = at;
  }

  private serverNow(): number {
    return Date.now() + this.serverOffset;
  }
}
