//! Requests to join a circle whose moderators let people in: made, listed, withdrawn, approved and declined.
//!
//! Redis alone holds a request, for a week; without Redis the answer is 503. The decision is a write like any other, and the request is
//! dropped after its commit: one that outlives it is of a member, whom no list shows.

use std::collections::HashMap;

use ::redis::Cmd;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::page::{At, List, answer_page, no_query, page};
use optimist_plane::http::sent::{PromiseShape, Shown, Text};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::limits::charge::give_back_unused;
use optimist_plane::operation::links::link;
use optimist_plane::redis::Items;
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::joins::{REQUEST_LENGTH, REQUEST_MS};
use optimist_shared::keys::Key;
use optimist_shared::quotas::Quota;
use optimist_shared::reactions::Promise;
use optimist_shared::scripts::Scalars as _;
use optimist_shared::scripts::joins::{self as scripts, Asked, Request};
use optimist_shared::session::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::circles::access::require_role;
use crate::circles::definition::SAME_CIRCLE;
use crate::circles::invites::no_entry;
use crate::circles::members::{Member, enter, touch};
use crate::circles::moved;
use crate::circles::roles;
use crate::circles::standing::{Standing, is_moderator};
use crate::people::person::Person;

pub fn routes() -> Vec<Served> {
    const FIRST_USER: (&str, &str) = ("user", "$response.body#/items/0/user/id");
    vec![
        on("joins.ask", ask)
            .says("Ask to join a circle.")
            .notes(
                "Of a circle whose `join_policy` is `on_request`. Who asks again stands where they stood, and is answered 200. A \
                 request is forgotten after seven days.",
            )
            .takes::<Ask>(json!({"text": "I bake, too."}))
            .answers::<Pending>(201)
            .also(200, "One has asked already.")
            .refuses(&[ErrorCode::Conflict, ErrorCode::QuotaExceeded])
            .links([link("joins.withdraw", &[SAME_CIRCLE])]),
        on("joins.list", list)
            .says("Who asks to join a circle, the longest first.")
            .answers::<List<JoinRequest>>(200)
            .tagged()
            .pages("cursor")
            .links([
                link("joins.approve", &[SAME_CIRCLE, FIRST_USER]),
                link("joins.decline", &[SAME_CIRCLE, FIRST_USER]),
            ]),
        on("joins.mine", mine).says("Whether one asks to join a circle.").answers::<Pending>(200),
        on("joins.withdraw", withdraw)
            .says("Ask no longer.")
            .notes("Who does not ask stays as they are."),
        on("joins.approve", approve)
            .says("Let somebody in who asks.")
            .notes("They are told.")
            .answers::<Member>(200)
            .refuses(&[ErrorCode::Conflict, ErrorCode::QuotaExceeded]),
        on("joins.decline", decline).says("Let somebody not in who asks.").notes("They are not told, and may ask again."),
    ]
}

/// Requests that are read at once.
const AT_ONCE: usize = 100;

/// What the person tells the moderators.
type RequestText = Text<0, REQUEST_LENGTH>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AskToJoin")]
struct Ask {
    text: Option<RequestText>,
}

/// One's own request.
#[derive(JsonSchema)]
#[schemars(rename = "PendingRequest")]
#[expect(dead_code, reason = "it is a description alone")]
struct Pending {
    promise: PromiseShape,
    /// Seconds until it is forgotten.
    #[schemars(range(min = 0))]
    expires_in: u32,
}

#[derive(Serialize, JsonSchema)]
struct JoinRequest {
    user: Person,
    #[schemars(with = "Shown<RequestText>")]
    text: String,
    asked_at: Time,
}

statements! {
    /// The people on a page of requests who are neither members nor banned. Each is looked up by themselves, so that no plan reads all
    /// members.
    const ASKING: &str = "-- joins::asking (100 rows)
select its.id, its.name from unnest($2::uuid[]) asking (id) cross join lateral (
    select users.id, users.name from users left join memberships m on m.circle_id = $1 and m.user_id = users.id
    where users.id = asking.id and users.status = 'active' and m.user_id is null limit 1) its";
}

fn pending(status: u16, left_ms: u64) -> Result<Response> {
    let json = json!({"promise": Promise::RedisOnly.as_str(), "expires_in": left_ms / 1_000});
    Ok(json_response(status, None, to_json(&json)?))
}

fn no_redis<E>(_: E) -> Error {
    Error::unavailable("Redis")
}

async fn ask(State(ctx): State<Ctx>, caller: Caller, body: Body<Ask>) -> Result<Response> {
    let circle = caller.request.id(Id::Circle)?;
    let text: String = body.value.text.map(Into::into).unwrap_or_default();
    let standing = Standing::before_locks(&ctx, circle, caller.user).await?.ok_or_else(no_entry)?;
    standing.require_reader().map_err(|_| no_entry())?;
    if standing.role.is_member() {
        return Err(Error::new(ErrorCode::Conflict).field("user", "is a member already"));
    }
    if !standing.is_on_request() {
        return Err(Error::new(ErrorCode::Conflict).detail("Nobody is asked for joining this circle."));
    }
    let mut reply = ctx.redis.call_one(&scripts::ask(circle, caller.user, &text)).await.map_err(no_redis)?;
    match scripts::asked(&mut reply) {
        Some(Asked::New(left_ms)) => pending(201, left_ms),
        Some(Asked::Known(left_ms)) => {
            give_back_unused(&ctx, &caller, None).await;
            pending(200, left_ms)
        }
        Some(Asked::Full) => Err(Error::over(Quota::JoinRequests)),
        None => Err(no_redis(())),
    }
}

