//! The miss path: callers of a key share a query, and the holder of the key's lease fills Redis. Fills read the primary.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use optimist_shared::ids::Uuid;
use optimist_shared::keys::{self, Freshness, Key, Parameters};

use crate::cache::touched::TouchedKey;
use crate::cache::value::{Loaded, Snapshot, decode, encode};
use crate::cache::waiting::{Group, Joined, Outcome};
use crate::clock::now_ms;
use crate::ctx::Ctx;
use crate::domain::Loader;
use crate::error::{Error, Result};
use crate::hooks;
use crate::redis::{Call, Items};

/// Milliseconds that a lease lasts: longer than a loader may take.
const LEASE_MS: &[u8] = b"5000";
/// How often, and how many milliseconds apart, one waits for another origin that holds the lease.
const LEASED_POLLS: u32 = 5;
const LEASED_POLL_MS: u64 = 20;

/// What was put into Redis in the trip that filled, as its domain has it.
pub type Installed = Arc<dyn Any + Send + Sync>;

/// What a key holds: callers share one query, as long as it has not been sent when they come, so that what each gets was read
/// after it asked.
pub async fn read_through(ctx: &Ctx, key: Key, parameters: Parameters) -> Outcome {
    let name = rendered(key, &parameters)?;
    let mut group = join(ctx, key, parameters, &name);
    hooks::step("read.joined").await;
    let outcome = group.wait_for(Option::is_some).await;
    match outcome {
        Ok(outcome) => {
            outcome.clone().unwrap_or_else(|| Err(Error::internal("cache", &"a query had no outcome")))
        }
        Err(_) => Err(Error::internal("cache", &"a query was abandoned")),
    }
}

fn join(ctx: &Ctx, key: Key, parameters: Parameters, name: &str) -> Group {
    let (group, publish, turn) = match ctx.waiting.join(name) {
        Joined::Theirs(group) => return group,
        Joined::First { group, publish, turn } => (group, publish, turn),
    };
    // A task of its own: a caller that goes away takes nobody else's answer along.
    let (ctx, name) = (ctx.clone(), name.to_owned());
    tokio::spawn(async move {
        let _turn = turn.lock().await;
        // From here on the query counts as sent.
        ctx.waiting.close(&name);
        let outcome = fetch(&ctx, key, parameters).await.map(Arc::new);
        // Nobody may be left to hear it.
        let _ = publish.send(Some(outcome));
        ctx.waiting.pass_turn(&name, &turn);
    });
    group
}

/// How a key is read: each cached key has one loader, see the test of the domains.
fn loader(ctx: &Ctx, key: Key) -> Result<Loader> {
    let mut loaders = ctx.registry.domains.iter().flat_map(|domain| domain.loaders);
    let found = loaders.find(|(known, _)| *known == key).map(|(_, loader)| *loader);
    found.ok_or_else(|| Error::internal("cache", &format_args!("{key:?} has no loader")))
}

async fn fetch(ctx: &Ctx, key: Key, parameters: Parameters) -> Result<Loaded> {
    match loader(ctx, key)? {
        Loader::Live(load) => load(ctx, parameters).await,
        Loader::Copy(_) => load(ctx, key, parameters).await.map(|(loaded, _)| loaded),
    }
}

/// Reads what a cached key holds from Postgres, and leaves Redis as it is.
pub async fn load_fresh(ctx: &Ctx, key: Key, parameters: &Parameters) -> Result<Snapshot> {
    match loader(ctx, key)? {
        Loader::Copy(load) => load(ctx, parameters).await,
        Loader::Live(_) => Err(Error::internal("cache", &format_args!("{key:?} is no copy"))),
    }
}

