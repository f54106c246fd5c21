//! What a message knows of the comments that belong to it: how many there are, in which months, and who follows. It changes in the
//! transactions that change the comments.
//!
//! Posting a comment is [`super::posting`]'s, and reading a thread [`super::comments`]'.

use std::collections::BTreeSet;

use optimist_plane::archive::missing;
use optimist_plane::ctx::Ctx;
use optimist_plane::domain::Sum;
use optimist_plane::error::{Error, Result};
use optimist_plane::months::spans;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use tokio_postgres::Row;

use crate::messages::message::{Message, TABLE};

/// The comments that a message counts.
pub const SUM: Sum = Sum { data_type: "comment_count", sql: COUNTS, is_grouped: true, mended: None };

statements! {
    const PARENT: &str = "-- thread::parent, planned anew
select parent_id is not null, deleted_at is not null from messages where circle_id = $1 and id = $2";

    /// Adds comments to the messages that they belong to, of the spans `$5`. Selects those messages.
    const ADD: &str = "-- thread::add, planned anew
with thread as (
    select circle_id, parent_id, count(*)::integer as n, max(id_month(id)) as month, array_agg(author_id order by id) as authors
    from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[]) as comment (circle_id, parent_id, id, author_id) group by 1, 2)
update messages m
set comments = m.comments + n, followers = followers_with(m.followers, authors, m.author_id),
    thread_months = case when m.thread_months[cardinality(m.thread_months)] = month then m.thread_months else m.thread_months || month end
from thread
where m.circle_id = thread.circle_id and m.id = thread.parent_id and in_spans(m.id, $5) and m.parent_id is null
  and m.deleted_at is null
returning m.id";

    const REMOVE: &str = "-- thread::remove, planned anew
update messages set comments = comments - 1 where circle_id = $1 and id = $2";

    /// Compares messages' counts with their comments, see [`Sum`]. A month on its way to the archive passes over changes: in it, and
    /// before it, counts stay as they are.
    const COUNTS: &str = "-- thread::audit_counts (1,500 rows, uncapped: comments of a message)
with sample as (
    select circle_id, id, comments from messages where (circle_id, id) > ($4, $1) order by circle_id, id limit $2),
counted as (
    select s.circle_id, s.id, s.comments, (
        select count(*) from messages c
        where c.circle_id = s.circle_id and c.parent_id = s.id and c.deleted_at is null)::integer as real
    from sample s),
differing as (
    select * from counted
    where real <> comments
      and not exists (select from archived a where a.name = 'messages' and a.month = id_month(counted.id) and a.state <> 'restored')),
repaired as (
    update messages m set comments = m.comments + d.real - d.comments from differing d
    where $3 and m.circle_id = d.circle_id and m.id = d.id)
select circle_id, id, id in (select id from differing) from sample order by circle_id, id";
}

/// Refuses comments on what has none: 404 if there is no such message, or not any more; 410 if it is archived.
pub async fn require_open(ctx: &Ctx, circle: Uuid, parent: Uuid) -> Result<()> {
    judge(ctx, parent, ctx.db.query_opt(PARENT, &[&circle, &parent]).await?).await
}

/// The same in a transaction that holds the circle's lock.
pub async fn require_open_in(ctx: &Ctx, tx: &Tx, circle: Uuid, parent: Uuid) -> Result<()> {
    judge(ctx, parent, tx.query_opt(PARENT, &[&circle, &parent]).await?).await
}

async fn judge(ctx: &Ctx, parent: Uuid, row: Option<Row>) -> Result<()> {
    let Some(row) = row else { return Err(missing(ctx, TABLE, parent).await) };
    let (is_comment, is_deleted): (bool, bool) = (row.get(0), row.get(1));
    if is_comment {
        return Err(Error::invalid("message", "is a comment itself"));
    }
    if is_deleted { Err(Error::new(ErrorCode::NotFound)) } else { Ok(()) }
}

/// Adds the comments among messages that were just posted to their threads. Returns whether all of these are open.
pub async fn add(tx: &Tx, posted: &[&Message]) -> Result<bool> {
    let comments = || posted.iter().filter_map(|message| Some((message.parent_id?, *message)));
    let parents: Vec<Uuid> = comments().map(|(parent, _)| parent).collect();
    if parents.is_empty() {
        return Ok(true);
    }
    let ids =
        |of: fn(&Message) -> Uuid| -> Vec<Uuid> { comments().map(|(_, message)| of(message)).collect() };
    let (circles, comments, authors) = (ids(|m| m.circle_id), ids(|m| m.id), ids(Message::author));
    let rows = tx.query(ADD, &[&circles, &parents, &comments, &authors, &spans(&parents)]).await?;
    Ok(rows.len() == parents.iter().collect::<BTreeSet<_>>().len())
}

/// Takes a comment that was deleted off its thread. One whose message is archived is counted nowhere.
pub async fn remove(tx: &Tx, circle: Uuid, parent: Uuid) -> Result<()> {
    tx.execute(REMOVE, &[&circle, &parent]).await.map(drop)
}
