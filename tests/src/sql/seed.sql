-- A database of a few million rows, or of fewer: the setting `bench.scale`, from 0.1 to 1, scales the crowd. It is the same
-- at each run except for its dates, which count back from now.
--
-- Whatever the scale, circle 1 has 100,000 messages and circle 2 has 20,000 members. Those who have as much as they may are in
-- subjects.sql.
--
-- Messages are of the past 36 months: the older, the fewer, so that the newest tenth of a circle's is some ten days old.
--
-- Triggers are off, so no foreign key is looked up: the referenced rows exist by construction.

create function bench.scaled(n bigint) returns bigint language sql stable parallel safe as $$
    select greatest(1, (n * current_setting('bench.scale')::float8)::bigint) $$;
create function bench.people() returns bigint language sql stable parallel safe as $$ select bench.scaled(200000) $$;

-- The number of messages and members of a circle, and its k-th member; member 0 is the owner.
create function bench.messages(circle bigint) returns bigint language sql stable parallel safe as $$
    select case circle when 1 then 100000 else bench.scaled(95000) / circle end $$;
create function bench.members(circle bigint) returns bigint language sql stable parallel safe as $$
    select case circle when 1 then 5000 when 2 then 20000 else bench.scaled(60000) / circle + 3 end $$;
create function bench.member(circle bigint, k bigint) returns bigint language sql stable parallel safe as $$
    select case when circle <= 2 and k = 0 then 1 else (circle * 7919 + k * 104729) % bench.people() + 1 end $$;
-- The newest message of a circle is of now; there are none beyond it.
create function bench.message(circle bigint, n bigint) returns uuid language sql stable parallel safe as $$
    select bench.id_ago((94608000000 * (1 - least(1, n::float8 / bench.messages(circle))) ^ 2)::bigint,
        'message', circle * 1000000 + n) $$;

select make_leaf(name, leaf_now(name) - n) from partitioned, generate_series(1, 36) n where cut <> 'transaction';

insert into users (id, email, password_hash, name, bio, home_region, created_at)
select bench.person(n), 'person' || n || '@example.org', repeat('h', 97), 'Person ' || n, repeat('b', n::int % 200), 'bench',
    now() - (bench.people() - n) * interval '1 minute'
from generate_series(1, bench.people()) n;

insert into sessions (id, user_id, family, parent, secret_hash, refresh_hash, token_key, created_at, idle_until, absolute_until,
    first_used_at, refreshed_at, revoked_at)
select bench.session(n), bench.person((n + 1) / 2), bench.session(n - (n + 1) % 2), case when n % 2 = 0 then bench.session(n - 1) end,
    md5('s' || n) || md5('t' || n), md5('r' || n) || md5('q' || n), 'k1', now() - interval '1 day' * (n % 40),
    now() + interval '29 minutes' - interval '1 hour' * (n % 7), now() + interval '30 days' - interval '1 day' * (n % 40),
    now() - interval '1 hour', case when n % 2 = 1 then now() end, case when n % 11 = 0 then now() end
from generate_series(1, bench.scaled(400000)) n;

insert into circles (id, name, description, visibility, owner_id, member_count, last_number, archived_at, created_at, active_at,
    category)
select bench.circle(n), 'Circle ' || n, repeat('d', 100 + n::int % 300), case n % 3 when 0 then 'private' else 'public' end,
    bench.person(bench.member(n, 0)), bench.members(n), bench.messages(n), case when n % 50 = 49 then now() end,
    now() - interval '1 minute' * n, now() - interval '1 minute' * n, case n % 4 when 1 then 'sleep' end
from generate_series(1, bench.scaled(20000)) n;

insert into memberships (circle_id, user_id, role, joined_at)
select bench.circle(n), bench.person(bench.member(n, k)),
    case when k = 0 then 'owner' when k % 97 = 96 then 'banned' when k % 50 = 1 then 'moderator' else 'member' end,
    now() - interval '90 days' + k * interval '1 minute'
from generate_series(1, bench.scaled(20000)) n, generate_series(0, bench.members(n) - 1) k
on conflict do nothing;

insert into read_markers (circle_id, user_id, number)
select circle_id, user_id, greatest(last_number - 7, 0) from memberships join circles on circles.id = circle_id;

insert into invites (id, circle_id, token_hash, token_key, created_by, for_user, created_at, expires_at)
select bench.id('invite', n), bench.circle(n % bench.scaled(20000) + 1), md5('invite' || n), 'k1',
    bench.person(bench.member(n % bench.scaled(20000) + 1, 0)),
    case when n % 2 = 0 then bench.person(n) end, now() - interval '1 hour' * (n % 300),
    now() + interval '7 days' - interval '1 hour' * (n % 300)
from generate_series(1, bench.scaled(50000)) n;

