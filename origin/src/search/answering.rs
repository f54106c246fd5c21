//! Search's answer: candidates in their order, of which each is checked again and shown as it is.
//!
//! A replica may be behind, so it only finds. The primary says what the caller may read and whom they may find, and texts come from
//! the copies that writers fence. What does not have the words any more is left out.

use std::collections::HashSet;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::Loaded;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::page::{Cursor as _, answer_found, limit, parameters_of};
use optimist_plane::http::sent::Id;
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements};
use optimist_shared::envelope::DEFAULT_LIMIT;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Uuid, parse_sent_id};
use optimist_shared::keys::{BoundKey, Key};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use crate::circles::access::readable;
use crate::circles::definition::Circle;
use crate::messages::message::MessageWithCounts;
use crate::messages::reading::shown_with_counts;
use crate::people::me::Profile;
use crate::search::place::Place;
use crate::search::query::Query;
use crate::search::{messages, names};

pub fn routes() -> Vec<Served> {
    vec![
        on("search.find", find)
            .says("Messages, circles or people that have some words.")
            .notes(
                "All words must be there, in any order; the last one may be the beginning of a word. `\"Words in quotes\"` follow each \
                 other, `-word` must not be there. Among messages, `from:` takes a person's id or `me`, and `in:` a circle's. Capitals, \
                 accents and punctuation make no difference. Where a script has no spaces, and of emoji, any two neighbours are \
                 found. Found are messages of the last two years in public circles and in the caller's own, circles by name and \
                 description, and people by name, if they want to be found; and nothing of those whom the caller has blocked. Of the newest thousand messages those come first that \
                 say more of it, or are newer; `truncated` says that there may be more. Read replicas find them: `as_of` says of \
                 when. Rights and texts are those of the moment, so that a page may have fewer items than were asked for.",
            )
            .answers::<Found>(200)
            .pages("cursor")
            .names::<Words>("q", "What is looked for: at most 16 words and phrases.")
            .filter::<Kind>("kind", "What is looked for has the words; `messages` if it is not given.")
            .filter::<Id>("circle", "Messages of this circle alone, as `in:` says it.")
            .refuses(&[ErrorCode::NotFound]),
    ]
}

statements! {
    /// Of these people, those who want to be found, and of whom none has blocked the other.
    const FINDABLE: &str = "-- search::findable (1,000 rows)
select its.id from unnest($1::uuid[]) as named (id)
cross join lateral (select id from users where id = named.id and discoverable and status = 'active' offset 0) its
where not exists (select from blocks where user_id = $2 and blocked_id = its.id)
  and not exists (select from blocks where user_id = its.id and blocked_id = $2)";

    /// Of these people, those whom somebody has blocked.
    const BLOCKED: &str = "-- search::blocked (1,000 rows)
select blocked_id from blocks where user_id = $1 and blocked_id = any($2)";
}

/// A query's text.
struct Words;

describe!(Words, {"type": "string", "minLength": 1, "maxLength": 1000});

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Messages,
    Circles,
    People,
}

describe!(Kind, {"type": "string", "enum": ["messages", "circles", "people"]});

impl Kind {
    fn parse(text: &str) -> Option<Kind> {
        match text {
            "messages" => Some(Kind::Messages),
            "circles" => Some(Kind::Circles),
            "people" => Some(Kind::People),
            _ => None,
        }
    }
}

/// A page of results, as [`answer_found`] renders it.
#[derive(JsonSchema)]
#[schemars(rename = "SearchResultReport")]
#[expect(dead_code, reason = "it is a description alone")]
struct Found {
    items: Vec<Item>,
    /// The cursor of the page that follows.
    next: Option<String>,
    /// Everything that was acknowledged by then can be found; of later changes some may be.
    as_of: Time,
    /// Whether there may be more, older ones that were not looked at.
    truncated: bool,
}

/// What was found: one of a message, a circle and a person.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SearchResult")]
struct Item {
    #[schemars(with = "MessageWithCounts<'static>", skip_serializing_if = "Option::is_none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Value>,
    #[schemars(with = "Circle", skip_serializing_if = "Option::is_none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    circle: Option<Value>,
    #[schemars(with = "Profile", skip_serializing_if = "Option::is_none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<Value>,
    /// Where the words stand.
    highlights: Vec<Highlight>,
    #[serde(skip)]
    place: Place,
}

