//! The statement of the hourly job that removes what was decided long ago.

use optimist_plane::statements;

statements! {
    /// With its reports: a hundred of each round.
    pub const CLEAN: &str = "-- reports::clean
with gone as (
    delete from report_cases where ctid = any(array(
        select ctid from report_cases where decided_at < now() - interval '90 days' limit $1))
    returning 1)
select count(*) from gone";
}
