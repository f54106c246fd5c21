//! Cached reads: the caller's right to a copy, and the answer made from it.

use optimist_shared::envelope::{Body, DEFAULT_LIMIT, Envelope, parse_limit, render_list, render_object};
use optimist_shared::etag::{entity_tag, none_match_hits};
use optimist_shared::reactions::{Counts, counts_version};
use optimist_shared::routes::{Overlay, Route};
use optimist_shared::session::{Access, Role};

use crate::copy::Copy;
use crate::host::{Request, Response};
use crate::respond::Exchange;

/// The part of a cached value that a request's query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// No query: the whole value, or a list's usual first page.
    Whole,
    /// This many items of a list's first page.
    First { limit: usize },
    /// Only the origin can answer: a later page, or a query that it should refuse.
    Other,
}

impl Wanted {
    /// Reads the query. The edge understands only `limit` within bounds.
    pub fn of(query: &str) -> Wanted {
        if query.is_empty() {
            return Wanted::Whole;
        }
        let limit = query.strip_prefix("limit=").and_then(parse_limit);
        limit.map_or(Wanted::Other, |limit| Wanted::First { limit })
    }

    /// The number of items of a list. `None` if only the origin can answer.
    pub fn limit(self) -> Option<usize> {
        match self {
            Wanted::Whole => Some(DEFAULT_LIMIT),
            Wanted::First { limit } => Some(limit),
            Wanted::Other => None,
        }
    }
}

/// How an answer from the cache is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Fresh,
    /// A store is unavailable, and this is the best answer there is.
    Degraded,
}

/// The overlays of a cached value, as far as Redis has them.
pub struct Overlays {
    pub role: Option<Role>,
    /// The counts of each shown item, or of the one object; `None` where they are unknown.
    pub counts: Vec<Option<Counts>>,
}

/// The answer made from a cached value. `None` if the value cannot be one: it is malformed, of another kind than the route's,
/// lacks an overlay, or was not read far enough.
pub fn answer(
    exchange: &Exchange,
    request: &impl Request,
    route: &Route,
    wanted: Wanted,
    copy: &Copy<'_>,
    overlays: &Overlays,
    mark: Mark,
) -> Option<Response> {
    let (version, list) = match copy {
        Copy::Read(Envelope { body: Body::Object { version, .. }, .. }) => (*version, None),
        Copy::Read(Envelope { body: Body::List { version, items, .. }, .. }) => (*version, Some(items.len())),
        Copy::Read(_) => return None,
        Copy::Head(head) => (head.version, head.is_list.then(|| head.ids().count())),
    };
    let tag = overlays.tag(route, wanted, version, list, mark)?;
    let stamp = copy.stamp();
    let age = exchange.started_ms.saturating_sub(stamp.read_at_ms) / 1000;
    // Seconds of freshness left, negative once expired (RFC 9211, 2.4).
    let ttl = (i128::from(stamp.fresh_until_ms) - i128::from(exchange.started_ms)).div_euclid(1000);
    let mut headers = vec![("etag", tag.clone()), ("age", age.to_string())];
    match mark {
        Mark::Fresh => headers.push(("cache-status", format!("optimist; hit; ttl={ttl}"))),
        Mark::Degraded => headers.extend([
            ("cache-status", format!("optimist; hit; ttl={ttl}; detail=degraded")),
            ("warning", "110 - \"Response is Stale\"".to_owned()),
        ]),
    }
    headers.push(("server-timing", format!("redis;dur={}", exchange.redis_ms)));
    if request.header("if-none-match").is_some_and(|header| none_match_hits(&header, &tag)) {
        return Some(exchange.respond(304, headers, Vec::new()));
    }
    let Copy::Read(envelope) = copy else { return None };
    headers.push(("content-type", "application/json".to_owned()));
    Some(exchange.respond(200, headers, overlays.json(route, wanted, &envelope.body)?))
}

impl Overlays {
    fn role(&self) -> Option<Role> {
        self.role.filter(|role| role.is_member())
    }

    fn counts(&self, index: usize) -> Option<Counts> {
        self.counts.get(index).copied().flatten()
    }

