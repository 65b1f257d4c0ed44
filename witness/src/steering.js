/**
 * The public name follows the holder: the proxied record gets the address of its node.
 *
 * @typedef {object} Zone Where the record is, and how to write it.
 * @property {string} api Base URL of Cloudflare's API.
 * @property {string} token
 * @property {string} zoneId
 * @property {string} name The public name.
 *
 * @typedef {object} SteeringState
 * @property {string | null} wanted The node that the name should lead to.
 * @property {string | null} applied The node that it led to when last looked at; null for elsewhere.
 * @property {number} attempts Failed in a row.
 * @property {string | null} error Of the last attempt.
 */

const API_ANSWER_MS = 5_000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15_000;

/** @returns {SteeringState} */
export function emptySteering() {
  return { wanted: null, applied: null, attempts: 0, error: null };
}

/**
 * How long to wait before the next attempt.
 *
 * @param {number} attempts Failed in a row.
 * @returns {number} Milliseconds.
 */
export function retryDelay(attempts) {
  return Math.min(FIRST_RETRY_MS * 2 ** Math.max(0, attempts - 1), LONGEST_RETRY_MS);
}

/**
 * Look where the name leads, and lead it to the address unless it does already.
 *
 * @param {Zone} zone
 * @param {string} address IPv4.
 * @returns {Promise<boolean>} Whether anything had to be written.
 * @throws {Error} That says what failed, without the token.
 */
export async function lead(zone, address) {
  const records = `${zone.api}/zones/${zone.zoneId}/dns_records`;
  const query = new URLSearchParams({ name: zone.name, type: "A" });
  const found = await call(zone, "GET", `${records}?${query}`);
  const [record, ...more] = Array.isArray(found) ? found : [];
  if (!record) throw new Error(`there is no A record ${zone.name}; pulumi up makes it`);
  if (more.length > 0) throw new Error(`there are ${more.length + 1} A records ${zone.name}`);
  if (record.content === address) return false;
  // The content alone: all other fields belong to the program.
  await call(zone, "PATCH", `${records}/${record.id}`, { content: address });
  return true;
}

/**
 * @param {Zone} zone
 * @param {string} method
 * @param {string} url
 * @param {object} [body]
 * @returns {Promise<any>} The result in the answer.
 */
async function call(zone, method, url, body) {
  /** @type {RequestInit} */
  const request = {
    method,
    headers: { Authorization: `Bearer ${zone.token}`, "Content-Type": "application/json" },
    signal: AbortSignal.timeout(API_ANSWER_MS),
    redirect: "manual",
    ...(body && { body: JSON.stringify(body) }),
  };
  const response = await fetch(url, request);
  /** @type {any} */
  const answer = await response.json().catch(() => null);
  if (!response.ok || !answer?.success) {
    const told = (answer?.errors ?? []).map((/** @type {any} */ error) => error.message).join("; ");
    throw new Error(`Cloudflare's API: ${method} of the record: ${response.status} ${told}`.trim());
  }
  return answer.result;
}
