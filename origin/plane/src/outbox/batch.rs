//! A batch of the relay's: events for the streams of their topics' partitions, appended in the order of their rows.
//!
//! It decides nothing: [`super::relay`] says which rows are settled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::scripts::Call;
use optimist_shared::scripts::append::{self, Appended, Event as Entry};
use tokio_postgres::Row;

use crate::ctx::Ctx;
use crate::redis::{Position, RedisDown};

/// Entries that a partition's stream keeps at most, approximately.
const KEPT: u64 = 20_000;

/// What the relay knows of Redis is void: Redis was lost, or is another one now.
pub(super) struct Behind;

impl From<RedisDown> for Behind {
    fn from(_: RedisDown) -> Behind {
        Behind
    }
}

/// Appends to streams and moves their cursors to `to`. Returns whether every cursor is there, or beyond.
pub(super) async fn append(
    ctx: &Ctx,
    cursors: &mut [Option<Position>],
    batches: BTreeMap<Partition, Vec<&Event>>,
    to: Position,
    trimmed: Option<Position>,
) -> std::result::Result<bool, Behind> {
    let (to_text, trimmed) = (to.to_string(), trimmed.map(|at| at.to_string()));
    let prepared: Vec<Prepared<'_>> = batches
        .iter()
        .map(|(partition, events)| Prepared::new(*partition, cursors[partition.index()], events))
        .collect();
    let entries: Vec<Vec<Entry<'_>>> = prepared.iter().map(Prepared::entries).collect();
    let calls: Vec<Call<'_>> = prepared
        .iter()
        .zip(&entries)
        .map(|(batch, events)| {
            let (partition, from) = (batch.partition, batch.from.as_deref());
            let trimmed = trimmed.as_deref();
            append::Batch { partition, from, to: &to_text, kept: KEPT, trimmed, events }.call()
        })
        .collect();
    let mut all = true;
    for (batch, mut reply) in prepared.iter().zip(ctx.redis.call(&calls).await?) {
        let known = &mut cursors[batch.partition.index()];
        let at = match append::read(&mut reply) {
            Appended::Yes => {
                *known = Some(to);
                metrics::counter!("optimist_events_appended_total").increment(batch.events.len() as u64);
                continue;
            }
            Appended::CursorIsAt(at) => at,
        };
        // Another relay appended; or Redis has lost its newest seconds, and entries with them.
        let found = Position::parse(&at);
        if found < *known {
            return Err(Behind);
        }
        *known = found;
        all &= found >= Some(to);
    }
    Ok(all)
}

/// One partition's part of a batch.
struct Prepared<'a> {
    partition: Partition,
    from: Option<String>,
    /// Events with their positions as texts.
    events: Vec<(String, &'a Event)>,
}

impl<'a> Prepared<'a> {
    fn new(partition: Partition, from: Option<Position>, events: &[&'a Event]) -> Prepared<'a> {
        // Events that another relay has appended already are left out.
        let events = events.iter().filter(|event| Some(event.at) > from);
        let events = events.map(|event| (event.at.to_string(), *event)).collect();
        Prepared { partition, from: from.map(|at| at.to_string()), events }
    }

    fn entries(&self) -> Vec<Entry<'_>> {
        self.events.iter().map(|(at, event)| Entry { at, fields: &event.fields }).collect()
    }
}

/// A row of the outbox, as a stream's entry.
pub(super) struct Event {
    pub(super) at: Position,
    /// The row's age when it was read.
    age: Duration,
    read: Instant,
    topics: Vec<Uuid>,
    fields: [(&'static str, String); 6],
}

impl Event {
    pub(super) fn from_row(at: Position, row: &Row) -> Event {
        let topics: Vec<Uuid> = row.get("topics");
        let names: Vec<String> = topics.iter().map(Uuid::to_string).collect();
        let actor = row.get::<_, Option<Uuid>>("actor").map_or_else(String::new, |actor| actor.to_string());
        let fields = [
            ("kind", row.get("kind")),
            ("version", row.get::<_, i16>("version").to_string()),
            ("topics", names.join(" ")),
            ("actor", actor),
            ("at", row.get::<_, i64>("at").to_string()),
            ("payload", row.get("payload")),
        ];
        let age = Duration::try_from_secs_f64(row.get("age")).unwrap_or_default();
        Event { at, age, read: Instant::now(), topics, fields }
    }

    /// Seconds since it was written.
    pub(super) fn lag(&self) -> f64 {
        (self.age + self.read.elapsed()).as_secs_f64()
    }

    pub(super) fn partitions(&self) -> BTreeSet<Partition> {
        self.topics.iter().map(|topic| Partition::of(*topic)).collect()
    }
}
