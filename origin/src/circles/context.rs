//! What a client shows the caller first, besides their circles: those that they have looked at lately, and what theirs are about.
//!
//! Redis alone knows what somebody has looked at; Postgres says which of it they may still read, so that nothing is cached here.

use std::collections::HashSet;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use futures_util::future::try_join;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::http::body::{json_response, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::sent::Shown;
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::recent::Recent;
use schemars::JsonSchema;
use serde::Serialize;

use crate::circles::categories::CategoryId;
use crate::circles::definition::Name;
use crate::circles::standing::MemberRole;
use crate::people::recent;

/// Circles that are shown. Twice as many are looked up: some may not be read any more.
const SHOWN: usize = 10;

pub fn routes() -> Vec<Served> {
    vec![
        on("me.context", context)
            .says("The circles that one has looked at lately, and the categories that most of one's circles have.")
            .notes("Of the circles that the caller may read now, at most ten, the newest first. At most five categories.")
            .answers::<Context>(200),
    ]
}

statements! {
    /// Of twenty circles those that somebody may read, in the same order.
    const READABLE: &str = "-- circles::readable (20 rows)
select circles.id, circles.name, circles.category, mine.role
from unnest($2::uuid[]) with ordinality named (id, place)
join circles on circles.id = named.id
left join memberships mine on mine.circle_id = circles.id and mine.user_id = $1
where mine.role is distinct from 'banned' and (mine.role is not null or (circles.visibility = 'public' and circles.archived_at is null))
order by named.place";

    /// Nobody is in more than 500 circles. Each is looked up by itself, so that no plan reads all circles.
    const FAVORITES: &str = "-- circles::favorites (500 rows)
select its.category from memberships mine cross join lateral (
    select category from circles
    where id = mine.circle_id and category is not null and archived_at is null limit 1) its
where mine.user_id = $1 and mine.role <> 'banned'
group by its.category order by count(*) desc, its.category limit 5";
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MyContext")]
struct Context {
    recent_circles: Vec<RecentCircle>,
    #[schemars(with = "Vec<CategoryId>")]
    favorite_categories: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct RecentCircle {
    id: Uuid,
    #[schemars(with = "Shown<Name>")]
    name: String,
    #[schemars(with = "Option<CategoryId>")]
    category: Option<String>,
    /// The caller's; null of a circle that they only read.
    #[schemars(with = "Option<MemberRole>")]
    role: Option<String>,
}

async fn context(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let looked = recent::read(&ctx, caller.user).await?;
    let mut seen = HashSet::new();
    let circles = looked.into_iter().filter_map(|(recent, _)| Recent::circle(recent));
    let circles: Vec<Uuid> = circles.filter(|circle| seen.insert(*circle)).take(2 * SHOWN).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&caller.user, &circles];
    let (readable, favorites) =
        try_join(ctx.db.query(READABLE, &parameters), ctx.db.query(FAVORITES, &[&caller.user])).await?;
    let recent_circles = readable.iter().take(SHOWN).map(|row| RecentCircle {
        id: row.get(0),
        name: row.get(1),
        category: row.get(2),
        role: row.get(3),
    });
    let favorite_categories = favorites.iter().map(|row| row.get(0));
    let context = Context {
        recent_circles: recent_circles.collect(),
        favorite_categories: favorite_categories.collect(),
    };
    Ok(json_response(200, None, to_json(&context)?))
}
