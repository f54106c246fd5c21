//! A caller's standing in a circle: what decides over each write in it.
//!
//! Reads are decided by the edge, or by [`super::access::reader_of_circle`], from the copies of the same facts.

use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Parameters;
use optimist_shared::session::Role;

use optimist_plane::error::{Error, Result};
use optimist_plane::postgres::transaction::Tx;

const STANDING: &str = "-- circles::standing
select c.visibility, c.archived_at is not null, m.role, c.version
from circles c left join memberships m on m.circle_id = c.id and m.user_id = $2
where c.id = $1";

pub const STATEMENTS: &[&str] = &[STANDING];

/// What someone may do in a circle, read in a transaction that holds the circle's lock.
pub struct Standing {
    pub circle: Uuid,
    pub role: Role,
    /// Whether those who are not members may read it: a public circle, until it is archived.
    pub is_public: bool,
    pub is_archived: bool,
    pub version: i64,
}

impl Standing {
    /// `None` if there is no such circle.
    pub async fn find(tx: &Tx, circle: Uuid, user: Uuid) -> Result<Option<Standing>> {
        let row = tx.query_opt(STANDING, &[&circle, &user]).await?;
        Ok(row.map(|row| {
            let (role, is_archived): (Option<String>, bool) = (row.get(2), row.get(1));
            Standing {
                circle,
                role: role.as_deref().and_then(Role::parse).unwrap_or(Role::None),
                is_public: row.get::<_, String>(0) == "public" && !is_archived,
                is_archived,
                version: row.get(3),
            }
        }))
    }

    /// 404 if there is no such circle.
    pub async fn read(tx: &Tx, circle: Uuid, user: Uuid) -> Result<Standing> {
        Standing::find(tx, circle, user).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))
    }

    /// Refuses those for whom the circle does not exist: strangers to a private one, and whoever is banned.
    pub fn require_reader(&self) -> Result<()> {
        let visible = self.role.is_member() || (self.is_public && self.role != Role::Banned);
        if visible { Ok(()) } else { Err(Error::new(ErrorCode::NotFound)) }
    }

    /// Refuses those who lack the role, without telling more than they may read.
    pub fn require_role(&self, allowed: impl Fn(Role) -> bool) -> Result<()> {
        self.require_reader()?;
        if allowed(self.role) { Ok(()) } else { Err(Error::new(ErrorCode::Forbidden)) }
    }

    /// Refuses everyone once the circle is archived: it is read, and left, and nothing else.
    pub fn require_active(&self) -> Result<()> {
        if self.is_archived {
            return Err(Error::new(ErrorCode::Conflict).detail("The circle is archived."));
        }
        Ok(())
    }

    pub fn require_member(&self) -> Result<()> {
        self.require_role(Role::is_member)?;
        self.require_active()
    }

    pub fn require_moderator(&self) -> Result<()> {
        self.require_role(is_moderator)?;
        self.require_active()
    }

    /// The parameters of the circle's own keys.
    pub fn keys(&self) -> Parameters {
        Parameters { circle: Some(self.circle), ..Parameters::default() }
    }

    /// The parameters of the key of someone's membership in the circle.
    pub fn membership_of(&self, user: Uuid) -> Parameters {
        Parameters { circle: Some(self.circle), user: Some(user), ..Parameters::default() }
    }
}

/// Whether a role may moderate.
pub fn is_moderator(role: Role) -> bool {
    matches!(role, Role::Owner | Role::Moderator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(role: Role, is_public: bool, is_archived: bool) -> Option<ErrorCode> {
        let circle = Uuid::from_u128(1);
        let standing =
            Standing { circle, role, is_public: is_public && !is_archived, is_archived, version: 1 };
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
