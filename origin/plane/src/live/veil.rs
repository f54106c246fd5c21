//! What a connection's frames hide from it: nothing comes of those whom its person has blocked, and no presence of those who have blocked
//! them. Few have anything hidden, so a frame is made anew for each of those.
//!
//! What remains of a frame, the registry's guard says.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use optimist_shared::blocks::Blocked;
use optimist_shared::ids::Uuid;
use serde_json::Value;

use crate::ctx::Ctx;
use crate::hooks;
use crate::live::frame::Frame;
use crate::live::hub::Connection;
use crate::live::place::Place;
use crate::live::rights::{BLOCKERS, Veiled};

/// Events as the connection may see them, without those of which nothing remains.
pub fn events(ctx: &Ctx, connection: &Connection, frames: Vec<Arc<Frame>>) -> Vec<Arc<Frame>> {
    match veiled(connection) {
        Some(veiled) => hide(ctx, &veiled.blocked, frames),
        None => frames,
    }
}

/// The same of states.
pub fn states(ctx: &Ctx, connection: &Connection, frames: Vec<Arc<Frame>>) -> Vec<Arc<Frame>> {
    let Some(mut veiled) = veiled(connection) else { return frames };
    let is_known = veiled.blockers.len() <= BLOCKERS;
    veiled.blocked.append(&mut veiled.blockers);
    let frames = frames.into_iter().filter(|frame| is_known || !frame.json().contains("\"user_id\""));
    hide(ctx, &veiled.blocked, frames.collect())
}

/// `None` if nothing is hidden from the connection.
fn veiled(connection: &Connection) -> Option<Veiled> {
    let rights = connection.rights.lock().unwrap_or_else(PoisonError::into_inner);
    let is_open = rights.veiled == Veiled::default() || hooks::disabled("veil");
    (!is_open).then(|| rights.veiled.clone())
}

fn hide(ctx: &Ctx, people: &BTreeSet<Uuid>, frames: Vec<Arc<Frame>>) -> Vec<Arc<Frame>> {
    let ids: String = people.iter().map(Uuid::to_string).collect();
    let blocked = Blocked::parse(&ids).unwrap_or_default();
    let is_named = |frame: &Frame| blocked.are_named(frame.json().as_bytes());
    let remains = |frame: Arc<Frame>| match is_named(&frame) {
        true => remaining(ctx, blocked, &frame).map(Arc::new),
        false => Some(frame),
    };
    frames.into_iter().filter_map(remains).collect()
}

fn remaining(ctx: &Ctx, blocked: Blocked<'_>, frame: &Frame) -> Option<Frame> {
    let mut json: Value = serde_json::from_str(frame.json().as_str()).ok()?;
    json["data"] = (ctx.registry.guard.veil)(blocked, json["data"].take())?;
    let id = json["id"].as_str().and_then(Place::parse);
    Some(Frame::new(id, &json.to_string()))
}
