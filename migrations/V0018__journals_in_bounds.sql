-- Journals in bounds: of an entry's former texts the newest twenty, each once; what a draft's late save is told by; versions of
-- moods; and where on earth an entry was written, which streaks ask for.

set lock_timeout = '5s';

-- A keyed digest of title and text: a text that came back replaces its earlier row. Older rows have none.
alter table journal_entry_versions add column text_digest bytea;

-- Every change kept a row until now, also one that left the text as it was.
delete from journal_entry_versions v using (
    select user_id, entry_id, version,
        row_number() over (partition by user_id, entry_id order by version desc) as place
    from journal_entry_versions) numbered
where (v.user_id, v.entry_id, v.version) = (numbered.user_id, numbered.entry_id, numbered.version) and numbered.place > 20;

-- The entry that a draft was saved as, and the editor and the number of its edit that the entry contains.
alter table drafts add column entry_id uuid, add column editor uuid, add column edit bigint;

-- Grows with each change.
alter table moods add column version bigint not null default 1;

-- Minutes that the writer's clock was ahead of UTC; unknown for older entries.
alter table journal_entries add column utc_offset_minutes smallint check (utc_offset_minutes between -1440 and 1440);