    fn reactions(&self, index: usize) -> (&'static str, String) {
        ("reactions", self.counts(index).map_or_else(|| "null".to_owned(), |counts| counts.to_json()))
    }

    /// The entity tag of the answer from a value of this version: an object, or a list with so many items. `None` if an overlay
    /// is missing, or the query is of another kind of value.
    fn tag(
        &self,
        route: &Route,
        wanted: Wanted,
        version: &str,
        list: Option<usize>,
        mark: Mark,
    ) -> Option<String> {
        let overlay_version = match list {
            // Only a list has a `limit`; the origin refuses it for an object.
            None if wanted != Wanted::Whole => return None,
            None if route.overlays.contains(&Overlay::Role) => {
                self.role().map_or("none", Role::as_str).to_owned()
            }
            _ if route.overlays.contains(&Overlay::Reactions) => {
                let shown = list.map_or(Some(1), |items| Some(items.min(wanted.limit()?)))?;
                // If the origin cannot answer, unknown counts are no reason to hide a message.
                if mark == Mark::Fresh && !(0..shown).all(|index| self.counts(index).is_some()) {
                    return None;
                }
                counts_version(&(0..shown).map(|index| self.counts(index)).collect::<Vec<_>>())
            }
            _ => String::new(),
        };
        Some(entity_tag(version, &overlay_version))
    }

    /// The value with its overlays joined.
    fn json(&self, route: &Route, wanted: Wanted, body: &Body<'_>) -> Option<Vec<u8>> {
        let is_counted = route.overlays.contains(&Overlay::Reactions);
        Some(match body {
            Body::Object { json, .. } if route.overlays.contains(&Overlay::Role) => {
                render_object(json, &[("role", Role::overlay(self.role()))])
            }
            Body::Object { json, .. } if is_counted => render_object(json, &[self.reactions(0)]),
            Body::Object { json, .. } => json.to_vec(),
            Body::List { items, more, archived_before, .. } => {
                let overlay = |index| is_counted.then(|| self.reactions(index));
                render_list(items, *more, *archived_before, wanted.limit()?, overlay)
            }
            Body::Text(_) | Body::Session(_) => return None,
        })
    }
}

/// A caller's right to read a circle, as far as the edge knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Granted,
    /// For this caller the circle does not exist.
    Hidden,
    Unknown,
}

/// `access` comes from a trusted copy.
pub fn right_to_read(role: Option<Role>, access: Option<Access>) -> Right {
    match (role, access) {
        (Some(role), _) if role.is_member() => Right::Granted,
        (Some(Role::None), Some(Access::Public)) => Right::Granted,
        (Some(Role::Banned), _) | (Some(_), Some(Access::Private | Access::Archived)) => Right::Hidden,
        _ => Right::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_limit_has_one_spelling(query in "[?]?(limit=)?[+]?[0-9]{0,4}(&limit=[0-9])?|\\PC*") {
            match Wanted::of(&query) {
                Wanted::Whole => prop_assert_eq!(query, ""),
                Wanted::First { limit } => prop_assert_eq!(query, format!("limit={limit}")),
                Wanted::Other => {}
            }
        }
    }

    #[test]
    fn only_a_limit_within_bounds_is_answered_here() {
        assert_eq!(Wanted::of("").limit(), Some(20));
        assert_eq!(Wanted::of("limit=100"), Wanted::First { limit: 100 });
        for other in ["limit=0", "limit=101", "limit=+5", "limit=5&cursor=x", "cursor=x", "limit=", "Limit=5"]
        {
            assert_eq!(Wanted::of(other), Wanted::Other, "{other}");
        }
    }

    #[test]
    fn strangers_read_public_circles_only() {
        assert_eq!(right_to_read(Some(Role::Member), None), Right::Granted);
        assert_eq!(right_to_read(Some(Role::None), Some(Access::Public)), Right::Granted);
        assert_eq!(right_to_read(Some(Role::None), Some(Access::Private)), Right::Hidden);
        assert_eq!(right_to_read(Some(Role::Banned), Some(Access::Public)), Right::Hidden);
        assert_eq!(right_to_read(Some(Role::None), None), Right::Unknown);
        assert_eq!(right_to_read(None, Some(Access::Public)), Right::Unknown);
    }
}
