//! Snapshots of messages' reactions: the rows that Postgres has at one moment, in the form in which Redis takes them.
//!
//! The scripts of [`optimist_shared::scripts::install`] add the entries that are not flushed yet, and refuse a snapshot that
//! is out of date. When to install one is [`super::installing`]'s.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use optimist_plane::cache::value::Alongside;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::redis::{Items, Position};
use optimist_plane::statements;
use optimist_plane::write_behind::entry::number;
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::reactions::{Counts, Kind};
use optimist_shared::scripts::Call;
use optimist_shared::scripts::install::{self, Installed};
use optimist_shared::scripts::lease::Fill;
use tokio_postgres::Row;

statements! {
    /// The rows of one snapshot: first the partition's, with how far it is flushed; then the counts; then each reaction to the
    /// one message that is wanted whole.
    const SNAPSHOT: &str = "-- reactions::snapshot, planned anew (12,000 rows, uncapped: reactions to a message)
select generation, position_ms, position_seq, pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen,
    exists (select from messages where circle_id = $3 and id = $5 and deleted_at is null) as exists,
    null::uuid as message_id, null::smallint as kind, null::integer as count, null::uuid as user_id
from write_behind where region = $1 and partition = $2
union all
select null, null, null, null, null, message_id, kind, count, null
from reaction_counts where circle_id = $3 and message_id = any($4) and count > 0
union all
select null, null, null, null, null, message_id, kind, null, user_id
from reactions where circle_id = $3 and message_id = $5 and is_on";
}

/// Reactions as Postgres had them at one moment.
#[derive(Debug)]
pub struct ReactionSnapshot {
    /// Whether the message that is wanted whole exists.
    pub exists: bool,
    /// As the scripts take it.
    pub known: install::Known,
}

impl ReactionSnapshot {
    /// Reads the counts of messages, and every reaction to the message `whole`. `None` if the partition was never opened.
    pub async fn read(
        ctx: &Ctx,
        circle: Uuid,
        messages: &[Uuid],
        whole: Option<Uuid>,
    ) -> Result<Option<ReactionSnapshot>> {
        let (region, partition) = (&ctx.config.region, number(Partition::of(circle)));
        let rows = ctx.db.query(SNAPSHOT, &[region, &partition, &circle, &messages, &whole]).await?;
        let Some(first) = rows.iter().find(|row| row.get::<_, Option<i64>>("generation").is_some()) else {
            return Ok(None);
        };
        let members = rows.iter().filter_map(|row| {
            let user: Uuid = row.get::<_, Option<Uuid>>("user_id")?;
            Some((kind_of(row.get("kind"))?, user))
        });
        let counted = rows.iter().filter(|row| row.get::<_, Option<i32>>("count").is_some());
        let known = install::Known {
            counts: counts_of_each(messages, counted),
            whole,
            members: members.collect(),
            ..of_partition(circle, first.get("generation"), first)
        };
        Ok(Some(ReactionSnapshot { exists: first.get("exists"), known }))
    }

    /// From rows of messages with their counts: `id, kinds, counts`, and in each row `seen` and the partition's `generation,
    /// position_ms, position_seq`. `None` if the partition was never opened.
    fn of_messages(circle: Uuid, rows: &[Row]) -> Option<ReactionSnapshot> {
        let first = rows.first()?;
        let generation = first.get::<_, Option<i64>>("generation")?;
        let mut counts = Vec::with_capacity(rows.len());
        for row in rows {
            // Where there are no messages, one row has nothing but the snapshot.
            let Some(message) = row.get::<_, Option<Uuid>>("id") else { continue };
            let kinds: Vec<i16> = row.get::<_, Option<_>>("kinds").unwrap_or_default();
            let numbers: Vec<i32> = row.get::<_, Option<_>>("counts").unwrap_or_default();
            let mut of_message = Counts::default();
            kinds.into_iter().zip(numbers).for_each(|(place, number)| add(&mut of_message, place, number));
            counts.push((message, of_message));
        }
        let known = install::Known { counts, ..of_partition(circle, generation, first) };
        Some(ReactionSnapshot { exists: false, known })
    }
}

/// A snapshot without reactions, from a row of `seen, position_ms, position_seq`.
fn of_partition(circle: Uuid, generation: i64, row: &Row) -> install::Known {
    install::Known {
        circle,
        generation,
        position: Position(row.get("position_ms"), row.get("position_seq")).to_string(),
        seen_xmin: row.get::<_, i64>("seen").cast_unsigned(),
        counts: Vec::new(),
        whole: None,
        members: Vec::new(),
    }
}

/// The snapshot in rows of messages, to be installed in the step that fills. `None` if the partition was never opened.
pub fn alongside(circle: Uuid, rows: &[Row]) -> Option<Box<dyn Alongside>> {
    Some(Box::new(ReactionSnapshot::of_messages(circle, rows)?))
}

impl Alongside for ReactionSnapshot {
    fn call(&self, epoch: u64) -> Call<'static> {
        // No message is wanted whole: no lease is looked at.
        self.known.install(epoch, "")
    }

    fn filling<'a>(&self, fill: Fill<'a>, epoch: u64) -> Call<'a> {
        self.known.fill(fill, epoch)
    }

    /// The counts, see [`installed_counts`].
    fn read(&self, reply: &mut Items) -> Option<Arc<dyn Any + Send + Sync>> {
        match self.known.read_installed(reply) {
            Installed::Done(counts) => Some(Arc::new(counts)),
            Installed::Late | Installed::Closed => None,
        }
    }
}

/// The counts that Redis has after an installation alongside a fill, in the order of the messages.
pub fn installed_counts(installed: Arc<dyn Any + Send + Sync>) -> Option<Vec<(Uuid, Counts)>> {
    installed.downcast().ok().map(Arc::unwrap_or_clone)
}

/// The counts of each of these messages, in their order, from rows of `message_id, kind, count`.
pub fn counts_of_each<'a>(messages: &[Uuid], rows: impl IntoIterator<Item = &'a Row>) -> Vec<(Uuid, Counts)> {
    let mut stored: HashMap<Uuid, Counts> = HashMap::new();
    for row in rows {
        add(stored.entry(row.get("message_id")).or_default(), row.get("kind"), row.get("count"));
    }
    messages.iter().map(|message| (*message, stored.get(message).copied().unwrap_or_default())).collect()
}

/// Passes over a kind that only a newer release knows.
fn add(counts: &mut Counts, place: i16, number: i32) {
    if let Some(kind) = kind_of(place) {
        counts.set(kind, u32::try_from(number).unwrap_or(0));
    }
}

/// The kind that Postgres has under this place. `None` for one that only a newer release knows.
pub fn kind_of(place: i16) -> Option<Kind> {
    Kind::from_place(usize::try_from(place).ok()?)
}
