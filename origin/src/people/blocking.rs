//! The people whom a person has blocked, and those whom they have muted.
//!
//! Nothing of somebody blocked reaches the blocker: [`super::veil`] hides it in answers and in what subscribers receive. Of somebody
//! muted one is only not told.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::page::{At, List, answer_page, page};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::link;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::statements::name;
use optimist_plane::{statements, transaction};
use optimist_shared::blocks::Blocked;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::quotas::Quota;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::people::person::Person;

/// Somebody was blocked, or is not blocked any more.
pub const ADDED: &str = "block.added";
pub const LIFTED: &str = "block.lifted";

const FIRST: &[(&str, &str)] = &[("user", "$response.body#/items/0/user/id")];

pub fn routes() -> Vec<Served> {
    vec![
        on("blocks.list", |ctx: State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri| list(ctx, caller, headers, uri, &BLOCKS))
            .says("The people whom the caller has blocked, the latest first.")
            .answers::<List<Silent>>(200)
            .tagged()
            .pages("cursor")
            .links([link("blocks.lift", FIRST)]),
        on("blocks.add", |ctx: State<Ctx>, caller: Caller| add(ctx, caller, &BLOCKS))
            .says("Block somebody.")
            .notes(
                "Nothing of theirs reaches the caller from then on: of a message only its id and number are shown, with `hidden`; they are \
                 left out of other lists, events and notifications, and what they have told the caller already is withdrawn. They are not \
                 told. In circles they share they go on to see what the caller writes there, but the caller's profile and presence do not \
                 exist for them.",
            )
            .refuses(&[ErrorCode::QuotaExceeded]),
        on("blocks.lift", |ctx: State<Ctx>, caller: Caller| lift(ctx, caller, &BLOCKS)).says("Block somebody no longer."),
        on("mutes.list", |ctx: State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri| list(ctx, caller, headers, uri, &MUTES))
            .says("The people whom the caller has muted, the latest first.")
            .answers::<List<Silent>>(200)
            .tagged()
            .pages("cursor")
            .links([link("mutes.lift", FIRST)]),
        on("mutes.add", |ctx: State<Ctx>, caller: Caller| add(ctx, caller, &MUTES))
            .says("Mute somebody.")
            .notes("The caller is told of nothing that they do. It is shown to the caller all the same.")
            .refuses(&[ErrorCode::QuotaExceeded]),
        on("mutes.lift", |ctx: State<Ctx>, caller: Caller| lift(ctx, caller, &MUTES)).says("Mute somebody no longer."),
    ]
}

/// Somebody who is blocked or muted.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SilencedPerson")]
struct Silent {
    user: Person,
    added_at: Time,
}

/// What differs between blocks and mutes.
struct Kind {
    list: &'static str,
    count: &'static str,
    add: &'static str,
    lift: &'static str,
    quota: Quota,
    added: &'static str,
    lifted: &'static str,
}

const BLOCKS: Kind = Kind {
    list: BLOCKED,
    count: COUNT_BLOCKED,
    add: BLOCK,
    lift: UNBLOCK,
    quota: Quota::Blocks,
    added: ADDED,
    lifted: LIFTED,
};

const MUTES: Kind = Kind {
    list: MUTED,
    count: COUNT_MUTED,
    add: MUTE,
    lift: UNMUTE,
    quota: Quota::Mutes,
    added: "mute.added",
    lifted: "mute.lifted",
};

impl Kind {
    /// Blocks are the other person's concern as well: what they receive of the blocker changes.
    fn concerns(&self, user: Uuid, other: Uuid) -> Vec<Uuid> {
        if self.quota == Quota::Blocks { vec![user, other] } else { vec![user] }
    }

    fn touch(&self, tx: &mut Tx, user: Uuid) {
        if self.quota == Quota::Blocks {
            tx.touch(Key::blocked(user));
        }
    }
}