insert into messages (id, circle_id, number, author_id, body, created_at, deleted_at)
select bench.message(n, i), bench.circle(n), i,
    bench.person(case when n = 1 and i > 97500 then 1 else bench.member(n, i * i % bench.members(n)) end),
    repeat('A line of a morning page. ', 1 + floor(random() * 10)::int), id_time(bench.message(n, i)),
    case when i % 40 = 0 then now() end
from generate_series(1, bench.scaled(20000)) n, generate_series(1, bench.messages(n)) i;
update circles c set months = each.months, month_numbers = each.numbers, last_id = each.newest
from (
    select circle_id, array_agg(month order by month) as months, array_agg(number order by month) as numbers,
        (array_agg(newest order by month desc))[1] as newest
    from (
        select circle_id, id_month(id) as month, min(number) as number, max(id::text)::uuid as newest from messages group by 1, 2) month
    group by 1) each
where each.circle_id = c.id;

-- Every fourth message has up to eight reactions; the newest of circle 1 has 12,000.
insert into reactions (circle_id, message_id, kind, user_id, is_on, stamp_ms, stamp_seq, generation, is_through, reacted_at)
select bench.circle(n), bench.message(n, i), k % 6 + 1, bench.person(bench.member(n, k % bench.members(n))), k % 20 <> 19,
    1750000000000 + i, k, 1, false, now() - interval '1 second' * (i % 100000 + k)
from generate_series(1, bench.scaled(20000)) n, generate_series(4, bench.messages(n), 4) i,
    lateral (select case when n = 1 and i = 100000 then 12000 else (random() ^ 2 * 8)::int end as count) reacted,
    lateral generate_series(1, reacted.count) k
on conflict do nothing;

insert into reaction_counts (circle_id, message_id, kind, count)
select circle_id, message_id, kind, count(*) from reactions where is_on group by 1, 2, 3;

insert into idempotency (user_id, route, key, request_hash, status, resource, created_at)
select bench.person(n % bench.people() + 1), 'messages.post', 'key-' || n, md5('hash' || n) || md5('h' || n), 201, bench.id('r', n),
    now() - interval '30 hours' * (n::float8 / bench.scaled(300000))
from generate_series(1, bench.scaled(300000)) n;

insert into registrations (id, email, password_hash, name, time_zone, locale, created_at)
select bench.id('registration', n), 'asked' || n || '@example.org', repeat('h', 97), 'Asked ' || n, 'UTC', 'en',
    now() - interval '1 minute' * n
from generate_series(1, 20000) n;
insert into account_tokens (hash, purpose, email, registration_id, expires_at)
select md5('token' || n), 'register', 'asked' || n || '@example.org', bench.id('registration', n), now() + interval '1 day'
from generate_series(1, 20000) n;

-- The outbox rows are of transactions long finished; all but the last hundred are processed.
insert into regions (name, cursor_xid, cursor_seq) values ('bench', '399', 0), ('elsewhere', '399', 0) on conflict do nothing;
insert into outbox (xid, region, actor, session, request_id, keys, kind, payload, topics, created_at)
select (100 + n / (bench.scaled(300000) / 300))::text::xid8, 'bench', bench.person(n % bench.people() + 1), bench.session(n), bench.id('request', n)::text,
    array['circle:{p001}:' || bench.circle(n % bench.scaled(20000) + 1) || ':messages'], 'message.posted',
    jsonb_build_object('circle', bench.circle(n % bench.scaled(20000) + 1), 'message', bench.message(1, n), 'number', n),
    array[bench.circle(n % bench.scaled(20000) + 1)], now() - interval '30 hours' * (1 - n::float8 / bench.scaled(300000))
from generate_series(1, bench.scaled(300000)) n;

-- A tenth is unread.
insert into notifications (user_id, month, id, kind, circle_id, message_id, actor_id, actors, created_at, updated_at, read_at)
select bench.person(u), id_month(id), id, case n % 3 when 0 then 'reaction' else 'message' end, bench.circle(circle),
    bench.message(circle, n % bench.messages(circle) + 1), bench.person(n % bench.people() + 1), 1, id_time(id), id_time(id),
    case when n % 10 > 0 then now() end
from generate_series(1, bench.scaled(500000)) n,
    lateral (select floor(random() ^ 2 * (bench.people() - 3))::bigint + 4 as u) person,
    lateral (select bench.id_ago((7948800000 * (1 - n::float8 / bench.scaled(500000)))::bigint, 'notification', n) as id) given,
    lateral (select n % bench.scaled(20000) + 1 as circle) place
on conflict do nothing;
insert into notification_actors (user_id, month, notification_id, actor_id, acted_at)
select user_id, month, id, actor_id, updated_at from notifications where kind = 'reaction';

