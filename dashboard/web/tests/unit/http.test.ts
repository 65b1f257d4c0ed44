import { describe, expect, test } from "vitest";

import { ApiClient, ApiError } from "../../src/http";

const answer =
  (status: number, body: unknown, headers: Record<string, string> = {}) =>
  () =>
    Promise.resolve(
      new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers }),
    );

async function errorOf(promise: Promise<unknown>): Promise<ApiError> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ApiError);
  return error as ApiError;
}

describe("the API client", () => {
  test("sends the token in a header and never in the address", async () => {
    let seen: { path: string; init: RequestInit | undefined } | null = null;
    const client = new ApiClient(
      () => "abc",
      () => {},
      (path, init) => {
        seen = { path, init };
        return answer(200, { a: 1 })();
      },
    );
    expect(await client.json("/api/x")).toEqual({ a: 1 });
    expect(seen!.path).toBe("/api/x");
    expect(seen!.init?.headers).toMatchObject({ Authorization: "Bearer abc" });
  });

  test("gives the server's own words, its reason and when to come again", async () => {
    const problem = { detail: "This node is not the leader.", reason: "not_leader" };
    const client = new ApiClient(
      () => null,
      () => {},
      answer(503, problem, { "Retry-After": "5" }),
    );
    const error = await errorOf(client.json("/api/x"));
    expect(error).toMatchObject({
      message: "This node is not the leader.",
      status: 503,
      reason: "not_leader",
      retryAfterSeconds: 5,
    });
  });

  test("names each field that was wrong", async () => {
    const problem = { detail: "Not valid.", errors: [{ field: "name", problem: "too long" }] };
    const client = new ApiClient(
      () => null,
      () => {},
      answer(422, problem),
    );
    expect((await errorOf(client.json("/api/x"))).message).toBe("Not valid. name: too long");
  });

  test("does not show a proxy's page as an error", async () => {
    const client = new ApiClient(
      () => null,
      () => {},
      answer(502, "<html>Bad gateway</html>"),
    );
    expect((await errorOf(client.json("/api/x"))).message).toBe("/api/x answered 502.");
  });

  test("says so when nothing answers", async () => {
    const client = new ApiClient(
      () => null,
      () => {},
      () => Promise.reject(new TypeError("fetch failed")),
    );
    const error = await errorOf(client.json("/api/x"));
    expect(error.status).toBe(0);
    expect(error.message).toContain("cannot be reached");
  });

  test("says so when the answer is not what it should be", async () => {
    const client = new ApiClient(
      () => null,
      () => {},
      answer(200, "<html>"),
    );
    expect((await errorOf(client.json("/api/x"))).message).toContain("not JSON");
  });

  test("reports a refused token, and nothing else", async () => {
    const refused: number[] = [];
    const note = (error: ApiError) => refused.push(error.status);
    await errorOf(new ApiClient(() => "x", note, answer(401, {})).json("/api/x"));
    await errorOf(new ApiClient(() => "x", note, answer(503, {})).json("/api/x"));
    expect(refused).toEqual([401]);
  });
});
