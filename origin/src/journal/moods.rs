//! Moods: a score in the clear, so that trends can be counted; emotions, note and tags sealed.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::{DateTime, Duration, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use crate::journal::content::{MOOD, NOTE, checked_tags};
use crate::journal::sealing::{Sealer, What, sealer};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{Body, json_response, tagged, text, to_json};
use optimist_plane::http::idempotency::{Answer, Claim, Idempotency};
use optimist_plane::http::page::{At, Cursor, page};
use optimist_plane::http::sent::{Moment, Whole};
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::write::WriteContext;
use optimist_plane::request::Caller;
use optimist_plane::transaction;

pub fn routes() -> Vec<Served> {
    vec![on("mood.log", log), on("mood.list", list)]
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    emotions: Vec<String>,
    note: String,
    tags: Vec<String>,
}

#[derive(Serialize)]
struct Mood {
    id: Uuid,
    score: i16,
    #[serde(flatten)]
    sealed: Sealed,
    logged_at: DateTime<Utc>,
}

impl Mood {
    /// From: id, score, sealed, logged_at.
    fn open(sealer: &Sealer, row: &Row) -> Result<Mood> {
        let id: Uuid = row.get("id");
        let opened = sealer.open(What::Mood, id, "1", row.get("sealed"))?;
        let sealed = serde_json::from_slice(&opened)
            .map_err(|_| Error::internal("moods", &"a sealed mood is of another form"))?;
        Ok(Mood { id, score: row.get("score"), sealed, logged_at: row.get("logged_at") })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    score: Whole,
    emotions: Option<Vec<String>>,
    note: Option<String>,
    tags: Option<Vec<String>>,
    logged_at: Option<Moment>,
}

const INSERT: &str = "-- moods::insert
insert into moods (user_id, id, score, sealed, logged_at, created_at) values ($1, $2, $3, $4, $5, $6)
returning id, score, sealed, logged_at";

const SELECT: &str = "-- moods::select
select id, score, sealed, logged_at from moods where user_id = $1 and id = $2";

const LIST: &str = "-- moods::list
select id, score, sealed, logged_at from moods
where user_id = $1
  and (logged_at, id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by logged_at desc, id desc limit $4";

pub const STATEMENTS: &[&str] = &[INSERT, SELECT, LIST];

async fn log(
    State(app): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Log>,
) -> Result<Response> {
    let idempotency = Idempotency::from_request(&headers, &caller.request, &body.bytes)?;
    let Log { score: Whole(score), emotions, note, tags, logged_at } = body.value;
    if !MOOD.contains(&score) {
        return Err(Error::invalid("score", "must be a number from 1 to 5"));
    }
    let sealed = Sealed {
        emotions: checked_tags("emotions", emotions.as_deref().unwrap_or_default())?,
        note: text("note", note.as_deref().unwrap_or_default(), NOTE, true)?,
        tags: checked_tags("tags", tags.as_deref().unwrap_or_default())?,
    };
    let now = clock::now();
    let logged_at = logged_at.map_or(now, |Moment(time)| time);
    // A clock may be ahead by a little; and nobody remembers moods of before the computer.
    if logged_at > now + Duration::minutes(5) || logged_at.timestamp() < 0 {
        return Err(Error::invalid("logged_at", "must be a time from 1970 to now"));
    }
    let sealer = sealer(&app, caller.user).await?;
    let idempotency = idempotency.keyed(|hash| sealer.index(hash));
    let id = Uuid::now_v7();
    let sealed = sealer.seal(What::Mood, id, "1", &to_json(&sealed)?)?;
    let order = [caller.user];
    let context =
        WriteContext { name: "moods::log", request: &caller.request, actor: caller.actor(), order: &order };
    let mood = transaction!(&app, context, |tx| {
        let claim = idempotency.claim(tx, &caller, Answer { status: 201, resource: id }).await?;
        let row = match claim {
            Claim::First => {
                tx.event("mood.logged", serde_json::json!({"mood": id}));
                Some(tx.query_one(INSERT, &[&caller.user, &id, &score, &sealed, &logged_at, &now]).await?)
            }
            Claim::Repeated(before) => tx.query_opt(SELECT, &[&caller.user, &before.resource]).await?,
        };
        Mood::open(&sealer, &row.ok_or_else(|| Error::new(ErrorCode::NotFound))?)
    })?;
    Ok(json_response(201, None, to_json(&mood)?))
}

async fn list(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'o'>>(uri.query(), "cursor")?;
    let sealer = sealer(&app, caller.user).await?;
    let (time, id) = (page.after.map(|at| at.time), page.after.map(|at| at.id));
    let rows = app.db.query(LIST, &[&caller.user, &time, &id, &(page.limit as i64 + 1)]).await?;
    let moods =
        rows.iter().take(page.limit).map(|row| Mood::open(&sealer, row)).collect::<Result<Vec<Mood>>>()?;
    let last = moods.last().filter(|_| rows.len() > page.limit);
    let next = last.map(|mood| At::<'o'> { time: mood.logged_at, id: mood.id }.encode());
    let json = to_json(&serde_json::json!({"items": moods, "next": next}))?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}
