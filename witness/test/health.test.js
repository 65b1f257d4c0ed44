import assert from "node:assert/strict";
import { test } from "node:test";

import { GUARD, LEASE, ONE, Pair, TWO } from "./support/pair.js";

const LEADS = { leads: true, answers: true, detail: "HTTP 200" };
const STANDS_BY = { leads: false, answers: true, detail: "HTTP 503" };
const SILENT = { leads: false, answers: false, detail: "no answer (TimeoutError)" };

/**
 * @param {Pair} pair
 * @param {import("../src/health.js").Probe} one
 * @param {import("../src/health.js").Probe} two
 */
function minute(pair, one, two) {
  for (let second = 0; second < 60; second += 5) {
    pair.pass(5_000).renew(ONE);
    pair.acquire(TWO);
  }
  return pair.check({ [ONE]: one, [TWO]: two });
}

test("a holder that cannot be reached twice in a row loses its lease to a standby in sync", () => {
  const pair = Pair.inSync();
  assert.equal(minute(pair, SILENT, STANDS_BY), null);
  assert.match(minute(pair, SILENT, STANDS_BY)?.reason ?? "", /cannot be reached/);
  assert.equal(pair.renew(ONE).reason, "unreachable");
  assert.equal(pair.acquire(TWO).reason, "held");
  assert.equal(pair.pass(LEASE + GUARD).acquire(TWO).ok, true);
  assert.equal(pair.events.at(-1), `granted: ${ONE} could not be reached`);
});

test("the one that lost it cannot have it back for twenty leases", () => {
  const pair = Pair.inSync();
  minute(pair, SILENT, STANDS_BY);
  minute(pair, SILENT, STANDS_BY);
  pair.pass(LEASE + GUARD).acquire(TWO);
  pair.replication(TWO, "sync");
  pair.pass(2 * LEASE);
  assert.equal(pair.acquire(ONE).reason, "unreachable");
  assert.equal(pair.pass(20 * LEASE).acquire(ONE).ok, true);
});

/** A pair whose second node has replaced the first, which could not be reached. */
function replaced() {
  const pair = Pair.inSync();
  minute(pair, SILENT, STANDS_BY);
  minute(pair, SILENT, STANDS_BY);
  pair.pass(LEASE + GUARD).acquire(TWO);
  pair.replication(TWO, "sync");
  return pair;
}

test("the one that lost it may have it again once it can be reached", () => {
  const pair = replaced();
  assert.equal(pair.check({ [ONE]: SILENT, [TWO]: LEADS }), null);
  assert.equal(pair.pass(LEASE + GUARD).acquire(ONE).reason, "unreachable");
  assert.match(pair.check({ [ONE]: STANDS_BY, [TWO]: LEADS })?.reason ?? "", /can be reached/);
  assert.equal(pair.acquire(ONE).ok, true);
});

test("a switchover to a node that cannot be reached is refused, and costs no reservation", () => {
  const pair = replaced();
  assert.equal(pair.release(TWO, ONE).reason, "unreachable");
  assert.equal(pair.renew(TWO).ok, true);
});

test("one bad minute is forgiven", () => {
  const pair = Pair.inSync();
  for (let round = 0; round < 3; round += 1) {
    minute(pair, SILENT, STANDS_BY);
    assert.equal(minute(pair, LEADS, STANDS_BY), null);
  }
  assert.equal(pair.renew(ONE).ok, true);
});

test("a check that reaches neither node takes nothing from anybody", () => {
  const pair = Pair.inSync();
  for (let round = 0; round < 5; round += 1) minute(pair, SILENT, SILENT);
  assert.equal(pair.renew(ONE).ok, true);
});

test("an unreachable holder keeps the lease while the standby may lack writes", () => {
  const pair = Pair.inSync();
  pair.replication(ONE, "async");
  for (let round = 0; round < 5; round += 1) minute(pair, SILENT, STANDS_BY);
  assert.equal(pair.renew(ONE).ok, true);
});

test("an unreachable holder keeps the lease while nobody else asks for it", () => {
  const pair = Pair.inSync();
  for (let round = 0; round < 5; round += 1) {
    for (let second = 0; second < 60; second += 5) pair.pass(5_000).renew(ONE);
    pair.check({ [ONE]: SILENT, [TWO]: STANDS_BY });
  }
  assert.equal(pair.renew(ONE).ok, true);
});

test("the lease is given back where the other node fails to take it", () => {
  const pair = Pair.inSync();
  minute(pair, SILENT, STANDS_BY);
  minute(pair, SILENT, STANDS_BY);
  pair.pass(60_000);
  assert.match(pair.check({ [ONE]: SILENT, [TWO]: SILENT })?.reason ?? "", /may have the lease/);
  assert.equal(pair.renew(ONE).ok, true);
});
