-- A database of a few million rows. It is the same at each run except for its dates, which count back from now. Its
-- distribution is skewed as in production: circle 1 has 100,000 messages, circle 2 has 20,000 members, person 1 does
-- more of everything.
--
-- Triggers are off, so no foreign key is looked up: the referenced rows exist by construction.

set session_replication_role = replica;
select setseed(0.42);

create schema bench;
grant usage on schema bench to public;

-- Ids in the form and order of UUIDv7, derived from kind and number so that later statements can name them again.
create function bench.id(kind text, n bigint) returns uuid language sql immutable parallel safe as $$
    select (lpad(to_hex(1750000000000 + n * 10), 12, '0') || '7' || substr(md5(kind || n), 1, 3)
        || '8' || substr(md5(kind || n), 4, 15))::uuid $$;
create function bench.person(n bigint) returns uuid language sql immutable parallel safe as $$ select bench.id('person', n) $$;
create function bench.session(n bigint) returns uuid language sql immutable parallel safe as $$ select bench.id('session', n) $$;
create function bench.circle(n bigint) returns uuid language sql immutable parallel safe as $$ select bench.id('circle', n) $$;
create function bench.message(circle bigint, n bigint) returns uuid language sql immutable parallel safe as $$
    select bench.id('message', circle * 1000000 + n) $$;
-- The number of messages and members of a circle, and its k-th member; member 0 is the owner.
create function bench.messages(circle bigint) returns bigint language sql immutable parallel safe as $$
    select case circle when 1 then 100000 else 95000 / circle end $$;
create function bench.members(circle bigint) returns bigint language sql immutable parallel safe as $$
    select case circle when 1 then 5000 when 2 then 20000 else 60000 / circle + 3 end $$;
create function bench.member(circle bigint, k bigint) returns bigint language sql immutable parallel safe as $$
    select case when circle <= 2 and k = 0 then 1 else (circle * 7919 + k * 104729) % 200000 + 1 end $$;

insert into users (id, email, password_hash, name, bio, home_region, created_at)
select bench.person(n), 'person' || n || '@example.org', repeat('h', 97), 'Person ' || n, repeat('b', n::int % 200), 'bench',
    now() - (200000 - n) * interval '1 minute'
from generate_series(1, 200000) n;

insert into sessions (id, user_id, family, parent, secret_hash, refresh_hash, token_key, created_at, idle_until, absolute_until,
    first_used_at, refreshed_at, revoked_at)
select bench.session(n), bench.person((n + 1) / 2), bench.session(n - (n + 1) % 2), case when n % 2 = 0 then bench.session(n - 1) end,
    md5('s' || n) || md5('t' || n), md5('r' || n) || md5('q' || n), 'k1', now() - interval '1 day' * (n % 40),
    now() + interval '29 minutes' - interval '1 hour' * (n % 7), now() + interval '30 days' - interval '1 day' * (n % 40),
    now() - interval '1 hour', case when n % 2 = 1 then now() end, case when n % 11 = 0 then now() end
from generate_series(1, 400000) n;

insert into circles (id, name, description, visibility, owner_id, member_count, last_number, archived_at, created_at)
select bench.circle(n), 'Circle ' || n, repeat('d', 100 + n::int % 300), case n % 3 when 0 then 'private' else 'public' end,
    bench.person(bench.member(n, 0)), bench.members(n), bench.messages(n), case when n % 50 = 49 then now() end,
    now() - interval '1 minute' * n
from generate_series(1, 20000) n;

-- A circle without members.
insert into circles (id, name, visibility, owner_id) values (bench.circle(0), 'Circle 0', 'public', bench.person(1));

insert into memberships (circle_id, user_id, role, joined_at)
select bench.circle(n), bench.person(bench.member(n, k)),
    case when k = 0 then 'owner' when k % 97 = 96 then 'banned' when k % 50 = 1 then 'moderator' else 'member' end,
    now() - interval '90 days' + k * interval '1 minute'
