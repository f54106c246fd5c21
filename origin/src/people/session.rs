//! Sessions as Postgres has them: checked when the edge could not, and loaded for its Redis.

use optimist_plane::audit::copies;
use optimist_plane::audit::tally::{Suspect, Tally};
use optimist_shared::envelope::{Body, Envelope};
use optimist_shared::error::ErrorCode;
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::session::{CachedSession, Token};
use subtle::ConstantTimeEq as _;

use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot};
use optimist_plane::clock::now_ms;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};

const LOAD: &str = "-- session::load
select seen, s.secret_hash, (extract(epoch from s.absolute_until) * 1000)::bigint
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select sessions.secret_hash, sessions.absolute_until
    from sessions join users on users.id = sessions.user_id
    where sessions.id = $1 and user_id = $2 and revoked_at is null and users.status = 'active'
      and idle_until > now() and absolute_until > now()) s on true";

/// In use: its idle time starts anew. The first use ends the parent's grace.
const USE: &str = "-- session::use
update sessions
set first_used_at = coalesce(first_used_at, now()),
    idle_until = greatest(idle_until, least(now() + interval '30 minutes', absolute_until))
where id = $1 and (first_used_at is null or idle_until < now() + interval '29 minutes')";

/// However long it has idled: that is Redis's to know.
const STANDING: &str = "-- session::standing
select sessions.secret_hash, (extract(epoch from sessions.absolute_until) * 1000)::bigint
from sessions join users on users.id = sessions.user_id
where sessions.id = $1 and user_id = $2 and revoked_at is null and users.status = 'active' and absolute_until > now()";

pub const STATEMENTS: &[&str] = &[LOAD, USE, STANDING];

/// Checks a token that the edge could not check, and puts the session into Redis for the next time.
pub async fn check(app: &Ctx, token: &Token) -> Result<()> {
    let over =
        || Error::new(ErrorCode::Unauthenticated).detail("The session is over, or the token is not its own.");
    let parameters =
        Parameters { user: Some(token.user), session: Some(token.session), ..Parameters::default() };
    let loaded = read_through(app, Key::Session, parameters).await?;
    let Loaded::Session(session) = &*loaded else { return Err(over()) };
    if !bool::from(session.secret_hash.as_bytes().ct_eq(token.secret_hash().as_bytes())) {
        return Err(over());
    }
    app.db.query(USE, &[&token.session]).await?;
    Ok(())
}

pub async fn load_session(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    let (session, user) = (parameters.session.unwrap_or_default(), parameters.user.unwrap_or_default());
    let row = app.db.query_opt(LOAD, &[&session, &user]).await?;
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

/// A session's secret, hashed, and when it is over at the latest; `None` if it is.
async fn standing(app: &Ctx, parameters: &Parameters) -> Result<Option<(String, u64)>> {
    let (session, user) = (parameters.session.unwrap_or_default(), parameters.user.unwrap_or_default());
    let row = app.db.query_opt(STANDING, &[&session, &user]).await?;
    Ok(row.map(|row| (row.get(0), row.get::<_, i64>(1).cast_unsigned())))
}

/// Compares a session's secret and its last hour; how long it idles is Redis's own.
pub async fn compare(app: &Ctx, suspect: Suspect<'_>) -> Result<Tally> {
    let Some(before) = copies::kept(app, &suspect).await else { return Ok(Tally::PASSED_OVER) };
    let Some(Body::Session(body)) = Envelope::decode(&before.bytes).map(|envelope| envelope.body) else {
        return Ok(Tally::PASSED_OVER);
    };
    let copy = CachedSession::decode(body).map(|session| (session.secret_hash, session.absolute_until_ms));
    let is_same = copy == standing(app, &suspect.parameters).await?;
    copies::settle(app, suspect, &before, is_same).await
}
