//! The main job, told in requests: two people meet in a private circle, a limit holds, and the stores go away one after
//! the other. Each printed claim has been checked; a step that fails its claim is an error.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use ureq::http::Method;

use crate::http::{self, Answer};
use crate::interrupt;
use crate::listening::Listener;
use crate::system::{Part, System};
use crate::terminal::{Colour, heading, line, paint};

/// The guidelines' limit of messages in a minute.
const MESSAGES_PER_MINUTE: usize = 10;
/// Messages that are reacted to, in four ways each: fifty reactions a minute are allowed.
const REACTED_TO: usize = 12;
/// How long the system may take to notice that a store has gone or returned. The design promises 5 s after a fault; the
/// rest is for a busy machine.
const NOTICE: Duration = Duration::from_secs(15);

/// Plays the story against the system's first edge.
pub fn play(system: &mut System) -> Result<()> {
    let edge = *system.edges().first().context("a system has an edge")?;
    let mut stage = Stage { url: system.edge_url(edge), step: 0 };

    stage.step("Two people register");
    let ada = stage.register("Ada")?;
    let ben = stage.register("Ben")?;
    // A region vouches for its Redis within a second of its start. Before that everything comes from Postgres.
    for person in [&ada, &ben] {
        stage.wait_until_known(person)?;
    }

    stage.step("Ada opens a private circle; for Ben it does not exist");
    let circle = json!({ "name": "Morning pages", "visibility": "private" });
    let circle = stage.expect(201, &ada, Method::POST, "/v1/circles", Some(circle))?.text("/id")?;
    let circle = format!("/v1/circles/{circle}");
    stage.expect(404, &ben, Method::GET, &circle, None)?;

    stage.step("She invites him, he joins");
    let invite =
        stage.expect(201, &ada, Method::POST, &format!("{circle}/invites"), None)?.text("/invite")?;
    let members = format!("{circle}/members/me");
    let joined = stage.ask(&ben, Method::POST, &members, Some(json!({ "invite": invite })))?;
    ensure!((200..300).contains(&joined.status), "joining answered {}: {}", joined.status, joined.body);
    stage.expect(200, &ben, Method::GET, &circle, None)?;

    stage.step("They write to each other");
    let messages = format!("{circle}/messages");
    let mut written = vec![
        stage.post(&ada, &messages, "Good morning, Ben.")?,
        stage.post(&ben, &messages, "Good morning! Three good things today?")?,
    ];

    stage.step("The same read twice: from Postgres, then from Redis at the edge");
    let miss = stage.expect(200, &ben, Method::GET, &messages, None)?;
    show_headers(&miss, &["Cache-Status", "RateLimit", "Server-Timing"]);
    ensure!(!is_hit(&miss), "the first read was not a miss");
    let hit = stage.expect(200, &ben, Method::GET, &messages, None)?;
    show_headers(&hit, &["Cache-Status", "RateLimit", "Server-Timing"]);
    ensure!(is_hit(&hit), "the second read was not a hit");
    ensure!(miss.body == hit.body, "the two answers differ");
    let asked = |answer: &Answer| answer.header("server-timing").contains("origin;");
    ensure!(asked(&miss) && !asked(&hit), "Server-Timing does not name the origin for the first read alone");
    stage.holds("the same answer; the second never left the edge");

    stage.step("Ada listens: she sees Ben type, and hears what he says");
    let mut ada_hears = Listener::open(&stage.url, &ada.token, None)?;
    let mut ben_hears = Listener::open(&stage.url, &ben.token, None)?;
    ada_hears.expect("ready", |_| true)?;
    ben_hears.expect("ready", |_| true)?;
    stage.expect(200, &ben, Method::PUT, &format!("{circle}/typing"), None)?;
    let types = |frame: &Value, who: &Person| frame["data"]["typing"].to_string().contains(&who.user);
    ada_hears.expect("typing", |frame| types(frame, &ben))?;
    stage.holds("Ada sees that Ben types");
    let since = Instant::now();
    written.push(stage.post(&ben, &messages, "The coffee, the rain, and you.")?);
    let (heard, text) = ada_hears.hear()?;
    ensure!(Some(&heard) == written.last(), "Ada heard another message: {heard}");
    stage.holds(format_args!("“{text}” came {} ms after he began to send it", since.elapsed().as_millis()));
    stage.expect(200, &ada, Method::PUT, &format!("{circle}/typing"), None)?;
    ben_hears.expect("typing", |frame| types(frame, &ada))?;
    stage.holds("and Ben sees that Ada types");

    stage.step("Ada is cut off, and comes back without a gap");
    let last = std::mem::take(&mut ada_hears.last);
    drop(ada_hears);
    let missed = ["Are you there?", "I'll write it down meanwhile."];
    for text in missed {
        written.push(stage.post(&ben, &messages, text)?);
    }
    let mut ada_hears = Listener::open(&stage.url, &ada.token, Some(&last))?;
    let ready = ada_hears.expect("ready", |_| true)?;
    ensure!(ready["data"]["recovered"] == true, "the history had ended: {ready}");
    for (text, id) in missed.iter().zip(&written[written.len() - missed.len()..]) {
        let heard = ada_hears.hear()?;
        ensure!(heard == (id.clone(), (*text).to_owned()), "Ada heard {heard:?} instead of {text:?}");
    }
    stage.holds("both messages came, once and in order, then whatever is new");
    drop((ada_hears, ben_hears));

    stage.step("Ten messages a minute; the eleventh is refused");
    for number in 2..=MESSAGES_PER_MINUTE {
        let said = stage.quietly(
            &ada,
            Method::POST,
            &messages,
            Some(json!({ "body": format!("Good thing {number}.") })),
        )?;
        ensure!(said.status == 201, "message {number} was refused: {} {}", said.status, said.body);
        written.push(said.text("/id")?);
    }
    stage.holds(format_args!("Ada's messages 2 to {MESSAGES_PER_MINUTE} are accepted"));
    let refused =
        stage.expect(429, &ada, Method::POST, &messages, Some(json!({ "body": "And one more." })))?;
    show_headers(&refused, &["RateLimit", "Retry-After"]);
    stage.all_there(&ben, &messages, &written)?;

    stage.step("A burst of reactions: Redis acknowledges, Postgres gets batches");
    let counts = stage.burst(
        &ben,
        &messages,
        &written[written.len() - REACTED_TO..],
        &system.origin_internal_url(),
    )?;

    stage.step("Ada's journal saves itself as she writes; two tabs lose nothing");
    let draft = stage.draft(&ada)?;

    stage.step("Redis is killed: reads still answer, from Postgres");
    system.kill(Part::Redis)?;
    let read = stage.expect(200, &ben, Method::GET, &messages, None)?;
    show_headers(&read, &["Cache-Status", "Server-Timing"]);
    ensure!(ids(&read) == newest_first(&written), "an acknowledged message is missing");
    ensure!(reactions(&read) == counts, "a reaction is missing, or counted twice");
    stage.holds(format_args!("all {counts} reactions are there"));
    let kept = stage.expect(200, &ada, Method::GET, &draft, None)?;
    ensure!(kept.body["body"] == DRAFT[1], "the draft is not what was saved: {}", kept.body);
    stage.holds(format_args!("so is the draft: “{}”", DRAFT[1]));
    written.push(stage.post(&ben, &messages, "Still here.")?);
    line(paint(
        Colour::Dim,
        "        (the first write waits until no edge can trust a Redis that the origin cannot reach)",
    ));
    stage.all_there(&ben, &messages, &written)?;

    stage.step("Redis returns: hits again, and nothing stale");
    system.start(Part::Redis)?;
    let hit = stage.wait_for(&ben, &messages, "a hit", &written, is_hit)?;
    show_headers(&hit, &["Cache-Status"]);

    stage.step("Postgres is killed: the read still answers, marked; writes are refused, not lost");
    system.kill(Part::Postgres)?;
    let marked = |answer: &Answer| answer.header("warning").starts_with("110");
    let kept = stage.wait_for(&ben, &messages, "marked", &written, marked)?;
    show_headers(&kept, &["Cache-Status", "Age", "Warning"]);
    let unavailable = stage.expect(503, &ben, Method::POST, &messages, Some(json!({ "body": "Now?" })))?;
    show_headers(&unavailable, &["Retry-After"]);

    stage.step("Postgres returns: writes go on, and nothing is lost");
    system.start(Part::Postgres)?;
    let since = Instant::now();
    let said = interrupt::poll(NOTICE, || {
        let said = stage.quietly(&ben, Method::POST, &messages, Some(json!({ "body": "Now!" })))?;
        ensure!(matches!(said.status, 201 | 503), "the write answered {}: {}", said.status, said.body);
        Ok((said.status == 201).then_some(said))
    })?;
    let said = said.with_context(|| format!("no write was accepted in {} s", NOTICE.as_secs()))?;
    written.push(said.text("/id")?);
    stage.holds(format_args!("accepted after {:.1} s", since.elapsed().as_secs_f32()));
    stage.wait_for(&ben, &messages, "unmarked", &written, |answer| !marked(answer))?;
    stage.all_there(&ada, &messages, &written)?;
    heading(paint(Colour::Green, "Everything did what it said."));
    Ok(())
}

