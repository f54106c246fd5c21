//! Tells events: makes the frame of each, once for all who receive it.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use crate::cache::read::read_through;
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
    if let Some(frame) = ctx.live.made(id) {
        return Some(frame);
    }
    let mut data: Map<String, Value> = Map::new();
    for field in told.fields {
        if let Some(value) = entry.event.payload().get(field) {
            data.insert((*field).to_owned(), value.clone());
        }
    }
    let mut data = json!(data).to_string();
    if let Some(shows) = told.shows {
        let shown = match shows(&entry.event) {
            Some(key) => match read_through(ctx, key).await.as_deref() {
                Ok(Loaded::Object { json, .. }) if json.len() <= SHOWN => {
                    String::from_utf8_lossy(json).into_owned()
                }
                // It travels as its id.
                _ => "null".to_owned(),
            },
            None => "null".to_owned(),
        };
        data.truncate(data.len() - 1);
        data.push_str(if data.len() > 1 { r#","shown":"# } else { r#""shown":"# });
        data.push_str(&shown);
        data.push('}');
    }
    let topic = entry.event.text("circle");
    let frame = Frame::new(Some(id), &render(Some(id), told.kind, topic, entry.event.at, &data));
    Some(ctx.live.keep(id, frame))
}
