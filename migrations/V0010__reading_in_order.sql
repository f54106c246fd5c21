-- Indexes in the very order in which journals are read, so that a page, or a streak, costs what it shows.

set lock_timeout = '5s';

create index journal_entries_in_order on journal_entries (user_id, created_at desc, id desc);
drop index journal_entries_newest;

-- Streaks read days alone, and when each was written about.
create index journal_entries_by_day on journal_entries (user_id, entry_date desc, id desc) include (created_at);
drop index journal_entries_by_date;

-- What is unread is read by its id, or in that order.
create index notifications_unread_in_order on notifications (user_id, id) where read_at is null;
drop index notifications_unread;
