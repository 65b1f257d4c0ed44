/**
 * What can be asked of the arbiter, and how a request becomes one of these.
 *
 * @import { Replication } from "./state.js"
 *
 * @typedef {{ kind: "acquire", node: string, held: number, seen: number }} Acquire
 * @typedef {{ kind: "renew", node: string, epoch: number }} Renew
 * @typedef {{ kind: "release", node: string, epoch: number, to: string | null }} Release
 * @typedef {{ kind: "replication", node: string, epoch: number, mode: Replication,
 *   serial: number | null, cluster: string | null }} SetReplication
 * @typedef {{ kind: "force", node: string, reason: string, newCluster: boolean }} ForceNext
 * @typedef {Acquire | Renew | Release | SetReplication | ForceNext} Command
 */

const LARGEST_EPOCH = 2 ** 48;
const LARGEST_SERIAL = 2 ** 48;
const LONGEST_REASON = 200;

/** A request that cannot be understood; the message says what would be right. */
export class BadRequest extends Error {}

/** @type {Record<string, (body: Fields, nodes: readonly string[]) => Command>} */
const READERS = {
  "/v1/lease/acquire": (body, nodes) => ({
    kind: "acquire",
    node: body.node(nodes),
    held: body.count("held_epoch", LARGEST_EPOCH, 0),
    seen: body.count("seen_epoch", LARGEST_EPOCH, 0),
  }),
  "/v1/lease/renew": (body, nodes) => ({
    kind: "renew",
    node: body.node(nodes),
    epoch: body.count("epoch", LARGEST_EPOCH),
  }),
  "/v1/lease/release": (body, nodes) => ({
    kind: "release",
    node: body.node(nodes),
    epoch: body.count("epoch", LARGEST_EPOCH),
    to: body.has("to") ? body.word("to", nodes) : null,
  }),
  "/v1/replication": (body, nodes) => ({
    kind: "replication",
    node: body.node(nodes),
    epoch: body.count("epoch", LARGEST_EPOCH),
    mode: body.word("mode", /** @type {const} */ (["sync", "async"])),
    serial: body.has("serial") ? body.count("serial", LARGEST_SERIAL) : null,
    cluster: body.has("cluster") ? body.text("cluster", /^\d{1,20}$/, "1 to 20 digits") : null,
  }),
  "/v1/force": (body, nodes) => ({
    kind: "force",
    node: body.node(nodes),
    reason: body.text("reason", /^[^\p{Cc}]{1,200}$/u, `1 to ${LONGEST_REASON} characters`),
    newCluster: body.flag("new_cluster"),
  }),
};

export const COMMAND_PATHS = Object.keys(READERS);

/**
 * @param {string} path One of COMMAND_PATHS.
 * @param {unknown} body Parsed JSON.
 * @param {readonly string[]} nodes Names of the pair.
 * @returns {Command}
 * @throws {BadRequest}
 */
export function readCommand(path, body, nodes) {
  const reader = READERS[path];
  if (!reader) throw new BadRequest(`there is no ${path}`);
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new BadRequest("the body must be a JSON object");
  }
  return reader(new Fields(/** @type {Record<string, unknown>} */ (body)), nodes);
}

/** The fields of a body, each checked as it is read. */
class Fields {
  /** @param {Record<string, unknown>} values */
  constructor(values) {
    this.values = values;
  }

  /** @param {string} name */
  has(name) {
    return this.values[name] !== undefined && this.values[name] !== null;
  }

  /** @param {readonly string[]} nodes */
  node(nodes) {
    return this.word("node", nodes);
  }

  /**
   * @template {string} Word
   * @param {string} name
   * @param {readonly Word[]} allowed
   * @returns {Word}
   */
  word(name, allowed) {
    const found = allowed.find((word) => word === this.values[name]);
    if (found === undefined) throw new BadRequest(`${name} must be one of ${allowed.join(", ")}`);
    return found;
  }

  /**
   * @param {string} name
   * @param {number} most
   * @param {number} [missing] Value of a field that is not there; without it the field must be.
   * @returns {number}
   */
  count(name, most, missing) {
    if (missing !== undefined && !this.has(name)) return missing;
    const value = this.values[name];
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > most) {
      throw new BadRequest(`${name} must be a whole number from 0 to ${most}`);
    }
    return value;
  }

  /**
   * @param {string} name
   * @param {RegExp} pattern
   * @param {string} right
   * @returns {string}
   */
  text(name, pattern, right) {
    const value = this.values[name];
    if (typeof value !== "string" || !pattern.test(value)) {
      throw new BadRequest(`${name} must be a text of ${right}`);
    }
    return value;
  }

  /** @param {string} name */
  flag(name) {
    const value = this.values[name] ?? false;
    if (typeof value !== "boolean") throw new BadRequest(`${name} must be true or false`);
    return value;
  }
}
