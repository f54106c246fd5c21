//! The plane's own rows, in the form that domains use for theirs.

use std::time::Duration;

use crate::archive;
use crate::audit::walk;
use crate::ctx::Ctx;
use crate::domain::{Domain, Job};
use crate::error::Result;
use crate::http::idempotency;
use crate::jobs::{self, clean};
use crate::live::{gateway, reading, waking};
use crate::outbox::{projections, relay, set_aside};
use crate::outgoing::{rows, senders};
use crate::partitions;
use crate::postgres::{pool, replicas, shards, transaction, write};
use crate::region::{switch, vouching};
use crate::statements;
use crate::write_behind::{flush, open};

pub const DOMAIN: Domain = Domain {
    statements: &[
        pool::STATEMENTS,
        replicas::STATEMENTS,
        shards::STATEMENTS,
        transaction::STATEMENTS,
        write::STATEMENTS,
        switch::STATEMENTS,
        vouching::STATEMENTS,
        relay::STATEMENTS,
        partitions::STATEMENTS,
        archive::STATEMENTS,
        projections::STATEMENTS,
        set_aside::STATEMENTS,
        open::STATEMENTS,
        flush::STATEMENTS,
        jobs::STATEMENTS,
        idempotency::STATEMENTS,
        walk::STATEMENTS,
        rows::STATEMENTS,
        STATEMENTS,
    ],
    routes: gateway::routes,
    tags: &[("realtime", "What happens, as it happens.")],
    jobs: JOBS,
    tasks: &[
        |ctx| Box::pin(vouching::run(ctx)),
        |ctx| Box::pin(relay::run(ctx)),
        |ctx| Box::pin(reading::run(ctx)),
        |ctx| Box::pin(waking::run(ctx)),
        |ctx| Box::pin(async move { ctx.replicas.watch().await }),
        |ctx| Box::pin(partitions::run(ctx)),
        |ctx| Box::pin(projections::run(ctx)),
        |ctx| Box::pin(flush::run(ctx)),
        |ctx| Box::pin(jobs::run(ctx)),
        |ctx| Box::pin(senders::run(ctx)),
    ],
    ..Domain::new("plane")
};

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);

#[rustfmt::skip] // One line a row.
const JOBS: &[Job] = &[
    // Origins flush every half second anyway: the job is for backlogs, and for use before Redis is taken away.
    Job { name: "writes.flush", what: "brings to Postgres what was written behind", every: MINUTE, run: |ctx| Box::pin(flush::flush_waiting(ctx)) },
    // A round takes half a minute in a small region, and hours in a large one: nothing should differ at all.
    Job { name: "audit", what: "compares Redis with Postgres, and repairs it", every: Duration::from_secs(10), run: |ctx| Box::pin(walk::run(ctx)) },
    Job { name: "events.again", what: "tries events again whose consequences failed", every: MINUTE, run: |ctx| Box::pin(set_aside::try_again(ctx, 60)) },
    Job { name: "idempotency.clean", what: "removes idempotency keys after a day", every: HOUR, run: |ctx| Box::pin(clean(ctx, CLEAN_IDEMPOTENCY)) },
    Job { name: "outbox.clean", what: "drops partitions of the outbox that every living region is past", every: HOUR, run: |ctx| Box::pin(partitions::drop_outbox(ctx)) },
    Job { name: "archive.run", what: "archives months that are old enough, or without an archive drops those that may go", every: HOUR, run: |ctx| Box::pin(archive::run_job(ctx)) },
    Job { name: "origins.clean", what: "removes origins that nobody has heard of for a day", every: HOUR, run: |ctx| Box::pin(clean(ctx, CLEAN_ORIGINS)) },
    Job { name: "deliveries.clean", what: "removes deliveries of a week ago", every: HOUR, run: |ctx| Box::pin(clean(ctx, rows::CLEAN)) },
    Job { name: "regions.report", what: "warns of regions that are silent for a day", every: HOUR, run: |ctx| Box::pin(report_silent_regions(ctx)) },
];

statements! {
    const CLEAN_IDEMPOTENCY: &str = "-- jobs::clean_idempotency
with gone as (
    delete from idempotency where ctid = any(array(
        select ctid from idempotency where created_at < now() - interval '24 hours' limit $1))
    returning 1)
select count(*) from gone";

    const CLEAN_ORIGINS: &str = "-- jobs::clean_origins
with gone as (
    delete from origins where id = any(array(
        select id from origins where seen_at < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";

    const SILENT_REGIONS: &str = "-- jobs::silent_regions
select name from regions where seen_at < now() - interval '1 day'";
}

/// Nothing waits for silent regions, so somebody should know of them.
async fn report_silent_regions(ctx: &Ctx) -> Result<u64> {
    let rows = ctx.db.query(SILENT_REGIONS, &[]).await?;
    metrics::gauge!("optimist_silent_regions").set(rows.len() as f64);
    for row in &rows {
        let region: String = row.get(0);
        tracing::warn!(region, "no origin of this region was seen for a day: its events are not kept");
    }
    Ok(rows.len() as u64)
}