/// A part of a text that has what is looked for. Characters are Unicode's code points.
#[derive(Serialize, JsonSchema)]
struct Highlight {
    /// The text: a message's `body`, a circle's `name` or `description`, a person's `name`.
    field: &'static str,
    /// Characters before it.
    offset: usize,
    /// Its characters.
    #[schemars(range(min = 1))]
    length: usize,
}

/// What a request asks for.
struct Sought {
    query: Query,
    kind: Kind,
    after: Option<Place>,
    limit: usize,
}

impl Sought {
    fn read(parameters: Option<&str>) -> Result<Sought> {
        let refused = |name: &str, reason: &'static str| {
            Error::new(ErrorCode::BadRequest).field(name.to_owned(), reason)
        };
        let (mut query, mut kind, mut circle) = (None, Kind::Messages, None);
        let (mut after, mut most) = (None, DEFAULT_LIMIT);
        for (name, value) in parameters_of(parameters)? {
            match name.as_str() {
                "q" => {
                    query = Some(Query::parse(&value).map_err(|unclear| refused("q", unclear.reason()))?);
                }
                "kind" => {
                    let known = Kind::parse(&value);
                    kind =
                        known.ok_or_else(|| refused("kind", "must be `messages`, `circles` or `people`"))?;
                }
                "circle" => {
                    circle = Some(parse_sent_id(&value).ok_or_else(|| refused("circle", "must be an id"))?);
                }
                "limit" => most = limit(&value)?,
                "cursor" => {
                    let place = Place::decode(&value);
                    after = Some(place.ok_or_else(|| refused("cursor", "is not a cursor of this list"))?);
                }
                _ => return Err(refused(&name, "is not a parameter of this list")),
            }
        }
        let mut query = query.ok_or_else(|| refused("q", "must be given"))?;
        if circle.is_some() && query.within.is_some() {
            return Err(refused("circle", "is named by the query's `in:`"));
        }
        query.within = query.within.or(circle);
        if kind != Kind::Messages && (query.from.is_some() || query.within.is_some()) {
            return Err(refused("kind", "must be `messages` with `from:`, `in:` or `circle`"));
        }
        Ok(Sought { query, kind, after, limit: most })
    }
}

/// A candidate of any kind.
#[derive(Clone, Copy)]
struct Candidate {
    place: Place,
    /// Itself, if it is no message.
    id: Uuid,
    /// Where its rights are: a message's circle, or itself.
    circle: Uuid,
    /// A message's author, or a circle's owner.
    whose: Option<Uuid>,
}

/// Candidates that are checked together. A page of results takes one round, unless most of them may not be read.
const AT_ONCE: usize = 100;
/// Texts that are read at the same time.
const READ_AT_ONCE: usize = 8;

async fn find(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    let sought = Sought::read(uri.query())?;
    let (query, searcher) = (&sought.query, caller.user);
    if let Some(circle) = query.within
        && !readable(&ctx, searcher, &[circle]).await?.contains(&circle)
    {
        return Err(Error::new(ErrorCode::NotFound));
    }
    let mut reader = ctx.reader();
    let (mut candidates, is_truncated) = match sought.kind {
        Kind::Messages => {
            let messages::Candidates { found, is_truncated } =
                messages::candidates(&mut reader, query, searcher).await?;
            let candidate = |found: messages::Found| Candidate {
                place: found.place,
                id: found.message,
                circle: found.circle,
                whose: Some(found.author),
            };
            (found.into_iter().map(candidate).collect::<Vec<_>>(), is_truncated)
        }
        Kind::Circles | Kind::People => {
            let names::Candidates { found, is_truncated } = match sought.kind {
                Kind::People => names::people(&mut reader, query).await?,
                _ => names::circles(&mut reader, query, searcher).await?,
            };
            let candidate = |named: names::Named| Candidate {
                place: named.place,
                id: named.id,
                circle: named.id,
                whose: named.owner,
            };
            (found.into_iter().map(candidate).collect(), is_truncated)
        }
    };
    candidates.retain(|candidate| sought.after.is_none_or(|after| candidate.place < after));
    candidates.sort_unstable_by_key(|candidate| std::cmp::Reverse(candidate.place));
    let mut items: Vec<Item> = Vec::new();
    for some in candidates.chunks(AT_ONCE) {
        if items.len() > sought.limit {
            break;
        }
        let some = allowed(&ctx, sought.kind, searcher, some).await?;
        let mut rest = some.as_slice();
        while !rest.is_empty() && items.len() <= sought.limit {
            // One more than asked for says that there are more.
            let (next, after) = rest.split_at((sought.limit + 1 - items.len()).min(rest.len()));
            let shown = iter(next.to_vec()).map(|candidate| show(&ctx, sought.kind, query, candidate));
            items.extend(shown.buffered(READ_AT_ONCE).try_collect::<Vec<_>>().await?.into_iter().flatten());
            rest = after;
        }
    }
    let more = items.len() > sought.limit;
    items.truncate(sought.limit);
    answer_found(items, more, is_truncated, reader.as_of()?, |item| item.place)
}

