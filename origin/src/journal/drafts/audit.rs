//! Compares drafts: a flushed draft must be the one that Postgres has; any other must be among those that wait for Postgres.

use ::redis::Cmd;
use optimist_plane::audit::tally::{Suspect, Tally};
use optimist_plane::cache::value::id_of;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::redis::Items;
use optimist_shared::ids::{Id, parse_hex};
use optimist_shared::keys::Key;
use optimist_shared::scripts::Scalars as _;
use optimist_shared::scripts::drafts::Draft;
use optimist_shared::vouching::Vouched;

use crate::journal::drafts::draft::as_sealed;
use crate::journal::drafts::store::in_postgres;

/// What Redis has of a draft.
#[derive(PartialEq, Eq)]
struct Live {
    version: String,
    sealed: Vec<u8>,
    is_flushed: bool,
    waits: bool,
}

/// `None` if nobody trusts it.
async fn live(ctx: &Ctx, suspect: &Suspect<'_>, draft: Draft) -> Option<Live> {
    let partition = suspect.key.partition();
    let (mut vouch, mut fields, mut waits) = (Cmd::new(), Cmd::new(), Cmd::new());
    vouch.arg("GET").arg(Key::Vouch.of_partition(partition));
    fields.arg("HMGET").arg(suspect.name).arg(&["epoch", "version", "sealed", "flushed"]);
    waits.arg("ZSCORE").arg(Key::DirtyDrafts.of_partition(partition)).arg(draft.member());
    let mut replies = ctx.redis.send([vouch, fields, waits]).await.ok()?.into_iter().map(Items::new);
    let vouched = Vouched::parse(&replies.next()?.bytes())?;
    let mut fields = replies.next()?;
    let is_trusted = parse_hex(&fields.text()) == Some(vouched.epoch);
    let (version, sealed) = (fields.text(), as_sealed(fields.bytes()).unwrap_or_default());
    let is_flushed = fields.text() == "1";
    let waits = !replies.next()?.text().is_empty();
    (is_trusted && !version.is_empty()).then_some(Live { version, sealed, is_flushed, waits })
}

pub async fn compare(ctx: &Ctx, suspect: Suspect<'_>) -> Result<Tally> {
    let draft = Draft { user: id_of(&suspect.key, Id::User)?, draft: id_of(&suspect.key, Id::Draft)? };
    let Some(before) = live(ctx, &suspect, draft).await else { return Ok(Tally::PASSED_OVER) };
    // A draft is buried a moment before it is removed from Redis.
    let mut is_buried = false;
    let is_same = if before.is_flushed {
        let stored = in_postgres(ctx, draft.user, draft.draft).await?;
        is_buried = stored.as_ref().is_some_and(|(_, sealed)| sealed.is_empty());
        stored.is_some_and(|(version, sealed)| version == before.version && sealed == before.sealed)
    } else {
        before.waits
    };
    if is_same {
        return Ok(Tally::SAME);
    }
    if live(ctx, &suspect, draft).await.as_ref() != Some(&before) {
        return Ok(Tally::PASSED_OVER);
    }
    if suspect.repair {
        repair(ctx, &suspect, draft, &before).await;
    }
    Ok(if is_buried { Tally::STALE } else { Tally::CONFLICT })
}

/// Drops a draft that Postgres has otherwise, or lets it wait for Postgres. Without Redis the next round finds it again.
async fn repair(ctx: &Ctx, suspect: &Suspect<'_>, draft: Draft, found: &Live) {
    if found.is_flushed {
        let _ = ctx.redis.call_one(&draft.drop_flushed(&found.version)).await;
        return;
    }
    let mut wait = Cmd::new();
    wait.arg("ZADD").arg(Key::DirtyDrafts.of_partition(suspect.key.partition())).arg(0).arg(draft.member());
    let _ = ctx.redis.send([wait]).await;
}
