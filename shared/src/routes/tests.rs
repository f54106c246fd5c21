//! What holds the routes table together, and with the others.

use super::*;
use crate::keys::{Freshness, KEYS};
use crate::limits::{LIMITS, Scope};
use std::collections::HashSet;

const ID: &str = "0190a0a0-0000-7000-8000-000000000001";

fn route_of(method: &str, path: &str) -> Option<&'static str> {
    match find(method, path) {
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
                route.caller != Caller::Public,
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
            for name in key.row().parameter_names() {
                let from_session = matches!(name, "user" | "session");
                // Creation makes the id that its own keys then carry; a log-in names its user in the body.
                let made_here = matches!(route.name, "circles.create" | "auth.refresh");
                assert!(
                    from_session || made_here || route.path.contains(&format!("{{{name}}}")),
                    "{}: nothing provides <{name}> of {key:?}",
                    route.name
                );
            }
        }
    }
}

#[test]
fn cached_routes_check_membership_or_hold_nothing_private() {
    for route in ROUTES.iter().filter(|route| route.pattern == Pattern::CacheAside) {
        let key = route.key.expect("a cached route has a key");
        let of_circle = key.row().parameter_names().any(|name| name == "circle");
        assert_eq!(of_circle, route.caller.wants_membership(), "{}", route.name);
        assert_eq!(route.method, Method::Get);
        // What remains: one's own (`me`), and what every signed-in user may see.
        assert!(
            of_circle || matches!(key, Key::Me | Key::Profile | Key::Discovery | Key::Prompts),
            "{}",
            route.name
        );
    }
}

#[test]
fn every_fenced_key_is_cached_and_fenced_somewhere() {
    for row in KEYS.iter().filter(|row| row.freshness == Freshness::Fenced) {
        let read = ROUTES.iter().any(|route| route.key == Some(row.key));
        // Read by `admit`, as an overlay, or by the origin alone, rather than as a route's own value.
        let admitted = matches!(row.key, Key::Session | Key::Membership | Key::CircleAccess)
            || matches!(row.key, Key::RecentTags | Key::Streak);
        assert!(read || admitted, "{} is cached by nobody", row.template);
        assert!(
            ROUTES.iter().any(|route| route.fences.contains(&row.key)),
            "{} is fenced by nobody",
            row.template
        );
    }
    for route in ROUTES {
        assert!(route.fences.is_empty() || route.pattern == Pattern::WriteThrough, "{}", route.name);
        assert!(
            route.fences.iter().all(|key| matches!(key.row().freshness, Freshness::Fenced | Freshness::Live)),
            "{}",
            route.name
        );
    }
}

#[test]
fn every_limit_is_somebodys() {
    // Bad tokens are counted by the pipeline itself, whatever the route.
    for row in LIMITS.iter().filter(|row| row.limit != Limit::BadTokens) {
        assert!(ROUTES.iter().any(|route| route.limits.contains(&row.limit)), "{} guards nothing", row.name);
    }
}

#[test]
fn literal_segments_win_and_ids_are_parsed() {
    assert_eq!(route_of("DELETE", &format!("/v1/circles/{ID}/members/me")), Some("members.leave"));
    assert_eq!(route_of("DELETE", &format!("/v1/circles/{ID}/members/{ID}")), Some("members.remove"));
    assert_eq!(route_of("HEAD", "/v1/me"), Some("me.get"));
    assert!(matches!(find("GET", "/v1/circles/7"), Matched::BadParameter("circle", _)));
    let reaction = |kind: &str| format!("/v1/circles/{ID}/messages/{ID}/reactions/{kind}");
    assert_eq!(route_of("PUT", &reaction("heart")), Some("reactions.add"));
    assert!(matches!(find("PUT", &reaction("frown")), Matched::BadParameter("kind", _)));
    assert!(matches!(find("GET", "/v1/nothing"), Matched::NotFound));
    assert!(matches!(find("GET", "/v1/me/"), Matched::NotFound));
    match find("PUT", "/v1/me") {
        Matched::MethodNotAllowed(allowed) => assert_eq!(allowed, [Method::Get, Method::Patch]),
        other => panic!("{other:?}"),
    }
}
