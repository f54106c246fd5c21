//! Reactions as they live in Redis: counts of many messages, one message's whole state, and the writes that change both.
//!
//! What Redis does not have is installed from Postgres, with what is not flushed yet on top. Without Redis, Postgres alone
//! tells.

use std::collections::HashMap;

use ::redis::{Cmd, Value};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Partition, Uuid, parse_hex};
use optimist_shared::keys::{self, Key, Parameters};
use optimist_shared::reactions::{Counts, KINDS, Kind, Promise, Reacted, Reaction};
use optimist_shared::vouching::Vouched;
use tokio_postgres::Row;

use crate::app::Ctx;
use crate::error::{Error, Result};
use crate::hooks;
use crate::redis::{Call, Items, Position, RedisDown};
use crate::region::may_soon_vouch;
use crate::write_behind::{self, Opened};

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

const COUNTS: &str = "-- reactions::counts
select message_id, kind, count from reaction_counts where circle_id = $1 and message_id = any($2) and count > 0";

const MINE: &str = "-- reactions::mine
select kind from reactions where circle_id = $1 and message_id = $2 and user_id = $3 and is_on";

pub const STATEMENTS: &[&str] = &[SNAPSHOT, COUNTS, MINE];

/// How often one tries again after somebody else was faster: longer than the right of one who died lasts.
const ATTEMPTS: u32 = 160;
const COUNTS_ATTEMPTS: u32 = 5;
const AGAIN: std::time::Duration = std::time::Duration::from_millis(20);
/// Milliseconds that the right to install lasts: longer than the snapshot may take.
const LEASE_MS: u64 = 2_500;

/// Live counts of messages, from Redis or installed there; from Postgres without Redis.
pub async fn counts(app: &Ctx, circle: Uuid, messages: &[Uuid]) -> Result<HashMap<Uuid, Counts>> {
    let known = known(app, circle, messages).await;
    let missing: Vec<Uuid> = messages
        .iter()
        .zip(&known)
        .filter(|(_, counts)| counts.is_none())
        .map(|(message, _)| *message)
        .collect();
    let mut found: HashMap<Uuid, Counts> =
        messages.iter().zip(known).filter_map(|(message, counts)| Some((*message, counts?))).collect();
    if missing.is_empty() {
        return Ok(found);
    }
    match install(app, circle, &missing, None).await? {
        Installed::Counts(counts) => found.extend(missing.into_iter().zip(counts)),
        Installed::Missing | Installed::NoRedis => {
            let rows = app.db.query(COUNTS, &[&circle, &missing]).await?;
            let stored = stored(&rows);
            found.extend(
                missing
                    .into_iter()
                    .map(|message| (message, stored.get(&message).copied().unwrap_or_default())),
            );
        }
    }
    Ok(found)
}

/// What Redis knows, believed: counts of the vouched epoch.
async fn known(app: &Ctx, circle: Uuid, messages: &[Uuid]) -> Vec<Option<Counts>> {
    let partition = Partition::of(circle);
    let parameters = Parameters { circle: Some(circle), ..Parameters::default() };
    let (Some(key), false) = (Key::Counts.render(&parameters), messages.is_empty()) else {
        return vec![None; messages.len()];
    };
    let (mut vouch, mut counts) = (Cmd::new(), Cmd::new());
    vouch.arg("GET").arg(Key::Vouch.of_partition(partition));
    counts.arg("HMGET").arg(key);
    for message in messages {
        counts.arg(message.to_string());
    }
    let Ok(values) = app.cache.redis.send([vouch, counts]).await else { return vec![None; messages.len()] };
    let mut values = values.into_iter().map(Items::new);
    let vouched = values.next().and_then(|mut items| Vouched::parse(&items.bytes()));
    let mut fields = values.next().unwrap_or_else(|| Items::new(Value::Nil));
    messages
        .iter()
        .map(|_| Counts::parse_live(&fields.bytes()))
        .map(|live| {
            let is_believed = |epoch| vouched.is_some_and(|vouched| vouched.epoch == epoch);
            live.filter(|(epoch, _)| is_believed(*epoch)).map(|(_, counts)| counts)
        })
        .collect()
}

