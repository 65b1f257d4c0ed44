/**
 * The Durable Object: one instance a pair, one thing at a time. It keeps the state, asks the pure
 * functions, and carries out what follows.
 *
 * @import { Command } from "./commands.js"
 * @import { Decision, Reason } from "./decide.js"
 * @import { Env } from "./settings.js"
 * @import { Health, HistoryEntry, Replication } from "./state.js"
 *
 * @typedef {object} View What nodes and operators may read.
 * @property {string | null} holder Null where no lease runs.
 * @property {string | null} last_holder
 * @property {number} epoch
 * @property {number} expires_in_ms
 * @property {number} free_in_ms Until another node than the last holder could have it.
 * @property {Replication} replication
 * @property {string | null} cluster
 * @property {string | null} reserved_for
 * @property {string | null} unreachable
 * @property {string | null} forced
 * @property {Health} health
 * @property {{ mode: string, wanted: string | null, agrees: boolean | null, attempts: number,
 *   error: string | null }} steering
 * @property {{ requests: number, rows_written: number, rows_read: number,
 *   since_ms: number }} usage
 *
 * @typedef {View & { history: HistoryEntry[] }} FullView
 *
 * @typedef {{ granted: true, epoch: number, ttl_ms: number, replication: Replication,
 *   cluster: string | null }} Granted
 * @typedef {{ granted: false, reason: Reason | null, retry_in_ms: number | null, state: View }} Refused
 * @typedef {{ ok: true, state: View }} Done
 *
 * @typedef {{ status: 200, body: Granted | Done } | { status: 409, body: Refused }} Reply
 */

import { DurableObject } from "cloudflare:workers";

import { decide, freeAt, woken } from "./decide.js";
import { judge } from "./health.js";
import { probe } from "./probe.js";
import { readSettings } from "./settings.js";
import { emptySteering, lead, retryDelay } from "./steering.js";
import { Storage } from "./storage.js";

/** @extends {DurableObject<Env>} */
export class Arbiter extends DurableObject {
  /**
   * @param {DurableObjectState} ctx
   * @param {Env} env
   */
  constructor(ctx, env) {
    super(ctx, env);
    this.settings = readSettings(env);
    this.storage = new Storage(ctx.storage.sql);
    this.startedAt = Date.now();
    this.state = woken(this.storage.state(), this.startedAt, this.settings.rules);
    this.steering = this.storage.steering();
    /** @type {Record<string, number>} By node, when it last asked for the lease. */
    this.askedAt = {};
    this.requests = 0;
    this.steeringRuns = false;
  }

  /**
   * @param {Command} command
   * @returns {Promise<Reply>}
   */
  async ask(command) {
    this.requests += 1;
    const now = Date.now();
    if (command.kind === "acquire") this.askedAt[command.node] = now;
    const moment = { now, startedAt: this.startedAt };
    const decision = decide(this.state, command, moment, this.settings.rules);
    this.#keep(decision.state, decision.event, now);
    await this.#follow();
    return this.#answer(command, decision, now);
  }

  /**
   * @param {number} entries Of the history. Refusals have none, and what nodes read all day has few:
   *   the plan counts rows that are read.
   * @returns {Promise<FullView>}
   */
  async view(entries) {
    this.requests += 1;
    return { ...this.#view(Date.now()), history: this.storage.history(entries) };
  }

  /** The check of every minute. */
  async check() {
    this.requests += 1;
    const nodes = Object.entries(this.settings.nodes);
    const found = await Promise.all(
      nodes.map(async ([node, { leader }]) => /** @type {const} */ ([node, await probe(leader)])),
    );
    const now = Date.now();
    const probes = Object.fromEntries(found);
    const { state, event } = judge(this.state, probes, this.askedAt, now, this.settings.rules);
    this.#keep(state, event, now);
    await this.#steer();
  }

  /** The next attempt to lead the public name to the holder. */
  async alarm() {
    this.requests += 1;
    await this.#steer();
  }

  /**
   * @param {import("./state.js").State} state
   * @param {Decision["event"]} event
   * @param {number} now
   */
  #keep(state, event, now) {
    if (JSON.stringify(state) !== JSON.stringify(this.state)) {
      this.storage.writeState(state);
      this.state = state;
    }
    if (event) this.#note(event.node, event.reason, now);
  }

