//! Saving, changing and deleting entries. A change of title or text keeps what it replaces: the newest twenty texts, each once. A
//! delete keeps none.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Duration, NaiveDate, Utc};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, check_match};
use optimist_plane::http::idempotency::{Answer, Claim, Idempotency};
use optimist_plane::http::sent::{Changes, Day, Given, Id, Number};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{self, Uuid};
use optimist_shared::keys::Key;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::journal::content::{Content, EntryBody, Score, Title};
use crate::journal::drafts;
use crate::journal::drafts::late::SavedAs;
use crate::journal::entries::entry::{Entry, SELECT, tag};
use crate::journal::entries::tags::index;
use crate::journal::sealing::{Sealer, What, sealer};
use crate::journal::streaks::local_of;
use crate::journal::tagging::{Tags, normal_tags};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SaveEntry")]
pub struct Save {
    draft_id: Option<Id>,
    /// The last edit of the draft's editor that is in this entry: a late save of it becomes no draft.
    edit: Option<drafts::late::Edit>,
    title: Option<Title>,
    body: EntryBody,
    tags: Option<Tags>,
    mood: Option<Score>,
    prompt_id: Option<Id>,
    entry_date: Option<Day>,
}

/// A change of the fields that it names. Tags are replaced together; null takes the mood away.
#[derive(Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "EditEntry")]
pub struct Edit {
    title: Given<Title>,
    body: Given<EntryBody>,
    tags: Given<Tags>,
    mood: Given<Option<Score>>,
    entry_date: Given<Day>,
}

statements! {
    /// `created_at` comes from the clock that decided on the day: streaks compare the two.
    const INSERT: &str = "-- journal::insert
insert into journal_entries (user_id, id, sealed, mood, prompt_id, entry_date, created_at, updated_at, utc_offset_minutes)
values ($1, $2, $3, $4, $5, $6, $7, $7, $8)
returning id, version, sealed, entry_date, created_at, updated_at";

    const LOCK: &str = "-- journal::lock
select id, version, sealed, entry_date, created_at, updated_at from journal_entries
where user_id = $1 and id = $2 for update";

    /// The row is locked. An earlier version with the same text goes, and so do those beyond the newest twenty; never more than
    /// a hundred at once. On shards the one that is kept may show already, so it is left out by name.
    const KEEP: &str = "-- journal::keep
with kept as (
    insert into journal_entry_versions (user_id, entry_id, version, sealed, updated_at, text_digest)
    select user_id, id, version, sealed, updated_at, $3 from journal_entries where user_id = $1 and id = $2
    returning version),
former as (
    select version, text_digest, count(*) filter (where text_digest is distinct from $3)
        over (order by version desc rows unbounded preceding) as place
    from journal_entry_versions where user_id = $1 and entry_id = $2 and version not in (select version from kept)
    order by version desc limit 120)
delete from journal_entry_versions where user_id = $1 and entry_id = $2 and version = any(array(
    select version from former where text_digest = $3 or place > $4))";

    const UPDATE: &str = "-- journal::update
update journal_entries set version = version + 1, sealed = $3, mood = $4, entry_date = $5, updated_at = $6
where user_id = $1 and id = $2
returning id, version, sealed, entry_date, created_at, updated_at";

    const DELETE: &str = "-- journal::delete
delete from journal_entries where user_id = $1 and id = $2";

    const PROMPT: &str = "-- journal::prompt
select from prompts where id = $1";
}

/// Former texts that an entry keeps beside the one that is replaced now.
const FORMER_KEPT: i64 = 19;

/// The keyed digest of an entry's title and text: what counts as another text.
fn text_digest(sealer: &Sealer, entry: Uuid, content: &Content) -> Vec<u8> {
    let title = (content.title.len() as u64).to_be_bytes();
    sealer.index_bytes(
        &[entry.as_bytes(), &title[..], content.title.as_bytes(), content.body.as_bytes()].concat(),
    )
}

/// Names the keys that a change of a user's entries makes stale.
fn touch(tx: &mut Tx, user: Uuid) {
    tx.touch(Key::recent_tags(user));
    tx.touch(Key::streak(user));
}

/// Refuses days that have not begun anywhere on earth yet.
fn check_date(date: NaiveDate, now: DateTime<Utc>) -> Result<NaiveDate> {
    let latest = (now + Duration::hours(14)).date_naive();
    let earliest = NaiveDate::from_ymd_opt(1900, 1, 1).unwrap_or_default();
    if (earliest..=latest).contains(&date) {
        Ok(date)
    } else {
        Err(Error::invalid("entry_date", format!("must be a day from {earliest} to {latest}")))
    }
}

