//! The popular messages as somebody sees them. The cached list has ids alone, the same for everyone: rights are read from Postgres for each
//! answer, and texts from the copies that writers fence.

use std::collections::HashSet;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::page::{Cursor, List, answer_page, limit, parameters_of};
use optimist_plane::http::sent::Refused;
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::blocks::Blocked;
use optimist_shared::envelope::DEFAULT_LIMIT;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Uuid, parse_id};
use optimist_shared::keys::Key;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::circles::categories::CategoryId;
use crate::messages::message::MessageWithCounts;
use crate::messages::reading::shown_with_counts;
use crate::people::blocking::blocked_by;

pub fn routes() -> Vec<Served> {
    vec![
        on("messages.popular", popular)
            .says("The messages of public circles that people react to and comment on, the latest before the older.")
            .notes(
                "The order may be some minutes old: a message that moves while one goes through the pages may come twice or not at all. One is \
                 there only while its circle is public and active, and for nobody whom the circle has banned or who has blocked its author.",
            )
            .answers::<List<Popular>>(200)
            .tagged()
            .pages("cursor")
            .filter::<CategoryId>("category", "Of circles of this category alone."),
    ]
}

statements! {
    const LIST: &str = "-- popular::list (950 rows)
select pg_snapshot_xmin(pg_current_snapshot())::text::bigint, (
    select string_agg(concat_ws(' ', message_id, circle_id, score, category), chr(10) order by score desc, message_id desc)
    from popular_messages)";

    /// Those of these circles that are public, and that have not banned a person.
    const OPEN: &str = "-- popular::open
select c.id from unnest($2::uuid[]) as asked (id)
join circles c on c.id = asked.id and c.visibility = 'public' and c.archived_at is null
left join memberships m on m.circle_id = c.id and m.user_id = $1
where m.role is distinct from 'banned'";
}

/// A message, as its readers see it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PopularMessage")]
struct Popular {
    #[schemars(with = "MessageWithCounts<'static>")]
    message: Value,
    #[serde(skip)]
    place: Place,
}

impl Popular {
    fn is_by(&self, blocked: Blocked<'_>) -> bool {
        let author = self.message.pointer("/author/id").and_then(Value::as_str).and_then(parse_id);
        author.is_some_and(|author| blocked.contains(author))
    }
}

/// A place in the order: the score, in millionths, and the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    score: i64,
    message: Uuid,
}

impl Cursor for Place {
    const KIND: char = 'q';

    fn render(&self) -> String {
        format!("{}:{}", self.score, self.message)
    }

    fn parse(text: &str) -> Option<Place> {
        let (score, message) = text.split_once(':')?;
        Some(Place { score: score.parse().ok().filter(|score| *score >= 0)?, message: parse_id(message)? })
    }
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    place: Place,
    circle: Uuid,
    category: Option<String>,
}

impl Listed {
    fn parse(line: &str) -> Option<Listed> {
        let mut words = line.split(' ');
        let (message, circle) = (parse_id(words.next()?)?, parse_id(words.next()?)?);
        let place = Place { score: words.next()?.parse().ok()?, message };
        Some(Listed { place, circle, category: words.next().map(str::to_owned) })
    }
}

/// The whole list, as a text of lines.
pub async fn load(ctx: &Ctx) -> Result<Snapshot> {
    let row = ctx.db.query_opt(LIST, &[]).await?;
    let row = row.ok_or_else(|| Error::internal("popular", &"no row"))?;
    Ok(Snapshot::new(row.get(0), Loaded::Text(row.get::<_, Option<String>>(1).unwrap_or_default())))
}

/// What is asked for.
#[derive(Debug, PartialEq)]
struct Sought {
    category: Option<String>,
    after: Option<Place>,
    limit: usize,
}

