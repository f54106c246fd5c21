//! The right to read a circle, decided from two cached facts: the caller's membership, and who else may read;
//! and of many circles at once, from Postgres.
//!
//! It decides no writes: those read [`super::standing`] under their locks. Before a write takes locks it asks
//! [`require_role`], and before it goes to Redis [`require_member`], so that nobody waits for a caller who has no right.

use std::collections::HashSet;

use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::live::rights::{BLOCKERS, Subscription};
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

    /// The ids of a person's circles, of those whom they have blocked and, up to `$2`, of those who have blocked them; and the snapshot
    /// that shows them.
    const FOLLOWED: &str = "-- circles::followed (2,501 rows)
select pg_current_snapshot()::text, array(select circle_id from memberships where user_id = $1 and role <> 'banned'),
    array(select blocked_id from blocks where user_id = $1), array(select user_id from blocks where blocked_id = $1 limit $2)";

    /// Those of these circles that a person may read.
    const READABLE: &str = "-- circles::readable_of
select c.id from unnest($2::uuid[]) as asked (id)
join circles c on c.id = asked.id
left join memberships m on m.circle_id = c.id and m.user_id = $1
where coalesce(m.role <> 'banned', c.visibility = 'public' and c.archived_at is null)";
}

/// Those of some circles that a person may read at this moment, from Postgres: members, and everyone if it is public, but never the
/// banned.
pub async fn readable(ctx: &Ctx, user: Uuid, circles: &[Uuid]) -> Result<HashSet<Uuid>> {
    let rows = ctx.db.query(READABLE, &[&user, &circles]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The circles whose events a person receives, and from whom something is hidden.
pub async fn followed(ctx: &Ctx, user: Uuid) -> Result<Subscription> {
    let rows = ctx.db.query(FOLLOWED, &[&user, &(BLOCKERS as i64 + 1)]).await?;
    let row = rows.first().ok_or_else(|| Error::internal("circles", &"no row"))?;
    Ok(Subscription { seen: row.get(0), topics: row.get(1), blocked: row.get(2), blockers: row.get(3) })
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

/// The circle of the path, and the caller's role in it, if that is an allowed one. Refuses as
/// [`super::standing::Standing::require_role`] does, but from cached facts: without a query if the edge knew the role.
pub async fn require_role(
    ctx: &Ctx,
    caller: &Caller,
    allowed: impl Fn(Role) -> bool,
) -> Result<(Uuid, Role)> {
    let (circle, role) = reader_of_circle(ctx, caller).await?;
    if allowed(role) { Ok((circle, role)) } else { Err(Error::new(ErrorCode::Forbidden)) }
}

/// Refuses as [`super::standing::Standing::require_member`] does, but from cached facts.
pub async fn require_member(ctx: &Ctx, caller: &Caller) -> Result<()> {
    let (circle, _) = require_role(ctx, caller, Role::is_member).await?;
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

/// Someone's role in a circle, from Postgres. It fills no key: callers may name anyone.
pub async fn role_of(ctx: &Ctx, circle: Uuid, user: Uuid) -> Result<Role> {
    let row = ctx.db.query_opt(ROLE, &[&circle, &user]).await?;
    let role = row.and_then(|row| row.get::<_, Option<String>>(1));
    Ok(role.as_deref().and_then(Role::parse).unwrap_or(Role::None))
}

pub async fn load_membership(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let (circle, user) = (id_of(&key, Id::Circle)?, id_of(&key, Id::User)?);
    let row = ctx.db.query_opt(ROLE, &[&circle, &user]).await?;
    let row = row.ok_or_else(|| Error::internal("circles", &"no row"))?;
    let loaded = row.get::<_, Option<String>>(1).map_or(Loaded::Missing, Loaded::Text);
    Ok(Snapshot::new(row.get(0), loaded))
}