from generate_series(1, 20000) n, generate_series(0, bench.members(n) - 1) k
on conflict do nothing;

insert into invites (id, circle_id, token_hash, token_key, created_by, for_user, created_at, expires_at)
select bench.id('invite', n), bench.circle(n % 20000 + 1), md5('invite' || n), 'k1', bench.person(bench.member(n % 20000 + 1, 0)),
    case when n % 2 = 0 then bench.person(n) end, now() - interval '1 hour' * (n % 300),
    now() + interval '7 days' - interval '1 hour' * (n % 300)
from generate_series(1, 50000) n;

insert into messages (id, circle_id, number, author_id, body, created_at, deleted_at)
select bench.message(n, i), bench.circle(n), i, bench.person(bench.member(n, i * i % bench.members(n))),
    repeat('A line of a morning page. ', 1 + floor(random() * 10)::int), now() - interval '90 days' * (1 - i::float8 / bench.messages(n)),
    case when i % 40 = 0 then now() end
from generate_series(1, 20000) n, generate_series(1, bench.messages(n)) i;

-- Every fourth message has up to eight reactions; the newest of circle 1 has 2,000.
insert into reactions (circle_id, message_id, kind, user_id, is_on, stamp_ms, stamp_seq, generation, is_through, reacted_at)
select bench.circle(n), bench.message(n, i), k % 6 + 1, bench.person(bench.member(n, k % bench.members(n))), k % 20 <> 19,
    1750000000000 + i, k, 1, false, now() - interval '1 second' * (i % 80000 + k)
from generate_series(1, 20000) n, generate_series(4, bench.messages(n), 4) i,
    lateral (select case when n = 1 and i = 100000 then 2000 else (random() ^ 2 * 8)::int end as count) reacted,
    lateral generate_series(1, reacted.count) k
on conflict do nothing;

insert into reaction_counts (circle_id, message_id, kind, count)
select circle_id, message_id, kind, count(*) from reactions where is_on group by 1, 2, 3;

insert into idempotency (user_id, route, key, request_hash, status, resource, created_at)
select bench.person(n % 200000 + 1), 'messages.post', 'key-' || n, md5('hash' || n) || md5('h' || n), 201, bench.id('r', n),
    now() - interval '24 hours' * (n / 300000.0)
from generate_series(1, 300000) n;

insert into login_attempts (account, attempted_at)
select md5('account' || n % 1000), now() - interval '1 second' * n from generate_series(1, 5000) n;

-- The outbox rows are of transactions long finished; all but the last hundred are processed.
insert into regions (name, cursor_xid, cursor_seq) values ('bench', '399', 0), ('elsewhere', '399', 0) on conflict do nothing;
insert into outbox (xid, region, actor, session, request_id, keys, kind, payload, topics, created_at)
select (100 + n / 1000)::text::xid8, 'bench', bench.person(n % 200000 + 1), bench.session(n), bench.id('request', n)::text,
    array['circle:{p001}:' || bench.circle(n % 20000 + 1) || ':messages'], 'message.posted',
    jsonb_build_object('circle', bench.circle(n % 20000 + 1), 'message', bench.message(1, n), 'number', n),
    array[bench.circle(n % 20000 + 1)], now() - interval '24 hours' * (1 - n / 300000.0)
from generate_series(1, 300000) n;
update regions set cursor_xid = last.xid, cursor_seq = last.seq
from (select xid, seq from outbox order by xid desc, seq desc offset 100 limit 1) last;
update projections set xid = last.xid, seq = last.seq
from (select xid, seq from outbox order by xid desc, seq desc offset 100 limit 1) last;
insert into origins (id, region, seen_at, redis_ok) select bench.id('origin', n), 'bench', now(), true from generate_series(1, 3) n;
insert into write_behind (region, partition, generation) select region, p, 1
from unnest(array['bench', 'elsewhere']) region, generate_series(0, 255) p on conflict do nothing;

