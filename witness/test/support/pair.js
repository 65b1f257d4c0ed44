/**
 * The pure functions with a clock of the test's own.
 *
 * @import { Command } from "../../src/commands.js"
 * @import { Decision } from "../../src/decide.js"
 * @import { Probe } from "../../src/health.js"
 * @import { State } from "../../src/state.js"
 */

import { decide, woken } from "../../src/decide.js";
import { judge } from "../../src/health.js";
import { rulesFor } from "../../src/rules.js";
import { emptyState } from "../../src/state.js";

export const ONE = "vps-01";
export const TWO = "vps-02";
export const LEASE = 15_000;
export const GUARD = 1_000;

export class Pair {
  constructor() {
    this.rules = rulesFor([ONE, TWO], LEASE / 1000);
    /** @type {State} */
    this.state = emptyState();
    this.now = 1_000_000;
    this.startedAt = this.now;
    /** @type {Record<string, number>} */
    this.askedAt = {};
    /** @type {string[]} */
    this.events = [];
  }

  /** @param {number} milliseconds */
  pass(milliseconds) {
    this.now += milliseconds;
    return this;
  }

  /** The arbiter is started again, with what it had on disk. */
  restart() {
    this.startedAt = this.now;
    this.state = woken(this.state, this.now, this.rules);
    this.askedAt = {};
    return this;
  }

  /** The arbiter's disk is lost. */
  wipe() {
    this.state = emptyState();
    return this.restart();
  }

  /**
   * @param {Command} command
   * @returns {Decision}
   */
  ask(command) {
    if (command.kind === "acquire") this.askedAt[command.node] = this.now;
    const decision = decide(this.state, command, this, this.rules);
    this.state = decision.state;
    if (decision.event) this.events.push(decision.event.reason);
    return decision;
  }

  /**
   * @param {string} node
   * @param {{ held?: number, seen?: number }} [claim]
   */
  acquire(node, { held = 0, seen = 0 } = {}) {
    return this.ask({ kind: "acquire", node, held, seen });
  }

  /** @param {string} node */
  renew(node, epoch = this.state.epoch) {
    return this.ask({ kind: "renew", node, epoch });
  }

  /**
   * @param {string} node
   * @param {string | null} to
   */
  release(node, to = null, epoch = this.state.epoch) {
    return this.ask({ kind: "release", node, epoch, to });
  }

  /**
   * @param {string} node
   * @param {"sync" | "async"} mode
   * @param {string | null} cluster
   * @param {number | null} serial
   */
  replication(node, mode, cluster = null, epoch = this.state.epoch, serial = null) {
    return this.ask({ kind: "replication", node, epoch, mode, cluster, serial });
  }

  /** @param {string} node */
  force(node, newCluster = false) {
    return this.ask({ kind: "force", node, reason: "the other one burned down", newCluster });
  }

  /**
   * A minute's check from outside.
   *
   * @param {Record<string, Probe>} probes
   */
  check(probes) {
    const { state, event } = judge(this.state, probes, this.askedAt, this.now, this.rules);
    this.state = state;
    if (event) this.events.push(event.reason);
    return event;
  }

  /** A new pair whose first node holds the lease and has a standby in sync. */
  static inSync() {
    const pair = new Pair().pass(LEASE + GUARD);
    pair.acquire(ONE);
    pair.replication(ONE, "sync", "7301");
    return pair;
  }
}
