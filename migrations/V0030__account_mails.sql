-- Accounts to be, and the tokens of mails. A mail itself is a row of `deliveries`; its token is made when it is sent, and only the
-- token's hash is kept.

set lock_timeout = '5s';

-- The language of mails to a person.
alter table users add column locale text not null default 'en' check (locale in ('en', 'de'));

-- Accounts to be, where an address must be verified first. Several people may ask for one address: whoever has its mail decides.
create table registrations (
    id uuid primary key,
    email text not null check (length(email) <= 254),
    password_hash text not null,
    name text not null check (length(name) between 1 and 80),
    time_zone text not null,
    locale text not null check (locale in ('en', 'de')),
    created_at timestamptz not null default now()
);
create index registrations_of_email on registrations (lower(email), id desc);
create index registrations_old on registrations (created_at);

-- Each shows that its bearer reads the mails of an address.
create table account_tokens (
    hash text primary key,
    purpose text not null check (purpose in ('register', 'verify', 'change', 'reset')),
    -- The address that the mail went to.
    email text not null,
    user_id uuid references users on delete cascade,
    registration_id uuid references registrations on delete cascade,
    -- A token to reset a password is void once it has changed.
    password_version bigint,
    expires_at timestamptz not null,
    check ((user_id is null) <> (registration_id is null))
);
create index account_tokens_of_user on account_tokens (user_id, purpose) where user_id is not null;
create index account_tokens_of_registration on account_tokens (registration_id) where registration_id is not null;
create index account_tokens_old on account_tokens (expires_at);
