//! Reading a thread: the comments that belong to a message, oldest first.
//!
//! Pages go by ids, two of the thread's months at a time. The first page is cached without its reaction counts, which this file joins
//! as the list of messages does. It posts nothing: [`super::writing`] does.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::NaiveDate;
use optimist_plane::archive::missing;
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{ListItem, Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::to_json;
use optimist_plane::http::page::{Cursor, page};
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::envelope::LIST_LIMIT;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use schemars::JsonSchema;

use crate::circles::access::reader_of_circle;
use crate::messages::message::{Message, ShownMessage, TABLE};
use crate::messages::reading::{messages_of, respond};
use crate::messages::stretch::Stretch;
use crate::reactions::live;

pub fn routes() -> Vec<Served> {
    vec![
        on("comments.list", list)
            .says("The comments on a message, oldest first.")
            .notes(
                "The comments of a message that was deleted stay, and can be read as long as there are any. A message counts \
                 them (`comments`), and `message.posted` and `message.deleted` name it (`parent`), so that clients can count along.",
            )
            .answers::<Comments>(200)
            .refuses(&[ErrorCode::Archived])
            .tagged()
            .pages("after"),
    ]
}

statements! {
    /// A thread's months, whether there is anything of it to be read, and whether a part of it is about to be archived: a copy would
    /// outlive that.
    const THREAD: &str = "-- comments::thread, planned anew
select seen, thread_months, is_there, exists (
    select from archived where name = 'messages' and month = any(thread_months || id_month($2))
        and state in ('closed', 'written', 'leaving')) as leaves
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select thread_months, deleted_at is null or comments > 0 as is_there from messages where circle_id = $1 and id = $2) thread on true";

    /// Comments after the id `$3`, before `$4`.
    const LIST: &str = "-- comments::list, planned anew
select m.id, circle_id, number, author_id, users.name as author_name, body, m.created_at, edited_at, m.version,
    m.parent_id, m.comments, $6::bigint as seen
from messages m join users on users.id = author_id
where circle_id = $1 and m.parent_id = $2 and m.id > $3 and m.id < $4 and deleted_at is null
order by m.id limit $5";
}

/// A page of comments, as [`respond`] renders it.
#[derive(JsonSchema)]
#[schemars(rename = "CommentList")]
#[expect(dead_code, reason = "it is a description alone")]
struct Comments<'a> {
    items: Vec<ShownMessage<'a>>,
    /// The cursor of the page that follows.
    next: Option<String>,
}

/// Statements that a page takes, unless they have found nothing: one for two months.
const STEPS: usize = 8;

async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<Uuid>(uri.query(), "after")?;
    let (circle, _) = reader_of_circle(&ctx, &caller).await?;
    let parent = caller.request.id(Id::Message)?;
    if page.after.is_none() {
        let shared = read_through(&ctx, Key::comments(circle, parent)).await?;
        return answer(&ctx, (circle, parent), &shared, &headers, page.limit).await;
    }
    let loaded = load(&ctx, circle, parent, page.after, page.limit).await?.loaded;
    answer(&ctx, (circle, parent), &loaded, &headers, page.limit).await
}

async fn answer(
    ctx: &Ctx,
    (circle, parent): (Uuid, Uuid),
    loaded: &Loaded,
    headers: &HeaderMap,
    limit: usize,
) -> Result<Response> {
    if matches!(loaded, Loaded::Missing) {
        return Err(missing(ctx, TABLE, parent).await);
    }
    let mut messages = messages_of(loaded);
    messages.truncate(limit);
    let counts = live::counts(ctx, circle, &messages).await?;
    respond(loaded, &counts, headers, limit)
}

pub async fn load_thread(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    load(ctx, id_of(&key, Id::Circle)?, id_of(&key, Id::Message)?, None, LIST_LIMIT).await
}

async fn load(ctx: &Ctx, circle: Uuid, parent: Uuid, after: Option<Uuid>, limit: usize) -> Result<Snapshot> {
    let row = ctx.db.query_opt(THREAD, &[&circle, &parent]).await?;
    let row = row.ok_or_else(|| Error::internal("comments", &"no row"))?;
    let seen: i64 = row.get("seen");
    if row.get::<_, Option<bool>>("is_there") != Some(true) {
        return Ok(Snapshot::new(seen, Loaded::Missing));
    }
    let months: Vec<NaiveDate> = row.get("thread_months");
    let mut stretch = Some(Stretch::after(after.unwrap_or(parent)));
    let (mut rows, most) = (Vec::new(), limit + 1);
    for step in 0.. {
        let Some(at) = stretch.filter(|_| rows.len() < most && (step < STEPS || rows.is_empty())) else {
            break;
        };
        let left = (most - rows.len()) as i64;
        rows.extend(ctx.db.query(LIST, &[&circle, &parent, &at.from, &at.to, &left, &seen]).await?);
        stretch = at.next(&months);
    }
    let follows = stretch.is_some() && rows.len() < most;
    let page = Snapshot::page(&rows, limit, follows, |row| {
        let message = Message::from_row(row);
        Ok(ListItem { id: Some(message.id), cursor: message.id.encode(), json: to_json(&message)? })
    })?;
    Ok(Snapshot { seen_xmin: seen.cast_unsigned(), is_kept: !row.get::<_, bool>("leaves"), ..page })
}
