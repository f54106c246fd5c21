//! Pages and their cursors. A cursor is opaque to clients: base64url of the ordering values of the last item shown. It
//! survives that item's deletion.

use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, SecondsFormat, Utc};
use optimist_shared::envelope::{DEFAULT_LIMIT, Item, LIST_LIMIT, fitting, parse_limit, render_list};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Uuid, parse_id};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::hash::digest;
use crate::http::body::{json_response, tagged, to_json};
use crate::http::time::Time;

/// The page of a list that a query asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<C> {
    pub after: Option<C>,
    pub limit: usize,
}

/// A list, or a page of one, as it is answered.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub struct List<T> {
    items: Vec<T>,
    /// The cursor of the page that follows.
    next: Option<String>,
}

impl<T> List<T> {
    /// A list without pages.
    pub fn whole(items: Vec<T>) -> List<T> {
        List { items, next: None }
    }
}

/// A page that replicas answer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "{T}Report")]
pub struct Report<T> {
    items: Vec<T>,
    /// The cursor of the page that follows.
    next: Option<String>,
    /// Everything that was acknowledged by then is shown; of later changes some may be.
    as_of: Time,
}

/// A position in a list: the values that it is ordered by.
pub trait Cursor: Sized {
    /// Its kind, so that a cursor of another list is recognised.
    const KIND: char;
    fn render(&self) -> String;
    fn parse(text: &str) -> Option<Self>;

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}:{}", Self::KIND, self.render()))
    }

    /// Decodes a cursor, only in the spelling that [`Cursor::encode`] gives it.
    fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let rendered = std::str::from_utf8(&bytes).ok()?.strip_prefix(Self::KIND)?.strip_prefix(':')?;
        Self::parse(rendered).filter(|cursor| cursor.render() == rendered)
    }
}

/// Before the item of this number.
impl Cursor for i64 {
    const KIND: char = 'n';

    fn render(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Option<i64> {
        text.parse().ok().filter(|number| *number >= 0)
    }
}

/// Before or after the item of this id.
impl Cursor for Uuid {
    const KIND: char = 'i';

    fn render(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Option<Uuid> {
        parse_id(text)
    }
}

/// A moment, and an id that orders items of the same moment; `KIND` tells lists with the same order apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At<const KIND: char> {
    pub time: DateTime<Utc>,
    pub id: Uuid,
}

impl<const KIND: char> Cursor for At<KIND> {
    const KIND: char = KIND;

    fn render(&self) -> String {
        format!("{}:{}", self.time.timestamp_micros(), self.id)
    }

