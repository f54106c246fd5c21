// Serves a circle's messages as a team would with Fastify: cache-aside in Redis with ioredis, limits with
// rate-limiter-flexible, Postgres with pg. One process.

import { createHash, timingSafeEqual } from 'node:crypto';
import Fastify from 'fastify';
import { Redis } from 'ioredis';
import pg from 'pg';
import { RateLimiterRedis } from 'rate-limiter-flexible';

const IDLE_MS = 30 * 60 * 1000;
const CACHED_SECONDS = 30 * 60;
const READS = { points: 3000, duration: 60 };
const KINDS = ['heart', 'hug', 'strength', 'celebrate', 'laugh', 'thanks'];

// Concurrent requests share a write to Redis; named statements share a plan.
const redis = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true });
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 16 });
const limiter = new RateLimiterRedis({ storeClient: redis, keyPrefix: 'peer:reads', ...READS });
const app = Fastify({ logger: false });

const keys = {
  session: (id) => `peer:session:${id}`,
  membership: (user, circle) => `peer:membership:${user}:${circle}`,
  messages: (circle) => `peer:messages:${circle}`,
  counts: (circle) => `peer:counts:${circle}`,
};

const person = { type: 'object', properties: { id: { type: 'string' }, name: { type: 'string' } } };
const message = {
  type: 'object',
  properties: {
    id: { type: 'string' },
    circle_id: { type: 'string' },
    number: { type: 'integer' },
    author: person,
    body: { type: 'string' },
    created_at: { type: 'string' },
    edited_at: { type: 'string', nullable: true },
    reactions: { type: 'object', additionalProperties: { type: 'integer' } },
  },
};
const page = {
  type: 'object',
  properties: { items: { type: 'array', items: message }, next: { type: 'string', nullable: true } },
};

app.get('/v1/circles/:circle/messages', { schema: { response: { 200: page } } }, async (request, reply) => {
  const token = parseToken(request.headers.authorization);
  if (!token) return problem(reply, 401, 'unauthenticated');
  const { circle } = request.params;
  const { user } = token;

  // One trip reads all state; nothing is changed before the secret is verified.
  const sessionKey = keys.session(token.session);
  const copies = await redis.mget(sessionKey, keys.membership(user, circle), keys.messages(circle));
  const isHit = copies.every((copy) => copy !== null);
  const session = copies[0] ? JSON.parse(copies[0]) : await loadSession(token.session);
  if (!session || session.user !== user || !isRight(token.secret, session.secretHash)) {
    return problem(reply, 401, 'unauthenticated');
  }
  const life = Math.min(IDLE_MS, session.absoluteUntil - Date.now());
  if (life <= 0) return problem(reply, 401, 'unauthenticated');
  const role = copies[1] ?? (await loadRole(user, circle));
  const list = copies[2] ? JSON.parse(copies[2]) : await loadMessages(circle);

  // A second trip charges the limit, reads the counts and extends the session.
  const ids = list.items.map((item) => item.id);
  let limit, counts;
  try {
    [limit, counts] = await Promise.all([
      limiter.consume(user),
      ids.length ? redis.hmget(keys.counts(circle), ids) : [],
      redis.pexpire(sessionKey, life),
    ]);
  } catch (refused) {
    if (refused instanceof Error) throw refused;
    reply.header('retry-after', Math.ceil(refused.msBeforeNext / 1000));
    return problem(reply, 429, 'rate-limited');
  }
  if (role === 'none' || role === 'banned') return problem(reply, 404, 'not-found');
  if (counts.includes(null)) counts = await loadCounts(circle, ids);

  const tag = `"${list.version}.${hash(counts)}"`;
  reply.headers({
    etag: tag,
    'cache-control': 'private, no-cache',
    'cache-status': isHit ? 'peer; hit' : 'peer; fwd=miss',
    'ratelimit-policy': `"reads";q=${READS.points};w=${READS.duration}`,
    ratelimit: `"reads";r=${limit.remainingPoints};t=${Math.ceil(limit.msBeforeNext / 1000)}`,
    'x-request-id': request.id,
  });
  if (request.headers['if-none-match'] === tag) return reply.code(304).send();
  list.items.forEach((item, index) => (item.reactions = JSON.parse(counts[index])));
  return { items: list.items, next: list.next };
});

