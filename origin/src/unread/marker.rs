//! Read markers: up to which message a member has read a circle. They only grow.
//!
//! Redis takes them first, as entries of the streams. What it has taken is kept beside the copy of Postgres's marker, for longer
//! than a copy from before its flush lives, and the greater of the two counts: so a flush fences nothing.

use std::collections::BTreeMap;

use optimist_plane::audit::copies::{self, Pair};
use optimist_plane::audit::tally::{Suspect, Tally};
use optimist_plane::cache::many::{Wanted, look};
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_plane::write_behind::entry::Placed;
use optimist_shared::ids::{Id, Uuid, parse_id};
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::scripts::mark_read::ahead;

statements! {
    const MARKERS: &str = "-- unread::markers (500 rows)
select seen, m.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (select circle_id, number from read_markers where user_id = $1 and circle_id = any($2)) m on true";

    /// Nobody has read more than there is, whatever an entry says that Redis took before Postgres was restored from a backup.
    const APPLY: &str = "-- unread::apply (2,500 rows)
insert into read_markers as known (circle_id, user_id, number)
select m.circle_id, m.user_id, least(read.number, c.last_number)
from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as read (circle_id, user_id, number)
join memberships m using (circle_id, user_id) join circles c on c.id = m.circle_id
where m.role <> 'banned' order by m.circle_id, m.user_id
on conflict (circle_id, user_id) do update set number = excluded.number where known.number < excluded.number";
}

/// The value of a copy where Postgres has no marker.
const NONE: &str = "none";

/// A member, and up to where they have read.
pub type Marker = ((Uuid, Uuid), i64);

/// Parses an entry's value, as `mark_read.lua` writes it: the circle and the person, and the number.
pub fn parse(value: &str) -> Option<Marker> {
    let mut words = value.split(' ');
    let (user, circle) = (parse_id(words.next()?)?, parse_id(words.next()?)?);
    let number = words.next()?;
    let known: i64 = number.parse().ok().filter(|known: &i64| *known >= 0 && known.to_string() == number)?;
    words.next().is_none().then_some(((circle, user), known))
}

/// The number in a copy; `None` if Postgres has no marker.
pub fn number(loaded: &Loaded) -> Option<i64> {
    match loaded {
        Loaded::Text(text) => text.parse().ok(),
        _ => None,
    }
}

pub async fn load(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let mut loaded = load_many(ctx, id_of(&key, Id::User)?, &[key]).await?.into_iter();
    loaded.next().ok_or_else(|| Error::internal("unread", &"no marker"))
}

/// One person's markers, in their keys' order.
pub async fn load_many(ctx: &Ctx, user: Uuid, keys: &[BoundKey]) -> Result<Vec<Snapshot>> {
    let circles = keys.iter().map(|key| id_of(key, Id::Circle)).collect::<Result<Vec<Uuid>>>()?;
    let rows = ctx.db.query(MARKERS, &[&user, &circles]).await?;
    let seen = rows.first().map_or(0, |row| row.get("seen"));
    let known =
        rows.iter().filter_map(|row| Some((row.get::<_, Option<Uuid>>("circle_id")?, row.get("number"))));
    let known: BTreeMap<Uuid, i64> = known.collect();
    let text = |circle| known.get(circle).map_or_else(|| NONE.to_owned(), i64::to_string);
    Ok(circles.iter().map(|circle| Snapshot::new(seen, Loaded::Text(text(circle)))).collect())
}

/// Applies the entries that partitions' streams hold.
pub async fn apply(tx: &Tx, placed: &[Placed<'_>]) -> Result<()> {
    raise(tx, placed.iter().filter_map(|placed| parse(placed.value))).await
}

/// Raises markers; one that is as great already stays.
pub async fn raise(tx: &Tx, markers: impl IntoIterator<Item = Marker>) -> Result<()> {
    let mut greatest: BTreeMap<(Uuid, Uuid), i64> = BTreeMap::new();
    for (member, number) in markers {
        let known = greatest.entry(member).or_default();
        *known = number.max(*known);
    }
    let (members, numbers): (Vec<(Uuid, Uuid)>, Vec<i64>) = greatest.into_iter().unzip();
    let (circles, users): (Vec<Uuid>, Vec<Uuid>) = members.into_iter().unzip();
    tx.execute(APPLY, &[&circles, &users, &numbers]).await.map(drop)
}

/// Compares a copy: it may be as old as what Redis has taken since.
pub async fn compare(ctx: &Ctx, suspect: Suspect<'_>) -> Result<Tally> {
    let Some(Pair { before, copy, fresh }) = copies::read(ctx, &suspect).await? else {
        return Ok(Tally::PASSED_OVER);
    };
    let key = suspect.key;
    let beside = Key::read_ahead(id_of(&key, Id::Circle)?, id_of(&key, Id::User)?);
    let warm = look(ctx, &[Wanted { copies: [], beside }]).await.into_iter().next();
    let ahead = warm.and_then(|warm| ahead(&warm.beside, warm.vouched?));
    let (copy, fresh) = (number(&copy), number(&fresh));
    let is_covered = copy < fresh && fresh <= ahead;
    copies::settle(ctx, suspect, &before, copy == fresh || is_covered).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_entry_is_a_marker_in_its_one_spelling_or_is_passed_over(
            value in "([0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12} ?){0,2}[0-9+-]{0,20}|\\PC*",
        ) {
            if let Some(((circle, user), number)) = parse(&value) {
                prop_assert_eq!(format!("{user} {circle} {number}"), value);
            }
        }
    }

    #[test]
    fn only_what_the_script_writes_is_understood() {
        let [user, circle] = [7, 8].map(Uuid::from_u128);
        assert_eq!(parse(&format!("{user} {circle} 12")), Some(((circle, user), 12)));
        for rest in ["", " ", " 012", " -1", " 12 13", " x"] {
            assert_eq!(parse(&format!("{user} {circle}{rest}")), None, "{rest}");
        }
    }
}
