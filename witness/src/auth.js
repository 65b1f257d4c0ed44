/**
 * Who asks: a node by its token, an operator by theirs, or nobody.
 *
 * @import { Env } from "./settings.js"
 *
 * @typedef {{ node: string } | "operator" | null} Caller
 */

/**
 * @param {Request} request
 * @param {Env} env
 * @returns {Promise<Caller>}
 */
export async function callerOf(request, env) {
  const given = tokenOf(request.headers.get("Authorization") ?? "");
  if (given === "") return null;
  const digest = await sha256(given);
  /** @type {Record<string, string[]>} */
  const nodes = JSON.parse(env.NODE_TOKENS ?? "{}");
  /** @type {Caller} */
  let caller = null;
  // Every token is compared, whichever matches: the time taken tells nothing.
  for (const [node, tokens] of Object.entries(nodes)) {
    for (const token of tokens) if (await matches(token, digest)) caller = { node };
  }
  if (await matches(env.OPERATOR_TOKEN ?? "", digest)) caller = "operator";
  return caller;
}

/**
 * A bearer token, or for a browser the password of basic authentication.
 *
 * @param {string} header
 * @returns {string} Empty where there is none.
 */
function tokenOf(header) {
  const [scheme = "", value = ""] = header.split(" ", 2);
  if (scheme.toLowerCase() === "bearer") return value;
  if (scheme.toLowerCase() !== "basic") return "";
  try {
    return atob(value).replace(/^[^:]*:/, "");
  } catch {
    return "";
  }
}

/**
 * @param {string} token
 * @param {ArrayBuffer} digest
 */
async function matches(token, digest) {
  // An empty binding opens nothing.
  return crypto.subtle.timingSafeEqual(await sha256(token), digest) && token !== "";
}

/** @param {string} text */
function sha256(text) {
  return crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
}
