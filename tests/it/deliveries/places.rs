//! Where a person is told: browsers and webhooks, how they are added and forgotten, and what they receive.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_once_it_has_repeated_the_challenge() {
    let system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let receiver = Receiver::start("127.0.0.2").await;
    // One that answers, but does not repeat the word, is told of nothing.
    subscribe(&pair.bo, &format!("{}/deaf/hook", receiver.url), None).await.expect(201);
    let added = webhook(&pair.bo, &receiver, "ok/hook").await;
    let message = pair.say().await;
    let items = ended(&pair.bo, &message, 1).await;
    assert_eq!((&items[0]["channel"], &items[0]["state"]), (&json!("webhook"), &json!("sent")));
    assert_eq!((&items[0]["token_id"], &items[0]["attempts"]), (&added.body["id"], &json!(1)));
    let received = receiver.received("/ok/hook");
    assert_eq!(received.len(), 2, "the challenge and the notification");
    let told = received[1].json();
    assert_eq!((&told["type"], &told["data"]["kind"]), (&json!("notification"), &json!("message")));
    assert_eq!(
        (&told["data"]["message_id"], &told["data"]["circle_id"]),
        (&json!(message), &json!(pair.circle))
    );
    assert_eq!(told["data"]["line"], "Ada wrote in A circle");
    assert!(!told.to_string().contains("Good morning"), "no text of a message leaves");
    assert_eq!(received[1].id(), message);
    let secret = added.text("/secret");
    for request in &received {
        check_signature(request, &secret);
    }
    assert!(receiver.received("/deaf/hook").iter().all(|request| request.json()["type"] == "challenge"));
    // Forgotten, it is told no more.
    pair.bo.delete(&format!("/v1/me/push-tokens/{}", added.text("/id"))).await.expect(204);
    let message = pair.say().await;
    ended(&pair.bo, &message, 0).await;
    assert_eq!(receiver.received("/ok/hook").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_encrypted_for_its_browser_and_signed_for_its_service() {
    let system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let service = Receiver::start("127.0.0.2").await;
    let (phone, laptop) = (Browser::new(3), Browser::new(4));
    for (browser, how) in [(&phone, "ok/phone"), (&laptop, "gone/laptop")] {
        let added =
            subscribe(&pair.bo, &format!("{}/{how}", service.url), Some(browser.keys())).await.expect(201);
        assert_eq!((&added.body["verified"], &added.body["secret"]), (&json!(true), &Value::Null));
    }
    let list = pair.bo.get("/v1/me/push-tokens").await.expect(200);
    let server_key = URL_SAFE_NO_PAD.decode(list.text("/application_server_key")).unwrap();
    let message = pair.say().await;
    let items = ended(&pair.bo, &message, 2).await;
    let states: Vec<_> =
        items.iter().map(|item| (item["state"].as_str().unwrap(), &item["reason"])).collect();
    assert!(
        states.contains(&("sent", &Value::Null)) && states.contains(&("failed", &json!("gone"))),
        "{states:?}"
    );
    let received = &service.received("/ok/phone")[0];
    let told = phone.read(&received.body);
    assert_eq!((&told["type"], &told["data"]["message_id"]), (&json!("notification"), &json!(message)));
    assert_eq!(told["data"]["line"], "Ada wrote in A circle");
    assert!(received.body.len() <= 4_096);
    let headers = ["topic", "ttl", "content-encoding", "urgency"].map(|name| received.header(name));
    assert_eq!(headers, [&message.replace('-', ""), "86400", "aes128gcm", "normal"]);
    // RFC 8292, by another library than the one that signed... the same curve, from the bytes alone.
    let header = received.header("authorization").strip_prefix("vapid t=").unwrap();
    let (token, key) = header.split_once(",k=").unwrap();
    assert_eq!(URL_SAFE_NO_PAD.decode(key).unwrap(), server_key);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(
        (&claims["aud"], &claims["sub"]),
        (&json!(service.url), &json!("mailto:operator@example.org"))
    );
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&server_key).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let signature = p256::ecdsa::Signature::from_slice(&signature).unwrap();
    p256::ecdsa::signature::Verifier::verify(&key, signed.as_bytes(), &signature).expect("a good signature");
    // The browser that is gone is forgotten.
    let list = pair.bo.get("/v1/me/push-tokens").await.expect(200);
    assert_eq!(list.body["items"].as_array().unwrap().len(), 1, "{list:#?}");
}

