//! Journal entries: saved, listed by tag, mood and date, changed with their former versions kept, deleted.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, NaiveDate, Utc};
use optimist_shared::envelope::DEFAULT_LIMIT;
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::entity_tag;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use crate::journal::content::{Content, Form, MOOD};
use crate::journal::drafts::store as drafts;
use crate::journal::sealing::{Sealer, What, sealer};
use crate::journal::streaks::{self, today_of};
use optimist_plane::audit::copies;
use optimist_plane::audit::tally::{Suspect, Tally};
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{Body, check_match, json_response, require_change, tagged, to_json};
use optimist_plane::http::idempotency::{Answer, Claim, Idempotency};
use optimist_plane::http::page::{Cursor, no_query, parameters_of};
use optimist_plane::http::sent::{Day, Id, Whole, given, parse_day};
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::postgres::write::WriteContext;
use optimist_plane::request::Caller;
use optimist_plane::transaction;

pub fn routes() -> Vec<Served> {
    vec![
        on("journal.save", save),
        on("journal.list", list),
        on("journal.get", get),
        on("journal.edit", edit),
        on("journal.delete", delete),
        on("journal.tags", recent_tags),
    ]
}

/// An entry, opened.
#[derive(Serialize)]
struct Entry {
    id: Uuid,
    title: String,
    body: String,
    tags: Vec<String>,
    mood: Option<i16>,
    prompt_id: Option<Uuid>,
    entry_date: NaiveDate,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    #[serde(skip)]
    version: i64,
}

impl Entry {
    /// From: id, version, sealed, entry_date, created_at, updated_at.
    fn open(sealer: &Sealer, row: &Row) -> Result<Entry> {
        let (id, version): (Uuid, i64) = (row.get("id"), row.get("version"));
        let content = sealer.open(What::Entry, id, &version.to_string(), row.get("sealed"))?;
        let Content { title, body, tags, mood, prompt_id } = Content::from_bytes(&content)?;
        Ok(Entry {
            id,
            title,
            body,
            tags,
            mood,
            prompt_id,
            entry_date: row.get("entry_date"),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
            version,
        })
    }

