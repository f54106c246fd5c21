-- A crowd that grows: `bench.grown` messages (from 100,000) in circles of 40, and a tenth as many people, with reactions, activity,
-- notifications, journals and the rest in proportion. The messages are of the past 36 months: the older, the fewer.
--
-- Whoever the statements are run for is the same in each crowd: circle 1 has 20,000 messages, numbered from 80,001, the newest 18,000
-- within some weeks; circle 2 has 5,000 members. Those who have as much as they may are in subjects.sql.
--
-- Rows go in by time, so that each month's indexes are in memory while they grow. Triggers are off.

create function bench.grown() returns bigint language sql stable parallel safe as $$
    select current_setting('bench.grown')::bigint $$;
create function bench.people() returns bigint language sql stable parallel safe as $$ select bench.grown() / 10 $$;
create function bench.circles() returns bigint language sql stable parallel safe as $$ select (bench.grown() - 20000) / 40 $$;
-- The number of a circle's newest message, and of its members; its k-th member; member 0 is the owner.
create function bench.messages(circle bigint) returns bigint language sql stable parallel safe as $$
    select case circle when 1 then 100000 else 40 end $$;
create function bench.members(circle bigint) returns bigint language sql stable parallel safe as $$
    select case when circle <= 2 then 5000 else 10 end $$;
create function bench.member(circle bigint, k bigint) returns bigint language sql stable parallel safe as $$
    select case when circle <= 2 and k = 0 then 1 else (circle * 7919 + k * 104729) % bench.people() + 1 end $$;
-- The newest message of circles 1 to 2,000 is of now; others wrote theirs at times of their own.
create function bench.message(circle bigint, n bigint) returns uuid language sql stable parallel safe as $$
    select bench.id_ago((94608000000 * (1 - least(1, case
        when circle = 1 then case when n > 82000 then n / 100000.0 else (n - 80000) / 2000.0 * 0.82 end
        when circle <= 2000 then n / 40.0
        else (n - 1 + circle % 1000 / 1000.0) / 40.0 end::float8)) ^ 2)::bigint, 'message', circle * 1000000 + n) $$;

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
from generate_series(1, bench.people()) n;

-- Circles beyond the first 3,000 have messages in the same months as one of those.
insert into circles (id, name, description, visibility, owner_id, member_count, last_number, archived_at, created_at, months,
    month_numbers, last_id, active_at, category)
select bench.circle(n), 'Circle ' || n, repeat('d', 100 + n::int % 300), case n % 3 when 0 then 'private' else 'public' end,
    bench.person(bench.member(n, 0)), bench.members(n), bench.messages(n), case when n % 50 = 49 then now() end,
    now() - interval '1 minute' * n, months, numbers, bench.message(n, bench.messages(n)),
    now() - interval '1 minute' * n, case n % 4 when 1 then 'sleep' end
from generate_series(1, bench.circles()) n
join (
    select circle, array_agg(month order by month) as months, array_agg(number order by month) as numbers
    from (
        select circle, id_month(bench.message(circle, i)) as month, min(i) as number
        from generate_series(1, least(3000, bench.circles())) circle,
            lateral generate_series(case circle when 1 then 80001 else 1 end, bench.messages(circle)) i
        group by 1, 2) month
    group by 1) of_circle on circle = case when n <= 3000 then n else 2001 + (n - 2001) % 1000 end;

insert into memberships (circle_id, user_id, role, joined_at)
select bench.circle(n), bench.person(bench.member(n, k)), case k when 0 then 'owner' when 1 then 'moderator' else 'member' end,
    now() - interval '90 days' + k * interval '1 minute'
from generate_series(1, bench.circles()) n, generate_series(0, bench.members(n) - 1) k
on conflict do nothing;

insert into read_markers (circle_id, user_id, number)
select circle_id, user_id, greatest(last_number - 7, 0) from memberships join circles on circles.id = circle_id;

insert into invites (id, circle_id, token_hash, token_key, created_by, for_user, created_at, expires_at)
select bench.id('invite', n), bench.circle(n % bench.circles() + 1), md5('invite' || n), 'k1',
    bench.person(bench.member(n % bench.circles() + 1, 0)), case when n % 2 = 0 then bench.person(n) end,
    now() - interval '1 hour' * (n % 300), now() + interval '7 days' - interval '1 hour' * (n % 300)
