-- Private writing: sealed by the origin before it comes here. What is in the clear: whose it is, when, a mood's score, which
-- prompt; and tags as keyed digests, to be found by.

set lock_timeout = '5s';

-- A user's data key, wrapped by a key encryption key. Whoever destroys this row destroys all that it sealed.
create table journal_keys (
    user_id uuid primary key references users on delete cascade,
    kek_id text not null,
    wrapped bytea not null,
    created_at timestamptz not null default now(),
    rewrapped_at timestamptz
);
create index journal_keys_of_kek on journal_keys (kek_id);

create table prompts (
    id uuid primary key,
    category text not null,
    body text not null,
    place integer not null
);

create table drafts (
    user_id uuid not null references users on delete cascade,
    id uuid not null,
    -- Grows with each save, as a text.
    version text collate "C" not null,
    -- The newest version that a save here was based on without its being here.
    overtook text collate "C" not null default '',
    sealed bytea not null,
    -- The draft that this text lost a conflict about.
    sibling_of uuid,
    saved_at timestamptz not null,
    -- Saved for good, or discarded: no flush brings it back. Its version is the newest that was known then.
    deleted_at timestamptz,
    primary key (user_id, id)
);
create index drafts_newest on drafts (user_id, saved_at desc, id desc) where deleted_at is null;
create index drafts_deleted on drafts (deleted_at) where deleted_at is not null;

create table journal_entries (
    user_id uuid not null references users on delete cascade,
    id uuid not null,
    version bigint not null default 1,
    sealed bytea not null,
    mood smallint check (mood between 1 and 5),
    prompt_id uuid references prompts,
    entry_date date not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (user_id, id)
);
create index journal_entries_by_date on journal_entries (user_id, entry_date desc, id desc);
create index journal_entries_newest on journal_entries (user_id, created_at desc);

-- What an entry said before it was changed.
create table journal_entry_versions (
    user_id uuid not null,
    entry_id uuid not null,
    version bigint not null,
    sealed bytea not null,
    updated_at timestamptz not null,
    primary key (user_id, entry_id, version),
    foreign key (user_id, entry_id) references journal_entries on delete cascade
);

create table journal_tags (
    user_id uuid not null,
    tag bytea not null,
    entry_id uuid not null,
    primary key (user_id, tag, entry_id),
    foreign key (user_id, entry_id) references journal_entries on delete cascade
);
create index journal_tags_of_entry on journal_tags (user_id, entry_id);

create table moods (
    user_id uuid not null references users on delete cascade,
    id uuid not null,
    score smallint not null check (score between 1 and 5),
    -- Emotions, note and tags.
    sealed bytea not null,
    logged_at timestamptz not null,
    created_at timestamptz not null,
    primary key (user_id, id)
);
create index moods_newest on moods (user_id, logged_at desc, id desc);
