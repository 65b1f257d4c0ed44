/** The Worker and its Durable Object under workerd, the runtime that Cloudflare runs. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { LEASE, ONE, TWO, Witness, pause, until } from "./support/witness.js";

/** Most of the time is spent waiting for leases to run out. */
const TOGETHER = { concurrency: 6 };

describe("the Worker", TOGETHER, () => {
  test("a pair gets its first lease, renews it, and keeps the other node out", async (t) => {
    const witness = await Witness.start(t);
    const early = await witness.acquire(ONE);
    assert.equal(early.status, 409);
    assert.equal(early.body.reason, "waking");
    const grant = await witness.granted(ONE);
    assert.deepEqual(grant, {
      granted: true,
      epoch: 1,
      ttl_ms: LEASE,
      replication: "async",
      cluster: null,
    });
    const refusal = await witness.acquire(TWO);
    assert.equal(refusal.body.reason, "held");
    assert.equal(refusal.body.state.holder, ONE);
    const renewed = await witness.as(ONE, "/v1/lease/renew", { epoch: 1 });
    assert.equal(renewed.status, 200);
    assert.equal(renewed.body.epoch, 1);
  });

  test("the standby takes over when the lease has run out, with a higher epoch", async (t) => {
    const witness = await Witness.start(t);
    await witness.inSync();
    const started = Date.now();
    const grant = await witness.granted(TWO);
    assert.equal(grant.epoch, 2);
    assert.equal(grant.cluster, "7301");
    assert.ok(Date.now() - started > LEASE / 2);
    const late = await witness.as(ONE, "/v1/lease/renew", { epoch: 1 });
    assert.equal(late.body.reason, "superseded");
  });

  test("of fifty nodes asking at once, one side gets the lease", async (t) => {
    const witness = await Witness.start(t);
    await witness.inSync();
    await pause(LEASE + LEASE / 10);
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, number) => {
        const node = number % 2 ? ONE : TWO;
        return witness.acquire(node).then(({ status, body }) => ({ node, status, body }));
      }),
    );
    const granted = answers.filter(({ status }) => status === 200);
    assert.equal(new Set(granted.map(({ node }) => node)).size, 1);
    const epochs = granted.map(({ body }) => body.epoch);
    assert.equal(new Set(epochs).size, epochs.length, "an epoch was given twice");
  });

  test("a switchover takes no waiting", async (t) => {
    const witness = await Witness.start(t);
    const epoch = await witness.inSync();
    const answer = await witness.as(ONE, "/v1/lease/release", { epoch, to: TWO });
    assert.equal(answer.status, 200);
    assert.equal(answer.body.state.reserved_for, TWO);
    assert.equal((await witness.acquire(ONE)).body.reason, "reserved");
    assert.equal((await witness.acquire(TWO)).status, 200);
  });

  test("a recorded async keeps the standby out until an operator forces it", async (t) => {
    const witness = await Witness.start(t);
    const epoch = await witness.inSync();
    await witness.as(ONE, "/v1/replication", { epoch, mode: "async", serial: 1 });
    await pause(LEASE + LEASE / 10);
    assert.equal((await witness.acquire(TWO)).body.reason, "behind");
    const force = { node: TWO, reason: "vps-01 burned down" };
    assert.equal((await witness.post("/v1/force", force, witness.tokens[TWO])).status, 403);
    assert.equal((await witness.post("/v1/force", force, witness.tokens.operator)).status, 200);
    assert.equal((await witness.acquire(TWO)).status, 200);
    const reasons = (await witness.state()).history.map((/** @type {any} */ entry) => entry.reason);
    assert.deepEqual(reasons.slice(0, 2), [
      "granted: forced: vps-01 burned down",
      "an operator forces vps-02: vps-01 burned down",
    ]);
  });

  test("what was granted and recorded survives a restart of the arbiter", async (t) => {
    const witness = await Witness.start(t);
    const epoch = await witness.inSync();
    await witness.halt();
    await pause(2 * LEASE);
    await witness.boot();
    // The lease has run out by every clock, and still the other node waits for one more.
    const refusal = await witness.acquire(TWO);
    assert.equal(refusal.body.reason, "held");
    assert.ok(refusal.body.retry_in_ms > LEASE / 2);
    const state = await witness.state();
    assert.deepEqual(
      [state.last_holder, state.epoch, state.replication, state.cluster],
      [ONE, epoch, "sync", "7301"],
    );
    assert.equal((await witness.granted(TWO)).epoch, epoch + 1);
  });

  test("a node speaks for itself alone", async (t) => {
    const witness = await Witness.start(t);
    const body = { node: TWO };
    const other = await witness.post("/v1/lease/acquire", body, witness.tokens[ONE]);
    assert.equal(other.status, 403);
    const operator = await witness.post("/v1/lease/acquire", body, witness.tokens.operator);
    assert.equal(operator.status, 403);
    for (const token of ["", "unknown", `${witness.tokens[TWO]}x`]) {
      assert.equal((await witness.post("/v1/lease/acquire", body, token)).status, 401);
    }
    assert.equal((await witness.fetch("/v1/state", {})).status, 401);
  });

  test("a token that is being replaced is good beside the new one", async (t) => {
    const witness = await Witness.start(t);
    const answer = await witness.post("/v1/lease/acquire", { node: ONE }, witness.tokens.old);
    assert.equal(answer.status, 409);
  });

  test("a request that cannot be understood is answered with what would be right", async (t) => {
    const witness = await Witness.start(t);
    /** @type {[string, object | string, RegExp][]} */
    const wrong = [
      ["/v1/lease/acquire", "", /not JSON/],
      ["/v1/lease/acquire", "[]", /must be a JSON object/],
      ["/v1/lease/acquire", { node: "vps-03" }, /node must be one of vps-01, vps-02/],
      ["/v1/lease/acquire", { node: ONE, held_epoch: -1 }, /held_epoch must be a whole number/],
      ["/v1/lease/renew", { node: ONE }, /epoch must be/],
      ["/v1/lease/renew", { node: ONE, epoch: 1.5 }, /epoch must be/],
      ["/v1/lease/release", { node: ONE, epoch: 1, to: "x" }, /to must be one of/],
      ["/v1/replication", { node: ONE, epoch: 1, mode: "maybe" }, /mode must be one of/],
      ["/v1/replication", { node: ONE, epoch: 1, mode: "sync", cluster: "x" }, /digits/],
      ["/v1/lease/acquire", `{"node": "${"x".repeat(5000)}"}`, /larger than 4096 bytes/],
    ];
    for (const [path, body, message] of wrong) {
      const answer = await witness.post(path, body, witness.tokens[ONE]);
      assert.equal(answer.status, 400, JSON.stringify(body));
      assert.match(answer.body.error, message);
    }
    const noReason = await witness.post("/v1/force", { node: ONE }, witness.tokens.operator);
    assert.match(noReason.body.error, /reason must be/);
    const headers = { Authorization: `Bearer ${witness.tokens[ONE]}` };
    assert.equal((await witness.fetch("/v1/lease/renew", { headers })).status, 405);
    assert.equal((await witness.fetch("/v2", { headers })).status, 404);
    assert.equal((await witness.state()).epoch, 0);
  });

  test("the page of history is the operator's, and escapes what it shows", async (t) => {
    const witness = await Witness.start(t);
    const force = { node: TWO, reason: "<script>alert(1)</script>" };
    await witness.post("/v1/force", force, witness.tokens.operator);
    /** @param {string} scheme @param {string} token */
    const look = (scheme, token) =>
      witness.fetch("/", { headers: { Authorization: `${scheme} ${token}` } });
    const shown = await look("Basic", btoa(`operator:${witness.tokens.operator}`));
    assert.equal(shown.status, 200);
    const html = await shown.text();
    assert.match(html, /&lt;script&gt;alert\(1\)/);
    assert.doesNotMatch(html, /<script>/);
    assert.equal((await look("Bearer", witness.tokens[ONE])).status, 403);
    const unknown = await witness.fetch("/", {});
    assert.equal(unknown.status, 401);
    assert.match(unknown.headers.get("WWW-Authenticate") ?? "", /^Basic /);
  });

  test("a holder that cannot be reached from outside loses its lease to the standby", async (t) => {
    const witness = await Witness.start(t);
    const epoch = await witness.inSync();
    witness.outside.leader["vps-01.example.com"] = 0;
    await witness.acquire(TWO);
    for (let minute = 0; minute < 2; minute += 1) {
      const renewed = await witness.as(ONE, "/v1/lease/renew", { epoch });
      assert.equal(renewed.status, 200);
      assert.equal(await witness.minute(), "ok");
    }
    const refusal = await witness.as(ONE, "/v1/lease/renew", { epoch });
    assert.equal(refusal.body.reason, "unreachable");
    assert.equal((await witness.granted(TWO)).epoch, epoch + 1);
    assert.equal((await witness.acquire(ONE)).body.reason, "unreachable");
  });

  test("the public name follows a new holder at once", async (t) => {
    const witness = await Witness.start(t, { steers: true });
    await witness.inSync();
    await witness.granted(TWO);
    const granted = Date.now();
    await until(
      () => witness.outside.record.content === "192.0.2.2",
      "the record points at vps-02",
    );
    assert.ok(Date.now() - granted < 3_000);
    await until(async () => (await witness.state()).steering.agrees, "the state says so");
    const { history } = await witness.state();
    assert.equal(history[0].reason, "the public name leads to vps-02");
  });

  test("the name's record is written again until Cloudflare's API takes it", async (t) => {
    const witness = await Witness.start(t, { steers: true });
    await witness.inSync();
    await until(async () => (await witness.state()).steering.agrees, "it leads to vps-01");
    witness.outside.failures = 3;
    await witness.granted(TWO);
    await until(async () => (await witness.state()).steering.attempts > 0, "an attempt failed");
    const { steering } = await witness.state();
    assert.equal(steering.agrees, false);
    assert.match(steering.error, /500 out of order/);
    assert.doesNotMatch(steering.error, new RegExp(witness.outside.token));
    await until(
      () => witness.outside.record.content === "192.0.2.2",
      "the record points at vps-02",
    );
  });

  test("a name that is owed to a new holder is written after a restart of the arbiter", async (t) => {
    const witness = await Witness.start(t, { steers: true });
    await witness.inSync();
    witness.outside.failures = 1_000;
    await witness.granted(TWO);
    await until(async () => (await witness.state()).steering.attempts > 0, "an attempt failed");
    await witness.halt();
    witness.outside.failures = 0;
    await witness.boot();
    await witness.minute();
    await until(
      () => witness.outside.record.content === "192.0.2.2",
      "the record points at vps-02",
    );
  });

  test("a name that somebody else moved is put right within a minute", async (t) => {
    const witness = await Witness.start(t, { steers: true });
    await witness.inSync();
    await until(async () => (await witness.state()).steering.agrees, "it leads to vps-01");
    witness.outside.record.content = "192.0.2.99";
    await witness.minute();
    assert.equal(witness.outside.record.content, "192.0.2.1");
  });

  test("without steering the Worker never calls Cloudflare's API", async (t) => {
    const witness = await Witness.start(t);
    await witness.inSync();
    await witness.granted(TWO);
    await witness.minute();
    assert.deepEqual(
      witness.outside.calls.filter((call) => !call.endsWith("/leader")),
      [],
    );
    assert.equal((await witness.state()).steering.mode, "none");
  });
});
