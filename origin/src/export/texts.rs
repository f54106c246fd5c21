//! The sealed texts of an export: entries with what they said before, drafts and moods. They are opened one part at a time.

use optimist_plane::error::{Error, Result};
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use serde_json::{Value, json};
use tokio_postgres::Row;

use crate::export::sections::{Part, Reading};
use crate::journal::sealing::{Sealer, What, sealer};

/// Rows of one part: the longest text is 200 KiB.
const AT_ONCE: i64 = 4;

statements! {
    const ENTRIES: &str = "-- exports::entries
select id::text as place, id, version::text, sealed,
    jsonb_build_object('entry_date', entry_date, 'created_at', created_at, 'updated_at', updated_at)
from journal_entries where user_id = $1 and id > coalesce(nullif($2, ''), '00000000-0000-0000-0000-000000000000')::uuid
order by id limit $3";

    /// A place is an entry and a version.
    const VERSIONS: &str = "-- exports::versions
select entry_id || ' ' || version, entry_id, version::text, sealed, jsonb_build_object('version', version, 'updated_at', updated_at)
from journal_entry_versions
where user_id = $1 and ($2 = '' or (entry_id, version) > (left($2, 36)::uuid, substr($2, 38)::bigint))
order by entry_id, version limit $3";

    const DRAFTS: &str = "-- exports::drafts
select id::text as place, id, version, sealed, jsonb_build_object('saved_at', saved_at, 'sibling_of', sibling_of) from drafts
where user_id = $1 and deleted_at is null and id > coalesce(nullif($2, ''), '00000000-0000-0000-0000-000000000000')::uuid
order by id limit $3";

    const MOODS: &str = "-- exports::moods
select id::text as place, id, version::text, sealed, jsonb_build_object('score', score, 'logged_at', logged_at) from moods
where user_id = $1 and id > coalesce(nullif($2, ''), '00000000-0000-0000-0000-000000000000')::uuid
order by id limit $3";
}

pub async fn entries(reading: Reading<'_, '_>) -> Result<Part> {
    read(ENTRIES, What::Entry, reading).await
}

pub async fn versions(reading: Reading<'_, '_>) -> Result<Part> {
    read(VERSIONS, What::Entry, reading).await
}

/// Those that are in Postgres: a flush brings what Redis alone has within seconds.
pub async fn drafts(reading: Reading<'_, '_>) -> Result<Part> {
    read(DRAFTS, What::Draft, reading).await
}

pub async fn moods(reading: Reading<'_, '_>) -> Result<Part> {
    read(MOODS, What::Mood, reading).await
}

async fn read(sql: &'static str, what: What, reading: Reading<'_, '_>) -> Result<Part> {
    let Reading { ctx, reader, user, after } = reading;
    let rows = reader.query(sql, &[&user, &after, &AT_ONCE]).await?;
    if rows.is_empty() {
        return Ok(Part { items: Vec::new(), after: None });
    }
    let sealer = sealer(ctx, user).await?;
    let items = rows.iter().map(|row| open(&sealer, what, row)).collect::<Result<Vec<Value>>>()?;
    let last = rows.last().filter(|_| rows.len() as i64 == AT_ONCE);
    Ok(Part { items, after: last.map(|row| row.get(0)) })
}

/// An item: what the row has in the clear, and what its text has.
fn open(sealer: &Sealer, what: What, row: &Row) -> Result<Value> {
    let (id, version): (Uuid, String) = (row.get(1), row.get(2));
    let text = sealer.open(what, id, &version, row.get(3))?;
    // serde's own message may quote the text: the log gets another.
    let text: Value = serde_json::from_slice(&text)
        .map_err(|_| Error::internal("exports", &"a sealed text is of another form"))?;
    let mut item = json!({"id": id});
    for part in [row.get::<_, Value>(4), text] {
        let (Value::Object(item), Value::Object(part)) = (&mut item, part) else {
            return Err(Error::internal("exports", &"a sealed text is no object"));
        };
        item.extend(part);
    }
    Ok(item)
}
