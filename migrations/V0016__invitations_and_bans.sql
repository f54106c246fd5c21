-- Invitations that can be revoked, and are valid only while their maker may invite; lists of both, and of bans.

set lock_timeout = '5s';

alter table invites add column revoked_at timestamptz;

-- Those of a circle that can still be used, newest first. Ids are in the order of their making.
create index invites_open on invites (circle_id, id desc) where used_at is null and revoked_at is null;
-- For the job that removes them.
create index invites_by_expiry on invites (expires_at);

-- The invitations that can be used at this moment: one definition for joining, for lists and for notifications.
create view usable_invites as
select i.id, i.circle_id, i.token_hash, i.token_key, i.created_by, i.for_user, i.created_at, i.expires_at
from invites i
join circles c on c.id = i.circle_id and c.archived_at is null
join memberships maker on maker.circle_id = i.circle_id and maker.user_id = i.created_by
    and maker.role in ('owner', 'moderator')
where i.used_at is null and i.revoked_at is null and i.expires_at > now();

-- `joined_at` of someone who is banned is when they were banned.
create index memberships_banned on memberships (circle_id, joined_at desc, user_id desc) where role = 'banned';

-- The circles that someone is in, in an order that a job can resume. Bans, of which others decide how many there are, do not count.
create index memberships_held on memberships (user_id, circle_id) where role <> 'banned';
drop index memberships_of_user;
