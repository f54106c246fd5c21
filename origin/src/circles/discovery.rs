//! Public circles listed: all or of one category, newest, most active or largest first.
//!
//! The first page of all, newest first, is cached; Postgres answers the rest from an index for each order. Nothing here looks
//! at texts.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{ListItem, Snapshot};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::to_json;
use optimist_plane::http::loaded::respond_list;
use optimist_plane::http::page::{At, Cursor, List, limit, parameters_of};
use optimist_plane::http::sent::{Refused, Shown};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::{FIRST_ID, link};
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements};
use optimist_shared::envelope::{DEFAULT_LIMIT, LIST_LIMIT};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Uuid, parse_id};
use optimist_shared::keys::Key;
use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::circles::categories::CategoryId;
use crate::circles::definition::{Description, JoinPolicy, Name, Visibility};

const FIRST_CIRCLE: &[(&str, &str)] = &[("circle", FIRST_ID)];

pub fn routes() -> Vec<Served> {
    vec![
        on("circles.discover", discover)
            .says("Public circles.")
            .notes(
                "The newest come first, or by `order` those in which somebody posted last, to the hour, or those of most members. \
                 A circle that moves while one goes through these may come twice or not at all. The first page of all circles, \
                 newest first, may be up to a quarter of an hour old. A circle that is changed, archived or made private is so \
                 there within a minute.",
            )
            .answers::<List<DiscoveredCircle>>(200)
            .tagged()
            .pages("cursor")
            .filter::<CategoryId>("category", "Of this category alone.")
            .filter::<Order>("order", "Which come first; `new` if it is not given.")
            .links([link("circles.get", FIRST_CIRCLE), link("members.join", FIRST_CIRCLE)]),
    ]
}

/// A circle as discovery lists it: without its rules, which may be long, and which only its page shows.
#[derive(Serialize, JsonSchema)]
struct DiscoveredCircle {
    id: Uuid,
    #[schemars(with = "Shown<Name>")]
    name: String,
    #[schemars(with = "Shown<Description>")]
    description: String,
    #[schemars(with = "Visibility")]
    visibility: String,
    #[schemars(with = "JoinPolicy")]
    join_policy: String,
    #[schemars(with = "Option<CategoryId>")]
    category: Option<String>,
    owner_id: Uuid,
    /// Owner and moderators are members too.
    #[schemars(range(min = 0))]
    member_count: i32,
    created_at: Time,
    updated_at: Time,
}

impl DiscoveredCircle {
    fn from_row(row: &Row) -> DiscoveredCircle {
        DiscoveredCircle {
            id: row.get("id"),
            name: row.get("name"),
            description: row.get("description"),
            visibility: row.get("visibility"),
            join_policy: row.get("join_policy"),
            category: row.get("category"),
            owner_id: row.get("owner_id"),
            member_count: row.get("member_count"),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
        }
    }
}

/// Which circles come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    New,
    Active,
    Popular,
}

describe!(Order, {"type": "string", "enum": ["new", "active", "popular"]});

impl Order {
    fn parse(text: &str) -> Option<Order> {
        match text {
            "new" => Some(Order::New),
            "active" => Some(Order::Active),
            "popular" => Some(Order::Popular),
            _ => None,
        }
    }

    fn place(self, cursor: &str) -> Option<Place> {
        match self {
            Order::New => At::decode(cursor).map(Place::New),
            Order::Active => At::decode(cursor).map(Place::Active),
            Order::Popular => Members::decode(cursor).map(Place::Popular),
        }
    }

    fn place_of(self, row: &Row) -> Place {
        let id = row.get("id");
        match self {
            Order::New => Place::New(At { time: row.get("created_at"), id }),
            Order::Active => Place::Active(At { time: row.get("active_at"), id }),
            Order::Popular => Place::Popular(Members { count: row.get("member_count"), id }),
        }
    }
}

/// After a circle, in an order.
#[derive(Clone, Copy)]
enum Place {
    New(At<'c'>),
    Active(At<'v'>),
    Popular(Members),
}

impl Place {
    fn encode(self) -> String {
        match self {
            Place::New(at) => at.encode(),
            Place::Active(at) => at.encode(),
            Place::Popular(members) => members.encode(),
        }
    }
}

/// A number of members, and the circle that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Members {
    count: i32,
    id: Uuid,
}

impl Cursor for Members {
    const KIND: char = 'b';

    fn render(&self) -> String {
        format!("{}:{}", self.count, self.id)
    }

    fn parse(text: &str) -> Option<Members> {
        let (count, id) = text.split_once(':')?;
        Some(Members { count: count.parse().ok().filter(|count| *count >= 0)?, id: parse_id(id)? })
    }
}

