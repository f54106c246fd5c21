//! The caller's own circles, the latest activity first: a client's first screen.
//!
//! Each request reads Postgres. A copy would be worth little: every message in any of the circles changes the list.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_shared::ids::Uuid;
use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Row;

use crate::circles::definition::{Name, Visibility};
use crate::circles::standing::MemberRole;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::page::{At, List, answer_page, page};
use optimist_plane::http::sent::Shown;
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::{FIRST_ID, link};
use optimist_plane::request::Caller;
use optimist_plane::statements;

pub fn routes() -> Vec<Served> {
    vec![
        on("me.circles", mine)
            .says("The caller's circles, the latest activity first.")
            .notes("Activity is a message, or one's joining. Archived circles are listed: their members may read them.")
            .answers::<List<MyCircle>>(200)
            .tagged()
            .pages("cursor")
            .links([link("circles.get", &[("circle", FIRST_ID)]), link("messages.list", &[("circle", FIRST_ID)])]),
    ]
}

/// A circle as its member lists it.
#[derive(Serialize, JsonSchema)]
struct MyCircle {
    id: Uuid,
    #[schemars(with = "Shown<Name>")]
    name: String,
    #[schemars(with = "Visibility")]
    visibility: String,
    #[schemars(with = "MemberRole")]
    role: String,
    joined_at: Time,
    archived_at: Option<Time>,
    /// The newest message's number; 0 if there is none yet.
    #[schemars(range(min = 0))]
    last_number: i64,
    /// When the newest message was posted, even if it has been deleted since.
    last_message_at: Option<Time>,
}

impl MyCircle {
    fn from_row(row: &Row) -> MyCircle {
        MyCircle {
            id: row.get("id"),
            name: row.get("name"),
            visibility: row.get("visibility"),
            role: row.get("role"),
            joined_at: row.get("joined_at"),
            archived_at: row.get("archived_at"),
            last_number: row.get("last_number"),
            last_message_at: row.get("last_message_at"),
        }
    }

    /// Its place in the order of the statement.
    fn position(&self) -> At<'y'> {
        let time = self.last_message_at.map_or(self.joined_at, |at| at.max(self.joined_at));
        At { time: time.0, id: self.id }
    }
}

statements! {
    /// `greatest` passes over null: a circle without messages stands where its member joined it.
    const MINE: &str = "-- circles::mine
select c.id, c.name, c.visibility, m.role, m.joined_at, c.archived_at, c.last_number, id_time(c.last_id) as last_message_at
from memberships m join circles c on c.id = m.circle_id
where m.user_id = $1 and m.role <> 'banned'
  and (greatest(m.joined_at, id_time(c.last_id)), c.id)
      < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by greatest(m.joined_at, id_time(c.last_id)) desc, c.id desc limit $4";

    /// The ids of a person's circles, and the snapshot that shows them.
    const FOLLOWED: &str = "-- circles::followed
select pg_current_snapshot()::text, array(select circle_id from memberships where user_id = $1 and role <> 'banned')";
}

/// The circles whose events a person receives, and the snapshot that shows them.
pub async fn followed(ctx: &Ctx, user: Uuid) -> Result<(String, Vec<Uuid>)> {
    let rows = ctx.db.query(FOLLOWED, &[&user]).await?;
    let row = rows.first().ok_or_else(|| Error::internal("circles", &"no row"))?;
    Ok((row.get(0), row.get(1)))
}

async fn mine(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'y'>>(uri.query(), "cursor")?;
    let (time, id) = (page.after.map(|at| at.time), page.after.map(|at| at.id));
    let rows = ctx.db.query(MINE, &[&caller.user, &time, &id, &(page.limit as i64 + 1)]).await?;
    let items = rows.iter().take(page.limit).map(MyCircle::from_row).collect();
    answer_page(&headers, items, rows.len() > page.limit, MyCircle::position)
}
