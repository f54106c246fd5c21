-- How those who may read a circle come in: by themselves, or by invitation alone.

set lock_timeout = '5s';

alter table circles add column join_policy text not null default 'open' check (join_policy in ('open', 'invite_only'));
