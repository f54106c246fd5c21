//! The origin's side of the cache protocol: filling on a miss, and fencing for writers.
//!
//! Fills read the primary. What a value is made of is a loader's business (see [`crate::app::load`]); whether Redis is
//! believed is the region's.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use optimist_shared::envelope::{Body, Envelope, Item, Stamp};
use optimist_shared::ids::{Uuid, parse_id};
use optimist_shared::keys::{self, Freshness, Key, Parameters};
use optimist_shared::reactions::Counts;
use optimist_shared::session::CachedSession;
use tokio::sync::watch;
use tokio_postgres::Row;

use crate::app::{App, Ctx, now_ms};
use crate::body::digest;
use crate::error::{Error, Result};
use crate::hooks;
use crate::reactions::snapshot::{self as reactions, Put};
use crate::redis::{Call, Items, Redis, RedisDown};

/// Milliseconds that a fence stands: longer than any commit can take, see the session's timeouts in [`crate::postgres`].
const FENCE_MS: &[u8] = b"7000";
/// Milliseconds that a lease lasts: longer than a loader may take.
const LEASE_MS: &[u8] = b"5000";
/// How often, and how many milliseconds apart, one waits for another origin that holds the lease.
const LEASED_POLLS: u32 = 5;
const LEASED_POLL_MS: u64 = 20;

/// A lease that nobody holds, for when a test has switched off what writers or the relay do to leases.
const NO_LEASE: &str = "lease:none";

/// What a loader read.
#[derive(Clone, Debug, PartialEq)]
pub enum Loaded {
    Object {
        version: String,
        json: Vec<u8>,
    },
    List {
        version: String,
        items: Vec<ListItem>,
        more: bool,
    },
    Text(String),
    Session(CachedSession),
    /// A message or a list of them, and live reaction counts by message; those lie in Redis in a form of their own.
    Counted(Arc<Loaded>, HashMap<Uuid, Counts>),
    /// There is no such thing: nothing is cached.
    Missing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListItem {
    /// In a list whose items something is joined to.
    pub id: Option<Uuid>,
    pub cursor: String,
    pub json: Vec<u8>,
}

impl ListItem {
    /// As it is shown: its id is for scripts alone.
    pub fn shown(&self) -> Item<'_> {
        Item { id: "", cursor: &self.cursor, json: &self.json }
    }

    fn id_text(&self) -> String {
        self.id.map_or_else(String::new, |id| id.to_string())
    }
}

/// A loader's result, and the oldest transaction that its snapshot may not have seen.
pub struct Snapshot {
    pub seen_xmin: u64,
    pub loaded: Loaded,
    /// What was known in it of the reactions to the messages that were loaded.
    pub reactions: Option<reactions::Snapshot>,
}

impl Snapshot {
    pub fn new(seen_xmin: i64, loaded: Loaded) -> Snapshot {
        Snapshot { seen_xmin: seen_xmin.cast_unsigned(), loaded, reactions: None }
    }

    /// A list of rows of `<columns>, seen`: those asked for and, if there are more, one beyond; where there are none, one row
    /// of nothing but the snapshot. Its version is a digest of what it shows.
    pub fn page(rows: &[Row], limit: usize, item: impl Fn(&Row) -> Result<ListItem>) -> Result<Snapshot> {
        let seen = rows.first().map_or(0, |row| row.get("seen"));
        let found = rows.iter().filter(|row| row.get::<_, Option<Uuid>>("id").is_some());
        let mut items = found.map(item).collect::<Result<Vec<_>>>()?;
        let more = items.len() > limit;
        items.truncate(limit);
        let mut shown: Vec<&[u8]> = items.iter().map(|item| item.json.as_slice()).collect();
        shown.push(if more { b"more" } else { b"all" });
        Ok(Snapshot::new(seen, Loaded::List { version: digest(&shown), items, more }))
    }
}

/// A key that a write changes.
#[derive(Clone, Debug)]
pub struct TouchedKey {
    pub key: Key,
    pub parameters: Parameters,
    pub name: String,
    hidden: String,
    fence: String,
    lease: String,
}

impl TouchedKey {
    pub fn new(key: Key, parameters: Parameters) -> Option<TouchedKey> {
        let name = key.render(&parameters)?;
        let (hidden, fence, lease) = (keys::hidden(&name), keys::fence(&name), keys::lease(&name));
        Some(TouchedKey { key, parameters, name, hidden, fence, lease })
    }

    fn writer_keys(&self) -> Vec<&str> {
        // Switched off: nobody's lease is voided.
        let lease = if hooks::disabled("lease") { NO_LEASE } else { &self.lease };
        vec![&self.name, &self.hidden, &self.fence, lease]
    }
}

type Outcome = Result<Arc<Loaded>>;
/// Those who wait for a query that has not been sent yet.
type Group = watch::Receiver<Option<Outcome>>;