fn stored<'a>(rows: impl IntoIterator<Item = &'a Row>) -> HashMap<Uuid, Counts> {
    let mut stored: HashMap<Uuid, Counts> = HashMap::new();
    for row in rows {
        let (message, place, count): (Uuid, i16, i32) =
            (row.get("message_id"), row.get("kind"), row.get("count"));
        // A kind that a newer release has added is none of this one's.
        if let Some(kind) = Kind::from_place(usize::try_from(place).unwrap_or(0)) {
            stored.entry(message).or_default().set(kind, u32::try_from(count).unwrap_or(0));
        }
    }
    stored
}

enum Installed {
    /// Of each message, in their order.
    Counts(Vec<Counts>),
    /// The message that was wanted whole does not exist.
    Missing,
    /// Redis cannot be asked, or not at the moment.
    NoRedis,
}

/// Puts messages' counts into Redis where they are missing, and one message's whole state. Who only wants counts is not kept
/// waiting: what Postgres has is nearly as good.
async fn install(app: &Ctx, circle: Uuid, messages: &[Uuid], whole: Option<Uuid>) -> Result<Installed> {
    let partition = Partition::of(circle);
    let attempts = if whole.is_some() { ATTEMPTS } else { COUNTS_ATTEMPTS };
    let mut is_vouched = false;
    for attempt in 0..attempts {
        if attempt > 0 {
            tokio::time::sleep(AGAIN).await;
        }
        let Some(epoch) = app.region.vouched(partition) else {
            if whole.is_some() && may_soon_vouch(app).await? {
                continue;
            }
            return Ok(Installed::NoRedis);
        };
        is_vouched = true;
        let token = Uuid::now_v7().simple().to_string();
        if let Some(message) = whole {
            match lease(app, circle, message, &token).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(RedisDown) => return Ok(Installed::NoRedis),
            }
        }
        let snapshot = Snapshot::read(app, circle, messages, whole).await?;
        hooks::step("install.read").await;
        if let (Some(message), Some(Snapshot { exists: false, .. })) = (whole, &snapshot) {
            give_back(app, circle, message, &token).await;
            return Ok(Installed::Missing);
        }
        let outcome = match &snapshot {
            Some(snapshot) => snapshot.put(app, circle, epoch, messages, whole, &token).await,
            None => Ok(Put::Closed),
        };
        match outcome {
            Ok(Put::Done(counts)) => return Ok(Installed::Counts(counts)),
            Ok(Put::Late) => {}
            Ok(Put::Closed) => {
                let is_open = match whole {
                    Some(_) => write_behind::open_patiently(app, partition).await?,
                    None => write_behind::open(app, partition).await? == Opened::Yes,
                };
                if !is_open {
                    return Ok(Installed::NoRedis);
                }
            }
            Err(RedisDown) => return Ok(Installed::NoRedis),
        }
    }
    if whole.is_some() && is_vouched { Err(Error::unavailable("The cache")) } else { Ok(Installed::NoRedis) }
}

/// The keys of one message's state.
struct StateKeys {
    state: String,
    fence: String,
    lease: String,
}

fn state_keys(circle: Uuid, message: Uuid) -> StateKeys {
    let parameters = Parameters { circle: Some(circle), message: Some(message), ..Parameters::default() };
    let state = Key::Reactions.render(&parameters).unwrap_or_default();
    StateKeys { fence: keys::fence(&state), lease: keys::lease(&state), state }
}

/// Whether the right to install the message's state was free.
async fn lease(app: &Ctx, circle: Uuid, message: Uuid, token: &str) -> std::result::Result<bool, RedisDown> {
    let mut command = Cmd::new();
    command.arg("SET").arg(state_keys(circle, message).lease).arg(token).arg("NX").arg("PX").arg(LEASE_MS);
    let values = app.cache.redis.send([command]).await?;
    Ok(matches!(values.first(), Some(Value::Okay)))
}

async fn give_back(app: &Ctx, circle: Uuid, message: Uuid, token: &str) {
    let StateKeys { state, fence, lease } = state_keys(circle, message);
    let script = &app.cache.redis.scripts.fill;
    let call =
        Call { script, keys: vec![&state, &fence, &lease], arguments: vec![token.as_bytes(), b"", b"1"] };
    // It lapses by itself.
    let _ = app.cache.redis.call(&[call]).await;
}

