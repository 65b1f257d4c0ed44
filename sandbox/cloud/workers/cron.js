// The runtime on its own has no cron: POST here with ?cron=EXPRESSION runs the Worker's handler.

export default {
  async fetch(request, env) {
    if (request.method !== "POST") return new Response("use POST\n", { status: 405 });
    const cron = new URL(request.url).searchParams.get("cron") ?? "";
    const { outcome } = await env.WORKER.scheduled({ cron });
    return Response.json({ outcome });
  },
};