pub async fn save(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Save>,
) -> Result<Response> {
    let idempotency = Idempotency::from_request(&headers, &caller.request, &body.bytes)?;
    let Save { draft_id, edit, title, body, tags, mood, prompt_id, entry_date } = body.value;
    let content = Content {
        title: title.unwrap_or_default().into(),
        body: body.into(),
        tags: tags.unwrap_or_default().0,
        mood: mood.map(|Number(mood)| mood),
        prompt_id: prompt_id.map(|Id(prompt)| prompt),
    };
    let now = clock::now();
    let sealer = sealer(&ctx, caller.user).await?;
    let idempotency = idempotency.keyed(|hash| sealer.index(hash));
    let id = Uuid::now_v7();
    let sealed = sealer.seal(What::Entry, id, "1", &content.to_bytes()?)?;
    // The draft is buried at its newest version in either store: no flush brings it back.
    let draft = match draft_id {
        Some(Id(draft)) => Some((draft, drafts::store::newest_version(&ctx, caller.user, draft).await?)),
        None => None,
    };
    let context = caller.writes("journal::save", [caller.user]);
    let entry = transaction!(&ctx, context, |tx| {
        let claim = idempotency.claim(tx, &caller, Answer { status: 201, resource: id }).await?;
        touch(tx, caller.user);
        if let Claim::Repeated(before) = claim {
            let row = tx.query_opt(SELECT, &[&caller.user, &before.resource]).await?;
            return Entry::open(&sealer, &row.ok_or_else(|| Error::new(ErrorCode::NotFound))?);
        }
        if let Some(prompt) = content.prompt_id {
            let known = tx.query_opt(PROMPT, &[&prompt]).await?;
            known.ok_or_else(|| Error::invalid("prompt_id", "is not a prompt"))?;
        }
        let local = local_of(tx, caller.user, now).await?;
        let date = match entry_date {
            Some(Day(date)) => check_date(date, now)?,
            None => local.day,
        };
        let row = tx
            .query_one(
                INSERT,
                &[&caller.user, &id, &sealed, &content.mood, &content.prompt_id, &date, &now, &local.ahead],
            )
            .await?;
        sealer.hold(&ctx, tx).await?;
        index(tx, &sealer, caller.user, id, &content.tags).await?;
        if let Some((draft, version)) = &draft {
            let saved_as = SavedAs { entry: id, edit };
            drafts::store::bury(tx, caller.user, *draft, version, Some(saved_as)).await?;
        }
        tx.event("journal.saved", json!({"entry": id}));
        Entry::open(&sealer, &row)
    })?;
    if let Some((draft, _)) = draft {
        drafts::store::forget(&ctx, caller.user, draft).await?;
    }
    let mut response = entry.respond(201)?;
    if let Ok(location) = format!("/v1/journal/entries/{}", entry.id).parse() {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}

pub async fn edit(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Changes<Edit>>,
) -> Result<Response> {
    let id = caller.request.id(ids::Id::Entry)?;
    let Changes(Edit { title, body, tags, mood, entry_date }) = body.value;
    let now = clock::now();
    let entry_date = entry_date.0.map(|Day(date)| check_date(date, now)).transpose()?;
    let sealer = sealer(&ctx, caller.user).await?;
    let context = caller.writes("journal::edit", [caller.user]);
    let entry = transaction!(&ctx, context, |tx| {
        let row = tx.query_opt(LOCK, &[&caller.user, &id]).await?;
        let before = Entry::open(&sealer, &row.ok_or_else(|| Error::new(ErrorCode::NotFound))?)?;
        check_match(&headers, &tag(before.version))?;
        let was = before.content;
        let digest = text_digest(&sealer, id, &was);
        let content = Content {
            title: title.0.clone().map_or(was.title, String::from),
            body: body.0.clone().map_or(was.body, String::from),
            tags: tags.0.clone().map_or_else(|| normal_tags(&was.tags), |Tags(tags)| tags),
            mood: mood.0.map_or(was.mood, |mood| mood.map(|Number(mood)| mood)),
            prompt_id: was.prompt_id,
        };
        let version = (before.version + 1).to_string();
        let sealed = sealer.seal(What::Entry, id, &version, &content.to_bytes()?)?;
        let replaced = Some(digest).filter(|digest| *digest != text_digest(&sealer, id, &content));
        let date = entry_date.unwrap_or(before.entry_date);
        if let Some(digest) = replaced {
            tx.execute(KEEP, &[&caller.user, &id, &digest, &FORMER_KEPT]).await?;
        }
        sealer.hold(&ctx, tx).await?;
        let row = tx.query_one(UPDATE, &[&caller.user, &id, &sealed, &content.mood, &date, &now]).await?;
        index(tx, &sealer, caller.user, id, &content.tags).await?;
        touch(tx, caller.user);
        tx.event("journal.edited", json!({"entry": id}));
        Entry::open(&sealer, &row)
    })?;
    entry.respond(200)
}

pub async fn delete(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap) -> Result<Response> {
    let id = caller.request.id(ids::Id::Entry)?;
    let context = caller.writes("journal::delete", [caller.user]);
    transaction!(&ctx, context, |tx| {
        touch(tx, caller.user);
        if headers.contains_key("if-match") {
            let row = tx.query_opt(LOCK, &[&caller.user, &id]).await?;
            let row = row.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
            check_match(&headers, &tag(row.get("version")))?;
        }
        if tx.execute(DELETE, &[&caller.user, &id]).await? == 0 {
            return Err(Error::new(ErrorCode::NotFound));
        }
        tx.event("journal.deleted", json!({"entry": id}));
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
