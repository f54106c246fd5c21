//! Comparing reactions: Redis with Postgres and the entries since, and Postgres's sums with the rows that they are of.
//!
//! The script `audit` compares Redis with a snapshot. This file only says what to compare.

use ::redis::{Cmd, Value};
use optimist_plane::audit::tally::{Suspect, Tally};
use optimist_plane::cache::value::id_of;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::redis::Items;
use optimist_plane::statements;
use optimist_shared::ids::{Id, Uuid, parse_id};
use optimist_shared::keys::Key;
use optimist_shared::scripts::Scalars as _;
use optimist_shared::scripts::install::{self, Difference};

use crate::reactions::snapshot::ReactionSnapshot;

/// Messages of a circle whose counts are compared at a time.
const AT_ONCE: usize = 50;

statements! {
    const EXISTING: &str = "-- audit::existing_messages, planned anew
select id from messages where circle_id = $1 and id = any($2) and deleted_at is null";

    /// Compares messages' counts with their reactions, see [`optimist_plane::domain::Sum`].
    pub const REACTION_COUNTS: &str = "-- audit::reaction_counts (15,000 rows, uncapped: reactions to a message)
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
}

/// Compares a message's whole state, or some counts of a circle's messages.
pub async fn compare(ctx: &Ctx, suspect: Suspect<'_>) -> Result<Tally> {
    let circle = id_of(&suspect.key, Id::Circle)?;
    let whole = suspect.key.ids().get(Id::Message);
    let messages = match whole {
        Some(message) => vec![message],
        None => counted(ctx, circle).await,
    };
    let found = compare_once(ctx, circle, &messages, whole, false).await?;
    if found.conflicts == 0 {
        return Ok(found);
    }
    // A message that was deleted meanwhile differs once. A conflict differs twice.
    compare_once(ctx, circle, &messages, whole, suspect.repair).await
}

/// Some of the messages whose counts Redis has.
async fn counted(ctx: &Ctx, circle: Uuid) -> Vec<Uuid> {
    let mut some = Cmd::new();
    some.arg("HRANDFIELD").arg(Key::counts(circle).name()).arg(AT_ONCE);
    match ctx.redis.send([some]).await.map(|mut values| values.pop()) {
        Ok(Some(Value::Array(fields))) => {
            fields.into_iter().filter_map(|field| parse_id(&Items::new(field).text())).collect()
        }
        _ => Vec::new(),
    }
}

async fn compare_once(
    ctx: &Ctx,
    circle: Uuid,
    messages: &[Uuid],
    whole: Option<Uuid>,
    repair: bool,
) -> Result<Tally> {
    let rows = ctx.db.query(EXISTING, &[&circle, &messages]).await?;
    let existing: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let whole = whole.filter(|message| existing.contains(message));
    let snapshot = ReactionSnapshot::read(ctx, circle, &existing, whole).await?;
    let Some(snapshot) = snapshot.filter(|_| !existing.is_empty()) else { return Ok(Tally::PASSED_OVER) };
    let Ok(mut reply) = ctx.redis.call_one(&snapshot.known.audit(repair)).await else {
        return Ok(Tally::PASSED_OVER);
    };
    Ok(match install::Known::read_compared(&mut reply) {
        Some(Difference { checked, differ }) => {
            Tally { checked: checked.cast_signed(), conflicts: differ.cast_signed(), stale: 0 }
        }
        None => Tally::PASSED_OVER,
    })
}
