//! The rights matrix, `matrix.txt`: a status for each route, kind of caller and state of a circle. The test walks it row by row.
//!
//! The matrix says who may call, not what happens then: a body that lacks a field is answered 400 or 422 to whoever may, and the tests of the
//! domains send better ones.

use std::collections::BTreeMap;

use optimist_shared::routes::{Audience, ROUTES, Route};
use optimist_tests::{Client, Origin, System, processes::workspace};
use reqwest::Method;
use serde_json::json;

use super::{Names, body, setting};
use crate::api::{on_own_system, problem};

const HEAD: &str = "\
# What each route answers to each kind of caller. After a change: OPTIMIST_BLESS=1, and read the difference.
# forged: with a token nobody issued. former: has left. blocked: a member whom the member blocks. target: of a deed, where a path
# names somebody, is another member. admin: of the service, in no circle. Archived circles are private ones. To routes for anyone
# only some are sent, for they are limited by address. Routes are asked in this order, and callers from the left: by the time that
# somebody's presence is asked, strangers have joined a public circle.
";

/// The weakest first: what somebody may do, they do.
const CALLERS: [&str; 11] = [
    "nobody",
    "forged",
    "stranger",
    "former",
    "banned",
    "suspended",
    "admin",
    "blocked",
    "member",
    "moderator",
    "owner",
];

/// Routes after which a circle or who is in it is another: each has a circle of its own.
const CHANGES_CIRCLE: [&str; 9] = [
    "circles.archive",
    "circles.restore",
    "members.join",
    "members.leave",
    "members.update",
    "members.remove",
    "ownership.offer",
    "ownership.withdraw",
    "ownership.accept",
];

struct People {
    by_name: BTreeMap<&'static str, Client>,
    /// Members to act on: the first by all but the owner, the second by the owner, for the moderator has removed the first.
    targets: [Client; 2],
}

struct Circle {
    id: String,
    /// The member's, one for each caller to act on, and one for each to delete.
    messages: Vec<String>,
}

impl People {
    async fn new(system: &System, cast: crate::api::Cast) -> People {
        let forged = format!("{0}.{0}.{1}", uuid::Uuid::now_v7(), "A".repeat(43));
        let [suspended, admin, blocked] =
            [system.register("Sue").await, system.register("Root").await, system.register("Bess").await];
        let targets = [system.register("Tim").await, system.register("Tom").await];
        let (granted, output) = Origin::command(&system.environment(), &["admin", "grant", &admin.email]);
        assert!(granted, "{output}");
        let path = format!("/v1/admin/users/{}/suspend", suspended.user);
        admin.post(&path, json!({"reason": "Sends advertisements."})).await.expect(200);
        let block = format!("/v1/me/blocks/{}", blocked.user);
        cast.member.send(Method::PUT, &block, &[], None).await.expect(204);
        let by_name = BTreeMap::from([
            ("nobody", system.client()),
            ("forged", system.client().with_token(forged)),
            ("stranger", cast.stranger),
            ("former", cast.former),
            ("banned", cast.banned),
            ("suspended", suspended),
            ("admin", admin),
            ("blocked", blocked),
            ("member", cast.member),
            ("moderator", cast.moderator),
            ("owner", cast.owner),
        ]);
        People { by_name, targets }
    }

    /// A circle with all of them but the suspended person.
    async fn circle(&self, system: &System, state: &str) -> Circle {
        let [owner, member] = ["owner", "member"].map(|name| &self.by_name[name]);
        system.forget_limits_of(owner).await;
        let id = owner.create_circle(if state == "public" { "public" } else { "private" }).await;
        let members = format!("/v1/circles/{id}/members");
        let joining = ["former", "banned", "blocked", "member", "moderator"].map(|name| &self.by_name[name]);
        for person in joining.into_iter().chain(&self.targets) {
            system.forget_limits_of(person).await;
            system.forget_limits_of(owner).await;
            person.join(&id, owner).await;
        }
        let role = json!({"role": "moderator"});
        owner.patch(&format!("{members}/{}", self.by_name["moderator"].user), role).await.expect(200);
        self.by_name["former"].delete(&format!("{members}/me")).await.expect(204);
        owner.delete(&format!("{members}/{}?ban=true", self.by_name["banned"].user)).await.expect(204);
        let mut messages = Vec::new();
        for number in 0..2 * CALLERS.len() {
            if number % 5 == 0 {
                system.forget_limits_of(member).await;
            }
            messages.push(member.say(&id, "Good morning.").await);
        }
        if state == "archived" {
            owner.delete(&format!("/v1/circles/{id}")).await.expect(204);
        }
        Circle { id, messages }
    }

    /// The client of a caller for one route: signing out ends a session of its own.
    async fn client(&self, caller: &str, route: &Route) -> Client {
        let client = &self.by_name[caller];
        let is_known = !matches!(caller, "nobody" | "forged" | "suspended");
        if route.name == "auth.logout" && is_known { client.log_in().await } else { client.clone() }
    }
}

