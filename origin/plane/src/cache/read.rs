//! The miss path: callers of a key share a query, and the holder of the key's lease fills Redis. Fills read the primary.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use optimist_shared::ids::Uuid;
use optimist_shared::keys::{BoundKey, Companions, Freshness, Key};
use optimist_shared::scripts::Call;
use optimist_shared::scripts::lease::{self, Fill, Leased};

use crate::cache::touched::TouchedKey;
use crate::cache::value::{Loaded, Snapshot, decode, encode};
use crate::cache::waiting::{Group, Joined, Shared};
use crate::clock::now_ms;
use crate::ctx::Ctx;
use crate::domain::Loader;
use crate::error::{Error, Result};
use crate::hooks;
use crate::redis::{Items, RedisDown};

/// Milliseconds that a lease lasts: longer than a loader may take.
const LEASE_MS: u64 = 5_000;
/// How often, and how many milliseconds apart, a reader polls while another origin holds the lease.
const LEASED_POLLS: u32 = 5;
const LEASED_POLL_MS: u64 = 20;

/// The value that was installed in the step that filled, in its domain's type.
pub type Installed = Arc<dyn Any + Send + Sync>;

/// Reads the value of a key. Callers share a query only until it is sent, so that each gets a value that was read after it
/// asked.
pub async fn read_through(ctx: &Ctx, key: BoundKey) -> Shared {
    let mut group = join(ctx, key);
    hooks::step("read.joined").await;
    let outcome = group.wait_for(Option::is_some).await;
    match outcome {
        Ok(outcome) => {
            outcome.clone().unwrap_or_else(|| Err(Error::internal("cache", &"a query had no outcome")))
        }
        Err(_) => Err(Error::internal("cache", &"a query was abandoned")),
    }
}

fn join(ctx: &Ctx, key: BoundKey) -> Group {
    let name = key.name();
    let (group, publish, turn) = match ctx.waiting.join(&name) {
        Joined::Theirs(group) => return group,
        Joined::First { group, publish, turn } => (group, publish, turn),
    };
    // A task of its own: a caller that goes away must not cancel the others' query.
    let ctx = ctx.clone();
    tokio::spawn(async move {
        let _turn = turn.lock().await;
        // From here on the query counts as sent.
        ctx.waiting.close(&name);
        let outcome = fetch(&ctx, key).await.map(Arc::new);
        // Perhaps no caller is left.
        let _ = publish.send(Some(outcome));
        ctx.waiting.pass_turn(&name, &turn);
    });
    group
}

/// The loader of a key. Each cached key has one, which a test of the domains checks.
fn loader(ctx: &Ctx, key: Key) -> Result<Loader> {
    let mut loaders = ctx.registry.domains.iter().flat_map(|domain| domain.loaders);
    let found = loaders.find(|(known, _)| *known == key).map(|(_, loader)| *loader);
    found.ok_or_else(|| Error::internal("cache", &format_args!("{key:?} has no loader")))
}

async fn fetch(ctx: &Ctx, key: BoundKey) -> Result<Loaded> {
    match loader(ctx, key.key())? {
        Loader::Live(load) => load(ctx, key).await,
        // A shard may show its part of a transaction later than the coordinator its own: a horizon says nothing of it.
        Loader::Own(read) if ctx.db.is_spread().await? => {
            read(ctx, key).await.map(|snapshot| snapshot.loaded)
        }
        Loader::Copy(_) | Loader::Own(_) => load(ctx, key).await.map(|(loaded, _)| loaded),
    }
}

/// Reads the value of a cached key from Postgres, and leaves Redis as it is.
pub async fn load_fresh(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    match loader(ctx, key.key())? {
        Loader::Copy(load) | Loader::Own(load) => load(ctx, key).await,
        Loader::Live(_) => Err(Error::internal("cache", &format_args!("{:?} is no copy", key.key()))),
    }
}

/// Asks for the value or the lease, then queries Postgres, and fills if the lease still stands. Also returns the value that
/// was installed alongside, if there is one.
pub async fn load(ctx: &Ctx, key: BoundKey) -> Result<(Loaded, Option<Installed>)> {
    let name = key.name();
    let place = Place { key, name: &name, beside: &Companions::of(&name) };
    let lease = Uuid::now_v7().simple().to_string();
    for _ in 0..LEASED_POLLS {
        let granted = match place.take_lease(ctx, &lease).await {
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
        let mut loaded = load_fresh(ctx, key).await;
        hooks::step("fill.loaded").await;
        let mut installed = None;
        if let Some(epoch) = granted {
            let right = Right { token: &lease, epoch, read_at_ms };
            installed = place.fill(ctx, right, loaded.as_mut().ok()).await;
        }
        return loaded.map(|snapshot| (snapshot.loaded, installed));
    }
    // The lease's holder is slow: read without a lease, and leave the fill to the holder.
    load_fresh(ctx, key).await.map(|snapshot| (snapshot.loaded, None))
}

pub enum Lease {
    /// Another caller has filled the key meanwhile.
    Value(Loaded),
    Granted {
        epoch: u64,
    },
    /// Another origin holds the lease.
    Leased,
    /// Fenced, not vouched, or no Redis: read without filling.
    Refused,
}

impl Lease {
    /// The outcome of [`Place::ask`] under this epoch.
    pub fn read(reply: &mut Items, epoch: u64) -> Lease {
        match lease::read(reply) {
            Leased::Value(envelope) => decode(&envelope).map_or(Lease::Refused, Lease::Value),
            Leased::Granted => Lease::Granted { epoch },
            Leased::Taken => Lease::Leased,
            Leased::Fenced => Lease::Refused,
        }
    }
}

/// A granted lease, with the vouched epoch and the time of the read.
struct Right<'a> {
    token: &'a str,
    epoch: u64,
    read_at_ms: u64,
}

