//! An account, and an accomplice, that do the worst their limits allow, in each way that once harmed others. Their answers do not
//! matter: what the ordinary clients notice, and what is left in the stores, does.

use std::sync::Arc;
use std::time::Duration;

use optimist_tests::{Client, System};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::world::World;

/// Short of the most that a person keeps, so that the adversary comes to it.
const NOTIFICATIONS: usize = 990;

/// A text of the greatest length in bytes.
fn longest(characters: usize) -> String {
    "\u{1f642}".repeat(characters)
}

pub struct Adversary {
    one: Client,
    accomplice: Client,
    /// Their circle.
    circle: String,
    entry: String,
}

impl Adversary {
    pub async fn new(system: &System) -> Adversary {
        let (one, accomplice) = (system.register("Eve").await, system.register("Mallory").await);
        let circle = one.create_circle("private").await;
        accomplice.join(&circle, &one).await;
        let entry = json!({"body": longest(50_000), "mood": 3});
        let entry = one.post("/v1/journal/entries", entry).await.expect(201).text("/id");
        system.sql(&format!(
            "insert into notification_counts as c (user_id, unread, held, last_place)
             values ('{0}', {NOTIFICATIONS}, {NOTIFICATIONS}, {NOTIFICATIONS})
             on conflict (user_id) do update
             set unread = c.unread + excluded.unread, held = c.held + excluded.held, last_place = c.last_place + {NOTIFICATIONS};
             insert into notifications (user_id, month, id, kind, circle_id, actor_id, place, created_at, updated_at)
             select '{0}', id_month(id_at(next_place(null, 1))), id_at(next_place(null, 1)), 'role', gen_random_uuid(), '{1}', n, now(), now()
             from generate_series(1, {NOTIFICATIONS}) n",
            accomplice.user, one.user
        ));
        Adversary { one, accomplice, circle, entry }
    }

