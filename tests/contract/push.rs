//! A notification on its whole way to a person: encrypted by the origin, read by independent libraries, and shown by the reference
//! service worker in a real browser.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use optimist_tests::receiver::{Received, Receiver};
use optimist_tests::{System, program, workspace};
use p256::SecretKey;
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use serde_json::{Value, json};

use crate::{node, python_tool};

/// A browser's private key, and the secret that it shares.
const KEY: [u8; 32] = [5; 32];
const SECRET: [u8; 16] = [6; 16];

/// Runs a command that reads JSON and prints JSON.
#[track_caller]
fn converse(command: &mut Command, input: &Value) -> Value {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a push service received, and what its browser knows.
fn as_read(service: &Receiver, request: &Received) -> Value {
    json!({
        "key": format!("{:02x?}", KEY).replace(['[', ']', ',', ' '], ""),
        "auth": format!("{:02x?}", SECRET).replace(['[', ']', ',', ' '], ""),
        "body": STANDARD.encode(&request.body),
        "authorization": request.header("authorization"),
        "origin": service.url,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_read_by_other_libraries_and_shown_by_a_browser() {
    let system = System::start().await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("private").await;
    bo.join(&circle, &ada).await;
    let service = Receiver::start("127.0.0.2").await;
    let public = SecretKey::from_slice(&KEY).unwrap().public_key().to_encoded_point(false);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let keys = json!({"p256dh": encode(public.as_bytes()), "auth": encode(&SECRET)});
    // The service asks for something smaller, so it has the notification with its line and without.
    let subscription = json!({"endpoint": format!("{}/narrow/bo", service.url), "keys": keys});
    bo.post("/v1/me/push-tokens", subscription).await.expect(201);
    let message = ada.say(&circle, "Good morning.").await;
    let mut received = Vec::new();
    for _ in 0..600 {
        received = service.received("/narrow/bo");
        if received.len() == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let requests: Value = received.iter().map(|request| as_read(&service, request)).collect();
    let shown = tokio::task::spawn_blocking(move || {
        let tests = workspace().join("tests/contract");
        let contents = converse(python_tool("python").arg(tests.join("read_push.py")), &requests);
        let told: Vec<Value> = contents
            .as_array()
            .unwrap()
            .iter()
            .map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap())
            .collect();
        let lines: Vec<&Value> = told.iter().map(|told| &told["data"]["line"]).collect();
        assert_eq!(lines, [&json!("Ada wrote in A circle"), &Value::Null]);
        let chromium = program("OPTIMIST_CHROMIUM", "/usr/bin/chromium");
        let worker = workspace().join("clients/push");
        let mut show = node();
        show.arg(tests.join("show_push.mjs")).arg(chromium).arg(worker);
        // The first alone; repeated; followed by the one without a line, and by something that is none of ours.
        let [whole, small] = [0, 1].map(|index: usize| contents[index].clone());
        [vec![whole.clone()], vec![whole.clone(), whole.clone()], vec![whole, small], vec![json!("nonsense")]]
            .map(|pushes| converse(&mut show, &json!(pushes)))
    })
    .await
    .unwrap();
    let notification = |body: &str| json!([{"title": "Optimist", "body": body, "tag": message, "data": {"message_id": message}}]);
    for (shown, body) in shown.iter().zip(["Ada wrote in A circle", "Ada wrote in A circle", "There is news"])
    {
        let mut shown = shown.clone();
        shown[0]["data"] = json!({"message_id": shown[0]["data"]["message_id"]});
        assert_eq!(shown, notification(body));
    }
    assert_eq!(shown[3], json!([{"title": "Optimist", "body": "There is news", "tag": "", "data": null}]));
}
