/** Asks the API and turns what goes wrong into one kind of error. */

/** A request that did not give what was asked for. `message` is for the operator. */
export class ApiError extends Error {
  /**
   * @param status HTTP status; 0 when nothing answered.
   * @param reason the API's word for it, for programs.
   * @param retryAfterSeconds when the server says to come again.
   */
  constructor(
    message: string,
    readonly status: number,
    readonly reason: string | null = null,
    readonly retryAfterSeconds: number | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }

  get unauthorised(): boolean {
    return this.status === 401 || this.status === 403;
  }
}

export type Fetch = (input: string, init?: RequestInit) => Promise<Response>;

export interface RequestOptions {
  method?: "GET" | "POST" | "PATCH" | "DELETE";
  body?: unknown;
  signal?: AbortSignal;
  /** In milliseconds. */
  timeout?: number;
}

const TIMEOUT_MS = 15_000;

/** Sends requests with the operator's token. */
export class ApiClient {
  constructor(
    private readonly token: () => string | null,
    private readonly onUnauthorised: (error: ApiError) => void = () => {},
    private readonly fetcher: Fetch = (input, init) => fetch(input, init),
  ) {}

  /**
   * The answer's JSON; undefined for an empty answer.
   * @throws ApiError
   */
  async json<T>(path: string, options: RequestOptions = {}): Promise<T> {
    const timeout = AbortSignal.timeout(options.timeout ?? TIMEOUT_MS);
    const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
    const response = await this.open(path, { ...options, signal });
    if (response.status === 204) return undefined as T;
    try {
      return (await response.json()) as T;
    } catch (error) {
      throw asApiError(error, path);
    }
  }

  /**
   * The answer with its body unread, for a stream. Takes no timeout of its own.
   * @throws ApiError
   */
  async open(path: string, options: RequestOptions = {}): Promise<Response> {
    const headers: Record<string, string> = {};
    const token = this.token();
    if (token) headers["Authorization"] = `Bearer ${token}`;
    if (options.body !== undefined) headers["Content-Type"] = "application/json";
    const init: RequestInit = {
      method: options.method ?? "GET",
      headers,
      cache: "no-store",
      credentials: "omit",
    };
    if (options.body !== undefined) init.body = JSON.stringify(options.body);
    if (options.signal) init.signal = options.signal;

    let response: Response;
    try {
      response = await this.fetcher(path, init);
    } catch (error) {
      throw asApiError(error, path);
    }
    if (!response.ok) {
      const error = await errorOf(response, path);
      if (error.unauthorised) this.onUnauthorised(error);
      throw error;
    }
    return response;
  }
}

/** The operator's sentence for anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whether the request was given up by the page itself. */
export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

function asApiError(error: unknown, path: string): unknown {
  if (isAbort(error) || error instanceof ApiError) return error;
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return new ApiError(`${path} did not answer in time. The node may be busy; try again.`, 0);
  }
  if (error instanceof SyntaxError) {
    return new ApiError(`${path} answered with something that is not JSON.`, 0);
  }
  return new ApiError("The server cannot be reached. Check your connection.", 0);
}

async function errorOf(response: Response, path: string): Promise<ApiError> {
  let detail = `${path} answered ${response.status}.`;
  let reason: string | null = null;
  try {
    const problem = (await response.json()) as {
      detail?: unknown;
      reason?: unknown;
      errors?: { field: string; problem: string }[];
    };
    if (typeof problem.detail === "string") detail = problem.detail;
    if (typeof problem.reason === "string") reason = problem.reason;
    if (Array.isArray(problem.errors)) {
      detail += " " + problem.errors.map((one) => `${one.field}: ${one.problem}`).join("; ");
    }
  } catch {
    // A proxy's page and not our API's answer.
  }
  const after = Number(response.headers.get("Retry-After"));
  return new ApiError(detail, response.status, reason, after > 0 ? after : null);
}
