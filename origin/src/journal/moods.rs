//! Moods: a score in the clear, so that trends can be counted; emotions, note and tags sealed.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Duration, Utc};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, check_match, json_response, tagged, to_json};
use optimist_plane::http::idempotency::{Answer, Claim, Idempotency};
use optimist_plane::http::page::{At, List, answer_page, no_query, page};
use optimist_plane::http::sent::{Changes, Given, Moment, Number, Shown, Text};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::{FIRST_ID, ID, link};
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::entity_tag;
use optimist_shared::ids::{Id, Uuid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;

use crate::journal::content::Score;
use crate::journal::pages::{PAGE_BYTES, PAGE_NOTE, page_of};
use crate::journal::sealing::{Sealer, What, sealer};
use crate::journal::tagging::{ShownTags, Tags};

pub fn routes() -> Vec<Served> {
    const NEW_MOOD: &[(&str, &str)] = &[("mood", ID)];
    vec![
        on("mood.log", log)
            .says("Log a mood.")
            .takes::<Log>(json!({"score": 4, "emotions": ["calm"]}))
            .answers::<Mood>(201)
            .tagged()
            .location()
            .idempotent()
            .links([link("mood.get", NEW_MOOD), link("mood.edit", NEW_MOOD), link("mood.delete", NEW_MOOD)]),
        on("mood.list", list)
            .says("The caller's moods, newest first.")
            .notes(PAGE_NOTE)
            .answers::<List<Mood>>(200)
            .tagged()
            .pages("cursor")
            .links([link("mood.get", &[("mood", FIRST_ID)])]),
        on("mood.get", get).says("A mood.").answers::<Mood>(200).tagged(),
        on("mood.edit", edit)
            .says("Change a mood.")
            .takes::<Changes<Edit>>(json!({"score": 3}))
            .answers::<Mood>(200)
            .tagged(),
        on("mood.delete", delete).says("Delete a mood.").conditional(),
    ]
}

type Note = Text<0, 2_000>;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Sealed {
    #[schemars(with = "ShownTags")]
    emotions: Vec<String>,
    #[schemars(with = "Shown<Note>")]
    note: String,
    #[schemars(with = "ShownTags")]
    tags: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Mood {
    id: Uuid,
    #[schemars(with = "Score")]
    score: i16,
    #[serde(flatten)]
    sealed: Sealed,
    logged_at: Time,
    #[serde(skip)]
    version: i64,
}

impl Mood {
    /// Opens a row of `id, version, score, sealed, logged_at`.
    fn open(sealer: &Sealer, row: &Row) -> Result<Mood> {
        let id: Uuid = row.get("id");
        let version: i64 = row.get("version");
        let opened = sealer.open(What::Mood, id, &version.to_string(), row.get("sealed"))?;
        let sealed = serde_json::from_slice(&opened)
            .map_err(|_| Error::internal("moods", &"a sealed mood is of another form"))?;
        Ok(Mood { id, score: row.get("score"), sealed, logged_at: row.get("logged_at"), version })
    }

    fn respond(&self, status: u16) -> Result<Response> {
        Ok(json_response(status, Some(tag(self.version)), to_json(self)?))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LogMood")]
struct Log {
    score: Score,
    emotions: Option<Tags>,
    note: Option<Note>,
    tags: Option<Tags>,
    logged_at: Option<Moment>,
}

/// A change of the fields that it names. Emotions and tags are replaced together.
#[derive(Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "EditMood")]
struct Edit {
    score: Given<Score>,
    emotions: Given<Tags>,
    note: Given<Note>,
    tags: Given<Tags>,
    logged_at: Given<Moment>,
}

/// The entity tag of a mood at this version.
fn tag(version: i64) -> String {
    entity_tag(&version.to_string(), "")
}

/// Refuses times that are yet to come. The client's clock may be a little ahead; and nobody remembers moods from before the Unix
/// epoch.
fn check_time(Moment(time): Moment, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    if time > now + Duration::minutes(5) || time.timestamp() < 0 {
        return Err(Error::invalid("logged_at", "must be a time from 1970 to now"));
    }
    Ok(time)
}

statements! {
    const INSERT: &str = "-- moods::insert
insert into moods (user_id, id, score, sealed, logged_at, created_at) values ($1, $2, $3, $4, $5, $6)
returning id, version, score, sealed, logged_at";

    const SELECT: &str = "-- moods::select
select id, version, score, sealed, logged_at from moods where user_id = $1 and id = $2";

    const LOCK: &str = "-- moods::lock
select id, version, score, sealed, logged_at from moods where user_id = $1 and id = $2 for update";

    const UPDATE: &str = "-- moods::update
update moods set version = version + 1, score = $3, sealed = $4, logged_at = $5 where user_id = $1 and id = $2
returning id, version, score, sealed, logged_at";

    const DELETE: &str = "-- moods::delete
delete from moods where user_id = $1 and id = $2";

    const LIST: &str = "-- moods::list
select id, version, score, sealed, logged_at, found from (
    select listed.*, count(*) over () as found,
        sum(octet_length(sealed)) over (order by logged_at desc, id desc) as through,
        row_number() over (order by logged_at desc, id desc) as place
    from (
        select id, version, score, sealed, logged_at from moods
        where user_id = $1
          and (logged_at, id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        order by logged_at desc, id desc limit $4) listed) sized
where through <= $5 or place = 1
order by logged_at desc, id desc";
}

async fn log(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Log>,
) -> Result<Response> {
    let idempotency = Idempotency::from_request(&headers, &caller.request, &body.bytes)?;
    let Log { score: Number(score), emotions, note, tags, logged_at } = body.value;
    let sealed = Sealed {
        emotions: emotions.unwrap_or_default().0,
        note: note.unwrap_or_default().into(),
        tags: tags.unwrap_or_default().0,
    };
    let now = clock::now();
    let logged_at = logged_at.map_or(Ok(now), |time| check_time(time, now))?;
    let sealer = sealer(&ctx, caller.user).await?;
    let idempotency = idempotency.keyed(|hash| sealer.index(hash));
    let id = Uuid::now_v7();
    let sealed = sealer.seal(What::Mood, id, "1", &to_json(&sealed)?)?;
    let context = caller.writes("moods::log", [caller.user]);
    let mood = transaction!(&ctx, context, |tx| {
        let claim = idempotency.claim(tx, &caller, Answer { status: 201, resource: id }).await?;
        let row = match claim {
            Claim::First => {
                sealer.hold(&ctx, tx).await?;
                tx.event("mood.logged", json!({"mood": id}));
                Some(tx.query_one(INSERT, &[&caller.user, &id, &score, &sealed, &logged_at, &now]).await?)
            }
            Claim::Repeated(before) => tx.query_opt(SELECT, &[&caller.user, &before.resource]).await?,
        };
        Mood::open(&sealer, &row.ok_or_else(|| Error::new(ErrorCode::NotFound))?)
    })?;
    let mut response = mood.respond(201)?;
    if let Ok(location) = format!("/v1/mood/{}", mood.id).parse() {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}

async fn get(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let row = ctx.db.query_opt(SELECT, &[&caller.user, &caller.request.id(Id::Mood)?]).await?;
    let row = row.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let mood = Mood::open(&sealer(&ctx, caller.user).await?, &row)?;
    Ok(tagged(&headers, &mood.version.to_string(), "", to_json(&mood)?))
}

async fn edit(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Changes<Edit>>,
) -> Result<Response> {
    let id = caller.request.id(Id::Mood)?;
    let Changes(Edit { score, emotions, note, tags, logged_at }) = body.value;
    let now = clock::now();
    let logged_at = logged_at.0.map(|time| check_time(time, now)).transpose()?;
    let sealer = sealer(&ctx, caller.user).await?;
    let context = caller.writes("moods::edit", [caller.user]);
    let mood = transaction!(&ctx, context, |tx| {
        let row = tx.query_opt(LOCK, &[&caller.user, &id]).await?;
        let before = Mood::open(&sealer, &row.ok_or_else(|| Error::new(ErrorCode::NotFound))?)?;
        check_match(&headers, &tag(before.version))?;
        let was = before.sealed;
        let sealed = Sealed {
            emotions: emotions.0.clone().map_or(was.emotions, |Tags(emotions)| emotions),
            note: note.0.clone().map_or(was.note, String::from),
            tags: tags.0.clone().map_or(was.tags, |Tags(tags)| tags),
        };
        let version = (before.version + 1).to_string();
        let sealed = sealer.seal(What::Mood, id, &version, &to_json(&sealed)?)?;
        let score = score.0.as_ref().map_or(before.score, |Number(score)| *score);
        sealer.hold(&ctx, tx).await?;
        let logged_at = logged_at.unwrap_or(before.logged_at.0);
        let row = tx.query_one(UPDATE, &[&caller.user, &id, &score, &sealed, &logged_at]).await?;
        tx.event("mood.edited", json!({"mood": id}));
        Mood::open(&sealer, &row)
    })?;
    mood.respond(200)
}

async fn delete(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap) -> Result<Response> {
    let id = caller.request.id(Id::Mood)?;
    let context = caller.writes("moods::delete", [caller.user]);
    transaction!(&ctx, context, |tx| {
        let row = tx.query_opt(LOCK, &[&caller.user, &id]).await?;
        let row = row.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
        check_match(&headers, &tag(row.get("version")))?;
        tx.execute(DELETE, &[&caller.user, &id]).await?;
        tx.event("mood.deleted", json!({"mood": id}));
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'o'>>(uri.query(), "cursor")?;
    let sealer = sealer(&ctx, caller.user).await?;
    let (time, id) = (page.after.map(|at| at.time), page.after.map(|at| at.id));
    let rows = ctx.db.query(LIST, &[&caller.user, &time, &id, &(page.limit as i64 + 1), &PAGE_BYTES]).await?;
    let (rows, more) = page_of(&rows, page.limit);
    let moods = rows.iter().map(|row| Mood::open(&sealer, row)).collect::<Result<Vec<Mood>>>()?;
    let position = |mood: &Mood| At::<'o'> { time: mood.logged_at.0, id: mood.id };
    answer_page(&headers, moods, more, position)
}
