//! The right to read a circle, decided from two cached facts: the caller's membership, and who else may read.
//!
//! It decides no writes: those read [`super::standing`] in their transactions. A write that goes to Redis first asks
//! [`require_member`].

use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::session::{Access, Role};

statements! {
    /// Null for a circle that does not exist, so that made-up ids leave no keys in Redis.
    const ROLE: &str = "-- circles::role
select seen, m.role
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select coalesce(memberships.role, 'none') as role
    from circles left join memberships on circle_id = circles.id and user_id = $2
    where circles.id = $1) m on true";
}

/// The circle of the path, and the caller's role in it. 404 if it does not exist for them.
pub async fn reader_of_circle(ctx: &Ctx, caller: &Caller) -> Result<(Uuid, Role)> {
    let circle = caller.request.id(Id::Circle)?;
    let role = match caller.role {
        Some(role) => role,
        None => match &*read_through(ctx, Key::membership(caller.user, circle)).await? {
            Loaded::Text(text) => Role::parse(text).unwrap_or(Role::None),
            _ => Role::None,
        },
    };
    if role.is_member() {
        return Ok((circle, role));
    }
    match (role, access(ctx, circle).await?) {
        (Role::None, Some(Access::Public)) => Ok((circle, role)),
        _ => Err(Error::new(ErrorCode::NotFound)),
    }
}

/// Refuses as [`super::standing::Standing::require_member`] does, but from cached facts.
pub async fn require_member(ctx: &Ctx, caller: &Caller, circle: Uuid) -> Result<()> {
    let (_, role) = reader_of_circle(ctx, caller).await?;
    if !role.is_member() {
        return Err(Error::new(ErrorCode::Forbidden));
    }
    match access(ctx, circle).await? {
        Some(Access::Archived) => Err(Error::new(ErrorCode::Conflict).detail("The circle is archived.")),
        _ => Ok(()),
    }
}

/// Who may read a circle besides its members. `None` if it does not exist.
async fn access(ctx: &Ctx, circle: Uuid) -> Result<Option<Access>> {
    Ok(match &*read_through(ctx, Key::circle_access(circle)).await? {
        Loaded::Text(text) => Access::parse(text),
        _ => None,
    })
}

pub async fn load_membership(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let (circle, user) = (id_of(&key, Id::Circle)?, id_of(&key, Id::User)?);
    let row = ctx.db.query_opt(ROLE, &[&circle, &user]).await?;
    let row = row.ok_or_else(|| Error::internal("circles", &"no row"))?;
    let loaded = row.get::<_, Option<String>>(1).map_or(Loaded::Missing, Loaded::Text);
    Ok(Snapshot::new(row.get(0), loaded))
}
