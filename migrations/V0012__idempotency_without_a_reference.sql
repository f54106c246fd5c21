-- A record of an answer is written by a session of its user's and is gone after a day. To check with each that there is such a
-- user, and lock the user's row, was a fifth of the cost of writing it down, and users are never deleted.

set lock_timeout = '5s';

alter table idempotency drop constraint idempotency_user_id_fkey;
