//! What Postgres knew of messages' reactions at one moment, and how that comes into Redis: with what is not flushed yet on top,
//! by a script that refuses what is no longer so.
//!
//! When something is to be installed, and what is done without it, is [`super::live`]'s.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use ::redis::Value;
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::keys::{self, Key, Parameters};
use optimist_shared::reactions::{Counts, Kind};
use optimist_shared::scripts::Scripts;
use tokio_postgres::Row;

use optimist_plane::cache::value::{Alongside, Prepared};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::redis::{Call, Items, Position};
use optimist_plane::write_behind::entry::number;

/// One snapshot: how far the partition is flushed, and what is so then. First the partition's row, then counts, then who
/// reacted to the one message that is wanted whole.
const SNAPSHOT: &str = "-- reactions::snapshot
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

pub const STATEMENTS: &[&str] = &[SNAPSHOT];

/// What Postgres knew at one moment.
#[derive(Debug)]
pub struct Snapshot {
    circle: Uuid,
    messages: Vec<Uuid>,
    /// Of which it has everyone who reacted.
    whole: Option<Uuid>,
    pub generation: i64,
    pub position: Position,
    seen_xmin: i64,
    /// Whether the message that is wanted whole does.
    pub exists: bool,
    counts: HashMap<Uuid, Counts>,
    /// `<place of the kind>:<user>`, as the state has it.
    members: Vec<String>,
}

impl Snapshot {
    /// `None` if the partition was never opened.
    pub async fn read(
        app: &Ctx,
        circle: Uuid,
        messages: &[Uuid],
        whole: Option<Uuid>,
    ) -> Result<Option<Snapshot>> {
        let (region, partition) = (&app.config.region, number(Partition::of(circle)));
        let rows = app.db.query(SNAPSHOT, &[region, &partition, &circle, &messages, &whole]).await?;
        let Some(first) = rows.iter().find(|row| row.get::<_, Option<i64>>("generation").is_some()) else {
            return Ok(None);
        };
        let members = rows.iter().filter_map(|row| {
            let user: Uuid = row.get::<_, Option<Uuid>>("user_id")?;
            Some(format!("{}:{user}", row.get::<_, i16>("kind")))
        });
        Ok(Some(Snapshot {
            circle,
            messages: messages.to_vec(),
            whole,
            generation: first.get("generation"),
            position: Position(first.get("position_ms"), first.get("position_seq")),
            seen_xmin: first.get("seen"),
            exists: first.get("exists"),
            counts: counts_of(rows.iter().filter(|row| row.get::<_, Option<i32>>("count").is_some())),
            members: members.collect(),
        }))
    }

    /// From messages that were read together with their counts: `id, kinds, counts`, and in each row `seen` and the partition's
    /// `generation, position_ms, position_seq`. `None` if the partition was never opened.
    fn of_messages(circle: Uuid, rows: &[Row]) -> Option<Snapshot> {
        let first = rows.first()?;
        let mut counts: HashMap<Uuid, Counts> = HashMap::new();
        let mut messages = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(message) = row.get::<_, Option<Uuid>>("id") else { continue };
            messages.push(message);
            let kinds: Vec<i16> = row.get::<_, Option<_>>("kinds").unwrap_or_default();
            let numbers: Vec<i32> = row.get::<_, Option<_>>("counts").unwrap_or_default();
            for (place, number) in kinds.into_iter().zip(numbers) {
                add(counts.entry(message).or_default(), place, number);
            }
        }
        Some(Snapshot {
            circle,
            messages,
            whole: None,
            generation: first.get::<_, Option<i64>>("generation")?,
            position: Position(first.get("position_ms"), first.get("position_seq")),
            seen_xmin: first.get("seen"),
            exists: false,
            counts,
            members: Vec::new(),
        })
    }

    /// As the scripts take it.
    pub fn describe(&self, words: &mut Vec<String>) {
        words.push(self.messages.len().to_string());
        for message in &self.messages {
            let counts = self.counts.get(message).copied().unwrap_or_default();
            words.extend([message.to_string(), counts.render()]);
        }
        words.push(self.members.len().to_string());
        words.extend(self.members.iter().cloned());
    }

    /// To be put into Redis, if it is vouched under this epoch; the state of a whole message also only if this lease stands.
    pub fn install(&self, epoch: u64, lease: &str) -> Install {
        let partition = Partition::of(self.circle);
        let parameters = Parameters { circle: Some(self.circle), ..Parameters::default() };
        let mut keys = vec![
            Key::Vouch.of_partition(partition),
            Key::Ledger.of_partition(partition),
            Key::Writes.of_partition(partition),
            Key::Counts.render(&parameters).unwrap_or_default(),
            Key::CountsPage.render(&parameters).unwrap_or_default(),
        ];
        if let Some(message) = self.whole {
            let StateKeys { state, fence, lease } = state_keys(self.circle, message);
            keys.extend([state, fence, lease]);
        }
        let lives_ms = u64::from(Key::Counts.row().kept_seconds().unwrap_or_default()) * 1000;
        let mut words = vec![
            format!("{epoch:016x}"),
            self.generation.to_string(),
            self.position.to_string(),
            lives_ms.to_string(),
            self.whole.map_or_else(String::new, |message| message.to_string()),
            lease.to_owned(),
            format!("{:016x}", self.seen_xmin),
        ];
        self.describe(&mut words);
        Install { messages: self.messages.clone(), keys, words }
    }
}