from generate_series(1, bench.people() / 4) n;

insert into messages (id, circle_id, number, author_id, body, created_at, deleted_at)
select id, bench.circle(n), i, bench.person(bench.member(n, i % 10)),
    repeat('A line of a morning page. ', 1 + ((n + i) % 10)::int), id_time(id), case when i % 40 = 7 then now() end
from generate_series(1, 40) i, generate_series(2, bench.circles()) n, lateral (select bench.message(n, i) as id offset 0) given;
insert into messages (id, circle_id, number, author_id, body, created_at, deleted_at)
select id, bench.circle(1), i, bench.person(case when i > 97500 then 1 else bench.member(1, i % 5000) end),
    repeat('A line of a morning page. ', 1 + (i % 10)::int), id_time(id), case when i % 40 = 0 then now() end
from generate_series(80001, 100000) i, lateral (select bench.message(1, i) as id offset 0) given;

-- Every fourth message has two reactions; in circle 1 up to eight, and its newest 12,000.
insert into reactions (circle_id, message_id, kind, user_id, is_on, stamp_ms, stamp_seq, generation, is_through, reacted_at)
select bench.circle(n), id, i / 4 % 6 + 1, bench.person(bench.member(n, k)), true, 1750000000000 + i, k, 1, false, id_time(id)
from generate_series(4, 40, 4) i, generate_series(2, bench.circles()) n, lateral (select bench.message(n, i) as id offset 0) given,
    generate_series(2, 3) k;
insert into reaction_counts (circle_id, message_id, kind, count)
select bench.circle(n), bench.message(n, i), i / 4 % 6 + 1, 2
from generate_series(4, 40, 4) i, generate_series(2, bench.circles()) n;
insert into reactions (circle_id, message_id, kind, user_id, is_on, stamp_ms, stamp_seq, generation, is_through, reacted_at)
select bench.circle(1), bench.message(1, i), k % 6 + 1, bench.person(bench.member(1, k % 5000)), k % 20 <> 19, 1750000000000 + i, k, 1,
    false, now() - interval '1 second' * (i % 100000 + k)
from generate_series(80004, 100000, 4) i,
    lateral generate_series(1, case i when 100000 then 12000 else (random() ^ 2 * 8)::int end) k
on conflict do nothing;
insert into reaction_counts (circle_id, message_id, kind, count)
select circle_id, message_id, kind, count(*) from reactions where is_on and circle_id = bench.circle(1) group by 1, 2, 3;

insert into idempotency (user_id, route, key, request_hash, status, resource, created_at)
select bench.person(n % bench.people() + 1), 'messages.post', 'key-' || n, md5('hash' || n) || md5('h' || n), 201, bench.id('r', n),
    now() - interval '30 hours' * (n::float8 / (bench.grown() / 50))
from generate_series(1, bench.grown() / 50) n;

-- The outbox rows are of transactions long finished; all but the last hundred are processed.
insert into regions (name, cursor_xid, cursor_seq) values ('bench', '399', 0), ('elsewhere', '399', 0) on conflict do nothing;
insert into outbox (xid, region, actor, session, request_id, keys, kind, payload, topics, created_at)
select (100 + n * 300 / (bench.grown() / 50))::text::xid8, 'bench', bench.person(n % bench.people() + 1), bench.session(n), bench.id('request', n)::text,
    array['circle:{p001}:' || bench.circle(n % bench.circles() + 1) || ':messages'], 'message.posted',
    jsonb_build_object('circle', bench.circle(n % bench.circles() + 1), 'message', bench.id('r', n), 'number', n),
    array[bench.circle(n % bench.circles() + 1)], now() - interval '30 hours' * (1 - n::float8 / (bench.grown() / 50))
from generate_series(1, bench.grown() / 50) n;

-- A tenth is unread.
insert into notifications (user_id, month, id, kind, circle_id, message_id, actor_id, actors, created_at, updated_at, read_at, place)
select bench.person(4 + n % (bench.people() - 3)), id_month(id), id, case n % 3 when 0 then 'reaction' else 'message' end,
    bench.circle(circle), bench.message(circle, n % 40 + 1), bench.person(n % bench.people() + 1), 1, id_time(id), id_time(id),
    case when n % 10 > 0 then now() end, n / (bench.people() - 3) + 1
