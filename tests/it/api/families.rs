//! Families of sessions: how many are live, how long a refreshed one lasts, how one ends that is large.

use optimist_shared::envelope::{Body, Envelope};
use optimist_shared::session::CachedSession;
use optimist_tests::{Answer, Client, Options, System};
use serde_json::json;

use super::sessions::warm;
use super::{on_own_system_with, on_system, problem};

/// Refreshes a client's session: the client of the successor.
async fn succeed(system: &System, client: &Client) -> Client {
    let answer = refresh(system, client).await.expect(200);
    let mut successor = client.clone();
    successor.adopt(&answer);
    successor
}

async fn refresh(system: &System, client: &Client) -> Answer {
    system.forget_address_limits().await;
    system.client().post("/v1/auth/refresh", json!({"refresh_token": client.refresh_token})).await
}

/// How many sessions of a person are not revoked.
fn live(system: &System, person: &Client) -> u64 {
    let sql =
        format!("select count(*) from sessions where user_id = '{}' and revoked_at is null", person.user);
    system.sql(&sql).trim().parse().unwrap()
}

/// Gives a person more sessions: as many log-ins would cost minutes of hashing. `family` is an expression of `n`.
fn insert_sessions(system: &System, person: &Client, count: u32, family: &str) {
    system.sql(&format!(
        "insert into sessions (id, user_id, family, secret_hash, refresh_hash, token_key, idle_until, absolute_until)
         select id, '{}', {family}, '', '', 't1', now() + '30 minutes', now() + '1 day'
         from (select n, gen_random_uuid() as id from generate_series(1, {count}) n) made",
        person.user
    ));
}

#[test]
fn a_refresh_ends_the_session_before_the_refreshed_one() {
    on_system(|system| async move {
        let first = system.register("Ada").await;
        warm(&first).await;
        let second = succeed(system, &first).await;
        warm(&second).await;
        first.get("/v1/me").await.expect(200);
        let third = succeed(system, &second).await;
        third.get("/v1/me").await.expect(200);
        second.get("/v1/me").await.expect(200);
        problem(first.get("/v1/me").await, 401);
        // The first one's refresh may still be under way, twice over: its answer is the same as before.
        let again = refresh(system, &first).await.expect(200);
        assert_eq!(again.text("/refresh_token"), second.refresh_token);
        let mut newest = third;
        for _ in 0..5 {
            newest = succeed(system, &newest).await;
            assert!(live(system, &newest) <= 3, "{}", live(system, &newest));
        }
        let sessions = newest.get("/v1/me/sessions").await.expect(200);
        assert!(sessions.body["items"].as_array().unwrap().len() <= 2, "{sessions:#?}");
        newest.post("/v1/auth/logout", json!({})).await.expect(204);
        assert_eq!(live(system, &newest), 0);
        // An old token is still known for a reused one: it opens nothing.
        problem(refresh(system, &first).await, 401);
    });
}

#[test]
fn a_token_from_before_the_last_refreshes_is_reuse_when_it_is_late() {
    on_system(|system| async move {
        let first = system.register("Ada").await;
        let second = succeed(system, &first).await;
        let third = succeed(system, &second).await;
        warm(&third).await;
        system.sql(&format!(
            "update sessions set first_used_at = now() - interval '61 seconds' where id = '{}'",
            second.session
        ));
        problem(refresh(system, &first).await, 401);
        problem(third.get("/v1/me").await, 401);
        assert_eq!(live(system, &first), 0);
    });
}

#[test]
fn a_refreshed_session_ends_within_minutes_however_busy_it_is() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        warm(&ada).await;
        let successor = succeed(system, &ada).await;
        warm(&successor).await;
        // In use, and in Redis, after its refresh.
        warm(&ada).await;
        let mut redis = system.redis.connect().await;
        let key = format!("session:{{{}}}:{}", ada.user, ada.session);
        let copy: Vec<u8> = redis::cmd("GET").arg(&key).query_async(&mut redis).await.unwrap();
        let Some(Body::Session(body)) = Envelope::decode(&copy).map(|envelope| envelope.body) else {
            panic!("no session in Redis")
        };
        let ends_ms = CachedSession::decode(body).unwrap().absolute_until_ms;
        let now_ms = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap();
        assert!(ends_ms <= now_ms + 5 * 60_000, "it ends {} s from now", (ends_ms - now_ms) / 1000);
        let expires_in = ada.get("/v1/auth/session").await.expect(200).body["expires_in"].as_u64().unwrap();
        assert!(expires_in <= 300, "{expires_in}");
        // Five minutes later.
        system.sql(&format!(
            "update sessions set refreshed_at = refreshed_at - interval '5 minutes' where id = '{}'",
            ada.session
        ));
        let _: () = redis::cmd("DEL").arg(&key).query_async(&mut redis).await.unwrap();
        problem(ada.get("/v1/me").await, 401);
        successor.get("/v1/me").await.expect(200);
    });
}

#[test]
fn a_person_has_fifty_sessions_and_the_oldest_makes_room() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        warm(&ada).await;
        insert_sessions(system, &ada, 49, "id");
        let phone = ada.log_in().await;
        phone.get("/v1/me").await.expect(200);
        problem(ada.get("/v1/me").await, 401);
        assert_eq!(live(system, &ada), 50);
        let phone = succeed(system, &phone).await;
        phone.get("/v1/me").await.expect(200);
        assert_eq!(live(system, &ada), 50);
    });
}

#[test]
fn a_log_in_is_refreshed_thirty_times_an_hour() {
    on_system(|system| async move {
        let mut ada = system.register("Ada").await;
        for _ in 0..30 {
            let next = succeed(system, &ada).await;
            // A repetition is no other refresh.
            refresh(system, &ada).await.expect(200);
            ada = next;
        }
        let refused = problem(refresh(system, &ada).await, 429);
        assert_eq!(refused["limit"], "refreshes-log-in-3600s");
        ada.get("/v1/me").await.expect(200);
        // Another log-in of the same person has its own.
        succeed(system, &ada.log_in().await).await;
    });
}

#[test]
fn a_family_of_ten_thousand_ends_in_steps_and_redis_stays_trusted() {
    let options = Options { redis_deadline_ms: 250, ..Options::default() };
    on_own_system_with(options, async |system| {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        for person in [&ada, &bo] {
            warm(person).await;
            insert_sessions(system, person, 10_000, &format!("'{}'::uuid", person.session));
        }
        bo.post("/v1/auth/logout", json!({})).await.expect(204);
        assert_eq!(live(system, &bo), 0);
        assert_eq!(system.sql("select state from regions").trim(), "on");
        // The origin dies between two steps: whoever asked can ask again.
        system.origins[0].arm("tx.committed", "abort", 0, 1).await;
        let answer = ada.post("/v1/auth/logout", json!({})).await;
        assert!(answer.status >= 500, "{answer:#?}");
        let left = live(system, &ada);
        assert!((1..10_001).contains(&left), "{left}");
        system.replace_origin(0);
        ada.post("/v1/auth/logout", json!({})).await.expect(204);
        assert_eq!(live(system, &ada), 0);
        assert_eq!(system.sql("select state from regions").trim(), "on");
        assert!(!system.origins[0].log().contains("nobody is to trust it"));
        problem(ada.get("/v1/me").await, 401);
    });
}