pub struct Cache {
    pub redis: Redis,
    /// Per key, the group that may still be joined.
    waiting: Mutex<HashMap<String, Group>>,
    /// Per key, held by the group whose query is under way.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Cache {
    pub fn new(redis: Redis) -> Cache {
        Cache { redis, waiting: Mutex::default(), turns: Mutex::default() }
    }

    /// The miss path: callers of a key share one query, as long as it has not been sent when they come, so that what each
    /// gets was read after it asked. The holder of the key's lease fills Redis.
    pub async fn read(&self, app: &Ctx, key: Key, parameters: Parameters) -> Outcome {
        let name = rendered(key, &parameters)?;
        let mut group = self.join(app, key, parameters, &name);
        hooks::step("read.joined").await;
        let outcome = group.wait_for(Option::is_some).await;
        match outcome {
            Ok(outcome) => {
                outcome.clone().unwrap_or_else(|| Err(Error::internal("cache", &"a query had no outcome")))
            }
            Err(_) => Err(Error::internal("cache", &"a query was abandoned")),
        }
    }

    fn join(&self, app: &Ctx, key: Key, parameters: Parameters, name: &str) -> Group {
        let mut waiting = lock(&self.waiting);
        if let Some(group) = waiting.get(name) {
            return group.clone();
        }
        let (publish, group) = watch::channel(None);
        waiting.insert(name.to_owned(), group.clone());
        let turn = lock(&self.turns).entry(name.to_owned()).or_default().clone();
        // A task of its own: a caller that goes away takes nobody else's answer along.
        let (app, name) = (app.clone(), name.to_owned());
        tokio::spawn(async move {
            let _turn = turn.lock().await;
            // From here on the query counts as sent: who comes now starts the next group.
            lock(&app.cache.waiting).remove(&name);
            let outcome = app.cache.fetch(&app, key, parameters).await.map(Arc::new);
            // Nobody may be left to hear it.
            let _ = publish.send(Some(outcome));
            let mut turns = lock(&app.cache.turns);
            // Held by the map and by this task alone: nobody waits for a turn.
            if Arc::strong_count(&turn) == 2 {
                turns.remove(&name);
            }
        });
        group
    }

    async fn fetch(&self, app: &Ctx, key: Key, parameters: Parameters) -> Result<Loaded> {
        match key.row().freshness {
            Freshness::Live => crate::messages::load_counted(app, parameters).await,
            _ => self.load(app, key, parameters).await.map(|(loaded, _)| loaded),
        }
    }

    /// Value, lease or neither; then the query, and the fill if the lease still stands. With messages that were filled come
    /// their live counts, if Redis has them now.
    pub async fn load(
        &self,
        app: &Ctx,
        key: Key,
        parameters: Parameters,
    ) -> Result<(Loaded, Option<HashMap<Uuid, Counts>>)> {
        let name = &rendered(key, &parameters)?;
        let lease = Uuid::now_v7().simple().to_string();
        for _ in 0..LEASED_POLLS {
            let granted = match self.lease(app, key, &parameters, name, &lease).await {
                Lease::Value(loaded) => return Ok((loaded, None)),
                Lease::Leased => {
                    tokio::time::sleep(Duration::from_millis(LEASED_POLL_MS)).await;
                    continue;
                }
                Lease::Granted { epoch } => Some(epoch),
                Lease::Refused => None,
            };
            hooks::step("fill.leased").await;
            let read_at_ms = now_ms();
            let loaded = crate::app::load(app, key, &parameters).await;
            hooks::step("fill.loaded").await;
            let mut counts = None;
            if let Some(epoch) = granted {
                counts = self.fill(app, key, name, &lease, epoch, read_at_ms, loaded.as_ref().ok()).await;
            }
            return loaded.map(|snapshot| (snapshot.loaded, counts));
        }
        // Whoever holds the lease is slow: read without it, and leave the filling to them.
        crate::app::load(app, key, &parameters).await.map(|snapshot| (snapshot.loaded, None))
    }

    async fn lease(&self, app: &App, key: Key, parameters: &Parameters, name: &str, token: &str) -> Lease {
        // The epoch must have been vouched before the lease is given: so it is read first.
        let Some(epoch) = key.partition(parameters).and_then(|partition| app.region.vouched(partition))
        else {
            return Lease::Refused;
        };
        let (fence, lease) = (keys::fence(name), keys::lease(name));
        let epoch_text = format!("{epoch:016x}");
        let now = format!("{:014}", now_ms());
        let call = Call {
            script: &self.redis.scripts.lease,
            keys: vec![name, &fence, &lease],
            arguments: vec![token.as_bytes(), LEASE_MS, epoch_text.as_bytes(), now.as_bytes()],
        };
        let Ok(values) = self.redis.call(&[call]).await else { return Lease::Refused };
        let mut items = Items::new(values.into_iter().next().unwrap_or(::redis::Value::Nil));
        match items.text().as_str() {
            "value" => decode(&items.bytes()).map_or(Lease::Refused, Lease::Value),
            "granted" => Lease::Granted { epoch },
            "leased" => Lease::Leased,
            _ => Lease::Refused,
        }
    }

