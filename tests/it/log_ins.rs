//! Log-ins from many addresses: nobody keeps an account's owner out, and a storm of them delays others little.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use optimist_tests::client::PASSWORD;
use optimist_tests::{Answer, Client, System};
use serde_json::json;

use super::origin::OriginClient;

const LOGIN: &str = "/v1/auth/login";

/// Guesses at somebody's password from an address, ten times: as often as one address may.
async fn guess(origin: &OriginClient, email: &str, address: &str) {
    let body = json!({"email": email, "password": "a wrong password"});
    for answer in join_all((0..10).map(|_| origin.post_from(address, LOGIN, body.clone()))).await {
        answer.expect(401);
    }
    let refused = origin.post_from(address, LOGIN, body).await.expect(429);
    assert_eq!(refused.text("/limit"), "logins-account-900s");
}

async fn log_in(origin: &OriginClient, email: &str, address: &str, device: Option<&str>) -> Answer {
    let mut body = json!({"email": email, "password": PASSWORD});
    if let Some(device) = device {
        body["device"] = device.into();
    }
    origin.post_from(address, LOGIN, body).await
}

/// Ten addresses guess until the account is closed to strangers. Then its own devices still get in.
async fn devices_get_in(system: &System, origin: &OriginClient, ada: &Client) {
    let device = log_in(origin, &ada.email, "192.0.2.1", None).await.expect(200).text("/device");
    for attacker in 0..9 {
        guess(origin, &ada.email, &format!("198.51.100.{attacker}")).await;
    }
    // With the owner's log-in that makes a hundred.
    for _ in 0..9 {
        let body = json!({"email": ada.email, "password": "a wrong password"});
        origin.post_from("198.51.100.9", LOGIN, body).await.expect(401);
    }
    let refused = log_in(origin, &ada.email, "203.0.113.1", None).await.expect(429);
    assert_eq!(refused.text("/limit"), "logins-account-total-900s");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds <= 900));
    // From wherever the device is now, and the same one again.
    let again = log_in(origin, &ada.email, "203.0.113.2", Some(&device)).await.expect(200);
    assert_eq!(again.text("/device"), device);
    // Nobody else's is good, nor one that was made up.
    let bo = system.register("Bo").await;
    let other = log_in(origin, &bo.email, "192.0.2.2", None).await.expect(200).text("/device");
    let made_up = format!("{}A{}", &device[..30], &device[31..]);
    for bad in [other.as_str(), &made_up, "nonsense"] {
        log_in(origin, &ada.email, "203.0.113.3", Some(bad)).await.expect(429);
    }
    // A device has ten tries.
    for _ in 0..9 {
        log_in(origin, &ada.email, "203.0.113.4", Some(&device)).await.expect(200);
    }
    let refused = log_in(origin, &ada.email, "203.0.113.4", Some(&device)).await.expect(429);
    assert_eq!(refused.text("/limit"), "logins-device-900s");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_keeps_an_owner_out_from_elsewhere() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let origin = OriginClient::new(&system);
    guess(&origin, &ada.email, "198.51.100.1").await;
    log_in(&origin, &ada.email, "198.51.100.1", None).await.expect(429);
    log_in(&origin, &ada.email, "192.0.2.1", None).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_many_addresses_guess_a_known_device_gets_in() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let origin = OriginClient::new(&system);
    devices_get_in(&system, &origin, &ada).await;
    // A change of the password voids it.
    let cy = system.register("Cy").await;
    let device = log_in(&origin, &cy.email, "192.0.2.1", None).await.expect(200).text("/device");
    let other = json!({"current": PASSWORD, "new": "another horse battery"});
    cy.post("/v1/me/password", other).await.expect(204);
    let again = json!({"email": cy.email, "password": "another horse battery", "device": device});
    let answer = origin.post_from("192.0.2.1", LOGIN, again).await.expect(200);
    assert_ne!(answer.text("/device"), device);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_known_device_gets_in_as_well() {
    let mut system = System::start().await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    system.redis.kill();
    let origin = OriginClient::new(&system);
    guess(&origin, &ada.email, "198.51.100.1").await;
    let device = log_in(&origin, &ada.email, "192.0.2.1", None).await.expect(200).text("/device");
    // Eleven so far.
    for attacker in 0..8 {
        guess(&origin, &ada.email, &format!("198.51.100.1{attacker}")).await;
    }
    for _ in 0..9 {
        let body = json!({"email": ada.email, "password": "a wrong password"});
        origin.post_from("198.51.100.9", LOGIN, body).await.expect(401);
    }
    let refused = log_in(&origin, &ada.email, "203.0.113.1", None).await.expect(429);
    assert_eq!(refused.text("/limit"), "logins-account-total-900s");
    // A refusal was not counted: neither for its address, nor for the account.
    let counted = system.sql("select count(*) from login_attempts where account like '%203.0.113.1'");
    assert_eq!(counted.trim(), "0");
    log_in(&origin, &ada.email, "203.0.113.1", Some(&device)).await.expect(200);
    log_in(&origin, &bo.email, "203.0.113.1", None).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_addresses_that_log_in_leave_others_their_turn() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let origin = OriginClient::new(&system);
    let began = Instant::now();
    log_in(&origin, &ada.email, "192.0.9.1", None).await.expect(200);
    let alone = began.elapsed();
    let attempts = (0..50).flat_map(|address| (0..30).map(move |attempt| (address, attempt)));
    let storm = join_all(attempts.map(|(address, attempt)| {
        let body = json!({
            "email": format!("nobody-{address}-{attempt}@example.org"), "password": "a wrong password",
        });
        let origin = &origin;
        // Two of each network.
        async move {
            origin.post_from(&format!("198.51.{}.{}", address / 2, address % 2), LOGIN, body).await.status
        }
    }));
    let others = async {
        let mut slowest = Duration::ZERO;
        for other in 0..5 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let began = Instant::now();
            log_in(&origin, &ada.email, &format!("192.0.{other}.1"), None).await.expect(200);
            slowest = slowest.max(began.elapsed());
        }
        slowest
    };
    let (storm, slowest) = futures_util::join!(storm, others);
    // Nor did it wait for connections in one line, which is nobody's turn.
    let looked_up = system.origins[0].statements().await["auth::find_user"];
    assert!(looked_up < 750, "{looked_up} accounts were looked up for 1,500 attempts");
    // Beyond the places that there are, a storm is told to come back.
    assert!(storm.iter().all(|status| matches!(status, 401 | 503)), "{storm:?}");
    assert!(storm.contains(&401) && storm.contains(&503));
    println!("measured: the slowest log-in beside the storm took {slowest:?}, alone it takes {alone:?}");
    // One of each of 25 networks may come before it, and those under way.
    assert!(slowest < 60 * alone + Duration::from_secs(2), "{slowest:?}, alone {alone:?}");
}
