//! The pieces of an export: sealed, kept, and fetched by whoever has its link and its owner's session.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::stream::{TryStreamExt as _, try_unfold};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::page::parameters_of;
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};

use crate::journal::sealing::{self, Sealer, What};

pub fn routes() -> Vec<Served> {
    vec![
        on("exports.fetch", fetch)
            .says("Fetch an export, as its link says.")
            .notes(
                "Lines of JSON, each an object with its `section` and an `item` of it. The first line (`export`) says of whom it is and when \
                 it was asked for, the last (`end`) how many lines there are before it: without it something is missing. \
                 Whoever has more than a gigabyte gets the first thousand pieces of it, and a line `cut` that says where they end.",
            )
            .names::<KeyOfLink>("key", "The key, as the link has it.")
            .downloads("application/jsonl"),
    ]
}

/// The key in an export's link.
struct KeyOfLink;

describe!(KeyOfLink, {"type": "string", "pattern": "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$"});

statements! {
    const COUNT: &str = "-- exports::count_pieces
select pieces from exports
where user_id = $1 and id = $2 and ready_at > now() - interval '1 day'";

    const PIECE: &str = "-- exports::piece
select sealed from export_pieces where user_id = $1 and export_id = $2 and number = $3";
}

/// What an export's pieces are sealed under.
#[derive(Clone, Copy)]
pub struct PieceKey([u8; 32]);

impl PieceKey {
    pub fn new() -> Result<PieceKey> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| Error::internal("exports", &error))?;
        Ok(PieceKey(key))
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals it by its owner's own key.
    pub fn seal(&self, sealer: &Sealer, export: Uuid) -> Result<Vec<u8>> {
        sealer.seal(What::Export, export, "key", &self.0)
    }

    pub fn open(sealer: &Sealer, export: Uuid, sealed: &[u8]) -> Result<PieceKey> {
        let key = sealer.open(What::Export, export, "key", sealed)?.try_into();
        key.map(PieceKey).map_err(|_| Error::internal("exports", &"a key of another length"))
    }

    pub fn seal_piece(&self, export: Uuid, number: i32, plain: &[u8]) -> Result<Vec<u8>> {
        sealing::seal(&self.0, &bound_to(export, number), plain)
    }

    fn open_piece(&self, export: Uuid, number: i32, sealed: &[u8]) -> Option<Vec<u8>> {
        sealing::open(&self.0, &bound_to(export, number), sealed)
    }
}

fn bound_to(export: Uuid, number: i32) -> Vec<u8> {
    format!("export {export} {number}").into_bytes()
}

async fn fetch(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    let (user, export) = (caller.user, caller.request.id(Id::Export)?);
    let not_found = || Error::new(ErrorCode::NotFound);
    let key = key_of(uri.query())?;
    let count = ctx.db.query_opt(COUNT, &[&user, &export]).await?.ok_or_else(not_found)?;
    // A key that does not fit finds nothing.
    let first = piece(&ctx, user, export, 0, key).await?.ok_or_else(not_found)?;
    let fetching = Fetching { ctx, user, export, key, count: count.get(0), next: 1 };
    let pieces = try_unfold((Some(first), fetching), |(first, mut fetching)| async move {
        let piece = match first {
            Some(first) => Some(first),
            None => fetching.next().await?,
        };
        Ok(piece.map(|piece| (Bytes::from(piece), (None, fetching))))
    });
    // Whoever reads it sees that it breaks off; the code says no more.
    let pieces = pieces.map_err(|error: Error| std::io::Error::other(format!("{:?}", error.code)));
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/jsonl"));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    let name = "attachment; filename=\"optimist-export.jsonl\"";
    headers.insert("content-disposition", HeaderValue::from_static(name));
    Ok(response)
}

/// A download under way: it reads a piece when the one before has left.
struct Fetching {
    ctx: Ctx,
    user: Uuid,
    export: Uuid,
    key: PieceKey,
    count: i32,
    next: i32,
}

impl Fetching {
    async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if self.next >= self.count {
            return Ok(None);
        }
        let read = piece(&self.ctx, self.user, self.export, self.next, self.key).await?;
        self.next += 1;
        // Its day has ended meanwhile: the download breaks off, and does not look whole.
        read.map(Some).ok_or_else(|| Error::new(ErrorCode::NotFound))
    }
}

async fn piece(ctx: &Ctx, user: Uuid, export: Uuid, number: i32, key: PieceKey) -> Result<Option<Vec<u8>>> {
    let row = ctx.db.query_opt(PIECE, &[&user, &export, &number]).await?;
    Ok(row.and_then(|row| key.open_piece(export, number, row.get(0))))
}

fn key_of(query: Option<&str>) -> Result<PieceKey> {
    let refused = |name: String, reason: &str| Error::new(ErrorCode::BadRequest).field(name, reason);
    let mut key = None;
    for (name, value) in parameters_of(query)? {
        if name != "key" {
            return Err(refused(name, "is not a parameter of exports"));
        }
        let bytes = URL_SAFE_NO_PAD.decode(value).ok().and_then(|bytes| bytes.try_into().ok());
        key = Some(bytes.map(PieceKey).ok_or_else(|| refused(name, "is not the key of a link"))?);
    }
    key.ok_or_else(|| refused("key".to_owned(), "is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_opens_in_its_place_alone() {
        let (key, export) = (PieceKey([7; 32]), Uuid::from_u128(1));
        let sealed = key.seal_piece(export, 3, b"text").unwrap();
        assert_eq!(key.open_piece(export, 3, &sealed).as_deref(), Some(&b"text"[..]));
        assert_eq!(key.open_piece(export, 4, &sealed), None);
        assert_eq!(key.open_piece(Uuid::from_u128(2), 3, &sealed), None);
        assert_eq!(PieceKey([8; 32]).open_piece(export, 3, &sealed), None);
    }
}
