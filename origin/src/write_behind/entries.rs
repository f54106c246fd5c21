//! What lies in the streams, and how it is applied: by one statement for a whole batch.

use std::collections::HashMap;

use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::reactions::Kind;
use tokio_postgres::types::ToSql;

use super::{Position, number};
use crate::app::Ctx;
use crate::error::Result;
use crate::postgres::Tx;

/// Rows take only a newer intent than they have, and counts change by what the rows did. Entries about what is not there
/// (any more) change nothing.
const REACT: &str = "-- write_behind::react
with entry as (
    select * from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[], $5::boolean[], $6::bigint[], $7::bigint[], $8::bigint[])
        as entry (circle_id, message_id, kind, user_id, is_on, stamp_ms, stamp_seq, generation)),
valid as (
    select entry.* from entry
    join messages on messages.circle_id = entry.circle_id and messages.id = entry.message_id and deleted_at is null
    join users on users.id = entry.user_id),
before as (
    select r.circle_id, r.message_id, r.kind, r.user_id, r.is_on
    from reactions r join valid using (circle_id, message_id, kind, user_id)),
changed as (
    insert into reactions as r
        (circle_id, message_id, kind, user_id, is_on, stamp_ms, stamp_seq, generation, is_through, reacted_at)
    select circle_id, message_id, kind, user_id, is_on, stamp_ms, stamp_seq, generation, $9, to_timestamp(stamp_ms / 1000.0)
    from valid
    on conflict (circle_id, message_id, kind, user_id) do update
        set is_on = excluded.is_on, stamp_ms = excluded.stamp_ms, stamp_seq = excluded.stamp_seq,
            generation = excluded.generation, is_through = excluded.is_through, reacted_at = excluded.reacted_at
        where excluded.is_through
           or ((excluded.stamp_ms, excluded.stamp_seq) > (r.stamp_ms, r.stamp_seq)
               and not (r.is_through and excluded.generation <= r.generation))
    returning circle_id, message_id, kind, user_id, is_on),
delta as (
    select circle_id, message_id, kind, sum(changed.is_on::int - coalesce(before.is_on, false)::int) as by
    from changed left join before using (circle_id, message_id, kind, user_id)
    group by circle_id, message_id, kind)
insert into reaction_counts as counts (circle_id, message_id, kind, count)
select circle_id, message_id, kind, by from delta where by <> 0
on conflict (circle_id, message_id, kind) do update set count = counts.count + excluded.count";

/// Also holds off whoever flushes the partition, until the transaction ends.
const STAMP: &str = "-- write_behind::stamp
insert into write_behind as w (region, partition, generation, floor_ms)
values ($1, $2, 0, (extract(epoch from clock_timestamp()) * 1000)::bigint)
on conflict (region, partition) do update set floor_ms = greatest(w.floor_ms + 1, excluded.floor_ms)
returning floor_ms, generation";

pub const STATEMENTS: &[&str] = &[REACT, STAMP];

/// One entry of a stream, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Reaction(ReactionEntry),
}

/// A person's intent to have reacted, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReactionEntry {
    user: Uuid,
    circle: Uuid,
    message: Uuid,
    kind: Kind,
    reacted: bool,
}

impl Entry {
    /// From an entry's field and value, as the scripts write them. `None` for what no script writes.
    pub fn parse(field: &str, value: &str) -> Option<Entry> {
        let parts: Vec<&str> = value.split(' ').collect();
        match (field, &parts[..]) {
            ("reaction", [user, circle, message, place, wanted]) => Some(Entry::Reaction(ReactionEntry {
                user: parse_id(user)?,
                circle: parse_id(circle)?,
                message: parse_id(message)?,
                kind: Kind::from_place(place.parse().ok()?)?,
                reacted: match *wanted {
                    "1" => true,
                    "0" => false,
                    _ => return None,
                },
            })),
            _ => None,
        }
    }
}

/// An entry, where it stood, and in which generation.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub at: Position,
    pub generation: i64,
    pub entry: Entry,
}

/// Applies entries, the newest intent of each person alone.
pub async fn apply(tx: &Tx, placed: &[Placed]) -> Result<()> {
    let mut newest: HashMap<(Uuid, Uuid, Kind, Uuid), (bool, Position, i64)> = HashMap::new();
    for Placed { at, generation, entry: Entry::Reaction(entry) } in placed {
        let key = (entry.circle, entry.message, entry.kind, entry.user);
        let intent = (entry.reacted, *at, *generation);
        newest.entry(key).and_modify(|known| *known = max_by_place(*known, intent)).or_insert(intent);
    }
    react(tx, newest.into_iter(), false).await
}

fn max_by_place(a: (bool, Position, i64), b: (bool, Position, i64)) -> (bool, Position, i64) {
    if (b.2, b.1) > (a.2, a.1) { b } else { a }
}

type Intent = ((Uuid, Uuid, Kind, Uuid), (bool, Position, i64));

async fn react(tx: &Tx, intents: impl Iterator<Item = Intent>, is_through: bool) -> Result<()> {
    let (mut circles, mut messages, mut kinds, mut users): (Vec<Uuid>, Vec<Uuid>, Vec<i16>, Vec<Uuid>) =
        Default::default();
    let (mut reacted, mut ms, mut seq, mut generations): (Vec<bool>, Vec<i64>, Vec<i64>, Vec<i64>) =
        Default::default();
    for ((circle, message, kind, user), (is_on, at, generation)) in intents {
        circles.push(circle);
        messages.push(message);
        kinds.push(kind.place() as i16);
        users.push(user);
        reacted.push(is_on);
        ms.push(at.0);
        seq.push(at.1);
        generations.push(generation);
    }
    let parameters: [&(dyn ToSql + Sync); 9] =
        [&circles, &messages, &kinds, &users, &reacted, &ms, &seq, &generations, &is_through];
    tx.execute(REACT, &parameters).await.map(drop)
}

/// A reaction that Redis cannot take.
#[derive(Clone, Copy, Debug)]
pub struct ThroughReaction {
    pub user: Uuid,
    pub circle: Uuid,
    pub message: Uuid,
    pub kind: Kind,
    pub reacted: bool,
}

/// Writes a reaction to Postgres directly, in a transaction that holds the region off. What is left of it in any stream is
/// older, and will be found so.
pub async fn write_through(app: &Ctx, tx: &Tx, reaction: ThroughReaction) -> Result<()> {
    let ThroughReaction { user, circle, message, kind, reacted } = reaction;
    let row = tx.query_one(STAMP, &[&app.config.region, &number(Partition::of(circle))]).await?;
    let intent = (reacted, Position(row.get(0), 0), row.get(1));
    react(tx, std::iter::once(((circle, message, kind, user), intent)), true).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_scripts_write_is_understood() {
        let id = Uuid::from_u128(7);
        let value = |kind: &str, wanted: &str| format!("{id} {id} {id} {kind} {wanted}");
        assert!(
            matches!(Entry::parse("reaction", &value("1", "1")), Some(Entry::Reaction(entry)) if entry.reacted)
        );
        for (field, value) in [
            ("reaction", value("0", "1")),
            ("reaction", value("7", "1")),
            ("reaction", value("1", "2")),
            ("reaction", format!("{id} {id} 1 1")),
            ("garbage", value("1", "1")),
            ("reaction", String::new()),
        ] {
            assert_eq!(Entry::parse(field, &value), None, "{field} {value}");
        }
    }
}