function parseToken(header) {
  const [scheme, text] = header?.split(' ') ?? [];
  const [user, session, secret] = scheme?.toLowerCase() === 'bearer' && text ? text.split('.') : [];
  return secret?.length === 43 ? { user, session, secret: Buffer.from(secret, 'base64url') } : undefined;
}

function isRight(secret, expected) {
  return timingSafeEqual(createHash('sha256').update(secret).digest(), Buffer.from(expected, 'hex'));
}

// FNV-1a, as in @fastify/etag.
function hash(texts) {
  let value = 0x811c9dc5;
  for (const text of texts) {
    for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  }
  return (value >>> 0).toString(36);
}

function problem(reply, status, code) {
  return reply.code(status).type('application/problem+json').send({ status, code });
}

async function loadSession(id) {
  const { rows } = await pool.query({
    name: 'session',
    text: `select user_id, secret_hash, (extract(epoch from absolute_until) * 1000)::float8 as absolute_until
           from sessions join users on users.id = user_id
           where sessions.id = $1 and revoked_at is null and status = 'active'
             and idle_until > now() and absolute_until > now()`,
    values: [id],
  });
  if (!rows[0]) return undefined;
  const { user_id: user, secret_hash: secretHash, absolute_until: absoluteUntil } = rows[0];
  const session = { user, secretHash, absoluteUntil };
  await redis.set(keys.session(id), JSON.stringify(session), 'PX', IDLE_MS);
  return session;
}

async function loadRole(user, circle) {
  const { rows } = await pool.query({
    name: 'role',
    text: 'select role from memberships where circle_id = $1 and user_id = $2',
    values: [circle, user],
  });
  const role = rows[0]?.role ?? 'none';
  await redis.set(keys.membership(user, circle), role, 'EX', CACHED_SECONDS);
  return role;
}

async function loadMessages(circle) {
  const { rows } = await pool.query({
    name: 'messages',
    text: `select m.id, m.circle_id, m.number::int, m.author_id, users.name as author_name, m.body, m.version::int,
                  to_char(m.created_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as created_at,
                  to_char(m.edited_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as edited_at
           from messages m join users on users.id = author_id
           where circle_id = $1 and deleted_at is null order by number desc limit 21`,
    values: [circle],
  });
  const items = rows.slice(0, 20).map(({ author_id: id, author_name: name, version, ...row }) => ({
    ...row,
    author: { id, name },
  }));
  const next = rows.length > 20 ? Buffer.from(`n:${items[19].number}`).toString('base64url') : null;
  const list = { version: hash(rows.map((row) => `${row.number}:${row.version};`)), items, next };
  await redis.set(keys.messages(circle), JSON.stringify(list), 'EX', CACHED_SECONDS);
  return list;
}

async function loadCounts(circle, ids) {
  const { rows } = await pool.query({
    name: 'counts',
    text: 'select message_id, kind, count from reaction_counts where circle_id = $1 and message_id = any($2) and count > 0',
    values: [circle, ids],
  });
  const counts = new Map(ids.map((id) => [id, {}]));
  for (const row of rows) counts.get(row.message_id)[KINDS[row.kind - 1]] = row.count;
  const fields = ids.map((id) => JSON.stringify(counts.get(id)));
  const key = keys.counts(circle);
  await Promise.all([
    redis.hset(key, Object.fromEntries(ids.map((id, index) => [id, fields[index]]))),
    redis.expire(key, CACHED_SECONDS),
  ]);
  return fields;
}

const address = await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT ?? 0) });
console.log(`listening ${address}`);
