//! The right to read a circle, from the copies that decide over it: who is a member, and who else may read.
//!
//! Writes are decided by [`super::standing`], in their transactions.

use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::request::Caller;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::session::{Access, Role};

/// Nothing for a circle that does not exist: made-up ids leave no keys.
const ROLE: &str = "-- circles::role
select seen, m.role
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select coalesce(memberships.role, 'none') as role
    from circles left join memberships on circle_id = circles.id and user_id = $2
    where circles.id = $1) m on true";

pub const STATEMENTS: &[&str] = &[ROLE];

/// The circle of the path.
pub fn circle_of(caller: &Caller) -> Result<Uuid> {
    caller.request.path.circle.ok_or_else(|| Error::new(ErrorCode::NotFound))
}

/// The caller's right to read the circle of the path, and their role in it. 404 for those for whom it does not exist.
pub async fn reader_of_circle(app: &Ctx, caller: &Caller) -> Result<(Uuid, Role)> {
    let circle = caller.request.path.circle.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let parameters = Parameters { user: Some(caller.user), circle: Some(circle), ..Parameters::default() };
    let role = match caller.role {
        Some(role) => role,
        None => match &*read_through(app, Key::Membership, parameters).await? {
            Loaded::Text(text) => Role::parse(text).unwrap_or(Role::None),
            _ => Role::None,
        },
    };
    if role.is_member() {
        return Ok((circle, role));
    }
    let access = match &*read_through(app, Key::CircleAccess, parameters).await? {
        Loaded::Text(text) => Access::parse(text),
        _ => None,
    };
    match (role, access) {
        (Role::None, Some(Access::Public)) => Ok((circle, role)),
        _ => Err(Error::new(ErrorCode::NotFound)),
    }
}

/// As [`super::standing::Standing::require_member`] decides, from the copies of the same facts.
pub async fn require_member(app: &Ctx, caller: &Caller, circle: Uuid) -> Result<()> {
    let (_, role) = reader_of_circle(app, caller).await?;
    if !role.is_member() {
        return Err(Error::new(ErrorCode::Forbidden));
    }
    let parameters = Parameters { circle: Some(circle), ..Parameters::default() };
    match &*read_through(app, Key::CircleAccess, parameters).await? {
        Loaded::Text(text) if Access::parse(text) == Some(Access::Archived) => {
            Err(Error::new(ErrorCode::Conflict).detail("The circle is archived."))
        }
        _ => Ok(()),
    }
}

pub async fn load_membership(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    let (circle, user) = (parameters.circle.unwrap_or_default(), parameters.user.unwrap_or_default());
    let row = app.db.query_opt(ROLE, &[&circle, &user]).await?;
    let row = row.ok_or_else(|| Error::internal("session", &"no row"))?;
    let loaded = row.get::<_, Option<String>>(1).map_or(Loaded::Missing, Loaded::Text);
    Ok(Snapshot::new(row.get(0), loaded))
}
