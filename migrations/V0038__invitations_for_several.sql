-- An invitation may be for several people. `used_at` is when the last of them used it up, `used_by` who used it last.

set lock_timeout = '5s';

alter table invites add column uses smallint not null default 1 check (uses between 1 and 100);
alter table invites add column used smallint not null default 0;

create or replace view usable_invites as
select i.id, i.circle_id, i.token_hash, i.token_key, i.created_by, i.for_user, i.created_at, i.expires_at, i.uses, i.used
from invites i
join circles c on c.id = i.circle_id and c.archived_at is null
where i.used_at is null and i.revoked_at is null and i.expires_at > now()
  and (select maker.role in ('owner', 'moderator') from memberships maker
      where maker.circle_id = i.circle_id and maker.user_id = i.created_by);