/// Ada's text, and its continuation.
const DRAFT: [&str; 2] = ["Slept well.", "Slept well. It rains, and I don't mind."];

struct Person {
    name: &'static str,
    token: String,
    user: String,
}

struct Stage {
    url: String,
    step: u32,
}

impl Stage {
    fn step(&mut self, title: &str) {
        self.step += 1;
        heading(format_args!("{}. {title}", self.step));
    }

    /// Prints a claim that has just been checked.
    fn holds(&self, claim: impl std::fmt::Display) {
        line(format_args!("   {} {claim}", paint(Colour::Green, "✓")));
    }

    fn register(&self, name: &'static str) -> Result<Person> {
        let path = "/v1/auth/register";
        let body = json!({
            "email": format!("{}@example.org", name.to_lowercase()),
            "password": "correct horse battery staple",
            "name": name,
        });
        let nobody = Person { name, token: String::new(), user: String::new() };
        let answer = self.expect(201, &nobody, Method::POST, path, Some(body))?;
        Ok(Person { name, token: answer.text("/session/token")?, user: answer.text("/user/id")? })
    }

    /// Reacts to every message in several ways, and waits until Postgres has all reactions; returns their number.
    fn burst(&self, person: &Person, messages: &str, written: &[String], internal: &str) -> Result<u64> {
        const KINDS: [&str; 4] = ["heart", "hug", "laugh", "thanks"];
        let flushed = || metric(internal, "optimist_writes_flushed_total");
        let batches = || metric(internal, "optimist_flush_entries_count");
        let before = (flushed()?, batches()?);
        let began = Instant::now();
        let (mut done, mut at_edge, mut behind) = (0, 0, 0);
        for message in written {
            for kind in KINDS {
                let path = format!("{messages}/{message}/reactions/{kind}");
                let answer = self.quietly(person, Method::PUT, &path, None)?;
                ensure!(answer.status == 202, "a reaction was refused: {} {}", answer.status, answer.body);
                done += 1;
                at_edge += u64::from(!answer.header("server-timing").contains("origin;"));
                // On a busy machine Redis is not always trusted: then Postgres takes one at once.
                behind += u64::from(answer.body["promise"] == "redis");
            }
        }
        let took = began.elapsed().as_millis();
        self.holds(format_args!(
            "{done} acknowledged in {took} ms, {at_edge} of them without leaving the edge"
        ));
        let since = Instant::now();
        let batches = interrupt::poll(NOTICE, || {
            let is_flushed = flushed()? >= before.0 + behind;
            if is_flushed { Ok(Some(batches()? - before.1)) } else { Ok(None) }
        })?;
        let batches = batches.with_context(|| format!("not in Postgres after {} s", NOTICE.as_secs()))?;
        let after = since.elapsed().as_secs_f32();
        self.holds(format_args!("all in Postgres {after:.1} s later, in {batches} transactions"));
        let read = self.expect(200, person, Method::GET, messages, None)?;
        ensure!(reactions(&read) == done, "the counts are not what was acknowledged");
        Ok(done)
    }

