/**
 * The invariants over random histories: two nodes, requests that are delivered late, twice the other
 * way round or never, an arbiter that restarts on machines with other clocks and loses its disk.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { LEASE, ONE, Pair, TWO } from "./support/pair.js";

const RUNS = Number(process.env["RUNS"] ?? 2_000);
const HOUR = 3_600_000;

/**
 * A node as the arbiter's protocol asks it to be: it counts its lease from the moment the request was
 * sent, stops before it releases and never renews what it released, and takes writes only while it has
 * a lease.
 */
class Node {
  /** @param {string} name */
  constructor(name) {
    this.name = name;
    this.epoch = 0;
    this.held = 0;
    this.seen = 0;
    this.leaseEnd = 0;
    this.gaveBack = 0;
    this.serial = 0;
    /** Acknowledged writes that it has. */
    this.writes = 0;
    /** Whether it waits for the other node before it acknowledges. */
    this.sync = false;
  }
}

/** The world around the arbiter, in true time. */
class World {
  constructor() {
    this.pair = new Pair();
    this.time = 0;
    this.offset = this.pair.now;
    this.nodes = [new Node(ONE), new Node(TWO)];
    /** @type {(() => void)[]} Requests on their way, each with what its answer does. */
    this.wire = [];
    this.lastEpoch = 0;
    this.acknowledged = 0;
    this.wiped = false;
  }

  /** @param {number} index */
  node(index) {
    return /** @type {Node} */ (this.nodes[index]);
  }

  /** @param {Node} node */
  leads(node) {
    return this.time < node.leaseEnd;
  }

  /** @param {number} milliseconds */
  pass(milliseconds) {
    this.time += milliseconds;
    this.pair.now = this.time + this.offset;
  }

  /**
   * @param {Node} node
   * @param {"acquire" | "renew"} what
   * @param {boolean} answered
   */
  sendLease(node, what, answered) {
    const sent = this.time;
    if (what === "renew" && node.epoch === node.gaveBack) return;
    const { epoch, held, seen } = node;
    this.wire.push(() => {
      const decision =
        what === "acquire"
          ? this.pair.acquire(node.name, { held, seen })
          : this.pair.renew(node.name, epoch);
      if (decision.ok && what === "acquire") {
        const known = this.wiped ? Math.max(held, seen) : this.lastEpoch;
        this.#checkGrant(node, decision.state.epoch, known);
      }
      if (!answered) return;
      node.seen = Math.max(node.seen, decision.state.epoch);
      // An answer to a question that is no longer the last one changes nothing that it should not.
      if (!decision.ok || (what === "renew" && node.epoch !== epoch)) return;
      if (decision.state.epoch === node.gaveBack) return;
      if (decision.state.epoch < node.epoch) return;
      if (decision.state.epoch > node.epoch) {
        node.serial = 0;
        // It starts with what it has, and alone unless it goes on as it was.
        node.sync = node.sync && node.epoch > 0 && decision.state.replication === "sync";
      }
      node.epoch = decision.state.epoch;
      node.held = Math.max(node.held, node.epoch);
      node.leaseEnd = Math.max(node.leaseEnd, sent + LEASE);
    });
  }

  /**
   * @param {Node} node
   * @param {number} epoch
   * @param {number} known The highest epoch that the arbiter can know of.
   */
  #checkGrant(node, epoch, known) {
    for (const other of this.nodes) {
      const both = other !== node && this.leads(other);
      assert.equal(both, false, `${node.name} got a lease while ${other.name} has one`);
    }
    assert.ok(epoch > known, `epoch ${epoch} after ${known}`);
    this.lastEpoch = epoch;
    if (!this.wiped) {
      assert.equal(node.writes, this.acknowledged, `${node.name} lacks acknowledged writes`);
    }
  }

  /**
   * @param {Node} node
   * @param {boolean} handsOver
   */
  sendRelease(node, handsOver) {
    const other = this.nodes.find((one) => one !== node);
    node.leaseEnd = Math.min(node.leaseEnd, this.time);
    const { epoch } = node;
    node.gaveBack = epoch;
    const to = handsOver && other ? other.name : null;
    this.wire.push(() => void this.pair.release(node.name, to, epoch));
  }

  /**
   * Dropping to async takes effect after it is recorded; sync is recorded after it took effect.
   *
   * @param {Node} node
   * @param {"sync" | "async"} mode
   */
  sendReplication(node, mode) {
    if (!this.leads(node)) return;
    const { epoch } = node;
    const serial = (node.serial += 1);
    if (mode === "sync") {
      node.sync = true;
      for (const other of this.nodes) other.writes = Math.max(other.writes, node.writes);
    }
    this.wire.push(() => {
      const decision = this.pair.replication(node.name, mode, null, epoch, serial);
      if (decision.ok && mode === "async" && node.epoch === epoch) {
        if (node.serial === serial) node.sync = false;
      }
    });
  }

  /** @param {Node} node */
  write(node) {
    if (!this.leads(node)) return;
    node.writes += 1;
    this.acknowledged = node.writes;
    if (node.sync) for (const other of this.nodes) other.writes = node.writes;
  }

  /** @param {number} offset Of the clock of the machine that it is started on. */
  restart(offset) {
    this.offset = HOUR * 24 + offset;
    this.pass(0);
    this.pair.restart();
  }

  wipe() {
    this.wiped = true;
    this.pair.wipe();
  }
}

