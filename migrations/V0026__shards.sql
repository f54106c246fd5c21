-- The tables of people's own rows. `optimist-origin migrate --citus` spreads them over the servers of a Citus cluster by
-- `user_id`, the rows of one person on one server. So every key of them leads with `user_id`, no foreign key leads in or out, and a
-- request's statement names one person.

set lock_timeout = '5s';

create table sharded (name text primary key);
insert into sharded (name) values
    ('drafts'), ('journal_entries'), ('journal_entry_versions'), ('journal_keys'), ('journal_tags'), ('moods'),
    ('notifications'), ('notification_actors'), ('notification_actors_gone'), ('notification_counts');
