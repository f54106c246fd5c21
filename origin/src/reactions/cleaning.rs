//! Removing reactions that were taken back.
//!
//! Their rows stay for a day, so that no older intent undoes them.

use optimist_plane::statements;

statements! {
    pub const CLEAN: &str = "-- jobs::clean_reactions
with gone as (
    delete from reactions where ctid = any(array(
        select ctid from reactions where not is_on and reacted_at < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";
}
