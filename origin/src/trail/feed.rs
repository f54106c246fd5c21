//! What happened in a circle lately, for its readers: who came and went, whose role changed, and what the circle itself became.
//!
//! The trail also holds what is the moderators' affair: only the kinds that the statement names are shown. What people write is in lists
//! of its own.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::TimeDelta;
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{ListItem, Snapshot, id_of};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::to_json;
use optimist_plane::http::loaded::respond_list;
use optimist_plane::http::page::{Cursor, List, page};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements};
use optimist_shared::envelope::LIST_LIMIT;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Row;

use crate::circles::access::reader_of_circle;
use crate::circles::standing::MemberRole;
use crate::people::person::Person;
use crate::trail::reading::Place;

pub fn routes() -> Vec<Served> {
    vec![
        on("activity.feed", feed)
            .says("What happened in a circle within the last month, newest first.")
            .notes("It may be an hour old. Who was removed has left. Messages have a list of their own.")
            .answers::<List<Happening>>(200)
            .tagged()
            .pages("cursor"),
    ]
}

/// How far back the feed goes: days.
const DAYS: i64 = 30;

statements! {
    /// Of the moments from `$2` on, before the place `$3`, `$4`, `$5`. The ban of somebody who was no member is the moderators' affair.
    const FEED: &str = "-- trail::feed, planned anew
select seen, f.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select users.id, users.name, a.at, a.xid::text as xid, a.seq, a.xid as ordered,
        case a.kind when 'member.removed' then 'member.left' else a.kind end as kind,
        case a.kind when 'member.role' then a.payload ->> 'role' end as role
    from audit a join users on users.id = coalesce(a.user_id, a.actor)
    where a.circle_id = $1 and a.at >= $2 and a.at <= $3 and (a.at, a.xid, a.seq) < ($3, $4::text::xid8, $5)
      and a.kind in ('circle.created', 'circle.updated', 'circle.archived', 'circle.restored',
          'member.joined', 'member.left', 'member.removed', 'member.role')
      and not (a.kind = 'member.removed' and a.payload @> '{\"member\": false}')
    order by a.at desc, a.xid desc, a.seq desc limit $6) f on true
order by at desc, ordered desc, seq desc";
}

/// What may have happened.
struct Kind;

describe!(Kind, {"type": "string", "enum": [
    "circle.created", "circle.updated", "circle.archived", "circle.restored", "member.joined", "member.left", "member.role",
]});

#[derive(Serialize, JsonSchema)]
struct Happening {
    at: Time,
    #[schemars(with = "Kind")]
    kind: String,
    /// Who came, went or got another role; or who changed the circle.
    user: Person,
    /// The new one; null of anything else.
    #[schemars(with = "Option<MemberRole>")]
    role: Option<String>,
}

async fn feed(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<Place>(uri.query(), "cursor")?;
    let (circle, _) = reader_of_circle(&ctx, &caller).await?;
    match page.after {
        None => {
            let loaded = read_through(&ctx, Key::circle_activity(circle)).await?;
            respond_list(&loaded, &headers, page.limit)
        }
        Some(before) => {
            let loaded = load_page(&ctx, circle, before, page.limit).await?.loaded;
            respond_list(&loaded, &headers, page.limit)
        }
    }
}

pub async fn load(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    load_page(ctx, id_of(&key, Id::Circle)?, Place::end_of(clock::now()), LIST_LIMIT).await
}

async fn load_page(ctx: &Ctx, circle: Uuid, before: Place, limit: usize) -> Result<Snapshot> {
    let from = clock::now() - TimeDelta::days(DAYS);
    let (xid, most) = (before.xid.to_string(), limit as i64 + 1);
    let rows = ctx.db.query(FEED, &[&circle, &from, &before.at, &xid, &before.seq, &most]).await?;
    Snapshot::page(&rows, limit, false, item)
}

fn item(row: &Row) -> Result<ListItem> {
    let xid: &str = row.get("xid");
    let xid = xid.parse().map_err(|why| Error::internal("trail", &why))?;
    let place = Place { at: row.get("at"), xid, seq: row.get("seq") };
    let happening = Happening {
        at: Time(place.at),
        kind: row.get("kind"),
        user: Person { id: row.get("id"), name: row.get("name") },
        role: row.get("role"),
    };
    Ok(ListItem { id: None, cursor: place.encode(), json: to_json(&happening)? })
}