/// What Postgres knew at one moment.
pub struct Snapshot {
    pub generation: i64,
    pub position: Position,
    seen_xmin: i64,
    exists: bool,
    counts: HashMap<Uuid, Counts>,
    /// `<place of the kind>:<user>`, as the state has it.
    members: Vec<String>,
}

enum Put {
    Done(Vec<Counts>),
    /// Flushed since, or changed: to be read anew.
    Late,
    /// The partition is to be opened first.
    Closed,
}

impl Snapshot {
    pub async fn read(
        app: &Ctx,
        circle: Uuid,
        messages: &[Uuid],
        whole: Option<Uuid>,
    ) -> Result<Option<Snapshot>> {
        let (region, partition) = (&app.config.region, write_behind::number(Partition::of(circle)));
        let rows = app.db.query(SNAPSHOT, &[region, &partition, &circle, &messages, &whole]).await?;
        Ok(Snapshot::from_rows(&rows))
    }

    /// `None` if the partition was never opened.
    fn from_rows(rows: &[Row]) -> Option<Snapshot> {
        let first = rows.iter().find(|row| row.get::<_, Option<i64>>("generation").is_some())?;
        let counted = rows.iter().filter(|row| row.get::<_, Option<i32>>("count").is_some());
        let members = rows.iter().filter_map(|row| {
            let user: Uuid = row.get::<_, Option<Uuid>>("user_id")?;
            Some(format!("{}:{user}", row.get::<_, i16>("kind")))
        });
        Some(Snapshot {
            generation: first.get("generation"),
            position: Position(first.get("position_ms"), first.get("position_seq")),
            seen_xmin: first.get("seen"),
            exists: first.get("exists"),
            counts: stored(counted),
            members: members.collect(),
        })
    }

    /// As the scripts take it.
    pub fn describe(&self, messages: &[Uuid], words: &mut Vec<String>) {
        words.push(messages.len().to_string());
        for message in messages {
            let counts = self.counts.get(message).copied().unwrap_or_default();
            words.extend([message.to_string(), counts.render()]);
        }
        words.push(self.members.len().to_string());
        words.extend(self.members.iter().cloned());
    }

    async fn put(
        &self,
        app: &Ctx,
        circle: Uuid,
        epoch: u64,
        messages: &[Uuid],
        whole: Option<Uuid>,
        token: &str,
    ) -> std::result::Result<Put, RedisDown> {
        let partition = Partition::of(circle);
        let parameters = Parameters { circle: Some(circle), ..Parameters::default() };
        let names = [
            Key::Vouch.of_partition(partition),
            Key::Ledger.of_partition(partition),
            Key::Writes.of_partition(partition),
            Key::Counts.render(&parameters).unwrap_or_default(),
            Key::CountsPage.render(&parameters).unwrap_or_default(),
        ];
        let state = whole.map(|message| state_keys(circle, message));
        let mut keys: Vec<&str> = names.iter().map(String::as_str).collect();
        keys.extend(state.iter().flat_map(|keys| [keys.state.as_str(), &keys.fence, &keys.lease]));
        let lives_ms = u64::from(Key::Counts.row().kept_seconds().unwrap_or_default()) * 1000;
        let mut words = vec![
            format!("{epoch:016x}"),
            self.generation.to_string(),
            self.position.to_string(),
            lives_ms.to_string(),
            whole.map_or_else(String::new, |message| message.to_string()),
            token.to_owned(),
            format!("{:016x}", self.seen_xmin),
        ];
        self.describe(messages, &mut words);
        let arguments = words.iter().map(String::as_bytes).collect();
        let call = Call { script: &app.cache.redis.scripts.install, keys, arguments };
        let values = app.cache.redis.call(&[call]).await?;
        let mut items = Items::new(values.into_iter().next().unwrap_or(Value::Nil));
        Ok(match items.text().as_str() {
            "done" => {
                Put::Done(messages.iter().map(|_| Counts::parse(&items.text()).unwrap_or_default()).collect())
            }
            "closed" => Put::Closed,
            _ => Put::Late,
        })
    }
}