/// Value, lease or neither; then the query, and the fill if the lease still stands. With it comes what was installed
/// alongside, if anything was.
pub async fn load(ctx: &Ctx, key: Key, parameters: Parameters) -> Result<(Loaded, Option<Installed>)> {
    let name = &rendered(key, &parameters)?;
    let lease = Uuid::now_v7().simple().to_string();
    for _ in 0..LEASED_POLLS {
        let granted = match take_lease(ctx, name, &lease).await {
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
        let mut loaded = load_fresh(ctx, key, &parameters).await;
        hooks::step("fill.loaded").await;
        let mut installed = None;
        if let Some(epoch) = granted {
            let filling = Filling { key, name, token: &lease, epoch, read_at_ms };
            installed = filling.fill(ctx, loaded.as_mut().ok()).await;
        }
        return loaded.map(|snapshot| (snapshot.loaded, installed));
    }
    // Whoever holds the lease is slow: read without it, and leave the filling to them.
    load_fresh(ctx, key, &parameters).await.map(|snapshot| (snapshot.loaded, None))
}

async fn take_lease(ctx: &Ctx, name: &str, token: &str) -> Lease {
    // The epoch must have been vouched before the lease is given: so it is read first.
    let Some(epoch) = ctx.region.vouched() else { return Lease::Refused };
    let (fence, lease) = (keys::fence(name), keys::lease(name));
    let epoch_text = format!("{epoch:016x}");
    let now = format!("{:014}", now_ms());
    let call = Call {
        script: &ctx.redis.scripts.lease,
        keys: vec![name, &fence, &lease],
        arguments: vec![token.as_bytes(), LEASE_MS, epoch_text.as_bytes(), now.as_bytes()],
    };
    let Ok(values) = ctx.redis.call(&[call]).await else { return Lease::Refused };
    let mut items = Items::new(values.into_iter().next().unwrap_or(::redis::Value::Nil));
    match items.text().as_str() {
        "value" => decode(&items.bytes()).map_or(Lease::Refused, Lease::Value),
        "granted" => Lease::Granted { epoch },
        "leased" => Lease::Leased,
        _ => Lease::Refused,
    }
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

/// The right to fill a key, and with what.
struct Filling<'a> {
    key: Key,
    name: &'a str,
    token: &'a str,
    epoch: u64,
    read_at_ms: u64,
}

impl Filling<'_> {
    /// Fills, and installs what goes alongside in the same trip: that is returned. Without a snapshot it gives the lease back.
    async fn fill(&self, ctx: &Ctx, mut snapshot: Option<&mut Snapshot>) -> Option<Installed> {
        let Filling { key, name, token, epoch, read_at_ms } = *self;
        let alongside = snapshot.as_mut().and_then(|snapshot| snapshot.alongside.take());
        let prepared = alongside.map(|alongside| alongside.prepare(epoch));
        let data_type = key.row().data_type;
        let fresh_ms = u64::from(key.row().fresh_seconds().unwrap_or_default()) * 1000;
        let kept_ms = u64::from(key.row().kept_seconds().unwrap_or_default()) * 1000;
        let value = match snapshot {
            Some(snapshot) if !ctx.region.is_over_budget() => {
                encode(snapshot, epoch, read_at_ms, fresh_ms).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let (fence, lease) = (keys::fence(name), keys::lease(name));
        let mut installed = None;
        let filled = if hooks::disabled("fill") {
            let (mut set, mut give_back) = (::redis::Cmd::new(), ::redis::Cmd::new());
            set.arg("SET").arg(name).arg(&value).arg("PX").arg(kept_ms);
            give_back.arg("DEL").arg(&lease);
            ctx.redis.send([set, give_back]).await.is_ok()
        } else {
            let kept = kept_ms.to_string();
            let arguments = vec![token.as_bytes(), &value, kept.as_bytes()];
            let fill = Call { script: &ctx.redis.scripts.fill, keys: vec![name, &fence, &lease], arguments };
            let put = prepared.as_ref().map(|prepared| prepared.call(&ctx.redis.scripts));
            let calls: Vec<Call<'_>> = [Some(fill), put].into_iter().flatten().collect();
            let mut values = ctx.redis.call(&calls).await.unwrap_or_default().into_iter();
            let filled = values.next().is_some_and(|value| Items::new(value).int() == 1);
            installed = prepared.zip(values.next()).and_then(|(prepared, answer)| prepared.read(answer));
            filled
        };
        let outcome = match (filled, value.is_empty()) {
            (true, _) => "filled",
            (false, true) => "nothing",
            (false, false) => "dropped",
        };
        metrics::counter!("optimist_fills_total", "type" => data_type, "outcome" => outcome).increment(1);
        installed
    }
}

/// Reads warm keys anew, by an ordinary lease, off the request's path.
pub fn refill_in_background(ctx: &Ctx, warm: Vec<TouchedKey>) {
    for touched in warm {
        let Some(key) = refilled_as(touched.key) else { continue };
        let ctx = ctx.clone();
        tokio::spawn(async move {
            // Nobody waits for it, and the error was logged where it happened.
            let _ = read_through(&ctx, key, touched.parameters).await;
        });
    }
}

/// The key that is read when this one is to be refilled: itself, or what is joined to it and brings it along.
fn refilled_as(key: Key) -> Option<Key> {
    match key {
        // A session is installed when it is used: its next request may never come.
        Key::Session => None,
        Key::CircleMessages => Some(Key::Counts),
        Key::Message => Some(Key::Reactions),
        key => Some(key).filter(|key| key.row().freshness == Freshness::Fenced),
    }
}

fn rendered(key: Key, parameters: &Parameters) -> Result<String> {
    key.render(parameters).ok_or_else(|| Error::internal("cache", &"a key's parameter is missing"))
}
