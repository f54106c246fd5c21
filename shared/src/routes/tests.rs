//! The routes table is consistent in itself and with the other tables.

use proptest::prelude::*;

use super::*;
use crate::ids::{Id, Uuid};
use crate::keys::{Freshness, KEYS};
use crate::limits::{LIMITS, Scope};
use std::collections::HashSet;

const ID: &str = "0190a0a0-0000-7000-8000-000000000001";

fn route_of(method: &str, path: &str) -> Option<&'static str> {
    match lookup(method, path) {
        Matched::Route(route, _) => Some(route.name),
        _ => None,
    }
}

#[test]
fn names_and_operations_are_unique() {
    let names: HashSet<_> = ROUTES.iter().map(|route| route.name).collect();
    let operations: HashSet<_> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
    assert_eq!((names.len(), operations.len()), (ROUTES.len(), ROUTES.len()));
}

#[test]
fn every_route_has_a_limit_of_its_caller() {
    for route in ROUTES {
        assert!(!route.limits.is_empty(), "{} has no limit", route.name);
        for limit in route.limits {
            let user = limit.row().scope == Scope::User;
            assert_eq!(
                user,
                route.audience != Audience::Public,
                "{}: {limit:?} does not fit its caller",
                route.name
            );
        }
    }
}

#[test]
fn key_parameters_come_from_path_or_session() {
    for route in ROUTES {
        for key in route.key.iter().chain(route.fences) {
            for id in key.row().ids() {
                let from_session = matches!(id, Id::User | Id::Session);
                // Creation makes the id that its own keys carry; a log-in names its user in the body; an erasure reads the person's
                // circles.
                let made_here =
                    matches!(route.name, "circles.create" | "auth.login" | "auth.refresh" | "me.erase");
                assert!(
                    from_session || made_here || route.path.contains(&format!("{{{}}}", id.as_str())),
                    "{}: nothing provides {id:?} of {key:?}",
                    route.name
                );
            }
        }
    }
}

#[test]
fn what_the_edge_does_fits_the_rest_of_the_row() {
    for route in ROUTES {
        let (expected, is_cached) = match route.at_edge {
            // A read that the edge cannot answer, or a write that Postgres takes first.
            AtEdge::Forward => (route.pattern, false),
            AtEdge::Cached => (Pattern::CacheAside, true),
            AtEdge::Session | AtEdge::Limits => (Pattern::RedisOnly, false),
            AtEdge::React { .. } | AtEdge::Visit | AtEdge::MarkRead => (Pattern::WriteBehind, false),
            AtEdge::Type | AtEdge::SayPresence => (Pattern::RedisOnly, false),
            AtEdge::SaveMessageDraft | AtEdge::ReadMessageDraft => (Pattern::RedisOnly, false),
            AtEdge::DropMessageDraft => (Pattern::RedisOnly, false),
            AtEdge::NoteRecent | AtEdge::ListRecent => (Pattern::RedisOnly, false),
        };
        assert_eq!((route.pattern, route.key.is_some()), (expected, is_cached), "{}", route.name);
        let by_itself =
            matches!(route.pattern, Pattern::CacheAside | Pattern::RedisOnly | Pattern::WriteBehind);
        assert_eq!(by_itself, route.at_edge != AtEdge::Forward, "{}", route.name);
        let reacts = matches!(route.at_edge, AtEdge::React { .. });
        assert_eq!(reacts, route.path.contains("{kind}"), "{}", route.name);
        // The path ends with the entity that an auto-save is charged for.
        assert!(route.pattern != Pattern::AutoSave || route.path.ends_with('}'), "{}", route.name);
    }
}

#[test]
fn cached_routes_check_membership_or_hold_nothing_private() {
    for route in ROUTES.iter().filter(|route| route.pattern == Pattern::CacheAside) {
        let key = route.key.expect("a cached route has a key");
        let of_circle = key.row().ids().any(|id| id == Id::Circle);
        assert_eq!(of_circle, route.audience.wants_membership(), "{}", route.name);
        assert_eq!(route.method, Method::Get);
        // The other keys hold the caller's own data (`me`, preferences, push tokens), or what every signed-in user may see.
        assert!(
            of_circle
                || matches!(
                    key,
                    Key::Me
                        | Key::Profile
                        | Key::PersonalPreferences
                        | Key::Preferences
                        | Key::Categories
                        | Key::PushTokens
                        | Key::Discovery
                        | Key::Prompts
                ),
            "{}",
            route.name
        );
    }
}

