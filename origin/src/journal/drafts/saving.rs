//! Saving drafts: in Redis, or in Postgres while Redis is not trusted.

use chrono::{DateTime, Utc};
use optimist_plane::clock::{self, now_ms};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Failure, Result};
use optimist_plane::limits::charge::charge;
use optimist_plane::postgres::write::hold_off;
use optimist_plane::redis::RedisDown;
use optimist_plane::region::switch::switch_off;
use optimist_plane::region::trust::Mode;
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::limits::Limit;
use optimist_shared::quotas::Quota;
use optimist_shared::reactions::Promise;
use optimist_shared::scripts::drafts::{self as script, Saved};
use optimist_shared::session::autosave_entry;
use serde_json::json;

use crate::journal::drafts::draft::{Draft, Stored};
use crate::journal::drafts::late::Kept;
use crate::journal::drafts::quota::{self, Counted};
use crate::journal::drafts::store::{AGAIN, ATTEMPTS, Together, bring_together, read, sibling_id};
use crate::journal::drafts::version::next_version;
use crate::journal::sealing::{Sealer, What};

statements! {
    const LOCK: &str = "-- drafts::lock
select version, deleted_at is not null from drafts where user_id = $1 and id = $2 for update";

    const THROUGH: &str = "-- drafts::through
insert into drafts (user_id, id, version, overtook, sealed, sibling_of, saved_at) values ($1, $2, $3, $4, $5, $6, $7)
on conflict (user_id, id) do update set version = excluded.version, overtook = greatest(drafts.overtook, excluded.overtook),
    sealed = excluded.sealed, saved_at = excluded.saved_at";
}

/// What became of a save.
pub enum SaveOutcome {
    Saved {
        version: String,
        saved_at: DateTime<Utc>,
        promise: Promise,
    },
    /// The version that it is based on is not the current one.
    Conflict,
}

/// Saves drafts of one caller.
pub struct Saver<'a> {
    pub ctx: &'a Ctx,
    pub caller: &'a Caller,
    pub sealer: &'a Sealer,
}