    fn parse(text: &str) -> Option<Self> {
        /// The end of the year 9999: later moments are forged, and Postgres cannot represent all of them.
        const LATEST_MICROS: i64 = 253_402_300_799_999_999;
        let (micros, id) = text.split_once(':')?;
        let micros = micros.parse().ok().filter(|micros| (0..=LATEST_MICROS).contains(micros))?;
        Some(At { time: DateTime::from_timestamp_micros(micros)?, id: parse_id(id)? })
    }
}

/// Reads a list's query: `limit` and the cursor under its name; anything else is refused by name.
pub fn page<C: Cursor>(query: Option<&str>, cursor_name: &str) -> Result<Page<C>> {
    let mut page = Page { after: None, limit: DEFAULT_LIMIT };
    for (name, value) in parameters_of(query)? {
        let refused = |reason: &str| Error::new(ErrorCode::BadRequest).field(name.clone(), reason);
        if name == "limit" {
            page.limit = limit(&value)?;
        } else if name == cursor_name {
            page.after = Some(C::decode(&value).ok_or_else(|| refused("is not a cursor of this list"))?);
        } else {
            return Err(refused("is not a parameter of this list"));
        }
    }
    Ok(page)
}

/// Answers with a page: its items and, if `more` follow, the next cursor, which is the last item's `position`. A page that would
/// be too large stops earlier: see [`LIST_BYTES`].
///
/// [`LIST_BYTES`]: optimist_shared::envelope::LIST_BYTES
pub fn answer_page<T: Serialize, C: Cursor>(
    headers: &HeaderMap,
    items: Vec<T>,
    more: bool,
    position: impl Fn(&T) -> C,
) -> Result<Response> {
    let json = render_page(items, more, None, position)?;
    Ok(tagged(headers, &digest(&[&json]), "", json))
}

/// The same for a [`Report`]. It has no entity tag: an answer without a body would not say of when it is. What is older than
/// `archived_before` and belongs to the list is archived.
pub fn answer_report<T: Serialize, C: Cursor>(
    items: Vec<T>,
    more: bool,
    archived_before: Option<DateTime<Utc>>,
    as_of: DateTime<Utc>,
    position: impl Fn(&T) -> C,
) -> Result<Response> {
    let json = render_page(items, more, archived_before, position)?;
    Ok(json_response(200, None, with_fields(json, &[("as_of", to_json(&Time(as_of))?)])))
}

/// The same for what a search has found; `is_truncated` if it has not looked at everything.
pub fn answer_found<T: Serialize, C: Cursor>(
    items: Vec<T>,
    more: bool,
    is_truncated: bool,
    as_of: DateTime<Utc>,
    position: impl Fn(&T) -> C,
) -> Result<Response> {
    let json = render_page(items, more, None, position)?;
    let fields = [("as_of", to_json(&Time(as_of))?), ("truncated", to_json(&is_truncated)?)];
    Ok(json_response(200, None, with_fields(json, &fields)))
}

/// Adds fields to a page, which ends with the brace of its object.
fn with_fields(mut page: Vec<u8>, fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    page.pop();
    for (name, json) in fields {
        page.extend_from_slice(format!(",\"{name}\":").as_bytes());
        page.extend_from_slice(json);
    }
    page.push(b'}');
    page
}

fn render_page<T: Serialize, C: Cursor>(
    items: Vec<T>,
    more: bool,
    archived_before: Option<DateTime<Utc>>,
    position: impl Fn(&T) -> C,
) -> Result<Vec<u8>> {
    let rendered = items.iter().map(to_json).collect::<Result<Vec<_>>>()?;
    let fits = fitting(rendered.iter().map(Vec::len), rendered.len());
    let before = archived_before.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true));
    let cursors: Vec<String> = items.iter().map(|item| position(item).encode()).collect();
    let items = rendered.iter().zip(&cursors).map(|(json, cursor)| Item { id: "", cursor, json });
    Ok(render_list(&items.collect::<Vec<_>>(), more, before.as_deref(), fits, |_| None))
}

/// Parses a number of items within a page's bounds.
pub fn limit(value: &str) -> Result<usize> {
    let reason = || format!("must be a number from 1 to {LIST_LIMIT}");
    parse_limit(value).ok_or_else(|| Error::new(ErrorCode::BadRequest).field("limit", reason()))
}

/// A query's decoded parameters. None may be given twice, or hold control characters (Postgres knows no U+0000).
pub fn parameters_of(query: Option<&str>) -> Result<Vec<(String, String)>> {
    /// No endpoint has as many.
    const MOST: usize = 16;
    let mut parameters: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let name: String = name.chars().take(64).collect();
        if parameters.len() == MOST {
            return Err(Error::new(ErrorCode::BadRequest).field(name, format!("is one of more than {MOST}")));
        }
        if parameters.iter().any(|(known, _)| *known == name) {
            return Err(Error::new(ErrorCode::BadRequest).field(name, "is given twice"));
        }
        if value.chars().any(char::is_control) {
            return Err(Error::new(ErrorCode::BadRequest).field(name, "must not contain control characters"));
        }
        parameters.push((name, value.into_owned()));
    }
    Ok(parameters)
}

