//! The two places of drafts: Redis while they are written, Postgres a few seconds later, and how the two come together.
//!
//! A text that neither place has a successor of is never dropped: it becomes a draft of its own, a sibling. Nothing here
//! decides whether a save fits: `saving` does.

use std::time::Duration;

use ::redis::{Cmd, Value};
use chrono::DateTime;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::hash::keyed_hash;
use optimist_plane::hooks;
use optimist_plane::http::page::At;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::redis::{Items, RedisDown};
use optimist_plane::region::switch::{may_soon_vouch, switch_off};
use optimist_plane::region::trust::Mode;
use optimist_plane::statements;
use optimist_shared::ids::{Uuid, parse_hex};
use optimist_shared::keys::Key;
use optimist_shared::scripts::{Scalars as _, drafts as script};
use optimist_shared::vouching::Vouched;

use crate::journal::drafts::draft::{Stored, as_sealed};
use crate::journal::drafts::late::{self, Kept, SavedAs};
use crate::journal::pages::{PAGE_BYTES, page_of};
use crate::journal::sealing::{What, sealer};

statements! {
    const SELECT: &str = "-- drafts::select
select version, overtook, sealed, sibling_of, saved_at, deleted_at is not null from drafts where user_id = $1 and id = $2";

    const LIST: &str = "-- drafts::list
select id, version, sealed, sibling_of, saved_at, found from (
    select listed.*, count(*) over () as found,
        sum(octet_length(sealed)) over (order by saved_at desc, id desc) as through,
        row_number() over (order by saved_at desc, id desc) as place
    from (
        select id, version, sealed, sibling_of, saved_at from drafts
        where user_id = $1 and deleted_at is null
          and (saved_at, id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        order by saved_at desc, id desc limit $4) listed) sized
where through <= $5 or place = 1
order by saved_at desc, id desc";

    /// A row of the same id has the same text, and stays.
    const SIBLING: &str = "-- drafts::sibling
insert into drafts (user_id, id, version, sealed, sibling_of, saved_at) values ($1, $2, $3, $4, $5, $6)
on conflict do nothing";

    /// Removes the text and keeps its newest version, so that no flush brings it back. One statement, since a flush may insert
    /// the row at the same moment.
    const BURY: &str = "-- drafts::bury
insert into drafts as d (user_id, id, version, sealed, saved_at, deleted_at, entry_id, editor, edit)
values ($1, $2, $3, '', now(), now(), $4, $5, $6)
on conflict (user_id, id) do update
    set deleted_at = excluded.deleted_at, sealed = '', version = greatest(d.version, excluded.version collate \"C\"),
        entry_id = excluded.entry_id, editor = excluded.editor, edit = excluded.edit
    where d.deleted_at is null or (d.entry_id is null and excluded.entry_id is not null)";
}

/// Attempts while nobody vouches for Redis, and the time between two of them.
pub const ATTEMPTS: u32 = 60;
pub const AGAIN: Duration = Duration::from_millis(50);

/// A draft's row in Postgres.
enum Row {
    None,
    Gone { version: String },
    There { stored: Stored, overtook: String },
}

async fn row(ctx: &Ctx, user: Uuid, draft: Uuid) -> Result<Row> {
    let Some(row) = ctx.db.query_opt(SELECT, &[&user, &draft]).await? else { return Ok(Row::None) };
    let version: String = row.get(0);
    if row.get(5) {
        return Ok(Row::Gone { version });
    }
    let stored = Stored { version, sealed: row.get(2), sibling_of: row.get(3), saved_at: row.get(4) };
    Ok(Row::There { stored, overtook: row.get(1) })
}

/// Where a draft is, once Redis and Postgres agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// It is in Redis, and Redis is vouched for.
    There,
    None,
    Gone,
    /// Nobody vouches for Redis, or it does not answer.
    NoRedis,
}

/// Brings the draft in Redis and its row together. If each has a text that the other has not seen, Redis's becomes a sibling.
pub async fn bring_together(ctx: &Ctx, user: Uuid, draft: Uuid) -> Result<Together> {
    let in_redis = script::Draft { user, draft };
    let mut kept_elsewhere = String::new();
    for _ in 0..ATTEMPTS {
        let Some(epoch) = ctx.region.vouched() else {
            if !may_soon_vouch(ctx).await? {
                return Ok(Together::NoRedis);
            }
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let row = row(ctx, user, draft).await?;
        hooks::step("drafts.read").await;
        let version;
        let in_postgres = match &row {
            Row::None => script::Row::None,
            Row::Gone { version } => script::Row::Gone { version },
            Row::There { stored, overtook } => {
                version = stored.to_script();
                script::Row::There { version: &version, overtook }
            }
        };
        let call = in_redis.restore(epoch, &in_postgres, &kept_elsewhere);
        let Ok(mut reply) = ctx.redis.call_one(&call).await else { return Ok(Together::NoRedis) };
        match script::read_together(&mut reply) {
            script::Together::There => return Ok(Together::There),
            script::Together::None => return Ok(Together::None),
            script::Together::Gone => return Ok(Together::Gone),
            script::Together::Fork(version) => {
                let stored = Stored {
                    sealed: as_sealed(version.sealed).unwrap_or_default(),
                    version: version.version.clone(),
                    sibling_of: version.sibling_of,
                    saved_at: DateTime::from_timestamp_millis(version.saved_at_ms).unwrap_or_default(),
                };
                fork(ctx, user, draft, &stored).await?;
                kept_elsewhere = version.version;
            }
            // Redis is of another epoch than this origin knows.
            script::Together::Closed => tokio::time::sleep(AGAIN).await,
        }
    }
    Ok(Together::NoRedis)
}

/// The id of the sibling that keeps a text: the same for the same text.
pub fn sibling_id(draft: Uuid, text: &[&[u8]]) -> Uuid {
    let digest = keyed_hash(draft.as_bytes(), &[&[b"sibling" as &[u8]], text].concat());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Keeps a text as a sibling, unless the entry has it that the draft was saved as. A second call with the same text changes nothing.
pub async fn fork(ctx: &Ctx, user: Uuid, draft: Uuid, stored: &Stored) -> Result<()> {
    let sealer = sealer(ctx, user).await?;
    let opened = sealer.open(What::Draft, draft, &stored.version, &stored.sealed)?;
    // An auto-save that raced with the final save.
    let late = late::outcome(ctx, &sealer, user, draft, &Kept::from_bytes(&opened)?).await?;
    if late.is_some_and(|outcome| outcome.contains) {
        return Ok(());
    }
    let id = sibling_id(draft, &[stored.version.as_bytes()]);
    let sealed = sealer.seal(What::Draft, id, &stored.version, &opened)?;
    ctx.db.query(SIBLING, &[&user, &id, &stored.version, &sealed, &draft, &stored.saved_at]).await?;
    metrics::counter!("optimist_drafts_forked_total").increment(1);
    Ok(())
}

/// The draft's newest version, wherever that is.
pub async fn read(ctx: &Ctx, user: Uuid, draft: Uuid) -> Result<Option<Stored>> {
    for _ in 0..2 {
        if let Some(stored) = read_live(ctx, user, draft).await {
            return Ok(Some(stored));
        }
        match bring_together(ctx, user, draft).await? {
            Together::There => {}
            Together::None | Together::Gone => return Ok(None),
            Together::NoRedis => break,
        }
    }
    match row(ctx, user, draft).await? {
        Row::There { stored, .. } => Ok(Some(stored)),
        Row::None | Row::Gone { .. } => Ok(None),
    }
}

/// Reads the draft from Redis, if it is there and of the vouched epoch.
async fn read_live(ctx: &Ctx, user: Uuid, draft: Uuid) -> Option<Stored> {
    let key = Key::draft(user, draft);
    let (mut vouch, mut fields) = (Cmd::new(), Cmd::new());
    vouch.arg("GET").arg(Key::Vouch.of_partition(key.partition()));
    fields.arg("HMGET").arg(key.name()).arg(&["epoch", "version", "sealed", "saved_at", "sibling_of"]);
    let mut replies = ctx.redis.send([vouch, fields]).await.ok()?.into_iter().map(Items::new);
    let vouched = Vouched::parse(&replies.next()?.bytes())?;
    let mut fields = replies.next()?;
    if parse_hex(&fields.text()) != Some(vouched.epoch) {
        return None;
    }
    Stored::read(&mut fields)
}

/// A page of the drafts in Postgres, newest first, and whether more follow; with `after`, those after it.
pub async fn list(
    ctx: &Ctx,
    user: Uuid,
    after: Option<At<'d'>>,
    limit: usize,
) -> Result<(Vec<(Uuid, Stored)>, bool)> {
    let (time, id) = (after.map(|at| at.time), after.map(|at| at.id));
    let rows = ctx.db.query(LIST, &[&user, &time, &id, &(limit as i64 + 1), &PAGE_BYTES]).await?;
    let (rows, more) = page_of(&rows, limit);
    let drafts = rows
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
        .collect();
    Ok((drafts, more))
}

/// A draft's version in Postgres, and its sealed text; the text of a buried draft is empty.
pub async fn in_postgres(ctx: &Ctx, user: Uuid, draft: Uuid) -> Result<Option<(String, Vec<u8>)>> {
    Ok(match row(ctx, user, draft).await? {
        Row::There { stored, .. } => Some((stored.version, stored.sealed)),
        Row::Gone { version } => Some((version, Vec::new())),
        Row::None => None,
    })
}

/// The newest version in either store, whether or not Redis is trusted; empty if there is none.
pub async fn newest_version(ctx: &Ctx, user: Uuid, draft: Uuid) -> Result<String> {
    let mut get = Cmd::new();
    get.arg("HGET").arg(Key::draft(user, draft).name()).arg("version");
    let live = match ctx.redis.send([get]).await {
        Ok(mut values) => Items::new(values.pop().unwrap_or(Value::Nil)).text(),
        Err(RedisDown) => String::new(),
    };
    Ok(match row(ctx, user, draft).await? {
        Row::There { stored, .. } => live.max(stored.version),
        Row::None => live,
        // A version in Redis that is not newer than the buried one is buried with it.
        Row::Gone { version } => {
            if live > version {
                live
            } else {
                String::new()
            }
        }
    })
}

/// Deletes the draft up to this version, which is its newest; an empty version means that there is none. What it was saved as is
/// noted also then: its first save may come late. Returns whether anything was deleted or noted.
pub async fn bury(
    tx: &Tx,
    user: Uuid,
    draft: Uuid,
    version: &str,
    saved_as: Option<SavedAs>,
) -> Result<bool> {
    if version.is_empty() && saved_as.is_none() {
        return Ok(false);
    }
    let edit = saved_as.and_then(|saved_as| saved_as.edit);
    let (editor, number) = (edit.map(|edit| edit.editor), edit.map(|edit| i64::from(edit.number)));
    let entry = saved_as.map(|saved_as| saved_as.entry);
    Ok(tx.execute(BURY, &[&user, &draft, &version, &entry, &editor, &number]).await? > 0)
}

/// Removes a buried draft from Redis. If Redis does not answer, switches the region off, so that nobody reads the draft there.
pub async fn forget(ctx: &Ctx, user: Uuid, draft: Uuid) -> Result<()> {
    hooks::step("drafts.buried").await;
    match bring_together(ctx, user, draft).await? {
        Together::NoRedis if ctx.region.mode() == Mode::Fenced => switch_off(ctx).await,
        _ => Ok(()),
    }
}
