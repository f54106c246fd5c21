-- Sixty thousand people more who have one row each of what a person may have thousands of: then a person has hardly more than one
-- on average, and an index that finds the rows of a person looks as good as the one that finds the row.
set session_replication_role = replica;
create function bench.thin(n bigint) returns uuid language sql stable parallel safe as $$ select bench.id('thin', n) $$;
insert into moods (user_id, id, score, sealed, logged_at, created_at)
select bench.thin(n), bench.id('mood-of', n), 3, 'sealed', now(), now() from generate_series(1, 60000) n;
insert into journal_entries (user_id, id, version, sealed, mood, entry_date, created_at, updated_at)
select bench.thin(n), bench.id('entry-of', n), 1, 'sealed', 3, now()::date, now(), now() from generate_series(1, 60000) n;
insert into journal_entry_versions (user_id, entry_id, version, sealed, updated_at)
select bench.thin(n), bench.id('entry-of', n), 1, 'sealed', now() from generate_series(1, 60000) n;
insert into journal_tags (user_id, tag, entry_id)
select bench.thin(n), 'tag', bench.id('entry-of', n) from generate_series(1, 60000) n;
insert into drafts (user_id, id, version, sealed, saved_at)
select bench.thin(n), bench.id('draft-of', n), repeat('0', 32), 'sealed', now() from generate_series(1, 60000) n;
insert into sessions (id, user_id, family, secret_hash, refresh_hash, token_key, created_at, idle_until, absolute_until)
select bench.id('session-of', n), bench.thin(n), bench.id('session-of', n), 's' || n, 'r' || n, 'k1', now(),
    now() + interval '29 minutes', now() + interval '30 days'
from generate_series(1, 60000) n;
insert into memberships (circle_id, user_id, role, joined_at)
select bench.id('circle-of', n), bench.thin(n), 'owner', now() from generate_series(1, 60000) n;
set session_replication_role = origin;
analyze moods, journal_entries, journal_entry_versions, journal_tags, drafts, sessions, memberships;
