-- Of an account that is suspended: until when, unless an administrator is to end it, and why.

set lock_timeout = '5s';

alter table users
    add column suspended_until timestamptz,
    add column suspension_reason text check (length(suspension_reason) <= 500),
    add check (status = 'suspended' or (suspended_until is null and suspension_reason is null)) not valid;

create index users_suspended_until on users (suspended_until) where suspended_until is not null;
