//! Asking for an export, and looking how far it is.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Days, Utc};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{json_response, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::{ID, link};
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use tokio_postgres::Row;

use crate::export::pieces::PieceKey;
use crate::journal::sealing::sealer;

pub fn routes() -> Vec<Served> {
    vec![
        on("me.export", ask)
            .says("Ask for all that one has here.")
            .notes(
                "It is ready within minutes, or longer for whoever has written much, and for a day from then on. Until that day is over there \
                 is no other: again, the answer is 200 and the same export.",
            )
            .answers::<Export>(202)
            .also(200, "There is one already.")
            .links([link("exports.get", &[("export", ID)])]),
        on("exports.get", get)
            .says("How far an export is, and where it can be fetched.")
            .answers::<Export>(200),
    ]
}

/// What becomes of an export.
struct Status;

describe!(Status, {"type": "string", "enum": ["building", "ready"]});

/// An export of the caller's.
#[derive(Serialize, JsonSchema)]
struct Export {
    id: Uuid,
    #[schemars(with = "Status")]
    status: &'static str,
    requested_at: Time,
    /// Lines that are written so far, with the first and the last.
    #[schemars(range(min = 0))]
    items: i64,
    ready_at: Option<Time>,
    expires_at: Option<Time>,
    /// The path under which its owner fetches it once it is ready: it carries the key.
    link: Option<String>,
}

statements! {
    const FIND: &str = "-- exports::find
select id, requested_at, sealed_key, items, ready_at from exports where user_id = $1";

    const ASK: &str = "-- exports::ask
insert into exports (user_id, id, sealed_key) values ($1, $2, $3) on conflict do nothing";
}

/// A row of [`FIND`].
struct Found {
    id: Uuid,
    requested_at: DateTime<Utc>,
    sealed_key: Vec<u8>,
    items: i64,
    ready_at: Option<DateTime<Utc>>,
}

impl Found {
    fn from_row(row: &Row) -> Found {
        Found {
            id: row.get(0),
            requested_at: row.get(1),
            sealed_key: row.get(2),
            items: row.get(3),
            ready_at: row.get(4),
        }
    }

    async fn shown(&self, ctx: &Ctx, user: Uuid) -> Result<Export> {
        let link = match self.ready_at {
            Some(_) => {
                let key = PieceKey::open(&sealer(ctx, user).await?, self.id, &self.sealed_key)?;
                Some(format!(
                    "/v1/me/exports/{}/archive?key={}",
                    self.id,
                    URL_SAFE_NO_PAD.encode(key.bytes())
                ))
            }
            None => None,
        };
        Ok(Export {
            id: self.id,
            status: if link.is_some() { "ready" } else { "building" },
            requested_at: Time(self.requested_at),
            items: self.items,
            ready_at: self.ready_at.map(Time),
            expires_at: self.ready_at.map(|ready| Time(ready + Days::new(1))),
            link,
        })
    }
}

async fn ask(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let user = caller.user;
    let sealer = sealer(&ctx, user).await?;
    let (id, key) = (Uuid::now_v7(), PieceKey::new()?);
    let sealed = key.seal(&sealer, id)?;
    let context = caller.writes("exports::ask", [user]);
    let is_new = transaction!(&ctx, context, |tx| {
        sealer.hold(&ctx, tx).await?;
        let is_new = tx.execute(ASK, &[&user, &id, &sealed]).await? > 0;
        if !is_new {
            tx.unchanged();
        }
        tx.event("export.asked", json!({"user": user}));
        Ok(is_new)
    })?;
    let row = ctx.db.query_opt(FIND, &[&user]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let shown = Found::from_row(&row).shown(&ctx, user).await?;
    Ok(json_response(if is_new { 202 } else { 200 }, None, to_json(&shown)?))
}

async fn get(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let found = ctx.db.query_opt(FIND, &[&caller.user]).await?.map(|row| Found::from_row(&row));
    let id = caller.request.id(Id::Export)?;
    let found = found.filter(|found| found.id == id).ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    Ok(json_response(200, None, to_json(&found.shown(&ctx, caller.user).await?)?))
}
