-- Discarded drafts leave for a day, and those that became an entry for a month: each is found by its own index. And everyone who
-- reacted to a message, page by page.

set lock_timeout = '5s';

create index drafts_discarded on drafts (deleted_at) where deleted_at is not null and entry_id is null;

create index reactions_in_order on reactions (circle_id, message_id, reacted_at desc, user_id desc, kind desc) where is_on;
drop index reactions_newest;
