// Tells a circle's members of its messages as a team would with Socket.IO and its Redis adapter: rooms are circles, a message is
// inserted with pg and emitted once it is committed. Several of these processes make one server.

import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import pg from 'pg';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 16 });
const publishing = createClient({ url: process.env.REDIS_URL });
const subscribing = publishing.duplicate();
await Promise.all([publishing.connect(), subscribing.connect()]);

const http = createServer((request, response) => {
  answer(request).then(
    ([status, body]) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body)),
    (error) => response.writeHead(500).end(String(error)),
  );
});
const io = new Server(http, { transports: ['websocket'], adapter: createAdapter(publishing, subscribing) });

io.use(async (socket, next) => {
  const person = await loadPerson(socket.handshake.auth.token).catch(() => undefined);
  if (!person) return next(new Error('unauthenticated'));
  const { rows } = await pool.query({
    name: 'circles',
    text: "select circle_id from memberships where user_id = $1 and role <> 'banned'",
    values: [person.id],
  });
  socket.join(rows.map((row) => row.circle_id));
  next();
});

async function answer(request) {
  const circle = /^\/v1\/circles\/([0-9a-f-]{36})\/messages$/.exec(request.url)?.[1];
  if (request.method !== 'POST' || !circle) return [404, { code: 'not-found' }];
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { body } = JSON.parse(Buffer.concat(chunks));
  const author = await loadPerson(request.headers.authorization?.replace(/^bearer /i, ''));
  if (!author) return [401, { code: 'unauthenticated' }];
  // One statement, which is its own transaction: it is committed when it answers.
  const { rows } = await pool.query({
    name: 'insert',
    text: `with next as (
             update circles set last_number = last_number + 1
             where id = $1 and exists (
               select from memberships where circle_id = $1 and user_id = $2 and role <> 'banned')
             returning id, last_number)
           insert into messages (id, circle_id, number, author_id, body)
           select id_at(next_place(null, 1)), id, last_number, $2, $3 from next
           returning id, circle_id, number::int, body, created_at, edited_at`,
    values: [circle, author.id, body],
  });
  if (!rows[0]) return [404, { code: 'not-found' }];
  const shown = { ...rows[0], author };
  const data = { message: shown.id, shown };
  io.to(circle).emit('event', { type: 'message.posted', circle, at: shown.created_at, data });
  return [201, shown];
}

// The person whose session a token is, if it is good.
async function loadPerson(token) {
  const [user, session, secret] = token?.split('.') ?? [];
  if (secret?.length !== 43) return undefined;
  const { rows } = await pool.query({
    name: 'session',
    text: `select users.id, name, secret_hash from sessions join users on users.id = user_id
           where sessions.id = $1 and user_id = $2 and revoked_at is null and status = 'active'
             and idle_until > now() and absolute_until > now()`,
    values: [session, user],
  });
  if (!rows[0]) return undefined;
  const { id, name, secret_hash: expected } = rows[0];
  const hash = createHash('sha256').update(Buffer.from(secret, 'base64url')).digest();
  return timingSafeEqual(hash, Buffer.from(expected, 'hex')) ? { id, name } : undefined;
}

http.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  console.log(`listening http://127.0.0.1:${http.address().port}`);
});
