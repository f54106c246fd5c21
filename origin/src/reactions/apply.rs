//! Applying reactions to Postgres: a whole batch at once, by few statements, with its consequences in the same transaction.
//!
//! When to flush, and how far the flush is, is [`optimist_plane::write_behind`]'s.

use std::collections::{BTreeMap, HashMap, HashSet};

use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hooks;
use optimist_plane::months::spans;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::redis::Position;
use optimist_plane::statements;
use optimist_plane::write_behind::entry::{Placed, number};
use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::reactions::Kind;
use tokio_postgres::types::ToSql;

use crate::activity::counting;
use crate::notifications::folding::{self, Change};
use crate::reactions::snapshot::kind_of;

statements! {
    /// The places, from 1, of the reactions that are on. The transaction holds the partition's lock, so they stay as they are.
    /// Each is looked up by itself, here and below: Postgres misjudges joins with reactions, and reads whole months for them.
    const BEFORE: &str = "-- write_behind::before, planned anew (2,500 rows)
select entry.place from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[]) with ordinality
    as entry (circle_id, message_id, kind, user_id, place)
where (
    select r.is_on from reactions r
    where (r.circle_id, r.message_id, r.kind, r.user_id) = (entry.circle_id, entry.message_id, entry.kind, entry.user_id)
      and in_spans(r.message_id, $5))";

    /// A row takes only a newer intent than its own. Entries about a message or a user that does not exist change nothing,
    /// and an account whose erasure is done only takes back.
    const REACT: &str = "-- write_behind::react, planned anew (2,500 rows)
insert into reactions as r
    (circle_id, message_id, kind, user_id, is_on, stamp_ms, stamp_seq, generation, is_through, reacted_at)
select circle_id, message_id, kind, user_id, is_on, stamp_ms, stamp_seq, generation, $9, to_timestamp(stamp_ms / 1000.0)
from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[], $5::boolean[], $6::bigint[], $7::bigint[], $8::bigint[])
    as entry (circle_id, message_id, kind, user_id, is_on, stamp_ms, stamp_seq, generation)
where (
        select m.deleted_at is null from messages m
        where m.circle_id = entry.circle_id and m.id = entry.message_id and in_spans(m.id, $10))
  and exists (select from users where users.id = entry.user_id)
  and not (entry.is_on and exists (select from erased e where e.user_id = entry.user_id and e.done_at is not null))
on conflict (circle_id, message_id, kind, user_id) do update
    set is_on = excluded.is_on, stamp_ms = excluded.stamp_ms, stamp_seq = excluded.stamp_seq,
        generation = excluded.generation, is_through = excluded.is_through, reacted_at = excluded.reacted_at
    where excluded.is_through
       or ((excluded.stamp_ms, excluded.stamp_seq) > (r.stamp_ms, r.stamp_seq)
           and not (r.is_through and excluded.generation <= r.generation))
returning circle_id, message_id, kind, user_id, is_on, reacted_at";

    /// How many of these messages take no reactions: they do not exist, are deleted, or their month is archived or on its way.
    const DROPPED: &str = "-- write_behind::dropped, planned anew (2,500 rows)
select count(*) filter (where closed.name is not null or (
    select m.deleted_at is null from messages m
    where m.circle_id = entry.circle_id and m.id = entry.message_id and in_spans(m.id, $3)) is not true)
from unnest($1::uuid[], $2::uuid[]) as entry (circle_id, message_id)
left join archived closed on closed.name = 'messages' and closed.month = id_month(entry.message_id) and closed.state <> 'restored'";

    const COUNT: &str = "-- write_behind::count (2,500 rows)
insert into reaction_counts as counts (circle_id, message_id, kind, count)
select * from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::integer[]) as delta (circle_id, message_id, kind, by)
on conflict (circle_id, message_id, kind) do update set count = counts.count + excluded.count";

    /// The stamp of an intent that is written through. The row's lock also holds off flushes of the partition until the
    /// transaction ends.
    const STAMP: &str = "-- write_behind::stamp
insert into write_behind as w (region, partition, generation, floor_ms)
values ($1, $2, 0, (extract(epoch from clock_timestamp()) * 1000)::bigint)
on conflict (region, partition) do update set floor_ms = greatest(w.floor_ms + 1, excluded.floor_ms)
returning floor_ms, generation";
}

/// A person, a message, and the kind of reaction between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub circle: Uuid,
    pub message: Uuid,
    pub kind: Kind,
    pub user: Uuid,
}

/// A person's intent to have reacted, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReactionEntry {
    pub target: Target,
    pub reacted: bool,
}

impl ReactionEntry {
    /// From an entry's value, as the script `react` writes it. `None` for any other value.
    pub fn parse(value: &str) -> Option<ReactionEntry> {
        let parts: Vec<&str> = value.split(' ').collect();
        let [user, circle, message, place, wanted] = parts[..] else { return None };
        Some(ReactionEntry {
            target: Target {
                circle: parse_id(circle)?,
                message: parse_id(message)?,
                kind: Kind::from_place(place.parse().ok()?)?,
                user: parse_id(user)?,
            },
            reacted: match wanted {
                "1" => true,
                "0" => false,
                _ => return None,
            },
        })
    }
}

/// An intent, where it stood, and in which generation.
#[derive(Clone, Copy, Debug)]
struct Intent {
    at: Position,
    generation: i64,
    entry: ReactionEntry,
}

