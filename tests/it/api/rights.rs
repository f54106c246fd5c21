//! Rights by the routes table: what every route answers to every kind of caller ([`matrix`]), and what is someone's own.

mod matrix;

use optimist_shared::routes::{ROUTES, Route};
use optimist_tests::client::PASSWORD;
use optimist_tests::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Cast, on_system, problem};

/// The ids for the paths; all belong to the member.
#[derive(Clone)]
struct Names {
    circle: String,
    message: String,
    user: String,
    session: String,
    draft: String,
    entry: String,
    mood: String,
    notification: String,
    invite: String,
    token: String,
}

impl Names {
    fn path(&self, route: &Route) -> String {
        let named = [
            ("{circle}", self.circle.as_str()),
            ("{message}", &self.message),
            ("{user}", &self.user),
            ("{session}", &self.session),
            ("{draft}", &self.draft),
            ("{entry}", &self.entry),
            ("{mood}", &self.mood),
            ("{notification}", &self.notification),
            ("{invite}", &self.invite),
            ("{token}", &self.token),
            ("{export}", &self.notification),
            ("{kind}", "heart"),
            ("{key}", "nonsense"),
        ];
        named.iter().fold(route.path.to_owned(), |path, (name, value)| path.replace(name, value))
    }
}

/// A body that the route accepts, so that only the right is missing.
fn body(route: &Route) -> Value {
    match route.name {
        "circles.update" => json!({"name": "Mine"}),
        "members.update" => json!({"role": "moderator"}),
        "me.password" => json!({"current": PASSWORD, "new": "another horse battery"}),
        "invites.create" => json!({}),
        "messages.post" | "messages.edit" | "comments.post" | "journal.edit" => json!({"body": "Mine."}),
        "favorites.add" => json!({"circle_id": "0190a0a0-0000-7000-8000-00000000c1c1"}),
        "presence.say" => json!({"state": "away", "device": "phone"}),
        "message-drafts.save" => json!({"body": "Mine"}),
        "ownership.offer" => json!({"user": uuid::Uuid::now_v7()}),
        "joins.ask" => json!({}),
        "unread.mark" => json!({"number": 0}),
        "reports.make" => json!({"reason": "spam"}),
        "reports.decide" | "admin.decide" => json!({"decision": "dismiss"}),
        "admin.suspend" => json!({"reason": "Mine."}),
        "mood.edit" => json!({"score": 1}),
        _ => Value::Null,
    }
}

async fn ask(client: &Client, route: &Route, path: &str) -> Answer {
    let method = Method::from_bytes(route.method.as_str().as_bytes()).unwrap();
    let body = body(route);
    client.send(method, path, &[], (!body.is_null()).then(|| body.to_string().into_bytes())).await
}

/// The people of a private circle, and resources of the member.
async fn setting(system: &optimist_tests::System) -> (Cast, Names) {
    let cast = Cast::new(system, "private").await;
    let draft = uuid::Uuid::now_v7().to_string();
    let body = json!({"body": "Draft", "base_version": null}).to_string().into_bytes();
    cast.member.send(Method::PUT, &format!("/v1/journal/drafts/{draft}"), &[], Some(body)).await.expect(200);
    let entry = cast.member.post("/v1/journal/entries", json!({"body": "Entry"})).await.expect(201);
    let mood = cast.member.post("/v1/mood", json!({"score": 3})).await.expect(201);
    let told = uuid::Uuid::now_v7().to_string();
    system.sql(&format!(
        "insert into notifications (user_id, month, id, kind, circle_id, created_at, updated_at)
         values ('{0}', id_month('{told}'), '{told}', 'invite', '{1}', now(), now());
         insert into notification_counts (user_id, unread) values ('{0}', 1)
         on conflict (user_id) do update set unread = notification_counts.unread + 1",
        cast.member.user, cast.circle
    ));
    let invite = cast.owner.post(&cast.path("/invites"), json!({})).await.expect(201);
    let hook = json!({"endpoint": "http://127.0.0.1:9/hook"});
    let token = cast.member.post("/v1/me/push-tokens", hook).await.expect(201);
    let names = Names {
        circle: cast.circle.clone(),
        message: cast.message.clone(),
        user: cast.member.user.clone(),
        session: cast.member.session.clone(),
        draft,
        entry: entry.text("/id"),
        mood: mood.text("/id"),
        notification: told,
        invite: invite.text("/id"),
        token: token.text("/id"),
    };
    (cast, names)
}

#[test]
fn what_is_someones_own_is_not_there_for_others() {
    on_system(|system| async move {
        let (cast, names) = setting(system).await;
        let own = ["{session}", "{draft}", "{entry}", "{mood}", "{notification}", "{token}"];
        let routes: Vec<&Route> = ROUTES
            .iter()
            .filter(|route| own.iter().any(|name| route.path.contains(name)))
            // The same id is a different draft for another person.
            .filter(|route| route.name != "drafts.save")
            .collect();
        assert!(routes.len() >= 7, "{routes:#?}");
        for route in routes {
            for client in [&cast.stranger, &cast.owner] {
                problem(ask(client, route, &names.path(route)).await, 404);
            }
        }
        let draft = cast.member.get(&format!("/v1/journal/drafts/{}", names.draft)).await.expect(200);
        let entry = cast.member.get(&format!("/v1/journal/entries/{}", names.entry)).await.expect(200);
        assert_eq!((&draft.body["body"], &entry.body["body"]), (&json!("Draft"), &json!("Entry")));
        let mood = cast.member.get(&format!("/v1/mood/{}", names.mood)).await.expect(200);
        assert_eq!(mood.body["score"], 3);
        let list = cast.member.get("/v1/notifications").await.expect(200);
        let told = list.body["items"].as_array().unwrap().iter();
        assert!(told.clone().any(|item| item["id"] == names.notification.as_str() && item["read"] == false));
    });
}
