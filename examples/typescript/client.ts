/**
 * A client of the API whose types are generated from its description (`npm run generate` writes `api.ts`). This file adds
 * what every client needs: a token with each request, and errors as exceptions with a code.
 */

import createClient from "openapi-fetch";
import type { components, paths } from "./api.ts";

export type Schemas = components["schemas"];

/** An answer other than a success: `application/problem+json`. `problem.code` is stable; the texts are for people. */
export class ProblemError extends Error {
  readonly problem: Schemas["Problem"];
  readonly response: Response;

  constructor(problem: Schemas["Problem"], response: Response) {
    const fields = (problem.errors ?? []).map(({ field, reason }) => `${field} ${reason}`);
    super([problem.detail ?? problem.title, ...fields].join("; "));
    this.problem = problem;
    this.response = response;
  }

  /** Seconds to wait before trying again, if the answer gives them: when a limit is used up, or a store is unreachable. */
  get retryAfter(): number | undefined {
    const seconds = this.response.headers.get("retry-after");
    return seconds === null ? undefined : Number(seconds);
  }
}

/** A client with this session's token, or without one. */
export function client(baseUrl: string, token?: string) {
  return createClient<paths>({ baseUrl, headers: token ? { authorization: `Bearer ${token}` } : {} });
}

export type Client = ReturnType<typeof client>;

interface Answer<Data> {
  data?: Data;
  error?: unknown;
  response: Response;
}

/** Returns the answer's data, or throws a `ProblemError`. */
export async function ok<Data>(request: Promise<Answer<Data>>): Promise<NonNullable<Data>> {
  return (await whole(request)).data;
}

/** Like `ok`, with the response for its headers. */
export async function whole<Data>(request: Promise<Answer<Data>>): Promise<{ data: NonNullable<Data>; response: Response }> {
  const { data, error, response } = await request;
  if (!response.ok) throw new ProblemError(error as Schemas["Problem"], response);
  return { data: data as NonNullable<Data>, response };
}

/** The messages of a page without those of people whom the caller has blocked: of these the API shows only that they are there. */
export function shown<Item extends object>(items: Item[]): Exclude<Item, { hidden: boolean }>[] {
  return items.filter((item): item is Exclude<Item, { hidden: boolean }> => !("hidden" in item));
}

/** Returns the problem that the request is expected to be answered with. */
export async function problem(code: Schemas["Problem"]["code"], request: Promise<Answer<unknown>>): Promise<ProblemError> {
  const { error, response } = await request;
  const found = response.ok ? undefined : new ProblemError(error as Schemas["Problem"], response);
  if (found?.problem.code === code) return found;
  throw new Error(`${code} was expected, and ${response.status} answered: ${JSON.stringify(error)}`);
}