/// What a page of messages was read with, to be installed in the trip that fills. `None` if the partition was never opened.
pub fn alongside(circle: Uuid, rows: &[Row]) -> Option<Box<dyn Alongside>> {
    Some(Box::new(Snapshot::of_messages(circle, rows)?))
}

impl Alongside for Snapshot {
    fn prepare(self: Box<Self>, epoch: u64) -> Box<dyn Prepared> {
        Box::new(self.install(epoch, ""))
    }
}

impl Prepared for Install {
    fn call<'a>(&'a self, scripts: &'a Scripts) -> Call<'a> {
        Install::call(self, scripts)
    }

    /// The counts of each message.
    fn read(&self, answer: Value) -> Option<Arc<dyn Any + Send + Sync>> {
        match Install::read(self, answer) {
            Put::Done(counts) => Some(Arc::new(counts)),
            Put::Late | Put::Closed => None,
        }
    }
}

/// A call of the script that installs.
pub struct Install {
    messages: Vec<Uuid>,
    keys: Vec<String>,
    words: Vec<String>,
}

pub enum Put {
    /// What Redis has now.
    Done(HashMap<Uuid, Counts>),
    /// Flushed since, or changed: to be read anew.
    Late,
    /// The partition is to be opened first.
    Closed,
}

impl Install {
    pub fn call<'a>(&'a self, scripts: &'a Scripts) -> Call<'a> {
        Call {
            script: &scripts.install,
            keys: self.keys.iter().map(String::as_str).collect(),
            arguments: self.words.iter().map(String::as_bytes).collect(),
        }
    }

    /// The script's answer.
    pub fn read(&self, answer: Value) -> Put {
        let mut items = Items::new(answer);
        match items.text().as_str() {
            "done" => {
                let counts = self.messages.iter().map(|message| (*message, items.text()));
                Put::Done(
                    counts
                        .map(|(message, text)| (message, Counts::parse(&text).unwrap_or_default()))
                        .collect(),
                )
            }
            "closed" => Put::Closed,
            _ => Put::Late,
        }
    }
}

/// The keys of one message's state.
pub struct StateKeys {
    pub state: String,
    pub fence: String,
    pub lease: String,
}

pub fn state_keys(circle: Uuid, message: Uuid) -> StateKeys {
    let parameters = Parameters { circle: Some(circle), message: Some(message), ..Parameters::default() };
    let state = Key::Reactions.render(&parameters).unwrap_or_default();
    StateKeys { fence: keys::fence(&state), lease: keys::lease(&state), state }
}

/// From rows of `message_id, kind, count`.
pub fn counts_of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> HashMap<Uuid, Counts> {
    let mut counts: HashMap<Uuid, Counts> = HashMap::new();
    for row in rows {
        add(counts.entry(row.get("message_id")).or_default(), row.get("kind"), row.get("count"));
    }
    counts
}

/// A kind that a newer release has added is none of this one's.
fn add(counts: &mut Counts, place: i16, number: i32) {
    if let Some(kind) = Kind::from_place(usize::try_from(place).unwrap_or(0)) {
        counts.set(kind, u32::try_from(number).unwrap_or(0));
    }
}