    /// And installs counts, in the same trip: they are returned.
    #[allow(clippy::too_many_arguments)] // The parts of one fill.
    async fn fill(
        &self,
        app: &App,
        key: Key,
        name: &str,
        token: &str,
        epoch: u64,
        read_at_ms: u64,
        snapshot: Option<&Snapshot>,
    ) -> Option<HashMap<Uuid, Counts>> {
        let data_type = key.row().data_type;
        let fresh_ms = u64::from(key.row().fresh_seconds().unwrap_or_default()) * 1000;
        let kept_ms = u64::from(key.row().kept_seconds().unwrap_or_default()) * 1000;
        let value = match snapshot {
            Some(snapshot) if !app.region.is_over_budget() => {
                encode(snapshot, epoch, read_at_ms, fresh_ms).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let (fence, lease) = (keys::fence(name), keys::lease(name));
        let install = snapshot
            .and_then(|snapshot| snapshot.reactions.as_ref())
            .map(|reactions| reactions.install(epoch, ""));
        let mut counts = None;
        let filled = if hooks::disabled("fill") {
            let (mut set, mut give_back) = (::redis::Cmd::new(), ::redis::Cmd::new());
            set.arg("SET").arg(name).arg(&value).arg("PX").arg(kept_ms);
            give_back.arg("DEL").arg(&lease);
            self.redis.send([set, give_back]).await.is_ok()
        } else {
            let kept = kept_ms.to_string();
            let arguments = vec![token.as_bytes(), &value, kept.as_bytes()];
            let fill = Call { script: &self.redis.scripts.fill, keys: vec![name, &fence, &lease], arguments };
            let put = install.as_ref().map(|install| install.call(&self.redis.scripts));
            let calls: Vec<Call<'_>> = [Some(fill), put].into_iter().flatten().collect();
            let mut values = self.redis.call(&calls).await.unwrap_or_default().into_iter();
            let filled = values.next().is_some_and(|value| Items::new(value).int() == 1);
            counts = install.zip(values.next()).and_then(|(install, answer)| match install.read(answer) {
                Put::Done(counts) => Some(counts),
                Put::Late | Put::Closed => None,
            });
            filled
        };
        let outcome = match (filled, value.is_empty()) {
            (true, _) => "filled",
            (false, true) => "nothing",
            (false, false) => "dropped",
        };
        metrics::counter!("optimist_fills_total", "type" => data_type, "outcome" => outcome).increment(1);
        counts
    }

    /// Hides the values of keys, voids their leases and blocks fills, until released or lapsed.
    pub async fn fence(&self, touched: &[TouchedKey], token: &str) -> Result<(), RedisDown> {
        let arguments = || vec![token.as_bytes(), FENCE_MS];
        let calls: Vec<Call<'_>> = touched
            .iter()
            .map(|key| Call {
                script: &self.redis.scripts.fence,
                keys: key.writer_keys(),
                arguments: arguments(),
            })
            .collect();
        self.redis.call(&calls).await.map(drop)
    }

    /// Drops what was hidden, voids leases, lowers the fences. Returns the keys that were warm, and that nobody else fences.
    pub async fn release(&self, touched: &[TouchedKey], token: &str) -> Result<Vec<TouchedKey>, RedisDown> {
        let values = self.redis.call(&self.writer_calls(&self.redis.scripts.release, touched, token)).await?;
        let warm = |value: ::redis::Value| Items::new(value).int() == 1;
        Ok(touched.iter().zip(values).filter_map(|(key, value)| warm(value).then(|| key.clone())).collect())
    }

    /// Brings hidden values back after a certain rollback. Should it fail, they lapse, and are read anew.
    pub async fn unhide(&self, touched: &[TouchedKey], token: &str) {
        let calls = self.writer_calls(&self.redis.scripts.unhide, touched, token);
        if self.redis.call(&calls).await.is_err() {
            tracing::debug!("hidden values were left to lapse");
        }
    }

    fn writer_calls<'a>(
        &'a self,
        script: &'a optimist_shared::scripts::Script,
        touched: &'a [TouchedKey],
        token: &'a str,
    ) -> Vec<Call<'a>> {
        touched
            .iter()
            .map(|key| Call { script, keys: key.writer_keys(), arguments: vec![token.as_bytes()] })
            .collect()
    }

