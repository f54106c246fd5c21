//! Moods: a score in the clear, so that trends can be counted; emotions, note and tags sealed.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::Duration;
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::idempotency::{Answer, Claim, Idempotency};
use optimist_plane::http::page::{At, List, answer_page, page};
use optimist_plane::http::sent::{Moment, Number, Shown, Text};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;

use crate::journal::content::Score;
use crate::journal::pages::{PAGE_BYTES, PAGE_NOTE, page_of};
use crate::journal::sealing::{Sealer, What, sealer};
use crate::journal::tagging::{ShownTags, Tags};

pub fn routes() -> Vec<Served> {
    vec![
        on("mood.log", log)
            .says("Log a mood.")
            .takes::<Log>(json!({"score": 4, "emotions": ["calm"]}))
            .answers::<Mood>(201)
            .idempotent(),
        on("mood.list", list)
            .says("The caller's moods, newest first.")
            .notes(PAGE_NOTE)
            .answers::<List<Mood>>(200)
            .tagged()
            .pages("cursor"),
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
}

impl Mood {
    /// Opens a row of `id, score, sealed, logged_at`.
    fn open(sealer: &Sealer, row: &Row) -> Result<Mood> {
        let id: Uuid = row.get("id");
        let opened = sealer.open(What::Mood, id, "1", row.get("sealed"))?;
        let sealed = serde_json::from_slice(&opened)
            .map_err(|_| Error::internal("moods", &"a sealed mood is of another form"))?;
        Ok(Mood { id, score: row.get("score"), sealed, logged_at: row.get("logged_at") })
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

statements! {
    const INSERT: &str = "-- moods::insert
insert into moods (user_id, id, score, sealed, logged_at, created_at) values ($1, $2, $3, $4, $5, $6)
returning id, score, sealed, logged_at";

    const SELECT: &str = "-- moods::select
select id, score, sealed, logged_at from moods where user_id = $1 and id = $2";

    const LIST: &str = "-- moods::list
select id, score, sealed, logged_at, found from (
    select listed.*, count(*) over () as found,
        sum(octet_length(sealed)) over (order by logged_at desc, id desc) as through,
        row_number() over (order by logged_at desc, id desc) as place
    from (
        select id, score, sealed, logged_at from moods
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
    let logged_at = logged_at.map_or(now, |Moment(time)| time);
    // The client's clock may be a little ahead; and nobody remembers moods from before the Unix epoch.
    if logged_at > now + Duration::minutes(5) || logged_at.timestamp() < 0 {
        return Err(Error::invalid("logged_at", "must be a time from 1970 to now"));
    }
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
    Ok(json_response(201, None, to_json(&mood)?))
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
