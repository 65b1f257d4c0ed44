/**
 * The Worker: who asks, what, and is it theirs to ask. Everything else is the arbiter's.
 *
 * @import { Caller } from "./auth.js"
 * @import { Env } from "./settings.js"
 */

import { Arbiter } from "./arbiter.js";
import { callerOf } from "./auth.js";
import { BadRequest, COMMAND_PATHS, readCommand } from "./commands.js";
import { page } from "./page.js";
import { KEPT_ENTRIES } from "./storage.js";

const LARGEST_BODY = 4096;
const SHORT_HISTORY = 20;
const NEAR = "weur"; // where the servers are; a hint for the first start of the object only

/** @type {ExportedHandler<Env>} */
const worker = {
  async fetch(request, env) {
    const caller = await callerOf(request, env);
    if (caller === null) {
      const challenge = { "WWW-Authenticate": 'Basic realm="overlord", charset="UTF-8"' };
      return failure(401, "the token is missing or unknown", challenge);
    }
    const { pathname } = new URL(request.url);
    if (COMMAND_PATHS.includes(pathname)) {
      if (request.method !== "POST") return failure(405, "use POST", { Allow: "POST" });
      return command(request, env, caller, pathname);
    }
    if (pathname !== "/" && pathname !== "/v1/state")
      return failure(404, `there is no ${pathname}`);
    if (request.method !== "GET") return failure(405, "use GET", { Allow: "GET" });
    if (pathname === "/v1/state") return json(200, await arbiter(env).view(SHORT_HISTORY));
    if (caller !== "operator") return failure(403, "this page is for operators");
    return new Response(page(await arbiter(env).view(KEPT_ENTRIES)), {
      headers: {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        "Cache-Control": "no-store",
      },
    });
  },

  async scheduled(_controller, env) {
    await arbiter(env).check();
  },
};

export default worker;
export { Arbiter };

/** @param {Env} env */
function arbiter(env) {
  return env.ARBITER.get(env.ARBITER.idFromName("pair"), { locationHint: NEAR });
}

/**
 * @param {Request} request
 * @param {Env} env
 * @param {Caller} caller
 * @param {string} path
 * @returns {Promise<Response>}
 */
async function command(request, env, caller, path) {
  try {
    const asked = readCommand(path, await bodyOf(request), Object.keys(JSON.parse(env.NODES)));
    const allowed =
      asked.kind === "force"
        ? caller === "operator"
        : typeof caller === "object" && caller?.node === asked.node;
    if (!allowed) {
      const whose = asked.kind === "force" ? "an operator" : asked.node;
      return failure(403, `only ${whose} may ask for this`);
    }
    const reply = await arbiter(env).ask(asked);
    return json(reply.status, reply.body);
  } catch (error) {
    if (error instanceof BadRequest) return failure(400, error.message);
    throw error;
  }
}

/**
 * @param {Request} request
 * @returns {Promise<unknown>}
 * @throws {BadRequest}
 */
async function bodyOf(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength;
    if (size > LARGEST_BODY) throw new BadRequest(`the body is larger than ${LARGEST_BODY} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(await new Blob(chunks).text());
  } catch {
    throw new BadRequest("the body is not JSON");
  }
}

/**
 * @param {number} status
 * @param {unknown} body
 * @param {Record<string, string>} [headers]
 */
function json(status, body, headers = {}) {
  return Response.json(body, { status, headers: { "Cache-Control": "no-store", ...headers } });
}

/**
 * @param {number} status
 * @param {string} error
 * @param {Record<string, string>} [headers]
 */
function failure(status, error, headers) {
  return json(status, { error }, headers);
}
