//! Circles read: one of them, and the list of public ones; and what their copies are filled with.
//!
//! A circle's members are listed in [`super::members`].

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_shared::envelope::{LIST_LIMIT, render_object};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::session::Role;
use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Row;

use crate::circles::access::reader_of_circle;
use crate::circles::definition::{Circle, CircleWithRole, Description, Name, Visibility, role_version};
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{ListItem, Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::loaded::respond_list;
use optimist_plane::http::page::{At, Cursor, List, no_query, page};
use optimist_plane::http::sent::Shown;
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::{FIRST_ID, link};
use optimist_plane::request::Caller;
use optimist_plane::statements;

const FIRST_CIRCLE: &[(&str, &str)] = &[("circle", FIRST_ID)];

pub fn routes() -> Vec<Served> {
    vec![
        on("circles.discover", discover)
            .says("Public circles, newest first.")
            .notes(
                "The first page may be up to a quarter of an hour old. A circle that is changed, archived or made private \
                 is so there within a minute.",
            )
            .answers::<List<DiscoveredCircle>>(200)
            .tagged()
            .pages("cursor")
            .links([link("circles.get", FIRST_CIRCLE), link("members.join", FIRST_CIRCLE)]),
        on("circles.get", get)
            .says("A circle, and the caller's role in it.")
            .answers::<CircleWithRole>(200)
            .tagged(),
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
            owner_id: row.get("owner_id"),
            member_count: row.get("member_count"),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
        }
    }
}

statements! {
    const LOAD: &str = "-- circles::load
select seen, c.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, name, description, rules, visibility, owner_id, member_count, archived_at, created_at, updated_at, version
    from circles where id = $1) c on true";

    /// Only members may read an archived circle.
    const LOAD_ACCESS: &str = "-- circles::load_access
select seen, c.access from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select case when archived_at is null then visibility else 'archived' end as access
    from circles where id = $1) c on true";

    const DISCOVER: &str = "-- circles::discover
select seen, c.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, name, description, visibility, owner_id, member_count, created_at, updated_at
    from circles
    where visibility = 'public' and archived_at is null
      and (created_at, id)
          < (coalesce($1::timestamptz, 'infinity'), coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    order by created_at desc, id desc limit $3) c on true
order by created_at desc, id desc";
}

async fn get(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, role) = reader_of_circle(&ctx, &caller).await?;
    match &*read_through(&ctx, Key::circle(circle)).await? {
        Loaded::Object { version, json } => {
            let json = render_object(json, &[("role", Role::overlay(Some(role)))]);
            Ok(tagged(&headers, version, role_version(role), json))
        }
        _ => Err(Error::new(ErrorCode::NotFound)),
    }
}

async fn discover(State(ctx): State<Ctx>, _: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'c'>>(uri.query(), "cursor")?;
    match page.after {
        None => {
            let loaded = read_through(&ctx, Key::discovery()).await?;
            respond_list(&loaded, &headers, page.limit)
        }
        Some(after) => {
            respond_list(&load_page(&ctx, Some(after), page.limit).await?.loaded, &headers, page.limit)
        }
    }
}

pub async fn load_circle(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let row = ctx.db.query_opt(LOAD, &[&id_of(&key, Id::Circle)?]).await?;
    let row = row.ok_or_else(|| Error::internal("circles", &"no row"))?;
    let loaded = match row.get::<_, Option<i64>>("version") {
        Some(version) => {
            Loaded::Object { version: version.to_string(), json: to_json(&Circle::from_row(&row))? }
        }
        None => Loaded::Missing,
    };
    Ok(Snapshot::new(row.get("seen"), loaded))
}

pub async fn load_access(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let row = ctx.db.query_opt(LOAD_ACCESS, &[&id_of(&key, Id::Circle)?]).await?;
    let row = row.ok_or_else(|| Error::internal("circles", &"no row"))?;
    let loaded = row.get::<_, Option<String>>(1).map_or(Loaded::Missing, Loaded::Text);
    Ok(Snapshot::new(row.get(0), loaded))
}

pub async fn load_discovery(ctx: &Ctx) -> Result<Snapshot> {
    load_page(ctx, None, LIST_LIMIT).await
}

async fn load_page(ctx: &Ctx, after: Option<At<'c'>>, limit: usize) -> Result<Snapshot> {
    let (time, id) = (after.map(|at| at.time), after.map(|at| at.id));
    let rows = ctx.db.query(DISCOVER, &[&time, &id, &(limit as i64 + 1)]).await?;
    Snapshot::page(&rows, limit, false, |row| {
        let circle = DiscoveredCircle::from_row(row);
        let at = At::<'c'> { time: circle.created_at.0, id: circle.id };
        Ok(ListItem { id: None, cursor: at.encode(), json: to_json(&circle)? })
    })
}
