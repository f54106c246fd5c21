-- Those who have as much of everything as limits and caps allow, or a year at the limit where there is no cap: person 1 and circles 2
-- and 4. Person 3 has more notifications than the cap, as before an eviction. They are the same in any crowd.

-- Person 1 has as many as the cap admits, of as many log-ins, and those that ended in the past month: one log-in with a
-- refresh for each of its 200 a day, and 500 log-ins a day.
insert into sessions (id, user_id, family, secret_hash, refresh_hash, token_key, created_at, idle_until, absolute_until,
    first_used_at, revoked_at)
select bench.id('mine', n), bench.person(1), case when n % 3 = 0 then bench.id('mine', 3) else bench.id('mine', n) end,
    md5('a' || n), md5('b' || n), 'k1', now() - interval '30 days' * (n / 15000.0),
    now() + interval '20 minutes', now() + interval '30 days' * (1 - n / 15000.0), now(), case when n > 50 then now() end
from generate_series(1, 15000) n;

-- A circle without members.
insert into circles (id, name, visibility, owner_id) values (bench.circle(0), 'Circle 0', 'public', bench.person(1));

insert into memberships (circle_id, user_id, role, joined_at)
select bench.circle(n), bench.person(1), 'member', now() - interval '1 minute' * n from generate_series(3, 500) n
on conflict do nothing;

-- So many want to be found by their names.
update users set discoverable = true where id in (select bench.person(n) from generate_series(1, 2000) n);

-- Circle 4 has banned as many as it may.
insert into memberships (circle_id, user_id, role, joined_at)
select bench.circle(4), bench.person(n), 'banned', now() - interval '1 minute' * n from generate_series(1001, 6000) n
on conflict (circle_id, user_id) do update set role = 'banned';

-- Circle 2 has as many as it may, and as many that have just expired.
insert into invites (id, circle_id, token_hash, token_key, created_by, created_at, expires_at)
select bench.id('mine', n), bench.circle(2), md5('mine' || n), 'k1', bench.person(1), now(),
    now() + interval '1 hour' * case when n <= 200 then 100 else -1 end
from generate_series(1, 400) n;

insert into login_attempts (account, attempted_at)
select md5('account' || n % 1000), now() - interval '18 seconds' * n from generate_series(1, 5000) n;
-- As many as there can be within the quarter of an hour, and before it.
insert into login_attempts (account, attempted_at)
select md5('account7'), now() - interval '8 seconds' * n from generate_series(1, 200) n;

update regions set cursor_xid = last.xid, cursor_seq = last.seq
from (select xid, seq from outbox order by xid desc, seq desc offset 100 limit 1) last;
update projections set xid = last.xid, seq = last.seq
from (select xid, seq from outbox order by xid desc, seq desc offset 100 limit 1) last;
insert into origins (id, region, seen_at, redis_ok) select bench.id('origin', n), 'bench', now(), true from generate_series(1, 3) n;
insert into write_behind (region, partition, generation) select region, p, 1
from unnest(array['bench', 'elsewhere']) region, generate_series(0, 255) p on conflict do nothing;

-- Person 1's are all unread. The first three are told by 3,000 people each; a fold of those of person 3 too.
insert into notifications (user_id, month, id, kind, circle_id, message_id, actor_id, actors, created_at, updated_at)
select bench.person(who.person), id_month(bench.id('mine', n)), bench.id('mine', n), case n % 3 when 0 then 'reaction' else 'message' end, bench.circle(1),
    bench.message(1, 99000 + n), bench.person(n + 3), 1, now() - interval '1 minute' * n, now() - interval '1 minute' * n
from (values (1, 1000), (3, 3500)) who (person, has), generate_series(1, who.has) n;
insert into notification_actors (user_id, month, notification_id, actor_id, acted_at)
select user_id, month, id, actor_id, updated_at from notifications
where kind = 'reaction' and user_id in (bench.person(1), bench.person(3));
insert into notification_actors (user_id, month, notification_id, actor_id, acted_at)
select bench.person(1), id_month(bench.id('mine', n)), bench.id('mine', n), bench.person(k), now() from generate_series(3, 9, 3) n, generate_series(1, 3000) k
on conflict do nothing;
-- Folds that were removed, one of them large.
insert into notification_actors_gone (user_id, month, notification_id)
select bench.person(1), id_month(bench.id('gone', n)), bench.id('gone', n) from generate_series(1, 1500) n;
insert into notification_actors (user_id, month, notification_id, actor_id, acted_at)
select bench.person(1), id_month(bench.id('gone', n)), bench.id('gone', n), bench.person(k), now() from generate_series(1, 3) n, generate_series(1, 3000) k;

