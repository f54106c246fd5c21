//! Drafts over HTTP: saved, listed, restored, discarded.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use optimist_shared::error::{ErrorCode, PROBLEM_JSON, Problem};
use optimist_shared::ids::Uuid;
use optimist_shared::reactions::Promise;
use serde::Deserialize;

use crate::journal::content::{Content, Form};
use crate::journal::drafts::draft::Draft;
use crate::journal::drafts::store::{bury, forget, newest_version};
use crate::journal::drafts::{flush, saving, store};
use crate::journal::sealing::sealer;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, REQUEST_ID, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{Body, json_response, tagged, to_json};
use optimist_plane::http::page::Cursor as _;
use optimist_plane::http::page::{At, no_query, page};
use optimist_plane::http::sent::{Id, Whole};
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::write::WriteContext;
use optimist_plane::region::belief::Mode;
use optimist_plane::request::Caller;
use optimist_plane::transaction;

pub fn routes() -> Vec<Served> {
    vec![
        on("drafts.save", save),
        on("drafts.list", list),
        on("drafts.get", get),
        on("drafts.discard", discard),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Save {
    title: Option<String>,
    body: String,
    tags: Option<Vec<String>>,
    mood: Option<Whole>,
    prompt_id: Option<Id>,
    #[serde(deserialize_with = "Option::deserialize")]
    base_version: Option<String>,
}

fn draft_of(caller: &Caller) -> Result<Uuid> {
    caller.request.path.draft.ok_or_else(|| Error::new(ErrorCode::NotFound))
}

async fn save(State(app): State<Ctx>, caller: Caller, body: Body<Save>) -> Result<Response> {
    let id = draft_of(&caller)?;
    let Save { title, body, tags, mood, prompt_id, base_version } = body.value;
    let content = Content::checked(Form::Draft, title.as_deref(), &body, tags.as_deref(), mood, prompt_id)?;
    let base = base_version.as_deref().map(saving::checked_version).transpose()?;
    let sealer = sealer(&app, caller.user).await?;
    let saver = saving::Saver { app: &app, caller: &caller, sealer: &sealer };
    match saver.save(id, base, &content, None).await? {
        saving::Outcome::Saved { version, saved_at, promise } => saved(&version, saved_at, promise),
        saving::Outcome::Conflict => {
            let current = async || -> Result<Option<Draft>> {
                let current = store::read(&app, caller.user, id).await?;
                current.map(|stored| Draft::open(&sealer, id, &stored)).transpose()
            };
            // Sent again, since its answer was lost: no word is missing.
            if let Some(same) = current().await?.filter(|current| current.content == content) {
                let promise =
                    if app.region.mode() == Mode::Fenced { Promise::Redis } else { Promise::Postgres };
                return saved(&same.version, same.saved_at, promise);
            }
            let sibling = saver.keep_as_sibling(id, base, &content).await?;
            conflict(current().await?, sibling)
        }
    }
}

fn saved(version: &str, saved_at: DateTime<Utc>, promise: Promise) -> Result<Response> {
    let body = serde_json::json!({"version": version, "saved_at": saved_at, "promise": promise.as_str()});
    Ok(json_response(200, None, to_json(&body)?))
}

/// 409 with both texts: the draft as it is, and the one that was refused, kept.
fn conflict(current: Option<Draft>, sibling: Draft) -> Result<Response> {
    let request_id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
    let problem = Problem::new(ErrorCode::Conflict, &request_id)
        .detail("The draft has another version. What you sent is kept as a draft of its own.");
    let mut body = serde_json::to_value(&problem).map_err(|error| Error::internal("drafts", &error))?;
    body["current"] = serde_json::to_value(current).unwrap_or_default();
    body["sibling"] = serde_json::to_value(sibling).unwrap_or_default();
    let mut response = json_response(409, None, to_json(&body)?);
    let headers = response.headers_mut();
    headers.insert("content-type", axum::http::HeaderValue::from_static(PROBLEM_JSON));
    headers.insert("cache-control", axum::http::HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn get(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let id = draft_of(&caller)?;
    let stored = store::read(&app, caller.user, id).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let draft = Draft::open(&sealer(&app, caller.user).await?, id, &stored)?;
    let json = to_json(&draft)?;
    Ok(tagged(&headers, &digest(&[draft.version.as_bytes()]), "", json))
}

/// What is not flushed yet is, first: then Postgres has them all.
async fn list(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'d'>>(uri.query(), "cursor")?;
    flush::flush_of(&app, caller.user).await?;
    let sealer = sealer(&app, caller.user).await?;
    let stored = store::list(&app, caller.user, page.after, page.limit + 1).await?;
    let drafts = stored
        .iter()
        .take(page.limit)
        .map(|(id, stored)| Draft::open(&sealer, *id, stored))
        .collect::<Result<Vec<Draft>>>()?;
    let last = drafts.last().filter(|_| stored.len() > page.limit);
    let next = last.map(|draft| At::<'d'> { time: draft.saved_at, id: draft.id }.encode());
    let json = to_json(&serde_json::json!({"items": drafts, "next": next}))?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

async fn discard(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    let id = draft_of(&caller)?;
    let version = newest_version(&app, caller.user, id).await?;
    let order = [caller.user];
    let context = WriteContext {
        name: "drafts::discard",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    transaction!(&app, context, |tx| {
        if !bury(tx, caller.user, id, &version).await? {
            return Err(Error::new(ErrorCode::NotFound));
        }
        tx.event("draft.discarded", serde_json::json!({"draft": id}));
        Ok(())
    })?;
    forget(&app, caller.user, id).await?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}
