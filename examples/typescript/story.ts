/**
 * Two people meet in a private circle: the API's main paths, in the order in which an app would use them. Each step states
 * what it relies on, and fails if the service behaves differently.
 *
 *     EDGE_URL=http://127.0.0.1:… npm run story
 */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { client, ok, problem, shown, type Client, whole } from "./client.ts";

const edge = process.env["EDGE_URL"];
if (!edge) throw new Error("EDGE_URL must say where the API is");

const step = (title: string) => console.log(`· ${title}`);

// ── Sessions ────────────────────────────────────────────────────────────────────────────────────────────────────────────

step("Two people register");
const anonymous = client(edge);
const password = "correct horse battery staple";

async function register(name: string): Promise<{ id: string; api: Client; refreshToken: string }> {
  const email = `${name.toLowerCase()}-${randomUUID()}@example.org`;
  const opened = await ok(anonymous.POST("/v1/auth/register", { body: { email, password, name } }));
  // Elsewhere the token of a mail opens the account: POST /v1/auth/verify.
  assert("user" in opened, "this service confirms addresses first");
  return { id: opened.user.id, api: client(edge!, opened.session.token), refreshToken: opened.refresh_token };
}

const ada = await register("Ada");
const ben = await register("Ben");

step("A problem names the field that is not acceptable");
const refused = await problem(
  "invalid",
  anonymous.POST("/v1/auth/register", { body: { email: "ada@example.org", password: "short", name: "Ada" } }),
);
assert.deepEqual(refused.problem.errors?.map(({ field }) => field), ["password"]);

// ── A circle and who is in it ───────────────────────────────────────────────────────────────────────────────────────────

step("Ada opens a private circle; for Ben it does not exist");
const circle = await ok(ada.api.POST("/v1/circles", { body: { name: "Morning pages", visibility: "private" } }));
const inCircle = { path: { circle: circle.id } };
await problem("not-found", ben.api.GET("/v1/circles/{circle}", { params: inCircle }));

step("She invites him by name; he is told, and joins");
await ok(ada.api.POST("/v1/circles/{circle}/invites", { params: inCircle, body: { user: ben.id } }));
/** Notifications follow within a moment: ask again until this kind arrives. */
async function told(kind: string) {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const { items } = await ok(ben.api.GET("/v1/notifications"));
    const found = items.find((notification) => notification.kind === kind);
    if (found) return found;
    await pause(100);
  }
  throw new Error(`nobody told Ben of the ${kind}`);
}
const invitation = await told("invite");
assert.equal(invitation.actor?.name, "Ada");
const joined = await ok(
  ben.api.POST("/v1/circles/{circle}/members/me", { params: inCircle, body: { invite: invitation.invite } }),
);
assert.equal(joined.role, "member");

// ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────────────────

step("An idempotency key makes a POST safe to repeat: when an answer is lost, send the same again");
const post = () =>
  ada.api.POST("/v1/circles/{circle}/messages", {
    params: { ...inCircle, header: { "Idempotency-Key": `first-post-${circle.id}` } },
    body: { body: "Good morning, Ben." },
  });
const message = await ok(post());
assert.equal((await ok(post())).id, message.id);
const inMessage = { path: { circle: circle.id, message: message.id } };

step("The first read fills the region's cache, the second never leaves the edge");
const read = (known?: string) =>
  ben.api.GET("/v1/circles/{circle}/messages", {
    params: { ...inCircle, query: { limit: 10 }, header: known ? { "If-None-Match": known } : {} },
  });
const miss = await whole(read());
const hit = await whole(read());
assert.match(hit.response.headers.get("cache-status") ?? "", /hit/);
assert.deepEqual(hit.data, miss.data);
assert.deepEqual(shown(hit.data.items).map(({ body }) => body), ["Good morning, Ben."]);

step("An entity tag saves the body of what the client has");
const tag = hit.response.headers.get("etag")!;
assert.equal((await read(tag)).response.status, 304);

step("After a write is acknowledged, no read returns what it replaced");
const seen = await whole(ada.api.GET("/v1/circles/{circle}/messages/{message}", { params: inMessage }));
const version = seen.response.headers.get("etag")!;
const edit = (body: string) =>
  ada.api.PATCH("/v1/circles/{circle}/messages/{message}", {
    params: { ...inMessage, header: { "If-Match": version } },
    body: { body },
  });
