-- People, circles and messages, and what makes writing them safe to repeat.
--
-- Ids are UUIDv7, made by the origin. Texts are bounded here as well as in the API, so that no other writer can exceed
-- what caches and answers are built for.

set lock_timeout = '5s';

create table users (
    id uuid primary key,
    email text not null check (length(email) <= 254),
    password_hash text not null,
    name text not null check (length(name) between 1 and 80),
    bio text not null default '' check (length(bio) <= 1000),
    time_zone text not null default 'UTC',
    status text not null default 'active' check (status in ('active', 'suspended')),
    role text not null default 'user' check (role in ('user', 'admin')),
    email_verified_at timestamptz,
    home_region text not null,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create unique index users_email_key on users (lower(email));

-- A session and the refresh token that succeeds it. Secrets are HMACs under a server key of the parent's, so that a retry
-- derives the same successor; only hashes are kept.
create table sessions (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    family uuid not null,
    parent uuid references sessions on delete set null,
    secret_hash text not null,
    refresh_hash text not null,
    token_key text not null,
    created_at timestamptz not null default now(),
    idle_until timestamptz not null,
    absolute_until timestamptz not null,
    first_used_at timestamptz,
    refreshed_at timestamptz,
    revoked_at timestamptz,
    user_agent text check (length(user_agent) <= 256)
);
create index sessions_of_user on sessions (user_id) where revoked_at is null;
create index sessions_of_family on sessions (family);
-- One successor each, whatever happens: a retry gets the same.
create unique index sessions_successor on sessions (parent) where parent is not null;
create index sessions_ended on sessions (absolute_until);

-- Attempts to log in while Redis cannot count them.
create table login_attempts (
    account text not null,
    attempted_at timestamptz not null default clock_timestamp()
);
create index login_attempts_of_account on login_attempts (account, attempted_at);

create table circles (
    id uuid primary key,
    name text not null check (length(name) between 1 and 80),
    description text not null default '' check (length(description) <= 2000),
    rules text not null default '' check (length(rules) <= 8000),
    visibility text not null check (visibility in ('public', 'private')),
    owner_id uuid not null references users,
    member_count integer not null default 1,
    -- The number of the newest message; counted under the circle's lock.
    last_number bigint not null default 0,
    version bigint not null default 1,
    archived_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index circles_discovery on circles (created_at desc, id desc) where visibility = 'public' and archived_at is null;

create table memberships (
    circle_id uuid not null references circles,
    user_id uuid not null references users,
    role text not null check (role in ('owner', 'moderator', 'member', 'banned')),
    joined_at timestamptz not null default now(),
    constraint memberships_pkey primary key (circle_id, user_id)
);
create index memberships_of_user on memberships (user_id);
create index memberships_in_order on memberships (circle_id, joined_at, user_id) where role <> 'banned';
create unique index memberships_one_owner on memberships (circle_id) where role = 'owner';

create table invites (
    id uuid primary key,
    circle_id uuid not null references circles,
    -- Derived from the id under a server key: a retry renders the same token. Only its hash is kept.
    token_hash text not null unique,
    token_key text not null,
    created_by uuid not null references users,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_by uuid references users,
    used_at timestamptz
);

create table messages (
    id uuid not null,
    circle_id uuid not null references circles,
    number bigint not null,
    author_id uuid not null references users,
    body text not null check (length(body) <= 8000),
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    edited_at timestamptz,
    deleted_at timestamptz,
    primary key (circle_id, id)
);
create unique index messages_in_circle on messages (circle_id, number desc) include (deleted_at);

-- What a POST answered, so that its repetition answers the same: status and resource, rendered anew.
create table idempotency (
    user_id uuid not null references users on delete cascade,
    route text not null,
    key text not null check (length(key) <= 255),
    request_hash text not null,
    status smallint not null,
    resource uuid not null,
    created_at timestamptz not null default now(),
    primary key (user_id, route, key)
);
create index idempotency_by_age on idempotency (created_at);
