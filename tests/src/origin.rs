//! An origin under test, and the hooks by which a test controls it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::processes::{Launch, Process};
use crate::stores::has_shards;
use crate::stores::origin_program;

pub struct Origin {
    process: Process,
    pub api: String,
    pub internal: String,
    pub gateway: String,
}

impl Origin {
    pub fn start(environment: &[(String, String)], folder: &Path) -> Origin {
        let mut process = Process::start(&Launch {
            program: &origin_program(),
            arguments: vec!["serve".to_owned()],
            environment: environment.to_vec(),
            log: folder.join("origin.log"),
            user: None,
        });
        let line = process.wait_for_line("listening");
        let address = |name: &str| {
            let found = line.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_else(|| panic!("no {name} in {line}")).to_owned()
        };
        Origin { api: address("api"), internal: address("internal"), gateway: address("gateway"), process }
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Begins a command, whose output nobody reads.
    pub fn begin(environment: &[(String, String)], arguments: &[&str]) -> Child {
        Command::new(origin_program())
            .args(arguments)
            .envs(environment.iter().cloned())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the origin's program")
    }

    /// Brings the schema up to date.
    pub fn migrate(environment: &[(String, String)]) {
        let to_shards = if has_shards() { &["migrate", "--citus"][..] } else { &["migrate"] };
        let (succeeded, output) = Origin::command(environment, to_shards);
        assert!(succeeded, "migrate: {output}");
    }

    /// Runs a command of the program to its end: whether it succeeded, and what it printed.
    pub fn command(environment: &[(String, String)], arguments: &[&str]) -> (bool, String) {
        let (code, output) = Origin::exit(environment, arguments);
        (code == Some(0), output)
    }

    /// The same, with its exit code; `None` if a signal ended it.
    pub fn exit(environment: &[(String, String)], arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(origin_program())
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("the origin runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Waits until its relay vouches for Redis.
    pub async fn wait_until_vouching(&self, redis: &crate::stores::Redis) {
        let mut connection = redis.connect().await;
        let deadline = crate::patience();
        loop {
            let vouch: Option<String> = redis::cmd("GET")
                .arg("vouch:{p255}")
                .query_async(&mut connection)
                .await
                .expect("redis answers");
            if vouch.is_some() {
                return;
            }
            assert!(Instant::now() < deadline, "nobody vouches");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes the next passes of a step pause (for `millis`, or until released), or end the process as `kill -9` does.
    pub async fn arm(&self, step: &str, action: &str, millis: u64, times: u64) {
        let query = format!("step={step}&action={action}&millis={millis}&times={times}");
        let path = format!("/test/hooks?{query}");
        let answer = self.send(&path).await;
        // The process may end before it answers: by this step, or by one that was armed before.
        if action == "abort" && answer.is_err() {
            let why = format!("{path}: {answer:?}, and it goes on");
            return crate::until(&why, async || self.process.has_ended()).await;
        }
        accepted(&path, answer);
    }

    /// Switches a mechanism off, or on again.
    pub async fn disable(&self, mechanism: &str, off: bool) {
        self.post(&format!("/test/disable?mechanism={mechanism}&off={off}")).await;
    }

    /// Sets the clock by which the origin tells days.
    pub async fn set_clock(&self, now: chrono::DateTime<chrono::Utc>) {
        let ahead_ms = (now - chrono::Utc::now()).num_milliseconds();
        self.post(&format!("/test/clock?ahead_ms={ahead_ms}")).await;
    }

    /// Ends the current pauses.
    pub async fn release(&self) {
        self.post("/test/release").await;
    }

    /// Ends the pauses at one step.
    pub async fn release_step(&self, step: &str) {
        self.post(&format!("/test/release?step={step}")).await;
    }

    /// Makes the next pass of a step wait until released. Runs `begin`, which must lead to the step, and returns once
    /// it waits there.
    pub async fn hold<T>(&self, step: &str, begin: impl AsyncFnOnce() -> T) -> T {
        let passes = self.passes(step).await;
        self.arm(step, "pause", 60_000, 1).await;
        let begun = begin().await;
        self.wait_for_passes(step, passes + 1).await;
        begun
    }

    /// Waits until a step has been passed this many times since the start.
    pub async fn wait_for_passes(&self, step: &str, times: u64) {
        let deadline = crate::patience();
        while self.counts("passes").await.get(step).is_none_or(|passes| *passes < times) {
            assert!(Instant::now() < deadline, "{step} was not passed {times} times");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn passes(&self, step: &str) -> u64 {
        self.counts("passes").await.get(step).copied().unwrap_or_default()
    }

    /// How often each statement was sent since the start.
    pub async fn statements(&self) -> BTreeMap<String, u64> {
        self.counts("statements").await
    }

    /// The bytes that it has allocated.
    pub async fn allocated(&self) -> usize {
        let answer = reqwest::get(format!("{}/test/allocated", self.internal)).await;
        let text = answer.expect("the origin answers").text().await.expect("a text");
        text.parse().expect("a number")
    }

    async fn counts(&self, what: &str) -> BTreeMap<String, u64> {
        let url = format!("{}/test/{what}", self.internal);
        let value: Value = reqwest::get(url).await.expect("the origin answers").json().await.expect("JSON");
        let counts = value.as_object().expect("an object");
        counts.iter().map(|(name, count)| (name.clone(), count.as_u64().expect("a number"))).collect()
    }

    async fn post(&self, path: &str) {
        accepted(path, self.send(path).await);
    }

    async fn send(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        reqwest::Client::new().post(format!("{}{path}", self.internal)).send().await
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.process.log).unwrap_or_default()
    }
}

fn accepted(path: &str, answer: reqwest::Result<reqwest::Response>) {
    let status = answer.expect("the origin answers").status();
    assert!(status.is_success(), "{path}: {status}; was the origin built with its test hooks?");
}
