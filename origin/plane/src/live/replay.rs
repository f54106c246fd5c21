//! What a connection missed: read from the streams, in order, as far as they reach back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use optimist_shared::ids::{Partition, Uuid};
use tokio::sync::Semaphore;

use crate::ctx::Ctx;
use crate::live::frame::Frame;
use crate::live::hub::Connection;
use crate::live::place::Place;
use crate::live::reading::{ENTRIES, Entry, Read, change_of, read};
use crate::live::rights::Change;
use crate::live::telling::frames;
use crate::redis::{Position, RedisDown};

/// Connections that read at once: the others wait, so that many who come back together do not ask for everything at once.
static TURNS: Semaphore = Semaphore::const_new(8);

/// A part of what was missed.
pub struct Missed {
    pub frames: Vec<Arc<Frame>>,
    /// The position that the connection is then at.
    pub to: Position,
    /// Topics whose history does not reach back so far.
    pub broken: Vec<Uuid>,
}

/// Reads what lies between `from` and what is settled, or a part of it.
pub async fn replay(ctx: &Ctx, connection: &Connection, from: Place) -> Result<Missed, RedisDown> {
    let _turn = TURNS.acquire().await;
    let topics = followed(connection);
    let Some(settled) = ctx.live.lock().settled.filter(|settled| settled.timeline == from.timeline) else {
        return Ok(Missed { frames: Vec::new(), to: from.at, broken: Vec::new() });
    };
    let ranges: BTreeMap<Partition, Position> =
        topics.keys().map(|topic| (Partition::of(*topic), from.at)).collect();
    let parts = read(ctx, &ranges, ENTRIES).await?;
    let mut to = settled.at.max(from.at);
    let mut broken = Vec::new();
    let mut entries: BTreeMap<Position, Entry> = BTreeMap::new();
    for Read { partition, entries: found, is_cut, since } in parts {
        let since = since.ok_or(RedisDown)?;
        let late = topics
            .iter()
            .filter(|(topic, begins)| Partition::of(**topic) == partition && since > from.at.max(**begins));
        broken.extend(late.map(|(topic, _)| *topic));
        if is_cut && let Some(last) = found.last() {
            to = to.min(last.at);
        }
        entries.extend(found.into_iter().map(|entry| (entry.at, entry)));
    }
    entries.retain(|at, _| *at <= to);
    let allowed = {
        let rights = connection.rights.lock().unwrap_or_else(PoisonError::into_inner);
        entries.values().filter(|entry| rights.allow(&entry.topics, entry.at)).collect::<Vec<&Entry>>()
    };
    let frames = frames(ctx, from.timeline, &allowed).await;
    // They were loaded meanwhile: what was lost since is not delivered.
    let rights = connection.rights.lock().unwrap_or_else(PoisonError::into_inner);
    let is_allowed = |frame: &Arc<Frame>| {
        entries.get(&frame.at).is_some_and(|entry| rights.allow(&entry.topics, entry.at))
    };
    Ok(Missed { frames: frames.into_iter().filter(is_allowed).collect(), to, broken })
}

/// What a client that comes back must load anew.
#[derive(Default)]
pub struct Return {
    /// Topics whose history does not reach back to the client's position.
    pub broken: BTreeSet<Uuid>,
    /// Topics that were gained since.
    pub gained: BTreeMap<Uuid, Position>,
}

/// Compares a client's position with the streams, and finds what the person has gained since.
pub async fn return_of(ctx: &Ctx, connection: &Connection, from: Place) -> Result<Return, RedisDown> {
    let _turn = TURNS.acquire().await;
    let topics = followed(connection);
    let own = Partition::of(connection.user);
    let mut found = Return::default();
    // Of the others only the beginning of their history matters.
    let all = topics.keys().map(|topic| (Partition::of(*topic), from.at)).collect();
    for part in read(ctx, &all, 1).await? {
        if part.since.ok_or(RedisDown)? > from.at {
            found.broken.extend(topics.keys().filter(|topic| Partition::of(**topic) == part.partition));
        }
    }
    let mut ranges = BTreeMap::from([(own, from.at)]);
    while !ranges.is_empty() {
        let mut next = BTreeMap::new();
        for part in read(ctx, &ranges, ENTRIES).await? {
            for entry in &part.entries {
                if let Some(Change::Gained { user, topic }) = change_of(ctx, entry)
                    && user == connection.user
                    && topics.contains_key(&topic)
                {
                    found.gained.insert(topic, entry.at);
                }
            }
            if part.is_cut
                && let Some(last) = part.entries.last()
            {
                next.insert(own, last.at);
            }
        }
        ranges = next;
    }
    if found.broken.contains(&connection.user) {
        // Nobody knows which of them were gained since.
        found.broken.extend(topics.keys());
    }
    Ok(found)
}

fn followed(connection: &Connection) -> BTreeMap<Uuid, Position> {
    let rights = connection.rights.lock().unwrap_or_else(PoisonError::into_inner);
    rights.topics.iter().map(|(topic, from)| (*topic, *from)).collect()
}
