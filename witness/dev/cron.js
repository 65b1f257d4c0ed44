/**
 * The cron trigger, which the runtime on its own does not have: POST here is a minute passed.
 */

export default {
  /**
   * @param {Request} request
   * @param {{ WITNESS: any }} env
   */
  async fetch(request, env) {
    if (request.method !== "POST") return new Response("use POST\n", { status: 405 });
    const { outcome } = await env.WITNESS.scheduled({ cron: "* * * * *" });
    return Response.json({ outcome });
  },
};
