//! The API as a stranger meets it: its description, and clients that know nothing else.
//!
//! Public validators check the description. `schemathesis` sends every kind of request that it describes, and compares
//! every answer with it. A TypeScript client generated from it plays a story. `schemathesis.toml` and `hooks.py` beside
//! this file configure the requests; the story is in `examples/typescript`. Pushes are read by other libraries than the origin's, and
//! shown by a browser.

#![allow(clippy::unwrap_used)] // A test that cannot go on panics.

mod push;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use optimist_tests::{Client, Mailbox, Options, Origin, System, program, workspace};
use reqwest::Method;
use serde_json::json;

/// A tool of the pinned Python packages.
fn python_tool(name: &str) -> Command {
    Command::new(program("OPTIMIST_PYTHON_TOOLS", "target/python").join("bin").join(name))
}

/// The pinned node, which is newer than that of many machines.
fn node() -> Command {
    let mut command = Command::new(program("OPTIMIST_NODE", "node_modules/node/bin/node"));
    command.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    command
}

/// A script of a node package that is installed in `folder`.
fn node_script(folder: &Path, script: &str) -> Command {
    let mut command = node();
    command.current_dir(folder).arg(folder.join("node_modules").join(script));
    command
}

/// Runs a command to its end; its output is shown if it fails, or if the test is run with `--nocapture`.
#[track_caller]
fn succeed(command: &mut Command, what: &str) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{what}: {}", output.status);
}

/// Writes the description to a file.
fn description(folder: &Path) -> PathBuf {
    let (printed, text) = Origin::command(&[], &["openapi"]);
    assert!(printed, "{text}");
    let file = folder.join("openapi.json");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn the_description_is_valid_and_has_no_loose_ends() {
    let folder = tempfile::tempdir().unwrap();
    let file = description(folder.path());
    succeed(python_tool("openapi-spec-validator").arg(&file), "the specification's schema");
    let mut lint = node_script(&workspace(), "@redocly/cli/bin/cli.js");
    // It does not see that `x-events` uses components too: `domains::described` looks for those that nothing uses.
    let rules = ["--extends=recommended-strict", "--skip-rule=no-unused-components"];
    succeed(lint.arg("lint").args(rules).arg(&file), "redocly lint");
}

/// Two people who must not see each other's resources, and an administrator; each logs in by itself.
fn identities(people: &[(&str, &Client)]) -> serde_json::Value {
    let entries = people.iter().map(|(name, client)| {
        json!({"name": name, "loginEndpointAuth": {"payloadUserPwd": {
            "username": client.email, "password": optimist_tests::PASSWORD,
            "usernameField": "email", "passwordField": "password",
        }}})
    });
    json!({
        "authTemplate": {"loginEndpointAuth": {
            "endpoint": "/v1/auth/login", "verb": "POST", "contentType": "application/json",
            "token": {
                "extractFrom": "body", "extractSelector": "/session/token",
                "sendIn": "header", "sendName": "Authorization", "sendTemplate": "Bearer {token}",
            },
        }},
        "auth": entries.collect::<Vec<_>>(),
    })
}

/// A person's newest notification; it arrives within a moment.
async fn first_notification(client: &Client) -> String {
    for _ in 0..300 {
        let notifications = client.get("/v1/notifications").await.expect(200);
        if notifications.body["items"][0]["id"].is_string() {
            return notifications.text("/items/0/id");
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("there is no notification after half a minute");
}

/// `OPTIMIST_CONTRACT_EXAMPLES` and `OPTIMIST_CONTRACT_SEED` change the number and choice of requests.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_described() {
    let settings = Mailbox::start().await.settings("allow");
    let system = System::with(Options { settings, ..Options::default() }).await;
    let (ada, ben, root) =
        (system.register("Ada").await, system.register("Ben").await, system.register("Root").await);
    let cy = system.register("Cy").await;
    let (granted, output) = Origin::command(&system.environment(), &["admin", "grant", &root.email]);
    assert!(granted, "{output}");
    let circle = ada.create_circle("public").await;
    let message = ada.say(&circle, "Good morning.").await;
    ben.post(&format!("/v1/circles/{circle}/members/me"), json!({})).await.expect(201);
    ben.send(Method::PUT, &format!("/v1/circles/{circle}/messages/{message}/reactions/heart"), &[], None)
        .await
        .expect(202);
    let folder = tempfile::tempdir().unwrap();
    let auth = folder.path().join("auth.json");
    std::fs::write(&auth, identities(&[("ada", &ada), ("ben", &ben), ("root", &root)]).to_string()).unwrap();
    let contract = workspace().join("tests/contract");
    let configuration = [
        ("@CONTRACT@", contract.display().to_string()),
        ("@AUTH@", auth.display().to_string()),
        ("@BEN@", ben.user.clone()),
        ("@CY@", cy.user.clone()),
        ("@CIRCLE@", circle),
        ("@MESSAGE@", message),
        ("@NOTIFICATION@", first_notification(&ada).await),
    ]
    .iter()
    .fold(std::fs::read_to_string(contract.join("schemathesis.toml")).unwrap(), |text, (name, value)| {
        text.replace(name, value)
    });
    std::fs::write(folder.path().join("schemathesis.toml"), configuration).unwrap();
    let setting = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let mut schemathesis = python_tool("schemathesis");
    schemathesis
        .current_dir(folder.path())
        .env("REDIS_PORT", system.redis.port.to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["--config-file=schemathesis.toml", "run", "--no-color"])
        .arg(format!("--max-examples={}", setting("OPTIMIST_CONTRACT_EXAMPLES", "12")))
        .arg(format!("--seed={}", setting("OPTIMIST_CONTRACT_SEED", "20260101")))
        .arg(format!("{}/v1/openapi.json", system.edge.url));
    tokio::task::spawn_blocking(move || succeed(&mut schemathesis, "schemathesis")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_client_compiles_and_its_story_is_true() {
    let system = System::start().await;
    let example = workspace().join("examples/typescript");
    let url = system.edge.url.clone();
    tokio::task::spawn_blocking(move || {
        let mut generate = node_script(&example, "openapi-typescript/bin/cli.js");
        succeed(generate.arg(format!("{url}/v1/openapi.json")).args(["--output", "api.ts"]), "the types");
        succeed(node_script(&example, "typescript/bin/tsc").arg("--noEmit"), "tsc");
        succeed(node().current_dir(&example).arg("story.ts").env("EDGE_URL", &url), "the story");
    })
    .await
    .unwrap();
}
