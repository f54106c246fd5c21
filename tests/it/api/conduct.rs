//! The behaviour of every answer, whatever its subject: routing, body sizes, conditional requests, headers, CORS.

use optimist_tests::{Client, System};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Cast, is_in_crowd, on_own_system, on_system, problem};

#[test]
fn unknown_paths_and_wrong_methods_are_told_apart() {
    on_system(|system| async move {
        let client = system.client();
        for path in
            ["/", "/v1", "/v1/nothing", "/v1/circles/", "/v2/circles", "/v1/auth/login/more", "/v1//circles"]
        {
            assert_eq!(problem(client.get(path).await, 404)["code"], "not-found");
        }
        let refused = client.delete("/v1/circles").await;
        assert_eq!(refused.header("allow"), "GET, POST, HEAD, OPTIONS");
        problem(refused, 405);
        let refused = client.send(Method::PUT, "/v1/me", &[], None).await;
        assert_eq!(refused.header("allow"), "GET, PATCH, DELETE, HEAD, OPTIONS");
        problem(refused, 405);
    });
}

#[test]
fn bodies_beyond_the_cap_are_refused_announced_or_not() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let circle = ada.create_circle("private").await;
        let path = format!("/v1/circles/{circle}/messages");
        let long = json!({"body": "x".repeat(110_000)}).to_string().into_bytes();
        assert_eq!(problem(ada.send(Method::POST, &path, &[], Some(long)).await, 413)["code"], "too-large");
        let pieces = async |method, count, end| chunked(system, &ada, method, &path, count, end).await;
        assert_eq!(pieces("POST", 60, "0\r\n\r\n").await, 413, "no content-length: counted as it comes");
        // A read has no body: not every host could forward one.
        let read = ada.send(Method::GET, &path, &[], Some(b"{}".to_vec())).await;
        assert_eq!(problem(read, 413)["code"], "too-large");
        assert_eq!(pieces("GET", 1, "0\r\n\r\n").await, 413);
        ada.get(&path).await.expect(200);
        // A refused attempt is not charged: ten may still be sent.
        for _ in 0..10 {
            ada.say(&circle, "Hello.").await;
        }
    });
}

#[test]
fn the_longest_texts_pass_however_they_are_spelled() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let circle = ada.create_circle("private").await;
        let path = format!("/v1/circles/{circle}/messages");
        let [raw, escaped] = ["\u{1f388}", "\\ud83c\\udf88"].map(|balloon| balloon.repeat(8_000));
        for text in [raw, escaped] {
            let body = format!("{{\"body\":\"{text}\"}}").into_bytes();
            let posted = ada.send(Method::POST, &path, &[], Some(body)).await.expect(201);
            assert_eq!(posted.text("/body").chars().count(), 8_000);
        }
    });
}

#[test]
fn ids_may_come_in_upper_case_and_answers_have_them_in_lower_case() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let upper = format!("/v1/circles/{}", cast.circle.to_uppercase());
        for _ in 0..3 {
            let circle = cast.member.get(&upper).await.expect(200);
            assert_eq!(circle.body["id"], cast.circle.as_str());
        }
        let message = format!("{upper}/messages/{}", cast.message.to_uppercase());
        assert_eq!(cast.member.get(&message).await.expect(200).body["id"], cast.message.as_str());
        let reaction = format!("{message}/reactions/heart");
        for _ in 0..2 {
            cast.member.send(Method::PUT, &reaction, &[], None).await.expect(202);
        }
        let invite = json!({"user": cast.stranger.user.to_uppercase()});
        cast.owner.post(&format!("{upper}/invites"), invite).await.expect(201);
        // A repetition in the other case is the same request.
        let key = [("idempotency-key", "either-case")];
        let body = || Some(json!({"body": "Once."}).to_string().into_bytes());
        let first =
            cast.member.send(Method::POST, &format!("{upper}/messages"), &key, body()).await.expect(201);
        let again = cast.member.send(Method::POST, &cast.path("/messages"), &key, body()).await.expect(201);
        assert_eq!(first.body["id"], again.body["id"]);
        // Keys have one case.
        let mut redis = system.redis.connect().await;
        let pattern = format!("*{}*", cast.circle.to_uppercase());
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
        assert!(keys.is_empty(), "{keys:?}");
    });
}

