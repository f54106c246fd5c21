//! Reactions as they live in Redis: counts of many messages, one message's whole state, and the writes that change both.
//!
//! What Redis does not have is installed from Postgres, with what is not flushed yet on top. Without Redis, Postgres alone
//! tells.

use std::collections::HashMap;
use std::sync::Arc;

use ::redis::{Cmd, Value};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Partition, Uuid, parse_hex};
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::reactions::{Counts, KINDS, Kind, Promise, Reacted, Reaction};
use optimist_shared::vouching::Vouched;
use tokio_postgres::Row;

use crate::reactions::snapshot::{Install, Put, Snapshot, StateKeys, counts_of, state_keys};
use optimist_plane::cache::value::Alongside;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hooks;
use optimist_plane::redis::{Call, Items, RedisDown};
use optimist_plane::region::switch::may_soon_vouch;
use optimist_plane::write_behind::flush::flush_all_of;
use optimist_plane::write_behind::open::{self, Opened, open_patiently};

const COUNTS: &str = "-- reactions::counts
select message_id, kind, count from reaction_counts where circle_id = $1 and message_id = any($2) and count > 0";

const MINE: &str = "-- reactions::mine
select kind from reactions where circle_id = $1 and message_id = $2 and user_id = $3 and is_on";

pub const STATEMENTS: &[&str] = &[COUNTS, MINE];

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
        Installed::Counts(counts) => found.extend(counts),
        Installed::Missing | Installed::NoRedis => {
            let rows = app.db.query(COUNTS, &[&circle, &missing]).await?;
            let stored = counts_of(&rows);
            found.extend(
                missing
                    .into_iter()
                    .map(|message| (message, stored.get(&message).copied().unwrap_or_default())),
            );
        }
    }
    Ok(found)
}

/// The same for messages already loaded with what Postgres has of their reactions: at best in one trip to Redis.
pub async fn counts_read(
    app: &Ctx,
    circle: Uuid,
    messages: &[Uuid],
    read: Option<Box<dyn Alongside>>,
) -> Result<HashMap<Uuid, Counts>> {
    if let Some((read, epoch)) = read.zip(app.region.vouched()) {
        let prepared = read.prepare(epoch);
        let values = app.redis.call(&[prepared.call(&app.redis.scripts)]).await;
        let answer = values.ok().and_then(|mut values| prepared.read(values.pop()?));
        if let Some(counts) = answer.and_then(|counts| counts.downcast().ok()) {
            return Ok(Arc::unwrap_or_clone(counts));
        }
    }
    counts(app, circle, messages).await
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
    let Ok(values) = app.redis.send([vouch, counts]).await else { return vec![None; messages.len()] };
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

enum Installed {
    Counts(HashMap<Uuid, Counts>),
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
        let Some(epoch) = app.region.vouched() else {
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
            Some(snapshot) => put(app, &snapshot.install(epoch, &token)).await,
            None => Ok(Put::Closed),
        };
        match outcome {
            Ok(Put::Done(counts)) => return Ok(Installed::Counts(counts)),
            Ok(Put::Late) => {}
            Ok(Put::Closed) => {
                let is_open = match whole {
                    Some(_) => open_patiently(app, partition).await?,
                    None => open::open(app, partition).await? == Opened::Yes,
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

/// Whether the right to install the message's state was free.
async fn lease(app: &Ctx, circle: Uuid, message: Uuid, token: &str) -> std::result::Result<bool, RedisDown> {
    let mut command = Cmd::new();
    command.arg("SET").arg(state_keys(circle, message).lease).arg(token).arg("NX").arg("PX").arg(LEASE_MS);
    let values = app.redis.send([command]).await?;
    Ok(matches!(values.first(), Some(Value::Okay)))
}

async fn give_back(app: &Ctx, circle: Uuid, message: Uuid, token: &str) {
    let StateKeys { state, fence, lease } = state_keys(circle, message);
    let script = &app.redis.scripts.fill;
    let call =
        Call { script, keys: vec![&state, &fence, &lease], arguments: vec![token.as_bytes(), b"", b"1"] };
    // It lapses by itself.
    let _ = app.redis.call(&[call]).await;
}

async fn put(app: &Ctx, install: &Install) -> std::result::Result<Put, RedisDown> {
    let mut values = app.redis.call(&[install.call(&app.redis.scripts)]).await?;
    Ok(install.read(values.pop().unwrap_or(Value::Nil)))
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
        let script = &app.redis.scripts.react;
        let call = Call { script, keys: reaction.keys(), arguments: reaction.arguments() };
        let Ok(values) = app.redis.call(&[call]).await else { return Ok(None) };
        let mut items = Items::new(values.into_iter().next().unwrap_or(Value::Nil));
        let outcome = Reacted::read(&items.text(), &items.text())
            .ok_or_else(|| Error::internal("reactions", &"the script answered nonsense"))?;
        match outcome {
            Reacted::Done(counts) => {
                if promise == Promise::Postgres && !flush_all_of(app, partition).await? {
                    promise = Promise::Redis;
                }
                return Ok(Some((counts, promise)));
            }
            Reacted::Closed => {
                if !open_patiently(app, partition).await? {
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
                if !flush_all_of(app, partition).await? {
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
    Ok(counts_of(&rows).get(&message).copied().unwrap_or_default())
}

/// The caller's kinds, if the state is in Redis and of the vouched epoch.
async fn mine(app: &Ctx, circle: Uuid, message: Uuid, user: Uuid) -> Option<Vec<Kind>> {
    let (mut vouch, mut fields) = (Cmd::new(), Cmd::new());
    vouch.arg("GET").arg(Key::Vouch.of_partition(Partition::of(circle)));
    fields.arg("HMGET").arg(state_keys(circle, message).state).arg("@");
    for place in 1..=KINDS.len() {
        fields.arg(format!("{place}:{user}"));
    }
    let mut values = app.redis.send([vouch, fields]).await.ok()?.into_iter();
    let vouched = Vouched::parse(&Items::new(values.next()?).bytes())?;
    let Value::Array(fields) = values.next()? else { return None };
    let mut fields = fields.into_iter();
    if parse_hex(&Items::new(fields.next()?).text()) != Some(vouched.epoch) {
        return None;
    }
    let set = fields.enumerate().filter(|(_, value)| !matches!(value, Value::Nil));
    Some(set.filter_map(|(index, _)| Kind::from_place(index + 1)).collect())
}
