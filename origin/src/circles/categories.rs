//! What circles may be about. Each migration puts the categories of its release in place, from `categories.json`; nothing here
//! changes them.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::to_json;
use optimist_plane::http::loaded::respond_object;
use optimist_plane::http::page::no_query;
use optimist_plane::http::sent::Refused;
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements};
use optimist_shared::keys::Key;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All categories, as they are listed. One keeps its id for ever.
const SEED: &str = include_str!("categories.json");

pub fn routes() -> Vec<Served> {
    vec![
        on("categories.list", list)
            .says("What circles may be about.")
            .notes("Names are by language. A client shows the one that its person reads, and else the English one.")
            .answers::<Categories>(200)
            .tagged(),
    ]
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Category {
    #[schemars(with = "CategoryId")]
    id: String,
    /// By language, as `en`.
    names: BTreeMap<String, String>,
}

#[derive(Serialize, JsonSchema)]
struct Categories {
    items: Vec<Category>,
}

/// The id of a category, which need not exist.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct CategoryId(pub String);

describe!(CategoryId, {"type": "string", "minLength": 1, "maxLength": 40, "pattern": "^[a-z-]+$"});

impl TryFrom<String> for CategoryId {
    type Error = Refused;

    fn try_from(text: String) -> Result<CategoryId, Refused> {
        let is_id =
            (1..=40).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'-'));
        is_id.then_some(CategoryId(text)).ok_or_else(|| Refused::new("is not a category"))
    }
}

statements! {
    const LIST: &str = "-- categories::list
select pg_snapshot_xmin(pg_current_snapshot())::text::bigint, c.id, c.names::text from categories c order by c.place";

    const KNOWN: &str = "-- categories::known
select from categories where id = $1";
}

/// Puts the seed file's categories in place. Each migration runs it.
pub async fn seed(client: &tokio_postgres::Client) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let categories: Vec<Category> = serde_json::from_str(SEED)?;
    for (place, Category { id, names }) in categories.iter().enumerate() {
        client
            .execute(
                "insert into categories (id, names, place) values ($1, $2::text::jsonb, $3)
                 on conflict (id) do update set names = excluded.names, place = excluded.place",
                &[id, &serde_json::to_string(names)?, &(place as i32 + 1)],
            )
            .await?;
    }
    Ok(())
}

/// Refuses a category that does not exist.
pub async fn check_category(tx: &mut Tx, category: Option<&CategoryId>) -> Result<()> {
    let Some(CategoryId(id)) = category else { return Ok(()) };
    let known = tx.query_opt(KNOWN, &[id]).await?;
    known.map(drop).ok_or_else(|| Error::invalid("category", "is not a category"))
}

async fn list(State(ctx): State<Ctx>, _: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    respond_object(&*read_through(&ctx, Key::categories()).await?, &headers)
}

pub async fn load_categories(ctx: &Ctx) -> Result<Snapshot> {
    let rows = ctx.db.query(LIST, &[]).await?;
    let first = rows.first().ok_or_else(|| Error::internal("categories", &"there are none"))?;
    let item = |row: &tokio_postgres::Row| -> Result<Category> {
        let names =
            serde_json::from_str(row.get(2)).map_err(|error| Error::internal("categories", &error))?;
        Ok(Category { id: row.get(1), names })
    };
    let items = rows.iter().map(item).collect::<Result<_>>()?;
    let json = to_json(&Categories { items })?;
    let version = digest(&[&json]);
    Ok(Snapshot::new(first.get(0), Loaded::Object { version, json }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_of_the_release_have_ids_and_names_in_each_language() {
        let categories: Vec<Category> = serde_json::from_str(SEED).unwrap();
        for Category { id, names } in &categories {
            assert!(CategoryId::try_from(id.clone()).is_ok(), "{id}");
            assert_eq!(names.keys().collect::<Vec<_>>(), ["de", "en"], "{id}");
        }
        assert!(
            ["", "Sleep", "sleep ", &"a".repeat(41)]
                .iter()
                .all(|id| CategoryId::try_from((*id).to_owned()).is_err())
        );
    }
}
