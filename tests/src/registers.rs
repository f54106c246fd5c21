//! Every fenced key as a register: numbered writes through the API, and reads that tell which write they saw.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, NaiveDate, Utc};
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Freshness, KEYS, Key};
use optimist_shared::session::Token;
use reqwest::Method;
use serde_json::{Value, json};

use crate::unlimited::Unlimited;
use crate::{Answer, Client, System};

/// The keys that writers fence, from the table.
pub fn fenced_keys() -> impl Iterator<Item = Key> {
    KEYS.iter().filter(|row| row.freshness == Freshness::Fenced).map(|row| row.key)
}

/// Sessions to revoke, one per write.
const SESSIONS: u64 = 10_000;

/// Reads at one edge between resets of limits: with two edges, fewer than a person's requests that may reach the origin
/// in a minute.
const READS_UNCOUNTED: u64 = 200;

/// The people and resources behind the keys.
pub struct Registers {
    owner: Client,
    member: Client,
    stranger: Client,
    circle: String,
    /// Of the member alone.
    own: String,
    message: String,
    /// A comment in another circle: its path, and that of the list that it is in.
    comment: [String; 2],
    /// Resets limits, which other tests cover.
    unlimited: Unlimited,
    reads: AtomicU64,
}

/// The evidence that a read gives of the writes before it.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// The number of the newest write.
    Number(u64),
    /// Whether the newest write's number is odd.
    Odd(bool),
    /// Whether the session that this write revokes was still accepted.
    Session { revoked_by: u64, accepted: bool },
    /// A copy that is marked as possibly old: it promises nothing.
    Marked,
    /// Nothing: a store or a server was away.
    Unknown,
}

impl Seen {
    /// Whether this is possible if the newest write was between `low` and `high`.
    pub fn fits(self, low: u64, high: u64) -> bool {
        match self {
            Seen::Number(number) => (low..=high).contains(&number),
            Seen::Odd(odd) => high > low || (low % 2 == 1) == odd,
            Seen::Session { revoked_by, accepted: true } => low < revoked_by,
            Seen::Session { revoked_by, accepted: false } => revoked_by <= high,
            Seen::Marked | Seen::Unknown => true,
        }
    }
}

impl Registers {
    pub async fn new(system: &System) -> Registers {
        let (owner, member, stranger) =
            (system.register("Ada").await, system.register("Bo").await, system.register("Cy").await);
        let circle = owner.create_circle("private").await;
        member.join(&circle, &owner).await;
        let message = owner.say(&circle, "0").await;
        let own = member.create_circle("private").await;
        member.say(&own, "0").await;
        insert_sessions(system, &member);
        let elsewhere = owner.create_circle("private").await;
        member.join(&elsewhere, &owner).await;
        let messages = format!("/v1/circles/{elsewhere}/messages");
        let thread = format!("{messages}/{}/comments", owner.say(&elsewhere, "Who is there?").await);
        let comment = owner.post(&thread, json!({"body": "0"})).await.expect(201).text("/id");
        let comment = [format!("{messages}/{comment}"), thread];
        let unlimited = Unlimited::new(system);
        Registers {
            owner,
            member,
            stranger,
            circle,
            own,
            message,
            comment,
            unlimited,
            reads: AtomicU64::new(0),
        }
    }

    /// The same registers through another edge.
    pub fn at(&self, url: &str) -> Registers {
        Registers {
            owner: self.owner.at(url),
            member: self.member.at(url),
            stranger: self.stranger.at(url),
            circle: self.circle.clone(),
            own: self.own.clone(),
            message: self.message.clone(),
            comment: self.comment.clone(),
            unlimited: self.unlimited.clone(),
            reads: AtomicU64::new(0),
        }
    }

