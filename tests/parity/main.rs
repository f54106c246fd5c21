//! The same story on every edge: statuses, headers and bodies are the same, and match `transcript.txt`.
//!
//! Values that differ between runs are replaced: ids by their order of appearance, times, secrets, durations. The
//! framing of an answer on the wire belongs to the server and is ignored. `OPTIMIST_BLESS=1` rewrites the transcript.

#![allow(clippy::unwrap_used)] // A test that cannot go on panics.

mod framing;
mod story;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use optimist_tests::{Answer, Kind};
use serde_json::Value;

/// Headers that the server adds, not the application.
const FRAMING: [&str; 5] = ["date", "content-length", "transfer-encoding", "connection", "keep-alive"];

/// Questions and answers in comparable form.
#[derive(Default)]
pub struct Transcript {
    text: String,
    /// Ids, tokens and the like, in order of appearance.
    names: BTreeMap<String, String>,
}

impl Transcript {
    pub fn note(&mut self, question: &str, answer: &Answer) {
        let question = self.replace(question);
        writeln!(self.text, "## {question}\n{}", answer.status).unwrap();
        for (name, value) in &answer.headers {
            if !FRAMING.contains(&name.as_str()) {
                let value = self.header(name, value);
                writeln!(self.text, "{name}: {value}").unwrap();
            }
        }
        if !answer.body.is_null() {
            let body = self.body(&answer.body);
            writeln!(self.text, "{body:#}").unwrap();
        }
        self.text.push('\n');
    }

    fn header(&mut self, name: &str, value: &str) -> String {
        match name {
            "server-timing" => {
                // Keeps the names of the parts, and drops their durations.
                let parts = value.split(", ").map(|part| part.split(';').next().unwrap_or_default());
                parts.collect::<Vec<_>>().join(", ")
            }
            "age" | "retry-after" => "<seconds>".to_owned(),
            "ratelimit" => value
                .split(", ")
                .map(|part| part.rsplit_once(";t=").map_or(part, |(rest, _)| rest))
                .collect::<Vec<_>>()
                .join(", "),
            "cache-status" => match value.split_once("ttl=") {
                Some((before, rest)) => {
                    format!(
                        "{before}ttl=<seconds>{}",
                        rest.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit())
                    )
                }
                None => value.to_owned(),
            },
            _ => self.replace(value),
        }
    }

    fn body(&mut self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), self.field(name, value))).collect()
            }
            Value::Array(items) => items.iter().map(|item| self.body(item)).collect(),
            Value::String(text) => self.replace(text).into(),
            other => other.clone(),
        }
    }

    fn field(&mut self, name: &str, value: &Value) -> Value {
        match (name, value) {
            (
                "token"
                | "refresh_token"
                | "secret"
                | "application_server_key"
                | "device"
                | "invite"
                | "next"
                | "ticket",
                Value::String(_),
            ) => format!("<{name}>").into(),
            ("expires_in" | "resets_in", Value::Number(_)) => "<seconds>".into(),
            (name, Value::String(text)) if (name.ends_with("_at") || name == "as_of") && is_time(text) => {
                "<time>".into()
            }
            ("today" | "day" | "counted_from", Value::String(_)) => "<day>".into(),
            ("detail", Value::String(text)) => {
                // "… try again in 60 seconds."
                let end = text.find("again in ").map_or(text.len(), |at| at + "again in ".len());
                self.replace(&text[..end]).into()
            }
            (_, value) => self.body(value),
        }
    }

    /// Replaces ids, e-mail addresses and the digests of entity tags by names.
    fn replace(&mut self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut word = String::new();
        for character in text.chars().chain(['\0']) {
            if character.is_ascii_alphanumeric() || matches!(character, '-' | '@' | '.') {
                word.push(character);
                continue;
            }
            replaced.push_str(&self.name(&word));
            word.clear();
            replaced.push(character);
        }
        replaced.pop();
        replaced
    }

    fn name(&mut self, word: &str) -> String {
        let is_id = word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4;
        // The digest of an entity tag: `<version>.<overlay>`.
        let digest = word.split('.').next().unwrap_or_default();
        let is_digest = digest.len() >= 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_email = word.contains('@');
        if !(is_id || is_digest || is_email) {
            return word.to_owned();
        }
        let next = format!("<{}>", self.names.len() + 1);
        self.names.entry(word.to_owned()).or_insert(next).clone()
    }
}

/// Whether a text has the one form of a time: `2026-11-23T08:00:00.000Z`.
fn is_time(text: &str) -> bool {
    let form = |(byte, form): (u8, u8)| if form == b'0' { byte.is_ascii_digit() } else { byte == form };
    text.len() == 24 && text.bytes().zip(*b"0000-00-00T00:00:00.000Z").all(form)
}

/// The stories are told at the same time, each on a system of its own: they mostly wait. Starting a system blocks its thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn every_edge_answers_the_same() {
    let file = optimist_tests::processes::workspace().join("tests/parity/transcript.txt");
    let bless = std::env::var_os("OPTIMIST_BLESS").is_some();
    let mut expected = (!bless).then(|| std::fs::read_to_string(&file).unwrap());
    let mut otherwise = Vec::new();
    let stories: Vec<_> =
        Kind::all().into_iter().map(|kind| (kind, tokio::spawn(story::tell(kind)))).collect();
    for (kind, story) in stories {
        let told = story.await.unwrap().text;
        match &expected {
            None => {
                std::fs::write(&file, &told).unwrap();
                expected = Some(told);
            }
            Some(expected) if *expected == told => {}
            Some(expected) => otherwise.push((kind, difference(expected, &told))),
        }
    }
    // Beside the others an edge may find a copy a moment later, or a region that nobody vouched for. Alone it does not.
    for (kind, first) in otherwise {
        let told = tokio::spawn(story::tell(kind)).await.unwrap().text;
        let expected = expected.as_deref().unwrap_or_default();
        assert!(
            expected == told,
            "{kind:?} answers otherwise:\n{first}\nand alone:\n{}",
            difference(expected, &told)
        );
    }
}

/// The first lines that differ, with the question before them.
fn difference(expected: &str, told: &str) -> String {
    let (expected, told): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), told.lines().collect());
    let first = expected.iter().zip(&told).take_while(|(expected, told)| expected == told).count();
    let lines = |lines: &[&str]| lines[first.min(lines.len())..(first + 6).min(lines.len())].join("\n");
    let question = expected[..first.min(expected.len())].iter().rfind(|line| line.starts_with("## "));
    format!("{}\nexpected:\n{}\ntold:\n{}", question.unwrap_or(&""), lines(&expected), lines(&told))
}