await ok(edit("Good morning, Ben!"));
assert.equal(shown((await ok(read(tag))).items)[0]?.body, "Good morning, Ben!");

step("A change that is based on an older version is refused, not lost");
await problem("version-mismatch", edit("Good evening."));

// ── Reactions and notifications ─────────────────────────────────────────────────────────────────────────────────────────

step("A reaction is acknowledged at the edge, and counted at once");
const reacted = await ok(
  ben.api.PUT("/v1/circles/{circle}/messages/{message}/reactions/{kind}", {
    params: { path: { ...inMessage.path, kind: "heart" } },
  }),
);
assert.deepEqual(reacted.counts, { heart: 1 });
assert.ok(["redis", "postgres"].includes(reacted.promise));
assert.deepEqual(shown((await ok(read())).items)[0]?.reactions, { heart: 1 });

step("Ben marks what he was told as read");
const news = await told("message");
assert.equal(news.message_id, message.id);
await ok(ben.api.POST("/v1/notifications/{notification}/read", { params: { path: { notification: news.id } } }));

// ── Writing in private ──────────────────────────────────────────────────────────────────────────────────────────────────

step("A draft is saved as Ada types; each save names the version that it is based on");
const draft = { path: { draft: randomUUID() } };
const save = (body: string, base_version: string | null) =>
  ada.api.PUT("/v1/journal/drafts/{draft}", { params: draft, body: { body, base_version } });
const first = await ok(save("Slept well.", null));
await ok(save("Slept well. It rains, and I don't mind.", first.version));

step("Another tab, still at the first version, overwrites nothing: both texts are kept");
const { error: conflict, response: conflicting } = await save("Slept well, from the other tab.", first.version);
assert.equal(conflicting.status, 409);
assert.ok(conflict && "sibling" in conflict && conflict.sibling);
assert.equal(conflict.current?.body, "Slept well. It rains, and I don't mind.");
assert.equal(conflict.sibling.body, "Slept well, from the other tab.");
await ok(ada.api.DELETE("/v1/journal/drafts/{draft}", { params: { path: { draft: conflict.sibling.id } } }));

step("Saving the entry ends its draft; it is hers alone");
const entry = await ok(
  ada.api.POST("/v1/journal/entries", {
    body: { body: conflict.current.body, mood: 4, tags: ["Morning"], draft_id: draft.path.draft },
  }),
);
await problem("not-found", ada.api.GET("/v1/journal/drafts/{draft}", { params: draft }));
await problem("not-found", ben.api.GET("/v1/journal/entries/{entry}", { params: { path: { entry: entry.id } } }));
const { items: mornings } = await ok(ada.api.POST("/v1/journal/entries/search", { body: { tag: "morning" } }));
assert.deepEqual(mornings.map(({ id }) => id), [entry.id]);
assert.equal((await ok(ada.api.GET("/v1/journal/streak"))).current, 1);

// ── Limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

step("Ten messages a minute: the repeated one cost one, the edit none");
const say = (body: string) => ada.api.POST("/v1/circles/{circle}/messages", { params: inCircle, body: { body } });
for (let count = 2; count <= 10; count += 1) await ok(say(`Good thing ${count}.`));
const limited = await problem("rate-limited", say("And one more."));
assert.ok(limited.retryAfter! > 0 && limited.retryAfter! <= 60);
const { items: limits } = await ok(ada.api.GET("/v1/me/limits"));
const spent = limits.find(({ policy }) => policy === limited.problem.limit);
assert.equal(spent?.remaining, 0);

step("All of them are there, page by page");
const bodies: string[] = [];
let before: string | null = null;
do {
  const query: { limit: number; before?: string } = before ? { limit: 4, before } : { limit: 4 };
  const page = await ok(ben.api.GET("/v1/circles/{circle}/messages", { params: { ...inCircle, query } }));
  bodies.push(...shown(page.items).map(({ body }) => body));
  before = page.next;
} while (before);
assert.equal(bodies.length, 10);
assert.equal(bodies.at(-1), "Good morning, Ben!");

// ── The end ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

step("A session is refreshed with a token of its own, and revoked by logging out");
const refreshed = await ok(anonymous.POST("/v1/auth/refresh", { body: { refresh_token: ben.refreshToken } }));
const again = client(edge, refreshed.session.token);
await ok(again.GET("/v1/me"));
await ok(again.POST("/v1/auth/logout"));
await problem("unauthenticated", again.GET("/v1/me"));

console.log("Everything did what it said.");