    fn respond(&self, status: u16) -> Result<Response> {
        Ok(json_response(status, Some(entity_tag(&self.version.to_string(), "")), to_json(self)?))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Save {
    draft_id: Option<Id>,
    title: Option<String>,
    body: String,
    tags: Option<Vec<String>>,
    mood: Option<Whole>,
    prompt_id: Option<Id>,
    entry_date: Option<Day>,
}

/// What is named is changed; tags all at once. Null takes the mood away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    #[serde(default, deserialize_with = "given")]
    title: Option<String>,
    #[serde(default, deserialize_with = "given")]
    body: Option<String>,
    #[serde(default, deserialize_with = "given")]
    tags: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    mood: Option<Option<Whole>>,
    #[serde(default, deserialize_with = "given")]
    entry_date: Option<Day>,
}

/// `created_at` is by the clock that decided on the day: streaks compare the two.
const INSERT: &str = "-- journal::insert
insert into journal_entries (user_id, id, sealed, mood, prompt_id, entry_date, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $7)
returning id, version, sealed, entry_date, created_at, updated_at";

const SELECT: &str = "-- journal::select
select id, version, sealed, entry_date, created_at, updated_at from journal_entries where user_id = $1 and id = $2";

const LOCK: &str = "-- journal::lock
select id, version, sealed, entry_date, created_at, updated_at from journal_entries
where user_id = $1 and id = $2 for update";

const LIST: &str = "-- journal::list
select id, version, sealed, entry_date, created_at, updated_at from journal_entries e
where user_id = $1
  and ($2::bytea is null or exists (
      select from journal_tags t where t.user_id = $1 and t.tag = $2 and t.entry_id = e.id))
  and ($3::smallint is null or mood = $3)
  and ($4::date is null or entry_date >= $4) and ($5::date is null or entry_date <= $5)
  and (entry_date, id) < (coalesce($6::date, 'infinity'), coalesce($7::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by entry_date desc, id desc limit $8";

const KEEP: &str = "-- journal::keep
insert into journal_entry_versions (user_id, entry_id, version, sealed, updated_at)
select user_id, id, version, sealed, updated_at from journal_entries where user_id = $1 and id = $2";

const UPDATE: &str = "-- journal::update
update journal_entries set version = version + 1, sealed = $3, mood = $4, entry_date = $5, updated_at = $6
where user_id = $1 and id = $2
returning id, version, sealed, entry_date, created_at, updated_at";

const DELETE: &str = "-- journal::delete
delete from journal_entries where user_id = $1 and id = $2";

const UNTAG: &str = "-- journal::untag
delete from journal_tags where user_id = $1 and entry_id = $2";

const TAG: &str = "-- journal::tag
insert into journal_tags (user_id, tag, entry_id) select $1, tag, $2 from unnest($3::bytea[]) tag
on conflict do nothing";

/// By id, as good an order as the machines' clocks; `created_at` also moves with an injected one.
const RECENT: &str = "-- journal::recent
select seen, e.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, version, sealed from journal_entries where user_id = $1 order by id desc limit 50) e on true";

const PROMPT: &str = "-- journal::prompt
select from prompts where id = $1";

pub const STATEMENTS: &[&str] =
    &[INSERT, SELECT, LOCK, LIST, KEEP, UPDATE, DELETE, UNTAG, TAG, RECENT, PROMPT];

/// What a change of someone's entries makes stale.
fn touch(tx: &mut Tx, user: Uuid) {
    let parameters = Parameters { user: Some(user), ..Parameters::default() };
    tx.touch(Key::RecentTags, parameters);
    tx.touch(Key::Streak, parameters);
}

/// Refuses days that have begun nowhere yet.
fn check_date(date: NaiveDate, now: DateTime<Utc>) -> Result<NaiveDate> {
    let latest = (now + chrono::Duration::hours(14)).date_naive();
    let earliest = NaiveDate::from_ymd_opt(1900, 1, 1).unwrap_or_default();
    if (earliest..=latest).contains(&date) {
        Ok(date)
    } else {
        Err(Error::invalid("entry_date", "must be a day from 1900 to today"))
    }
}

async fn save(
    State(app): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Save>,
) -> Result<Response> {
    let idempotency = Idempotency::from_request(&headers, &caller.request, &body.bytes)?;
    let Save { draft_id, title, body, tags, mood, prompt_id, entry_date } = body.value;
    let content = Content::checked(Form::Entry, title.as_deref(), &body, tags.as_deref(), mood, prompt_id)?;
    let now = clock::now();
    let sealer = sealer(&app, caller.user).await?;
    let idempotency = idempotency.keyed(|hash| sealer.index(hash));
    let id = Uuid::now_v7();
    let sealed = sealer.seal(What::Entry, id, "1", &content.to_bytes()?)?;
    // The newest text that the draft has anywhere: no flush of it brings the draft back.
    let draft = match draft_id {
        Some(Id(draft)) => Some((draft, drafts::newest_version(&app, caller.user, draft).await?)),
        None => None,
    };
    let order = [caller.user];
    let context = WriteContext {
        name: "journal::save",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    let entry = transaction!(&app, context, |tx| {
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
        let date = match entry_date {
            Some(Day(date)) => check_date(date, now)?,
            None => today_of(tx, caller.user, now).await?,
        };
        let row = tx
            .query_one(INSERT, &[&caller.user, &id, &sealed, &content.mood, &content.prompt_id, &date, &now])
            .await?;
        index(tx, &sealer, caller.user, id, &content.tags).await?;
        if let Some((draft, version)) = &draft {
            drafts::bury(tx, caller.user, *draft, version).await?;
        }
        tx.event("journal.saved", serde_json::json!({"entry": id}));
        Entry::open(&sealer, &row)
    })?;
    if let Some((draft, _)) = draft {
        drafts::forget(&app, caller.user, draft).await?;
    }
    let mut response = entry.respond(201)?;
    if let Ok(location) = format!("/v1/journal/entries/{}", entry.id).parse() {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}

async fn index(tx: &Tx, sealer: &Sealer, user: Uuid, entry: Uuid, tags: &[String]) -> Result<()> {
    let digests: Vec<Vec<u8>> = tags.iter().map(|tag| sealer.index(tag)).collect();
    tx.execute(UNTAG, &[&user, &entry]).await?;
    tx.execute(TAG, &[&user, &entry, &digests]).await.map(drop)
}

fn entry_of(caller: &Caller) -> Result<Uuid> {
    caller.request.path.entry.ok_or_else(|| Error::new(ErrorCode::NotFound))
}

async fn get(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let row = app.db.query_opt(SELECT, &[&caller.user, &entry_of(&caller)?]).await?;
    let row = row.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let entry = Entry::open(&sealer(&app, caller.user).await?, &row)?;
    Ok(tagged(&headers, &entry.version.to_string(), "", to_json(&entry)?))
}

/// After the entry of this day and id.
#[derive(Clone, Copy, Debug, PartialEq)]
struct AtDay {
    date: NaiveDate,
    id: Uuid,
}

impl Cursor for AtDay {
    const KIND: char = 'j';

    fn render(&self) -> String {
        format!("{}:{}", self.date, self.id)
    }

    fn parse(text: &str) -> Option<AtDay> {
        let (date, id) = text.split_once(':')?;
        Some(AtDay { date: parse_day(date)?, id: optimist_shared::ids::parse_id(id)? })
    }
}

/// A query that selects entries.
#[derive(Default)]
struct Filter {
    tag: Option<String>,
    mood: Option<i16>,
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
    after: Option<AtDay>,
    limit: Option<usize>,
}

impl Filter {
    fn parse(query: Option<&str>) -> Result<Filter> {
        let mut filter = Filter::default();
        for (name, value) in parameters_of(query)? {
            let refused = |reason: &str| Error::new(ErrorCode::BadRequest).field(name.clone(), reason);
            match name.as_str() {
                "tag" => filter.tag = Some(value.to_lowercase()),
                "mood" => {
                    let mood = value.parse().ok().filter(|mood| MOOD.contains(mood));
                    filter.mood = Some(mood.ok_or_else(|| refused("must be a number from 1 to 5"))?);
                }
                "from" | "to" => {
                    let date = parse_day(&value).ok_or_else(|| refused("must be a day, as 2026-11-23"))?;
                    *(if name == "from" { &mut filter.from } else { &mut filter.to }) = Some(date);
                }
                "cursor" => {
                    let after =
                        AtDay::decode(&value).ok_or_else(|| refused("is not a cursor of this list"))?;
                    filter.after = Some(after);
                }
                "limit" => filter.limit = Some(optimist_plane::http::page::limit(&value)?),
                _ => return Err(refused("is not a parameter of this list")),
            }
        }
        Ok(filter)
    }
}

async fn list(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let filter = Filter::parse(uri.query())?;
    let sealer = sealer(&app, caller.user).await?;
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT);
    let tag = filter.tag.as_deref().map(|tag| sealer.index(tag));
    let (day, id) = (filter.after.map(|after| after.date), filter.after.map(|after| after.id));
    let rows = app
        .db
        .query(
            LIST,
            &[&caller.user, &tag, &filter.mood, &filter.from, &filter.to, &day, &id, &(limit as i64 + 1)],
        )
        .await?;
    let entries =
        rows.iter().take(limit).map(|row| Entry::open(&sealer, row)).collect::<Result<Vec<Entry>>>()?;
    let last = entries.last().filter(|_| rows.len() > limit);
    let next = last.map(|entry| AtDay { date: entry.entry_date, id: entry.id }.encode());
    let json = to_json(&serde_json::json!({"items": entries, "next": next}))?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

async fn edit(
    State(app): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Edit>,
) -> Result<Response> {
    let id = entry_of(&caller)?;
    let Edit { title, body, tags, mood, entry_date } = body.value;
    require_change(&[title.is_some(), body.is_some(), tags.is_some(), mood.is_some(), entry_date.is_some()])?;
    let now = clock::now();
    let entry_date = entry_date.map(|Day(date)| check_date(date, now)).transpose()?;
    // What is given is checked before anything is read.
    let given = Content::checked(
        Form::Entry,
        title.as_deref(),
        body.as_deref().unwrap_or("unchanged"),
        tags.as_deref(),
        mood.flatten(),
        None,
    )?;
    let sealer = sealer(&app, caller.user).await?;
    let order = [caller.user];
    let context = WriteContext {
        name: "journal::edit",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    let entry = transaction!(&app, context, |tx| {
        let row = tx.query_opt(LOCK, &[&caller.user, &id]).await?;
        let before = Entry::open(&sealer, &row.ok_or_else(|| Error::new(ErrorCode::NotFound))?)?;
        check_match(&headers, before.version)?;
        let content = Content {
            title: if title.is_some() { given.title.clone() } else { before.title },
            body: if body.is_some() { given.body.clone() } else { before.body },
            tags: if tags.is_some() { given.tags.clone() } else { before.tags },
            mood: if mood.is_some() { given.mood } else { before.mood },
            prompt_id: before.prompt_id,
        };
        let version = (before.version + 1).to_string();
        let sealed = sealer.seal(What::Entry, id, &version, &content.to_bytes()?)?;
        let date = entry_date.unwrap_or(before.entry_date);
        tx.execute(KEEP, &[&caller.user, &id]).await?;
        let row = tx.query_one(UPDATE, &[&caller.user, &id, &sealed, &content.mood, &date, &now]).await?;
        index(tx, &sealer, caller.user, id, &content.tags).await?;
        touch(tx, caller.user);
        tx.event("journal.edited", serde_json::json!({"entry": id}));
        Entry::open(&sealer, &row)
    })?;
    entry.respond(200)
}

async fn delete(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    let id = entry_of(&caller)?;
    let order = [caller.user];
    let context = WriteContext {
        name: "journal::delete",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    transaction!(&app, context, |tx| {
        touch(tx, caller.user);
        if tx.execute(DELETE, &[&caller.user, &id]).await? == 0 {
            return Err(Error::new(ErrorCode::NotFound));
        }
        tx.event("journal.deleted", serde_json::json!({"entry": id}));
        Ok(())
    })?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

/// How many tags are remembered as recent.
const RECENT_TAGS: usize = 20;

/// The newest first, sealed: Redis keeps them so.
pub async fn load_recent_tags(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    let user = parameters.user.unwrap_or_default();
    let sealer = sealer(app, user).await?;
    let rows = app.db.query(RECENT, &[&user]).await?;
    let seen = rows.first().map_or(0, |row| row.get("seen"));
    let mut recent: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| row.get::<_, Option<Uuid>>("id").is_some()) {
        let version = row.get::<_, i64>("version").to_string();
        let content = sealer.open(What::Entry, row.get("id"), &version, row.get("sealed"))?;
        for tag in Content::from_bytes(&content)?.tags {
            if recent.len() < RECENT_TAGS && !recent.contains(&tag) {
                recent.push(tag);
            }
        }
    }
    let sealed = sealer.seal(What::Tags, user, "", &to_json(&recent)?)?;
    Ok(Snapshot::new(seen, Loaded::Text(streaks::to_text(&sealed))))
}

/// Compares two lists of recent tags, each sealed anew: whether they say the same.
pub async fn compare_tags(app: &Ctx, suspect: Suspect<'_>) -> Result<Tally> {
    let Some(pair) = copies::read(app, &suspect).await? else { return Ok(Tally::PASSED_OVER) };
    let user = suspect.parameters.user.unwrap_or_default();
    let is_same = match (&pair.copy, &pair.fresh) {
        (Loaded::Text(copy), Loaded::Text(fresh)) => same_tags(app, user, copy, fresh).await?,
        _ => false,
    };
    copies::settle(app, suspect, &pair.before, is_same).await
}

async fn same_tags(app: &Ctx, user: Uuid, one: &str, other: &str) -> Result<bool> {
    let sealer = sealer(app, user).await?;
    let open = |text: &str| sealer.open(What::Tags, user, "", &streaks::from_text(text)?);
    // One that does not open is none.
    Ok(matches!((open(one), open(other)), (Ok(one), Ok(other)) if one == other))
}

async fn recent_tags(
    State(app): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response> {
    no_query(uri.query())?;
    let parameters = Parameters { user: Some(caller.user), ..Parameters::default() };
    let loaded = read_through(&app, Key::RecentTags, parameters).await?;
    let Loaded::Text(text) = &*loaded else { return Err(Error::internal("journal", &"these are not tags")) };
    let sealed = streaks::from_text(text)?;
    let opened = sealer(&app, caller.user).await?.open(What::Tags, caller.user, "", &sealed)?;
    let tags: Vec<String> =
        serde_json::from_slice(&opened).map_err(|_| Error::internal("journal", &"tags of another form"))?;
    let json = to_json(&serde_json::json!({"items": tags, "next": null}))?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_query_selects_entries_or_is_refused(
            query in "((tag|mood|from|to|cursor|limit)=(%00|[0-9]{4}-[0-9]{2}-[0-9]{2}|-?[0-9]{1,6}-1-1|[a-z0-9+%]{0,6})&?){0,4}|\\PC*",
        ) {
            match Filter::parse(Some(&query)) {
                Ok(filter) => {
                    let days = [filter.from, filter.to, filter.after.map(|after| after.date)];
                    prop_assert!(days.iter().flatten().all(|day| day.to_string().len() == 10));
                    prop_assert!(filter.tag.is_none_or(|tag| !tag.contains('\0')));
                    prop_assert!(filter.mood.is_none_or(|mood| MOOD.contains(&mood)));
                }
                Err(error) => prop_assert_eq!(error.code, ErrorCode::BadRequest),
            }
        }
    }
}