impl Saver<'_> {
    /// Saves a draft in Redis, or without it in Postgres.
    pub async fn save(
        &self,
        draft: Uuid,
        base: Option<&str>,
        kept: &Kept,
        sibling_of: Option<Uuid>,
    ) -> Result<SaveOutcome> {
        let ctx = self.ctx;
        // Redis keeps milliseconds.
        let now = clock::now();
        let now = DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap_or(now);
        let version = next_version(base, now)?;
        let sealed = self.sealer.seal(What::Draft, draft, &version, &kept.to_bytes()?)?;
        let stored = Stored { version, sealed, sibling_of, saved_at: now };
        // A draft that Redis does not have may be in Postgres, or deleted there.
        if base.is_none() && sibling_of.is_none() && ctx.region.mode() == Mode::Fenced {
            match bring_together(ctx, self.caller.user, draft).await {
                Ok(Together::There | Together::Gone) => return Ok(SaveOutcome::Conflict),
                Ok(Together::None | Together::NoRedis) => {}
                // Without Postgres the draft counts as new. If it is not, the flush keeps both texts.
                Err(error) => tracing::debug!(code = error.code.as_str(), "a new draft was not looked for"),
            }
        }
        let mut counted = Counted::Before;
        for _ in 0..ATTEMPTS {
            if ctx.region.mode() == Mode::Fenced {
                match self.save_live(draft, base, &stored, counted).await {
                    Ok(Saved::Yes) => return Ok(saved(stored, Promise::Redis)),
                    // An earlier attempt's answer was lost.
                    Ok(Saved::Conflict(current)) if current == stored.version => {
                        return Ok(saved(stored, Promise::Redis));
                    }
                    Ok(Saved::Conflict(_)) => return Ok(SaveOutcome::Conflict),
                    Ok(Saved::Absent) => match bring_together(ctx, self.caller.user, draft).await? {
                        Together::There => {}
                        Together::None | Together::Gone => return Ok(SaveOutcome::Conflict),
                        Together::NoRedis => tokio::time::sleep(AGAIN).await,
                    },
                    Ok(Saved::Full) if counted == Counted::Now => return Err(Error::over(Quota::Drafts)),
                    Ok(Saved::Uncounted | Saved::Full) => {
                        counted = quota::count(ctx, self.caller.user).await;
                    }
                    Ok(Saved::Closed) => tokio::time::sleep(AGAIN).await,
                    Err(RedisDown) if ctx.region.mode() == Mode::Fenced => switch_off(ctx).await?,
                    Err(RedisDown) => {}
                }
                continue;
            }
            match self.save_through(draft, base, &stored).await {
                Ok(true) => return Ok(saved(stored, Promise::Postgres)),
                Ok(false) => return Ok(SaveOutcome::Conflict),
                Err(Error { failure: Failure::Again { .. }, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable("The cache"))
    }

    async fn save_live(
        &self,
        draft: Uuid,
        base: Option<&str>,
        stored: &Stored,
        counted: Counted,
    ) -> Result<Saved, RedisDown> {
        let version = stored.to_script();
        let call = script::Draft { user: self.caller.user, draft }.save(base, &version, counted.most());
        Ok(script::read_saved(&mut self.ctx.redis.call_one(&call).await?))
    }

    /// Saves a draft in Postgres while the region is off. Returns `false` if the base is not the current version. A base that
    /// Postgres has not seen is in a Redis that nobody reaches: the new text replaces it.
    async fn save_through(&self, draft: Uuid, base: Option<&str>, stored: &Stored) -> Result<bool> {
        let (ctx, caller) = (self.ctx, self.caller);
        let context = caller.writes("drafts::save", [caller.user]);
        transaction!(ctx, context, |tx| {
            hold_off(ctx, tx).await?;
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
            self.sealer.hold(ctx, tx).await?;
            quota::check(tx, caller.user, draft, &stored.sealed).await?;
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
            tx.event("draft.saved", json!({"draft": draft}));
            Ok(true)
        })
    }

    /// Keeps a text that lost a conflict: once for the same text and base. It is charged as a new draft.
    pub async fn keep_as_sibling(&self, draft: Uuid, base: Option<&str>, kept: &Kept) -> Result<Draft> {
        let content = &kept.content;
        let (ctx, user) = (self.ctx, self.caller.user);
        let text = self.sealer.index_bytes(&content.to_bytes()?);
        let id = sibling_id(draft, &[base.unwrap_or_default().as_bytes(), &text]);
        if let Some(known) = read(ctx, user, id).await? {
            return Draft::open(self.sealer, id, &known);
        }
        charge_sibling(ctx, user, id).await?;
        match self.save(id, None, kept, Some(draft)).await? {
            SaveOutcome::Saved { version, saved_at, .. } => Ok(Draft {
                id,
                version,
                content: content.clone(),
                sibling_of: Some(draft),
                saved_at: saved_at.into(),
            }),
            // The client sent it twice at once, or has discarded it since.
            SaveOutcome::Conflict => {
                let known = read(ctx, user, id).await?.ok_or_else(|| Error::new(ErrorCode::Conflict))?;
                Draft::open(self.sealer, id, &known)
            }
        }
    }
}

/// Charges a sibling, which the user did not ask for.
async fn charge_sibling(ctx: &Ctx, user: Uuid, draft: Uuid) -> Result<()> {
    let entry = autosave_entry(user, draft, now_ms());
    charge(ctx, vec![Limit::JournalAutosaves.row()], &user.to_string(), entry).await.map(drop)
}

fn saved(stored: Stored, promise: Promise) -> SaveOutcome {
    SaveOutcome::Saved { version: stored.version, saved_at: stored.saved_at, promise }
}
