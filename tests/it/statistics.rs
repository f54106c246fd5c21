//! The sums of circles' days equal the rows that they are of, whatever dies.

use optimist_tests::unlimited::Unlimited;
use optimist_tests::{Client, Kind, Options, Origin, System, scale, until};
use reqwest::Method;
use serde_json::{Value, json};

const PEOPLE: usize = 5;
const CIRCLES: usize = 2;

/// Does something at random, as somebody, in one of the circles. Refusals and failures are fine: the rows tell what was done.
async fn act(
    edge: &str,
    people: &[Client],
    unlimited: &Unlimited,
    circles: &[String],
    messages: &mut [Vec<String>],
) {
    let (person, circle) = (fastrand::usize(..PEOPLE), fastrand::usize(..CIRCLES));
    let path = format!("/v1/circles/{}", circles[circle]);
    let mut client = &people[person];
    let other = &people[fastrand::usize(..PEOPLE)].user;
    let known = &messages[circle];
    let message = known.get(fastrand::usize(..known.len().max(1))).cloned();
    let message = message.map(|message| format!("{path}/messages/{message}"));
    let text = json!({"body": "Good morning."});
    let (method, path, body) = match (fastrand::u8(..20), message) {
        (0..6, Some(message)) => {
            let kind = if fastrand::bool() { "heart" } else { "hug" };
            (Method::PUT, format!("{message}/reactions/{kind}"), Value::Null)
        }
        (6..9, Some(message)) => (Method::POST, format!("{message}/comments"), text),
        (9, Some(message)) => (Method::DELETE, message, Value::Null),
        (10..12, _) => (Method::POST, format!("{path}/members/me"), json!({})),
        (12, _) => (Method::DELETE, format!("{path}/members/me"), Value::Null),
        (13..16, _) => {
            // The circle's owner removes somebody, bans them, or lifts a ban.
            client = &people[circle];
            let path = match fastrand::u8(..3) {
                0 => format!("{path}/members/{other}"),
                1 => format!("{path}/members/{other}?ban=true"),
                _ => format!("{path}/bans/{other}"),
            };
            (Method::DELETE, path, Value::Null)
        }
        _ => (Method::POST, format!("{path}/messages"), text),
    };
    let client = client.at(edge);
    unlimited.forget(&client).await;
    let sent = (!body.is_null()).then(|| body.to_string().into_bytes());
    if let Ok(answer) = client.try_send(method, &path, &[], sent).await
        && answer.status == 201
        && path.ends_with("/messages")
    {
        messages[circle].push(answer.text("/id"));
    }
}

/// By circle: posts, comments, reactions, people by day, who came, who went, and who is there, as the rows themselves have it. Nobody
/// takes a reaction back.
const RECOMPUTED: &str = "select c.id,
    (select count(*) from messages where circle_id = c.id),
    (select count(*) from messages where circle_id = c.id and parent_id is not null),
    (select count(*) from reactions where circle_id = c.id),
    (select count(*) from (
        select author_id, (created_at at time zone 'UTC')::date from messages where circle_id = c.id
        union select user_id, (reacted_at at time zone 'UTC')::date from reactions where circle_id = c.id) active),
    (select count(*) from outbox where payload ->> 'circle' = c.id::text and kind in ('circle.created', 'member.joined')),
    (select count(*) from outbox where payload ->> 'circle' = c.id::text
        and (kind = 'member.left' or kind = 'member.removed' and payload @> '{\"member\": true}')),
    (select count(*) from memberships where circle_id = c.id and role <> 'banned')
    from circles c order by c.id";

const SUMS: &str = "select c.id, posts, comments, reactions, people, joined, departed,
    (select members from member_days where circle_id = c.id order by day desc limit 1)
    from circles c,
    lateral (
        select sum(posts) as posts, sum(comments) as comments, sum(reactions) as reactions, sum(people) as people
        from activity_days where circle_id = c.id) a,
    lateral (select sum(joined) as joined, sum(departed) as departed from member_days where circle_id = c.id) m
    order by c.id";

#[tokio::test(flavor = "multi_thread")]
async fn the_sums_of_days_equal_the_rows_while_origins_die() {
    const STEPS: [&str; 5] =
        ["tx.committed", "flush.applied", "flush.committed", "reactions.changed", "projections.done"];
    let deeds = scale("OPTIMIST_DEEDS", 300);
    let mut system = System::with(Options { origins: 2, appendfsync: "always", ..Options::default() }).await;
    let other_edge = system.edge_before(Kind::Embedded, &system.origins[1].api);
    let edges = [system.edge.url.clone(), other_edge.url.clone()];
    let mut people = Vec::new();
    for _ in 0..PEOPLE {
        people.push(system.register("Ada").await);
    }
    let mut circles = Vec::new();
    for owner in people.iter().take(CIRCLES) {
        circles.push(owner.create_circle("public").await);
    }
    let unlimited = Unlimited::new(&system);
    let mut messages = vec![Vec::new(); CIRCLES];
    let mut died = 0;
    for deed in 0..deeds {
        if !system.origins[0].is_running() {
            system.replace_origin(0);
            died += 1;
        }
        let edge = &edges[fastrand::usize(..edges.len())];
        act(edge, &people, &unlimited, &circles, &mut messages).await;
        if deed % 60 == 30 {
            system.origins[0].arm(STEPS[fastrand::usize(..STEPS.len())], "abort", 0, 1).await;
        }
    }
    assert!(died > 0, "no origin died");
    until("the sums are those of the rows", async || {
        if !system.origins[0].is_running() {
            system.replace_origin(0);
        }
        let (rows, sums) = (system.sql(RECOMPUTED), system.sql(SUMS));
        println!("{rows}\n{sums}\n");
        rows == sums
    })
    .await;
    for data_type in ["activity_days", "activity_totals", "member_days", "member_count"] {
        let (is_good, output) = Origin::command(&system.environment(), &["check", data_type]);
        assert!(is_good, "{data_type}: {output}");
    }
    // The API says the same.
    for (owner, circle) in people.iter().zip(&circles) {
        let owner = owner.at(&other_edge.url);
        let path = format!("/v1/circles/{circle}");
        let growth = owner.get(&format!("{path}/growth")).await.expect(200).body;
        let stats = owner.get(&format!("{path}/stats")).await.expect(200).body;
        let sum = |field: &str| -> i64 {
            growth["items"].as_array().unwrap().iter().map(|day| day[field].as_i64().unwrap()).sum()
        };
        let members = &growth["items"][0]["members"];
        let expected = system.sql(SUMS);
        let expected = expected.lines().find(|line| line.starts_with(circle.as_str())).unwrap().to_owned();
        let found = ["posts", "comments", "reactions", "people", "joined", "left"]
            .map(|field| sum(field).to_string());
        assert_eq!(format!("{circle}|{}|{members}", found.join("|")), expected);
        assert_eq!(&stats["members"], members);
        for window in ["in_all", "last_7_days", "last_30_days"] {
            for field in ["posts", "comments", "reactions"] {
                assert_eq!(stats[window][field], sum(field), "{window}.{field}: {stats}");
            }
        }
    }
}
