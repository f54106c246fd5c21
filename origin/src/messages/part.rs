//! The part of a circle's history that a query asks for.

use optimist_plane::describe;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::page::{Cursor, limit, parameters_of};
use optimist_shared::envelope::DEFAULT_LIMIT;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;

/// A place in a circle's history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// That of a message.
    Id(Uuid),
    /// That of the message with the number, if there still is one.
    Number(i64),
}

describe!(Place, {"anyOf": [
    {"type": "string", "pattern": "^(0|[1-9][0-9]{0,17})$"},
    {"type": "string", "format": "cursor"},
]});

impl Place {
    /// From a cursor, or from a number in digits. Cursors of an earlier release hold numbers.
    fn parse(text: &str) -> Option<Place> {
        let is_number = (1..=18).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        if is_number {
            return text.parse().ok().map(Place::Number);
        }
        Uuid::decode(text).map(Place::Id).or_else(|| i64::decode(text).map(Place::Number))
    }
}

/// The part of a circle's history that a query asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    Newest,
    Before(Place),
    After(Place),
}

/// Reads `limit` and at most one of `before` and `after`.
pub fn part_of(query: Option<&str>) -> Result<(Part, usize)> {
    let (mut part, mut most) = (Part::Newest, DEFAULT_LIMIT);
    for (name, value) in parameters_of(query)? {
        let refused = |reason: &str| Error::new(ErrorCode::BadRequest).field(name.clone(), reason);
        let place =
            || Place::parse(&value).ok_or_else(|| refused("is neither a cursor of this list nor a number"));
        match name.as_str() {
            "limit" => most = limit(&value)?,
            "before" | "after" if part != Part::Newest => return Err(refused("is not for both directions")),
            "before" => part = Part::Before(place()?),
            "after" => part = Part::After(place()?),
            _ => return Err(refused("is not a parameter of this list")),
        }
    }
    Ok((part, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_one_part_of_the_history() {
        let part = |query: &str| part_of(Some(query)).ok();
        let id = Uuid::now_v7();
        let (cursor, former) = (id.encode(), 9i64.encode());
        assert_eq!(part(""), Some((Part::Newest, 20)));
        assert_eq!(part(&format!("limit=5&before={cursor}")), Some((Part::Before(Place::Id(id)), 5)));
        assert_eq!(part(&format!("after={cursor}")), Some((Part::After(Place::Id(id)), 20)));
        assert_eq!(part(&format!("after={former}")), Some((Part::After(Place::Number(9)), 20)));
        assert_eq!(part("after=9"), Some((Part::After(Place::Number(9)), 20)));
        assert_eq!(part("after=0"), Some((Part::After(Place::Number(0)), 20)));
        for bad in [
            "after=",
            "after=09",
            "after=-1",
            "after=1234567890123456789",
            "after=x",
            "after=1&before=2",
            "from=1",
        ] {
            assert_eq!(part(bad), None, "{bad}");
        }
    }
}