-- Person 1 has 2,000, all unread; a tenth of the others' is unread.
insert into notifications (user_id, id, kind, circle_id, message_id, actor_id, actors, created_at, updated_at, read_at)
select bench.person(u), bench.id('notification', n), case n % 3 when 0 then 'reaction' else 'message' end, bench.circle(n % 20000 + 1),
    bench.message(n % 20000 + 1, n), bench.person(n % 200000 + 1), 1, now() - interval '80 days' * (1 - n / 500000.0),
    now() - interval '80 days' * (1 - n / 500000.0), case when n % 10 > 0 then now() end
from generate_series(1, 500000) n,
    lateral (select case when n % 250 = 0 then 1 else floor(random() ^ 2 * 200000)::bigint + 1 end as u) person;
insert into notification_actors (user_id, notification_id, actor_id, acted_at)
select user_id, id, actor_id, updated_at from notifications where kind = 'reaction';
update notifications n set place = placed.place
from (
    select user_id, id, row_number() over (partition by user_id order by updated_at, id) as place from notifications
) placed
where n.user_id = placed.user_id and n.id = placed.id;
insert into notification_counts (user_id, unread, last_place, held)
select user_id, count(*) filter (where read_at is null), max(place), count(*) from notifications group by 1;

-- In circle 2 some 2,000 members are active today.
insert into activity (circle_id, user_id, day, posts, reactions, last_seen_at)
select circle_id, user_id, (now() - interval '1 day' * floor(random() ^ 2 * 30))::date, 1 + floor(random() * 5)::int, 3, now()
from memberships where role <> 'banned' and random() < 0.6;

insert into journal_keys (user_id, kek_id, wrapped)
select bench.person(n), 'k1', decode(repeat(md5('key' || n), 2), 'hex') from generate_series(1, 100000) n;
-- Person 1 has 2,000 entries, one a day, and 300 drafts.
insert into journal_entries (user_id, id, version, sealed, mood, entry_date, created_at, updated_at)
select bench.person(u), bench.id('entry', n), 2, decode(repeat(md5('entry' || n), 20), 'hex'), n % 5 + 1,
    now()::date - ((200000 - n) / 100)::int, now() - interval '1 day' * ((200000 - n) / 100), now()
from generate_series(1, 200000) n,
    lateral (select case when n % 100 = 0 then 1 else floor(random() ^ 2 * 100000)::bigint + 1 end as u) person;
insert into journal_entry_versions (user_id, entry_id, version, sealed, updated_at)
select user_id, id, 1, sealed, updated_at from journal_entries;
insert into journal_tags (user_id, tag, entry_id)
select user_id, decode(md5('tag' || (mood + t * 3)), 'hex'), id from journal_entries, generate_series(1, 2) t;
insert into drafts (user_id, id, version, sealed, saved_at, deleted_at)
select bench.person(u), bench.id('draft', n), lpad(to_hex(1750000000000 + n), 12, '0') || repeat('0', 20),
    decode(repeat(md5('draft' || n), 20), 'hex'), now() - interval '1 minute' * n, case when n % 3 = 0 then now() end
from generate_series(1, 60000) n,
    lateral (select case when n % 200 = 0 then 1 else floor(random() ^ 2 * 100000)::bigint + 1 end as u) person;
insert into moods (user_id, id, score, sealed, logged_at, created_at)
select bench.person(u), bench.id('mood', n), n % 5 + 1, decode(repeat(md5('mood' || n), 4), 'hex'),
    now() - interval '1 minute' * (200000 - n), now()
from generate_series(1, 200000) n,
    lateral (select case when n % 100 = 0 then 1 else floor(random() ^ 2 * 100000)::bigint + 1 end as u) person;

insert into jobs (region, name, every_seconds) select 'bench', 'job-' || n, 60 from generate_series(1, 20) n;
insert into consistency (region, data_type, checked_at) select 'bench', 'type-' || n, now() from generate_series(1, 15) n;

set session_replication_role = origin;