/// Reacts in Redis. `None` if it cannot be asked.
pub async fn react(
    app: &Ctx,
    parameters: &Parameters,
    reaction: &Reaction,
) -> Result<Option<(Counts, Promise)>> {
    let (circle, message) = (parameters.circle.unwrap_or_default(), parameters.message.unwrap_or_default());
    let partition = Partition::of(circle);
    let mut promise = Promise::Redis;
    for _ in 0..ATTEMPTS {
        let script = &app.cache.redis.scripts.react;
        let call = Call { script, keys: reaction.keys(), arguments: reaction.arguments() };
        let Ok(values) = app.cache.redis.call(&[call]).await else { return Ok(None) };
        let mut items = Items::new(values.into_iter().next().unwrap_or(Value::Nil));
        let outcome = Reacted::read(&items.text(), &items.text())
            .ok_or_else(|| Error::internal("reactions", &"the script answered nonsense"))?;
        match outcome {
            Reacted::Done(counts) => {
                if promise == Promise::Postgres && !write_behind::flush_all_of(app, partition).await? {
                    promise = Promise::Redis;
                }
                return Ok(Some((counts, promise)));
            }
            Reacted::Closed => {
                if !write_behind::open_patiently(app, partition).await? {
                    return Ok(None);
                }
            }
            Reacted::Absent => match install(app, circle, &[message], Some(message)).await? {
                Installed::Counts(_) => {}
                Installed::Missing => return Err(Error::new(ErrorCode::NotFound)),
                Installed::NoRedis => return Ok(None),
            },
            // Whoever comes when too much waits for Postgres waits for it too.
            Reacted::Full => {
                promise = Promise::Postgres;
                if !write_behind::flush_all_of(app, partition).await? {
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
    Err(Error::unavailable("The cache"))
}

/// A message's counts, and the caller's own reactions to it.
pub struct Standing {
    pub counts: Counts,
    pub mine: Vec<Kind>,
}

/// From Redis, or without it from Postgres. 404 if there is no such message.
pub async fn standing(app: &Ctx, circle: Uuid, message: Uuid, user: Uuid) -> Result<Standing> {
    /// Installed, and gone again before it was read: hardly twice.
    const ROUNDS: u32 = 3;
    for _ in 0..ROUNDS {
        let counts = known(app, circle, &[message]).await.into_iter().next().flatten();
        if let Some(counts) = counts
            && let Some(mine) = mine(app, circle, message, user).await
        {
            return Ok(Standing { counts, mine });
        }
        match install(app, circle, &[message], Some(message)).await? {
            Installed::Counts(_) => {}
            Installed::Missing => return Err(Error::new(ErrorCode::NotFound)),
            Installed::NoRedis => {
                let counts = counts_of_one(app, circle, message).await?;
                let rows = app.db.query(MINE, &[&circle, &message, &user]).await?;
                let place = |row: &Row| usize::try_from(row.get::<_, i16>(0)).unwrap_or(0);
                return Ok(Standing {
                    counts,
                    mine: rows.iter().filter_map(|row| Kind::from_place(place(row))).collect(),
                });
            }
        }
    }
    Err(Error::unavailable("The cache"))
}

async fn counts_of_one(app: &Ctx, circle: Uuid, message: Uuid) -> Result<Counts> {
    let rows = app.db.query(COUNTS, &[&circle, &[message].as_slice()]).await?;
    Ok(stored(&rows).get(&message).copied().unwrap_or_default())
}

/// The caller's kinds, if the state is in Redis and of the vouched epoch.
async fn mine(app: &Ctx, circle: Uuid, message: Uuid, user: Uuid) -> Option<Vec<Kind>> {
    let (mut vouch, mut fields) = (Cmd::new(), Cmd::new());
    vouch.arg("GET").arg(Key::Vouch.of_partition(Partition::of(circle)));
    fields.arg("HMGET").arg(state_keys(circle, message).state).arg("@");
    for place in 1..=KINDS.len() {
        fields.arg(format!("{place}:{user}"));
    }
    let mut values = app.cache.redis.send([vouch, fields]).await.ok()?.into_iter();
    let vouched = Vouched::parse(&Items::new(values.next()?).bytes())?;
    let Value::Array(fields) = values.next()? else { return None };
    let mut fields = fields.into_iter();
    if parse_hex(&Items::new(fields.next()?).text()) != Some(vouched.epoch) {
        return None;
    }
    let set = fields.enumerate().filter(|(_, value)| !matches!(value, Value::Nil));
    Some(set.filter_map(|(index, _)| Kind::from_place(index + 1)).collect())
}
