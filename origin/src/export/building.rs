//! The jobs: one writes what people have asked for, piece by piece, the other removes what is old.
//!
//! A piece and the place behind it are written together. Whoever kills this loses the piece under way, and the next run writes it.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hooks;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use serde_json::{Value, json};
use tokio_postgres::Row;

use crate::export::pieces::PieceKey;
use crate::export::sections::{Reading, SECTIONS};
use crate::journal::sealing::sealer;

/// Exports that a run takes further. One that fails does not hold up the others.
const AT_ONCE: i64 = 20;
/// How long a run lasts: other jobs of the region wait for it.
const LASTS: Duration = Duration::from_secs(5);
/// Bytes of a piece, unless its last part is longer: a megabyte at most.
const PIECE: usize = 256 * 1024;
/// Pieces of an export. One of somebody who has more than a gigabyte says that it is cut.
const MOST: i32 = 1_000;
/// Pieces that one statement removes.
const REMOVED: i64 = 100;

statements! {
    const WAITING: &str = "-- exports::waiting
select user_id, id, requested_at, sealed_key, section, after, pieces, items from exports
where ready_at is null order by requested_at limit $1";

    /// Adds a piece, unless another run has, or the person has no export any more; `$8` says that it is the last.
    const WRITE: &str = "-- exports::write
with written as (
    update exports set section = $4, after = $5, pieces = pieces + 1, items = $6,
        ready_at = case when $8 then now() end
    where user_id = $1 and id = $2 and pieces = $3 returning id)
insert into export_pieces (user_id, export_id, number, sealed) select $1, $2, $3, $7 from written";

    /// Exports that have been ready for a day, or were not within a week.
    const OLD: &str = "-- exports::old
select user_id, id from exports
where ready_at < now() - interval '1 day' or (ready_at is null and requested_at < now() - interval '7 days') limit $1";

    const REMOVE_PIECES: &str = "-- exports::remove_pieces
delete from export_pieces where user_id = $1 and export_id = $2 and number in (
    select number from export_pieces where user_id = $1 and export_id = $2 order by number limit $3)";

    const REMOVE: &str = "-- exports::remove
delete from exports where user_id = $1 and id = $2";
}

/// An export, and how far it is.
struct Unfinished {
    user: Uuid,
    id: Uuid,
    requested_at: DateTime<Utc>,
    sealed_key: Vec<u8>,
    section: usize,
    after: String,
    pieces: i32,
    items: i64,
}

impl Unfinished {
    fn from_row(row: &Row) -> Unfinished {
        Unfinished {
            user: row.get(0),
            id: row.get(1),
            requested_at: row.get(2),
            sealed_key: row.get(3),
            section: usize::try_from(row.get::<_, i16>(4)).unwrap_or_default(),
            after: row.get(5),
            pieces: row.get(6),
            items: row.get(7),
        }
    }
}

/// Takes waiting exports further. Returns how many it has ended.
pub async fn run(ctx: &Ctx) -> Result<u64> {
    let until = Instant::now() + LASTS;
    let (mut ended, mut failure) = (0, None);
    for row in ctx.db.query(WAITING, &[&AT_ONCE]).await? {
        let mut export = Unfinished::from_row(&row);
        while Instant::now() < until {
            match go_on(ctx, &mut export, until).await {
                Ok(Progress::Some) => continue,
                Ok(Progress::Waits) => {}
                Ok(Progress::Done) => ended += 1,
                // It holds up nobody else.
                Err(error) => failure = Some(error),
            }
            break;
        }
    }
    failure.map_or(Ok(ended), Err)
}

enum Progress {
    Some,
    /// For replicas to catch up, or another run has taken it further.
    Waits,
    Done,
}

/// Writes the next piece: what is read until it is long enough, or time is up.
async fn go_on(ctx: &Ctx, export: &mut Unfinished, until: Instant) -> Result<Progress> {
    let (user, mut lines) = (export.user, Lines::default());
    if export.pieces == 0 {
        lines.add(
            "export",
            json!({"id": export.id, "user_id": user, "requested_at": export.requested_at, "form": 1}),
        )?;
    }
    while let Some(section) = SECTIONS.get(export.section) {
        let mut reader = ctx.reader();
        let reading = Reading { ctx, reader: &mut reader, user, after: &export.after };
        let part = section.read(reading).await?;
        if reader.as_of()? < export.requested_at {
            return Ok(Progress::Waits);
        }
        for item in part.items {
            lines.add(section.name, item)?;
        }
        match part.after {
            Some(after) => export.after = after,
            None => (export.section, export.after) = (export.section + 1, String::new()),
        }
        if lines.json.len() >= PIECE || Instant::now() >= until {
            break;
        }
    }
    if let Some(section) = SECTIONS.get(export.section).filter(|_| export.pieces + 1 >= MOST) {
        lines.add("cut", json!({"section": section.name}))?;
        export.section = SECTIONS.len();
    }
    let is_last = export.section >= SECTIONS.len();
    if is_last {
        lines.add("end", json!({"items": export.items + lines.count}))?;
    }
    export.items += lines.count;
    let is_written = write(ctx, export, &lines.json, is_last).await?;
    export.pieces += 1;
    hooks::step("exports.written").await;
    Ok(match (is_written, is_last) {
        (false, _) => Progress::Waits,
        (true, true) => Progress::Done,
        (true, false) => Progress::Some,
    })
}

async fn write(ctx: &Ctx, export: &Unfinished, json: &[u8], is_last: bool) -> Result<bool> {
    let Unfinished { user, id, section, after, pieces, items, .. } = export;
    let key = PieceKey::open(&sealer(ctx, *user).await?, *id, &export.sealed_key)?;
    let sealed = key.seal_piece(*id, *pieces, json)?;
    let section = i16::try_from(*section).map_err(|error| Error::internal("exports", &error))?;
    let tx = Tx::begin(&ctx.db).await?;
    let written = tx.execute(WRITE, &[user, id, pieces, &section, after, items, &sealed, &is_last]).await;
    Ok(tx.end(written).await? > 0)
}

/// Lines of JSON.
#[derive(Default)]
struct Lines {
    json: Vec<u8>,
    count: i64,
}

impl Lines {
    fn add(&mut self, section: &str, item: Value) -> Result<()> {
        let line = json!({"section": section, "item": item});
        serde_json::to_writer(&mut self.json, &line).map_err(|error| Error::internal("exports", &error))?;
        self.json.push(b'\n');
        self.count += 1;
        Ok(())
    }
}

/// Removes old exports, their pieces first. Returns how many it has removed.
pub async fn clean(ctx: &Ctx) -> Result<u64> {
    let mut removed = 0;
    for row in ctx.db.query(OLD, &[&AT_ONCE]).await? {
        let (user, id): (Uuid, Uuid) = (row.get(0), row.get(1));
        loop {
            let tx = Tx::begin(&ctx.db).await?;
            let some = tx.execute(REMOVE_PIECES, &[&user, &id, &REMOVED]).await;
            if tx.end(some).await? < REMOVED.cast_unsigned() {
                break;
            }
        }
        ctx.db.query(REMOVE, &[&user, &id]).await?;
        removed += 1;
    }
    Ok(removed)
}