-- All members of circle 2 are active today.
insert into activity (circle_id, user_id, day, posts, reactions, last_seen_at)
select circle_id, user_id, (now() - interval '1 day' * case when circle_id = bench.circle(2) then 0 else floor(random() ^ 2 * 30) end)::date,
    1 + floor(random() * 5)::int, 3, now()
from memberships where role <> 'banned' and (circle_id = bench.circle(2) or random() < 0.6);

-- The audit trail holds thirteen months; person 1 has logged in as often as the limit admits for a month of them.
insert into audit (at, xid, seq, kind, actor, circle_id, user_id, payload)
select now() - interval '400 days' * (n::float8 / bench.scaled(200000)), '200', n,
    case n % 5 when 0 then 'member.joined' else 'session.opened' end, bench.person(n % bench.people() + 1),
    case n % 5 when 0 then bench.circle(n % bench.scaled(20000) + 1) end, bench.person(n % bench.people() + 1),
    jsonb_build_object('session', bench.session(n))
from generate_series(1, bench.scaled(200000)) n;

-- Deliveries of a week, of which a provider's are late.
insert into deliveries (user_id, subject, target, channel, state, attempts, due_at, created_at, ended_at)
select bench.person(u), bench.id('delivery', n), bench.id('target', u), case when n % 3 = 0 then 'webhook' else 'push' end,
    case when n % 20 = 0 then 'queued' else 'sent' end, 1, now() - interval '1 second' * (n % 7000),
    now() - interval '10 days' * (n::float8 / bench.scaled(200000)), case when n % 20 > 0 then now() end
from generate_series(1, bench.scaled(200000)) n,
    lateral (select floor(random() ^ 2 * (bench.scaled(100000) - 1))::bigint + 2 as u) person;
insert into push_tokens (user_id, id, channel, endpoint, p256dh, auth, token_key, verified_at)
select bench.person(n), bench.id('target', n * 100 + t), case when t % 2 = 0 then 'push' else 'webhook' end,
    'https://push.example.org/' || n || '/' || t, 'key', 'auth', 'k1', now()
from generate_series(2, bench.scaled(20000)) n, generate_series(1, case when n <= 5 then 20 else 1 end) t;
insert into notification_preferences (user_id, in_app, push, email, webhook)
select bench.person(n), 31, 31, 0, 31 from generate_series(1, bench.scaled(20000)) n;

-- Most are wrapped by the newer key already.
insert into journal_keys (user_id, kek_id, wrapped)
select bench.person(n), case when n < bench.scaled(95000) then 'k2' else 'k1' end, decode(repeat(md5('key' || n), 2), 'hex')
from generate_series(1, bench.scaled(100000)) n;

insert into journal_entries (user_id, id, version, sealed, mood, entry_date, created_at, updated_at)
select bench.person(u), bench.id('entry', n), 2, decode(repeat(md5('entry' || n), 20), 'hex'), n % 5 + 1,
    now()::date - (bench.scaled(2000) * (1 - n::float8 / bench.scaled(200000)))::int,
    now() - interval '1 day' * (bench.scaled(2000) * (1 - n::float8 / bench.scaled(200000))), now()
from generate_series(1, bench.scaled(200000)) n,
    lateral (select floor(random() ^ 2 * (bench.scaled(100000) - 1))::bigint + 2 as u) person;

insert into journal_entry_versions (user_id, entry_id, version, sealed, updated_at)
select user_id, id, 1, sealed, updated_at from journal_entries;
insert into journal_tags (user_id, tag, entry_id)
select user_id, decode(md5('tag' || (mood + t * 3)), 'hex'), id from journal_entries, generate_series(1, 2) t
on conflict do nothing;

insert into drafts (user_id, id, version, sealed, saved_at, deleted_at, entry_id)
select bench.person(u), bench.id('draft', n), lpad(to_hex(1750000000000 + n), 12, '0') || repeat('0', 20),
    decode(repeat(md5('draft' || n), 20), 'hex'), now() - interval '1 minute' * n,
    case when n % 3 = 0 then now() - interval '10 minutes' * n end, case when n % 6 = 0 then bench.id('entry', n) end
from generate_series(1, bench.scaled(60000)) n,
    lateral (select floor(random() ^ 2 * (bench.scaled(100000) - 1))::bigint + 2 as u) person;

insert into moods (user_id, id, score, sealed, logged_at, created_at)
select bench.person(u), bench.id('mood', n), n % 5 + 1, decode(repeat(md5('mood' || n), 4), 'hex'),
    now() - interval '1 minute' * n, now()
from generate_series(1, bench.scaled(200000)) n,
    lateral (select floor(random() ^ 2 * (bench.scaled(100000) - 1))::bigint + 2 as u) person;