    /// Saves a draft twice, and once more over the wrong version; returns its path.
    fn draft(&self, person: &Person) -> Result<String> {
        let path = "/v1/journal/drafts/0190a0a0-0000-7000-8000-00000000d4af";
        let put = |status, body: &str, base: &Value| {
            let body = json!({ "body": body, "base_version": base });
            self.expect(status, person, Method::PUT, path, Some(body))
        };
        let first = put(200, DRAFT[0], &Value::Null)?;
        ensure!(first.body["promise"] == "redis", "the draft was not taken by Redis: {}", first.body);
        let base = &first.body["version"];
        put(200, DRAFT[1], base)?;
        let refused = put(409, "From the other tab.", base)?;
        ensure!(
            refused.body["current"]["body"] == DRAFT[1],
            "the current text is not shown: {}",
            refused.body
        );
        let sibling = format!("/v1/journal/drafts/{}", refused.text("/sibling/id")?);
        let kept = self.expect(200, person, Method::GET, &sibling, None)?;
        ensure!(kept.body["body"] == "From the other tab.", "the other tab's text is lost: {}", kept.body);
        // The list reads Postgres, after everything is flushed.
        let listed = self.expect(200, person, Method::GET, "/v1/journal/drafts", None)?;
        ensure!(ids(&listed).len() == 2, "there are not two drafts: {}", listed.body);
        Ok(path.to_owned())
    }

    /// Posts a message and returns its id.
    fn post(&self, person: &Person, messages: &str, body: &str) -> Result<String> {
        self.expect(201, person, Method::POST, messages, Some(json!({ "body": body })))?.text("/id")
    }

