/**
 * Who may have the lease: a pure function of the state, the time and what is asked.
 *
 * The invariants that all of it serves, in order:
 * 1. never two leases that are not over;
 * 2. no lease for a node that may lack an acknowledged write, unless an operator says so;
 * 3. every grant has a higher epoch than any before.
 *
 * @import { Acquire, Command, ForceNext, Release, Renew, SetReplication } from "./commands.js"
 * @import { Rules } from "./rules.js"
 * @import { State } from "./state.js"
 *
 * @typedef {"held" | "behind" | "reserved" | "unreachable" | "waking" | "superseded" | "released"
 *   | "expired" | "stale" | "cluster"} Reason
 *
 * @typedef {object} Moment
 * @property {number} now
 * @property {number} startedAt When this arbiter came to life. It may have been restarted on a machine
 *   with another clock, so what it recorded before then says nothing about the time.
 *
 * @typedef {object} Decision
 * @property {State} state
 * @property {boolean} ok
 * @property {Reason | null} reason Why not.
 * @property {number | null} retryMs When to ask again, where that is known.
 * @property {{ node: string | null, reason: string } | null} event For the history.
 */

/**
 * @param {State} state
 * @param {Command} command
 * @param {Moment} moment
 * @param {Rules} rules
 * @returns {Decision}
 */
export function decide(state, command, moment, rules) {
  const current = withoutThePast(state, moment.now);
  switch (command.kind) {
    case "acquire":
      return acquire(current, command, moment, rules);
    case "renew":
      return renew(current, command, moment, rules);
    case "release":
      return release(current, command, moment, rules);
    case "replication":
      return setReplication(current, command, moment);
    case "force":
      return force(current, command, moment, rules);
  }
}

/**
 * The state as a restarted arbiter may use it. Its clock may be behind the one that the instants were
 * recorded by; without a bound they would then last for as long as the clocks differ.
 *
 * @param {State} state
 * @param {number} now
 * @param {Rules} rules
 * @returns {State}
 */
export function woken(state, now, rules) {
  const { banned, reserved, force } = state;
  /** @type {<T extends { until: number } | null>(entry: T, life: number) => T} */
  const bounded = (entry, life) => entry && { ...entry, until: Math.min(entry.until, now + life) };
  return {
    ...state,
    expiresAt: Math.min(state.expiresAt, now + rules.ttl),
    banned: bounded(banned, rules.ban),
    reserved: bounded(reserved, rules.reservation),
    force: bounded(force, rules.forceLife),
  };
}

/**
 * When another node than the holder may have the lease.
 *
 * @param {State} state
 * @param {Moment} moment
 * @param {Rules} rules
 * @returns {number}
 */
export function freeAt(state, moment, rules) {
  if (state.holder !== null && state.released) return state.expiresAt;
  return Math.max(state.expiresAt, moment.startedAt + rules.ttl) + rules.guard;
}

/**
 * @param {State} state
 * @param {Acquire} command
 * @param {Moment} moment
 * @param {Rules} rules
 * @returns {Decision}
 */
function acquire(state, command, moment, rules) {
  const { node } = command;
  const { now } = moment;
  if (state.banned?.node === node) {
    return refused(state, "unreachable", state.banned.until - now);
  }
  if (state.reserved && state.reserved.node !== node) {
    return refused(state, "reserved", state.reserved.until - now);
  }
  if (state.holder === null) return first(state, command, moment, rules);
  if (node === state.holder) return granted(state, command, now, rules, "again");
  const free = freeAt(state, moment, rules);
  if (now < free) return refused(state, "held", free - now);
  if (state.force?.node === node) {
    return granted(state, command, now, rules, `forced: ${state.force.reason}`);
  }
  if (state.replication === "async") return refused(state, "behind", null);
  return granted(state, command, now, rules, why(state));
}

/**
 * The first grant of an arbiter that knows nothing: a new pair, or an arbiter that lost its storage
 * while the pair lived on. What the nodes say tells which. Nobody gets a lease before one that the
 * arbiter has forgotten must be over: a node's word that it still has one may have been long on its
 * way.
 *
 * @param {State} before
 * @param {Acquire} command
 * @param {Moment} moment
 * @param {Rules} rules
 * @returns {Decision}
 */
function first(before, command, moment, rules) {
  const { node, held, seen } = command;
  const claims = { ...before.claims, [node]: { held, seen } };
  const changed = JSON.stringify(claims) !== JSON.stringify(before.claims);
  const state = changed ? { ...before, claims } : before;
  const known = Object.values(claims);
  const highest = Math.max(...known.map((claim) => Math.max(claim.held, claim.seen)));
  const wait = freeAt(state, moment, rules) - moment.now;
  if (wait > 0) return refused(state, "waking", wait);
  if (state.force?.node === node) {
    return granted(state, command, moment.now, rules, `forced: ${state.force.reason}`);
  }
  if (held > 0 && held === highest) {
    return granted(state, command, moment.now, rules, "was the last primary");
  }
  if (highest === 0 && node === rules.nodes[0]) {
    return granted(state, command, moment.now, rules, "first of a new pair");
  }
  return refused(state, "behind", null);
}

/**
 * @param {State} state
 * @param {Renew} command
 * @param {Moment} moment
 * @param {Rules} rules
 * @returns {Decision}
 */