#[test]
fn a_change_is_made_of_the_named_version_only() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let (member, stranger) = (&cast.member, &cast.stranger);
        let message = cast.path(&format!("/messages/{}", cast.message));
        let draft = format!("/v1/journal/drafts/{}", uuid::Uuid::now_v7());
        let entry = member.post("/v1/journal/entries", json!({"body": "Entry"})).await.expect(201);
        let entry = format!("/v1/journal/entries/{}", entry.text("/id"));
        let save = json!({"body": "Draft", "base_version": null});
        let save =
            member.send(Method::PUT, &draft, &[], Some(save.to_string().into_bytes())).await.expect(200);
        let base = save.text("/version");
        let changes = [
            (Method::PATCH, "/v1/me", json!({"bio": "Mine."})),
            (Method::PATCH, &entry, json!({"body": "Changed"})),
            (Method::DELETE, &entry, Value::Null),
            (Method::PUT, &draft, json!({"body": "Changed", "base_version": base})),
            (Method::DELETE, &draft, Value::Null),
            (Method::PATCH, &message, json!({"body": "Changed"})),
            (Method::DELETE, &message, Value::Null),
        ];
        let others = stranger.get("/v1/me").await.expect(200).header("etag").to_owned();
        for (method, path, body) in changes {
            let send = async |tag: &str| {
                let body = (!body.is_null()).then(|| body.to_string().into_bytes());
                member.send(method.clone(), path, &[("if-match", tag)], body).await
            };
            let tag = member.get(path).await.expect(200).header("etag").to_owned();
            let bare = tag.split('.').next().unwrap_or_default();
            for other in ["\"x\"", &others, &format!("{bare}\""), &format!("{bare}.x.x\"")] {
                assert_eq!(
                    problem(send(other).await, 412)["code"],
                    "version-mismatch",
                    "{method} {path} {other}"
                );
            }
            let made = send(&format!("\"x\", {tag}")).await;
            assert!(matches!(made.status, 200 | 204), "{method} {path}: {made:#?}");
            if method != Method::DELETE {
                problem(send(&tag).await, 412);
            }
        }
        let circle = cast.path("");
        let tag = cast.owner.get(&circle).await.expect(200).header("etag").to_owned();
        let theirs = member.get(&circle).await.expect(200).header("etag").to_owned();
        let archive =
            async |tag: &str| cast.owner.send(Method::DELETE, &circle, &[("if-match", tag)], None).await;
        problem(archive(&theirs).await, 412);
        // What has no entity tag is changed unconditionally, or not at all.
        let role = cast.path(&format!("/members/{}", member.user));
        let reaction = cast.path(&format!("/messages/{}/reactions/heart", cast.message));
        for (method, path) in [(Method::DELETE, &role), (Method::PUT, &reaction)] {
            problem(cast.owner.send(method, path, &[("if-match", &tag)], None).await, 412);
        }
        cast.owner.send(Method::DELETE, &role, &[("if-match", "*")], None).await.expect(204);
        let tag = cast.owner.get(&circle).await.expect(200).header("etag").to_owned();
        archive(&tag).await.expect(204);
    });
}

#[test]
fn a_body_that_does_not_come_to_its_end_is_not_waited_for() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let circle = ada.create_circle("private").await;
        let path = format!("/v1/circles/{circle}/messages");
        assert_eq!(chunked(system, &ada, "POST", &path, 1, "7d0\r\n").await, 408);
        ada.say(&circle, "Hello.").await;
    });
}

