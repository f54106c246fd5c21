// The platform's objects, in as few calls from Wasm as possible: each call between Wasm and JavaScript costs more than what
// it does here. No policy, and nothing of Wasm's is kept: the Worker and all objects of an isolate share one Wasm instance,
// and may get another one between two calls.

// Of the module that wasm-bindgen makes, which imports this one. Its functions always enter the living instance.
import { carry_on } from "../../../index.js";

/** The head of a request, on its way to an object. */
const HEAD = "optimist-head";
/** A forward that an object hands over. No answer of the pipeline has this header. */
const FORWARD = "optimist-forward";
/** The text of a header that the pipeline reads: visible ASCII, spaces and tabs. */
const READABLE = /^[\t\x20-\x7e]*$/;
/** Requests that this isolate may have waiting on one object. More would only wait longer. */
const QUEUED = 1_024;
/** Milliseconds after which a forward that nobody finishes ends. Longer than its own deadlines together. */
const ABANDONED = 60_000;

/**
 * Requests of this isolate that wait on each object, by the object's name. One whose client is gone may never go on: it
 * counts until its deadline.
 */
const waiting = new Map();

/** A place in an object's queue; null if there is none. */
function enqueue(name, deadline) {
  if (!waiting.has(name)) waiting.set(name, new Set());
  const queue = waiting.get(name);
  const now = Date.now();
  if (queue.size >= QUEUED) {
    for (const place of queue) if (place.until < now) queue.delete(place);
    if (queue.size >= QUEUED) return null;
  }
  const place = { until: now + deadline, leave: () => queue.delete(place) };
  queue.add(place);
  return place;
}

/** Who asks: the client's address and, after a line break, the authorization. Of a request with a body also method and target. */
export function who(request, address) {
  const from = address ?? request.headers.get("cf-connecting-ip") ?? "";
  const who = `${from}\n${request.headers.get("authorization") ?? ""}`;
  return request.body === null ? who : `${who}\n${request.method} ${targetOf(request)}`;
}

function targetOf(request) {
  const url = request.url;
  const start = url.indexOf("/", url.indexOf("://") + 3);
  const end = url.indexOf("#");
  return start < 0 ? "/" : url.slice(start, end < 0 ? undefined : end);
}

/**
 * The request's id, method, target and client's address, then names and values of headers in turn, as a JSON array of strings.
 * Several lines of one header are joined, as the platform does.
 */
function headOf(request, id, who) {
  const head = [id, request.method, targetOf(request), who.slice(0, who.indexOf("\n"))];
  for (const [name, value] of request.headers) {
    if (READABLE.test(value)) head.push(name, value);
  }
  return JSON.stringify(head);
}

function object(objects, name, location) {
  return objects.getByName(name, location === undefined ? undefined : { locationHint: location });
}

/**
 * Asks an object, and returns its answer as it is. Whatever is not an answer goes on with
 * `carry_on(request, env, head, found, body)`, where `found` is the response with a forward, or "late" from an object with too
 * much to do, or "lost" without one.
 *
 * With a `limit` the body is collected first, within `patience` milliseconds, and goes along. One that is too long, or late, needs
 * no object.
 */
export function serve(request, env, name, location, id, who, deadline, limit, patience) {
  const head = headOf(request, id, who);
  if (limit === undefined) return ask(request, env, name, location, head, deadline);
  return collect(request, limit, patience).then((body) =>
    typeof body === "string"
      ? carry(request, env, head, "lost", body)
      : ask(request, env, name, location, head, deadline, body),
  );
}

/** The whole body; or "large" as soon as it is longer than `limit`, or "slow". */
async function collect(request, limit, patience) {
  const whole = new Uint8Array(limit);
  let length = 0;
  let timer;
  const slow = new Promise((resolve) => {
    timer = setTimeout(resolve, patience, "slow");
  });
  const reader = request.body.getReader();
  try {
    for (;;) {
      const piece = await Promise.race([reader.read(), slow]);
      if (piece === "slow" || (!piece.done && length + piece.value.length > limit)) {
        reader.cancel().catch(() => {});
        return piece === "slow" ? piece : "large";
      }
      if (piece.done) return whole.subarray(0, length);
      whole.set(piece.value, length);
      length += piece.value.length;
    }
  } catch {
    // A client that disconnects midway has sent no request: the part received will not parse.
    return whole.subarray(0, length);
  } finally {
    clearTimeout(timer);
  }
}

