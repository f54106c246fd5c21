//! Push tokens: the browsers that a person has subscribed, and their own webhooks.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::loaded::respond_object;
use optimist_plane::http::page::no_query;
use optimist_plane::http::sent::Refused;
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::{ID, link};
use optimist_plane::outgoing::rows;
use optimist_plane::postgres::left::Ticket;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::{Caller, RequestContext, WriteContext};
use optimist_plane::{describe, statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{self, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::quotas::Quota;
use optimist_shared::routes::Route;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;

use crate::deliveries::web_push::{is_key, public_key};
use crate::deliveries::webhooks::{secret, shown};
use crate::people::secrets::TOKEN_KEYS;

pub fn routes() -> Vec<Served> {
    vec![
        on("push-tokens.list", list)
            .says("The caller's browsers and webhooks, newest first.")
            .answers::<Tokens>(200)
            .tagged()
            .links([link("push-tokens.remove", &[("token", "$response.body#/items/0/id")])]),
        on("push-tokens.add", add)
            .says("Subscribe a browser, or a webhook of one's own.")
            .notes(
                "With `keys` it is a browser's subscription (Web Push), without them a webhook. The same endpoint again replaces the \
                 keys. A webhook is asked to repeat a word (`data.challenge`) before it is told of anything; its requests are signed \
                 with `secret` as Standard Webhooks says. Addresses must be public.",
            )
            .takes::<NewToken>(json!({"endpoint": "https://hooks.example.org/optimist"}))
            .answers::<Added>(201)
            .refuses(&[ErrorCode::QuotaExceeded])
            .links([link("push-tokens.remove", &[("token", ID)])]),
        on("push-tokens.remove", remove)
            .says("Forget a browser or a webhook.")
            .notes("What is still on its way to it is withdrawn."),
    ]
}

/// The address of a push service or a webhook.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Endpoint(String);

describe!(Endpoint, {"type": "string", "format": "uri", "maxLength": 1024});

impl TryFrom<String> for Endpoint {
    type Error = Refused;

    fn try_from(text: String) -> Result<Endpoint, Refused> {
        match text.chars().count() {
            0..=1024 => Ok(Endpoint(text)),
            _ => Err(Refused::new("must have at most 1024 characters")),
        }
    }
}

/// A browser's public key: base64url of 65 bytes.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct PublicKey(Vec<u8>);

describe!(PublicKey, {"type": "string", "pattern": "^[A-Za-z0-9_-]{86}[AEIMQUYcgkosw048]$"});

impl TryFrom<String> for PublicKey {
    type Error = Refused;

    fn try_from(text: String) -> Result<PublicKey, Refused> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 65 && is_key(bytes));
        bytes.map(PublicKey).ok_or_else(|| Refused::new("is not a public key of P-256"))
    }
}

/// What a browser shares with whoever sends to it: base64url of 16 bytes.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct AuthSecret(Vec<u8>);

describe!(AuthSecret, {"type": "string", "pattern": "^[A-Za-z0-9_-]{21}[AQgw]$"});

impl TryFrom<String> for AuthSecret {
    type Error = Refused;

    fn try_from(text: String) -> Result<AuthSecret, Refused> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 16);
        bytes.map(AuthSecret).ok_or_else(|| Refused::new("is not 16 bytes in base64url"))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SubscriptionKeys")]