  /**
   * @param {string | null} node
   * @param {string} reason
   */
  #note(node, reason, now = Date.now()) {
    const at = new Date(now).toISOString();
    this.storage.append({ epoch: this.state.epoch, node, at, reason });
  }

  /** Have the name follow a new holder, at once but not before the holder has its answer. */
  async #follow() {
    if (!this.settings.zone || this.state.holder === this.steering.wanted) return;
    this.#keepSteering({ ...emptySteering(), wanted: this.state.holder });
    await this.ctx.storage.setAlarm(Date.now());
  }

  async #steer() {
    const { zone } = this.settings;
    if (!zone || this.steeringRuns) return;
    this.steeringRuns = true;
    try {
      const wanted = this.steering.wanted;
      const address = wanted === null ? undefined : this.settings.nodes[wanted]?.address;
      if (wanted === null || address === undefined) return;
      try {
        if (await lead(zone, address)) this.#note(wanted, `the public name leads to ${wanted}`);
        if (wanted === this.steering.wanted) {
          this.#keepSteering({ wanted, applied: wanted, attempts: 0, error: null });
        }
      } catch (error) {
        const attempts = this.steering.attempts + 1;
        const told = error instanceof Error ? error.message : String(error);
        this.#keepSteering({ ...this.steering, applied: null, attempts, error: told });
      }
      // Not yet, or the holder changed while the record was written.
      if (this.steering.applied !== this.steering.wanted) {
        await this.ctx.storage.setAlarm(Date.now() + retryDelay(this.steering.attempts));
      }
    } finally {
      this.steeringRuns = false;
    }
  }

  /** @param {import("./steering.js").SteeringState} steering */
  #keepSteering(steering) {
    if (JSON.stringify(steering) === JSON.stringify(this.steering)) return;
    this.storage.writeSteering(steering);
    this.steering = steering;
  }

  /**
   * @param {Command} command
   * @param {Decision} decision
   * @param {number} now
   * @returns {Reply}
   */
  #answer(command, decision, now) {
    const { ok, reason, retryMs } = decision;
    if (!ok) {
      const state = this.#view(now);
      return { status: 409, body: { granted: false, reason, retry_in_ms: retryMs, state } };
    }
    if (command.kind === "acquire" || command.kind === "renew") {
      const { epoch, replication, cluster } = decision.state;
      const ttl = this.settings.rules.ttl;
      return { status: 200, body: { granted: true, epoch, ttl_ms: ttl, replication, cluster } };
    }
    return { status: 200, body: { ok: true, state: this.#view(now) } };
  }

  /**
   * @param {number} now
   * @returns {View}
   */
  #view(now) {
    const { state, steering, settings } = this;
    const moment = { now, startedAt: this.startedAt };
    const running = state.holder !== null && !state.released && now < state.expiresAt;
    return {
      holder: running ? state.holder : null,
      last_holder: state.holder,
      epoch: state.epoch,
      expires_in_ms: running ? state.expiresAt - now : 0,
      free_in_ms: Math.max(0, freeAt(state, moment, settings.rules) - now),
      replication: state.replication,
      cluster: state.cluster,
      reserved_for: state.reserved?.node ?? null,
      unreachable: state.banned?.node ?? null,
      forced: state.force?.node ?? null,
      health: { failures: state.health.failures, detail: state.health.detail },
      steering: {
        mode: settings.zone ? "worker" : "none",
        wanted: steering.wanted,
        agrees: settings.zone ? steering.applied === steering.wanted : null,
        attempts: steering.attempts,
        error: steering.error,
      },
      usage: {
        requests: this.requests,
        rows_written: this.storage.rowsWritten,
        rows_read: this.storage.rowsRead,
        since_ms: now - this.startedAt,
      },
    };
  }
}