/** @typedef {[keyof typeof DO, ...number[]]} Step A name and its numbers, so that a failure can be read. */

const DO = {
  pass: (/** @type {World} */ w, ms = 0) => w.pass(ms),
  acquire: (/** @type {World} */ w, i = 0, answered = 1) =>
    w.sendLease(w.node(i), "acquire", answered === 1),
  renew: (/** @type {World} */ w, i = 0, answered = 1) =>
    w.sendLease(w.node(i), "renew", answered === 1),
  deliver: (/** @type {World} */ w, which = 0) => {
    const [request] = w.wire.splice(which % Math.max(1, w.wire.length), 1);
    request?.();
  },
  release: (/** @type {World} */ w, i = 0, handsOver = 0) =>
    w.sendRelease(w.node(i), handsOver === 1),
  sync: (/** @type {World} */ w, i = 0) => w.sendReplication(w.node(i), "sync"),
  async: (/** @type {World} */ w, i = 0) => w.sendReplication(w.node(i), "async"),
  write: (/** @type {World} */ w, i = 0) => w.write(w.node(i)),
  restart: (/** @type {World} */ w, offset = 0) => w.restart(offset),
  wipe: (/** @type {World} */ w) => w.wipe(),
};

/**
 * @param {number} weight
 * @param {keyof typeof DO} name
 * @param {...[number, number]} ranges Of its numbers, from and to.
 */
function chance(weight, name, ...ranges) {
  const numbers = ranges.map(([min, max]) => fc.integer({ min, max }));
  const arbitrary = fc.tuple(...numbers).map((given) => /** @type {Step} */ ([name, ...given]));
  return { weight, arbitrary };
}

const STEPS = [
  chance(6, "pass", [1, LEASE]),
  chance(5, "acquire", [0, 1], [0, 1]),
  chance(4, "renew", [0, 1], [0, 1]),
  chance(10, "deliver", [0, 5]),
  chance(1, "release", [0, 1], [0, 1]),
  chance(3, "sync", [0, 1]),
  chance(1, "async", [0, 1]),
  chance(4, "write", [0, 1]),
  chance(1, "restart", [-HOUR, HOUR]),
];

/** @param {typeof STEPS} steps */
function histories(steps) {
  return fc.array(fc.oneof(...steps), { minLength: 50, maxLength: 300, size: "max" });
}

/** @param {Step[]} steps */
function run(steps) {
  const world = new World();
  for (const [name, ...numbers] of steps) DO[name](world, ...numbers);
  return world;
}

test("never two leases, rising epochs, and no lease for a node that lacks a write", () => {
  let grants = 0;
  fc.assert(
    fc.property(histories(STEPS), (all) => {
      grants = Math.max(grants, run(all).lastEpoch);
    }),
    { numRuns: RUNS },
  );
  assert.ok(grants > 3, "the random histories are too dull to prove anything");
});

test("never two leases and rising epochs, even where the arbiter loses its disk", () => {
  fc.assert(
    fc.property(histories([...STEPS, chance(1, "wipe")]), (all) => void run(all)),
    { numRuns: RUNS },
  );
});

test("a pair whose requests arrive has a primary again within four leases, whatever happened before", () => {
  fc.assert(
    fc.property(histories(STEPS), (all) => {
      const world = run(all);
      world.wire.length = 0;
      // Both ask every three seconds; a reservation and a restart are both over by then.
      for (let waited = 0; waited <= 4 * LEASE; waited += 3_000) {
        world.pass(3_000);
        for (const node of world.nodes) {
          world.sendLease(node, "acquire", true);
          world.wire.pop()?.();
        }
      }
      assert.ok(world.nodes.some((node) => world.leads(node)));
    }),
    { numRuns: RUNS },
  );
});
