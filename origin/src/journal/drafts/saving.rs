//! Saving drafts: in Redis, or while nobody may read that, in Postgres.

use ::redis::Value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::reactions::Promise;

use crate::journal::content::Content;
use crate::journal::drafts::draft::{Draft, Stored};
use crate::journal::drafts::store::{AGAIN, ATTEMPTS, Names, Together, bring_together, read, sibling_id};
use crate::journal::sealing::{Sealer, What};
use optimist_plane::clock;
use optimist_plane::clock::now_ms;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Failure, Result};
use optimist_plane::limits::charge::charge;
use optimist_plane::postgres::write::{WriteContext, hold_off};
use optimist_plane::redis::{Call, Items, RedisDown};
use optimist_plane::region::belief::Mode;
use optimist_plane::region::switch::switch_off;
use optimist_plane::request::Caller;
use optimist_plane::transaction;
use optimist_shared::limits::Limit;
use optimist_shared::session::autosave_entry;

const LOCK: &str = "-- drafts::lock
select version, deleted_at is not null from drafts where user_id = $1 and id = $2 for update";

const THROUGH: &str = "-- drafts::through
insert into drafts (user_id, id, version, overtook, sealed, sibling_of, saved_at) values ($1, $2, $3, $4, $5, $6, $7)
on conflict (user_id, id) do update set version = excluded.version, overtook = greatest(drafts.overtook, excluded.overtook),
    sealed = excluded.sealed, saved_at = excluded.saved_at";

pub const STATEMENTS: &[&str] = &[LOCK, THROUGH];

/// A version that a client names: the form that all of ours have.
pub fn checked_version(text: &str) -> Result<&str> {
    let is_version = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_version { Ok(text) } else { Err(Error::invalid("base_version", "is not a version of a draft")) }
}

/// A version above the one that it follows, whatever the clock says: milliseconds, then chance.
fn next_version(base: Option<&str>, now: DateTime<Utc>) -> Result<String> {
    let of_base = base.and_then(|base| u64::from_str_radix(base.get(..12)?, 16).ok()).unwrap_or(0);
    let ms = now.timestamp_millis().max(0).cast_unsigned().max(of_base + 1);
    let mut chance = [0; 10];
    getrandom::fill(&mut chance).map_err(|error| Error::internal("drafts", &error))?;
    Ok(format!("{ms:012x}{}", optimist_shared::session::hex(&chance)))
}

/// What became of a save.
pub enum Outcome {
    Saved {
        version: String,
        saved_at: DateTime<Utc>,
        promise: Promise,
    },
    /// The version that it is based on is not the current one.
    Conflict,
}

/// Someone's saving of drafts.
pub struct Saver<'a> {
    pub app: &'a Ctx,
    pub caller: &'a Caller,
    pub sealer: &'a Sealer,
}

