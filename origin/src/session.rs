//! Sessions and memberships as Postgres has them: checked when the edge could not, and loaded for its Redis.

use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::session::{Access, CachedSession, Role, Token};
use subtle::ConstantTimeEq as _;

use crate::app::{Ctx, now_ms};
use crate::cache::{Loaded, Snapshot};
use crate::error::{Error, Result};
use crate::request::Caller;

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

/// Nothing for a circle that does not exist: made-up ids leave no keys.
const ROLE: &str = "-- session::role
select seen, m.role
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select coalesce(memberships.role, 'none') as role
    from circles left join memberships on circle_id = circles.id and user_id = $2
    where circles.id = $1) m on true";

/// However long it has idled: that is Redis's to know.
const STANDING: &str = "-- session::standing
select sessions.secret_hash, (extract(epoch from sessions.absolute_until) * 1000)::bigint
from sessions join users on users.id = sessions.user_id
where sessions.id = $1 and user_id = $2 and revoked_at is null and users.status = 'active' and absolute_until > now()";

pub const STATEMENTS: &[&str] = &[LOAD, USE, ROLE, STANDING];

/// Checks a token that the edge could not check, and puts the session into Redis for the next time.
pub async fn check(app: &Ctx, token: &Token) -> Result<()> {
    let over =
        || Error::new(ErrorCode::Unauthenticated).detail("The session is over, or the token is not its own.");
    let parameters =
        Parameters { user: Some(token.user), session: Some(token.session), ..Parameters::default() };
    let loaded = app.cache.read(app, Key::Session, parameters).await?;
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
pub async fn standing(app: &Ctx, parameters: &Parameters) -> Result<Option<(String, u64)>> {
    let (session, user) = (parameters.session.unwrap_or_default(), parameters.user.unwrap_or_default());
    let row = app.db.query_opt(STANDING, &[&session, &user]).await?;
    Ok(row.map(|row| (row.get(0), row.get::<_, i64>(1).cast_unsigned())))
}

pub async fn load_membership(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    let (circle, user) = (parameters.circle.unwrap_or_default(), parameters.user.unwrap_or_default());
    let row = app.db.query_opt(ROLE, &[&circle, &user]).await?;
    let row = row.ok_or_else(|| Error::internal("session", &"no row"))?;
    let loaded = row.get::<_, Option<String>>(1).map_or(Loaded::Missing, Loaded::Text);
    Ok(Snapshot::new(row.get(0), loaded))
}

/// The caller's right to read the circle of the path, and their role in it. 404 for those for whom it does not exist.
pub async fn reader_of_circle(app: &Ctx, caller: &Caller) -> Result<(Uuid, Role)> {
    let circle = caller.request.path.circle.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let parameters = Parameters { user: Some(caller.user), circle: Some(circle), ..Parameters::default() };
    let role = match caller.role {
        Some(role) => role,
        None => match &*app.cache.read(app, Key::Membership, parameters).await? {
            Loaded::Text(text) => Role::parse(text).unwrap_or(Role::None),
            _ => Role::None,
        },
    };
    if role.is_member() {
        return Ok((circle, role));
    }
    let access = match &*app.cache.read(app, Key::CircleAccess, parameters).await? {
        Loaded::Text(text) => Access::parse(text),
        _ => None,
    };
    match (role, access) {
        (Role::None, Some(Access::Public)) => Ok((circle, role)),
        _ => Err(Error::new(ErrorCode::NotFound)),
    }
}

/// As [`crate::circles::Standing::require_member`] decides, from the copies of the same facts.
pub async fn require_member(app: &Ctx, caller: &Caller, circle: Uuid) -> Result<()> {
    let (_, role) = reader_of_circle(app, caller).await?;
    if !role.is_member() {
        return Err(Error::new(ErrorCode::Forbidden));
    }
    let parameters = Parameters { circle: Some(circle), ..Parameters::default() };
    match &*app.cache.read(app, Key::CircleAccess, parameters).await? {
        Loaded::Text(text) if Access::parse(text) == Some(Access::Archived) => {
            Err(Error::new(ErrorCode::Conflict).detail("The circle is archived."))
        }
        _ => Ok(()),
    }
}
