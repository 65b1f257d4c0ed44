import assert from "node:assert/strict";
import { test } from "node:test";

import { GUARD, LEASE, ONE, Pair, TWO } from "./support/pair.js";

test("a new pair starts with its first node, after one lease of waiting", () => {
  const pair = new Pair();
  const early = pair.acquire(ONE);
  assert.equal(early.reason, "waking");
  assert.equal(early.retryMs, LEASE + GUARD);
  pair.pass(LEASE + GUARD);
  assert.equal(pair.acquire(TWO).reason, "behind");
  assert.equal(pair.acquire(ONE).ok, true);
  assert.equal(pair.state.epoch, 1);
});

test("the holder renews and keeps its epoch", () => {
  const pair = Pair.inSync();
  for (let time = 0; time < 10 * LEASE; time += 5_000) {
    assert.equal(pair.pass(5_000).renew(ONE).ok, true);
    assert.equal(pair.acquire(TWO).reason, "held");
  }
  assert.equal(pair.state.epoch, 1);
});

test("the standby in sync gets the lease when it has run out, and not a moment earlier", () => {
  const pair = Pair.inSync();
  const refusal = pair.acquire(TWO);
  assert.equal(refusal.retryMs, LEASE + GUARD);
  assert.equal(pair.pass(LEASE + GUARD - 1).acquire(TWO).reason, "held");
  assert.equal(pair.pass(1).acquire(TWO).ok, true);
  assert.equal(pair.state.epoch, 2);
  assert.equal(pair.renew(ONE, 1).reason, "superseded");
});

test("a holder that comes back in time for nobody else goes on with its epoch", () => {
  const pair = Pair.inSync().pass(3 * LEASE);
  assert.equal(pair.renew(ONE).ok, true);
  assert.equal(pair.state.epoch, 1);
  assert.equal(pair.acquire(TWO).reason, "held");
});

test("a holder without memory gets a higher epoch, and its old one is over", () => {
  const pair = Pair.inSync();
  assert.equal(pair.acquire(ONE).ok, true);
  assert.equal(pair.state.epoch, 2);
  assert.equal(pair.renew(ONE, 1).reason, "superseded");
  assert.equal(pair.state.replication, "sync");
});

test("a node that may lack writes is refused, however long nobody holds the lease", () => {
  const pair = Pair.inSync();
  pair.replication(ONE, "async");
  assert.equal(pair.pass(3_600_000).acquire(TWO).reason, "behind");
  assert.equal(pair.acquire(ONE).ok, true);
});

test("after a failover the old primary counts as behind until the new one says otherwise", () => {
  const pair = Pair.inSync().pass(LEASE + GUARD);
  pair.acquire(TWO);
  assert.equal(pair.state.replication, "async");
  assert.equal(pair.pass(LEASE + GUARD).acquire(ONE).reason, "behind");
  pair.renew(TWO);
  pair.replication(TWO, "sync");
  assert.equal(pair.pass(LEASE + GUARD).acquire(ONE).ok, true);
});

test("a switchover hands the lease to its target at once, and to nobody else", () => {
  const pair = Pair.inSync();
  assert.equal(pair.release(ONE, TWO).ok, true);
  assert.equal(pair.acquire(ONE).reason, "reserved");
  assert.equal(pair.acquire(TWO).ok, true);
  assert.equal(pair.state.epoch, 2);
});

test("a switchover whose target never comes gives the lease back after two leases", () => {
  const pair = Pair.inSync();
  pair.release(ONE, TWO);
  assert.equal(pair.pass(2 * LEASE - 1).acquire(ONE).reason, "reserved");
  assert.equal(pair.pass(1).acquire(ONE).ok, true);
});

test("a switchover to a node that may lack writes is refused, and the lease is kept", () => {
  const pair = Pair.inSync();
  pair.replication(ONE, "async");
  assert.equal(pair.release(ONE, TWO).reason, "behind");
  assert.equal(pair.renew(ONE).ok, true);
});

test("a release can be repeated, and ends renewals", () => {
  const pair = Pair.inSync();
  assert.equal(pair.release(ONE).ok, true);
  assert.equal(pair.release(ONE).ok, true);
  assert.equal(pair.renew(ONE).reason, "released");
  assert.deepEqual(
    pair.events.filter((event) => event === "released"),
    ["released"],
  );
});

test("only the holder of a running lease records how it replicates", () => {
  const pair = Pair.inSync();
  assert.equal(pair.replication(TWO, "async").reason, "superseded");
  assert.equal(pair.replication(ONE, "async", null, 9).reason, "superseded");
  pair.pass(LEASE);
  assert.equal(pair.replication(ONE, "async").reason, "expired");
  assert.equal(pair.state.replication, "sync");
});

