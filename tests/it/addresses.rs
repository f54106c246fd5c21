//! Limits by address: whom they count, and what a token costs the address that brings it.

use futures_util::future::join_all;
use optimist_shared::keys::Key;
use optimist_shared::limits::Limit;
use optimist_tests::proxy::Mode;
use optimist_tests::{Answer, Client, Options, System};
use reqwest::Method;
use serde_json::json;

use crate::api::is_in_crowd;

/// A system whose edge believes the tests who their clients are.
async fn behind_a_proxy() -> System {
    System::with(Options { trusted_proxies: "127.0.0.0/8", ..Options::default() }).await
}

/// A registration that is refused as invalid, and counted.
async fn register(anyone: &Client, address: &str) -> Answer {
    let body = json!({"email": "p", "password": "correct horse battery", "name": "P"}).to_string();
    let told = [("x-forwarded-for", address)];
    anyone.send(Method::POST, "/v1/auth/register", &told, Some(body.into_bytes())).await
}

/// Registers from each address in turn until one is refused; returns how many were not, and the limit that refused.
async fn until_refused(anyone: &Client, addresses: impl Iterator<Item = String>) -> (u32, String) {
    for (number, address) in (0..).zip(addresses) {
        let answer = register(anyone, &address).await;
        if answer.status == 429 {
            return (number, answer.text("/limit"));
        }
        assert_eq!(answer.status, 422, "{answer:#?}");
    }
    panic!("nobody was refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_counted_as_a_whole() {
    let system = behind_a_proxy().await;
    let anyone = system.client();
    let admitted = |limit: Limit| limit.row().windows[0].admitted;
    // One address; of IPv6 all addresses of a /64 are one.
    let one = until_refused(&anyone, (1..).map(|n| format!("2001:db8:1:1::{n:x}"))).await;
    assert_eq!(one, (admitted(Limit::RegisterAddress), "registrations-3600s".to_owned()));
    let site = until_refused(&anyone, (1..).map(|n| format!("2001:db8:2:{n:x}::1"))).await;
    assert_eq!(site, (admitted(Limit::RegisterSite), "registrations-site-3600s".to_owned()));
    let network = until_refused(&anyone, (1..).map(|n| format!("2001:db8:3:{n:x}00::1"))).await;
    assert_eq!(network, (admitted(Limit::RegisterNetwork), "registrations-network-3600s".to_owned()));
    let network = until_refused(&anyone, (1..255).map(|n| format!("203.0.113.{n}"))).await;
    assert_eq!(network, (admitted(Limit::RegisterNetwork), "registrations-network-3600s".to_owned()));
    // Others are not affected, and a refusal has cost its network nothing.
    register(&anyone, "203.0.114.1").await.expect(422);
    register(&anyone, "2001:db8:4::1").await.expect(422);
    let ratelimit = register(&anyone, "203.0.114.2").await.expect(422).header("ratelimit").to_owned();
    assert!(ratelimit.contains("\"registrations-3600s\";r=19"), "{ratelimit}");
    assert!(ratelimit.contains("\"registrations-network-3600s\";r=158"), "{ratelimit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_network_is_counted_as_a_whole_too() {
    let mut system = behind_a_proxy().await;
    let anyone = system.client();
    system.redis.kill();
    let network = until_refused(&anyone, (1..255).map(|n| format!("198.51.100.{n}"))).await;
    let admitted = Limit::RegisterNetwork.row().windows[0].admitted;
    assert_eq!(network, (admitted, "registrations-network-3600s".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_proxy_is_believed() {
    let system = System::start().await;
    let anyone = system.client();
    let admitted = Limit::RegisterAddress.row().windows[0].admitted;
    let (refused, _) = until_refused(&anyone, (1..255).map(|n| format!("203.0.{n}.1"))).await;
    assert_eq!(refused, admitted, "the header of a stranger makes no other address");
}

/// As after a restart of Redis: everyone of an office comes back at once.
#[tokio::test(flavor = "multi_thread")]
async fn good_tokens_that_redis_does_not_know_are_admitted_however_many_come_at_once() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let mut redis = system.redis.connect().await;
    let session = Key::session(ada.user.parse().unwrap(), ada.session.parse().unwrap()).name();
    let _: u64 = redis::cmd("DEL").arg(&session).query_async(&mut redis).await.unwrap();
    let many = 100 + Limit::BadTokens.row().windows[0].admitted;
    // Nobody is answered before all have asked.
    system.to_origin.set(Mode::HalfOpen);
    let asked = join_all((0..many).map(|_| ada.get("/v1/me")));
    let opened = async {
        let arrived = async || {
            let calls: String =
                redis::cmd("INFO").arg("commandstats").query_async(&mut redis.clone()).await.unwrap();
            let evals = calls.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
            let calls = evals.split("calls=").nth(1).and_then(|rest| rest.split(',').next());
            calls.and_then(|calls| calls.parse::<u32>().ok()).unwrap_or(0)
        };
        let before = arrived().await;
        // Two trips each: admission, and the look at the address's bad tokens.
        while arrived().await < before + many {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        system.to_origin.set(Mode::Open);
    };
    let (answers, ()) = futures_util::join!(asked, opened);
    let statuses = answers.iter().map(|answer| answer.status);
    let refused: Vec<u16> = statuses.filter(|status| !crate::api::is_in_crowd(*status, &[200])).collect();
    assert!(
        answers.iter().any(|answer| answer.status == 200) && refused.is_empty(),
        "{} of {many}: {:?}",
        refused.len(),
        &refused[..refused.len().min(5)]
    );
}

/// Guesses that come at once are checked a few at a time, and each is counted before the next.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_once_are_bounded() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    ada.until_hit("/v1/me").await;
    let admitted = Limit::BadTokens.row().windows[0].admitted;
    let guess = |number: u32| {
        let guessed = format!("{}.0190beef-0000-7000-8000-{number:012}.{}", ada.user, "A".repeat(43));
        let guesser = ada.with_token(guessed);
        async move { guesser.get("/v1/me").await.status }
    };
    let answers = join_all((0..2 * admitted).map(guess)).await;
    let checked = answers.iter().filter(|status| **status == 401).count() as u32;
    assert!(answers.iter().all(|status| is_in_crowd(*status, &[401, 429])), "{answers:?}");
    // At most eight were under way when the last one was counted. What was too late for a slow machine may have been checked too.
    let late = answers.iter().filter(|status| **status == 503).count() as u32;
    assert!(checked < admitted + 8 && checked + late >= admitted, "{checked} were checked, {late} were late");
    // Whoever is signed in at the same address is not affected.
    ada.get("/v1/me").await.expect(200);
}

/// A password is guessed as often as the limit says, whatever the guesses are called.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_no_answer_is_kept_under_hides_no_attempt() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let key = [("idempotency-key", "the-same")];
    let guess = async |number: u32| {
        let body = json!({"current": format!("a wrong guess {number}"), "new": "another horse battery"});
        ada.send(Method::POST, "/v1/me/password", &key, Some(body.to_string().into_bytes())).await
    };
    for number in 0..Limit::Passwords.row().windows[0].admitted {
        guess(number).await.expect(422);
    }
    assert_eq!(guess(99).await.expect(429).text("/limit"), "passwords-3600s");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_given_back_shows_as_left() {
    let system = System::start().await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("private").await;
    let path = format!("/v1/circles/{circle}/messages");
    ada.post(&path, json!({"body": "Hello."})).await.expect(201);
    let post = async |client: &Client, body: serde_json::Value, status| {
        client.post(&path, body).await.expect(status).header("ratelimit").to_owned()
    };
    for _ in 0..2 {
        let strange = post(&bo, json!({"body": "Hello."}), 404).await;
        assert!(strange.contains("\"messages-60s\";r=10;t=0"), "{strange}");
        let invalid = post(&ada, json!({"body": ""}), 422).await;
        assert!(invalid.contains("\"messages-60s\";r=9;"), "{invalid}");
    }
    let made = post(&ada, json!({"body": "Hello."}), 201).await;
    assert!(made.contains("\"messages-60s\";r=8;"), "{made}");
}
