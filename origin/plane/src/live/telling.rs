//! Tells events: makes the frame of each, once for all who receive it.

use std::sync::Arc;

use futures_util::future::join_all;
use optimist_shared::keys::BoundKey;
use serde_json::{Map, Value, json};

use crate::cache::read::load_fresh;
use crate::cache::value::Loaded;
use crate::ctx::Ctx;
use crate::domain::Told;
use crate::live::frame::{Frame, render};
use crate::live::place::Place;
use crate::live::reading::Entry;

/// A shape that is larger travels as its id: a frame has at most 4 KiB.
const SHOWN: usize = 3 * 1024;
/// Shapes that are loaded at once.
const LOADED_AT_ONCE: usize = 16;

/// What is told of events of this kind, if anything is.
pub fn told_of(ctx: &Ctx, kind: &str) -> Option<&'static Told> {
    ctx.registry.domains.iter().flat_map(|domain| domain.told).find(|told| told.kind == kind)
}

/// The frame of each of these entries that is told, in their order.
pub async fn frames(ctx: &Ctx, timeline: u64, entries: &[&Entry]) -> Vec<Arc<Frame>> {
    let mut frames = Vec::with_capacity(entries.len());
    for some in entries.chunks(LOADED_AT_ONCE) {
        let some: Vec<_> = some.iter().map(|entry| made(ctx, timeline, entry)).collect();
        frames.extend(join_all(some).await.into_iter().flatten());
    }
    frames
}

/// Made by whoever needs it first: those who come back together need the same.
async fn made(ctx: &Ctx, timeline: u64, entry: &Entry) -> Option<Arc<Frame>> {
    let told = told_of(ctx, &entry.event.kind).filter(|told| (told.is_told)(&entry.event))?;
    let id = Place { timeline, at: entry.at };
    let making = ctx.live.making(id);
    Some(making.get_or_init(|| make(ctx, told, id, entry)).await.clone())
}

async fn make(ctx: &Ctx, told: &Told, id: Place, entry: &Entry) -> Arc<Frame> {
    let mut data: Map<String, Value> = Map::new();
    for field in told.fields {
        if let Some(value) = entry.event.payload().get(field) {
            data.insert((*field).to_owned(), value.clone());
        }
    }
    let mut data = json!(data).to_string();
    if let Some(shows) = told.shows {
        let shown = match shows(&entry.event) {
            Some(key) => shown(ctx, key).await,
            None => None,
        };
        data.truncate(data.len() - 1);
        data.push_str(if data.len() > 1 { r#","shown":"# } else { r#""shown":"# });
        data.push_str(shown.as_deref().unwrap_or("null"));
        data.push('}');
    }
    let topic = entry.event.text("circle");
    Arc::new(Frame::new(Some(id), &render(Some(id), told.kind, topic, entry.event.at, &data)))
}

/// The public shape as it is now. It is read from Postgres, in one trip, and not kept: each gateway needs it once, and to ask Redis for
/// the right to keep it, and to keep it, would be two more trips. `None` if it travels as its id.
async fn shown(ctx: &Ctx, key: BoundKey) -> Option<String> {
    match load_fresh(ctx, key).await.ok()?.loaded {
        Loaded::Object { json, .. } if json.len() <= SHOWN => String::from_utf8(json).ok(),
        _ => None,
    }
}