impl Saver<'_> {
    /// Saves a draft in Redis, or without it in Postgres.
    pub async fn save(
        &self,
        draft: Uuid,
        base: Option<&str>,
        content: &Content,
        sibling_of: Option<Uuid>,
    ) -> Result<Outcome> {
        let app = self.app;
        // As exact as Redis keeps it.
        let now = clock::now();
        let now = DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap_or(now);
        let version = next_version(base, now)?;
        let sealed = self.sealer.seal(What::Draft, draft, &version, &content.to_bytes()?)?;
        let stored = Stored { version, sealed, sibling_of, saved_at: now };
        // One that is new here may be in Postgres, or deleted there.
        if base.is_none() && sibling_of.is_none() && app.region.mode() == Mode::Fenced {
            match bring_together(app, self.caller.user, draft).await {
                Ok(Together::There | Together::Gone) => return Ok(Outcome::Conflict),
                Ok(Together::None | Together::NoRedis) => {}
                // Without Postgres it is taken as new: should it not be, the flush keeps both.
                Err(error) => tracing::debug!(code = error.code.as_str(), "a new draft was not looked for"),
            }
        }
        for _ in 0..ATTEMPTS {
            if app.region.mode() == Mode::Fenced {
                match self.save_live(draft, base, &stored).await {
                    Ok(Live::Saved) => return Ok(saved(stored, Promise::Redis)),
                    Ok(Live::Conflict) => return Ok(Outcome::Conflict),
                    Ok(Live::Absent) => match bring_together(app, self.caller.user, draft).await? {
                        Together::There => {}
                        Together::None | Together::Gone => return Ok(Outcome::Conflict),
                        Together::NoRedis => tokio::time::sleep(AGAIN).await,
                    },
                    Ok(Live::Closed) => tokio::time::sleep(AGAIN).await,
                    Err(RedisDown) if app.region.mode() == Mode::Fenced => switch_off(app).await?,
                    Err(RedisDown) => {}
                }
                continue;
            }
            match self.save_through(draft, base, &stored).await {
                Ok(true) => return Ok(saved(stored, Promise::Postgres)),
                Ok(false) => return Ok(Outcome::Conflict),
                Err(Error { failure: Failure::Again { .. }, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable("The cache"))
    }

    async fn save_live(&self, draft: Uuid, base: Option<&str>, stored: &Stored) -> Result<Live, RedisDown> {
        let names = Names::of(self.caller.user, draft);
        let (sealed, saved_at) =
            (STANDARD.encode(&stored.sealed), stored.saved_at.timestamp_millis().to_string());
        let sibling_of = stored.sibling_of.map_or_else(String::new, |id| id.to_string());
        let arguments =
            [base.unwrap_or_default(), &stored.version, &sealed, &saved_at, &sibling_of, &names.member];
        let call = Call {
            script: &self.app.redis.scripts.autosave,
            keys: names.keys(),
            arguments: arguments.iter().map(|text| text.as_bytes()).collect(),
        };
        let values = self.app.redis.call(&[call]).await?;
        let mut items = Items::new(values.into_iter().next().unwrap_or(Value::Nil));
        Ok(match items.text().as_str() {
            "saved" => Live::Saved,
            // An answer was lost, and this is the second attempt.
            "conflict" if items.text() == stored.version => Live::Saved,
            "conflict" => Live::Conflict,
            "absent" => Live::Absent,
            _ => Live::Closed,
        })
    }

    /// While the region is off. `false` if the base is not the current version. One that Postgres has not seen is in a Redis
    /// that nobody reaches, and older than this: its own text went on.
    async fn save_through(&self, draft: Uuid, base: Option<&str>, stored: &Stored) -> Result<bool> {
        let (app, caller) = (self.app, self.caller);
        let order = [caller.user];
        let context = WriteContext {
            name: "drafts::save",
            request: &caller.request,
            actor: caller.actor(),
            order: &order,
        };
        transaction!(app, context, |tx| {
            hold_off(app, tx).await?;
            let row = tx.query_opt(LOCK, &[&caller.user, &draft]).await?;
            let current: Option<(String, bool)> = row.map(|row| (row.get(0), row.get(1)));
            let fits = match (&current, base) {
                (Some((_, true)), _) => false,
                (Some((version, false)), base) => {
                    base.is_some_and(|base| base >= version.as_str()) || *version == stored.version
                }
                (None, _) => true,
            };
            if !fits {
                tx.unchanged();
                return Ok(false);
            }
            let unseen = match (&current, base) {
                (Some((version, _)), Some(base)) if base == version => "",
                (_, base) => base.unwrap_or_default(),
            };
            tx.execute(
                THROUGH,
                &[
                    &caller.user,
                    &draft,
                    &stored.version,
                    &unseen,
                    &stored.sealed,
                    &stored.sibling_of,
                    &stored.saved_at,
                ],
            )
            .await?;
            tx.event("draft.saved", serde_json::json!({"draft": draft}));
            Ok(true)
        })
    }

    /// Keeps a text that lost a conflict, the same text over the same version once; it is charged as the new draft that it
    /// is.
    pub async fn keep_as_sibling(&self, draft: Uuid, base: Option<&str>, content: &Content) -> Result<Draft> {
        let (app, user) = (self.app, self.caller.user);
        let text = self.sealer.index_bytes(&content.to_bytes()?);
        let id = sibling_id(draft, &[base.unwrap_or_default().as_bytes(), &text]);
        if let Some(known) = read(app, user, id).await? {
            return Draft::open(self.sealer, id, &known);
        }
        charge_sibling(app, user, id).await?;
        match self.save(id, None, content, Some(draft)).await? {
            Outcome::Saved { version, saved_at, .. } => {
                Ok(Draft { id, version, content: content.clone(), sibling_of: Some(draft), saved_at })
            }
            // Sent twice at once, or discarded since.
            Outcome::Conflict => {
                let known = read(app, user, id).await?.ok_or_else(|| Error::new(ErrorCode::Conflict))?;
                Draft::open(self.sealer, id, &known)
            }
        }
    }
}

/// Charges a draft that the user did not ask for: one that keeps a refused text.
async fn charge_sibling(app: &Ctx, user: Uuid, draft: Uuid) -> Result<()> {
    let entry = autosave_entry(user, draft, now_ms());
    charge(app, vec![Limit::JournalAutosaves.row()], &user.to_string(), entry).await.map(drop)
}

fn saved(stored: Stored, promise: Promise) -> Outcome {
    Outcome::Saved { version: stored.version, saved_at: stored.saved_at, promise }
}

/// What Redis says to a save.
enum Live {
    Saved,
    Conflict,
    /// Not there, or not to be believed.
    Absent,
    /// Nobody vouches.
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_grow_whatever_the_clock_says() {
        let at = |ms| DateTime::from_timestamp_millis(ms).unwrap();
        let first = next_version(None, at(5_000)).unwrap();
        assert!(checked_version(&first).is_ok(), "{first}");
        let second = next_version(Some(&first), at(4_000)).unwrap();
        assert!(second > first, "{first} {second}");
        assert!(next_version(Some(&second), at(9_000)).unwrap() > second);
        for bad in ["", "x", &first[1..], &first.to_uppercase(), &format!("{first}0")] {
            assert!(bad == first.to_uppercase() && bad == first || checked_version(bad).is_err(), "{bad}");
        }
    }
}
