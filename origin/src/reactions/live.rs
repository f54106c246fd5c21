//! Reactions as they live in Redis: the counts of many messages, a caller's own reactions to one, and the writes that change
//! both.
//!
//! Where Redis lacks something, [`super::installing`] puts it there. Without Redis, reads are answered from Postgres, and
//! nothing is written here.

use ::redis::{Cmd, Value};
use optimist_plane::archive::missing;
use optimist_plane::cache::value::Alongside;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::redis::Items;
use optimist_plane::statements;
use optimist_plane::write_behind::flush::flush_all_of;
use optimist_plane::write_behind::open::open_patiently;
use optimist_shared::ids::{Partition, Uuid, parse_hex};
use optimist_shared::keys::Key;
use optimist_shared::reactions::{Counts, KINDS, Kind, Promise};
use optimist_shared::scripts::Scalars as _;
use optimist_shared::scripts::react::{self, Reacted, Reaction};
use optimist_shared::vouching::Vouched;

use crate::reactions::installing::{AGAIN, ATTEMPTS, Ensured, ensure_installed};
use crate::reactions::snapshot::{counts_of_each, installed_counts, kind_of};

statements! {
    const COUNTS: &str = "-- reactions::counts, planned anew
select message_id, kind, count from reaction_counts where circle_id = $1 and message_id = any($2) and count > 0";

    /// `$4` are all kinds. Each is looked up by the whole key: from a condition Postgres may make a filter on everyone's reactions to
    /// the message.
    const MINE: &str = "-- reactions::mine, planned anew
select kind from unnest($4::smallint[]) as one (kind)
where (select is_on from reactions r where r.circle_id = $1 and r.message_id = $2 and r.kind = one.kind and r.user_id = $3)";
}

/// The table by whose months reactions are archived.
pub const MESSAGES: &str = "messages";

/// Live counts of messages, in their order: from Redis, or installed there, or without Redis from Postgres.
pub async fn counts(ctx: &Ctx, circle: Uuid, messages: &[Uuid]) -> Result<Vec<(Uuid, Counts)>> {
    let known = known(ctx, circle, messages).await;
    let unknown = messages.iter().zip(&known).filter(|(_, counts)| counts.is_none());
    let missing: Vec<Uuid> = unknown.map(|(message, _)| *message).collect();
    let found = match missing.is_empty() {
        true => Vec::new(),
        false => match ensure_installed(ctx, circle, &missing, None).await? {
            Ensured::Counts(counts) => counts,
            Ensured::NoMessage | Ensured::NoRedis => stored(ctx, circle, &missing).await?,
        },
    };
    // A page is short: a search through it costs less than a map.
    let find = |message: &Uuid| found.iter().find(|(id, _)| id == message).map(|(_, counts)| *counts);
    let counts = |(message, known): (&Uuid, Option<Counts>)| {
        (*message, known.or_else(|| find(message)).unwrap_or_default())
    };
    Ok(messages.iter().zip(known).map(counts).collect())
}

/// Live counts of one message.
pub async fn counts_of(ctx: &Ctx, circle: Uuid, message: Uuid) -> Result<Counts> {
    Ok(only(counts(ctx, circle, &[message]).await?))
}

fn only(counts: Vec<(Uuid, Counts)>) -> Counts {
    counts.into_iter().next().map(|(_, counts)| counts).unwrap_or_default()
}

/// Live counts of messages that were just read from Postgres: `alongside` has their reactions as of then, which are installed
/// in one trip to Redis.
pub async fn counts_after_read(
    ctx: &Ctx,
    circle: Uuid,
    messages: &[Uuid],
    alongside: Option<Box<dyn Alongside>>,
) -> Result<Vec<(Uuid, Counts)>> {
    if let Some((alongside, epoch)) = alongside.zip(ctx.region.vouched())
        && let Ok(mut reply) = ctx.redis.call_one(&alongside.call(epoch)).await
        && let Some(counts) = alongside.read(&mut reply).and_then(installed_counts)
    {
        return Ok(counts);
    }
    counts(ctx, circle, messages).await
}

/// The counts that Postgres has, in the order of the messages.
async fn stored(ctx: &Ctx, circle: Uuid, messages: &[Uuid]) -> Result<Vec<(Uuid, Counts)>> {
    let rows = ctx.db.query(COUNTS, &[&circle, &messages]).await?;
    Ok(counts_of_each(messages, &rows))
}

/// The counts that Redis has and that belong to the vouched epoch; `None` for each message without.
async fn known(ctx: &Ctx, circle: Uuid, messages: &[Uuid]) -> Vec<Option<Counts>> {
    if messages.is_empty() {
        return Vec::new();
    }
    let (mut vouch, mut counts) = (Cmd::new(), Cmd::new());
    vouch.arg("GET").arg(Key::Vouch.of_partition(Partition::of(circle)));
    counts.arg("HMGET").arg(Key::counts(circle).name());
    for message in messages {
        counts.arg(message.to_string());
    }
    let Ok(values) = ctx.redis.send([vouch, counts]).await else { return vec![None; messages.len()] };
    let mut values = values.into_iter().map(Items::new);
    let vouched = values.next().and_then(|mut items| Vouched::parse(&items.bytes()));
    let mut fields = values.next().unwrap_or_else(|| Items::new(Value::Nil));
    let is_trusted = |epoch| vouched.is_some_and(|vouched| vouched.epoch == epoch);
    messages
        .iter()
        .map(|_| Counts::parse_live(&fields.bytes()))
        .map(|live| live.filter(|(epoch, _)| is_trusted(*epoch)).map(|(_, counts)| counts))
        .collect()
}

