//! Where drafts are: in Redis while they are written, in Postgres a few seconds later, and how the two come together.

use std::time::Duration;

use ::redis::{Cmd, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::reactions::Promise;

use super::{Content, Draft, Stored};
use crate::app::Ctx;
use crate::auth::tag;
use crate::cursor::At;
use crate::error::{Error, Result};
use crate::hooks;
use crate::postgres::{Tx, WriteContext, transaction};
use crate::redis::{Call, Items, RedisDown};
use crate::region::Mode;
use crate::request::Caller;
use crate::sealing::{Sealer, What, sealer};

const SELECT: &str = "-- drafts::select
select version, overtook, sealed, sibling_of, saved_at, deleted_at is not null from drafts where user_id = $1 and id = $2";

const LIST: &str = "-- drafts::list
select id, version, sealed, sibling_of, saved_at from drafts
where user_id = $1 and deleted_at is null and ($2::timestamptz is null or (saved_at, id) < ($2, $3::uuid))
order by saved_at desc, id desc limit $4";

/// Refused only by a row of the same id, which is the same text.
const SIBLING: &str = "-- drafts::sibling
insert into drafts (user_id, id, version, sealed, sibling_of, saved_at) values ($1, $2, $3, $4, $5, $6)
on conflict do nothing";

const LOCK: &str = "-- drafts::lock
select version, deleted_at is not null from drafts where user_id = $1 and id = $2 for update";

const THROUGH: &str = "-- drafts::through
insert into drafts (user_id, id, version, overtook, sealed, sibling_of, saved_at) values ($1, $2, $3, $4, $5, $6, $7)
on conflict (user_id, id) do update set version = excluded.version, overtook = greatest(drafts.overtook, excluded.overtook),
    sealed = excluded.sealed, saved_at = excluded.saved_at";

/// Nothing is left of the text; what it was the newest version of stays, so that no flush brings it back.
const BURY: &str = "-- drafts::bury
update drafts set deleted_at = now(), sealed = '', version = greatest(version, $3::text collate \"C\")
where user_id = $1 and id = $2 and deleted_at is null";

const BURY_UNFLUSHED: &str = "-- drafts::bury_unflushed
insert into drafts (user_id, id, version, sealed, saved_at, deleted_at) values ($1, $2, $3, '', now(), now())
on conflict do nothing";

pub const STATEMENTS: &[&str] = &[SELECT, LIST, SIBLING, LOCK, THROUGH, BURY, BURY_UNFLUSHED];

/// How often one tries again, and how long apart, while nobody vouches for Redis.
const ATTEMPTS: u32 = 60;
const AGAIN: Duration = Duration::from_millis(50);

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

/// The names of a draft in Redis.
pub struct Names {
    vouch: String,
    pub draft: String,
    pub dirty: String,
    pub member: String,
}

impl Names {
    pub fn of(user: Uuid, draft: Uuid) -> Names {
        let partition = Partition::of(user);
        let parameters = Parameters { user: Some(user), draft: Some(draft), ..Parameters::default() };
        Names {
            vouch: Key::Vouch.of_partition(partition),
            draft: Key::Draft.render(&parameters).unwrap_or_default(),
            dirty: Key::DirtyDrafts.of_partition(partition),
            member: format!("{user}:{draft}"),
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![&self.vouch, &self.draft, &self.dirty]
    }
}

/// Milliseconds that a flushed draft stays in Redis.
pub fn flushed_ms() -> String {
    (u64::from(Key::Draft.row().fresh_seconds().unwrap_or_default()) * 1000).to_string()
}

/// What Postgres has of a draft.
enum Row {
    None,
    Gone { version: String },
    There { stored: Stored, overtook: String },
}

async fn row(app: &Ctx, user: Uuid, draft: Uuid) -> Result<Row> {
    let Some(row) = app.db.query_opt(SELECT, &[&user, &draft]).await? else { return Ok(Row::None) };
    let version: String = row.get(0);
    if row.get(5) {
        return Ok(Row::Gone { version });
    }
    let stored = Stored { version, sealed: row.get(2), sibling_of: row.get(3), saved_at: row.get(4) };
    Ok(Row::There { stored, overtook: row.get(1) })
}

/// What Redis and Postgres have together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Together {
    /// It is in Redis, and to be believed.
    There,
    None,
    Gone,
    /// Nobody vouches for Redis, or it cannot be asked.
    NoRedis,
}

/// Brings the draft in Redis and its row together. A text that neither contains the other of is kept as a sibling.
async fn bring_together(app: &Ctx, user: Uuid, draft: Uuid) -> Result<Together> {
    let names = Names::of(user, draft);
    let lives = flushed_ms();
    let mut drop_version = String::new();
    for _ in 0..ATTEMPTS {
        let Some(epoch) = app.region.vouched(Partition::of(user)) else { return Ok(Together::NoRedis) };
        let epoch = format!("{epoch:016x}");
        let row = row(app, user, draft).await?;
        hooks::step("drafts.read").await;
        let (what, version, sealed, saved_at, sibling_of, overtook) = match &row {
            Row::None => ("none", "", String::new(), String::new(), String::new(), ""),
            Row::Gone { version } => {
                ("gone", version.as_str(), String::new(), String::new(), String::new(), "")
            }
            Row::There { stored, overtook } => (
                "row",
                stored.version.as_str(),
                STANDARD.encode(&stored.sealed),
                stored.saved_at.timestamp_millis().to_string(),
                stored.sibling_of.map_or_else(String::new, |id| id.to_string()),
                overtook.as_str(),
            ),
        };
        let arguments = [
            epoch.as_str(),
            what,
            version,
            &sealed,
            &saved_at,
            &sibling_of,
            overtook,
            &names.member,
            &lives,
            &drop_version,
        ];
        let call = Call {
            script: &app.cache.redis.scripts.restore,
            keys: names.keys(),
            arguments: arguments.iter().map(|text| text.as_bytes()).collect(),
        };
        let Ok(values) = app.cache.redis.call(&[call]).await else { return Ok(Together::NoRedis) };
        let mut items = Items::new(values.into_iter().next().unwrap_or(Value::Nil));
        match items.text().as_str() {
            "restored" | "kept" => return Ok(Together::There),
            "none" => return Ok(Together::None),
            "gone" => return Ok(Together::Gone),
            "fork" => {
                let (version, sealed, saved_at) = (items.text(), items.text(), items.int());
                let stored = Stored {
                    sealed: STANDARD.decode(sealed).unwrap_or_default(),
                    version: version.clone(),
                    sibling_of: None,
                    saved_at: DateTime::from_timestamp_millis(saved_at).unwrap_or_default(),
                };
                fork(app, user, draft, &stored).await?;
                drop_version = version;
            }
            // Another epoch than this origin knows.
            _ => tokio::time::sleep(AGAIN).await,
        }
    }
    Ok(Together::NoRedis)
}

/// Keeps a text as a draft of its own. Done twice, it is there once.
pub async fn fork(app: &Ctx, user: Uuid, draft: Uuid, stored: &Stored) -> Result<()> {
    let sealer = sealer(app, user).await?;
    let opened = sealer.open(What::Draft, draft, &stored.version, &stored.sealed)?;
    let digest = tag(draft.as_bytes(), &[b"sibling", stored.version.as_bytes()]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    let id = uuid::Builder::from_custom_bytes(bytes).into_uuid();
    let sealed = sealer.seal(What::Draft, id, &stored.version, &opened)?;
    app.db.query(SIBLING, &[&user, &id, &stored.version, &sealed, &draft, &stored.saved_at]).await?;
    metrics::counter!("optimist_drafts_forked_total").increment(1);
    Ok(())
}

/// The draft as it is now, wherever that is.
pub async fn read(app: &Ctx, user: Uuid, draft: Uuid) -> Result<Option<Stored>> {
    for _ in 0..2 {
        if let Some(stored) = read_live(app, user, draft).await {
            return Ok(Some(stored));
        }
        match bring_together(app, user, draft).await? {
            Together::There => {}
            Together::None | Together::Gone => return Ok(None),
            Together::NoRedis => break,
        }
    }
    match row(app, user, draft).await? {
        Row::There { stored, .. } => Ok(Some(stored)),
        Row::None | Row::Gone { .. } => Ok(None),
    }
}

/// From Redis, if it is there and of the vouched epoch.
async fn read_live(app: &Ctx, user: Uuid, draft: Uuid) -> Option<Stored> {
    let names = Names::of(user, draft);
    let (mut vouch, mut fields) = (Cmd::new(), Cmd::new());
    vouch.arg("GET").arg(&names.vouch);
    fields.arg("HMGET").arg(&names.draft).arg(&["epoch", "version", "sealed", "saved_at", "sibling_of"]);
    let mut values = app.cache.redis.send(&[vouch, fields]).await.ok()?.into_iter();
    let vouched = Items::new(values.next()?).text();
    let mut fields = Items::new(values.next()?);
    let epoch = fields.text();
    if epoch.is_empty() || vouched.get(..16) != Some(epoch.as_str()) {
        return None;
    }
    stored(&mut fields)
}

/// From: version, sealed, saved_at, sibling_of.
pub fn stored(fields: &mut Items) -> Option<Stored> {
    Some(Stored {
        version: Some(fields.text()).filter(|version| !version.is_empty())?,
        sealed: STANDARD.decode(fields.text()).ok()?,
        saved_at: DateTime::from_timestamp_millis(fields.int())?,
        sibling_of: optimist_shared::ids::parse_id(&fields.text()),
    })
}

/// The newest in Postgres first, or those after this one.
pub async fn list(
    app: &Ctx,
    user: Uuid,
    after: Option<At<'d'>>,
    limit: usize,
) -> Result<Vec<(Uuid, Stored)>> {
    let (time, id) = (after.map(|at| at.time), after.map(|at| at.id));
    let rows = app.db.query(LIST, &[&user, &time, &id, &(limit as i64)]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let stored = Stored {
                version: row.get(1),
                sealed: row.get(2),
                sibling_of: row.get(3),
                saved_at: row.get(4),
            };
            (row.get(0), stored)
        })
        .collect())
}

/// What Postgres has of a draft: its version, and the sealed text as Redis has it.
pub async fn in_postgres(app: &Ctx, user: Uuid, draft: Uuid) -> Result<Option<(String, String)>> {
    Ok(match row(app, user, draft).await? {
        Row::There { stored, .. } => Some((stored.version, STANDARD.encode(stored.sealed))),
        Row::None | Row::Gone { .. } => None,
    })
}

/// The newest version that is anywhere, believed or not; empty if there is none.
pub async fn newest_version(app: &Ctx, user: Uuid, draft: Uuid) -> Result<String> {
    let mut get = Cmd::new();
    get.arg("HGET").arg(Names::of(user, draft).draft).arg("version");
    let live = match app.cache.redis.send(&[get]).await {
        Ok(mut values) => Items::new(values.pop().unwrap_or(Value::Nil)).text(),
        Err(RedisDown) => String::new(),
    };
    Ok(match row(app, user, draft).await? {
        Row::There { stored, .. } => live.max(stored.version),
        Row::None => live,
        // What is live is newer than what was deleted, or is deleted too.
        Row::Gone { version } => {
            if live > version {
                live
            } else {
                String::new()
            }
        }
    })
}

/// Deletes the draft's row, up to this version. Whether there was a draft.
pub async fn bury(tx: &Tx, user: Uuid, draft: Uuid, version: &str) -> Result<bool> {
    if tx.execute(BURY, &[&user, &draft, &version]).await? > 0 {
        return Ok(true);
    }
    Ok(!version.is_empty() && tx.execute(BURY_UNFLUSHED, &[&user, &draft, &version]).await? > 0)
}

/// Removes what was buried from Redis as well. If that cannot be asked, nobody is to believe it from here on.
pub async fn forget(app: &Ctx, user: Uuid, draft: Uuid) -> Result<()> {
    hooks::step("drafts.buried").await;
    match bring_together(app, user, draft).await? {
        Together::NoRedis if app.region.mode() == Mode::Fenced => app.region.switch_off(app).await,
        _ => Ok(()),
    }
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
        let now = hooks::now();
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
                    Err(RedisDown) if app.region.mode() == Mode::Fenced => app.region.switch_off(app).await?,
                    Err(RedisDown) => {}
                }
                continue;
            }
            match self.save_through(draft, base, &stored).await {
                Ok(true) => return Ok(saved(stored, Promise::Postgres)),
                Ok(false) => return Ok(Outcome::Conflict),
                Err(error) if error.retry_in_ms.is_some() => {}
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
            script: &self.app.cache.redis.scripts.autosave,
            keys: names.keys(),
            arguments: arguments.iter().map(|text| text.as_bytes()).collect(),
        };
        let values = self.app.cache.redis.call(&[call]).await?;
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
            app.region.hold_off(app, tx).await?;
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

    /// Keeps a text that lost a conflict.
    pub(super) async fn keep_as_sibling(&self, draft: Uuid, content: &Content) -> Result<Draft> {
        let id = Uuid::now_v7();
        match self.save(id, None, content, Some(draft)).await? {
            Outcome::Saved { version, saved_at, .. } => {
                Ok(Draft { id, version, content: content.clone(), sibling_of: Some(draft), saved_at })
            }
            Outcome::Conflict => Err(Error::internal("drafts", &"a new id was taken")),
        }
    }
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
