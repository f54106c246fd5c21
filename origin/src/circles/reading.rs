//! A circle read, and what its copies are filled with.
//!
//! Public circles are listed in [`super::discovery`], a circle's members in [`super::members`].

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_shared::envelope::render_object;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Id;
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::session::Role;

use crate::circles::access::reader_of_circle;
use crate::circles::definition::{Circle, CircleWithRole, role_version};
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_plane::statements;

pub fn routes() -> Vec<Served> {
    vec![
        on("circles.get", get)
            .says("A circle, and the caller's role in it.")
            .answers::<CircleWithRole>(200)
            .tagged(),
    ]
}

statements! {
    const LOAD: &str = "-- circles::load
select seen, c.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, name, description, rules, visibility, join_policy, category, owner_id, member_count, archived_at, created_at, updated_at, version
    from circles where id = $1) c on true";

    /// Only members may read an archived circle.
    const LOAD_ACCESS: &str = "-- circles::load_access
select seen, c.access from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select case when archived_at is null then visibility else 'archived' end as access
    from circles where id = $1) c on true";
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