statements! {
    const BLOCKED: &str = "-- blocks::list
select users.id, users.name, its.created_at from (
    select blocked_id, created_at from blocks
    where user_id = $1
      and (created_at, blocked_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    order by created_at desc, blocked_id desc limit $4) its
join users on users.id = blocked_id order by its.created_at desc, blocked_id desc";

    const MUTED: &str = "-- mutes::list
select users.id, users.name, its.created_at from (
    select muted_id, created_at from mutes
    where user_id = $1
      and (created_at, muted_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    order by created_at desc, muted_id desc limit $4) its
join users on users.id = muted_id order by its.created_at desc, muted_id desc";

    /// Without `$2`.
    const COUNT_BLOCKED: &str = "-- blocks::count
select count(*) from blocks where user_id = $1 and blocked_id <> $2";

    const COUNT_MUTED: &str = "-- mutes::count
select count(*) from mutes where user_id = $1 and muted_id <> $2";

    const IS_THERE: &str = "-- blocks::is_there
select from users where id = $1 and status <> 'erased'";

    const BLOCK: &str = "-- blocks::add
insert into blocks (user_id, blocked_id) values ($1, $2) on conflict do nothing";

    const MUTE: &str = "-- mutes::add
insert into mutes (user_id, muted_id) values ($1, $2) on conflict do nothing";

    const UNBLOCK: &str = "-- blocks::lift
delete from blocks where user_id = $1 and blocked_id = $2";

    const UNMUTE: &str = "-- mutes::lift
delete from mutes where user_id = $1 and muted_id = $2";

    /// Null for nobody, so that made-up ids leave no keys in Redis.
    const LOAD: &str = "-- blocks::load
select seen, its.ids from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select array(select blocked_id from blocks where user_id = $1 order by blocked_id) as ids from users where id = $1) its on true";
}

async fn list(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    kind: &Kind,
) -> Result<Response> {
    let page = page::<At<'b'>>(uri.query(), "cursor")?;
    let (time, id) = (page.after.map(|at| at.time), page.after.map(|at| at.id));
    let most = page.limit as i64 + 1;
    let rows = ctx.db.query(kind.list, &[&caller.user, &time, &id, &most]).await?;
    let shown = rows
        .iter()
        .take(page.limit)
        .map(|row| Silent { user: Person { id: row.get(0), name: row.get(1) }, added_at: Time(row.get(2)) });
    let at = |last: &Silent| At::<'b'> { time: last.added_at.0, id: last.user.id };
    answer_page(&headers, shown.collect(), rows.len() > page.limit, at)
}

async fn add(State(ctx): State<Ctx>, caller: Caller, kind: &Kind) -> Result<Response> {
    let (user, other) = (caller.user, caller.request.id(Id::User)?);
    if user == other {
        return Err(Error::new(ErrorCode::BadRequest).field("user", "must be somebody else"));
    }
    if ctx.db.query_opt(IS_THERE, &[&other]).await?.is_none() {
        return Err(Error::new(ErrorCode::NotFound));
    }
    let context = caller.writes(name(kind.add), kind.concerns(user, other));
    transaction!(&ctx, context, |tx| {
        let most = kind.quota.row().most.cast_signed();
        if tx.query_one(kind.count, &[&user, &other]).await?.get::<_, i64>(0) >= most {
            return Err(Error::over(kind.quota));
        }
        if tx.execute(kind.add, &[&user, &other]).await? == 0 {
            tx.unchanged();
        }
        kind.touch(tx, user);
        tx.event(kind.added, json!({"user": user, "other": other}));
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn lift(State(ctx): State<Ctx>, caller: Caller, kind: &Kind) -> Result<Response> {
    let (user, other) = (caller.user, caller.request.id(Id::User)?);
    let context = caller.writes(name(kind.lift), kind.concerns(user, other));
    transaction!(&ctx, context, |tx| {
        if tx.execute(kind.lift, &[&user, &other]).await? == 0 {
            return Err(Error::new(ErrorCode::NotFound));
        }
        kind.touch(tx, user);
        tx.event(kind.lifted, json!({"user": user, "other": other}));
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub async fn load(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let row = ctx.db.query_opt(LOAD, &[&id_of(&key, Id::User)?]).await?;
    let row = row.ok_or_else(|| Error::internal("blocks", &"no row"))?;
    let ids: Option<Vec<Uuid>> = row.get(1);
    let text = ids.map(|ids| ids.iter().map(Uuid::to_string).collect());
    Ok(Snapshot::new(row.get(0), text.map_or(Loaded::Missing, Loaded::Text)))
}

/// Whom somebody has blocked, as text that [`Blocked`] reads.
pub async fn blocked_by(ctx: &Ctx, user: Uuid) -> Result<String> {
    match &*read_through(ctx, Key::blocked(user)).await? {
        Loaded::Text(text) if Blocked::parse(text).is_some() => Ok(text.clone()),
        Loaded::Text(_) => Err(Error::internal("blocks", &"a list of another form")),
        _ => Ok(String::new()),
    }
}

/// 404 for those whom somebody has blocked.
pub async fn require_known_to(ctx: &Ctx, caller: Uuid, user: Uuid) -> Result<()> {
    let blocked = blocked_by(ctx, user).await?;
    let knows = !Blocked::parse(&blocked).unwrap_or_default().contains(caller);
    if knows { Ok(()) } else { Err(Error::new(ErrorCode::NotFound)) }
}
