//! Copies: comparable while one and the same lies in a vouched Redis before and after Postgres is read, and no writer's fence
//! stands.

use ::redis::Cmd;
use optimist_shared::envelope::{Body, Envelope};
use optimist_shared::keys::{self, Freshness, Key, Parameters};
use optimist_shared::session::CachedSession;
use optimist_shared::vouching::Vouched;
use serde_json::Value;

use super::{Audit, Tally};
use crate::app::now_ms;
use crate::cache::{Loaded, decode, drop_copies};
use crate::error::Result;
use crate::journal::entries;
use crate::redis::Items;
use crate::{sealing, session};

/// A copy as it lies in Redis, believed.
#[derive(PartialEq, Eq)]
struct Kept {
    bytes: Vec<u8>,
    epoch: u64,
}

/// `None` if nobody would be given it: no copy, or not vouched for, fenced, or expired.
async fn kept(audit: &Audit<'_>, key: Key, parameters: &Parameters, name: &str) -> Option<Kept> {
    let vouch = Key::Vouch.of_partition(key.partition(parameters)?);
    let commands = [("GET", name), ("EXISTS", &keys::fence(name)), ("GET", &vouch)].map(|(command, key)| {
        let mut asked = Cmd::new();
        asked.arg(command).arg(key);
        asked
    });
    let mut values = audit.app.cache.redis.send(commands).await.ok()?.into_iter().map(Items::new);
    let bytes = values.next()?.bytes();
    let is_fenced = values.next()?.int() != 0;
    let epoch = Vouched::parse(&values.next()?.bytes())?.epoch;
    let stamp = Envelope::decode(&bytes)?.stamp;
    let is_believed = stamp.epoch == epoch && stamp.fresh_until_ms > now_ms();
    (is_believed && !is_fenced).then_some(Kept { bytes, epoch })
}

/// Compares a copy with what a fill would put there now.
pub async fn compare_copy(audit: &Audit<'_>, key: Key, parameters: Parameters, name: &str) -> Result<Tally> {
    let Some(before) = kept(audit, key, &parameters, name).await else { return Ok(Tally::PASSED_OVER) };
    let Some(copy) = decode(&before.bytes) else { return Ok(Tally::PASSED_OVER) };
    let fresh = crate::app::load(audit.app, key, &parameters).await?.loaded;
    let is_same = match (key, &copy, &fresh) {
        // Sealed anew each time.
        (Key::RecentTags, Loaded::Text(copy), Loaded::Text(fresh)) => {
            entries::same_tags(audit.app, parameters.user.unwrap_or_default(), copy, fresh).await?
        }
        _ => is_same(&copy, &fresh),
    };
    settle(audit, key, parameters, name, &before, is_same).await
}

/// Compares a session's secret and its last hour; how long it idles is Redis's own.
pub async fn compare_session(audit: &Audit<'_>, parameters: Parameters, name: &str) -> Result<Tally> {
    let key = Key::Session;
    let Some(before) = kept(audit, key, &parameters, name).await else { return Ok(Tally::PASSED_OVER) };
    let Some(Body::Session(body)) = Envelope::decode(&before.bytes).map(|envelope| envelope.body) else {
        return Ok(Tally::PASSED_OVER);
    };
    let copy = CachedSession::decode(body).map(|session| (session.secret_hash, session.absolute_until_ms));
    let is_same = copy == session::standing(audit.app, &parameters).await?;
    settle(audit, key, parameters, name, &before, is_same).await
}

/// Compares a journal's wrapped key.
pub async fn compare_key(audit: &Audit<'_>, parameters: Parameters, name: &str) -> Result<Tally> {
    let user = parameters.user.unwrap_or_default();
    let Some(before) = sealing::kept(audit.app, name).await else { return Ok(Tally::PASSED_OVER) };
    let stored = sealing::stored(audit.app, user).await?;
    // It changes when keys are rotated; whoever finds it useless reads the other.
    if stored.as_ref() == Some(&before) {
        return Ok(Tally::SAME);
    }
    if sealing::kept(audit.app, name).await.as_ref() != Some(&before) {
        return Ok(Tally::PASSED_OVER);
    }
    if audit.repair {
        let mut drop = Cmd::new();
        drop.arg("DEL").arg(name);
        // Without Redis it is found again.
        let _ = audit.app.cache.redis.send([drop]).await;
    }
    let is_rewrapped = stored.is_some_and(|stored| stored.0 != before.0);
    Ok(if is_rewrapped { Tally::STALE } else { Tally::CONFLICT })
}

async fn settle(
    audit: &Audit<'_>,
    key: Key,
    parameters: Parameters,
    name: &str,
    before: &Kept,
    is_same: bool,
) -> Result<Tally> {
    if is_same {
        return Ok(Tally::SAME);
    }
    if kept(audit, key, &parameters, name).await.as_ref() != Some(before) {
        return Ok(Tally::PASSED_OVER);
    }
    if audit.repair {
        // The next reader fills it.
        let _ = drop_copies(audit.app, &[name.to_owned()]).await;
    }
    Ok(if key.row().freshness == Freshness::Ttl { Tally::STALE } else { Tally::CONFLICT })
}

fn is_same(copy: &Loaded, fresh: &Loaded) -> bool {
    match (copy, fresh) {
        (Loaded::Text(copy), Loaded::Text(fresh)) => copy == fresh,
        (Loaded::Object { version, json }, Loaded::Object { version: fresh_version, json: fresh }) => {
            version == fresh_version && without_names(json) == without_names(fresh)
        }
        (Loaded::List { items, more, .. }, Loaded::List { items: fresh, more: fresh_more, .. }) => {
            more == fresh_more
                && items.len() == fresh.len()
                && items.iter().zip(fresh).all(|(copy, fresh)| {
                    copy.id == fresh.id
                        && copy.cursor == fresh.cursor
                        && without_names(&copy.json) == without_names(&fresh.json)
                })
        }
        _ => false,
    }
}

/// Other people's names may be as old as the copy.
fn without_names(json: &[u8]) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(json).ok()?;
    for field in ["author", "user"] {
        if let Some(person) = value.get_mut(field).and_then(Value::as_object_mut) {
            person.remove("name");
        }
    }
    Some(value)
}
