//! Comparing copies. A copy is comparable if a vouched Redis holds the same one before and after Postgres is read, and no
//! writer's fence stands.

use ::redis::Cmd;
use optimist_shared::envelope::Envelope;
use optimist_shared::keys::{self, Freshness, Key};
use optimist_shared::scripts::Scalars as _;
use optimist_shared::vouching::Vouched;
use serde_json::Value;

use crate::audit::tally::{Suspect, Tally};
use crate::cache::fence::drop_copies;
use crate::cache::read::load_fresh;
use crate::cache::value::{Loaded, decode};
use crate::clock::now_ms;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::redis::Items;

/// A trusted copy, as Redis holds it.
#[derive(PartialEq, Eq)]
pub struct Kept {
    pub bytes: Vec<u8>,
    epoch: u64,
}

/// `None` if no reader would be given it: no copy, or not vouched for, fenced, or expired.
pub async fn kept(ctx: &Ctx, suspect: &Suspect<'_>) -> Option<Kept> {
    let vouch = Key::Vouch.of_partition(suspect.key.partition());
    let commands = [("GET", suspect.name), ("EXISTS", &keys::fence(suspect.name)), ("GET", &vouch)].map(
        |(command, key)| {
            let mut asked = Cmd::new();
            asked.arg(command).arg(key);
            asked
        },
    );
    let mut values = ctx.redis.send(commands).await.ok()?.into_iter().map(Items::new);
    let bytes = values.next()?.bytes();
    let is_fenced = values.next()?.int() != 0;
    let epoch = Vouched::parse(&values.next()?.bytes())?.epoch;
    let stamp = Envelope::decode(&bytes)?.stamp;
    let is_trusted = stamp.epoch == epoch && stamp.fresh_until_ms > now_ms();
    (is_trusted && !is_fenced).then_some(Kept { bytes, epoch })
}

/// Compares a copy with the value that a fill would store now.
pub async fn compare(ctx: &Ctx, suspect: Suspect<'_>) -> Result<Tally> {
    compare_but_for(ctx, suspect, None).await
}

/// Same, for a copy that shows another person where the JSON pointer `named` points: that person's name may be as old as the copy.
pub async fn compare_but_for(ctx: &Ctx, suspect: Suspect<'_>, named: Option<&str>) -> Result<Tally> {
    let Some(Pair { before, copy, fresh }) = read(ctx, &suspect).await? else {
        return Ok(Tally::PASSED_OVER);
    };
    settle(ctx, suspect, &before, is_same(&copy, &fresh, named)).await
}

/// A copy, and the value that a fill would store in its place.
pub struct Pair {
    pub before: Kept,
    pub copy: Loaded,
    pub fresh: Loaded,
}

/// `None` if there is no copy that a reader would be given.
pub async fn read(ctx: &Ctx, suspect: &Suspect<'_>) -> Result<Option<Pair>> {
    let Some(before) = kept(ctx, suspect).await else { return Ok(None) };
    let Some(copy) = decode(&before.bytes) else { return Ok(None) };
    let fresh = load_fresh(ctx, suspect.key).await?.loaded;
    Ok(Some(Pair { before, copy, fresh }))
}

/// Concludes a comparison. A copy that differs, and is still there, is dropped if that is wanted.
pub async fn settle(ctx: &Ctx, suspect: Suspect<'_>, before: &Kept, is_same: bool) -> Result<Tally> {
    if is_same {
        return Ok(Tally::SAME);
    }
    if kept(ctx, &suspect).await.as_ref() != Some(before) {
        return Ok(Tally::PASSED_OVER);
    }
    if suspect.repair {
        // The next reader fills it.
        let _ = drop_copies(ctx, &[suspect.name.to_owned()]).await;
    }
    Ok(if suspect.key.row().freshness == Freshness::Ttl { Tally::STALE } else { Tally::CONFLICT })
}

fn is_same(copy: &Loaded, fresh: &Loaded, named: Option<&str>) -> bool {
    match (copy, fresh) {
        (Loaded::Text(copy), Loaded::Text(fresh)) => copy == fresh,
        (Loaded::Object { version, json }, Loaded::Object { version: fresh_version, json: fresh }) => {
            // A digest of the name follows the row's version.
            let of_row = |version: &str| match named {
                Some(_) => version.split('-').next().unwrap_or_default().to_owned(),
                None => version.to_owned(),
            };
            of_row(version) == of_row(fresh_version)
                && without_name(json, named) == without_name(fresh, named)
        }
        (Loaded::List { items, more, .. }, Loaded::List { items: fresh, more: fresh_more, .. }) => {
            more == fresh_more
                && items.len() == fresh.len()
                && items.iter().zip(fresh).all(|(copy, fresh)| {
                    copy.id == fresh.id
                        && copy.cursor == fresh.cursor
                        && without_name(&copy.json, named) == without_name(&fresh.json, named)
                })
        }
        _ => false,
    }
}

fn without_name(json: &[u8], named: Option<&str>) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(json).ok()?;
    if let Some(person) = named.and_then(|pointer| value.pointer_mut(pointer)?.as_object_mut()) {
        person.remove("name");
    }
    Some(value)
}
