/**
 * How long things last, and who takes part. Durations are in milliseconds.
 *
 * @typedef {object} Rules
 * @property {readonly string[]} nodes Names of the pair. The first one starts a pair without history.
 * @property {number} ttl Length of a lease.
 * @property {number} guard Waited after a lease before another node may have one, for clocks of the
 *   arbiter's machines that differ, and for an answer that was long on its way.
 * @property {number} reservation How long a switchover keeps the lease for its target.
 * @property {number} ban How long a node that cannot be reached stays without the lease.
 * @property {number} forceLife How long an operator's force waits for its node.
 * @property {number} asking A node that asked for the lease within this time counts as waiting.
 * @property {number} failures Failed checks in a row that cost the lease.
 */

/**
 * @param {readonly string[]} nodes
 * @param {number} leaseSeconds
 * @returns {Rules}
 */
export function rulesFor(nodes, leaseSeconds) {
  const ttl = leaseSeconds * 1000;
  return {
    nodes,
    ttl,
    guard: Math.ceil(ttl / 15),
    reservation: 2 * ttl,
    ban: 20 * ttl,
    forceLife: 600_000,
    asking: 4 * ttl,
    failures: 2,
  };
}