    /// Reads warm keys anew, by an ordinary lease, off the request's path.
    pub fn refill_in_background(&self, app: &Ctx, warm: Vec<TouchedKey>) {
        // A session is installed when it is used: its next request may never come.
        let is_refilled = |key: Key| key != Key::Session && key.row().freshness == Freshness::Fenced;
        for touched in warm.into_iter().filter(|touched| is_refilled(touched.key)) {
            let app = app.clone();
            // With what is joined to it.
            let key = match touched.key {
                Key::CircleMessages => Key::Counts,
                Key::Message => Key::Reactions,
                key => key,
            };
            tokio::spawn(async move {
                // Nobody waits for it, and the error was logged where it happened.
                let _ = app.cache.read(&app, key, touched.parameters).await;
            });
        }
    }
}

fn rendered(key: Key, parameters: &Parameters) -> Result<String> {
    key.render(parameters).ok_or_else(|| Error::internal("cache", &"a key's parameter is missing"))
}

enum Lease {
    /// Somebody has filled the key meanwhile.
    Value(Loaded),
    Granted {
        epoch: u64,
    },
    /// Another origin holds it.
    Leased,
    /// Fenced, not vouched, or no Redis: read, and fill nothing.
    Refused,
}

fn encode(snapshot: &Snapshot, epoch: u64, read_at_ms: u64, fresh_ms: u64) -> Option<Vec<u8>> {
    let mut stamp =
        Stamp { epoch, fresh_until_ms: read_at_ms + fresh_ms, read_at_ms, seen_xmin: snapshot.seen_xmin };
    let session;
    let ids;
    let body = match &snapshot.loaded {
        Loaded::Missing | Loaded::Counted(..) => return None,
        Loaded::Object { version, json } => Body::Object { version, json },
        Loaded::List { version, items, more } => Body::List {
            version,
            items: {
                ids = items.iter().map(ListItem::id_text).collect::<Vec<_>>();
                let items = items.iter().zip(&ids);
                items.map(|(item, id)| Item { id, cursor: &item.cursor, json: &item.json }).collect()
            },
            more: *more,
        },
        Loaded::Text(text) => Body::Text(text),
        Loaded::Session(cached) => {
            // A session slides; its key's expiry says when it is over.
            stamp.fresh_until_ms = cached.absolute_until_ms;
            session = cached.encode();
            Body::Session(&session)
        }
    };
    Some(Envelope { stamp, body }.encode())
}

/// Copies dropped in one trip, which has a deadline.
const DROPPED_AT_ONCE: usize = 100;

/// Drops any copies, whatever lease there is. How many there were.
pub async fn drop_copies(app: &App, names: &[String]) -> Result<u64, RedisDown> {
    let newest = names.iter().map(|name| (name.as_str(), u64::MAX)).collect();
    drop_stale(app, newest).await
}

/// Drops the copies of names that do not show the transaction which changed them last, whatever lease there is. How many
/// there were.
pub async fn drop_stale(app: &App, changed: BTreeMap<&str, u64>) -> Result<u64, RedisDown> {
    let changed: Vec<(&str, [String; 3])> = changed
        .into_iter()
        .map(|(name, xid)| (name, [keys::hidden(name), noted_lease(name), format!("{xid:016x}")]))
        .collect();
    let calls: Vec<Call<'_>> = changed
        .iter()
        .map(|(name, [hidden, lease, xid])| Call {
            script: &app.cache.redis.scripts.invalidate,
            keys: vec![name, hidden, lease],
            arguments: vec![xid.as_bytes()],
        })
        .collect();
    let mut dropped = 0;
    for calls in calls.chunks(DROPPED_AT_ONCE) {
        let values = app.cache.redis.call(calls).await?;
        dropped += values.into_iter().map(|value| Items::new(value).int()).sum::<i64>();
    }
    Ok(dropped.max(0).cast_unsigned())
}

/// The lease that is told of a transaction.
fn noted_lease(name: &str) -> String {
    if hooks::disabled("floor") { NO_LEASE.to_owned() } else { keys::lease(name) }
}

/// What an envelope holds. `None` for what is none.
pub fn decode(bytes: &[u8]) -> Option<Loaded> {
    Some(match Envelope::decode(bytes)?.body {
        Body::Object { version, json } => Loaded::Object { version: version.to_owned(), json: json.to_vec() },
        Body::List { version, items, more } => Loaded::List {
            version: version.to_owned(),
            items: items
                .iter()
                .map(|item| ListItem {
                    id: parse_id(item.id),
                    cursor: item.cursor.to_owned(),
                    json: item.json.to_vec(),
                })
                .collect(),
            more,
        },
        Body::Text(text) => Loaded::Text(text.to_owned()),
        Body::Session(body) => Loaded::Session(CachedSession::decode(body)?),
    })
}

/// A panic while the lock was held leaves a map that is still a map.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
