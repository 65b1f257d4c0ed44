/**
 * The check from outside: what a node's /leader says, seen from Cloudflare's side.
 *
 * @import { Probe } from "./health.js"
 */

const ANSWER_MS = 5_000;
const TRIES = 2;

/**
 * @param {string} url
 * @returns {Promise<Probe>}
 */
export async function probe(url) {
  let found = await once(url);
  for (let tried = 1; tried < TRIES && !found.answers; tried += 1) found = await once(url);
  return found;
}

/**
 * @param {string} url
 * @returns {Promise<Probe>}
 */
async function once(url) {
  try {
    const response = await fetch(url, {
      redirect: "manual",
      signal: AbortSignal.timeout(ANSWER_MS),
      headers: { "User-Agent": "overlord-witness" },
    });
    await response.body?.cancel();
    const leads = response.status === 200;
    // A node answers 200 or 503. Any other status is of something in between.
    return { leads, answers: leads || response.status === 503, detail: `HTTP ${response.status}` };
  } catch (error) {
    const detail = error instanceof Error ? error.name : "no answer";
    return { leads: false, answers: false, detail: `no answer (${detail})` };
  }
}