/// Refuses any query, for endpoints without parameters: the edge forwards queries that it does not know.
pub fn no_query(query: Option<&str>) -> Result<()> {
    match parameters_of(query)?.into_iter().next() {
        None => Ok(()),
        Some((name, _)) => {
            Err(Error::new(ErrorCode::BadRequest).field(name, "is not a parameter of this endpoint"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A cursor that decodes has the spelling that it would be given.
    fn has_one_spelling<C: Cursor>(text: &str) -> std::result::Result<(), TestCaseError> {
        if let Some(cursor) = C::decode(text) {
            prop_assert_eq!(cursor.encode(), text);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_cursor_round_trips_and_has_one_spelling(
            number in 0..i64::MAX,
            micros in 0..253_402_300_799_999_999i64,
            id: u128,
            inside in "[ncm]:[+-]?0{0,2}[0-9]{1,19}(:[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?",
            noise in "[A-Za-z0-9_=-]{0,60}|\\PC*",
        ) {
            let at = At::<'c'> { time: DateTime::from_timestamp_micros(micros).unwrap(), id: Uuid::from_u128(id) };
            prop_assert_eq!(At::<'c'>::decode(&at.encode()), Some(at));
            prop_assert_eq!(At::<'m'>::decode(&at.encode()), None);
            prop_assert_eq!(i64::decode(&number.encode()), Some(number));
            for text in [&noise, &URL_SAFE_NO_PAD.encode(&inside)] {
                has_one_spelling::<At<'c'>>(text)?;
                has_one_spelling::<i64>(text)?;
            }
        }

        /// Any query is understood or refused by name.
        #[test]
        fn a_query_is_a_page_or_refused(query in "((limit|before|x)?=?[+]?[0-9a-zA-Z%]{0,8}&?){0,4}|\\PC*") {
            match page::<i64>(Some(&query), "before") {
                Ok(page) => prop_assert!((1..=LIST_LIMIT).contains(&page.limit)),
                Err(error) => prop_assert_eq!(error.code, ErrorCode::BadRequest),
            }
            if let Ok(parameters) = parameters_of(Some(&query)) {
                prop_assert!(parameters.iter().all(|(_, value)| !value.contains('\0')));
                prop_assert!(parameters.len() <= query.len());
            }
        }
    }

    #[test]
    fn cursors_round_trip_and_belong_to_their_list() {
        let at = At::<'c'> { time: DateTime::from_timestamp_micros(5).unwrap(), id: Uuid::from_u128(7) };
        assert_eq!(At::<'c'>::decode(&at.encode()), Some(at));
        assert_eq!(At::<'m'>::decode(&at.encode()), None);
        assert_eq!(i64::decode(&42i64.encode()), Some(42));
        let forged = URL_SAFE_NO_PAD.encode(format!("c:{}:{}", i64::MAX, at.id));
        assert_eq!(At::<'c'>::decode(&forged), None, "no moment that Postgres knows");
        for bad in ["", "x", "bm90aGluZw", &42i64.encode()[1..], "%00"] {
            assert_eq!(i64::decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_query_is_read_strictly() {
        let parse = |query| page::<i64>(Some(query), "before");
        assert_eq!(parse("").unwrap(), Page { after: None, limit: 20 });
        let both = format!("limit=5&before={}", 9i64.encode());
        assert_eq!(page::<i64>(Some(&both), "before").unwrap(), Page { after: Some(9), limit: 5 });
        for bad in [
            "limit=0",
            "limit=101",
            "limit=-1",
            "limit=x",
            "limit=",
            "limit=99999999999999999999",
            "limit=05",
            "before=x",
            "limit=5&limit=5",
            "other=1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_has_sixteen_parameters_at_most() {
        let query = |count: u32| (0..count).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
        assert_eq!(parameters_of(Some(&query(16))).unwrap().len(), 16);
        assert_eq!(parameters_of(Some(&query(17))).unwrap_err().code, ErrorCode::BadRequest);
    }
}
