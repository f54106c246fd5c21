-- Indexes for statements that would otherwise read what others have left.

set lock_timeout = '5s';

-- A log-in's live sessions, among those that have ended.
create index sessions_live_of_family on sessions (family) where revoked_at is null;
create index changed_names_by_age on changed_names (changed_at);
create index login_attempts_by_age on login_attempts (attempted_at);