    /// Starts all of it, until the record is stopped.
    pub fn start(self, world: &Arc<World>, tasks: &mut JoinSet<()>) {
        let this = Arc::new(self);
        macro_rules! each {
            ($($way:ident)*) => {
                $(tasks.spawn({
                    let (this, world) = (Arc::clone(&this), Arc::clone(world));
                    async move {
                        for turn in 0_usize.. {
                            if world.record.is_over() {
                                return;
                            }
                            this.$way(&world, turn).await;
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                });)*
            };
        }
        each!(change_roles read_notifications meddle write_long edit save guess_passwords guess_tokens refresh);
    }

    async fn change_roles(&self, _: &World, turn: usize) {
        let path = format!("/v1/circles/{}/members/{}", self.circle, self.accomplice.user);
        let role = if turn.is_multiple_of(2) { "moderator" } else { "member" };
        send(&self.one, Method::PATCH, &path, json!({"role": role})).await;
    }

    async fn read_notifications(&self, _: &World, _: usize) {
        send(&self.accomplice, Method::GET, "/v1/notifications?limit=100", Value::Null).await;
        send(&self.accomplice, Method::POST, "/v1/notifications/read", json!({})).await;
    }

    /// In a circle that it is not in.
    async fn meddle(&self, world: &World, _: usize) {
        let path = format!("/v1/circles/{}/members", world.circle());
        send(&self.one, Method::DELETE, &format!("{path}/me"), Value::Null).await;
        for person in world.crowd.people() {
            let theirs = format!("{path}/{}", person.user);
            send(&self.one, Method::PATCH, &theirs, json!({"role": "member"})).await;
            send(&self.one, Method::DELETE, &theirs, Value::Null).await;
        }
    }

    async fn write_long(&self, _: &World, _: usize) {
        let path = format!("/v1/circles/{}/messages", self.circle);
        send(&self.one, Method::POST, &path, json!({"body": longest(8_000)})).await;
        for _ in 0..10 {
            send(&self.accomplice, Method::GET, &format!("{path}?limit=1"), Value::Null).await;
        }
    }

    async fn edit(&self, _: &World, turn: usize) {
        let change = match turn % 5 {
            0 => json!({"body": format!("{turn}{}", longest(49_000))}),
            _ => json!({"mood": turn % 5 + 1}),
        };
        send(&self.one, Method::PATCH, &format!("/v1/journal/entries/{}", self.entry), change).await;
    }

    async fn save(&self, _: &World, turn: usize) {
        let path = format!("/v1/journal/drafts/{}", Uuid::from_u128(turn as u128 + 1));
        send(&self.one, Method::PUT, &path, json!({"body": longest(50_000), "base_version": null})).await;
        if turn > 60 {
            send(&self.one, Method::GET, "/v1/journal/drafts", Value::Null).await;
        }
    }

    async fn guess_passwords(&self, world: &World, turn: usize) {
        let someone = &world.crowd.people()[turn % world.crowd.people().len()];
        let guess = json!({"email": someone.email, "password": format!("guess number {turn}")});
        send(&Client::new(&self.one.url), Method::POST, "/v1/auth/login", guess).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    async fn guess_tokens(&self, _: &World, _: usize) {
        let secret = "A".repeat(43);
        let token = format!("{}.{}.{secret}", Uuid::new_v4(), Uuid::new_v4());
        send(&self.one.with_token(token), Method::GET, "/v1/me", Value::Null).await;
    }

    /// Refreshes a session again and again, and begins more of them.
    async fn refresh(&self, _: &World, turn: usize) {
        let credentials =
            json!({"email": self.accomplice.email, "password": optimist_tests::client::PASSWORD});
        let path = "/v1/auth/login";
        let Ok(answer) = try_send(&Client::new(&self.one.url), Method::POST, path, credentials).await else {
            return;
        };
        let mut token = answer.body["refresh_token"].as_str().map(str::to_owned);
        for _ in 0..5 {
            let Some(current) = token else { break };
            let body = json!({"refresh_token": current});
            let answer = try_send(&Client::new(&self.one.url), Method::POST, "/v1/auth/refresh", body).await;
            token = answer.ok().and_then(|answer| answer.body["refresh_token"].as_str().map(str::to_owned));
        }
        tokio::time::sleep(Duration::from_millis(300 + 20 * turn as u64)).await;
    }
}

async fn try_send(
    who: &Client,
    method: Method,
    path: &str,
    body: Value,
) -> reqwest::Result<optimist_tests::Answer> {
    let body = (!body.is_null()).then(|| body.to_string().into_bytes());
    who.try_send(method, path, &[], body).await
}

async fn send(who: &Client, method: Method, path: &str, body: Value) {
    // Whatever it answers.
    let _ = try_send(who, method, path, body).await;
}

/// What exceeds its cap: a name, how many there are too many, and zero. The harness itself opens sessions for the ordinary
/// clients to revoke.
pub async fn beyond_caps(system: &System) -> Vec<(String, i64, i64)> {
    let rows = system.sql(
        "select 'notifications beyond 1000', coalesce(sum(n - 1000), 0)
         from (select count(*) as n from notifications group by user_id) each where n > 1000
         union all select 'notifications that are not counted', count(*) from notification_counts c
         where held <> (select count(*) from notifications n where n.user_id = c.user_id)
         union all select 'live sessions of a person beyond 50', coalesce(sum(n - 50), 0)
         from (select count(*) as n from sessions
               where user_id in (select id from users where name in ('Eve', 'Mallory'))
                 and revoked_at is null and absolute_until > now() group by user_id) each where n > 50
         union all select 'live sessions of a log-in beyond 3', coalesce(sum(n - 3), 0)
         from (select count(*) as n from sessions
               where revoked_at is null and absolute_until > now() group by user_id, family) each where n > 3
         union all select 'former texts of an entry beyond 20', coalesce(sum(n - 20), 0)
         from (select count(*) as n from journal_entry_versions group by user_id, entry_id) each where n > 20
         union all select 'circles of a person beyond 500', coalesce(sum(n - 500), 0)
         from (select count(*) as n from memberships group by user_id) each where n > 500
         union all select 'events set aside', count(*) from events_set_aside",
    );
    let mut caps: Vec<(String, i64, i64)> = rows
        .lines()
        .filter_map(|line| {
            let (name, over) = line.split_once('|')?;
            Some((name.to_owned(), over.parse().ok()?, 0))
        })
        .collect();
    // A list page is 256 KiB, its envelope and one item more.
    const MOST: i64 = 320 * 1024;
    let mut redis = system.redis.connect().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("circle:*").query_async(&mut redis).await.expect("keys");
    for key in keys {
        let length: redis::RedisResult<i64> = redis::cmd("STRLEN").arg(&key).query_async(&mut redis).await;
        if let Some(over) = length.ok().filter(|length| *length > MOST) {
            caps.push((format!("bytes of {key} beyond a page"), over - MOST, 0));
        }
    }
    caps
}