/// A key, its name, and its companions' names.
pub struct Place<'a> {
    pub key: BoundKey,
    pub name: &'a str,
    pub beside: &'a Companions,
}

impl Place<'_> {
    async fn take_lease(&self, ctx: &Ctx, token: &str) -> Lease {
        // The epoch must have been vouched before the lease is given, so it is read first.
        let Some(epoch) = ctx.region.vouched() else { return Lease::Refused };
        let call = self.ask(token, epoch);
        let Ok(mut reply) = ctx.redis.call_one(&call).await else { return Lease::Refused };
        Lease::read(&mut reply, epoch)
    }

    /// Asks for the value or the lease. The epoch was vouched before.
    pub fn ask<'a>(&'a self, token: &'a str, epoch: u64) -> Call<'a> {
        lease::ask(self.name, self.beside, token, LEASE_MS, epoch, now_ms())
    }

    /// The envelope to fill with: empty if the snapshot is not to be kept.
    pub fn envelope(&self, ctx: &Ctx, snapshot: &Snapshot, epoch: u64, read_at_ms: u64) -> Vec<u8> {
        let fresh_ms = u64::from(self.key.row().fresh_seconds().unwrap_or_default()) * 1000;
        let is_kept = snapshot.is_kept && !ctx.region.is_over_budget();
        is_kept.then(|| encode(snapshot, epoch, read_at_ms, fresh_ms)).flatten().unwrap_or_default()
    }

    /// The fill with an envelope; with an empty one the lease is only given back.
    pub fn filling<'a>(&'a self, token: &'a str, value: &'a [u8]) -> Fill<'a> {
        let kept_ms = u64::from(self.key.row().kept_seconds().unwrap_or_default()) * 1000;
        Fill { name: self.name, beside: self.beside, token, value, kept_ms }
    }

    /// Counts a fill's outcome.
    pub fn count(&self, filled: bool, value: &[u8]) {
        let outcome = match (filled, value.is_empty()) {
            (true, _) => "filled",
            (false, true) => "nothing",
            (false, false) => "dropped",
        };
        let data_type = self.key.row().data_type;
        metrics::counter!("optimist_fills_total", "type" => data_type, "outcome" => outcome).increment(1);
    }

    /// Fills, and in the same step installs and returns the value alongside. Without a snapshot it gives the lease back.
    async fn fill(
        &self,
        ctx: &Ctx,
        right: Right<'_>,
        mut snapshot: Option<&mut Snapshot>,
    ) -> Option<Installed> {
        let alongside = snapshot.as_mut().and_then(|snapshot| snapshot.alongside.take());
        let value = snapshot.map(|snapshot| self.envelope(ctx, snapshot, right.epoch, right.read_at_ms));
        let value = value.unwrap_or_default();
        let fill = self.filling(right.token, &value);
        let mut installed = None;
        let filled = if hooks::disabled("fill") {
            let (mut set, mut give_back) = (::redis::Cmd::new(), ::redis::Cmd::new());
            set.arg("SET").arg(self.name).arg(&value).arg("PX").arg(fill.kept_ms);
            give_back.arg("DEL").arg(&self.beside.lease);
            ctx.redis.send([set, give_back]).await.is_ok()
        } else {
            let call = match &alongside {
                Some(alongside) => alongside.filling(fill, right.epoch),
                None => fill.call(),
            };
            match ctx.redis.call_one(&call).await {
                Ok(mut reply) => {
                    let filled = lease::is_filled(&mut reply);
                    installed = alongside.and_then(|alongside| alongside.read(&mut reply));
                    filled
                }
                Err(RedisDown) => false,
            }
        };
        self.count(filled, &value);
        installed
    }
}

/// Refills warm keys by an ordinary lease, off the request's path.
pub fn refill_in_background(ctx: &Ctx, warm: Vec<TouchedKey>) {
    for touched in warm {
        let row = touched.key.row();
        if row.freshness != Freshness::Fenced || !row.is_refilled {
            continue;
        }
        // Together with its overlay.
        let Some(key) = touched.key.beside(touched.key.key().refilled_as()) else { continue };
        let ctx = ctx.clone();
        tokio::spawn(async move {
            // No caller waits for it, and the error was logged where it happened.
            let _ = read_through(&ctx, key).await;
        });
    }
}