test("a record that was long on its way does not undo a later one", () => {
  const pair = Pair.inSync();
  assert.equal(pair.replication(ONE, "async", null, 1, 5).ok, true);
  assert.equal(pair.replication(ONE, "sync", null, 1, 4).reason, "stale");
  assert.equal(pair.state.replication, "async");
  assert.equal(pair.replication(ONE, "sync", null, 1, 6).ok, true);
  pair.acquire(ONE);
  assert.equal(pair.replication(ONE, "async", null, 2, 1).ok, true);
});

test("another database than the recorded one is refused", () => {
  const pair = Pair.inSync();
  assert.equal(pair.replication(ONE, "sync", "9999").reason, "cluster");
  assert.equal(pair.state.cluster, "7301");
});

test("an operator's force takes the standby that is behind, but never a running lease", () => {
  const pair = Pair.inSync();
  pair.replication(ONE, "async");
  pair.force(TWO);
  assert.equal(pair.acquire(TWO).reason, "held");
  assert.equal(pair.pass(LEASE + GUARD).acquire(TWO).ok, true);
  assert.match(pair.events.at(-1) ?? "", /forced: the other one burned down/);
  assert.equal(pair.state.cluster, "7301");
});

test("a force is used once, dies with any grant, and is forgotten after ten minutes", () => {
  const pair = Pair.inSync();
  pair.replication(ONE, "async");
  pair.force(TWO);
  pair.acquire(ONE);
  assert.equal(pair.pass(LEASE + GUARD).acquire(TWO).reason, "behind");
  pair.force(TWO);
  assert.equal(pair.pass(600_000).acquire(TWO).reason, "behind");
});

test("a force for a new database forgets the old one's identifier", () => {
  const pair = Pair.inSync().pass(LEASE + GUARD);
  pair.force(TWO, true);
  pair.acquire(TWO);
  assert.equal(pair.replication(TWO, "async", "9999").ok, true);
});

test("a restarted arbiter trusts no clock: the other node waits a whole lease", () => {
  const pair = Pair.inSync()
    .pass(10 * LEASE)
    .restart();
  assert.equal(pair.acquire(TWO).reason, "held");
  assert.equal(pair.pass(LEASE + GUARD - 1).acquire(TWO).reason, "held");
  assert.equal(pair.pass(1).acquire(TWO).ok, true);
});

test("a restarted arbiter does not keep the holder or a switchover waiting", () => {
  const pair = Pair.inSync().restart();
  assert.equal(pair.renew(ONE).ok, true);
  pair.release(ONE, TWO);
  pair.restart();
  assert.equal(pair.acquire(TWO).ok, true);
});

test("a lease does not last longer because the arbiter's clock was set back", () => {
  const pair = Pair.inSync();
  pair.pass(-3_600_000).restart();
  assert.equal(pair.pass(LEASE + GUARD).acquire(TWO).ok, true);
});

test("a switchover does not last longer because the arbiter's clock was set back", () => {
  const pair = Pair.inSync();
  pair.release(ONE, TWO);
  pair.pass(-3_600_000).restart();
  assert.equal(pair.acquire(ONE).reason, "reserved");
  assert.equal(pair.pass(2 * LEASE).acquire(ONE).ok, true);
});

test("an arbiter that lost its memory says so to the holder, and gives it the lease after a wait", () => {
  const pair = Pair.inSync().wipe();
  assert.equal(pair.renew(ONE, 7).reason, "waking");
  assert.equal(pair.acquire(TWO, { held: 3, seen: 7 }).reason, "waking");
  const early = pair.acquire(ONE, { held: 7, seen: 7 });
  assert.equal(early.reason, "waking");
  assert.equal(early.retryMs, LEASE + GUARD);
  assert.equal(pair.pass(LEASE + GUARD).acquire(TWO, { held: 3, seen: 7 }).reason, "behind");
  assert.equal(pair.acquire(ONE, { held: 7, seen: 7 }).ok, true);
  assert.equal(pair.state.epoch, 8);
  assert.equal(pair.state.replication, "async");
});

test("without memory, of two old primaries the later one gets the lease", () => {
  const pair = new Pair();
  assert.equal(pair.acquire(TWO, { held: 7, seen: 7 }).reason, "waking");
  assert.equal(pair.acquire(ONE, { held: 5, seen: 7 }).reason, "waking");
  pair.pass(LEASE + GUARD);
  assert.equal(pair.acquire(ONE, { held: 5, seen: 7 }).reason, "behind");
  assert.equal(pair.acquire(TWO, { held: 7, seen: 7 }).ok, true);
  assert.equal(pair.state.epoch, 8);
});

test("without memory, a node that has heard of a later primary waits for an operator", () => {
  const pair = new Pair().pass(LEASE + GUARD);
  assert.equal(pair.acquire(ONE, { held: 5, seen: 7 }).reason, "behind");
  pair.force(ONE);
  assert.equal(pair.acquire(ONE, { held: 5, seen: 7 }).ok, true);
  assert.equal(pair.state.epoch, 8);
});