    /// Makes write `number`; 0 is the initial state. Repeating a write changes nothing more. Returns whether it was
    /// acknowledged.
    pub async fn write(&self, key: Key, number: u64) -> bool {
        let (circle, text) = (format!("/v1/circles/{}", self.circle), number.to_string());
        let is_odd = number % 2 == 1;
        let (who, method, path, body) = match key {
            Key::Session => (self.session(number), Method::POST, "/v1/auth/logout".to_owned(), Value::Null),
            Key::Me => (self.owner.clone(), Method::PATCH, "/v1/me".to_owned(), json!({"bio": text})),
            Key::Profile => (self.owner.clone(), Method::PATCH, "/v1/me".to_owned(), json!({"name": text})),
            Key::PersonalPreferences => {
                let body = json!({
                    "locale": "en", "week_start": "monday", "presence": "circles", "discoverable": false,
                    "reduced_motion": is_odd,
                });
                (self.owner.clone(), Method::PUT, PERSONAL.to_owned(), body)
            }
            Key::Circle => (self.owner.clone(), Method::PATCH, circle, json!({"description": text})),
            Key::CircleAccess => {
                let visibility = if is_odd { "public" } else { "private" };
                (self.owner.clone(), Method::PATCH, circle, json!({"visibility": visibility}))
            }
            Key::CircleHead => (self.owner.clone(), Method::PATCH, circle, json!({"name": text})),
            Key::ReadMarker => {
                let path = format!("/v1/circles/{}/messages", self.own);
                (self.member.clone(), Method::POST, path, json!({"body": text}))
            }
            Key::Blocked => {
                let method = if is_odd { Method::PUT } else { Method::DELETE };
                (self.member.clone(), method, format!("/v1/me/blocks/{}", self.stranger.user), Value::Null)
            }
            Key::Membership | Key::CircleMembers | Key::MyCircles => {
                let role = if is_odd { "moderator" } else { "member" };
                let path = format!("{circle}/members/{}", self.member.user);
                (self.owner.clone(), Method::PATCH, path, json!({"role": role}))
            }
            Key::CircleMessages => {
                (self.owner.clone(), Method::POST, format!("{circle}/messages"), json!({"body": text}))
            }
            Key::Message => {
                let path = format!("{circle}/messages/{}", self.message);
                (self.owner.clone(), Method::PATCH, path, json!({"body": text}))
            }
            Key::Comments => {
                (self.owner.clone(), Method::PATCH, self.comment[0].clone(), json!({"body": text}))
            }
            Key::RecentTags => {
                (self.owner.clone(), Method::POST, ENTRIES.to_owned(), json!({"body": "x", "tags": [text]}))
            }
            Key::Streak => {
                let day = FIRST_DAY + chrono::Days::new(number);
                (
                    self.member.clone(),
                    Method::POST,
                    ENTRIES.to_owned(),
                    json!({"body": "x", "entry_date": day}),
                )
            }
            Key::Preferences => {
                let channels = json!({"in_app": true, "push": true, "email": false, "webhook": true});
                let kinds: serde_json::Map<String, Value> =
                    ["message", "mention", "reaction", "role", "invite"]
                        .map(|kind| (kind.to_owned(), channels.clone()))
                        .into_iter()
                        .collect();
                let until = muted_from() + chrono::TimeDelta::seconds(number.cast_signed());
                let mute = json!({"circle_id": self.circle, "until": until});
                let body = json!({"kinds": kinds, "quiet": null, "mutes": [mute]});
                (self.owner.clone(), Method::PUT, PREFERENCES.to_owned(), body)
            }
            // Of one address: a webhook, or a browser.
            Key::PushTokens => {
                let keys = json!({"p256dh": BROWSER_KEY, "auth": "AAAAAAAAAAAAAAAAAAAAAA"});
                let keys = if is_odd { Value::Null } else { keys };
                let body = json!({"endpoint": "https://127.0.0.1:9/hook", "keys": keys});
                (self.owner.clone(), Method::POST, PUSH_TOKENS.to_owned(), body)
            }
            other => panic!("{other:?} is fenced, and nothing here writes it"),
        };
        self.unlimited.forget(&who).await;
        let headers = [("idempotency-key", text.as_str())];
        let headers = if method == Method::POST { &headers[..] } else { &[] };
        let body = (!body.is_null()).then(|| body.to_string().into_bytes());
        let Ok(answer) = who.try_send(method, &path, headers, body).await else { return false };
        match answer.status {
            // A repeated log-out finds the session revoked, so the first was done.
            401 if key == Key::Session => true,
            // Nor does a repeated end of a block find one.
            404 if key == Key::Blocked => true,
            200..=299 => true,
            // Without Redis, the origin counts limits in memory, where this test cannot reset them.
            429 | 502..=504 => false,
            _ => panic!("{key:?} {number}: {answer:#?}"),
        }
    }