-- Without statistics each row would look for its place in all the places.
analyze notifications;
update notifications n set place = placed.place
from (
    select user_id, month, id, row_number() over (partition by user_id order by updated_at, id) as place
    from notifications where place = 0
) placed
where n.user_id = placed.user_id and n.month = placed.month and n.id = placed.id;
insert into notification_counts (user_id, unread, last_place, held)
select user_id, count(*) filter (where read_at is null), max(place), count(*) from notifications group by 1;

insert into audit (at, xid, seq, kind, actor, user_id, payload)
select now() - interval '30 days' * (n / 15000.0), '201', n, 'session.opened', bench.person(1), bench.person(1),
    jsonb_build_object('session', bench.id('mine', n))
from generate_series(1, 15000) n;

-- Twenty devices, and all deliveries that are kept.
insert into push_tokens (user_id, id, channel, endpoint, token_key, verified_at)
select bench.person(1), bench.id('target', t), 'push', 'https://push.example.org/' || t, 'k1', now()
from generate_series(1, 20) t;
insert into notification_mutes (user_id, circle_id, until)
select bench.person(1), bench.circle(n), now() + interval '1 day' from generate_series(2, 500) n;
insert into deliveries (user_id, subject, target, channel, state, attempts, due_at, created_at, ended_at)
select bench.person(1), bench.id('mine', n), bench.id('target', t), 'push', case when n = 1 then 'queued' else 'claimed' end, 1,
    now() - interval '1 minute', now() - interval '1 minute' * n, case when n > 2 then now() end
from generate_series(1, 1000) n, generate_series(1, 20) t;

-- Ten entries a day for a year, of 20 tags each, twenty former texts of one, and as many drafts as their quota admits.
insert into journal_entries (user_id, id, version, sealed, mood, entry_date, created_at, updated_at)
select bench.person(1), bench.id('mine', n), 20, decode(repeat(md5('entry' || n), 200), 'hex'), n % 5 + 1,
    now()::date - (n / 10)::int, now() - interval '1 day' * (n / 10), now()
from generate_series(1, 3650) n;

insert into journal_entry_versions (user_id, entry_id, version, sealed, updated_at)
select user_id, id, 1, sealed, updated_at from journal_entries where user_id = bench.person(1);
insert into journal_entry_versions (user_id, entry_id, version, sealed, updated_at, text_digest)
select bench.person(1), bench.id('mine', 1), n, 'sealed', now(), decode(md5('text' || n % 20), 'hex')
from generate_series(2, 19) n;

insert into journal_tags (user_id, tag, entry_id)
select user_id, decode(md5('tag' || (mood + t * 3)), 'hex'), id from journal_entries, generate_series(1, 2) t
where user_id = bench.person(1) on conflict do nothing;
insert into journal_tags (user_id, tag, entry_id)
select bench.person(1), decode(md5('mine' || t), 'hex'), bench.id('mine', n)
from generate_series(1, 3650) n, generate_series(1, 18) t;

insert into drafts (user_id, id, version, sealed, saved_at)
select bench.person(1), bench.id('mine', n), lpad(to_hex(1750000000000 + n), 12, '0') || repeat('0', 20),
    decode(repeat(md5('draft' || n), 256), 'hex'), now() - interval '1 minute' * n
from generate_series(1, 1024) n;

insert into moods (user_id, id, score, sealed, logged_at, created_at)
select bench.person(1), bench.id('mine', n), n % 5 + 1, decode(repeat(md5('mood' || n), 4), 'hex'), now() - interval '72 minutes' * n, now()
from generate_series(1, 7300) n;

-- Everyone has just changed their name.
insert into changed_names (kind, id) select 'person', bench.person(n) from generate_series(1, 20000) n;

insert into jobs (region, name, every_seconds) select 'bench', 'job-' || n, 60 from generate_series(1, 20) n;
insert into consistency (region, data_type, checked_at) select 'bench', 'type-' || n, now() from generate_series(1, 15) n;