/// Makes a reaction in Redis, or takes it back. `None` if Redis cannot be asked; 404 if there is no such message.
pub async fn react(ctx: &Ctx, reaction: &Reaction) -> Result<Option<(Counts, Promise)>> {
    let Reaction { circle, message, .. } = *reaction;
    let partition = Partition::of(circle);
    let call = reaction.call();
    let mut promise = Promise::Redis;
    for _ in 0..ATTEMPTS {
        let Ok(mut reply) = ctx.redis.call_one(&call).await else { return Ok(None) };
        let outcome = react::read(&mut reply)
            .ok_or_else(|| Error::internal("reactions", &"the script answered nonsense"))?;
        match outcome {
            Reacted::Done(counts) => {
                if promise == Promise::Postgres && !flush_all_of(ctx, partition).await? {
                    promise = Promise::Redis;
                }
                return Ok(Some((counts, promise)));
            }
            Reacted::Closed => {
                if !open_patiently(ctx, partition).await? {
                    return Ok(None);
                }
            }
            Reacted::Absent => match ensure_installed(ctx, circle, &[message], Some(message)).await? {
                Ensured::Counts(_) => {}
                Ensured::NoMessage => return Err(missing(ctx, MESSAGES, message).await),
                Ensured::NoRedis => return Ok(None),
            },
            // A write that finds the stream full waits for Postgres too.
            Reacted::Full => {
                promise = Promise::Postgres;
                if !flush_all_of(ctx, partition).await? {
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
    Err(Error::unavailable("The cache"))
}

/// A message's counts, and the caller's own reactions to it.
pub struct OwnView {
    pub counts: Counts,
    pub mine: Vec<Kind>,
}

/// Reads it from Redis, or without Redis from Postgres. 404 if there is no such message.
pub async fn own_view(ctx: &Ctx, circle: Uuid, message: Uuid, user: Uuid) -> Result<OwnView> {
    /// The state may be gone again between being installed and being read: hardly twice.
    const ROUNDS: u32 = 3;
    for _ in 0..ROUNDS {
        let counts = known(ctx, circle, &[message]).await.into_iter().next().flatten();
        if let Some(counts) = counts
            && let Some(mine) = mine(ctx, circle, message, user).await
        {
            return Ok(OwnView { counts, mine });
        }
        match ensure_installed(ctx, circle, &[message], Some(message)).await? {
            Ensured::Counts(_) => {}
            Ensured::NoMessage => return Err(missing(ctx, MESSAGES, message).await),
            Ensured::NoRedis => {
                let counts = only(stored(ctx, circle, &[message]).await?);
                let mine = stored_own(ctx, circle, message, user).await?;
                return Ok(OwnView { counts, mine });
            }
        }
    }
    Err(Error::unavailable("The cache"))
}

/// The caller's kinds that Postgres has: a look-up for each.
pub async fn stored_own(ctx: &Ctx, circle: Uuid, message: Uuid, user: Uuid) -> Result<Vec<Kind>> {
    let kinds: Vec<i16> = (1..=KINDS.len() as i16).collect();
    let rows = ctx.db.query(MINE, &[&circle, &message, &user, &kinds]).await?;
    Ok(rows.iter().filter_map(|row| kind_of(row.get(0))).collect())
}

/// The caller's kinds, if Redis has the message's state and it belongs to the vouched epoch.
async fn mine(ctx: &Ctx, circle: Uuid, message: Uuid, user: Uuid) -> Option<Vec<Kind>> {
    let (mut vouch, mut fields) = (Cmd::new(), Cmd::new());
    vouch.arg("GET").arg(Key::Vouch.of_partition(Partition::of(circle)));
    fields.arg("HMGET").arg(Key::reactions(circle, message).name()).arg("@");
    for place in 1..=KINDS.len() {
        fields.arg(format!("{place}:{user}"));
    }
    let mut values = ctx.redis.send([vouch, fields]).await.ok()?.into_iter();
    let vouched = Vouched::parse(&Items::new(values.next()?).bytes())?;
    let Value::Array(fields) = values.next()? else { return None };
    let mut fields = fields.into_iter();
    if parse_hex(&Items::new(fields.next()?).text()) != Some(vouched.epoch) {
        return None;
    }
    let set = fields.enumerate().filter(|(_, value)| !matches!(value, Value::Nil));
    Some(set.filter_map(|(index, _)| Kind::from_place(index + 1)).collect())
}
