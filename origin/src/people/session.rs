//! Sessions as Postgres has them: checked when the edge could not ask Redis, loaded for their copies, and compared with those.
//!
//! It opens and ends none: [`super::opening`] and [`super::ending`] do. A session that was refreshed lasts five minutes more,
//! however busy it is: requests are still under way, or the client has not seen its successor yet.

use optimist_plane::audit::copies;
use optimist_plane::audit::tally::{Suspect, Tally};
use optimist_shared::envelope::{Body, Envelope};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::session::{CachedSession, Token};
use subtle::ConstantTimeEq as _;

use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::clock::now_ms;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::statements;

statements! {
    const LOAD: &str = "-- session::load
select seen, s.secret_hash, (extract(epoch from s.ends_at) * 1000)::bigint
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select sessions.secret_hash, least(sessions.absolute_until, sessions.refreshed_at + interval '5 minutes') as ends_at
    from sessions join users on users.id = sessions.user_id
    where sessions.id = $1 and user_id = $2 and revoked_at is null and users.status = 'active' and idle_until > now()) s
  on s.ends_at > now()";

    /// Starts the session's idle time anew. Its first use ends the time in which its parent may be refreshed once more.
    const USE: &str = "-- session::use
update sessions
set first_used_at = coalesce(first_used_at, now()),
    idle_until = greatest(idle_until, least(now() + interval '30 minutes', absolute_until))
where id = $1 and (first_used_at is null or idle_until < now() + interval '29 minutes')";

    /// Starts its idle time anew, and selects its latest end; nothing if it is over.
    const EXTEND: &str = "-- session::extend
update sessions
set first_used_at = coalesce(first_used_at, now()),
    idle_until = greatest(idle_until, least(now() + interval '30 minutes', absolute_until))
from users
where sessions.id = $1 and user_id = $2 and users.id = user_id and users.status = 'active' and revoked_at is null
  and idle_until > now() and least(sessions.absolute_until, sessions.refreshed_at + interval '5 minutes') > now()
returning (extract(epoch from least(sessions.absolute_until, sessions.refreshed_at + interval '5 minutes')) * 1000)::bigint";

    /// Without its idle time, which only Redis knows exactly, and even after its end: a copy ends by itself.
    const STANDING: &str = "-- session::standing
select sessions.secret_hash,
    (extract(epoch from least(sessions.absolute_until, sessions.refreshed_at + interval '5 minutes')) * 1000)::bigint
from sessions join users on users.id = sessions.user_id
where sessions.id = $1 and user_id = $2 and revoked_at is null and users.status = 'active'";
}

/// Checks a token that the edge could not check, and puts the session into Redis for its next request. 401 if it is over.
pub async fn check(ctx: &Ctx, token: &Token) -> Result<()> {
    let over =
        || Error::new(ErrorCode::Unauthenticated).detail("The session is over, or the token is not its own.");
    let loaded = read_through(ctx, Key::session(token.user, token.session)).await?;
    let Loaded::Session(session) = &*loaded else { return Err(over()) };
    if !bool::from(session.secret_hash.as_bytes().ct_eq(token.secret_hash().as_bytes())) {
        return Err(over());
    }
    ctx.db.query(USE, &[&token.session]).await?;
    Ok(())
}

/// Says that a session is in use, by a connection that lasts. Returns its latest end, in Unix milliseconds; `None` if it is over.
pub async fn extend(ctx: &Ctx, user: Uuid, session: Uuid) -> Result<Option<u64>> {
    let row = ctx.db.query_opt(EXTEND, &[&session, &user]).await?;
    Ok(row.map(|row| row.get::<_, i64>(0).cast_unsigned()))
}

pub async fn load_session(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let (session, user) = ids_of(&key)?;
    let row = ctx.db.query_opt(LOAD, &[&session, &user]).await?;
    let row = row.ok_or_else(|| Error::internal("session", &"no row"))?;
    let hash: Option<String> = row.get(1);
    let loaded = hash.map_or(Loaded::Missing, |secret_hash| {
        Loaded::Session(CachedSession {
            secret_hash,
            written_back_ms: now_ms(),
            absolute_until_ms: row.get::<_, Option<i64>>(2).unwrap_or_default().cast_unsigned(),
        })
    });
    Ok(Snapshot::new(row.get(0), loaded))
}

/// Compares the copy's secret and its latest end with Postgres. How long the session has idled is not compared: Redis knows
/// it better.
pub async fn compare(ctx: &Ctx, suspect: Suspect<'_>) -> Result<Tally> {
    let Some(before) = copies::kept(ctx, &suspect).await else { return Ok(Tally::PASSED_OVER) };
    let Some(Body::Session(body)) = Envelope::decode(&before.bytes).map(|envelope| envelope.body) else {
        return Ok(Tally::PASSED_OVER);
    };
    let copy = CachedSession::decode(body).map(|session| (session.secret_hash, session.absolute_until_ms));
    let is_same = copy == secret_and_end(ctx, &suspect.key).await?;
    copies::settle(ctx, suspect, &before, is_same).await
}

/// A session's hashed secret and its latest end, in Unix milliseconds; `None` if it was revoked.
async fn secret_and_end(ctx: &Ctx, key: &BoundKey) -> Result<Option<(String, u64)>> {
    let (session, user) = ids_of(key)?;
    let row = ctx.db.query_opt(STANDING, &[&session, &user]).await?;
    Ok(row.map(|row| (row.get(0), row.get::<_, i64>(1).cast_unsigned())))
}

fn ids_of(key: &BoundKey) -> Result<(Uuid, Uuid)> {
    Ok((id_of(key, Id::Session)?, id_of(key, Id::User)?))
}
