-- Counts the changes of a password: a token that shows a known device is signed with the number, and a change voids it.

set lock_timeout = '5s';

alter table users add column password_version bigint not null default 1;