function ask(request, env, name, location, head, deadline, body) {
  const place = enqueue(name, deadline);
  if (place === null) return carry(request, env, head, "late", body);
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, deadline, "lost");
  });
  const asked = object(env.REDIS, name, location)
    .fetch("https://object/", { method: body === undefined ? "GET" : "POST", headers: { [HEAD]: head }, body })
    .catch(unanswered);
  return Promise.race([asked, late]).then((found) => {
    clearTimeout(timer);
    place.leave();
    if (typeof found !== "string" && !found.headers.has(FORWARD)) return found;
    return carry(request, env, head, found, body);
  });
}

function unanswered(error) {
  console.error("an object does not answer:", String(error));
  return error.overloaded ? "late" : "lost";
}

/** Ends even if the Wasm instance that was to finish it is gone. */
function carry(request, env, head, found, body) {
  let timer;
  const abandoned = new Promise((resolve) => {
    timer = setTimeout(() => resolve(failed()), ABANDONED);
  });
  const carried = Promise.resolve()
    .then(() => carry_on(request, env, head, found, body))
    .catch((error) => {
      console.error("a request failed:", String(error));
      return failed();
    });
  return Promise.race([carried, abandoned]).finally(() => clearTimeout(timer));
}

function failed() {
  const problem = {
    type: "urn:optimist:problem:unavailable",
    title: "Temporarily unavailable",
    status: 503,
    detail: "The edge failed; a change may have been made.",
  };
  const headers = { "content-type": "application/problem+json", "cache-control": "no-store", "retry-after": "1" };
  return new Response(JSON.stringify(problem), { status: 503, headers });
}

/** Sends commands to Redis through an object, which answers with the replies as Redis sent them. */
export async function tell(objects, name, location, replies, deadline, commands) {
  const response = await object(objects, name, location).fetch(`https://object/${replies}/${deadline}`, {
    method: "POST",
    body: commands,
    // The object has its own deadlines; this one is for an object that hangs.
    signal: AbortSignal.timeout(4 * deadline),
  });
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (response.status !== 200) throw new Error(new TextDecoder().decode(bytes));
  return bytes;
}

/** The head that an object was asked about; undefined if it was asked for commands. */
export function asked(request) {
  return request.headers.get(HEAD) ?? undefined;
}

/** The forward in an object's answer. */
export function handed(response) {
  return response.headers.get(FORWARD) ?? undefined;
}

/** What an object keeps beside a forward, as an answer. */
export function kept(response) {
  const answer = new Response(response.body, response);
  answer.headers.delete(FORWARD);
  return answer;
}

/** A response from a status, lines of names and values of headers in turn, and a body; with a forward, if there is one. */
export function respond(status, head, body, forward) {
  const lines = head === "" ? [] : head.split("\n");
  // A list of pairs would take a fifth of an empty object request's time.
  const headers = forward === undefined ? {} : { [FORWARD]: forward };
  for (let line = 0; line < lines.length; line += 2) {
    const name = lines[line];
    headers[name] = name in headers ? `${headers[name]}, ${lines[line + 1]}` : lines[line + 1];
  }
  return new Response(body.length === 0 ? null : body.slice(), { status, headers });
}

/** An answer that an object gives later. */
export class Later {
  constructor() {
    this.promise = new Promise((resolve) => {
      this.resolve = resolve;
    });
  }

  give(status, head, body, forward) {
    this.resolve(respond(status, head, body, forward));
  }
}

/** Queues bytes for a socket. They are sent in the order of the calls; a failure shows in the next read. */
export function write(writer, bytes) {
  writer.write(bytes.slice()).catch(() => {});
}
