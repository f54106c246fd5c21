//! Reactions to messages: they live in Redis and come to Postgres in batches; without Redis they are written to Postgres.

mod apply;
mod audit;
pub mod live;
mod reacting;
pub mod snapshot;

use optimist_plane::domain::{Compare, Domain, Entries, Job, Sum};
use optimist_plane::jobs::clean;
use optimist_plane::own::HOUR;
use optimist_shared::keys::Key;

const COMPARE: Compare = |app, suspect| Box::pin(audit::compare(app, suspect));

pub const DOMAIN: Domain = Domain {
    routes: reacting::routes,
    statements: &[
        apply::STATEMENTS,
        audit::STATEMENTS,
        live::STATEMENTS,
        reacting::STATEMENTS,
        snapshot::STATEMENTS,
        &[CLEAN_REACTIONS, REACTION_COUNTS],
    ],
    entries: &[Entries {
        field: "reaction",
        is_understood: |value| apply::ReactionEntry::parse(value).is_some(),
        apply: |tx, placed| Box::pin(apply::apply(tx, placed)),
    }],
    jobs: &[Job {
        name: "reactions.clean",
        what: "removes reactions a day after they were taken back",
        every: HOUR,
        run: |app| Box::pin(clean(app, CLEAN_REACTIONS)),
    }],
    audits: &[(Key::Reactions, COMPARE), (Key::Counts, COMPARE), (Key::CountsPage, COMPARE)],
    sums: &[Sum { data_type: "reaction_counts", sql: REACTION_COUNTS, is_grouped: true, mended: None }],
    ..Domain::new("reactions")
};

const CLEAN_REACTIONS: &str = "-- jobs::clean_reactions
with gone as (
    delete from reactions where ctid = any(array(
        select ctid from reactions where not is_on and reacted_at < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";

const REACTION_COUNTS: &str = "-- audit::reaction_counts
with sample as (
    select circle_id, id from messages where (circle_id, id) > ($4, $1) order by circle_id, id limit $2),
counted as (
    select s.circle_id, s.id, kind, sum(real)::integer as real, sum(stored)::integer as stored
    from sample s join lateral (
        select kind, 1 as real, 0 as stored from reactions r
        where r.circle_id = s.circle_id and r.message_id = s.id and is_on
        union all
        select kind, 0, count from reaction_counts c where c.circle_id = s.circle_id and c.message_id = s.id) each on true
    group by s.circle_id, s.id, kind),
repaired as (
    insert into reaction_counts as c (circle_id, message_id, kind, count)
    select circle_id, id, kind, real - stored from counted where $3 and real <> stored
    on conflict (circle_id, message_id, kind) do update set count = c.count + excluded.count)
select circle_id, id, coalesce(bool_or(real <> stored), false)
from sample left join counted using (circle_id, id) group by circle_id, id order by circle_id, id";
