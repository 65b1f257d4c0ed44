/**
 * The Worker under workerd, for one test.
 *
 * @import { Running } from "../../dev/runtime.js"
 * @import { TestContext } from "node:test"
 */

import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { start } from "../../dev/runtime.js";
import { Outside } from "./outside.js";

export const ONE = "vps-01";
export const TWO = "vps-02";
/** Long enough for a busy machine, and short enough to wait for. */
export const LEASE = 2_000;
const DEADLINE = 10_000;

/** @typedef {{ status: number, body: any }} Answer */

export class Witness {
  /** @param {boolean} steers */
  constructor(steers) {
    this.steers = steers;
    this.outside = new Outside();
    this.storage = mkdtempSync(join(tmpdir(), "witness-"));
    /** @type {Record<"vps-01" | "vps-02" | "operator" | "old", string>} */
    this.tokens = { [ONE]: secret(), [TWO]: secret(), operator: secret(), old: secret() };
    this.outside.token = secret();
    this.address = "";
    /** @type {Running | null} */
    this.running = null;
  }

  /**
   * @param {TestContext} context
   * @param {{ steers?: boolean }} [options]
   */
  static async start(context, { steers = false } = {}) {
    const witness = new Witness(steers);
    context.after(() => witness.end());
    witness.address = await witness.outside.start();
    await witness.boot();
    return witness;
  }

  async boot() {
    const { tokens } = this;
    this.running = await start(
      {
        nodes: {
          [ONE]: { address: "192.0.2.1", leader: "https://vps-01.example.com/leader" },
          [TWO]: { address: "192.0.2.2", leader: "https://vps-02.example.com/leader" },
        },
        leaseSeconds: LEASE / 1000,
        nodeTokens: { [ONE]: [tokens[ONE], tokens.old], [TWO]: [tokens[TWO]] },
        operatorToken: tokens.operator,
        zone: this.steers
          ? {
              api: "https://api.example.net/client/v4",
              token: this.outside.token,
              zoneId: "z1",
              name: "fleet.example.com",
            }
          : null,
      },
      { storage: this.storage, port: 0, outside: this.address },
    );
  }

  async halt() {
    await this.running?.stop();
    this.running = null;
  }

  async end() {
    await this.halt();
    this.outside.stop();
    rmSync(this.storage, { recursive: true });
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   */
  fetch(path, init) {
    return fetch(`${this.running?.url}${path}`, init);
  }

  /**
   * @param {string} path
   * @param {object | string} body
   * @param {string} token
   * @returns {Promise<Answer>}
   */
  async post(path, body, token) {
    const response = await this.fetch(path, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}` },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
    return { status: response.status, body: await response.json() };
  }

  /**
   * @param {"vps-01" | "vps-02"} node
   * @param {string} path
   * @param {object} [fields]
   */
  as(node, path, fields = {}) {
    return this.post(path, { node, ...fields }, this.tokens[node]);
  }

  /** @param {"vps-01" | "vps-02"} node */
  acquire(node, fields = {}) {
    return this.as(node, "/v1/lease/acquire", fields);
  }

  /** @returns {Promise<any>} */
  async state() {
    const headers = { Authorization: `Bearer ${this.tokens.operator}` };
    return (await this.fetch("/v1/state", { headers })).json();
  }

  /** A minute passes. */
  async minute() {
    const answer = await fetch(this.running?.cronUrl ?? "", { method: "POST" });
    return /** @type {any} */ (await answer.json()).outcome;
  }

  /**
   * Acquire until it is granted, as a node does: when the arbiter said to ask again.
   *
   * @param {"vps-01" | "vps-02"} node
   * @returns {Promise<any>}
   */
  async granted(node, fields = {}) {
    const deadline = Date.now() + DEADLINE;
    for (;;) {
      const { status, body } = await this.acquire(node, fields);
      if (status === 200) return body;
      if (Date.now() > deadline) throw new Error(`${node} got no lease: ${JSON.stringify(body)}`);
      await pause(body.retry_in_ms ?? 50);
    }
  }

  /** A pair whose first node holds the lease and has a standby in sync. */
  async inSync() {
    const { epoch } = await this.granted(ONE);
    await this.as(ONE, "/v1/replication", { epoch, mode: "sync", cluster: "7301" });
    return epoch;
  }
}

/** @param {number} milliseconds */
export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/**
 * @param {() => Promise<boolean> | boolean} condition
 * @param {string} what
 */
export async function until(condition, what) {
  const deadline = Date.now() + DEADLINE;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${DEADLINE} ms: ${what}`);
    await pause(20);
  }
}

function secret() {
  return randomBytes(20).toString("hex");
}
