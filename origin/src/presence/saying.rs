//! A person's devices say how present the person is; people who share a circle see it.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hooks;
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::sent::{PromiseShape, Refused};
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::presence::{self, is_device};
use optimist_shared::reactions::Promise;
use optimist_shared::scripts::presence as scripts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub fn routes() -> Vec<Served> {
    vec![
        on("presence.say", say)
            .says("Say how present one is, from this device.")
            .notes(
                "It holds for a lease of `expires_in` seconds. A device refreshes it at a third of that, and when it \
                 reappears. Of one's devices the strongest state counts: invisible, busy, online, away. While one is \
                 invisible, others see `offline`. At most ten devices count.",
            )
            .takes::<Said>(json!({"state": "online", "device": "phone"}))
            .answers::<Promised>(200),
        on("presence.get", get)
            .says("How present someone is.")
            .notes("404 unless one shares a circle with them, or if one of the two has blocked the other. Nothing tells when somebody was last seen.")
            .answers::<Presence>(200),
    ]
}

statements! {
    /// Whether two people share a circle (nobody is in more than 500) and neither has blocked the other, and whether the second lets others
    /// see whether they are there.
    const SHARES: &str = "-- presence::shares
select exists (
    select from memberships mine join memberships theirs using (circle_id)
    where mine.user_id = $1 and mine.role <> 'banned' and theirs.user_id = $2 and theirs.role <> 'banned')
  and not exists (select from blocks where (user_id, blocked_id) in (($1, $2), ($2, $1))),
    exists (select from users where id = $2 and presence_to = 'circles' and status = 'active')";
}

/// A state as requests name it.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct SaidState(presence::State);

describe!(SaidState, {"type": "string", "enum": ["online", "away", "busy", "invisible"]});

impl TryFrom<String> for SaidState {
    type Error = Refused;

    fn try_from(text: String) -> Result<SaidState, Refused> {
        let state = presence::State::parse(&text).map(SaidState);
        state.ok_or_else(|| Refused::new("must be `online`, `away`, `busy` or `invisible`"))
    }
}

/// The name that a client gives its device.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Device(String);

describe!(Device, {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"});

impl TryFrom<String> for Device {
    type Error = Refused;

    fn try_from(text: String) -> Result<Device, Refused> {
        let reason = "must be 1 to 64 letters, digits, dots, hyphens and underscores";
        if is_device(&text) { Ok(Device(text)) } else { Err(Refused::new(reason)) }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SayPresence")]
struct Said {
    state: SaidState,
    device: Device,
}

/// The answer, as the edge renders it too.
#[derive(JsonSchema)]
#[schemars(rename = "SaidPresence")]
#[expect(dead_code, reason = "it is a description alone")]
struct Promised {
    promise: PromiseShape,
    /// The strongest state of one's devices.
    state: SaidState,
    /// Seconds until this device counts no more.
    #[schemars(range(min = 1))]
    expires_in: u32,
}

async fn say(State(ctx): State<Ctx>, caller: Caller, body: Body<Said>) -> Result<Response> {
    let Said { state: SaidState(said), device: Device(device) } = body.value;
    let lease = ctx.config.presence_lease_s;
    let call = scripts::say(caller.user, &device, said, u64::from(lease) * 1_000);
    let mut reply = ctx.redis.call_one(&call).await.map_err(|_| without_redis())?;
    let state = scripts::state(&mut reply).unwrap_or(said);
    let promise = Promise::RedisOnly.as_str();
    let json = json!({"promise": promise, "state": state.as_str(), "expires_in": lease});
    Ok(json_response(200, None, to_json(&json)?))
}

/// Redis alone knows, and does not answer.
pub fn without_redis() -> Error {
    Error::unavailable("Redis")
}

#[derive(Serialize, JsonSchema)]
struct Presence {
    user_id: Uuid,
    state: Shown,
}

/// `offline` without a device; for others also while one is invisible, or seen by nobody.
#[derive(Serialize)]
struct Shown(&'static str);

describe!(Shown, {"type": "string", "enum": ["online", "away", "busy", "invisible", "offline"]});

async fn get(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let user = caller.request.id(Id::User)?;
    let mut is_seen = true;
    if user != caller.user {
        let row = ctx.db.query_opt(SHARES, &[&caller.user, &user]).await?;
        let row = row.filter(|row| row.get(0)).ok_or_else(|| Error::new(ErrorCode::NotFound))?;
        is_seen = row.get(1);
    }
    let mut state = read(&ctx, user).await?.filter(|_| is_seen);
    if user != caller.user && !hooks::disabled("invisible") {
        state = state.and_then(presence::State::shown);
    }
    let state = Shown(state.map_or("offline", presence::State::as_str));
    Ok(json_response(200, None, to_json(&Presence { user_id: user, state })?))
}

/// A person's own state.
pub async fn read(ctx: &Ctx, user: Uuid) -> Result<Option<presence::State>> {
    let mut reply = ctx.redis.call_one(&scripts::read(user)).await.map_err(|_| without_redis())?;
    Ok(scripts::state(&mut reply))
}
