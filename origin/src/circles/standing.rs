//! A person's standing in a circle, which decides over each write in it, and is read in the write's own transaction.
//!
//! It decides no reads: the edge does, or [`super::access`], from cached copies of the same facts.

use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::session::Role;
use tokio_postgres::Row;

use crate::circles::definition::JoinPolicy;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::{describe, statements};

statements! {
    const STANDING: &str = "-- circles::standing
select c.visibility, c.archived_at is not null, m.role, c.version, c.join_policy
from circles c left join memberships m on m.circle_id = c.id and m.user_id = $2
where c.id = $1";
}

/// The facts that decide over a person's writes in a circle, read in a transaction that holds the circle's lock.
pub struct Standing {
    pub role: Role,
    /// Whether people who are not members may read the circle: it is public, and not archived.
    pub is_public: bool,
    pub is_archived: bool,
    pub join_policy: JoinPolicy,
    /// The circle's version, for `If-Match`.
    pub version: i64,
}

impl Standing {
    /// `None` if there is no such circle.
    pub async fn find(tx: &Tx, circle: Uuid, user: Uuid) -> Result<Option<Standing>> {
        Ok(tx.query_opt(STANDING, &[&circle, &user]).await?.as_ref().map(Standing::from_row))
    }

    /// The same before a transaction, for writes whose callers need not be members: they are refused before they lock
    /// anything, and read it again under the locks.
    pub async fn before_locks(ctx: &Ctx, circle: Uuid, user: Uuid) -> Result<Option<Standing>> {
        Ok(ctx.db.query_opt(STANDING, &[&circle, &user]).await?.as_ref().map(Standing::from_row))
    }

    fn from_row(row: &Row) -> Standing {
        let (role, is_archived): (Option<String>, bool) = (row.get(2), row.get(1));
        Standing {
            // A policy of a later release is no open door.
            join_policy: JoinPolicy::parse(row.get(4)).unwrap_or(JoinPolicy::InviteOnly),
            role: role.as_deref().and_then(Role::parse).unwrap_or(Role::None),
            is_public: row.get::<_, String>(0) == "public" && !is_archived,
            is_archived,
            version: row.get(3),
        }
    }

    /// Whoever is not a member does not come in without an invitation.
    pub fn is_by_invitation(&self) -> bool {
        !self.is_public || self.join_policy != JoinPolicy::Open
    }

    /// Whoever is not a member may ask to come in.
    pub fn is_on_request(&self) -> bool {
        self.is_public && self.join_policy == JoinPolicy::OnRequest
    }

    /// 404 if there is no such circle.
    pub async fn read(tx: &Tx, circle: Uuid, user: Uuid) -> Result<Standing> {
        Standing::find(tx, circle, user).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))
    }

    /// 404 for people who may not read the circle: strangers to a private one, and the banned.
    pub fn require_reader(&self) -> Result<()> {
        let visible = self.role.is_member() || (self.is_public && self.role != Role::Banned);
        if visible { Ok(()) } else { Err(Error::new(ErrorCode::NotFound)) }
    }

    /// 403 for readers who lack the role; 404 for everyone who may not even read, so that the refusal reveals nothing.
    pub fn require_role(&self, allowed: impl Fn(Role) -> bool) -> Result<()> {
        self.require_reader()?;
        if allowed(self.role) { Ok(()) } else { Err(Error::new(ErrorCode::Forbidden)) }
    }

    /// 409 once the circle is archived: members may read it, leave it and report what is in it, and nothing else.
    pub fn require_active(&self) -> Result<()> {
        if self.is_archived {
            return Err(Error::new(ErrorCode::Conflict).detail("The circle is archived."));
        }
        Ok(())
    }

    /// Refuses everyone but members, and everyone once the circle is archived.
    pub fn require_member(&self) -> Result<()> {
        self.require_role(Role::is_member)?;
        self.require_active()
    }

    /// Refuses everyone but its owner and moderators, and everyone once the circle is archived.
    pub fn require_moderator(&self) -> Result<()> {
        self.require_role(is_moderator)?;
        self.require_active()
    }
}

/// A role that a member can have, as answers write it.
pub struct MemberRole;

describe!(MemberRole, {"type": "string", "enum": ["owner", "moderator", "member"]});

/// Whether a role may moderate.
pub fn is_moderator(role: Role) -> bool {
    matches!(role, Role::Owner | Role::Moderator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(role: Role, is_public: bool, is_archived: bool) -> Option<ErrorCode> {
        let is_public = is_public && !is_archived;
        let join_policy = JoinPolicy::Open;
        let standing = Standing { role, is_public, join_policy, is_archived, version: 1 };
        standing.require_moderator().err().map(|error| error.code)
    }

    #[test]
    fn a_refusal_tells_no_more_than_one_may_read() {
        assert_eq!(code(Role::Moderator, false, false), None);
        assert_eq!(code(Role::Member, false, false), Some(ErrorCode::Forbidden));
        assert_eq!(code(Role::None, true, false), Some(ErrorCode::Forbidden));
        assert_eq!(code(Role::None, false, false), Some(ErrorCode::NotFound));
        assert_eq!(code(Role::Banned, true, false), Some(ErrorCode::NotFound));
        assert_eq!(code(Role::Owner, true, true), Some(ErrorCode::Conflict));
        assert_eq!(code(Role::None, true, true), Some(ErrorCode::NotFound));
    }
}