/// A push service may take less than browsers' vendors do.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_too_large_is_sent_again_without_its_line() {
    let system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let service = Receiver::start("127.0.0.2").await;
    let (phone, laptop) = (Browser::new(3), Browser::new(4));
    for (browser, how) in [(&phone, "narrow/phone"), (&laptop, "large/laptop")] {
        subscribe(&pair.bo, &format!("{}/{how}", service.url), Some(browser.keys())).await.expect(201);
    }
    let message = pair.say().await;
    let items = ended(&pair.bo, &message, 2).await;
    let mut found: Vec<String> = items
        .iter()
        .map(|item| format!("{} {} {}", item["state"], item["reason"], item["attempts"]))
        .collect();
    found.sort();
    assert_eq!(found, [r#""failed" "too large" 1"#, r#""sent" null 1"#]);
    for (browser, path) in [(&phone, "/narrow"), (&laptop, "/large")] {
        let received = service.received(path);
        assert_eq!(received.len(), 2, "{path}");
        let [whole, small] = [0, 1].map(|index: usize| browser.read(&received[index].body));
        assert_eq!(whole["data"]["line"], "Ada wrote in A circle");
        let mut without = whole.clone();
        without["data"]["line"] = Value::Null;
        assert_eq!(small, without);
        assert_eq!(received[0].header("topic"), received[1].header("topic"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_ones_own_bounded_and_public() {
    let system = System::with(Options {
        settings: vec![("OPTIMIST_OUTGOING_ALLOW", "127.0.0.9/32".to_owned())],
        ..Options::default()
    })
    .await;
    let pair = Pair::new(&system).await;
    let refused = [
        "http://127.0.0.2/",
        "https://127.0.0.2/",
        "https://localhost/",
        "https://[::1]/",
        "https://169.254.169.254/",
        "https://10.0.0.1/",
        "https://user:word@1.1.1.1/",
        "http://1.1.1.1/",
        "ftp://1.1.1.1/",
        "nonsense",
        "",
    ];
    for endpoint in refused {
        let answer = subscribe(&pair.bo, endpoint, None).await.expect(422);
        assert_eq!(answer.body["errors"][0]["field"], "endpoint", "{endpoint}");
        system.forget_limits_of(&pair.bo).await;
    }
    let wrong_key = json!({"p256dh": "A".repeat(87), "auth": "A".repeat(22)});
    assert_eq!(
        subscribe(&pair.bo, "https://1.1.1.1/", Some(wrong_key)).await.expect(422).body["errors"][0]["field"],
        "keys.p256dh"
    );
    let mut first = Value::Null;
    for number in 0..20 {
        system.forget_limits_of(&pair.bo).await;
        let added = subscribe(&pair.bo, &format!("http://127.0.0.9:1/{number}"), None).await.expect(201);
        if number == 0 {
            first = added.body["id"].clone();
        }
    }
    system.forget_limits_of(&pair.bo).await;
    let over = subscribe(&pair.bo, "http://127.0.0.9:1/20", None).await.expect(422);
    assert_eq!(over.body["code"], "quota-exceeded");
    // The same again is no other.
    let again = subscribe(&pair.bo, "http://127.0.0.9:1/0", None).await.expect(201);
    assert_eq!(again.body["id"], first);
    let list = pair.bo.get("/v1/me/push-tokens").await.expect(200);
    assert_eq!(list.body["items"].as_array().unwrap().len(), 20);
    assert_eq!(list.body["items"][0]["host"], "127.0.0.9");
    let path = format!("/v1/me/push-tokens/{}", first.as_str().unwrap());
    pair.ada.delete(&path).await.expect(404);
    assert_eq!(pair.ada.get("/v1/me/push-tokens").await.expect(200).body["items"], json!([]));
    pair.bo.delete(&path).await.expect(204);
    let list = pair.bo.get("/v1/me/push-tokens").await.expect(200);
    assert_eq!(list.body["items"].as_array().unwrap().len(), 19, "seen at once");
    assert_eq!(pair.bo.get("/v1/me/push-tokens").await.expect(200).is_hit(), !has_shards());
}