    fn expect(
        &self,
        status: u16,
        person: &Person,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer> {
        let answer = self.ask(person, method, path, body)?;
        ensure!(answer.status == status, "{status} was expected: {}", answer.body);
        Ok(answer)
    }

    /// Sends a request, and prints it with its answer's status.
    fn ask(&self, person: &Person, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let shown = format!("{} {}", method, shorten(path));
        let said = body.as_ref().and_then(|body| body["body"].as_str()).map(str::to_owned);
        let began = Instant::now();
        let answer = self.quietly(person, method, path, body)?;
        let colour = if answer.status < 400 { Colour::Green } else { Colour::Yellow };
        let took = format!("{} ms", began.elapsed().as_millis());
        let note = match (answer.status < 400, said) {
            (true, Some(said)) => format!("“{said}”"),
            (true, None) => String::new(),
            (false, _) => ["/detail", "/title"]
                .into_iter()
                .find_map(|pointer| answer.text(pointer).ok())
                .unwrap_or_default(),
        };
        line(format_args!(
            "   {:<4} {shown:<38} {}  {} {note}",
            person.name,
            paint(colour, answer.status),
            paint(Colour::Dim, format_args!("{took:>7}"))
        ));
        Ok(answer)
    }

    fn quietly(&self, person: &Person, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        interrupt::check()?;
        let token = (!person.token.is_empty()).then_some(person.token.as_str());
        http::send(method, &format!("{}{path}", self.url), token, body.as_ref())
    }

    /// Waits until the edge knows a person's session: it then answers this by itself.
    fn wait_until_known(&self, person: &Person) -> Result<()> {
        let known = interrupt::poll(NOTICE, || {
            let answer = self.quietly(person, Method::GET, "/v1/auth/session", None)?;
            Ok(answer.header("cache-status").is_empty().then_some(()))
        })?;
        known.with_context(|| format!("the edge does not know {} after {} s", person.name, NOTICE.as_secs()))
    }

    /// Repeats a read until its answer is `right`. Every answer on the way must be complete, even during an outage.
    fn wait_for(
        &self,
        person: &Person,
        messages: &str,
        what: &str,
        written: &[String],
        right: impl Fn(&Answer) -> bool,
    ) -> Result<Answer> {
        let since = Instant::now();
        let mut last = String::new();
        let answer = interrupt::poll(NOTICE, || {
            let answer = self.quietly(person, Method::GET, messages, None)?;
            ensure!(answer.status == 200, "a read answered {}: {}", answer.status, answer.body);
            ensure!(ids(&answer) == newest_first(written), "a read lacks an acknowledged message");
            last = answer.header("cache-status");
            Ok(right(&answer).then_some(answer))
        })?;
        let answer = answer.with_context(|| {
            format!("no read was {what} in {} s (Cache-Status: {last})", NOTICE.as_secs())
        })?;
        self.holds(format_args!("200 throughout; {what} after {:.1} s", since.elapsed().as_secs_f32()));
        Ok(answer)
    }

    fn all_there(&self, person: &Person, messages: &str, written: &[String]) -> Result<()> {
        let answer = self.quietly(person, Method::GET, messages, None)?;
        ensure!(answer.status == 200, "the read answered {}: {}", answer.status, answer.body);
        ensure!(
            ids(&answer) == newest_first(written),
            "an acknowledged message is missing, or one was written twice"
        );
        self.holds(format_args!("all {} messages are there, each once", written.len()));
        Ok(())
    }
}

fn show_headers(answer: &Answer, names: &[&str]) {
    for name in names {
        let value = answer.header(name);
        line(format_args!(
            "        {} {value}",
            paint(Colour::Dim, format_args!("{:<13}", format!("{name}:")))
        ));
    }
}

/// By RFC 9211.
fn is_hit(answer: &Answer) -> bool {
    answer.header("cache-status").split(';').any(|part| part.trim() == "hit")
}

/// How many reactions a list of messages shows.
fn reactions(answer: &Answer) -> u64 {
    let items = answer.body["items"].as_array().into_iter().flatten();
    let counts = items.filter_map(|item| item["reactions"].as_object()).flat_map(|counts| counts.values());
    counts.filter_map(Value::as_u64).sum()
}

/// A counter of the origin's metrics, summed over all labels; 0 until it has counted.
fn metric(internal: &str, name: &str) -> Result<u64> {
    let page = http::get(&format!("{internal}/metrics"))?;
    let text = page.body.as_str().unwrap_or_default();
    let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64)
}

fn ids(answer: &Answer) -> Vec<&str> {
    let items = answer.body["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item["id"].as_str()).collect()
}

fn newest_first(written: &[String]) -> Vec<&str> {
    written.iter().rev().map(String::as_str).collect()
}

/// Shortens the ids in a path, which nobody reads.
fn shorten(path: &str) -> String {
    path.split('/').map(|part| if part.len() == 36 { "…" } else { part }).collect::<Vec<_>>().join("/")
}
