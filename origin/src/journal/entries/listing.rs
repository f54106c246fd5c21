//! The list of entries, by mood and day, and the search for a tag.
//!
//! A tag is found by its digest: Postgres never sees the tag itself. Nor does a URL have it, since logs have URLs: it comes in the body
//! of a search.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::NaiveDate;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::Body;
use optimist_plane::http::page::{Cursor, answer_page, limit, parameters_of};
use optimist_plane::http::sent::{Day, Number, parse_day};
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::envelope::{DEFAULT_LIMIT, LIST_LIMIT};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Uuid, parse_id};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::journal::content::Score;
use crate::journal::entries::entry::Entry;
use crate::journal::pages::{PAGE_BYTES, page_of};
use crate::journal::sealing::sealer;
use crate::journal::tagging::SoughtTag;

statements! {
    const LIST: &str = "-- journal::list, planned anew (4,000 rows, uncapped: entries of a person)
select id, version, sealed, entry_date, created_at, updated_at, found from (
    select listed.*, count(*) over () as found,
        sum(octet_length(sealed)) over (order by entry_date desc, id desc) as through,
        row_number() over (order by entry_date desc, id desc) as place
    from (
        select id, version, sealed, entry_date, created_at, updated_at from journal_entries e
        where user_id = $1
          and ($2::bytea[] is null or exists (
              select from journal_tags t where t.user_id = $1 and t.tag = any($2) and t.entry_id = e.id))
          and ($3::smallint is null or mood = $3)
          and ($4::date is null or entry_date >= $4) and ($5::date is null or entry_date <= $5)
          and (entry_date, id) < (coalesce($6::date, 'infinity'), coalesce($7::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        order by entry_date desc, id desc limit $8) listed) sized
where through <= $9 or place = 1
order by entry_date desc, id desc";
}

/// The position after the entry of this day and id.
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
        Some(AtDay { date: parse_day(date)?, id: parse_id(id)? })
    }
}

/// Filters and a page.
#[derive(Default)]
struct Filter {
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
                "tag" => return Err(refused("is searched for with POST /v1/journal/entries/search")),
                "mood" => {
                    let mood = value.parse().ok().filter(|mood| Score::BOUNDS.contains(mood));
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
                "limit" => filter.limit = Some(limit(&value)?),
                _ => return Err(refused("is not a parameter of this list")),
            }
        }
        Ok(filter)
    }
}

/// A search: all that it names must fit.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SearchEntries")]
pub struct Search {
    tag: Option<SoughtTag>,
    mood: Option<Score>,
    /// Of this day or later.
    from: Option<Day>,
    /// Of this day or earlier.
    to: Option<Day>,
    /// The `next` of the page before.
    cursor: Option<String>,
    limit: Option<Number<1, { LIST_LIMIT as i16 }>>,
}

pub async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let filter = Filter::parse(uri.query())?;
    find(&ctx, &caller, &headers, None, filter).await
}

pub async fn search(State(ctx): State<Ctx>, caller: Caller, body: Body<Search>) -> Result<Response> {
    let Search { tag, mood, from, to, cursor, limit } = body.value;
    let after = match cursor {
        Some(text) => {
            let refused = || Error::invalid("cursor", "is not a cursor of this list");
            Some(AtDay::decode(&text).ok_or_else(refused)?)
        }
        None => None,
    };
    let filter = Filter {
        mood: mood.map(|Number(mood)| mood),
        from: from.map(|Day(day)| day),
        to: to.map(|Day(day)| day),
        after,
        limit: limit.and_then(|Number(limit)| usize::try_from(limit).ok()),
    };
    find(&ctx, &caller, &HeaderMap::new(), tag, filter).await
}

async fn find(
    ctx: &Ctx,
    caller: &Caller,
    headers: &HeaderMap,
    tag: Option<SoughtTag>,
    filter: Filter,
) -> Result<Response> {
    let sealer = sealer(ctx, caller.user).await?;
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT);
    let tag = tag.map(|SoughtTag(forms)| forms.iter().map(|form| sealer.index(form)).collect::<Vec<_>>());
    let (day, id) = (filter.after.map(|after| after.date), filter.after.map(|after| after.id));
    let rows = ctx
        .db
        .query(
            LIST,
            &[
                &caller.user,
                &tag,
                &filter.mood,
                &filter.from,
                &filter.to,
                &day,
                &id,
                &(limit as i64 + 1),
                &PAGE_BYTES,
            ],
        )
        .await?;
    let (rows, more) = page_of(&rows, limit);
    let entries = rows.iter().map(|row| Entry::open(&sealer, row)).collect::<Result<Vec<Entry>>>()?;
    let position = |entry: &Entry| AtDay { date: entry.entry_date, id: entry.id };
    answer_page(headers, entries, more, position)
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
                    prop_assert!(filter.mood.is_none_or(|mood| Score::BOUNDS.contains(&mood)));
                }
                Err(error) => prop_assert_eq!(error.code, ErrorCode::BadRequest),
            }
        }
    }
}