    /// Reads the key. `near` is roughly the number of writes so far; `direct` bypasses the cache where possible.
    pub async fn read(&self, key: Key, near: u64, direct: bool) -> Seen {
        let circle = format!("/v1/circles/{}", self.circle);
        let (who, path) = match key {
            Key::Session => (&self.session(near), "/v1/auth/session".to_owned()),
            Key::Me => (&self.owner, "/v1/me".to_owned()),
            Key::Profile => (&self.member, format!("/v1/users/{}", self.owner.user)),
            Key::PersonalPreferences => (&self.owner, PERSONAL.to_owned()),
            Key::Circle => (&self.member, circle),
            Key::CircleAccess => (&self.stranger, circle),
            Key::Membership => (&self.member, circle),
            Key::Blocked => (&self.stranger, format!("/v1/users/{}", self.member.user)),
            Key::MyCircles | Key::CircleHead | Key::ReadMarker => (&self.member, "/v1/me/circles".to_owned()),
            Key::CircleMembers => (&self.owner, format!("{circle}/members")),
            // A page before the largest number: it is not cached.
            Key::CircleMessages if direct => {
                (&self.member, format!("{circle}/messages?before={LAST}&limit=1"))
            }
            Key::CircleMessages => (&self.member, format!("{circle}/messages?limit=1")),
            Key::Message => (&self.member, format!("{circle}/messages/{}", self.message)),
            // A cursor before all of them.
            Key::Comments if direct => (&self.member, format!("{}?limit=1&after={FIRST}", self.comment[1])),
            Key::Comments => (&self.member, format!("{}?limit=1", self.comment[1])),
            Key::RecentTags => (&self.owner, "/v1/journal/tags/recent".to_owned()),
            Key::Streak => (&self.member, "/v1/journal/streak".to_owned()),
            Key::Preferences => (&self.owner, PREFERENCES.to_owned()),
            Key::PushTokens => (&self.owner, PUSH_TOKENS.to_owned()),
            other => panic!("{other:?} is fenced, and nothing here reads it"),
        };
        if self.reads.fetch_add(1, Ordering::Relaxed).is_multiple_of(READS_UNCOUNTED) {
            self.unlimited.forget(who).await;
        }
        match who.try_send(Method::GET, &path, &[], None).await {
            Ok(answer) if !answer.header("warning").is_empty() => Seen::Marked,
            Ok(answer) if answer.status < 500 && answer.status != 429 => self.seen(key, near, &answer),
            _ => Seen::Unknown,
        }
    }

    fn seen(&self, key: Key, near: u64, answer: &Answer) -> Seen {
        let number = |pointer: &str| Seen::Number(answer.text(pointer).parse().expect("a number"));
        match (key, answer.status) {
            (Key::Session, 200 | 401) => Seen::Session { revoked_by: near, accepted: answer.status == 200 },
            (Key::CircleAccess, 200 | 404) => Seen::Odd(answer.status == 200),
            (Key::Blocked, 200 | 404) => Seen::Odd(answer.status == 404),
            (Key::Me, 200) => number("/bio"),
            (Key::Profile, 200) => number("/name"),
            (Key::PersonalPreferences, 200) => Seen::Odd(answer.body["reduced_motion"] == true),
            (Key::Circle, 200) => number("/description"),
            (Key::CircleMessages | Key::Comments, 200) => number("/items/0/body"),
            (Key::MyCircles, 200) => Seen::Odd(self.mine(answer, &self.circle)["role"] == "moderator"),
            (Key::CircleHead, 200) => {
                let name = self.mine(answer, &self.circle)["name"].as_str().expect("a name");
                Seen::Number(name.parse().expect("a number"))
            }
            // The newest message's text is the number of its write, and its author has read so many fewer.
            (Key::ReadMarker, 200) => {
                let own = self.mine(answer, &self.own);
                let newest: u64 =
                    own["last_message"]["excerpt"].as_str().expect("a text").parse().expect("a number");
                Seen::Number(newest.saturating_sub(own["unread"].as_u64().expect("a number")))
            }
            (Key::Message, 200) => number("/body"),
            (Key::RecentTags, 200) => {
                let newest = answer.body["items"][0].as_str().map_or(0, |tag| tag.parse().expect("a number"));
                Seen::Number(newest)
            }
            // Each write adds a day, and there is one before the first.
            (Key::Streak, 200) => {
                Seen::Number(answer.body["longest"].as_u64().expect("a number").saturating_sub(1))
            }
            (Key::Preferences, 200) => {
                let until = answer.body["mutes"][0]["until"].as_str();
                let until = until.map(|until| until.parse::<DateTime<Utc>>().expect("a time"));
                Seen::Number(until.map_or(0, |until| (until - muted_from()).num_seconds().cast_unsigned()))
            }
            (Key::PushTokens, 200) => Seen::Odd(answer.body["items"][0]["channel"] == "webhook"),
            (Key::Membership, 200) => Seen::Odd(answer.text("/role") == "moderator"),
            (Key::CircleMembers, 200) => {
                let items = answer.body["items"].as_array().expect("a list");
                let member = items.iter().find(|item| item["user"]["id"] == self.member.user.as_str());
                Seen::Odd(member.expect("the member")["role"] == "moderator")
            }
            _ => panic!("{key:?}: {answer:#?}"),
        }
    }

