/**
 * What follows from the check from outside: a pure function.
 *
 * A node that can talk out but cannot be reached from outside serves nobody, so it loses its lease.
 * It loses it only where that helps: the other node answers, asks for the lease, and has every
 * acknowledged write. Otherwise a broken check would take the whole pair down.
 *
 * @import { Rules } from "./rules.js"
 * @import { State } from "./state.js"
 *
 * @typedef {object} Probe
 * @property {boolean} leads It says that it takes writes.
 * @property {boolean} answers It is there, whatever it says.
 * @property {string} detail
 *
 * @typedef {object} Finding
 * @property {State} state
 * @property {{ node: string, reason: string } | null} event
 */

/**
 * @param {State} state
 * @param {Record<string, Probe>} probes By node.
 * @param {Record<string, number>} askedAt When each node last asked for the lease.
 * @param {number} now
 * @param {Rules} rules
 * @returns {Finding}
 */
export function judge(state, probes, askedAt, now, rules) {
  const lifted = liftBan(state, probes);
  const found = judgeHolder(lifted.state, probes, askedAt, now, rules);
  return { state: found.state, event: found.event ?? lifted.event };
}

/**
 * A node that was replaced because it could not be reached, and can be again, may be needed soon.
 *
 * @param {State} state
 * @param {Record<string, Probe>} probes
 * @returns {Finding}
 */
function liftBan(state, probes) {
  const node = state.banned?.node;
  if (node === undefined || node === state.holder || !probes[node]?.answers) {
    return { state, event: null };
  }
  return { state: { ...state, banned: null }, event: { node, reason: `${node} can be reached` } };
}

/**
 * @param {State} state
 * @param {Record<string, Probe>} probes
 * @param {Record<string, number>} askedAt
 * @param {number} now
 * @param {Rules} rules
 * @returns {Finding}
 */
function judgeHolder(state, probes, askedAt, now, rules) {
  const holder = state.holder;
  const other = rules.nodes.find((node) => node !== holder);
  const probe = holder === null ? undefined : probes[holder];
  if (holder === null || other === undefined || probe === undefined) return { state, event: null };
  const waiting = now - (askedAt[other] ?? -Infinity) < rules.asking;
  const ready = waiting && state.replication === "sync" && probes[other]?.answers === true;

  if (state.revoked) {
    if (ready) return { state, event: null };
    // Nobody takes over, so a holder that may be reachable after all beats none.
    return {
      state: { ...state, revoked: false, banned: null },
      event: {
        node: holder,
        reason: `${holder} may have the lease again: ${other} cannot take it`,
      },
    };
  }
  const failures = probe.leads ? 0 : state.health.failures + 1;
  const checked = { ...state, health: { failures, detail: probe.detail } };
  const running = now < state.expiresAt && !state.released;
  if (!running || failures < rules.failures || !ready) return { state: checked, event: null };
  return {
    state: { ...checked, revoked: true, banned: { node: holder, until: now + rules.ban } },
    event: { node: holder, reason: `${holder} cannot be reached from outside: ${probe.detail}` },
  };
}
