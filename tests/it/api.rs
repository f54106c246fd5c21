//! The API as its clients see it, on the edge that `OPTIMIST_EDGE` names (default: `embedded`).
//!
//! The tests share one system; each registers its own people.

mod accounts;
mod admin;
mod blocks;
mod circles;
mod comments;
mod conduct;
mod configuration;
mod discovery;
mod drafts;
pub mod erasing;
mod families;
mod favorites;
mod feed;
mod forwarding;
mod input;
mod invites;
mod joins;
mod journal;
mod messages;
mod notifications;
mod passwords;
mod popular;
mod preferences;
mod presence;
mod reactions;
mod recent;
mod reports;
mod rights;
pub mod search;
mod sessions;
mod stats;
mod suspending;
mod threads;
mod trail;
mod unread;

use std::sync::LazyLock;

use optimist_tests::{Answer, Client, Options, System};
use serde_json::Value;
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static SYSTEM: LazyLock<System> = LazyLock::new(|| {
    RUNTIME.block_on(System::with(Options { kind: Options::kind_under_test(), ..Options::default() }))
});

/// Runs a test on the shared system.
fn on_system<F: Future<Output = ()>>(test: impl FnOnce(&'static System) -> F) {
    let system = &*SYSTEM;
    RUNTIME.block_on(test(system));
}

/// Runs a test on its own system, because it uses up the limits of the address that the tests share.
fn on_own_system(test: impl AsyncFnOnce(&mut System)) {
    on_own_system_with(Options::default(), test);
}

/// The same on a system that differs from the others. It ends with the test.
fn on_own_system_with(options: Options, test: impl AsyncFnOnce(&mut System)) {
    let options = Options { kind: Options::kind_under_test(), ..options };
    RUNTIME.block_on(async { test(&mut System::with(options).await).await });
}

/// One person of each kind that a circle's rules distinguish, in a circle with one message by the member.
pub struct Cast {
    pub owner: Client,
    pub moderator: Client,
    pub member: Client,
    /// Was a member, and left.
    pub former: Client,
    /// Was a member, and was banned.
    pub banned: Client,
    /// Was never in the circle.
    pub stranger: Client,
    pub circle: String,
    pub message: String,
}

impl Cast {
    pub async fn new(system: &System, visibility: &str) -> Cast {
        let owner = system.register("Owen").await;
        let circle = owner.create_circle(visibility).await;
        let path = format!("/v1/circles/{circle}");
        let mut people = Vec::new();
        for name in ["Mo", "Meg", "Fay", "Bob"] {
            let person = system.register(name).await;
            person.join(&circle, &owner).await;
            people.push(person);
        }
        let [moderator, member, former, banned] = people.try_into().ok().unwrap();
        let role = serde_json::json!({"role": "moderator"});
        owner.patch(&format!("{path}/members/{}", moderator.user), role).await.expect(200);
        former.delete(&format!("{path}/members/me")).await.expect(204);
        owner.delete(&format!("{path}/members/{}?ban=true", banned.user)).await.expect(204);
        let message = member.say(&circle, "Good morning.").await;
        let stranger = system.register("Sam").await;
        Cast { owner, moderator, member, former, banned, stranger, circle, message }
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/v1/circles/{}{rest}", self.circle)
    }

    /// In the order: owner, moderator, member, former member, banned, stranger.
    pub fn everyone(&self) -> [(&'static str, &Client); 6] {
        [
            ("owner", &self.owner),
            ("moderator", &self.moderator),
            ("member", &self.member),
            ("former", &self.former),
            ("banned", &self.banned),
            ("stranger", &self.stranger),
        ]
    }
}

/// Whether one of a crowd was answered like this; or not at all, since the crowd was too much for a slow machine (503).
pub fn is_in_crowd(status: u16, expected: &[u16]) -> bool {
    status == 503 || expected.contains(&status)
}

/// Checks for an RFC 9457 problem with this status; returns its body.
#[track_caller]
pub fn problem(answer: Answer, status: u16) -> Value {
    let answer = answer.expect(status);
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:#?}");
    assert_eq!(answer.body["status"], status, "{answer:#?}");
    assert_eq!(answer.body["request_id"], answer.header("x-request-id"), "{answer:#?}");
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:#?}");
    answer.body
}
