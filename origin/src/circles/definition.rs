//! The definition of a circle: its wire types, and the row that they are made from.
//!
//! [`super::reading`] shows it, [`super::writing`] changes it. Members are not a part of it, but for their number.

use axum::response::Response;
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::entity_tag;
use optimist_shared::ids::Uuid;
use optimist_shared::session::{Access, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use crate::circles::categories::CategoryId;
use crate::circles::standing::MemberRole;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{json_response, to_json};
use optimist_plane::http::sent::{Line, Refused, Shown, Text};
use optimist_plane::http::time::Time;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::{describe, statements};

/// A link's parameter: the circle of the request's path.
pub const SAME_CIRCLE: (&str, &str) = ("circle", "$request.path.circle");

/// The texts of a circle.
pub type Name = Line<1, 80>;
pub type Description = Text<0, 2000>;
pub type Rules = Text<0, 8000>;

/// A circle, the same for everyone.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BareCircle")]
pub struct Circle {
    pub id: Uuid,
    #[schemars(with = "Shown<Name>")]
    name: String,
    #[schemars(with = "Shown<Description>")]
    description: String,
    #[schemars(with = "Shown<Rules>")]
    rules: String,
    #[schemars(with = "Visibility")]
    visibility: String,
    #[schemars(with = "JoinPolicy")]
    join_policy: String,
    /// Null if its owner names none.
    #[schemars(with = "Option<CategoryId>")]
    category: Option<String>,
    owner_id: Uuid,
    /// Owner and moderators are members too.
    #[schemars(range(min = 0))]
    member_count: i32,
    archived_at: Option<Time>,
    pub created_at: Time,
    updated_at: Time,
    #[serde(skip)]
    version: i64,
}

impl Circle {
    pub fn from_row(row: &Row) -> Circle {
        Circle {
            id: row.get("id"),
            name: row.get("name"),
            description: row.get("description"),
            rules: row.get("rules"),
            visibility: row.get("visibility"),
            join_policy: row.get("join_policy"),
            category: row.get("category"),
            owner_id: row.get("owner_id"),
            member_count: row.get("member_count"),
            archived_at: row.get("archived_at"),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
            version: row.get("version"),
        }
    }

    /// The answer to a caller who has this role in the circle.
    pub fn respond(&self, status: u16, role: Role) -> Result<Response> {
        let tag = tag(self.version, role);
        let role = role.is_member().then(|| role.as_str());
        Ok(json_response(status, Some(tag), to_json(&CircleWithRole { circle: self, role })?))
    }
}

/// A circle with the caller's role in it, which is joined to a cached one as it is.
#[derive(Serialize, JsonSchema)]
pub struct CircleWithRole<'a> {
    #[serde(flatten)]
    circle: &'a Circle,
    #[schemars(with = "Option<MemberRole>")]
    role: Option<&'static str>,
}

/// The entity tag of a circle at this version, as a caller of this role sees it.
pub fn tag(version: i64, role: Role) -> String {
    entity_tag(&version.to_string(), role_version(role))
}

/// The part of an entity tag that tells the caller's role.
pub fn role_version(role: Role) -> &'static str {
    if role.is_member() { role.as_str() } else { "none" }
}

/// Who may read a circle besides its members.
#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Visibility(pub Access);

describe!(Visibility, {"type": "string", "enum": ["public", "private"]});

impl TryFrom<String> for Visibility {
    type Error = Refused;

    fn try_from(text: String) -> Result<Visibility, Refused> {
        // Archiving is a request of its own.
        let access = Access::parse(&text).filter(|access| *access != Access::Archived);
        access.map(Visibility).ok_or_else(|| Refused::new("must be `public` or `private`"))
    }
}

/// How those who may read a circle come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum JoinPolicy {
    /// Whoever wants to.
    #[default]
    Open,
    /// Whoever asks, and is let in by a moderator.
    OnRequest,
    InviteOnly,
}

describe!(JoinPolicy, {"type": "string", "enum": ["open", "on_request", "invite_only"]});

impl JoinPolicy {
    pub fn parse(text: &str) -> Option<JoinPolicy> {
        match text {
            "open" => Some(JoinPolicy::Open),
            "on_request" => Some(JoinPolicy::OnRequest),
            "invite_only" => Some(JoinPolicy::InviteOnly),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            JoinPolicy::Open => "open",
            JoinPolicy::OnRequest => "on_request",
            JoinPolicy::InviteOnly => "invite_only",
        }
    }
}

impl TryFrom<String> for JoinPolicy {
    type Error = Refused;

    fn try_from(text: String) -> Result<JoinPolicy, Refused> {
        JoinPolicy::parse(&text).ok_or_else(|| Refused::new("must be `open`, `on_request` or `invite_only`"))
    }
}

statements! {
    const SELECT: &str = "-- circles::select
select id, name, description, rules, visibility, join_policy, category, owner_id, member_count, archived_at, created_at, updated_at, version
from circles where id = $1";
}

/// The circle as it is in this transaction.
pub async fn select(tx: &Tx, circle: Uuid) -> Result<Circle> {
    let row = tx.query_opt(SELECT, &[&circle]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    Ok(Circle::from_row(&row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_public_or_private() {
        let taken = |text: &str| Visibility::try_from(text.to_owned()).is_ok();
        assert!(taken("public") && taken("private"));
        assert!(!taken("archived") && !taken("Public") && !taken(""));
    }
}
