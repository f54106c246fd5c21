//! Who is present in a circle and who types there, as its members see it.
//!
//! Redis's sets say who; Postgres says which of them are members at this moment, and let others see them, so that nobody stays who
//! has left.

use std::collections::HashSet;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{json_response, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::presence::TYPING_MS;
use optimist_shared::scripts::presence as scripts;
use optimist_shared::session::Role;
use schemars::JsonSchema;
use serde::Serialize;

use crate::circles::access::{require_member, require_role};
use crate::presence::composing::{PromisedFor, promised_for};
use crate::presence::saying::without_redis;

pub fn routes() -> Vec<Served> {
    vec![
        on("presence.type", note_typing)
            .says("Say that one types in a circle.")
            .notes("It holds for 30 seconds. A client repeats it every ten while somebody types.")
            .answers::<PromisedFor>(200),
        on("presence.live", live)
            .says("Who is present in a circle, and who types there. For its members.")
            .notes(
                "Changes show within some seconds. Of more than 1,000 people who are present only the number is told, \
                 and of more than 100 who type the first.",
            )
            .answers::<Live>(200),
    ]
}

statements! {
    /// The number of members, those of `$2` (1,100 at most) who are members, those whose presence nobody sees, and those who have blocked
    /// `$3`. Each is looked up by itself, so that no plan reads all members.
    const MEMBERS: &str = "-- presence::members (3,301 rows)
select member_count, array(
    select member.user_id from unnest($2::uuid[]) named (id) cross join lateral (
        select user_id from memberships where circle_id = circles.id and user_id = named.id and role <> 'banned'
        limit 1) member),
    array(select id from users where id = any($2) and (presence_to = 'nobody' or status <> 'active')),
    array(select user_id from blocks where blocked_id = $3 and user_id = any($2))
from circles where id = $1";
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveCircle")]
pub struct Live {
    /// Members, present or not.
    #[schemars(range(min = 0))]
    pub members: i32,
    /// Members who are seen to be present: neither offline nor invisible.
    #[schemars(range(min = 0))]
    pub online: u64,
    /// Those. Null if they are more than 1,000.
    pub people: Option<Vec<Present>>,
    pub typing: Vec<Types>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PresentMember")]
pub struct Present {
    pub user_id: Uuid,
    pub state: PresentState,
}

/// What others see of someone who is there.
#[derive(Serialize)]
pub struct PresentState(&'static str);

describe!(PresentState, {"type": "string", "enum": ["online", "away", "busy"]});

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TypingMember")]
pub struct Types {
    pub user_id: Uuid,
    /// Seconds after which the person types no more, unless they say so again.
    #[schemars(range(min = 0))]
    pub expires_in: u64,
}

async fn note_typing(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    require_member(&ctx, &caller).await?;
    let circle = caller.request.id(optimist_shared::ids::Id::Circle)?;
    let call = scripts::typing(caller.user, circle);
    let mut reply = ctx.redis.call_one(&call).await.map_err(|_| without_redis())?;
    if scripts::is_typing(&mut reply) { promised_for(TYPING_MS) } else { Err(without_redis()) }
}

async fn live(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, _) = require_role(&ctx, &caller, Role::is_member).await?;
    let live = read(&ctx, circle, Some(caller.user)).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    Ok(json_response(200, None, to_json(&live)?))
}

/// As `reader` sees it, or everyone: whoever has blocked them is not there. `None` if there is no such circle.
pub async fn read(ctx: &Ctx, circle: Uuid, reader: Option<Uuid>) -> Result<Option<Live>> {
    let mut reply = ctx.redis.call_one(&scripts::live(circle)).await.map_err(|_| without_redis())?;
    let scripts::Live { present, listed, typing } = scripts::Live::read(&mut reply);
    let named: Vec<Uuid> =
        listed.iter().map(|(user, _)| *user).chain(typing.iter().map(|(user, _)| *user)).collect();
    let Some(row) = ctx.db.query_opt(MEMBERS, &[&circle, &named, &reader]).await? else { return Ok(None) };
    let members: HashSet<Uuid> = row.get::<_, Vec<Uuid>>(1).into_iter().collect();
    let unseen: HashSet<Uuid> = row.get::<_, Vec<Uuid>>(2).into_iter().collect();
    let blockers: HashSet<Uuid> = row.get::<_, Vec<Uuid>>(3).into_iter().collect();
    let is_listed = present == 0 || !listed.is_empty();
    let people: Vec<Present> = listed
        .into_iter()
        .filter(|(user, _)| members.contains(user) && !unseen.contains(user) && !blockers.contains(user))
        .map(|(user_id, state)| Present { user_id, state: PresentState(state.as_str()) })
        .collect();
    let typing = typing
        .into_iter()
        .filter(|(user, _)| members.contains(user) && !blockers.contains(user))
        .map(|(user_id, left_ms)| Types { user_id, expires_in: left_ms.div_ceil(1_000) })
        .collect();
    Ok(Some(Live {
        members: row.get(0),
        online: if is_listed { people.len() as u64 } else { present },
        people: is_listed.then_some(people),
        typing,
    }))
}
