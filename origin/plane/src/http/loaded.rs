//! Answers made from the values of cached keys.

use axum::http::HeaderMap;
use axum::response::Response;
use optimist_shared::envelope::{Item, render_list};
use optimist_shared::error::ErrorCode;

use crate::cache::value::{ListItem, Loaded};
use crate::error::{Error, Result};
use crate::http::body::tagged;

/// Answers with a loaded list's first items.
pub fn respond_list(loaded: &Loaded, headers: &HeaderMap, limit: usize) -> Result<Response> {
    let Loaded::List { version, items, more, archived_before } = loaded else {
        return Err(Error::internal("list", &"not a list"));
    };
    let items: Vec<Item<'_>> = items.iter().map(ListItem::shown).collect();
    Ok(tagged(headers, version, "", render_list(&items, *more, archived_before.as_deref(), limit, |_| None)))
}

/// Answers with a loaded object that has no overlay; 404 if there is none.
pub fn respond_object(loaded: &Loaded, headers: &HeaderMap) -> Result<Response> {
    match loaded {
        Loaded::Object { version, json } => Ok(tagged(headers, version, "", json.clone())),
        _ => Err(Error::new(ErrorCode::NotFound)),
    }
}