/// Applies the newest intent for each target, and passes over the others.
pub async fn apply(tx: &Tx, placed: &[Placed<'_>]) -> Result<()> {
    let mut newest: HashMap<Target, Intent> = HashMap::new();
    for Placed { at, generation, value } in placed.iter().copied() {
        let Some(entry) = ReactionEntry::parse(value) else { continue };
        let intent = Intent { at, generation, entry };
        let known = newest.entry(entry.target).or_insert(intent);
        if (generation, at) > (known.generation, known.at) {
            *known = intent;
        }
    }
    let newest: Vec<Intent> = newest.into_values().collect();
    if newest.is_empty() { Ok(()) } else { react(tx, &newest, false).await }
}

/// Changes rows and counts, and applies the consequences. (These are several statements because of the planner: in a single
/// one it misjudges the parts' sizes, and compares each row with each.)
async fn react(tx: &Tx, placed: &[Intent], is_through: bool) -> Result<()> {
    let targets = || placed.iter().map(|placed| placed.entry.target);
    let circles: Vec<Uuid> = targets().map(|target| target.circle).collect();
    let messages: Vec<Uuid> = targets().map(|target| target.message).collect();
    let kinds: Vec<i16> = targets().map(|target| target.kind.place() as i16).collect();
    let users: Vec<Uuid> = targets().map(|target| target.user).collect();
    let reacted: Vec<bool> = placed.iter().map(|placed| placed.entry.reacted).collect();
    let (ms, seq): (Vec<i64>, Vec<i64>) = placed.iter().map(|placed| (placed.at.0, placed.at.1)).unzip();
    let generations: Vec<i64> = placed.iter().map(|placed| placed.generation).collect();
    let spans = spans(&messages);
    let rows = tx.query(BEFORE, &[&circles, &messages, &kinds, &users, &spans]).await?;
    let places = rows.iter().filter_map(|row| usize::try_from(row.get::<_, i64>(0)).ok()?.checked_sub(1));
    let before: HashSet<Target> = places.filter_map(|place| Some(placed.get(place)?.entry.target)).collect();
    let parameters: [&(dyn ToSql + Sync); 10] =
        [&circles, &messages, &kinds, &users, &reacted, &ms, &seq, &generations, &is_through, &spans];
    let rows = tx.query(REACT, &parameters).await?;
    if rows.len() < placed.len() {
        let row = tx.query_one(DROPPED, &[&circles, &messages, &spans]).await?;
        metrics::counter!("optimist_reactions_dropped_total").increment(row.get::<_, i64>(0).cast_unsigned());
    }
    let mut counts: BTreeMap<(Uuid, Uuid, i16), i32> = BTreeMap::new();
    let mut changes = Vec::with_capacity(rows.len());
    for row in rows {
        let (circle, message, place, user): (Uuid, Uuid, i16, Uuid) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let kind =
            kind_of(place).ok_or_else(|| Error::internal("write_behind", &"a kind that was not sent"))?;
        let was_on = before.contains(&Target { circle, message, kind, user });
        let is_on = row.get(4);
        *counts.entry((circle, message, place)).or_default() += i32::from(is_on) - i32::from(was_on);
        changes.push(Change { circle, message, user, at: row.get(5), was_on, is_on });
    }
    count(tx, counts).await?;
    follow(tx, &changes).await
}

/// Applies the consequences of changed reactions: notifications and activity.
async fn follow(tx: &Tx, changes: &[Change]) -> Result<()> {
    hooks::step("reactions.changed").await;
    folding::fold(tx, changes).await?;
    let made = changes.iter().filter(|change| change.is_on && !change.was_on);
    counting::reacted(tx, made.map(|change| (change.circle, change.user, change.at))).await
}

/// Counts up and down. Sorted, so that two transactions never deadlock over counts.
async fn count(tx: &Tx, mut by: BTreeMap<(Uuid, Uuid, i16), i32>) -> Result<()> {
    by.retain(|_, by| *by != 0);
    if by.is_empty() {
        return Ok(());
    }
    let circles: Vec<Uuid> = by.keys().map(|(circle, ..)| *circle).collect();
    let messages: Vec<Uuid> = by.keys().map(|(_, message, _)| *message).collect();
    let kinds: Vec<i16> = by.keys().map(|(.., kind)| *kind).collect();
    let deltas: Vec<i32> = by.into_values().collect();
    tx.execute(COUNT, &[&circles, &messages, &kinds, &deltas]).await.map(drop)
}

/// Writes a reaction to Postgres directly, in a transaction that holds the region off. Entries about it that a stream still
/// has are older by their stamp, and change nothing later.
pub async fn write_through(ctx: &Ctx, tx: &Tx, reaction: ReactionEntry) -> Result<()> {
    let partition = number(Partition::of(reaction.target.circle));
    let row = tx.query_one(STAMP, &[&ctx.config.region, &partition]).await?;
    let intent = Intent { at: Position(row.get(0), 0), generation: row.get(1), entry: reaction };
    react(tx, &[intent], true).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_value_in_a_stream_is_a_reaction_or_passed_over(
            value in "([0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12} ?){0,4}( [0-9]{1,20}){0,3}|\\PC*",
        ) {
            if let Some(entry) = ReactionEntry::parse(&value) {
                let Target { circle, message, kind, user } = entry.target;
                let start = format!("{user} {circle} {message} ");
                prop_assert!(value.starts_with(&start));
                prop_assert!(Kind::from_place(kind.place()) == Some(kind));
            }
        }
    }

    #[test]
    fn only_values_that_the_script_writes_are_understood() {
        let id = Uuid::from_u128(7);
        let value = |kind: &str, wanted: &str| format!("{id} {id} {id} {kind} {wanted}");
        assert!(ReactionEntry::parse(&value("1", "1")).is_some_and(|entry| entry.reacted));
        for value in [
            value("0", "1"),
            value("7", "1"),
            value("1", "2"),
            format!("{id} {id} 1 1"),
            id.to_string(),
            String::new(),
        ] {
            assert_eq!(ReactionEntry::parse(&value), None, "{value}");
        }
    }
}
