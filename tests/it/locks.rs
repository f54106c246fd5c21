//! Rights come before locks: nobody waits for a request that is refused, and a batch of posts waits for no busy circle.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use optimist_shared::routes::{Audience, Method as RouteMethod, Pattern, ROUTES, Route};
use optimist_tests::stores::{SHARED, Transaction};
use optimist_tests::{Answer, Client, System};
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::Cast;

/// The advisory locks that transactions have asked for so far.
async fn locks(system: &System) -> u64 {
    let statements = system.origins[0].statements().await;
    ["postgres::lock", "postgres::lock_free"].iter().filter_map(|name| statements.get(*name)).sum()
}

/// Makes the edge forget who is in which circle, so that it cannot tell the origin.
async fn forget_memberships(system: &System) {
    let mut redis = system.redis.connect().await;
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("membership:*").query_async(&mut redis).await.expect("redis answers");
    if !keys.is_empty() {
        let _: () = redis::cmd("DEL").arg(keys).query_async(&mut redis).await.expect("redis answers");
    }
}

async fn ask(client: &Client, method: &str, path: &str, body: Value) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    client.send(method, path, &[], (!body.is_null()).then(|| body.to_string().into_bytes())).await
}

/// A body that the route accepts, so that only the right is missing.
fn body_of(route: &Route) -> Value {
    match route.name {
        "circles.update" => json!({"description": "Mine."}),
        "members.update" => json!({"role": "moderator"}),
        "ownership.offer" => json!({"user": uuid::Uuid::now_v7()}),
        "reports.make" => json!({"reason": "spam"}),
        "reports.decide" => json!({"decision": "dismiss"}),
        "unread.mark" => json!({"number": 0}),
        "messages.post" | "messages.edit" | "comments.post" => json!({"body": "Mine."}),
        _ => Value::Null,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_has_locked_nothing() {
    let system = System::start().await;
    let cast = Cast::new(&system, "private").await;
    let elsewhere = uuid::Uuid::now_v7().to_string();
    let writes = ROUTES.iter().filter(|route| {
        route.method != RouteMethod::Get
            && route.pattern == Pattern::WriteThrough
            && route.audience.wants_membership()
    });
    let mut refused = 0;
    for route in writes {
        // A known message and member, and ids that lead nowhere.
        for (message, other) in [(&cast.message, &cast.member.user), (&elsewhere, &elsewhere)] {
            let path = route
                .path
                .replace("{circle}", &cast.circle)
                .replace("{message}", message)
                .replace("{user}", other)
                .replace("{invite}", &elsewhere);
            for (name, client) in cast.everyone() {
                let is_outside = matches!(name, "former" | "banned" | "stranger");
                let lacks = match route.audience {
                    Audience::Moderator => is_outside || name == "member",
                    Audience::Owner => name != "owner",
                    _ => is_outside,
                };
                if !lacks {
                    continue;
                }
                // The edge does not know the role at first, and then it does.
                forget_memberships(&system).await;
                for _ in 0..2 {
                    let before = locks(&system).await;
                    let answer = ask(client, route.method.as_str(), &path, body_of(route)).await;
                    assert!([403, 404].contains(&answer.status), "{} by the {name}: {answer:#?}", route.name);
                    assert_eq!(locks(&system).await, before, "{} by the {name}", route.name);
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 100, "only {refused} were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_depends_on_the_path_is_checked_before_the_locks_too() {
    let system = System::start().await;
    let cast = Cast::new(&system, "private").await;
    let path = |rest: String| cast.path(&rest);
    let (owner, stranger) = (&cast.owner.user, &cast.stranger.user);
    let message = path(format!("/messages/{}", cast.message));
    let bad_invite = "QQ".repeat(21) + "A";
    let refusals = [
        // Another's message.
        (&cast.owner, "PATCH", message.clone(), json!({"body": "Mine."}), 403),
        (&cast.owner, "PATCH", path(format!("/messages/{stranger}")), json!({"body": "Mine."}), 404),
        (&cast.owner, "DELETE", path(format!("/messages/{stranger}")), Value::Null, 404),
        // Someone who is no member, or ranks higher.
        (&cast.moderator, "PATCH", path(format!("/members/{stranger}")), json!({"role": "member"}), 404),
        (&cast.moderator, "PATCH", path(format!("/members/{owner}")), json!({"role": "member"}), 403),
        (&cast.moderator, "DELETE", path(format!("/members/{owner}")), Value::Null, 403),
        (&cast.owner, "DELETE", path(format!("/members/{owner}")), Value::Null, 403),
        // A private circle, without a good invitation.
        (&cast.stranger, "POST", path("/members/me".into()), json!({}), 404),
        (&cast.stranger, "POST", path("/members/me".into()), json!({"invite": bad_invite}), 404),
        (&cast.banned, "POST", path("/members/me".into()), json!({}), 404),
        (&cast.stranger, "POST", format!("/v1/circles/{stranger}/members/me"), json!({}), 404),
    ];
    for (client, method, path, body, status) in refusals {
        let before = locks(&system).await;
        ask(client, method, &path, body).await.expect(status);
        assert_eq!(locks(&system).await, before, "{method} {path}");
    }
}

/// Holds a lock, until it is dropped.
fn hold(system: &System, name: &str) -> Transaction {
    let lock = format!("select pg_advisory_xact_lock(hashtextextended('{name}', 0))");
    SHARED.transaction(&system.database, &lock)
}

/// A moderator may name anyone, but only members are locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_is_banned_is_not_waited_for() {
    let system = System::start().await;
    let cast = Cast::new(&system, "private").await;
    let held = hold(&system, &cast.stranger.user);
    let named = cast.path(&format!("/members/{}", cast.stranger.user));
    for query in ["", "?ban=true", "?ban=true"] {
        let begun = Instant::now();
        cast.moderator.delete(&format!("{named}{query}")).await.expect(204);
        assert!(begun.elapsed() < Duration::from_secs(1), "{query:?} took {:?}", begun.elapsed());
    }
    drop(held);
}

/// While somebody holds a circle's lock, posts in other circles of its lane are posted as fast as ever; its own are posted as
/// soon as the lock is free, or refused with 503 after a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_circle_is_left_for_the_next_batch() {
    let system = System::start().await;
    let owner = system.register("Owen").await;
    let mut others = Vec::new();
    for _ in 0..6 {
        let other = system.register("Otto").await;
        let circle = other.create_circle("private").await;
        others.push((other, circle));
    }
    let busy = owner.create_circle("private").await;
    let post = |client: &Client, circle: &str| {
        let (client, path) = (client.clone(), format!("/v1/circles/{circle}/messages"));
        tokio::spawn(async move { client.post(&path, json!({"body": "Hello."})).await })
    };
    let held = hold(&system, &busy);
    let mut waiting = vec![post(&owner, &busy)];
    for _ in 0..3 {
        let begun = Instant::now();
        waiting.push(post(&owner, &busy));
        for answer in join_all(others.iter().map(|(other, circle)| post(other, circle))).await {
            answer.unwrap().expect(201);
        }
        assert!(begun.elapsed() < Duration::from_millis(700), "others waited {:?}", begun.elapsed());
    }
    drop(held);
    for answer in join_all(waiting).await {
        answer.unwrap().expect(201);
    }

    let held = hold(&system, &busy);
    let begun = Instant::now();
    let refused = post(&owner, &busy).await.unwrap().expect(503);
    assert_eq!(refused.header("retry-after"), "1");
    assert!(begun.elapsed() < Duration::from_millis(2500), "refused after {:?}", begun.elapsed());
    drop(held);
    post(&owner, &busy).await.unwrap().expect(201);
}
