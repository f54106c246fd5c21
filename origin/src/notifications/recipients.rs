//! Whom a message concerns: everyone in a small circle, those whom it names, and of a comment those who follow its thread. Nobody is
//! told of what they wrote themselves, nobody of what somebody wrote whom they have blocked or muted, and only members are.
//!
//! It decides no preferences, and writes nothing. All who are to be told of messages come from here: whoever is not to be, is left out
//! in this file.

use chrono::{DateTime, Utc};
use optimist_plane::error::Result;
use optimist_plane::outbox::event::Event;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use tokio_postgres::Row;

/// The people whom a message may name to be told: the first ones.
pub const NAMED: i64 = 20;
/// The people who follow a thread: those who commented last (see `followers_with` in the schema), and its message's author.
pub const FOLLOWERS: i64 = 51;

statements! {
    /// The people whom messages concern, each message once. `$5` says which are for all members, `$6` names the messages that
    /// comments belong to, and `$7` is [`NAMED`].
    const PEOPLE: &str = "-- notifications::people, planned anew (3,000 rows)
with message as (
    select posted.*, lower(m.body) as body, m.parent_id
    from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::boolean[])
        as posted (circle_id, id, author_id, at, is_for_all)
    join messages m on m.circle_id = posted.circle_id and m.id = posted.id and m.id = any($2) and m.deleted_at is null),
named as materialized (
    select id, user_id from (
        select message.id, s.user_id, row_number() over (partition by message.id order by nth) as place
        from message cross join lateral (
            select found[1]::uuid as user_id, min(nth) as nth
            from regexp_matches(body, '<@([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})>', 'g')
                with ordinality as each (found, nth)
            group by 1) named
        join memberships s on s.circle_id = message.circle_id and s.user_id = named.user_id
        where s.role <> 'banned' and s.user_id <> author_id) each
    where place <= $7),
person as (
    select id, user_id, 'mention' as kind from named
    union all
    select message.id, s.user_id, 'comment'
    from message join messages p on p.circle_id = message.circle_id and p.id = message.parent_id and p.id = any($6)
    cross join lateral unnest(p.followers || p.author_id) as follower (user_id)
    join memberships s on s.circle_id = message.circle_id and s.user_id = follower.user_id
    where s.role <> 'banned' and s.user_id <> message.author_id
    union all
    select message.id, s.user_id, 'message'
    from message join memberships s using (circle_id) where is_for_all and s.role <> 'banned' and s.user_id <> author_id)
select user_id, id, kind, circle_id, author_id, at, parent_id
from person join message using (id)
where (kind = 'mention' or (id, user_id) not in (select id, user_id from named)) and not is_silenced(user_id, author_id)
order by id, user_id";

    /// Those of the people `$3` who may be told that a message names them.
    const NAMES: &str = "-- notifications::names, planned anew
select s.user_id from memberships s
where s.circle_id = $1 and s.user_id = any($3) and s.role <> 'banned' and s.user_id <> $4 and not is_silenced(s.user_id, $4)
  and exists (select from messages where circle_id = $1 and id = $2 and deleted_at is null)";
}

/// A message that was posted.
pub struct Posted {
    pub circle: Uuid,
    id: Uuid,
    /// Of a comment: the message that it belongs to.
    pub parent: Option<Uuid>,
    author: Uuid,
    at: DateTime<Utc>,
}

impl Posted {
    pub fn of(event: &Event) -> Option<Posted> {
        let (circle, id) = (event.id("circle")?, event.id("message")?);
        Some(Posted { circle, id, parent: event.id("parent"), author: event.actor?, at: event.at })
    }
}

/// Somebody who is to be told of something.
#[derive(Clone, Copy, Debug)]
pub struct Recipient {
    pub user: Uuid,
    /// The notification's: that of the message, or of the first of some comments.
    pub id: Uuid,
    pub kind: &'static str,
    pub circle: Uuid,
    /// The message that it is about, if that can be read: of comments, the one that they belong to.
    pub message: Option<Uuid>,
    /// Who did it, unless nobody is to know.
    pub actor: Option<Uuid>,
    pub at: DateTime<Utc>,
    /// Of comments, how many.
    pub count: i32,
}

impl Recipient {
    fn from_row(row: &Row) -> Recipient {
        let (id, parent): (Uuid, Option<Uuid>) = (row.get(1), row.get(6));
        let kind = kind_of(row.get(2));
        Recipient {
            user: row.get(0),
            id,
            kind,
            circle: row.get(3),
            message: parent.filter(|_| kind == "comment").or(Some(id)),
            actor: row.get(4),
            at: row.get(5),
            count: 1,
        }
    }
}

/// A kind of what is told about messages.
pub fn kind_of(kind: &str) -> &'static str {
    match kind {
        "mention" => "mention",
        "comment" => "comment",
        "report" => "report",
        "upheld" => "upheld",
        "dismissed" => "dismissed",
        "removed" => "removed",
        _ => "message",
    }
}

/// Finds those whom an edit names anew. Each has a notification of its own: the message may have told them before.
pub async fn find_named(
    tx: &Tx,
    event: &Event,
    circle: Uuid,
    message: Uuid,
    author: Uuid,
) -> Result<Vec<Recipient>> {
    let named = event.ids("named");
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tx.query(NAMES, &[&circle, &message, &named, &author]).await?;
    let told = |row: &Row| Recipient {
        user: row.get(0),
        id: Uuid::now_v7(),
        kind: "mention",
        circle,
        message: Some(message),
        actor: Some(author),
        at: event.at,
        count: 1,
    };
    Ok(rows.iter().map(told).collect())
}

/// Finds the people whom messages concern.
pub async fn find(tx: &Tx, messages: &[Posted], are_for_all: &[bool]) -> Result<Vec<Recipient>> {
    let ids = |of: fn(&Posted) -> Uuid| -> Vec<Uuid> { messages.iter().map(of).collect() };
    let at: Vec<DateTime<Utc>> = messages.iter().map(|message| message.at).collect();
    let (circles, posted, authors) =
        (ids(|message| message.circle), ids(|message| message.id), ids(|message| message.author));
    let parents: Vec<Uuid> = messages.iter().filter_map(|message| message.parent).collect();
    let rows = tx.query(PEOPLE, &[&circles, &posted, &authors, &at, &are_for_all, &parents, &NAMED]).await?;
    Ok(rows.iter().map(Recipient::from_row).collect())
}