#[test]
fn every_fenced_key_is_cached_and_fenced_somewhere() {
    for row in KEYS.iter().filter(|row| row.freshness == Freshness::Fenced) {
        let read = ROUTES.iter().any(|route| route.key == Some(row.key));
        // Keys read by `admit`, for an overlay, or by the origin alone, rather than as a route's own value.
        let admitted = matches!(row.key, Key::Session | Key::Membership | Key::CircleAccess | Key::Blocked)
            || matches!(row.key, Key::RecentTags | Key::Streak)
            || matches!(row.key, Key::MyCircles | Key::CircleHead | Key::ReadMarker);
        assert!(read || admitted, "{} is cached by nobody", row.template);
        assert!(
            ROUTES.iter().any(|route| route.fences.contains(&row.key)),
            "{} is fenced by nobody",
            row.template
        );
    }
    for route in ROUTES {
        // What is written behind is written through where Redis takes nothing.
        let writes = matches!(route.pattern, Pattern::WriteThrough | Pattern::WriteBehind);
        assert!(route.fences.is_empty() || writes, "{}", route.name);
        assert!(
            route.fences.iter().all(|key| matches!(key.row().freshness, Freshness::Fenced | Freshness::Live)),
            "{}",
            route.name
        );
    }
}

#[test]
fn every_limit_is_somebodys() {
    // The pipeline itself counts bad tokens, whatever the route.
    let guards =
        |limit: Limit| limit == Limit::BadTokens || ROUTES.iter().any(|route| route.limits.contains(&limit));
    for row in LIMITS {
        // Those of networks are charged with those of addresses.
        let is_wider =
            || LIMITS.iter().any(|own| own.limit.wider().contains(&row.limit) && guards(own.limit));
        assert!(guards(row.limit) || is_wider(), "{} guards nothing", row.name);
    }
}

#[test]
fn literal_segments_win_and_ids_are_parsed() {
    assert_eq!(route_of("DELETE", &format!("/v1/circles/{ID}/members/me")), Some("members.leave"));
    assert_eq!(route_of("DELETE", &format!("/v1/circles/{ID}/members/{ID}")), Some("members.remove"));
    assert_eq!(route_of("HEAD", "/v1/me"), Some("me.get"));
    assert!(matches!(lookup("GET", "/v1/circles/7"), Matched::BadParameter("circle", _)));
    let reaction = |kind: &str| format!("/v1/circles/{ID}/messages/{ID}/reactions/{kind}");
    assert_eq!(route_of("PUT", &reaction("heart")), Some("reactions.add"));
    assert!(matches!(lookup("PUT", &reaction("frown")), Matched::BadParameter("kind", _)));
    assert!(matches!(lookup("GET", "/v1/nothing"), Matched::NotFound));
    assert!(matches!(lookup("GET", "/v1/me/"), Matched::NotFound));
    match lookup("PUT", "/v1/me") {
        Matched::MethodNotAllowed(allowed) => {
            assert_eq!(allowed, [Method::Get, Method::Patch, Method::Delete])
        }
        other => panic!("{other:?}"),
    }
}

/// A path that fits the template.
fn path_of(template: &str, id: Uuid, kind: usize) -> String {
    let segment = |segment: &str| match segment {
        "{kind}" => crate::reactions::KINDS[kind % crate::reactions::KINDS.len()].to_owned(),
        parameter if parameter.starts_with('{') => id.to_string(),
        literal => literal.to_owned(),
    };
    template.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// The path with these parameters.
fn path_to(template: &str, named: &Path, asked: &str) -> String {
    let segment = |(expected, asked): (&str, &str)| match expected.strip_prefix('{') {
        None => expected.to_owned(),
        Some("kind}") => named.kind.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        // A copy's name, which only the origin reads.
        Some("key}") => asked.to_owned(),
        Some(name) => {
            let id = Id::parse(name.trim_end_matches('}')).and_then(|id| named.ids.get(id));
            id.map(|id| id.to_string()).unwrap_or_default()
        }
    };
    template.split('/').zip(asked.split('/')).map(segment).collect::<Vec<_>>().join("/")
}

proptest! {
    #[test]
    fn every_route_is_found_by_its_path_alone(
        row in 0..ROUTES.len(),
        id: u128,
        kind: usize,
        at: usize,
        edit in "[/?{}a-f0-9%.]{0,2}",
    ) {
        let route = &ROUTES[row];
        let mut path = path_of(route.path, Uuid::from_u128(id), kind);
        prop_assert_eq!(route_of(route.method.as_str(), &path), Some(route.name));
        let at = at % path.len();
        path.replace_range(at..=at, &edit);
        if let Matched::Route(route, named) = lookup(route.method.as_str(), &path) {
            prop_assert_eq!(path_to(route.path, &named, &path), path);
        }
    }

    #[test]
    fn whatever_comes_as_a_path_leads_to_its_route_or_nowhere(
        method in "GET|HEAD|POST|DELETE|get|\\PC{0,8}",
        path in "(/|//|/v1|/circles|/me|/members|/[0-9a-f-]{36}|/[a-z{}]{0,8}){0,7}|\\PC*",
    ) {
        if let Matched::Route(route, named) = lookup(&method, &path) {
            prop_assert_eq!(path_to(route.path, &named, &path), path);
        }
    }
}