function renew(state, command, moment, rules) {
  // Not "superseded": an arbiter without memory cannot know.
  if (state.holder === null) {
    return refused(state, "waking", Math.max(0, freeAt(state, moment, rules) - moment.now));
  }
  const refusal = notTheirs(state, command);
  if (refusal) return refused(state, refusal, null);
  if (state.revoked) return refused(state, "unreachable", null);
  // Over or not: nobody else was granted since, or it would not be theirs.
  return accepted({ ...state, expiresAt: moment.now + rules.ttl });
}

/**
 * @param {State} state
 * @param {Release} command
 * @param {Moment} moment
 * @param {Rules} rules
 * @returns {Decision}
 */
function release(state, command, moment, rules) {
  const { node, epoch, to } = command;
  if (state.released && state.holder === node && state.epoch === epoch) return accepted(state);
  const refusal = notTheirs(state, command);
  if (refusal) return refused(state, refusal, null);
  if (to !== null && to !== node && state.replication === "async") {
    return refused(state, "behind", null);
  }
  if (to !== null && state.banned?.node === to) {
    return refused(state, "unreachable", state.banned.until - moment.now);
  }
  const reserved = to === null ? null : { node: to, until: moment.now + rules.reservation };
  return accepted(
    { ...state, released: true, expiresAt: moment.now, reserved },
    { node, reason: to === null ? "released" : `released to ${to}` },
  );
}

/**
 * @param {State} state
 * @param {SetReplication} command
 * @param {Moment} moment
 * @returns {Decision}
 */
function setReplication(state, command, moment) {
  const refusal = notTheirs(state, command);
  if (refusal) return refused(state, refusal, null);
  if (moment.now >= state.expiresAt) return refused(state, "expired", null);
  // A request that was long on its way must not undo a later one.
  const serial = command.serial ?? state.serial;
  if (serial < state.serial) return refused(state, "stale", null);
  if (command.cluster !== null && state.cluster !== null && command.cluster !== state.cluster) {
    return refused(state, "cluster", null);
  }
  const cluster = command.cluster ?? state.cluster;
  const event =
    state.replication === command.mode
      ? null
      : { node: command.node, reason: `replication is ${command.mode}` };
  return accepted({ ...state, replication: command.mode, serial, cluster }, event);
}

/**
 * @param {State} state
 * @param {ForceNext} command
 * @param {Moment} moment
 * @param {Rules} rules
 * @returns {Decision}
 */
function force(state, command, moment, rules) {
  const { node, reason, newCluster } = command;
  return accepted(
    {
      ...state,
      force: { node, reason, newCluster, until: moment.now + rules.forceLife },
      banned: state.banned?.node === node ? null : state.banned,
    },
    { node, reason: `an operator forces ${node}: ${reason}` },
  );
}

/**
 * @param {State} state
 * @param {Acquire} command
 * @param {number} now
 * @param {Rules} rules
 * @param {string} reason
 * @returns {Decision}
 */
function granted(state, command, now, rules, reason) {
  const { node, held, seen } = command;
  const force = state.force?.node === node ? state.force : null;
  return accepted(
    {
      ...state,
      epoch: Math.max(state.epoch, held, seen) + 1,
      holder: node,
      expiresAt: now + rules.ttl,
      released: false,
      revoked: false,
      banned: state.banned?.node === node ? null : state.banned,
      reserved: null,
      // Used, or overtaken by events: a force never waits for a later failure.
      force: null,
      // From here on the other node lacks what this one takes, until this one says otherwise.
      replication: node === state.holder ? state.replication : "async",
      serial: 0,
      cluster: force?.newCluster ? null : state.cluster,
      claims: {},
      health: { failures: 0, detail: "not checked yet" },
    },
    { node, reason: `granted: ${reason}` },
  );
}

/**
 * @param {State} state
 * @param {{ node: string, epoch: number }} command
 * @returns {Reason | null} Why a command of a holder does not come from the holder.
 */
function notTheirs(state, { node, epoch }) {
  if (state.holder !== node || state.epoch !== epoch) return "superseded";
  return state.released ? "released" : null;
}

/** @param {State} state */
function why(state) {
  if (state.revoked) return `${state.holder} could not be reached`;
  return state.released ? `${state.holder} released it` : `${state.holder} let it run out`;
}

/**
 * The state without what has run out.
 *
 * @param {State} state
 * @param {number} now
 * @returns {State}
 */
function withoutThePast(state, now) {
  const over = (/** @type {{ until: number } | null} */ entry) => entry && now >= entry.until;
  if (!over(state.banned) && !over(state.reserved) && !over(state.force)) return state;
  return {
    ...state,
    banned: over(state.banned) ? null : state.banned,
    reserved: over(state.reserved) ? null : state.reserved,
    force: over(state.force) ? null : state.force,
  };
}

/**
 * @param {State} state
 * @param {Decision["event"]} [event]
 * @returns {Decision}
 */
function accepted(state, event = null) {
  return { state, ok: true, reason: null, retryMs: null, event };
}

/**
 * @param {State} state
 * @param {Reason} reason
 * @param {number | null} retryMs
 * @returns {Decision}
 */
function refused(state, reason, retryMs) {
  return { state, ok: false, reason, retryMs, event: null };
}