from generate_series(1, bench.grown() / 10) n,
    lateral (select bench.id_ago((7948800000 * (1 - n::float8 / (bench.grown() / 10)))::bigint, 'notification', n) as id,
        2 + n % (bench.circles() - 1) as circle offset 0) given
on conflict do nothing;
insert into notification_actors (user_id, month, notification_id, actor_id, acted_at)
select user_id, month, id, actor_id, updated_at from notifications where kind = 'reaction';

-- All members of circle 2 are active today.
insert into activity (circle_id, user_id, day, posts, reactions, last_seen_at)
select bench.circle(n % bench.circles() + 1), bench.person(bench.member(n % bench.circles() + 1, n / bench.circles() % 10)),
    now()::date - (1095 * (1 - n::float8 / (bench.grown() / 10)))::int, 1 + (n % 5)::int, 3, now()
from generate_series(1, bench.grown() / 10) n
on conflict do nothing;
insert into activity (circle_id, user_id, day, posts, reactions, last_seen_at)
select bench.circle(2), bench.person(bench.member(2, k)), now()::date, 1, 3, now() from generate_series(0, 4999) k
on conflict do nothing;

-- The audit trail holds thirteen months.
insert into audit (at, xid, seq, kind, actor, circle_id, user_id, payload)
select now() - interval '400 days' * (1 - n::float8 / (bench.grown() / 20)), '200', n,
    case n % 5 when 0 then 'member.joined' else 'session.opened' end, bench.person(n % bench.people() + 1),
    case n % 5 when 0 then bench.circle(n % bench.circles() + 1) end, bench.person(n % bench.people() + 1),
    jsonb_build_object('session', bench.session(n))
from generate_series(1, bench.grown() / 20) n;

insert into deliveries (user_id, subject, target, channel, state, attempts, due_at, created_at, ended_at)
select bench.person(2 + n % (bench.people() - 2)), bench.id('delivery', n), bench.id('target', n % (bench.people() - 2)),
    case when n % 3 = 0 then 'webhook' else 'web-push' end, case when n % 20 = 0 then 'queued' else 'sent' end, 1,
    now() - interval '1 second' * (n % 7000), now() - interval '10 days' * (n::float8 / (bench.grown() / 50)),
    case when n % 20 > 0 then now() end
from generate_series(1, bench.grown() / 50) n;

-- Half of the people keep a journal.
insert into journal_keys (user_id, kek_id, wrapped)
select bench.person(n), case when n < bench.people() * 0.45 then 'k2' else 'k1' end, decode(repeat(md5('key' || n), 2), 'hex')
from generate_series(1, bench.people() / 2) n;
insert into journal_entries (user_id, id, version, sealed, mood, entry_date, created_at, updated_at)
select bench.person(2 + n % (bench.people() / 2 - 2)), bench.id('entry', n), 2, decode(repeat(md5('entry' || n), 20), 'hex'), n % 5 + 1,
    now()::date - (1095 * (1 - n::float8 / (bench.grown() / 20)))::int, now() - interval '1095 days' * (1 - n::float8 / (bench.grown() / 20)), now()
from generate_series(1, bench.grown() / 20) n;
insert into journal_entry_versions (user_id, entry_id, version, sealed, updated_at)
select user_id, id, 1, sealed, updated_at from journal_entries;
insert into journal_tags (user_id, tag, entry_id)
select user_id, decode(md5('tag' || (mood + t * 3)), 'hex'), id from journal_entries, generate_series(1, 2) t
on conflict do nothing;
insert into drafts (user_id, id, version, sealed, saved_at, deleted_at, entry_id)
select bench.person(2 + n % (bench.people() / 2 - 2)), bench.id('draft', n), lpad(to_hex(1750000000000 + n), 12, '0') || repeat('0', 20),
    decode(repeat(md5('draft' || n), 20), 'hex'), now() - interval '1 minute' * n,
    case when n % 3 = 0 then now() - interval '10 minutes' * n end, case when n % 6 = 0 then bench.id('entry', n) end
from generate_series(1, bench.grown() / 50) n;
insert into moods (user_id, id, score, sealed, logged_at, created_at)
select bench.person(2 + n % (bench.people() / 2 - 2)), bench.id('mood', n), n % 5 + 1, decode(repeat(md5('mood' || n), 4), 'hex'),
    now() - interval '1095 days' * (1 - n::float8 / (bench.grown() / 20)), now()
from generate_series(1, bench.grown() / 20) n;