/// Walks one row. Returns the statuses, in the order of the callers; 0 for those who are not sent.
async fn row(system: &System, people: &People, names: &Names, circle: &Circle, route: &Route) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (place, caller) in CALLERS.into_iter().enumerate() {
        if route.audience == Audience::Public && !matches!(caller, "nobody" | "stranger") {
            statuses.push(0);
            continue;
        }
        let client = people.client(caller, route).await;
        if !client.user.is_empty() {
            system.forget_limits_of(&client).await;
        }
        let mut names = Names { circle: circle.id.clone(), ..names.clone() };
        let index = match route.name {
            "messages.delete" => CALLERS.len() + place,
            // The blocked member's report, which nobody has decided.
            "admin.decide" => CALLERS.iter().position(|name| *name == "blocked").unwrap_or_default(),
            _ => place,
        };
        names.message = circle.messages[index].clone();
        if route.path.contains("/members/{user}") || route.path.starts_with("/v1/admin/") {
            names.user = people.targets[usize::from(caller == "owner")].user.clone();
        }
        // Not the session that asks.
        if route.name == "sessions.revoke" && caller == "member" {
            names.session = people.by_name["member"].log_in().await.session;
        }
        statuses.push(send(&client, route, &names).await);
    }
    statuses
}

/// Returns the status.
async fn send(client: &Client, route: &Route, names: &Names) -> u16 {
    // A stream that has begun has no end to wait for.
    if route.name == "realtime.events" {
        let status = status_of_stream(client, route).await;
        if status < 400 {
            return status;
        }
    }
    let query = match route.name {
        "search.find" => "?q=morning".to_owned(),
        "reactions.mine" => format!("?messages={}", names.message),
        _ => String::new(),
    };
    let body = match route.name {
        "favorites.add" => json!({"circle_id": names.circle}),
        // A password that is not theirs, lest nobody signs in any more.
        "me.password" => json!({"current": "another horse battery", "new": "a third horse battery"}),
        _ => body(route),
    };
    let method = Method::from_bytes(route.method.as_str().as_bytes()).unwrap();
    let body = (!body.is_null()).then(|| body.to_string().into_bytes());
    let answer = client.send(method, &(names.path(route) + &query), &[], body).await;
    let status = answer.status;
    if status >= 400 {
        problem(answer, status);
    }
    status
}

/// Leaves the stream at once.
async fn status_of_stream(client: &Client, route: &Route) -> u16 {
    let asked = reqwest::Client::new().get(format!("{}{}", client.url, route.path));
    let asked = match &client.token {
        Some(token) => asked.bearer_auth(token),
        None => asked,
    };
    asked.send().await.expect("the edge answers").status().as_u16()
}

/// The status by which the routes table refuses a caller in a private circle, or `None`.
fn refusal(route: &Route, caller: &str) -> Option<u16> {
    use Audience::{Admin, CircleReader, Member, Moderator, Owner, Public};
    let is_outside = matches!(caller, "former" | "banned" | "stranger" | "admin");
    match (route.audience, caller) {
        (Public, _) => None,
        (_, "nobody" | "forged" | "suspended") => Some(401),
        (Admin, caller) => (caller != "admin").then_some(403),
        (CircleReader | Member | Moderator | Owner, _) if is_outside => Some(404),
        (Moderator, "member" | "blocked") | (Owner, "member" | "blocked" | "moderator") => Some(403),
        _ => None,
    }
}

#[test]
fn every_route_answers_every_kind_of_caller_as_its_row_says() {
    on_own_system(async |system| {
        let system = &*system;
        let (cast, names) = setting(system).await;
        let people = People::new(system, cast).await;
        let mut circles = BTreeMap::new();
        for state in ["private", "public", "archived"] {
            circles.insert(state, people.circle(system, state).await);
        }
        let mut walked = format!("{HEAD}{:<25} {:<8}", "", "");
        walked.extend(CALLERS.map(|caller| format!(" {caller:>9}")));
        for route in ROUTES {
            let is_of_circle = route.path.starts_with("/v1/circles/{circle}");
            let states: &[&str] =
                if is_of_circle { &["private", "public", "archived"] } else { &["private"] };
            for state in states {
                let own;
                let circle = if CHANGES_CIRCLE.contains(&route.name) {
                    own = people.circle(system, state).await;
                    &own
                } else {
                    &circles[*state]
                };
                let statuses = row(system, &people, &names, circle, route).await;
                for (caller, status) in CALLERS.iter().zip(&statuses) {
                    let refused = refusal(route, caller).filter(|_| *state == "private");
                    assert!(
                        refused.is_none_or(|refused| refused == *status),
                        "{} by {caller} in {state}: {status}, not {refused:?}",
                        route.name
                    );
                }
                let state = if is_of_circle { state } else { "" };
                walked += &format!("\n{:<25} {state:<8}", route.name);
                let status = |status: &u16| if *status == 0 { "-".to_owned() } else { status.to_string() };
                walked.extend(statuses.iter().map(|it| format!(" {:>9}", status(it))));
            }
        }
        walked.push('\n');
        let file = workspace().join("tests/it/api/rights/matrix.txt");
        if std::env::var_os("OPTIMIST_BLESS").is_some() {
            std::fs::write(&file, &walked).unwrap();
        }
        let stated = std::fs::read_to_string(&file).unwrap();
        let rows = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (stated, walked) = (rows(&stated), rows(&walked));
        let missing = walked.iter().filter(|row| !stated.contains(row));
        let surplus = stated.iter().filter(|row| !walked.contains(row));
        let differences: Vec<String> =
            surplus.map(|row| format!("- {row}")).chain(missing.map(|row| format!("+ {row}"))).collect();
        assert!(differences.is_empty(), "the table says -, the routes +:\n{}", differences.join("\n"));
    });
}
