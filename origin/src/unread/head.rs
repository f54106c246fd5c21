//! A circle's head: what its members' first screens show of it, the same for all of them.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::try_join_all;
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::to_json;
use optimist_plane::http::sent::Shown;
use optimist_plane::http::time::Time;
use optimist_plane::months::Month;
use optimist_plane::statements;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use crate::circles::definition::{Name, Visibility};
use crate::people::person::Person;
use crate::people::veil::HiddenMessage;

statements! {
    /// Each is looked up by itself, so that no plan reads all circles.
    const HEADS: &str = "-- unread::heads (500 rows)
select seen, c.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select its.* from unnest($1::uuid[]) named (id) cross join lateral (
        select id, name, visibility, archived_at, last_number, last_id, id_time(last_id) as last_message_at
        from circles where circles.id = named.id limit 1) its) c on true";

    /// The newest messages of circles that have theirs in one month, which the ids' bounds name. Each is looked up by its key: by lists of
    /// circles and of ids, Postgres may read all that these circles said in the month.
    const NEWEST: &str = "-- unread::newest, planned anew (500 rows)
select m.circle_id, m.id, m.number, m.author_id, users.name as author_name, left(m.body, 140) as excerpt, m.created_at
from unnest($1::uuid[], $2::uuid[]) as newest (circle_id, id)
cross join lateral (
    select * from messages
    where circle_id = newest.circle_id and id = newest.id and id >= $3 and id < $4 and deleted_at is null offset 0) m
join users on users.id = m.author_id";
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Head {
    pub id: Uuid,
    #[schemars(with = "Shown<Name>")]
    name: String,
    #[schemars(with = "Visibility")]
    visibility: String,
    archived_at: Option<Time>,
    /// The newest message's number; 0 if there is none yet.
    #[schemars(range(min = 0))]
    pub last_number: i64,
    /// When the newest message was posted, even if it has been deleted since.
    pub last_message_at: Option<Time>,
    /// Null if there is none yet, or if it has been deleted or archived.
    #[schemars(with = "Option<ShownLast>")]
    last_message: Option<LastMessage>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct LastMessage {
    id: Uuid,
    #[schemars(range(min = 1))]
    number: i64,
    author: Person,
    /// The first 140 characters of its text.
    #[schemars(length(max = 140))]
    excerpt: String,
    created_at: Time,
}

/// The schema of the last message: those who have blocked its author see that it is there.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it is a description alone")]
enum ShownLast {
    Last(LastMessage),
    Hidden(HiddenMessage),
}

impl Head {
    fn from_row(row: &Row, last_message: Option<LastMessage>) -> Head {
        Head {
            id: row.get("id"),
            name: row.get("name"),
            visibility: row.get("visibility"),
            archived_at: row.get("archived_at"),
            last_number: row.get("last_number"),
            last_message_at: row.get("last_message_at"),
            last_message,
        }
    }

    pub fn parse(loaded: &Loaded) -> Result<Option<Head>> {
        match loaded {
            Loaded::Object { json, .. } => {
                serde_json::from_slice(json).map(Some).map_err(|error| Error::internal("unread", &error))
            }
            _ => Ok(None),
        }
    }

    /// A copy's version is the newest message's number: `mark_read.lua` reads it.
    fn loaded(&self) -> Result<Loaded> {
        Ok(Loaded::Object { version: self.last_number.to_string(), json: to_json(self)? })
    }
}

impl LastMessage {
    fn from_row(row: &Row) -> LastMessage {
        LastMessage {
            id: row.get("id"),
            number: row.get("number"),
            author: Person { id: row.get("author_id"), name: row.get("author_name") },
            excerpt: row.get("excerpt"),
            created_at: row.get("created_at"),
        }
    }
}

/// The number of a circle's newest message. 404 if there is no such circle.
pub async fn newest_number(ctx: &Ctx, circle: Uuid) -> Result<i64> {
    let head = Head::parse(&*read_through(ctx, Key::circle_head(circle)).await?)?;
    Ok(head.ok_or_else(|| Error::new(ErrorCode::NotFound))?.last_number)
}

pub async fn load(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let mut loaded = load_many(ctx, &[key]).await?.into_iter();
    loaded.next().ok_or_else(|| Error::internal("unread", &"no head"))
}

/// The heads of circles, in their keys' order. The circles are read before their messages: what is newer than the circles' snapshot is
/// written by a transaction that voids the fill.
pub async fn load_many(ctx: &Ctx, keys: &[BoundKey]) -> Result<Vec<Snapshot>> {
    let circles = keys.iter().map(|key| id_of(key, Id::Circle)).collect::<Result<Vec<Uuid>>>()?;
    let rows = ctx.db.query(HEADS, &[&circles]).await?;
    let seen = rows.first().map_or(0, |row| row.get("seen"));
    let rows = rows.iter().filter_map(|row| Some((row.get::<_, Option<Uuid>>("id")?, row)));
    let rows: HashMap<Uuid, &Row> = rows.collect();
    let mut newest = newest(ctx, &rows).await?;
    circles
        .iter()
        .map(|circle| {
            let head = rows.get(circle).map(|row| Head::from_row(row, newest.remove(circle)));
            Ok(Snapshot::new(seen, head.map_or(Ok(Loaded::Missing), |head| head.loaded())?))
        })
        .collect()
}

/// The circles' newest messages: a statement for each month that they are of.
async fn newest(ctx: &Ctx, circles: &HashMap<Uuid, &Row>) -> Result<HashMap<Uuid, LastMessage>> {
    let mut months: BTreeMap<Month, (Vec<Uuid>, Vec<Uuid>)> = BTreeMap::new();
    for (circle, row) in circles {
        if let Some(id) = row.get::<_, Option<Uuid>>("last_id") {
            let (circles, ids) = months.entry(Month::of_id(id)).or_default();
            circles.push(*circle);
            ids.push(id);
        }
    }
    let read = months.into_iter().map(async |(month, (circles, ids))| {
        let (first, end) = (month.first_id(), month.plus(1).first_id());
        ctx.db.query(NEWEST, &[&circles, &ids, &first, &end]).await
    });
    let rows = try_join_all(read).await?;
    Ok(rows.iter().flatten().map(|row| (row.get("circle_id"), LastMessage::from_row(row))).collect())
}