/// Sends a body of `pieces` chunks of 2,000 bytes and then `end`, without announcing its length; returns the status.
async fn chunked(
    system: &System,
    client: &Client,
    method: &str,
    path: &str,
    pieces: usize,
    end: &str,
) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = optimist_tests::system::address(&system.edge.url);
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let token = client.token.as_deref().unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..pieces {
        let piece = format!("7d0\r\n{}\r\n", " ".repeat(2_000));
        // The edge may answer and close before the end.
        if stream.write_all(piece.as_bytes()).await.is_err() {
            break;
        }
    }
    let _ = stream.write_all(end.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no status in {answer:?}"))
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let paths = ["/v1/me".to_owned(), cast.path(""), cast.path("/messages"), cast.path("/members")];
        for path in paths {
            let miss = cast.owner.get(&path).await.expect(200);
            let hit = loop {
                let answer = cast.owner.get(&path).await.expect(200);
                if answer.is_hit() {
                    break answer;
                }
            };
            assert_eq!(miss.body, hit.body, "{path}");
            assert_eq!(miss.header("etag"), hit.header("etag"), "{path}: one tag on both ways");
            assert_eq!(hit.header("cache-control"), "private, no-cache");
            for tag in
                [hit.header("etag").to_owned(), format!("\"x\", {}", hit.header("etag")), "*".to_owned()]
            {
                let headers = [("if-none-match", tag.as_str())];
                let unchanged = cast.owner.send(Method::GET, &path, &headers, None).await.expect(304);
                assert_eq!(unchanged.body, Value::Null);
                assert_eq!(unchanged.header("etag"), hit.header("etag"));
            }
            let head = cast.owner.send(Method::HEAD, &path, &[], None).await.expect(200);
            assert_eq!(head.body, Value::Null);
            assert_eq!(head.header("etag"), hit.header("etag"));
        }
        // A circle's tag differs by caller, as its answer does.
        let (owner, member) = (cast.owner.get(&cast.path("")).await, cast.member.get(&cast.path("")).await);
        assert_ne!(owner.header("etag"), member.header("etag"));
    });
}

#[test]
fn every_answer_says_how_it_came_about() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let miss = ada.get("/v1/me").await.expect(200);
        assert!(miss.header("cache-status").starts_with("optimist; fwd="), "{miss:#?}");
        assert!(miss.header("server-timing").contains("origin;dur="), "{miss:#?}");
        let hit = loop {
            let answer = ada.get("/v1/me").await.expect(200);
            if answer.is_hit() {
                break answer;
            }
        };
        assert!(hit.header("cache-status").starts_with("optimist; hit; ttl=17"), "{hit:#?}");
        assert!(hit.header("age").parse::<u64>().is_ok());
        assert!(hit.header("server-timing").contains("redis;dur="));
        assert!(!hit.header("server-timing").contains("origin"));
        assert!(hit.header("ratelimit").starts_with("\"reads-60s\";r="), "{hit:#?}");
        assert_eq!(hit.header("ratelimit-policy"), "\"reads-60s\";q=3000;w=60");
        assert_eq!(hit.header("x-content-type-options"), "nosniff");
        assert_ne!(hit.header("x-request-id"), miss.header("x-request-id"));
        assert_eq!(hit.header("x-request-id").len(), 36);
    });
}

#[test]
fn a_browser_is_let_in_from_the_configured_pages_only() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let ours = [("origin", "https://app.example.org")];
        let answer = ada.send(Method::GET, "/v1/me", &ours, None).await.expect(200);
        assert_eq!(answer.header("access-control-allow-origin"), "https://app.example.org");
        assert!(answer.header("vary").contains("Origin"));
        assert!(answer.header("access-control-expose-headers").contains("RateLimit"));
        let theirs = [("origin", "https://evil.example.org")];
        let answer = ada.send(Method::GET, "/v1/me", &theirs, None).await.expect(200);
        assert_eq!(answer.header("access-control-allow-origin"), "");
        // A cache must not give one page's answer to another: also not one to nobody in particular.
        for path in ["/v1/me", "/v1/me/sessions", "/v1/openapi.json", "/v1/nothing"] {
            for headers in [&ours[..], &theirs, &[]] {
                let answer = ada.send(Method::GET, path, headers, None).await;
                assert_eq!(answer.header("vary"), "Origin", "{path} {headers:?}: {:#?}", answer.headers);
            }
        }
        let body = json!({"name": "Ours", "visibility": "private"}).to_string().into_bytes();
        let created = ada.send(Method::POST, "/v1/circles", &ours, Some(body)).await.expect(201);
        assert!(created.header("access-control-expose-headers").contains("Location"), "{created:#?}");
        let asked = [("origin", "https://app.example.org"), ("access-control-request-method", "PATCH")];
        let preflight = system.client().send(Method::OPTIONS, "/v1/me", &asked, None).await.expect(204);
        assert_eq!(preflight.header("access-control-allow-methods"), "GET, PATCH, DELETE, HEAD, OPTIONS");
        assert!(preflight.header("access-control-allow-headers").contains("authorization"));
        // A page reads what is wrong with a path only if its preflight succeeds.
        for path in ["/v1/nothing", "/v1/circles/x"] {
            let preflight = system.client().send(Method::OPTIONS, path, &asked, None).await.expect(204);
            assert!(preflight.header("access-control-allow-methods").contains("PATCH"), "{path}");
            let plain = [("origin", "https://app.example.org")];
            assert!(system.client().send(Method::OPTIONS, path, &plain, None).await.status >= 400, "{path}");
        }
        let foreign = [("origin", "https://evil.example.org"), ("access-control-request-method", "PATCH")];
        let preflight = system.client().send(Method::OPTIONS, "/v1/me", &foreign, None).await.expect(204);
        assert_eq!(preflight.header("access-control-allow-methods"), "");
    });
}

