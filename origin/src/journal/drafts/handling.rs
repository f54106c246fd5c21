//! Drafts over HTTP: saved, listed, restored, discarded.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, REQUEST_ID, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{Body, check_match, json_response, tagged, to_json};
use optimist_plane::http::page::{At, List, answer_page, no_query, page};
use optimist_plane::http::sent::{Id, Number, OrNull, PromiseShape};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::{FIRST_ID, link};
use optimist_plane::region::trust::Mode;
use optimist_plane::request::Caller;
use optimist_plane::transaction;
use optimist_shared::error::{ErrorCode, PROBLEM_JSON, Problem};
use optimist_shared::etag::entity_tag;
use optimist_shared::ids::{self, Uuid};
use optimist_shared::reactions::Promise;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::journal::content::{Content, Score};
use crate::journal::drafts::draft::Draft;
use crate::journal::drafts::late::{self, Edit, Kept, Outcome};
use crate::journal::drafts::saving::{SaveOutcome, Saver};
use crate::journal::drafts::typed::{TypedBody, TypedTags, TypedTitle};
use crate::journal::drafts::version::Version;
use crate::journal::drafts::{flush, store};
use crate::journal::pages::PAGE_NOTE;
use crate::journal::sealing::sealer;

pub fn routes() -> Vec<Served> {
    const DRAFT: &str = "$request.path.draft";
    const SAME_DRAFT: &[(&str, &str)] = &[("draft", DRAFT)];
    vec![
        on("drafts.save", save)
            .says("Save a draft.")
            .conditional()
            .notes(
                "A draft keeps what was typed, also what the final save refuses. `base_version` is the version that the text was based on, null for a new draft. If that is not the \
                 current one, the text is kept as a draft of its own, and 409 shows both; unless it is the current \
                 one's: a save may be sent again. Of one draft a save in every two minutes counts against the limit; \
                 all are stored. A save that comes after the draft was saved as an entry becomes a draft only if the \
                 entry lacks some of its words. A client that deletes words too says exactly what is contained: it \
                 numbers its edits (`edit`), and names the last one in the final save. A text that is kept beside another counts as the new draft that it is. A person's \
                 drafts may have 4 MiB, each counting at least 4 KiB: a save beyond that answers 422 `quota-exceeded`, \
                 and nothing is kept of it. A draft may always become smaller.",
            )
            .refuses(&[ErrorCode::QuotaExceeded])
            .takes::<Save>(json!({"body": "Slept well.", "base_version": null}))
            .answers::<SavedDraft>(200)
            .conflict::<DraftConflict>("The draft has another version; both texts are kept. Or it was saved as an entry.")
            .links([
                link("drafts.get", SAME_DRAFT),
                link("drafts.discard", SAME_DRAFT),
                link("drafts.save", SAME_DRAFT)
                    .with_body(&[("body", "And on it goes."), ("base_version", "$response.body#/version")]),
                link("journal.save", &[]).with_body(&[("body", "What it came to."), ("draft_id", DRAFT)]),
            ]),
        on("drafts.list", list)
            .says("The caller's drafts, newest first.")
            .notes(PAGE_NOTE)
            .answers::<List<Draft>>(200)
            .tagged()
            .pages("cursor")
            .links([link("drafts.get", &[("draft", FIRST_ID)])]),
        on("drafts.get", get).says("A draft.").answers::<Draft>(200).tagged(),
        on("drafts.discard", discard).says("Discard a draft.").conditional(),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SaveDraft")]
struct Save {
    title: Option<TypedTitle>,
    body: TypedBody,
    tags: Option<TypedTags>,
    mood: Option<Score>,
    prompt_id: Option<Id>,
    /// The edit that this text is of.
    edit: Option<Edit>,
    base_version: OrNull<Version>,
}

#[derive(Serialize, JsonSchema)]
struct SavedDraft<'a> {
    version: &'a str,
    saved_at: Time,
    #[schemars(with = "PromiseShape")]
    promise: &'static str,
}

/// A problem with both texts: the draft as it is, and the refused text, kept as a sibling. If the draft was saved as an entry within
/// the last month, `entry` is that entry; if it has the refused text, there is no sibling.
#[derive(Serialize, JsonSchema)]
struct DraftConflict {
    r#type: String,
    title: &'static str,
    #[schemars(with = "i64")]
    status: u16,
    code: &'static str,
    detail: &'static str,
    request_id: String,
    current: Option<Draft>,
    sibling: Option<Draft>,
    entry: Option<Uuid>,
}

/// The version of a draft in its entity tag.
fn row_version(version: &str) -> String {
    digest(&[version.as_bytes()])
}

fn tag(version: &str) -> String {
    entity_tag(&row_version(version), "")
}

fn draft_of(caller: &Caller) -> Result<Uuid> {
    caller.request.id(ids::Id::Draft)
}

async fn save(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Save>,
) -> Result<Response> {
    let id = draft_of(&caller)?;
    if headers.contains_key("if-match") {
        // A save in between is still noticed, by `base_version`.
        check_match(&headers, &tag(&store::newest_version(&ctx, caller.user, id).await?))?;
    }
    let Save { title, body, tags, mood, prompt_id, edit, base_version } = body.value;
    let content = Content {
        title: title.unwrap_or_default().0,
        body: body.0,
        tags: tags.unwrap_or_default().0,
        mood: mood.map(|Number(mood)| mood),
        prompt_id: prompt_id.map(|Id(prompt)| prompt),
    };
    let kept = Kept { content, edit };
    let base = base_version.0.as_ref().map(|Version(base)| base.as_str());
    let sealer = sealer(&ctx, caller.user).await?;
    let saver = Saver { ctx: &ctx, caller: &caller, sealer: &sealer };
    match saver.save(id, base, &kept, None).await? {
        SaveOutcome::Saved { version, saved_at, promise } => saved(&version, saved_at, promise),
        SaveOutcome::Conflict => {
            let current = async || -> Result<Option<Draft>> {
                let current = store::read(&ctx, caller.user, id).await?;
                current.map(|stored| Draft::open(&sealer, id, &stored)).transpose()
            };
            // The client sends a save again whose answer was lost: the text is there already.
            if let Some(same) = current().await?.filter(|current| current.content == kept.content) {
                let promise =
                    if ctx.region.mode() == Mode::Fenced { Promise::Redis } else { Promise::Postgres };
                return saved(&same.version, same.saved_at.0, promise);
            }
            let outcome = late::outcome(&ctx, &sealer, caller.user, id, &kept).await?;
            let entry = outcome.as_ref().map(|outcome| outcome.entry);
            let sibling = match outcome {
                Some(Outcome { contains: true, .. }) => None,
                _ => Some(saver.keep_as_sibling(id, base, &kept).await?),
            };
            conflict(current().await?, sibling, entry)
        }
    }
}

fn saved(version: &str, saved_at: DateTime<Utc>, promise: Promise) -> Result<Response> {
    let saved = SavedDraft { version, saved_at: saved_at.into(), promise: promise.as_str() };
    Ok(json_response(200, None, to_json(&saved)?))
}

/// Answers 409 with both texts; or, if the draft was saved as an entry that has the text, with that entry.
fn conflict(current: Option<Draft>, sibling: Option<Draft>, entry: Option<Uuid>) -> Result<Response> {
    let request_id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
    let Problem { kind, title, status, code, request_id, .. } =
        Problem::new(ErrorCode::Conflict, &request_id);
    let detail = match &sibling {
        Some(_) => "The draft has another version. What you sent is kept as a draft of its own.",
        None => "The draft was saved as an entry, which has what you sent.",
    };
    let conflict =
        DraftConflict { r#type: kind, title, status, code, detail, request_id, current, sibling, entry };
    let mut response = json_response(status, None, to_json(&conflict)?);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(PROBLEM_JSON));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn get(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let id = draft_of(&caller)?;
    let stored = store::read(&ctx, caller.user, id).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let draft = Draft::open(&sealer(&ctx, caller.user).await?, id, &stored)?;
    let json = to_json(&draft)?;
    Ok(tagged(&headers, &row_version(&draft.version), "", json))
}

/// Flushes the drafts that wait first: then Postgres has all of them.
async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'d'>>(uri.query(), "cursor")?;
    flush::flush_of(&ctx, caller.user).await?;
    let sealer = sealer(&ctx, caller.user).await?;
    let (stored, more) = store::list(&ctx, caller.user, page.after, page.limit).await?;
    let drafts = stored
        .iter()
        .map(|(id, stored)| Draft::open(&sealer, *id, stored))
        .collect::<Result<Vec<Draft>>>()?;
    let position = |draft: &Draft| At::<'d'> { time: draft.saved_at.0, id: draft.id };
    answer_page(&headers, drafts, more, position)
}

async fn discard(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap) -> Result<Response> {
    let id = draft_of(&caller)?;
    let version = store::newest_version(&ctx, caller.user, id).await?;
    check_match(&headers, &tag(&version))?;
    let context = caller.writes("drafts::discard", [caller.user]);
    transaction!(&ctx, context, |tx| {
        if !store::bury(tx, caller.user, id, &version, None).await? {
            return Err(Error::new(ErrorCode::NotFound));
        }
        tx.event("draft.discarded", json!({"draft": id}));
        Ok(())
    })?;
    store::forget(&ctx, caller.user, id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