struct NewKeys {
    p256dh: PublicKey,
    auth: AuthSecret,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AddPushToken")]
struct NewToken {
    endpoint: Endpoint,
    keys: Option<NewKeys>,
}

/// The schema of a token's channel.
struct ChannelShape;

describe!(ChannelShape, {"type": "string", "enum": ["push", "webhook"]});

/// A browser or a webhook.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PushToken")]
struct Token {
    id: Uuid,
    #[schemars(with = "ChannelShape")]
    channel: String,
    /// Of its address, which holds secrets of its own.
    host: String,
    /// Whether it is told of anything.
    verified: bool,
    created_at: Time,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PushTokens")]
struct Tokens {
    items: Vec<Token>,
    /// The key that a browser subscribes with (`applicationServerKey`). Null if this service sends no Web Push.
    application_server_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AddedPushToken")]
struct Added {
    #[serde(flatten)]
    token: Token,
    /// Of a webhook: what its requests are signed with.
    secret: Option<String>,
}

/// A webhook that may be unverified.
pub struct Hook {
    pub endpoint: String,
    pub token_key: String,
    pub is_verified: bool,
}

impl Token {
    /// From: id, channel, endpoint, verified_at is not null, created_at.
    fn from_row(row: &Row) -> Token {
        let uri: Option<axum::http::Uri> = row.get::<_, &str>(2).parse().ok();
        Token {
            id: row.get(0),
            channel: row.get(1),
            host: uri.and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default(),
            verified: row.get(3),
            created_at: row.get(4),
        }
    }
}

statements! {
    const LOAD: &str = "-- tokens::load
select t.id, t.channel, t.endpoint, t.verified_at is not null, t.created_at, seen
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join push_tokens t on t.user_id = $1 and t.channel <> 'email' order by t.id desc";

    const COUNT: &str = "-- tokens::count
select count(*) from (
    select from push_tokens where user_id = $1 and channel <> 'email' and endpoint <> $2 limit $3) as held";

    /// A webhook that is given again keeps its secret, and what it has answered; a browser's keys are replaced.
    const ADD: &str = "-- tokens::add
insert into push_tokens as t (user_id, id, channel, endpoint, p256dh, auth, token_key, verified_at)
values ($1, $2, $3, $4, $5, $6, $7, case when $3 = 'push' then now() end)
on conflict (user_id, endpoint) do update set channel = excluded.channel, p256dh = excluded.p256dh, auth = excluded.auth,
    token_key = coalesce(t.token_key, excluded.token_key),
    verified_at = case when t.channel = excluded.channel then t.verified_at else excluded.verified_at end
returning id, channel, endpoint, verified_at is not null, created_at, token_key";

    const REMOVE: &str = "-- tokens::remove
delete from push_tokens where user_id = $1 and id = $2 and channel <> 'email'";

    const FIND: &str = "-- tokens::find
select endpoint, token_key, verified_at is not null from push_tokens where user_id = $1 and id = $2 and channel = 'webhook'";

    const VERIFY: &str = "-- tokens::verify
update push_tokens set verified_at = now() where user_id = $1 and id = $2 and verified_at is null";
}

async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    respond_object(&*read_through(&ctx, Key::push_tokens(caller.user)).await?, &headers)
}

pub async fn load(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let user = id_of(&key, ids::Id::User)?;
    let rows = ctx.db.query(LOAD, &[&user]).await?;
    let first = rows.first().ok_or_else(|| Error::internal("push tokens", &"no row"))?;
    let items =
        rows.iter().filter(|row| row.get::<_, Option<Uuid>>(0).is_some()).map(Token::from_row).collect();
    let tokens = Tokens { items, application_server_key: public_key(&ctx.config) };
    let json = to_json(&tokens)?;
    let version = digest(&[user.as_bytes(), &json]);
    Ok(Snapshot::new(first.get(5), Loaded::Object { version, json }))
}

async fn add(State(ctx): State<Ctx>, caller: Caller, body: Body<NewToken>) -> Result<Response> {
    let NewToken { endpoint: Endpoint(endpoint), keys } = body.value;
    let checked = ctx.outgoing.http.check(&endpoint).await;
    checked.map_err(|reason| Error::invalid("endpoint", reason))?;
    if keys.is_some() && ctx.config.outgoing.vapid.is_none() {
        return Err(Error::invalid("keys", "must be left out: this service sends no Web Push"));
    }
    let channel = if keys.is_some() { "push" } else { "webhook" };
    let (p256dh, auth) = keys.map(|keys| (keys.p256dh.0, keys.auth.0)).unzip();
    let (user, new) = (caller.user, Uuid::now_v7());
    let key_id = (channel == "webhook").then(|| ctx.config.keys(TOKEN_KEYS).first.clone());
    let context = caller.writes("tokens::add", [user]);
    let added = transaction!(&ctx, context, |tx| {
        check_quota(tx, user, &endpoint).await?;
        let row = tx.query_one(ADD, &[&user, &new, &channel, &endpoint, &p256dh, &auth, &key_id]).await?;
        let token = Token::from_row(&row);
        let secret = match row.get::<_, Option<String>>(5) {
            Some(key_id) if channel == "webhook" => Some(shown(&secret(&ctx, &key_id, token.id)?)),
            _ => None,
        };
        if channel == "webhook" && !token.verified {
            challenge(tx, user, token.id).await?;
        }
        tx.touch(Key::push_tokens(user));
        tx.event("push-token.added", json!({"token": token.id, "channel": channel}));
        Ok(Added { token, secret })
    })?;
    Ok(json_response(201, None, to_json(&added)?))
}

/// The transaction holds the person's lock.
async fn check_quota(tx: &Tx, user: Uuid, endpoint: &str) -> Result<()> {
    let most = Quota::PushTokens.row().most;
    let held: i64 = tx.query_one(COUNT, &[&user, &endpoint, &most.cast_signed()]).await?.get(0);
    if held.cast_unsigned() < most { Ok(()) } else { Err(Error::over(Quota::PushTokens)) }
}

async fn challenge(tx: &Tx, user: Uuid, token: Uuid) -> Result<()> {
    let mut word = [0; 24];
    getrandom::fill(&mut word).map_err(|error| Error::internal("random bytes", &error))?;
    let ticket = Ticket { channel: "webhook".to_owned(), user, subject: Uuid::now_v7(), target: token };
    rows::insert(tx, ticket, Some(&json!({"challenge": URL_SAFE_NO_PAD.encode(word)}))).await
}

async fn remove(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let token = caller.request.id(ids::Id::Token)?;
    let user = caller.user;
    let context = caller.writes("tokens::remove", [user]);
    transaction!(&ctx, context, |tx| {
        if tx.execute(REMOVE, &[&user, &token]).await? == 0 {
            return Err(Error::new(ErrorCode::NotFound));
        }
        tx.touch(Key::push_tokens(user));
        tx.event("push-token.removed", json!({"token": token}));
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub async fn find(ctx: &Ctx, user: Uuid, token: Uuid) -> Result<Option<Hook>> {
    let rows = rows::query(ctx, FIND, &[&user, &token]).await?;
    Ok(rows.first().map(|row| Hook {
        endpoint: row.get(0),
        token_key: row.get::<_, Option<String>>(1).unwrap_or_default(),
        is_verified: row.get(2),
    }))
}

static GONE: Route = Route::of_command("push-tokens.gone", &[Key::PushTokens]);
static VERIFIED: Route = Route::of_command("push-tokens.verified", &[Key::PushTokens]);

/// A browser or a webhook is gone for good.
pub async fn forget(ctx: &Ctx, user: Uuid, token: Uuid) -> Result<()> {
    change(ctx, &GONE, REMOVE, "push-token.gone", user, token).await
}

/// A webhook has answered its challenge.
pub async fn verified(ctx: &Ctx, user: Uuid, token: Uuid) -> Result<()> {
    change(ctx, &VERIFIED, VERIFY, "push-token.verified", user, token).await
}

async fn change(
    ctx: &Ctx,
    route: &'static Route,
    sql: &'static str,
    event: &'static str,
    user: Uuid,
    token: Uuid,
) -> Result<()> {
    let request = RequestContext::of_command(route);
    let context = WriteContext::new("tokens::change", &request, None, vec![user]);
    transaction!(ctx, context, |tx| {
        if tx.execute(sql, &[&user, &token]).await? == 0 {
            tx.unchanged();
        }
        tx.touch(Key::push_tokens(user));
        tx.event(event, json!({"token": token}));
        Ok(())
    })
}
