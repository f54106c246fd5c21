//! Tells moderators that a message was reported, those who reported it what was decided, and its author that it was removed.
//!
//! None of it says who reported or who decided.

use optimist_plane::error::Result;
use optimist_plane::outbox::event::Event;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use tokio_postgres::Row;

use crate::notifications::recipients::Recipient;
use crate::notifications::telling::tell_people;
use crate::reports::case::MOST;

statements! {
    /// A circle's owner and those who have been its moderators the longest; but neither the author `$2` nor who reported (`$3`).
    const MODERATORS: &str = "-- reports::moderators (50 rows)
select user_id from (
    (select user_id from memberships where circle_id = $1 and role = 'owner')
    union all
    (select user_id from memberships where circle_id = $1 and role = 'moderator' order by joined_at, user_id limit 49)) who
where user_id <> $2 and user_id <> $3";

    /// Who reported the message `$1` in the round `$2`, up to `$3`, and its author, if the case says that somebody else removed it; of
    /// these, those who may read the circle.
    const PARTIES: &str = "-- reports::parties (101 rows)
select who.user_id, who.is_author from report_cases c
join circles on circles.id = c.circle_id
cross join lateral (
    (select reporter_id as user_id, false as is_author from reports where message_id = $1 and round = $2 limit $3)
    union all
    select c.author_id, true where c.state = 'removed' and c.round = $2 and c.decided_by is not null) who
left join memberships m on m.circle_id = c.circle_id and m.user_id = who.user_id
where c.message_id = $1
  and coalesce(m.role <> 'banned', circles.visibility = 'public' and circles.archived_at is null)";
}

/// Somebody who is to be told of a circle's message.
fn recipient(
    event: &Event,
    user: Uuid,
    kind: &'static str,
    circle: Uuid,
    message: Option<Uuid>,
) -> Recipient {
    Recipient { user, id: Uuid::now_v7(), kind, circle, message, actor: None, at: event.at, count: 1 }
}

/// Tells moderators of messages that were reported, each once until it is decided.
pub async fn tell_moderators(tx: &Tx, events: &[Event]) -> Result<()> {
    for event in events.iter().filter(|event| event.is("news")) {
        let ids = (event.id("circle"), event.id("message"), event.id("author"), event.actor);
        let (Some(circle), Some(message), Some(author), Some(reporter)) = ids else { continue };
        let rows = tx.query(MODERATORS, &[&circle, &author, &reporter]).await?;
        let told = |row: &Row| recipient(event, row.get(0), "report", circle, Some(message));
        tell_people(tx, &rows.iter().map(told).collect::<Vec<_>>()).await?;
    }
    Ok(())
}

/// Tells of decisions, of which a deletion is one if the message was reported.
pub async fn tell_parties(tx: &Tx, events: &[Event]) -> Result<()> {
    for event in events {
        let (Some(circle), Some(message)) = (event.id("circle"), event.id("message")) else { continue };
        let Some(round) = event.number("reported") else { continue };
        let is_removed = match event.text("decision") {
            None => true,
            Some("dismissed") => false,
            _ => continue,
        };
        let rows = tx.query(PARTIES, &[&message, &round, &MOST]).await?;
        let told = |row: &Row| match (row.get(1), is_removed) {
            (true, _) => recipient(event, row.get(0), "removed", circle, None),
            (false, true) => recipient(event, row.get(0), "upheld", circle, None),
            (false, false) => recipient(event, row.get(0), "dismissed", circle, Some(message)),
        };
        tell_people(tx, &rows.iter().map(told).collect::<Vec<_>>()).await?;
    }
    Ok(())
}
