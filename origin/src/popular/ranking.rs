//! Ranking the popular messages: of the circles in which most happened lately, those messages that weigh most.
//!
//! The numbers are counted elsewhere. Each statement reads one circle, so that the job may stop between any two.

use std::collections::HashMap;

use chrono::Days;
use optimist_plane::cache::fence::drop_copies;
use optimist_plane::cache::read::read_through;
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::months::Month;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;

/// Circles that are looked at in each category, and among those of none.
const CIRCLES: i64 = 20;
/// Messages that are kept of each category, and of none.
const KEPT: usize = 50;
/// Counts of a circle's newest messages that are added up: one for each message and kind of reaction.
const COUNTS: i64 = 2_000;
/// Days, up to today, on which circles are compared.
const DAYS: u64 = 2;

statements! {
    const BUSIEST: &str = "-- popular::busiest (20,000 rows, uncapped: circles active in two days)
select id, category
from (
    select c.id, c.category, row_number() over (partition by c.category order by d.deeds desc, c.id) as place
    from (select circle_id, sum(posts + reactions) as deeds from activity_days where day >= $1 group by circle_id) d
    join circles c on c.id = d.circle_id and c.visibility = 'public' and c.archived_at is null) ranked
where place <= $2 order by category nulls first, place";

    /// Of a circle's messages of two months those that weigh most. A comment weighs as much as two reactions.
    const WEIGHED: &str = "-- popular::weighed, planned anew (4,000 rows)
select m.id, round(1000000 * (ln(r.reactions + 2 * m.comments) + extract(epoch from id_time(m.id)) / 86400))::bigint as score
from (
    select message_id, sum(count)::integer as reactions
    from (
        select message_id, count from reaction_counts
        where circle_id = $1 and message_id >= $2 and message_id < $3 order by message_id desc limit $4) newest
    where count > 0 group by message_id) r
cross join lateral (
    select id, comments from messages m
    where circle_id = $1 and id = r.message_id and id >= $2 and id < $3 and deleted_at is null offset 0) m
order by 2 desc, 1 limit $5";

    /// Replaces all.
    const KEEP: &str = "-- popular::keep (2,000 rows)
with gone as (delete from popular_messages where message_id <> all ($1::uuid[]))
insert into popular_messages as known (message_id, circle_id, category, score)
select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[]) as given (message_id, circle_id, category, score)
order by message_id
on conflict (message_id) do update set circle_id = excluded.circle_id, category = excluded.category, score = excluded.score";
}

/// A message with its place in the order.
struct Ranked {
    message: Uuid,
    circle: Uuid,
    category: Option<String>,
    /// In millionths.
    score: i64,
}

/// Ranks anew, unless requests wait for Postgres: then the list stays as it is. Returns how many messages are kept.
pub async fn rank(ctx: &Ctx) -> Result<u64> {
    if ctx.db.is_busy() {
        return Ok(0);
    }
    let today = clock::now().date_naive();
    let (from, to) = (Month::of_day(today).plus(-1).first_id(), Month::of_day(today).plus(1).first_id());
    let first_day = today - Days::new(DAYS - 1);
    let mut ranked: Vec<Ranked> = Vec::new();
    for row in ctx.db.query(BUSIEST, &[&first_day, &CIRCLES]).await? {
        if ctx.db.is_busy() {
            return Ok(0);
        }
        let (circle, category): (Uuid, Option<String>) = (row.get(0), row.get(1));
        let rows = ctx.db.query(WEIGHED, &[&circle, &from, &to, &COUNTS, &(KEPT as i64)]).await?;
        ranked.extend(rows.iter().map(|row| Ranked {
            message: row.get(0),
            circle,
            category: category.clone(),
            score: row.get(1),
        }));
    }
    let kept = best(ranked);
    keep(ctx, &kept).await?;
    // Without Redis there is nothing to read anew.
    if drop_copies(ctx, &[Key::popular().name()]).await.is_ok() {
        read_through(ctx, Key::popular()).await?;
    }
    Ok(kept.len() as u64)
}

/// The first of each category, and of none.
fn best(mut ranked: Vec<Ranked>) -> Vec<Ranked> {
    ranked.sort_by_key(|one| std::cmp::Reverse(one.score));
    let mut of_category: HashMap<Option<String>, usize> = HashMap::new();
    ranked.retain(|message| {
        let so_far = of_category.entry(message.category.clone()).or_default();
        *so_far += 1;
        *so_far <= KEPT
    });
    ranked
}

async fn keep(ctx: &Ctx, kept: &[Ranked]) -> Result<()> {
    let messages: Vec<Uuid> = kept.iter().map(|message| message.message).collect();
    let circles: Vec<Uuid> = kept.iter().map(|message| message.circle).collect();
    let categories: Vec<Option<&str>> = kept.iter().map(|message| message.category.as_deref()).collect();
    let scores: Vec<i64> = kept.iter().map(|message| message.score).collect();
    let tx = Tx::begin(&ctx.db).await?;
    let kept = tx.execute(KEEP, &[&messages, &circles, &categories, &scores]).await;
    tx.end(kept).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_category_keeps_its_best() {
        let message = |category: Option<&str>, score: i64| Ranked {
            message: Uuid::from_u128(score.cast_unsigned().into()),
            circle: Uuid::nil(),
            category: category.map(str::to_owned),
            score,
        };
        let many = (1..=80).map(|score| message(None, score));
        let kept = best(many.chain([message(Some("sleep"), 0)]).collect());
        assert_eq!(kept.len(), KEPT + 1);
        assert!(kept.is_sorted_by(|one, other| one.score >= other.score));
        assert_eq!((kept[0].score, kept[KEPT - 1].score), (80, 31));
        assert_eq!(kept[KEPT].category.as_deref(), Some("sleep"));
    }
}
