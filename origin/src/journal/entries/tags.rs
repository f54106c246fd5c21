//! Tags of entries: Postgres finds them by their digests; Redis keeps the recent ones, sealed.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use optimist_plane::audit::copies;
use optimist_plane::audit::tally::{Suspect, Tally};
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use schemars::JsonSchema;
use serde::Serialize;

use crate::journal::content::Content;
use crate::journal::pages::PAGE_BYTES;
use crate::journal::sealing::{Sealer, What, sealer};
use crate::journal::tagging::normal_tag;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tags")]
pub struct RecentTags {
    items: Vec<String>,
    next: (),
}

statements! {
    const UNTAG: &str = "-- journal::untag
delete from journal_tags where user_id = $1 and entry_id = $2";

    const TAG: &str = "-- journal::tag
insert into journal_tags (user_id, tag, entry_id) select $1, tag, $2 from unnest($3::bytea[]) tag
on conflict do nothing";

    /// Ordered by id, which is as good an order as the machines' clocks; tests may set `created_at` ahead.
    const RECENT: &str = "-- journal::recent
select seen, e.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, version, sealed from (
        select newest.*, sum(octet_length(sealed)) over (order by id desc) as through,
            row_number() over (order by id desc) as place
        from (
            select id, version, sealed from journal_entries where user_id = $1 order by id desc limit 50) newest) sized
    where through <= $2 or place = 1) e on true
order by id desc";
}

/// Replaces an entry's tags.
pub async fn index(tx: &Tx, sealer: &Sealer, user: Uuid, entry: Uuid, tags: &[String]) -> Result<()> {
    let digests: Vec<Vec<u8>> = tags.iter().map(|tag| sealer.index(tag)).collect();
    tx.execute(UNTAG, &[&user, &entry]).await?;
    tx.execute(TAG, &[&user, &entry, &digests]).await.map(drop)
}

/// How many tags count as recent.
const RECENT_TAGS: usize = 20;

/// Loads the recent tags, newest first, sealed: Redis gets them in no other form.
pub async fn load_recent_tags(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let user = id_of(&key, Id::User)?;
    let sealer = sealer(ctx, user).await?;
    let rows = ctx.db.query(RECENT, &[&user, &PAGE_BYTES]).await?;
    let seen = rows.first().map_or(0, |row| row.get("seen"));
    let mut recent: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| row.get::<_, Option<Uuid>>("id").is_some()) {
        let version = row.get::<_, i64>("version").to_string();
        let content = sealer.open(What::Entry, row.get("id"), &version, row.get("sealed"))?;
        for tag in Content::from_bytes(&content)?.tags {
            let tag = normal_tag(&tag);
            if recent.len() < RECENT_TAGS && !recent.contains(&tag) {
                recent.push(tag);
            }
        }
    }
    let sealed = sealer.seal(What::Tags, user, "", &to_json(&recent)?)?;
    Ok(Snapshot::new(seen, Loaded::Text(STANDARD.encode(&sealed))))
}

/// Compares two lists of recent tags by what they say: each is sealed anew, so that their bytes always differ.
pub async fn compare(ctx: &Ctx, suspect: Suspect<'_>) -> Result<Tally> {
    let Some(pair) = copies::read(ctx, &suspect).await? else { return Ok(Tally::PASSED_OVER) };
    let is_same = match (&pair.copy, &pair.fresh) {
        (Loaded::Text(copy), Loaded::Text(fresh)) => {
            same_tags(ctx, id_of(&suspect.key, Id::User)?, copy, fresh).await?
        }
        _ => false,
    };
    copies::settle(ctx, suspect, &pair.before, is_same).await
}

async fn same_tags(ctx: &Ctx, user: Uuid, one: &str, other: &str) -> Result<bool> {
    let sealer = sealer(ctx, user).await?;
    let open = |text: &str| sealer.open(What::Tags, user, "", &decode(text)?);
    // A list that does not open counts as different.
    Ok(matches!((open(one), open(other)), (Ok(one), Ok(other)) if one == other))
}

/// The sealed bytes of a cached text.
fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| Error::internal("journal", &"a cached text is of another form"))
}

pub async fn recent_tags(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response> {
    no_query(uri.query())?;
    let loaded = read_through(&ctx, Key::recent_tags(caller.user)).await?;
    let Loaded::Text(text) = &*loaded else { return Err(Error::internal("journal", &"these are not tags")) };
    let sealed = decode(text)?;
    let opened = sealer(&ctx, caller.user).await?.open(What::Tags, caller.user, "", &sealed)?;
    let items: Vec<String> =
        serde_json::from_slice(&opened).map_err(|_| Error::internal("journal", &"tags of another form"))?;
    let json = to_json(&RecentTags { items, next: () })?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}