/// The statement that lists circles by a column of this type, from its greatest value on; `$of` is a further condition.
macro_rules! listed {
    ($name:literal, $column:literal, $type:literal, $greatest:literal, $of:literal) => {
        concat!(
            "-- circles::", $name, "
select seen, c.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, name, description, visibility, join_policy, category, owner_id, member_count, created_at, updated_at, active_at
    from circles
    where visibility = 'public' and archived_at is null", $of, "
      and (", $column, ", id)
          < (coalesce($1::", $type, ", '", $greatest, "'), coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    order by ", $column, " desc, id desc limit $3) c on true
order by ", $column, " desc, id desc"
        )
    };
}

statements! {
    const NEW: &str = listed!("discover", "created_at", "timestamptz", "infinity", "");
    const ACTIVE: &str = listed!("discover_active", "active_at", "timestamptz", "infinity", "");
    const POPULAR: &str = listed!("discover_popular", "member_count", "integer", "2147483647", "");
    const NEW_OF: &str = listed!("discover_of", "created_at", "timestamptz", "infinity", " and category = $4");
    const ACTIVE_OF: &str = listed!("discover_active_of", "active_at", "timestamptz", "infinity", " and category = $4");
    const POPULAR_OF: &str = listed!("discover_popular_of", "member_count", "integer", "2147483647", " and category = $4");
}

/// Which public circles a request asks for.
struct Sought {
    order: Order,
    category: Option<CategoryId>,
    after: Option<Place>,
    limit: usize,
}

impl Sought {
    /// The first page of all, newest first, with as many as a copy holds.
    const FIRST: Sought = Sought { order: Order::New, category: None, after: None, limit: LIST_LIMIT };

    fn read(query: Option<&str>) -> Result<Sought> {
        let mut sought = Sought { limit: DEFAULT_LIMIT, ..Sought::FIRST };
        let refused = |name: &str, reason: &'static str| {
            Error::new(ErrorCode::BadRequest).field(name.to_owned(), reason)
        };
        let mut cursor = None;
        for (name, value) in parameters_of(query)? {
            match name.as_str() {
                "limit" => sought.limit = limit(&value)?,
                "cursor" => cursor = Some(value),
                "category" => {
                    let category = CategoryId::try_from(value);
                    sought.category =
                        Some(category.map_err(|_: Refused| refused("category", "is not a category"))?);
                }
                "order" => {
                    let order = Order::parse(&value);
                    sought.order =
                        order.ok_or_else(|| refused("order", "must be `new`, `active` or `popular`"))?;
                }
                _ => return Err(refused(&name, "is not a parameter of this list")),
            }
        }
        if let Some(cursor) = cursor {
            let place = sought.order.place(&cursor);
            sought.after = Some(place.ok_or_else(|| refused("cursor", "is not a cursor of this list"))?);
        }
        Ok(sought)
    }

    fn is_kept(&self) -> bool {
        self.order == Order::New && self.category.is_none() && self.after.is_none()
    }

    async fn load(&self, ctx: &Ctx) -> Result<Snapshot> {
        let (time, count, id) = match self.after {
            None => (None, None, None),
            Some(Place::New(At { time, id }) | Place::Active(At { time, id })) => {
                (Some(time), None, Some(id))
            }
            Some(Place::Popular(Members { count, id })) => (None, Some(count), Some(id)),
        };
        let (statement, statement_of) = match self.order {
            Order::New => (NEW, NEW_OF),
            Order::Active => (ACTIVE, ACTIVE_OF),
            Order::Popular => (POPULAR, POPULAR_OF),
        };
        let value: &(dyn ToSql + Sync) = if self.order == Order::Popular { &count } else { &time };
        let most = self.limit as i64 + 1;
        let rows = match &self.category {
            None => ctx.db.query(statement, &[value, &id, &most]).await?,
            Some(CategoryId(category)) => ctx.db.query(statement_of, &[value, &id, &most, category]).await?,
        };
        Snapshot::page(&rows, self.limit, false, |row| {
            let circle = DiscoveredCircle::from_row(row);
            Ok(ListItem { id: None, cursor: self.order.place_of(row).encode(), json: to_json(&circle)? })
        })
    }
}

async fn discover(State(ctx): State<Ctx>, _: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let sought = Sought::read(uri.query())?;
    if sought.is_kept() {
        let loaded = read_through(&ctx, Key::discovery()).await?;
        return respond_list(&loaded, &headers, sought.limit);
    }
    respond_list(&sought.load(&ctx).await?.loaded, &headers, sought.limit)
}

pub async fn load_discovery(ctx: &Ctx) -> Result<Snapshot> {
    Sought::FIRST.load(ctx).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_of_its_order() {
        let id = Uuid::from_u128(7);
        let popular = Place::Popular(Members { count: 12, id }).encode();
        assert!(
            matches!(Order::Popular.place(&popular), Some(Place::Popular(found)) if found == Members { count: 12, id })
        );
        assert!(Order::New.place(&popular).is_none() && Order::Active.place(&popular).is_none());
        let active = Order::Active.place(&Place::New(At { time: chrono::DateTime::UNIX_EPOCH, id }).encode());
        assert!(active.is_none());
        assert!(Members::parse("-1:00000000-0000-0000-0000-000000000007").is_none());
    }
}
