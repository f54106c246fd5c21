//! The statements of the hourly job that removes what was decided long ago: reports first, so that no case takes its own with it.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::jobs::clean;
use optimist_plane::statements;

statements! {
    const CLEAN_REPORTS: &str = "-- reports::clean_reports
with gone as (
    delete from reports where ctid = any(array(
        select r.ctid from report_cases c join reports r using (message_id)
        where c.decided_at < now() - interval '90 days' limit $1))
    returning 1)
select count(*) from gone";

    const CLEAN: &str = "-- reports::clean
with gone as (
    delete from report_cases where ctid = any(array(
        select ctid from report_cases where decided_at < now() - interval '90 days' limit $1))
    returning 1)
select count(*) from gone";
}

/// Returns how many rows it has removed.
pub async fn remove_old(ctx: &Ctx) -> Result<u64> {
    Ok(clean(ctx, CLEAN_REPORTS).await? + clean(ctx, CLEAN).await?)
}
