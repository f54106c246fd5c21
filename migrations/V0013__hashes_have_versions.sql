-- Which parts of a request its hash covers: 1, four ids of its path and its body; 2, its whole path and its body. A record is
-- good for a day, so a release that knows no records of version 1 may follow a day later. During the roll-out an origin of the
-- release before takes a repetition of what a newer one has recorded for another request, and says so (`key-reused`).

set lock_timeout = '5s';

alter table idempotency add column hash_version smallint not null default 1;
