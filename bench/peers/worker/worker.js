// Warm reads of a circle's messages, as a team would write them in a Worker: one Redis connection per request, since a
// socket cannot outlive its request. It reads the keys that the Fastify peer has filled; it does not load missing ones.

import { Connection } from './resp.js';

const IDLE_MS = 30 * 60 * 1000;
const READS = { points: 3000, duration: 60 };
const PATH = /^\/v1\/circles\/([0-9a-f-]{36})\/messages$/;

export default {
  async fetch(request, env) {
    const circle = new URL(request.url).pathname.match(PATH)?.[1];
    if (!circle || request.method !== 'GET') return problem(404, 'not-found');
    const token = parseToken(request.headers.get('authorization'));
    if (!token) return problem(401, 'unauthenticated');
    const { user } = token;

    const redis = new Connection(env);
    try {
      // One trip reads all state; nothing is changed before the secret is verified.
      const sessionKey = `peer:session:${token.session}`;
      const [[storedSession, role, storedList], digest] = await Promise.all([
        redis.send([['MGET', sessionKey, `peer:membership:${user}:${circle}`, `peer:messages:${circle}`]]).then(only),
        crypto.subtle.digest('SHA-256', token.secret),
      ]);
      const session = storedSession ? JSON.parse(storedSession) : undefined;
      if (session?.user !== user || !isRight(digest, session.secretHash)) return problem(401, 'unauthenticated');
      const life = Math.min(IDLE_MS, session.absoluteUntil - Date.now());
      if (life <= 0) return problem(401, 'unauthenticated');
      if (role === null || storedList === null) return problem(503, 'not-cached');
      const list = JSON.parse(storedList);

      // A second trip charges the limit, as rate-limiter-flexible does but in plain commands, and reads the counts.
      const limitKey = `peer:reads:${user}`;
      const [, used, left, , counts] = await redis.send([
        ['SET', limitKey, '0', 'EX', String(READS.duration), 'NX'],
        ['INCR', limitKey],
        ['PTTL', limitKey],
        ['PEXPIRE', sessionKey, String(life)],
        ['HMGET', `peer:counts:${circle}`, ...list.items.map((item) => item.id)],
      ]);
      const reset = Math.ceil(left / 1000);
      if (used > READS.points) return problem(429, 'rate-limited', { 'retry-after': String(reset) });
      if (role === 'none' || role === 'banned') return problem(404, 'not-found');
      if (counts.includes(null)) return problem(503, 'not-cached');

      const tag = `"${list.version}.${hash(counts)}"`;
      const headers = {
        etag: tag,
        'content-type': 'application/json; charset=utf-8',
        'cache-control': 'private, no-cache',
        'cache-status': 'peer; hit',
        'ratelimit-policy': `"reads";q=${READS.points};w=${READS.duration}`,
        ratelimit: `"reads";r=${READS.points - used};t=${reset}`,
        'x-request-id': crypto.randomUUID(),
      };
      if (request.headers.get('if-none-match') === tag) return new Response(null, { status: 304, headers });
      list.items.forEach((item, index) => (item.reactions = JSON.parse(counts[index])));
      return new Response(JSON.stringify({ items: list.items, next: list.next }), { headers });
    } finally {
      redis.close();
    }
  },
};

const only = ([reply]) => reply;

function parseToken(header) {
  const [scheme, text] = header?.split(' ') ?? [];
  const [user, session, secret] = scheme?.toLowerCase() === 'bearer' && text ? text.split('.') : [];
  if (secret?.length !== 43) return undefined;
  const binary = atob(secret.replaceAll('-', '+').replaceAll('_', '/'));
  return { user, session, secret: Uint8Array.from(binary, (character) => character.charCodeAt(0)) };
}

function isRight(digest, expected) {
  const bytes = new Uint8Array(digest);
  let difference = 0;
  for (let at = 0; at < bytes.length; at++) {
    difference |= bytes[at] ^ parseInt(expected.slice(at * 2, at * 2 + 2), 16);
  }
  return difference === 0;
}

// FNV-1a.
function hash(texts) {
  let value = 0x811c9dc5;
  for (const text of texts) {
    for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  }
  return (value >>> 0).toString(36);
}

function problem(status, code, headers = {}) {
  const type = { 'content-type': 'application/problem+json' };
  return new Response(JSON.stringify({ status, code }), { status, headers: { ...type, ...headers } });
}
