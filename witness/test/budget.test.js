/** A day of a healthy pair, counted, against what Cloudflare's free plan allows. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { ONE, Witness } from "./support/witness.js";

/** A day, as of 2026-11: pricing of Workers and of Durable Objects. */
const FREE = {
  requests: 100_000,
  rowsWritten: 100_000,
  rowsRead: 5_000_000,
  gigabyteSeconds: 13_000,
};
const MINUTES = 24 * 60;
/** Both nodes ask every three seconds, the fastest that the protocol asks for. */
const ASKS = 20;
/** Both nodes read the whole state four times a minute, for their metrics. */
const LOOKS = 4;
/** Of each limit that is counted, at most this much: the rest is for failovers and people. */
const SHARE = 0.8;

test("a day of a healthy pair stays within the free plan", async (t) => {
  const witness = await Witness.start(t, { steers: true });
  const epoch = await witness.inSync();
  // A history as long as it gets, since reading it is what counts most.
  for (let serial = 1; serial <= 100; serial += 1) {
    const mode = serial % 2 ? "async" : "sync";
    await witness.as(ONE, "/v1/lease/renew", { epoch });
    await witness.as(ONE, "/v1/replication", { epoch, mode, serial });
  }
  await witness.minute();
  const before = (await witness.state()).usage;
  for (let ask = 0; ask < ASKS; ask += 1) {
    assert.equal((await witness.as(ONE, "/v1/lease/renew", { epoch })).status, 200);
    // A standby that may not take over only looks, which reads more than asking for the lease.
    await witness.state();
  }
  for (let look = 0; look < 2 * LOOKS; look += 1) await witness.state();
  await witness.minute();
  const after = (await witness.state()).usage;

  const day = {
    // The Worker is asked once for each of these, and asks the object once.
    requests: (after.requests - before.requests) * MINUTES,
    rowsWritten: (after.rows_written - before.rows_written) * MINUTES,
    rowsRead: (after.rows_read - before.rows_read) * MINUTES,
    // Asked every few seconds, the object never sleeps: 128 MB all day.
    gigabyteSeconds: 0.125 * MINUTES * 60,
  };
  t.diagnostic(`a day: ${JSON.stringify(day)}`);
  assert.ok(day.requests < SHARE * FREE.requests, `${day.requests} requests`);
  assert.ok(day.rowsWritten < SHARE * FREE.rowsWritten, `${day.rowsWritten} rows written`);
  assert.ok(day.rowsRead < SHARE * FREE.rowsRead, `${day.rowsRead} rows read`);
  assert.ok(day.gigabyteSeconds < FREE.gigabyteSeconds, `${day.gigabyteSeconds} GB-s`);
});