#[test]
fn what_a_client_says_of_itself_does_nothing() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        let context = format!("user=\"{}\"; session=\"{}\"; role=\"owner\"", ada.user, ada.session);
        let forged = [
            ("optimist-context", context.as_str()),
            ("optimist-identity", ada.user.as_str()),
            ("optimist-lease", "1"),
            ("signature", "optimist=:AAAA:"),
            ("signature-input", "optimist=(\"@method\");created=1"),
            ("x-forwarded-for", "203.0.113.7"),
            ("x-real-ip", "203.0.113.7"),
            ("forwarded", "for=203.0.113.7"),
            ("cf-connecting-ip", "203.0.113.7"),
            ("true-client-ip", "203.0.113.7"),
            ("spin-client-addr", "203.0.113.7:1"),
        ];
        let answer = bo.send(Method::GET, "/v1/me", &forged, None).await.expect(200);
        assert_eq!(answer.text("/id"), bo.user);
        let sessions = bo.send(Method::GET, "/v1/me/sessions", &forged, None).await.expect(200);
        assert_eq!(sessions.body["items"][0]["id"], bo.session);
        problem(system.client().send(Method::GET, "/v1/me", &forged, None).await, 401);
        // Log-ins are counted by the address that the platform saw.
        let mut redis = system.redis.connect().await;
        let body = json!({"email": bo.email, "password": "wrong password"}).to_string().into_bytes();
        problem(system.client().send(Method::POST, "/v1/auth/login", &forged, Some(body)).await, 401);
        let keys: Vec<String> =
            redis::cmd("KEYS").arg("*203.0.113.7*").query_async(&mut redis).await.unwrap();
        assert!(keys.is_empty(), "{keys:?}");
    });
}

#[test]
fn bad_tokens_leave_address_counters_only_and_hinder_nobody() {
    on_own_system(async |system| {
        let ada = system.register("Ada").await;
        let circle = ada.create_circle("private").await;
        let path = format!("/v1/circles/{circle}");
        let mut redis = system.redis.connect().await;
        let keys = async |redis: &mut redis::aio::MultiplexedConnection| -> Vec<String> {
            redis::cmd("KEYS").arg("*").query_async(redis).await.unwrap()
        };
        let secret = "A".repeat(43);
        let forged = |number: u32| {
            let user = format!("0190beef-0000-7000-8000-{number:012}");
            ada.with_token(format!("{user}.{user}.{secret}"))
        };
        let wrong_secret = ada.with_token(format!("{}.{}.{secret}", ada.user, ada.session));
        let good = async {
            let mut slowest = std::time::Duration::ZERO;
            for _ in 0..20 {
                let began = std::time::Instant::now();
                assert!(is_in_crowd(ada.get(&path).await.status, &[200]));
                slowest = slowest.max(began.elapsed());
            }
            slowest
        };
        let bad = futures_util::future::join_all((0..1_000u32).map(|number| {
            let client = if number % 4 == 0 { wrong_secret.clone() } else { forged(number) };
            let path = path.clone();
            async move { client.get(&path).await.status }
        }));
        let (bad, _) = futures_util::join!(bad, good);
        assert!(bad.iter().all(|status| is_in_crowd(*status, &[401, 429])), "{bad:?}");
        assert!(bad.contains(&429), "the address has an end");
        let left: Vec<String> =
            keys(&mut redis).await.into_iter().filter(|key| key.contains("0190beef")).collect();
        assert!(left.is_empty(), "{left:?}");
        // Once the address's attempts are used up, signed-in callers are not affected.
        ada.get(&path).await.expect(200);
    });
}
