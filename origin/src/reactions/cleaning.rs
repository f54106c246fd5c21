//! Removing reactions that were taken back.
//!
//! Their rows stay for a day, so that no older intent undoes them.

use optimist_plane::statements;

statements! {
    pub const CLEAN: &str = "-- jobs::clean_reactions
with old as (
    select circle_id, message_id, kind, user_id from reactions
    where not is_on and reacted_at < now() - interval '1 day' limit $1),
gone as (
    delete from reactions r using old
    where (r.circle_id, r.message_id, r.kind, r.user_id) = (old.circle_id, old.message_id, old.kind, old.user_id)
      and not r.is_on and r.reacted_at < now() - interval '1 day'
    returning 1)
select count(*) from gone";
}
