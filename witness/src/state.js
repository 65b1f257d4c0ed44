/**
 * What the arbiter keeps. Instants are milliseconds of the arbiter's own clock; none leaves it but
 * as a duration, except `at` in the history, which is for people.
 *
 * @typedef {"sync" | "async"} Replication
 *
 * @typedef {object} Force An operator's word that a node may take the lease though it may be behind.
 * @property {string} node
 * @property {string} reason
 * @property {number} until Forgotten from then on.
 * @property {boolean} newCluster The node's database is another one than the recorded.
 *
 * @typedef {object} Claim What a node says it knows, asked for only where the arbiter knows nothing.
 * @property {number} held Highest epoch under which it was primary itself.
 * @property {number} seen Highest epoch it has heard of.
 *
 * @typedef {object} Health What the check from outside found of the holder.
 * @property {number} failures In a row.
 * @property {string} detail Of the last check.
 *
 * @typedef {object} State
 * @property {number} epoch Of the last grant; 0 before the first.
 * @property {string | null} holder Whom the last grant was for, whether it still runs or not.
 * @property {number} expiresAt End of the holder's lease.
 * @property {boolean} released The holder gave it back: it has stopped taking writes.
 * @property {boolean} revoked The lease is not renewed any more, and runs out.
 * @property {{ node: string, until: number } | null} banned Cannot have the lease for a while.
 * @property {{ node: string, until: number } | null} reserved The only one that can have it.
 * @property {Force | null} force
 * @property {Replication} replication Whether the other node has every acknowledged write.
 * @property {number} serial Of the last record of the replication under this epoch.
 * @property {string | null} cluster System identifier of the pair's PostgreSQL.
 * @property {Record<string, Claim>} claims By node, until the first grant.
 * @property {Health} health
 *
 * @typedef {object} HistoryEntry
 * @property {number} epoch
 * @property {string | null} node
 * @property {string} at ISO 8601, for people.
 * @property {string} reason
 */

/** @returns {State} The state of an arbiter that knows nothing. */
export function emptyState() {
  return {
    epoch: 0,
    holder: null,
    expiresAt: 0,
    released: false,
    revoked: false,
    banned: null,
    reserved: null,
    force: null,
    // Nobody has said that the other node has everything, so it may not be assumed.
    replication: "async",
    serial: 0,
    cluster: null,
    claims: {},
    health: { failures: 0, detail: "not checked yet" },
  };
}
