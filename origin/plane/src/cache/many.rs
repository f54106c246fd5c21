//! Copies of many keys at once, for answers that are made of many small ones: a trip for those that are warm and, for the others, a trip
//! for their leases, one query, and a trip that fills. What a lease and a fill are is [`super::read`]'s.
//!
//! Callers share no query: each would wait for keys that it does not want.

use ::redis::{Cmd, Value};
use optimist_shared::envelope::Envelope;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{BoundKey, Companions, Key};
use optimist_shared::scripts::{Call, Scalars as _, lease};
use optimist_shared::vouching::Vouched;

use crate::cache::read::{Lease, Place};
use crate::cache::value::{Loaded, Snapshot, decode};
use crate::clock::now_ms;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::hooks;
use crate::redis::Items;

/// Keys of one partition to look at: copies, and values of other forms.
pub struct Wanted<const COPIES: usize> {
    pub copies: [BoundKey; COPIES],
    pub beside: BoundKey,
}

/// What Redis holds of them.
pub struct Warm<const COPIES: usize> {
    /// Those that count.
    pub copies: [Option<Loaded>; COPIES],
    pub beside: Vec<u8>,
    /// Absent if nobody vouches: then nothing counts.
    pub vouched: Option<Vouched>,
}

/// Looks at keys, in one trip. Without Redis nothing is warm.
pub async fn look<const COPIES: usize>(ctx: &Ctx, wanted: &[Wanted<COPIES>]) -> Vec<Warm<COPIES>> {
    let asked = wanted.iter().map(|Wanted { copies, beside }| {
        let mut command = Cmd::new();
        command.arg("MGET").arg(Key::Vouch.of_partition(beside.partition()));
        let names: Vec<String> = copies.iter().chain([beside]).map(BoundKey::name).collect();
        command.arg(names);
        command
    });
    let mut replies = match wanted {
        [] => Vec::new().into_iter(),
        _ => ctx.redis.send(asked).await.unwrap_or_default().into_iter(),
    };
    let now_ms = now_ms();
    wanted.iter().map(|_| warm(replies.next().unwrap_or(Value::Nil), now_ms)).collect()
}

fn warm<const COPIES: usize>(reply: Value, now_ms: u64) -> Warm<COPIES> {
    let mut values = Items::new(reply);
    let vouched = Vouched::parse(&values.bytes());
    let copies = std::array::from_fn(|_| {
        let (bytes, vouched) = (values.bytes(), vouched?);
        let stamp = Envelope::decode(&bytes)?.stamp;
        vouched.trusts(&stamp, now_ms).then(|| decode(&bytes))?
    });
    Warm { copies, beside: values.bytes(), vouched }
}

/// Reads keys of one kind, of which none is warm: as many as a page has, or a quota admits. `load` reads those that it is given in one snapshot, in the same order.
pub async fn load_many(
    ctx: &Ctx,
    keys: &[BoundKey],
    load: impl AsyncFnOnce(&[BoundKey]) -> Result<Vec<Snapshot>>,
) -> Result<Vec<Loaded>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = keys.iter().map(BoundKey::name).collect();
    let beside: Vec<Companions> = names.iter().map(|name| Companions::of(name)).collect();
    let places = keys.iter().zip(&names).zip(&beside);
    let places: Vec<Place<'_>> =
        places.map(|((key, name), beside)| Place { key: *key, name, beside }).collect();
    let token = Uuid::now_v7().simple().to_string();
    let mut leases = take_leases(ctx, &places, &token).await;
    hooks::step("fill.leased").await;
    let is_left = |lease: &Lease| !matches!(lease, Lease::Value(_));
    let left: Vec<usize> = (0..keys.len()).filter(|at| leases.get(*at).is_none_or(is_left)).collect();
    let read_at_ms = now_ms();
    let wanted: Vec<BoundKey> = left.iter().map(|at| keys[*at]).collect();
    let loaded = if wanted.is_empty() { Ok(Vec::new()) } else { load(&wanted).await };
    hooks::step("fill.loaded").await;
    // After a failure the leases are given back.
    let read = loaded.as_deref().unwrap_or_default();
    let mut envelopes = Vec::new();
    for (nth, at) in left.iter().enumerate() {
        if let Some(Lease::Granted { epoch }) = leases.get(*at) {
            let envelope =
                read.get(nth).map(|snapshot| places[*at].envelope(ctx, snapshot, *epoch, read_at_ms));
            envelopes.push((*at, envelope.unwrap_or_default()));
        }
    }
    let fills: Vec<Call<'_>> =
        envelopes.iter().map(|(at, envelope)| places[*at].filling(&token, envelope).call()).collect();
    // A key that is not filled is read again by the next.
    let mut replies = ctx.redis.call(&fills).await.unwrap_or_default().into_iter();
    for (at, envelope) in &envelopes {
        let filled = replies.next().is_some_and(|mut reply| lease::is_filled(&mut reply));
        places[*at].count(filled, envelope);
    }
    let mut snapshots = loaded?.into_iter().map(|snapshot| snapshot.loaded);
    leases.resize_with(keys.len(), || Lease::Refused);
    let values = leases.into_iter().map(|lease| match lease {
        Lease::Value(loaded) => Some(loaded),
        _ => snapshots.next(),
    });
    let short = || Error::internal("cache", &"a loader read fewer keys than it was given");
    values.map(|value| value.ok_or_else(short)).collect()
}

/// In the keys' order; empty without a vouched Redis.
async fn take_leases(ctx: &Ctx, places: &[Place<'_>], token: &str) -> Vec<Lease> {
    // The epoch must have been vouched before the leases are given, so it is read first.
    let Some(epoch) = ctx.region.vouched() else { return Vec::new() };
    let calls: Vec<Call<'_>> = places.iter().map(|place| place.ask(token, epoch)).collect();
    let replies = ctx.redis.call(&calls).await.unwrap_or_default();
    replies.into_iter().map(|mut reply| Lease::read(&mut reply, epoch)).collect()
}
