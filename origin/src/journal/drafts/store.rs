//! Where drafts are: in Redis while they are written, in Postgres a few seconds later, and how the two come together.

use std::time::Duration;

use ::redis::{Cmd, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use optimist_shared::ids::{Partition, Uuid, parse_hex};
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::vouching::Vouched;

use crate::journal::drafts::draft::Stored;
use crate::journal::sealing::{What, sealer};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::hash::keyed_hash;
use optimist_plane::hooks;
use optimist_plane::http::page::At;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::redis::{Call, Items, RedisDown};
use optimist_plane::region::belief::Mode;
use optimist_plane::region::switch::{may_soon_vouch, switch_off};

const SELECT: &str = "-- drafts::select
select version, overtook, sealed, sibling_of, saved_at, deleted_at is not null from drafts where user_id = $1 and id = $2";

const LIST: &str = "-- drafts::list
select id, version, sealed, sibling_of, saved_at from drafts
where user_id = $1 and deleted_at is null
  and (saved_at, id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by saved_at desc, id desc limit $4";

/// Refused only by a row of the same id, which is the same text.
const SIBLING: &str = "-- drafts::sibling
insert into drafts (user_id, id, version, sealed, sibling_of, saved_at) values ($1, $2, $3, $4, $5, $6)
on conflict do nothing";

/// Nothing is left of the text; what it was the newest version of stays, so that no flush brings it back. One statement,
/// since a flush may insert the row at the same moment.
const BURY: &str = "-- drafts::bury
insert into drafts as d (user_id, id, version, sealed, saved_at, deleted_at) values ($1, $2, $3, '', now(), now())
on conflict (user_id, id) do update
    set deleted_at = now(), sealed = '', version = greatest(d.version, excluded.version collate \"C\")
    where d.deleted_at is null";

pub const STATEMENTS: &[&str] = &[SELECT, LIST, SIBLING, BURY];

/// How often one tries again, and how long apart, while nobody vouches for Redis.
pub const ATTEMPTS: u32 = 60;
pub const AGAIN: Duration = Duration::from_millis(50);

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

    pub fn keys(&self) -> Vec<&str> {
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
pub enum Together {
    /// It is in Redis, and to be believed.
    There,
    None,
    Gone,
    /// Nobody vouches for Redis, or it cannot be asked.
    NoRedis,
}

/// Brings the draft in Redis and its row together. A text that neither contains the other of is kept as a sibling.
pub async fn bring_together(app: &Ctx, user: Uuid, draft: Uuid) -> Result<Together> {
    let names = Names::of(user, draft);
    let lives = flushed_ms();
    let mut drop_version = String::new();
    for _ in 0..ATTEMPTS {
        let Some(epoch) = app.region.vouched() else {
            if !may_soon_vouch(app).await? {
                return Ok(Together::NoRedis);
            }
            tokio::time::sleep(AGAIN).await;
            continue;
        };
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
            script: &app.redis.scripts.restore,
            keys: names.keys(),
            arguments: arguments.iter().map(|text| text.as_bytes()).collect(),
        };
        let Ok(values) = app.redis.call(&[call]).await else { return Ok(Together::NoRedis) };
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

/// The id of the draft that keeps a text beside another: the same for the same text.
pub fn sibling_id(draft: Uuid, text: &[&[u8]]) -> Uuid {
    let digest = keyed_hash(draft.as_bytes(), &[&[b"sibling" as &[u8]], text].concat());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Keeps a text as a draft of its own. Done twice, it is there once.
pub async fn fork(app: &Ctx, user: Uuid, draft: Uuid, stored: &Stored) -> Result<()> {
    let sealer = sealer(app, user).await?;
    let opened = sealer.open(What::Draft, draft, &stored.version, &stored.sealed)?;
    let id = sibling_id(draft, &[stored.version.as_bytes()]);
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
    let mut values = app.redis.send([vouch, fields]).await.ok()?.into_iter();
    let vouched = Vouched::parse(&Items::new(values.next()?).bytes())?;
    let mut fields = Items::new(values.next()?);
    if parse_hex(&fields.text()) != Some(vouched.epoch) {
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

/// What Postgres has of a draft: its version, and the sealed text as Redis has it; none of one that was buried.
pub async fn in_postgres(app: &Ctx, user: Uuid, draft: Uuid) -> Result<Option<(String, String)>> {
    Ok(match row(app, user, draft).await? {
        Row::There { stored, .. } => Some((stored.version, STANDARD.encode(stored.sealed))),
        Row::Gone { version } => Some((version, String::new())),
        Row::None => None,
    })
}

/// The newest version that is anywhere, believed or not; empty if there is none.
pub async fn newest_version(app: &Ctx, user: Uuid, draft: Uuid) -> Result<String> {
    let mut get = Cmd::new();
    get.arg("HGET").arg(Names::of(user, draft).draft).arg("version");
    let live = match app.redis.send([get]).await {
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

/// Deletes the draft, up to this version, which is its newest: empty if there is none. Whether there was a draft.
pub async fn bury(tx: &Tx, user: Uuid, draft: Uuid, version: &str) -> Result<bool> {
    Ok(!version.is_empty() && tx.execute(BURY, &[&user, &draft, &version]).await? > 0)
}

/// Removes what was buried from Redis as well. If that cannot be asked, nobody is to believe it from here on.
pub async fn forget(app: &Ctx, user: Uuid, draft: Uuid) -> Result<()> {
    hooks::step("drafts.buried").await;
    match bring_together(app, user, draft).await? {
        Together::NoRedis if app.region.mode() == Mode::Fenced => switch_off(app).await,
        _ => Ok(()),
    }
}