/// Those of some candidates that the caller may be shown at this moment.
async fn allowed(ctx: &Ctx, kind: Kind, searcher: Uuid, some: &[Candidate]) -> Result<Vec<Candidate>> {
    let each = |id: fn(&Candidate) -> Option<Uuid>| -> Vec<Uuid> {
        some.iter().filter_map(id).collect::<HashSet<_>>().into_iter().collect()
    };
    let named = each(|candidate| Some(candidate.circle));
    let open = match kind {
        Kind::Messages | Kind::Circles => readable(ctx, searcher, &named).await?,
        Kind::People => ids(&ctx.db.query(FINDABLE, &[&named, &searcher]).await?),
    };
    let people = each(|candidate| candidate.whose);
    let blocked = match people.is_empty() {
        true => HashSet::new(),
        false => ids(&ctx.db.query(BLOCKED, &[&searcher, &people]).await?),
    };
    let is_allowed = |candidate: &Candidate| {
        open.contains(&candidate.circle) && candidate.whose.is_none_or(|person| !blocked.contains(&person))
    };
    Ok(some.iter().copied().filter(is_allowed).collect())
}

fn ids(rows: &[Row]) -> HashSet<Uuid> {
    rows.iter().map(|row| row.get(0)).collect()
}

/// A candidate as it is, if it still is there and has what is looked for.
async fn show(ctx: &Ctx, kind: Kind, query: &Query, candidate: Candidate) -> Result<Option<Item>> {
    let Candidate { place, id, circle, .. } = candidate;
    let json = match kind {
        Kind::Messages => shown_with_counts(ctx, circle, id).await?,
        Kind::Circles => object(ctx, Key::circle(id)).await?,
        Kind::People => object(ctx, Key::profile(id)).await?,
    };
    let Some(json) = json else { return Ok(None) };
    let shown: Value = serde_json::from_slice(&json).map_err(|error| Error::internal("search", &error))?;
    let text = |field: &str| shown[field].as_str().unwrap_or_default();
    let (fields, all): (&[&'static str], String) = match kind {
        Kind::Messages => (&["body"], text("body").to_owned()),
        Kind::Circles => (&["name", "description"], names::described(text("name"), text("description"))),
        Kind::People => (&["name"], text("name").to_owned()),
    };
    if !query.matches(&all) {
        return Ok(None);
    }
    let marks = fields.iter().flat_map(|field| {
        let marks = query.marks(text(field)).into_iter();
        marks.map(|(start, end)| Highlight { field, offset: start, length: end - start })
    });
    let highlights = marks.collect();
    let (message, circle, person) = match kind {
        Kind::Messages => (Some(shown), None, None),
        Kind::Circles => (None, Some(shown), None),
        Kind::People => (None, None, Some(shown)),
    };
    Ok(Some(Item { message, circle, person, highlights, place }))
}

/// A copy that has no overlay.
async fn object(ctx: &Ctx, key: BoundKey) -> Result<Option<Vec<u8>>> {
    match &*read_through(ctx, key).await? {
        Loaded::Object { json, .. } => Ok(Some(json.clone())),
        _ => Ok(None),
    }
}