async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'j'>>(uri.query(), "cursor")?;
    let (circle, _) = require_role(&ctx, &caller, is_moderator).await?;
    let mut after =
        page.after.map_or((0, Uuid::nil()), |at| (at.time.timestamp_millis().max(0).cast_unsigned(), at.id));
    let mut items = Vec::new();
    // At most ten times: a circle holds no more requests. Some are of people who have come in since, or were banned.
    while items.len() <= page.limit {
        let mut reply = ctx.redis.call_one(&scripts::list(circle, after, AT_ONCE)).await.map_err(no_redis)?;
        let requests = scripts::listed(&mut reply);
        let asking: Vec<Uuid> = requests.iter().map(|request| request.user).collect();
        let Some(last) = requests.last() else { break };
        after = (last.at_ms, last.user);
        let rows = ctx.db.query(ASKING, &[&circle, &asking]).await?;
        let names: HashMap<Uuid, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        items.extend(requests.into_iter().filter_map(|request| shown_as(request, &names)));
    }
    let more = items.len() > page.limit;
    items.truncate(page.limit);
    let position = |item: &JoinRequest| At::<'j'> { time: item.asked_at.0, id: item.user.id };
    answer_page(&headers, items, more, position)
}

fn shown_as(request: Request, names: &HashMap<Uuid, String>) -> Option<JoinRequest> {
    let name = names.get(&request.user)?.clone();
    let user = Person { id: request.user, name };
    Some(JoinRequest { user, text: request.text, asked_at: Time(moment(request.at_ms)) })
}

fn moment(at_ms: u64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at_ms.cast_signed()).unwrap_or_default()
}

/// The milliseconds that somebody's request still lasts.
async fn left_of(ctx: &Ctx, circle: Uuid, user: Uuid) -> Result<Option<u64>> {
    let mut asked = Cmd::new();
    asked.arg("ZSCORE").arg(Key::join_requests(circle).name()).arg(user.to_string());
    let reply = ctx.redis.send([asked]).await.map_err(no_redis)?.into_iter().next();
    let at_ms: Option<u64> = reply.and_then(|reply| Items::new(reply).text().parse().ok());
    let now_ms = Utc::now().timestamp_millis().cast_unsigned();
    Ok(at_ms.map(|at_ms| (at_ms + REQUEST_MS).saturating_sub(now_ms)).filter(|left_ms| *left_ms > 0))
}

/// Forgets somebody's request, if Redis can be reached.
async fn forget(ctx: &Ctx, circle: Uuid, user: Uuid) -> Result<()> {
    let commands = [("ZREM", Key::join_requests(circle)), ("HDEL", Key::join_texts(circle))];
    let commands = commands.map(|(command, key)| {
        let mut forget = Cmd::new();
        forget.arg(command).arg(key.name()).arg(user.to_string());
        forget
    });
    ctx.redis.send(commands).await.map(drop).map_err(no_redis)
}

async fn mine(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let circle = caller.request.id(Id::Circle)?;
    match left_of(&ctx, circle, caller.user).await? {
        Some(left_ms) => pending(200, left_ms),
        None => Err(Error::new(ErrorCode::NotFound)),
    }
}

async fn withdraw(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    forget(&ctx, caller.request.id(Id::Circle)?, caller.user).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn approve(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, is_moderator).await?;
    let user = caller.request.id(Id::User)?;
    left_of(&ctx, circle, user).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let context = caller.writes("joins::approve", [circle, caller.user, user]);
    let member = transaction!(&ctx, context, |tx| {
        Standing::read(tx, circle, caller.user).await?.require_moderator()?;
        touch(tx, circle, user);
        match Standing::read(tx, circle, user).await?.role {
            Role::Banned => return Err(Error::new(ErrorCode::Conflict).field("user", "is banned")),
            Role::None => enter(tx, circle, user).await?,
            _ => tx.unchanged(),
        }
        roles::select(tx, circle, user).await
    })?;
    // One that stays is of a member: it counts no more.
    let _ = forget(&ctx, circle, user).await;
    moved::joined(&ctx, user).await;
    Ok(json_response(200, None, to_json(&member)?))
}

async fn decline(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, is_moderator).await?;
    let user = caller.request.id(Id::User)?;
    left_of(&ctx, circle, user).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    // Whoever asks is not in the circle: the write neither locks nor tells them.
    let context = caller.writes("joins::decline", [circle, caller.user]);
    transaction!(&ctx, context, |tx| {
        Standing::read(tx, circle, caller.user).await?.require_moderator()?;
        tx.event("join.declined", json!({"circle": circle, "user": user}));
        Ok(())
    })?;
    // A request that stays can be declined again.
    forget(&ctx, circle, user).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