    /// A circle in the list of one's own.
    fn mine<'a>(&self, answer: &'a Answer, circle: &str) -> &'a Value {
        let items = answer.body["items"].as_array().expect("a list");
        items.iter().find(|item| item["id"] == circle).expect("a circle of the member")
    }

    /// Whether the list of messages is read from Redis.
    pub async fn is_hit(&self) -> bool {
        self.unlimited.forget(&self.member).await;
        let answer = self
            .member
            .try_send(Method::GET, &format!("/v1/circles/{}/messages", self.circle), &[], None)
            .await;
        answer.is_ok_and(|answer| answer.is_hit() && answer.header("warning").is_empty())
    }

    /// The newest message's number: the number of messages posted, if each was posted once.
    pub async fn messages_posted(&self) -> u64 {
        let path = format!("/v1/circles/{}/messages?limit=1", self.circle);
        self.owner.get(&path).await.expect(200).body["items"][0]["number"].as_u64().expect("a number")
    }

    /// The client of the session that write `number` revokes.
    fn session(&self, number: u64) -> Client {
        assert!(number <= SESSIONS, "more sessions are needed");
        let user = self.member.user.parse().expect("an id");
        let token = Token { user, session: session_id(user, number), secret: session_secret(number) };
        self.member.with_token(token.render())
    }
}

const PERSONAL: &str = "/v1/me/preferences";
const PREFERENCES: &str = "/v1/me/notification-preferences";
const PUSH_TOKENS: &str = "/v1/me/push-tokens";
/// A browser's public key: a point of P-256.
const BROWSER_KEY: &str =
    "BLn9b-VR0ca83knDNZ32dCHGyjJp-1riX9ZTN40MqV8K_LpQmLqxC_DoHvqvFXO_nGdAB4W9dogZb_sM-uV4JbY";

/// Until when the circle is muted by write 0.
fn muted_from() -> DateTime<Utc> {
    "2090-01-01T00:00:00Z".parse().expect("a time")
}

const ENTRIES: &str = "/v1/journal/entries";

/// The day of write 0.
const FIRST_DAY: NaiveDate = NaiveDate::from_ymd_opt(1950, 1, 1).expect("a day");

/// `n:9223372036854775807`, in base64url: no message has that number.
pub const LAST: &str = "bjo5MjIzMzcyMDM2ODU0Nzc1ODA3";

/// `i:00000000-0000-7000-8000-000000000000`, in base64url: no message is older.
const FIRST: &str = "aTowMDAwMDAwMC0wMDAwLTcwMDAtODAwMC0wMDAwMDAwMDAwMDA";

/// The user's own id, except for its last 32 bits.
fn session_id(user: Uuid, number: u64) -> Uuid {
    Uuid::from_u128(user.as_u128() >> 32 << 32 | u128::from(number))
}

fn session_secret(number: u64) -> [u8; 32] {
    let mut secret = [1; 32];
    secret[..8].copy_from_slice(&number.to_be_bytes());
    secret
}

/// Inserted by SQL: that many log-ins would cost minutes of hashing.
fn insert_sessions(system: &System, user: &Client) {
    let id = user.user.as_str();
    system.sql(&format!(
        "insert into sessions (id, user_id, family, secret_hash, refresh_hash, token_key, idle_until, absolute_until)
         select id, '{id}', id, hash, '', 't1', now() + '30 minutes', now() + '1 day'
         from generate_series(1, {SESSIONS}) n,
            lateral (select (left('{id}', 28) || lpad(to_hex(n), 8, '0'))::uuid as id) named,
            lateral (select encode(sha256(int8send(n) || decode(repeat('01', 24), 'hex')), 'hex') as hash) hashed"
    ));
}