set session_replication_role = origin;

-- A message with 1,000 comments, and as many followers as it may have.
update messages m set parent_id = bench.message(1, 98001)
where m.circle_id = bench.circle(1) and m.id > bench.message(1, 98001) and m.id <= bench.message(1, 99001);
update messages m set comments = thread.n, thread_months = months,
    followers = array(select bench.person(bench.member(1, k)) from generate_series(2, 51) k)
from (
    select count(*) filter (where deleted_at is null)::integer as n, array_agg(distinct id_month(id)) as months
    from messages where circle_id = bench.circle(1) and parent_id = bench.message(1, 98001)) thread
where m.circle_id = bench.circle(1) and m.id = bench.message(1, 98001);

-- Person 1 has blocked and muted as many people as they may; as many as hide from anybody have blocked person 2.
insert into blocks (user_id, blocked_id, created_at)
select bench.person(1), bench.person(1 + n), now() - interval '1 minute' * n from generate_series(1, 1000) n
union all select bench.person(10 + n), bench.person(2), now() from generate_series(1, 1500) n;
insert into mutes (user_id, muted_id, created_at)
select bench.person(1), bench.person(1 + n), now() - interval '1 minute' * n from generate_series(1, 1000) n;

-- Person 1 keeps as many messages as they may.
insert into favorites (user_id, message_id, circle_id, added_at)
select bench.person(1), bench.message(1, 95000 + n), bench.circle(1), now() - interval '1 minute' * n from generate_series(1, 5000) n;

-- The days of circles that are counted, two years of ten circles, in which nobody came or went on every other.
insert into activity_days (circle_id, day, part, posts, comments, reactions, people)
select bench.circle(n), now()::date - d, part, 1, 0, 1, 1
from generate_series(2, 11) n, generate_series(0, 730) d, generate_series(0, 1) part;
insert into activity_totals (circle_id, part, comments, reactions)
select circle_id, part, sum(comments), sum(reactions) from activity_days group by circle_id, part;
insert into member_days (circle_id, day, joined, departed, members)
select bench.circle(n), now()::date - 2 * d, 2, 1, 1000 - d from generate_series(2, 11) n, generate_series(0, 365) d;
update circles set counted_from = now()::date - 800 where id in (select circle_id from activity_totals);
-- Many circles were active today and yesterday.
insert into activity_days (circle_id, day, part, posts, comments, reactions, people)
select bench.circle(n), now()::date - d, 0, 1, 0, 1, 1 from generate_series(12, 6000) n, generate_series(0, 1) d;
insert into popular_messages (message_id, circle_id, category, score)
select bench.message(1, 95000 + n), bench.circle(1), 'sleep', n from generate_series(1, 950) n;

-- Reported messages of circle 1: 200 are open, and one of them has a hundred reports. Person 1 wrote, decided and reported some.
insert into report_cases (message_id, circle_id, author_id, number, body, state, decided_by, decided_at)
select bench.message(1, 99700 + n), bench.circle(1), bench.person(1 + n % 50), 99700 + n, 'Text.',
    case when n > 200 then 'dismissed' when n % 10 = 0 then 'escalated' else 'open' end,
    case when n > 200 then bench.person(1) end, case when n > 200 then now() - interval '100 days' end
from generate_series(1, 299) n;
insert into reports (message_id, reporter_id, round, reason, body)
select bench.message(1, 99700 + n), bench.person(1), 1, 'spam', 'Text.' from generate_series(1, 299) n
union all
select bench.message(1, 99990), bench.person(1 + n), 1, 'other', 'Text.' from generate_series(1, 99) n
union all
select bench.message(1, 99700 + n), bench.person(200 + 60 * n + k), 1, 'other', '' from generate_series(1, 280) n, generate_series(1, 49) k;
analyze reports, report_cases, exports, export_pieces;

-- An export of person 1.
insert into exports (user_id, id, sealed_key, pieces) values (bench.person(1), bench.id('export', 1), 'key', 1000);
insert into export_pieces (user_id, export_id, number, sealed)
select bench.person(1), bench.id('export', 1), n, repeat('x', 1000)::bytea from generate_series(0, 999) n;
