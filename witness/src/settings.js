/**
 * What the program binds to the Worker, checked once.
 *
 * @import { Rules } from "./rules.js"
 * @import { Zone } from "./steering.js"
 *
 * @typedef {object} Env Bindings as they come.
 * @property {DurableObjectNamespace<import("./arbiter.js").Arbiter>} ARBITER
 * @property {string} NODES JSON: by node, {address, leader}, in the order of the pair.
 * @property {string} LEASE_SECONDS
 * @property {string} STEERING "worker" or "none".
 * @property {string} [NODE_TOKENS] JSON: by node, its tokens, newest first.
 * @property {string} [OPERATOR_TOKEN]
 * @property {string} [CLOUDFLARE_API]
 * @property {string} [ZONE_ID]
 * @property {string} [PUBLIC_NAME]
 * @property {string} [DNS_TOKEN]
 *
 * @typedef {object} Settings
 * @property {Record<string, { address: string, leader: string }>} nodes
 * @property {Rules} rules
 * @property {Zone | null} zone Null where somebody else steers.
 */

import { rulesFor } from "./rules.js";

/**
 * @param {Env} env
 * @returns {Settings}
 */
export function readSettings(env) {
  const nodes = JSON.parse(env.NODES);
  return {
    nodes,
    rules: rulesFor(Object.keys(nodes), Number(env.LEASE_SECONDS)),
    zone:
      env.STEERING === "worker"
        ? {
            api: bound(env, "CLOUDFLARE_API"),
            token: bound(env, "DNS_TOKEN"),
            zoneId: bound(env, "ZONE_ID"),
            name: bound(env, "PUBLIC_NAME"),
          }
        : null,
  };
}

/**
 * @param {Env} env
 * @param {"CLOUDFLARE_API" | "DNS_TOKEN" | "ZONE_ID" | "PUBLIC_NAME"} name
 * @returns {string}
 */
function bound(env, name) {
  const value = env[name];
  if (!value) throw new Error(`the binding ${name} is missing; pulumi up makes it`);
  return value;
}