impl Sought {
    fn parse(query: Option<&str>) -> Result<Sought> {
        let mut sought = Sought { category: None, after: None, limit: DEFAULT_LIMIT };
        for (name, value) in parameters_of(query)? {
            let refused = |reason: &str| Error::new(ErrorCode::BadRequest).field(name.clone(), reason);
            match name.as_str() {
                "limit" => sought.limit = limit(&value)?,
                "cursor" => {
                    let after = Place::decode(&value);
                    sought.after = Some(after.ok_or_else(|| refused("is not a cursor of this list"))?);
                }
                "category" => {
                    let category = CategoryId::try_from(value);
                    let CategoryId(category) = category.map_err(|_: Refused| refused("is not a category"))?;
                    sought.category = Some(category);
                }
                _ => return Err(refused("is not a parameter of this list")),
            }
        }
        Ok(sought)
    }

    fn wants(&self, listed: &Listed) -> bool {
        self.after.is_none_or(|after| listed.place < after)
            && (self.category.is_none() || self.category == listed.category)
    }
}

/// Messages whose rights are looked at together.
const AT_ONCE: usize = 100;
/// Messages that are read at the same time.
const READ_AT_ONCE: usize = 8;

async fn popular(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let sought = Sought::parse(uri.query())?;
    let loaded = read_through(&ctx, Key::popular()).await?;
    let Loaded::Text(text) = &*loaded else { return Err(Error::internal("popular", &"this is no list")) };
    let listed: Vec<Listed> =
        text.lines().filter_map(Listed::parse).filter(|listed| sought.wants(listed)).collect();
    let blocked = blocked_by(&ctx, caller.user).await?;
    let blocked = Blocked::parse(&blocked).unwrap_or_default();
    let mut items = Vec::new();
    for some in listed.chunks(AT_ONCE) {
        let open = open(&ctx, caller.user, some).await?;
        let some: Vec<Listed> = some.iter().filter(|listed| open.contains(&listed.circle)).cloned().collect();
        let mut shown = iter(some).map(|listed| show(&ctx, listed)).buffered(READ_AT_ONCE);
        while items.len() <= sought.limit
            && let Some(item) = shown.try_next().await?
        {
            items.extend(item.filter(|item| !item.is_by(blocked)));
        }
        if items.len() > sought.limit {
            break;
        }
    }
    let more = items.len() > sought.limit;
    items.truncate(sought.limit);
    answer_page(&headers, items, more, |last| last.place)
}

async fn open(ctx: &Ctx, user: Uuid, listed: &[Listed]) -> Result<HashSet<Uuid>> {
    let circles: HashSet<Uuid> = listed.iter().map(|listed| listed.circle).collect();
    let circles: Vec<Uuid> = circles.into_iter().collect();
    let rows = ctx.db.query(OPEN, &[&user, &circles]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// `None` if the message is gone.
async fn show(ctx: &Ctx, listed: Listed) -> Result<Option<Popular>> {
    let Some(json) = shown_with_counts(ctx, listed.circle, listed.place.message).await? else {
        return Ok(None);
    };
    let message = serde_json::from_slice(&json).map_err(|error| Error::internal("popular", &error))?;
    Ok(Some(Popular { message, place: listed.place }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_query_and_a_line_are_understood_or_refused(
            query in "((limit|cursor|category)=[0-9a-zA-Z-]{0,40}&?){0,3}|\\PC*",
            line in "([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12} ){0,2}-?[0-9]{0,20}( [a-z]*)?|\\PC*",
        ) {
            match Sought::parse(Some(&query)) {
                Ok(sought) => prop_assert!((1..=100).contains(&sought.limit)),
                Err(error) => prop_assert_eq!(error.code, ErrorCode::BadRequest),
            }
            if let Some(listed) = Listed::parse(&line) {
                prop_assert!(line.starts_with(&listed.place.message.to_string()));
            }
        }

        #[test]
        fn a_place_round_trips(score in 0..i64::MAX, message: u128) {
            let place = Place { score, message: Uuid::from_u128(message) };
            prop_assert_eq!(Place::decode(&place.encode()), Some(place));
        }
    }
}
