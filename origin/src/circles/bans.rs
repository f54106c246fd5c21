//! Bans as moderators see them: listed, and lifted.
//!
//! Banning is a removal, see [`super::roles`].

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::http::page::{At, List, answer_page, page};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::link;
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};
use optimist_shared::ids::Id;
use optimist_shared::session::Role;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::circles::access::require_role;
use crate::circles::definition::SAME_CIRCLE;
use crate::circles::members::{delete, touch};
use crate::circles::standing::{Standing, is_moderator};
use crate::people::person::Person;

pub fn routes() -> Vec<Served> {
    const FIRST_USER: (&str, &str) = ("user", "$response.body#/items/0/user/id");
    vec![
        on("bans.list", list)
            .says("Who is banned from a circle, the latest ban first.")
            .answers::<List<Ban>>(200)
            .tagged()
            .pages("cursor")
            .links([link("bans.lift", &[SAME_CIRCLE, FIRST_USER])]),
        on("bans.lift", lift)
            .says("Lift a ban.")
            .notes("They may join again as anyone else. Who is not banned stays as they are."),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Ban {
    user: Person,
    banned_at: Time,
}

statements! {
    const LIST: &str = "-- bans::list
select users.id, users.name, joined_at as banned_at
from memberships join users on users.id = user_id
where circle_id = $1 and memberships.role = 'banned'
  and (joined_at, user_id)
      < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by joined_at desc, user_id desc limit $4";
}

async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'b'>>(uri.query(), "cursor")?;
    let (circle, _) = require_role(&ctx, &caller, is_moderator).await?;
    let (time, id) = (page.after.map(|at| at.time), page.after.map(|at| at.id));
    let rows = ctx.db.query(LIST, &[&circle, &time, &id, &(page.limit as i64 + 1)]).await?;
    let items: Vec<Ban> = rows
        .iter()
        .take(page.limit)
        .map(|row| Ban {
            user: Person { id: row.get("id"), name: row.get("name") },
            banned_at: row.get("banned_at"),
        })
        .collect();
    let position = |last: &Ban| At::<'b'> { time: last.banned_at.0, id: last.user.id };
    answer_page(&headers, items, rows.len() > page.limit, position)
}

async fn lift(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, is_moderator).await?;
    let user = caller.request.id(Id::User)?;
    // A banned person is not in the circle: the write neither locks nor tells them.
    let context = caller.writes("bans::lift", [circle, caller.user]);
    transaction!(&ctx, context, |tx| {
        Standing::read(tx, circle, caller.user).await?.require_moderator()?;
        let target = Standing::read(tx, circle, user).await?.role;
        if target == Role::Banned {
            delete(tx, circle, user).await?;
        } else {
            tx.unchanged();
        }
        touch(tx, circle, user);
        tx.event("ban.lifted", json!({"circle": circle, "user": user}));
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
