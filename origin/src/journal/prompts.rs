//! Prompts to write about, by category. The migration puts them in place, from `prompts.json`; nothing here changes them.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{ListItem, Snapshot};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::to_json;
use optimist_plane::http::loaded::respond_list;
use optimist_plane::http::page::{Cursor, List, limit, parameters_of};
use optimist_plane::http::sent::Sought;
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::envelope::{DEFAULT_LIMIT, LIST_LIMIT};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub fn routes() -> Vec<Served> {
    vec![
        on("journal.prompts", list)
            .says("What one might write about.")
            .answers::<List<Prompt>>(200)
            .tagged()
            .pages("cursor")
            .filter::<Sought>("category", "Of this category alone."),
    ]
}

/// All prompts. A prompt keeps its id for ever; a release may change its text and category.
const SEED: &str = include_str!("prompts.json");

#[derive(Deserialize, Serialize, JsonSchema)]
struct Prompt {
    id: Uuid,
    category: String,
    body: String,
}

statements! {
    const LIST: &str = "-- prompts::list
select seen, p.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, category, body, place from prompts
    where place > $1 and ($2::text is null or category = $2) order by place limit $3) p on true
order by place";
}

/// Puts the seed file's prompts in place. Each migration runs it.
pub async fn seed(client: &tokio_postgres::Client) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let prompts: Vec<Prompt> = serde_json::from_str(SEED)?;
    for (place, prompt) in prompts.iter().enumerate() {
        client
            .execute(
                "insert into prompts (id, category, body, place) values ($1, $2, $3, $4)
                 on conflict (id) do update set category = $2, body = $3, place = $4",
                &[&prompt.id, &prompt.category, &prompt.body, &(place as i32 + 1)],
            )
            .await?;
    }
    Ok(())
}

async fn list(State(ctx): State<Ctx>, _: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let (mut after, mut category, mut wanted) = (None, None, None);
    for (name, value) in parameters_of(uri.query())? {
        match name.as_str() {
            "limit" => wanted = Some(limit(&value)?),
            "category" => category = Some(value),
            "cursor" => {
                let refused =
                    || Error::new(ErrorCode::BadRequest).field("cursor", "is not a cursor of this list");
                after = Some(Place::decode(&value).ok_or_else(refused)?);
            }
            _ => return Err(Error::new(ErrorCode::BadRequest).field(name, "is not a parameter of this list")),
        }
    }
    let wanted = wanted.unwrap_or(DEFAULT_LIMIT);
    if after.is_none() && category.is_none() {
        let loaded = read_through(&ctx, Key::prompts()).await?;
        return respond_list(&loaded, &headers, wanted);
    }
    let after = after.map_or(0, |Place(place)| place);
    respond_list(&load_page(&ctx, after, category.as_deref(), wanted).await?.loaded, &headers, wanted)
}

/// The position after the prompt at this place.
struct Place(i32);

impl Cursor for Place {
    const KIND: char = 'p';

    fn render(&self) -> String {
        self.0.to_string()
    }

    fn parse(text: &str) -> Option<Place> {
        text.parse().ok().filter(|place| *place >= 0).map(Place)
    }
}

pub async fn load_prompts(ctx: &Ctx) -> Result<Snapshot> {
    load_page(ctx, 0, None, LIST_LIMIT).await
}

async fn load_page(ctx: &Ctx, after: i32, category: Option<&str>, limit: usize) -> Result<Snapshot> {
    let rows = ctx.db.query(LIST, &[&after, &category, &(limit as i64 + 1)]).await?;
    Snapshot::page(&rows, limit, false, |row| {
        let prompt = Prompt { id: row.get("id"), category: row.get("category"), body: row.get("body") };
        Ok(ListItem { id: None, cursor: Place(row.get("place")).encode(), json: to_json(&prompt)? })
    })
}
