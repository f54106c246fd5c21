//! The reactions of the erased are taken back, as by themselves, so that counts and notifications follow; then their rows go.
//!
//! Activity says in which circles somebody has reacted. All reactions there are looked through, in parts.

use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hooks;
use optimist_plane::months::Month;
use optimist_plane::statements;
use optimist_plane::write_behind::flush::flush_waiting;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Uuid, parse_id};

use crate::erasure::steps::{Left, Person, request};
use crate::reactions::apply::Target;
use crate::reactions::reacting;
use crate::reactions::snapshot::kind_of;

statements! {
    const NEXT_CIRCLE: &str = "-- erasure::next_reacted, planned anew
select circle_id from activity
where user_id = $1 and day >= $2 and day < $3 and circle_id > $4 and reactions > 0 order by circle_id limit 1";

    /// Of the next reactions in a month of a circle those that are the person's, and the last.
    const PART: &str = "-- erasure::reactions, planned anew
with part as materialized (
    select message_id, kind, user_id, is_on, row_number() over (order by message_id, kind, user_id) as nth
    from (
        select message_id, kind, user_id, is_on from reactions
        where circle_id = $1 and message_id >= $2 and message_id < $3 and (message_id, kind, user_id) > ($4, $5, $6)
        order by message_id, kind, user_id limit 1000) next)
select message_id, kind, user_id, is_on, nth from part where user_id = $7 or nth = (select count(*) from part) order by nth";

    /// One that is off counts nowhere; one that is on is to a message that was deleted.
    const REMOVE: &str = "-- erasure::remove_reaction, planned anew
with gone as (
    delete from reactions where circle_id = $1 and message_id = $2 and kind = $3 and user_id = $4 returning is_on)
update reaction_counts set count = count - 1
where circle_id = $1 and message_id = $2 and kind = $3 and exists (select from gone where is_on)";
}

/// Reactions of one part.
const ROWS: i64 = 1_000;

/// How far it is: in a circle's month, after a reaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Some were taken back in this pass: once they are flushed, another pass removes their rows.
    again: bool,
    circle: Uuid,
    month: Month,
    message: Uuid,
    kind: i16,
    user: Uuid,
}

impl Place {
    fn begin(again: bool, circle: Uuid, month: Month) -> Place {
        Place { again, circle, month, message: Uuid::nil(), kind: 0, user: Uuid::nil() }
    }

    fn parse(text: &str) -> Option<Place> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [again, circle, month, message, kind, user] = parts[..] else { return None };
        Some(Place {
            again: again == "again",
            circle: parse_id(circle)?,
            month: Month::of_day(month.parse().ok()?),
            message: parse_id(message)?,
            kind: kind.parse().ok()?,
            user: parse_id(user)?,
        })
    }

    fn left(self) -> Left {
        let Place { again, circle, month, message, kind, user } = self;
        let pass = if again { "again" } else { "last" };
        Left::MoreAfter(format!("{pass} {circle} {} {message} {kind} {user}", month.first_day()))
    }
}

/// Goes through the next reactions of a circle in which the person has reacted.
pub async fn take_back(ctx: &Ctx, person: &Person) -> Result<Left> {
    let Some(place) = person.after.as_deref().and_then(Place::parse) else {
        // What the person did before is in Postgres, and activity knows of it.
        flush_waiting(ctx).await?;
        return next_circle(ctx, person, false, Uuid::nil()).await;
    };
    let (user, Place { circle, month, .. }) = (person.user, place);
    let (first, last) = (month.first_id(), month.plus(1).first_id());
    let Place { message, kind, user: after, .. } = place;
    let rows = ctx.db.query(PART, &[&circle, &first, &last, &message, &kind, &after, &user]).await?;
    let mut again = place.again;
    for row in rows.iter().filter(|row| row.get::<_, Uuid>(2) == user) {
        again |= remove(ctx, circle, row.get(0), row.get(1), user, row.get(3)).await?;
        hooks::step("erasure.reactions").await;
    }
    match rows.last().filter(|row| row.get::<_, i64>(4) == ROWS) {
        Some(row) => {
            Ok(Place { again, message: row.get(0), kind: row.get(1), user: row.get(2), ..place }.left())
        }
        None if month > Month::of(clock::now()) => next_circle(ctx, person, again, circle).await,
        None => Ok(Place::begin(again, circle, month.plus(1)).left()),
    }
}

/// Begins with the next circle. After the last one another pass begins, if there is to be one.
async fn next_circle(ctx: &Ctx, person: &Person, again: bool, after: Uuid) -> Result<Left> {
    let mut next: Option<Uuid> = None;
    let mut month = Month::of_id(person.user).plus(-1);
    while month <= Month::of(clock::now()).plus(1) {
        let (first, last) = (month.first_day(), month.plus(1).first_day());
        let row = ctx.db.query_opt(NEXT_CIRCLE, &[&person.user, &first, &last, &after]).await?;
        next = next.into_iter().chain(row.map(|row| row.get(0))).min();
        month = month.plus(1);
    }
    match next {
        Some(circle) => Ok(Place::begin(again, circle, Month::of_id(circle).plus(-1)).left()),
        None if again => {
            flush_waiting(ctx).await?;
            Box::pin(next_circle(ctx, person, false, Uuid::nil())).await
        }
        None => Ok(Left::Nothing),
    }
}

/// Takes a reaction back, or removes its row. Returns whether the row is still to be removed.
async fn remove(ctx: &Ctx, circle: Uuid, message: Uuid, place: i16, user: Uuid, is_on: bool) -> Result<bool> {
    if is_on {
        let kind = kind_of(place).ok_or_else(|| Error::internal("erasure", &"a kind that nobody knows"))?;
        match reacting::take_back(ctx, &request(), Target { circle, message, kind, user }).await {
            Ok(()) => return Ok(true),
            Err(error) if error.code == ErrorCode::NotFound => {}
            // The archive makes it nobody's.
            Err(error) if error.code == ErrorCode::Archived => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    ctx.db.query(REMOVE, &[&circle, &message, &place, &user]).await?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_noted() {
        let month = Month::parse("2026-11").unwrap();
        for again in [true, false] {
            let begin = Place::begin(again, Uuid::from_u128(7), month);
            for place in
                [begin, Place { kind: 3, message: Uuid::from_u128(8), user: Uuid::from_u128(9), ..begin }]
            {
                let Left::MoreAfter(text) = place.left() else { panic!() };
                assert_eq!(Place::parse(&text), Some(place), "{text}");
            }
        }
        assert_eq!(Place::parse("again"), None);
    }
}
