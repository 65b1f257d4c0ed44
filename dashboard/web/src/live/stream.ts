/** Keeps the live stream open, and says when it is not. */

import { isAbort, messageOf } from "../http";
import { EventParser, type ServerEvent } from "./sse";

export type StreamState =
  | { kind: "connecting" }
  | { kind: "live" }
  /** Times in milliseconds since the epoch. */
  | { kind: "cut"; since: number; retryAt: number; reason: string };

export interface StreamOptions {
  /** Opens the stream; rejects when it cannot. */
  open: (signal: AbortSignal) => Promise<Response>;
  onEvent: (event: ServerEvent) => void;
  onState: (state: StreamState) => void;
  /** Whenever anything arrives, be it a comment. */
  onContact?: () => void;
  /** The server sends something at least every 10 s; after this silence the stream is dead. */
  silenceMs?: number;
  random?: () => number;
}

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;
const SILENCE_MS = 25_000;
/** From the request to the first word; a proxy that accepts and says nothing is no stream. */
const FIRST_WORD_MS = 10_000;

/**
 * Time to wait before a try, in milliseconds.
 *
 * Doubles from one second to half a minute. Half of it is by chance, so that the pages of many
 * operators do not all come back in the same instant.
 */
export function retryDelay(failures: number, random: () => number): number {
  const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(failures - 1, 10));
  return Math.round(longest / 2 + (random() * longest) / 2);
}

/** A stream that opens itself again until it is closed. */
export class LiveStream {
  private failures = 0;
  private lastContact: number;
  private closed = false;
  private attempt: AbortController | null = null;
  private retry: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly options: StreamOptions) {
    this.lastContact = Date.now();
  }

  start(): void {
    this.options.onState({ kind: "connecting" });
    void this.run();
  }

  /** Try at once instead of waiting; nothing while the stream is open. */
  hurry(): void {
    if (this.closed || this.retry === null) return;
    clearTimeout(this.retry);
    this.retry = null;
    void this.run();
  }

  close(): void {
    this.closed = true;
    if (this.retry !== null) clearTimeout(this.retry);
    this.retry = null;
    this.attempt?.abort();
  }

  private async run(): Promise<void> {
    const attempt = new AbortController();
    this.attempt = attempt;
    let watchdog: ReturnType<typeof setTimeout> | undefined;
    let reason = "the server closed the stream";
    const watch = (milliseconds: number) => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => {
        reason = "nothing came for too long";
        attempt.abort();
      }, milliseconds);
    };
    try {
      watch(FIRST_WORD_MS);
      const response = await this.options.open(attempt.signal);
      if (!response.body) throw new Error("the stream has no body");
      const silence = this.options.silenceMs ?? SILENCE_MS;
      const parser = new EventParser();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let live = false;
      for (;;) {
        const { done, value } = await reader.read();
        if (done || this.closed) break;
        watch(silence);
        this.lastContact = Date.now();
        this.options.onContact?.();
        for (const event of parser.push(value)) {
          // Live once the server has spoken, not when a proxy has accepted.
          if (!live) {
            live = true;
            this.failures = 0;
            this.options.onState({ kind: "live" });
          }
          this.options.onEvent(event);
        }
      }
    } catch (error) {
      if (!isAbort(error)) reason = messageOf(error);
    } finally {
      clearTimeout(watchdog);
      attempt.abort();
    }
    if (!this.closed) this.cut(reason);
  }

  private cut(reason: string): void {
    this.failures += 1;
    const wait = retryDelay(this.failures, this.options.random ?? Math.random);
    this.options.onState({
      kind: "cut",
      since: this.lastContact,
      retryAt: Date.now() + wait,
      reason,
    });
    this.retry = setTimeout(() => {
      this.retry = null;
      void this.run();
    }, wait);
  }
}
